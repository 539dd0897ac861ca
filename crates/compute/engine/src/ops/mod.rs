//! Operators as layers: one file for each family.
//!
//! A [`Layer`] is made once, when the plan is made: it knows its geometry, and owns what it must remember
//! between its forward and its backward pass. Tensors come to it through [`Forward`] and [`Backward`].

mod activation;
mod conv;
mod dropout;
mod elementwise;
mod layout;
mod linear;
mod norm;
mod pool;
mod post;
mod reduce;
mod softmax;

use slq_graph::op::Op;
use slq_graph::{Graph, Node};
use slq_kernels::Isa;
use slq_kernels::reduce::axpy;

use crate::error::EngineError;
use crate::program::{Mode, Operand, Step};

/// What a layer is built from.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub step: &'a Step,
    pub node: &'a Node,
    pub mode: Mode,
    pub isa: Isa,
    /// Which inputs need a gradient.
    pub wants: &'a [bool],
}

impl<'a> Site<'a> {
    /// Input `i`, which the operator cannot do without.
    pub fn operand(&self, i: usize) -> Result<&'a Operand, EngineError> {
        self.step.operand(i).ok_or_else(|| self.unsupported(format!("input {i} is missing")))
    }

    /// Shape of input `i`.
    pub fn shape(&self, i: usize) -> Result<&'a [usize], EngineError> {
        self.operand(i).map(|o| o.shape.as_slice())
    }

    /// Shape of input 0 as [N, C, H, W].
    pub fn image_shape(&self) -> Result<[usize; 4], EngineError> {
        let shape = self.shape(0)?;
        shape.try_into().map_err(|_| self.unsupported(format!("data of shape {shape:?} is no N x C x H x W")))
    }

    /// Whether input `i` needs a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.wants.get(i).copied().unwrap_or(false)
    }

    /// Whether any input needs one.
    pub fn differentiates(&self) -> bool {
        self.wants.contains(&true)
    }

    pub fn unsupported(&self, reason: String) -> EngineError {
        EngineError::Unsupported { node: self.node.name.clone(), op: self.node.op.clone(), reason }
    }
}

/// Makes the layer of a step.
///
/// # Errors
/// [`EngineError::Unsupported`] for what shape inference lets through and no kernel computes.
pub(crate) fn build(
    step: &Step,
    mode: Mode,
    isa: Isa,
    wants: &[bool],
    graph: &Graph,
) -> Result<Box<dyn Layer>, EngineError> {
    let site = Site { step, node: &graph.nodes[step.node], mode, isa, wants };
    match &step.op {
        Op::Conv { window, groups } => conv::conv(site, window, *groups),
        Op::ConvTranspose { window, groups, .. } => conv::transposed(site, window, *groups),
        Op::Gemm { alpha, beta, trans_a, trans_b } => linear::gemm(site, *alpha, *beta, *trans_a, *trans_b),
        Op::MatMul => linear::matmul(site),
        Op::MaxPool { window, ceil } => pool::max(site, window, *ceil),
        Op::AveragePool { window, ceil, count_include_pad } => {
            pool::average(site, window, *ceil, *count_include_pad)
        }
        Op::GlobalAveragePool => pool::global_average(site),
        Op::GlobalMaxPool => pool::global_max(site),
        Op::BatchNorm { epsilon, momentum } => norm::batch_norm(site, *epsilon, *momentum),
        Op::Lrn { size, alpha, beta, bias } => norm::lrn(site, *size, *alpha, *beta, *bias),
        Op::Unary(unary) => activation::unary(site, *unary),
        Op::Clip { min, max } => activation::clip(*min, *max),
        Op::PRelu => activation::prelu(site),
        Op::Binary(binary) => elementwise::binary(site, *binary),
        Op::Concat { axis } => layout::concat(site, *axis),
        Op::Transpose { perm } => layout::transpose(site, perm),
        Op::Slice { ranges } => layout::slice(site, ranges),
        Op::Pad { before, after, mode } => layout::pad(site, before, after, *mode),
        Op::Reduce { reduction, axes, .. } => reduce::reduce(site, *reduction, axes),
        Op::Dropout { ratio } => dropout::dropout(site, *ratio),
        Op::Softmax { axis, flatten, log } => softmax::softmax(site, *axis, *flatten, *log),
        other => Err(site.unsupported(format!("the engine has no kernel for {other:?}"))),
    }
}

