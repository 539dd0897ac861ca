//! SIGINT and SIGTERM. A job finishes the training step at hand, keeps a checkpoint and says how to go on; where no step is
//! under way the program ends at once, since what is on the disk is complete at any moment. A second signal ends the program
//! without more ado.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::common::say;
use crate::processes;

/// The signal that came; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Whether a training step, or a checkpoint behind it, is under way.
static BUSY: AtomicBool = AtomicBool::new(false);

/// A signal that comes when no step is under way, just before the next one begins, is left to the step.
const GRACE: Duration = Duration::from_millis(100);

/// Listens to the signals from now on; `how` tells the user how to go on. `None` leaves that to another process, which hears
/// the signal, too.
///
/// # Errors
/// Signals that cannot be listened to.
pub(crate) fn listen(how: Option<String>) -> Result<(), slq::Error> {
    let fail = |e: std::io::Error| slq::Error::Argument(format!("signals cannot be received: {e}"));
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&again)).map_err(fail)?;
        flag::register(signal, Arc::clone(&again)).map_err(fail)?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(fail)?;
    let wait = move || {
        let Some(signal) = signals.forever().next() else { return };
        SIGNAL.store(signal, SeqCst);
        let mut idle_since = Instant::now();
        while idle_since.elapsed() < GRACE {
            if BUSY.load(SeqCst) {
                idle_since = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        end(signal, how.as_deref())
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(fail)?;
    Ok(())
}

/// Ends the program as the signal demands, once it is said how to go on.
fn end(signal: i32, how: Option<&str>) -> ! {
    let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
    match how {
        Some(how) => say(format_args!("stopped by {name}; {how}")),
        None => processes::wait_for_the_first(),
    }
    std::process::exit(128 + signal)
}

/// Ends the program, if `error` says that a signal has stopped the job.
pub(crate) fn end_if_stopped(error: &slq::Error, how: Option<&str>) {
    let signal = SIGNAL.load(SeqCst);
    if signal != 0 && error.kind() == "interrupted" {
        end(signal, how);
    }
}

/// Whether a signal has come.
pub(crate) fn came() -> bool {
    SIGNAL.load(SeqCst) != 0
}

/// Notes whether a training step is under way.
pub(crate) fn busy(busy: bool) {
    BUSY.store(busy, SeqCst);
}
