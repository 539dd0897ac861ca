//! Settings of a method by name. Each name has its place in the method's own table or in that of its training; a name that
//! has none there belongs to other methods, as the settings types themselves show.

use serde_json::{Map, Value, json};
use slq_compress::{Length, MethodName, Quantize, TrainingSettings};

use super::request::{Asked, Preset};
use crate::Error;

/// `base` with everything that is asked for on top; of another codebook size or method than before where that is asked.
///
/// # Errors
/// [`Error::Argument`] and [`Error::Compress`], naming the setting.
pub(super) fn settings(asked: &Asked, base: Quantize) -> Result<Quantize, Error> {
    let before = (base.size(), base.method.name());
    let mut settings = base;
    if let Some(name) = asked.method.filter(|&m| m != settings.method.name()) {
        // Another method keeps the training of the recipe's.
        let training = settings.method.training().cloned();
        settings.method = name.with_defaults();
        if let Some(training) = training {
            settings = settings.training(|t| *t = training);
        }
    }
    if let Some(bits) = asked.bits.filter(|_| !asked.is(Preset::Published)) {
        // Given bits imply the codebook size.
        (settings.bits, settings.codebook_size, settings.budget) = (bits, None, None);
    }
    if let Some(size) = asked.codebook_size {
        (settings.codebook_size, settings.budget) = (Some(size), None);
    }
    settings.granularity = asked.granularity.unwrap_or(settings.granularity);
    settings.layers.extend(asked.layers.iter().cloned());
    settings.cluster_weights = asked.cluster_weights.unwrap_or(settings.cluster_weights);
    settings.partition_images = asked.partition_images.unwrap_or(settings.partition_images);
    settings.budget = asked.budget.or(settings.budget);
    let resized = settings.size() != before.0 || settings.method.name() != before.1;
    if resized && own(&settings)?.contains_key("schedule") {
        // A schedule belongs to a codebook size.
        settings = with(&settings, "schedule", Value::Null)?;
    }
    for (key, value) in given(asked, &settings) {
        settings = with(&settings, &key, value)?;
    }
    if asked.no_correction {
        if !settings.corrects() {
            let text = "--no-correction: only --method kmeans and --freeze-batch-norm make corrections";
            return Err(Error::Argument(text.into()));
        }
        settings.correction = false;
    }
    settings.check()?;
    Ok(settings)
}

/// The settings of a method and its training that are given, with the length of a round.
fn given(asked: &Asked, settings: &Quantize) -> Map<String, Value> {
    let mut table = asked.settings.clone();
    let length = |length: Option<Length>| length.map(|l| json!(l));
    let lengths = &asked.lengths;
    table.extend(length(lengths.round).map(|l| ("length".to_owned(), l)));
    if settings.method.name() == MethodName::DeepCompression {
        // Its last round trains the shared values; it has settings of its own for that.
        table.extend(length(lengths.tune).map(|l| ("tune-length".to_owned(), l)));
        table.extend(lengths.tune_rate.map(|lr| ("tune-lr".to_owned(), lr.into())));
    }
    table
}

/// `base` with the settings of a training that are asked for.
///
/// # Errors
/// [`Error::Argument`], naming the setting.
pub(super) fn training(asked: &Asked, base: TrainingSettings) -> Result<TrainingSettings, Error> {
    let mut all = base;
    for (key, value) in &asked.settings {
        let mut table = object(serde_json::to_value(&all).map_err(|e| bad(key, &e))?);
        if table.contains_key(key) {
            table.insert(key.clone(), value.clone());
            all = serde_json::from_value(Value::Object(table)).map_err(|e| bad(key, &e))?;
        }
    }
    Ok(all)
}

/// `settings` with one setting of the method, or of its training, changed.
fn with(settings: &Quantize, key: &str, value: Value) -> Result<Quantize, Error> {
    let method = settings.method.name();
    let mut own = own(settings)?;
    let place = match own.contains_key(key) {
        true => Some(&mut own),
        false => own.get_mut("training").and_then(Value::as_object_mut).filter(|t| t.contains_key(key)),
    };
    let Some(place) = place else { return Err(Error::Argument(foreign(key, method))) };
    place.insert(key.into(), value);
    let mut whole = object(serde_json::to_value(settings).map_err(|e| bad(key, &e))?);
    whole.insert(method.text().into(), Value::Object(own));
    serde_json::from_value(Value::Object(whole)).map_err(|e| bad(key, &e))
}

