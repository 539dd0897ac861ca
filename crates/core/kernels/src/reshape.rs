//! Operators that copy elements: transposition, slices, concatenation, padding.

use crate::par;
use crate::{Isa, Store};

/// A strided view: (length, stride) of each axis, slowest first, and where it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    dims: Vec<(usize, isize)>,
    start: usize,
    /// Elements of the tensor that is viewed.
    source: usize,
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

impl View {
    /// Axis `i` of the view is axis `perm[i]` of `shape` (`perm` a permutation).
    pub fn transpose(shape: &[usize], perm: &[usize]) -> Self {
        assert_eq!(shape.len(), perm.len());
        let strides = strides(shape);
        View::merged(
            perm.iter().map(|&p| (shape[p], strides[p] as isize)).collect(),
            0,
            shape.iter().product(),
        )
    }

    /// For each axis, `count` elements from `start` on, `step` apart (`step` may be negative).
    ///
    /// Panics when an axis leaves the shape.
    pub fn slice(shape: &[usize], axes: &[(usize, isize, usize)]) -> Self {
        assert_eq!(shape.len(), axes.len());
        let strides = strides(shape);
        let mut start = 0;
        let mut dims = Vec::new();
        for ((&len, &stride), &(first, step, count)) in shape.iter().zip(&strides).zip(axes) {
            if count > 0 {
                let last = first as isize + step * (count as isize - 1);
                assert!(first < len && last >= 0 && (last as usize) < len, "slice leaves the shape");
                start += first * stride;
            }
            dims.push((count, step * stride as isize));
        }
        View::merged(dims, start, shape.iter().product())
    }

    fn merged(dims: Vec<(usize, isize)>, start: usize, source: usize) -> Self {
        let mut out: Vec<(usize, isize)> = Vec::new();
        for (len, stride) in dims.into_iter().filter(|d| d.0 != 1) {
            match out.last_mut() {
                Some(d) if d.1 == stride * len as isize => *d = (d.0 * len, stride),
                _ => out.push((len, stride)),
            }
        }
        if out.is_empty() {
            out.push((1, 1));
        }
        View { dims: out, start, source }
    }

    /// Elements of the view.
    pub fn len(&self) -> usize {
        self.dims.iter().map(|d| d.0).product()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of row `i` of the last axis.
    fn row(&self, mut i: usize) -> usize {
        let mut at = self.start as isize;
        for &(len, stride) in self.dims[..self.dims.len() - 1].iter().rev() {
            at += (i % len) as isize * stride;
            i /= len;
        }
        at as usize
    }
}

/// `y = view of x`, contiguous.
pub fn gather(_isa: Isa, view: &View, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == view.source && y.len() == view.len());
    let &(run, step) = view.dims.last().expect("one axis at least");
    par::planes(y, run, |i, y| {
        let at = view.row(i);
        if step == 1 {
            y.copy_from_slice(&x[at..at + run]);
        } else {
            let mut at = at as isize;
            for y in y {
                *y = x[at as usize];
                at += step;
            }
        }
    });
}

/// Gradient of [`gather`]: `dx` at the view `+= dy`; with [`Store::Overwrite`] all of `dx` is set to zero
/// first.
pub fn scatter(_isa: Isa, view: &View, dy: &[f32], dx: &mut [f32], store: Store) {
    assert!(dx.len() == view.source && dy.len() == view.len());
    if store == Store::Overwrite {
        par::planes(dx, par::CHUNK, |_, d| d.fill(0.0));
    }
    if dy.is_empty() {
        return;
    }
    let &(run, step) = view.dims.last().expect("one axis at least");
    let dx = par::Shared::new(dx);
    let rows = dy.len() / run;
    let block = (par::CHUNK / run).max(1);
    par::each(rows.div_ceil(block), |b| {
        for i in b * block..rows.min((b + 1) * block) {
            let mut at = view.row(i) as isize;
            for &d in &dy[i * run..(i + 1) * run] {
                // SAFETY: a view names no place twice, and rows are split over the items.
                unsafe { dx.slice(at as usize, 1)[0] += d };
                at += step;
            }
        }
    });
}

/// Concatenation of `parts` along an axis; `outer` is the product of the dimensions before it, and each part comes with
/// the product of its dimensions from the axis on.
pub fn concat(outer: usize, parts: &[(&[f32], usize)], y: &mut [f32]) {
    let row: usize = parts.iter().map(|p| p.1).sum();
    assert!(y.len() == outer * row && parts.iter().all(|p| p.0.len() == outer * p.1));
    par::planes(y, row, |o, y| {
        let mut at = 0;
        for (x, len) in parts {
            y[at..at + len].copy_from_slice(&x[o * len..(o + 1) * len]);
            at += len;
        }
    });
}

