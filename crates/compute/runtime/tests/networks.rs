//! Packed networks against the engine on the same weights as floats.

use slq_graph::{Attribute, DType, Dim, Graph, Node, Palette, Tensor, ValueInfo, Weight};
use slq_pack::{WriteOptions, write_bytes};
use slq_runtime::{Expand, Isa, Network, Reason, RuntimeError};

/// Reproducible values in -1..1.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0xD1B5_4A32_D192_ED03);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The nearest of `k` equidistant values for each weight of a run, with one codebook or one for each output channel.
fn palettized(tensor: &Tensor, k: usize, groups: usize) -> Weight {
    let weights = tensor.as_f32().unwrap();
    let (mut book, mut codes) = (Vec::new(), Vec::new());
    for run in weights.chunks_exact(weights.len() / groups) {
        let most = run.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
        let step = 2.0 * most / (k - 1) as f32;
        book.extend((0..k).map(|i| i as f32 * step - most));
        codes.extend(run.iter().map(|v| ((v + most) / step).round().min((k - 1) as f32) as u8));
    }
    let palette = Palette::fully_fixed(book, groups, codes).unwrap();
    let tensor = Tensor::f32(tensor.shape().to_vec(), palette.decode()).unwrap();
    Weight { palette: Some(palette), ..tensor.into() }
}

/// A network of the zoo with palettes of `k` values and batch-norms that do something.
fn zoo(name: &str, k: usize, by_channel: bool) -> Graph {
    let mut graph = slq_zoo::build(name, 1).unwrap();
    for (i, weight) in graph.weights.values_mut().enumerate() {
        let shape = weight.tensor.shape().to_vec();
        if shape.len() >= 2 && weight.tensor.as_f32().is_some() {
            *weight = palettized(&weight.tensor, k, if by_channel { shape[0] } else { 1 });
        } else if let Some(values_of) = weight.tensor.as_f32_mut() {
            let noise = values(values_of.len(), i as u64);
            values_of.iter_mut().zip(noise).for_each(|(v, n)| *v += 0.1 * n);
        }
    }
    graph
}

fn input(graph: &Graph, batch: usize) -> Tensor {
    let declared = graph.inputs[0].shape.clone().unwrap();
    let shape: Vec<usize> = declared.iter().map(|d| if let Dim::Known(n) = d { *n } else { batch }).collect();
    Tensor::f32(shape.clone(), values(shape.iter().product(), 9)).unwrap()
}

fn run(network: Network, isa: Isa, x: &Tensor) -> Vec<f32> {
    let name = network.graph().inputs[0].name.clone();
    let mut session = network.session(isa);
    let first = session.run(&[(&name, x)]).unwrap().swap_remove(0).1;
    let again = session.run(&[(&name, x)]).unwrap().swap_remove(0).1;
    assert_eq!(first, again, "a second run gives the same");
    first.as_f32().unwrap().to_vec()
}

/// Largest difference, relative to the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(most > 0.0 && most.is_finite());
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Compares with the engine for each choice of what to expand; the largest relative difference.
fn compare(graph: &Graph, batch: usize) -> f32 {
    let x = input(graph, batch);
    let bytes = write_bytes(graph, &WriteOptions::default()).unwrap().bytes;
    let mut largest = 0.0f32;
    for isa in Isa::supported() {
        let want = slq_engine::run(graph, &[(&graph.inputs[0].name, &x)], isa).unwrap().swap_remove(0).1;
        for expand in [Expand::None, Expand::Auto, Expand::All] {
            let from_file = Network::from_bytes(&bytes, expand).unwrap();
            let from_graph = Network::from_graph(graph.clone(), expand).unwrap();
            assert_eq!(from_file.report().packed_bytes(), from_graph.report().packed_bytes());
            let got = run(from_file, isa, &x);
            assert_eq!(bits(&got), bits(&run(from_graph, isa, &x)), "graph and container give the same bits");
            largest = largest.max(difference(&got, want.as_f32().unwrap()));
            if expand == Expand::All {
                assert_eq!(bits(&got), bits(want.as_f32().unwrap()), "expanded, it is the engine");
            }
        }
    }
    largest
}

