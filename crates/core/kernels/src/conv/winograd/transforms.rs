//! The transforms of F(4 x 4, 3 x 3) and F(2 x 2, 5 x 5), one vector of channels at a time.
//!
//! A 3-tap filter applied to 6 inputs gives 4 outputs, a 5-tap filter 2. As polynomials both are products that are
//! evaluated at 6 points and interpolated (Toom-Cook; Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2015, for images). The points here are 0, ±a, ±b and infinity with a = 1/√2,
//! b = √2: powers of a and b stay closer to one than those of 1 and 2, and with them the rounding errors.

use crate::Isa;
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
use crate::simd::Simd128;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// Products for each tile and pair of channels: input tiles are 6 x 6.
pub(super) const PRODUCTS: usize = 36;
/// Weights of the larger kernel.
pub(super) const MAX_TAPS: usize = 25;
/// Lanes of the longest vector.
pub(super) const MAX_LANES: usize = 16;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;
/// Powers of the points.
const POWERS: [[f32; 5]; 2] = [[1.0, A, 0.5, 0.5 * A, 0.25], [1.0, B, 2.0, 2.0 * B, 4.0]];
/// One over the derivative of x(x² - a²)(x² - b²) at ±a and ±b; at 0 it is 1.
pub(super) const FILTER_SCALE: [f32; 2] = [-2.0 / 3.0, 1.0 / 6.0];
pub(super) const UNSCALED: [f32; 2] = [1.0; 2];

/// The transforms of one instruction set. All pointers are to vectors of `lanes` channels; steps are in floats.
#[derive(Debug)]
pub(super) struct Transforms {
    pub lanes: usize,
    /// Sides of an output tile and of the kernel.
    pub out: usize,
    pub kernel: usize,
    /// `(tiles, from, row, to, tile, product)`: a row of input tiles, `out` pixels apart, from pixels of one vector each
    /// (`row` floats a line) to 36 products, `product` floats apart, tiles `tile` apart.
    pub inputs: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    /// The same for tiles of output gradients.
    pub gradients: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    /// `(tiles, from, tile, product, to, row, height, width)`: back from products to a line of output tiles, of which `height`
    /// pixels down and `width` across exist.
    pub outputs: unsafe fn(usize, *const f32, usize, usize, *mut f32, usize, usize, usize),
    /// `(from, to, product)`: from the vectors of a kernel's weights to 36.
    pub weights: unsafe fn(*const f32, *mut f32, usize),
    /// `(from, product, to)`: from 36 vectors of sums of products to those of the weights' gradients.
    pub weight_gradient: unsafe fn(*const f32, usize, *mut f32),
}

/// # Safety
/// The processor has the instruction set; so for all functions here.
#[inline(always)]
unsafe fn constant<S: Simd>(value: &f32) -> S::V {
    // SAFETY: the caller's promise; a reference is readable.
    unsafe { S::splat(value) }
}

/// Values at the six points: of x(x ∓ a)(x² - b²) and so on, whose coefficients stand here.
#[inline(always)]
pub(super) unsafe fn input_line<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(constant::<S>(&-2.0), d[2], d[4]);
        let odd_a = S::fma(constant::<S>(&-2.0), d[1], d[3]);
        let even_b = S::fma(constant::<S>(&-0.5), d[2], d[4]);
        let odd_b = S::fma(constant::<S>(&-0.5), d[1], d[3]);
        [
            S::fma(constant::<S>(&-2.5), d[2], S::add(d[0], d[4])),
            S::fma(constant::<S>(&A), odd_a, even_a),
            S::fma(constant::<S>(&-A), odd_a, even_a),
            S::fma(constant::<S>(&B), odd_b, even_b),
            S::fma(constant::<S>(&-B), odd_b, even_b),
            S::fma(constant::<S>(&-2.5), d[3], S::add(d[1], d[5])),
        ]
    }
}

