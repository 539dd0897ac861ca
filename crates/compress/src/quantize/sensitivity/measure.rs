//! Rises of the loss: measured, and estimated from gradients.

use serde::{Deserialize, Serialize};
use slq_engine::Executor;
use slq_reduce::Reducer;

use crate::error::CompressError;
use crate::processes::gather_rows;
use crate::quantize::state::LayerState;
use crate::train::HeldOut;

/// A mean over held-out images with the standard error of that mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; infinite for a single batch.
    #[serde(with = "finite_or_null")]
    pub error: f64,
}

/// JSON has no infinity: null stands for it.
mod finite_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}

/// Batches before a test may end early: fewer give no usable standard error.
const FEWEST: usize = 4;

/// The loss of the unchanged network on every batch.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    losses: Vec<(f64, usize)>,
}

impl Base {
    /// Mean loss over all images.
    pub(crate) fn mean(&self) -> f64 {
        let images: usize = self.losses.iter().map(|l| l.1).sum();
        self.losses.iter().map(|(loss, n)| loss * *n as f64).sum::<f64>() / images.max(1) as f64
    }
}

/// The losses of all batches, which the processes share out.
pub(crate) fn base_losses(
    executor: &mut dyn Executor,
    held_out: &HeldOut,
    reducer: &dyn Reducer,
) -> Result<Base, CompressError> {
    Ok(Base { losses: held_out.losses(executor, reducer)? })
}

/// The mean rise over `base` of the executor's network as it stands, and the number of images used: batch after batch until
/// the standard error is below `tolerance` times the rise (or times a thousandth of the loss, where that is more).
pub(crate) fn measure(
    executor: &mut dyn Executor,
    held_out: &HeldOut,
    base: &Base,
    tolerance: f64,
) -> Result<(Estimate, usize), CompressError> {
    let least = 1e-3 * base.mean().abs();
    let mut sums = Sums::default();
    for (batch, (loss, _)) in base.losses.iter().enumerate() {
        let (now, images) = held_out.batch_loss(executor, batch)?;
        sums.add(now - loss, images as f64);
        let found = sums.estimate();
        if batch + 1 >= FEWEST && found.error < tolerance * found.mean.abs().max(least) {
            break;
        }
    }
    Ok((sums.estimate(), sums.weight as usize))
}

/// The estimates of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerEstimates {
    pub(crate) whole: Estimate,
    pub(crate) clusters: Vec<Estimate>,
}

/// For every layer and cluster the rise to second order, g d + m g^2 d^2 / 2 for a batch of m images with mean
/// gradient g and change d; the standard error is that of the mean over batches. The processes share out the batches, whose figures
/// are added in their order: they are those of one process.
pub(crate) fn estimate(
    executor: &mut dyn Executor,
    (held_out, reducer): (&HeldOut, &dyn Reducer),
    states: &[LayerState],
) -> Result<Vec<LayerEstimates>, CompressError> {
    let changes: Vec<Vec<f64>> = states
        .iter()
        .map(|s| s.all_shared().iter().zip(&s.values).map(|(q, w)| f64::from(*q) - f64::from(*w)).collect())
        .collect();
    let mut sums: Vec<(Sums, Vec<Sums>)> =
        states.iter().map(|s| (Sums::default(), vec![Sums::default(); s.layer.size])).collect();
    // Of each of this process's batches the images, and the rises of all clusters.
    let mut rows = Vec::new();
    held_out.for_each_gradient(executor, reducer, |executor, images| {
        let m = images as f64;
        let mut row = vec![m];
        for (state, changes) in states.iter().zip(&changes) {
            let gradient = executor.gradient(&state.layer.weight)?;
            let mut rises = vec![0.0; state.layer.size];
            for ((&g, d), &code) in gradient.iter().zip(changes).zip(&state.codes) {
                let gd = f64::from(g) * d;
                rises[usize::from(code)] += gd + 0.5 * m * gd * gd;
            }
            row.extend(rises);
        }
        rows.push(row);
        Ok(())
    })?;
    for row in gather_rows(reducer, held_out.len(), &rows)? {
        let Some((&m, mut rises)) = row.split_first() else { continue };
        for (whole, clusters) in &mut sums {
            let (own, others) = rises.split_at(clusters.len());
            whole.add(own.iter().sum(), m);
            clusters.iter_mut().zip(own).for_each(|(sums, &rise)| sums.add(rise, m));
            rises = others;
        }
    }
    let finished = |(whole, clusters): (Sums, Vec<Sums>)| LayerEstimates {
        whole: whole.estimate(),
        clusters: clusters.iter().map(Sums::estimate).collect(),
    };
    Ok(sums.into_iter().map(finished).collect())
}

