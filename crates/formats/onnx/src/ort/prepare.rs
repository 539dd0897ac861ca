//! What is changed in a network so that onnxruntime keeps its weights packed.

use slq_codebook::Palette;
use slq_graph::{Attribute, Dim, Graph, Node, Shapes, Tensor, Weight, infer_shapes};

use super::raise::raise;
use super::{Unpacked, block_of};
use crate::error::OnnxError;

/// Extents that open ones are given, one after the other, to see which values they reach.
const TRIED: [usize; 2] = [2, 3];

/// A network for onnxruntime.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The network.
    pub graph: Graph,
    /// What was changed, and which weights stay as they were, in sentences.
    pub notes: Vec<String>,
    /// Weights of dense layers whose codes will be stored as blocks, with the inputs that share a step.
    pub packed: Vec<(String, usize)>,
}

/// `graph` in the form that [`WriteOptions::blocked`](crate::WriteOptions) stores packed: of operator set 21 at least; products
/// with a constant matrix as `Gemm` whose weight is `[outputs, inputs]`; evenly spaced codebooks as exact multiples of their
/// step. It computes the same.
///
/// A weight `[inputs, outputs]` is turned round where it has no palette. A `MatMul` of more than two axes becomes a `Gemm` between
/// two `Reshape`s where at most one of the leading extents is open.
///
/// # Errors
/// [`OnnxError::Raise`] with all nodes that are not known to mean the same in operator set 21.
pub fn for_onnxruntime(graph: &Graph) -> Result<Prepared, OnnxError> {
    let mut graph = graph.clone();
    let mut notes = Vec::new();
    let before = graph.metadata.opset;
    raise(&mut graph)?;
    if graph.metadata.opset != before {
        notes.push(format!("operator set {before} became {}, the first with blocks", graph.metadata.opset));
    }
    let products = products(&mut graph);
    if products > 0 {
        notes.push(format!("{products} products with a constant matrix are written as Gemm"));
    }
    let mut packed = Vec::new();
    let mut replaced: Vec<(String, Palette)> = Vec::new();
    for (name, weight) in graph.weights.iter().filter(|(_, w)| w.palette.is_some()) {
        match block_of(&graph, name, weight) {
            Ok(block) => {
                replaced.extend(weight.palette.as_ref().and_then(Palette::evened).map(|p| (name.clone(), p)));
                packed.push((name.clone(), block));
            }
            Err(why) if is_dense(&graph, name) && why != Unpacked::NoCodes => notes.push(format!(
                "weight `{name}` is not packed for onnxruntime, which will hold it as float32: {}",
                why.reason()
            )),
            Err(_) => {}
        }
    }
    for (name, palette) in replaced {
        let weight = &mut graph.weights[&name];
        weight.tensor = Tensor::f32(weight.tensor.shape().to_vec(), palette.decode())?;
        weight.palette = Some(palette);
    }
    biases_apart(&mut graph, &packed);
    Ok(Prepared { graph, notes, packed })
}

/// Adds the bias of each packed `Gemm` by a node of its own: onnxruntime merges a `Gemm` with a bias and the `Relu` behind it before
/// it looks for blocks, and takes the bias into its product either way.
fn biases_apart(graph: &mut Graph, packed: &[(String, usize)]) {
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        let ours =
            node.op == "Gemm" && node.input(1).is_some_and(|w| packed.iter().any(|(name, _)| name == w));
        let (Some(bias), true) = (node.input(2).map(str::to_owned), ours) else {
            nodes.push(node);
            continue;
        };
        let output = node.outputs[0].clone();
        let product = format!("{output}.product");
        let add = Node::new(&format!("{}.bias", node.name), "Add", &[&product, &bias], &[&output]);
        node.inputs.truncate(2);
        node.outputs[0] = product;
        nodes.extend([node, add]);
    }
    graph.nodes = nodes;
}

/// Whether a dense layer reads the weight.
fn is_dense(graph: &Graph, name: &str) -> bool {
    graph.consumers_of(name).any(|n| matches!(n.op.as_str(), "Gemm" | "MatMul") && n.domain.is_empty())
}

