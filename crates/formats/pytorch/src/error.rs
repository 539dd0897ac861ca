//! What can be wrong with a checkpoint.

use std::path::PathBuf;

/// Why a checkpoint could not be read. Each variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PytorchError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither a zip archive of PyTorch nor its older stream.
    #[error("{}: it is no PyTorch checkpoint: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The pickle is damaged, or uses what no checkpoint of tensors needs.
    #[error("{}: the pickle cannot be read at byte {offset}: {reason}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Byte of the pickle.
        offset: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A tensor that its storage does not hold, or of a type that is not known.
    #[error("{}: tensor `{tensor}`: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No tensor at all.
    #[error("{}: it holds no tensors{}", path.display(), if *module {
        ": a whole module was saved, whose code slq does not run; save its state_dict() instead"
    } else { "" })]
    Empty {
        /// The file.
        path: PathBuf,
        /// Whether it holds a module instead.
        module: bool,
    },
}
