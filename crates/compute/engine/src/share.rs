//! The share of an executor in a data-parallel step, and the running statistics behind it.

use slq_graph::{Graph, Role};
use slq_reduce::{Alone, Reducer};

use crate::error::EngineError;

/// The share of a training step's images that one of several executors takes.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// Reaches the other executors.
    pub reducer: &'a dyn Reducer,
    /// Images of this share divided by those of the step.
    pub weight: f32,
}

impl Share<'_> {
    /// All images.
    pub fn whole() -> Share<'static> {
        Share { reducer: Alone::shared(), weight: 1.0 }
    }

    pub(crate) fn is_whole(self) -> bool {
        self.reducer.size() == 1
    }

    /// Averages the running statistics of batch-norm, weighted by the images. After every step: at other moments the
    /// rounding would differ, and with it the bits of a training that was stopped and resumed.
    pub(crate) fn average(self, graph: &mut Graph) -> Result<(), EngineError> {
        let statistics = running_statistics(graph);
        if self.is_whole() || statistics.is_empty() {
            return Ok(());
        }
        let mut message = Vec::new();
        for &i in &statistics {
            message.extend(values(graph, i).iter().map(|v| v * self.weight));
        }
        self.reducer.begin_sum(message)?;
        let sums = self.reducer.finish_sum()?;
        let mut rest = sums.as_slice();
        for &i in &statistics {
            let values = values(graph, i);
            let (mine, others) = rest.split_at(values.len());
            values.copy_from_slice(mine);
            rest = others;
        }
        Ok(())
    }
}

fn values(graph: &mut Graph, i: usize) -> &mut [f32] {
    let weight = graph.weights.get_index_mut(i);
    weight.and_then(|(_, w)| w.tensor.as_f32_mut()).unwrap_or_default()
}

/// Positions of the weights that are running statistics, each once.
fn running_statistics(graph: &Graph) -> Vec<usize> {
    let mut found = Vec::new();
    for node in &graph.nodes {
        for (i, name) in node.inputs.iter().enumerate() {
            let Some((at, _, weight)) = graph.weights.get_full(name) else { continue };
            let is_statistic = Role::of(node, i, weight.tensor.len()) == Role::Statistic;
            if is_statistic && weight.tensor.as_f32().is_some() && !found.contains(&at) {
                found.push(at);
            }
        }
    }
    found
}
