//! Networks and settings that are refused, and the error of each.

mod common;

use common::{executor, insert, output, value_info};
use slq_engine::{CpuExecutor, EngineError, EngineOptions, Executor, Isa, StepSettings, Target, run};
use slq_graph::{Attribute, DType, Dim, Graph, GraphError, Node, Tensor, ValueInfo};

/// y = softmax(x W + b), 3 values to 4 classes.
fn linear() -> Graph {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    graph.inputs.push(value_info("x", &[3]));
    graph.nodes.push(Node::new("fc", "Gemm", &["x", "w", "b"], &["y"]));
    graph.nodes.push(Node::new("prob", "Softmax", &["y"], &["p"]));
    graph.outputs.push(output("p"));
    insert(&mut graph, "w", vec![3, 4], common::noise(12, 1));
    insert(&mut graph, "b", vec![4], vec![0.0; 4]);
    graph
}

fn refused(graph: &Graph) -> String {
    match CpuExecutor::new(graph, 2, &EngineOptions::default()) {
        Ok(_) => panic!("the graph was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn graphs_that_do_not_fit_are_refused() {
    let mut unknown = linear();
    unknown.nodes[0].op = "Unique".into();
    let message = refused(&unknown);
    assert!(message.contains("fc") && message.contains("Unique") && message.contains("kmeans"), "{message}");

    let mut narrow = linear();
    narrow.inputs[0] = value_info("x", &[5]);
    let message = refused(&narrow);
    assert!(message.contains("fc") && message.contains('5'), "{message}");

    let mut none = linear();
    none.inputs.clear();
    none.weights.insert("x".into(), Tensor::f32(vec![1, 4], vec![0.0; 4]).unwrap().into());
    assert_eq!(refused(&none), EngineError::InputCount { count: 0 }.to_string());
    let mut scalar = linear();
    scalar.inputs.push(ValueInfo { name: "z".into(), dtype: DType::F32, shape: Some(Vec::new()) });
    assert!(refused(&scalar).contains("`z`"), "an input without a batch axis");

    let mut open = linear();
    open.inputs[0].shape = Some(vec![Dim::Symbol("N".into()), Dim::Unknown]);
    assert!(refused(&open).contains("`x`"));
    open.inputs[0].shape = None;
    assert!(refused(&open).contains("`x`"));

    let mut bytes = linear();
    bytes.inputs[0].dtype = DType::U8;
    assert!(refused(&bytes).contains("32-bit floats"));

    let mut integers = linear();
    integers.weights.insert("w".into(), Tensor::i64_vector(vec![0; 12]).reshape(vec![3, 4]).unwrap().into());
    assert!(refused(&integers).contains('w'));

    assert!(matches!(
        CpuExecutor::new(&linear(), 0, &EngineOptions::default()),
        Err(EngineError::EmptyBatch)
    ));
    let huge = CpuExecutor::new(&linear(), 1 << 38, &EngineOptions::default()).err();
    assert!(matches!(huge, Some(EngineError::Memory { .. } | EngineError::Graph(_))), "{huge:?}");
}

#[test]
fn an_empty_graph_or_one_of_weights_alone_is_no_panic() {
    assert!(CpuExecutor::new(&Graph::default(), 1, &EngineOptions::default()).is_err());
    let mut constant = linear();
    constant.outputs = vec![output("w")];
    let mut executor = executor(&constant, 2, Isa::detect());
    assert!(executor.outputs(&[0.0; 6]).is_ok());
    assert!(matches!(
        executor.evaluate(&[0.0; 6], Some(Target::Labels(&[0, 1]))),
        Err(EngineError::Logits { .. })
    ));
    let mut echo = linear();
    echo.outputs = vec![output("x")];
    let mut executor = common::executor(&echo, 2, Isa::detect());
    let labels = Target::Labels(&[0, 1]);
    assert_eq!(executor.outputs(&[1.0, 2.0, 3.0]).unwrap(), [[1.0, 2.0, 3.0]]);
    assert!(executor.train_step(&[0.0; 6], labels, &StepSettings::default()).is_ok(), "nothing to train");
}

#[test]
fn batches_and_targets_that_do_not_fit_are_refused() {
    let mut executor = executor(&linear(), 2, Isa::detect());
    for values in [0, 2, 4, 9] {
        let error = executor.evaluate(&vec![0.0; values], None).unwrap_err();
        let want = EngineError::Batch { input: "x".into(), values, per_image: 3, batch: 2 };
        assert_eq!(error, want);
    }
    let settings = StepSettings::default();
    let images = [0.5; 6];
    let table: [(Target<'_>, EngineError); 3] = [
        (Target::Labels(&[1]), EngineError::TargetCount { found: 1, expected: 2, images: 2 }),
        (Target::Labels(&[1, 4]), EngineError::Label { image: 1, label: 4, classes: 4 }),
        (
            Target::Distribution { probabilities: &[0.25; 7], temperature: 1.0 },
            EngineError::TargetCount { found: 7, expected: 8, images: 2 },
        ),
    ];
    let before = common::bits(executor.parameter("w").unwrap());
    for (target, want) in table {
        assert_eq!(executor.evaluate(&images, Some(target)), Err(want.clone()));
        assert_eq!(executor.train_step(&images, target, &settings), Err(want.clone()));
        assert_eq!(executor.gradients(&images, target), Err(want));
    }
    let uphill = StepSettings { learning_rate: -1.0, ..settings };
    let error = executor.train_step(&images, Target::Labels(&[0, 1]), &uphill).unwrap_err();
    assert!(matches!(error, EngineError::Setting { setting: "learning rate", .. }), "{error}");
    assert_eq!(common::bits(executor.parameter("w").unwrap()), before);
}

#[test]
fn parameters_are_checked_by_name_and_shape() {
    let graph = linear();
    let mut executor = executor(&graph, 2, Isa::detect());
    assert!(matches!(executor.parameter("nobody"), Err(EngineError::UnknownParameter { .. })));
    assert!(matches!(executor.gradient("nobody"), Err(EngineError::UnknownParameter { .. })));
    assert!(matches!(executor.gradient("w"), Err(EngineError::NoGradient { .. })));
    let shape = |found: &str| EngineError::ParameterShape {
        name: "w".into(),
        expected: vec![3, 4],
        found: found.into(),
    };
    assert_eq!(executor.set_parameter("w", &[0.0; 11]), Err(shape("11 values")));
    assert_eq!(executor.set_mask("w", Some(&[true; 13])), Err(shape("13 flags")));
    assert_eq!(executor.set_momentum(&[("w".into(), vec![0.0; 2])]), Err(shape("2 values")));

    let mut other = linear();
    other.weights["w"].tensor = Tensor::f32(vec![4, 3], vec![0.0; 12]).unwrap();
    assert_eq!(executor.load_parameters(&other), Err(shape("values of shape [4, 3]")));
    assert_eq!(executor.store_parameters(&mut other), Err(shape("values of shape [4, 3]")));
    other.weights.shift_remove("w");
    assert!(matches!(executor.load_parameters(&other), Err(EngineError::UnknownParameter { .. })));
}

#[test]
fn parameters_come_and_go() {
    let mut graph = linear();
    let mut executor = executor(&graph, 2, Isa::detect());
    let images = [0.5, -0.25, 1.0];
    let before = executor.outputs(&images).unwrap();
    let w = common::noise(12, 9);
    executor.set_parameter("w", &w).unwrap();
    assert_ne!(executor.outputs(&images).unwrap(), before, "the change is seen");
    let moved = executor.outputs(&images).unwrap();
    executor.load_parameters(&graph).unwrap();
    assert_eq!(executor.outputs(&images).unwrap(), before);
    executor.set_parameter("w", &w).unwrap();
    executor.store_parameters(&mut graph).unwrap();
    assert_eq!(graph.weights["w"].tensor.as_f32().unwrap(), w);
    assert_eq!(common::executor(&graph, 5, Isa::detect()).outputs(&images).unwrap(), moved);
    assert!(executor.peak_bytes() > 4 * 16);
}

#[test]
fn logits_stand_before_the_softmax_and_outputs_behind() {
    let mut executor = executor(&linear(), 2, Isa::detect());
    let images = [0.5, -0.25, 1.0, 2.0, 0.0, -1.0];
    let (logits, outputs) = (executor.logits(&images).unwrap(), executor.outputs(&images).unwrap());
    for (row, p) in logits.chunks(4).zip(outputs[0].chunks(4)) {
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        row.iter().zip(p).for_each(|(x, p)| assert!((x.exp() / sum - p).abs() < 1e-6));
    }
}

#[test]
fn fixed_batch_files_take_other_batches() {
    let mut graph = linear();
    graph.inputs[0].shape = Some(vec![Dim::Known(1), Dim::Known(3)]);
    let mut executor = executor(&graph, 4, Isa::detect());
    assert_eq!(executor.logits(&[0.5; 12]).unwrap().len(), 16);
}

#[test]
fn run_takes_several_inputs_of_any_batch() {
    let mut graph = Graph::default();
    graph.metadata.opset = 13;
    graph.inputs.extend([value_info("a", &[2]), value_info("b", &[2])]);
    graph.nodes.push(Node::new("sub", "Sub", &["a", "b"], &["d"]));
    graph.nodes.push(Node::new("abs", "Abs", &["d"], &["m"]));
    graph.outputs.extend([output("m"), output("d")]);
    let a = Tensor::f32(vec![3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let b = Tensor::f32(vec![1, 2], vec![3.0, 3.0]).unwrap();
    let outputs = run(&graph, &[("b", &b), ("a", &a)], Isa::detect()).unwrap();
    assert_eq!(outputs[0].0, "m");
    assert_eq!(outputs[0].1.as_f32().unwrap(), [2.0, 1.0, 0.0, 1.0, 2.0, 3.0]);
    assert_eq!(outputs[1].1.shape(), [3, 2]);

    let missing = run(&graph, &[("a", &a)], Isa::detect()).unwrap_err();
    assert_eq!(missing, EngineError::InputName { input: "b".into(), problem: "missing" });
    let unknown = run(&graph, &[("a", &a), ("b", &b), ("c", &b)], Isa::detect()).unwrap_err();
    assert!(matches!(unknown, EngineError::InputName { .. }));
    let integers = Tensor::i64_vector(vec![1, 2]);
    let wrong = run(&graph, &[("a", &a), ("b", &integers)], Isa::detect()).unwrap_err();
    assert!(matches!(wrong, EngineError::ElementType { .. }), "{wrong}");
    let tall = Tensor::f32(vec![2, 2], vec![0.0; 4]).unwrap();
    let uneven = run(&graph, &[("a", &a), ("b", &tall)], Isa::detect()).unwrap_err();
    assert!(matches!(uneven, EngineError::Graph(GraphError::ShapeMismatch { .. })), "{uneven}");
}

#[test]
fn formulas_spelled_out_in_constants_are_not_trained() {
    // x -> (x - mean) / std -> Gemm -> * 0.5: the normalisation and the factor belong to the formula.
    let mut graph = linear();
    insert(&mut graph, "mean", vec![3], vec![0.5; 3]);
    insert(&mut graph, "std", vec![3], vec![2.0; 3]);
    insert(&mut graph, "half", vec![], vec![0.5]);
    graph.nodes[0].inputs[0] = "n".into();
    graph.nodes[1].inputs[0] = "h".into();
    graph.nodes.insert(0, Node::new("center", "Sub", &["x", "mean"], &["c"]));
    graph.nodes.insert(1, Node::new("scale", "Div", &["c", "std"], &["n"]));
    graph.nodes.insert(3, Node::new("half", "Mul", &["y", "half"], &["h"]));
    let mut executor = executor(&graph, 2, Isa::detect());
    executor.train_step(&[0.5; 6], Target::Labels(&[0, 1]), &StepSettings::default()).unwrap();
    for (name, trained) in [("mean", false), ("std", false), ("half", false), ("w", true), ("b", true)] {
        assert_eq!(executor.gradient(name).is_ok(), trained, "{name}");
        let same = executor.parameter(name).unwrap() == graph.weights[name].tensor.as_f32().unwrap();
        assert_eq!(same, !trained, "{name}");
    }
}

#[test]
fn a_pooling_that_shape_inference_accepts_never_panics() {
    for (kernel, pad, stride, ceil) in [(2, 1, 3, 1), (1, 0, 5, 1), (3, 2, 2, 1), (7, 3, 1, 0), (8, 0, 1, 0)]
    {
        for op in ["MaxPool", "AveragePool"] {
            let mut graph = Graph::default();
            graph.metadata.opset = 19;
            graph.inputs.push(value_info("x", &[2, 7, 7]));
            let ints = |v: i64, n: usize| Attribute::Ints(vec![v; n]);
            let node = Node::new("pool", op, &["x"], &["y"]).with("kernel_shape", ints(kernel, 2));
            let node = node.with("pads", ints(pad, 4)).with("strides", ints(stride, 2));
            graph.nodes.push(node.with("ceil_mode", Attribute::Int(ceil)));
            graph.outputs.push(ValueInfo { name: "y".into(), dtype: DType::F32, shape: None });
            if let Ok(mut executor) = CpuExecutor::new(&graph, 1, &EngineOptions::default()) {
                executor.outputs(&common::noise(98, 3)).unwrap();
            }
        }
    }
}

#[test]
fn tables_of_rotary_positions_that_do_not_fit_the_data_are_refused() {
    let with = |rows: usize, heads: bool| {
        let mut graph = Graph::default();
        graph.metadata.opset = 23;
        // One position of two heads with six elements each.
        graph.inputs.push(value_info("x", if heads { &[1, 12] } else { &[2, 1, 6] }));
        let mut node = Node::new("turn", "RotaryEmbedding", &["x", "cos", "sin"], &["t"]);
        if heads {
            node = node.with("num_heads", Attribute::Int(2));
        }
        graph.nodes.push(node);
        graph.nodes.push(Node::new("flat", "Flatten", &["t"], &["y"]));
        graph.outputs.push(output("y"));
        insert(&mut graph, "cos", vec![1, rows, 3], common::noise(3 * rows, 1));
        insert(&mut graph, "sin", vec![1, rows, 3], common::noise(3 * rows, 2));
        graph
    };
    for heads in [true, false] {
        let mut executor = CpuExecutor::new(&with(1, heads), 2, &EngineOptions::default()).unwrap();
        let images = common::noise(24, 3);
        executor.train_step(&images, Target::Labels(&[0, 11]), &StepSettings::default()).unwrap();
        let message = refused(&with(4, heads));
        assert!(message.contains("turn") && message.contains("1 x 4 positions"), "{message}");
    }
}

/// Keys and values may be slices of no length: a cache that is empty at first.
#[test]
fn attention_over_no_keys_is_refused() {
    for (masked, causal) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
        let mut graph = Graph::default();
        graph.metadata.opset = 23;
        graph.inputs.push(value_info("q", &[1, 2, 3]));
        for (name, value) in [("from", 0), ("to", 0), ("axis", 2)] {
            graph.weights.insert(name.into(), Tensor::i64_vector(vec![value]).into());
        }
        graph.nodes.push(Node::new("cut", "Slice", &["q", "from", "to", "axis"], &["k"]));
        let mut inputs = vec!["q", "k", "k"];
        if masked {
            insert(&mut graph, "m", vec![1, 1, 2, 0], Vec::new());
            inputs.push("m");
        }
        let attend = Node::new("attend", "Attention", &inputs, &["y"]);
        graph.nodes.push(attend.with("is_causal", Attribute::Int(causal)));
        graph.outputs.push(output("y"));
        let q = Tensor::f32(vec![1, 1, 2, 3], common::noise(6, 1)).unwrap();
        let refusal = run(&graph, &[("q", &q)], Isa::detect()).unwrap_err().to_string();
        assert!(refusal.contains("cut") && refusal.contains("no elements"), "{refusal}");
    }
}

/// Many values alive at once, and many one after the other: planning takes seconds, not minutes.
#[test]
fn planning_is_not_quadratic_in_the_nodes() {
    const NODES: usize = 40_000;
    let node = |i: usize, op: &str, inputs: Vec<String>, output: String| Node {
        name: format!("n{i}"),
        op: op.into(),
        inputs,
        outputs: vec![output],
        ..Node::default()
    };
    let info = |name: &str| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(vec![Dim::Known(1), Dim::Known(2)]),
    };
    let relu = |i: usize, from: String| node(i, "Relu", vec![from], format!("v{i}"));
    let wide = (0..NODES).map(|i| relu(i, "x".into()));
    let sum = node(NODES, "Sum", (0..NODES).map(|i| format!("v{i}")).collect(), "y".into());
    let long = (0..NODES).map(|i| relu(i, if i == 0 { "x".into() } else { format!("v{}", i - 1) }));
    let last = node(NODES, "Relu", vec![format!("v{}", NODES - 1)], "y".into());
    for nodes in [wide.chain([sum]).collect::<Vec<_>>(), long.chain([last]).collect()] {
        let mut graph =
            Graph { nodes, inputs: vec![info("x")], outputs: vec![info("y")], ..Graph::default() };
        graph.metadata.opset = 17;
        let began = std::time::Instant::now();
        slq_graph::validate(&graph).unwrap();
        let input = Tensor::f32(vec![1, 2], vec![1.0, -1.0]).unwrap();
        let out = slq_engine::run(&graph, &[("x", &input)], Isa::Scalar).unwrap();
        assert!(out[0].1.as_f32().unwrap()[0] >= 1.0);
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
