//! Jobs that keep checkpoints: train, compress, decompose, and going on with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use slq::jobs::{FileOptions, JobEstimate, Output};
use slq::methods::Sensitivity;
use slq::{Done, Error, Inputs, JobFile, JobReport, Model, Recipe, SaveOptions, Stage};

use crate::batch::run_fitted;
use crate::common::{Common, free_path, quoted};
use crate::progress::{Progress, time};
use crate::signals;
use crate::table::thousands;

/// Checkpoints, and what may be replaced.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct RunArgs {
    /// Where checkpoints go [default: slq-runs/NAME]
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Seconds from one checkpoint to the next within a training [default: 60]
    #[arg(long, value_name = "N", hide_short_help = true)]
    checkpoint_seconds: Option<f64>,
    /// A page of HTML that shows the result
    #[arg(long, value_name = "HTML")]
    pub(crate) report: Option<PathBuf>,
    /// Replace a Core ML package, or a prototxt beside a caffemodel, that slq did not write
    #[arg(long, hide_short_help = true)]
    pub(crate) overwrite: bool,
    #[command(flatten)]
    pub(crate) verify: VerifyFlags,
}

/// Whether outputs are read again.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct VerifyFlags {
    /// Read every output again and compare what it computes with the network [default: up to 1 GiB]
    #[arg(long, hide_short_help = true)]
    verify: bool,
    /// Do not read outputs again
    #[arg(long, conflicts_with = "verify", hide_short_help = true)]
    no_verify: bool,
}

impl VerifyFlags {
    /// What a flag says; `None` where neither is given.
    pub(crate) fn asked(self) -> Option<bool> {
        (self.verify || self.no_verify).then_some(self.verify)
    }
}

impl RunArgs {
    /// Time between two checkpoints, where it was given.
    fn every(&self) -> Result<Option<Duration>, Error> {
        let Some(seconds) = self.checkpoint_seconds else { return Ok(None) };
        let every = Duration::try_from_secs_f64(seconds);
        every.map(Some).map_err(|_| {
            Error::Argument(format!("--checkpoint-seconds {seconds}: give a number of seconds, 0 or more"))
        })
    }
}

/// A runtime that a file is made for.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum RuntimeName {
    /// onnxruntime.
    Ort,
}

/// Choices that one format or another has.
#[allow(clippy::struct_excessive_bools)] // flags
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct FormatFlags {
    /// Make ONNX outputs for a runtime: ort (onnxruntime), which then keeps the weights of dense layers packed in memory
    ///
    /// Sets --codebook uniform and --granularity dense:32 where they are not given. See docs/onnx.md.
    #[arg(long, value_name = "NAME", value_enum, conflicts_with = "dense")]
    runtime: Option<RuntimeName>,
    /// Keep float32 weights in ONNX, TensorFlow Lite and Core ML outputs
    #[arg(long, hide_short_help = true)]
    dense: bool,
    /// In Core ML packages, store codes of 5 bits in 6 and of 7 in 8: they have no such widths
    #[arg(long, hide_short_help = true)]
    round_up_widths: bool,
    /// Describe the shapes of a caffemodel's blobs by four extents, as files before 2015 did
    #[arg(long, hide_short_help = true)]
    legacy_blobs: bool,
    /// Keep one scale and one shift of each batch-norm's channel, as 16-bit floats: smaller .slq files, no more training
    ///
    /// See docs/slq-format.md.
    #[arg(long, hide_short_help = true)]
    collapse_batch_norm: bool,
    /// Round float parameters (biases, batch-norms, layers left as floats) to 16-bit floats: smaller .slq files
    #[arg(long, hide_short_help = true)]
    half_floats: bool,
    /// In .tflite outputs, integers of 8 bits instead of floats: activations, inputs and outputs, weights and tables
    ///
    /// Their ranges are measured on 256 inputs of --calibrate or --data. See docs/tflite.md.
    #[arg(long)]
    int8: bool,
}

impl FormatFlags {
    /// `options` with what the flags turn on.
    pub(crate) fn over(self, mut options: SaveOptions) -> SaveOptions {
        options.dense |= self.dense;
        options.legacy_blobs |= self.legacy_blobs;
        if let Some(RuntimeName::Ort) = self.runtime {
            options.runtime = Some(slq::files::Runtime::Ort);
        }
        if self.collapse_batch_norm {
            options.batch_norms = slq::files::BatchNorms::Collapse;
        }
        if self.half_floats {
            options.floats = slq::files::Floats::Half;
        }
        if self.int8 {
            options.activations = slq::files::Activations::Int8;
        }
        if self.round_up_widths {
            options.widths = slq::files::Widths::RoundUp;
        }
        options
    }
}

