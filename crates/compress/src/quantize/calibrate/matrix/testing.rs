//! Numbers for tests.

use super::curvature::Curvature;

/// Repeatable values between -1 and 1.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// X X^T / N + 0.01 I for an X of n x samples.
pub(crate) fn gram(n: usize, samples: usize, seed: u64) -> Vec<f32> {
    let x = noise(n * samples, seed);
    let mut h = second_moment(&x, n);
    (0..n).for_each(|i| h[i * n + i] += 0.01);
    h
}

/// X X^T / N in double precision, rounded.
pub(crate) fn second_moment(x: &[f32], n: usize) -> Vec<f32> {
    let samples = x.len() / n;
    let row = |i: usize| &x[i * samples..][..samples];
    let dot = |i: usize, j: usize| -> f64 {
        row(i).iter().zip(row(j)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    (0..n * n).map(|at| (dot(at / n, at % n) / samples as f64) as f32).collect()
}

/// The same curvature in both forms.
pub(crate) fn both(n: usize, samples: usize, damping: f32, seed: u64) -> (Curvature, Curvature) {
    let x = noise(n * samples, seed);
    let dampings: Vec<f32> = noise(n, seed + 7).iter().map(|v| damping * (1.0 + 0.5 * v)).collect();
    let dense = Curvature::dense(second_moment(&x, n), dampings.clone());
    let scale = (samples as f32).sqrt().recip();
    let span = Curvature::span(x.iter().map(|v| v * scale).collect(), dampings);
    (dense, span)
}
