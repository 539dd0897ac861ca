//! What a user asks of a compression, by flags or by arguments, and the stages that it means (docs/defaults.md).

mod request;
mod settings;
mod stages;

pub use request::{Asked, Lengths, Preset};
pub use settings::setting_names;
pub use stages::{Known, stages};
