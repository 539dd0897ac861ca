//! Lowering of a graph to a list of steps: names become indices, reshapes disappear, adjacent operators are fused.

use std::collections::HashMap;

use slq_graph::infer::{Shapes, infer_shapes};
use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_graph::{Graph, Tensor, element_count};
use slq_kernels::conv::Post;
use slq_kernels::elementwise::Broadcast;

use crate::error::EngineError;
use crate::options::{BatchNormMode, Loss};
use crate::packed::PackedWeight;

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forward and backward pass with dropout; gradients of the parameters that are not fixed as a whole.
    Train(BatchNormMode),
    /// Forward and backward pass in inference mode; gradients of every parameter.
    Gradients,
    /// Forward pass in inference mode.
    Evaluate,
}

impl Mode {
    /// Whether batch-norm normalises with the batch's own statistics.
    pub fn batch_statistics(self) -> bool {
        self == Mode::Train(BatchNormMode::Train)
    }
}

/// Where an operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An activation, by number.
    Value(usize),
    /// A parameter, by its position among the graph's weights.
    Weight(usize),
    /// A weight that stays packed, by its position among these.
    Packed(usize),
}

/// A tensor as one step sees it. Two operands of one source may differ in shape (a view), never in length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand {
    pub source: Source,
    pub shape: Vec<usize>,
}

impl Operand {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One operator to compute.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Position of its node in the graph.
    pub node: usize,
    pub op: Op,
    pub inputs: Vec<Option<Operand>>,
    /// Number of the value written.
    pub output: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// A fused activation.
    pub post: Post,
    /// Scale, bias, mean and variance (weights by position) and epsilon of a batch-norm behind a convolution,
    /// to be folded into its weights.
    pub fold: Option<([usize; 4], f32)>,
}

impl Step {
    /// Input `i`, which the operator's definition requires.
    pub fn operand(&self, i: usize) -> Option<&Operand> {
        self.inputs.get(i)?.as_ref()
    }
}

/// A graph for one batch size and one purpose.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// Number of elements of each value.
    pub lens: Vec<usize>,
    pub steps: Vec<Step>,
    /// Value of each graph input, in the graph's order.
    pub inputs: Vec<usize>,
    /// The graph's outputs.
    pub outputs: Vec<Operand>,
    /// The first output, before a final softmax.
    pub logits: Option<Operand>,
    /// Further outputs with a loss, each with its position, when training.
    pub heads: Vec<(usize, Operand)>,
}

/// What is computed at the end of a network.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// The loss at the first output.
    pub first: Loss,
    /// Positions and losses of other outputs with a loss: in training or, where a network is followed, all of them, always.
    pub heads: Vec<(usize, Loss)>,
    /// Whether a network is followed: the first output has no loss of its own then.
    pub follows: bool,
}

/// Lowers `graph` for the given shapes of its inputs (in the graph's order, `packed` weights last, without shapes).
pub(crate) fn lower(
    graph: &Graph,
    packed: &[PackedWeight],
    input_shapes: &[Vec<usize>],
    mode: Mode,
    ends: &Ends,
) -> Result<Program, EngineError> {
    let mut program = trace(graph, packed, input_shapes, mode)?;
    let scores = |program: &Program, output: Operand, loss: Loss| match loss {
        Loss::SoftmaxCrossEntropy => strip_softmax(program, output),
        _ => output,
    };
    program.logits = program.outputs.first().map(|output| scores(&program, output.clone(), ends.first));
    if matches!(mode, Mode::Train(_)) || ends.follows {
        let outputs =
            ends.heads.iter().filter_map(|&(h, loss)| Some((h, program.outputs.get(h)?.clone(), loss)));
        program.heads = outputs.map(|(h, o, loss)| (h, scores(&program, o, loss))).collect();
    }
    if ends.follows && mode != Mode::Evaluate {
        program.logits = None;
    }
    let keep: Vec<Operand> = match mode {
        Mode::Evaluate => {
            let heads = program.heads.iter().map(|(_, o)| o);
            program.outputs.iter().chain(&program.logits).chain(heads).cloned().collect()
        }
        Mode::Train(_) | Mode::Gradients => {
            program.outputs.clear();
            program.logits.iter().chain(program.heads.iter().map(|(_, o)| o)).cloned().collect()
        }
    };
    prune(&mut program, &keep);
    if mode == Mode::Evaluate {
        fold_batch_norm(&mut program, &keep);
    }
    fuse_residuals(&mut program, &keep, mode);
    fuse_activations(&mut program, &keep);
    Ok(program)
}

