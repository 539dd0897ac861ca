//! Bias, activation and store of a sum.

use std::ops::Range;

use super::geometry::Post;
use crate::Store;

/// The bias is added to a sum, then the old output where `store` says so; the result is clamped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish<'a> {
    /// One value for each output channel.
    pub bias: Option<&'a [f32]>,
    /// Lower and upper bound.
    pub bounds: (f32, f32),
    pub store: Store,
}

impl<'a> Finish<'a> {
    pub(super) fn new(bias: Option<&'a [f32]>, post: Post, store: Store) -> Self {
        Finish { bias, bounds: post.bounds(), store }
    }

    /// Neither bias nor clamping: how gradients are stored.
    pub(super) fn gradient(store: Store) -> Self {
        Finish::new(None, Post::None, store)
    }

    /// The same for some of the channels.
    pub(super) fn of(self, channels: Range<usize>) -> Self {
        Finish { bias: self.bias.map(|b| &b[channels]), ..self }
    }
}
