//! The `.slq` container: palettized networks at the entropy of their codes.
//!
//! A `.slq` file holds a whole [`Graph`](slq_graph::Graph) and gives it back bit for bit: nodes, metadata, weights and
//! their palettes. Codes are entropy-coded, values are split into byte planes, everything has a checksum, and any
//! weight can be read alone. The layout has its own page, `docs/slq-format.md`.
//!
//! ```
//! use slq_graph::{Graph, Node, Palette, Tensor, Weight};
//! use slq_pack::{Reader, WriteOptions, write_bytes};
//!
//! // A layer whose weights are 0.5, 0 and -0.5, mostly 0.
//! let codes: Vec<u8> = (0..6000u32).map(|i| if i % 7 == 0 { (i % 3) as u8 } else { 1 }).collect();
//! let palette = Palette::fully_fixed(vec![-0.5, 0.0, 0.5], 1, codes)?;
//! let tensor = Tensor::f32(vec![60, 100], palette.decode())?;
//! let mut graph = Graph::default();
//! graph.weights.insert("w".into(), Weight { palette: Some(palette), ..tensor.into() });
//! graph.nodes.push(Node::new("fc", "Gemm", &["x", "w"], &["y"]));
//!
//! let packed = write_bytes(&graph, &WriteOptions::default())?;
//! assert!(packed.bytes.len() < 6000 * 2 / 8); // two bits a weight would take more
//!
//! let reader = Reader::from_bytes(&packed.bytes)?; // reads header and network, no weight
//! assert_eq!(reader.network().nodes[0].op, "Gemm");
//! assert_eq!(reader.weight("w")?, graph.weights["w"]);
//! assert_eq!(reader.graph()?, graph);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to | see |
//! |---|---|
//! | write and read files by path | [`write()`], [`read`], [`open`] (feature `file`, on by default) |
//! | write to and read from memory | [`write_bytes`], [`Reader::from_bytes`] |
//! | read from any seekable stream | [`Reader::from_stream`], [`Reader::open`] with a [`Source`] |
//! | look at the network, list the weights | [`Reader::network`], [`Reader::weights`] |
//! | decode one weight | [`Reader::weight`] |
//! | keep codes as codes, block by block, in several threads | [`Reader::codes`], [`PackedCodes`] |
//! | trade size for the speed of reading | [`Effort`] |
//! | store float parameters in 16 or 8 bits | [`FloatStorage`] |
//! | know what takes how many bytes, and what was left out | [`Report`], [`Note`] |
//! | be sure of a file before it is used | [`Reader::verify`] |
//!
//! # Trust
//!
//! Files may come from anywhere. Lengths, counts, shapes, tables and ends of streams are checked; an error names
//! section and offset; nothing is allocated that the file's size does not justify, see [`MAX_EXPANSION`]. A file of a
//! later format version is refused with the version of slq that reads it.
//!
//! # How codes are coded
//!
//! By the shortest of three methods: packed bits; one frequency table for the weight and `constriction`'s rANS coder in
//! four lanes, some 300 million codes a second on one core; or an adaptive model that mixes contexts and makes binary decisions
//! for the same coder, 25 to 30 million decisions a second (one to nine for each code). The last is used where it saves at least one
//! per cent, and only as far as [`Effort`] allows.

#![forbid(unsafe_code)]

mod bytes;
mod codebook;
mod codes;
mod dictionary;
mod entropy;
mod error;
#[cfg(feature = "file")]
mod file;
mod header;
mod network;
mod order;
mod piece;
mod planes;
mod reader;
mod report;
mod rounding;
mod source;
mod values;
#[cfg(any(test, feature = "file"))]
mod verify;
mod writer;

pub use codes::PackedCodes;
pub use error::{Fault, Place, SlqError};
#[cfg(feature = "file")]
pub use file::{open, read, write};
pub use header::FORMAT_VERSION;
pub use network::{Form, WeightInfo};
pub use piece::Effort;
pub use reader::Reader;
pub use report::{Note, Report, SectionReport};
pub use rounding::{FloatStorage, RoundingError};
pub use source::{InMemory, Seekable, Source};
pub use writer::{Packed, WriteOptions, write_bytes};

/// Bytes of memory that the content of a file may take, for each byte of the file.
///
/// About the ratio that DEFLATE can reach. A file that declares more is refused before anything of that size is
/// allocated; the writer fills up the files of networks that are almost constant.
pub const MAX_EXPANSION: u64 = 1024;
