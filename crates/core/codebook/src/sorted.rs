//! Sorted values with prefix sums, which every solver here works on.

use slq_kernels::parallel::prelude::*;
use slq_kernels::radix;

use crate::ClusterError;

/// Positions between two stored prefix sums; those in between are added up when asked for.
const BLOCK: usize = 32;

/// Finite values in ascending order with prefix sums of weight and value, to be clustered many times.
///
/// Takes 4 bytes a value (8 with weights) plus half a byte of prefix sums; building it takes another 4 (8)
/// bytes a value for the sort. The two zeros become +0, and values of zero weight are left out.
#[derive(Debug, Clone)]
pub struct SortedValues {
    values: Vec<f32>,
    weights: Option<Vec<f32>>,
    /// Weight and value sum (about the pivot) of everything before each block.
    blocks: Vec<[f64; 2]>,
    pivot: f64,
    total_square: f64,
}

impl SortedValues {
    /// Sorts `values`.
    ///
    /// # Errors
    /// No values, or one that is not finite.
    pub fn new(values: &[f32]) -> Result<Self, ClusterError> {
        check_values(values)?;
        let mut keys: Vec<u32> = values.par_iter().map(|&v| radix::key_of(v)).collect();
        radix::sort_keys(&mut keys);
        let values = keys.into_iter().map(radix::value_of).collect();
        Ok(Self::from_sorted(values, None))
    }

    /// Sorts `values`, each counted `weights[i]` times.
    ///
    /// # Errors
    /// No values, one that is not finite, weights that do not pair up, are negative or not finite, or all zero.
    pub fn weighted(values: &[f32], weights: &[f32]) -> Result<Self, ClusterError> {
        check_values(values)?;
        check_weights(values, weights)?;
        let mut items: Vec<u64> = values
            .iter()
            .zip(weights)
            .filter(|(_, w)| **w > 0.0)
            .map(|(&v, w)| u64::from(radix::key_of(v)) << 32 | u64::from(w.to_bits()))
            .collect();
        radix::sort_by_high_half(&mut items);
        let weights = items.iter().map(|&item| f32::from_bits(item as u32)).collect();
        let values = items.iter().map(|&item| radix::value_of((item >> 32) as u32)).collect();
        Ok(Self::from_sorted(values, Some(weights)))
    }

    pub(crate) fn build(values: &[f32], weights: Option<&[f32]>) -> Result<Self, ClusterError> {
        match weights {
            Some(weights) => Self::weighted(values, weights),
            None => Self::new(values),
        }
    }

    fn from_sorted(values: Vec<f32>, weights: Option<Vec<f32>>) -> Self {
        // Sums about a value in the middle lose least to cancellation.
        let pivot = f64::from(values[values.len() / 2]);
        let mut blocks = Vec::with_capacity(values.len() / BLOCK + 2);
        let [mut weight, mut sum, mut square] = [0.0f64; 3];
        for (b, block) in values.chunks(BLOCK).enumerate() {
            blocks.push([weight, sum]);
            for (i, &v) in block.iter().enumerate() {
                let w = weights.as_ref().map_or(1.0, |w| f64::from(w[b * BLOCK + i]));
                let x = f64::from(v) - pivot;
                weight += w;
                sum += w * x;
                square += w * x * x;
            }
        }
        blocks.push([weight, sum]);
        Self { values, weights, blocks, pivot, total_square: square }
    }

    /// Number of values kept.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Always false: there is at least one value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The values in ascending order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The weights in the order of [`SortedValues::values`], if there are any.
    pub fn weights(&self) -> Option<&[f32]> {
        self.weights.as_deref()
    }

    /// What the sums are taken about.
    pub(crate) fn pivot(&self) -> f64 {
        self.pivot
    }

    /// Weighted sum of squares about the pivot.
    pub(crate) fn total_square(&self) -> f64 {
        self.total_square
    }

