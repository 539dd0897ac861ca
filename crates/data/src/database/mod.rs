//! Caffe's databases as splits, and datasets as databases.

mod read;
mod write;

pub use write::write_lmdb;
