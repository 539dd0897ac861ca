//! Inputs without labels: what a calibration runs on, and what two networks are compared on.

use slq_data::{Batch, Mode, Split, Transform};
use slq_graph::{DType, Graph, Tensor, TensorData, ValueInfo};

/// Inputs that do not fit the network or cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("calibration inputs: {reason}")]
pub struct InputError {
    /// What is wrong with them.
    pub reason: String,
}

/// Where inputs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// Given by the user: images, arrays.
    Given,
    /// Drawn at random, for want of others.
    Random,
}

/// Inputs of a network, in batches.
///
/// A batch is a tensor for each input of the network, the samples along the first axis. Batches are asked for more than
/// once and must be the same each time.
pub trait Inputs: std::fmt::Debug {
    /// Number of batches.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batch `index`, by the names of the network's inputs.
    ///
    /// # Errors
    /// [`InputError`] for a batch that cannot be read.
    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError>;

    /// Samples in batch `index`.
    ///
    /// # Errors
    /// [`InputError`] for a batch that cannot be read.
    fn samples(&self, index: usize) -> Result<usize, InputError> {
        Ok(samples(&self.batch(index)?))
    }

    /// Where they come from.
    fn origin(&self) -> Origin {
        Origin::Given
    }

    /// Bytes that differ where the inputs do, for checkpoints.
    ///
    /// # Errors
    /// [`InputError`] for inputs that cannot be read.
    fn fingerprint(&self) -> Result<Vec<u8>, InputError>;
}

/// Batches in memory.
impl Inputs for Vec<Vec<(String, Tensor)>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        self.get(index).cloned().ok_or_else(|| InputError { reason: format!("there is no batch {index}") })
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        let mut bytes = Vec::new();
        for (name, tensor) in self.iter().flatten() {
            bytes.extend(name.as_bytes());
            bytes.extend(tensor.shape().iter().flat_map(|d| (*d as u64).to_le_bytes()));
            bytes.extend(tensor.as_f32().unwrap_or_default().iter().flat_map(|v| v.to_le_bytes()));
        }
        Ok(bytes)
    }
}

/// Samples in a batch of [`SplitInputs`].
const BATCH: usize = 16;

/// The examples of a split, without their labels.
#[derive(Debug, Clone)]
pub struct SplitInputs {
    inputs: Vec<ValueInfo>,
    split: Split,
    transform: Transform,
}

impl SplitInputs {
    /// The examples of `split` for `graph`, prepared as evaluation would.
    pub fn new(graph: &Graph, split: Split, transform: Transform) -> Self {
        Self { inputs: graph.free_inputs().cloned().collect(), split, transform }
    }

    /// Number of examples.
    pub fn count(&self) -> usize {
        self.split.len()
    }

    /// The tensors of a batch by the names of the network's inputs.
    fn named(&self, batch: Batch) -> Result<Vec<(String, Tensor)>, InputError> {
        let Some(arrays) = self.split.inputs() else {
            let [input] = self.inputs.as_slice() else {
                return Err(InputError { reason: "images serve a network with one input alone".into() });
            };
            return Ok(vec![(
                input.name.clone(),
                Tensor::f32(batch.shape.to_vec(), batch.images).map_err(said)?,
            )]);
        };
        let count = batch.shape[0];
        let whole = batch.images.len() / count.max(1);
        let (mut named, mut first) = (Vec::with_capacity(arrays.len()), 0);
        for array in arrays {
            let len: usize = array.shape.iter().product();
            let rows = (0..count).flat_map(|i| &batch.images[i * whole + first..][..len]);
            let dtype = self.inputs.iter().find(|i| i.name == array.name).map_or(DType::F32, |i| i.dtype);
            let data = match dtype {
                DType::I64 => TensorData::I64(rows.map(|&v| v as i64).collect()),
                DType::I32 => TensorData::I32(rows.map(|&v| v as i32).collect()),
                DType::Bool => TensorData::Bool(rows.map(|&v| v != 0.0).collect()),
                _ => TensorData::F32(rows.copied().collect()),
            };
            let shape = [&[count], array.shape.as_slice()].concat();
            named.push((array.name.clone(), Tensor::new(shape, data).map_err(said)?));
            first += len;
        }
        Ok(named)
    }
}

fn said(error: impl std::fmt::Display) -> InputError {
    InputError { reason: error.to_string() }
}

impl Inputs for SplitInputs {
    fn len(&self) -> usize {
        self.split.len().div_ceil(BATCH)
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        let first = index.saturating_mul(BATCH);
        let part = self.split.subset(&format!("{first}:{}", first.saturating_add(BATCH))).map_err(said)?;
        let mut batch = Batch::default();
        let mut batches = part.batches(BATCH, &self.transform, Mode::Eval, false).map_err(said)?;
        batches.next_into(&mut batch).map_err(said)?;
        self.named(batch)
    }

    fn samples(&self, index: usize) -> Result<usize, InputError> {
        Ok(self.split.len().saturating_sub(index.saturating_mul(BATCH)).min(BATCH))
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        let mut bytes = self.split.fingerprint().to_vec();
        bytes.extend(serde_json::to_vec(&self.transform).map_err(said)?);
        Ok(bytes)
    }
}

/// Some consecutive batches of others.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// All batches.
    pub(crate) all: &'a dyn Inputs,
    /// The first one of the part.
    pub(crate) first: usize,
    /// Their number.
    pub(crate) count: usize,
}

impl Inputs for Part<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        self.all.batch(self.first + index)
    }

    fn samples(&self, index: usize) -> Result<usize, InputError> {
        self.all.samples(self.first + index)
    }

    fn origin(&self) -> Origin {
        self.all.origin()
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        self.all.fingerprint()
    }
}

/// Samples in a batch: the extent of its first tensor's first axis.
pub(crate) fn samples(batch: &[(String, Tensor)]) -> usize {
    batch.first().and_then(|(_, t)| t.shape().first().copied()).unwrap_or(0)
}
