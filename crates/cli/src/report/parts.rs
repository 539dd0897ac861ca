//! What the page of a job that has ended and that of a run directory have in common.

use std::path::Path;

use slq::methods::{Sensitivity, TrainingData};
use slq::{Error, JobFile, Model};
use slq_report::{Provenance, Run};

use super::{figures, networks, pictures};
use crate::common::Common;

/// The networks before and after a job.
pub(super) struct Pair<'a> {
    pub(super) before: Option<&'a Model>,
    pub(super) after: &'a Model,
}

impl Pair<'_> {
    /// Adds what the networks themselves tell.
    pub(super) fn describe(
        &self,
        run: &mut Run,
        data: Option<&TrainingData>,
        images: usize,
        common: &Common,
    ) -> Result<(), Error> {
        run.layers = networks::layers(self.before.map(|m| &m.graph), &self.after.graph);
        let before = self.before.and_then(|m| networks::macs(&m.graph));
        run.figures.macs =
            run.figures.macs.or(before.zip(networks::macs(&self.after.graph)).map(|(b, a)| [b, a]));
        let (Some(before), Some(data), true) =
            (self.before, data, run.figures.before.is_some() && images > 0)
        else {
            return Ok(());
        };
        common.note("asking both networks for the test images, for the report");
        match pictures::changes(&before.graph, &self.after.graph, data, images, common.isa()) {
            Ok(mut changes) => {
                changes.pair_with(run.figures.before);
                if !changes.changes.paired {
                    run.notes.push(
                        "A paired difference: images are compared with the network that the job began with, which is not the one \
                         whose accuracy stands as the one before."
                            .into(),
                    );
                }
                run.changes = Some(changes.changes);
            }
            Err(error) => run.notes.push(format!("Test images whose answer changed: {error}.")),
        }
        Ok(())
    }
}

/// Model, data and recipe of a job.
pub(super) fn provenance(job: &JobFile) -> Provenance {
    let solver = job.solver.as_ref().map(|s| s.display().to_string());
    Provenance {
        model: job.model.clone().or(solver).unwrap_or_default(),
        data: job.calibrate.clone().or(job.data.path.clone()),
        command: None,
        recipe: toml::to_string(job).ok(),
        program: program(),
    }
}

pub(super) fn program() -> String {
    format!("slq {}", env!("CARGO_PKG_VERSION"))
}

/// The last part of a path.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// The table of sensitivities that a job was given, or that its search measured.
pub(super) fn sensitivities(dir: Option<&Path>, given: Option<&Path>) -> Vec<slq_report::Sensitivity> {
    let stage = |i: usize| dir.map(|d| d.join(format!("{i}-quantize")).join("sensitivity.json"));
    let places = given.map(Path::to_path_buf).into_iter().chain((1..=4).filter_map(stage));
    let table = places
        .filter_map(|p| std::fs::read(p).ok())
        .find_map(|t| serde_json::from_slice::<Sensitivity>(&t).ok());
    table.iter().flat_map(|t| &t.layers).map(figures::sensitivity).collect()
}
