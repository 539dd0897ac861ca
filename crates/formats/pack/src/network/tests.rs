use proptest::prelude::*;
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, TensorData, TrainingRates, ValueInfo};

use super::*;
use crate::error::SlqError;

fn weight(name: &str, shape: &[usize], form: Form, section: usize) -> WeightInfo {
    let rates = TrainingRates::default();
    WeightInfo { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), rates, form, section }
}

/// A graph with one of everything.
fn sample() -> (Graph, Vec<WeightInfo>) {
    let mut graph = Graph { name: "net".into(), ..Graph::default() };
    let value = |name: &str, dtype, shape| ValueInfo { name: name.into(), dtype, shape };
    let dims = vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Unknown];
    graph.inputs = vec![value("x", DType::F32, Some(dims)), value("mask", DType::Bool, None)];
    graph.outputs = vec![value("y", DType::F32, Some(vec![]))];
    graph.metadata.opset = 17;
    graph.metadata.domains = vec![("com.example".into(), 3)];
    graph.metadata.producer = "someone".into();
    graph.metadata.doc = "words ".repeat(30);
    for (key, value) in [("slq.preprocessing", "{\"scale\":1}"), ("slq.licence", "MIT, ä"), ("empty", "")] {
        graph.metadata.properties.insert(key.into(), value.into());
    }
    let tensor = Tensor::new(vec![2], TensorData::I64(vec![-1, i64::MAX])).unwrap();
    let half = Tensor::new(vec![1, 3], TensorData::Raw(DType::F16, vec![1, 2, 3, 4, 5, 6])).unwrap();
    graph.nodes = vec![
        Node::new("conv", "Conv", &["x", "w", "b"], &["conv"]).with("pads", Attribute::Ints(vec![1, -1, 0])),
        Node::new("mystery", "Thing", &["conv", "", "unknown", "w", "mask"], &["", "t"])
            .with("a", Attribute::Float(-0.0))
            .with("b", Attribute::String(vec![0xff, 0]))
            .with("c", Attribute::Floats(vec![f32::INFINITY, 1e-40]))
            .with("d", Attribute::Strings(vec![vec![], b"x".to_vec()]))
            .with("e", Attribute::Tensor(tensor))
            .with("f", Attribute::Tensor(half))
            .with("g", Attribute::Opaque(vec![1, 2, 3]))
            .with("h", Attribute::Int(i64::MIN)),
        Node::new("", "Add", &["t", "conv"], &["y"]),
    ];
    graph.nodes[1].domain = "com.example".into();
    let mut frozen = weight("b", &[4], Form::Values, 2);
    frozen.rates = TrainingRates { lr_mult: 0.0, decay_mult: 2.5 };
    let palette = Form::Palette { k: 16, groups: 4 };
    let weights = vec![
        weight("w", &[4, 3, 3, 3], palette, 1),
        frozen,
        weight("d", &[], Form::Dictionary { k: 1 }, 1),
        weight("none", &[0, 7], Form::Values, 2),
    ];
    (graph, weights)
}

fn decode_plain(bytes: &[u8]) -> Result<Network, SlqError> {
    let mut section = vec![0];
    crate::bytes::put_number(&mut section, bytes.len() as u64);
    section.extend_from_slice(bytes);
    decode(&section, "network", 1 << 10)
}

/// The bytes before they are deflated.
fn plain() -> Vec<u8> {
    let (graph, weights) = sample();
    deflate::unpack(&encode(&graph, &weights).unwrap(), "network", u64::MAX).unwrap()
}

#[test]
fn everything_comes_back() {
    let (graph, weights) = sample();
    let section = encode(&graph, &weights).unwrap();
    let network = decode(&section, "network", u64::MAX).unwrap();
    assert_eq!(network.graph, graph);
    assert_eq!(network.weights, weights);
    assert!(network.memory > 3 * 512, "{} bytes", network.memory);
}

#[test]
fn every_cut_is_an_error_and_no_changed_byte_a_panic() {
    let bytes = plain();
    assert!(decode_plain(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(decode_plain(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            let _ = decode_plain(&changed);
        }
    }
}

#[test]
fn small_sections_cannot_ask_for_much_memory() {
    let many = weight("w", &[1 << 20, 1 << 20], Form::Values, 1);
    let section = encode(&Graph::default(), &[many]).unwrap();
    let message = decode(&section, "network", 1 << 10).unwrap_err().to_string();
    assert!(message.contains("above the limit of 1024 bytes for each"), "{message}");
    let graph = Graph { nodes: vec![Node::new("", "Relu", &[], &[]); 10_000], ..Graph::default() };
    let section = encode(&graph, &[]).unwrap();
    assert!(section.len() < 300, "{} bytes", section.len());
    assert!(decode(&section, "network", 1 << 10).is_err());
}

#[test]
fn impossible_palettes_and_names_are_refused() {
    let cases = [
        weight("w", &[4], Form::Palette { k: 0, groups: 1 }, 1),
        weight("w", &[4], Form::Palette { k: 257, groups: 1 }, 1),
        weight("w", &[4], Form::Palette { k: 2, groups: 3 }, 1),
        weight("w", &[4], Form::Palette { k: 2, groups: 0 }, 1),
        WeightInfo { dtype: DType::I64, ..weight("w", &[4], Form::Dictionary { k: 2 }, 1) },
        weight("w", &[usize::MAX, 2], Form::Values, 1),
    ];
    for case in cases {
        let section = encode(&Graph::default(), std::slice::from_ref(&case)).unwrap();
        let error = decode(&section, "network", u64::MAX).unwrap_err().to_string();
        assert!(error.contains("weight `w`"), "{case:?}: {error}");
    }
    let twice = [weight("w", &[1], Form::Values, 1), weight("w", &[2], Form::Values, 1)];
    let section = encode(&Graph::default(), &twice).unwrap();
    let error = decode(&section, "network", u64::MAX).unwrap_err().to_string();
    assert!(error.contains("weight `w` appears twice"), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode_plain(&bytes);
    }
}
