//! Running a graph on named inputs, any number of them.

use slq_graph::{DType, Graph, Tensor, TensorData, ValueInfo};
use slq_kernels::{Buffer, Isa};

use crate::cpu::skeleton;
use crate::error::EngineError;
use crate::packed::{PackedWeight, keep_given_inputs};
use crate::pass;
use crate::plan::{Losses, Plan};
use crate::program::Mode;
use crate::share::Share;
use crate::trace::as_floats;

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
    Session::of(graph, isa).run(inputs)
}

/// Shape and values of an input.
type Given = (Vec<usize>, Vec<f32>);

/// A network for inference on named inputs. Its plan and its buffers stay until the shape of an input changes.
pub struct Session {
    /// The network; weights that stay packed are its last inputs.
    graph: Graph,
    packed: Vec<PackedWeight>,
    isa: Isa,
    /// Shapes of the inputs, and the plan for them.
    plan: Option<(Vec<Vec<usize>>, Plan)>,
    buffers: Vec<Buffer>,
}

impl Session {
    /// A network whose weights are the floats of `graph` and those in `packed`.
    pub fn new(mut graph: Graph, packed: Vec<PackedWeight>, isa: Isa) -> Self {
        keep_given_inputs(&mut graph, &packed);
        graph.inputs.extend(packed.iter().map(PackedWeight::as_input));
        Self { graph, packed, isa, plan: None, buffers: Vec::new() }
    }

    /// A network as it is: its weights as floats, without palettes.
    pub fn of(graph: &Graph, isa: Isa) -> Self {
        Self::new(skeleton(graph), Vec::new(), isa)
    }

    /// The inputs that a caller gives.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.graph.inputs[..self.graph.inputs.len() - self.packed.len()]
    }

    /// The outputs.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.graph.outputs
    }

    /// The network: nodes, metadata, and the weights that are floats.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The weights that stay packed.
    pub fn packed(&self) -> &[PackedWeight] {
        &self.packed
    }

    /// Bytes of weights, and of the plan's buffers once it has run.
    pub fn bytes(&self) -> usize {
        let tensors = self.graph.weights.values().map(|w| w.tensor.len() * w.tensor.dtype().size());
        let buffers = self.buffers.iter().map(Buffer::bytes);
        let packed = self.packed.iter().map(|w| w.matrix.bytes());
        let layers = self.plan.as_ref().map_or(0, |(_, plan)| plan.scratch_bytes());
        tensors.chain(buffers).chain(packed).sum::<usize>() + layers
    }

    /// Runs the network; outputs by name, in the graph's order.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&mut self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>, EngineError> {
        let given = self.given(inputs)?;
        let shapes: Vec<Vec<usize>> = given.iter().map(|(shape, _)| shape.clone()).collect();
        if self.plan.as_ref().is_none_or(|(planned, _)| *planned != shapes) {
            self.plan = None;
            let frozen = vec![true; self.graph.weights.len()];
            let network = (&self.graph, self.packed.as_slice());
            let mut plan = Plan::new(network, &shapes, Mode::Evaluate, self.isa, &frozen, Losses::default())?;
            let batch = shapes.first().and_then(|s| s.first()).copied().unwrap_or(1);
            pass::grow(&mut self.buffers, &plan.slots, batch)?;
            plan.steps.iter_mut().for_each(|s| s.layer.refresh(&self.graph));
            self.plan = Some((shapes, plan));
        }
        let Some((_, plan)) = &mut self.plan else { return Ok(Vec::new()) };
        for (i, (_, values)) in given.iter().enumerate() {
            pass::set_input(&mut self.buffers, plan, i, values);
        }
        pass::forward(plan, &mut self.buffers, &self.graph, self.isa, (0, 0), Share::whole())?;
        let named = self.graph.outputs.iter().zip(&plan.outputs);
        named
            .map(|(info, (place, shape))| {
                let values = pass::read(&self.buffers, &self.graph, *place).to_vec();
                Ok((info.name.clone(), typed(info.dtype, shape.clone(), values)?))
            })
            .collect()
    }

    /// Shapes and values of all inputs, in the graph's order.
    fn given(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Given>, EngineError> {
        let fail = |input: &str, problem| EngineError::InputName { input: input.into(), problem };
        if let Some((name, _)) =
            inputs.iter().find(|(name, _)| !self.inputs().iter().any(|i| i.name == *name))
        {
            return Err(fail(name, "not an input of the network"));
        }
        let one = |input: &ValueInfo| {
            let tensor = inputs.iter().find(|(name, _)| *name == input.name).map(|(_, t)| *t);
            let tensor = tensor.ok_or_else(|| fail(&input.name, "missing"))?;
            let problem =
                |found: String| EngineError::ElementType { place: format!("input `{}`", input.name), found };
            if tensor.dtype().is_float() != input.dtype.is_float() {
                return Err(problem(format!(
                    "{:?}, where the network takes {:?}",
                    tensor.dtype(),
                    input.dtype
                )));
            }
            let values = as_floats(tensor)
                .ok_or_else(|| problem(format!("{:?}, or holds integers beyond 2^24", tensor.dtype())))?;
            Ok((tensor.shape().to_vec(), values))
        };
        self.inputs().iter().map(one).collect()
    }
}

/// A tensor of the type that the network declares for an output: integers and Booleans are floats inside.
fn typed(dtype: DType, shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor, EngineError> {
    if dtype.is_float() {
        return Ok(Tensor::new(shape, TensorData::F32(values))?);
    }
    // Whole numbers by construction: inputs are, and what is computed of them is checked.
    let integers: Vec<i64> = values.iter().map(|&v| v as i64).collect();
    let refuse = || EngineError::ElementType {
        place: "an output".into(),
        found: format!("{dtype:?}, which does not hold its values"),
    };
    Tensor::integers(shape, dtype, &integers).ok_or_else(refuse)
}
