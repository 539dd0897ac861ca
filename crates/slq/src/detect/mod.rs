//! Detection of preprocessing: which of the usual ones a network was trained with.
//!
//! A network fed with wrong pixels often runs without an error and answers at chance. Where neither flags nor the model's
//! file say how pixels become inputs, the usual candidates are tried on a few hundred training images, and the one that the
//! network classifies best is taken, if it is clearly better than chance.

mod accuracy;
mod augmentation;
mod candidates;
mod kept;
mod preprocessing;
mod statistics;

pub use accuracy::{detect, doubt};
pub use augmentation::{Augmentation, detect_augmentation};
pub use kept::Detected;
pub use preprocessing::{Detection, Preprocessing, PreprocessingReport, PreprocessingSource};
pub use statistics::detect_by_statistics;
