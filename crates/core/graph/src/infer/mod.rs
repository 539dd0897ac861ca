//! Shape inference for concrete input shapes, with the evaluation of shape arithmetic.

mod fold;
mod missing;

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use fold::fold_node;

use crate::dtype::DType;
use crate::error::GraphError;
use crate::graph::Graph;
use crate::node::Dim;
use crate::op::Op;
use crate::order::{execution_order, label, live_nodes};
use crate::resolve::{Context, refuse_mask, resolve_with};
pub use crate::rules::LARGEST_VALUE;
use crate::rules::output_shapes;
use crate::tensor::{Tensor, element_count};
use crate::types;

/// The shapes of all values of a graph for concrete input shapes, and its nodes as typed operators.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shapes {
    shapes: IndexMap<String, Vec<usize>>,
    ops: Vec<(usize, Op)>,
    folded: Vec<usize>,
    constants: HashMap<String, Tensor>,
    /// Element types of values.
    types: HashMap<String, DType>,
    /// Elements of all `constants`.
    constant_elements: usize,
}

/// Most elements of all values together that are computed from shapes; networks need a few thousand.
const LARGEST_CONSTANTS: usize = 1 << 22;

impl Shapes {
    /// The shape of value `name` (input, weight, or output of a node that contributes to a graph output).
    pub fn get(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// All values and their shapes: inputs and weights first, then in execution order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice()))
    }

    /// The nodes to run, in execution order: position in [`Graph::nodes`] and operator. Nodes that are evaluated here and
    /// nodes that no graph output depends on are left out.
    pub fn ops(&self) -> &[(usize, Op)] {
        &self.ops
    }

    /// Whether value `name` holds integers or, where it is a constant, Booleans.
    pub fn is_integer(&self, name: &str) -> bool {
        let constant = self.constants.contains_key(name);
        self.dtype(name).is_some_and(|t| !t.is_float() && (constant || t != DType::Bool))
    }

    /// Element type of value `name`.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.types.get(name).copied()
    }

    /// Positions of the nodes that are evaluated here, since they depend on shapes and constants alone.
    pub fn folded(&self) -> &[usize] {
        &self.folded
    }

    /// The value of an output of one of the [`Shapes::folded`] nodes.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.constants.get(name)
    }
}

/// Infers the shape of every value for the given input shapes, and resolves every node.
///
/// `input_shapes` names graph inputs; inputs whose declared shape is fully known may be left out. Integer
/// arithmetic on shapes (`Shape`, `Gather`, `Concat`, `Mul` …) is evaluated on the way, so that targets of
/// `Reshape` that a network computes from its input's shape are found. The nodes may be in any order.
///
/// # Errors
/// All that [`Op::resolve`] reports; [`GraphError::ShapeMismatch`] for inputs that do not fit together;
/// [`GraphError::TooLarge`] above [`LARGEST_VALUE`] elements; [`GraphError::TooManyConstants`]; for `input_shapes`
/// [`GraphError::InputShape`], [`GraphError::InputShapeNeeded`] and [`GraphError::UnknownInput`];
/// [`GraphError::UnknownValue`], [`GraphError::DuplicateValue`], [`GraphError::UnknownOutput`],
/// [`GraphError::NoOutputs`] and [`GraphError::Cycle`] for an inconsistent graph.
pub fn infer_shapes(graph: &Graph, input_shapes: &[(&str, Vec<usize>)]) -> Result<Shapes, GraphError> {
    let order = execution_order(graph)?;
    if graph.outputs.is_empty() {
        return Err(GraphError::NoOutputs);
    }
    let mut found = Shapes { shapes: start(graph, input_shapes)?, ..Shapes::default() };
    let (live, wanted) = live_nodes(graph, &order);
    missing::check(graph, &order, &live)?;
    found.types = types::given(graph);
    for i in order.into_iter().filter(|&i| live[i]) {
        step(graph, i, &wanted, &mut found)?;
    }
    match graph.outputs.iter().find(|o| found.get(&o.name).is_none()) {
        Some(output) => Err(GraphError::UnknownOutput { output: output.name.clone() }),
        None => Ok(found),
    }
}

