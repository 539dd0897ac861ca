//! Running networks with their weights packed.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use slq::Isa;
use slq::engine::Session;
use slq::graph::Tensor;
use slq::inference::run_session;
use slq::runtime::{Expand, Network};

use crate::error::{SettingError, unlocked};
use crate::model::{Model, Value, value};
use crate::tensors;

/// See `slq.Runtime`.
#[pyclass(frozen, module = "slq._slq")]
pub(crate) struct Runtime {
    session: Mutex<Session>,
    inputs: Vec<slq::graph::ValueInfo>,
    outputs: Vec<slq::graph::ValueInfo>,
    /// Names of the weights that stay packed.
    #[pyo3(get)]
    packed: Vec<String>,
}

#[derive(FromPyObject)]
pub(crate) enum Opened<'py> {
    Model(Bound<'py, Model>),
    Path(PathBuf),
}

#[pymethods]
impl Runtime {
    #[new]
    fn new(py: Python<'_>, model: Opened<'_>, expand: &str) -> PyResult<Self> {
        let expand: Expand =
            expand.parse().map_err(|e| SettingError::new_err(format!("setting 'expand': {e}")))?;
        let network = match model {
            Opened::Path(path) => unlocked(py, || Ok(Network::open(path, expand)?))?,
            Opened::Model(model) => {
                let model = model.get().inner.clone();
                unlocked(py, || Ok(Network::from_graph((*model).clone().for_use(), expand)?))?
            }
        };
        let packed = network.report().packed.iter().map(|(name, _)| name.clone()).collect();
        let session = unlocked(py, || Ok(network.session(Isa::detect())))?;
        let (inputs, outputs) = (session.inputs().to_vec(), session.outputs().to_vec());
        Ok(Self { session: Mutex::new(session), inputs, outputs, packed })
    }

    #[getter]
    fn inputs(&self, py: Python<'_>) -> PyResult<Vec<Value>> {
        self.inputs.iter().map(|v| value(py, v)).collect()
    }

    #[getter]
    fn outputs(&self, py: Python<'_>) -> PyResult<Vec<Value>> {
        self.outputs.iter().map(|v| value(py, v)).collect()
    }

    /// Bytes of weights and buffers in memory.
    #[getter]
    fn bytes(&self, py: Python<'_>) -> PyResult<usize> {
        unlocked(py, || Ok(self.session.lock().unwrap_or_else(PoisonError::into_inner).bytes()))
    }

    /// Runs the network on arrays by the names of its inputs; a dict of its outputs.
    fn run<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let mut given: Vec<(String, Tensor)> = Vec::new();
        for (name, array) in inputs.iter() {
            given.push((name.extract()?, tensors::tensor(&array)?));
        }
        let run = || run_session(&mut self.session.lock().unwrap_or_else(PoisonError::into_inner), &given);
        let outputs = PyDict::new(py);
        for (name, tensor) in unlocked(py, run)? {
            outputs.set_item(name, tensors::array(py, tensor)?)?;
        }
        Ok(outputs)
    }
}
