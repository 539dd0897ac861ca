//! Shape inference over whole graphs built by hand.

use slq_graph::op::{BinaryOp, Op, Padding, Window};
use slq_graph::{
    Attribute, DType, Dim, Graph, GraphError, Node, Tensor, TensorData, ValueInfo, infer_shapes,
};

fn graph(nodes: Vec<Node>, weights: Vec<(&str, Tensor)>) -> Graph {
    let value = |name: &str| ValueInfo { name: name.into(), dtype: DType::F32, shape: None };
    let output = nodes.last().unwrap().outputs[0].clone();
    Graph {
        inputs: vec![value("x")],
        outputs: vec![value(&output)],
        nodes,
        weights: weights.into_iter().map(|(n, t)| (n.to_string(), t.into())).collect(),
        metadata: slq_graph::Metadata { opset: 13, ..Default::default() },
        ..Graph::default()
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::f32(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap()
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::i64_vector(values.to_vec())
}

#[test]
fn a_lenet_has_the_shapes_of_the_published_one() {
    let g = graph(
        vec![
            Node::new("conv1", "Conv", &["x", "w1", "b1"], &["c1"]),
            Node::new("pool1", "MaxPool", &["c1"], &["p1"])
                .with("kernel_shape", Attribute::Ints(vec![2, 2]))
                .with("strides", Attribute::Ints(vec![2, 2])),
            Node::new("flat", "Flatten", &["p1"], &["f"]),
            Node::new("ip", "Gemm", &["f", "w2", "b2"], &["y"]).with("transB", Attribute::Int(1)),
        ],
        vec![
            ("w1", zeros(&[20, 1, 5, 5])),
            ("b1", zeros(&[20])),
            ("w2", zeros(&[10, 2880])),
            ("b2", zeros(&[10])),
        ],
    );
    let shapes = infer_shapes(&g, &[("x", vec![3, 1, 28, 28])]).unwrap();
    assert_eq!(shapes.get("c1"), Some(&[3, 20, 24, 24][..]));
    assert_eq!(shapes.get("p1"), Some(&[3, 20, 12, 12][..]));
    assert_eq!(shapes.get("y"), Some(&[3, 10][..]));
    assert_eq!(shapes.ops().len(), 4);
    let window =
        Window { kernel: [5, 5], strides: [1, 1], dilations: [1, 1], padding: Padding::Explicit([0; 4]) };
    assert_eq!(shapes.ops()[0], (0, Op::Conv { window, groups: 1 }));
}

#[test]
fn a_reshape_computed_from_the_inputs_shape_is_followed() {
    // x.view(x.size(0), -1), as older exporters of PyTorch write it.
    let g = graph(
        vec![
            Node::new("shape", "Shape", &["x"], &["s"]),
            Node::new("size", "Gather", &["s", "zero"], &["n"]),
            Node::new("wide", "Unsqueeze", &["n"], &["n1"]).with("axes", Attribute::Ints(vec![0])),
            Node::new("join", "Concat", &["n1", "rest"], &["t"]).with("axis", Attribute::Int(0)),
            Node::new("view", "Reshape", &["x", "t"], &["y"]),
        ],
        vec![("zero", Tensor::new(vec![], TensorData::I64(vec![0])).unwrap()), ("rest", ints(&[-1]))],
    );
    let shapes = infer_shapes(&g, &[("x", vec![4, 2, 3, 5])]).unwrap();
    assert_eq!(shapes.get("y"), Some(&[4, 30][..]));
    assert_eq!(shapes.folded(), [0, 1, 2, 3]);
    assert_eq!(shapes.ops(), [(4, Op::Reshape { target: vec![4, -1] })]);
    assert_eq!(shapes.constant("t").unwrap().to_i64(), Some(vec![4, -1]));
}

#[test]
fn nodes_out_of_order_are_run_in_order_and_dead_ones_are_left_out() {
    let g = graph(
        vec![
            Node::new("second", "Relu", &["a"], &["b"]),
            Node::new("dead", "NoSuchOperator", &["a"], &["d"]),
            Node::new("first", "Add", &["x", "x"], &["a"]),
            Node::new("last", "Tanh", &["b"], &["y"]),
        ],
        vec![],
    );
    let shapes = infer_shapes(&g, &[("x", vec![2, 3])]).unwrap();
    assert_eq!(shapes.ops().iter().map(|(i, _)| *i).collect::<Vec<_>>(), [2, 0, 3]);
    assert_eq!(shapes.ops()[0].1, Op::Binary(BinaryOp::Add));
}

#[test]
fn each_error_names_its_node() {
    let conv = |name: &str, value: Attribute| {
        graph(
            vec![Node::new("bad", "Conv", &["x", "w"], &["y"]).with(name, value)],
            vec![("w", zeros(&[4, 3, 3, 3]))],
        )
    };
    let single = |node: Node| graph(vec![node], vec![("w", zeros(&[4, 3, 3, 3])), ("i", ints(&[0, 0, -1]))]);
    let axis = |op: &str, v: i64| Node::new("bad", op, &["x"], &["y"]).with("axis", Attribute::Int(v));
    let cases = vec![
        conv("strides", Attribute::Ints(vec![0, 1])),
        conv("strides", Attribute::Ints(vec![1])),
        conv("dilations", Attribute::Ints(vec![1, -1])),
        conv("pads", Attribute::Ints(vec![0, 0, -1, 0])),
        conv("kernel_shape", Attribute::Ints(vec![5, 5])),
        conv("group", Attribute::Int(3)),
        conv("group", Attribute::Int(0)),
        conv("group", Attribute::Float(1.0)),
        conv("auto_pad", Attribute::String(b"SOME".to_vec())),
        conv("dilations", Attribute::Ints(vec![9, 9])),
        single(Node::new("bad", "Resize", &["x"], &["y"])),
        single(Node { domain: "com.example".into(), ..Node::new("bad", "Relu", &["x"], &["y"]) }),
        single(Node::new("bad", "Conv", &["x"], &["y"])),
        single(Node::new("bad", "MaxPool", &["x"], &["y"])),
        single(Node::new("bad", "Reshape", &["x", "x"], &["y"])),
        single(Node::new("bad", "Reshape", &["x", "i"], &["y"]).with("allowzero", Attribute::Int(1))),
        single(Node::new("bad", "Add", &["x", "w"], &["y"])),
        single(Node::new("bad", "MatMul", &["x", "w"], &["y"])),
        single(axis("Softmax", 4)),
        single(axis("Concat", -5)),
        single(axis("Flatten", 5)),
        single(Node::new("bad", "Transpose", &["x"], &["y"]).with("perm", Attribute::Ints(vec![0, 1, 1, 2]))),
        single(Node::new("bad", "Dropout", &["x"], &["y"]).with("ratio", Attribute::Float(1.0))),
        single(Node::new("bad", "Pad", &["x"], &["y"]).with("pads", Attribute::Ints(vec![1, 1]))),
        single(Node::new("bad", "Pad", &["x"], &["y"]).with("pads", Attribute::Ints(vec![1 << 39; 8]))),
        single(
            Node::new("bad", "Slice", &["x"], &["y"])
                .with("starts", Attribute::Ints(vec![5]))
                .with("ends", Attribute::Ints(vec![2])),
        ),
    ];
    for g in cases {
        let error = infer_shapes(&g, &[("x", vec![2, 3, 8, 8])]).unwrap_err();
        assert!(error.to_string().contains("`bad`"), "{error}");
    }
}

#[test]
fn windows_run_over_one_to_three_axes() {
    let shape = |op: &str, weight: &[usize], input: &[usize], attributes: &[(&str, Vec<i64>)]| {
        let mut node = Node::new("c", op, &["x", "w"], &["y"]);
        for (name, values) in attributes {
            node = node.with(name, Attribute::Ints(values.clone()));
        }
        let g = graph(vec![node], vec![("w", zeros(weight))]);
        infer_shapes(&g, &[("x", input.to_vec())]).map(|s| s.get("y").unwrap().to_vec())
    };
    assert_eq!(shape("Conv", &[4, 3, 3], &[2, 3, 8], &[("strides", vec![2])]).unwrap(), [2, 4, 3]);
    let strides = [("strides", vec![2, 1, 1]), ("pads", vec![1, 0, 0, 1, 0, 0])];
    assert_eq!(shape("Conv", &[4, 3, 3, 2, 1], &[2, 3, 5, 4, 4], &strides).unwrap(), [2, 4, 3, 3, 4]);
    let transposed = [("strides", vec![2, 1, 1]), ("output_padding", vec![1, 0, 0])];
    assert_eq!(
        shape("ConvTranspose", &[3, 4, 3, 2, 1], &[2, 3, 5, 4, 4], &transposed).unwrap(),
        [2, 4, 12, 5, 4]
    );
    let error = shape("Conv", &[4, 3, 1, 1, 1, 1], &[2, 3, 4, 4, 4, 4], &[]).unwrap_err();
    assert!(matches!(error, GraphError::UnsupportedForm { .. }));
    assert!(error.to_string().contains("4 spatial axes") && error.to_string().contains("kmeans"), "{error}");
    let error = shape("Conv", &[4, 3, 3], &[2, 3, 8, 8], &[]).unwrap_err();
    assert!(error.to_string().contains("number of axes"), "{error}");
}

/// `nn.MultiheadAttention` as PyTorch exports it joins an empty part of a shape with others.
#[test]
fn parts_of_a_shape_may_be_empty() {
    let nodes = vec![
        Node::new("s", "Shape", &["x"], &["s"]),
        Node::new("none", "Slice", &["s", "start", "end"], &["none"]),
        Node::new("join", "Concat", &["none", "open", "last"], &["to"]).with("axis", Attribute::Int(0)),
        Node::new("r", "Reshape", &["x", "to"], &["y"]),
    ];
    let weights = [("start", 2), ("end", 2), ("open", -1), ("last", 4)].map(|(name, v)| (name, ints(&[v])));
    let shapes = infer_shapes(&graph(nodes, weights.to_vec()), &[("x", vec![2, 6])]).unwrap();
    assert_eq!((shapes.get("none"), shapes.get("y")), (Some(&[0][..]), Some(&[3, 4][..])));
}

#[test]
fn input_shapes_are_checked_against_the_declaration() {
    let mut g = graph(vec![Node::new("r", "Relu", &["x"], &["y"])], vec![]);
    assert!(matches!(infer_shapes(&g, &[]), Err(GraphError::InputShapeNeeded { .. })));
    assert!(matches!(infer_shapes(&g, &[("z", vec![1])]), Err(GraphError::UnknownInput { .. })));
    assert!(matches!(infer_shapes(&g, &[("x", vec![2, 0])]), Err(GraphError::InputShape { .. })));
    assert!(matches!(infer_shapes(&g, &[("x", vec![usize::MAX, 3])]), Err(GraphError::InputShape { .. })));
    g.inputs[0].shape = Some(vec![Dim::Symbol("N".into()), Dim::Known(3)]);
    assert!(infer_shapes(&g, &[("x", vec![2, 3])]).is_ok());
    assert!(matches!(infer_shapes(&g, &[("x", vec![2, 4])]), Err(GraphError::InputShape { .. })));
    assert!(matches!(infer_shapes(&g, &[("x", vec![3])]), Err(GraphError::InputShape { .. })));
    g.inputs[0].shape = Some(vec![Dim::Known(2), Dim::Known(3)]);
    assert_eq!(infer_shapes(&g, &[]).unwrap().get("y"), Some(&[2, 3][..]));
}

#[test]
fn cycles_and_loose_ends_are_named() {
    let cyclic = graph(
        vec![
            Node::new("a", "Add", &["x", "q"], &["p"]),
            Node::new("b", "Relu", &["p"], &["q"]),
            Node::new("c", "Relu", &["q"], &["y"]),
        ],
        vec![],
    );
    let Err(GraphError::Cycle { mut nodes }) = infer_shapes(&cyclic, &[("x", vec![1])]) else { panic!() };
    nodes.sort();
    assert_eq!(nodes, ["a", "b"]);
    let loose = graph(vec![Node::new("a", "Add", &["x", "nowhere"], &["y"])], vec![]);
    assert!(matches!(infer_shapes(&loose, &[("x", vec![1])]), Err(GraphError::UnknownValue { .. })));
    let mut no_output = graph(vec![Node::new("a", "Relu", &["x"], &["y"])], vec![]);
    no_output.outputs[0].name = "z".into();
    assert!(matches!(infer_shapes(&no_output, &[("x", vec![1])]), Err(GraphError::UnknownOutput { .. })));
}

#[test]
fn a_mask_that_is_read_is_refused() {
    let dropout = Node::new("d", "Dropout", &["x"], &["h", "mask"]);
    let reader = |name: &str| Node::new("r", "Relu", &[name], &["y"]);
    let unread = graph(vec![dropout.clone(), reader("h")], vec![]);
    assert!(infer_shapes(&unread, &[("x", vec![2])]).is_ok());
    assert!(Op::resolve(&unread, &dropout, &[Some(&[2])]).is_ok());
    let read = graph(vec![dropout.clone(), reader("mask")], vec![]);
    assert!(matches!(infer_shapes(&read, &[("x", vec![2])]), Err(GraphError::UnsupportedForm { .. })));
    assert!(matches!(Op::resolve(&read, &dropout, &[Some(&[2])]), Err(GraphError::UnsupportedForm { .. })));
}

/// Quadratic work on this many nodes would take minutes.
#[test]
fn long_graphs_take_no_longer_than_they_must() {
    let length = 60_000;
    let mut nodes = vec![Node::new("first", "Relu", &["x"], &["v0"])];
    for i in 0..length {
        let (from, to, mask) = (format!("v{i}"), format!("v{}", i + 1), format!("m{i}"));
        nodes.push(match i % 3 {
            0 => Node::new("", "Dropout", &[&from], &[&to, &mask]),
            1 => Node::new("", "Identity", &[&from], &[&to]),
            _ => Node::new("", "Add", &[&from, &from], &[&to]),
        });
    }
    nodes.reverse();
    nodes.push(Node::new("last", "Relu", &[&format!("v{length}")], &["y"]));
    let mut g = graph(nodes, vec![]);
    assert_eq!(slq_graph::name_nodes(&mut g), length);
    assert_eq!(infer_shapes(&g, &[("x", vec![2])]).unwrap().ops().len(), length + 2);
    slq_graph::sort_topologically(&mut g).unwrap();
    slq_graph::validate(&g).unwrap();
    assert_eq!(slq_graph::fold::fold_batch_norms(&mut g), 0);
    assert_eq!(slq_graph::fold::fold_constants(&mut g), Ok(0));
    assert_eq!(g.nodes.len(), length + 2);
}

#[test]
fn folding_long_chains_takes_no_longer_than_it_must() {
    let length = 60_000;
    let chain = |extent: usize, shared: bool| {
        let mut nodes: Vec<Node> = (0..length)
            .map(|i| {
                let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
                let inputs = [from.as_str(), from.as_str()];
                let op = ["Neg", "Identity", "Add"][i % 3];
                Node::new(&format!("n{i}"), op, &inputs[..if op == "Add" { 2 } else { 1 }], &[&to])
            })
            .collect();
        nodes.reverse();
        nodes.push(Node::new("last", "Add", &["x", &format!("v{length}")], &["y"]));
        if shared {
            nodes.insert(0, Node::new("other", "Add", &["x", "v0"], &["z"]));
        }
        graph(nodes, vec![("v0", zeros(&[extent]))])
    };
    let mut small = chain(2, true);
    assert_eq!(slq_graph::fold::fold_constants(&mut small), Ok(length));
    assert_eq!(small.weights.len(), 2);
    // A large weight that another node reads is not copied, and nothing behind it is constant then.
    let mut large = chain(1 << 15, true);
    assert_eq!(slq_graph::fold::fold_constants(&mut large), Ok(0));
    assert_eq!(large.weights.len(), 1);
}

#[test]
fn softmax_changed_its_meaning_with_opset_13() {
    let mut g = graph(vec![Node::new("s", "Softmax", &["x"], &["y"])], vec![]);
    let op = |g: &Graph| infer_shapes(g, &[("x", vec![2, 3, 4])]).unwrap().ops()[0].1.clone();
    assert_eq!(op(&g), Op::Softmax { axis: 2, flatten: false, log: false });
    g.metadata.opset = 11;
    assert_eq!(op(&g), Op::Softmax { axis: 1, flatten: true, log: false });
}

#[test]
fn bounds_of_clip_come_from_attributes_or_inputs() {
    let scalar = |v: f32| Tensor::f32(vec![], vec![v]).unwrap();
    let by_input = graph(vec![Node::new("c", "Clip", &["x", "", "six"], &["y"])], vec![("six", scalar(6.0))]);
    let by_attribute =
        graph(vec![Node::new("c", "Clip", &["x"], &["y"]).with("max", Attribute::Float(6.0))], vec![]);
    for g in [by_input, by_attribute] {
        let shapes = infer_shapes(&g, &[("x", vec![2])]).unwrap();
        assert_eq!(shapes.ops()[0].1, Op::Clip { min: f32::NEG_INFINITY, max: 6.0 });
    }
}

#[test]
fn shape_arithmetic_without_end_is_refused() {
    let mut nodes = vec![Node::new("n0", "ConstantOfShape", &["dims"], &["v0"])];
    for i in 0..1100 {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        nodes.push(Node::new(&format!("n{}", i + 1), "Add", &[&from, &from], &[&to]));
    }
    nodes.push(Node::new("last", "Add", &["x", "v1100"], &["y"]));
    let g = graph(nodes, vec![("dims", ints(&[4096]))]);
    let error = infer_shapes(&g, &[("x", vec![2, 4096])]).unwrap_err();
    assert_eq!(error, GraphError::TooManyConstants { node: "n1024".into(), limit: 1 << 22 });
}
