//! `slq runs`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use slq::{Error, JobFile};

use crate::common::{Common, quoted};
use crate::table::table;

/// List run directories: what each job makes, how far it has come, and the command that resumes it.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  slq runs\n  slq runs slq-runs/net --json")]
pub(crate) struct Args {
    /// A run directory, or a folder of them
    #[arg(default_value = "slq-runs")]
    dir: PathBuf,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let fail = |e: std::io::Error| Error::File { path: args.dir.clone(), reason: e.to_string() };
    let mut dirs = vec![args.dir.clone()];
    if !args.dir.join(slq::jobs::RECIPE).exists() {
        let entries = std::fs::read_dir(&args.dir).map_err(fail)?;
        dirs = entries.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>().map_err(fail)?;
        dirs.retain(|d| d.join(slq::jobs::RECIPE).exists());
        dirs.sort();
    }
    let rows: Vec<Value> = dirs.iter().map(|d| row(d)).collect();
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let cells = rows.iter().map(|r| ["dir", "model", "state", "resume"].map(|key| text(&r[key])).to_vec());
    let shown = match rows.is_empty() {
        true => format!("no runs in '{}'", args.dir.display()),
        false => table(&["run directory", "model", "state", "goes on with"], 4, cells).to_string(),
    };
    common.print(&json!({ "runs": rows }), shown);
    Ok(())
}

/// What is known of one directory.
fn row(dir: &Path) -> Value {
    let job = match JobFile::resume(dir) {
        Ok(job) => job,
        Err(error) => {
            return json!({ "dir": dir, "model": "", "state": error.to_string(), "resume": "", "finished": null });
        }
    };
    let written = written(&job, dir);
    let state = if written { "finished".into() } else { stages(&job, dir).join(", ") };
    let resume = if written { String::new() } else { format!("slq resume {}", quoted(dir)) };
    json!({
        "dir": dir, "model": job.model.or(job.solver.map(|s| s.display().to_string())), "state": state,
        "resume": resume, "finished": written, "outputs": job.outputs,
    })
}

/// Whether all outputs of the job are there.
pub(crate) fn written(job: &JobFile, dir: &Path) -> bool {
    !job.outputs.is_empty() && job.outputs.iter().all(|o| newer(o, dir))
}

/// How far each stage of the job has come.
pub(crate) fn stages(job: &JobFile, dir: &Path) -> Vec<String> {
    job.stages.iter().enumerate().map(|(i, s)| stage(dir, i, s.name())).collect()
}

/// Whether an output exists and was written after the job began.
fn newer(output: &Path, dir: &Path) -> bool {
    let time = |p: &Path| p.metadata().and_then(|m| m.modified());
    matches!((time(output), time(&dir.join(slq::jobs::RECIPE))), (Ok(out), Ok(begun)) if out >= begun)
}

/// How far a stage has come.
fn stage(dir: &Path, index: usize, name: &str) -> String {
    let path = dir.join(format!("{}-{name}", index + 1)).join("state.json");
    let state = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let Some(state) = state else { return format!("{name}: not begun") };
    let done = |key: &str| state[key].as_array().map(Vec::len);
    match (done("rounds"), done("layers"), done("trials")) {
        (Some(rounds), ..) => format!("{name}: {rounds} rounds done"),
        (_, Some(layers), _) => format!("{name}: {layers} layers done"),
        (.., Some(trials)) => format!("{name}: {trials} networks tried"),
        _ => format!("{name}: done"),
    }
}