/// Elements `at..at + len` of every row of `row` elements: one part of a split, and the gradient of one part of
/// [`concat()`]. Stored in `part` as `store` says.
pub fn split(row: usize, at: usize, len: usize, x: &[f32], part: &mut [f32], store: Store) {
    assert!(at + len <= row && x.len() / row.max(1) * len == part.len());
    par::planes(part, len, |o, part| {
        let x = &x[o * row + at..][..len];
        if store.accumulates() {
            part.iter_mut().zip(x).for_each(|(p, &x)| *p += x);
        } else {
            part.copy_from_slice(x);
        }
    });
}

/// Gradient of [`split`]: adds `part` to elements `at..at + len` of every row.
pub fn unsplit(row: usize, at: usize, len: usize, part: &[f32], dx: &mut [f32]) {
    assert!(at + len <= row && dx.len() / row.max(1) * len == part.len());
    par::planes(dx, row, |o, dx| {
        dx[at..at + len].iter_mut().zip(&part[o * len..(o + 1) * len]).for_each(|(d, &p)| *d += p);
    });
}

/// How padding is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// A value.
    Constant(f32),
    /// The mirror image, without repeating the edge; needs pads below the length.
    Reflect,
    /// The nearest element.
    Edge,
}

/// A padding: where each output comes from, axis by axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    mode: PadMode,
    in_shape: Vec<usize>,
    out_shape: Vec<usize>,
    /// For each axis and output index the input index, or none.
    maps: Vec<Vec<Option<usize>>>,
}

impl Pad {
    /// `pads[axis]` is what to add before and after; a negative number takes away.
    ///
    /// Panics when more is taken away than there is, or there is nothing to reflect or repeat.
    pub fn new(shape: &[usize], pads: &[(isize, isize)], mode: PadMode) -> Self {
        assert_eq!(shape.len(), pads.len());
        let maps: Vec<Vec<Option<usize>>> = shape
            .iter()
            .zip(pads)
            .map(|(&len, &(before, after))| {
                let out = len as isize + before + after;
                assert!(out >= 0, "more is taken away than there is");
                let n = len as isize;
                (0..out)
                    .map(|o| {
                        let i = o - before;
                        match mode {
                            PadMode::Constant(_) => (0..n).contains(&i).then_some(i as usize),
                            PadMode::Edge => {
                                assert!(n > 0);
                                Some(i.clamp(0, n - 1) as usize)
                            }
                            PadMode::Reflect => {
                                assert!(i > -n && i < 2 * n - 1, "reflection needs pads below the length");
                                let i = i.abs();
                                Some(if i >= n { 2 * n - 2 - i } else { i } as usize)
                            }
                        }
                    })
                    .collect()
            })
            .collect();
        let out_shape = maps.iter().map(Vec::len).collect();
        Pad { mode, in_shape: shape.to_vec(), out_shape, maps }
    }

    /// Shape of the result.
    pub fn shape(&self) -> &[usize] {
        &self.out_shape
    }

    /// Calls `f(output, input or none)` for each output in order.
    fn visit(&self, range: std::ops::Range<usize>, mut f: impl FnMut(usize, Option<usize>)) {
        let strides = strides(&self.in_shape);
        for o in range {
            let (mut rest, mut at) = (o, Some(0));
            for axis in (0..self.out_shape.len()).rev() {
                let index = rest % self.out_shape[axis];
                rest /= self.out_shape[axis];
                at = at.and_then(|at: usize| self.maps[axis][index].map(|i| at + i * strides[axis]));
            }
            f(o, at);
        }
    }