/// Where a job keeps its checkpoints.
pub(crate) enum Place<'a> {
    /// In the directory of the flags or a default one, which a job without rounds removes at its end.
    New(Keep),
    /// In the directory of a job that was stopped.
    Resumed(&'a Path),
}

/// What happens to a default directory once the outputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Always,
    UntilDone,
}

/// Runs a job: plans its outputs and says so, listens to signals, shows progress.
pub(crate) fn go(
    job: &mut JobFile,
    inputs: &Inputs,
    args: &RunArgs,
    place: &Place<'_>,
    further: &[PathBuf],
    common: &Common,
) -> Result<(Done, JobReport), Error> {
    let (run_dir, remove) = match (place, &args.run_dir) {
        (Place::Resumed(dir), _) => (dir.to_path_buf(), false),
        (Place::New(_), Some(dir)) => (dir.clone(), false),
        (Place::New(keep), None) => (default_run_dir(job), *keep == Keep::UntilDone),
    };
    let every = args.every()?;
    let keeps = job.recipe().keeps_checkpoints();
    let first = common.first();
    if first {
        tell_plan(job, inputs, further, keeps.then_some(run_dir.as_path()), common)?;
    }
    check_page(job, args, further, common)?;
    let table = job.sensitivity.as_deref().map(table).transpose()?;
    let options = FileOptions {
        run_dir: Some(&run_dir),
        resume: matches!(place, Place::Resumed(_)),
        isa: common.isa(),
        sensitivity: table.as_ref(),
        checkpoint_every: every,
        verify: args.verify.asked(),
        inputs: further,
        reducer: Some(common.processes.reducer),
    };
    let how = first.then(|| format!("go on with: slq resume {}", quoted(&run_dir)));
    if keeps {
        signals::listen(how.clone())?;
    }
    if let Some(idle) = job.recipe().idle_sync(&inputs.model.graph, common.processes.reducer.size()) {
        common.note(format_args!("note: {idle}"));
    }
    let done = run_fitted(job, &run_dir, common, |job| {
        let steps = tell_time(job, inputs, common)?;
        job.run(inputs, &options, &mut Progress::new(common).of(steps))
    });
    signals::busy(false);
    let (done, mut report) = done.inspect_err(|e| signals::end_if_stopped(e, how.as_deref()))?;
    report.outputs.iter().flat_map(|o| &o.notes).for_each(|n| common.note(format_args!("note: {n}")));
    tell_unverified(&report.outputs, common);
    if let Some(page) = args.report.as_ref().filter(|_| first) {
        crate::report::write_for(page, job, inputs, (&done, &report), common)?;
    }
    if keeps && remove && first {
        // The outputs are written: the checkpoints have served. A folder that stays does no harm.
        let _ = std::fs::remove_dir_all(&run_dir);
        let _ = run_dir.parent().map(std::fs::remove_dir);
        report.run_dir = None;
    }
    Ok((done, report))
}

/// Checks what can be known of the files of a job of `stages` before images are read: outputs, the page, the run directory.
///
/// # Errors
/// [`Error::File`], [`Error::UnknownOutput`], and that of a run directory that is taken.
pub(crate) fn check_files(
    job: &JobFile,
    (model, stages): (&Model, &[Stage]),
    args: &RunArgs,
    further: &[PathBuf],
    common: &Common,
) -> Result<(), Error> {
    // The others write none, and need not reach the folders.
    if !common.first() {
        return Ok(());
    }
    job.plan_files(model, None, further)?;
    check_page(job, args, further, common)?;
    let recipe = Recipe { stages: stages.to_vec(), ..job.recipe() };
    match &args.run_dir {
        Some(dir) if recipe.keeps_checkpoints() => slq::jobs::check_unused(dir),
        _ => Ok(()),
    }
}

/// Checks that the page of the job replaces no file of it.
fn check_page(job: &JobFile, args: &RunArgs, further: &[PathBuf], common: &Common) -> Result<(), Error> {
    let Some(page) = args.report.as_deref().filter(|_| common.first()) else { return Ok(()) };
    slq::files::check_no_model(page, "a page of HTML", ".html")?;
    let read: Vec<PathBuf> = job.input_files().into_iter().chain(further.iter().cloned()).collect();
    let written: Vec<&Path> = job.outputs.iter().map(PathBuf::as_path).chain([page]).collect();
    slq::files::check_paths(&written, &read)
}

