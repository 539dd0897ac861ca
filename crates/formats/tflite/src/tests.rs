//! Tests of whole files, whose structure is read back.

use slq_graph::{Attribute, DType, Dim, Graph, Node, Palette, Tensor, ValueInfo};

use crate::reader::Table;
use crate::{Ranges, TfliteError, WriteOptions, check, write, write_bytes};

const DENSE: WriteOptions = WriteOptions { dense: true, integers: None };
const PACKED: WriteOptions = WriteOptions { dense: false, integers: None };

/// Numbers of the operators in a file, in order, and the shapes of its inputs and outputs.
fn structure(bytes: &[u8]) -> (Vec<i32>, Vec<Vec<usize>>) {
    let root = Table::root(bytes).unwrap();
    let codes: Vec<i32> = root.tables(1).unwrap().iter().map(|c| c.int(3).unwrap_or(0)).collect();
    let graph = root.tables(2).unwrap()[0];
    let operators = graph.tables(3).unwrap();
    let numbers = operators.iter().map(|o| codes[o.int(0).unwrap_or(0) as usize]).collect();
    let tensors = graph.tables(0).unwrap();
    let ends = [graph.numbers(1).unwrap(), graph.numbers(2).unwrap()].concat();
    (numbers, ends.into_iter().map(|i| tensors[i].numbers(0).unwrap()).collect())
}

/// The contents of the first tensor called `name`: its bytes, and the number and axis of its tables.
fn content(bytes: &[u8], name: &str) -> (Vec<u8>, Option<(usize, i32)>) {
    let root = Table::root(bytes).unwrap();
    let tensors = root.tables(2).unwrap()[0].tables(0).unwrap();
    let tensor = tensors.iter().find(|t| t.text(3) == Some(name)).unwrap();
    let buffer = root.tables(4).unwrap()[tensor.int(2).unwrap_or(0) as usize];
    let tables = tensor.table(4).map(|q| (q.floats(2).unwrap().len(), q.int(6).unwrap_or(0)));
    (buffer.data(0).map(|(_, d)| d.to_vec()).unwrap_or_default(), tables)
}

fn palettize(graph: &mut Graph, size: usize, by_channel: bool) {
    for found in graph.quantizable() {
        let weight = &mut graph.weights[&found.weight];
        let shape = weight.tensor.shape().to_vec();
        let groups = if by_channel { shape[0] } else { 1 };
        let book = (0..groups * size).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
        let codes = (0..weight.tensor.len()).map(|i| (i * 13 % size) as u8).collect();
        let palette = Palette::fully_fixed(book, groups, codes).unwrap();
        weight.tensor = Tensor::f32(shape, palette.decode()).unwrap();
        weight.palette = Some(palette);
    }
}

#[test]
fn layers_take_batch_norms_and_activations() {
    let lenet = write_bytes(&slq_zoo::build("lenet", 0).unwrap(), &DENSE).unwrap();
    let (operators, ends) = structure(&lenet.bytes);
    // Conv, pool, conv, pool, reshape, dense (with ReLU), dense.
    assert_eq!(operators, [3, 17, 3, 17, 22, 9, 9]);
    assert_eq!(ends, [vec![1, 28, 28, 1], vec![1, 10]]);
    assert_eq!(&lenet.bytes[4..8], b"TFL3");
    assert_eq!(lenet.bytes.len() % 16, 0);
    let mobile = write_bytes(&slq_zoo::build("mobilenet-v1-025", 0).unwrap(), &DENSE).unwrap();
    let (operators, _) = structure(&mobile.bytes);
    // 14 convolutions and 13 depthwise ones; TensorFlow's own padding throughout. Mean, reshape, dense.
    let count = |code: i32| operators.iter().filter(|&&o| o == code).count();
    assert_eq!([3, 4, 40, 22, 9].map(count), [14, 13, 1, 1, 1]);
    assert_eq!((operators.len(), mobile.report.folded.len()), (30, 27));
}

