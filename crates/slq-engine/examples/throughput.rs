//! Images per second of training steps and of forward passes, for a few networks on random data.
//!
//! `cargo run --release -p slq-engine --example throughput -- [network] [batch] [threads]`; without arguments
//! LeNet in batches of 64 and ResNet-20 in batches of 128, on all cores.

use std::time::Instant;

use slq_engine::{CpuExecutor, EngineOptions, Executor, StepSettings, Target};
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};

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

/// Builds a network node by node; each method returns the name of what it writes.
#[derive(Default)]
struct Builder {
    graph: Graph,
    count: usize,
}

impl Builder {
    fn add(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.count += 1;
        let name = format!("{op}_{}", self.count);
        let node = Node::new(&name, op, inputs, &[&name]);
        let node = attributes.iter().fold(node, |n, (k, v)| n.with(k, v.clone()));
        self.graph.nodes.push(node);
        name
    }

    fn weight(&mut self, shape: &[usize], fan_in: usize) -> String {
        let name = format!("weight_{}", self.graph.weights.len());
        let values = noise(shape.iter().product(), (6.0 / fan_in as f32).sqrt());
        self.constant(&name, shape, values)
    }

    fn constant(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> String {
        let tensor = Tensor::f32(shape.to_vec(), values).expect("shape and values are made together");
        self.graph.weights.insert(name.into(), tensor.into());
        name.into()
    }

    #[allow(clippy::too_many_arguments)]
    fn conv(
        &mut self,
        x: &str,
        c: usize,
        out: usize,
        k: usize,
        stride: i64,
        pad: i64,
        group: usize,
        bias: bool,
    ) -> String {
        let fan_in = c / group * k * k;
        let w = self.weight(&[out, c / group, k, k], fan_in);
        let ints = |v: &[i64]| Attribute::Ints(v.to_vec());
        let attributes = [
            ("kernel_shape", ints(&[k as i64; 2])),
            ("strides", ints(&[stride; 2])),
            ("pads", ints(&[pad; 4])),
            ("group", Attribute::Int(group as i64)),
        ];
        if bias {
            let b = self.weight(&[out], 100);
            self.add("Conv", &[x, &w, &b], &attributes)
        } else {
            self.add("Conv", &[x, &w], &attributes)
        }
    }

    fn norm(&mut self, x: &str, c: usize) -> String {
        let names = ["scale", "bias", "mean", "var"].map(|n| format!("{n}_{}", self.count));
        for (name, value) in names.iter().zip([1.0, 0.0, 0.0, 1.0]) {
            self.constant(name, &[c], vec![value; c]);
        }
        self.add("BatchNormalization", &[x, &names[0], &names[1], &names[2], &names[3]], &[])
    }

    fn relu(&mut self, x: &str) -> String {
        self.add("Relu", &[x], &[])
    }

    fn pool(&mut self, x: &str, k: i64, stride: i64) -> String {
        let ints = |v: i64| Attribute::Ints(vec![v; 2]);
        self.add("MaxPool", &[x], &[("kernel_shape", ints(k)), ("strides", ints(stride))])
    }

    fn linear(&mut self, x: &str, from: usize, to: usize) -> String {
        let (w, b) = (self.weight(&[to, from], from), self.weight(&[to], 100));
        self.add("Gemm", &[x, &w, &b], &[("transB", Attribute::Int(1))])
    }

    fn finish(mut self, image: &[usize], output: &str) -> Graph {
        self.graph.metadata.opset = 11;
        let mut shape = vec![Dim::Symbol("N".into())];
        shape.extend(image.iter().map(|&d| Dim::Known(d)));
        self.graph.inputs.push(ValueInfo { name: "image".into(), dtype: DType::F32, shape: Some(shape) });
        self.graph.outputs.push(ValueInfo { name: output.into(), dtype: DType::F32, shape: None });
        self.graph
    }
}

fn lenet() -> Graph {
    let mut b = Builder::default();
    let x = b.conv("image", 1, 20, 5, 1, 0, 1, true);
    let x = b.pool(&x, 2, 2);
    let x = b.conv(&x, 20, 50, 5, 1, 0, 1, true);
    let x = b.pool(&x, 2, 2);
    let x = b.add("Flatten", &[&x], &[]);
    let x = b.linear(&x, 800, 500);
    let x = b.relu(&x);
    let x = b.linear(&x, 500, 10);
    b.finish(&[1, 28, 28], &x)
}

/// The CIFAR network of He et al., section 4.2, with the parameter-free shortcut.
fn resnet20() -> Graph {
    let mut b = Builder::default();
    let x = b.conv("image", 3, 16, 3, 1, 1, 1, false);
    let x = b.norm(&x, 16);
    let mut x = b.relu(&x);
    let mut c = 16;
    for (stage, out) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..3 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = b.conv(&x, c, out, 3, stride, 1, 1, false);
            let y = b.norm(&y, out);
            let y = b.relu(&y);
            let y = b.conv(&y, out, out, 3, 1, 1, 1, false);
            let y = b.norm(&y, out);
            if stride == 2 {
                for (name, values) in [
                    ("starts", vec![0, 0]),
                    ("ends", vec![i64::MAX; 2]),
                    ("axes", vec![2, 3]),
                    ("steps", vec![2, 2]),
                ] {
                    b.graph.weights.insert(name.into(), Tensor::i64_vector(values).into());
                }
                x = b.add("Slice", &[&x, "starts", "ends", "axes", "steps"], &[]);
                let grow = (out - c) as i64 / 2;
                let pads = format!("pads_{out}");
                let values = vec![0, grow, 0, 0, 0, grow, 0, 0];
                b.graph.weights.insert(pads.clone(), Tensor::i64_vector(values).into());
                x = b.add("Pad", &[&x, &pads], &[]);
            }
            let sum = b.add("Add", &[&y, &x], &[]);
            x = b.relu(&sum);
            c = out;
        }
    }
    let x = b.add("GlobalAveragePool", &[&x], &[]);
    let x = b.add("Flatten", &[&x], &[]);
    let x = b.linear(&x, 64, 10);
    b.finish(&[3, 32, 32], &x)
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
    for (name, graph, batch) in [("lenet", lenet(), 64), ("resnet20", resnet20(), 128)] {
        if arguments.first().is_none_or(|wanted| wanted == name) {
            let batch = arguments.get(1).map_or(Ok(batch), |b| b.parse())?;
            measure(name, &graph, batch)?;
        }
    }
    Ok(())
}
