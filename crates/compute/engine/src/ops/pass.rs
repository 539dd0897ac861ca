//! The tensors of a layer during a forward and a backward pass.

use slq_graph::Graph;
use slq_kernels::reduce::axpy;
use slq_kernels::{Buffer, Isa, Store};

use super::place::{Place, read, weight};
use crate::share::Share;

/// A layer's view of the forward pass.
pub(crate) struct Forward<'a> {
    pub isa: Isa,
    /// The executors that take the other images of the step.
    pub share: Share<'a>,
    /// Seed and iteration.
    pub random: (u64, u64),
    pub buffers: &'a [Buffer],
    pub weights: &'a Graph,
    pub inputs: &'a [Place],
    /// The output already holds the input of `Layer::in_place`, which must not be read elsewhere.
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

/// The buffer of a gradient, taken from the plan while a layer writes it.
#[derive(Debug)]
pub(crate) struct Gradient {
    data: Buffer,
    len: usize,
    /// Whether something is there already, to be added to; only where the layer says that it can.
    pub store: Store,
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
    /// Whether something is there already, to be added to.
    pub store: Store,
    /// A temporary slot: the layer writes there, and the plan adds it to `place`.
    pub detour: Option<usize>,
}

/// A layer's view of the backward pass.
pub(crate) struct Backward<'a> {
    pub isa: Isa,
    /// As in the forward pass.
    pub share: Share<'a>,
    pub buffers: &'a mut [Buffer],
    pub weights: &'a Graph,
    pub weight_gradients: &'a mut [Buffer],
    pub inputs: &'a [Place],
    pub output: Place,
    pub output_gradient: Place,
    pub gradients: &'a [Option<GradientPlace>],
    /// The gradient of input 0 shares the buffer of the output's gradient.
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
        self.take(self.output_gradient, Store::Overwrite)
    }

    /// Gives the output's gradient back. Where `in_place` is set it has become the gradient of input 0.
    pub fn put_output_gradient(&mut self, gradient: Gradient) {
        self.put(self.output_gradient, gradient);
    }

    /// The buffer for the gradient of input `i`, or `None` where it is not needed. Not for input 0 of an
    /// in-place pass.
    pub fn take_gradient(&mut self, i: usize) -> Option<Gradient> {
        let target = (*self.gradients.get(i)?)?;
        Some(match (target.detour, target.place) {
            (Some(slot), place) => {
                let len = self.len(place);
                self.take(Place::Slot { slot, len }, Store::Overwrite)
            }
            (None, place) => self.take(place, target.store),
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

    /// Runs `f(pass, dy, dx, store)` with the gradient of the output and the buffer for that of input 0, where one is
    /// needed: the backward pass of a layer with one input that does not work in place.
    pub fn input_gradient(&mut self, f: impl FnOnce(&Self, &[f32], &mut [f32], Store)) {
        let dy = self.take_output_gradient();
        if let Some(mut dx) = self.take_gradient(0) {
            let store = dx.store;
            f(self, &dy, &mut dx, store);
            self.put_gradient(0, dx);
        }
        self.put_output_gradient(dy);
    }

    /// Adds the detour of the gradient of input `i`, if there is one, to the gradient itself.
    pub fn finish_detour(&mut self, i: usize) {
        let Some(Some(GradientPlace { place, store, detour: Some(slot) })) = self.gradients.get(i).copied()
        else {
            return;
        };
        let mut sum = self.take(place, store);
        let part = &self.buffers[slot][..sum.len];
        if store.accumulates() {
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

    fn home(&mut self, place: Place) -> Option<&mut Buffer> {
        match place {
            Place::Absent => None,
            Place::Slot { slot, .. } => self.buffers.get_mut(slot),
            Place::Weight(index) => self.weight_gradients.get_mut(index),
        }
    }

    fn take(&mut self, place: Place, store: Store) -> Gradient {
        let len = self.len(place);
        let data = self.home(place).map(std::mem::take).unwrap_or_default();
        Gradient { data, len, store }
    }

    fn put(&mut self, place: Place, gradient: Gradient) {
        if let Some(home) = self.home(place) {
            *home = gradient.data;
        }
    }
}
