//! `slq compress`: the main job.

use std::path::{Path, PathBuf};

use serde_json::json;
use slq::{Report, RunOptions, SaveOptions, Saved};

use super::common::Common;
use super::job::Job;
use super::low_rank;
use super::progress::{Progress, percent};
use super::recipe::RECIPE;
use super::table;

const COMMAND: &str = "command.json";

/// Share the weights of a trained network, round by round, and re-train what is still free.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq compress lenet.onnx --data mnist-10k --bits 5 -o small.onnx
  slq compress net.onnx --data images.zip --method mlq --bits 2 -o ternary.onnx
  slq compress net.onnx --method kmeans --bits 8 -o small.onnx
  slq compress net.onnx --data images.zip --target-size 20x -o small.onnx
  slq compress --recipe slq-runs/lenet/recipe.toml --seed 1 -o again.onnx
  slq compress --solver solver.prototxt --weights alexnet.caffemodel --bits 5 -o alexnet_5bit.caffemodel
  slq compress --resume slq-runs/lenet")]
pub(crate) struct Args {
    #[command(flatten)]
    job: Job,
    /// Go on with a run that was stopped; needs no other argument
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "output"])]
    resume: Option<PathBuf>,
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    let resume = args.resume.is_some();
    let mut job = match &args.resume {
        Some(dir) => read_command(dir)?,
        None => args.job.completed(common.given_seed)?,
    };
    job.output.iter().try_for_each(|o| slq::check_output(o))?;
    let mut files = job.open_solver()?;
    files.iter().flat_map(|f| &f.notes).for_each(|note| common.note(format_args!("note: {note}")));
    let (settings, budget, table) = (job.settings()?, job.budget()?, job.table()?);
    let decompose = job.decompose(&settings)?;
    let run_dir = args.resume.or_else(|| settings.retrains().then(|| job.run_dir()));
    let (graph, data, mut caffe) = match &mut files {
        Some(files) => (files.take_graph(), Some(files.data.clone()), None),
        None => {
            let model = job.named_model().open_for(&job.data, settings.seed)?;
            let data = job.data.open(&model)?;
            (model.graph, data, model.caffe)
        }
    };
    let trains_first = decompose.as_ref().is_some_and(slq::DecomposeSettings::trains);
    if (settings.needs_data() || trains_first) && data.is_none() {
        return Err(slq::Error::Compress(slq::CompressError::NoData));
    }
    if budget.is_none() && decompose.is_none() {
        slq::check(&graph, &settings)?;
    }
    if let (Some(dir), false) = (&run_dir, resume) {
        write_command(dir, &job)?;
        job.recipe(&settings).write(&dir.join(RECIPE))?;
    }
    let mut progress = Progress::new(common);
    let mut teacher = job.open_teacher(&settings)?;
    let data = data.as_ref();
    let (graph, figures) = match &decompose {
        None => (graph, None),
        Some(decompose) => {
            // What the network was before teaches what becomes of it in both parts.
            teacher = teacher.or_else(|| settings.training.distill.map(|_| graph.clone()));
            // The layers are no longer those of the prototxt that the network may have come from.
            caffe = None;
            let (graph, figures) = low_rank::low_rank(graph, data, decompose, run_dir.as_deref(), common)?;
            (graph, Some(figures))
        }
    };
    let options =
        RunOptions { run_dir: run_dir.as_deref(), resume, isa: common.isa(), teacher: teacher.as_ref() };
    let (mut outcome, search) = match budget {
        None => (slq::compress(graph, data, &settings, options, &mut progress)?, None),
        Some(budget) => {
            let within = slq::compress_within(graph, data, &settings, budget, table, options, &mut progress);
            within.map(|(outcome, search)| (outcome, Some(search)))?
        }
    };
    if let Some(files) = &files {
        let (graph, source) = files.finished(outcome.graph);
        (outcome.graph, caffe) = (graph, Some(source));
    }
    if let Some(data) = data {
        slq::preprocessing::store(&mut outcome.graph, &data.transform);
    }
    let save = SaveOptions { dense: job.dense, caffe, legacy_blobs: job.legacy_blobs };
    let saved =
        job.output.iter().map(|o| slq::save(&outcome.graph, o, &save)).collect::<Result<Vec<_>, _>>()?;
    let mut json = report_json(&outcome.report, &saved, run_dir.as_deref());
    let mut text = summary(&outcome, &saved);
    if let Some(search) = &search {
        json["search"] = json!(search);
        text = format!("{}\n\n{text}", table::trials(search));
    }
    if let Some(figures) = figures {
        text += &format!("\n{}", low_rank::summary(&figures, outcome.report.size.stored_bytes));
        json["decompose"] = figures;
    }
    common.print(&json, text);
    Ok(())
}

