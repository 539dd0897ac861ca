//! From ONNX's operators on `[N, C, H, W]` to TensorFlow Lite's on `[N, H, W, C]`.

mod context;
mod elementwise;
mod movement;
mod pool;
mod product;
mod weights;
mod windows;

use slq_graph::{Graph, GraphError, Shapes};

use crate::error::{TfliteError, Unsupported};
use crate::model::ModelDef;
use crate::report::Report;
use context::{Lowering, Refusal};

/// Operators that are written, and those whose result is computed from shapes and constants.
const KNOWN: &[&str] = &[
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pad",
    "Range",
    "ReduceMean",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Size",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// A lowered network and what was done to it.
pub(crate) struct Lowered {
    pub(crate) model: ModelDef,
    pub(crate) report: Report,
}

/// Lowers `graph`, whose batch-norms are folded where they can be. `packed`: palettes become codes and tables.
pub(crate) fn lower(graph: &Graph, packed: bool) -> Result<Lowered, TfliteError> {
    let shapes = shapes(graph)?;
    let mut lowering = Lowering::new(graph, &shapes, packed);
    let mut refused = lowering.inputs();
    for (index, op) in shapes.ops() {
        let node = &graph.nodes[*index];
        if lowering.only_turns(node) {
            continue;
        }
        if let Err(Refusal(reason)) = lowering.node(node, op) {
            refused.push(Unsupported { node: node.name.clone(), op: node.op.clone(), reason });
            lowering.stand_in(node);
        }
    }
    refused.extend(lowering.outputs());
    if !refused.is_empty() {
        return Err(TfliteError::Unsupported { nodes: refused });
    }
    let (model, report) = lowering.finish();
    Ok(Lowered { model, report })
}

/// Every shape, for one image at a time where the batch is open.
fn shapes(graph: &Graph) -> Result<Shapes, TfliteError> {
    if graph.nodes.is_empty() {
        return Err(TfliteError::NoNetwork);
    }
    let inputs: Vec<(&str, Vec<usize>)> = graph
        .free_inputs()
        .filter_map(|input| {
            let extent = |(axis, dim): (usize, &slq_graph::Dim)| match dim {
                slq_graph::Dim::Known(n) => Some(*n),
                _ if axis == 0 => Some(1),
                _ => None,
            };
            let shape =
                input.shape.as_ref()?.iter().enumerate().map(extent).collect::<Option<Vec<usize>>>()?;
            Some((input.name.as_str(), shape))
        })
        .collect();
    let found = slq_graph::infer_shapes(graph, &inputs);
    if let Err(
        GraphError::UnsupportedOperator { .. }
        | GraphError::UnsupportedOperators { .. }
        | GraphError::UnsupportedForm { .. },
    ) = &found
    {
        let unknown = graph
            .nodes
            .iter()
            .filter(|n| !matches!(n.domain.as_str(), "" | "ai.onnx") || !KNOWN.contains(&n.op.as_str()));
        let nodes: Vec<Unsupported> = unknown
            .map(|n| Unsupported {
                node: n.name.clone(),
                op: n.op.clone(),
                reason: "this operator has no counterpart here".into(),
            })
            .collect();
        if !nodes.is_empty() {
            return Err(TfliteError::Unsupported { nodes });
        }
    }
    Ok(found?)
}
