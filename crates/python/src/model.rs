//! Models.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use slq::graph::stats::{WeightStats, summary};
use slq::graph::{DType, Dim, ValueInfo};
use slq::{ModelName, SaveOptions};

use crate::error::{FileError, ModelError, unlocked, warn};
use crate::settings::{self, bad, widths};
use crate::tensors;

/// A network with its preprocessing, opened with `Model.open`.
#[pyclass(frozen, module = "slq")]
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) inner: Arc<slq::Model>,
}

impl From<slq::Model> for Model {
    fn from(inner: slq::Model) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

/// An input or output of a network: `name`, `dtype` (as NumPy names it) and `shape`, whose open extents are a name or `None`.
#[pyclass(frozen, get_all, module = "slq")]
pub(crate) struct Value {
    name: String,
    dtype: &'static str,
    shape: Option<Py<PyTuple>>,
}

#[pymethods]
impl Value {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shape = match &self.shape {
            Some(shape) => shape.bind(py).repr()?.to_string(),
            None => "None".into(),
        };
        Ok(format!("Value(name={:?}, dtype='{}', shape={shape})", self.name, self.dtype))
    }
}

/// Sizes of a network in bytes: `dense` (4 bytes a parameter), `stored` (codes, codebooks and float parameters), `entropy`
/// (the same with the codes at their entropy); `ratio` is `dense / stored`.
#[pyclass(frozen, get_all, module = "slq")]
pub(crate) struct Size {
    dense: u64,
    stored: u64,
    entropy: u64,
    ratio: f64,
}

#[pymethods]
impl Size {
    fn __repr__(&self) -> String {
        let Self { dense, stored, entropy, ratio } = self;
        format!("Size(dense={dense}, stored={stored}, entropy={entropy}, ratio={ratio:.2})")
    }
}

/// A parameter tensor of a network and what it takes.
#[pyclass(frozen, get_all, module = "slq")]
pub(crate) struct Layer {
    /// The weight's name.
    name: String,
    /// The operator that reads it first.
    op: String,
    /// Its shape.
    shape: Py<PyTuple>,
    /// Bits of one stored value.
    bits: u8,
    /// Number of distinct values.
    distinct: usize,
    /// Values in one codebook; `None` for floats.
    codebook_size: Option<usize>,
    /// Share of values that are 0.
    zeros: f64,
    /// Bytes as 32-bit floats.
    dense: u64,
    /// Bytes of codes and codebooks, or of the floats.
    stored: u64,
    /// Whether a compression would quantize it by default.
    quantizable: bool,
}

#[pymethods]
impl Layer {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let shape = self.shape.bind(py).repr()?;
        Ok(format!("Layer(name={:?}, op='{}', shape={shape}, bits={})", self.name, self.op, self.bits))
    }
}

#[pymethods]
impl Model {
    /// Opens x.onnx, x.slq, x.prototxt (with Caffe's weights), x.safetensors (with its graph) or zoo:NAME, a built-in
    /// architecture with fresh weights drawn from seed. Raises ModelError or FileError.
    #[staticmethod]
    #[pyo3(signature = (name, weights=None, graph=None, seed=0))]
    fn open(
        py: Python<'_>,
        name: PathBuf,
        weights: Option<PathBuf>,
        graph: Option<PathBuf>,
        seed: u64,
    ) -> PyResult<Self> {
        let name = name.into_os_string().into_string();
        let name =
            name.map_err(|n| FileError::new_err(format!("{}: the name is not in UTF-8", n.display())))?;
        let name = ModelName { name, weights, graph, seed, input_shape: None };
        unlocked(py, || slq::Model::open(name)).map(Self::from)
    }

    /// The built-in sample: a LeNet trained on the images of `load_data("mnist-10k")`.
    #[staticmethod]
    fn sample(py: Python<'_>) -> PyResult<Self> {
        Ok(unlocked(py, slq::sample)?.0.into())
    }

