//! Tests from samples to targets and curvature.

use slq_engine::Isa;

use super::testing::{noise, second_moment};
use super::tests::eliminate;
use super::*;
use crate::error::CalibrateError;

fn isa() -> Isa {
    Isa::detect()
}

fn gathering(expected: usize) -> Gathering {
    Gathering { expected, centred: false }
}

/// Nothing estimated.
pub(super) fn fixed(strength: f64) -> TargetOptions {
    let (shrinkage, strength) = (Shrinkage::Fixed(0.0), Strength::Fixed(strength));
    TargetOptions { shrinkage, strength, ..TargetOptions::default() }
}

fn inputs(n: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let now = noise(n * count, seed);
    let float = now.iter().zip(noise(n * count, seed + 1)).map(|(a, b)| a + 0.2 * b).collect();
    (now, float)
}

/// Targets and curvature of a layer of (groups, rows, columns) from samples of two networks, in two blocks.
pub(super) fn prepare(
    (groups, rows, n): (usize, usize, usize),
    samples: usize,
    options: &TargetOptions,
) -> Prepared {
    let shape = LayerShape::new(groups, rows, n).unwrap();
    let weights = noise(rows * n, 11);
    let mut gram = Gram::new(isa(), shape, &weights, gathering(samples)).unwrap();
    for (seed, count) in [(20, samples / 3), (30, samples - samples / 3)] {
        let (now, float) = inputs(groups * n, count, seed);
        gram.add(Block { samples: count, now: &now, float: Some(&float), extra: None }).unwrap();
    }
    gram.finish(&vec![1.0; rows], options).unwrap()
}

#[test]
fn targets_solve_the_ridge_regression_in_both_forms() {
    let (rows, n) = (4, 30);
    for (samples, strength, shrinkage) in
        [(200, 1.0, 0.0), (12, 1.0, 0.0), (40, 0.5, 0.2), (12, 1.0, 0.5), (12, 0.0, 0.0)]
    {
        let options = TargetOptions { shrinkage: Shrinkage::Fixed(shrinkage), ..fixed(strength) };
        let prepared = prepare((1, rows, n), samples, &options);
        let weights = noise(rows * n, 11);
        let blocks = [inputs(n, samples / 3, 20), inputs(n, samples - samples / 3, 30)];
        let column = |which: usize, i: usize| -> Vec<f64> {
            let parts = blocks.iter().flat_map(|b| {
                let values = if which == 0 { &b.0 } else { &b.1 };
                let count = values.len() / n;
                values[i * count..][..count].iter().map(|&v| f64::from(v))
            });
            parts.collect()
        };
        let dot = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / samples as f64
        };
        let now: Vec<_> = (0..n).map(|i| column(0, i)).collect();
        let float: Vec<_> = (0..n).map(|i| column(1, i)).collect();
        let mean = (0..n).map(|i| dot(&now[i], &now[i])).sum::<f64>() / n as f64;
        let kappa = shrinkage / (1.0 - shrinkage);
        let damping = |i: usize| 0.01 * mean + 1e-8 + kappa * dot(&now[i], &now[i]);
        for r in 0..rows {
            let w: Vec<f64> = weights[r * n..][..n].iter().map(|&v| f64::from(v)).collect();
            let h = (0..n)
                .map(|i| {
                    (0..n).map(|j| dot(&now[i], &now[j]) + if i == j { damping(i) } else { 0.0 }).collect()
                })
                .collect();
            let right = (0..n)
                .map(|j| damping(j) * w[j] + (0..n).map(|i| w[i] * dot(&float[i], &now[j])).sum::<f64>())
                .collect();
            for (j, full) in eliminate(h, right).into_iter().enumerate() {
                let want = w[j] + strength * (full - w[j]);
                let got = f64::from(prepared.targets[r * n + j]);
                assert!((got - want).abs() < 2e-3, "{samples} {strength}: {got} {want}");
            }
        }
        let outputs: Vec<f64> =
            (0..samples).map(|s| (0..n).map(|i| f64::from(weights[i]) * float[i][s]).sum()).collect();
        let mean = outputs.iter().sum::<f64>() / samples as f64;
        let variance = dot(&outputs, &outputs) - mean * mean;
        assert!((prepared.float.mean[0] - mean).abs() < 1e-4);
        assert!((prepared.float.variance[0] - variance).abs() < 1e-3 * variance);
    }
}

