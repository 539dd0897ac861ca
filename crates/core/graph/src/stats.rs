//! Sizes of a network's weights (counts, bits, bytes, entropy) and multiply-accumulate operations of its layers.
//!
//! A palettized weight takes its codes at `bits` each plus its codebooks at 4 bytes a value; any other parameter
//! takes 4 bytes. Ratios are against 4 bytes for every parameter.

use std::collections::{HashMap, HashSet};

use crate::dtype::DType;
use crate::error::GraphError;
use crate::graph::{Graph, Weight};
use crate::infer::Shapes;
use crate::node::Node;
use crate::op::Op;
use crate::tensor::{Tensor, TensorData};

/// Sizes of one weight.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct WeightStats {
    /// Name of the weight.
    pub name: String,
    /// Name of the first node that reads it; empty where none does.
    pub node: String,
    /// That node's operator.
    pub op: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Number of values.
    pub count: usize,
    /// Number of distinct values by bit pattern; -0 counts as 0.
    pub distinct: usize,
    /// Bits of one stored value: of a code for a fully fixed palette, else of the element type.
    pub bits: u8,
    /// Number of values that are 0.
    pub zeros: usize,
    /// Values that are fixed to their centroid, where there is a palette.
    pub fixed: Option<usize>,
    /// Values in one codebook, where there is a palette.
    pub codebook_size: Option<usize>,
    /// Bytes as 32-bit floats: 4 a value.
    pub dense_bytes: u64,
    /// Bytes of codes and codebooks for a fully fixed palette, else of the values. A palette that is partly fixed does not
    /// count: its file holds the floats too.
    pub stored_bytes: u64,
    /// `stored_bytes` with the codes at their Shannon entropy, each group of codes by itself.
    pub entropy_bytes: f64,
}

/// Sums over all parameters of a network.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize)]
pub struct Totals {
    /// 4 bytes for each parameter.
    pub dense_bytes: u64,
    /// Codes, codebooks and float parameters, in bytes.
    pub stored_bytes: u64,
    /// The same with codes at their entropy, rounded up.
    pub entropy_bytes: u64,
}

/// Sizes of a network.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Each parameter tensor, in the order of [`Graph::weights`].
    pub layers: Vec<WeightStats>,
    /// Number of parameters.
    pub parameters: usize,
    /// Sums.
    pub total: Totals,
}

impl Totals {
    /// `dense_bytes / stored_bytes`; 1 for a network without parameters.
    pub fn ratio(&self) -> f64 {
        if self.stored_bytes == 0 { 1.0 } else { self.dense_bytes as f64 / self.stored_bytes as f64 }
    }
}

/// Sizes of each parameter tensor and of the whole network.
pub fn summary(graph: &Graph) -> Summary {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    // Who reads the transpose of a matrix reads the matrix.
    let turned = graph.turned_matrices();
    let turns = |node: &Node| node.outputs.first().is_some_and(|o| turned.contains_key(o.as_str()));
    for (i, node) in graph.nodes.iter().enumerate().filter(|(_, node)| !turns(node)) {
        for input in &node.inputs {
            readers.entry(turned.get(input.as_str()).copied().unwrap_or(input)).or_insert(i);
        }
    }
    let stats = |(name, weight): (&String, &Weight)| {
        let node = readers.get(name.as_str()).map(|&i| &graph.nodes[i]);
        let mut stats = weight_stats(name, weight);
        stats.node = node.map(|n| n.name.clone()).unwrap_or_default();
        stats.op = node.map(|n| n.op.clone()).unwrap_or_default();
        stats
    };
    let parameters = graph.parameters().into_iter();
    let layers: Vec<WeightStats> =
        parameters.filter_map(|name| graph.weights.get_key_value(name)).map(stats).collect();
    let total = Totals {
        dense_bytes: layers.iter().map(|l| l.dense_bytes).sum(),
        stored_bytes: layers.iter().map(|l| l.stored_bytes).sum(),
        entropy_bytes: layers.iter().map(|l| l.entropy_bytes).sum::<f64>().ceil() as u64,
    };
    Summary { parameters: layers.iter().map(|l| l.count).sum(), layers, total }
}

/// Sizes of one weight; `node` and `op` are left empty.
pub fn weight_stats(name: &str, weight: &Weight) -> WeightStats {
    let tensor = &weight.tensor;
    let (distinct, zeros) = patterns(tensor);
    let element = tensor.dtype().size();
    let plain = (tensor.len() * element) as u64;
    let palette = weight.palette.as_ref().filter(|p| p.is_fully_fixed());
    let (bits, stored_bytes, entropy_bytes) = match palette {
        None => (8 * element as u8, plain, plain as f64),
        Some(p) => (p.bits(), p.stored_bytes() as u64, p.entropy_bytes()),
    };
    WeightStats {
        name: name.into(),
        node: String::new(),
        op: String::new(),
        shape: tensor.shape().to_vec(),
        count: tensor.len(),
        distinct,
        bits,
        zeros,
        fixed: weight.palette.as_ref().map(|p| p.fixed_count()),
        codebook_size: weight.palette.as_ref().map(|p| p.codebook_size()),
        dense_bytes: 4 * tensor.len() as u64,
        stored_bytes,
        entropy_bytes,
    }
}

