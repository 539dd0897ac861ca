//! `--dry-run`: what a job would do, without doing it.

use serde_json::{Value, json};
use slq::graph::Graph;
use slq::jobs::JobEstimate;
use slq::methods::{Size, select_layers};
use slq::{Error, Inputs, JobFile, Quantize, Stage};

use crate::common::Common;
use crate::job::{estimate, estimate_text};
use crate::table::{budget, thousands};

/// Columns before the text of a line.
const INDENT: usize = 9;
/// Columns of a terminal that a line fits in.
const WIDTH: usize = 80;

/// Bytes of the network once its weights are shared; both ends of a range where a search chooses the widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    dense: u64,
    stored: u64,
    /// Share of all parameters that is quantized, in thousandths.
    quantized: u64,
}

/// The plan of a job as JSON and as text. `run_dir` is where its checkpoints would go.
///
/// # Errors
/// Those of [`JobFile::plan`] and of the choice of layers.
pub(crate) fn plan(
    job: &JobFile,
    inputs: &Inputs,
    further: &[std::path::PathBuf],
    run_dir: Option<&std::path::Path>,
    common: &Common,
) -> Result<(Value, String), Error> {
    let planned = job.plan(inputs, further)?;
    let outputs: Vec<String> =
        planned.iter().flat_map(slq::files::Planned::paths).map(|p| p.display().to_string()).collect();
    let stages: Vec<String> = job.stages.iter().map(stage).collect();
    let model =
        job.model.clone().or(job.solver.as_ref().map(|s| s.display().to_string())).unwrap_or_default();
    let data = data(job, inputs);
    let size = size(job, &inputs.model.graph)?;
    let memory = job.recipe().trains().then(|| training_memory(job, &inputs.model.graph)).flatten();

    let mut lines = vec![("model", model.clone()), ("data", data.clone())];
    lines.extend(
        stages
            .iter()
            .enumerate()
            .map(|(i, text)| (if i == 0 { "stages" } else { "" }, format!("{}. {text}", i + 1))),
    );
    lines.extend(
        outputs.iter().enumerate().map(|(i, path)| (if i == 0 { "writes" } else { "" }, path.clone())),
    );
    if let Some(dir) = run_dir {
        lines.push(("keeps", format!("checkpoints in {}", dir.display())));
    }
    lines.push(("size", size_text(job, size)));
    if let Some(bytes) = memory {
        lines.push(("memory", format!("{:.0} MB for training, beside the images", bytes as f64 / 1e6)));
    }
    let time = estimate(job, inputs, common)?;
    lines.push(("time", time_text(job, time.as_ref(), common)));
    let text: Vec<String> = lines.iter().map(|(name, text)| wrapped(name, text)).collect();
    let json = json!({
        "dry_run": true, "model": model, "data": data, "stages": job.stages, "outputs": outputs, "run_dir": run_dir,
        "size": size.map(|s| json!({ "dense_bytes": s.dense, "stored_bytes": s.stored })),
        "training_bytes": memory, "seconds": time.map(|t| t.seconds), "training_steps": time.map(|t| t.steps),
        "at_most": time.is_some_and(|t| t.at_most),
    });
    Ok((json, format!("{}\nnothing was done (--dry-run)", text.join("\n"))))
}

/// How long the job will take, or why that is not known.
fn time_text(job: &JobFile, time: Option<&JobEstimate>, common: &Common) -> String {
    match time {
        Some(found) => estimate_text(found, common),
        None if job.recipe().trains() => "known once the layers are split".into(),
        None => "not estimated: nothing is trained".into(),
    }
}

/// A line of the plan, continued under its text where it is wider than a terminal; a word that is wider stays whole.
fn wrapped(name: &str, text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let width = lines[last].chars().count();
        if width > 0 && INDENT + width + 1 + word.chars().count() > WIDTH {
            lines.push(word.into());
        } else {
            if width > 0 {
                lines[last].push(' ');
            }
            lines[last] += word;
        }
    }
    format!("{name:<INDENT$}{}", lines.join(&format!("\n{:INDENT$}", "")))
}