/// Weighted sums of batch values.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    weight: f64,
    weight_squares: f64,
    values: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        self.weight_squares += weight * weight;
        self.values += weight * value;
        self.squares += weight * value * value;
    }

    fn estimate(&self) -> Estimate {
        if self.weight == 0.0 {
            return Estimate { mean: 0.0, error: f64::INFINITY };
        }
        let mean = self.values / self.weight;
        let variance = (self.squares / self.weight - mean * mean).max(0.0);
        // Batches of unequal size count as this many equal ones.
        let batches = self.weight * self.weight / self.weight_squares;
        let error = if batches > 1.0 { (variance / (batches - 1.0)).sqrt() } else { f64::INFINITY };
        Estimate { mean, error }
    }
}

#[cfg(test)]
mod tests {
    use slq_data::{Split, Transform};
    use slq_engine::{CpuExecutor, EngineOptions};
    use slq_reduce::Alone;

    use super::*;

    #[test]
    fn the_error_bar_is_that_of_a_mean() {
        let mut sums = Sums::default();
        assert_eq!(sums.estimate().error, f64::INFINITY);
        for value in [1.0, 2.0, 3.0, 4.0] {
            sums.add(value, 10.0);
        }
        let found = sums.estimate();
        // Sample variance 5/3 over four batches.
        assert!((found.mean - 2.5).abs() < 1e-12 && (found.error - (5.0f64 / 12.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_test_ends_early_where_all_batches_agree_and_the_estimate_follows_a_small_change() {
        let pixels: Vec<u8> = (0..32 * 784u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let split = Split::from_bytes(pixels, (0..32).map(|i| i % 10).collect(), [1, 28, 28]).unwrap();
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let held_out = HeldOut::new(&split, &Transform::default(), 2).unwrap();
        let mut executor = CpuExecutor::new(&graph, 4, &EngineOptions::default()).unwrap();
        let base = base_losses(&mut executor, &held_out, Alone::shared()).unwrap();
        let (unchanged, images) = measure(&mut executor, &held_out, &base, 0.1).unwrap();
        assert_eq!((unchanged.mean, unchanged.error, images), (0.0, 0.0, 8), "four batches settle it");
        let (_, all) = measure(&mut executor, &held_out, &base, 0.0).unwrap();
        assert_eq!(all, 32);

        let settings = crate::Quantize::slq(4);
        let layer = &crate::quantize::select::select_layers(&graph, &settings).unwrap()[3];
        let mut state = LayerState::from_graph(&graph, layer, 0).unwrap();
        crate::quantize::clustering::cluster(
            &mut state,
            0,
            true,
            crate::quantize::guides::Guide::default(),
            &crate::SlqSettings::default().clustering(0),
        )
        .unwrap();
        let estimated =
            &estimate(&mut executor, (&held_out, Alone::shared()), std::slice::from_ref(&state)).unwrap()[0];
        let parts: f64 = estimated.clusters.iter().map(|c| c.mean).sum();
        assert!((parts - estimated.whole.mean).abs() < 1e-9);
        executor.set_parameter(&layer.weight, &state.all_shared()).unwrap();
        let (measured, _) = measure(&mut executor, &held_out, &base, 0.0).unwrap();
        let tolerance = 3.0 * (measured.error + estimated.whole.error) + 0.01 * base.mean();
        assert!((measured.mean - estimated.whole.mean).abs() < tolerance, "{measured:?} {estimated:?}");
    }

    #[test]
    fn an_error_bar_without_a_second_batch_survives_json() {
        let estimate = Estimate { mean: 0.5, error: f64::INFINITY };
        let text = serde_json::to_string(&estimate).unwrap();
        assert_eq!(text, r#"{"mean":0.5,"error":null}"#);
        assert_eq!(serde_json::from_str::<Estimate>(&text).unwrap(), estimate);
    }
}
