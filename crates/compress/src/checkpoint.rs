//! A run directory: what a run needs to go on after it was killed.
//!
//! `round-N.safetensors` holds all weights and palettes after round N, `state.json` names the last complete
//! round. Both are written to a temporary file and renamed, weights first, so that at any moment the directory
//! describes one complete round (docs/run-directory.md).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slq_graph::{Graph, TensorData};

use crate::error::CompressError;
use crate::report::{Accuracy, RoundReport};
use crate::settings::Settings;
use crate::training::TrainingData;

const STATE: &str = "state.json";
const VERSION: u32 = 2;

/// The state of a run after a complete round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    version: u32,
    /// Settings the run was begun with.
    pub settings: Settings,
    /// Fingerprint of the network as it came.
    pub model: String,
    /// Fingerprint of the data.
    pub data: String,
    /// Fingerprint of the teacher, where it is another network.
    #[serde(default)]
    pub teacher: Option<String>,
    /// Accuracy of the network as it came.
    pub baseline: Option<Accuracy>,
    /// The rounds that are complete.
    pub rounds: Vec<RoundReport>,
    /// What the method keeps beside the palettes.
    #[serde(default)]
    pub memory: Vec<usize>,
    /// Training steps done.
    pub iterations: u64,
    /// Seconds spent.
    pub seconds: f64,
}

impl RunState {
    /// The state of a run that has not done a round yet.
    pub fn new(settings: &Settings, graph: &Graph, data: &TrainingData, teacher: Option<&Graph>) -> Self {
        Self {
            version: VERSION,
            settings: settings.clone(),
            model: model_fingerprint(graph),
            data: data_fingerprint(data),
            teacher: teacher.map(model_fingerprint),
            baseline: None,
            rounds: Vec::new(),
            memory: Vec::new(),
            iterations: 0,
            seconds: 0.0,
        }
    }

