//! The published program's faults, one test each that shows its absence here (docs/caffe.md).

use slq_codebook::{lloyd_from, published_ladder};
use slq_compress::{
    CompressError, Length, Method, Outcome, Quantize, Recipe, RunOptions, Silent, SlqSettings, TrainingData,
    evaluate, run,
};
use slq_data::{Dataset, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Executor, LearningRate};
use slq_graph::Graph;

fn data() -> TrainingData {
    let sample = Dataset::named("mnist-10k").unwrap();
    let (train, test) = (sample.train.subset("::20").unwrap(), sample.test.subset("::20").unwrap());
    TrainingData { train, validation: None, test, transform: Transform::default(), following: None }
}

/// The published 17 values.
fn settings(iterations: u64, schedule: Option<Vec<usize>>) -> Quantize {
    let method = Method::Slq(SlqSettings { schedule, ..SlqSettings::default() });
    let quantize = Quantize { codebook_size: Some(17), ..Quantize::new(method, 5) };
    quantize.training(|t| {
        (t.length, t.learning_rate) = (Length::Iterations(iterations), 0.01);
        (t.lr_policy, t.batch) = (LearningRate::Fixed, 16);
    })
}

fn compress(graph: Graph, settings: &Quantize) -> Result<Outcome, CompressError> {
    let data = data();
    run(graph, Some(&data), &Recipe::new(settings.clone()), RunOptions::default(), &mut Silent)
}

fn lenet() -> Graph {
    slq_zoo::build("lenet", 3).unwrap()
}

fn values<'a>(graph: &'a Graph, name: &str) -> &'a [f32] {
    graph.weights[name].tensor.as_f32().unwrap()
}

#[test]
fn biases_are_trained_even_when_every_weight_is_fixed() {
    let graph = lenet();
    let done = compress(graph.clone(), &settings(3, Some(vec![17]))).unwrap();
    let biases = graph.weights.keys().filter(|name| name.ends_with("bias"));
    let mut count = 0;
    for name in biases {
        assert_ne!(values(&graph, name), values(&done.graph, name), "{name} did not move");
        count += 1;
    }
    assert_eq!(count, 4);
    let fixed = |w: &slq_graph::Weight| w.palette.as_ref().is_some_and(|p| p.fixed().iter().all(|&f| f));
    assert_eq!(done.graph.weights.values().filter(|w| fixed(w)).count(), 4);
}

#[test]
fn loading_and_evaluating_a_model_changes_no_weight() {
    let dir = tempfile::tempdir().unwrap();
    let data = data();
    let done = compress(lenet(), &settings(2, None)).unwrap();
    let path = dir.path().join("model.safetensors");
    slq_safetensors::write(&done.graph, &path).unwrap();
    let mut graph = lenet();
    for _ in 0..2 {
        slq_safetensors::read_into(&mut graph, &path).unwrap();
        let mut executor = CpuExecutor::new(&graph, 16, &EngineOptions::default()).unwrap();
        evaluate(&mut executor, &data.test, &data.transform, 16).unwrap();
        executor.store_parameters(&mut graph).unwrap();
        for (name, weight) in &done.graph.weights {
            assert_eq!(weight.tensor, graph.weights[name].tensor, "{name}");
            assert_eq!(weight.palette, graph.weights[name].palette, "{name}");
        }
    }
}

#[test]
fn the_ladder_begins_at_exact_powers_of_two() {
    for exponent in -126..=127 {
        let power = 2f32.powi(exponent);
        assert_eq!(published_ladder(&[-power], 3)[1], power, "2^{exponent}");
        let below = f32::from_bits(power.to_bits() - 1);
        if exponent > -126 {
            assert_eq!(published_ladder(&[below], 3)[1], power / 2.0, "just below 2^{exponent}");
        }
    }
}

#[test]
fn centroids_of_large_layers_are_exact_means() {
    let weights: Vec<f32> = (0..1 << 24).map(|i| 0.1 + (i % 7) as f32 * 1e-4).collect();
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
    let single = f64::from(weights.iter().sum::<f32>()) / weights.len() as f64;
    assert!((single - mean).abs() > 1e-3 * mean, "a sum in float32 would do: {single} {mean}");
    let found = lloyd_from::<u8>(&weights, &[0.0, 0.0625], &[true, false], 10).unwrap();
    assert!((f64::from(found.codebook[1]) - mean).abs() < 1e-7, "{} {mean}", found.codebook[1]);
}

#[test]
fn a_weight_that_is_no_number_is_an_error() {
    for settings in [settings(1, None), Quantize::kmeans(4)] {
        let mut graph = lenet();
        let name = graph.quantizable()[1].weight.clone();
        graph.weights[&name].tensor.as_f32_mut().unwrap()[17] = f32::NAN;
        let error = compress(graph, &settings).map(|o| o.report).expect_err("a NaN went through");
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn batch_norm_is_never_quantized() {
    let graph = slq_zoo::build("resnet20", 0).unwrap();
    let compressed = |correction: bool| {
        let recipe = Recipe::new(Quantize { correction, ..Quantize::kmeans(2) });
        run(graph.clone(), None, &recipe, RunOptions::default(), &mut Silent).unwrap().graph
    };
    let (plain, corrected) = (compressed(false), compressed(true));
    let mut seen = 0;
    for node in graph.nodes.iter().filter(|n| n.op == "BatchNormalization") {
        for (part, name) in node.inputs.iter().enumerate().skip(1) {
            assert!(
                plain.weights[name].palette.is_none() && corrected.weights[name].palette.is_none(),
                "{name}"
            );
            assert_eq!(values(&graph, name), values(&plain, name), "{name}");
            // Means and variances may follow what sharing shifts; scales and biases have no reason to move.
            assert!(part >= 3 || values(&graph, name) == values(&corrected, name), "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 4 * 19, "{seen}");
}

#[test]
fn one_call_goes_through_all_rounds() {
    let done = compress(lenet(), &settings(2, None)).unwrap();
    let fixed: Vec<f64> = done.report.rounds.iter().map(|r| r.fixed_fraction).collect();
    assert_eq!(fixed.len(), 5);
    assert!(fixed.is_sorted() && fixed[0] > 0.0 && fixed[4] == 1.0, "{fixed:?}");
}

#[test]
fn a_missing_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let data = data();
    let options = RunOptions { run_dir: Some(dir.path()), ..RunOptions::default() };
    let recipe = Recipe::new(settings(1, None));
    let go = || run(lenet(), Some(&data), &recipe, options, &mut Silent);
    go().unwrap();
    std::fs::remove_file(dir.path().join("1-quantize/round-5.safetensors")).unwrap();
    let outcome = go();
    let error = outcome.map(|o| o.report).expect_err("other values were taken");
    assert!(error.to_string().contains("round-5.safetensors"), "{error}");
}
