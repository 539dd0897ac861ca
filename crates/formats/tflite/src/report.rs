//! What was written, for the caller to tell.

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

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Batch-norms that were folded.
    pub folded: Vec<Folded>,
    /// Batch-norms that stay, as a product and a sum.
    pub kept_norms: Vec<String>,
    /// Weights as codes and tables.
    pub packed: Vec<Packed>,
    /// Weights whose palette is left out.
    pub unpacked: Vec<Unpacked>,
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
            notes.push(format!("'{weight}' is stored as floats: {reason}"));
        }
        notes
    }
}
