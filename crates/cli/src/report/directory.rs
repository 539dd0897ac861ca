//! What a run directory tells, whether its job is finished or not.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use slq::jobs::{RECIPE, REPORT};
use slq::methods::{RoundReport, TrainingData, Trial};
use slq::{Accuracy, Error, JobFile, JobReport, Model, Stage};
use slq_report::{Run, Search, Sizes, State};

use super::parts::{Pair, name_of, provenance, sensitivities};
use super::{figures, networks};
use crate::common::{Common, quoted};
use crate::runs;
use crate::table::budget;

/// The job in `dir`, with its networks and its images as far as they are still there.
pub(super) fn run(dir: &Path, images: usize, common: &Common) -> Result<Run, Error> {
    let job = JobFile::resume(dir)?;
    let path = dir.join(REPORT);
    let mut run = match path.exists() {
        true => figures::of(&JobReport::read(&path)?),
        false => so_far(dir, &job),
    };
    run.name = name_of(&std::path::absolute(dir).unwrap_or_else(|_| dir.into()));
    run.provenance = provenance(&job);
    let recipe = dir.join(RECIPE);
    run.provenance.command = Some(format!("slq compress --recipe {} -o OUT", quoted(&recipe)));
    run.provenance.recipe = std::fs::read_to_string(&recipe).ok();
    run.sensitivities = sensitivities(Some(dir), job.sensitivity.as_deref());
    let (before, data) = opened(&job, &mut run, images, common);
    let outputs = || JobReport::read(&path).ok()?.outputs.iter().find_map(networks::unchanged);
    let after = outputs().or_else(|| checkpoint(dir, &job, before.as_ref()));
    match &after {
        Some(after) => {
            // Images are compared once the network is whole.
            let data = data.as_ref().filter(|_| run.state == State::Finished);
            Pair { before: before.as_ref(), after }.describe(&mut run, data, images, common)?;
            if let State::Unfinished { .. } = run.state {
                run.figures.sizes = run.figures.sizes.or_else(|| sizes(after));
            }
        }
        None => {
            run.notes.push("Layers: neither the files written nor a checkpoint is here unchanged.".into())
        }
    }
    Ok(run)
}

fn sizes(model: &Model) -> Option<Sizes> {
    let total = slq::graph::stats::summary(&model.graph).total;
    // Codes count once all weights of a layer are fixed.
    (total.dense_bytes > 0).then_some(Sizes {
        dense: total.dense_bytes,
        stored: total.stored_bytes,
        entropy: total.entropy_bytes,
    })
}

/// The model that the job began with, and its images; what is no longer there is noted.
fn opened(
    job: &JobFile,
    run: &mut Run,
    images: usize,
    common: &Common,
) -> (Option<Model>, Option<TrainingData>) {
    let wants_data = images > 0 && run.figures.before.is_some() && run.state == State::Finished;
    if wants_data {
        match job.open(common.isa()) {
            Ok(inputs) => return (Some(inputs.model), inputs.data),
            Err(error) => run.notes.push(format!("Test images whose answer changed: {error}.")),
        }
    }
    let model = match &job.solver {
        // The net of a solver file comes with its data.
        Some(_) => job.open(common.isa()).map(|i| i.model),
        None => job.open_model(),
    };
    match model {
        Ok(model) => (Some(model), None),
        Err(error) => {
            run.notes.push(format!("Weights of the float network: {error}."));
            (None, None)
        }
    }
}

/// The figures of a job without a report: those of its stages.
fn so_far(dir: &Path, job: &JobFile) -> Run {
    let mut run = Run::default();
    if runs::written(job, dir) {
        run.notes
            .push("Figures of the whole job: the directory is of a version that did not keep them.".into());
    } else {
        let resume = format!("slq resume {}", quoted(dir));
        run.state = State::Unfinished { stages: runs::stages(job, dir), resume };
    }
    for (i, stage) in job.stages.iter().enumerate() {
        let stage_dir = dir.join(format!("{}-{}", i + 1, stage.name()));
        if let Stage::Quantize(settings) = stage {
            run.figures.method = Some(settings.method.name().text().into());
            (run.figures.bits, run.figures.codebook_size) = (Some(settings.bits), Some(settings.size()));
        }
        let Some(state) = state(&stage_dir) else { continue };
        let trials: Vec<Trial> = part(&state, "trials").unwrap_or_default();
        if let (Stage::Quantize(settings), false) = (stage, trials.is_empty()) {
            let budget = settings.budget.map(budget).unwrap_or_default();
            let trials = trials.iter().map(figures::trial).collect();
            let labels = settings.retrains() || run.figures.before.is_some();
            run.search = Some(Search { labels, budget, baseline: None, trials, chosen: None });
        }
        add_rounds(&mut run, &state);
        if let Some(chosen) = self::state(&stage_dir.join("chosen")) {
            add_rounds(&mut run, &chosen);
        }
    }
    run
}

/// Adds the rounds of a stage, and the accuracy that it began with.
fn add_rounds(run: &mut Run, state: &Value) {
    let rounds: Vec<RoundReport> = part(state, "rounds").unwrap_or_default();
    let baseline: Option<Accuracy> = part(state, "baseline");
    run.figures.before =
        baseline.as_ref().filter(|a| !a.unlabelled).map(figures::score).or(run.figures.before);
    run.figures.after = rounds
        .last()
        .and_then(|r| r.after.as_ref())
        .filter(|a| !a.unlabelled)
        .map(figures::score)
        .or(run.figures.after);
    run.figures.seconds = part(state, "seconds").or(run.figures.seconds);
    run.rounds.extend(rounds.iter().map(figures::round));
}

fn state(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(dir.join("state.json")).ok()?).ok()
}

fn part<T: DeserializeOwned>(state: &Value, key: &str) -> Option<T> {
    T::deserialize(state.get(key)?).ok()
}

/// The network in the last weights that the job kept, with the nodes of `before`.
fn checkpoint(dir: &Path, job: &JobFile, before: Option<&Model>) -> Option<Model> {
    let before = before?;
    let stages = job.stages.iter().enumerate().rev();
    let folders = stages.map(|(i, s)| dir.join(format!("{}-{}", i + 1, s.name())));
    let last = folders.flat_map(|f| [f.join("chosen"), f]).find_map(|f| last_weights(&f))?;
    let kept = Model::open(last.as_path()).ok()?;
    let mut model = before.clone();
    for (name, weight) in kept.graph.weights {
        if let Some(place) =
            model.graph.weights.get_mut(&name).filter(|w| w.tensor.shape() == weight.tensor.shape())
        {
            *place = weight;
        }
    }
    Some(model)
}

/// The file of weights with the highest number in a stage's folder.
fn last_weights(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path()));
    let number = |path: &PathBuf| -> Option<u64> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
        match stem {
            "tuned" => Some(u64::MAX),
            _ => stem.strip_prefix("round-").or(stem.strip_prefix("layer-"))?.parse().ok(),
        }
    };
    files.filter_map(|f| Some((number(&f)?, f))).max().map(|(_, f)| f)
}
