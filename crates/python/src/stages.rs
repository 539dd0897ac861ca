//! The stages of a job from keyword arguments: a method's defaults with every given setting on top.
//!
//! A setting goes into the chosen method's own table; a name that this does not have belongs to other methods, which the
//! settings types themselves show.

use pyo3::PyResult;
use serde_json::{Map, Value, json};
use slq::methods::{MethodName, TrainingSettings};
use slq::{Budget, Length, Quantize, Stage, Tune};

use crate::error::{SettingError, raised};
use crate::settings::{Settings, bad};

/// Names of the settings of a quantization that are not found in the tables of the methods.
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
    "tune_epochs",
    "tune_iterations",
    "tune_lr",
    "epochs_per_round",
    "iterations_per_round",
    "no_join",
    "freeze_batch_norm",
];
/// Keys of the methods' tables that have another name as a setting, or none.
const RENAMED: &[&str] = &[
    "training",
    "length",
    "join",
    "batch-norm",
    "tune-length",
    "heads",
    "penalty",
    "iter-size",
    "test-interval",
];

/// The names of all settings of a quantization.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = OWN.iter().map(|n| (*n).into()).collect();
    for method in MethodName::ALL {
        let own = table(method);
        let training = own.get("training").and_then(Value::as_object);
        let keys = own.keys().chain(training.into_iter().flat_map(Map::keys));
        names.extend(keys.filter(|k| !RENAMED.contains(&k.as_str())).map(|k| k.replace('-', "_")));
    }
    names.sort();
    names.dedup();
    names
}

/// A method's table with its defaults.
fn table(method: MethodName) -> Map<String, Value> {
    let mut whole = serde_json::to_value(Quantize::new(method.with_defaults(), 4)).unwrap_or_default();
    let mut own = match whole.get_mut(method.text()).map(Value::take) {
        Some(Value::Object(own)) => own,
        _ => Map::new(),
    };
    complete(method, &mut own);
    own
}

/// Adds the key that a table leaves out while its list is empty.
fn complete(method: MethodName, own: &mut Map<String, Value>) {
    if method == MethodName::Calibrate {
        own.entry("without").or_insert_with(|| json!([]));
    }
}

/// The stages that `given` asks for, by `default` where it names no method.
pub(crate) fn stages(given: &mut Settings, default: MethodName) -> PyResult<Vec<Stage>> {
    let (tune_epochs, tune_steps) = (given.take("tune_epochs")?, given.take("tune_iterations")?);
    let tune_length = length(tune_epochs, tune_steps, "tune_epochs", "tune_iterations")?;
    let tune_rate: Option<f64> = given.take("tune_lr")?;
    let mut settings = base(given, default)?;
    if settings.method.name() == MethodName::DeepCompression {
        // Its last round trains the shared values; it has settings of its own for that.
        let own = [("tune-length", tune_length.map(|l| json!(l))), ("tune-lr", tune_rate.map(|r| json!(r)))];
        for (key, value) in own.into_iter().filter_map(|(k, v)| Some((k, v?))) {
            settings = with(&settings, key, value)?;
        }
        return Ok(vec![Stage::Quantize(settings)]);
    }
    let mut stages = vec![Stage::Quantize(settings.clone())];
    match (tune_length, tune_rate) {
        (None, None) => {}
        (None, Some(_)) => return Err(bad("tune_lr", "say how long with tune_epochs or tune_iterations")),
        (Some(length), rate) => {
            let base = settings.method.training().cloned().unwrap_or_default();
            let learning_rate = rate.unwrap_or(base.learning_rate);
            let tune = Tune { training: TrainingSettings { length, learning_rate, ..base } };
            tune.check().map_err(|e| raised(&e.into()))?;
            stages.push(Stage::Tune(tune));
        }
    }
    Ok(stages)
}

