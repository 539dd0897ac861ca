//! Products with a matrix behind a `Transpose`: the same outputs and the same training as with the matrix itself.

mod common;

use common::{difference, executor, noise, output, value_info};
use slq_engine::{Isa, StepSettings, Target};
use slq_graph::{DType, Dim, Graph, Node, Tensor, ValueInfo};

fn weight(graph: &mut Graph, name: &str, shape: &[usize], seed: u64) {
    let values = noise(shape.iter().product(), seed);
    graph.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
}

/// `[N, 24]` through products of a matrix, a stack of matrices and a `Gemm`.
fn products() -> Graph {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    graph.inputs.push(value_info("x", &[24]));
    graph.outputs.push(output("y"));
    weight(&mut graph, "a", &[24, 36], 1);
    weight(&mut graph, "b", &[12, 7], 2);
    weight(&mut graph, "c", &[21, 4], 3);
    weight(&mut graph, "bias", &[4], 4);
    for (name, shape) in [("tokens", vec![-1, 3, 12]), ("flat", vec![-1, 21])] {
        graph.weights.insert(name.into(), Tensor::i64_vector(shape).into());
    }
    graph.nodes = vec![
        Node::new("one", "MatMul", &["x", "a"], &["p"]),
        Node::new("relu", "Relu", &["p"], &["q"]),
        Node::new("split", "Reshape", &["q", "tokens"], &["r"]),
        Node::new("two", "MatMul", &["r", "b"], &["s"]),
        Node::new("join", "Reshape", &["s", "flat"], &["t"]),
        Node::new("three", "Gemm", &["t", "c", "bias"], &["y"]),
    ];
    graph
}

#[test]
fn turned_matrices_give_the_same_outputs_and_train_alike() {
    let plain = products();
    let mut turned = plain.clone();
    assert_eq!(turned.turn_rows(|_| true), ["a", "b", "c"]);
    assert_eq!(turned.nodes.iter().filter(|n| n.op == "Transpose").count(), 2);
    let images = noise(5 * 24, 9);
    for isa in Isa::supported() {
        let [mut one, mut two] = [&plain, &turned].map(|graph| executor(graph, 5, isa));
        let settings = StepSettings { learning_rate: 0.05, ..StepSettings::default() };
        for _ in 0..3 {
            let labels = [0, 3, 1, 2, 0];
            let [a, b] = [&mut one, &mut two].map(|e| {
                slq_engine::Executor::train_step(e, &images, Target::Labels(&labels), &settings).unwrap()
            });
            assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "{isa}: {} {}", a.loss, b.loss);
        }
        let [a, b] = [&mut one, &mut two].map(|e| slq_engine::Executor::logits(e, &images).unwrap().to_vec());
        assert!(difference(&a, &b, 0.05) < 1e-4, "{isa}");
        for name in ["a", "b", "c"] {
            let [start, one, two] =
                [plain.weights[name].tensor.as_f32().unwrap(), parameter(&one, name), parameter(&two, name)];
            let &[rows, columns] = plain.weights[name].tensor.shape() else { unreachable!() };
            let back: Vec<f32> = (0..one.len()).map(|i| two[i % columns * rows + i / columns]).collect();
            assert!(difference(one, &back, 0.05) < 1e-4, "{name} on {isa}");
            assert!(one != start, "{name} was trained");
        }
    }
}

fn parameter<'a>(executor: &'a slq_engine::CpuExecutor, name: &str) -> &'a [f32] {
    slq_engine::Executor::parameter(executor, name).unwrap()
}

#[test]
fn a_vector_on_the_left_and_a_transpose_that_others_read() {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    let shape = Some(vec![Dim::Known(6)]);
    graph.inputs.push(ValueInfo { name: "v".into(), dtype: DType::F32, shape });
    graph.outputs.extend([output("y"), output("z")]);
    weight(&mut graph, "w", &[6, 5], 1);
    graph.nodes.push(Node::new("product", "MatMul", &["v", "w"], &["y"]));
    graph.turn_rows(|_| true);
    graph.nodes.push(Node::new("also", "Neg", &["w.columns"], &["z"]));
    let v = Tensor::f32(vec![6], noise(6, 2)).unwrap();
    let found = slq_engine::run(&graph, &[("v", &v)], Isa::detect()).unwrap();
    let (w, v) = (noise(30, 1), v.as_f32().unwrap());
    let y: Vec<f32> = (0..5).map(|j| (0..6).map(|i| v[i] * w[i * 5 + j]).sum()).collect();
    assert_eq!(found[0].1.shape(), [5]);
    assert!(difference(found[0].1.as_f32().unwrap(), &y, 0.05) < 1e-5);
    let negative: Vec<f32> = w.iter().map(|v| -v).collect();
    assert_eq!((found[1].1.shape(), found[1].1.as_f32().unwrap()), (&[6, 5][..], negative.as_slice()));
}