#[test]
fn what_is_asked_beside_is_regressed_on_too() {
    // Asking for V X' beside W X' with X = X' asks for the weights W + V.
    let (rows, n) = (6, 16);
    for samples in [400, 8] {
        let shape = LayerShape::new(1, rows, n).unwrap();
        let (weights, more) = (noise(rows * n, 1), noise(rows * n, 2));
        let mut gram = Gram::new(isa(), shape, &weights, gathering(samples)).unwrap();
        let mut wanted = Vec::new();
        for seed in [3, 4] {
            let count = samples / 2;
            let x = noise(n * count, seed);
            let extra: Vec<f32> = (0..rows * count)
                .map(|at| (0..n).map(|j| more[at / count * n + j] * x[j * count + at % count]).sum())
                .collect();
            gram.add(Block { samples: count, now: &x, float: None, extra: Some(&extra) }).unwrap();
            wanted.push((x, extra));
        }
        let options = TargetOptions { damping: 1e-5, ..fixed(1.0) };
        let found = gram.finish(&[1.0; 6], &options).unwrap();
        // With few samples, only what the samples see is determined.
        for (x, extra) in wanted {
            let count = samples / 2;
            for (at, want) in extra.iter().enumerate() {
                let (r, s) = (at / count, at % count);
                let step = |j: usize| found.targets[r * n + j] - weights[r * n + j];
                let got: f32 = (0..n).map(|j| step(j) * x[j * count + s]).sum();
                assert!((got - want).abs() < 2e-2, "{samples}: {got} {want}");
            }
        }
    }
}

#[test]
fn moments_about_the_mean_do_not_see_shifts() {
    let (rows, n) = (5, 20);
    let weights = noise(rows * n, 1);
    for samples in [6, 120] {
        let shape = LayerShape::new(1, rows, n).unwrap();
        let solve = |shift: f32| {
            let (now, float) = inputs(n, samples, 3);
            let shifted = |x: Vec<f32>, by: f32| -> Vec<f32> {
                x.iter().enumerate().map(|(at, v)| v + by * (at / samples) as f32).collect()
            };
            let (now, float) = (shifted(now, shift), shifted(float, -0.5 * shift));
            let mut gram =
                Gram::new(isa(), shape, &weights, Gathering { expected: samples, centred: true }).unwrap();
            gram.add(Block { samples, now: &now, float: Some(&float), extra: None }).unwrap();
            gram.finish(&[1.0; 5], &fixed(1.0)).unwrap()
        };
        let (plain, shifted) = (solve(0.0), solve(0.7));
        let pairs = plain.targets.iter().zip(&shifted.targets);
        for (a, b) in
            pairs.chain(plain.curvatures[0].diagonal().iter().zip(&shifted.curvatures[0].diagonal()))
        {
            assert!((a - b).abs() < 1e-2, "{samples}: {a} {b}");
        }
        for (i, (a, b)) in plain.input_mean.iter().zip(&shifted.input_mean).enumerate() {
            assert!((a + 0.7 * i as f64 - b).abs() < 1e-4);
        }
    }
}

#[test]
fn equal_networks_keep_their_weights() {
    let shape = LayerShape::new(2, 4, 6).unwrap();
    let weights = noise(24, 1);
    let mut gram = Gram::new(isa(), shape, &weights, gathering(50)).unwrap();
    gram.add(Block { samples: 50, now: &noise(12 * 50, 2), float: None, extra: None }).unwrap();
    let prepared = gram.finish(&[1.0; 4], &TargetOptions::default()).unwrap();
    assert_eq!((prepared.targets, prepared.samples, prepared.unsolved_groups), (weights, 50, 0));
}

#[test]
fn dead_channels_keep_their_weights_and_do_no_harm() {
    let (rows, n, samples) = (6, 20, 300);
    let weights = noise(rows * n, 1);
    for (expected, dead_all) in [(samples, false), (4, false), (samples, true), (4, true)] {
        let shape = LayerShape::new(1, rows, n).unwrap();
        let mut gram = Gram::new(isa(), shape, &weights, gathering(expected)).unwrap();
        let (mut now, mut float) = inputs(n, expected, 3);
        for dead in (0..n).filter(|i| dead_all || i % 3 == 0) {
            now[dead * expected..][..expected].fill(0.0);
            float[dead * expected..][..expected].fill(0.0);
        }
        gram.add(Block { samples: expected, now: &now, float: Some(&float), extra: None }).unwrap();
        let row_weights = vec![1.0; rows];
        let prepared = gram.finish(&row_weights, &TargetOptions::default()).unwrap();
        for at in (0..rows * n).filter(|at| dead_all || at % n % 3 == 0) {
            assert!((prepared.targets[at] - weights[at]).abs() < 1e-5, "{expected} {dead_all}");
        }
        for books in [Books::Tensor, Books::Rows(1), Books::Inputs(5)] {
            let problem = Problem {
                targets: &prepared.targets,
                curvatures: &prepared.curvatures,
                row_weights: &row_weights,
                books,
                size: 4,
            };
            let found = quantize(isa(), &problem, &SolveOptions::default()).unwrap();
            assert!(found.codebooks.iter().all(|v| v.is_finite() && v.abs() <= 4.0), "{found:?}");
        }
    }
}

