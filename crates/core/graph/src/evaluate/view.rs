//! Strided views: which elements of a tensor, in which order.

use crate::tensor::TensorData;

/// The elements of a tensor that another tensor consists of, row-major: a start, and for each axis of the result its
/// extent and the distance between neighbours (0 repeats an element, a negative one goes backwards).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    start: usize,
    extents: Vec<usize>,
    steps: Vec<isize>,
}

/// Distance between neighbours along each axis of a row-major tensor; extents whose product overflows belong to
/// tensors without elements.
fn strides(shape: &[usize]) -> Vec<isize> {
    let mut steps = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis].wrapping_mul(shape[axis] as isize);
    }
    steps
}

impl View {
    /// The tensor whose axis `i` is axis `perm[i]` of a tensor of `shape`.
    pub fn transposed(shape: &[usize], perm: &[usize]) -> Self {
        let steps = strides(shape);
        Self {
            start: 0,
            extents: perm.iter().map(|&p| shape[p]).collect(),
            steps: perm.iter().map(|&p| steps[p]).collect(),
        }
    }

    /// `(start, end, step)` along every axis of a tensor of `shape`; `extents` are the numbers of elements taken.
    pub fn sliced(shape: &[usize], ranges: &[(i64, i64, i64)], extents: Vec<usize>) -> Self {
        let steps = strides(shape);
        let start: isize = ranges.iter().zip(&steps).map(|(r, s)| r.0 as isize * s).sum();
        let steps = ranges.iter().zip(&steps).map(|(r, s)| s.wrapping_mul(r.2 as isize)).collect();
        Self { start: start.max(0) as usize, extents, steps }
    }

    /// A tensor of `shape` broadcast to `target`, with which it must be compatible.
    pub fn broadcast(shape: &[usize], target: &[usize]) -> Self {
        let lead = target.len().saturating_sub(shape.len());
        let own = strides(shape);
        let step = |axis: usize| match axis.checked_sub(lead) {
            Some(i) if shape[i] != 1 => own[i],
            _ => 0,
        };
        Self { start: 0, extents: target.to_vec(), steps: (0..target.len()).map(step).collect() }
    }

    /// The elements of `values` that the view consists of.
    pub fn of<T: Copy>(&self, values: &[T]) -> Vec<T> {
        let mut found = Vec::new();
        self.runs(|start, length, step| {
            found.extend((0..length).map(|i| values[(start + i as isize * step) as usize]));
        });
        found
    }

    /// As [`View::of`] for data of any type.
    pub fn of_data(&self, data: &TensorData) -> TensorData {
        match data {
            TensorData::F32(v) => TensorData::F32(self.of(v)),
            TensorData::I64(v) => TensorData::I64(self.of(v)),
            TensorData::I32(v) => TensorData::I32(self.of(v)),
            TensorData::U8(v) => TensorData::U8(self.of(v)),
            TensorData::Bool(v) => TensorData::Bool(self.of(v)),
            TensorData::Raw(dtype, bytes) => {
                let (size, mut found) = (dtype.size(), Vec::new());
                self.runs(|start, length, step| {
                    for i in 0..length {
                        let at = (start + i as isize * step) as usize * size;
                        found.extend_from_slice(&bytes[at..at + size]);
                    }
                });
                TensorData::Raw(*dtype, found)
            }
        }
    }

    /// Calls `run(start, length, step)` for each run along the last axis, in order.
    fn runs(&self, mut run: impl FnMut(isize, usize, isize)) {
        if self.extents.contains(&0) {
            return;
        }
        let (length, step, outer) = match (self.extents.split_last(), self.steps.last()) {
            (Some((&length, outer)), Some(&step)) => (length, step, outer),
            _ => (1, 0, &[][..]),
        };
        let mut at = vec![0usize; outer.len()];
        let mut start = self.start as isize;
        loop {
            run(start, length, step);
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                at[axis] += 1;
                start += self.steps[axis];
                if at[axis] < outer[axis] {
                    break;
                }
                start -= self.steps[axis] * outer[axis] as isize;
                at[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn transposing_there_and_back_changes_nothing() {
        let shape = [2, 3, 4, 5];
        let values: Vec<i32> = (0..120).collect();
        let there = View::transposed(&shape, &[2, 0, 3, 1]).of(&values);
        assert_eq!(there[1], values[5 * 4]); // [0, 0, 0, 1] of [4, 2, 5, 3] was [0, 1, 0, 0]
        assert_eq!(View::transposed(&[4, 2, 5, 3], &[1, 3, 0, 2]).of(&there), values);
    }

    #[test]
    fn slices_go_both_ways() {
        let values: Vec<i32> = (0..12).collect();
        let back = View::sliced(&[3, 4], &[(2, -1, -2), (1, 4, 2)], vec![2, 2]);
        assert_eq!(back.of(&values), [9, 11, 1, 3]);
        assert_eq!(View::sliced(&[3, 4], &[(0, 0, 1), (0, 4, 1)], vec![0, 4]).of(&values), []);
    }

    #[test]
    fn broadcasting_repeats_and_a_scalar_has_one_element() {
        assert_eq!(View::broadcast(&[2, 1], &[2, 2, 3]).of(&[7, 8]), [7, 7, 7, 8, 8, 8, 7, 7, 7, 8, 8, 8]);
        assert_eq!(View::broadcast(&[], &[]).of(&[7]), [7]);
        assert_eq!(View::broadcast(&[], &[2]).of(&[7]), [7, 7]);
    }

    #[test]
    fn raw_elements_move_as_a_whole() {
        let data = TensorData::Raw(DType::F16, vec![1, 2, 3, 4, 5, 6, 7, 8]);
        let moved = View::transposed(&[2, 2], &[1, 0]).of_data(&data);
        assert_eq!(moved, TensorData::Raw(DType::F16, vec![1, 2, 5, 6, 3, 4, 7, 8]));
    }
}
