//! Weights as blocks of integers for onnxruntime: written, read back, and what cannot be written.

use slq_graph::{Attribute, DType, Dim, Graph, Node, Palette, Tensor, ValueInfo, infer_shapes};
use slq_onnx::{
    Data, OnnxError, Unpacked, WriteOptions, block_of, for_onnxruntime, read, read_bytes, write, write_bytes,
};

const BLOCKED: WriteOptions = WriteOptions { dense: false, blocked: true, data: Data::AsNeeded };

fn value(name: &str, dims: &[Dim]) -> ValueInfo {
    ValueInfo { name: name.into(), dtype: DType::F32, shape: Some(dims.to_vec()) }
}

/// x [?, 64] through a Gemm of 64 to 3 outputs and a bias, and a Clip of operator set 9.
fn network(trans: bool) -> Graph {
    let mut graph = Graph::default();
    graph.metadata.opset = 9;
    graph.inputs.push(value("x", &[Dim::Unknown, Dim::Known(64)]));
    graph.outputs.push(value("y", &[Dim::Unknown, Dim::Known(3)]));
    let shape = if trans { vec![3, 64] } else { vec![64, 3] };
    let values = (0..192).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
    graph.weights.insert("w".into(), Tensor::f32(shape, values).unwrap().into());
    graph.weights.insert("b".into(), Tensor::f32(vec![3], vec![0.5, -1.0, 0.0]).unwrap().into());
    graph.nodes = vec![
        Node::new("fc", "Gemm", &["x", "w", "b"], &["h"]).with("transB", Attribute::Int(i64::from(trans))),
        Node::new("clip", "Clip", &["h"], &["y"]).with("max", Attribute::Float(6.0)),
    ];
    graph
}

/// Evenly spaced codebooks of `2 most + 1` values for every `block` inputs.
fn quantized(mut graph: Graph, block: usize, most: usize) -> Graph {
    let weight = &mut graph.weights["w"];
    let groups = 192 / block;
    let step = |g: usize| 0.01 + 0.003 * g as f32;
    let codebook: Vec<f32> =
        (0..groups).flat_map(|g| (0..=2 * most).map(move |i| (i as f32 - most as f32) * step(g))).collect();
    let codes = (0..192).map(|i| ((i * 29 + i / 7) % (2 * most + 1)) as u8).collect();
    let palette = Palette::fully_fixed(codebook, groups, codes).unwrap();
    weight.tensor = Tensor::f32(weight.tensor.shape().to_vec(), palette.decode()).unwrap();
    weight.palette = Some(palette);
    graph
}

#[test]
fn blocks_come_back_bit_for_bit_at_every_width() {
    let dir = tempfile::tempdir().unwrap();
    for (block, most) in [(16, 1), (32, 7), (64, 7), (32, 8), (16, 127)] {
        let graph = quantized(network(true), block, most);
        let prepared = for_onnxruntime(&graph).unwrap();
        assert_eq!(prepared.packed, [("w".to_string(), block)]);
        assert!(
            prepared.graph.weights["w"]
                .palette
                .as_ref()
                .unwrap()
                .is_identical(graph.weights["w"].palette.as_ref().unwrap())
        );
        let path = dir.path().join("a.onnx");
        // The writer compares every value and code with what it reads back.
        write(&prepared.graph, &path, &BLOCKED).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.nodes, prepared.graph.nodes, "block {block}, {most} steps");
        assert_eq!(back.weights["w"], prepared.graph.weights["w"]);
        assert_eq!(back.metadata.opset, 21);
        let ops: Vec<&str> = back.nodes.iter().map(|n| n.op.as_str()).collect();
        assert_eq!(ops, ["Gemm", "Add", "Clip"], "a bias within would be merged with an activation");
        assert_eq!(back.nodes[0].inputs, ["x", "w"]);
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(text.contains("DequantizeLinear") && !text.contains("Gather"));
    }
}

#[test]
fn codes_of_any_order_become_ascending_and_values_stay() {
    let mut graph = quantized(network(true), 32, 3);
    let weight = &mut graph.weights["w"];
    let values = weight.tensor.clone();
    let old = weight.palette.take().unwrap();
    // Zero first, as SLQ orders its centroids.
    let order = [3usize, 6, 0, 5, 1, 4, 2];
    let codebook = old.codebook().chunks_exact(7).flat_map(|b| order.map(|i| b[i])).collect();
    let place = |c: &u8| order.iter().position(|&o| o == usize::from(*c)).unwrap() as u8;
    weight.palette =
        Some(Palette::fully_fixed(codebook, old.groups(), old.codes().iter().map(place).collect()).unwrap());
    let prepared = for_onnxruntime(&graph).unwrap().graph;
    assert!(prepared.weights["w"].palette.as_ref().unwrap().is_identical(&old));
    assert_eq!(prepared.weights["w"].tensor, values);
    let back = read_bytes(&write_bytes(&prepared, &BLOCKED).unwrap()).unwrap();
    assert_eq!(back.weights["w"], prepared.weights["w"]);
}

