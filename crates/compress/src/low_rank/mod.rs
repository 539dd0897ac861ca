//! Low-rank decomposition: layers split into thin ones, after training at low rank or without any
//! (docs/low-rank.md).

mod decompose;
mod layer;
mod plan;
mod report;
mod scheme;
mod settings;
mod split;
mod trp;

#[cfg(test)]
mod exactness_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod trp_tests;

#[cfg(test)]
use decompose::Decomposed;
pub(crate) use decompose::{Keepers, decompose};
pub(crate) use layer::check_layers;
pub use layer::{Cost, network_cost};
pub use report::{Change, DecomposeReport, FactorReport, Flops, LayerRank, TrpReport, WholeLayer};
pub use scheme::Scheme;
pub use settings::{Decompose, RankChoice, RankOverride, RankRuleFor, TrpSettings};
