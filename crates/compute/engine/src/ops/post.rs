//! Activations that a layer computes together with its own output.

use slq_kernels::Isa;
use slq_kernels::activation::{Activation, backward_in_place, forward_in_place};
use slq_kernels::conv::Post;

fn activation(post: Post) -> Option<Activation> {
    match post {
        Post::None => None,
        Post::Relu => Some(Activation::Relu),
        Post::Clip(lo, hi) => Some(Activation::Clip { lo, hi }),
    }
}

/// Whether there is anything to do.
pub(super) fn is_some(post: Post) -> bool {
    !matches!(post, Post::None)
}

/// Applies `post` to an output.
pub(super) fn forward(isa: Isa, post: Post, y: &mut [f32]) {
    if let Some(activation) = activation(post) {
        forward_in_place(isa, activation, y);
    }
}

/// Turns the gradient of the output into the gradient before `post`.
pub(super) fn backward(isa: Isa, post: Post, y: &[f32], dy: &mut [f32]) {
    if let Some(activation) = activation(post) {
        backward_in_place(isa, activation, y, dy);
    }
}