/// Follows the nodes in order and gives every value a number; nodes that only rename or reshape disappear.
fn trace(
    graph: &Graph,
    packed: &[PackedWeight],
    input_shapes: &[Vec<usize>],
    mode: Mode,
) -> Result<Program, EngineError> {
    let given: Vec<(&str, Vec<usize>)> =
        graph.inputs.iter().zip(input_shapes).map(|(i, s)| (i.name.as_str(), s.clone())).collect();
    let shapes = infer_shapes(graph, &given)?;
    let mut program = Program::default();
    let mut known: HashMap<&str, Operand> = HashMap::new();
    for (info, shape) in graph.inputs.iter().zip(input_shapes) {
        let value = new_value(&mut program, shape);
        program.inputs.push(value);
        known.insert(&info.name, Operand { source: Source::Value(value), shape: shape.clone() });
    }
    for (index, (name, weight)) in graph.weights.iter().enumerate() {
        if weight.tensor.as_f32().is_some() {
            let operand = Operand { source: Source::Weight(index), shape: weight.tensor.shape().to_vec() };
            known.insert(name, operand);
        }
    }
    for (index, weight) in packed.iter().enumerate() {
        let operand = Operand { source: Source::Packed(index), shape: weight.shape.clone() };
        known.insert(&weight.name, operand);
    }
    follow_views(graph, &shapes, &mut known);
    for (node_index, op) in shapes.ops() {
        let node = &graph.nodes[*node_index];
        let reads = op.tensor_inputs(node.inputs.len());
        let mut inputs = Vec::with_capacity(reads);
        for i in 0..reads {
            inputs.push(match node.input(i) {
                None => None,
                Some(name) => {
                    let place = || format!("input `{name}` of node `{}` ({})", node.name, node.op);
                    Some(operand(graph, &shapes, &mut known, &mut program, (*node_index, name), place)?)
                }
            });
        }
        let view = matches!(op, Op::Identity | Op::Flatten { .. } | Op::Reshape { .. })
            || (matches!(op, Op::Dropout { .. }) && !matches!(mode, Mode::Train(_)))
            || matches!(op, Op::Dropout { ratio } if *ratio == 0.0);
        let mut start = 0;
        for (which, name) in node.outputs.iter().enumerate() {
            if name.is_empty() || (which > 0 && !matches!(op, Op::Split { .. })) {
                continue;
            }
            let shape = shapes.get(name).unwrap_or_default().to_vec();
            if let (true, Some(Some(input))) = (view, inputs.first()) {
                known.insert(name, Operand { source: input.source, shape });
                continue;
            }
            let op = match op {
                Op::Split { axis, sizes } => {
                    let size = sizes.get(which).copied().unwrap_or_default();
                    let mut ranges: Vec<(i64, i64, i64)> = shape.iter().map(|&d| (0, d as i64, 1)).collect();
                    if let Some(range) = ranges.get_mut(*axis) {
                        *range = (start as i64, (start + size) as i64, 1);
                    }
                    start += size;
                    Op::Slice { ranges }
                }
                other => other.clone(),
            };
            let output = match op {
                Op::Chain(binary) => chain(&mut program, *node_index, binary, &inputs)?,
                op => push(&mut program, *node_index, op, inputs.clone(), &shape),
            };
            known.insert(name, output);
        }
    }
    for info in &graph.outputs {
        let place = || format!("output `{}`", info.name);
        let found = operand(graph, &shapes, &mut known, &mut program, (0, &info.name), place)?;
        program.outputs.push(found);
    }
    Ok(program)
}

