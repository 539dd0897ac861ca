//! Codes of 1 to 8 bits, packed without gaps.
//!
//! There are two bit orders: [`pack`] puts code `i` at bits `i * bits ..`, lowest bit first; [`pack_rows`] fills rows
//! of eight codes, most significant bit first, as the palettized ONNX layout needs them.

mod check;
mod rows;
mod stream;

pub use rows::{pack_rows, rows_len, unpack_rows};
pub use stream::{pack, packed_len, unpack};
