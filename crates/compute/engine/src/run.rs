//! Running a graph once, on any number of inputs.

use slq_graph::{DType, Graph, Tensor, TensorData};
use slq_kernels::Isa;

use crate::cpu::skeleton;
use crate::error::EngineError;
use crate::pass;
use crate::plan::Plan;
use crate::program::{Mode, as_floats};

/// Runs `graph` in inference mode on named inputs of any batch size and returns its outputs by name, in the
/// graph's order.
///
/// # Errors
/// [`EngineError::InputName`] for an input that is missing or unknown, [`EngineError::ElementType`] for one that is not of
/// the network's kind (floats of 32 bits, integers up to 2^24, Booleans), [`EngineError::Data`] for a row that a table does
/// not have; errors of shape inference, with node and shapes.
pub fn run(
    graph: &Graph,
    inputs: &[(&str, &Tensor)],
    isa: Isa,
) -> Result<Vec<(String, Tensor)>, EngineError> {
    let graph = skeleton(graph);
    if let Some((name, _)) = inputs.iter().find(|(name, _)| !graph.inputs.iter().any(|i| i.name == *name)) {
        return Err(EngineError::InputName {
            input: name.to_string(),
            problem: "not an input of the network",
        });
    }
    let mut given = Vec::with_capacity(graph.inputs.len());
    for input in &graph.inputs {
        let tensor = inputs.iter().find(|(name, _)| *name == input.name).map(|(_, t)| *t);
        let tensor =
            tensor.ok_or_else(|| EngineError::InputName { input: input.name.clone(), problem: "missing" })?;
        let problem =
            |found: String| EngineError::ElementType { place: format!("input `{}`", input.name), found };
        if tensor.dtype().is_float() != input.dtype.is_float() {
            return Err(problem(format!("{:?}, where the network takes {:?}", tensor.dtype(), input.dtype)));
        }
        let values = as_floats(tensor)
            .ok_or_else(|| problem(format!("{:?}, or holds integers beyond 2^24", tensor.dtype())))?;
        given.push((tensor.shape().to_vec(), values));
    }
    let shapes: Vec<Vec<usize>> = given.iter().map(|(shape, _)| shape.clone()).collect();
    let frozen = vec![true; graph.weights.len()];
    let mut plan = Plan::new(&graph, &shapes, Mode::Evaluate, isa, &frozen, &[])?;
    let mut buffers = Vec::new();
    pass::grow(&mut buffers, &plan.slots);
    plan.steps.iter_mut().for_each(|s| s.layer.refresh(&graph));
    for (i, (_, values)) in given.iter().enumerate() {
        pass::set_input(&mut buffers, &plan, i, values);
    }
    pass::forward(&mut plan, &mut buffers, &graph, isa, (0, 0))?;
    let named = graph.outputs.iter().zip(&plan.outputs);
    named
        .map(|(info, (place, shape))| {
            let values = pass::read(&buffers, &graph, *place).to_vec();
            Ok((info.name.clone(), typed(info.dtype, shape.clone(), values)?))
        })
        .collect()
}

/// A tensor of the type that the network declares for an output: integers and Booleans are floats inside.
fn typed(dtype: DType, shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor, EngineError> {
    let data = match dtype {
        DType::I64 => TensorData::I64(values.iter().map(|&v| v as i64).collect()),
        DType::I32 => TensorData::I32(values.iter().map(|&v| v as i32).collect()),
        DType::Bool => TensorData::Bool(values.iter().map(|&v| v != 0.0).collect()),
        _ => TensorData::F32(values),
    };
    Ok(Tensor::new(shape, data)?)
}
