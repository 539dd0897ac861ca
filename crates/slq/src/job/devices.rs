//! What outputs for small devices and for single runtimes ask of a job: checks before the work, and networks changed first.

use std::borrow::Cow;
use std::path::PathBuf;

use slq_codebook::{SINGLE, stored_bytes};
use slq_compress::{CodebookKind, Granularity, Inputs as _, Method, Quantize, Recipe, Stage, select_layers};
use slq_engine::Isa;
use slq_graph::fold::fold_batch_norms;

use super::asked::Asked;
use super::inputs::Inputs;
use crate::Error;
use crate::calibration::CalibrationInputs;
use crate::integers::check_int8;
use crate::model::Model;
use crate::save::{Activations, SaveOptions};

/// The outputs of a job, and how they are written.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) outputs: &'a [PathBuf],
    pub(super) save: &'a SaveOptions,
}

/// Whether an output of the job is a `.tflite` file with look-up tables.
fn has_tables(job: Wanted<'_>) -> bool {
    !job.save.dense && job.outputs.iter().any(|o| o.extension().is_some_and(|e| e == "tflite"))
}

/// Checks that the outputs can hold what the job makes: operators, and widths of codes.
///
/// # Errors
/// [`Error::Tflite`] with all nodes or all layers that are in the way; [`Error::Argument`] for a budget, which may give a
/// layer 8 bits.
pub(super) fn check(job: Wanted<'_>, inputs: &Inputs, recipe: &Recipe) -> Result<(), Error> {
    let model = &inputs.model;
    if job.save.activations == Activations::Int8 {
        let random = |c: &CalibrationInputs| c.origin() == slq_compress::Origin::Random;
        let named = inputs.data.is_some() || inputs.calibration.as_ref().is_some_and(|c| !random(c));
        check_int8(job.outputs, named)?;
    }
    if job.save.runtime.is_some() {
        check_runtime(job, model, recipe)?;
    }
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
        let layers = select_layers(&model.graph, settings)?;
        let wide = layers.iter().filter(|l| l.size > slq_tflite::LARGEST_TABLE);
        let weights: Vec<String> = wide.map(|l| format!("'{}'", l.weight)).collect();
        if !weights.is_empty() {
            return Err(Error::Tflite(slq_tflite::TfliteError::TooWide { weights }));
        }
    }
    Ok(())
}

/// The model with the ranges of its values: on the inputs that are named for calibration, or else on the training images.
pub(super) fn measured(model: &Model, inputs: &Inputs, seed: u64, isa: Isa) -> Result<Model, Error> {
    let named = match &inputs.calibration {
        Some(named) => Some(named.clone()),
        None => inputs.unlabelled(seed)?,
    };
    named.map_or_else(|| Ok(model.clone()), |inputs| model.measured(inputs, isa))
}

