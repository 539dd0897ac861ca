//! The choices that settings consist of, with their text forms.

use serde::{Deserialize, Serialize};

/// The method that moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MethodName {
    /// Single-level quantization (arXiv 1803.03289, section 3).
    Slq,
    /// Multiple-level quantization (the paper's second half).
    Mlq,
    /// Incremental network quantization (ICLR 2017): powers of two, portions of the largest weights.
    Inq,
    /// Pruning, k-means and centroid training (ICLR 2016).
    DeepCompression,
    /// Optimal 1-D k-means, no re-training, no data.
    Kmeans,
}

/// In which order clusters are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartitionRule {
    /// Measured: clusters whose quantization raises the calibration loss most go first (paper, section 3.2).
    Loss,
    /// The same rise, estimated to second order from gradients.
    Taylor,
    /// The published program's order: zero first, then the ladder from the largest magnitude down.
    Magnitude,
    /// `Magnitude` backwards: the control that should lose.
    Reversed,
}

/// Among which clusters a measured partition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionScope {
    /// Each layer fixes the scheduled number of its own clusters.
    Layer,
    /// The scheduled share of all clusters is fixed, wherever they are.
    Network,
}

/// Where round one's centroids come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// The authors' ladder of powers of two, then Lloyd.
    Published,
    /// k-means++ seeding, then Lloyd.
    KmeansPlusPlus,
    /// The optimal codebook with zero pinned.
    Exact,
}

/// How many weights share a codebook. In text: `tensor`, `channel` or `group:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Granularity {
    /// One codebook for a weight tensor.
    Tensor,
    /// One for each output channel.
    Channel,
    /// One for each run of this many output channels.
    Group(usize),
}

impl std::str::FromStr for Granularity {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "tensor" => Ok(Self::Tensor),
            "channel" => Ok(Self::Channel),
            _ => match s.strip_prefix("group:").map(str::parse) {
                Some(Ok(n)) if n > 0 => Ok(Self::Group(n)),
                _ => Err(format!("'{s}' is none of tensor, channel, group:N")),
            },
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

/// Values that are written as their text form.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Length of one re-training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duration {
    /// Steps of one batch each.
    Iterations(u64),
    /// Passes over the training images; fractions allowed.
    Epochs(f64),
}

impl Duration {
    /// Steps of `batch` images over a training set of `images`.
    pub fn iterations(self, images: usize, batch: usize) -> u64 {
        match self {
            Duration::Iterations(n) => n,
            // Saturates: an absurd number of epochs is an absurd number of iterations, not a crash.
            Duration::Epochs(e) => (e * images as f64 / batch as f64).round().max(0.0) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_parse() {
        assert_eq!("group:4".parse(), Ok(Granularity::Group(4)));
        assert!("group:0".parse::<Granularity>().is_err());
        let rule: LayerRule = "conv*=skip".parse().unwrap();
        assert_eq!((rule.pattern.as_str(), rule.bits), ("conv*", None));
        assert_eq!("fc=4".parse::<LayerRule>().unwrap().bits, Some(4));
        assert!("fc".parse::<LayerRule>().is_err());
        assert!("fc=9".parse::<LayerRule>().is_err());
        for text in ["tensor", "channel", "group:7"] {
            assert_eq!(String::from(text.parse::<Granularity>().unwrap()), text);
        }
        for text in ["conv*=skip", "a=b=3"] {
            assert_eq!(String::from(text.parse::<LayerRule>().unwrap()), text);
        }
    }

    #[test]
    fn epochs_become_iterations() {
        assert_eq!(Duration::Epochs(2.0).iterations(60_000, 64), 1875);
        assert_eq!(Duration::Iterations(7).iterations(10, 64), 7);
    }
}