/// What a layer can do and what it needs; the plan's memory layout follows from it.
pub(crate) trait Layer: Send {
    /// Whether the backward pass reads input `i` (so that it has to be kept until then).
    fn reads_input(&self, _i: usize) -> bool {
        false
    }

    /// Whether the backward pass reads the output.
    fn reads_output(&self) -> bool {
        false
    }

    /// The input that the output may be written over; [`Forward::in_place`] then says whether it is.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// Whether the gradient of input 0 may be written over the output's gradient; [`Backward::in_place`] then
    /// says whether it is.
    fn gradient_in_place(&self) -> bool {
        false
    }

    /// Whether [`Gradient::accumulate`] is honoured for input `i`. Otherwise the plan adds up gradients itself.
    fn accumulates(&self, _i: usize) -> bool {
        false
    }

    /// Called before the first pass after parameters have changed.
    fn refresh(&mut self, _weights: &Graph) {}

    /// Computes the output.
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]);

    /// Computes the gradients that [`Backward::take_gradient`] hands out.
    fn backward(&mut self, pass: &mut Backward<'_>);

    /// Writes running statistics that the last forward pass moved; called when its step is accepted.
    fn commit(&mut self, _inputs: &[Place], _weights: &mut Graph) {}

    /// Bytes the layer itself holds.
    fn scratch_bytes(&self) -> usize {
        0
    }
}

/// Where a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// An omitted optional input.
    Absent,
    /// The first `len` values of a buffer.
    Slot { slot: usize, len: usize },
    /// A parameter, by its position among the graph's weights.
    Weight(usize),
}

/// The values of parameter `index`; empty where it is not of floats (which planning has ruled out).
pub(crate) fn weight(weights: &Graph, index: usize) -> &[f32] {
    weights.weights.get_index(index).and_then(|(_, w)| w.tensor.as_f32()).unwrap_or(&[])
}

pub(crate) fn read<'a>(buffers: &'a [Vec<f32>], weights: &'a Graph, place: Place) -> &'a [f32] {
    match place {
        Place::Absent => &[],
        Place::Slot { slot, len } => &buffers[slot][..len],
        Place::Weight(index) => weight(weights, index),
    }
}

/// A layer's view of the forward pass.
pub(crate) struct Forward<'a> {
    pub isa: Isa,
    /// Seed and iteration.
    pub random: (u64, u64),
    pub buffers: &'a [Vec<f32>],
    pub weights: &'a Graph,
    pub inputs: &'a [Place],
    /// The output already holds the input of [`Layer::in_place`], which must not be read elsewhere.
    pub in_place: bool,
}

impl Forward<'_> {
    /// Input `i`.
    pub fn input(&self, i: usize) -> &[f32] {
        read(self.buffers, self.weights, self.inputs[i])
    }

    /// Optional input `i`.
    pub fn optional(&self, i: usize) -> Option<&[f32]> {
        self.inputs.get(i).filter(|p| **p != Place::Absent).map(|_| self.input(i))
    }
}

/// A gradient to be filled in, on loan from the plan.
#[derive(Debug)]
pub(crate) struct Gradient {
    data: Vec<f32>,
    len: usize,
    /// Add to what is there; only where the layer says that it can.
    pub accumulate: bool,
}