#[test]
fn the_shortcut_without_parameters_is_a_slice_and_a_pad() {
    let net = write_bytes(&slq_zoo::build("resnet20", 0).unwrap(), &DENSE).unwrap();
    let (operators, _) = structure(&net.bytes);
    let count = |code: i32| operators.iter().filter(|&&o| o == code).count();
    // Two shortcuts; two convolutions of stride 2 whose padding begins before the image need a PAD, too.
    assert_eq!([3, 45, 34, 0, 39].map(count), [19, 2, 4, 9, 0]);
}

#[test]
fn codes_take_b_bits_and_tables_follow_channels() {
    for (size, by_channel) in [(2, false), (3, false), (17, false), (128, false), (4, true)] {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        palettize(&mut graph, size, by_channel);
        let written = write_bytes(&graph, &PACKED).unwrap();
        assert_eq!(written.report.packed.len(), 4, "{:?}", written.report);
        for packed in &written.report.packed {
            let bits = usize::from(packed.bits);
            assert!(packed.code_bytes <= (packed.float_bytes * bits).div_ceil(32), "{packed:?}");
        }
        let (codes, _) = content(&written.bytes, "ip2.weight.codes");
        let bits = usize::from(written.report.packed[3].bits);
        assert_eq!(codes.len(), (5000 * bits).div_ceil(8));
        let (header, _) = content(&written.bytes, "ip2.weight.tables");
        assert_eq!((header[0], header[1], header[4], header[5]), (0, 1, 1, bits as u8));
        let (none, tables) = content(&written.bytes, "ip2.weight");
        assert_eq!((none.len(), tables), (0, by_channel.then_some((10, 0))));
        assert_eq!(structure(&written.bytes).0.iter().filter(|&&o| o == 32).count(), 4);
        assert_eq!(written, write_bytes(&graph, &PACKED).unwrap());
        // As floats there is nothing to decode.
        let dense = write_bytes(&graph, &DENSE).unwrap();
        assert!(!structure(&dense.bytes).0.contains(&32));
    }
}

