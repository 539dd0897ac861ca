//! Sums and means over axes, and the small vector operations that optimisers and graphs need.

use crate::isa::{madd, multiversion};
use crate::par;
use crate::{Isa, Store};

/// What is computed over the reduced axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The sum.
    Sum,
    /// The sum divided by the number of elements.
    Mean,
}

/// A reduction of some axes of a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduction {
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
    len: usize,
}

impl Reduction {
    /// Over `axes` of `shape` (every axis below `shape.len()`; repeats count once).
    pub fn new(shape: &[usize], axes: &[usize]) -> Self {
        let mut stride = 1;
        let (mut kept, mut reduced) = (Vec::new(), Vec::new());
        for axis in (0..shape.len()).rev() {
            let list = if axes.contains(&axis) { &mut reduced } else { &mut kept };
            match list.last_mut() {
                // Adjacent contiguous axes are merged.
                Some((len, step)) if *len * *step == stride => *len *= shape[axis],
                _ => list.push((shape[axis], stride)),
            }
            stride *= shape[axis];
        }
        Reduction { kept, reduced, len: stride }
    }

    /// Elements that are added up for each output.
    pub fn count(&self) -> usize {
        self.reduced.iter().map(|d| d.0).product()
    }

    /// How many neighbours the first reduced axis has where it is contiguous, else 1, and the reduced axes beside them.
    fn runs(&self) -> (usize, &[(usize, usize)]) {
        match self.reduced.split_first() {
            Some((&(len, 1), rest)) => (len, rest),
            _ => (1, &self.reduced),
        }
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.kept.iter().map(|d| d.0).product()
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.len
    }
}

/// Offset of item `i` in a list of (length, stride), fastest first.
pub(crate) fn offset(dims: &[(usize, usize)], mut i: usize) -> usize {
    let mut at = 0;
    for &(len, stride) in dims {
        at += i % len * stride;
        i /= len;
    }
    at
}

#[inline(always)]
fn sum_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v as f64;
        }
    }
    lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|&v| v as f64).sum::<f64>()
}

#[inline(always)]
fn axpy_body<const FMA: bool>(alpha: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = madd::<FMA>(alpha, x, *y);
    }
}

#[inline(always)]
fn scale_body<const FMA: bool>(alpha: f32, y: &mut [f32]) {
    for y in y.iter_mut() {
        *y *= alpha;
    }
}

#[inline(always)]
fn add_body<const FMA: bool>(x: &[f32], sums: &mut [f64]) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum += x as f64;
    }
}

multiversion! {
    fn add_run(x: &[f32], sums: &mut [f64]) = add_body;
    pub(crate) fn sum_run(x: &[f32]) -> f64 = sum_body;
    fn axpy_run(alpha: f32, x: &[f32], y: &mut [f32]) = axpy_body;
    fn scale_run(alpha: f32, y: &mut [f32]) = scale_body;
}

/// Sum (or mean) over the reduced axes; sums are taken in `f64`.
pub fn forward(isa: Isa, r: &Reduction, kind: Kind, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == r.in_len() && y.len() == r.out_len());
    let count = r.count();
    let factor = if kind == Kind::Mean { 1.0 / count as f64 } else { 1.0 };
    if let Some(columns) = Columns::of(r.kept.first().copied(), count) {
        return columns.each(y, |at, y| {
            let (from, mut sums) = (offset(&r.kept, at), [0.0f64; COLUMNS]);
            let sums = &mut sums[..y.len()];
            for k in 0..count {
                add_run(isa, &x[from + offset(&r.reduced, k)..][..y.len()], sums);
            }
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = (*sum * factor) as f32);
        });
    }
    // The first reduced axis is summed as a run when it is contiguous.
    let (run, outer) = r.runs();
    let outer_count: usize = outer.iter().map(|d| d.0).product();
    let block = (par::CHUNK / count.max(1)).max(1);
    par::planes(y, block, |i, y| {
        for (j, y) in y.iter_mut().enumerate() {
            let at = offset(&r.kept, i * block + j);
            let mut sum = 0.0f64;
            for k in 0..outer_count {
                let from = at + offset(outer, k);
                sum += if run == 1 { x[from] as f64 } else { sum_run(isa, &x[from..from + run]) };
            }
            *y = (sum * factor) as f32;
        }
    });
}

/// Columns of a work item, a cache line of them: whoever sums rows of a matrix takes so many at a time, row by row.
pub(crate) const COLUMNS: usize = 16;

/// Sums that lie in rows of neighbours, each row in pieces of at most [`COLUMNS`].
#[derive(Clone, Copy)]
pub(crate) struct Columns {
    /// Sums of a row.
    row: usize,
    /// Elements of a sum.
    count: usize,
}