impl std::ops::Deref for Gradient {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl std::ops::DerefMut for Gradient {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

/// Where the gradient of one input of one step goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GradientPlace {
    /// A slot, or a parameter's gradient.
    pub place: Place,
    /// Something is there already.
    pub accumulate: bool,
    /// The layer writes to this slot instead, and the plan adds it to `place`.
    pub detour: Option<usize>,
}

/// A layer's view of the backward pass.
pub(crate) struct Backward<'a> {
    pub isa: Isa,
    pub buffers: &'a mut [Vec<f32>],
    pub weights: &'a Graph,
    pub weight_gradients: &'a mut [Vec<f32>],
    pub inputs: &'a [Place],
    pub output: Place,
    pub output_gradient: Place,
    pub gradients: &'a [Option<GradientPlace>],
    /// The gradient of input 0 lives in the output's gradient.
    pub in_place: bool,
}

impl Backward<'_> {
    /// Input `i`, if the layer said that it reads it.
    pub fn input(&self, i: usize) -> &[f32] {
        read(self.buffers, self.weights, self.inputs[i])
    }

    /// The output, if the layer said that it reads it.
    pub fn output(&self) -> &[f32] {
        read(self.buffers, self.weights, self.output)
    }

    /// The gradient of the output. It may be changed, and is given back by [`Backward::put_output_gradient`].
    pub fn take_output_gradient(&mut self) -> Gradient {
        self.take(self.output_gradient, false)
    }

    /// Gives the output's gradient back. Where `in_place` is set it has become the gradient of input 0.
    pub fn put_output_gradient(&mut self, gradient: Gradient) {
        self.put(self.output_gradient, gradient);
    }

    /// The buffer for the gradient of input `i`, or `None` where nobody needs it. Not for input 0 of an
    /// in-place pass.
    pub fn take_gradient(&mut self, i: usize) -> Option<Gradient> {
        let target = (*self.gradients.get(i)?)?;
        Some(match (target.detour, target.place) {
            (Some(slot), place) => {
                let len = self.len(place);
                self.take(Place::Slot { slot, len }, false)
            }
            (None, place) => self.take(place, target.accumulate),
        })
    }

    /// Gives the gradient of input `i` back.
    pub fn put_gradient(&mut self, i: usize, gradient: Gradient) {
        let Some(Some(target)) = self.gradients.get(i) else { return };
        match target.detour {
            Some(slot) => self.put(Place::Slot { slot, len: gradient.len }, gradient),
            None => self.put(target.place, gradient),
        }
    }

    /// Adds what the layer wrote beside the gradient of input `i`, if it did, to the gradient itself.
    pub fn finish_detour(&mut self, i: usize) {
        let Some(Some(GradientPlace { place, accumulate, detour: Some(slot) })) =
            self.gradients.get(i).copied()
        else {
            return;
        };
        let mut sum = self.take(place, accumulate);
        let part = &self.buffers[slot][..sum.len];
        if accumulate {
            axpy(self.isa, 1.0, part, &mut sum);
        } else {
            sum.copy_from_slice(part);
        }
        self.put(place, sum);
    }

    fn len(&self, place: Place) -> usize {
        match place {
            Place::Absent => 0,
            Place::Slot { len, .. } => len,
            Place::Weight(index) => weight(self.weights, index).len(),
        }
    }

    fn home(&mut self, place: Place) -> Option<&mut Vec<f32>> {
        match place {
            Place::Absent => None,
            Place::Slot { slot, .. } => self.buffers.get_mut(slot),
            Place::Weight(index) => self.weight_gradients.get_mut(index),
        }
    }

    fn take(&mut self, place: Place, accumulate: bool) -> Gradient {
        let len = self.len(place);
        let data = self.home(place).map(std::mem::take).unwrap_or_default();
        Gradient { data, len, accumulate }
    }

    fn put(&mut self, place: Place, gradient: Gradient) {
        if let Some(home) = self.home(place) {
            *home = gradient.data;
        }
    }
}
