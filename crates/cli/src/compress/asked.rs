//! From flags to what the library calls [`Asked`]. The flags of all methods form one table of settings by name.

use serde_json::{Map, Value};
use slq::jobs::{Asked, Lengths, Preset};
use slq::{Budget, Error, Length};

use super::flags::Flags;

/// What the flags ask for.
///
/// # Errors
/// [`Error::Argument`] for flags that are no settings.
pub(super) fn asked(flags: &Flags) -> Result<Asked, Error> {
    let (given, rounds) = (&flags.quantize, &flags.rounds);
    let preset = given.ternary.then_some(Preset::Ternary);
    Ok(Asked {
        method: given.method,
        preset: preset.or(given.published.then_some(Preset::Published)),
        bits: given.bits,
        codebook_size: given.codebook_size,
        granularity: given.granularity,
        layers: given.layers.clone(),
        cluster_weights: given.cluster_weights,
        no_correction: given.no_correction,
        partition_images: given.partition_images,
        budget: flags.budget.target_size.or(flags.budget.max_drop.map(Budget::Drop)),
        lengths: Lengths {
            effort: rounds.effort.map(Into::into),
            fine_tune_epochs: rounds.fine_tune_epochs,
            round: length(rounds.epochs_per_round, rounds.iterations_per_round),
            tune: length(rounds.tune_epochs, rounds.tune_iterations),
            tune_rate: rounds.tune_lr,
        },
        settings: settings(flags)?,
    })
}

/// The given flags of all methods, and of training, as settings by name.
fn settings(flags: &Flags) -> Result<Map<String, Value>, Error> {
    let mut table = Map::new();
    let mut add = |flags: Result<Value, serde_json::Error>| -> Result<(), Error> {
        let flags = flags.map_err(|e| Error::Argument(e.to_string()))?;
        let Value::Object(fields) = flags else { return Ok(()) };
        table.extend(fields.into_iter().filter(|(_, v)| !v.is_null()));
        Ok(())
    };
    add(serde_json::to_value(&flags.cluster))?;
    add(serde_json::to_value(&flags.slq))?;
    add(serde_json::to_value(&flags.mlq))?;
    add(serde_json::to_value(&flags.inq))?;
    add(serde_json::to_value(&flags.calibrate))?;
    add(serde_json::to_value(&flags.prune))?;
    table.extend(flags.training.table());
    Ok(table)
}

/// A length in epochs or steps.
pub(crate) fn length(epochs: Option<f64>, steps: Option<u64>) -> Option<Length> {
    epochs.map(Length::Epochs).or(steps.map(Length::Iterations))
}
