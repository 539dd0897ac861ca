//! Whatever a graph holds, nothing panics, hangs or allocates without bound.

use proptest::prelude::*;
use slq_graph::op::Op;
use slq_graph::{Attribute, DType, Graph, Metadata, Node, Palette, Tensor, TensorData, ValueInfo, Weight};
use slq_graph::{fold, infer_shapes, name_nodes, sort_topologically, stats, validate};

const OPS: [&str; 83] = [
    "Conv",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "LRN",
    "Dropout",
    "Softmax",
    "LogSoftmax",
    "Clip",
    "PRelu",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Max",
    "Min",
    "Sum",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "HardSwish",
    "Exp",
    "Concat",
    "Split",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Pad",
    "ReduceMean",
    "ReduceSum",
    "Identity",
    "Cast",
    "Shape",
    "Size",
    "Gather",
    "ConstantOfShape",
    "Range",
    "ReduceProd",
    "Equal",
    "Where",
    "Mod",
    "Floor",
    "Ceil",
    "Constant",
    "Resize",
    "Loop",
    "Einsum",
    "QLinearConv",
    "",
    "Relu6",
    "Upsample",
    "DepthToSpace",
    "SpaceToDepth",
    "TopK",
    "ArgMax",
    "Tile",
    "CumSum",
    "Trilu",
    "GatherElements",
    "GatherND",
    "LSTM",
    "GRU",
    "RNN",
    "Attention",
    "RotaryEmbedding",
    "GridSample",
    "Mean",
    "BitShift",
    "CastLike",
    "ReduceMax",
    "ReduceLogSum",
];

const ATTRIBUTES: [&str; 41] = [
    "kernel_shape",
    "strides",
    "pads",
    "dilations",
    "group",
    "auto_pad",
    "ceil_mode",
    "count_include_pad",
    "axis",
    "axes",
    "perm",
    "keepdims",
    "split",
    "num_outputs",
    "starts",
    "ends",
    "steps",
    "alpha",
    "beta",
    "epsilon",
    "size",
    "ratio",
    "transB",
    "to",
    "value",
    "output_padding",
    "output_shape",
    "noop_with_empty_axes",
    "mode",
    "allowzero",
    "blocksize",
    "hidden_size",
    "direction",
    "layout",
    "scales",
    "q_num_heads",
    "kv_num_heads",
    "equation",
    "batch_dims",
    "coordinate_transformation_mode",
    "num_heads",
];

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => -3i64..6,
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, 1 << 31, 1 << 40, -(1 << 40), 1 << 24]),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        4 => number().prop_map(Attribute::Int),
        4 => prop::collection::vec(number(), 0..5).prop_map(Attribute::Ints),
        1 => any::<f32>().prop_map(Attribute::Float),
        1 => prop::sample::select(vec!["SAME_UPPER", "SAME_LOWER", "VALID", "reflect", "edge", "\u{7}"])
            .prop_map(|s| Attribute::String(s.into())),
        1 => Just(Attribute::String(vec![0xff, 0xfe])),
        1 => prop::collection::vec(number(), 0..3).prop_map(|v| Attribute::Tensor(Tensor::i64_vector(v))),
    ]
}

/// One of few names, so that nodes meet; now and then one that is omitted.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        9 => prop::sample::select(vec![
            "x", "w4", "w2", "w1", "w0", "i1", "i4", "is", "f", "hollow", "a", "b", "c", "d", "y",
        ]),
        1 => Just(""),
    ]
    .prop_map(str::to_string)
}

fn node() -> impl Strategy<Value = Node> {
    (
        prop::sample::select(OPS.to_vec()),
        prop::collection::vec(name(), 0..6),
        prop::collection::vec(name(), 0..3),
        prop::collection::btree_map(prop::sample::select(ATTRIBUTES.to_vec()), attribute(), 0..5),
        prop::sample::select(vec!["", "one", "one", "two"]),
    )
        .prop_map(|(op, inputs, outputs, attributes, name)| Node {
            name: name.into(),
            op: op.into(),
            inputs,
            outputs,
            attributes: attributes.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            ..Node::default()
        })
}

