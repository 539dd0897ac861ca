//! The inputs of a network, batch by batch.
//!
//! A batch is given to an executor example by example; an example is all its inputs one after the other, in the graph's
//! order. For a network with one input that is the input's tensor as it is.

use slq_graph::{DType, Dim, Graph, Tensor};

use crate::error::EngineError;
use crate::trace::as_floats;

/// One input of a network, without the batch axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputInfo {
    /// Its name.
    pub name: String,
    /// Type of its elements; inside, all of them are 32-bit floats.
    pub dtype: DType,
    /// Shape of one example.
    pub shape: Vec<usize>,
}

impl InputInfo {
    /// Values of one example.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The inputs of `graph`; makes their batch axes symbolic.
///
/// # Errors
/// [`EngineError::InputCount`] for none, [`EngineError::OpenShape`], [`EngineError::ElementType`].
pub(crate) fn inputs(graph: &mut Graph) -> Result<Vec<InputInfo>, EngineError> {
    if graph.inputs.is_empty() {
        return Err(EngineError::InputCount { count: 0 });
    }
    let mut found = Vec::with_capacity(graph.inputs.len());
    for input in &mut graph.inputs {
        if !matches!(input.dtype, DType::F32 | DType::I64 | DType::I32 | DType::Bool) {
            let (place, found) = (format!("input `{}`", input.name), format!("{:?}", input.dtype));
            return Err(EngineError::ElementType { place, found });
        }
        let open = |declared: String| EngineError::OpenShape { input: input.name.clone(), declared };
        let dims = input.shape.as_mut().filter(|dims| !dims.is_empty());
        let Some(dims) = dims else { return Err(open("of unknown rank, or without a batch axis".into())) };
        let shape: Option<Vec<usize>> =
            dims[1..].iter().map(|d| if let Dim::Known(n) = d { Some(*n) } else { None }).collect();
        let Some(shape) = shape else { return Err(open(format!("{dims:?}"))) };
        dims[0] = Dim::Symbol("N".into());
        found.push(InputInfo { name: input.name.clone(), dtype: input.dtype, shape });
    }
    Ok(found)
}

/// Examples from named tensors, whose first axes count them, in any order.
///
/// # Errors
/// [`EngineError::InputName`] for a tensor that is missing or unknown, [`EngineError::ElementType`] for another kind of
/// elements and for integers beyond 2^24, [`EngineError::InputShape`] for another shape or number of examples.
pub fn examples(inputs: &[InputInfo], tensors: &[(&str, &Tensor)]) -> Result<Vec<f32>, EngineError> {
    if let Some((name, _)) = tensors.iter().find(|(name, _)| !inputs.iter().any(|i| i.name == *name)) {
        return Err(EngineError::InputName { input: (*name).into(), problem: "not an input of the network" });
    }
    let mut parts = Vec::with_capacity(inputs.len());
    let mut count = None;
    for input in inputs {
        let tensor = tensors.iter().find(|(name, _)| *name == input.name).map(|(_, t)| *t);
        let tensor =
            tensor.ok_or_else(|| EngineError::InputName { input: input.name.clone(), problem: "missing" })?;
        let fits = tensor.shape().get(1..) == Some(&input.shape);
        let first = *count.get_or_insert(tensor.shape().first().copied().unwrap_or(0));
        if !fits || tensor.shape().first() != Some(&first) {
            let wanted = [&[first], input.shape.as_slice()].concat();
            let (input, found) = (input.name.clone(), tensor.shape().to_vec());
            return Err(EngineError::InputShape { input, found, wanted });
        }
        parts.push(values(input, tensor)?);
    }
    Ok(interleave(&parts, inputs, count.unwrap_or(0)))
}

/// The elements of a tensor for `input` as floats.
fn values(input: &InputInfo, tensor: &Tensor) -> Result<Vec<f32>, EngineError> {
    let problem =
        |found: String| EngineError::ElementType { place: format!("input `{}`", input.name), found };
    if tensor.dtype().is_float() != input.dtype.is_float() {
        return Err(problem(format!("{:?}, where the network takes {:?}", tensor.dtype(), input.dtype)));
    }
    as_floats(tensor).ok_or_else(|| problem(format!("{:?}, or holds integers beyond 2^24", tensor.dtype())))
}

fn interleave(parts: &[Vec<f32>], inputs: &[InputInfo], count: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(parts.iter().map(Vec::len).sum());
    for example in 0..count {
        for (part, input) in parts.iter().zip(inputs) {
            let len = input.values();
            all.extend_from_slice(&part[example * len..][..len]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<InputInfo> {
        let input = |name: &str, dtype, shape: &[usize]| InputInfo {
            name: name.into(),
            dtype,
            shape: shape.to_vec(),
        };
        vec![input("ids", DType::I64, &[2]), input("scale", DType::F32, &[])]
    }

    #[test]
    fn an_example_is_its_inputs_one_after_the_other() {
        let ids = Tensor::new(vec![2, 2], slq_graph::TensorData::I64(vec![1, 2, 3, 4])).unwrap();
        let scale = Tensor::f32(vec![2], vec![0.5, 0.25]).unwrap();
        let found = examples(&two(), &[("scale", &scale), ("ids", &ids)]).unwrap();
        assert_eq!(found, [1.0, 2.0, 0.5, 3.0, 4.0, 0.25]);
    }

    #[test]
    fn tensors_that_do_not_fit_are_named() {
        let ids = Tensor::new(vec![2, 2], slq_graph::TensorData::I64(vec![1, 2, 3, 4])).unwrap();
        let large = Tensor::new(vec![2, 2], slq_graph::TensorData::I64(vec![1, 1 << 25, 3, 4])).unwrap();
        let [scale, short] = [2, 1].map(|n| Tensor::f32(vec![n], vec![0.5; n]).unwrap());
        let floats = Tensor::f32(vec![2, 2], vec![0.5; 4]).unwrap();
        for (given, word) in [
            (vec![("ids", &ids)], "`scale` is missing"),
            (vec![("ids", &ids), ("scale", &scale), ("x", &scale)], "`x` is not an input"),
            (vec![("ids", &ids), ("scale", &short)], "`scale` is [1]"),
            (vec![("ids", &floats), ("scale", &scale)], "takes I64"),
            (vec![("ids", &large), ("scale", &scale)], "2^24"),
        ] {
            let said = examples(&two(), &given).unwrap_err().to_string();
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
