//! Dropout while training.

use slq_kernels::parallel::{chunks_mut, parts};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// Elements that one work item masks.
const CHUNK: usize = 4096;

/// Drops elements; whether element i of the layer is dropped follows from seed, iteration, node and i alone.
struct DropoutLayer {
    node: u64,
    /// Bits drawn below this drop the element.
    threshold: u64,
    scale: f32,
    /// Key of the last forward pass.
    key: u64,
}

pub(super) fn dropout(site: Site<'_>, ratio: f32) -> Result<Box<dyn Layer>, EngineError> {
    if !(0.0..=1.0).contains(&ratio) {
        return Err(site.unsupported(format!("the ratio {ratio} is not a probability")));
    }
    let scale = if ratio < 1.0 { 1.0 / (1.0 - ratio) } else { 0.0 };
    let threshold = (f64::from(ratio) * (1u64 << 32) as f64) as u64;
    Ok(Box::new(DropoutLayer { node: site.step.node as u64, threshold, scale, key: 0 }))
}

/// A bijective hash of 64-bit words (the output function of SplitMix64: Steele, Lea,
/// Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn scramble(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl DropoutLayer {
    fn mask(&self, values: &mut [f32]) {
        parts(chunks_mut(values, CHUNK), 1, |chunk, values| {
            for (i, value) in values.iter_mut().enumerate() {
                let bits = scramble(self.key ^ (chunk * CHUNK + i) as u64) >> 32;
                *value = if bits < self.threshold { 0.0 } else { *value * self.scale };
            }
        });
    }
}

impl Layer for DropoutLayer {
    fn in_place(&self) -> Option<usize> {
        Some(0)
    }

    fn gradient_in_place(&self) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (seed, iteration) = pass.random;
        self.key = scramble(scramble(scramble(seed) ^ iteration) ^ self.node);
        if !pass.in_place {
            y.copy_from_slice(pass.input(0));
        }
        self.mask(y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let mut dy = pass.take_output_gradient();
        self.mask(&mut dy);
        if !pass.in_place
            && let Some(mut dx) = pass.take_gradient(0)
        {
            dx.copy_from_slice(&dy);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(ratio: f64, key: u64) -> DropoutLayer {
        let threshold = (ratio * (1u64 << 32) as f64) as u64;
        DropoutLayer { node: 0, threshold, scale: 1.0 / (1.0 - ratio as f32), key }
    }

    #[test]
    fn as_many_are_dropped_as_asked_and_the_mean_stays() {
        let mut values = vec![1.0f32; 100_000];
        layer(0.3, scramble(1)).mask(&mut values);
        let dropped = values.iter().filter(|&&v| v == 0.0).count();
        // Five standard deviations of a binomial are 725.
        assert!((dropped as i64 - 30_000).abs() < 725, "{dropped}");
        assert!(values.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.7).abs() < 1e-6));
    }

    #[test]
    fn keys_give_different_masks_and_repeat_their_own() {
        let draw = |key| {
            let mut values = vec![1.0f32; 256];
            layer(0.5, key).mask(&mut values);
            values
        };
        assert_eq!(draw(scramble(7)), draw(scramble(7)));
        assert_ne!(draw(scramble(7)), draw(scramble(8)));
    }
}