/// Sums of the even and of the odd terms of a polynomial at point `p`, times `scale`.
// No closures in these functions: they would be compiled without the instruction set where they are not inlined.
#[inline(always)]
unsafe fn terms<S: Simd, const N: usize>(y: [S::V; N], p: usize, scale: f32) -> (S::V, S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut even = S::mul(constant::<S>(&(scale * POWERS[p][0])), y[0]);
        let mut odd = S::mul(constant::<S>(&(scale * POWERS[p][1])), y[1]);
        if N > 2 {
            even = S::fma(constant::<S>(&(scale * POWERS[p][2])), y[2], even);
        }
        if N > 3 {
            odd = S::fma(constant::<S>(&(scale * POWERS[p][3])), y[3], odd);
        }
        if N > 4 {
            even = S::fma(constant::<S>(&(scale * POWERS[p][4])), y[4], even);
        }
        (even, odd)
    }
}

/// Values of a polynomial at the points, those at ±a and ±b times `scale`.
#[inline(always)]
pub(super) unsafe fn evaluate<S: Simd, const N: usize>(y: [S::V; N], scale: [f32; 2]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even_a, odd_a) = terms::<S, N>(y, 0, scale[0]);
        let (even_b, odd_b) = terms::<S, N>(y, 1, scale[1]);
        [
            y[0],
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            y[N - 1],
        ]
    }
}

/// Transposed to [`evaluate`].
#[inline(always)]
pub(super) unsafe fn collect<S: Simd, const N: usize>(m: [S::V; 6], scale: [f32; 2]) -> [S::V; N] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        let mut out = [S::zero(); N];
        for (j, out) in out.iter_mut().enumerate() {
            let (of_a, of_b) = if j % 2 == 0 { (even_a, even_b) } else { (odd_a, odd_b) };
            let (a, b) =
                (constant::<S>(&(scale[0] * POWERS[0][j])), constant::<S>(&(scale[1] * POWERS[1][j])));
            let far = if j == 0 {
                S::fma(b, of_b, m[0])
            } else if j == N - 1 {
                S::fma(b, of_b, m[5])
            } else {
                S::mul(b, of_b)
            };
            *out = S::fma(a, of_a, far);
        }
        out
    }
}

/// Applies `line` down the columns of a tile, then along its rows.
macro_rules! both_ways {
    ($line:path $(, $scale:ident)?; $from:expr, $m:tt x $n:tt, $store:expr) => {{
        let mut half = [[S::zero(); $m]; $n];
        for j in 0..$m {
            let mut column = [S::zero(); $m];
            for (i, v) in column.iter_mut().enumerate() {
                *v = $from(i, j);
            }
            let column = $line(column $(, $scale)?);
            for i in 0..$n {
                half[i][j] = column[i];
            }
        }
        for i in 0..$n {
            let row = $line(half[i] $(, $scale)?);
            for j in 0..$n {
                $store(i, j, row[j]);
            }
        }
    }};
}

#[inline(always)]
unsafe fn inputs_body<S: Simd, const OUT: usize>(
    tiles: usize,
    from: *const f32,
    row: usize,
    to: *mut f32,
    tile: usize,
    product: usize,
) {
    for t in 0..tiles {
        // SAFETY: the caller's promise: 6 rows of the tiles' pixels are readable, 36 products of each tile writable.
        unsafe {
            let (from, to) = (from.add(t * OUT * S::LANES), to.add(t * tile));
            both_ways!(
                input_line::<S>;
                |i, j| S::load(from.add(i * row + j * S::LANES)),
                6 x 6,
                |i, j, v| S::store(to.add((6 * i + j) * product), v)
            );
        }
    }
}

