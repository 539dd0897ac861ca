//! Sizes as people write them: `50000`, `50KB`, `20x`.

/// A size in bytes, or a share of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum TargetSize {
    Bytes(u64),
    /// So many times smaller.
    Ratio(f64),
}

impl TargetSize {
    /// In bytes, for a network that takes `dense` bytes.
    pub(crate) fn bytes(self, dense: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Ratio(ratio) => (dense as f64 / ratio) as u64,
        }
    }
}

impl std::str::FromStr for TargetSize {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let bad =
            || format!("'{s}' is no size: give bytes (50000), KB, MB, GB, KiB, MiB, GiB, or a ratio (20x)");
        let split = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
        let (digits, unit) = s.split_at(split);
        let value: f64 = digits.parse().map_err(|_| bad())?;
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "x" if value >= 1.0 => return Ok(Self::Ratio(value)),
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
        if (1.0..1e18).contains(&bytes) { Ok(Self::Bytes(bytes as u64)) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ratios_parse() {
        let table = [
            ("50000", TargetSize::Bytes(50_000)),
            ("50KB", TargetSize::Bytes(50_000)),
            ("1.5 MB", TargetSize::Bytes(1_500_000)),
            ("2KiB", TargetSize::Bytes(2048)),
            ("20x", TargetSize::Ratio(20.0)),
            ("2.5X", TargetSize::Ratio(2.5)),
        ];
        for (text, size) in table {
            assert_eq!(text.parse(), Ok(size), "{text}");
        }
        for bad in ["", "x", "KB", "0", "0.5x", "-3", "5 parsecs", "1e400", "99999999999GB", "1.2.3"] {
            assert!(bad.parse::<TargetSize>().is_err(), "{bad}");
        }
        assert_eq!(TargetSize::Ratio(20.0).bytes(1000), 50);
        assert_eq!(TargetSize::Bytes(7).bytes(1000), 7);
    }
}
