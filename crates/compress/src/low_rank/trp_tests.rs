//! Training at low rank, on a small network and synthetic images.

use slq_data::Split;
use slq_graph::Graph;
use slq_lowrank::{RankRule, Svd};

use super::*;
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::Silent;
use crate::train::{Length, TrainingData, TrainingSettings};

/// Images of four classes: a bright quarter on noise.
fn data() -> TrainingData {
    let split = |count: usize, mut state: u32| {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8 / 2
        };
        let mut pixels = Vec::new();
        for image in 0..count {
            for at in 0..28 * 28 {
                let quarter = usize::from(at / 28 >= 14) * 2 + usize::from(at % 28 >= 14);
                pixels.push(next() + if quarter == image % 4 { 120 } else { 0 });
            }
        }
        let labels = (0..count).map(|i| (i % 4) as u32).collect();
        Split::from_bytes(pixels, labels, [1, 28, 28]).unwrap()
    };
    TrainingData {
        train: split(64, 1),
        validation: None,
        test: split(32, 2),
        transform: Default::default(),
        following: None,
    }
}

fn training(iterations: u64) -> TrainingSettings {
    TrainingSettings {
        length: Length::Iterations(iterations),
        learning_rate: 0.02,
        batch: 16,
        ..TrainingSettings::default()
    }
}

fn settings(ranks: RankChoice, trp: TrpSettings) -> Decompose {
    Decompose { trp: Some(trp), ..Decompose::new(Scheme::Spatial, ranks) }
}

fn lenet() -> Graph {
    slq_zoo::build("lenet", 0).unwrap()
}

fn context(data: Option<&TrainingData>) -> Context<'_> {
    Context { data, ..Context::bare() }
}

fn run(settings: &Decompose) -> Decomposed {
    decompose(lenet(), settings, context(Some(&data())), Keepers::default(), &mut Silent).unwrap()
}

#[test]
fn the_split_after_training_under_a_budget_loses_nothing() {
    for ranks in [RankChoice::Macs(1.8), RankChoice::Rule(RankRule::Rank(12))] {
        let trp = TrpSettings { period: 3, training: training(20), ..TrpSettings::default() };
        let report = run(&settings(ranks, trp)).report;
        let done = report.trp.unwrap();
        // Every third step of twenty, and the last.
        assert_eq!((done.iterations, done.truncations, done.failures), (20, 7, 0));
        assert!(done.svd_seconds > 0.0 && done.svd_share < 1.0);
        let (trained, split) = (done.trained, report.final_accuracy.unwrap());
        assert!((trained.loss - split.loss).abs() < 1e-4 * trained.loss, "{trained:?} {split:?}");
        assert!(report.layers[0].error < 1e-9, "{:?}", report.layers);
        if let RankChoice::Macs(ratio) = ranks {
            assert!(report.flops.ratio >= ratio, "{:?}", report.flops);
        }
    }
}

#[test]
fn training_at_low_rank_learns() {
    let trp = TrpSettings { period: 2, training: training(40), ..TrpSettings::default() };
    let report = run(&settings(RankChoice::Macs(2.0), trp)).report;
    let (before, after) = (report.baseline.unwrap(), report.final_accuracy.unwrap());
    assert!(after.loss < 0.5 * before.loss && after.top1 > 0.9, "{before:?} {after:?}");
}

#[test]
fn threads_and_repetition_change_no_bit() {
    let trp = TrpSettings { period: 2, training: training(6), ..TrpSettings::default() };
    let mut settings = settings(RankChoice::Macs(1.8), trp);
    settings.fine_tune = Some(training(3));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&settings).graph)
    };
    assert!(with(1) == with(3));
}

/// The singular values of LeNet's second convolution after training with `trp`.
fn trained_spectrum(trp: TrpSettings) -> Vec<f64> {
    let settings = Decompose { force: true, ..settings(RankChoice::Rule(RankRule::Energy(1.0)), trp) };
    // Forced and split without loss: the factors' product has the trained weight's singular values.
    let done = run(&settings);
    let weight = |name: &str| {
        let tensor = &done.graph.weights[name].tensor;
        (tensor.shape().to_vec(), tensor.as_f32().unwrap().to_vec())
    };
    let (a, vertical) = weight("conv2.vertical.weight");
    let (b, horizontal) = weight("conv2.horizontal.weight");
    let (rank, rows, kw) = (a[0], a[1] * a[2], b[3]);
    let cols = b[0] * kw;
    let entry = |row: usize, col: usize| {
        (0..rank)
            .map(|k| vertical[k * rows + row] * horizontal[(col / kw * rank + k) * kw + col % kw])
            .sum::<f32>()
    };
    let product: Vec<f32> = (0..rows * cols).map(|at| entry(at / cols, at % cols)).collect();
    Svd::exact(&product, rows, cols).unwrap().singular_values().to_vec()
}

#[test]
fn the_nuclear_norm_pulls_singular_values_down() {
    let trp = |weight: f64, energy: f64| TrpSettings {
        period: 1,
        energy,
        nuclear_weight: weight,
        training: training(5),
        ..TrpSettings::default()
    };
    let sum = |s: &[f64]| s.iter().sum::<f64>();
    let (free, pulled) = (trained_spectrum(trp(0.0, 1.0)), trained_spectrum(trp(0.05, 1.0)));
    // 5 steps at rates around 0.01 and momentum 0.9: each singular value is lowered by some 0.025 in all.
    assert!(sum(&pulled) < sum(&free) - 0.5, "{} {}", sum(&pulled), sum(&free));
    let rank = |s: &[f64]| RankRule::Energy(1.0).rank(s, s.len());
    let truncated = trained_spectrum(trp(0.0, 0.9));
    assert!(rank(&truncated) < rank(&free), "{} {}", rank(&truncated), rank(&free));
}

#[test]
fn fine_tuning_improves_a_plain_split() {
    let mut settings = Decompose::new(Scheme::Channel, RankChoice::Rule(RankRule::Rank(4)));
    settings.fine_tune = Some(training(30));
    let report = run(&settings).report;
    let tuned = report.fine_tune.unwrap();
    assert_eq!(tuned.iterations, 30);
    assert!(report.final_accuracy.unwrap().loss < tuned.before.loss, "{tuned:?}");
}

#[test]
fn training_without_data_is_refused() {
    let settings = settings(RankChoice::Macs(1.5), TrpSettings::default());
    let error = decompose(lenet(), &settings, context(None), Keepers::default(), &mut Silent).unwrap_err();
    assert!(matches!(error, CompressError::NoData));
}

#[test]
fn steps_of_several_batches_do_not_lengthen_the_training() {
    let trp = |iter_size: usize| {
        let training =
            TrainingSettings { length: Length::Epochs(2.0), batch: 8 / iter_size, iter_size, ..training(0) };
        let trp = TrpSettings { training: training.clone(), ..TrpSettings::default() };
        let ranks = RankChoice::Rule(RankRule::Rate(0.5));
        run(&Decompose { fine_tune: Some(training), ..settings(ranks, trp) }).report
    };
    // Two epochs of 64 images, eight in a step, however many batches a step has.
    for report in [trp(1), trp(4)] {
        assert_eq!(report.trp.unwrap().iterations, 16);
        assert_eq!(report.fine_tune.unwrap().iterations, 16);
    }
}
