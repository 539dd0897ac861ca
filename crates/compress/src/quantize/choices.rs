//! Choices that the settings of several methods share, with their text forms.

use serde::{Deserialize, Serialize};

/// Which values a codebook may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CodebookKind {
    /// Any values.
    #[default]
    Free,
    /// Zero and powers of two with their negatives, at the exponents of least squared error.
    Pow2,
    /// Evenly spaced about zero, at the scale of least squared error.
    Uniform,
}

/// Weights of the values in clustering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Weighting {
    /// Unweighted.
    #[default]
    None,
    /// Weighted by the diagonal of the empirical Fisher information, measured on held-out training images.
    Fisher,
    /// Weighted by the second moment of the input that each weight meets, times the squared scale that the batch-norm behind
    /// the layer applies (the diagonal of calibration's H); labels are not used.
    Inputs,
}

/// Start of the centroids in the first round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// The authors' ladder of powers of two, then Lloyd.
    Published,
    /// k-means++ seeding, then Lloyd.
    KmeansPlusPlus,
    /// The optimal codebook with zero pinned.
    Exact,
    /// The codebook of a calibration on training images, whose labels are not used; its value nearest to zero put there.
    Calibrate,
}

/// How many weights share a codebook. In text: `tensor`, `channel`, `group:N`, `block:N` or `dense:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Granularity {
    /// One codebook for a weight tensor.
    Tensor,
    /// One for each output channel.
    Channel,
    /// One for each run of this many output channels.
    Group(usize),
    /// One for each run of this many neighbouring weights along the input axis.
    Block(usize),
    /// For `Gemm` and `MatMul` as [`Granularity::Block`], for other layers as [`Granularity::Channel`].
    Dense(usize),
}

impl std::str::FromStr for Granularity {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "tensor" => Ok(Self::Tensor),
            "channel" => Ok(Self::Channel),
            _ => {
                let number = |prefix| match s.strip_prefix(prefix).map(str::parse) {
                    Some(Ok(n)) if n > 0 => Some(n),
                    _ => None,
                };
                let group = number("group:").map(Self::Group).or_else(|| number("block:").map(Self::Block));
                let group = group.or_else(|| number("dense:").map(Self::Dense));
                group.ok_or_else(|| format!("'{s}' is none of tensor, channel, group:N, block:N, dense:N"))
            }
        }
    }
}

impl Granularity {
    /// What it means for a layer of this operator.
    pub(crate) fn of(self, op: &str) -> Self {
        match self {
            Self::Dense(n) if matches!(op, "Gemm" | "MatMul") => Self::Block(n),
            Self::Dense(_) => Self::Channel,
            other => other,
        }
    }
}

impl TryFrom<String> for Granularity {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<Granularity> for String {
    fn from(granularity: Granularity) -> Self {
        match granularity {
            Granularity::Tensor => "tensor".into(),
            Granularity::Channel => "channel".into(),
            Granularity::Group(n) => format!("group:{n}"),
            Granularity::Block(n) => format!("block:{n}"),
            Granularity::Dense(n) => format!("dense:{n}"),
        }
    }
}

/// What happens to the layers whose weight or node name matches a pattern. In text: `GLOB=BITS` or `GLOB=skip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRule {
    /// Shell-style pattern over weight and node names.
    pub pattern: String,
    /// Bits for those layers; `None` leaves them at full precision.
    pub bits: Option<u8>,
}

impl LayerRule {
    /// Whether `rules`, of which the last one that matches counts, leave a layer of these names (weight and node) out.
    pub(crate) fn skip(rules: &[Self], names: [&str; 2]) -> bool {
        let matches = |rule: &&Self| {
            glob::Pattern::new(&rule.pattern).is_ok_and(|glob| names.iter().any(|name| glob.matches(name)))
        };
        rules.iter().rev().find(matches).is_some_and(|rule| rule.bits.is_none())
    }
}

impl std::str::FromStr for LayerRule {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (pattern, value) =
            s.rsplit_once('=').ok_or_else(|| format!("'{s}' is not GLOB=BITS or GLOB=skip"))?;
        let bits = match value {
            "skip" => None,
            _ => match value.parse() {
                Ok(b) if (1..=8).contains(&b) => Some(b),
                _ => {
                    return Err(format!(
                        "'{value}' in '{s}' is neither skip nor a number of bits from 1 to 8"
                    ));
                }
            },
        };
        Ok(Self { pattern: pattern.into(), bits })
    }
}

impl TryFrom<String> for LayerRule {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<LayerRule> for String {
    fn from(rule: LayerRule) -> Self {
        match rule.bits {
            Some(bits) => format!("{}={bits}", rule.pattern),
            None => format!("{}=skip", rule.pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_parse() {
        assert_eq!("group:4".parse(), Ok(Granularity::Group(4)));
        assert!("group:0".parse::<Granularity>().is_err() && "block:x".parse::<Granularity>().is_err());
        let rule: LayerRule = "conv*=skip".parse().unwrap();
        assert_eq!((rule.pattern.as_str(), rule.bits), ("conv*", None));
        assert_eq!("fc=4".parse::<LayerRule>().unwrap().bits, Some(4));
        assert!("fc".parse::<LayerRule>().is_err());
        assert!("fc=9".parse::<LayerRule>().is_err());
        for text in ["tensor", "channel", "group:7", "block:64", "dense:32"] {
            assert_eq!(String::from(text.parse::<Granularity>().unwrap()), text);
        }
        for text in ["conv*=skip", "a=b=3"] {
            assert_eq!(String::from(text.parse::<LayerRule>().unwrap()), text);
        }
    }
}
