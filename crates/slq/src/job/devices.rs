//! What outputs for small devices ask of a job: checks before the work, and batch-norms folded first.

use std::borrow::Cow;

use slq_compress::{Recipe, Stage};
use slq_graph::fold::fold_batch_norms;

use super::file::JobFile;
use crate::Error;
use crate::model::Model;

/// Whether an output of the job is a `.tflite` file with look-up tables.
fn has_tables(job: &JobFile) -> bool {
    !job.save.dense && job.outputs.iter().any(|o| o.extension().is_some_and(|e| e == "tflite"))
}

/// Checks that the outputs can hold what the job makes: operators, and widths of codes.
///
/// # Errors
/// [`Error::Tflite`] with all nodes or all layers that are in the way; [`Error::Argument`] for a budget, which may give a
/// layer 8 bits.
pub(super) fn check(job: &JobFile, model: &Model, recipe: &Recipe) -> Result<(), Error> {
    let Some(output) = job.outputs.iter().find(|o| o.extension().is_some_and(|e| e == "tflite")) else {
        return Ok(());
    };
    slq_tflite::check(&model.clone().for_use())?;
    if job.save.dense {
        return Ok(());
    }
    for stage in &recipe.stages {
        let Stage::Quantize(settings) = stage else { continue };
        if settings.budget.is_some() {
            return Err(Error::Argument(format!(
                "{}: a budget may give a layer 8 bits, and look-up tables of a .tflite file have at most 7: give --bits \
                 instead of the budget, or write float32 weights with --dense",
                output.display()
            )));
        }
        let layers = slq_compress::select_layers(&model.graph, settings)?;
        let wide = layers.iter().filter(|l| l.size > slq_tflite::LARGEST_TABLE);
        let weights: Vec<String> = wide.map(|l| format!("'{}'", l.weight)).collect();
        if !weights.is_empty() {
            return Err(Error::Tflite(slq_tflite::TfliteError::TooWide { weights }));
        }
    }
    Ok(())
}

/// The model with its batch-norms folded, and their names, where that is done before compression. Caffe's networks stay as
/// their files have them: their batch-norms are folded when the file is written.
pub(super) fn folded<'a>(job: &JobFile, model: &'a Model, recipe: &Recipe) -> (Cow<'a, Model>, Vec<String>) {
    let quantizes = recipe.stages.iter().any(|s| matches!(s, Stage::Quantize(_)));
    if !has_tables(job) || !quantizes || model.is_caffe() {
        return (Cow::Borrowed(model), Vec::new());
    }
    let mut graph = model.graph.clone();
    if fold_batch_norms(&mut graph) == 0 {
        return (Cow::Borrowed(model), Vec::new());
    }
    let norms = |graph: &'_ slq_graph::Graph| -> Vec<slq_graph::Node> {
        graph.nodes.iter().filter(|n| n.op == "BatchNormalization").cloned().collect()
    };
    let stay = norms(&graph);
    let gone = norms(&model.graph).into_iter().filter(|n| stay.iter().all(|s| s.outputs != n.outputs));
    let names = gone.map(|n| n.name).collect();
    (Cow::Owned(model.with_graph(graph, true)), names)
}