    /// Writes .onnx, .slq, .tflite, .mlpackage, .safetensors or .caffemodel, as the ending says, with the preprocessing; the file
    /// appears whole or not at all. Returns its bytes. dense keeps weights as float32, for runtimes that do not open packed codes;
    /// round_up_widths stores codes of 5 bits in 6 and of 7 in 8 in .mlpackage, which has no such widths. runtime='ort' makes an
    /// .onnx for onnxruntime, which keeps the weights of dense layers packed. collapse_batch_norm keeps one scale and one shift of
    /// each batch-norm's channel as 16-bit floats, for files that are not trained on; half_floats rounds all float parameters so. Warns of what the format changed or left out.
    #[pyo3(signature = (
        path, dense=false, legacy_blobs=false, overwrite=false, round_up_widths=false, runtime=None,
        collapse_batch_norm=false, half_floats=false
    ))]
    #[allow(clippy::too_many_arguments)] // keyword arguments of Python
    #[allow(clippy::fn_params_excessive_bools)] // keyword arguments of Python
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        dense: bool,
        legacy_blobs: bool,
        overwrite: bool,
        round_up_widths: bool,
        runtime: Option<&str>,
        collapse_batch_norm: bool,
        half_floats: bool,
    ) -> PyResult<u64> {
        let runtime = settings::runtime(runtime)?;
        if runtime.is_some() && dense {
            return Err(bad(
                "runtime",
                "it packs weights, which dense keeps as floats: leave out one of them",
            ));
        }
        if runtime.is_some() && path.extension().is_none_or(|e| e != "onnx") {
            return Err(bad("runtime", "it is for ONNX files: name a path that ends in .onnx"));
        }
        let (widths, batch_norms) = (widths(round_up_widths), settings::batch_norms(collapse_batch_norm));
        let floats = settings::floats(half_floats);
        let options = SaveOptions {
            dense,
            legacy_blobs,
            overwrite,
            widths,
            runtime,
            batch_norms,
            floats,
            ..SaveOptions::default()
        };
        let saved = unlocked(py, || options.rounded(&self.inner).0.save_with(path, &options))?;
        warn(py, &saved.notes)?;
        Ok(saved.file_bytes)
    }

    /// The inputs to give, in order.
    #[getter]
    fn inputs(&self, py: Python<'_>) -> PyResult<Vec<Value>> {
        let graph = &self.inner.graph;
        let given = graph.free_inputs();
        given.map(|v| value(py, v)).collect()
    }

    /// The outputs, in order.
    #[getter]
    fn outputs(&self, py: Python<'_>) -> PyResult<Vec<Value>> {
        self.inner.graph.outputs.iter().map(|v| value(py, v)).collect()
    }

    /// Sizes of the network in bytes.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<Size> {
        let size = unlocked(py, || Ok(slq::methods::Size::of(&self.inner.graph)))?;
        Ok(Size {
            dense: size.dense_bytes,
            stored: size.stored_bytes,
            entropy: size.entropy_bytes,
            ratio: size.ratio,
        })
    }

    /// Each parameter tensor and what it takes; computed at each call.
    #[getter]
    fn layers(&self, py: Python<'_>) -> PyResult<Vec<Layer>> {
        let graph = &self.inner.graph;
        let (found, chosen) = unlocked(py, || {
            let chosen: Vec<String> = graph.quantizable().iter().map(|q| q.weight.clone()).collect();
            Ok((summary(graph).layers, chosen))
        })?;
        found.into_iter().map(|l| layer(py, &l, chosen.contains(&l.name))).collect()
    }

    /// Names of all weights, biases and other constants, in the file's order.
    #[getter]
    fn weights(&self) -> Vec<String> {
        self.inner.graph.weights.keys().cloned().collect()
    }

    /// A copy of a weight's values; of shared weights, decoded. Floats of any width come as float32.
    fn weight<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        tensors::array(py, self.named(name)?.tensor.clone())
    }

    /// Codebook (float32, [groups, k]) and codes (uint8, of the weight's shape) of a shared weight; None for floats.
    #[allow(clippy::type_complexity)] // a pair of arrays
    fn palette<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let weight = self.named(name)?;
        let Some(palette) = weight.palette.as_ref().filter(|p| p.is_fully_fixed()) else { return Ok(None) };
        let shape = [palette.groups(), palette.codebook_size()];
        let codebook = tensors::shaped(py, palette.codebook().to_vec(), &shape)?;
        let codes = tensors::shaped(py, palette.codes().to_vec(), weight.tensor.shape())?;
        Ok(Some((codebook, codes)))
    }

    fn __repr__(&self) -> String {
        let graph = &self.inner.graph;
        format!(
            "<slq.Model {:?}: {} nodes, {} parameters>",
            graph.name,
            graph.nodes.len(),
            graph.parameter_count()
        )
    }
}

impl Model {
    fn named(&self, name: &str) -> PyResult<&slq::graph::Weight> {
        let found = self.inner.graph.weights.get(name);
        found.ok_or_else(|| ModelError::new_err(format!("the network has no weight '{name}'")))
    }
}

pub(crate) fn value(py: Python<'_>, from: &ValueInfo) -> PyResult<Value> {
    let extent = |dim: &Dim| -> PyResult<Py<PyAny>> {
        Ok(match dim {
            Dim::Known(n) => n.into_pyobject(py)?.into_any().unbind(),
            Dim::Symbol(name) => name.into_pyobject(py)?.into_any().unbind(),
            _ => py.None(),
        })
    };
    let shape = match &from.shape {
        None => None,
        Some(dims) => {
            let dims = dims.iter().map(extent).collect::<PyResult<Vec<_>>>()?;
            Some(PyTuple::new(py, dims)?.unbind())
        }
    };
    Ok(Value { name: from.name.clone(), dtype: dtype(from.dtype), shape })
}

fn layer(py: Python<'_>, from: &WeightStats, quantizable: bool) -> PyResult<Layer> {
    Ok(Layer {
        name: from.name.clone(),
        op: from.op.clone(),
        shape: PyTuple::new(py, &from.shape)?.unbind(),
        bits: from.bits,
        distinct: from.distinct,
        codebook_size: from.codebook_size,
        zeros: from.zeros as f64 / from.count.max(1) as f64,
        dense: from.dense_bytes,
        stored: from.stored_bytes,
        quantizable,
    })
}

/// NumPy's name of an element type; `bfloat16` has none there.
fn dtype(of: DType) -> &'static str {
    match of {
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::F16 => "float16",
        DType::Bf16 => "bfloat16",
        DType::I64 => "int64",
        DType::I32 => "int32",
        DType::I16 => "int16",
        DType::I8 => "int8",
        DType::U64 => "uint64",
        DType::U32 => "uint32",
        DType::U16 => "uint16",
        DType::U8 => "uint8",
        DType::Bool => "bool",
        _ => "unknown",
    }
}
