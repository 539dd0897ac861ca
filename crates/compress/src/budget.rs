//! Budgets and their text form.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A size or an accuracy that a network has to keep. In text: bytes as `50000`, `50KB` (KB: 1000 bytes), `50KiB` (1024),
/// `1.5MB`, or a ratio to the dense network as `20x`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Budget {
    /// At most so many bytes: codes, codebooks and float parameters.
    Bytes(u64),
    /// At least so many times smaller than 4 bytes for every parameter.
    Ratio(f64),
    /// At most so many points of top-1 accuracy below the network before the stage.
    Drop(f64),
}

impl Budget {
    /// Whether a network could keep the budget: a drop lies between 0 and 100 points.
    pub fn is_possible(self) -> bool {
        !matches!(self, Budget::Drop(points) if !(0.0..=100.0).contains(&points))
    }

    /// The most bytes that a network of `dense` bytes may take; `None` for a budget on accuracy.
    pub fn bytes(self, dense: u64) -> Option<u64> {
        match self {
            Budget::Bytes(bytes) => Some(bytes),
            Budget::Ratio(ratio) => Some((dense as f64 / ratio) as u64),
            Budget::Drop(_) => None,
        }
    }
}

impl FromStr for Budget {
    type Err = String;

    /// A size; a drop has no text of its own.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("'{text}' is no size: give bytes (50000), KB, MB, GB, KiB, MiB, GiB, or a ratio (20x)")
        };
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let value: f64 = digits.parse().map_err(|_| bad())?;
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "x" if value >= 1.0 => return Ok(Budget::Ratio(value)),
            "" | "b" => 1.0,
            "kb" | "k" => 1e3,
            "mb" | "m" => 1e6,
            "gb" | "g" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(bad()),
        };
        let bytes = value * factor;
        if (1.0..1e18).contains(&bytes) { Ok(Budget::Bytes(bytes as u64)) } else { Err(bad()) }
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
            ("1.5 mb", Budget::Bytes(1_500_000)),
            ("2KiB", Budget::Bytes(2048)),
            ("20x", Budget::Ratio(20.0)),
            ("3.5X", Budget::Ratio(3.5)),
        ];
        for (text, budget) in table {
            assert_eq!(text.parse(), Ok(budget), "{text}");
        }
        for text in
            ["", "x", "KB", "0", "0.5x", "-3", "5 parsecs", "1e400", "99999999999GB", "1.2.3", "inf", "nanx"]
        {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
        assert_eq!(Budget::Ratio(20.0).bytes(1000), Some(50));
        assert_eq!((Budget::Bytes(7).bytes(1000), Budget::Drop(1.0).bytes(1000)), (Some(7), None));
    }
}
