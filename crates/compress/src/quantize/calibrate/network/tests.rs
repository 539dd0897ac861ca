//! Tests of whole calibrations on small networks.

use slq_engine::Isa;
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo, infer_shapes};
use slq_reduce::Alone;

mod importance;
mod priced;
mod shared;
mod turned;

use super::super::CalibrateError;
use super::super::matrix::{Books, SolveOptions};
use super::samples::{Picks, gather, picks};
use super::site::Site;
use super::*;
use crate::inputs::Inputs;
use crate::quantize::calibrate::random::Random;

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::of(seed, &[]);
    (0..count).map(|_| random.choose(1, 4001)[0] as f32 / 2000.0 - 1.0).collect()
}

/// A network under construction.
struct Net(Graph);

impl Net {
    fn new(input: &[usize]) -> Self {
        let mut graph = Graph::default();
        graph.metadata.opset = 13;
        let mut dims = vec![Dim::Symbol("N".into())];
        dims.extend(input.iter().map(|&d| Dim::Known(d)));
        graph.inputs.push(ValueInfo { name: "x".into(), dtype: DType::F32, shape: Some(dims) });
        Self(graph)
    }

    fn weight(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.0.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
    }

    fn noisy(&mut self, name: &str, shape: &[usize], seed: u64) {
        self.weight(name, shape, noise(shape.iter().product(), seed));
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attribute)]) {
        let mut node = Node::new(&format!("{output}_node"), op, inputs, &[output]);
        for (name, value) in attributes {
            node = node.with(name, value.clone());
        }
        self.0.nodes.push(node);
    }

    fn norm(&mut self, input: &str, output: &str, channels: usize, seed: u64) {
        let names = ["gamma", "beta", "mean", "var"].map(|n| format!("{output}.{n}"));
        for (i, name) in names.iter().enumerate() {
            let values = noise(channels, seed + i as u64);
            let positive = i == 0 || i == 3;
            let values = values.iter().map(|v| if positive { v.abs() + 0.5 } else { 0.3 * v }).collect();
            self.weight(name, &[channels], values);
        }
        let inputs: Vec<&str> = [input].into_iter().chain(names.iter().map(String::as_str)).collect();
        self.node("BatchNormalization", &inputs, output, &[]);
    }

    fn finish(mut self, output: &str) -> Graph {
        self.0.outputs.push(ValueInfo { name: output.into(), dtype: DType::F32, shape: None });
        self.0
    }
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

/// Convolution, batch-norm, depthwise, batch-norm, residual sum, pool, product with bias.
fn network() -> Graph {
    let mut net = Net::new(&[3, 10, 10]);
    net.noisy("w1", &[8, 3, 3, 3], 1);
    net.node("Conv", &["x", "w1"], "c1", &[("pads", ints(&[1, 1, 1, 1]))]);
    net.norm("c1", "n1", 8, 10);
    net.node("Relu", &["n1"], "r1", &[]);
    net.noisy("w2", &[8, 1, 3, 3], 2);
    net.node("Conv", &["r1", "w2"], "c2", &[("pads", ints(&[1, 1, 1, 1])), ("group", Attribute::Int(8))]);
    net.norm("c2", "n2", 8, 20);
    net.node("Relu", &["n2"], "r2", &[]);
    net.noisy("w3", &[8, 8, 1, 1], 3);
    net.noisy("b3", &[8], 4);
    net.node("Conv", &["r2", "w3", "b3"], "c3", &[]);
    net.node("Add", &["c3", "r1"], "sum", &[]);
    net.node("GlobalAveragePool", &["sum"], "pool", &[]);
    net.node("Flatten", &["pool"], "flat", &[]);
    net.noisy("w4", &[5, 8], 5);
    net.noisy("b4", &[5], 6);
    net.node("Gemm", &["flat", "w4", "b4"], "y", &[("transB", Attribute::Int(1))]);
    net.finish("y")
}

fn layers(graph: &Graph, size: usize, books: Books) -> Vec<LayerSpec> {
    let spec =
        |q: slq_graph::Quantizable| LayerSpec { weight: q.weight, node: q.node, size, books, half: false };
    graph.quantizable().into_iter().map(spec).collect()
}

