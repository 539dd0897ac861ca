//! What was written, for the caller to tell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A batch-norm that became part of the layer before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folded {
    /// Name of the `BatchNormalization` node.
    pub norm: String,
    /// Name of the layer whose weight and bias it scaled.
    pub layer: String,
}

/// A weight that is stored as codes and tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Its name.
    pub weight: String,
    /// Bits of a code.
    pub bits: u8,
    /// Number of tables.
    pub tables: usize,
    /// Bytes of the codes.
    pub code_bytes: usize,
    /// Bytes of header, tables and what tells their number.
    pub table_bytes: usize,
    /// Bytes as floats.
    pub float_bytes: usize,
}

/// A weight with a palette that is stored as floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Its name.
    pub weight: String,
    /// Why.
    pub reason: String,
}

/// Of a file with integers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Integers {
    /// Operators that are computed with floats between conversions, and how many of each there are.
    pub in_floats: BTreeMap<String, usize>,
    /// Number of inputs that the ranges were measured on.
    pub inputs: usize,
    /// The smallest and largest number that the integers of each value stand for, by its name.
    pub covers: BTreeMap<String, [f32; 2]>,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Batch-norms that were folded.
    pub folded: Vec<Folded>,
    /// Batch-norms that stay, as a product and a sum.
    pub kept_norms: Vec<String>,
    /// Weights as codes and tables.
    pub packed: Vec<Packed>,
    /// Weights whose palette is left out.
    pub unpacked: Vec<Unpacked>,
    /// Where activations are integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integers: Option<Integers>,
}

impl Report {
    /// Sentences for a user: what was changed or left out. Empty where nothing was.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.folded.is_empty() {
            notes.push(format!("batch-norms folded into the layers before them: {}", self.folded.len()));
        }
        if !self.kept_norms.is_empty() {
            notes.push(format!(
                "batch-norms that stay, as a product and a sum: {} ({}); a layer whose codebook would become one for each channel \
                 and take more than its codes keeps them, and so does one with no layer before it that could take them; slq \
                 compress with -o x.tflite folds them before compression",
                self.kept_norms.len(),
                self.kept_norms.join(", ")
            ));
        }
        for Unpacked { weight, reason } in &self.unpacked {
            let as_what = if self.integers.is_some() { "integers of 8 bits" } else { "floats" };
            notes.push(format!("'{weight}' is stored as {as_what}: {reason}"));
        }
        if let Some(Integers { in_floats, inputs, .. }) = &self.integers {
            notes.push(format!(
                "activations, inputs and outputs are integers of 8 bits, which cover what they were on {inputs} inputs; their scales and zero \
                 points are in the file"
            ));
            let several =
                in_floats.iter().map(|(code, n)| format!("{n} {code}")).collect::<Vec<_>>().join(", ");
            if !in_floats.is_empty() {
                notes.push(format!("computed with floats between conversions: {several}"));
            }
        }
        notes
    }
}
