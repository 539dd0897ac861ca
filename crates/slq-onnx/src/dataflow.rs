//! Checks and names that every graph gets after reading.

use std::collections::{HashMap, HashSet};

use slq_graph::Graph;

use crate::error::OnnxError;

/// Every value is written once, and before it is read. A cycle shows itself as a value that is read too early.
pub fn check(graph: &Graph) -> Result<(), OnnxError> {
    let mut defined: HashSet<&str> = HashSet::new();
    let inputs = graph.inputs.iter().map(|v| v.name.as_str());
    for name in graph.weights.keys().map(String::as_str).chain(inputs) {
        if !defined.insert(name) {
            return Err(OnnxError::DuplicateValue { name: name.into() });
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some(value) = node.inputs.iter().find(|i| !i.is_empty() && !defined.contains(i.as_str())) {
            let named = !node.name.is_empty();
            let label = if named { node.name.clone() } else { format!("{} (number {index})", node.op) };
            return Err(OnnxError::UndefinedInput { node: label, value: value.clone() });
        }
        for name in node.outputs.iter().filter(|o| !o.is_empty()) {
            if !defined.insert(name) {
                return Err(OnnxError::DuplicateValue { name: name.clone() });
            }
        }
    }
    match graph.outputs.iter().find(|o| !defined.contains(o.name.as_str())) {
        Some(output) => Err(OnnxError::UndefinedOutput { name: output.name.clone() }),
        None => Ok(()),
    }
}

/// Gives every node a name of its own: nameless ones are called after their operator and position, and a
/// repeated name gets a number.
pub fn name_nodes(graph: &mut Graph) {
    let given: HashSet<String> = graph.nodes.iter().map(|n| n.name.clone()).collect();
    let mut used: HashSet<String> = HashSet::new();
    let mut counters: HashMap<String, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter_mut().enumerate() {
        if !node.name.is_empty() && used.insert(node.name.clone()) {
            continue;
        }
        let base = if node.name.is_empty() {
            format!("{}_{index}", node.op)
        } else {
            std::mem::take(&mut node.name)
        };
        let counter = counters.entry(base.clone()).or_default();
        loop {
            let name = if *counter == 0 { base.clone() } else { format!("{base}_{counter}") };
            *counter += 1;
            if !given.contains(&name) && used.insert(name.clone()) {
                node.name = name;
                break;
            }
        }
    }
}