#[inline(always)]
unsafe fn gradients_body<S: Simd, const OUT: usize>(
    tiles: usize,
    from: *const f32,
    row: usize,
    to: *mut f32,
    tile: usize,
    product: usize,
) {
    for t in 0..tiles {
        // SAFETY: the caller's promise: the tiles' pixels are readable, 36 products of each tile writable.
        unsafe {
            let (from, to) = (from.add(t * OUT * S::LANES), to.add(t * tile));
            both_ways!(
                evaluate::<S, OUT>, UNSCALED;
                |i, j| S::load(from.add(i * row + j * S::LANES)),
                OUT x 6,
                |i, j, v| S::store(to.add((6 * i + j) * product), v)
            );
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn outputs_body<S: Simd, const OUT: usize>(
    tiles: usize,
    from: *const f32,
    tile: usize,
    product: usize,
    to: *mut f32,
    row: usize,
    height: usize,
    width: usize,
) {
    for t in 0..tiles {
        let across = width - (t * OUT).min(width);
        // SAFETY: the caller's promise: 36 products of each tile are readable, `height` rows of `width` pixels writable.
        unsafe {
            let (from, to) = (from.add(t * tile), to.add(t * OUT * S::LANES));
            both_ways!(
                collect::<S, OUT>, UNSCALED;
                |i, j| S::load(from.add((6 * i + j) * product)),
                6 x OUT,
                |i: usize, j: usize, v| if i < height && j < across {
                    S::store(to.add(i * row + j * S::LANES), v)
                }
            );
        }
    }
}

#[inline(always)]
unsafe fn weights_body<S: Simd, const K: usize>(from: *const f32, to: *mut f32, product: usize) {
    // SAFETY: the caller's promise: `K * K` vectors are readable, 36 writable.
    unsafe {
        both_ways!(
            evaluate::<S, K>, FILTER_SCALE;
            |i, j| S::load(from.add((K * i + j) * S::LANES)),
            K x 6,
            |i, j, v| S::store(to.add((6 * i + j) * product), v)
        );
    }
}

#[inline(always)]
unsafe fn weight_gradient_body<S: Simd, const K: usize>(from: *const f32, product: usize, to: *mut f32) {
    // SAFETY: the caller's promise: 36 vectors are readable, `K * K` writable.
    unsafe {
        both_ways!(
            collect::<S, K>, FILTER_SCALE;
            |i, j| S::load(from.add((6 * i + j) * product)),
            6 x K,
            |i, j, v| S::store(to.add((K * i + j) * S::LANES), v)
        );
    }
}

macro_rules! transforms {
    ($table:ident, $simd:ty, $out:literal, $kernel:literal, $(#[$feature:meta])?) => {
        static $table: Transforms = {
            $(#[$feature])?
            unsafe fn inputs(tiles: usize, from: *const f32, row: usize, to: *mut f32, tile: usize, product: usize) {
                // SAFETY: passed on.
                unsafe { inputs_body::<$simd, $out>(tiles, from, row, to, tile, product) }
            }
            $(#[$feature])?
            unsafe fn gradients(tiles: usize, from: *const f32, row: usize, to: *mut f32, tile: usize, product: usize) {
                // SAFETY: passed on.
                unsafe { gradients_body::<$simd, $out>(tiles, from, row, to, tile, product) }
            }
            $(#[$feature])?
            #[allow(clippy::too_many_arguments)]
            unsafe fn outputs(
                tiles: usize, from: *const f32, tile: usize, product: usize, to: *mut f32, row: usize, height: usize, width: usize,
            ) {
                // SAFETY: passed on.
                unsafe { outputs_body::<$simd, $out>(tiles, from, tile, product, to, row, height, width) }
            }
            $(#[$feature])?
            unsafe fn weights(from: *const f32, to: *mut f32, product: usize) {
                // SAFETY: passed on.
                unsafe { weights_body::<$simd, $kernel>(from, to, product) }
            }
            $(#[$feature])?
            unsafe fn weight_gradient(from: *const f32, product: usize, to: *mut f32) {
                // SAFETY: passed on.
                unsafe { weight_gradient_body::<$simd, $kernel>(from, product, to) }
            }
            Transforms {
                lanes: <$simd as Simd>::LANES,
                out: $out,
                kernel: $kernel,
                inputs,
                gradients,
                outputs,
                weights,
                weight_gradient,
            }
        };
    };
}

transforms!(PLAIN3, Plain, 4, 3,);
transforms!(PLAIN5, Plain, 2, 5,);
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
transforms!(SIMD128_3, Simd128, 4, 3,);
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
transforms!(SIMD128_5, Simd128, 2, 5,);
#[cfg(target_arch = "x86_64")]
transforms!(AVX2_3, Avx2, 4, 3, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
transforms!(AVX2_5, Avx2, 2, 5, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
transforms!(AVX512_3, Avx512, 4, 3, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]);
#[cfg(target_arch = "x86_64")]
transforms!(AVX512_5, Avx512, 2, 5, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]);

impl Transforms {
    /// Those of the best supported instruction set, up to `isa`, for square kernels of 3 or 5.
    pub(super) fn of(isa: Isa, kernel: usize) -> Option<&'static Transforms> {
        let [three, five] = match isa.effective() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => [&AVX512_3, &AVX512_5],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => [&AVX2_3, &AVX2_5],
            #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Simd128 => [&SIMD128_3, &SIMD128_5],
            _ => [&PLAIN3, &PLAIN5],
        };
        match kernel {
            3 => Some(three),
            5 => Some(five),
            _ => None,
        }
    }

    /// Weights of a pair of channels.
    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, values};

    /// One tile of one vector of channels, forward and both gradients, against the definition.
    fn one_tile(t: &Transforms, what: &str) {
        let (lanes, out, side, taps) = (t.lanes, t.out, t.kernel, t.taps());
        let (x, w, dy) = (values(36 * lanes, 1), values(taps * lanes, 2), values(out * out * lanes, 3));
        let mut y = vec![0.0f64; out * out * lanes];
        let mut dw = vec![0.0f64; taps * lanes];
        for p in 0..out * out {
            for k in 0..taps {
                for l in 0..lanes {
                    let v = x[((p / out + k / side) * 6 + p % out + k % side) * lanes + l] as f64;
                    y[p * lanes + l] += v * w[k * lanes + l] as f64;
                    dw[k * lanes + l] += v * dy[p * lanes + l] as f64;
                }
            }
        }
        let [mut v, mut u, mut d] = [0; 3].map(|_| vec![0.0; 36 * lanes]);
        let (mut got, mut got_dw) = (vec![0.0; y.len()], vec![0.0; dw.len()]);
        // SAFETY: the buffers hold as many vectors as the tile, the kernel and the products; the set is supported.
        unsafe {
            (t.inputs)(1, x.as_ptr(), 6 * lanes, v.as_mut_ptr(), 0, lanes);
            (t.weights)(w.as_ptr(), u.as_mut_ptr(), lanes);
            (t.gradients)(1, dy.as_ptr(), out * lanes, d.as_mut_ptr(), 0, lanes);
            u.iter_mut().zip(&v).for_each(|(u, v)| *u *= v);
            d.iter_mut().zip(&v).for_each(|(d, v)| *d *= v);
            (t.outputs)(1, u.as_ptr(), 0, lanes, got.as_mut_ptr(), out * lanes, out, out);
            (t.weight_gradient)(d.as_ptr(), lanes, got_dw.as_mut_ptr());
        }
        assert_close(&got, &y, 2e-6, &format!("y of {what}"));
        assert_close(&got_dw, &dw, 2e-6, &format!("dw of {what}"));
    }

    #[test]
    fn tiles() {
        for isa in Isa::supported() {
            for kernel in [3, 5] {
                one_tile(Transforms::of(isa, kernel).expect("claimed"), &format!("{kernel} on {isa}"));
            }
        }
        assert!(Transforms::of(Isa::Scalar, 4).is_none());
    }

    #[test]
    fn pixels_that_do_not_exist_are_not_written() {
        let t = Transforms::of(Isa::Scalar, 3).expect("claimed");
        let products = vec![1.0; 36 * t.lanes];
        let mut y = vec![7.0; 16 * t.lanes];
        // SAFETY: as above.
        unsafe { (t.outputs)(1, products.as_ptr(), 0, t.lanes, y.as_mut_ptr(), 4 * t.lanes, 3, 2) };
        for (pixel, y) in y.chunks(t.lanes).enumerate() {
            assert_eq!(y[0] == 7.0, pixel / 4 >= 3 || pixel % 4 >= 2, "pixel {pixel}");
        }
    }
}