    /// `y` = padded `x`.
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        assert!(
            x.len() == self.in_shape.iter().product::<usize>()
                && y.len() == self.out_shape.iter().product::<usize>()
        );
        let fill = match self.mode {
            PadMode::Constant(v) => v,
            _ => 0.0,
        };
        par::planes(y, par::CHUNK, |i, y| {
            let first = i * par::CHUNK;
            self.visit(first..first + y.len(), |o, at| y[o - first] = at.map_or(fill, |at| x[at]));
        });
    }

    /// Gradient of [`Pad::forward`]: each input gets the sum over the outputs it was copied to.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32], store: Store) {
        assert!(
            dx.len() == self.in_shape.iter().product::<usize>()
                && dy.len() == self.out_shape.iter().product::<usize>()
        );
        if store == Store::Overwrite {
            dx.fill(0.0);
        }
        self.visit(0..dy.len(), |o, at| {
            if let Some(at) = at {
                dx[at] += dy[o];
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn transpositions_and_back() {
        let shape = [2, 3, 4, 5];
        let x: Vec<f32> = (0..120).map(|v| v as f32).collect();
        for perm in [[0, 1, 2, 3], [0, 2, 3, 1], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
            let view = View::transpose(&shape, &perm);
            for (isa, y) in on_all(|isa| {
                let mut y = vec![0.0; 120];
                gather(isa, &view, &x, &mut y);
                y
            }) {
                let out: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
                let (from, to) = (strides(&shape), strides(&out));
                for (o, &y) in y.iter().enumerate() {
                    let i: usize = (0..4).map(|a| o / to[a] % out[a] * from[perm[a]]).sum();
                    assert_eq!(y, x[i], "{perm:?} {o}");
                }
                let mut back = vec![1.0; 120];
                scatter(isa, &view, &y, &mut back, Store::Overwrite);
                assert_eq!(back, x);
            }
        }
    }

    #[test]
    fn slices_with_steps() {
        let x: Vec<f32> = (0..30).map(|v| v as f32).collect();
        let view = View::slice(&[5, 6], &[(4, -2, 3), (1, 2, 3)]);
        let mut y = vec![0.0; 9];
        gather(Isa::Scalar, &view, &x, &mut y);
        assert_eq!(y, [25.0, 27.0, 29.0, 13.0, 15.0, 17.0, 1.0, 3.0, 5.0]);
        let mut dx = vec![7.0; 30];
        scatter(Isa::Scalar, &view, &y, &mut dx, Store::Overwrite);
        for (i, d) in dx.iter().enumerate() {
            assert_eq!(*d, if y.contains(&(i as f32)) { i as f32 } else { 0.0 });
        }
        assert!(View::slice(&[5], &[(0, 1, 0)]).is_empty());
    }

    #[test]
    #[should_panic(expected = "leaves the shape")]
    fn a_slice_stays_inside() {
        View::slice(&[5], &[(1, 2, 3)]);
    }

    #[test]
    fn parts_go_together_and_come_apart() {
        let (a, b) = (values(2 * 3, 1), values(2 * 5, 2));
        let mut y = vec![0.0; 16];
        concat(2, &[(&a, 3), (&b, 5)], &mut y);
        assert_eq!(y[..3], a[..3]);
        assert_eq!(y[3..8], b[..5]);
        assert_eq!(y[11..], b[5..]);
        let mut part = vec![0.0; 10];
        split(8, 3, 5, &y, &mut part, Store::Overwrite);
        assert_eq!(part, b);
        split(8, 3, 5, &y, &mut part, Store::Accumulate);
        assert_eq!(part[0], 2.0 * b[0]);
        let mut dx = vec![0.0; 16];
        unsplit(8, 3, 5, &b, &mut dx);
        unsplit(8, 0, 3, &a, &mut dx);
        assert_eq!(dx, y);
    }

    #[test]
    fn paddings_and_gradients() {
        let x = [1.0, 2.0, 3.0];
        for (mode, pads, want) in [
            (PadMode::Constant(9.0), (1, 2), vec![9.0, 1.0, 2.0, 3.0, 9.0, 9.0]),
            (PadMode::Constant(9.0), (-1, 1), vec![2.0, 3.0, 9.0]),
            (PadMode::Reflect, (2, 1), vec![3.0, 2.0, 1.0, 2.0, 3.0, 2.0]),
            (PadMode::Edge, (2, 1), vec![1.0, 1.0, 1.0, 2.0, 3.0, 3.0]),
        ] {
            let pad = Pad::new(&[1, 3], &[(0, 0), pads], mode);
            let mut y = vec![0.0; want.len()];
            pad.forward(&x, &mut y);
            assert_eq!(y, want);
            let dy = values(want.len(), 3);
            let sum = |x: &[f64]| -> f64 {
                want.iter()
                    .zip(&dy)
                    .map(|(&w, &d)| if w == 9.0 { 0.0 } else { d as f64 * x[w as usize - 1] })
                    .sum()
            };
            let mut dx = vec![0.0; 3];
            pad.backward(&dy, &mut dx, Store::Overwrite);
            assert_close(&dx, &differences(&x, sum), 1e-6, &format!("{mode:?}"));
        }
    }
}
