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

/// `inputs`, where there are any that were not drawn at random.
pub(crate) fn given(inputs: Option<&dyn Inputs>) -> Option<&dyn Inputs> {
    inputs.filter(|i| !i.is_empty() && i.origin() == Origin::Given)
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

/// The batches of others, cut into smaller ones.
#[derive(Debug)]
pub struct SmallBatches<'a> {
    all: &'a dyn Inputs,
    /// Of each batch: the one that it is of, its first sample there, and its samples.
    parts: Vec<(usize, usize, usize)>,
}

impl<'a> SmallBatches<'a> {
    /// The batches of `all`, none with more than `most` (at least 1) samples.
    ///
    /// # Errors
    /// [`InputError`] for inputs that cannot be read.
    pub fn new(all: &'a dyn Inputs, most: usize) -> Result<Self, InputError> {
        let (most, mut parts) = (most.max(1), Vec::new());
        for index in 0..all.len() {
            let samples = all.samples(index)?;
            parts.extend((0..samples).step_by(most).map(|first| (index, first, most.min(samples - first))));
        }
        Ok(Self { all, parts })
    }

    /// The first batches alone: as many as `most` samples need.
    #[must_use]
    pub fn first(mut self, most: usize) -> Self {
        let mut seen = 0;
        self.parts.retain(|(_, _, samples)| {
            let wanted = seen < most;
            seen += samples;
            wanted
        });
        self
    }
}

impl Inputs for SmallBatches<'_> {
    fn len(&self) -> usize {
        self.parts.len()
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        let part = self.parts.get(index).copied();
        let (of, first, count) =
            part.ok_or_else(|| InputError { reason: format!("there is no batch {index}") })?;
        let whole = self.all.batch(of)?;
        whole.into_iter().map(|(name, t)| Ok((name, rows(&t, first, count)?))).collect()
    }

    fn samples(&self, index: usize) -> Result<usize, InputError> {
        Ok(self.parts.get(index).map_or(0, |p| p.2))
    }

    fn origin(&self) -> Origin {
        self.all.origin()
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        self.all.fingerprint()
    }
}

/// `count` entries of a tensor's first axis, from number `first` on.
///
/// # Errors
/// [`InputError`] for a tensor that has not as many.
pub fn rows(tensor: &Tensor, first: usize, count: usize) -> Result<Tensor, InputError> {
    let (extent, rest) = match tensor.shape().split_first() {
        Some((extent, rest)) if first.saturating_add(count) <= *extent => (*extent, rest),
        _ => {
            let reason =
                format!("an array of {:?} has no entries {first} to {}", tensor.shape(), first + count);
            return Err(InputError { reason });
        }
    };
    fn part<T: Clone>(values: &[T], extent: usize, first: usize, count: usize) -> Vec<T> {
        let run = values.len() / extent.max(1);
        values[first * run..(first + count) * run].to_vec()
    }
    let data = match tensor.data() {
        TensorData::F32(v) => TensorData::F32(part(v, extent, first, count)),
        TensorData::I64(v) => TensorData::I64(part(v, extent, first, count)),
        TensorData::I32(v) => TensorData::I32(part(v, extent, first, count)),
        TensorData::U8(v) => TensorData::U8(part(v, extent, first, count)),
        TensorData::Bool(v) => TensorData::Bool(part(v, extent, first, count)),
        TensorData::Raw(dtype, v) => TensorData::Raw(*dtype, part(v, extent, first, count)),
        _ => return Err(InputError { reason: format!("an array of {:?} cannot be cut", tensor.dtype()) }),
    };
    Tensor::new([&[count], rest].concat(), data).map_err(said)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_batches_hold_the_same_samples_in_the_same_order() {
        let batch = |values: Vec<f32>| {
            let count = values.len() / 2;
            vec![
                ("x".to_owned(), Tensor::f32(vec![count, 2], values).unwrap()),
                ("n".to_owned(), Tensor::i64_vector((0..count as i64).collect())),
            ]
        };
        let all = vec![batch((0..10).map(|v| v as f32).collect()), batch(vec![10.0, 11.0])];
        let small = SmallBatches::new(&all, 2).unwrap();
        let samples: Vec<usize> = (0..small.len()).map(|i| small.samples(i).unwrap()).collect();
        assert_eq!(samples, [2, 2, 1, 1]);
        let values: Vec<f32> =
            (0..small.len()).flat_map(|i| small.batch(i).unwrap()[0].1.as_f32().unwrap().to_vec()).collect();
        assert_eq!(values, (0..12).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!(small.batch(2).unwrap()[1].1.to_i64().unwrap(), [4]);
        assert!(small.batch(4).is_err());
        assert!(rows(&Tensor::i64_vector(vec![1, 2]), 1, 2).is_err());
        assert_eq!(small.fingerprint().unwrap(), all.fingerprint().unwrap());
    }
}
