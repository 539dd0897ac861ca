//! A network as C sees it, in safe code.

use std::ffi::CString;
use std::path::Path;

use slq_graph::{Dim, Tensor, ValueInfo};
use slq_runtime::{Expand, Isa, Session};

/// A loaded network with its inputs and the outputs of its last run.
pub struct Network {
    session: Session,
    input_names: Vec<CString>,
    output_names: Vec<CString>,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Tensor>,
    /// A call did not come to its end.
    broken: bool,
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
        let input =
            self.session.inputs().get(i).ok_or_else(|| self.no_such("input", i, self.inputs.len()))?;
        let dims = input.shape.as_ref().ok_or_else(|| format!("input `{}` declares no shape", input.name))?;
        let extent = |d: &Dim| if let Dim::Known(n) = d { i64::try_from(*n).unwrap_or(-1) } else { -1 };
        Ok(dims.iter().map(extent).collect())
    }

    /// Number of values of a tensor of these extents.
    pub(crate) fn count(dims: &[i64]) -> Result<usize, String> {
        let extents: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        let count = extents.and_then(|e| slq_graph::element_count(&e));
        count.filter(|&n| n <= isize::MAX as usize / 4).ok_or_else(|| format!("{dims:?} is not a shape"))
    }

    pub(crate) fn set_input(&mut self, i: usize, values: &[f32], dims: &[i64]) -> Result<(), String> {
        let error = self.no_such("input", i, self.inputs.len());
        let slot = self.inputs.get_mut(i).ok_or(error)?;
        let shape: Vec<usize> = dims.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
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
        self.outputs = result?.into_iter().map(|(_, tensor)| tensor).collect();
        Ok(())
    }

    /// Output `i` of the last run.
    pub(crate) fn output(&self, i: usize) -> Result<&Tensor, String> {
        if self.outputs.is_empty() {
            return Err("the network has not run since it was opened, or its last run failed".into());
        }
        self.outputs.get(i).ok_or_else(|| self.no_such("output", i, self.outputs.len()))
    }

    fn no_such(&self, what: &str, i: usize, count: usize) -> String {
        format!("there is no {what} {i}, the network has {count}")
    }
}
