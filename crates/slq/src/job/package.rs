//! What a Core ML package cannot hold, found before the work.

use slq_compress::{Recipe, Stage, select_layers};
use slq_coreml::CoremlError;
use slq_graph::bits_for;

use crate::Error;
use crate::model::Model;
use crate::save::SaveOptions;

/// Checks that the network that `recipe` makes of `model` can be a Core ML package: operators, shapes, and the widths of codes.
///
/// # Errors
/// [`Error::Coreml`], naming all nodes or all layers; [`Error::Argument`] for a budget that may choose any width;
/// [`Error::Compress`] for layers that cannot be selected.
pub fn check(model: &Model, recipe: &Recipe, save: &SaveOptions) -> Result<(), Error> {
    let graph = model.clone().for_use();
    let options = save.coreml();
    let last =
        recipe.stages.iter().rev().find_map(|s| if let Stage::Quantize(q) = s { Some(q) } else { None });
    // Palettes that the model has are replaced by those of the job.
    let operators = slq_coreml::WriteOptions { dense: save.dense || last.is_some(), ..options };
    slq_coreml::check(&graph, &operators)?;
    let Some(settings) = last.filter(|_| !options.dense && options.widths == slq_coreml::Widths::Exact)
    else {
        return Ok(());
    };
    if settings.budget.is_some() {
        let reason = "a budget may choose 5 or 7 bits, which a Core ML package does not have: add --round-up-widths \
                      (stored as 6 and 8 bits), or give --bits instead";
        return Err(Error::Argument(reason.into()));
    }
    let weights: Vec<(String, u8)> = select_layers(&graph, settings)?
        .into_iter()
        .map(|layer| (layer.weight, bits_for(layer.size)))
        .filter(|&(_, bits)| slq_coreml::width(bits) != bits)
        .collect();
    if weights.is_empty() { Ok(()) } else { Err(CoremlError::Widths { weights }.into()) }
}
