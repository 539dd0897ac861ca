//! Steps on shares of a batch: the gradients of the whole batch, and the same parameters everywhere.

use std::ops::Range;

use slq_engine::{
    BatchNormMode, CpuExecutor, EngineError, EngineOptions, Executor, Share, StepSettings, Target,
};
use slq_graph::{DType, Dim, Graph, Node, Tensor, ValueInfo};
use slq_reduce::{Reducer, threads};

const BATCH: usize = 7;

fn images(values: usize) -> (Vec<f32>, Vec<u32>) {
    let pixel = |i: usize| ((i * 7919 + i / 13 * 31) % 255) as f32 / 255.0 - 0.4;
    ((0..BATCH * values).map(pixel).collect(), (0..BATCH as u32).map(|i| i % 10).collect())
}

fn executor(graph: &Graph, batch_norm: BatchNormMode) -> CpuExecutor {
    CpuExecutor::new(graph, BATCH, &EngineOptions { batch_norm, ..EngineOptions::default() }).unwrap()
}

/// The gradients and the parameters after some steps of several batches each.
type Outcome = (Vec<Vec<f32>>, Graph);

fn steps(
    graph: &Graph,
    mut executor: CpuExecutor,
    share: Share<'_>,
    part: Range<usize>,
    count: usize,
) -> Outcome {
    let size: usize = executor.image_shape().iter().product();
    let (images, labels) = images(size);
    let (images, labels) = (&images[part.start * size..part.end * size], Target::Labels(&labels[part]));
    let settings =
        StepSettings { learning_rate: 0.02, momentum: 0.9, iter_size: 2, ..StepSettings::default() };
    for _ in 0..count {
        executor.accumulate_share(images, labels, share).unwrap();
        executor.train_share(images, labels, &settings, share).unwrap();
    }
    let mut after = graph.clone();
    executor.store_parameters(&mut after).unwrap();
    let gradient = |name: &String| executor.gradient(name).map(<[f32]>::to_vec).ok();
    (graph.weights.keys().filter_map(gradient).collect(), after)
}

fn shared(graph: &Graph, mode: BatchNormMode, size: usize, count: usize) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let rank = |reducer: slq_reduce::Background| {
            let rank = reducer.rank();
            let part = BATCH * rank / size..BATCH * (rank + 1) / size;
            let share = Share { reducer: &reducer, weight: part.len() as f32 / BATCH as f32 };
            steps(graph, executor(graph, mode), share, part, count)
        };
        let ranks: Vec<_> = threads(size).into_iter().map(|r| scope.spawn(move || rank(r))).collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

fn bits(outcome: &Outcome) -> Vec<u32> {
    let weights = outcome.1.weights.values().flat_map(|w| w.tensor.as_f32().unwrap_or_default());
    outcome.0.iter().flatten().chain(weights).map(|v| v.to_bits()).collect()
}

/// A layer whose gradient travels alone, between two whose gradients travel together.
fn wide() -> Graph {
    let info = |name: &str, len: usize| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(vec![Dim::Symbol("N".into()), Dim::Known(len)]),
    };
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    graph.inputs.push(info("x", 64));
    graph.outputs.push(info("y", 10));
    for (from, to, [rows, columns]) in
        [("x", "a", [64, 1100]), ("a", "b", [1100, 1000]), ("b", "y", [1000, 10])]
    {
        let value = |i: usize| ((i * 7919 + i / 17) % 211) as f32 / 4000.0 - 0.02;
        let weight = Tensor::f32(vec![rows, columns], (0..rows * columns).map(value).collect());
        let name = format!("{to}.weight");
        graph.nodes.push(Node::new(to, "Gemm", &[from, &name], &[to]));
        graph.weights.insert(name, weight.unwrap().into());
    }
    graph
}

#[test]
fn gradients_of_shares_add_up_to_those_of_the_batch() {
    for (name, graph) in [
        ("lenet", slq_zoo::build("lenet", 1).unwrap()),
        ("resnet20", slq_zoo::build("resnet20", 1).unwrap()),
        ("wide", wide()),
    ] {
        // Batch statistics of a share differ from those of the batch: only running ones can be compared.
        let mode = BatchNormMode::Frozen;
        let (whole, _) = steps(&graph, executor(&graph, mode), Share::whole(), 0..BATCH, 1);
        for size in [2, 3] {
            let all = shared(&graph, mode, size, 1);
            assert!(all.iter().all(|rank| bits(rank) == bits(&all[0])), "{name}: ranks differ");
            assert_eq!(all[0].0.len(), whole.len());
            for (ours, theirs) in all[0].0.iter().zip(&whole) {
                let largest = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let error = ours.iter().zip(theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(error <= 2e-5 * largest, "{name}, {size} ranks: {error} of {largest}");
            }
        }
    }
}

/// The largest difference of two lists of tensors, relative to the largest value of each tensor.
fn error(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).fold(0.0f32, |most, (ours, theirs)| {
        let largest = theirs.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
        let apart = ours.iter().zip(theirs).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        most.max(apart / largest)
    })
}

