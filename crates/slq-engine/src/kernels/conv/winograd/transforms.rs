//! The transforms of F(4 x 4, 3 x 3), one vector of channels at a time.
//!
//! A 3-tap filter applied to 6 inputs gives 4 outputs; as polynomials it is a product that is evaluated at 6 points
//! and interpolated (Toom-Cook; Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2015, for images). The points here are 0, ±a, ±b and infinity with a = 1/√2, b = √2: powers
//! of a and b stay closer to one than those of 1 and 2, and with them the rounding errors.

use crate::kernels::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::kernels::simd::{Avx2, Avx512};
use crate::kernels::simd::{Plain, Simd};

/// Side of an output tile.
pub(super) const OUT: usize = 4;
/// Side of the input tile that it is computed from.
pub(super) const IN: usize = 6;
/// Products for each tile and pair of channels.
pub(super) const PRODUCTS: usize = IN * IN;

const A: f32 = std::f32::consts::FRAC_1_SQRT_2;
const B: f32 = std::f32::consts::SQRT_2;

/// The transforms of one instruction set. All pointers are to vectors of `lanes` channels; steps are in floats.
pub(super) struct Transforms {
    pub lanes: usize,
    /// `(tiles, from, row, to, tile, product)`: a row of input tiles, four pixels apart, from pixels of one vector each
    /// (`row` floats a line) to 36 products, `product` floats apart, tiles `tile` apart.
    pub inputs: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    /// The same for tiles of 4 x 4 output gradients.
    pub gradients: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    /// `(tiles, from, tile, product, to, row, height, width)`: back from products to a line of output tiles, of which `height`
    /// pixels down and `width` across exist.
    pub outputs: unsafe fn(usize, *const f32, usize, usize, *mut f32, usize, usize, usize),
    /// `(from, to, product)`: from 9 vectors of weights to 36.
    pub weights: unsafe fn(*const f32, *mut f32, usize),
    /// `(from, product, to)`: from 36 vectors of sums of products to 9 of weight gradients.
    pub weight_gradient: unsafe fn(*const f32, usize, *mut f32),
}

/// # Safety
/// The instruction set is at hand; so for all functions here.
#[inline(always)]
unsafe fn constant<S: Simd>(value: &f32) -> S::V {
    // SAFETY: the caller's promise; a reference is readable.
    unsafe { S::splat(value) }
}

/// Values at the six points: of x(x ∓ a)(x² - b²) and so on, whose coefficients stand here.
#[inline(always)]
unsafe fn input_line<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
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

/// Coefficients from the values: powers of the points.
#[inline(always)]
unsafe fn output_line<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], even_a), even_b),
            S::fma(constant::<S>(&A), odd_a, S::mul(constant::<S>(&B), odd_b)),
            S::fma(constant::<S>(&0.5), even_a, S::mul(constant::<S>(&2.0), even_b)),
            S::fma(constant::<S>(&(0.5 * A)), odd_a, S::fma(constant::<S>(&(2.0 * B)), odd_b, m[5])),
        ]
    }
}

/// Transposed to [`output_line`].
#[inline(always)]
unsafe fn gradient_line<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(constant::<S>(&0.5), y[2], y[0]);
        let odd_a = S::fma(constant::<S>(&0.5), y[3], y[1]);
        let even_b = S::fma(constant::<S>(&2.0), y[2], y[0]);
        let odd_b = S::fma(constant::<S>(&2.0), y[3], y[1]);
        [
            y[0],
            S::fma(constant::<S>(&A), odd_a, even_a),
            S::fma(constant::<S>(&-A), odd_a, even_a),
            S::fma(constant::<S>(&B), odd_b, even_b),
            S::fma(constant::<S>(&-B), odd_b, even_b),
            y[3],
        ]
    }
}

/// Values of the filter at the points, divided by the derivative of x(x² - a²)(x² - b²) there: 1, -3/2, 6.
#[inline(always)]
unsafe fn weight_line<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let third = constant::<S>(&(1.0 / 3.0));
        let far = S::mul(third, g[2]);
        let even_a = S::sub(S::mul(constant::<S>(&(-2.0 / 3.0)), g[0]), far);
        let odd_a = S::mul(constant::<S>(&(-2.0 / 3.0 * A)), g[1]);
        let even_b = S::fma(constant::<S>(&(1.0 / 6.0)), g[0], far);
        let odd_b = S::mul(constant::<S>(&(B / 6.0)), g[1]);
        [
            g[0],
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            g[2],
        ]
    }
}

