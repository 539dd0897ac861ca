//! The bytes of a job's `.slq` file, which a budget counts and a price on bits is for.

use std::path::Path;

use slq_compress::{CompressError, FileSize, Recipe, Stage, Warning};
use slq_graph::Graph;

use super::devices::Wanted;
use super::inputs::Inputs;
use crate::model::Model;
use crate::save::SaveOptions;

fn is_container(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "slq")
}

/// A warning where a job pays for short codes and writes files, none of which stores codes by their length.
pub(super) fn unused_price(wanted: Wanted<'_>, recipe: &Recipe) -> Option<Warning> {
    let priced = |s: &Stage| matches!(s, Stage::Quantize(q) if q.method.rate().is_some_and(|r| r > 0.0));
    let unused = recipe.stages.iter().any(priced)
        && !wanted.outputs.is_empty()
        && !wanted.outputs.iter().any(|o| is_container(o));
    unused.then(|| Warning {
        kind: "rate".into(),
        message: "--rate gives up accuracy for codes that are short where they are entropy-coded: in a .slq file, and no output is                   one; write one (-o X.slq), or leave --rate out"
            .into(),
    })
}

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
        wanted.outputs.first().filter(|o| is_container(o))?;
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
