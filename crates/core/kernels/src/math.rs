//! Transcendental functions without branches, so that loops over them vectorise.

use crate::isa::madd;

/// `e^x`, relative error below 2e-7; 0 below -87.3, infinite above 88.72.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with trailing zeros so that n * LN2_HI is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-104.0, 89.0);
    let n = (clamped * LOG2_E + ROUND) - ROUND;
    let r = madd::<FMA>(n, -LN2_LO, madd::<FMA>(n, -LN2_HI, clamped));
    // Taylor with the last coefficients fitted to |r| <= ln(2)/2.
    let mut p = 1.987_569_1e-4;
    p = madd::<FMA>(p, r, 1.398_199_9e-3);
    p = madd::<FMA>(p, r, 8.333_452e-3);
    p = madd::<FMA>(p, r, 4.166_579_6e-2);
    p = madd::<FMA>(p, r, 1.666_666_5e-1);
    p = madd::<FMA>(p, r, 0.5);
    p = madd::<FMA>(p, r * r, r) + 1.0;
    // 2^n in two factors, so that neither leaves the range of normal numbers before the product does.
    let half = (n * 0.5) as i32;
    let rest = n as i32 - half;
    let scale = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    let y = p * scale(half) * scale(rest);
    if x.is_nan() { x } else { y }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Hyperbolic tangent, absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    // Odd polynomial near zero, where 1 - 2/(e^2x + 1) would cancel.
    let x2 = x * x;
    let mut p = 2.186_949e-2;
    p = madd::<FMA>(p, x2, -5.396_825_4e-2);
    p = madd::<FMA>(p, x2, 1.333_333_3e-1);
    p = madd::<FMA>(p, x2, -3.333_333_3e-1);
    let small = madd::<FMA>(p * x2, x, x);
    let large = 1.0 - 2.0 / (exp::<FMA>(2.0 * x) + 1.0);
    if x2 < 0.04 { small } else { large }
}

/// `erfc(a) e^(a^2)` for `a >= 0`, relative error below 4e-7: a polynomial in `1 / (1 + a/2)`, fitted to `0 <= a <= 10`; further out
/// `e^(-a^2)` is 0.
#[inline(always)]
fn scaled_erfc<const FMA: bool>(a: f32) -> f32 {
    let t = 1.0 / madd::<FMA>(0.5, a, 1.0);
    let mut p = -5.505_23e-2;
    p = madd::<FMA>(p, t, 2.639_082_3e-1);
    p = madd::<FMA>(p, t, -4.414_889e-1);
    p = madd::<FMA>(p, t, 2.212_048_2e-1);
    p = madd::<FMA>(p, t, 1.706_716_8e-2);
    p = madd::<FMA>(p, t, 1.812_549_5e-1);
    p = madd::<FMA>(p, t, 2.497_919_5e-1);
    p = madd::<FMA>(p, t, 2.810_987_2e-1);
    p = madd::<FMA>(p, t, 2.822_213_5e-1);
    madd::<FMA>(p, t, -6.009_997_6e-6)
}

/// The error function, absolute error below 3e-7, relative below 4e-7.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let (a, x2) = (x.abs(), x * x);
    // Odd polynomial near zero, where 1 - erfc would cancel.
    let mut p = -7.457_147e-4;
    p = madd::<FMA>(p, x2, 5.184_679e-3);
    p = madd::<FMA>(p, x2, -2.685_944_3e-2);
    p = madd::<FMA>(p, x2, 1.128_373_74e-1);
    p = madd::<FMA>(p, x2, -3.761_263_7e-1);
    p = madd::<FMA>(p, x2, std::f32::consts::FRAC_2_SQRT_PI);
    let large = 1.0 - exp::<FMA>(-x2) * scaled_erfc::<FMA>(a);
    if x2 < 0.3 { p * x } else { large.copysign(x) }
}

/// Distribution function and density of the normal distribution. The absolute error is below 3e-7, the relative one of small
/// probabilities below 1e-5.
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const FRAC_1_SQRT_TAU: f32 = 0.398_942_3;
    let bell = exp::<FMA>(-0.5 * x * x);
    let tail = 0.5 * bell * scaled_erfc::<FMA>(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    (if x < 0.0 { tail } else { 1.0 - tail }, bell * FRAC_1_SQRT_TAU)
}

