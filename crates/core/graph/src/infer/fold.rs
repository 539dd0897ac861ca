//! Nodes whose result depends on constants and shapes alone.

use std::collections::HashMap;

use crate::dtype::DType;
use crate::error::GraphError;
use crate::evaluate::{LARGEST_SMALL, cast_like, constant, evaluate, shape_of, size_of};
use crate::graph::Graph;
use crate::node::Node;
use crate::resolve::Context;
use crate::tensor::{Tensor, element_count};

/// The node's output if it depends on shapes and small constants alone, else `None`.
pub(crate) fn fold_node(
    graph: &Graph,
    (folded, types): (&HashMap<String, Tensor>, &HashMap<String, DType>),
    node: &Node,
    shapes: &[Option<&[usize]>],
) -> Result<Option<Tensor>, GraphError> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Ok(None);
    }
    let cx = Context { graph, folded, types: Some(types), node, shapes };
    match node.op.as_str() {
        "Constant" => return Ok(constant(node)),
        "Shape" => return shape_of(&cx).map(Some),
        "Size" => return size_of(&cx),
        _ => {}
    }
    // A float weight of more than one element may be a parameter that is trained: its nodes stay.
    let parameter = |t: &Tensor| t.as_f32().is_some_and(|v| v.len() > 1);
    let weight = |name: &String| graph.weights.get(name).map(|w| &w.tensor).filter(|t| !parameter(t));
    let known = |name: &String| weight(name).or_else(|| folded.get(name)).filter(|t| is_small(t));
    if node.op == "CastLike" {
        // The second input gives a type alone.
        let value = node.inputs.first().and_then(known);
        return Ok(value.zip(cx.dtype(1)).and_then(|(value, dtype)| cast_like(value, dtype)));
    }
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        match (name.is_empty(), known(name)) {
            (true, _) => inputs.push(None),
            (false, Some(value)) => inputs.push(Some(value)),
            (false, None) => return Ok(None),
        }
    }
    Ok(evaluate(&cx, &inputs, LARGEST_SMALL)?.filter(is_small))
}

/// Shape arithmetic is small. An empty tensor may still have extents whose product overflows.
fn is_small(tensor: &Tensor) -> bool {
    let extents: Vec<usize> = tensor.shape().iter().copied().filter(|&d| d != 0).collect();
    element_count(&extents).is_some_and(|n| n <= LARGEST_SMALL)
}
