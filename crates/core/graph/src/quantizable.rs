//! Which weights the methods may move onto a codebook.

use std::collections::HashMap;

use indexmap::IndexMap;

use crate::graph::Graph;
use crate::node::Node;
use crate::tensor::Tensor;

/// A weight that the methods may move onto a codebook: a float constant of two and more axes that a layer multiplies
/// with, or looks rows up in. [`Graph::quantizable`] lists the operators.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quantizable {
    /// Name of the weight.
    pub weight: String,
    /// Name of the (first) node that reads it.
    pub node: String,
    /// That node's operator.
    pub op: String,
    /// Output channels: the axis along which a per-channel codebook runs.
    pub channel_axis: usize,
}

impl Graph {
    /// The weights that the methods may quantize, in execution order, each once: floats of any width and of two and more
    /// axes that one of these operators reads, in the network or in the body of an `If`, `Loop` or `Scan`.
    ///
    /// | operator | inputs |
    /// |---|---|
    /// | `Conv`, `ConvTranspose` | the kernel |
    /// | `Gemm`, `MatMul` | either matrix |
    /// | `Gather` | the table (an embedding) |
    /// | `LSTM`, `GRU`, `RNN` | W and R; not biases and peepholes |
    /// | `Einsum`, `Attention` | any |
    /// | onnxruntime's `FusedConv`, `FusedGemm`, `FusedMatMul`, `Attention`, `EmbedLayerNormalization` | as above |
    ///
    /// A matrix that a `Transpose` turns round first counts with the axes that it has in the file.
    ///
    /// Of a graph without nodes (the weights of a bare safetensors file) these are all float weights of two axes and
    /// more; the first axis is taken for the channels, and the weight's name without `.weight` for the node's.
    pub fn quantizable(&self) -> Vec<Quantizable> {
        if self.nodes.is_empty() {
            let names = self.weights.iter().filter(|(_, w)| is_matrix(&w.tensor)).map(|(name, _)| name);
            let bare = |name: &String| Quantizable {
                weight: name.clone(),
                node: name.strip_suffix(".weight").unwrap_or(name).into(),
                op: String::new(),
                channel_axis: 0,
            };
            return names.map(bare).collect();
        }
        let mut found = IndexMap::new();
        let turned = self.turned_matrices();
        for node in &self.nodes {
            self.weights_of(node, node, &turned, &mut found);
            if node.may_hold_subgraph() {
                let bodies = node.bodies().unwrap_or_default();
                bodies.nodes.iter().for_each(|inner| self.weights_of(inner, node, &turned, &mut found));
            }
        }
        found.into_values().collect()
    }

    /// Adds the weights that `node` reads, which is `holder` or, without always having a name, in one of its bodies.
    fn weights_of(
        &self,
        node: &Node,
        holder: &Node,
        turned: &HashMap<&str, &str>,
        found: &mut IndexMap<String, Quantizable>,
    ) {
        for input in weight_inputs(node) {
            let Some(read) = node.input(input) else { continue };
            let turned = turned.get(read).copied();
            let name = turned.unwrap_or(read);
            let Some(weight) = self.weights.get(name).filter(|w| is_matrix(&w.tensor)) else { continue };
            let axis = channel_axis(node, input, weight.tensor.shape().len());
            let channel_axis = if turned.is_some() { 1 - axis.min(1) } else { axis };
            found.entry(name.to_string()).or_insert_with(|| Quantizable {
                weight: name.into(),
                node: if node.name.is_empty() { &holder.name } else { &node.name }.clone(),
                op: node.op.clone(),
                channel_axis,
            });
        }
    }

    /// The operators that read weight `name`, in the network and in the bodies of its nodes, each once.
    pub fn readers_of(&self, name: &str) -> Vec<String> {
        let mut operators: Vec<String> = Vec::new();
        self.each_read(name, |node, _| {
            if !operators.contains(&node.op) {
                operators.push(node.op.clone());
            }
        });
        operators
    }

