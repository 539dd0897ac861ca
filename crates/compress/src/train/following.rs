//! Data without labels: all float outputs are trained towards those of another network, and compared with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slq_data::{Split, Transform};
use slq_engine::{Follow, Head, Isa, Loss};
use slq_graph::{DType, Graph};

use super::settings::TrainingSettings;
use super::sizes::sized;
use crate::error::CompressError;
use crate::inputs::{Inputs, SplitInputs};
use crate::outputs::{Kind, kind};

/// Examples that the variance of an output is measured on.
const MEASURED: usize = 64;

/// The weight of an output in the loss, `NAME=W`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct OutputWeight {
    /// Name of the output.
    pub output: String,
    /// Its weight; 0 leaves it out.
    pub weight: f32,
}

impl std::str::FromStr for OutputWeight {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        // A name may hold an equals sign; a number does not.
        let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
        let weight = parts.and_then(|(_, w)| w.parse::<f32>().ok()).filter(|w| w.is_finite() && *w >= 0.0);
        match (parts, weight) {
            (Some((output, _)), Some(weight)) => Ok(Self { output: output.into(), weight }),
            _ => Err(bad(format!("'{text}': give NAME=W with a weight of 0 or more"))),
        }
    }
}

impl TryFrom<String> for OutputWeight {
    type Error = CompressError;

    fn try_from(text: String) -> Result<Self, CompressError> {
        text.parse()
    }
}

impl From<OutputWeight> for String {
    fn from(weight: OutputWeight) -> Self {
        format!("{}={}", weight.output, weight.weight)
    }
}

fn bad(reason: String) -> CompressError {
    CompressError::Setting { name: "output-weight", reason }
}

/// A network whose float outputs stand for labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Following {
    /// The network.
    pub network: Arc<Graph>,
    /// Its outputs with their losses: the Kullback-Leibler divergence for class scores, the squared error divided by the
    /// output's variance for others.
    pub heads: Vec<Head>,
}

impl Following {
    /// Follows all float outputs of `network` with weight 1, or as `weights` say; variances are those on the first examples
    /// of `split`.
    ///
    /// # Errors
    /// [`CompressError::Setting`] for a weight of an output that there is not, or where no output is left;
    /// [`CompressError::Engine`] for a network that cannot run on the examples.
    pub fn new(
        network: Graph,
        split: &Split,
        transform: &Transform,
        weights: &[OutputWeight],
        isa: Isa,
    ) -> Result<Self, CompressError> {
        let network = sized(network, split);
        let floats = || network.outputs.iter().filter(|o| o.dtype == DType::F32);
        if let Some(other) = weights.iter().find(|w| floats().all(|o| o.name != w.output)) {
            let names: Vec<&str> = floats().map(|o| o.name.as_str()).collect();
            let reason =
                format!("the network has no float output '{}'; it has {}", other.output, names.join(", "));
            return Err(bad(reason));
        }
        let few = split.subset(&format!(":{MEASURED}"))?;
        let inputs = SplitInputs::new(&network, few, transform.clone());
        let mut sums: Vec<[f64; 3]> = vec![[0.0; 3]; network.outputs.len()];
        let mut kinds = vec![Kind::Values; network.outputs.len()];
        for at in 0..inputs.len() {
            let batch = inputs.batch(at)?;
            let named: Vec<_> = batch.iter().map(|(n, t)| (n.as_str(), t)).collect();
            for (i, (name, output)) in slq_engine::run(&network, &named, isa)?.iter().enumerate() {
                kinds[i] = kind(&network, name, output.shape());
                for &v in output.as_f32().unwrap_or_default() {
                    let v = f64::from(v);
                    sums[i] = [sums[i][0] + 1.0, sums[i][1] + v, sums[i][2] + v * v];
                }
            }
        }
        let mut heads = Vec::new();
        for ((output, kind), [count, sum, squares]) in network.outputs.iter().zip(kinds).zip(sums) {
            let weight = weights.iter().find(|w| w.output == output.name).map_or(1.0, |w| w.weight);
            if output.dtype != DType::F32 || weight == 0.0 || count == 0.0 {
                continue;
            }
            let variance = squares / count - (sum / count).powi(2);
            heads.push(match kind {
                Kind::Classes(_) => Head::softmax(&output.name, weight),
                Kind::Values => {
                    // An output that is always the same has no scale of its own.
                    let scale = if variance > 1e-12 && variance.is_finite() { variance as f32 } else { 1.0 };
                    Head { output: output.name.clone(), weight: weight / scale, loss: Loss::SquaredError }
                }
            });
        }
        if heads.is_empty() {
            return Err(bad("no float output is left to train towards".into()));
        }
        Ok(Self { network: Arc::new(network), heads })
    }

    /// Follows another network, with the same losses.
    pub fn teach(&mut self, network: Graph, split: &Split) {
        self.network = Arc::new(sized(network, split));
    }

    /// As the engine takes it, at the temperature of `settings`.
    pub(crate) fn follow(&self, settings: &TrainingSettings) -> Follow {
        Follow { network: Arc::clone(&self.network), temperature: settings.distill.unwrap_or(1.0) }
    }
}
