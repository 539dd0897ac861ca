//! The thread pool. A process that was forked has none of its parent's threads: it gets a pool of its own, where it would
//! otherwise wait for ever.

use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The process that loaded the module, whose pool is the global one.
static LOADED_IN: OnceLock<u32> = OnceLock::new();
/// The pool of a forked process.
static FORKED: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Notes which process has the global pool.
pub(crate) fn loaded() {
    LOADED_IN.get_or_init(process::id);
}

/// Runs `work` where its parallel parts find living threads.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> Result<T, slq::Error> + Send) -> Result<T, slq::Error> {
    let here = process::id();
    if LOADED_IN.get() == Some(&here) {
        return work();
    }
    pool(here)?.install(work)
}

fn pool(process: u32) -> Result<Arc<ThreadPool>, slq::Error> {
    let mut kept = FORKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, pool)) = &*kept
        && *owner == process
    {
        return Ok(Arc::clone(pool));
    }
    let fail = |e| slq::Error::Argument(format!("no threads could be started in the forked process: {e}"));
    let pool = Arc::new(ThreadPoolBuilder::new().build().map_err(fail)?);
    // The pool of a parent that was forked itself has no threads here that could end.
    std::mem::forget(kept.replace((process, Arc::clone(&pool))));
    Ok(pool)
}