    /// Whether recurrent layers alone read weight `name`, as biases or peepholes: two axes, and yet vectors for each direction.
    pub fn is_recurrent_bias(&self, name: &str) -> bool {
        let (mut reads, mut others) = (0, 0);
        self.each_read(name, |node, input| {
            let bias = matches!(node.op.as_str(), "LSTM" | "GRU" | "RNN") && matches!(input, 3 | 7);
            *if bias { &mut reads } else { &mut others } += 1;
        });
        reads > 0 && others == 0
    }

    /// Calls `note` for each place where weight `name` is read, in the network and in the bodies of its nodes.
    fn each_read(&self, name: &str, mut note: impl FnMut(&Node, usize)) {
        let mut reads = |node: &Node| {
            node.inputs.iter().enumerate().filter(|(_, i)| *i == name).for_each(|(i, _)| note(node, i));
        };
        for node in &self.nodes {
            reads(node);
            if node.may_hold_subgraph() {
                node.bodies().unwrap_or_default().nodes.iter().for_each(&mut reads);
            }
        }
    }
}

/// Whether a tensor is one that can be quantized at all.
fn is_matrix(tensor: &Tensor) -> bool {
    tensor.shape().len() >= 2 && tensor.dtype().is_float()
}

/// The inputs of `node` that may be weights.
fn weight_inputs(node: &Node) -> std::ops::Range<usize> {
    match (node.domain.as_str(), node.op.as_str()) {
        ("", "Conv" | "ConvTranspose") => 1..2,
        ("", "Gemm" | "MatMul") => 0..2,
        ("", "Gather") => 0..1,
        ("", "LSTM" | "GRU" | "RNN") => 1..3,
        ("", "Einsum") => 0..node.inputs.len(),
        // Query, key and value.
        ("", "Attention") => 0..3,
        ("com.microsoft", "FusedConv" | "NhwcFusedConv" | "Attention") => 1..2,
        ("com.microsoft", "FusedGemm" | "FusedMatMul") => 0..2,
        // Tables of words, positions and segments.
        ("com.microsoft", "EmbedLayerNormalization") => 2..5,
        _ => 0..0,
    }
}

/// The axis of output channels of a weight of `rank` axes that is input `input` of `node`.
fn channel_axis(node: &Node, input: usize, rank: usize) -> usize {
    let turned = |name: &str| node.int(name, 0) != 0;
    match node.op.as_str() {
        "ConvTranspose" => 1,
        "Gemm" | "FusedGemm" if input == 0 => usize::from(turned("transA")),
        "Gemm" | "FusedGemm" => usize::from(!turned("transB")),
        "MatMul" | "FusedMatMul" => {
            // A batch of matrices [.., k, n] has its output channels along the last axis, one on the left along the
            // last but one.
            let last = (input == 1) != turned(if input == 1 { "transB" } else { "transA" });
            if last { rank - 1 } else { rank - 2 }
        }
        "LSTM" | "GRU" | "RNN" => 1,
        "Einsum" => kept_axis(node.string("equation").unwrap_or_default(), input, rank),
        "Attention" => rank - 1,
        _ => 0,
    }
}