fn graph() -> impl Strategy<Value = Graph> {
    let extent = || prop_oneof![6 => 1usize..4, 1 => 0usize..2];
    let float = move |rank: usize| {
        prop::collection::vec(extent(), rank).prop_map(|shape| {
            let values = (0..shape.iter().product::<usize>()).map(|i| i as f32 - 1.0).collect();
            Weight::from(Tensor::f32(shape, values).unwrap())
        })
    };
    let ints =
        |n: usize| prop::collection::vec(number(), n).prop_map(|v| Weight::from(Tensor::i64_vector(v)));
    let weights = (float(4), float(2), float(1), float(0), ints(1), ints(4), number(), any::<f32>());
    let opset = prop::sample::select(vec![-1i64, 0, 7, 9, 11, 13, 18, 25, i64::MAX]);
    (prop::collection::vec(node(), 1..6), weights, opset).prop_map(|(mut nodes, weights, opset)| {
        let (w4, mut w2, w1, w0, i1, i4, is, f) = weights;
        let hollow = Tensor::f32(vec![0, 1 << 40, 1 << 40, 1 << 40], vec![]).unwrap();
        // A palette whose length may or may not be the weight's.
        w2.palette = Palette::fully_fixed(vec![0.0, 1.0], 1, vec![0, 1, 0, 1]).ok();
        if let Some(last) = nodes.last_mut() {
            last.outputs = vec!["y".into()];
        }
        let scalar = |data| Weight::from(Tensor::new(vec![], data).unwrap());
        let list = [
            ("w4", w4),
            ("w2", w2),
            ("w1", w1),
            ("w0", w0),
            ("i1", i1),
            ("i4", i4),
            ("is", scalar(TensorData::I64(vec![is]))),
            ("f", scalar(TensorData::F32(vec![f]))),
            ("hollow", hollow.into()),
        ];
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            weights: list.into_iter().map(|(n, w)| (n.to_string(), w)).collect(),
            nodes,
            metadata: Metadata { opset, ..Metadata::default() },
            ..Graph::default()
        }
    })
}

/// Equality under which NaN equals itself.
fn same(a: &Graph, b: &Graph) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

fn extents() -> impl Strategy<Value = Vec<usize>> {
    let extent = prop_oneof![12 => 1usize..9, 1 => Just(0), 1 => Just(usize::MAX), 1 => Just(1 << 33)];
    prop::collection::vec(extent, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn random_graphs_never_panic(graph in graph(), shape in extents()) {
        let _ = validate(&graph);
        let _ = stats::summary(&graph);
        if let Ok(shapes) = infer_shapes(&graph, &[("x", shape)]) {
            for (_, shape) in shapes.iter().filter(|(n, _)| !graph.weights.contains_key(*n)) {
                let count = slq_graph::element_count(shape);
                prop_assert!(count.is_some_and(|n| n <= slq_graph::infer::LARGEST_VALUE));
            }
            let _ = stats::macs(&graph, &shapes);
        }
        let changed = |change: &dyn Fn(&mut Graph)| {
            let mut graph = graph.clone();
            change(&mut graph);
            let _ = infer_shapes(&graph, &[("x", vec![2, 2, 4, 4])]);
        };
        changed(&|g| assert!(name_nodes(g) <= g.nodes.len()));
        changed(&|g| assert!(fold::fold_batch_norms(g) <= 6));
        changed(&|g| assert!(fold::fold_constants(g).is_ok_and(|n| n <= 6) || !g.nodes.is_empty()));
    }

    #[test]
    fn folding_changes_no_shape_and_nothing_twice(mut graph in graph(), shape in extents()) {
        let before = infer_shapes(&graph, &[("x", shape.clone())]);
        if fold::fold_constants(&mut graph).is_ok() {
            if let (Ok(before), Ok(after)) = (&before, infer_shapes(&graph, &[("x", shape)])) {
                for (name, shape) in after.iter() {
                    prop_assert_eq!(before.get(name).unwrap_or(shape), shape);
                }
            }
            let once = graph.clone();
            prop_assert_eq!(fold::fold_constants(&mut graph), Ok(0));
            prop_assert!(same(&graph, &once));
        }
    }

    #[test]
    fn a_single_node_never_panics(node in node(), graph in graph(), shapes in prop::collection::vec(extents(), 6)) {
        let shapes: Vec<Option<&[usize]>> = shapes.iter().map(|s| (s.len() < 5).then_some(&s[..])).collect();
        let _ = Op::resolve(&graph, &node, &shapes);
    }

    #[test]
    fn sorting_then_validating_never_reports_order(mut graph in graph()) {
        name_nodes(&mut graph);
        if sort_topologically(&mut graph).is_ok() {
            let error = validate(&graph).err().map(|e| e.to_string()).unwrap_or_default();
            prop_assert!(!error.contains("before it is written") && !error.contains("has no name"), "{}", error);
        }
    }
}