#[test]
fn dense_columns_are_reordered_with_their_codes() {
    let mut graph = slq_zoo::build("lenet", 0).unwrap();
    palettize(&mut graph, 16, false);
    let expected = {
        let weight = graph.weights["ip1.weight"].tensor.as_f32().unwrap();
        // [500, 50, 4, 4] with the channels last.
        let at = |i: usize| weight[i / 800 * 800 + i % 50 * 16 + i % 800 / 50];
        (0..weight.len()).map(at).collect::<Vec<f32>>()
    };
    let dense = write_bytes(&graph, &DENSE).unwrap();
    let floats = content(&dense.bytes, "ip1.weight").0;
    assert_eq!(floats, expected.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let packed = write_bytes(&graph, &PACKED).unwrap();
    let (codes, header) =
        (content(&packed.bytes, "ip1.weight.codes").0, content(&packed.bytes, "ip1.weight.tables").0);
    let table: Vec<f32> = header[16..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let code =
        |i: usize| usize::from(if i.is_multiple_of(2) { codes[i / 2] >> 4 } else { codes[i / 2] & 15 });
    let decoded: Vec<f32> = (0..expected.len()).map(|i| table[code(i)]).collect();
    assert_eq!(decoded, expected);
}

/// Element types of the tensors that operators read or write, by name, with their scales.
fn elements(bytes: &[u8]) -> Vec<(String, i8, Vec<f32>)> {
    let tensors = Table::root(bytes).unwrap().tables(2).unwrap()[0].tables(0).unwrap();
    let scales = |t: &Table| t.table(4).and_then(|q| q.floats(2)).unwrap_or_default();
    tensors.iter().map(|t| (t.text(3).unwrap().into(), t.byte(1).unwrap_or(0), scales(t))).collect()
}

#[test]
fn integers_have_scales_and_operators_without_them_compute_floats() {
    let value = |name: &str| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(vec![Dim::Known(1), Dim::Known(8)]),
    };
    let mut graph = Graph { inputs: vec![value("x")], outputs: vec![value("p")], ..Graph::default() };
    let weight = (0..64).map(|i| (i % 8) as f32 - 3.5).collect();
    graph.weights.insert("w".into(), Tensor::f32(vec![8, 8], weight).unwrap().into());
    graph.nodes = vec![
        Node::new("product", "MatMul", &["x", "w"], &["h"]),
        Node::new("exp", "Exp", &["h"], &["e"]),
        Node::new("log", "Log", &["e"], &["l"]),
        Node::new("softmax", "Softmax", &["l"], &["p"]),
    ];
    let mut ranges = Ranges::default();
    for (name, high) in [("x", 1.0f32), ("h", 4.0), ("e", 54.0), ("l", 4.0)] {
        assert!(ranges.widen(name, &[-high, high]));
    }
    let options = WriteOptions { dense: false, integers: Some(&ranges) };
    let TfliteError::NoRange { value } = write_bytes(&graph, &options).unwrap_err() else {
        panic!("accepted")
    };
    assert_eq!(value, "p");
    assert!(ranges.widen("p", &[0.0, 0.9]));
    let options = WriteOptions { dense: false, integers: Some(&ranges) };
    let written = write_bytes(&graph, &options).unwrap();
    // Dense, to floats, Exp, Log without integers between them, to integers, softmax.
    assert_eq!(structure(&written.bytes).0, [9, 6, 47, 73, 114, 25]);
    let elements = elements(&written.bytes);
    let of = |name: &str| elements.iter().find(|e| e.0 == name).unwrap();
    assert_eq!((of("x").1, of("w").1, of("zeros").1, of("h.float").1), (9, 9, 2, 0));
    assert_eq!((of("p").1, &of("p").2[..]), (9, &[1.0 / 256.0][..]));
    assert_eq!(of("w").2.len(), 8);
    let integers = written.report.integers.unwrap();
    assert_eq!(integers.in_floats, [("Exp".to_string(), 1), ("Log".to_string(), 1)].into());
    assert_eq!(integers.covers["p"], [0.0, 255.0 / 256.0]);
}

#[test]
fn tables_of_integers_follow_a_weight_or_its_channels() {
    for (by_channel, scales) in [(false, 1), (true, 500)] {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        palettize(&mut graph, 16, by_channel);
        let mut ranges = Ranges::default();
        for name in graph.nodes.iter().flat_map(|n| &n.outputs).chain(["data".to_string()].iter()) {
            ranges.widen(name, &[-1.0, 1.0]);
        }
        let input = graph.free_inputs().next().unwrap().name.clone();
        ranges.widen(&input, &[0.0, 1.0]);
        let options = WriteOptions { dense: false, integers: Some(&ranges) };
        let written = write_bytes(&graph, &options).unwrap();
        let (tables, _) = content(&written.bytes, "ip1.weight.tables");
        assert_eq!(tables.len(), 16 + 16 * scales);
        let elements = elements(&written.bytes);
        let weight = elements.iter().find(|e| e.0 == "ip1.weight").unwrap();
        assert_eq!((weight.1, weight.2.len()), (9, scales));
        // Each value is a multiple of its scale, to half of it.
        let palette = graph.weights["ip1.weight"].palette.as_ref().unwrap();
        for (i, (&value, &byte)) in palette.codebook().iter().zip(&tables[16..]).enumerate() {
            let scale = weight.2[i / 16];
            assert!((f32::from(byte.cast_signed()) * scale - value).abs() <= 0.5001 * scale, "{i}");
        }
    }
}

#[test]
fn all_nodes_without_counterpart_are_named() {
    let mut graph = slq_zoo::build("cifar-quick", 0).unwrap();
    let mut rename = |node: &str, op: &str| {
        graph.nodes.iter_mut().find(|n| n.name == node).unwrap().op = op.into();
        check(&graph).unwrap_err()
    };
    rename("relu1", "Erf");
    let TfliteError::Unsupported { nodes } = rename("relu3", "Softplus") else { panic!("accepted") };
    assert_eq!(nodes.iter().map(|n| n.node.as_str()).collect::<Vec<_>>(), ["relu1", "relu3"]);
    let said = rename("relu2", "NonMaxSuppression").to_string();
    for word in ["'relu1' (Erf)", "'relu2' (NonMaxSuppression)", "'relu3' (Softplus)"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(said.contains(".onnx or .slq"), "{said}");
}

#[test]
fn inputs_and_settings_that_do_not_fit_are_refused() {
    let value = |dtype| ValueInfo {
        name: "x".into(),
        dtype,
        shape: Some(vec![Dim::Symbol("N".into()), Dim::Known(2), Dim::Known(4), Dim::Known(4)]),
    };
    let graph = |node: Node, dtype| Graph {
        inputs: vec![value(dtype)],
        outputs: vec![ValueInfo { name: "y".into(), dtype: DType::F32, shape: None }],
        nodes: vec![node],
        ..Graph::default()
    };
    let softmax = Node::new("n", "Softmax", &["x"], &["y"]).with("axis", Attribute::Int(2));
    let elu = Node::new("n", "Elu", &["x"], &["y"]).with("alpha", Attribute::Float(0.5));
    let product = Node::new("n", "MatMul", &["x", "x"], &["y"]);
    let relu = Node::new("n", "Relu", &["x"], &["y"]);
    for (node, dtype, word) in [
        (softmax, DType::F32, "channels"),
        (elu, DType::F32, "counterpart"),
        (product, DType::F32, "two activations"),
        (relu, DType::F64, "F64"),
    ] {
        let said = check(&graph(node, dtype)).unwrap_err().to_string();
        assert!(said.contains(word), "{said}");
    }
    assert!(matches!(check(&Graph::default()), Err(TfliteError::NoNetwork)));
}

#[test]
fn too_wide_codebooks_are_all_named_and_nothing_is_written() {
    let mut graph = slq_zoo::build("lenet", 0).unwrap();
    palettize(&mut graph, 129, false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tflite");
    let said = write(&graph, &path, &PACKED).unwrap_err().to_string();
    for word in ["x.tflite", "'conv1.weight'", "'ip2.weight'", "7 bits", "--dense"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!path.exists());
    write(&graph, &path, &DENSE).unwrap();
    assert!(path.exists());
}

#[test]
fn properties_become_metadata() {
    let mut graph = slq_zoo::build("lenet", 0).unwrap();
    graph.metadata.properties.insert("slq.preprocessing".into(), "{\"scale\":0.5}".into());
    let written = write_bytes(&graph, &DENSE).unwrap();
    let root = Table::root(&written.bytes).unwrap();
    let entry = root.tables(6).unwrap()[0];
    assert_eq!(entry.text(0), Some("slq.preprocessing"));
    let buffer = root.tables(4).unwrap()[entry.int(1).unwrap() as usize];
    assert_eq!(buffer.data(0).unwrap().1, b"{\"scale\":0.5}");
}

#[test]
fn a_matrix_behind_a_transpose_is_the_weight_of_its_layer() {
    let float = |name: &str, shape: &[usize]| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(shape.iter().map(|&d| Dim::Known(d)).collect()),
    };
    let mut rows =
        Graph { inputs: vec![float("x", &[1, 8])], outputs: vec![float("y", &[1, 6])], ..Graph::default() };
    rows.metadata.opset = 13;
    let values = (0..48).map(|i| i as f32).collect();
    rows.weights.insert("w".into(), Tensor::f32(vec![6, 8], values).unwrap().into());
    rows.nodes.push(Node::new("n", "Gemm", &["x", "w"], &["y"]).with("transB", Attribute::Int(1)));
    let mut turned = rows.clone();
    turned.nodes = vec![
        Node::new("t", "Transpose", &["w"], &["w.columns"]),
        Node::new("n", "MatMul", &["x", "w.columns"], &["y"]),
    ];
    for (options, by_channel) in [(&DENSE, false), (&PACKED, false), (&PACKED, true)] {
        let [a, b] = [&mut rows.clone(), &mut turned.clone()].map(|graph| {
            palettize(graph, 4, by_channel);
            write_bytes(graph, options).unwrap().bytes
        });
        assert_eq!(structure(&a), structure(&b));
        assert_eq!(content(&a, "w"), content(&b, "w"));
    }
}
