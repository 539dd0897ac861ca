//! Splits from LMDB databases, and databases from datasets.

mod read;
mod write;

pub use write::write_lmdb;
