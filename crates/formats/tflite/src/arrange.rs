//! Weights in another order of their axes.

/// A new order of the elements of a weight: axes with the distance, in the old order, of neighbours along them; and the
/// shape that the result is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Arrangement {
    /// Extent and distance of each axis, outermost first.
    axes: Vec<(usize, usize)>,
    /// Shape of the result; as many elements as the axes have.
    shape: Vec<usize>,
}

impl Arrangement {
    /// The elements as they are.
    pub(crate) fn plain(shape: &[usize]) -> Self {
        Self { axes: vec![(shape.iter().product(), 1)], shape: shape.to_vec() }
    }

    /// The axes of `shape` in the order `perm`.
    pub(crate) fn permuted(shape: &[usize], perm: &[usize]) -> Self {
        let distance = |axis: usize| shape[axis + 1..].iter().product();
        let axes: Vec<(usize, usize)> = perm.iter().map(|&a| (shape[a], distance(a))).collect();
        let shape = axes.iter().map(|&(n, _)| n).collect();
        Self { axes, shape }
    }

    /// The matrix of a dense layer as [outputs, inputs]. `transposed`: it is stored that way already. `image`: the inputs
    /// are an image of (channels, height, width), and come with the channels last.
    pub(crate) fn dense(outputs: usize, inputs: usize, transposed: bool, image: Option<[usize; 3]>) -> Self {
        let (row, column) = if transposed { (inputs, 1) } else { (1, outputs) };
        let mut axes = vec![(outputs, row)];
        match image {
            Some([c, h, w]) => axes.extend([(h, w * column), (w, column), (c, h * w * column)]),
            None => axes.push((inputs, column)),
        }
        Self { axes, shape: vec![outputs, inputs] }
    }

    /// Shape of the result.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Position in the old order of each element of the new one.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        let count = self.axes.iter().map(|&(n, _)| n).product::<usize>();
        let (mut at, mut index) = (0usize, vec![0usize; self.axes.len()]);
        (0..count).map(move |_| {
            let here = at;
            for (i, &(extent, distance)) in index.iter_mut().zip(&self.axes).rev() {
                *i += 1;
                at += distance;
                if *i < extent {
                    break;
                }
                at -= distance * extent;
                *i = 0;
            }
            here
        })
    }

    /// `values` in the new order.
    pub(crate) fn apply<T: Copy>(&self, values: &[T]) -> Vec<T> {
        self.positions().map(|p| values[p]).collect()
    }
}

/// Axes of an image batch with the channels last, as axes of `[N, C, H, W]`.
pub(crate) const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// Where each axis of `[N, C, H, W]` lies with the channels last.
pub(crate) const FROM_CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];

/// `values`, one for each axis of `[N, C, H, W]`, in the order that the file has; other ranks stay.
pub(crate) fn by_axis<T: Copy>(values: &[T]) -> Vec<T> {
    match values {
        &[n, c, h, w] => vec![n, h, w, c],
        _ => values.to_vec(),
    }
}

/// Where `axis` of a value of `rank` axes lies in the file.
pub(crate) fn axis_in_file(axis: usize, rank: usize) -> usize {
    if rank == 4 { FROM_CHANNELS_FIRST.get(axis).copied().unwrap_or(axis) } else { axis }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_their_order() {
        let values: Vec<usize> = (0..24).collect();
        let kernel = Arrangement::permuted(&[2, 3, 2, 2], &CHANNELS_LAST);
        assert_eq!(kernel.shape(), [2, 2, 2, 3]);
        assert_eq!(kernel.apply(&values)[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(kernel.apply(&values)[12..15], [12, 16, 20]);
        let twice = Arrangement::permuted(&[2, 2, 2, 3], &FROM_CHANNELS_FIRST);
        assert_eq!(twice.apply(&kernel.apply(&values)), values);
        assert_eq!(Arrangement::plain(&[4, 6]).apply(&values), values);
    }

    #[test]
    fn dense_columns_follow_the_image() {
        // Two outputs of an image of 2 channels, 1 row, 3 columns.
        let stored: Vec<usize> = (0..12).collect();
        let rows = Arrangement::dense(2, 6, true, Some([2, 1, 3]));
        assert_eq!(rows.apply(&stored), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
        let columns = Arrangement::dense(2, 6, false, None);
        assert_eq!(columns.apply(&stored), [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);
        let both = Arrangement::dense(2, 6, false, Some([2, 1, 3]));
        assert_eq!(both.apply(&stored), [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]);
    }
}
