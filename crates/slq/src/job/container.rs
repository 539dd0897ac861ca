//! The bytes of a job's `.slq` file, which a budget counts.

use slq_compress::{CompressError, FileSize};
use slq_graph::Graph;

use super::devices::Wanted;
use super::inputs::Inputs;
use crate::model::Model;
use crate::save::SaveOptions;

/// What a job's first output is made of beside its network, and how it is written.
#[derive(Debug)]
pub(super) struct Container<'a> {
    /// The model as it began, of whose network the inputs alone are kept.
    model: Model,
    save: &'a SaveOptions,
}

impl<'a> Container<'a> {
    /// That of a job whose first output is a `.slq` file; `model` as the job begins with it.
    pub(super) fn of(wanted: Wanted<'a>, inputs: &Inputs, model: &Model) -> Option<Self> {
        let ending = wanted.outputs.first().and_then(|o| o.extension());
        ending.filter(|e| *e == "slq")?;
        let inputs_alone = Graph { inputs: model.graph.inputs.clone(), ..Graph::default() };
        let mut model = model.with_graph(inputs_alone, false);
        model.transform = inputs.preprocessing.as_ref().map(|p| p.transform.clone()).or(model.transform);
        Some(Self { model, save: wanted.save })
    }
}

impl FileSize for Container<'_> {
    fn bytes(&self, graph: &Graph) -> Result<u64, CompressError> {
        // While a job runs, sizes of inputs that the file leaves open are those of the examples.
        let graph = Graph { inputs: self.model.graph.inputs.clone(), ..graph.clone() };
        let bytes = self.model.with_graph(graph, false).container_bytes(self.save);
        bytes.map_err(|error| CompressError::FileSize { reason: error.to_string() })
    }
}