/// Batches of images, the last one shorter.
fn images(sizes: &[usize]) -> Vec<Vec<(String, Tensor)>> {
    let batch = |(i, &n): (usize, &usize)| {
        let tensor = Tensor::f32(vec![n, 3, 10, 10], noise(n * 300, 50 + i as u64)).unwrap();
        vec![("x".to_string(), tensor)]
    };
    sizes.iter().enumerate().map(batch).collect()
}

fn options() -> NetworkOptions {
    NetworkOptions { positions: 20, ..NetworkOptions::default() }
}

/// A job of one process, without a price on bits.
fn job<'a>(
    float: &'a Graph,
    layers: &'a [LayerSpec],
    inputs: &'a dyn Inputs,
    options: &'a NetworkOptions,
) -> Job<'a> {
    Job { float, layers, inputs, options, rises: &[], reducer: Alone::shared() }
}

fn run(graph: &Graph, layers: &[LayerSpec], inputs: &dyn Inputs, options: &NetworkOptions) -> State {
    let mut state = State::new(graph);
    let job = job(graph, layers, inputs, options);
    calibrate(&job, &mut state, &mut |_| Ok(())).unwrap();
    state
}

/// Mean squared difference of an output over all batches.
fn distance(a: &Graph, b: &Graph, value: &str, inputs: &[Vec<(String, Tensor)>]) -> f64 {
    let (a, b) = (outputs(a, value, inputs), outputs(b, value, inputs));
    a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / a.len() as f64
}

fn outputs(graph: &Graph, value: &str, inputs: &[Vec<(String, Tensor)>]) -> Vec<f32> {
    let graph = super::segment::with_outputs(graph, &[value.into()]);
    let one = |batch: &Vec<(String, Tensor)>| {
        let given: Vec<(&str, &Tensor)> = batch.iter().map(|(n, t)| (n.as_str(), t)).collect();
        slq_engine::run(&graph, &given, Isa::detect()).unwrap()[0].1.as_f32().unwrap().to_vec()
    };
    inputs.iter().flat_map(one).collect()
}

#[test]
fn every_layer_takes_values_of_its_codebooks_and_outputs_stay_near() {
    let (graph, inputs) = (network(), images(&[6, 6, 3]));
    let fresh = images(&[7, 7, 7, 7]);
    for (books, size) in [(Books::Tensor, 8), (Books::Rows(1), 3)] {
        let layers = layers(&graph, size, books);
        let found = run(&graph, &layers, &inputs, &options());
        assert_eq!(found.reports.len(), 4);
        for (report, layer) in found.reports.iter().zip(&layers) {
            let Outcome::Calibrated(figures) = &report.outcome else { panic!("{report:?}") };
            assert!(figures.progress.end <= figures.progress.start && figures.progress.end < figures.energy);
            assert_eq!((figures.unsolved_groups, figures.books), (0, books));
            let weight = &found.graph.weights[&layer.weight];
            let palette = weight.palette.as_ref().unwrap();
            assert_eq!(weight.tensor.as_f32().unwrap(), palette.decode());
            assert_eq!(palette.groups(), if books == Books::Tensor { 1 } else { weight.tensor.shape()[0] });
        }
        // Weights alone, each as near to the float ones as can be.
        let plain = SolveOptions {
            weighted_start: false,
            error_passes: 0,
            scale_rows: false,
            rounds: 0,
            ..SolveOptions::default()
        };
        let plain = NetworkOptions { solve: plain, correct: false, ..options() };
        let plain = run(&graph, &layers, &inputs, &plain);
        let (ours, theirs) =
            (distance(&graph, &found.graph, "y", &fresh), distance(&graph, &plain.graph, "y", &fresh));
        assert!(ours < 0.7 * theirs, "{books:?}: {ours} {theirs}");
    }
}