/// The JSON of docs/cli.md.
pub(crate) fn report_json(report: &Report, saved: &[Saved], run_dir: Option<&Path>) -> serde_json::Value {
    let dense = report.size.dense_bytes as f64;
    let outputs: Vec<_> = saved
        .iter()
        .map(|s| json!({ "path": s.path, "file_bytes": s.file_bytes, "ratio": dense / s.file_bytes.max(1) as f64 }))
        .collect();
    let mut json = serde_json::to_value(report).unwrap_or_default();
    json["outputs"] = json!(outputs);
    json["run_dir"] = json!(run_dir);
    json
}

/// The final table: layers, rounds, accuracy before and after, sizes, files.
pub(crate) fn summary(outcome: &slq::Outcome, saved: &[Saved]) -> String {
    let report = &outcome.report;
    let mut text = format!("{}\n", table::layers(&slq::summarize(&outcome.graph).layers));
    if !report.rounds.is_empty() {
        text += &format!("\n{}\n", table::rounds(report));
    }
    text += "\n";
    if let (Some(before), Some(after)) = (&report.baseline, &report.final_accuracy) {
        let points = 100.0 * (after.top1 - before.top1);
        text += &format!(
            "top-1     {} before, {} after ({points:+.2} points)\n",
            percent(before),
            percent(after)
        );
    }
    let size = &report.size;
    text += &format!(
        "size      {} bytes before, {} stored ({:.1}x smaller), {} at the entropy of the codes ({:.1}x)\n",
        table::thousands(size.dense_bytes),
        table::thousands(size.stored_bytes),
        size.ratio,
        table::thousands(size.entropy_bytes),
        size.dense_bytes as f64 / size.entropy_bytes.max(1) as f64,
    );
    for s in saved {
        let ratio = size.dense_bytes as f64 / s.file_bytes.max(1) as f64;
        text += &format!(
            "written   {}, {} bytes ({ratio:.1}x)\n",
            s.path.display(),
            table::thousands(s.file_bytes)
        );
    }
    text.trim_end().into()
}

fn file_error(path: &Path, error: &dyn std::fmt::Display) -> slq::Error {
    slq::Error::File { path: path.into(), reason: error.to_string() }
}

fn write_command(dir: &Path, job: &Job) -> super::Outcome {
    let path = dir.join(COMMAND);
    if path.exists() {
        return Err(file_error(dir, &"it already holds a run: --resume it, or name another --run-dir"));
    }
    std::fs::create_dir_all(dir).map_err(|e| file_error(dir, &e))?;
    let text = serde_json::to_vec_pretty(job).map_err(|e| file_error(&path, &e))?;
    slq::write_atomically(&path, &text).map_err(|e| file_error(&path, &e))
}

fn read_command(dir: &Path) -> Result<Job, slq::Error> {
    let path = dir.join(COMMAND);
    let text = std::fs::read_to_string(&path).map_err(|e| file_error(&path, &e))?;
    serde_json::from_str(&text).map_err(|e| file_error(&path, &e))
}