fn base(given: &mut Settings, default: MethodName) -> PyResult<Quantize> {
    let method: Option<MethodName> = given.take("method")?;
    let (ternary, published) = (given.switch("ternary")?, given.switch("published")?);
    let bits: Option<u8> = given.take("bits")?;
    let size: Option<usize> = given.take("codebook_size")?;
    if ternary && (bits.is_some() || size.is_some() || published) {
        return Err(bad("ternary", "it has three values: leave out bits, codebook_size and published"));
    }
    if ternary && method.is_some_and(|m| m != MethodName::Mlq) {
        return Err(bad("ternary", "it is mlq's: leave out the method"));
    }
    let name = method.unwrap_or(default);
    let mut settings = match (ternary, published) {
        (true, _) => Quantize::ternary(),
        (_, true) => Quantize::published(name, bits.unwrap_or(5)),
        _ => Quantize::new(name.with_defaults(), bits.unwrap_or(4)),
    };
    settings.codebook_size = size.or(settings.codebook_size);
    settings.budget = budget(given)?;
    if let (Some(_), true) = (settings.budget, bits.is_some() || size.is_some() || ternary) {
        return Err(SettingError::new_err(
            "a budget chooses the bits: leave out bits, codebook_size and ternary; layers sets those of single layers",
        ));
    }
    settings.granularity = given.take("granularity")?.unwrap_or(settings.granularity);
    settings.layers = given.take("layers")?.unwrap_or_default();
    settings.cluster_weights = given.take("cluster_weights")?.unwrap_or(settings.cluster_weights);
    settings.partition_images = given.take("partition_images")?.unwrap_or(settings.partition_images);
    if given.switch("no_correction")? {
        if !settings.corrects() {
            return Err(bad("no_correction", "only kmeans and freeze_batch_norm make corrections"));
        }
        settings.correction = false;
    }
    let settings = overlaid(settings, given)?;
    settings.check().map_err(|e| raised(&e.into()))?;
    Ok(settings)
}

fn budget(given: &mut Settings) -> PyResult<Option<Budget>> {
    let (size, drop): (Option<Budget>, Option<f64>) = (given.text("target_size")?, given.take("max_drop")?);
    match (size, drop) {
        (Some(_), Some(_)) => Err(SettingError::new_err("target_size and max_drop exclude each other")),
        (size, drop) => Ok(size.or(drop.map(Budget::Drop))),
    }
}

fn length(epochs: Option<f64>, steps: Option<u64>, a: &str, b: &str) -> PyResult<Option<Length>> {
    match (epochs, steps) {
        (Some(_), Some(_)) => Err(SettingError::new_err(format!("{a} and {b} exclude each other"))),
        (epochs, steps) => Ok(epochs.map(Length::Epochs).or(steps.map(Length::Iterations))),
    }
}

/// `settings` with what is given of the method's own.
fn overlaid(mut settings: Quantize, given: &mut Settings) -> PyResult<Quantize> {
    if given.switch("no_join")? {
        settings = with(&settings, "join", json!(false))?;
    }
    if given.switch("freeze_batch_norm")? {
        settings = with(&settings, "batch-norm", json!("frozen"))?;
    }
    let (epochs, steps) = (given.take("epochs_per_round")?, given.take("iterations_per_round")?);
    if let Some(length) = length(epochs, steps, "epochs_per_round", "iterations_per_round")? {
        settings = with(&settings, "length", json!(length))?;
    }
    for (name, value) in given.rest() {
        if !value.is_null() {
            settings = with(&settings, &name.replace('_', "-"), value)?;
        }
    }
    Ok(settings)
}

/// `settings` with one setting of the method, or of its training, changed.
fn with(settings: &Quantize, key: &str, value: Value) -> PyResult<Quantize> {
    let method = settings.method.name();
    let argument = argument(key);
    let mut whole = serde_json::to_value(settings).map_err(|e| bad(&argument, e))?;
    let own = whole.get_mut(method.text()).and_then(Value::as_object_mut);
    let place = own.and_then(|own| {
        complete(method, own);
        match own.contains_key(key) {
            true => Some(own),
            false => own.get_mut("training")?.as_object_mut().filter(|t| t.contains_key(key)),
        }
    });
    let Some(place) = place else {
        let owners: Vec<&str> = owners(key).iter().map(|m| m.text()).collect();
        return Err(match owners.is_empty() {
            true => SettingError::new_err(format!("there is no setting '{argument}'")),
            false => bad(
                &argument,
                format!("it belongs to {} and means nothing to {}", owners.join(", "), method.text()),
            ),
        });
    };
    place.insert(key.into(), value);
    serde_json::from_value(whole).map_err(|e| bad(&argument, e))
}

/// The methods that have a setting of this name.
fn owners(key: &str) -> Vec<MethodName> {
    let has = |name: &MethodName| {
        let own = table(*name);
        own.contains_key(key) || own.get("training").is_some_and(|t| t.get(key).is_some())
    };
    MethodName::ALL.into_iter().filter(has).collect()
}

/// The argument that sets a key.
fn argument(key: &str) -> String {
    match key {
        "join" => "no_join".into(),
        "batch-norm" => "freeze_batch_norm".into(),
        "length" => "epochs_per_round".into(),
        "tune-length" => "tune_epochs".into(),
        other => other.replace('-', "_"),
    }
}