/// Value `name`, read at node `at.0`. A constant that is no weight of floats gets a step that writes it.
fn operand<'a>(
    graph: &'a Graph,
    shapes: &Shapes,
    known: &mut HashMap<&'a str, Operand>,
    program: &mut Program,
    at: (usize, &'a str),
    place: impl Fn() -> String,
) -> Result<Operand, EngineError> {
    let (node, name) = at;
    if let Some(operand) = known.get(name) {
        return Ok(operand.clone());
    }
    let tensor = shapes.constant(name).or_else(|| graph.weights.get(name).map(|w| &w.tensor));
    let refuse = |found: &str| EngineError::ElementType { place: place(), found: found.into() };
    let tensor = tensor.ok_or_else(|| refuse("another type, or computed from one"))?;
    let values = as_floats(tensor).ok_or_else(|| refuse("another type, or holds integers beyond 2^24"))?;
    let found = push(program, node, Op::Constant { values }, Vec::new(), tensor.shape());
    known.insert(name, found.clone());
    Ok(found)
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

/// Appends a step.
fn push(
    program: &mut Program,
    node: usize,
    op: Op,
    inputs: Vec<Option<Operand>>,
    shape: &[usize],
) -> Operand {
    let output = new_value(program, shape);
    let shape = shape.to_vec();
    program.steps.push(Step { node, op, inputs, output, shape: shape.clone(), post: Post::None, fold: None });
    Operand { source: Source::Value(output), shape }
}

/// Appends steps of two operands each, one operand after the other.
fn chain(
    program: &mut Program,
    node: usize,
    op: BinaryOp,
    inputs: &[Option<Operand>],
) -> Result<Operand, EngineError> {
    let mut operands = inputs.iter().flatten();
    let mut total =
        operands.next().cloned().unwrap_or(Operand { source: Source::Value(0), shape: Vec::new() });
    for next in operands {
        let shape = Broadcast::new(&total.shape, &next.shape).map_err(|e| EngineError::Unsupported {
            node: node.to_string(),
            op: format!("{op:?}"),
            reason: e.to_string(),
        })?;
        let inputs = vec![Some(total), Some(next.clone())];
        total = push(program, node, Op::Binary(op), inputs, shape.shape());
    }
    Ok(total)
}

/// Gives names to reshaped weights: the outputs of folded nodes that only rename or reshape one.
fn follow_views<'a>(graph: &'a Graph, shapes: &Shapes, known: &mut HashMap<&'a str, Operand>) {
    for &index in shapes.folded() {
        let node = &graph.nodes[index];
        let view = matches!(node.op.as_str(), "Identity" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze");
        let (Some(from), Some(to)) = (node.input(0), node.outputs.first()) else { continue };
        if let (true, Some(operand), Some(shape)) = (view, known.get(from), shapes.get(to)) {
            let source = operand.source;
            known.insert(to, Operand { source, shape: shape.to_vec() });
        }
    }
}

fn new_value(program: &mut Program, shape: &[usize]) -> usize {
    program.lens.push(element_count(shape).unwrap_or_default());
    program.lens.len() - 1
}

/// The operand before a softmax over the classes that ends at `output`, or `output` itself.
fn strip_softmax(program: &Program, output: Operand) -> Operand {
    let step = program.steps.iter().find(|s| Source::Value(s.output) == output.source);
    let step = step.filter(|s| softmax_runs_over_classes(s) || s.shape.last() == output.shape.last());
    match step.map(|s| (&s.op, s)) {
        Some((Op::Softmax { .. }, s)) if softmax_runs_over_classes(s) || softmax_runs_over_rows(s) => {
            s.operand(0).map_or(output.clone(), |input| Operand { source: input.source, shape: output.shape })
        }
        _ => output,
    }
}

/// Whether a softmax runs over all values of an image.
fn softmax_runs_over_classes(step: &Step) -> bool {
    let (Op::Softmax { axis, flatten, .. }, Some(input)) = (&step.op, step.operand(0)) else { return false };
    let per_image: usize = input.shape.iter().skip(1).product();
    let end = if *flatten { input.shape.len() } else { axis + 1 };
    *axis >= 1 && input.shape.get(*axis..end).map(|d| d.iter().product()) == Some(per_image)
}

/// Whether a softmax runs over the last axis alone.
fn softmax_runs_over_rows(step: &Step) -> bool {
    matches!(&step.op, Op::Softmax { axis, flatten: false, .. } if *axis >= 1 && axis + 1 == step.shape.len())
}

/// Drops steps that no operand in `keep` depends on.
fn prune(program: &mut Program, keep: &[Operand]) {
    let mut wanted = vec![false; program.lens.len()];
    let mark = |wanted: &mut Vec<bool>, o: &Operand| {
        if let Source::Value(v) = o.source {
            wanted[v] = true;
        }
    };
    keep.iter().for_each(|o| mark(&mut wanted, o));
    for step in program.steps.iter().rev() {
        if wanted[step.output] {
            step.inputs.iter().flatten().for_each(|o| mark(&mut wanted, o));
        }
    }
    program.steps.retain(|s| wanted[s.output]);
}

/// How often each value is read; those in `keep` count as read twice, so that they are not fused away.
fn readers(program: &Program, keep: &[Operand]) -> Vec<usize> {
    let mut count = vec![0; program.lens.len()];
    for operand in program.steps.iter().flat_map(|s| s.inputs.iter().flatten()) {
        if let Source::Value(v) = operand.source {
            count[v] += 1;
        }
    }
    for operand in keep {
        if let Source::Value(v) = operand.source {
            count[v] += 2;
        }
    }
    count
}

/// The step, before step `at`, that writes its first input and whose output no other step reads.
fn sole_producer(program: &Program, readers: &[usize], at: usize) -> Option<usize> {
    let Source::Value(value) = program.steps[at].operand(0)?.source else { return None };
    let producer = program.steps[..at].iter().rposition(|s| s.output == value)?;
    (readers[value] == 1).then_some(producer)
}

/// Removes the steps in `gone`, which have been fused into others.
fn splice(program: &mut Program, gone: &[bool]) {
    let mut index = 0;
    program.steps.retain(|_| {
        index += 1;
        !gone[index - 1]
    });
}

/// Folds a batch-norm whose parameters are weights into the convolution before it.
fn fold_batch_norm(program: &mut Program, keep: &[Operand]) {
    let readers = readers(program, keep);
    let mut gone = vec![false; program.steps.len()];
    for (at, gone) in gone.iter_mut().enumerate() {
        let Op::BatchNorm { epsilon, .. } = program.steps[at].op else { continue };
        let parameters: Vec<usize> = (1..5)
            .filter_map(|i| match program.steps[at].operand(i)?.source {
                Source::Weight(w) => Some(w),
                Source::Value(_) | Source::Packed(_) => None,
            })
            .collect();
        let (Ok(parameters), Some(p)) =
            (<[usize; 4]>::try_from(parameters), sole_producer(program, &readers, at))
        else {
            continue;
        };
        let conv = &program.steps[p];
        let constant = |i: usize| conv.operand(i).is_none_or(|o| !matches!(o.source, Source::Value(_)));
        if !matches!(conv.op, Op::Conv { .. }) || conv.fold.is_some() || !constant(1) || !constant(2) {
            continue;
        }
        let output = program.steps[at].output;
        program.steps[p].output = output;
        program.steps[p].fold = Some((parameters, epsilon));
        *gone = true;
    }
    splice(program, &gone);
}

/// The position of the fused residual branch among a step's inputs, if the step can add one.
pub(crate) fn residual_input(op: &Op) -> Option<usize> {
    match op {
        Op::Conv { groups: 1, .. } => Some(3),
        Op::BatchNorm { .. } => Some(5),
        _ => None,
    }
}

/// Fuses a residual addition into the batch-norm before it; in evaluation, into the convolution before it.
fn fuse_residuals(program: &mut Program, keep: &[Operand], mode: Mode) {
    let readers = readers(program, keep);
    let mut gone = vec![false; program.steps.len()];
    for at in 0..program.steps.len() {
        let add = &program.steps[at];
        let (Op::Binary(BinaryOp::Add), Some(a), Some(b)) = (&add.op, add.operand(0), add.operand(1)) else {
            continue;
        };
        let equal = a.shape == add.shape && b.shape == add.shape;
        let (Source::Value(va), Source::Value(vb)) = (a.source, b.source) else { continue };
        if !equal || va == vb {
            continue;
        }
        // Of two branches the later one: its output is the one still in the cache.
        let able = |value: usize| {
            let p = program.steps[..at].iter().rposition(|s| s.output == value)?;
            let step = &program.steps[p];
            let kind = mode == Mode::Evaluate || matches!(step.op, Op::BatchNorm { .. });
            let free = step.inputs.len() <= residual_input(&step.op)? && !gone[p];
            (kind && free && readers[value] == 1).then_some(p)
        };
        let (Some(p), other) = (match (able(va), able(vb)) {
            (pa, pb) if pa > pb => (pa, b.clone()),
            (_, pb) => (pb, a.clone()),
        }) else {
            continue;
        };
        // The sum's place in the order, where both branches are known.
        let mut fused = program.steps[p].clone();
        fused.inputs.resize(residual_input(&fused.op).unwrap_or_default(), None);
        fused.inputs.push(Some(other));
        fused.output = program.steps[at].output;
        program.steps[at] = fused;
        gone[p] = true;
    }
    splice(program, &gone);
}

/// Fuses a ReLU or Clip into the step before it.
fn fuse_activations(program: &mut Program, keep: &[Operand]) {
    let readers = readers(program, keep);
    let mut gone = vec![false; program.steps.len()];
    for (at, gone) in gone.iter_mut().enumerate() {
        let post = match program.steps[at].op {
            Op::Unary(UnaryOp::Relu) => Post::Relu,
            Op::Clip { min, max } if min < max => Post::Clip(min, max),
            _ => continue,
        };
        let Some(p) = sole_producer(program, &readers, at) else { continue };
        let step = &program.steps[p];
        let able = match step.op {
            Op::Conv { .. } | Op::Gemm { .. } | Op::BatchNorm { .. } => true,
            Op::Binary(BinaryOp::Add) => {
                step.operand(0).map(|o| &o.shape) == step.operand(1).map(|o| &o.shape)
            }
            _ => false,
        };
        if able && matches!(step.post, Post::None) {
            program.steps[p].post = post;
            program.steps[p].output = program.steps[at].output;
            *gone = true;
        }
    }
    splice(program, &gone);
}
