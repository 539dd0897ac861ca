//! `--batch`: a number of images, or as many as fit into memory.

use std::path::Path;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use slq::inference::fitting_batch;
use slq::jobs::FittedBatch;
use slq::methods::TrainingSettings;
use slq::{Error, Inputs, JobFile};

use crate::common::{Common, Outcome};

/// Images at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchSize {
    /// As many as fit, up to the default.
    Auto,
    /// So many.
    Images(usize),
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(images)) => Ok(Self::Images(images)),
            _ => Err("give a number of images, or auto".into()),
        }
    }
}

impl BatchSize {
    /// Whether there is no number that a setting could take.
    pub(crate) fn is_open(batch: &Option<Self>) -> bool {
        !matches!(batch, Some(Self::Images(_)))
    }

    /// What `work` makes of the batch that is asked for, and that batch: with `auto` the largest up to `most` that fits, which is
    /// said.
    ///
    /// # Errors
    /// Those of `work`, and of `auto` on several processes.
    pub(crate) fn run<T>(
        asked: Option<Self>,
        most: usize,
        common: &Common,
        mut work: impl FnMut(usize) -> Result<T, Error>,
    ) -> Result<(T, usize), Error> {
        let batch = match asked {
            Some(Self::Auto) => {
                alone(common)?;
                let (done, batch) = fitting_batch(most, work)?;
                common.note(match batch == most {
                    true => format!("note: a batch of {most} fits into memory (--batch auto)"),
                    false => format!(
                        "note: a batch of {most} does not fit into memory; one of {batch} does (--batch auto)"
                    ),
                });
                return Ok((done, batch));
            }
            Some(Self::Images(images)) => images,
            None => most,
        };
        Ok((work(batch)?, batch))
    }
}

impl Serialize for BatchSize {
    /// As the setting of its name; [`BatchSize::is_open`] keeps `auto` out.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Images(images) => images.serialize(to),
        }
    }
}

/// With `--batch auto`: makes the batches of the job fit into memory, keeps that in the job, and says it.
///
/// # Errors
/// [`Error::Argument`] for a job that trains nothing, and for one of several processes; those of
/// [`fit_batches`](slq::jobs::fit_batches).
pub(crate) fn fit_job(
    asked: Option<BatchSize>,
    job: &mut JobFile,
    inputs: &Inputs,
    common: &Common,
) -> Outcome {
    if asked != Some(BatchSize::Auto) {
        return Ok(());
    }
    alone(common)?;
    let data = inputs.data.as_ref().filter(|_| job.recipe().trains());
    let graph = &inputs.model.graph;
    let fitted = match data {
        Some(data) => slq::jobs::fit_batches(graph, data, &mut job.stages, common.isa())?,
        None => None,
    };
    let Some(fitted) = fitted else {
        return Err(Error::Argument("--batch auto serves trainings, and this job trains nothing".into()));
    };
    job.batch = Some(fitted);
    common.note(note(fitted, has_batch_norm(graph)));
    Ok(())
}

/// What `run` makes of the job. Where a training whose batches [`fit_job`] chose finds too little memory after all, and nothing
/// of the job was kept yet in `run_dir`, the job begins again in smaller parts, which is said.
///
/// # Errors
/// Those of `run`.
pub(crate) fn run_fitted<T>(
    job: &mut JobFile,
    run_dir: &Path,
    common: &Common,
    mut run: impl FnMut(&JobFile) -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        let error = match run(job) {
            Err(error) => error,
            done => return done,
        };
        let (Some(fits), Some(before)) = (error.smaller_batch(), job.batch) else { return Err(error) };
        if before.part < 2 || run_dir.join(slq::jobs::RECIPE).exists() {
            return Err(error);
        }
        let most = if fits == 0 { before.part / 2 } else { fits.min(before.part - 1) };
        job.batch = slq::jobs::narrow_batches(&mut job.stages, most);
        let Some(now) = job.batch else { return Err(error) };
        common.note(format_args!(
            "note: less memory is free than before; the job begins again with {} parts of {} (--batch auto)",
            now.parts(),
            now.part
        ));
    }
}

/// The same as [`fit_job`] for a training that is no job.
///
/// # Errors
/// As [`fit_job`].
pub(crate) fn fit_training(
    asked: Option<BatchSize>,
    job: &slq::solver::SolverJob,
    settings: &mut TrainingSettings,
    common: &Common,
) -> Result<Option<FittedBatch>, Error> {
    if asked != Some(BatchSize::Auto) {
        return Ok(None);
    }
    let graph = &job.model.graph;
    let fitted = slq::jobs::fit_training(graph, &job.data, settings, common.isa())?;
    common.note(note(fitted, has_batch_norm(graph)));
    Ok(Some(fitted))
}

fn has_batch_norm(graph: &slq::graph::Graph) -> bool {
    graph.nodes.iter().any(|n| n.op == "BatchNormalization")
}

fn note(FittedBatch { step, part }: FittedBatch, batch_norm: bool) -> String {
    if step == part {
        return format!("note: a batch of {step} fits into memory (--batch auto)");
    }
    let statistics = match batch_norm {
        true => "; statistics of batch-norm in training are those of a part",
        false => "",
    };
    format!(
        "note: a batch of {step} leaves too little memory free; a step adds up the gradients of {} parts of {part} (--batch \
         auto){statistics}",
        step / part
    )
}

/// Several processes would have to agree on a batch.
fn alone(common: &Common) -> Outcome {
    match common.processes.reducer.size() {
        1 => Ok(()),
        _ => Err(Error::Argument("--batch auto serves one process; for several give a number".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(BatchSize::Auto));
        assert_eq!("64".parse(), Ok(BatchSize::Images(64)));
        for bad in ["", "-1", "many", "1.5"] {
            assert!(bad.parse::<BatchSize>().unwrap_err().contains("auto"), "{bad}");
        }
    }

    #[test]
    fn a_note_says_what_becomes_of_a_step() {
        let said = note(FittedBatch { step: 64, part: 16 }, true);
        assert!(said.contains("4 parts of 16") && said.contains("batch-norm"), "{said}");
        assert!(note(FittedBatch { step: 64, part: 64 }, true).contains("64 fits"));
    }
}
