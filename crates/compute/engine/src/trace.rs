//! From the nodes of a graph to steps: names become indices, what only renames or reshapes disappears, and operators that are
//! made of others become several steps.

use std::collections::HashMap;

use slq_graph::infer::{Shapes, infer_shapes};
use slq_graph::op::{Op, UnaryOp};
use slq_graph::{DType, Graph, Tensor};

use crate::compose::compose;
use crate::emit::{Emit, new_value, push};
use crate::error::EngineError;
use crate::packed::PackedWeight;
use crate::program::{Mode, Operand, Program, Source};

/// A graph on its way to a program.
struct Tracer<'a> {
    graph: &'a Graph,
    shapes: &'a Shapes,
    mode: Mode,
    program: Program,
    /// What each name stands for.
    known: HashMap<&'a str, Operand>,
}

/// Follows the nodes in order and gives every value a number; nodes that only rename or reshape disappear.
pub(crate) fn trace(
    graph: &Graph,
    packed: &[PackedWeight],
    input_shapes: &[Vec<usize>],
    mode: Mode,
) -> Result<Program, EngineError> {
    let given: Vec<(&str, Vec<usize>)> =
        graph.inputs.iter().zip(input_shapes).map(|(i, s)| (i.name.as_str(), s.clone())).collect();
    let shapes = infer_shapes(graph, &given)?;
    let (program, known) = (Program::default(), HashMap::new());
    let mut tracer = Tracer { graph, shapes: &shapes, mode, program, known };
    tracer.start(packed, input_shapes);
    tracer.follow_views();
    for (index, op) in shapes.ops() {
        tracer.node(*index, op)?;
    }
    for info in &graph.outputs {
        let place = || format!("output `{}`", info.name);
        let found = tracer.operand(0, &info.name, place)?;
        tracer.program.outputs.push(found);
    }
    Ok(tracer.program)
}

impl<'a> Tracer<'a> {
    /// Inputs, weights of floats and `packed` weights.
    fn start(&mut self, packed: &[PackedWeight], input_shapes: &[Vec<usize>]) {
        for (info, shape) in self.graph.inputs.iter().zip(input_shapes) {
            let value = new_value(&mut self.program, shape);
            self.program.inputs.push(value);
            self.known.insert(&info.name, Operand { source: Source::Value(value), shape: shape.clone() });
        }
        for (index, (name, weight)) in self.graph.weights.iter().enumerate() {
            if weight.tensor.as_f32().is_some() {
                let shape = weight.tensor.shape().to_vec();
                self.known.insert(name, Operand { source: Source::Weight(index), shape });
            }
        }
        for (index, weight) in packed.iter().enumerate() {
            // Packed weights are inputs of the graph too.
            let name = self.graph.inputs.iter().find(|i| i.name == weight.name).map(|i| i.name.as_str());
            if let Some(name) = name {
                let operand = Operand { source: Source::Packed(index), shape: weight.shape.clone() };
                self.known.insert(name, operand);
            }
        }
    }

    /// Gives names to reshaped weights: the outputs of folded nodes that only rename or reshape one.
    fn follow_views(&mut self) {
        for &index in self.shapes.folded() {
            let node = &self.graph.nodes[index];
            let view =
                matches!(node.op.as_str(), "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze");
            let (Some(from), Some(to)) = (node.input(0), node.outputs.first()) else { continue };
            if let (true, Some(operand), Some(shape)) = (view, self.known.get(from), self.shapes.get(to)) {
                let operand = operand.seen_as(shape);
                self.known.insert(to, operand);
            }
        }
    }

    /// The steps of node `index`.
    fn node(&mut self, index: usize, op: &Op) -> Result<(), EngineError> {
        let node = &self.graph.nodes[index];
        let mut inputs = Vec::new();
        for i in 0..op.tensor_inputs(node.inputs.len()) {
            inputs.push(match node.input(i) {
                None => None,
                Some(name) => {
                    let place = || format!("input `{name}` of node `{}` ({})", node.name, node.op);
                    Some(self.operand(index, name, place)?)
                }
            });
        }
        let shape_of = |name: &String| self.shapes.get(name).unwrap_or_default().to_vec();
        let shapes: Vec<Vec<usize>> = node.outputs.iter().map(shape_of).collect();
        let outputs = if self.is_view(op) {
            let input = inputs.first().and_then(Option::as_ref);
            input.zip(shapes.first()).map(|(x, shape)| x.seen_as(shape)).into_iter().collect()
        } else {
            let types: Vec<Option<DType>> = node.inputs.iter().map(|name| self.shapes.dtype(name)).collect();
            let mut emit = Emit::new(&mut self.program, index, node, types);
            let outputs = compose(&mut emit, op, &inputs, &shapes)?;
            for (output, shape) in outputs.iter().zip(&shapes).filter(|(_, shape)| !shape.is_empty()) {
                // What is repeated along another input's axes must not outgrow what shape inference promised.
                emit.has_size_of(output, shape)?;
            }
            outputs
        };
        for (name, output) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
            self.check(op, name, &output);
            self.known.insert(name, output);
        }
        Ok(())
    }

    /// Whether the output of `op` is its input under another shape.
    fn is_view(&self, op: &Op) -> bool {
        match op {
            Op::Identity | Op::Flatten { .. } | Op::Reshape { .. } => true,
            Op::Dropout { ratio } => *ratio == 0.0 || !matches!(self.mode, Mode::Train(_)),
            _ => false,
        }
    }

    /// Has the step that computes the integers `name` check them.
    fn check(&mut self, op: &Op, name: &str, output: &Operand) {
        let integer = self.shapes.dtype(name).filter(|t| !t.is_float() && *t != DType::Bool);
        let computes = match op {
            Op::Unary(unary) => *unary != UnaryOp::Sign,
            Op::Binary(binary) | Op::Chain(binary) => !binary.is_test(),
            Op::Reduce { .. } | Op::CumSum { .. } | Op::Clip { .. } => true,
            _ => false,
        };
        if let (true, Some(dtype), Source::Value(value)) = (computes, integer, output.source)
            && let Some(step) = self.program.steps.iter_mut().rev().find(|s| s.output == value)
        {
            step.check = Some(dtype);
        }
    }

    /// Value `name`, read at node `node`. A constant that is no weight of floats gets a step that writes it.
    fn operand(
        &mut self,
        node: usize,
        name: &'a str,
        place: impl Fn() -> String,
    ) -> Result<Operand, EngineError> {
        if let Some(operand) = self.known.get(name) {
            return Ok(operand.clone());
        }
        let weight = self.graph.weights.get(name).map(|w| &w.tensor);
        let refuse = |found: &str| EngineError::ElementType { place: place(), found: found.into() };
        let tensor = self.shapes.constant(name).or(weight);
        let tensor = tensor.ok_or_else(|| refuse("another type, or computed from one"))?;
        let values =
            as_floats(tensor).ok_or_else(|| refuse("another type, or holds integers beyond 2^24"))?;
        let found = push(&mut self.program, node, Op::Constant { values }, Vec::new(), tensor.shape());
        self.known.insert(name, found.clone());
        Ok(found)
    }
}

/// The elements as 32-bit floats; `None` for types that are not computed with, and for integers that floats do not hold.
pub(crate) fn as_floats(tensor: &Tensor) -> Option<Vec<f32>> {
    const EXACT: i64 = 1 << 24;
    if let Some(values) = tensor.as_f32() {
        return Some(values.to_vec());
    }
    let values = tensor.to_i64()?;
    values.into_iter().map(|v| (-EXACT..=EXACT).contains(&v).then_some(v as f32)).collect()
}