#[test]
fn gathered_moments_are_those_of_the_samples() {
    let (n, samples) = (300, 90);
    let weights = noise(n, 1);
    let shape = LayerShape::new(1, 1, n).unwrap();
    let x = noise(n * samples, 2);
    let mut gram = Gram::new(isa(), shape, &weights, gathering(10_000)).unwrap();
    gram.add(Block { samples, now: &x, float: None, extra: None }).unwrap();
    let prepared = gram.finish(&[1.0], &TargetOptions { damping: 1e-6, ..fixed(1.0) }).unwrap();
    let (got, want) = (prepared.curvatures[0].block(isa(), 0..n), second_moment(&x, n));
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
    let mean = x[..samples].iter().sum::<f32>() / samples as f32;
    assert!((prepared.input_mean[0] - f64::from(mean)).abs() < 1e-5);
}

/// Blocks of inputs that share `common` signals, mixed the same way in every block.
fn correlated(n: usize, common: usize, samples: usize, seed: u64) -> Vec<f32> {
    let (mix, signals) = (noise(n * common, 1), noise(common * samples, seed));
    let own = noise(n * samples, seed + 1);
    let value = |at: usize| -> f32 {
        let (i, s) = (at / samples, at % samples);
        (0..common).map(|c| mix[i * common + c] * signals[c * samples + s]).sum()
    };
    (0..n * samples).map(|at| value(at) + 0.3 * own[at]).collect()
}

#[test]
fn shrinkage_is_large_for_chance_and_small_for_what_repeats() {
    let (n, weights) = (40, noise(40, 5));
    let shape = LayerShape::new(1, 1, n).unwrap();
    for expected in [4_000, 16] {
        let estimate = |block: &dyn Fn(u64) -> Vec<f32>, samples: usize| {
            let mut gram = Gram::new(isa(), shape, &weights, gathering(expected)).unwrap();
            for seed in 0..4 {
                gram.add(Block { samples, now: &block(100 + 10 * seed), float: None, extra: None }).unwrap();
            }
            gram.finish(&[1.0], &TargetOptions::default()).unwrap().shrinkage
        };
        let samples = expected / 4;
        let independent = estimate(&|seed| noise(n * samples, seed), samples);
        let repeated = estimate(&|seed| correlated(n, 2, samples, seed), samples);
        // Independent inputs have no correlations but by chance.
        assert!(independent > 0.8, "{expected}: {independent}");
        assert!(repeated < if expected > 1000 { 0.01 } else { 0.3 }, "{expected}: {repeated}");
    }
}

#[test]
fn strength_follows_what_holds_on_the_other_half() {
    let (rows, n) = (8, 30);
    let weights = noise(rows * n, 11);
    let shape = LayerShape::new(1, rows, n).unwrap();
    for samples in [150, 3] {
        let estimate = |extra_of: &dyn Fn(&[f32], u64) -> Vec<f32>| {
            let mut gram = Gram::new(isa(), shape, &weights, gathering(4 * samples)).unwrap();
            for seed in 0..4 {
                let now = noise(n * samples, 70 + seed);
                let extra = extra_of(&now, seed);
                gram.add(Block { samples, now: &now, float: None, extra: Some(&extra) }).unwrap();
            }
            let options = TargetOptions { strength: Strength::Validated, ..fixed(1.0) };
            gram.finish(&[1.0; 8], &options).unwrap().strength
        };
        // What the inputs determine is followed in full; noise is not.
        let determined = estimate(&|x, _| {
            let more = noise(rows * n, 12);
            let at = |at: usize| (at / samples, at % samples);
            (0..rows * samples)
                .map(|i| (0..n).map(|j| more[at(i).0 * n + j] * x[j * samples + at(i).1]).sum())
                .collect()
        });
        let chance = estimate(&|_, seed| noise(rows * samples, 500 + seed));
        assert!(determined > if samples > 100 { 0.95 } else { 0.3 }, "{samples}: {determined}");
        assert!(chance < 0.2, "{samples}: {chance}");
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    use CalibrateError as E;
    let weights = [1.0; 6];
    let shape = LayerShape::new(1, 1, 6).unwrap();
    let mut gram = Gram::new(isa(), shape, &weights, gathering(5)).unwrap();
    let block = Block { samples: 1, now: &[0.0; 6], float: None, extra: None };
    assert!(matches!(gram.add(Block { now: &[f32::NAN; 6], ..block }), Err(E::NotFinite { .. })));
    assert!(matches!(
        gram.add(Block { float: Some(&[f32::INFINITY; 6]), ..block }),
        Err(E::NotFinite { .. })
    ));
    assert!(matches!(gram.add(Block { now: &[0.0; 5], ..block }), Err(E::Length { .. })));
    assert!(matches!(gram.add(Block { extra: Some(&[0.0; 2]), ..block }), Err(E::Length { .. })));
    assert!(matches!(gram.finish(&[1.0], &TargetOptions::default()), Err(E::NoSamples)));
    assert!(matches!(LayerShape::new(2, 3, 4), Err(E::Shape { .. })));
    assert!(matches!(Gram::new(isa(), shape, &[1.0; 5], gathering(5)), Err(E::Length { .. })));
    let wrong = TargetOptions { damping: 0.0, ..TargetOptions::default() };
    assert!(matches!(wrong.check(), Err(E::Setting { name: "damping", .. })));
}