/// Number of distinct bit patterns, and number of zeros, with -0 as 0.
fn patterns(tensor: &Tensor) -> (usize, usize) {
    let word = |b: &[u8]| b.iter().rev().fold(0u64, |w, &b| w << 8 | u64::from(b));
    match tensor.data() {
        TensorData::F32(v) => distinct(v.iter().map(|x| if *x == 0.0 { 0 } else { x.to_bits() })),
        TensorData::I64(v) => distinct(v.iter().map(|&x| x as u64)),
        TensorData::I32(v) => distinct(v.iter().map(|&x| x as u32)),
        TensorData::U8(v) => distinct(v.iter().copied()),
        TensorData::Bool(v) => distinct(v.iter().copied()),
        TensorData::Raw(dtype, bytes) => {
            let float = matches!(dtype, DType::F64 | DType::F16 | DType::Bf16);
            let negative_zero = 1u64 << (8 * dtype.size() - 1);
            let words = bytes.chunks_exact(dtype.size()).map(word);
            distinct(words.map(|w| if float && w == negative_zero { 0 } else { w }))
        }
    }
}

/// Number of distinct values and of zeros (the type's default).
fn distinct<T: Copy + Ord + Default + std::hash::Hash>(
    values: impl ExactSizeIterator<Item = T> + Clone,
) -> (usize, usize) {
    let zeros = values.clone().filter(|v| *v == T::default()).count();
    // A palettized tensor has few values: no copy of it is needed then.
    const FEW: usize = 1 << 12;
    let mut seen = HashSet::new();
    if values.clone().all(|v| (seen.insert(v), seen.len() <= FEW).1) {
        return (seen.len(), zeros);
    }
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable();
    sorted.dedup();
    (sorted.len(), zeros)
}

/// Multiply-accumulate operations (MACs) of one node.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeMacs {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// MACs for the whole batch.
    pub macs: u64,
}

