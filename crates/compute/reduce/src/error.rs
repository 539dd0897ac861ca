//! Errors of communication.

/// Processes that could not exchange values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReduceError {
    /// Another process ended before the work was done.
    #[error("process {rank} of the training ended early; the run directory holds the last checkpoint")]
    Lost {
        /// Its rank.
        rank: usize,
    },
    /// The thread that talks to the others has ended, after an error or at the end.
    #[error("this process no longer talks to the other processes of the training")]
    Ended,
    /// The library below refused.
    #[error("the processes could not exchange values: {reason}")]
    Transport {
        /// What it says.
        reason: String,
    },
    /// Too large for this machine's memory.
    #[error("{bytes} bytes from another process do not fit into memory")]
    Memory {
        /// Size of the message.
        bytes: u64,
    },
}
