//! Recurrent layers: one step computes all outputs, which are slices of what it writes.

use slq_graph::op::{Op, Recurrent};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

pub(super) fn recurrent(
    emit: &mut Emit,
    op: &Recurrent,
    inputs: &[Option<Operand>],
    shapes: &[Vec<usize>],
) -> Result<Vec<Operand>, EngineError> {
    let mut inputs = inputs.to_vec();
    inputs.resize(8, None);
    // Lengths are settings of the layer.
    inputs[4] = None;
    if op.batch_first {
        for i in [0, 5, 6] {
            inputs[i] = inputs[i].take().map(|x| emit.transpose(&x, &[1, 0, 2]));
        }
    }
    let data = inputs[0].as_ref().map(|x| x.shape.clone()).unwrap_or_default();
    let &[steps, batch, _] = data.as_slice() else {
        return Err(emit.unsupported("its data have not three axes"));
    };
    let (directions, hidden) = (op.reverse.len(), op.hidden);
    let state = directions * batch * hidden;
    let plain = Recurrent { batch_first: false, ..op.clone() };
    let all = emit.step(Op::Recurrent(plain), inputs, &[steps * state + 2 * state]);
    let mut outputs = Vec::with_capacity(3);
    for which in 0..shapes.len().min(3) {
        let (start, count) =
            if which == 0 { (0, steps * state) } else { ((steps + which - 1) * state, state) };
        let part = emit.slice(&all, 0, [start, count, 1]);
        outputs.push(match (which, op.batch_first) {
            (0, false) => part.seen_as(&[steps, directions, batch, hidden]),
            (0, true) => emit.transpose(&part.seen_as(&[steps, directions, batch, hidden]), &[2, 0, 1, 3]),
            (_, false) => part.seen_as(&[directions, batch, hidden]),
            (_, true) => emit.transpose(&part.seen_as(&[directions, batch, hidden]), &[1, 0, 2]),
        });
    }
    Ok(outputs)
}
