//! A training that is under way: `PART.json` says which step it has reached, `PART-N.safetensors` holds all weights and
//! `PART-N-momentum.safetensors` the optimiser's state after step N.

use std::fs;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slq_graph::{Graph, Tensor};

use super::{Fingerprint, StageDir};
use crate::error::CompressError;
use crate::train::{Keep, Moment};

#[derive(Serialize, Deserialize)]
struct Record {
    fingerprint: Fingerprint,
    iteration: u64,
    seconds: f64,
    /// SHA-256 of the weights and of the momentum.
    weights: String,
    momentum: String,
    between: Value,
}

/// Keeps the moments of one training of a stage.
#[derive(Debug)]
pub(crate) struct TrainingDir {
    dir: StageDir,
    fingerprint: Fingerprint,
    part: String,
    every: Duration,
}

impl TrainingDir {
    /// For the training `part` of the stage at `dir`.
    pub(crate) fn new(dir: &StageDir, fingerprint: &Fingerprint, part: String, every: Duration) -> Self {
        Self { dir: dir.clone(), fingerprint: fingerprint.clone(), part, every }
    }

    fn record(&self) -> Result<Option<Record>, CompressError> {
        let Some(record) = self.dir.read::<Record>(&format!("{}.json", self.part))? else { return Ok(None) };
        record.fingerprint.check(&self.fingerprint, self.dir.path())?;
        Ok(Some(record))
    }

    /// What was kept with the last moment beside weights and momentum, where there is one.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for a damaged file, [`CompressError::Fingerprint`] for one of another job.
    pub(crate) fn between<T: DeserializeOwned>(&self) -> Result<Option<T>, CompressError> {
        let Some(record) = self.record()? else { return Ok(None) };
        serde_json::from_value(record.between).map(Some).map_err(|e| self.dir.error(&self.part, &e))
    }

    fn names(&self, iteration: u64) -> [String; 2] {
        let part = &self.part;
        [format!("{part}-{iteration}"), format!("{part}-{iteration}-momentum")]
    }

    /// Removes the weights and momenta of all moments but one. A kill between two files may leave those of an earlier one.
    fn remove_all_but(&self, iteration: Option<u64>) {
        let stays: Vec<String> = iteration.iter().flat_map(|&i| self.names(i)).collect();
        let prefix = format!("{}-", self.part);
        let Ok(entries) = fs::read_dir(self.dir.path()) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(|n| n.strip_suffix(".safetensors")) else { continue };
            if stem.starts_with(&prefix) && !stays.iter().any(|s| s == stem) {
                // A file that stays takes space and does no other harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the files of a training whose result is kept elsewhere.
    pub(crate) fn clear(&mut self) {
        let _ = fs::remove_file(self.dir.path().join(format!("{}.json", self.part)));
        self.remove_all_but(None);
    }
}

impl Keep for TrainingDir {
    fn load(&mut self, graph: &mut Graph) -> Result<Option<Moment>, CompressError> {
        let Some(record) = self.record()? else { return Ok(None) };
        let [weights, momentum] = self.names(record.iteration);
        self.dir.load_weights(&weights, &record.weights, graph)?;
        let values = self.dir.read_weights(&momentum, &record.momentum)?;
        let history =
            values.into_iter().map(|(n, w)| (n, w.tensor.as_f32().unwrap_or_default().to_vec())).collect();
        self.remove_all_but(Some(record.iteration));
        let Record { iteration, seconds, between, .. } = record;
        Ok(Some(Moment { iteration, seconds, history, between }))
    }

    fn save(&mut self, graph: &Graph, moment: &Moment) -> Result<(), CompressError> {
        let [weights, momentum] = self.names(moment.iteration);
        let mut state = Graph::default();
        for (name, values) in &moment.history {
            let tensor = Tensor::f32(vec![values.len()], values.clone())?;
            state.weights.insert(name.clone(), tensor.into());
        }
        let record = Record {
            fingerprint: self.fingerprint.clone(),
            iteration: moment.iteration,
            seconds: moment.seconds,
            weights: self.dir.save_weights(&weights, graph)?,
            momentum: self.dir.save_weights(&momentum, &state)?,
            between: moment.between.clone(),
        };
        self.dir.write(&format!("{}.json", self.part), &record)?;
        self.remove_all_but(Some(moment.iteration));
        Ok(())
    }

    fn every(&self) -> Duration {
        self.every
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::context::Context;
    use crate::quantize::Quantize;

    fn keeper(dir: &Path, graph: &Graph, bits: u8) -> TrainingDir {
        let isa = Default::default();
        let every = Duration::from_secs(60);
        let context = Context { isa, dir: Some(dir), every, ..Context::bare() };
        let fingerprint = Fingerprint::new(graph, &context, &Quantize::slq(bits)).unwrap();
        TrainingDir::new(&StageDir::create(dir).unwrap(), &fingerprint, "training".into(), every)
    }

    #[test]
    fn the_last_moment_comes_back_and_only_its_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let start = graph.clone();
        let mut first = keeper(dir.path(), &start, 4);
        assert_eq!(first.load(&mut graph).unwrap(), None);
        let name = graph.quantizable()[0].weight.clone();
        let mut moment = Moment::default();
        for iteration in [3, 7] {
            graph.weights[&name].tensor.as_f32_mut().unwrap()[0] = iteration as f32;
            moment = Moment {
                iteration,
                seconds: 0.5,
                history: vec![(name.clone(), vec![0.1, -0.0, f32::MIN_POSITIVE])],
                between: serde_json::json!({ "count": iteration }),
            };
            first.save(&graph, &moment).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        let mut again = start.clone();
        let mut second = keeper(dir.path(), &start, 4);
        assert_eq!(second.load(&mut again).unwrap(), Some(moment));
        assert_eq!(again.weights[&name].tensor, graph.weights[&name].tensor);
        let other = keeper(dir.path(), &start, 3).load(&mut again);
        assert!(matches!(other, Err(CompressError::Fingerprint { what: "settings", .. })));
        second.clear();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn exchanged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let mut keeper = keeper(dir.path(), &graph, 4);
        keeper.save(&graph, &Moment { iteration: 1, ..Moment::default() }).unwrap();
        let other = slq_zoo::build("lenet", 1).unwrap();
        slq_safetensors::write(&other, &dir.path().join("training-1.safetensors")).unwrap();
        assert!(matches!(keeper.load(&mut graph), Err(CompressError::RunDir { .. })));
    }
}
