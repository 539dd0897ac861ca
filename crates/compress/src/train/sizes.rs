//! Sizes that a network's file leaves open, as the data has them.

use slq_data::Split;
use slq_graph::{Dim, Graph};

/// `graph` with the sizes of its inputs that its file leaves open as those of the examples of `split`; for images it stays as
/// it is.
pub fn sized(mut graph: Graph, split: &Split) -> Graph {
    for array in split.inputs().unwrap_or_default() {
        if let Some(input) = graph.inputs.iter_mut().find(|i| i.name == array.name) {
            let batch = input.shape.as_ref().and_then(|d| d.first().cloned()).unwrap_or(Dim::Unknown);
            let rest = array.shape.iter().map(|&n| Dim::Known(n));
            input.shape = Some(std::iter::once(batch).chain(rest).collect());
        }
    }
    graph
}
