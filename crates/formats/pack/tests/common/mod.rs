//! Graphs for tests, and a comparison that knows NaN.
#![allow(dead_code)] // each test uses its part

use slq_codebook::{ClusterParams, cluster};
use slq_graph::{Graph, Node, Palette, Tensor, TensorData, Weight};

/// The pretrained LeNet that the library carries.
pub const LENET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../slq/models/lenet_mnist10k.onnx");

/// Gives every quantizable weight a palette of `k` values, one for the tensor or one for each channel.
pub fn quantize(graph: &mut Graph, k: usize, by_channel: bool) {
    for quantizable in graph.quantizable() {
        let weight = &mut graph.weights[&quantizable.weight];
        let groups = if by_channel { weight.tensor.shape()[0] } else { 1 };
        let values = weight.tensor.as_f32().unwrap().to_vec();
        let run = values.len() / groups;
        let (mut codebook, mut codes) = (Vec::new(), Vec::new());
        for values in values.chunks(run) {
            let found = cluster::<u8>(values, &ClusterParams::new(k).unwrap()).unwrap();
            // A channel of few different values has a smaller codebook.
            let last = *found.codebook.last().unwrap();
            codebook.extend(found.codebook.iter().copied().chain(std::iter::repeat(last)).take(k));
            codes.extend_from_slice(&found.codes);
        }
        set_palette(weight, Palette::fully_fixed(codebook, groups, codes).unwrap());
    }
}

/// Gives a weight a palette and its values.
pub fn set_palette(weight: &mut Weight, palette: Palette) {
    let shape = weight.tensor.shape().to_vec();
    weight.tensor = Tensor::f32(shape, palette.decode()).unwrap();
    weight.palette = Some(palette);
}

/// A graph that reads all of its weights.
pub fn graph_of(weights: Vec<(String, Weight)>) -> Graph {
    let mut graph = Graph { name: "net".into(), ..Graph::default() };
    for (i, (name, weight)) in weights.into_iter().enumerate() {
        graph.nodes.push(Node::new(&format!("n{i}"), "Add", &["x", &name], &[&format!("y{i}")]));
        graph.weights.insert(name, weight);
    }
    graph
}

/// What differs between two graphs, bit for bit; `None` if nothing does.
pub fn difference(a: &Graph, b: &Graph) -> Option<String> {
    let without = |graph: &Graph| Graph { weights: Default::default(), ..graph.clone() };
    // Debug output, since NaN in an attribute differs from itself.
    if format!("{:?}", without(a)) != format!("{:?}", without(b)) {
        return Some("nodes, values or metadata".into());
    }
    if !a.weights.keys().eq(b.weights.keys()) {
        return Some("names of weights".into());
    }
    let differs = |name: &&String| {
        let (a, b) = (&a.weights[*name], &b.weights[*name]);
        let values = match (a.tensor.data(), b.tensor.data()) {
            (TensorData::F32(a), TensorData::F32(b)) => bits(a) == bits(b),
            (a, b) => a == b,
        };
        let palettes = match (&a.palette, &b.palette) {
            (Some(a), Some(b)) => {
                let parts =
                    |p: &Palette| (p.groups(), p.codes().to_vec(), p.fixed().to_vec(), bits(p.codebook()));
                parts(a) == parts(b)
            }
            (None, None) => true,
            _ => false,
        };
        !(values && palettes && a.tensor.shape() == b.tensor.shape() && a.rates == b.rates)
    };
    a.weights.keys().find(differs).map(|name| format!("weight `{name}`"))
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