/// `tanh(ln(1 + e^x))` and its derivative (the factor of `Mish`), absolute errors below 5e-7.
#[inline(always)]
pub(crate) fn tanh_softplus<const FMA: bool>(x: f32) -> (f32, f32) {
    // From 20 on the value is 1; NaN stays.
    let e = exp::<FMA>(if x > 20.0 { 20.0 } else { x });
    let n = e * (e + 2.0);
    let value = n / (n + 2.0);
    // 1 - value^2, times the sigmoid e / (1 + e), with (n + 1) = (1 + e)^2.
    (value, 4.0 * e * (1.0 + e) / ((n + 2.0) * (n + 2.0)))
}

#[cfg(test)]
mod tests {
    /// erfc(a) for a >= 0, in double precision: 1 - the power series of erf or, further out, a continued fraction.
    fn erfc(a: f64) -> f64 {
        let bell = (-a * a).exp();
        if a > 2.5 {
            let tail = (1..=60).rev().fold(a, |d, k| a + 0.5 * f64::from(k) / d);
            return 0.5 * std::f64::consts::FRAC_2_SQRT_PI * bell / tail;
        }
        let (mut term, mut sum, mut k) = (a, a, 1.0);
        while term > sum * 1e-17 {
            term *= 2.0 * a * a / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        1.0 - std::f64::consts::FRAC_2_SQRT_PI * bell * sum
    }

    #[test]
    fn the_error_function_and_the_normal_distribution() {
        // Abramowitz and Stegun, table 7.1.
        let table =
            [(0.1, 0.112_462_916_018_284_9), (0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7)];
        for (x, want) in table {
            assert!((1.0 - erfc(x) - want).abs() < 1e-14, "{x}");
        }
        for i in -20_000..=20_000 {
            let x = i as f32 * 0.0006;
            let wide = f64::from(x);
            let want = (1.0 - erfc(wide.abs())).copysign(wide);
            let found = f64::from(super::erf::<false>(x));
            assert!(
                (found - want).abs() < 3e-7 && (found - want).abs() <= 4e-7 * want.abs(),
                "erf({x}) = {found}, not {want}"
            );
            let half = 0.5 * erfc(wide.abs() / std::f64::consts::SQRT_2);
            let (found, density) = super::normal::<false>(x);
            let want = if x < 0.0 { half } else { 1.0 - half };
            assert!((f64::from(found) - want).abs() < 3e-7, "normal({x}) = {found}, not {want}");
            assert!(
                want < 1e-36 || (f64::from(found) / want - 1.0).abs() < 1e-5,
                "normal({x}) = {found}, not {want}"
            );
            let bell = (-0.5 * wide * wide).exp() / std::f64::consts::TAU.sqrt();
            assert!((f64::from(density) - bell).abs() < 2e-7, "density at {x}");
        }
    }

    #[test]
    fn the_factor_of_mish() {
        for i in -20_000..=20_000 {
            let x = i as f32 * 0.005;
            let wide = f64::from(x);
            let t = (wide.max(0.0) + (-wide.abs()).exp().ln_1p()).tanh();
            let slope = (1.0 - t * t) / (1.0 + (-wide).exp());
            let (value, found) = super::tanh_softplus::<false>(x);
            assert!((f64::from(value) - t).abs() < 5e-7 && (f64::from(found) - slope).abs() < 5e-7, "{x}");
        }
    }

    #[test]
    fn close_to_f64() {
        for i in -20_000..20_000 {
            let x = i as f32 * 0.005;
            let e = super::exp::<false>(x) as f64;
            let want = (x as f64).exp();
            if (-87.0..88.7).contains(&x) {
                assert!(((e - want) / want).abs() < 3e-7, "exp({x}) = {e}, not {want}");
            }
            let t = super::tanh::<false>(x) as f64;
            assert!((t - (x as f64).tanh()).abs() < 2e-7, "tanh({x}) = {t}");
            let s = super::sigmoid::<false>(x) as f64;
            assert!((s - 1.0 / (1.0 + (-x as f64).exp())).abs() < 2e-7, "sigmoid({x})");
        }
        assert_eq!(super::erf::<false>(f32::INFINITY), 1.0);
        assert!(super::erf::<false>(f32::NAN).is_nan() && super::normal::<false>(f32::NAN).0.is_nan());
        assert!(super::tanh_softplus::<false>(f32::NAN).0.is_nan());
        assert!(super::exp::<false>(f32::NAN).is_nan());
        assert_eq!(super::exp::<false>(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp::<false>(f32::NEG_INFINITY), 0.0);
        assert!(super::tanh::<false>(f32::NAN).is_nan());
    }
}
