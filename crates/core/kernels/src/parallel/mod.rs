//! Work that is shared out over threads. No sum depends on how it is split, so results are the same on any number of threads.
//!
//! [`each`] and [`parts`] serve the loops of a pass, whose threads stay awake for the next ([`enter`]); clustering uses rayon's
//! iterators. Under WebAssembly, where there is one thread, the same names run one item after the other: a module for browsers is
//! a sixth smaller without rayon.

mod split;
#[cfg(not(target_arch = "wasm32"))]
mod team;
#[cfg(not(target_arch = "wasm32"))]
mod threads;

#[cfg(any(target_arch = "wasm32", test))]
mod serial;

pub use split::{Chunks, ChunksMut, Split, chunks, chunks_mut};
#[cfg(not(target_arch = "wasm32"))]
pub use threads::{current_num_threads, each, enter, join, prelude};

#[cfg(target_arch = "wasm32")]
pub use serial::{current_num_threads, each, enter, join, prelude};

/// Runs `f(i, part i)` for all parts, at least `least` of them to an item.
pub fn parts<S: Split>(split: S, least: usize, f: impl Fn(usize, S::Part) + Sync + Send) {
    let (count, least) = (split.count(), least.max(1));
    each(count.div_ceil(least), |item| {
        for i in item * least..count.min((item + 1) * least) {
            // SAFETY: each part is below the count, and belongs to one item.
            f(i, unsafe { split.part(i) });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_run_once() {
        for (len, size, least) in [(0, 3, 1), (7, 3, 1), (100, 1, 8), (100, 7, 100), (5, 0, 0)] {
            let (mut to, from): (Vec<usize>, Vec<usize>) = (vec![0; len], (0..len).collect());
            let pair = (chunks_mut(&mut to, size), chunks(&from, size));
            parts(pair, least, |i, (to, from)| {
                to.iter_mut().zip(from).for_each(|(to, &from)| *to += 1000 * i + from);
            });
            for (i, &v) in to.iter().enumerate() {
                assert_eq!(v, i / size.max(1) * 1000 + i);
            }
        }
    }
}
