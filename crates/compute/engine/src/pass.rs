//! Execution of a plan: forward and backward pass.

use slq_graph::Graph;
use slq_kernels::parallel::enter;
use slq_kernels::{Buffer, Isa};

use crate::error::EngineError;
use crate::memory;
use crate::ops::{self, Backward, Forward, Place};
use crate::plan::Plan;
use crate::share::Share;

/// Makes every buffer at least as long as its slot, for a batch of `batch` images.
///
/// # Errors
/// [`EngineError::Memory`].
pub(crate) fn grow(buffers: &mut Vec<Buffer>, slots: &[usize], batch: usize) -> Result<(), EngineError> {
    if buffers.len() < slots.len() {
        buffers.resize_with(slots.len(), Buffer::default);
    }
    let short = buffers.iter().zip(slots).filter(|(b, len)| b.len() < **len);
    let bytes = short.fold(0usize, |sum, (b, len)| sum.saturating_add(4 * (len - b.len())));
    memory::check_free(batch, bytes)?;
    buffers.iter_mut().zip(slots).try_for_each(|(buffer, &len)| memory::grow(buffer, len, batch))
}

/// The values at `place`.
pub(crate) fn read<'a>(buffers: &'a [Buffer], weights: &'a Graph, place: Place) -> &'a [f32] {
    ops::read(buffers, weights, place)
}

/// Copies `values` into input `i` of the plan.
pub(crate) fn set_input(buffers: &mut [Buffer], plan: &Plan, i: usize, values: &[f32]) {
    if let Some(Place::Slot { slot, len }) = plan.inputs.get(i) {
        buffers[*slot][..*len].copy_from_slice(values);
    }
}

/// Copies a batch into all inputs; `lens` are their values in an example, `examples` holds these one after the other.
pub(crate) fn set_inputs(buffers: &mut [Buffer], plan: &Plan, lens: &[usize], examples: &[f32]) {
    if lens.len() == 1 {
        return set_input(buffers, plan, 0, examples);
    }
    let (whole, mut first) = (lens.iter().sum::<usize>().max(1), 0);
    for (place, &len) in plan.inputs.iter().zip(lens) {
        if let Place::Slot { slot, len: all } = *place
            && len > 0
        {
            let rows = buffers[slot][..all].chunks_exact_mut(len).zip(examples.chunks_exact(whole));
            rows.for_each(|(row, example)| row.copy_from_slice(&example[first..first + len]));
        }
        first += len;
    }
}

/// Runs all layers; an error is what a layer met in its data, or another executor that is gone. `random` is the seed and the
/// iteration, for dropout; the batch is one of those that `share` reaches.
pub(crate) fn forward(
    plan: &mut Plan,
    buffers: &mut [Buffer],
    weights: &Graph,
    isa: Isa,
    random: (u64, u64),
    share: Share<'_>,
) -> Result<(), EngineError> {
    inside(share, || {
        for step in &mut plan.steps {
            let Place::Slot { slot, len } = step.output else { continue };
            let mut output = std::mem::take(&mut buffers[slot]);
            let (inputs, in_place) = (step.inputs.as_slice(), step.in_place);
            let mut pass = Forward { isa, random, share, buffers, weights, inputs, in_place };
            step.layer.forward(&mut pass, &mut output[..len]);
            buffers[slot] = output;
            if let Some(fault) = step.layer.fault() {
                return Err(fault);
            }
        }
        Ok(())
    })
}

/// Runs a pass on a thread of the pool; outside of it where layers wait for other executors, which may need that thread.
fn inside<R: Send>(share: Share<'_>, pass: impl FnOnce() -> R + Send) -> R {
    if share.is_whole() { enter(pass) } else { pass() }
}

/// What is called behind each layer of a backward pass, with its position and the gradients of all weights.
pub(crate) type AfterLayer<'a> = dyn FnMut(usize, &mut [Buffer]) -> Result<(), EngineError> + Send + 'a;

/// Runs the backward pass of all layers; the gradient of the logits has been computed.
pub(crate) fn backward(
    plan: &mut Plan,
    buffers: &mut [Buffer],
    weights: &Graph,
    weight_gradients: &mut [Buffer],
    (isa, share): (Isa, Share<'_>),
    after: &mut AfterLayer<'_>,
) -> Result<(), EngineError> {
    inside(share, || {
        for (at, step) in plan.steps.iter_mut().enumerate().rev() {
            let Some(back) = &step.backward else { continue };
            let mut pass = Backward {
                isa,
                share,
                buffers,
                weights,
                weight_gradients,
                inputs: &step.inputs,
                output: step.output,
                output_gradient: back.output_gradient,
                gradients: &back.gradients,
                in_place: back.in_place,
            };
            step.layer.backward(&mut pass);
            for i in 0..back.gradients.len() {
                pass.finish_detour(i);
            }
            if let Some(fault) = step.layer.fault() {
                return Err(fault);
            }
            after(at, weight_gradients)?;
        }
        Ok(())
    })
}
