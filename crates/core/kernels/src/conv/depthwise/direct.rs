//! Forward pass on planes as they lie in memory: masked loads stand in for padding, nothing is copied.

use std::iter::once;

use crate::Isa;
use crate::conv::ConvGeometry;
use crate::conv::spacing::{Evens, Every, Spacing, V};
use crate::simd::{Avx2, Avx512, Masked, Simd};

/// Longest output rows that are computed from every other element with AVX2.
const NARROW: usize = 16;
/// Rows from one that is read to one that is prefetched.
const AHEAD: usize = 8;

/// What becomes of a sum.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub bias: f32,
    pub lo: f32,
    pub hi: f32,
}

/// Computes an output plane `y` from a plane `x` and the weights `w` of its channel.
///
/// # Safety
/// The processor has the instruction set; `x`, `w` and `y` have the sizes of the geometry's planes and kernel.
pub(super) type Plane = unsafe fn(g: &ConvGeometry, last: Last, x: &[f32], w: &[f32], y: &mut [f32]);

/// The function for a geometry; none for kernels that are not squares of 3, 5 or 7, and other steps to the side than 1 and 2.
pub(super) fn of(g: &ConvGeometry, isa: Isa) -> Option<Plane> {
    let table = match isa.effective() {
        Isa::Avx512 => &AVX512,
        // Every other element costs two masked loads and three shuffles there; the form with phases takes them apart once.
        Isa::Avx2 if g.stride[1] == 2 && g.out_w() > NARROW => return None,
        Isa::Avx2 => &AVX2,
        Isa::Scalar => return None,
    };
    let kernel = [3, 5, 7].iter().position(|&k| [g.kh, g.kw] == [k; 2])?;
    table.get(g.stride[1].checked_sub(1)?).map(|kernels| kernels[kernel])
}

/// The taps of one row of the kernel for a vector of output pixels: masks of their inputs, and how far from the beginning of an
/// input row the first lane reads.
struct Column<L: Spacing, const K: usize> {
    masks: [L::Masks; K],
    at: [isize; K],
}

impl<L: Spacing, const K: usize> Column<L, K> {
    /// For output pixels `first..` of a row.
    ///
    /// # Safety
    /// The processor has the instruction set.
    #[inline(always)]
    unsafe fn new(g: &ConvGeometry, first: usize) -> Self {
        let (step, left, width) = (g.stride[1] as isize, g.pads[1] as isize, g.w as isize);
        let at: [isize; K] =
            std::array::from_fn(|k| first as isize * step + (k * g.dilation[1]) as isize - left);
        let lanes = L::S::LANES as isize;
        let ceil = |v: isize| ((v.max(0) + step - 1) / step).min(lanes);
        let bits = at.map(|at| {
            // Lanes whose input lies within the row.
            let (from, to) = (ceil(-at), ceil(width - at));
            if from < to { (1u32 << to) - (1 << from) } else { 0 }
        });
        // SAFETY: the caller's promise.
        unsafe {
            let mut masks = [L::masks(0); K];
            for (mask, bits) in masks.iter_mut().zip(bits) {
                *mask = L::masks(bits as u16);
            }
            Column { masks, at }
        }
    }

    /// The inputs of the taps in row `row` of the plane; zeros where there is no such row.
    ///
    /// # Safety
    /// As [`Column::new`]; `x` is the plane.
    #[inline(always)]
    unsafe fn load(&self, g: &ConvGeometry, x: &[f32], row: isize) -> [V<L>; K] {
        if row < 0 || row >= g.h as isize {
            // SAFETY: the caller's promise, here and below.
            return [unsafe { L::S::zero() }; K];
        }
        let p = x.as_ptr().wrapping_offset(row * g.w as isize);
        // SAFETY: lanes in a mask lie within the row; prefetching is a hint only.
        unsafe {
            L::S::prefetch(p.wrapping_offset(self.at[K - 1] + (AHEAD * g.w) as isize));
            let mut v = [L::S::zero(); K];
            for (k, v) in v.iter_mut().enumerate() {
                *v = L::load(*v, p.wrapping_offset(self.at[k]), self.masks[k]);
            }
            v
        }
    }
}