#[test]
fn networks_agree_with_the_engine() {
    for (name, k, by_channel, batch) in [
        ("lenet", 16, false, 1),
        ("lenet", 5, true, 20),
        ("resnet20", 16, false, 2),
        ("resnet20", 32, true, 1),
        ("mobilenet-v2", 64, true, 1),
    ] {
        let largest = compare(&zoo(name, k, by_channel), batch);
        assert!(largest < 1e-5, "{name}, {k} values, batch {batch}: {largest}");
    }
}

#[test]
fn threads_do_not_change_bits() {
    let graph = zoo("lenet", 16, false);
    for batch in [1, 3, 40] {
        let x = input(&graph, batch);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let network = Network::from_graph(graph.clone(), Expand::None).unwrap();
            pool.install(|| bits(&run(network, Isa::detect(), &x)))
        };
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(3));
    }
}

fn value(name: &str, shape: &[usize]) -> ValueInfo {
    let shape = Some(shape.iter().map(|&d| Dim::Known(d)).collect());
    ValueInfo { name: name.into(), dtype: DType::F32, shape }
}

/// y = relu(x W + b) by Gemm or MatMul.
fn product(node: Node, shape: [usize; 2], groups: usize) -> Graph {
    let mut graph = Graph::default();
    graph.inputs.push(value("x", &[3, 70]));
    graph.outputs.push(value("y", &[3, 20]));
    graph.nodes.push(node);
    graph.nodes.push(Node::new("relu", "Relu", &["h"], &["y"]));
    let tensor = Tensor::f32(shape.to_vec(), values(1400, 3)).unwrap();
    graph.weights.insert("w".into(), palettized(&tensor, 9, groups));
    graph.weights.insert("b".into(), Tensor::f32(vec![20], values(20, 4)).unwrap().into());
    graph
}

#[test]
fn products_in_every_form() {
    let gemm = || Node::new("fc", "Gemm", &["x", "w", "b"], &["h"]).with("alpha", Attribute::Float(0.5));
    let turned = gemm().with("transB", Attribute::Int(1)).with("beta", Attribute::Float(-2.0));
    let matmul = Node::new("fc", "MatMul", &["x", "w"], &["h"]);
    for (node, shape, groups) in
        [(gemm(), [70, 20], 1), (turned.clone(), [20, 70], 1), (turned, [20, 70], 20), (matmul, [70, 20], 1)]
    {
        let graph = product(node, shape, groups);
        let network = Network::from_graph(graph.clone(), Expand::None).unwrap();
        assert_eq!(network.report().packed.len(), 1, "{:?}", network.report());
        assert!(compare(&graph, 3) < 1e-5);
    }
}

#[test]
fn what_must_be_floats_is_said() {
    let matmul = Node::new("fc", "MatMul", &["x", "w"], &["h"]);
    let network = Network::from_graph(product(matmul, [70, 20], 70), Expand::None).unwrap();
    assert!(matches!(network.report().expanded[0].reason, Reason::Codebooks(_)));
    assert_eq!(network.report().expanded_bytes(), 5600);
    let matmul = Node::new("fc", "MatMul", &["x", "w"], &["h"]);
    let mut listed = product(matmul, [70, 20], 1);
    listed.inputs.push(value("w", &[70, 20]));
    let session = Network::from_graph(listed.clone(), Expand::None).unwrap().session(Isa::detect());
    assert_eq!(session.inputs().len(), 1, "weights that a file lists as inputs are none");
    assert!(compare(&listed, 3) < 1e-5);
    let mut shared = product(Node::new("fc", "Gemm", &["x", "w"], &["h"]), [70, 20], 1);
    shared.nodes.push(Node::new("more", "Relu", &["w"], &["z"]));
    shared.outputs.push(value("z", &[70, 20]));
    let network = Network::from_graph(shared.clone(), Expand::None).unwrap();
    assert!(matches!(network.report().expanded[0].reason, Reason::Graph(_)));
    assert!(compare(&shared, 3) < 1e-6);
    let lenet = Network::from_graph(zoo("lenet", 16, false), Expand::Auto).unwrap();
    assert!(lenet.report().expanded.iter().all(|e| e.reason == Reason::Chosen && e.bytes < 256 << 10));
    assert_eq!(lenet.report().packed.len(), 1);
}

