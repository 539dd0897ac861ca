//! Parts of a network between two positions of its execution order.

use std::collections::{HashMap, HashSet};

use slq_engine::{EngineError, Isa};
use slq_graph::{DType, Graph, Shapes, Tensor, ValueInfo, infer_shapes};

use crate::error::CalibrateError;

/// Values by name.
pub(crate) type Values = HashMap<String, Tensor>;

/// The order in which the operators run that lead to some wanted values.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// Position in the graph of each operator's node.
    pub nodes: Vec<usize>,
    /// For each value that an operator writes: the operator's position here.
    writer: HashMap<String, usize>,
    /// For each value that an operator reads or that is wanted: the last position that reads it.
    last_read: HashMap<String, usize>,
    /// Weights behind a `Transpose`. They are no activations: they change with the weight, wherever the operator stands.
    turned: HashSet<String>,
}

impl Order {
    /// The operators of `shapes`, which were inferred for the wanted values as outputs; beside each wanted value stands
    /// the node (position in the graph) that it is wanted for.
    pub fn new(graph: &Graph, shapes: &Shapes, wanted: &[(String, usize)]) -> Self {
        let nodes: Vec<usize> = shapes.ops().iter().map(|(node, _)| *node).collect();
        let (mut writer, mut last_read) = (HashMap::new(), HashMap::new());
        for (at, &node) in nodes.iter().enumerate() {
            for input in graph.nodes[node].inputs.iter().filter(|i| !i.is_empty()) {
                last_read.insert(input.clone(), at);
            }
            for output in graph.nodes[node].outputs.iter().filter(|o| !o.is_empty()) {
                writer.insert(output.clone(), at);
            }
        }
        // The node that a value is wanted for may not be among the operators.
        for (name, reader) in wanted {
            let at = nodes.iter().position(|n| n == reader).unwrap_or(nodes.len());
            let last = last_read.entry(name.clone()).or_insert(at);
            *last = at.max(*last);
        }
        let turned = graph.turned_matrices().into_keys().map(str::to_owned).collect();
        Self { nodes, writer, last_read, turned }
    }

    /// Values written before position `cut` (or given to the network) and read at or after it.
    pub fn live(&self, graph: &Graph, cut: usize) -> Vec<String> {
        let given = graph.inputs.iter().map(|i| &i.name).filter(|n| !graph.weights.contains_key(*n));
        let mut written: Vec<(usize, &String)> =
            self.writer.iter().filter(|(_, at)| **at < cut).map(|(name, at)| (*at, name)).collect();
        written.sort();
        let all = given.chain(written.into_iter().map(|(_, name)| name));
        let read = |name: &String| self.last_read.get(name).is_some_and(|&at| at >= cut);
        all.filter(|name| read(name) && !self.turned.contains(*name)).cloned().collect()
    }

    /// Whether a value is written before position `at` and still read there or later.
    pub fn is_live(&self, name: &str, at: usize) -> bool {
        let written = self.writer.get(name).is_some_and(|&w| w < at);
        written && self.last_read.get(name).is_some_and(|&read| read >= at)
    }

    /// The position of a node, or the end where nothing wanted depends on it.
    pub fn position(&self, node: usize) -> usize {
        self.nodes.iter().position(|&n| n == node).unwrap_or(self.nodes.len())
    }

    /// The position before which value `name` has been written: 0 for inputs.
    pub fn after_writer(&self, name: &str) -> usize {
        self.writer.get(name).map_or(0, |at| at + 1)
    }
}

/// `graph` with other outputs.
pub(crate) fn with_outputs(graph: &Graph, names: &[String]) -> Graph {
    let info = |name: &String| ValueInfo { name: name.clone(), dtype: DType::F32, shape: None };
    Graph { outputs: names.iter().map(info).collect(), ..structure(graph) }
}

/// The graph without palettes (weights keep their values: shapes may depend on them).
fn structure(graph: &Graph) -> Graph {
    let bare = |w: &slq_graph::Weight| slq_graph::Weight::from(w.tensor.clone());
    Graph {
        name: graph.name.clone(),
        inputs: graph.inputs.clone(),
        outputs: Vec::new(),
        nodes: graph.nodes.clone(),
        weights: graph.weights.iter().map(|(name, w)| (name.clone(), bare(w))).collect(),
        metadata: graph.metadata.clone(),
    }
}

