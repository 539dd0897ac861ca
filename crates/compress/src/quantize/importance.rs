//! The diagonal of the empirical Fisher information of each weight, as weights of the values in clustering.

use std::collections::HashMap;

use slq_engine::Executor;
use slq_reduce::Reducer;

use crate::error::CompressError;
use crate::processes::sum_all;
use crate::train::HeldOut;

/// Importance of every weight of some layers, by the weight's name.
pub(crate) type Importance = HashMap<String, Vec<f32>>;

/// One weight's importance, where there is any.
pub(crate) fn importance_of<'a>(importance: Option<&'a Importance>, weight: &str) -> Option<&'a [f32]> {
    importance?.get(weight).map(Vec::as_slice)
}

/// The Fisher diagonal of `weights`, scaled to a mean of one and floored.
///
/// For a batch of m images with mean gradient g, m g^2 estimates the mean of the squared gradients of single
/// images; the estimate is averaged over all held-out images, whose batches the processes share out. A share of the mean is added to each weight's, since
/// a zero gradient on these images does not prove that a weight has no effect.
///
/// # Errors
/// [`CompressError::Engine`] where the gradients cannot be computed.
pub(crate) fn importance(
    executor: &mut dyn Executor,
    (held_out, reducer): (&HeldOut, &dyn Reducer),
    weights: &[&str],
) -> Result<Importance, CompressError> {
    const FLOOR: f64 = 1e-2;
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); weights.len()];
    let mut total = 0.0;
    held_out.for_each_gradient(executor, reducer, |executor, images| {
        let images = images as f64;
        total += images;
        for (weight, sum) in weights.iter().zip(&mut sums) {
            let gradient = executor.gradient(weight)?;
            sum.resize(gradient.len(), 0.0);
            for (s, &g) in sum.iter_mut().zip(gradient) {
                *s += images * images * f64::from(g) * f64::from(g);
            }
        }
        Ok(())
    })?;
    // A process without a batch has seen no gradient.
    for (weight, sum) in weights.iter().zip(&mut sums).filter(|_| reducer.size() > 1) {
        sum.resize(executor.parameter(weight)?.len(), 0.0);
    }
    sum_all(reducer, [std::slice::from_mut(&mut total)])?;
    sum_all(reducer, sums.iter_mut().map(Vec::as_mut_slice))?;
    let finished = |sum: Vec<f64>| -> Vec<f32> {
        let mean = sum.iter().sum::<f64>() / (total * sum.len().max(1) as f64);
        // Where the mean is zero or not a finite number, all weights count the same.
        if !(mean > f64::from(f32::MIN_POSITIVE) && mean.is_finite()) {
            return vec![1.0; sum.len()];
        }
        // In units of the mean, so that f32 holds them whatever the loss.
        sum.into_iter().map(|s| ((s / total) / mean + FLOOR) as f32).collect()
    };
    Ok(weights.iter().map(|w| (*w).to_owned()).zip(sums.into_iter().map(finished)).collect())
}

#[cfg(test)]
mod tests {
    use slq_data::{Split, Transform};
    use slq_engine::{CpuExecutor, EngineOptions};
    use slq_reduce::Alone;

    use super::*;

    #[test]
    fn weights_that_images_touch_matter_more() {
        // Images that are black but for their upper half.
        let image: Vec<u8> = (0..784).map(|i| if i < 392 { (i % 251) as u8 } else { 0 }).collect();
        let split = Split::from_bytes(image.repeat(8), (0..8).collect(), [1, 28, 28]).unwrap();
        let graph = slq_zoo::build("lenet-300-100", 0).unwrap();
        let name = graph.quantizable()[0].weight.clone();
        let held_out = HeldOut::new(&split, &Transform::default(), 4).unwrap();
        let mut executor = CpuExecutor::new(&graph, 4, &EngineOptions::default()).unwrap();
        let found = importance(&mut executor, (&held_out, Alone::shared()), &[&name]).unwrap();
        let values = &found[&name];
        assert_eq!(values.len(), 300 * 784);
        // The weights of the lower half have no gradient: the floor is all they get.
        let (upper, lower): (Vec<_>, Vec<_>) = values.iter().enumerate().partition(|(i, _)| i % 784 < 392);
        assert!(lower.iter().all(|(_, v)| **v == 0.01));
        let mean = upper.iter().map(|(_, v)| f64::from(**v)).sum::<f64>() / upper.len() as f64;
        assert!((mean - 2.01).abs() < 1e-3, "{mean}");
        // Several processes, one of which may have no batch, find the same up to the rounding of sums in double precision.
        for size in [2, 3] {
            std::thread::scope(|scope| {
                for rank in slq_reduce::threads(size) {
                    let (graph, held_out, name) = (&graph, &held_out, &name);
                    scope.spawn(move || {
                        let mut executor = CpuExecutor::new(graph, 4, &EngineOptions::default()).unwrap();
                        let shared = importance(&mut executor, (held_out, &rank), &[name]).unwrap();
                        let apart = shared[name].iter().zip(values).filter(|(a, b)| a != b);
                        for (a, b) in apart {
                            assert!((a - b).abs() <= f32::EPSILON * b.abs(), "{a} {b}");
                        }
                    });
                }
            });
        }
    }
}