/// Writes products with a constant matrix as `Gemm` of a weight `[outputs, inputs]`; how many were changed.
fn products(graph: &mut Graph) -> usize {
    let tried = TRIED.map(|extent| shapes(graph, extent));
    let mut changed = 0;
    let reads: std::collections::HashMap<String, usize> =
        graph.reads().into_iter().map(|(n, c)| (n.to_owned(), c)).collect();
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        match turned(graph, &node, &reads, &tried) {
            Some(new) => {
                changed += 1;
                nodes.extend(new);
            }
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    changed
}

fn shapes(graph: &Graph, extent: usize) -> Option<Shapes> {
    let open = graph.free_inputs().filter_map(|i| {
        let dims = i.shape.as_ref()?.iter().map(|d| if let Dim::Known(n) = d { *n } else { extent });
        Some((i.name.as_str(), dims.collect::<Vec<_>>()))
    });
    infer_shapes(graph, &open.collect::<Vec<_>>()).ok()
}

/// The nodes in place of a product whose weight has to be turned round; `None` where it stays.
fn turned(
    graph: &mut Graph,
    node: &Node,
    reads: &std::collections::HashMap<String, usize>,
    tried: &[Option<Shapes>; 2],
) -> Option<Vec<Node>> {
    let gemm = node.op == "Gemm" && node.int("transB", 0) == 0 && node.int("transA", 0) == 0;
    if !(gemm || node.op == "MatMul") || !node.domain.is_empty() {
        return None;
    }
    let (input, name) = (node.input(0)?.to_owned(), node.input(1)?.to_owned());
    let weight = graph.weights.get(&name)?;
    let &[inputs, outputs] = weight.tensor.shape() else { return None };
    if weight.palette.is_some() || weight.tensor.as_f32().is_none() || reads.get(&name) != Some(&1) {
        return None;
    }
    let new = match gemm {
        true => vec![Node { attributes: with_trans(node), ..node.clone() }],
        false => as_gemm(graph, node, &input, (&name, inputs, outputs), tried)?,
    };
    let weight = graph.weights.get_mut(&name)?;
    let values = weight.tensor.as_f32()?;
    let turned = (0..outputs * inputs).map(|at| values[at % inputs * outputs + at / inputs]).collect();
    let tensor = Tensor::f32(vec![outputs, inputs], turned).ok()?;
    *weight = Weight { tensor, ..weight.clone() };
    Some(new)
}

fn with_trans(node: &Node) -> std::collections::BTreeMap<String, Attribute> {
    let mut attributes = node.attributes.clone();
    attributes.insert("transB".into(), Attribute::Int(1));
    attributes
}

/// A `MatMul` as `Gemm`, between two `Reshape`s where its input has more than two axes.
fn as_gemm(
    graph: &mut Graph,
    node: &Node,
    input: &str,
    (weight, inputs, outputs): (&str, usize, usize),
    tried: &[Option<Shapes>; 2],
) -> Option<Vec<Node>> {
    let [Some(a), Some(b)] = tried else { return None };
    let (a, b) = (a.get(input)?, b.get(input)?);
    let output = node.outputs.first()?;
    let gemm = |from: &str, to: &str| {
        Node::new(&node.name, "Gemm", &[from, weight], &[to]).with("transB", Attribute::Int(1))
    };
    if a.len() == 2 {
        return Some(vec![gemm(input, output)]);
    }
    let lead = a.get(..a.len().checked_sub(1)?)?;
    if a.len() < 2 || a.len() != b.len() || lead.iter().zip(b).filter(|(x, y)| x != y).count() > 1 {
        return None;
    }
    let open = |(x, y): (&usize, &usize)| if x == y { *x as i64 } else { -1 };
    let target: Vec<i64> = lead.iter().zip(b).map(open).chain([outputs as i64]).collect();
    let [rows, flat, product, shape] =
        ["rows", "flat", "product", "shape"].map(|what| format!("{output}.{what}"));
    let taken = |n: &String| graph.weights.contains_key(n) || graph.producer_of(n).is_some();
    if [&rows, &flat, &product, &shape].into_iter().any(taken) {
        return None;
    }
    graph.weights.insert(rows.clone(), Tensor::i64_vector(vec![-1, inputs as i64]).into());
    graph.weights.insert(shape.clone(), Tensor::i64_vector(target).into());
    let before = Node::new(&format!("{}.rows", node.name), "Reshape", &[input, &rows], &[&flat]);
    let after = Node::new(&format!("{}.shape", node.name), "Reshape", &[&product, &shape], &[output]);
    Some(vec![before, gemm(&flat, &product), after])
}