    /// Weight and value sum (about the pivot) of the first `position` values.
    pub(crate) fn prefix(&self, position: usize) -> [f64; 2] {
        let block = position / BLOCK;
        let [mut weight, mut sum] = self.blocks[block.min(self.blocks.len() - 1)];
        if position == self.values.len() {
            return self.blocks[self.blocks.len() - 1];
        }
        for i in block * BLOCK..position {
            let w = self.weights.as_ref().map_or(1.0, |w| f64::from(w[i]));
            weight += w;
            sum += w * (f64::from(self.values[i]) - self.pivot);
        }
        [weight, sum]
    }
}

/// Refuses empty input and values that are not finite.
pub(crate) fn check_values(values: &[f32]) -> Result<(), ClusterError> {
    if values.is_empty() {
        return Err(ClusterError::Empty);
    }
    match first_not_finite(values) {
        Some(index) => Err(ClusterError::NotFinite { index, value: values[index] }),
        None => Ok(()),
    }
}

/// Position of the first NaN or infinity.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    let exponent = 0x7f80_0000u32;
    const CHUNK: usize = 1 << 14;
    // A whole chunk at a time, so that the common case needs no branch per value.
    let spoilt =
        |chunk: &[f32]| chunk.iter().fold(false, |bad, v| bad | (v.to_bits() & exponent == exponent));
    let chunk = values.par_chunks(CHUNK).position_first(spoilt)?;
    values[chunk * CHUNK..].iter().position(|v| !v.is_finite()).map(|i| chunk * CHUNK + i)
}

/// Refuses weights that do not pair up with the values or are not usable.
pub(crate) fn check_weights(values: &[f32], weights: &[f32]) -> Result<(), ClusterError> {
    if weights.len() != values.len() {
        return Err(ClusterError::WeightCount { weights: weights.len(), values: values.len() });
    }
    if let Some((index, &value)) = weights.iter().enumerate().find(|(_, w)| !(**w >= 0.0 && w.is_finite())) {
        return Err(ClusterError::BadWeight { index, value });
    }
    if weights.iter().all(|&w| w == 0.0) {
        return Err(ClusterError::NoWeight);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_sums_match_a_plain_loop() {
        let values: Vec<f32> = (0..1000u32).map(|i| ((i * 7919) % 997) as f32 * 0.25 - 90.0).collect();
        let weights: Vec<f32> = (0..1000).map(|i| (i % 5) as f32).collect();
        for sorted in
            [SortedValues::new(&values).unwrap(), SortedValues::weighted(&values, &weights).unwrap()]
        {
            let (mut weight, mut sum) = (0.0, 0.0);
            for i in 0..=sorted.len() {
                let [w, s] = sorted.prefix(i);
                assert!((w - weight).abs() < 1e-9 && (s - sum).abs() < 1e-7, "position {i}");
                if i < sorted.len() {
                    let w = sorted.weights().map_or(1.0, |w| f64::from(w[i]));
                    weight += w;
                    sum += w * (f64::from(sorted.values()[i]) - sorted.pivot());
                }
            }
            assert!(sorted.values().is_sorted());
        }
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(SortedValues::new(&[]).unwrap_err(), ClusterError::Empty);
        let mut values = vec![1.0f32; 90_000];
        values[89_999] = f32::NAN;
        values[8999] = f32::INFINITY;
        assert_eq!(
            SortedValues::new(&values).unwrap_err(),
            ClusterError::NotFinite { index: 8999, value: f32::INFINITY }
        );
        let weigh = |w: &[f32]| SortedValues::weighted(&[1.0, 2.0], w).unwrap_err();
        assert_eq!(weigh(&[1.0]), ClusterError::WeightCount { weights: 1, values: 2 });
        assert_eq!(weigh(&[1.0, -0.5]), ClusterError::BadWeight { index: 1, value: -0.5 });
        assert!(matches!(weigh(&[f32::NAN, 1.0]), ClusterError::BadWeight { index: 0, .. }));
        assert_eq!(weigh(&[0.0, 0.0]), ClusterError::NoWeight);
    }
}