/// `sum` and the products of a row of the kernel. Taps are added in their order, the first as a product where sums of other forms
/// begin so, too.
///
/// # Safety
/// The processor has the instruction set.
#[inline(always)]
unsafe fn add<S: Simd, const K: usize>(sum: S::V, w: &[[S::V; K]; K], row: usize, v: &[S::V; K]) -> S::V {
    let mut sum = sum;
    for k in 0..K {
        // SAFETY: the caller's promise.
        sum = unsafe {
            if K == 3 && row == 0 && k == 0 { S::mul(w[0][0], v[0]) } else { S::fma(w[row][k], v[k], sum) }
        };
    }
    sum
}

/// Where a vector of each row of the output goes.
struct Target<S: Simd> {
    y: *mut f32,
    len: usize,
    /// Bias and bounds.
    last: [S::V; 3],
}

impl<S: Masked> Target<S> {
    /// Writes the sums of the pixels from `at` on.
    ///
    /// # Safety
    /// The processor has the instruction set; `at` lies in the output.
    #[inline(always)]
    unsafe fn put(&self, at: usize, v: S::V) {
        // SAFETY: the caller's promise; what lies past the end is masked.
        unsafe {
            let v = S::clamp(S::add(v, self.last[0]), self.last[1], self.last[2]);
            match self.len - at {
                left if left < S::LANES => S::store_masked(self.y.add(at), S::mask((1 << left) - 1), v),
                _ => S::store(self.y.add(at), v),
            }
        }
    }
}

/// # Safety
/// As [`Plane`].
#[inline(always)]
unsafe fn body<L: Spacing, const K: usize>(
    g: &ConvGeometry,
    last: Last,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
) {
    let (height, width, lanes) = (g.out_h(), g.out_w(), L::S::LANES);
    assert!(x.len() == g.h * g.w && w.len() == K * K && y.len() == height * width);
    let vectors = width.div_ceil(lanes);
    // SAFETY: the caller's promise; weights were counted above, and rows and vectors lie in the output.
    unsafe {
        let last = [L::S::splat(&last.bias), L::S::splat(&last.lo), L::S::splat(&last.hi)];
        let mut weights = [[L::S::zero(); K]; K];
        for (k, w) in w.iter().enumerate() {
            weights[k / K][k % K] = L::S::splat(w);
        }
        let target = Target::<L::S> { len: y.len(), y: y.as_mut_ptr(), last };
        let top = -(g.pads[0] as isize);
        // The last vector of each row first: what it writes past the row, the others overwrite, and those of later rows.
        for i in once(vectors - 1).chain(0..vectors - 1) {
            let column = Column::<L, K>::new(g, i * lanes);
            if K == 3 && g.stride[0] == 1 && g.dilation[0] == 1 {
                // Each row is read once and goes into the sums of three.
                let [mut begun, mut half] = [L::S::zero(); 2];
                for r in 0..height + 2 {
                    let v = column.load(g, x, top + r as isize);
                    let done = add::<L::S, K>(half, &weights, 2, &v);
                    half = add::<L::S, K>(begun, &weights, 1, &v);
                    begun = add::<L::S, K>(begun, &weights, 0, &v);
                    if r >= 2 {
                        target.put((r - 2) * width + i * lanes, done);
                    }
                }
                continue;
            }
            for r in 0..height {
                let mut sum = L::S::zero();
                for k in 0..K {
                    let row = top + (r * g.stride[0] + k * g.dilation[0]) as isize;
                    sum = add::<L::S, K>(sum, &weights, k, &column.load(g, x, row));
                }
                target.put(r * width + i * lanes, sum);
            }
        }
    }
}

macro_rules! table {
    ($table:ident, $simd:ty, $feature:literal) => {
        /// For steps of 1 and 2, kernels of 3, 5 and 7.
        static $table: [[Plane; 3]; 2] = {
            #[target_feature(enable = $feature)]
            unsafe fn every<const K: usize>(
                g: &ConvGeometry,
                last: Last,
                x: &[f32],
                w: &[f32],
                y: &mut [f32],
            ) {
                // SAFETY: passed on.
                unsafe { body::<Every<$simd>, K>(g, last, x, w, y) }
            }
            #[target_feature(enable = $feature)]
            unsafe fn evens<const K: usize>(
                g: &ConvGeometry,
                last: Last,
                x: &[f32],
                w: &[f32],
                y: &mut [f32],
            ) {
                // SAFETY: passed on.
                unsafe { body::<Evens<$simd>, K>(g, last, x, w, y) }
            }
            [[every::<3>, every::<5>, every::<7>], [evens::<3>, evens::<5>, evens::<7>]]
        };
    };
}

table!(AVX2, Avx2, "avx2,fma");
table!(AVX512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");
