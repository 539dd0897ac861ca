//! Weights of PyTorch checkpoints, read without running any of their code.
//!
//! A checkpoint is a pickle, a program for a small stack machine, beside raw bytes of tensors. [`read`] runs the part of
//! that machine which builds containers, numbers and strings. Where the pickle calls Python, the call is kept as data; the
//! few calls that describe tensors are understood, all others are ignored. Sizes are checked against the file before
//! anything is allocated. Both forms are read: the zip archive of PyTorch 1.6 and later, and the stream before it.
//!
//! ```no_run
//! let weights = slq_pytorch::read("resnet18.pth".as_ref())?;
//! # Ok::<(), slq_pytorch::PytorchError>(())
//! ```

#![forbid(unsafe_code)]

mod assemble;
mod error;
mod machine;
mod read;
mod stream;
mod tensors;
mod value;

pub use error::PytorchError;
pub use read::read;