/// Transposed to [`weight_line`].
#[inline(always)]
unsafe fn weight_gradient_line<S: Simd>(s: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let (even_a, odd_a) = (S::add(s[1], s[2]), S::sub(s[1], s[2]));
        let (even_b, odd_b) = (S::add(s[3], s[4]), S::sub(s[3], s[4]));
        let near = S::fma(constant::<S>(&(1.0 / 6.0)), even_b, s[0]);
        let far = S::fma(constant::<S>(&(1.0 / 3.0)), S::sub(even_b, even_a), s[5]);
        [
            S::fma(constant::<S>(&(-2.0 / 3.0)), even_a, near),
            S::fma(constant::<S>(&(B / 6.0)), odd_b, S::mul(constant::<S>(&(-2.0 / 3.0 * A)), odd_a)),
            far,
        ]
    }
}

/// Applies `line` down the columns of a tile, then along its rows.
macro_rules! both_ways {
    ($line:ident, $from:expr, $m:literal x $n:literal, $store:expr) => {{
        let mut half = [[S::zero(); $m]; $n];
        for j in 0..$m {
            let column = $line::<S>(std::array::from_fn(|i| $from(i, j)));
            for i in 0..$n {
                half[i][j] = column[i];
            }
        }
        for i in 0..$n {
            let row = $line::<S>(half[i]);
            for j in 0..$n {
                $store(i, j, row[j]);
            }
        }
    }};
}

#[inline(always)]
unsafe fn inputs_body<S: Simd>(
    tiles: usize,
    from: *const f32,
    row: usize,
    to: *mut f32,
    tile: usize,
    product: usize,
) {
    for t in 0..tiles {
        // SAFETY: the caller's promise: 6 rows of `4 tiles + 2` pixels are readable, 36 products of each tile writable.
        unsafe {
            let (from, to) = (from.add(t * OUT * S::LANES), to.add(t * tile));
            both_ways!(
                input_line,
                |i, j| S::load(from.add(i * row + j * S::LANES)),
                6 x 6,
                |i, j, v| S::store(to.add((6 * i + j) * product), v)
            );
        }
    }
}

#[inline(always)]
unsafe fn gradients_body<S: Simd>(
    tiles: usize,
    from: *const f32,
    row: usize,
    to: *mut f32,
    tile: usize,
    product: usize,
) {
    for t in 0..tiles {
        // SAFETY: the caller's promise: 4 rows of `4 tiles` pixels are readable, 36 products of each tile writable.
        unsafe {
            let (from, to) = (from.add(t * OUT * S::LANES), to.add(t * tile));
            both_ways!(
                gradient_line,
                |i, j| S::load(from.add(i * row + j * S::LANES)),
                4 x 6,
                |i, j, v| S::store(to.add((6 * i + j) * product), v)
            );
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn outputs_body<S: Simd>(
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
                output_line,
                |i, j| S::load(from.add((6 * i + j) * product)),
                6 x 4,
                |i: usize, j: usize, v| if i < height && j < across {
                    S::store(to.add(i * row + j * S::LANES), v)
                }
            );
        }
    }
}

#[inline(always)]
unsafe fn weights_body<S: Simd>(from: *const f32, to: *mut f32, product: usize) {
    // SAFETY: the caller's promise: 9 vectors are readable, 36 writable.
    unsafe {
        both_ways!(
            weight_line,
            |i, j| S::load(from.add((3 * i + j) * S::LANES)),
            3 x 6,
            |i, j, v| S::store(to.add((6 * i + j) * product), v)
        );
    }
}

#[inline(always)]
unsafe fn weight_gradient_body<S: Simd>(from: *const f32, product: usize, to: *mut f32) {
    // SAFETY: the caller's promise: 36 vectors are readable, 9 writable.
    unsafe {
        both_ways!(
            weight_gradient_line,
            |i, j| S::load(from.add((6 * i + j) * product)),
            6 x 3,
            |i, j, v| S::store(to.add((3 * i + j) * S::LANES), v)
        );
    }
}

