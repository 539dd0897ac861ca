//! What a caller chooses, and what it gets back.

/// What happens to codes of 5 and 7 bits, widths that Core ML does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Widths {
    /// They are refused.
    #[default]
    Exact,
    /// They are stored in 6 and 8 bits; tables and values stay the same.
    RoundUp,
}

/// How a package is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Write every weight as float32.
    pub dense: bool,
    /// Codes of 5 and 7 bits.
    pub widths: Widths,
    /// Replace a package that this library did not write.
    pub overwrite: bool,
}

/// A package that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Sentences for the user: what differs from the network.
    pub notes: Vec<String>,
}
