//! Low-rank approximation of matrices: singular values, and ranks by a rule.
//!
//! A matrix of rank r is the product of two thin ones. This crate finds the best such factors in the
//! least-squares sense (Eckart and Young), exactly or by a randomised method that suits large matrices and small
//! ranks, and chooses ranks. It knows nothing of networks.
//!
//! ```
//! use slq_lowrank::{RankRule, Svd};
//!
//! let matrix = [1.0f32, 2.0, 3.0, 2.0, 4.0, 6.1]; // 2 x 3, row-major; nearly rank one
//! let svd = Svd::exact(&matrix, 2, 3)?;
//! let rank = RankRule::Energy(0.99).rank(svd.singular_values(), svd.full_rank());
//! assert_eq!(rank, 1);
//! let (left, right) = svd.factors(rank); // 2 x 1 and 3 x 1
//! assert!((left[1] * right[2] - 6.1).abs() < 0.1);
//! assert!(svd.squared_error(rank) < 0.01);
//! # Ok::<(), slq_lowrank::LowRankError>(())
//! ```
//!
//! Results do not depend on the number of threads.

#![forbid(unsafe_code)]

mod error;
mod product;
mod randomised;
mod rank;
mod svd;

pub use error::LowRankError;
pub use rank::RankRule;
pub use svd::Svd;