#[test]
fn what_onnxruntime_would_not_fuse_stays_in_codes_and_is_named() {
    let reason = |graph: &Graph| block_of(graph, "w", &graph.weights["w"]);
    let good = quantized(network(true), 32, 7);
    assert_eq!(reason(&good), Ok(32));
    assert_eq!(reason(&network(true)), Err(Unpacked::NoCodes));
    let mut other = good.clone();
    other.nodes[0].attributes.insert("alpha".into(), Attribute::Float(0.5));
    assert_eq!(reason(&other), Err(Unpacked::Readers));
    assert_eq!(reason(&quantized(network(true), 8, 7)), Err(Unpacked::Blocks));
    assert_eq!(reason(&quantized(network(true), 96, 7)), Err(Unpacked::Blocks));
    let mut odd = good.clone();
    let palette = odd.weights["w"].palette.clone().unwrap();
    let mut codebook = palette.codebook().to_vec();
    codebook[0] *= 1.1;
    odd.weights["w"].palette =
        Some(Palette::fully_fixed(codebook, palette.groups(), palette.codes().to_vec()).unwrap());
    odd.weights["w"].tensor =
        Tensor::f32(vec![3, 64], odd.weights["w"].palette.as_ref().unwrap().decode()).unwrap();
    assert_eq!(reason(&odd), Err(Unpacked::Spacing));
    let prepared = for_onnxruntime(&odd).unwrap();
    assert!(
        prepared.packed.is_empty()
            && prepared.notes.iter().any(|n| n.contains("`w`") && n.contains("evenly"))
    );
    let back = read_bytes(&write_bytes(&prepared.graph, &BLOCKED).unwrap()).unwrap();
    assert_eq!(back.weights["w"], odd.weights["w"]);
}

#[test]
fn products_become_gemms_of_turned_weights() {
    let mut graph = network(false);
    let shape = [Dim::Unknown, Dim::Known(5), Dim::Known(64)];
    graph.inputs[0] = value("x", &shape);
    graph.outputs[0].shape = None;
    graph.nodes[0] = Node::new("fc", "MatMul", &["x", "w"], &["h"]);
    let prepared = for_onnxruntime(&graph).unwrap();
    let ops: Vec<&str> = prepared.graph.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(ops, ["Reshape", "Gemm", "Reshape", "Clip"]);
    let (new, old) = (&prepared.graph.weights["w"].tensor, &graph.weights["w"].tensor);
    assert_eq!(new.shape(), [3, 64]);
    assert_eq!(new.as_f32().unwrap()[64 + 5], old.as_f32().unwrap()[5 * 3 + 1]);
    let shapes = infer_shapes(&prepared.graph, &[("x", vec![4, 5, 64])]).unwrap();
    assert_eq!(shapes.get("y"), Some(&[4, 5, 3][..]));
    let again = for_onnxruntime(&prepared.graph).unwrap();
    assert_eq!((again.graph, again.notes.len()), (prepared.graph, 0), "once is enough");
    // Two open extents cannot be written as one shape.
    graph.inputs[0] = value("x", &[Dim::Unknown, Dim::Unknown, Dim::Known(64)]);
    assert_eq!(for_onnxruntime(&graph).unwrap().graph.nodes[0].op, "MatMul");
}

#[test]
fn nodes_that_may_mean_something_else_are_all_named() {
    let mut graph = network(true);
    graph.nodes.insert(1, Node::new("soft", "Softmax", &["h"], &["s"]));
    graph.nodes.insert(2, Node::new("up", "Upsample", &["s"], &["u"]));
    let error = for_onnxruntime(&graph).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OnnxError::Raise { from: 9, .. }), "{text}");
    assert!(text.contains("`soft`") && text.contains("`up`") && text.contains("opset_version=21"), "{text}");
    // As PyTorch exports it.
    let mut exported = network(false);
    exported.metadata.opset = 20;
    exported.nodes[1] = Node::new("gelu", "Gelu", &["h"], &["y"]);
    assert_eq!(for_onnxruntime(&exported).unwrap().graph.metadata.opset, 21);
    // Attributes that became inputs are moved.
    let raised = for_onnxruntime(&network(true)).unwrap().graph;
    let clip = raised.nodes.iter().find(|n| n.op == "Clip").unwrap();
    assert_eq!(raised.weights[&clip.inputs[2]].tensor.as_f32(), Some(&[6.0][..]));
}

#[test]
fn damaged_blocks_are_refused_by_name() {
    let prepared = for_onnxruntime(&quantized(network(true), 32, 7)).unwrap().graph;
    let bytes = write_bytes(&prepared, &BLOCKED).unwrap();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        let mut damaged = bytes.clone();
        damaged[at..at + to.len()].copy_from_slice(to);
        read_bytes(&damaged).unwrap_err().to_string()
    };
    let said = replaced(b"\"block\":32", b"\"block\":16");
    assert!(said.contains("`w`"), "{said}");
    let said = replaced(b"\"k\":15", b"\"k\":17");
    assert!(said.contains("`w`"), "{said}");
}
