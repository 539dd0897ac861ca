//! From keyword arguments to what the library calls [`Asked`]: the same as the program's flags, so that the same arguments make
//! the same recipe.

use pyo3::PyResult;
use serde_json::{Map, Value, json};
use slq::jobs::{Asked, Lengths, Preset};
use slq::{Budget, Length};

use crate::error::{SettingError, raised};
use crate::settings::{Settings, bad};

/// Names of the settings of a job that are not found in the tables of the methods.
const OWN: &[&str] = &[
    "ternary",
    "published",
    "bits",
    "codebook_size",
    "granularity",
    "layers",
    "cluster_weights",
    "no_correction",
    "partition_images",
    "target_size",
    "max_drop",
    "effort",
    "fine_tune_epochs",
    "tune_epochs",
    "tune_iterations",
    "tune_lr",
    "epochs_per_round",
    "iterations_per_round",
    "no_join",
    "freeze_batch_norm",
    "sync_batch_norm",
    "no_augmentation",
    "reference",
];
/// Keys of the methods' tables that have another name as a setting, or none.
const RENAMED: &[&str] =
    &["length", "join", "batch-norm", "tune-length", "heads", "penalty", "iter-size", "test-interval"];

/// The names of all settings of a quantization.
pub(crate) fn names() -> Vec<String> {
    let keys = slq::jobs::setting_names().into_iter().filter(|k| !RENAMED.contains(&k.as_str()));
    let mut names: Vec<String> =
        OWN.iter().map(|n| (*n).into()).chain(keys.map(|k| k.replace('-', "_"))).collect();
    names.sort();
    names.dedup();
    names
}

/// What the arguments that are left in `given` ask for.
pub(crate) fn asked(given: &mut Settings) -> PyResult<Asked> {
    let asked = Asked {
        method: given.take("method")?,
        preset: preset(given)?,
        bits: given.take("bits")?,
        codebook_size: given.take("codebook_size")?,
        granularity: given.take("granularity")?,
        layers: given.take("layers")?.unwrap_or_default(),
        cluster_weights: given.take("cluster_weights")?,
        no_correction: given.switch("no_correction")?,
        partition_images: given.take("partition_images")?,
        budget: budget(given)?,
        lengths: Lengths {
            effort: given.take("effort")?,
            fine_tune_epochs: given.take("fine_tune_epochs")?,
            round: length(given, "epochs_per_round", "iterations_per_round")?,
            tune: length(given, "tune_epochs", "tune_iterations")?,
            tune_rate: given.take("tune_lr")?,
        },
        settings: table(given)?,
    };
    asked.check().map_err(|e| raised(&e))?;
    Ok(asked)
}

fn preset(given: &mut Settings) -> PyResult<Option<Preset>> {
    match (given.switch("ternary")?, given.switch("published")?) {
        (true, true) => Err(bad("ternary", "it excludes published")),
        (true, false) => Ok(Some(Preset::Ternary)),
        (false, true) => Ok(Some(Preset::Published)),
        (false, false) => Ok(None),
    }
}

fn budget(given: &mut Settings) -> PyResult<Option<Budget>> {
    let (size, drop): (Option<Budget>, Option<f64>) = (given.text("target_size")?, given.take("max_drop")?);
    match (size, drop) {
        (Some(_), Some(_)) => Err(SettingError::new_err("target_size and max_drop exclude each other")),
        (size, drop) => Ok(size.or(drop.map(Budget::Drop))),
    }
}

fn length(given: &mut Settings, epochs: &str, steps: &str) -> PyResult<Option<Length>> {
    match (given.take(epochs)?, given.take(steps)?) {
        (Some(_), Some(_)) => Err(SettingError::new_err(format!("{epochs} and {steps} exclude each other"))),
        (passes, count) => Ok(passes.map(Length::Epochs).or(count.map(Length::Iterations))),
    }
}

/// The settings of methods and of training that are left, by their names in a recipe.
fn table(given: &mut Settings) -> PyResult<Map<String, Value>> {
    let mut table = Map::new();
    if given.switch("no_join")? {
        table.insert("join".into(), json!(false));
    }
    if let Some(frozen) = given.take::<bool>("freeze_batch_norm")? {
        table.insert("batch-norm".into(), json!(if frozen { "frozen" } else { "train" }));
    }
    if given.switch("sync_batch_norm")? && table.insert("batch-norm".into(), json!("sync")).is_some() {
        return Err(bad("sync_batch_norm", "it excludes freeze_batch_norm"));
    }
    // A switch that is off asks for nothing, as a flag that is not given.
    let asks = |(_, value): &(String, Value)| !value.is_null() && *value != json!(false);
    table.extend(given.rest().into_iter().filter(asks).map(|(name, value)| (name.replace('_', "-"), value)));
    Ok(table)
}
