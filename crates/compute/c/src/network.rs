//! A network as C sees it, in safe code.

use std::ffi::CString;
use std::path::Path;

use slq_graph::{Dim, Tensor, TensorData, ValueInfo};
use slq_runtime::{Expand, Isa, Session};

/// A loaded network with its inputs and the outputs of its last run.
pub struct Network {
    session: Session,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Output>,
    /// A call did not come to its end.
    broken: bool,
}

/// An output of a run.
struct Output {
    shape: Vec<i64>,
    values: Vec<f32>,
}

/// The declared shape of an input or output; -1 where an extent is free.
fn declared(value: &ValueInfo) -> Result<Vec<i64>, String> {
    let dims = value.shape.as_ref().ok_or_else(|| format!("`{}` declares no shape", value.name))?;
    let extent = |d: &Dim| if let Dim::Known(n) = d { i64::try_from(*n).unwrap_or(-1) } else { -1 };
    Ok(dims.iter().map(extent).collect())
}

/// Values as floats, which integers and Booleans of an output become.
fn floats(tensor: &Tensor) -> Result<Vec<f32>, String> {
    match tensor.data() {
        TensorData::F32(values) => Ok(values.clone()),
        TensorData::I64(values) => Ok(values.iter().map(|&v| v as f32).collect()),
        TensorData::I32(values) => Ok(values.iter().map(|&v| v as f32).collect()),
        TensorData::Bool(values) => Ok(values.iter().map(|&v| f32::from(v)).collect()),
        _ => Err(format!("outputs of type {:?} cannot be given as floats", tensor.dtype())),
    }
}

impl Network {
    /// Opens a file.
    pub(crate) fn open(path: &Path, expand: Expand) -> Result<Self, String> {
        Self::new(slq_runtime::Network::open(path, expand).map_err(|e| e.to_string())?)
    }

    /// Reads a container in memory.
    pub(crate) fn from_bytes(bytes: &[u8], expand: Expand) -> Result<Self, String> {
        Self::new(slq_runtime::Network::from_bytes(bytes, expand).map_err(|e| e.to_string())?)
    }

    fn new(network: slq_runtime::Network) -> Result<Self, String> {
        let session = network.session(Isa::detect());
        let names = |values: &[ValueInfo]| {
            let text = |v: &ValueInfo| CString::new(v.name.as_str());
            let all: Result<Vec<CString>, _> = values.iter().map(text).collect();
            all.map_err(|_| "the name of an input or output contains a zero byte".to_owned())
        };
        let (input_names, output_names) = (names(session.inputs())?, names(session.outputs())?);
        let inputs = vec![None; input_names.len()];
        Ok(Self { session, input_names, output_names, inputs, outputs: Vec::new(), broken: false })
    }

    pub(crate) fn input_names(&self) -> &[CString] {
        &self.input_names
    }

    pub(crate) fn output_names(&self) -> &[CString] {
        &self.output_names
    }

    /// The declared shape of input `i`; -1 where an extent is free.
    pub(crate) fn input_shape(&self, i: usize) -> Result<Vec<i64>, String> {
        let inputs = self.session.inputs();
        declared(inputs.get(i).ok_or_else(|| no_such("input", i, inputs.len()))?)
    }

    /// The shape of output `i` in the last run, or else the declared one.
    pub(crate) fn output_shape(&self, i: usize) -> Result<Vec<i64>, String> {
        if let Some(output) = self.outputs.get(i) {
            return Ok(output.shape.clone());
        }
        let outputs = self.session.outputs();
        declared(outputs.get(i).ok_or_else(|| no_such("output", i, outputs.len()))?)
    }

    /// Number of values of a tensor of these extents.
    pub(crate) fn count(dims: &[i64]) -> Result<usize, String> {
        let count = slq_graph::element_count(&extents(dims)?).filter(|&n| n <= isize::MAX as usize / 4);
        count.ok_or_else(|| format!("a tensor of shape {dims:?} does not fit into memory"))
    }

    pub(crate) fn set_input(&mut self, i: usize, values: &[f32], dims: &[i64]) -> Result<(), String> {
        let count = self.inputs.len();
        let slot = self.inputs.get_mut(i).ok_or_else(|| no_such("input", i, count))?;
        let shape = extents(dims)?;
        *slot = Some(Tensor::f32(shape, values.to_vec()).map_err(|e| e.to_string())?);
        Ok(())
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        if self.broken {
            return Err(
                "an earlier call failed inside the library; close the network and open it again".into()
            );
        }
        self.broken = true;
        self.outputs.clear();
        let names: Vec<String> = self.session.inputs().iter().map(|i| i.name.clone()).collect();
        let given = names.iter().zip(&self.inputs);
        let given: Vec<(&str, &Tensor)> =
            given.filter_map(|(n, t)| Some((n.as_str(), t.as_ref()?))).collect();
        let result = self.session.run(&given).map_err(|e| e.to_string());
        self.broken = false;
        let output = |tensor: Tensor| {
            let shape = tensor.shape().iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
            Ok(Output { shape, values: floats(&tensor)? })
        };
        self.outputs =
            result?.into_iter().map(|(_, tensor)| output(tensor)).collect::<Result<_, String>>()?;
        Ok(())
    }

    /// Values of output `i` of the last run.
    pub(crate) fn output(&self, i: usize) -> Result<&[f32], String> {
        let count = self.output_names.len();
        if i >= count {
            return Err(no_such("output", i, count));
        }
        let output = self.outputs.get(i).map(|o| o.values.as_slice());
        output.ok_or_else(|| "the network has not run since it was opened, or its last run failed".into())
    }
}

fn no_such(what: &str, i: usize, count: usize) -> String {
    format!("there is no {what} {i}, the network has {count}")
}

/// Most extents of a shape.
const MAX_RANK: usize = 64;

fn extents(dims: &[i64]) -> Result<Vec<usize>, String> {
    if dims.len() > MAX_RANK {
        return Err(format!("a shape has {} extents; at most {MAX_RANK} are allowed", dims.len()));
    }
    let all: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    all.ok_or_else(|| format!("{dims:?} is not a shape: an extent is negative"))
}
