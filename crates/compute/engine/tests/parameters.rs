//! Which parameters get a gradient: those that the graph calls trainable.

mod common;

use std::collections::HashSet;

use common::{executor, insert, noise, output, value_info};
use slq_engine::{Executor, Isa, Target};
use slq_graph::{Attribute, Graph, Node};

fn with_gradient(graph: &Graph) -> HashSet<&str> {
    let mut executor = executor(graph, 1, Isa::detect());
    let images = noise(executor.image_shape().iter().product(), 3);
    executor.gradients(&images, Target::Labels(&[0])).unwrap();
    graph.weights.keys().map(String::as_str).filter(|name| executor.gradient(name).is_ok()).collect()
}

#[test]
fn every_trainable_parameter_of_known_networks_gets_a_gradient() {
    for name in ["lenet", "resnet20", "mobilenet-v2"] {
        let graph = slq_zoo::build(name, 0).unwrap();
        assert_eq!(with_gradient(&graph), graph.trainable(), "{name}");
    }
}

#[test]
fn constants_of_a_formula_get_none() {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    graph.inputs.push(value_info("x", &[3]));
    for (name, len) in
        [("image mean", 3), ("deviation", 3), ("half", 1), ("scale", 3), ("shift", 3), ("b", 4)]
    {
        insert(&mut graph, name, vec![len], vec![0.5; len]);
    }
    insert(&mut graph, "w", vec![4, 3], noise(12, 1));
    for (op, from, constant, to) in [
        ("Sub", "x", "image mean", "centred"),
        ("Div", "centred", "deviation", "normal"),
        ("Mul", "normal", "half", "halved"),
        ("Mul", "halved", "scale", "scaled"),
        ("Add", "scaled", "shift", "shifted"),
    ] {
        graph.nodes.push(Node::new(to, op, &[from, constant], &[to]));
    }
    let fc = Node::new("fc", "Gemm", &["shifted", "w", "b"], &["y"]);
    graph.nodes.push(fc.with("transB", Attribute::Int(1)));
    graph.outputs.push(output("y"));
    assert_eq!(with_gradient(&graph), HashSet::from(["scale", "shift", "w", "b"]));
    assert_eq!(graph.trainable(), HashSet::from(["scale", "shift", "w", "b"]));
}
