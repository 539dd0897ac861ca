//! From keyword arguments to settings: the names of the program's flags with underscores, checked one by one.

use pyo3::PyResult;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use slq::{DataOptions, Isa, SaveOptions};

use crate::error::SettingError;

/// Names of the settings that say how pixels become inputs, as [`DataOptions`] has them.
pub(crate) const DATA: &[&str] = &[
    "classes",
    "label_offset",
    "train_subset",
    "test_subset",
    "validation",
    "channel_order",
    "scale",
    "mean",
    "std",
    "resize",
    "crop",
    "mirror",
    "pad_crop",
];

/// Keyword arguments that are still to be read.
pub(crate) struct Settings(Map<String, Value>);

impl Settings {
    /// Reads the object that `slq/_settings.py` writes.
    pub(crate) fn parse(json: &str) -> PyResult<Self> {
        serde_json::from_str(json).map(Self).map_err(|e| SettingError::new_err(e.to_string()))
    }

    /// Takes a setting out; `None` where it is not given.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> PyResult<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|e| bad(name, e)),
        }
    }

    /// Takes a switch out; false where it is not given.
    pub(crate) fn switch(&mut self, name: &str) -> PyResult<bool> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// Takes a setting out that has a form as text.
    pub(crate) fn text<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        name: &str,
    ) -> PyResult<Option<T>> {
        let text = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        text.parse().map(Some).map_err(|e| bad(name, e))
    }

    /// Takes what is left.
    pub(crate) fn rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.0)
    }

    /// Takes the settings of the images.
    pub(crate) fn data(&mut self) -> PyResult<DataOptions> {
        let mut options = DataOptions::default();
        for name in DATA {
            let Some(value) = self.0.remove(*name).filter(|v| !v.is_null()) else { continue };
            // One mean for all channels may be a number.
            let value = match (*name, value) {
                ("mean" | "std", Value::Number(n)) => Value::Array(vec![n.into()]),
                ("resize" | "crop", Value::Number(n)) => Value::String(n.to_string()),
                (_, value) => value,
            };
            let one = Map::from_iter([(name.replace('_', "-"), value)]);
            let read: DataOptions = serde_json::from_value(Value::Object(one)).map_err(|e| bad(name, e))?;
            options = read.over(options);
        }
        Ok(options)
    }

    /// Takes the settings of the files that are written.
    pub(crate) fn save(&mut self) -> PyResult<SaveOptions> {
        Ok(SaveOptions {
            dense: self.switch("dense")?,
            legacy_blobs: self.switch("legacy_blobs")?,
            overwrite: self.switch("overwrite")?,
            widths: widths(self.switch("round_up_widths")?),
            runtime: runtime(self.take::<String>("runtime")?.as_deref())?,
            batch_norms: batch_norms(self.switch("collapse_batch_norm")?),
            floats: floats(self.switch("half_floats")?),
            activations: activations(self.switch("int8")?),
        })
    }

    /// Takes the instruction set; the best of this machine where none is given.
    pub(crate) fn isa(&mut self) -> PyResult<Isa> {
        let name: Option<String> = self.take("isa")?;
        let best = Isa::detect();
        let isa = match name.as_deref() {
            None => return Ok(best),
            Some("scalar") => Isa::Scalar,
            Some("avx2") => Isa::Avx2,
            Some("avx512") => Isa::Avx512,
            Some(other) => return Err(bad("isa", format!("'{other}' is none of scalar, avx2, avx512"))),
        };
        match isa > best {
            true => Err(bad("isa", format!("this machine has no {isa}, its best is {best}"))),
            false => Ok(isa),
        }
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> PyResult<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(SettingError::new_err(format!("the setting '{name}' means nothing here"))),
        }
    }
}

/// The exception for a setting with a bad value.
pub(crate) fn bad(name: &str, reason: impl std::fmt::Display) -> pyo3::PyErr {
    SettingError::new_err(format!("setting '{name}': {reason}"))
}

/// How codes of widths that a file has not are stored.
pub(crate) fn widths(round_up: bool) -> slq::files::Widths {
    if round_up { slq::files::Widths::RoundUp } else { slq::files::Widths::Exact }
}

/// What becomes of batch-norms.
pub(crate) fn batch_norms(collapse: bool) -> slq::files::BatchNorms {
    if collapse { slq::files::BatchNorms::Collapse } else { slq::files::BatchNorms::Keep }
}

/// How many bits float parameters keep.
pub(crate) fn floats(half: bool) -> slq::files::Floats {
    if half { slq::files::Floats::Half } else { slq::files::Floats::Single }
}

/// What the activations of a `.tflite` file are.
fn activations(int8: bool) -> slq::files::Activations {
    if int8 { slq::files::Activations::Int8 } else { slq::files::Activations::Float }
}

/// The runtime that an ONNX file is made for.
pub(crate) fn runtime(name: Option<&str>) -> PyResult<Option<slq::files::Runtime>> {
    match name {
        None => Ok(None),
        Some("ort") => Ok(Some(slq::files::Runtime::Ort)),
        Some(other) => Err(bad("runtime", format!("'{other}' is unknown: give 'ort' (onnxruntime) or None"))),
    }
}
