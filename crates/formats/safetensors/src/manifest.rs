//! What the metadata says of our own files: the format's version and, in order, the weights.

use serde::{Deserialize, Serialize};

/// Version of the layout that `docs/safetensors.md` describes.
pub(crate) const VERSION: &str = "1";
/// Metadata key of the version. A file without it is not ours.
pub(crate) const VERSION_KEY: &str = "slq.format";
/// Metadata key of the list of weights.
pub(crate) const WEIGHTS_KEY: &str = "slq.weights";

/// One weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub name: String,
    /// Shape of the weight, which packed codes do not have.
    pub shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub palette: Option<PaletteEntry>,
}

/// How its codes are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PaletteEntry {
    /// Bits of one code.
    pub bits: u8,
    /// Number of codebooks.
    pub groups: usize,
    /// Centroids of one codebook.
    pub size: usize,
    /// Whether every weight is fixed: codes and codebook alone are stored then.
    pub fixed: bool,
}

/// Name of the tensor of packed codes of a weight.
pub(crate) fn codes(weight: &str) -> String {
    format!("{weight}.codes")
}

/// Name of the tensor of a weight's codebooks.
pub(crate) fn codebook(weight: &str) -> String {
    format!("{weight}.codebook")
}

/// Name of the tensor of a partly fixed weight's flags.
pub(crate) fn fixed(weight: &str) -> String {
    format!("{weight}.fixed")
}
