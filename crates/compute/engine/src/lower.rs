//! Lowering of a graph to a list of steps: what is needed is kept, adjacent operators are fused.

use std::collections::HashMap;

use slq_graph::Graph;
use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_kernels::conv::Post;

use crate::error::EngineError;
use crate::options::Loss;
use crate::packed::PackedWeight;
use crate::program::{Ends, Mode, Operand, Program, Source, Step};
use crate::trace::trace;

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
    read_turned(&mut program);
    prune(&mut program, &keep);
    if mode == Mode::Evaluate {
        fold_batch_norm(&mut program, &keep);
    }
    fuse_residuals(&mut program, &keep, mode);
    fuse_activations(&mut program, &keep);
    Ok(program)
}

/// Has a product read the matrix behind a `Transpose` on its right as it is stored.
fn read_turned(program: &mut Program) {
    let mut turned: HashMap<usize, Operand> = HashMap::new();
    for step in &mut program.steps {
        if let (Op::Transpose { perm }, Some(from)) = (&step.op, step.operand(0)) {
            if *perm == [1, 0] && !matches!(from.source, Source::Value(_)) {
                turned.insert(step.output, from.clone());
            }
            continue;
        }
        let (Some(left), Some(right)) = (step.operand(0).cloned(), step.operand(1)) else { continue };
        let Source::Value(value) = right.source else { continue };
        let Some(matrix) = turned.get(&value).filter(|m| right.shape.iter().rev().eq(&m.shape)) else {
            continue;
        };
        match &mut step.op {
            Op::Gemm { trans_b, .. } => *trans_b = !*trans_b,
            Op::MatMul => {
                // One matrix on the right: the stack on the left is one tall matrix, a vector a row.
                let (rows, depth, width) =
                    (left.len() / matrix.shape[1].max(1), matrix.shape[1], matrix.shape[0]);
                step.inputs[0] = Some(left.seen_as(&[rows, depth]));
                step.op = Op::Gemm { alpha: 1.0, beta: 0.0, trans_a: false, trans_b: true };
                step.shape = vec![rows, width];
            }
            _ => continue,
        }
        step.inputs[1] = Some(matrix.clone());
    }
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

/// Who computes and who reads each value.
struct Uses {
    /// How often it is read; the values to keep count as read twice, so that they are not fused away.
    readers: Vec<usize>,
    /// The step that computes it.
    makers: Vec<Option<usize>>,
}

fn uses(program: &Program, keep: &[Operand]) -> Uses {
    let mut count = vec![0; program.lens.len()];
    let mut makers = vec![None; program.lens.len()];
    program.steps.iter().enumerate().for_each(|(i, step)| makers[step.output] = Some(i));
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
    Uses { readers: count, makers }
}

/// The step, before step `at`, that writes its first input and whose output no other step reads.
fn sole_producer(program: &Program, uses: &Uses, at: usize) -> Option<usize> {
    let Source::Value(value) = program.steps[at].operand(0)?.source else { return None };
    let producer = uses.makers[value].filter(|&p| p < at)?;
    (uses.readers[value] == 1).then_some(producer)
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
    let uses = uses(program, keep);
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
            (<[usize; 4]>::try_from(parameters), sole_producer(program, &uses, at))
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
    let uses = uses(program, keep);
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
            let p = uses.makers[value].filter(|&p| p < at)?;
            let step = &program.steps[p];
            let kind = mode == Mode::Evaluate || matches!(step.op, Op::BatchNorm { .. });
            let free = step.inputs.len() <= residual_input(&step.op)? && !gone[p];
            (kind && free && uses.readers[value] == 1).then_some(p)
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
    let uses = uses(program, keep);
    let mut gone = vec![false; program.steps.len()];
    for (at, gone) in gone.iter_mut().enumerate() {
        let post = match program.steps[at].op {
            Op::Unary(UnaryOp::Relu) => Post::Relu,
            Op::Clip { min, max } if min < max => Post::Clip(min, max),
            _ => continue,
        };
        let Some(p) = sole_producer(program, &uses, at) else { continue };
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