#[test]
fn channels_keep_mean_and_deviation() {
    let (graph, inputs) = (network(), images(&[8, 8]));
    // All positions, so that the moments are those of the whole batch.
    let options = NetworkOptions { positions: 100, ..options() };
    let found = run(&graph, &layers(&graph, 4, Books::Tensor), &inputs, &options);
    let moments = |graph: &Graph, value: &str, channels: usize| -> Vec<(f64, f64)> {
        let all = outputs(graph, value, &inputs);
        let plane = all.len() / 16 / channels;
        let channel = |c: usize| {
            let own = (0..16).flat_map(|i| &all[(i * channels + c) * plane..][..plane]);
            let own: Vec<f64> = own.map(|&v| v.into()).collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64;
            (mean, variance.sqrt())
        };
        (0..channels).map(channel).collect()
    };
    for (value, channels, deviation) in [("n1", 8, true), ("n2", 8, true), ("sum", 8, false), ("y", 5, false)]
    {
        let pairs = moments(&graph, value, channels).into_iter().zip(moments(&found.graph, value, channels));
        for ((mean, spread), (mean_now, spread_now)) in pairs {
            assert!((mean - mean_now).abs() < 2e-3, "{value}: {mean} {mean_now}");
            assert!(
                !deviation || (spread - spread_now).abs() < 2e-3 * spread,
                "{value}: {spread} {spread_now}"
            );
        }
    }
}

#[test]
fn a_job_resumed_after_any_layer_ends_with_the_same_bits() {
    let (graph, inputs) = (network(), images(&[5, 5, 2]));
    let layers = layers(&graph, 4, Books::Tensor);
    for memory in [0, 20_000, 1 << 30] {
        let options = NetworkOptions { memory, ..options() };
        let job = job(&graph, &layers, &inputs, &options);
        let mut stored = vec![State::new(&graph)];
        let mut whole = State::new(&graph);
        calibrate(&job, &mut whole, &mut |done| {
            stored.push(done.state.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(stored.len(), 5);
        for (done, mut state) in stored.into_iter().enumerate() {
            assert_eq!(state.reports.len(), done);
            calibrate(&job, &mut state, &mut |_| Ok(())).unwrap();
            assert_eq!(state, whole, "memory {memory}, after {done}");
        }
    }
}

#[test]
fn memory_and_threads_change_nothing_that_matters() {
    let (graph, inputs) = (network(), images(&[5, 5, 2]));
    let layers = layers(&graph, 4, Books::Rows(1));
    let with = |memory: usize, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&graph, &layers, &inputs, &NetworkOptions { memory, ..options() }))
    };
    let all = with(1 << 30, 1);
    assert_eq!(all, with(1 << 30, 2));
    assert_eq!(all, with(1 << 30, 3));
    // Another cut may round otherwise; the networks are as good.
    let none = with(0, 2);
    let (a, b) = (distance(&graph, &all.graph, "y", &inputs), distance(&graph, &none.graph, "y", &inputs));
    assert!((a / b - 1.0).abs() < 0.2, "{a} {b}");
}

#[test]
fn an_observer_stops_the_job_with_the_layers_done() {
    let (graph, inputs) = (network(), images(&[4]));
    let (layers, options) = (layers(&graph, 4, Books::Tensor), options());
    let job = job(&graph, &layers, &inputs, &options);
    let mut state = State::new(&graph);
    let stopped = calibrate(&job, &mut state, &mut |done| match done.state.reports.len() {
        2 => Err(CalibrateError::Stopped { reason: "enough".into() }),
        _ => Ok(()),
    });
    assert_eq!(stopped, Err(CalibrateError::Stopped { reason: "enough".into() }));
    assert_eq!(state.reports.len(), 2);
    assert!(state.graph.weights["w2"].palette.is_some() && state.graph.weights["w3"].palette.is_none());
}

/// Operator, input and weight sizes, attributes.
type Case = (&'static str, Vec<usize>, Vec<usize>, Vec<(&'static str, Attribute)>);

