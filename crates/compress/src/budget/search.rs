//! What a search keeps: `search.json` (what it was asked, what it has tried), `sensitivity.json` (the table), and one
//! run directory for each network that is re-trained.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slq_graph::Graph;

use super::{Budget, Trial};
use crate::checkpoint::{data_fingerprint, model_fingerprint};
use crate::driver::RunOptions;
use crate::error::CompressError;
use crate::sensitivity::Sensitivity;
use crate::settings::Settings;
use crate::training::TrainingData;

const SEARCH: &str = "search.json";
const TABLE: &str = "sensitivity.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    settings: Settings,
    budget: Budget,
    model: String,
    data: Option<String>,
    trials: Vec<Trial>,
}

/// A search's directory; without a path it keeps nothing.
#[derive(Debug)]
pub(crate) struct SearchDir {
    path: Option<PathBuf>,
    state: State,
}

impl SearchDir {
    /// Opens the directory of the options, with what an earlier sitting left there.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for one that cannot be read or made or holds a search that is not to be resumed,
    /// [`CompressError::Fingerprint`] for one of another job.
    pub(crate) fn open(
        options: &RunOptions<'_>,
        settings: &Settings,
        budget: Budget,
        graph: &Graph,
        data: Option<&TrainingData>,
    ) -> Result<Self, CompressError> {
        let fresh = State {
            settings: settings.clone(),
            budget,
            model: model_fingerprint(graph),
            data: data.map(data_fingerprint),
            trials: Vec::new(),
        };
        let Some(path) = options.run_dir else { return Ok(Self { path: None, state: fresh }) };
        fs::create_dir_all(path).map_err(|e| error(path, &e))?;
        let file = path.join(SEARCH);
        let mut dir = Self { path: Some(path.into()), state: fresh };
        if !file.exists() {
            dir.save()?;
            return Ok(dir);
        }
        if !options.resume {
            return Err(error(path, &"it already holds a search: resume it, or name another directory"));
        }
        let found: State = read(&file)?;
        let differs = |what| Err(CompressError::Fingerprint { path: path.into(), what });
        if found.model != dir.state.model {
            return differs("a model");
        }
        if found.data != dir.state.data {
            return differs("data");
        }
        if (&found.settings, found.budget) != (&dir.state.settings, budget) {
            return differs("settings");
        }
        dir.state = found;
        Ok(dir)
    }

    /// What has been tried.
    pub(crate) fn trials(&self) -> &[Trial] {
        &self.state.trials
    }

    /// Adds a trial.
    pub(crate) fn add(&mut self, trial: Trial) -> Result<(), CompressError> {
        self.state.trials.push(trial);
        self.save()
    }

    /// The run directory of one network.
    pub(crate) fn run(&self, name: Option<&str>) -> Option<PathBuf> {
        Some(self.path.as_ref()?.join(name?))
    }

    /// The sensitivities of an earlier sitting.
    pub(crate) fn table(&self) -> Result<Option<Sensitivity>, CompressError> {
        let Some(path) = self.path.as_ref().map(|p| p.join(TABLE)).filter(|p| p.exists()) else {
            return Ok(None);
        };
        read(&path).map(Some)
    }

    /// Keeps the sensitivities.
    pub(crate) fn keep_table(&self, table: &Sensitivity) -> Result<(), CompressError> {
        let Some(path) = &self.path else { return Ok(()) };
        write(&path.join(TABLE), table)
    }

    fn save(&self) -> Result<(), CompressError> {
        let Some(path) = &self.path else { return Ok(()) };
        write(&path.join(SEARCH), &self.state)
    }
}

fn error(path: &Path, reason: &dyn std::fmt::Display) -> CompressError {
    CompressError::RunDir { path: path.into(), reason: reason.to_string() }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, CompressError> {
    let text = fs::read_to_string(path).map_err(|e| error(path, &e))?;
    serde_json::from_str(&text).map_err(|e| error(path, &e))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), CompressError> {
    let text = serde_json::to_vec_pretty(value).map_err(|e| error(path, &e))?;
    slq_file::write_atomically(path, &text).map_err(|e| error(path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_comes_back_and_another_job_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let options = RunOptions { run_dir: Some(dir.path()), resume: true, ..RunOptions::default() };
        let settings = Settings::default();
        let open =
            |settings: &Settings, budget, options| SearchDir::open(options, settings, budget, &graph, None);
        let mut search = open(&settings, Budget::Ratio(9.0), &options).unwrap();
        let trial = Trial {
            label: "one".into(),
            widths: vec![("w".into(), 3)],
            stored_bytes: 7,
            validation: None,
            fits: true,
            seconds: 0.5,
        };
        search.add(trial.clone()).unwrap();
        assert_eq!(open(&settings, Budget::Ratio(9.0), &options).unwrap().trials(), [trial]);
        assert!(open(&settings, Budget::Ratio(8.0), &options).is_err());
        assert!(open(&Settings { seed: 1, ..settings.clone() }, Budget::Ratio(9.0), &options).is_err());
        let anew = RunOptions { resume: false, ..options };
        assert!(open(&settings, Budget::Ratio(9.0), &anew).is_err());
        assert_eq!(search.run(Some("chosen")), Some(dir.path().join("chosen")));
    }
}