/// Infers all shapes for a batch of inputs.
pub(crate) fn shapes_for(wanted: &Graph, inputs: &[(String, Vec<usize>)]) -> Result<Shapes, CalibrateError> {
    let given: Vec<(&str, Vec<usize>)> = inputs.iter().map(|(n, s)| (n.as_str(), s.clone())).collect();
    Ok(infer_shapes(wanted, &given)?)
}

/// A graph that computes `outputs` from values that are live at a cut.
#[derive(Debug)]
pub(crate) struct Segment {
    graph: Graph,
    /// Wanted values that are live already.
    given: Vec<String>,
}

impl Segment {
    /// The part of `graph` from position `cut` of `order` on that `outputs` need.
    pub fn new(graph: &Graph, order: &Order, shapes: &Shapes, cut: usize, outputs: &[String]) -> Self {
        let (mut needed, mut include) = (HashSet::new(), Vec::new());
        let (given, wanted): (Vec<String>, Vec<String>) =
            outputs.iter().cloned().partition(|name| order.after_writer(name) <= cut);
        needed.extend(wanted.iter().cloned());
        for at in (0..order.nodes.len()).rev() {
            let node = &graph.nodes[order.nodes[at]];
            let here = |o: &String| at >= cut || order.turned.contains(o);
            if node.outputs.iter().any(|o| needed.contains(o) && here(o)) {
                needed.extend(node.inputs.iter().filter(|i| !i.is_empty()).cloned());
                include.push(order.nodes[at]);
            }
        }
        include.reverse();
        let mut part = Graph { metadata: graph.metadata.clone(), ..Graph::default() };
        part.nodes = include.iter().map(|&i| graph.nodes[i].clone()).collect();
        let written: HashSet<&String> = part.nodes.iter().flat_map(|n| &n.outputs).collect();
        let mut inputs: Vec<&String> = Vec::new();
        for name in part.nodes.iter().flat_map(|n| &n.inputs).filter(|n| !n.is_empty()) {
            if let Some(weight) = graph.weights.get(name) {
                part.weights.entry(name.clone()).or_insert_with(|| weight.tensor.clone().into());
            } else if let Some(constant) = shapes.constant(name) {
                part.weights.entry(name.clone()).or_insert_with(|| constant.clone().into());
            } else if !written.contains(name) && !inputs.contains(&name) {
                inputs.push(name);
            }
        }
        // What the network computes comes as floats; what it is given keeps its type.
        let given_type = |name: &String| graph.inputs.iter().find(|i| i.name == *name).map(|i| i.dtype);
        let typed = |name: &String, dtype| ValueInfo { name: name.clone(), dtype, shape: None };
        let info = |name: &String| typed(name, DType::F32);
        part.inputs = inputs.into_iter().map(|n| typed(n, given_type(n).unwrap_or(DType::F32))).collect();
        part.outputs = wanted.iter().map(info).collect();
        Self { graph: part, given }
    }

    /// Computes what is not live yet from `live`, which must hold what the segment reads.
    ///
    /// # Errors
    /// [`CalibrateError::Engine`].
    pub fn run(&self, live: &Values, isa: Isa) -> Result<Values, CalibrateError> {
        if self.graph.outputs.is_empty() {
            return Ok(Values::new());
        }
        let mut inputs = Vec::with_capacity(self.graph.inputs.len());
        for info in &self.graph.inputs {
            inputs.push((info.name.as_str(), live.get(&info.name).ok_or_else(|| missing(&info.name))?));
        }
        Ok(slq_engine::run(&self.graph, &inputs, isa)?.into_iter().collect())
    }

    /// Replaces `live` by the wanted values alone.
    ///
    /// # Errors
    /// As [`run`](Self::run); `live` then stays as it was.
    pub fn step(&self, live: &mut Values, isa: Isa) -> Result<(), CalibrateError> {
        let mut found = self.run(live, isa)?;
        for name in &self.given {
            let value = live.remove(name).ok_or_else(|| missing(name))?;
            found.insert(name.clone(), value);
        }
        *live = found;
        Ok(())
    }
}

fn missing(name: &str) -> EngineError {
    EngineError::InputName { input: name.into(), problem: "missing" }
}
