//! What a calibration is asked to do, and on which inputs.

use std::collections::HashMap;

use slq_engine::Isa;
use slq_graph::Graph;
use slq_reduce::Reducer;

use super::super::matrix::{SolveOptions, TargetOptions};
use super::site::LayerSpec;
use crate::error::CalibrateError;
use crate::inputs::Inputs;
use crate::processes::first_reason;

/// How a network is calibrated.
///
/// Defaults: 64 positions an image, weights of rows from the batch-norm behind a layer, moments put right in full, 1 GiB
/// for activations, seed 0, and the defaults of [`TargetOptions`] and [`SolveOptions`], but with moments about the mean and
/// free scales of rows wherever what follows a layer takes up shifts and scales.
#[allow(clippy::struct_excessive_bools)] // parts that are measured one by one
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NetworkOptions {
    /// From samples to targets.
    pub targets: TargetOptions,
    /// Take moments about the mean where what follows a layer takes up a constant error.
    pub centred: bool,
    /// From targets to codes. Its `rate` is taken as how far the outputs may move (mean KL divergence in nats) to save a bit of
    /// every weight of the network.
    pub solve: SolveOptions,
    /// Positions of a layer's output sampled in each image.
    pub positions: usize,
    /// Weigh rows by the squared scale that the following batch-norm applies; without it all rows count alike.
    pub norm_weights: bool,
    /// Where a layer's output is added to another activation, as in a residual block, aim at the float network's sum: the
    /// layer also makes up for what the other summand has lost.
    pub residual: bool,
    /// Set batch-norm statistics and biases so that each channel keeps its mean.
    pub correct: bool,
    /// How far its deviation is kept with it, 0 to 1.
    pub spread: f64,
    /// Bytes of activations that may be kept between layers; beyond them they are computed again.
    pub memory: usize,
    /// Seed of the positions.
    pub seed: u64,
    /// Instruction set of the products.
    #[serde(skip, default = "Isa::detect")]
    pub isa: Isa,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            targets: TargetOptions::default(),
            centred: true,
            solve: SolveOptions { scale_rows: true, ..SolveOptions::default() },
            positions: 64,
            norm_weights: true,
            residual: true,
            correct: true,
            spread: 1.0,
            memory: 1 << 30,
            seed: 0,
            isa: Isa::detect(),
        }
    }
}

impl NetworkOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`CalibrateError::Setting`].
    pub fn check(&self) -> Result<(), CalibrateError> {
        self.targets.check()?;
        self.solve.check()?;
        let refuse = |name, value, expected| Err(CalibrateError::Setting { name, value, expected });
        if self.positions == 0 {
            return refuse("positions", 0.0, "at least 1");
        }
        if !(0.0..=1.0).contains(&self.spread) {
            return refuse("spread", self.spread, "between 0 and 1");
        }
        Ok(())
    }
}

/// A calibration.
pub struct Job<'a> {
    /// The float network.
    pub float: &'a Graph,
    /// Its layers to quantize, in execution order.
    pub layers: &'a [LayerSpec],
    /// What to calibrate on.
    pub inputs: &'a dyn Inputs,
    /// How.
    pub options: &'a NetworkOptions,
    /// How far the outputs move when a layer's weights get [`jitter`](super::jitter), layer by layer: what bits are priced by.
    /// Empty where it is not known; then the share of noise in a layer's output stands for it.
    pub rises: &'a [f64],
    /// The processes that share the batches out: process r of N takes number r, r + N, ...
    pub reducer: &'a dyn Reducer,
}

impl Job<'_> {
    /// The batches of this process.
    pub(super) fn own(&self) -> impl Iterator<Item = usize> + use<> {
        (self.reducer.rank()..self.inputs.len()).step_by(self.reducer.size())
    }

    /// `result`, unless another process met something that the engine cannot compute: then none goes on. Another error is this
    /// process's own, and ends the job.
    pub(super) fn agree<T>(&self, result: Result<T, CalibrateError>) -> Result<T, CalibrateError> {
        if self.reducer.size() == 1 {
            return result;
        }
        let own = match &result {
            Err(error) if error.is_unreached() => Some(error.to_string()),
            Err(_) => return result,
            Ok(_) => None,
        };
        match first_reason(self.reducer, own)? {
            Some(reason) => Err(CalibrateError::Elsewhere { reason }),
            None => result,
        }
    }
}

/// Shapes of a batch's inputs, by name.
pub(super) type InputShapes = Vec<(String, Vec<usize>)>;

/// Positions of equal keys.
pub(super) fn numbered<K: Eq + std::hash::Hash + Clone>(keys: &[K]) -> (Vec<K>, Vec<usize>) {
    let (mut distinct, mut seen) = (Vec::new(), HashMap::new());
    let number = |key: &K| {
        *seen.entry(key.clone()).or_insert_with(|| {
            distinct.push(key.clone());
            distinct.len() - 1
        })
    };
    let numbers = keys.iter().map(number).collect();
    (distinct, numbers)
}