macro_rules! transforms {
    ($table:ident, $simd:ty, $(#[$feature:meta])?) => {
        static $table: Transforms = {
            $(#[$feature])?
            unsafe fn inputs(tiles: usize, from: *const f32, row: usize, to: *mut f32, tile: usize, product: usize) {
                // SAFETY: passed on.
                unsafe { inputs_body::<$simd>(tiles, from, row, to, tile, product) }
            }
            $(#[$feature])?
            unsafe fn gradients(tiles: usize, from: *const f32, row: usize, to: *mut f32, tile: usize, product: usize) {
                // SAFETY: passed on.
                unsafe { gradients_body::<$simd>(tiles, from, row, to, tile, product) }
            }
            $(#[$feature])?
            #[allow(clippy::too_many_arguments)]
            unsafe fn outputs(
                tiles: usize, from: *const f32, tile: usize, product: usize, to: *mut f32, row: usize, height: usize, width: usize,
            ) {
                // SAFETY: passed on.
                unsafe { outputs_body::<$simd>(tiles, from, tile, product, to, row, height, width) }
            }
            $(#[$feature])?
            unsafe fn weights(from: *const f32, to: *mut f32, product: usize) {
                // SAFETY: passed on.
                unsafe { weights_body::<$simd>(from, to, product) }
            }
            $(#[$feature])?
            unsafe fn weight_gradient(from: *const f32, product: usize, to: *mut f32) {
                // SAFETY: passed on.
                unsafe { weight_gradient_body::<$simd>(from, product, to) }
            }
            Transforms { lanes: <$simd as Simd>::LANES, inputs, gradients, outputs, weights, weight_gradient }
        };
    };
}

transforms!(PLAIN, Plain,);
#[cfg(target_arch = "x86_64")]
transforms!(AVX2, Avx2, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
transforms!(AVX512, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]);

impl Transforms {
    /// Those of the best set that is at hand, up to `isa`.
    pub(super) fn of(isa: Isa) -> &'static Transforms {
        match isa.effective() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            _ => &PLAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::testing::{assert_close, values};

    /// One tile of one vector of channels, forward and both gradients, against the definition.
    #[test]
    fn one_tile() {
        for isa in Isa::supported() {
            let t = Transforms::of(isa);
            let lanes = t.lanes;
            let (x, w, dy) = (values(36 * lanes, 1), values(9 * lanes, 2), values(16 * lanes, 3));
            let mut y = vec![0.0f64; 16 * lanes];
            let mut dw = vec![0.0f64; 9 * lanes];
            for p in 0..16 {
                for k in 0..9 {
                    for l in 0..lanes {
                        let v = x[((p / 4 + k / 3) * 6 + p % 4 + k % 3) * lanes + l] as f64;
                        y[p * lanes + l] += v * w[k * lanes + l] as f64;
                        dw[k * lanes + l] += v * dy[p * lanes + l] as f64;
                    }
                }
            }
            let [mut v, mut u, mut d] = [0; 3].map(|_| vec![0.0; 36 * lanes]);
            let (mut got, mut got_dw) = (vec![0.0; 16 * lanes], vec![0.0; 9 * lanes]);
            // SAFETY: the buffers hold 36, 16 and 9 vectors; the set is supported.
            unsafe {
                (t.inputs)(1, x.as_ptr(), 6 * lanes, v.as_mut_ptr(), 0, lanes);
                (t.weights)(w.as_ptr(), u.as_mut_ptr(), lanes);
                (t.gradients)(1, dy.as_ptr(), 4 * lanes, d.as_mut_ptr(), 0, lanes);
                u.iter_mut().zip(&v).for_each(|(u, v)| *u *= v);
                d.iter_mut().zip(&v).for_each(|(d, v)| *d *= v);
                (t.outputs)(1, u.as_ptr(), 0, lanes, got.as_mut_ptr(), 4 * lanes, 4, 4);
                (t.weight_gradient)(d.as_ptr(), lanes, got_dw.as_mut_ptr());
            }
            assert_close(&got, &y, 2e-6, &format!("y on {isa}"));
            assert_close(&got_dw, &dw, 2e-6, &format!("dw on {isa}"));
        }
    }

    #[test]
    fn pixels_that_do_not_exist_are_not_written() {
        let t = Transforms::of(Isa::Scalar);
        let products = vec![1.0; 36 * t.lanes];
        let mut y = vec![7.0; 16 * t.lanes];
        // SAFETY: as above.
        unsafe { (t.outputs)(1, products.as_ptr(), 0, t.lanes, y.as_mut_ptr(), 4 * t.lanes, 3, 2) };
        for (pixel, y) in y.chunks(t.lanes).enumerate() {
            assert_eq!(y[0] == 7.0, pixel / 4 >= 3 || pixel % 4 >= 2, "pixel {pixel}");
        }
    }
}