/// The model with its batch-norms folded, and their names, where that is done before compression. Caffe's networks stay as
/// their files have them: their batch-norms are folded when the file is written.
pub(super) fn folded<'a>(
    job: Wanted<'_>,
    model: &'a Model,
    recipe: &Recipe,
) -> (Cow<'a, Model>, Vec<String>) {
    if !has_tables(job) || !recipe.quantizes() || model.is_caffe() {
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

/// Smallest block of inputs that share a step, where none is given.
const BLOCK: usize = 32;

/// Sets what onnxruntime needs to keep weights packed, where nothing else is `asked` for: evenly spaced codebooks,
/// and blocks of 32 inputs for dense layers, or of the next power of two whose codebooks take no more than their weights as floats.
/// Returns what was set, in sentences.
pub fn suit_runtime(stages: &mut [Stage], asked: &Asked) -> Vec<String> {
    let named = |setting: &str| asked.settings.contains_key(setting);
    let mut said = Vec::new();
    for stage in stages {
        let Stage::Quantize(settings) = stage else { continue };
        if let Some(codebook) =
            codebook_of(&mut settings.method).filter(|c| !named("codebook") && **c == CodebookKind::Free)
        {
            *codebook = CodebookKind::Uniform;
            said.push("--runtime ort sets --codebook uniform: evenly spaced values".into());
            // Asked for, they are refused beside evenly spaced values.
            let trained = trained_centroids_of(&mut settings.method);
            if let Some(trained) = trained.filter(|t| **t && !named("train-centroids")) {
                *trained = false;
                said.push(
                    "--runtime ort sets --train-centroids=false: fixed values stay evenly spaced".into(),
                );
            }
        }
        if asked.granularity.is_none() && settings.granularity == Granularity::Tensor {
            let size = settings.size();
            let pays = |n: &usize| stored_bytes(*n, 1, size, SINGLE) <= 4 * n;
            let block = (0..8).map(|i| BLOCK << i).find(pays).unwrap_or(BLOCK);
            settings.granularity = Granularity::Dense(block);
            said.push(format!(
                "--runtime ort sets --granularity dense:{block}: a step for every {block} inputs of dense layers, one for each channel of others"
            ));
        }
    }
    said
}

/// The method's choice of codebooks, where it has one.
fn codebook_of(method: &mut Method) -> Option<&mut CodebookKind> {
    match method {
        Method::Slq(s) => Some(&mut s.codebook),
        Method::Mlq(s) => Some(&mut s.codebook),
        Method::Calibrate(s) => Some(&mut s.codebook),
        Method::Kmeans(s) => Some(&mut s.codebook),
        _ => None,
    }
}

/// Whether the method goes on training the centroids of fixed layers, where it may.
fn trained_centroids_of(method: &mut Method) -> Option<&mut bool> {
    match method {
        Method::Slq(s) => Some(&mut s.train_centroids),
        Method::Mlq(s) => Some(&mut s.train_centroids),
        _ => None,
    }
}

/// Checks that the job makes codebooks that onnxruntime can keep packed, for one dense layer at least.
fn check_runtime(job: Wanted<'_>, model: &Model, recipe: &Recipe) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Argument(format!("--runtime ort: {text}")));
    if job.save.dense {
        return refuse("it packs weights, which --dense keeps as floats: leave out one of them".into());
    }
    if !job.outputs.iter().any(|o| o.extension().is_some_and(|e| e == "onnx")) {
        return refuse("it is for ONNX files: name an output that ends in .onnx".into());
    }
    if recipe.stages.iter().any(|s| matches!(s, Stage::Tune(_))) {
        return refuse(
            "training the shared values moves them off their even spacing: leave out --tune-epochs".into(),
        );
    }
    let graph = slq_onnx::for_onnxruntime(&model.clone().for_use())?.graph;
    for stage in &recipe.stages {
        let Stage::Quantize(settings) = stage else { continue };
        if settings.method.trains_centroids() {
            return refuse(
                "centroids of fixed layers would leave their even spacing: leave out --train-centroids"
                    .into(),
            );
        }
        if settings.method.codebook() != CodebookKind::Uniform {
            let method = settings.method.name().text();
            return refuse(format!(
                "the codebooks of this job are not evenly spaced: give --codebook uniform, with the method slq, mlq, calibrate or \
                 kmeans (it is {method})"
            ));
        }
        if !packs(&graph, settings)? {
            return refuse(
                "no dense layer gets blocks of 16, 32, 64 ... inputs, so nothing would stay packed: give --granularity dense:32, or \
                 leave the flag out (the inputs of a layer have to be a multiple of the block)"
                    .into(),
            );
        }
    }
    Ok(())
}

/// Whether a dense layer gets blocks that onnxruntime keeps packed.
fn packs(graph: &slq_graph::Graph, settings: &Quantize) -> Result<bool, Error> {
    let dense = |name: &str| graph.consumers_of(name).any(|n| n.op == "Gemm" && n.int("transB", 0) != 0);
    let fits = |l: &slq_compress::Layer| {
        let columns = graph.weights[&l.weight].tensor.shape().get(1).copied().unwrap_or(0);
        dense(&l.weight) && slq_onnx::fits(columns, l.count / l.groups)
    };
    Ok(select_layers(graph, settings)?.iter().any(fits))
}

/// The model in the form that onnxruntime keeps packed, and what was changed, where an output is made for it. Caffe's networks stay
/// as their files have them.
pub(super) fn prepared<'a>(
    job: Wanted<'_>,
    model: Cow<'a, Model>,
) -> Result<(Cow<'a, Model>, Vec<String>), Error> {
    if job.save.runtime.is_none() || model.is_caffe() {
        return Ok((model, Vec::new()));
    }
    let slq_onnx::Prepared { graph, notes, .. } = slq_onnx::for_onnxruntime(&model.graph)?;
    Ok((Cow::Owned(model.with_graph(graph, true)), notes))
}
