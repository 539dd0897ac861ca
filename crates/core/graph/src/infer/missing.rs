//! Operators that neither shape inference nor a runtime knows, all of them at once.

use std::collections::HashSet;

use indexmap::IndexMap;

use crate::error::{GraphError, KMEANS_ADVICE, Missing};
use crate::evaluate::EVALUATED;
use crate::graph::Graph;
use crate::order::{execution_order, label, live_nodes};
use crate::resolve::RESOLVED;

/// Refuses a graph with several nodes of unknown operators, naming all of them. A single one is left to the step that
/// resolves it.
pub(super) fn check(graph: &Graph, order: &[usize], live: &[bool]) -> Result<(), GraphError> {
    let operators = missing(graph, order, live);
    if operators.iter().map(|m| m.count).sum::<usize>() < 2 {
        return Ok(());
    }
    Err(GraphError::UnsupportedOperators { operators, advice: KMEANS_ADVICE.into() })
}

impl Graph {
    /// Checks that all operators are known, before anything else is read.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedOperators`] naming all that are not, and those of [`missing_operators`](Self::missing_operators).
    pub fn check_operators(&self) -> Result<(), GraphError> {
        match self.missing_operators()? {
            operators if operators.is_empty() => Ok(()),
            operators => Err(GraphError::UnsupportedOperators { operators, advice: KMEANS_ADVICE.into() }),
        }
    }

    /// The operators that keep this network from being run and trained, each with its number of nodes; empty where all are
    /// known. Needs no shapes: a form of a known operator may still be refused later.
    ///
    /// # Errors
    /// [`GraphError::UnknownValue`], [`GraphError::DuplicateValue`] and [`GraphError::Cycle`] for an inconsistent graph.
    pub fn missing_operators(&self) -> Result<Vec<Missing>, GraphError> {
        let order = execution_order(self)?;
        let (live, _) = live_nodes(self, &order);
        Ok(missing(self, &order, &live))
    }
}

fn missing(graph: &Graph, order: &[usize], live: &[bool]) -> Vec<Missing> {
    // Values that depend on more than shapes and constants.
    let mut data: HashSet<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
    data.retain(|name| !graph.weights.contains_key(*name));
    let mut found: IndexMap<String, Missing> = IndexMap::new();
    for &i in order.iter().filter(|&&i| live[i]) {
        let node = &graph.nodes[i];
        let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
        let shape_only = standard && matches!(node.op.as_str(), "Shape" | "Size" | "Constant");
        let depends = !shape_only && node.inputs.iter().any(|name| data.contains(name.as_str()));
        let op = node.op.as_str();
        let known = standard && (RESOLVED.contains(&op) || (!depends && EVALUATED.contains(&op)));
        if !known {
            let name = if standard { node.op.clone() } else { format!("{}.{}", node.domain, node.op) };
            let entry = found.entry(name.clone());
            let missing = entry.or_insert_with(|| Missing { op: name, count: 0, nodes: Vec::new() });
            missing.count += 1;
            if missing.nodes.len() < 3 {
                missing.nodes.push(label(graph, i));
            }
        }
        // What an unknown operator writes is data, whatever it reads.
        if depends || !known {
            data.extend(node.outputs.iter().map(String::as_str));
        }
    }
    found.into_values().collect()
}