    /// Whether `other` describes the same job.
    ///
    /// # Errors
    /// [`CompressError::Fingerprint`] naming what differs.
    pub fn check_same_job(&self, other: &Self, dir: &Path) -> Result<(), CompressError> {
        let differs = |what| Err(CompressError::Fingerprint { path: dir.into(), what });
        if self.model != other.model {
            return differs("a model");
        }
        if self.data != other.data {
            return differs("data");
        }
        if self.teacher != other.teacher {
            return differs("a teacher");
        }
        if self.settings != other.settings {
            return differs("settings");
        }
        Ok(())
    }
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// The directory at `path`, made if it does not exist.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where it cannot be made.
    pub fn create(path: &Path) -> Result<Self, CompressError> {
        fs::create_dir_all(path).map_err(|e| run_dir_error(path, &e))?;
        Ok(Self { path: path.into() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last complete round's state, or `None` where no round is complete.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for a state that cannot be read.
    pub fn state(&self) -> Result<Option<RunState>, CompressError> {
        let path = self.path.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|e| run_dir_error(&path, &e))?;
        let state: RunState = serde_json::from_str(&text).map_err(|e| run_dir_error(&path, &e))?;
        if state.version != VERSION {
            let reason = format!("version {} is not {VERSION}, the one this program reads", state.version);
            return Err(CompressError::RunDir { path, reason });
        }
        Ok(Some(state))
    }

    /// Writes a complete round: weights first, then the state that names them.
    ///
    /// # Errors
    /// [`CompressError::Checkpoint`] or [`CompressError::RunDir`] where the disk refuses.
    pub fn save(&self, state: &RunState, graph: &Graph) -> Result<(), CompressError> {
        if !state.rounds.is_empty() {
            slq_safetensors::write(graph, &self.weights_path(state.rounds.len()))?;
        }
        let path = self.path.join(STATE);
        let text = serde_json::to_vec_pretty(state).map_err(|e| run_dir_error(&path, &e))?;
        slq_file::write_atomically(&path, &text).map_err(|e| run_dir_error(&path, &e))
    }

    /// Reads the weights and palettes of the state's last complete round into `graph`.
    ///
    /// # Errors
    /// [`CompressError::Checkpoint`] where they are missing, damaged or of another network.
    pub fn load(&self, state: &RunState, graph: &mut Graph) -> Result<(), CompressError> {
        if !state.rounds.is_empty() {
            slq_safetensors::read_into(graph, &self.weights_path(state.rounds.len()))?;
        }
        Ok(())
    }

    fn weights_path(&self, round: usize) -> PathBuf {
        self.path.join(format!("round-{round}.safetensors"))
    }
}

fn run_dir_error(path: &Path, error: &dyn std::fmt::Display) -> CompressError {
    CompressError::RunDir { path: path.into(), reason: error.to_string() }
}

/// SHA-256 over names, shapes and values of all weights and over the nodes.
pub fn model_fingerprint(graph: &Graph) -> String {
    let mut hash = Sha256::new();
    for node in &graph.nodes {
        hash.update(format!(
            "{}|{}|{:?}|{:?}|{:?};",
            node.name, node.op, node.inputs, node.outputs, node.attributes
        ));
    }
    for (name, weight) in &graph.weights {
        hash.update(format!("{name}{:?}", weight.tensor.shape()));
        match weight.tensor.data() {
            TensorData::F32(values) => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
            other => hash.update(format!("{other:?}")),
        }
    }
    hex(&hash.finalize())
}

/// SHA-256 over the fingerprints of both splits and the preprocessing.
pub(crate) fn data_fingerprint(data: &TrainingData) -> String {
    let mut hash = Sha256::new();
    hash.update(data.train.fingerprint());
    hash.update(data.test.fingerprint());
    hash.update(format!("{:?}", data.transform));
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use slq_data::Split;

    use super::*;

    fn data() -> TrainingData {
        let split = Split::from_bytes(vec![7; 4 * 28 * 28], vec![0, 1, 2, 3], [1, 28, 28]).unwrap();
        TrainingData { train: split.clone(), test: split, transform: Default::default() }
    }

    #[test]
    fn a_saved_round_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&dir.path().join("deep/run")).unwrap();
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let mut state = RunState::new(&Settings::default(), &graph, &data(), None);
        assert_eq!(run.state().unwrap(), None);
        let round = RoundReport {
            fixed_fraction: 0.5,
            layers: vec!["w".into()],
            before: None,
            after: None,
            iterations: 3,
            share_seconds: 0.0,
            retrain_seconds: 0.0,
            seconds: 0.0,
        };
        state.rounds.push(round);
        let name = graph.quantizable()[0].weight.clone();
        graph.weights[&name].tensor.as_f32_mut().unwrap()[0] = 0.123;
        run.save(&state, &graph).unwrap();
        assert_eq!(run.state().unwrap(), Some(state.clone()));
        let mut fresh = slq_zoo::build("lenet", 0).unwrap();
        run.load(&state, &mut fresh).unwrap();
        assert_eq!(fresh.weights[&name].tensor, graph.weights[&name].tensor);
    }

    #[test]
    fn another_job_is_told_apart_by_what_differs() {
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let state = RunState::new(&Settings::default(), &graph, &data(), None);
        let other_model =
            RunState::new(&Settings::default(), &slq_zoo::build("lenet", 1).unwrap(), &data(), None);
        let other_settings =
            RunState::new(&Settings { bits: 4, ..Settings::default() }, &graph, &data(), None);
        let mut fewer = data();
        fewer.train = fewer.train.subset(":3").unwrap();
        let taught = RunState::new(&Settings::default(), &graph, &data(), Some(&graph));
        let other_data = RunState::new(&Settings::default(), &graph, &fewer, None);
        let others = [
            ("a model", other_model),
            ("settings", other_settings),
            ("data", other_data),
            ("a teacher", taught),
        ];
        for (what, other) in others {
            let error = state.check_same_job(&other, Path::new("x")).unwrap_err();
            assert!(matches!(error, CompressError::Fingerprint { what: w, .. } if w == what), "{what}");
        }
        assert!(state.check_same_job(&state.clone(), Path::new("x")).is_ok());
    }

    #[test]
    fn damaged_states_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        fs::write(dir.path().join(STATE), b"{ not json").unwrap();
        assert!(matches!(run.state(), Err(CompressError::RunDir { .. })));
    }
}
