//! Checkpoints: what a stage needs to go on after it was stopped (docs/run-directory.md).
//!
//! A stage's directory holds `state.json` and the weights of its last complete step. Every file is written under a
//! temporary name and renamed, weights first, so that at any moment the directory describes one complete step.

mod fingerprint;
mod training;

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use slq_graph::{Graph, Weight};

use crate::error::CompressError;
pub(crate) use fingerprint::Fingerprint;
pub(crate) use training::TrainingDir;

const STATE: &str = "state.json";

/// The directory of a stage.
#[derive(Debug, Clone)]
pub(crate) struct StageDir {
    path: PathBuf,
}

impl StageDir {
    /// The directory at `path`, made if it does not exist; what a killed writer left there is removed.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self, CompressError> {
        fs::create_dir_all(path).map_err(|e| run_dir_error(path, &e))?;
        slq_file::remove_leftovers(path).map_err(|e| run_dir_error(path, &e))?;
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
    /// [`CompressError::RunDir`] naming a file that cannot be read or is damaged.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, CompressError> {
        let path = self.path.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|e| run_dir_error(&path, &e))?;
        let damaged =
            |e| format!("it is damaged ({e}): put the file back, or begin again in another directory");
        serde_json::from_str(&text).map(Some).map_err(|e| run_dir_error(&path, &damaged(e)))
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

    /// Writes all weights and palettes of `graph` to `NAME.safetensors`. Returns the file's hash, which belongs into the
    /// state.
    ///
    /// # Errors
    /// [`CompressError::Checkpoint`] and [`CompressError::RunDir`] where the disk refuses.
    pub(crate) fn save_weights(&self, name: &str, graph: &Graph) -> Result<String, CompressError> {
        let path = self.weights(name);
        slq_safetensors::write(graph, &path)?;
        hash_of(&path)
    }

    /// Reads the weights and palettes of `NAME.safetensors` into `graph`.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where the file's hash is not `hash`, [`CompressError::Checkpoint`] where it is missing,
    /// damaged or of another network.
    pub(crate) fn load_weights(
        &self,
        name: &str,
        hash: &str,
        graph: &mut Graph,
    ) -> Result<(), CompressError> {
        let path = self.weights(name);
        check_hash(&path, hash)?;
        Ok(slq_safetensors::read_into(graph, &path)?)
    }

    /// Checks the hash of `NAME.safetensors`, of which nothing is read.
    ///
    /// # Errors
    /// [`CompressError::RunDir`].
    pub(crate) fn check_weights(&self, name: &str, hash: &str) -> Result<(), CompressError> {
        check_hash(&self.weights(name), hash)
    }

    /// Reads the weights of `NAME.safetensors` by name.
    ///
    /// # Errors
    /// As [`StageDir::load_weights`].
    pub(crate) fn read_weights(
        &self,
        name: &str,
        hash: &str,
    ) -> Result<Vec<(String, Weight)>, CompressError> {
        let path = self.weights(name);
        check_hash(&path, hash)?;
        Ok(slq_safetensors::read(&path)?.into_iter().collect())
    }

    /// The error of the file or the part `name`.
    pub(crate) fn error(&self, name: &str, error: &dyn std::fmt::Display) -> CompressError {
        run_dir_error(&self.path.join(name), error)
    }

    /// Removes `NAME.safetensors`, which a later step has replaced; that it cannot be removed does no harm.
    pub(crate) fn remove_weights(&self, name: &str) {
        let _ = fs::remove_file(self.weights(name));
    }

    fn weights(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.safetensors"))
    }
}

/// The SHA-256 hash of the file at `path`.
///
/// # Errors
/// [`CompressError::RunDir`] for a file that cannot be read.
pub(crate) fn hash_of(path: &Path) -> Result<String, CompressError> {
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).map_err(|e| run_dir_error(path, &e))?;
    let mut block = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut block).map_err(|e| run_dir_error(path, &e))? {
            0 => break,
            n => hash.update(&block[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Checks that the file at `path` is the one that the state counts.
///
/// # Errors
/// [`CompressError::RunDir`].
pub(crate) fn check_hash(path: &Path, hash: &str) -> Result<(), CompressError> {
    if hash_of(path)? == hash {
        return Ok(());
    }
    let reason = "it is not the file that this job wrote (its hash differs from the one in the state): put the file \
                  back, or begin again in another directory";
    Err(run_dir_error(path, &reason))
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
        let hash = stage.save_weights("round-1", &graph).unwrap();
        stage.save_state(&[1u32, 2]).unwrap();
        assert_eq!(stage.state().unwrap(), Some(vec![1u32, 2]));
        let mut fresh = slq_zoo::build("lenet", 0).unwrap();
        stage.load_weights("round-1", &hash, &mut fresh).unwrap();
        assert_eq!(fresh.weights[&name].tensor, graph.weights[&name].tensor);
        // A whole file of the same network, but of another round.
        stage.save_weights("round-1", &slq_zoo::build("lenet", 1).unwrap()).unwrap();
        let swapped = stage.load_weights("round-1", &hash, &mut fresh).unwrap_err().to_string();
        assert!(swapped.contains("round-1.safetensors") && swapped.contains("hash"), "{swapped}");
    }

    #[test]
    fn damaged_states_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let stage = StageDir::create(dir.path()).unwrap();
        fs::write(dir.path().join(STATE), b"{ not json").unwrap();
        assert!(matches!(stage.state::<u32>(), Err(CompressError::RunDir { .. })));
    }
}
