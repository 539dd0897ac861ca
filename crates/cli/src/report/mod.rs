//! `slq report`, and `--report` of the commands that run jobs: from run directories and results to one page of HTML.

mod directory;
mod figures;
mod networks;
mod parts;
mod pictures;

use std::path::{Path, PathBuf};

use serde_json::json;
use slq::jobs::RECIPE;
use slq::{Done, Error, Inputs, JobFile, JobReport};
use slq_report::{Provenance, Run};

use crate::common::{Common, quoted};
use parts::{Pair, name_of, program, provenance, sensitivities};

/// One page of HTML that shows a job: accuracy round by round, weights and codebooks, bytes of each layer, test images whose
/// answer changed. Of several jobs a table and a picture of size against accuracy.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  slq report slq-runs/net -o report.html\n  slq report slq-runs/net slq-runs/net-2 -o report.html"
)]
pub(crate) struct Args {
    /// Run directories (finished or not), or files with the JSON of `slq compress --json`
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where the page goes
    #[arg(short, long, value_name = "HTML", default_value = "report.html")]
    output: PathBuf,
    /// Test images that both networks are asked for, at most; 0 for none
    #[arg(long, value_name = "N", default_value_t = IMAGES)]
    images: usize,
}

/// Test images that both networks are asked for.
const IMAGES: usize = 10_000;

/// Runs `slq report`.
pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let inputs: Vec<PathBuf> = args.runs.iter().flat_map(|r| [r.clone(), r.join(RECIPE)]).collect();
    slq::files::check_no_model(&args.output, "a page of HTML", ".html")?;
    slq::files::check_paths(&[&args.output], &inputs)?;
    let open = |path: &PathBuf| match path.is_dir() {
        true => directory::run(path, args.images, common),
        false => from_json(path),
    };
    let runs = args.runs.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
    let bytes = write(&args.output, &runs)?;
    let path = args.output.display();
    let json = json!({ "report": args.output, "bytes": bytes, "runs": runs });
    common.print(&json, format_args!("written   {path}, {bytes} bytes"));
    Ok(())
}

/// Writes the page of a job that has just ended.
pub(crate) fn write_for(
    page: &Path,
    job: &JobFile,
    inputs: &Inputs,
    (done, report): (&Done, &JobReport),
    common: &Common,
) -> Result<(), Error> {
    let name = report.outputs.first().map(|o| name_of(&o.path)).unwrap_or_default();
    let mut run = Run { name, ..figures::of(report) };
    run.provenance = Provenance {
        command: Some(std::env::args().map(|a| quoted(Path::new(&a))).collect::<Vec<_>>().join(" ")),
        ..provenance(job)
    };
    let given = job.sensitivity.clone();
    run.sensitivities = sensitivities(report.run_dir.as_deref(), given.as_deref());
    let pair = Pair { before: Some(&inputs.model), after: &done.model };
    pair.describe(&mut run, inputs.data.as_ref(), IMAGES, common)?;
    let bytes = write(page, &[run])?;
    common.note(format_args!("report    {}, {bytes} bytes", page.display()));
    Ok(())
}

/// The page of `runs` at `path`; returns its bytes.
fn write(path: &Path, runs: &[Run]) -> Result<usize, Error> {
    let html = slq_report::page(runs);
    slq::files::write_atomically(path, html.as_bytes())
        .map_err(|e| Error::File { path: path.into(), reason: e.to_string() })?;
    Ok(html.len())
}

/// What the JSON of a job tells; of its networks it holds nothing.
fn from_json(path: &Path) -> Result<Run, Error> {
    let report = JobReport::read(path)?;
    let mut run = Run { name: name_of(path), ..figures::of(&report) };
    run.provenance.program = program();
    match report.outputs.iter().find_map(networks::unchanged) {
        Some(after) => run.layers = networks::layers(None, &after.graph),
        None => run.notes.push("Layers: none of the files written is here unchanged.".into()),
    }
    run.notes.push(
        "Weights before, images and recipe: a report in JSON does not name them; a run directory does."
            .into(),
    );
    Ok(run)
}