#[test]
fn codes_take_less_memory_than_floats() {
    let graph = zoo("lenet", 16, false);
    let network = Network::from_graph(graph, Expand::None).unwrap();
    // Four bits for each of 430 500 weights, and what fills words at the ends of rows.
    let bytes = network.report().packed_bytes();
    assert!((215_250..230_000).contains(&bytes), "{bytes}");
    assert!(network.session(Isa::detect()).bytes() < 240_000);
}

#[test]
fn packed_networks_are_not_trained() {
    use slq_runtime::Executor;
    let network = Network::from_graph(zoo("lenet", 16, false), Expand::None).unwrap();
    let mut executor = network.executor(2, Isa::detect()).unwrap();
    let images = values(2 * 784, 1);
    assert!(executor.evaluate(&images, None).is_ok());
    let target = slq_engine::Target::Labels(&[1, 2]);
    let step = executor.train_step(&images, target, &slq_engine::StepSettings::default());
    assert!(step.unwrap_err().to_string().contains("packed"), "training is refused");
}

#[test]
fn files_that_do_not_hold_a_network_are_refused() {
    let graph = zoo("lenet", 16, false);
    let bytes = write_bytes(&graph, &WriteOptions::default()).unwrap().bytes;
    for at in (0..bytes.len()).step_by(bytes.len() / 97) {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(Network::from_bytes(&bad, Expand::None).is_err(), "byte {at}");
        assert!(Network::from_bytes(&bytes[..at], Expand::None).is_err(), "cut at {at}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.slq");
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = Network::open(&path, Expand::Auto).err().unwrap();
    assert!(matches!(error, RuntimeError::Slq(_)) && error.to_string().contains("x.slq"), "{error}");
    std::fs::write(&path, &bytes).unwrap();
    assert!(Network::open(&path, Expand::Auto).is_ok());
    let onnx = folder.path().join("x.onnx");
    slq_onnx::write(&graph, &onnx, &slq_onnx::WriteOptions::default()).unwrap();
    let network = Network::open(&onnx, Expand::None).unwrap();
    assert_eq!(network.report().packed.len(), 4);
}

#[test]
fn a_matrix_behind_a_transpose_stays_packed() {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    let dims = [Dim::Symbol("N".into()), Dim::Known(5), Dim::Known(48)];
    graph.inputs.push(ValueInfo { name: "x".into(), dtype: DType::F32, shape: Some(dims.into()) });
    graph.outputs.push(ValueInfo { name: "y".into(), dtype: DType::F32, shape: None });
    for (name, shape) in [("w", [48, 64]), ("v", [64, 32])] {
        let tensor = Tensor::f32(shape.to_vec(), values(shape[0] * shape[1], 3)).unwrap();
        graph.weights.insert(name.into(), tensor.into());
    }
    graph.nodes = vec![
        Node::new("one", "MatMul", &["x", "w"], &["h"]),
        Node::new("two", "MatMul", &["h", "v"], &["y"]),
    ];
    let float = graph.clone();
    assert_eq!(graph.turn_rows(|_| true).len(), 2);
    for name in ["w", "v"] {
        let rows = graph.weights[name].tensor.shape()[0];
        graph.weights[name] = palettized(&graph.weights[name].tensor, 16, rows);
    }
    let network = Network::from_graph(graph.clone(), Expand::None).unwrap();
    let packed: Vec<&str> = network.report().packed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((packed, network.report().expanded.len()), (vec!["w", "v"], 0));
    let x = input(&float, 3);
    let want = slq_engine::run(&float, &[("x", &x)], Isa::detect()).unwrap().swap_remove(0).1;
    let got = run(network, Isa::detect(), &x);
    assert!(difference(&got, want.as_f32().unwrap()) < 0.2, "16 values a channel are near the float network");
    assert!(compare(&graph, 2) < 1e-5);
}
