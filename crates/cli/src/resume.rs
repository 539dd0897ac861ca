//! `slq resume`.

use std::path::{Path, PathBuf};

use serde_json::json;
use slq::{Done, JobFile, JobReport, Stage};

use crate::common::Common;
use crate::compress::summary;
use crate::job::{Place, RunArgs, go};
use crate::{decompose, train};

/// Go on with a job that was stopped: train, compress or decompose. It ends with the bits of a job that was not stopped.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq resume slq-runs/lenet")]
pub(crate) struct Args {
    /// The job's directory
    dir: PathBuf,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    if common.given_seed.is_some() {
        let text = "--seed cannot stand beside resume: a job goes on with the settings it began with";
        return Err(slq::Error::Argument(text.into()));
    }
    resume(&args.dir, &RunArgs::default(), common)
}

/// Goes on with the job in `dir`, and prints what its command would have printed.
pub(crate) fn resume(dir: &Path, run: &RunArgs, common: &Common) -> crate::common::Outcome {
    let mut job = JobFile::resume(dir)?;
    let inputs = job.open(common.isa())?;
    inputs.notes.iter().for_each(|note| common.note(format_args!("note: {note}")));
    let (done, report) = go(&mut job, &inputs, run, &Place::Resumed(dir), &[], common)?;
    print(&job, &done, &report, common);
    Ok(())
}

fn print(job: &JobFile, done: &Done, report: &JobReport, common: &Common) {
    match job.stages.as_slice() {
        [Stage::FineTune(stage)] => train::print(&stage.training, done, report, common),
        [Stage::Decompose(_)] => {
            let (json, text) = decompose::report(done, report);
            common.print(&json, text);
        }
        _ => common.print(&json!(report), summary(done, report, common.all)),
    }
}
