//! Steps on shares of a batch: the gradients of the whole batch, and the same parameters everywhere.

use std::ops::Range;

use slq_engine::{BatchNormMode, CpuExecutor, EngineOptions, Executor, Share, StepSettings, Target};
use slq_graph::Graph;
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
        executor.accumulate(images, labels).unwrap();
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

#[test]
fn gradients_of_shares_add_up_to_those_of_the_batch() {
    for name in ["lenet", "resnet20"] {
        let graph = slq_zoo::build(name, 1).unwrap();
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
