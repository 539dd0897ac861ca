//! Running a graph once, on any number of inputs.

use slq_graph::{Graph, Tensor};
use slq_kernels::Isa;

use crate::cpu::skeleton;
use crate::error::EngineError;
use crate::pass;
use crate::plan::Plan;
use crate::program::Mode;

/// Runs `graph` in inference mode on named inputs of any batch size and returns its outputs by name, in the
/// graph's order.
///
/// # Errors
/// [`EngineError::InputName`] for an input that is missing or unknown, [`EngineError::ElementType`] for one that
/// is not of floats; errors of shape inference, with node and shapes.
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
        let values = tensor.as_f32().ok_or_else(|| EngineError::ElementType {
            place: format!("input `{}`", input.name),
            found: format!("{:?}", tensor.dtype()),
        })?;
        given.push((tensor.shape().to_vec(), values));
    }
    let shapes: Vec<Vec<usize>> = given.iter().map(|(shape, _)| shape.clone()).collect();
    let frozen = vec![true; graph.weights.len()];
    let mut plan = Plan::new(&graph, &shapes, Mode::Evaluate, isa, &frozen, &[])?;
    let mut buffers = Vec::new();
    let batch = shapes.first().and_then(|s| s.first()).copied().unwrap_or(1);
    pass::grow(&mut buffers, &plan.slots, batch)?;
    plan.steps.iter_mut().for_each(|s| s.layer.refresh(&graph));
    for (i, (_, values)) in given.iter().enumerate() {
        pass::set_input(&mut buffers, &plan, i, values);
    }
    pass::forward(&mut plan, &mut buffers, &graph, isa, (0, 0));
    let named = graph.outputs.iter().zip(&plan.outputs);
    named
        .map(|(info, (place, shape))| {
            let values = pass::read(&buffers, &graph, *place).to_vec();
            Ok((info.name.clone(), Tensor::f32(shape.clone(), values)?))
        })
        .collect()
}