/// The sentence for a setting that `method` has not.
fn foreign(key: &str, method: MethodName) -> String {
    let flag = flag_of(key);
    let owners: Vec<&str> = MethodName::ALL.into_iter().filter(|m| has(*m, key)).map(|m| m.text()).collect();
    match owners.is_empty() {
        true => format!("there is no setting {flag}"),
        false => format!("{flag} belongs to {} and means nothing to {}", owners.join(" and "), method.text()),
    }
}

/// Whether a method has a setting of this name.
fn has(method: MethodName, key: &str) -> bool {
    let own = table(method);
    own.contains_key(key) || own.get("training").is_some_and(|t| t.get(key).is_some())
}

/// The names of all settings of all methods and of their training, sorted.
pub fn setting_names() -> Vec<String> {
    let mut names = Vec::new();
    for method in MethodName::ALL {
        let own = table(method);
        let training = own.get("training").and_then(Value::as_object);
        names.extend(own.keys().chain(training.into_iter().flat_map(Map::keys)).cloned());
    }
    names.retain(|n| n != "training");
    names.sort();
    names.dedup();
    names
}

/// A method's table with its defaults.
fn table(method: MethodName) -> Map<String, Value> {
    own(&Quantize::new(method.with_defaults(), 4)).unwrap_or_default()
}

/// The table of the method that `settings` have.
fn own(settings: &Quantize) -> Result<Map<String, Value>, Error> {
    let method = settings.method.name();
    let whole = serde_json::to_value(settings).map_err(|e| bad(method.text(), &e))?;
    let mut own = object(object(whole).remove(method.text()).unwrap_or_default());
    if method == MethodName::Calibrate {
        // A table leaves out the key while its list is empty.
        own.entry("without").or_insert_with(|| json!([]));
    }
    Ok(own)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn bad(key: &str, reason: &serde_json::Error) -> Error {
    Error::Argument(format!("{}: {reason}", flag_of(key)))
}

/// The flag that sets a setting, where its name differs.
pub(super) fn flag_of(key: &str) -> String {
    match key {
        "join" => "--no-join".into(),
        "batch-norm" => "--freeze-batch-norm or --sync-batch-norm".into(),
        "length" => "--epochs-per-round".into(),
        "tune-length" => "--tune-epochs".into(),
        other => format!("--{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(key: &str, value: Value) -> Asked {
        Asked { settings: Map::from_iter([(key.into(), value)]), ..Asked::default() }
    }

    #[test]
    fn a_setting_finds_its_place_and_a_foreign_one_its_owner() {
        let found = settings(&asked("lr", json!(0.5)), Quantize::slq(4)).unwrap();
        assert_eq!(found.method.training().unwrap().learning_rate, 0.5);
        let found = settings(
            &asked("without", json!(["descent"])),
            Quantize::new(MethodName::Calibrate.with_defaults(), 4),
        );
        assert_eq!(serde_json::to_value(found.unwrap()).unwrap()["calibrate"]["without"], json!(["descent"]));
        let error = settings(&asked("rate", json!(1.0)), Quantize::slq(4)).unwrap_err().to_string();
        assert_eq!(error, "--rate belongs to kmeans and calibrate and means nothing to slq");
        let error = settings(&asked("colour", json!(1.0)), Quantize::slq(4)).unwrap_err().to_string();
        assert_eq!(error, "there is no setting --colour");
        let error = settings(&asked("batch", json!("big")), Quantize::slq(4)).unwrap_err().to_string();
        assert!(error.starts_with("--batch: invalid type"), "{error}");
    }

    #[test]
    fn no_name_has_two_places() {
        for method in MethodName::ALL {
            let own = table(method);
            let training = own.get("training").and_then(Value::as_object).cloned().unwrap_or_default();
            assert!(own.keys().all(|k| !training.contains_key(k)), "{}", method.text());
        }
        assert!(
            setting_names().iter().any(|n| n == "without")
                && setting_names().iter().any(|n| n == "lr-policy")
        );
    }
}
