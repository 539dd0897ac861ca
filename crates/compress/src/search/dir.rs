//! What a search keeps on disk: `state.json` (the job's fingerprint and the trials), `sensitivity.json` (the table), and
//! one directory for each network that is re-trained.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Fingerprint, StageDir};
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::Trial;
use crate::quantize::Sensitivity;

const TABLE: &str = "sensitivity.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    trials: Vec<Trial>,
}

/// A search's directory; without a path it keeps nothing.
#[derive(Debug)]
pub(crate) struct SearchDir {
    dir: Option<StageDir>,
    state: State,
}

impl SearchDir {
    /// Opens the directory of `context`, with what an earlier sitting left there.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for one that cannot be read or made, [`CompressError::Fingerprint`] for one of another
    /// job.
    pub(crate) fn open(context: &Context<'_>, fingerprint: Fingerprint) -> Result<Self, CompressError> {
        let dir = context.dir.map(StageDir::create).transpose()?;
        let found = dir.as_ref().map_or(Ok(None), |d| d.state::<State>())?;
        let fresh = State { fingerprint, trials: Vec::new() };
        let (Some(found), Some(kept)) = (found, &dir) else {
            let search = Self { dir, state: fresh };
            search.save()?;
            return Ok(search);
        };
        found.fingerprint.check(&fresh.fingerprint, kept.path())?;
        Ok(Self { dir, state: found })
    }

    /// The trials so far.
    pub(crate) fn trials(&self) -> &[Trial] {
        &self.state.trials
    }

    /// Adds a trial.
    pub(crate) fn add(&mut self, trial: Trial) -> Result<(), CompressError> {
        self.state.trials.push(trial);
        self.save()
    }

    /// The directory of one network.
    pub(crate) fn of(&self, network: &str) -> Option<PathBuf> {
        self.dir.as_ref().map(|d| d.path().join(network))
    }

    /// The sensitivities of an earlier sitting.
    pub(crate) fn table(&self) -> Result<Option<Sensitivity>, CompressError> {
        self.dir.as_ref().map_or(Ok(None), |d| d.read(TABLE))
    }

    /// Keeps the sensitivities.
    pub(crate) fn keep_table(&self, table: &Sensitivity) -> Result<(), CompressError> {
        self.dir.as_ref().map_or(Ok(()), |d| d.write(TABLE, table))
    }

    fn save(&self) -> Result<(), CompressError> {
        self.dir.as_ref().map_or(Ok(()), |d| d.save_state(&self.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Quantize;

    #[test]
    fn a_search_comes_back_and_another_job_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let isa = Default::default();
        let context = Context { isa, dir: Some(dir.path()), ..Context::bare() };
        let print = |settings: &Quantize| Fingerprint::new(&graph, &context, settings).unwrap();
        let mut search = SearchDir::open(&context, print(&Quantize::slq(4))).unwrap();
        let trial = Trial {
            label: "one".into(),
            widths: vec![("w".into(), 3)],
            rate: None,
            stored_bytes: 7,
            validation: None,
            fits: true,
            seconds: 0.5,
        };
        search.add(trial.clone()).unwrap();
        assert_eq!(SearchDir::open(&context, print(&Quantize::slq(4))).unwrap().trials(), [trial]);
        assert!(SearchDir::open(&context, print(&Quantize::slq(3))).is_err());
        assert_eq!(search.of("chosen"), Some(dir.path().join("chosen")));
    }
}
