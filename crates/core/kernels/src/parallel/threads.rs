//! Items on the threads of the current rayon pool.

use prelude::*;

use super::team;

pub use rayon::{current_num_threads, join, prelude};

/// Runs `f(0..items)`, in parallel where there are several.
pub fn each(items: usize, f: impl Fn(usize) + Sync + Send) {
    if items <= 1 {
        (0..items).for_each(f);
    } else if !team::run(items, &f) {
        (0..items).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Runs `work`, a pass of many loops; threads of the current pool stay awake for its loops, and a while longer for the next pass.
pub fn enter<R>(work: impl FnOnce() -> R) -> R {
    team::lead(work)
}
