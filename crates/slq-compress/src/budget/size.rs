//! Budgets in words.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a search has to keep. In text: bytes as `50000`, `50KB` (1000 bytes), `50KiB` (1024), `1.5MB`, or a ratio to the
/// dense network as `20x`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Budget {
    /// At most so many bytes: codes, codebooks and float parameters (method.md, section 8).
    Bytes(u64),
    /// At least so many times smaller than 4 bytes for every parameter.
    Ratio(f64),
    /// At most so many points of top-1 accuracy below the network as it came.
    Drop(f64),
}

impl FromStr for Budget {
    type Err = String;

    /// A size; a drop has no text of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a size: give bytes as 50000, 50KB or 1.5MB, or a ratio as 20x");
        let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        if !(number > 0.0 && number.is_finite()) {
            return Err(bad());
        }
        let bytes = |factor: f64| Ok(Budget::Bytes((number * factor) as u64));
        match unit.to_ascii_lowercase().as_str() {
            "" | "b" => bytes(1.0),
            "kb" | "k" => bytes(1e3),
            "mb" | "m" => bytes(1e6),
            "gb" | "g" => bytes(1e9),
            "kib" => bytes(1024.0),
            "mib" => bytes(1024.0 * 1024.0),
            "x" => Ok(Budget::Ratio(number)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ratios_parse() {
        let table = [
            ("50000", Budget::Bytes(50_000)),
            ("50KB", Budget::Bytes(50_000)),
            ("1.5mb", Budget::Bytes(1_500_000)),
            ("2KiB", Budget::Bytes(2048)),
            ("20x", Budget::Ratio(20.0)),
            ("3.5X", Budget::Ratio(3.5)),
        ];
        for (text, budget) in table {
            assert_eq!(text.parse(), Ok(budget), "{text}");
        }
        for text in ["", "x", "-3x", "0", "nan", "inf", "12 parsecs", "1e400", "5KBx"] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }
}
