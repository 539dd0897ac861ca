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

#[cfg(test)]
mod tests {
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
        assert!(super::exp::<false>(f32::NAN).is_nan());
        assert_eq!(super::exp::<false>(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp::<false>(f32::NEG_INFINITY), 0.0);
        assert!(super::tanh::<false>(f32::NAN).is_nan());
    }
}