/// Says what will be written and where checkpoints go.
fn tell_plan(
    job: &JobFile,
    inputs: &Inputs,
    further: &[PathBuf],
    run_dir: Option<&Path>,
    common: &Common,
) -> Result<(), Error> {
    let plan = job.plan(inputs, further)?;
    plan.iter().filter_map(slq::files::Planned::note).for_each(|n| common.note(format_args!("note: {n}")));
    let folded = job.folds(inputs).len();
    if folded > 0 {
        common.note(format_args!(
            "note: batch-norms folded into the layers before them ahead of compression, for the .tflite file: {folded}; every \
             output holds the folded network"
        ));
    }
    let paths: Vec<String> =
        plan.iter().flat_map(slq::files::Planned::paths).map(|p| p.display().to_string()).collect();
    let checkpoints = run_dir.map(|d| format!("; checkpoints in {}", d.display())).unwrap_or_default();
    common.note(format_args!("writes {}{checkpoints}", paths.join(", ")));
    Ok(())
}

/// Says how long the job will take; its training steps.
fn tell_time(job: &JobFile, inputs: &Inputs, common: &Common) -> Result<Option<u64>, Error> {
    if common.quiet {
        return Ok(None);
    }
    let Some(found) = estimate(job, inputs, common)? else { return Ok(None) };
    common.note(estimate_text(&found, common));
    Ok((!found.at_most).then_some(found.steps))
}

/// How long the job will take; `None` where it trains nothing, or layers that are not known yet.
///
/// # Errors
/// Those of a network that cannot be trained.
pub(crate) fn estimate(
    job: &JobFile,
    inputs: &Inputs,
    common: &Common,
) -> Result<Option<JobEstimate>, Error> {
    let recipe = job.recipe();
    let Some(data) = inputs.data.as_ref().filter(|_| recipe.trains()) else { return Ok(None) };
    let processes = common.processes.reducer.size();
    Ok(slq::jobs::estimate(&inputs.model.graph, data, &recipe, common.isa(), processes)?)
}

/// `about 27 s on this machine: 48 training steps, with evaluation`
pub(crate) fn estimate_text(found: &JobEstimate, common: &Common) -> String {
    let place = match common.processes.reducer.size() {
        1 => "this machine".into(),
        n => format!("{n} processes as fast as this one"),
    };
    format!(
        "{} {} on {place}: {} training steps, with evaluation",
        if found.at_most { "at most" } else { "about" },
        time(found.seconds),
        thousands(found.steps)
    )
}

/// Says which outputs were not run, unless that was asked for.
pub(crate) fn tell_unverified(outputs: &[Output], common: &Common) {
    let notes = outputs.iter().filter_map(Output::unverified_note);
    notes.for_each(|note| common.note(format_args!("note: {note}")));
}

/// The table of sensitivities at `path`.
fn table(path: &Path) -> Result<Sensitivity, Error> {
    let fail = |e: &dyn std::fmt::Display| Error::File { path: path.into(), reason: e.to_string() };
    let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
    serde_json::from_str(&text).map_err(|e| fail(&e))
}

/// The directory of a new job.
pub(crate) fn place_of(job: &JobFile, args: &RunArgs) -> PathBuf {
    args.run_dir.clone().unwrap_or_else(|| default_run_dir(job))
}

/// `slq-runs/NAME` with the model's name, numbered where it is taken.
fn default_run_dir(job: &JobFile) -> PathBuf {
    let solver = job.solver.as_ref().map(|s| s.to_string_lossy());
    let model = job.model.as_deref().or(solver.as_deref()).unwrap_or_default();
    let name = Path::new(model).file_stem().map(|s| s.to_string_lossy().replace(':', "-"));
    free_path(Path::new("slq-runs").join(name.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_out_of_range_are_refused() {
        let every = |n| RunArgs { checkpoint_seconds: Some(n), ..RunArgs::default() }.every();
        assert_eq!(every(0.5).unwrap(), Some(Duration::from_millis(500)));
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert!(every(bad).unwrap_err().to_string().contains("--checkpoint-seconds"), "{bad}");
        }
    }
}
