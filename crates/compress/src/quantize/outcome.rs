//! The outcome of a quantization: the network and its figures.

use serde::{Deserialize, Serialize};
use slq_data::{Portion, Split};
use slq_graph::Graph;

use super::calibrate::CalibrationReport;
use super::layer::Layer;
use super::method::MethodName;
use super::settings::Quantize;
use crate::damage::Damage;
use crate::error::CompressError;
use crate::progress::{Accuracy, RoundReport};
use crate::size::Size;
use crate::train::TrainingData;

/// A quantized network.
#[derive(Debug, Clone)]
pub(crate) struct Quantized {
    /// The network: every selected weight has a palette that is fixed as a whole.
    pub(crate) graph: Graph,
    /// The weights that were quantized.
    pub(crate) weights: Vec<String>,
    /// The figures.
    pub(crate) report: QuantizeReport,
}

/// The figures of a quantization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantizeReport {
    /// The method.
    pub method: MethodName,
    /// Bits asked for.
    pub bits: u8,
    /// K of a layer without a rule of its own.
    pub codebook_size: usize,
    /// Test accuracy before the stage; `None` without data.
    pub baseline: Option<Accuracy>,
    /// Test accuracy of the quantized network; `None` without data.
    #[serde(rename = "final")]
    pub final_accuracy: Option<Accuracy>,
    /// Round by round.
    pub rounds: Vec<RoundReport>,
    /// Sizes.
    pub size: Size,
    /// The outputs beside those of the float network, where they were compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// The figures of a calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationReport>,
    /// Which layers were clustered by their weights alone although more was asked for, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguided: Option<String>,
    /// Time of the whole stage, earlier sittings of a resumed job included.
    pub seconds: f64,
}
pub(super) fn names(layers: &[Layer]) -> Vec<&str> {
    layers.iter().map(|l| l.weight.as_str()).collect()
}

/// The images to train on, and those that are held out.
pub(super) fn held_out(
    data: &TrainingData,
    settings: &Quantize,
    seed: u64,
) -> Result<(Split, Split), CompressError> {
    data.parts(Portion::Count(settings.partition_images), seed)
}

pub(super) fn finished(
    graph: Graph,
    settings: &Quantize,
    layers: &[Layer],
    [baseline, final_accuracy]: [Option<Accuracy>; 2],
    rounds: Vec<RoundReport>,
    seconds: f64,
) -> Quantized {
    let report = QuantizeReport {
        method: settings.method.name(),
        bits: settings.bits,
        codebook_size: settings.size(),
        baseline,
        final_accuracy,
        rounds,
        size: Size::of(&graph),
        damage: None,
        calibration: None,
        unguided: None,
        seconds,
    };
    let shared = |w: &&str| graph.weights.get(*w).is_some_and(|w| w.palette.is_some());
    let weights = names(layers).into_iter().filter(shared).map(str::to_owned).collect();
    Quantized { graph, weights, report }
}
