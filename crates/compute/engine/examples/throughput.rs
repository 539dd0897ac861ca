//! Images per second of training steps and of forward passes, for a few networks on random data.
//!
//! `cargo run --release -p slq-engine --example throughput -- [network] [batch] [threads]`; networks are named as
//! in the zoo. Without arguments LeNet in batches of 64 and ResNet-20 in batches of 128, on all cores.

use std::time::Instant;

use slq_engine::{CpuExecutor, EngineOptions, Executor, StepSettings, Target};
use slq_graph::Graph;

/// Values of about the right size for weights and images; a fixed sequence.
fn noise(len: usize, scale: f32) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1Du64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
    };
    (0..len).map(|_| next()).collect()
}

/// Median of the seconds that `f` takes, over at least 5 runs and about `budget` seconds.
fn seconds(budget: f64, mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    let mut all = Vec::new();
    while all.len() < 5 || start.elapsed().as_secs_f64() < budget {
        let from = Instant::now();
        f();
        all.push(from.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn measure(name: &str, graph: &Graph, batch: usize) -> Result<(), slq_engine::EngineError> {
    let options = EngineOptions::default();
    let mut executor = CpuExecutor::new(graph, batch, &options)?;
    let images = noise(batch * executor.image_shape().iter().product::<usize>(), 1.0);
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    let settings = StepSettings { learning_rate: 1e-4, ..StepSettings::default() };
    let mut failed = None;
    let train = seconds(3.0, || {
        let result = executor.train_step(&images, Target::Labels(&labels), &settings);
        failed = failed.take().or(result.err());
    });
    let forward = seconds(2.0, || {
        let result = executor.evaluate(&images, Some(Target::Labels(&labels)));
        failed = failed.take().or(result.err());
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let rate = |s: f64| batch as f64 / s;
    println!(
        "{name} batch {batch} on {} threads ({}): train {:.0} images/s, forward {:.0} images/s, {:.1} MB",
        rayon::current_num_threads(),
        options.isa,
        rate(train),
        rate(forward),
        executor.peak_bytes() as f64 / 1e6
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(threads) = arguments.get(2) {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    let default = vec![("lenet", 64), ("resnet20", 128)];
    let batch = arguments.get(1).map_or(Ok(16), |b| b.parse())?;
    for (name, batch) in arguments.first().map_or(default, |name| vec![(name.as_str(), batch)]) {
        measure(name, &slq_zoo::build(name, 0)?, batch)?;
    }
    Ok(())
}
