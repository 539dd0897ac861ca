//! Checkpoints: what a stage needs to go on after it was stopped (docs/run-directory.md).
//!
//! A stage's directory holds `state.json` and the weights of its last complete step. Every file is written under a
//! temporary name and renamed, weights first, so that at any moment the directory describes one complete step.

mod fingerprint;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use slq_graph::Graph;

use crate::error::CompressError;
pub(crate) use fingerprint::Fingerprint;

const STATE: &str = "state.json";

/// The directory of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StageDir {
    path: PathBuf,
}

impl StageDir {
    /// The directory at `path`, made if it does not exist.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, CompressError> {
        fs::create_dir_all(path).map_err(|e| run_dir_error(path, &e))?;
        Ok(Self { path: path.into() })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The state of the last complete step, or `None` where no step is complete.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for a state that cannot be read.
    pub(crate) fn state<T: DeserializeOwned>(&self) -> Result<Option<T>, CompressError> {
        self.read(STATE)
    }

    /// Writes the state of a complete step; its weights come first.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where the disk refuses.
    pub(crate) fn save_state(&self, state: &impl Serialize) -> Result<(), CompressError> {
        self.write(STATE, state)
    }

    /// Reads a JSON file, or `None` where there is none.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] naming a file that cannot be read.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CompressError> {
        let path = self.path.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|e| run_dir_error(&path, &e))?;
        serde_json::from_str(&text).map(Some).map_err(|e| run_dir_error(&path, &e))
    }

    /// Writes a JSON file.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where the disk refuses.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), CompressError> {
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(|e| run_dir_error(&path, &e))?;
        slq_file::write_atomically(&path, &text).map_err(|e| run_dir_error(&path, &e))
    }

    /// Writes all weights and palettes of `graph` to `NAME.safetensors`.
    ///
    /// # Errors
    /// [`CompressError::Checkpoint`] where the disk refuses.
    pub(crate) fn save_weights(&self, name: &str, graph: &Graph) -> Result<(), CompressError> {
        Ok(slq_safetensors::write(graph, &self.weights(name))?)
    }

    /// Reads the weights and palettes of `NAME.safetensors` into `graph`.
    ///
    /// # Errors
    /// [`CompressError::Checkpoint`] where they are missing, damaged or of another network.
    pub(crate) fn load_weights(&self, name: &str, graph: &mut Graph) -> Result<(), CompressError> {
        Ok(slq_safetensors::read_into(graph, &self.weights(name))?)
    }

    /// Removes `NAME.safetensors`, which a later step has replaced; that it cannot be removed does no harm.
    pub(crate) fn remove_weights(&self, name: &str) {
        let _ = fs::remove_file(self.weights(name));
    }

    fn weights(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.safetensors"))
    }
}

fn run_dir_error(path: &Path, error: &dyn std::fmt::Display) -> CompressError {
    CompressError::RunDir { path: path.into(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_weights_and_states_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let stage = StageDir::create(&dir.path().join("deep/stage")).unwrap();
        assert_eq!(stage.state::<Vec<u32>>().unwrap(), None);
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let name = graph.quantizable()[0].weight.clone();
        graph.weights[&name].tensor.as_f32_mut().unwrap()[0] = 0.123;
        stage.save_weights("round-1", &graph).unwrap();
        stage.save_state(&[1u32, 2]).unwrap();
        assert_eq!(stage.state().unwrap(), Some(vec![1u32, 2]));
        let mut fresh = slq_zoo::build("lenet", 0).unwrap();
        stage.load_weights("round-1", &mut fresh).unwrap();
        assert_eq!(fresh.weights[&name].tensor, graph.weights[&name].tensor);
    }

    #[test]
    fn damaged_states_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let stage = StageDir::create(dir.path()).unwrap();
        fs::write(dir.path().join(STATE), b"{ not json").unwrap();
        assert!(matches!(stage.state::<u32>(), Err(CompressError::RunDir { .. })));
    }
}