#[test]
fn samples_times_weights_are_what_the_engine_computes() {
    let pads = || ("pads", ints(&[1, 0, 2, 1]));
    let cases: Vec<Case> = vec![
        ("Conv", vec![4, 6, 3, 2], vec![6, 7, 5], vec![pads(), ("strides", ints(&[2, 1]))]),
        (
            "Conv",
            vec![4, 3, 3, 3],
            vec![6, 9, 8],
            vec![("group", Attribute::Int(2)), ("dilations", ints(&[2, 1]))],
        ),
        (
            "Conv",
            vec![6, 1, 3, 3],
            vec![6, 7, 7],
            vec![("group", Attribute::Int(6)), ("auto_pad", Attribute::String(b"SAME_UPPER".to_vec()))],
        ),
        (
            "ConvTranspose",
            vec![6, 2, 3, 3],
            vec![6, 4, 5],
            vec![("group", Attribute::Int(2)), ("strides", ints(&[2, 2])), pads()],
        ),
        (
            "ConvTranspose",
            vec![6, 3, 2, 2],
            vec![6, 4, 4],
            vec![("strides", ints(&[2, 1])), ("output_padding", ints(&[1, 0]))],
        ),
        ("Gemm", vec![7, 4], vec![7], vec![]),
        ("Gemm", vec![4, 7], vec![7], vec![("transB", Attribute::Int(1))]),
        ("MatMul", vec![7, 4], vec![3, 7], vec![]),
    ];
    for (op, weight, input, attributes) in cases {
        let mut net = Net::new(&input);
        net.noisy("w", &weight, 3);
        net.node(op, &["x", "w"], "y", &attributes);
        let graph = net.finish("y");
        let shape: Vec<usize> = [2].iter().chain(&input).copied().collect();
        let x = Tensor::f32(shape.clone(), noise(shape.iter().product(), 4)).unwrap();
        let shapes = infer_shapes(&graph, &[("x", shape)]).unwrap();
        let site = Site::find(&graph, &shapes, &layers(&graph, 2, Books::Tensor)[0]).unwrap();
        let output = shapes.get("y").unwrap().to_vec();
        let picks = picks(&site.reads, (x.shape(), &output), 2, 1000, |i| Random::of(0, &[i]));
        let samples = picks.len();
        let got = gather(&site, &x, &picks);
        let want =
            slq_engine::run(&graph, &[("x", &x)], Isa::detect()).unwrap()[0].1.as_f32().unwrap().to_vec();
        let matrix = site.matrix(graph.weights["w"].tensor.as_f32().unwrap());
        let (columns, group_rows) = (site.shape.columns, site.shape.group_rows());
        for row in 0..site.shape.rows {
            let own = &got[row / group_rows * columns * samples..][..columns * samples];
            for s in 0..samples {
                let dot: f32 = (0..columns).map(|j| matrix[row * columns + j] * own[j * samples + s]).sum();
                let at = match &picks {
                    Picks::Windows(places) => {
                        let [image, y, x] = places[s];
                        ((image * output[1] + row) * output[2] + y) * output[3] + x
                    }
                    Picks::Rows(rows) => rows[s] * site.shape.rows + row,
                };
                assert!(
                    (dot - want[at]).abs() < 1e-4,
                    "{op} {weight:?}: row {row} sample {s}: {dot} {}",
                    want[at]
                );
            }
        }
        assert_eq!(samples * site.shape.rows, want.len(), "{op}: all positions");
    }
}

#[test]
fn other_layer_kinds_are_calibrated_too() {
    let mut net = Net::new(&[3, 10, 10]);
    net.noisy("up", &[3, 4, 2, 2], 1);
    net.node("ConvTranspose", &["x", "up"], "a", &[("strides", ints(&[2, 2]))]);
    net.node("Relu", &["a"], "b", &[]);
    net.weight("shape", &[1], vec![0.0]);
    net.0.weights.insert("target".into(), Tensor::i64_vector(vec![0, 400, 4]).into());
    net.node("Reshape", &["b", "target"], "c", &[]);
    net.noisy("mix", &[4, 6], 2);
    net.node("MatMul", &["c", "mix"], "d", &[]);
    net.noisy("offset", &[6], 3);
    net.node("Add", &["d", "offset"], "e", &[]);
    net.node("ReduceMean", &["e"], "f", &[("axes", ints(&[1])), ("keepdims", Attribute::Int(0))]);
    net.noisy("head", &[6, 5], 4);
    net.node("Gemm", &["f", "head"], "y", &[]);
    let graph = net.finish("y");
    let inputs = images(&[4, 4]);
    let layers = layers(&graph, 4, Books::Rows(1));
    assert_eq!(layers.len(), 3);
    let found = run(&graph, &layers, &inputs, &options());
    for report in &found.reports {
        let Outcome::Calibrated(figures) = &report.outcome else { panic!("{report:?}") };
        assert_eq!(figures.books, Books::Tensor, "weights that do not lie by channel have one codebook");
    }
    // The MatMul's means are put right in the sum behind it; the head has no bias.
    assert_ne!(found.graph.weights["offset"], graph.weights["offset"]);
    let Outcome::Calibrated(head) = &found.reports[2].outcome else { panic!() };
    assert!(head.uncorrected.as_ref().unwrap().contains("bias"));
}

