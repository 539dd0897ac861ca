//! What a bit may cost: the same divergence of the outputs in every layer.
//!
//! Divergence grows in proportion to a layer's squared error, by another factor in each layer. The factors are measured: each
//! layer alone gets a known noise, and the outputs say what that costs.

use slq_engine::Isa;
use slq_graph::Tensor;

use super::super::matrix::{Prepared, Problem};
use super::super::random::Random;
use super::job::Job;
use super::site::Site;

/// Deviation of the noise beside that of the weights: enough to measure, little enough for the divergence to be proportional.
const NOISE: f64 = 0.1;

/// `values`, the weights of layer number `layer`, with independent noise: uniform, a tenth of their root mean square.
pub fn jitter(values: &[f32], layer: usize) -> Vec<f32> {
    let square: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
    let most = NOISE * (3.0 * square / values.len().max(1) as f64).sqrt();
    let mut random = Random::of(0, &[layer as u64]);
    values.iter().map(|&v| (f64::from(v) + most * (2.0 * random.unit() - 1.0)) as f32).collect()
}

/// What a bit costs in the unit of a layer's objective.
pub(super) fn price(
    job: &Job<'_>,
    (layer, site): (usize, &Site),
    (prepared, problem): (&Prepared, &Problem<'_>),
    energy: f64,
) -> f64 {
    if job.options.solve.rate <= 0.0 {
        return 0.0;
    }
    let tensor = |name: &str| job.float.weights.get(name).map(|w| &w.tensor);
    let weights: usize = job.layers.iter().filter_map(|l| tensor(&l.weight)).map(Tensor::len).sum();
    let price = job.options.solve.rate / weights.max(1) as f64;
    let Some(rise) = job.rises.get(layer) else { return price * energy };
    let values = tensor(&site.weight).and_then(Tensor::as_f32).unwrap_or_default();
    let noise: Vec<f32> = jitter(values, layer).iter().zip(values).map(|(n, v)| n - v).collect();
    let error = error(job.options.isa, &site.matrix(&noise), prepared, problem.row_weights);
    price * error / rise
}

/// The objective of errors (rows x columns).
fn error(isa: Isa, errors: &[f32], prepared: &Prepared, row_weights: &[f32]) -> f64 {
    let squares = prepared.squares(isa, errors);
    squares.iter().zip(row_weights).map(|(e, &s)| e * f64::from(s)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_a_tenth_of_the_weights_and_always_the_same() {
        let values: Vec<f32> = (0..10_000).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let noisy = jitter(&values, 3);
        let square = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let noise: Vec<f32> = noisy.iter().zip(&values).map(|(n, v)| n - v).collect();
        let ratio = (square(&noise) / square(&values)).sqrt();
        assert!((ratio - NOISE).abs() < 0.02 * NOISE, "{ratio}");
        assert!(noise.iter().map(|&n| f64::from(n)).sum::<f64>().abs() < 10.0, "no shift");
        assert!(jitter(&values, 3) == noisy && jitter(&values, 4) != noisy);
    }
}
