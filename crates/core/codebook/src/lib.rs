//! One-dimensional clustering (1-D k-means) and palettes: values to codebook and codes.
//!
//! A codebook holds a few values, its centroids; every given value is replaced by the index of one of them,
//! its code. This crate finds the codebook with the least squared error, bounds the distance to the optimum, turns
//! values into packed codes and back, and keeps codebooks and codes of a tensor as a [`Palette`]. It knows nothing of
//! networks.
//!
//! ```
//! use slq_codebook::{ClusterParams, cluster, decode, pack, unpack};
//!
//! let weights = [0.11f32, -0.52, 0.09, 0.48, -0.49, 0.0, 0.51, 0.12];
//! let clustering = cluster::<u8>(&weights, &ClusterParams::new(4)?)?;
//! assert!(clustering.gap() < 1e-6); // proven optimal
//!
//! let bytes = pack(&clustering.codes, 2)?; // 8 codes of 2 bits: two bytes
//! let codes = unpack(&bytes, 2, weights.len())?;
//! let shared = decode(&codes, &clustering.codebook)?;
//! assert!(shared.iter().zip(&weights).all(|(a, b)| (a - b).abs() < 0.05));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | want | call |
//! |---|---|
//! | the optimum, constraints, other algorithms | [`cluster`], [`cluster_weighted`] with [`ClusterParams`] |
//! | one codebook per channel or group | [`cluster_groups`] |
//! | short entropy-coded codes: a price on bits | [`cluster_at_price`] |
//! | the same values again and again | [`SortedValues`] |
//! | Lloyd from given centroids, some of them fixed | [`lloyd_from`], [`SortedValues::lloyd`] |
//! | the published SLQ start | [`published_ladder`] |
//! | powers of two, even levels, INQ | [`pow2_codebook`], [`uniform_codebook`], [`inq_levels`], [`inq_assign`] |
//! | is a codebook evenly spaced? | [`even`], [`Palette::evened`] |
//! | error against the number of clusters | [`error_curve`] |
//! | codes of a given codebook, and back | [`assign`], [`decode`], [`decode_into`] |
//! | codebooks, codes and fixed values of a tensor | [`Palette`] |
//! | pack codes to their width | [`pack`], [`unpack`]; rows of eight codes: [`pack_rows`], [`unpack_rows`] |
//! | bytes and entropy | [`stored_bytes`], [`code_bytes`], [`bits_for`]; [`histogram`], [`entropy_bits`], [`coded_bits`] |

#![forbid(unsafe_code)]

mod assign;
mod cluster;
mod code;
mod curve;
mod entropy;
mod errors;
mod even;
mod exact;
mod fast;
mod groups;
mod init;
mod lloyd;
mod pack;
mod palette;
mod params;
mod priced;
mod scaled;
mod sorted;
mod structured;
mod thresholds;

pub use assign::{assign, decode, decode_into, squared_error};
pub use cluster::{Clustering, cluster, cluster_weighted, lloyd_from};
pub use code::Code;
pub use curve::error_curve;
pub use entropy::{coded_bits, entropy_bits, histogram};
pub use errors::{ClusterError, PackError, PaletteError};
pub use even::{Even, MOST_STEPS, even};
pub use groups::{cluster_groups, cluster_groups_weighted, even_groups};
pub use init::published_ladder;
pub use lloyd::LloydResult;
pub use pack::{pack, pack_rows, packed_len, rows_len, unpack, unpack_rows};
pub use palette::{HALF, Palette, SINGLE, bits_for, code_bytes, halve, is_half, stored_bytes};
pub use params::{Algorithm, ClusterParams, ClusterParamsBuilder, Init};
pub use priced::{Priced, Start, cluster_at_price};
pub use sorted::SortedValues;
pub use structured::{inq_assign, inq_levels, pow2_codebook, uniform_codebook};
