//! Execution order: topological sorting of nodes.

use std::collections::{HashMap, HashSet};

use crate::error::GraphError;
use crate::graph::Graph;

/// The name of node `index` in messages.
pub(crate) fn label(graph: &Graph, index: usize) -> String {
    let node = &graph.nodes[index];
    if node.name.is_empty() { format!("{}_{index}", node.op) } else { node.name.clone() }
}

/// The position of the node that writes each value; `None` for graph inputs and weights.
pub(crate) fn writers(graph: &Graph) -> Result<HashMap<&str, Option<usize>>, GraphError> {
    let mut writers: HashMap<&str, Option<usize>> = HashMap::new();
    for name in graph.weights.keys() {
        writers.insert(name, None);
    }
    // A weight may be listed as an input too (files of ONNX's IR version 3): one value, not two.
    let mut seen = HashSet::new();
    for input in &graph.inputs {
        if !seen.insert(&input.name) {
            return Err(GraphError::DuplicateValue {
                value: input.name.clone(),
                first: "an input".into(),
                second: "another input".into(),
            });
        }
        writers.insert(&input.name, None);
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            if let Some(first) = writers.insert(output, Some(i)) {
                return Err(GraphError::DuplicateValue {
                    value: output.clone(),
                    first: first
                        .map_or("an input or weight".into(), |n| format!("node `{}`", label(graph, n))),
                    second: format!("node `{}`", label(graph, i)),
                });
            }
        }
    }
    Ok(writers)
}

/// The positions of all nodes in topological order: each value is written before it is read. Nodes that are in order
/// already keep their places.
///
/// # Errors
/// [`GraphError::DuplicateValue`], [`GraphError::UnknownValue`], [`GraphError::Cycle`].
pub fn execution_order(graph: &Graph) -> Result<Vec<usize>, GraphError> {
    let writers = writers(graph)?;
    let mut waits = vec![0usize; graph.nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in node.inputs.iter().filter(|s| !s.is_empty()) {
            match writers.get(input.as_str()) {
                None => {
                    return Err(GraphError::UnknownValue {
                        op: node.op.clone(),
                        node: label(graph, i),
                        value: input.clone(),
                    });
                }
                Some(None) => {}
                Some(&Some(writer)) => {
                    waits[i] += 1;
                    readers[writer].push(i);
                }
            }
        }
    }
    // Taking the first node that is ready keeps the order of a graph that is sorted already.
    let ready = (0..waits.len()).filter(|&i| waits[i] == 0).map(std::cmp::Reverse);
    let mut ready: std::collections::BinaryHeap<_> = ready.collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(std::cmp::Reverse(i)) = ready.pop() {
        order.push(i);
        for &reader in &readers[i] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(std::cmp::Reverse(reader));
            }
        }
    }
    if order.len() == graph.nodes.len() { Ok(order) } else { Err(find_cycle(graph, &readers, &waits)) }
}

/// The error that names one cycle among the nodes whose inputs never became ready.
fn find_cycle(graph: &Graph, readers: &[Vec<usize>], waits: &[usize]) -> GraphError {
    let mut before = vec![usize::MAX; waits.len()];
    for (writer, read_by) in readers.iter().enumerate().filter(|(w, _)| waits[*w] > 0) {
        for &r in read_by {
            before[r] = writer;
        }
    }
    // Each of these nodes reads from another of them: following the writers leads onto a cycle.
    let mut at = waits.iter().position(|&w| w > 0).unwrap_or(0);
    for _ in 0..waits.len() {
        at = before[at];
    }
    let (first, mut nodes) = (at, Vec::new());
    loop {
        nodes.push(label(graph, at));
        at = before[at];
        if at == first || nodes.len() > waits.len() {
            break;
        }
    }
    nodes.reverse();
    GraphError::Cycle { nodes }
}

/// Which nodes contribute to a graph output, and all values that those nodes or the outputs need.
pub(crate) fn live_nodes<'a>(graph: &'a Graph, order: &[usize]) -> (Vec<bool>, HashSet<&'a str>) {
    let mut wanted: HashSet<&str> = graph.outputs.iter().map(|o| o.name.as_str()).collect();
    let mut live = vec![false; graph.nodes.len()];
    for &i in order.iter().rev() {
        let node = &graph.nodes[i];
        if node.outputs.iter().any(|o| !o.is_empty() && wanted.contains(o.as_str())) {
            live[i] = true;
            wanted.extend(node.inputs.iter().filter(|s| !s.is_empty()).map(String::as_str));
        }
    }
    (live, wanted)
}
