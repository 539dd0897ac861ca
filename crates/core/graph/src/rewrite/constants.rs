//! Nodes that read constants alone, replaced by their results.

use std::collections::{HashMap, HashSet};

use crate::error::GraphError;
use crate::graph::{Graph, Weight};
use crate::infer::fold_node;
use crate::node::Node;
use crate::order::execution_order;
use crate::resolve::resolve_with;
use crate::tensor::{Tensor, TensorData};

/// Replaces nodes that read constants alone by weights: `Constant` nodes, arithmetic on small integers and
/// scalars, and `Identity`, `Reshape`, `Squeeze`, `Unsqueeze`, `Flatten` and `Transpose` of a float weight.
/// Returns how many nodes went.
///
/// A weight keeps its palette and rates under a new shape; one with a palette is not transposed. Weights that
/// are no longer read stay until [`prune_unused_weights`](super::prune_unused_weights). Nodes that nothing
/// here evaluates are left alone.
///
/// # Errors
/// [`GraphError`] of [`execution_order`] and of nodes whose constants make no sense.
pub fn fold_constants(graph: &mut Graph) -> Result<usize, GraphError> {
    let order = execution_order(graph)?;
    let outputs: HashSet<String> = graph.outputs.iter().map(|o| o.name.clone()).collect();
    let nothing = HashMap::new();
    let mut gone = vec![false; graph.nodes.len()];
    for i in order {
        let node = &graph.nodes[i];
        let constant = node.inputs.iter().all(|v| v.is_empty() || graph.weights.contains_key(v));
        if !constant || node.outputs.len() != 1 || outputs.contains(&node.outputs[0]) {
            continue;
        }
        let shapes: Vec<Option<&[usize]>> =
            node.inputs.iter().map(|v| graph.weights.get(v).map(|w| w.tensor.shape())).collect();
        let result = match fold_node(graph, &nothing, node, &shapes)? {
            Some(mut values) => values.pop().map(Weight::from),
            None => moved(graph, node, &shapes)?,
        };
        if let Some(weight) = result {
            let name = node.outputs[0].clone();
            graph.weights.insert(name, weight);
            gone[i] = true;
        }
    }
    let mut removed = gone.iter();
    graph.nodes.retain(|_| !removed.next().is_some_and(|&g| g));
    Ok(gone.iter().filter(|&&g| g).count())
}

/// The float weight that `node` reads, in another shape or order.
fn moved(graph: &Graph, node: &Node, shapes: &[Option<&[usize]>]) -> Result<Option<Weight>, GraphError> {
    let weight = node.input(0).and_then(|v| graph.weights.get(v));
    let Some((weight, values)) = weight.and_then(|w| Some((w, w.tensor.as_f32()?))) else { return Ok(None) };
    let shape = match node.op.as_str() {
        _ if !node.domain.is_empty() => return Ok(None),
        "Identity" => weight.tensor.shape().to_vec(),
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Transpose" => {
            let op = resolve_with(graph, &HashMap::new(), node, shapes)?;
            let shape = crate::infer::output_shapes(node, &op, shapes)?.swap_remove(0);
            if let crate::op::Op::Transpose { perm } = op {
                if weight.palette.is_some() {
                    return Ok(None);
                }
                let data = transpose(values, weight.tensor.shape(), &perm);
                return Ok(Some(Weight { tensor: Tensor::f32(shape, data)?, ..weight.clone() }));
            }
            shape
        }
        _ => return Ok(None),
    };
    let tensor = Tensor::new(shape, TensorData::F32(values.to_vec()))?;
    Ok(Some(Weight { tensor, ..weight.clone() }))
}

/// The elements of a tensor of `shape` in the order of its permuted axes.
fn transpose(values: &[f32], shape: &[usize], perm: &[usize]) -> Vec<f32> {
    if values.is_empty() {
        return Vec::new(); // its extents may overflow
    }
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let (extents, steps): (Vec<usize>, Vec<usize>) = perm.iter().map(|&p| (shape[p], strides[p])).unzip();
    let mut at = vec![0usize; shape.len()];
    let mut result = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        result.push(values[at.iter().zip(&steps).map(|(i, s)| i * s).sum::<usize>()]);
        for axis in (0..at.len()).rev() {
            at[axis] += 1;
            if at[axis] < extents[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, DType, Palette, ValueInfo};

    fn graph(nodes: Vec<Node>, weights: Vec<(&str, Weight)>) -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes,
            weights: weights.into_iter().map(|(n, w)| (n.to_string(), w)).collect(),
            ..Graph::default()
        }
    }

    #[test]
    fn a_transposed_weight_becomes_a_weight() {
        let w = Tensor::f32(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let nodes = || {
            vec![Node::new("t", "Transpose", &["w"], &["v"]), Node::new("m", "MatMul", &["x", "v"], &["y"])]
        };
        let mut g = graph(nodes(), vec![("w", w.clone().into())]);
        assert_eq!(fold_constants(&mut g), Ok(1));
        let v = &g.weights["v"].tensor;
        assert_eq!((v.shape(), v.as_f32().unwrap()), (&[3, 2][..], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0][..]));
        // A palette stays where it is.
        let palette = Palette::fully_fixed(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1, (0..6).collect()).ok();
        let mut g = graph(nodes(), vec![("w", Weight { palette, ..w.into() })]);
        assert_eq!(fold_constants(&mut g), Ok(0));
    }

    #[test]
    fn a_reshaped_weight_keeps_its_palette() {
        let palette = Palette::fully_fixed(vec![1.0, 2.0], 1, vec![0, 1]).ok();
        let w = Weight { palette: palette.clone(), ..Tensor::f32(vec![2], vec![1.0, 2.0]).unwrap().into() };
        let mut g = graph(
            vec![
                Node::new("u", "Unsqueeze", &["w"], &["v"]).with("axes", Attribute::Ints(vec![0])),
                Node::new("m", "MatMul", &["x", "v"], &["y"]),
            ],
            vec![("w", w)],
        );
        assert_eq!(fold_constants(&mut g), Ok(1));
        assert_eq!(g.weights["v"].tensor.shape(), [1, 2]);
        assert_eq!(g.weights["v"].palette, palette);
    }

    #[test]
    fn constants_and_what_is_computed_from_them_become_weights() {
        let ints = |v: &[i64]| Attribute::Tensor(Tensor::i64_vector(v.to_vec()));
        let mut g = graph(
            vec![
                Node::new("a", "Constant", &[], &["one"]).with("value", ints(&[1])),
                Node::new("b", "Constant", &[], &["two"]).with("value_ints", Attribute::Ints(vec![2])),
                Node::new("c", "Concat", &["one", "two"], &["both"]).with("axis", Attribute::Int(0)),
                Node::new("r", "Reshape", &["x", "both"], &["y"]),
            ],
            vec![],
        );
        assert_eq!(fold_constants(&mut g), Ok(3));
        assert_eq!(g.weights["both"].tensor.to_i64(), Some(vec![1, 2]));
        assert_eq!(g.nodes.len(), 1);
    }

    #[test]
    fn transposing_back_and_forth_changes_nothing() {
        let shape = [2, 3, 4, 5];
        let values: Vec<f32> = (0..120).map(|v| v as f32).collect();
        let there = transpose(&values, &shape, &[2, 0, 3, 1]);
        assert_eq!(there[1], values[5 * 4]); // [0, 0, 0, 1] of [4, 2, 5, 3] was [0, 1, 0, 0]
        assert_eq!(transpose(&there, &[4, 2, 5, 3], &[1, 3, 0, 2]), values);
    }
}