/// The first axis of operand `input` of an `Einsum` that its result keeps; 0 where there is none.
fn kept_axis(equation: &str, input: usize, rank: usize) -> usize {
    let Some((operands, result)) = equation.split_once("->") else { return 0 };
    let letters: Vec<char> =
        operands.split(',').nth(input).unwrap_or_default().chars().filter(|c| c.is_alphabetic()).collect();
    let kept = letters.iter().position(|&c| result.contains(c));
    kept.filter(|_| letters.len() == rank).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::tests::body;
    use crate::{Attribute, DType, TensorData};

    fn graph(shapes: &[(&str, &[usize])]) -> Graph {
        let mut graph = Graph::default();
        for (name, shape) in shapes {
            let tensor = Tensor::f32(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
            graph.weights.insert(name.to_string(), tensor.into());
        }
        graph
    }

    fn found(graph: &Graph) -> Vec<(String, String, usize)> {
        graph.quantizable().into_iter().map(|q| (q.weight, q.node, q.channel_axis)).collect()
    }

    fn entry(weight: &str, node: &str, axis: usize) -> (String, String, usize) {
        (weight.into(), node.into(), axis)
    }

    #[test]
    fn matrices_of_layers_can_be_quantized_each_once() {
        let mut graph = graph(&[
            ("w", &[2, 2]),
            ("v", &[2, 2, 1, 1]),
            ("b", &[2]),
            ("e.weight", &[3, 2]),
            ("p", &[1, 2]),
        ]);
        let bare = [entry("w", "w", 0), entry("v", "v", 0), entry("e.weight", "e", 0), entry("p", "p", 0)];
        assert_eq!(found(&graph), bare);
        graph.nodes = vec![
            Node::new("fc", "Gemm", &["x", "w", "b"], &["h"]).with("transB", Attribute::Int(1)),
            Node::new("again", "MatMul", &["h", "w"], &["i"]),
            Node::new("up", "ConvTranspose", &["i", "v"], &["j"]),
            Node::new("look-up", "Gather", &["e.weight", "j"], &["k"]),
            Node::new("plus", "Add", &["k", "p"], &["y"]),
        ];
        assert_eq!(
            found(&graph),
            [entry("w", "fc", 0), entry("v", "up", 1), entry("e.weight", "look-up", 0)]
        );
        assert_eq!(graph.readers_of("w"), ["Gemm", "MatMul"]);
    }

    #[test]
    fn recurrent_weights_left_operands_and_einsum_count() {
        let lstm =
            [("w", &[1, 8, 3][..]), ("r", &[1, 8, 2]), ("b", &[1, 16]), ("h", &[1, 1, 2]), ("p", &[1, 6])];
        let mut graph = graph(&[&lstm[..], &[("a", &[4, 5]), ("c", &[4, 5]), ("e", &[5, 6, 7])]].concat());
        let equation = Attribute::String(b"bs, skd -> bkd".to_vec());
        graph.nodes = vec![
            Node::new("lstm", "LSTM", &["x", "w", "r", "b", "", "h", "", "p"], &["y"]),
            Node::new("left", "MatMul", &["a", "y"], &["z"]),
            Node::new("gemm", "Gemm", &["c", "z"], &["t"]).with("transA", Attribute::Int(1)),
            Node::new("sum", "Einsum", &["t", "e"], &["u"]).with("equation", equation),
            Node { domain: "own".into(), ..Node::new("odd", "MatMul", &["u", "p"], &["o"]) },
        ];
        let wanted = [
            entry("w", "lstm", 1),
            entry("r", "lstm", 1),
            entry("a", "left", 0),
            entry("c", "gemm", 1),
            entry("e", "sum", 1),
        ];
        assert_eq!(found(&graph), wanted);
    }

    #[test]
    fn bodies_read_weights_too_and_half_floats_count() {
        let mut graph = graph(&[("w", &[2, 3])]);
        let half = Tensor::new(vec![3, 1], TensorData::Raw(DType::F16, vec![0; 6])).unwrap();
        graph.weights.insert("v".into(), half.into());
        let inner: &[(&str, &str, &[&str], &str)] =
            &[("mm", "MatMul", &["x", "w"], "h"), ("mv", "MatMul", &["h", "v"], "y")];
        graph.nodes =
            vec![Node::new("if", "If", &["c"], &["z"]).with("then_branch", body("then_branch", inner, "y"))];
        assert_eq!(found(&graph), [entry("w", "mm", 1), entry("v", "mv", 1)]);
        assert_eq!(graph.readers_of("v"), ["MatMul"]);
    }
}
