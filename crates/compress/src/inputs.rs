//! Inputs without labels: what a calibration runs on, and what two networks are compared on.

use slq_graph::Tensor;

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