/// The parameters whose names hold one of `words`.
fn parameters(outcome: &Outcome, words: &[&str]) -> Vec<Vec<f32>> {
    let named = outcome.1.weights.iter().filter(|(name, _)| words.iter().any(|w| name.contains(w)));
    named.filter_map(|(_, w)| w.tensor.as_f32()).map(<[f32]>::to_vec).collect()
}

/// Shares that normalise by the statistics of all of them are the batch in one executor, also where they differ in size; those
/// that do not are something else.
#[test]
fn shares_with_synchronised_batch_norm_are_the_batch() {
    let relu = slq_zoo::build("resnet20", 4).unwrap();
    // At the kink of a ReLU one rounded bit decides over a whole gradient: only those of a smooth network can be compared.
    let mut smooth = relu.clone();
    smooth.nodes.iter_mut().filter(|n| n.op == "Relu").for_each(|n| n.op = "Tanh".into());
    for (graph, gradients) in [(relu, false), (smooth, true)] {
        let mode = BatchNormMode::Sync;
        let whole = steps(&graph, executor(&graph, BatchNormMode::Train), Share::whole(), 0..BATCH, 1);
        let alone = steps(&graph, executor(&graph, mode), Share::whole(), 0..BATCH, 1);
        assert!(bits(&whole) == bits(&alone), "one process is itself");
        let errors = |found: &Outcome| {
            let statistics = ["running_mean", "running_var"];
            let statistics = error(&parameters(found, &statistics), &parameters(&whole, &statistics));
            [statistics, if gradients { error(&found.0, &whole.0) } else { 0.0 }]
        };
        for size in [2, 3] {
            let all = shared(&graph, mode, size, 1);
            assert!(all.iter().all(|rank| bits(rank) == bits(&all[0])), "ranks differ");
            assert!(bits(&all[0]) == bits(&shared(&graph, mode, size, 1)[1]), "on repetition");
            let found = errors(&all[0]);
            let apart = errors(&shared(&graph, BatchNormMode::Train, size, 1)[0]);
            println!("{size} ranks: {found:?}, each by its own statistics: {apart:?}");
            let bound = if gradients { 5e-5 } else { 2e-6 };
            assert!(found.iter().all(|e| *e <= bound), "{size} ranks: {found:?}");
            assert!(apart[0] > 1e-3, "{size} ranks, each by its own statistics: {apart:?}");
        }
    }
}

#[test]
fn an_executor_that_is_gone_is_an_error_in_the_middle_of_a_pass() {
    let graph = slq_zoo::build("resnet20", 4).unwrap();
    let found = std::thread::scope(|scope| {
        let mut ranks = threads(2).into_iter();
        let (stays, leaves) = (ranks.next().unwrap(), ranks.next().unwrap());
        scope.spawn(move || leaves.barrier().unwrap());
        scope
            .spawn(move || {
                stays.barrier().unwrap();
                let mut executor = executor(&graph, BatchNormMode::Sync);
                let (images, labels) = images(executor.image_shape().iter().product());
                let share = Share { reducer: &stays, weight: 0.5 };
                executor.train_share(&images, Target::Labels(&labels), &StepSettings::default(), share)
            })
            .join()
            .unwrap()
    });
    assert!(matches!(found, Err(EngineError::Reduce(_))), "{found:?}");
}

#[test]
fn parameters_and_running_statistics_stay_the_same_on_all_ranks_and_on_repetition() {
    let graph = slq_zoo::build("resnet20", 2).unwrap();
    let first = shared(&graph, BatchNormMode::Train, 3, 3);
    assert!(first.iter().all(|rank| bits(rank) == bits(&first[0])));
    assert_eq!(bits(&first[0]), bits(&shared(&graph, BatchNormMode::Train, 3, 3)[1]));
    let moved = |name: &str| first[0].1.weights[name].tensor != graph.weights[name].tensor;
    let statistics: Vec<_> = graph.weights.keys().filter(|n| n.contains("mean")).collect();
    assert!(!statistics.is_empty() && statistics.iter().all(|n| moved(n)), "{statistics:?}");
}

#[test]
fn one_process_computes_as_without_shares() {
    let graph = slq_zoo::build("lenet", 3).unwrap();
    let whole = steps(&graph, executor(&graph, BatchNormMode::Train), Share::whole(), 0..BATCH, 2);
    assert_eq!(bits(&shared(&graph, BatchNormMode::Train, 1, 2)[0]), bits(&whole));
}
