//! What kernels and engine use of rayon; under WebAssembly, where there is one thread, the same names run one item after the
//! other. No sum depends on how work is split, so results are the same. A module for browsers is a sixth smaller without rayon.

#[cfg(not(target_arch = "wasm32"))]
pub use rayon::{current_num_threads, join, prelude};

#[cfg(any(target_arch = "wasm32", test))]
mod serial;

#[cfg(target_arch = "wasm32")]
pub use serial::{current_num_threads, enter, join, prelude};

/// Runs `work` on a thread of the current pool and waits. Whatever it splits is then shared out from there; from outside, each
/// call would be handed over and waited for, which takes longer than a small product.
#[cfg(not(target_arch = "wasm32"))]
pub fn enter<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