#[test]
fn what_cannot_be_computed_is_clustered_and_said() {
    let mut graph = network();
    let at = graph.nodes.iter().position(|n| n.op == "GlobalAveragePool").unwrap();
    graph.nodes[at].op = "Exotic".into();
    let inputs = images(&[4, 4]);
    let layers = layers(&graph, 4, Books::Rows(1));
    let found = run(&graph, &layers, &inputs, &options());
    for report in &found.reports[..3] {
        assert!(matches!(report.outcome, Outcome::Calibrated(_)), "{report:?}");
    }
    let Outcome::Clustered { reason } = &found.reports[3].outcome else { panic!("{:?}", found.reports[3]) };
    assert!(reason.contains("Exotic"), "{reason}");
    let weight = &found.graph.weights["w4"];
    assert_eq!(weight.tensor.as_f32().unwrap(), weight.palette.as_ref().unwrap().decode());
    assert_eq!(weight.palette.as_ref().unwrap().groups(), 5);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let graph = network();
    let (layers, options) = (layers(&graph, 4, Books::Tensor), options());
    let refuse = |inputs: Vec<Vec<(String, Tensor)>>| {
        let job = job(&graph, &layers, &inputs, &options);
        calibrate(&job, &mut State::new(&graph), &mut |_| Ok(())).unwrap_err().to_string()
    };
    assert!(refuse(vec![]).contains("none"));
    let good = images(&[2]).remove(0);
    let renamed = vec![("z".to_string(), good[0].1.clone())];
    assert!(refuse(vec![renamed]).contains("no input `z`"));
    assert!(refuse(vec![vec![]]).contains("`x` is missing"));
    assert!(refuse(vec![vec![("x".to_string(), Tensor::i64_vector(vec![1]))]]).contains("F32"));
    let mut values = good[0].1.clone();
    values.as_f32_mut().unwrap()[5] = f32::NAN;
    assert!(refuse(vec![good.clone(), vec![("x".to_string(), values)]]).contains("batch 1"));
    let small = Tensor::f32(vec![1, 3, 4, 4], vec![0.0; 48]).unwrap();
    let error = refuse(vec![vec![("x".to_string(), small)]]);
    assert!(error.contains("declares"), "{error}");
}

#[test]
fn activations_that_are_not_finite_name_their_layer() {
    let mut graph = network();
    graph.weights["n1.gamma"].tensor.as_f32_mut().unwrap()[2] = f32::MAX;
    graph.weights["n1.var"].tensor.as_f32_mut().unwrap()[2] = 0.0;
    let (layers, options, inputs) = (layers(&graph, 4, Books::Tensor), options(), images(&[3]));
    let job = job(&graph, &layers, &inputs, &options);
    let error = calibrate(&job, &mut State::new(&graph), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(&error, CalibrateError::Layer { layer, .. } if layer == "w2"), "{error}");
}

#[test]
fn layers_behind_token_ids_are_calibrated() {
    let mut net = Net::new(&[6]);
    net.0.inputs[0].dtype = DType::I64;
    net.noisy("table", &[20, 8], 1);
    net.node("Gather", &["table", "x"], "e", &[]);
    net.noisy("w1", &[8, 8], 2);
    net.node("MatMul", &["e", "w1"], "a", &[]);
    net.node("Relu", &["a"], "r", &[]);
    net.noisy("w2", &[8, 5], 3);
    net.node("MatMul", &["r", "w2"], "y", &[]);
    let graph = net.finish("y");
    let ids = |n: i64| slq_graph::TensorData::I64((0..n * 6).map(|i| i * 7 % 20).collect());
    let batches: Vec<Vec<(String, Tensor)>> =
        [8, 4].map(|n| vec![("x".into(), Tensor::new(vec![n as usize, 6], ids(n)).unwrap())]).to_vec();
    let layers = layers(&graph, 8, Books::Tensor);
    let options = options();
    let job = job(&graph, &layers, &batches, &options);
    let mut state = State::new(&graph);
    calibrate(&job, &mut state, &mut |_| Ok(())).unwrap();
    let calibrated: Vec<&str> = state
        .reports
        .iter()
        .filter(|r| matches!(r.outcome, Outcome::Calibrated(_)))
        .map(|r| r.weight.as_str())
        .collect();
    assert_eq!(calibrated, ["w1", "w2"]);
}