impl Columns {
    /// Sums of `count` elements by the fastest axis (length, stride in the input) that is kept; `None` where it is not
    /// contiguous, or nothing is summed.
    pub(crate) fn of(fastest: Option<(usize, usize)>, count: usize) -> Option<Self> {
        let (row, stride) = fastest?;
        (stride == 1 && row > 1 && count > 1).then_some(Columns { row, count })
    }

    /// Runs `f(position of the piece, piece)` in parallel, several pieces to an item where sums are short.
    pub(crate) fn each(self, out: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync + Send) {
        let in_row = self.row.div_ceil(COLUMNS);
        let pieces = out.len() / self.row * in_row;
        let several = (par::CHUNK / (COLUMNS * self.count)).max(1);
        let out = par::Shared::new(out);
        par::each(pieces.div_ceil(several), |item| {
            for piece in item * several..pieces.min((item + 1) * several) {
                let first = piece % in_row * COLUMNS;
                let at = piece / in_row * self.row + first;
                // SAFETY: pieces do not overlap, and each is one item's.
                f(at, unsafe { out.slice(at, COLUMNS.min(self.row - first)) });
            }
        });
    }
}

/// Gradient of [`forward`]: every input gets its output's gradient (for a mean, divided by the count).
pub fn backward(_isa: Isa, r: &Reduction, kind: Kind, dy: &[f32], dx: &mut [f32], store: Store) {
    assert!(dx.len() == r.in_len() && dy.len() == r.out_len());
    let factor = if kind == Kind::Mean { 1.0 / r.count() as f32 } else { 1.0 };
    let dx = par::Shared::new(dx);
    // Neighbours that go into one output are written as a run.
    let (run, outer) = r.runs();
    let count = outer.iter().map(|d| d.0).product();
    par::each(dy.len().div_ceil(64), |block| {
        for (o, &dy) in dy.iter().enumerate().skip(block * 64).take(64) {
            let d = dy * factor;
            let at = offset(&r.kept, o);
            for k in 0..count {
                // SAFETY: every input belongs to one output, and every output to one item.
                let dx = unsafe { dx.slice(at + offset(outer, k), run) };
                dx.iter_mut().for_each(|dx| store.put(dx, d));
            }
        }
    });
}

/// `y += alpha x`.
pub fn axpy(isa: Isa, alpha: f32, x: &[f32], y: &mut [f32]) {
    par::map1(x, y, |x, y| axpy_run(isa, alpha, x, y));
}

/// `y *= alpha`.
pub fn scale(isa: Isa, alpha: f32, y: &mut [f32]) {
    par::planes(y, par::CHUNK, |_, y| scale_run(isa, alpha, y));
}

/// Sum of all elements, in `f64` and in a fixed order.
pub fn sum(isa: Isa, x: &[f32]) -> f64 {
    par::sum_chunks(x.len(), |at| sum_run(isa, &x[at]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn any_axes() {
        let shape = [3, 4, 5, 6];
        let x = values(360, 1);
        for mask in 0..16usize {
            let axes: Vec<usize> = (0..4).filter(|a| mask >> a & 1 == 1).collect();
            let r = Reduction::new(&shape, &axes);
            let mut want = vec![0.0; r.out_len()];
            let mut home = vec![0; 360];
            for (i, &v) in x.iter().enumerate() {
                let (mut rest, mut o, mut stride) = (i, 0, 1);
                for axis in (0..4).rev() {
                    let index = rest % shape[axis];
                    rest /= shape[axis];
                    if !axes.contains(&axis) {
                        o += index * stride;
                        stride *= shape[axis];
                    }
                }
                home[i] = o;
                want[o] += v as f64 / r.count() as f64;
            }
            for (_, got) in on_all(|isa| {
                let mut y = vec![0.0; r.out_len()];
                forward(isa, &r, Kind::Mean, &x, &mut y);
                let mut dx = vec![1.0; 360];
                backward(isa, &r, Kind::Sum, &y, &mut dx, Store::Accumulate);
                y.extend(dx);
                y
            }) {
                let (y, dx) = got.split_at(r.out_len());
                assert_close(y, &want, 1e-6, &format!("axes {axes:?}"));
                let back: Vec<f64> = home.iter().map(|&o| y[o] as f64 + 1.0).collect();
                assert_close(dx, &back, 1e-6, "gradient");
            }
        }
    }

    #[test]
    fn vectors() {
        let (x, y0) = (values(30_001, 1), values(30_001, 2));
        for (isa, y) in on_all(|isa| {
            let mut y = y0.clone();
            axpy(isa, 0.5, &x, &mut y);
            scale(isa, 2.0, &mut y);
            y
        }) {
            let want: Vec<f64> = x.iter().zip(&y0).map(|(&x, &y)| x as f64 + 2.0 * y as f64).collect();
            assert_close(&y, &want, 1e-6, "axpy");
            let total: f64 = want.iter().sum();
            assert!((sum(isa, &y) - total).abs() < 1e-3);
        }
    }
}
