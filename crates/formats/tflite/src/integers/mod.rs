//! From floats to integers of 8 bits: activations, inputs and outputs by their measured ranges, weights and tables by their
//! largest values, biases of 32 bits.
//!
//! The arithmetic is that of TensorFlow Lite's quantization specification: activations have a scale and a zero point, weights
//! lie about zero with one scale or one for each output channel, and a bias has the scale of its input times that of its weight.

mod operators;
mod rewrite;
mod scale;
mod scales;
mod weights;

use crate::error::TfliteError;
use crate::model::ModelDef;
use crate::ranges::Ranges;
use crate::report::Report;

/// `model`, whose activations are floats, with integers.
///
/// # Errors
/// [`TfliteError::NoRange`] for a value whose range is not known.
pub(crate) fn integers(
    model: &ModelDef,
    ranges: &Ranges,
    report: &mut Report,
) -> Result<ModelDef, TfliteError> {
    let scales = scales::scales(model, ranges)?;
    rewrite::rewrite(model, &scales, ranges.inputs, report)
}