/// MACs of every convolution, `Gemm`, `MatMul` and recurrent layer, in execution order, for the shapes in `shapes`
/// (infer them for a batch of 1 to get the figures usually quoted). Padding is counted like data, bias is not
/// counted.
///
/// # Errors
/// [`GraphError::UnknownShape`] where `shapes` belongs to another graph, [`GraphError::TooLarge`] where the
/// number overflows.
pub fn macs(graph: &Graph, shapes: &Shapes) -> Result<Vec<NodeMacs>, GraphError> {
    let mut found = Vec::new();
    for (index, op) in shapes.ops() {
        let Some(node) = graph.nodes.get(*index) else { continue };
        let shape = |name: Option<&str>| {
            let name = name.unwrap_or_default();
            shapes.get(name).ok_or_else(|| GraphError::UnknownShape {
                op: node.op.clone(),
                node: node.name.clone(),
                value: name.into(),
            })
        };
        let output = || shape(node.outputs.first().map(String::as_str));
        // Elements of the output (of the input for a transposed convolution), and MACs for each of them.
        let op = match op {
            Op::Line(op) | Op::Volume { plane: op, .. } => op,
            op => op,
        };
        let (elements, each): (&[usize], Vec<usize>) = match op {
            // Every step of every sequence meets W and R in each direction.
            Op::Recurrent(_) => {
                let (data, w, r) = (shape(node.input(0))?, shape(node.input(1))?, shape(node.input(2))?);
                let per_step = w.iter().product::<usize>().saturating_add(r.iter().product());
                (&data[..2], vec![per_step])
            }
            Op::Conv { .. } => (output()?, shape(node.input(1))?[1..].to_vec()),
            Op::ConvTranspose { .. } => (shape(node.input(0))?, shape(node.input(1))?[1..].to_vec()),
            Op::Gemm { trans_a, .. } => {
                let a = shape(node.input(0))?;
                (output()?, vec![a[usize::from(!trans_a)]])
            }
            Op::MatMul => (output()?, shape(node.input(0))?.last().copied().into_iter().collect()),
            _ => continue,
        };
        let product = elements.iter().chain(&each).try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        let macs = product.ok_or_else(|| GraphError::TooLarge {
            op: node.op.clone(),
            node: node.name.clone(),
            shape: elements.to_vec(),
            shapes: vec![each],
        })?;
        found.push(NodeMacs { node: node.name.clone(), op: node.op.clone(), macs });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, Node, Palette, ValueInfo, infer_shapes};

    fn weight(shape: &[usize], values: &[f32]) -> Weight {
        Tensor::f32(shape.to_vec(), values.to_vec()).unwrap().into()
    }

    #[test]
    fn a_plain_weight_counts_four_bytes_a_value() {
        let stats = weight_stats("w", &weight(&[5], &[0.0, -0.0, 1.0, -1.0, 1.0]));
        assert_eq!((stats.distinct, stats.zeros, stats.bits), (3, 2, 32));
        assert_eq!((stats.dense_bytes, stats.stored_bytes, stats.entropy_bytes), (20, 20, 20.0));
    }

    #[test]
    fn many_distinct_values_are_counted_too() {
        let values: Vec<f32> = (0..20_000).map(|i| (i % 10_000) as f32).collect();
        let stats = weight_stats("w", &weight(&[20_000], &values));
        assert_eq!((stats.distinct, stats.zeros), (10_000, 2));
    }

    #[test]
    fn a_palette_counts_codes_and_codebook() {
        // 3 of 4 values are 0: 2 bits of information for the rare one, log2(4/3) for the others.
        let values = [0.0, 0.0, 0.0, 1.5];
        let palette = Palette::fully_fixed(vec![0.0, 1.5, -1.5], 1, vec![0, 0, 0, 1]).unwrap();
        let fixed = Weight { palette: Some(palette), ..weight(&[4], &values) };
        let stats = weight_stats("w", &fixed);
        assert_eq!((stats.bits, stats.stored_bytes, stats.fixed), (2, 1 + 12, Some(4)));
        let entropy = (2.0 + 3.0 * (4.0f64 / 3.0).log2()) / 8.0 + 12.0;
        assert!((stats.entropy_bytes - entropy).abs() < 1e-12);
        let partly = Palette::new(vec![0.0, 1.5], 1, vec![0, 0, 0, 1], vec![true, true, true, false]);
        let stats = weight_stats("w", &Weight { palette: partly.ok(), ..weight(&[4], &values) });
        assert_eq!((stats.bits, stats.stored_bytes, stats.fixed), (32, 16, Some(3)));
    }

    #[test]
    fn half_floats_count_as_stored() {
        let data = TensorData::Raw(DType::F16, vec![0, 0x80, 0, 0, 1, 0, 0, 0]);
        let stats = weight_stats("w", &Tensor::new(vec![4], data).unwrap().into());
        assert_eq!((stats.distinct, stats.zeros, stats.bits), (2, 3, 16));
        assert_eq!((stats.dense_bytes, stats.stored_bytes), (16, 8));
    }

    fn sample() -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        let zeros = |shape: &[usize]| weight(shape, &vec![0.0; shape.iter().product()]);
        let list = [
            ("w", zeros(&[4, 1, 3, 3])),
            ("b", zeros(&[4])),
            ("six", zeros(&[])),
            ("u", zeros(&[1, 16])),
            ("c", zeros(&[1])),
            ("axes", Tensor::i64_vector(vec![0]).into()),
        ];
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes: vec![
                Node::new("conv", "Conv", &["x", "w", "b"], &["h"]).with("group", Attribute::Int(2)),
                Node::new("clip", "Clip", &["h", "", "six"], &["i"]),
                Node::new("flat", "Flatten", &["i"], &["f"]),
                Node::new("fc", "Gemm", &["f", "u", "c"], &["y"]).with("transB", Attribute::Int(1)),
            ],
            weights: list.into_iter().map(|(n, w)| (n.to_string(), w)).collect(),
            ..Graph::default()
        }
    }

    #[test]
    fn bounds_are_no_parameters_but_a_single_bias_is() {
        let summary = summary(&sample());
        let names: Vec<&str> = summary.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["w", "b", "u", "c"]);
        assert_eq!(summary.parameters, 36 + 4 + 16 + 1);
        assert_eq!((summary.layers[0].node.as_str(), summary.layers[0].op.as_str()), ("conv", "Conv"));
        assert_eq!(summary.total.dense_bytes, 4 * 57);
        assert_eq!(summary.total.ratio(), 1.0);
    }

    #[test]
    fn multiply_adds_of_a_grouped_convolution_and_a_gemm() {
        let graph = sample();
        let shapes = infer_shapes(&graph, &[("x", vec![5, 2, 4, 4])]).unwrap();
        let macs: Vec<u64> = macs(&graph, &shapes).unwrap().iter().map(|m| m.macs).collect();
        assert_eq!(macs, [5 * 4 * 2 * 2 * 9, 5 * 16]);
    }
}