fn data(job: &JobFile, inputs: &Inputs) -> String {
    let images = inputs.data.as_ref().map(|d| {
        format!(
            "{} training and {} test images",
            thousands(d.train.len() as u64),
            thousands(d.test.len() as u64)
        )
    });
    let calibration =
        inputs.calibration.as_ref().map(|c| format!("{} inputs without labels", thousands(c.count() as u64)));
    let path = job.calibrate.clone().or(job.data.path.clone());
    match (path, images.or(calibration)) {
        (Some(path), Some(what)) => format!("{path}: {what}"),
        (None, Some(what)) => what,
        _ => "none".into(),
    }
}

/// One line for a stage.
fn stage(stage: &Stage) -> String {
    let length = |t: &slq::methods::TrainingSettings| {
        let length = match t.length {
            slq::Length::Epochs(n) => format!("{n} epochs"),
            slq::Length::Iterations(n) => format!("{n} steps"),
        };
        let parts = match t.iter_size {
            1 => String::new(),
            n => format!(", in {n} parts of {},", t.batch),
        };
        format!("{length} of batches of {}{parts} at a rate of {}", t.images_per_step(), t.learning_rate)
    };
    match stage {
        Stage::Quantize(settings) => {
            let widths = match settings.budget {
                None => format!("{} bits, {} values", settings.bits, settings.size()),
                Some(asked) => format!("widths for {}", budget(asked)),
            };
            let training = settings.method.training().map(|t| format!("; each round {}", length(t)));
            let method = settings.method.name().text();
            let granularity = String::from(settings.granularity);
            format!(
                "quantize by {method}: {widths}, a codebook for each {granularity}{}",
                training.unwrap_or_default()
            )
        }
        Stage::FineTune(s) => format!("fine-tune: {}", length(&s.training)),
        Stage::Tune(s) => format!("train the shared values: {}", length(&s.training)),
        other => other.name().into(),
    }
}

/// The stored size, where the layers that are quantized are those of the model and no search chooses widths.
fn size(job: &JobFile, graph: &Graph) -> Result<Option<Estimate>, Error> {
    let known = |s: &Stage| {
        matches!(s, Stage::FineTune(_) | Stage::Tune(_) | Stage::Quantize(Quantize { budget: None, .. }))
    };
    let quantize = job.stages.iter().find_map(|s| if let Stage::Quantize(q) = s { Some(q) } else { None });
    let (Some(settings), true) = (quantize, job.stages.iter().all(known)) else { return Ok(None) };
    let dense = Size::of(graph).dense_bytes;
    let layers = select_layers(graph, settings)?;
    let weights: u64 = layers.iter().map(|l| l.count as u64).sum();
    let codes: u64 = layers.iter().map(|l| l.stored_bytes() as u64).sum();
    let stored = dense.saturating_sub(4 * weights) + codes;
    Ok(Some(Estimate { dense, stored, quantized: 4000 * weights / dense.max(1) }))
}

fn size_text(job: &JobFile, size: Option<Estimate>) -> String {
    match size {
        Some(Estimate { dense, stored, quantized }) => format!(
            "{} bytes before, about {} stored ({:.1}x smaller), {:.1} % of all parameters quantized",
            thousands(dense),
            thousands(stored),
            dense as f64 / stored.max(1) as f64,
            quantized as f64 / 10.0
        ),
        None if job.stages.iter().any(|s| matches!(s, Stage::Quantize(q) if q.budget.is_some())) => {
            "within the budget; the job chooses the widths".into()
        }
        None => "known once the layers are split".into(),
    }
}

/// Bytes that the engine plans for a training step of the largest batch, found by one step on blank images; `None` where the
/// network cannot be trained as it is.
fn training_memory(job: &JobFile, graph: &Graph) -> Option<usize> {
    use slq::engine::{CpuExecutor, EngineOptions, Executor, StepSettings, Target};
    let batch = |s: &Stage| match s {
        Stage::Quantize(q) => q.method.training().map(|t| t.batch),
        Stage::FineTune(s) => Some(s.training.batch),
        Stage::Tune(s) => Some(s.training.batch),
        _ => None,
    };
    let batch = job.stages.iter().filter_map(batch).max()?;
    let mut executor = CpuExecutor::new(graph, batch, &EngineOptions::default()).ok()?;
    let images = vec![0.0; executor.image_shape().iter().product::<usize>() * batch];
    executor.train_step(&images, Target::Labels(&vec![0; batch]), &StepSettings::default()).ok()?;
    Some(executor.peak_bytes())
}