/// Folds or resolves node `index` and records what it writes.
fn step(graph: &Graph, index: usize, wanted: &HashSet<&str>, found: &mut Shapes) -> Result<(), GraphError> {
    let node = &graph.nodes[index];
    let named;
    let node = if node.name.is_empty() {
        named = crate::Node { name: label(graph, index), ..node.clone() };
        &named
    } else {
        node
    };
    let shapes: Vec<Option<&[usize]>> =
        node.inputs.iter().map(|name| found.shapes.get(name).map(Vec::as_slice)).collect();
    if let Some(value) = fold_node(graph, (&found.constants, &found.types), node, &shapes)? {
        // The value of a `Constant` is in the graph already.
        found.constant_elements += if node.op == "Constant" { 0 } else { value.len() };
        if found.constant_elements > LARGEST_CONSTANTS {
            return Err(GraphError::TooManyConstants { node: node.name.clone(), limit: LARGEST_CONSTANTS });
        }
        if let Some(name) = node.outputs.first().filter(|n| !n.is_empty()) {
            found.shapes.insert(name.clone(), value.shape().to_vec());
            found.types.insert(name.clone(), value.dtype());
            found.constants.insert(name.clone(), value);
        }
        found.folded.push(index);
        return Ok(());
    }
    let op = resolve_with(&Context {
        graph,
        folded: &found.constants,
        types: Some(&found.types),
        node,
        shapes: &shapes,
    })?;
    refuse_mask(node, &op, |mask| wanted.contains(mask))?;
    let outputs = output_shapes(node, &op, &shapes)?;
    let types = types::written(node, &op, &found.types)?;
    found.types.extend(node.outputs.iter().cloned().zip(types));
    for (name, shape) in node.outputs.iter().zip(outputs).filter(|(n, _)| !n.is_empty()) {
        found.shapes.insert(name.clone(), shape);
    }
    found.ops.push((index, op));
    Ok(())
}

/// The shapes of inputs and weights.
fn start(
    graph: &Graph,
    input_shapes: &[(&str, Vec<usize>)],
) -> Result<IndexMap<String, Vec<usize>>, GraphError> {
    let mut shapes = IndexMap::new();
    for (name, _) in input_shapes {
        if !graph.inputs.iter().any(|i| i.name == *name) {
            return Err(GraphError::UnknownInput { input: name.to_string() });
        }
    }
    for input in graph.free_inputs() {
        let given = input_shapes.iter().find(|(n, _)| *n == input.name).map(|(_, s)| s.clone());
        let declared = input.shape.as_deref();
        let shape = match given {
            Some(shape) => shape,
            None => declared
                .and_then(known)
                .ok_or_else(|| GraphError::InputShapeNeeded { input: input.name.clone() })?,
        };
        if let Some(reason) = refuse(&shape, declared) {
            return Err(GraphError::InputShape { input: input.name.clone(), given: shape, reason });
        }
        shapes.insert(input.name.clone(), shape);
    }
    for (name, weight) in &graph.weights {
        shapes.insert(name.clone(), weight.tensor.shape().to_vec());
    }
    Ok(shapes)
}

fn known(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(|d| if let Dim::Known(n) = d { Some(*n) } else { None }).collect()
}

fn refuse(given: &[usize], declared: Option<&[Dim]>) -> Option<String> {
    if given.contains(&0) {
        return Some("it holds no elements".into());
    }
    if element_count(given).is_none_or(|n| n > LARGEST_VALUE) {
        return Some("it holds too many elements".into());
    }
    let declared = declared?;
    let fits = |(d, &g): (&Dim, &usize)| !matches!(d, Dim::Known(n) if *n != g);
    if declared.len() != given.len() || !declared.iter().zip(given).all(fits) {
        let dims: Vec<String> = declared
            .iter()
            .map(|d| match d {
                Dim::Known(n) => n.to_string(),
                Dim::Symbol(s) => s.clone(),
                Dim::Unknown => "?".into(),
            })
            .collect();
        return Some(format!("the graph declares [{}]", dims.join(", ")));
    }
    None
}
