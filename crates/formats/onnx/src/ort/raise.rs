//! A network in a newer operator set, for the operators whose meaning did not change on the way or whose attributes only became
//! inputs.

use slq_graph::{Graph, Node, Tensor, TensorData};

use super::OPSET;
use crate::error::OnnxError;

/// Operators that mean the same in every operator set from 7 to 21 for the attributes that older ones have.
const SAME: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "Cast",
    "Ceil",
    "Celu",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "RNN",
    "Range",
    "Reciprocal",
    "Relu",
    "Reshape",
    "Round",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Trilu",
    "Where",
    "Xor",
];

/// Brings `graph` to operator set 21, if it is of an older one.
///
/// # Errors
/// [`OnnxError::Raise`] with all nodes of which this writer does not know that they keep their meaning.
pub fn raise(graph: &mut Graph) -> Result<(), OnnxError> {
    let from = graph.metadata.opset;
    if from >= OPSET {
        return Ok(());
    }
    let mut constants: Vec<(String, Vec<i64>)> = Vec::new();
    let mut floats: Vec<(String, f32)> = Vec::new();
    let mut stuck = Vec::new();
    let taken = |name: &str, graph: &Graph| {
        graph.weights.contains_key(name)
            || graph.producer_of(name).is_some()
            || graph.inputs.iter().any(|i| i.name == name)
    };
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !node.domain.is_empty() {
            continue;
        }
        let free = |what: &str| {
            let names = (0usize..).map(|i| {
                format!("{}.{what}{}", node.outputs[0], if i == 0 { String::new() } else { i.to_string() })
            });
            names.into_iter().find(|n| !taken(n, graph)).unwrap_or_default()
        };
        match change(node, from) {
            Change::None => {}
            Change::Stuck => stuck.push(format!("`{}` ({})", node.name, node.op)),
            Change::Without(attributes) => {
                attributes.iter().for_each(|a| drop(graph.nodes[index].attributes.remove(*a)));
            }
            Change::Ints(attribute) => {
                let name = free(attribute);
                let values = node.ints(attribute).unwrap_or_default().to_vec();
                let node = &mut graph.nodes[index];
                node.attributes.remove(attribute);
                node.inputs.truncate(1);
                node.inputs.push(name.clone());
                constants.push((name, values));
            }
            Change::Bounds => {
                let (low, high) = (node.float("min", f32::MIN), node.float("max", f32::MAX));
                let names = [free("min"), free("max")];
                let node = &mut graph.nodes[index];
                node.attributes.remove("min");
                node.attributes.remove("max");
                node.inputs.truncate(1);
                node.inputs.extend(names.iter().cloned());
                let [min, max] = names;
                floats.extend([(min, low), (max, high)]);
            }
        }
    }
    if !stuck.is_empty() {
        return Err(OnnxError::Raise { from, nodes: stuck.join(", ") });
    }
    for (name, values) in constants {
        graph.weights.insert(name, Tensor::i64_vector(values).into());
    }
    for (name, value) in floats {
        graph.weights.insert(name, Tensor::new(vec![], TensorData::F32(vec![value]))?.into());
    }
    graph.metadata.opset = OPSET;
    Ok(())
}

/// What has to be done with a node.
enum Change {
    None,
    /// Not known to mean the same.
    Stuck,
    /// Attributes that say nothing in inference.
    Without(&'static [&'static str]),
    /// An attribute of integers that became the second input.
    Ints(&'static str),
    /// `min` and `max` that became inputs.
    Bounds,
}

fn change(node: &Node, from: i64) -> Change {
    let has = |name: &str| node.attributes.contains_key(name);
    let alone = node.outputs.iter().skip(1).all(String::is_empty);
    let moved = |name: &'static str, since: i64| match (from < since, has(name)) {
        (true, true) => Change::Ints(name),
        _ => Change::None,
    };
    match node.op.as_str() {
        // Their attributes became several inputs.
        "Slice" if from < 10 => Change::Stuck,
        "Pad" if from < 11 => Change::Stuck,
        "TopK" if from >= 10 => Change::None,
        // Sizes or scales, and how coordinates are mapped, stay what they are.
        "Resize" if from >= 13 => Change::None,
        // In 20 the names of its modes changed.
        "GridSample" if from >= 20 => Change::None,
        // Opset 7 and 8 kept running sums in other shapes.
        "BatchNormalization" if alone && !has("training_mode") && !has("spatial") => Change::None,
        "Clip" if from < 11 => Change::Bounds,
        "Dropout" if from < 12 && alone => Change::Without(&["ratio", "is_test"]),
        "Dropout" if from >= 12 => Change::None,
        "Squeeze" | "Unsqueeze" | "ReduceSum" => moved("axes", 13),
        "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => moved("axes", 18),
        "Split" if has("split") => moved("split", 13),
        "Split" if from < 18 => Change::Stuck,
        // Before 13 all axes from `axis` on were one; only the last one alone means the same.
        "Softmax" | "LogSoftmax" if from >= 13 || node.int("axis", 1) == -1 => Change::None,
        "Clip" | "Split" => Change::None,
        op if SAME.contains(&op) => Change::None,
        _ => Change::Stuck,
    }
}
