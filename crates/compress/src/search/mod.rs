//! Budgets: the most accurate network that fits a size, or the smallest that keeps its accuracy.
//!
//! Every layer gets a width of its own ([`by_widths`]). The expected rise of the loss at a width is a slope times the squared
//! error of the layer's optimal codebook; the slopes come from measured sensitivities ([`crate::sensitivity()`]). Where a
//! calibration's codes are entropy-coded, a price on bits chooses instead ([`by_price`]). The choice itself is made on a
//! validation part of the training images; test images are for the final report alone. Trials are kept in the stage's
//! directory, and a resumed search goes on from them (docs/budgets.md).

mod approach;
mod by_price;
mod by_widths;
mod choices;
mod dir;
mod outputs;
mod report;
mod smallest;
mod tries;
mod widths;

use std::sync::OnceLock;

use slq_graph::Graph;

use crate::budget::Budget;
use crate::checkpoint::Fingerprint;
use crate::context::Context;
use crate::error::CompressError;
use crate::inputs::Origin;
use crate::progress::Observer;
use crate::quantize::outcome::Quantized;
use crate::quantize::{Quantize, Sensitivity};
use crate::size::{FileBytes, Size};
use by_price::ByPrice;
use by_widths::ByWidths;
use choices::Choices;
use dir::SearchDir;
use tries::{Tries, parts};
use widths::{LayerWidths, total_bytes};

pub(crate) use by_widths::MOST_TRIALS;
pub use report::SearchReport;
pub(crate) use tries::training_part;

/// Quantizes `graph` within a budget. [`Quantize::bits`] and [`Quantize::codebook_size`] are not read: widths are
/// chosen; rules for single layers hold. `table` re-uses sensitivities that were measured before; a budget of bytes holds for
/// the `file`.
///
/// # Errors
/// [`CompressError::Budget`] for one that cannot be kept, naming the smallest size or the smallest drop there is;
/// otherwise those of a quantization.
pub(crate) fn quantize_within(
    graph: Graph,
    settings: &Quantize,
    budget: Budget,
    (table, file): (Option<&Sensitivity>, FileBytes<'_>),
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Quantized, SearchReport), CompressError> {
    let settings = Quantize { bits: 8, codebook_size: None, ..settings.clone() };
    settings.check()?;
    if settings.needs_data() {
        context.require_data()?;
    }
    if let Budget::Drop(points) = budget
        && !(points.is_finite() && points >= 0.0)
    {
        let reason = format!("{points} is not a number of points of 0 or more");
        return Err(CompressError::Setting { name: "max-drop", reason });
    }
    let given = context.inputs.is_some_and(|i| i.origin() == Origin::Given && !i.is_empty());
    if matches!(budget, Budget::Drop(_)) && context.data.is_none() && !given {
        return Err(CompressError::NoMeasure);
    }
    let dense = Size::of(&graph).dense_bytes;
    let parts = context.data.map(|d| parts(d, context.seed)).transpose()?;
    let dir = SearchDir::open(&context, Fingerprint::new(&graph, &context, &settings)?)?;
    if let (Some(0.0), FileBytes::Coded(file)) = (settings.method.rate(), file) {
        let rises = OnceLock::new();
        let context = Context { rises: Some(&rises), ..context };
        let search = ByPrice { tries: Tries { graph, parts, settings, context, dir, observer }, file };
        return match budget.bytes(dense) {
            Some(target) => search.for_size(target, budget, table),
            None => search.for_drop(budget, table),
        };
    }
    let choices = Choices::new(&graph, &settings)?;
    let target = target(budget, dense, choices.floats + file.overhead(), &choices.layers)?;
    let mut tries = Tries { graph, parts, settings, context, dir, observer };
    let slopes = choices.slopes(&mut tries, table)?;
    let search = ByWidths { tries, choices };
    match target {
        Some(target) => search.for_size(target, budget, &slopes),
        None => search.for_drop(budget, &slopes),
    }
}

/// Bytes that the selected layers may take beside `floats` others; `None` for a budget on accuracy.
fn target(
    budget: Budget,
    dense: u64,
    floats: u64,
    layers: &[LayerWidths],
) -> Result<Option<u64>, CompressError> {
    let Some(bytes) = budget.bytes(dense) else { return Ok(None) };
    let least = floats + total_bytes(layers, &vec![0; layers.len()]);
    if bytes < least {
        let reason = format!(
            "{bytes} bytes cannot be reached: with every layer at its narrowest the network takes {least} bytes \
             ({:.1}x smaller than float); pruning (--method deep-compression -o small.slq, whose codes are stored at \
             their entropy) or fewer weights (slq decompose first) may reach it",
            dense as f64 / least as f64
        );
        return Err(CompressError::Budget { reason });
    }
    Ok(Some(bytes - floats))
}
