//! Weighted sums along one axis, with a table of weights: resampling and its gradient.

use crate::{Store, par};

/// For each element of the output along an axis, the elements of the input it is the sum of.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Where the terms of each element begin; one more entry than there are elements.
    starts: Vec<usize>,
    terms: Vec<(usize, f32)>,
    /// Extent of the input.
    from: usize,
}

impl Terms {
    /// A table: `rows[i]` holds (element of the input, weight) for element i of the output. The input has `from` elements
    /// along the axis.
    ///
    /// Panics when an element is not below `from`.
    pub fn new(rows: &[Vec<(usize, f32)>], from: usize) -> Self {
        let mut starts = vec![0];
        let terms: Vec<(usize, f32)> = rows.iter().flatten().copied().collect();
        assert!(terms.iter().all(|t| t.0 < from), "a term lies outside the input");
        starts.extend(rows.iter().scan(0, |at, row| {
            *at += row.len();
            Some(*at)
        }));
        Terms { starts, terms, from }
    }

    /// Extent of the output.
    pub fn to(&self) -> usize {
        self.starts.len() - 1
    }

    /// Extent of the input.
    pub fn from(&self) -> usize {
        self.from
    }

    /// The table of the gradient: input and output change places.
    pub fn transposed(&self) -> Self {
        let mut rows = vec![Vec::new(); self.from];
        for i in 0..self.to() {
            for &(at, weight) in self.row(i) {
                rows[at].push((i, weight));
            }
        }
        Terms::new(&rows, self.to())
    }

    fn row(&self, i: usize) -> &[(usize, f32)] {
        &self.terms[self.starts[i]..self.starts[i + 1]]
    }

    /// Bytes of the table.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.starts[..]) + size_of_val(&self.terms[..])
    }
}

/// `y = sums of x` for `x` of shape `[.., from, inner]` and `y` of `[.., to, inner]`; sums run in the table's order.
pub fn apply(terms: &Terms, inner: usize, x: &[f32], y: &mut [f32], store: Store) {
    let (from, to) = (terms.from * inner, terms.to() * inner);
    assert!(from > 0 && to > 0 && x.len().is_multiple_of(from) && y.len().is_multiple_of(to));
    assert_eq!(x.len() / from, y.len() / to);
    if inner == 1 {
        return par::planes(y, to, |outer, y| {
            let x = &x[outer * from..][..from];
            for (i, y) in y.iter_mut().enumerate() {
                store.put(y, terms.row(i).iter().map(|&(at, w)| w * x[at]).sum());
            }
        });
    }
    par::planes(y, inner, |row, y| {
        let (outer, i) = (row / terms.to(), row % terms.to());
        let x = &x[outer * from..][..from];
        let mut rest = terms.row(i).iter();
        match rest.next() {
            Some(&(at, 1.0)) => store.put_all(y, &x[at * inner..][..inner]),
            Some(&(at, w)) => {
                y.iter_mut().zip(&x[at * inner..][..inner]).for_each(|(y, x)| store.put(y, w * x));
            }
            None if store.accumulates() => {}
            None => y.fill(0.0),
        }
        for &(at, w) in rest {
            y.iter_mut().zip(&x[at * inner..][..inner]).for_each(|(y, x)| *y += w * x);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Terms {
        Terms::new(&[vec![(0, 1.0)], vec![], vec![(1, 0.5), (0, 0.25)], vec![(1, 2.0)]], 2)
    }

    #[test]
    fn sums_follow_the_table_on_any_axis() {
        let last: Vec<f32> = {
            let mut y = vec![9.0; 8];
            apply(&table(), 1, &[1.0, 2.0, 3.0, 4.0], &mut y, Store::Overwrite);
            y
        };
        assert_eq!(last, [1.0, 0.0, 1.25, 4.0, 3.0, 0.0, 2.75, 8.0]);
        let mut y = vec![1.0; 8];
        apply(&table(), 2, &[1.0, 2.0, 3.0, 4.0], &mut y, Store::Accumulate);
        assert_eq!(y, [2.0, 3.0, 1.0, 1.0, 2.75, 3.5, 7.0, 9.0]);
    }

    #[test]
    fn the_gradient_is_the_transposed_table() {
        // dx.x = dy.y for any x and dy.
        let (x, dy) = ([3.0, -1.0, 0.5, 2.0], [1.0, -2.0, 4.0, 0.5, 7.0, 1.0, -1.0, 2.0]);
        let (mut y, mut dx) = ([0.0; 8], [0.0; 4]);
        apply(&table(), 2, &x, &mut y, Store::Overwrite);
        apply(&table().transposed(), 2, &dy, &mut dx, Store::Overwrite);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        assert_eq!(dot(&x, &dx), dot(&y, &dy));
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn terms_outside_the_input_are_refused() {
        Terms::new(&[vec![(2, 1.0)]], 2);
    }
}
