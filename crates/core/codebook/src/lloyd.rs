//! Lloyd's iteration on sorted values: each pass costs a few look-ups per centroid.

use crate::thresholds::{Thresholds, check_codebook};
use crate::{ClusterError, SortedValues};

/// The result of Lloyd's iteration, see [`SortedValues::lloyd`].
#[derive(Debug, Clone, PartialEq)]
pub struct LloydResult {
    /// The centroids, in the order in which they were given.
    pub codebook: Vec<f32>,
    /// Passes made.
    pub iterations: usize,
    /// Whether the last pass moved nothing.
    pub converged: bool,
}

impl SortedValues {
    /// Lloyd's iteration from `init`, at most `max_iterations` passes (Lloyd, 1982).
    ///
    /// The order of the centroids is kept. Centroids with `fixed[i]` do not move; `fixed` is either empty
    /// (none is fixed) or as long as `init`. A value at equal distance from two centroids belongs to the one
    /// with the lower index; a centroid without values stays where it is. Sums are in f64, centroids are
    /// rounded to f32 after every pass.
    ///
    /// # Errors
    /// An empty codebook, more than 65 536 entries, one that is not finite, or flags that do not pair up.
    pub fn lloyd(
        &self,
        init: &[f32],
        fixed: &[bool],
        max_iterations: usize,
    ) -> Result<LloydResult, ClusterError> {
        check_codebook(init)?;
        if !fixed.is_empty() && fixed.len() != init.len() {
            return Err(ClusterError::FixedCount { flags: fixed.len(), centroids: init.len() });
        }
        let mut codebook: Vec<f32> = init.iter().map(|c| c + 0.0).collect();
        let mut iterations = 0;
        let mut converged = false;
        let mut bounds: Vec<usize> = Vec::new();
        while iterations < max_iterations && !converged {
            let thresholds = Thresholds::nearest(&codebook)?;
            bounds.resize(thresholds.cuts.len(), self.len() / 2);
            for (bound, &cut) in bounds.iter_mut().zip(&thresholds.cuts) {
                *bound = search_from(self.values(), *bound, cut);
            }
            converged = true;
            let mut before = [0.0, 0.0];
            for (p, &code) in thresholds.codes.iter().enumerate() {
                let after = self.prefix(bounds.get(p).copied().unwrap_or(self.len()));
                let [weight, sum] = [after[0] - before[0], after[1] - before[1]];
                before = after;
                let code = usize::from(code);
                if weight <= 0.0 || fixed.get(code) == Some(&true) {
                    continue;
                }
                let mean = (self.pivot() + sum / weight) as f32;
                converged &= mean == codebook[code];
                codebook[code] = mean;
            }
            iterations += 1;
        }
        Ok(LloydResult { codebook, iterations, converged })
    }
}

/// First position whose value is not below `cut`, looked for outwards from a guess.
pub(crate) fn search_from(values: &[f32], guess: usize, cut: f32) -> usize {
    let n = values.len();
    let guess = guess.min(n);
    let mut step = 1;
    let (low, high);
    if guess < n && values[guess] < cut {
        let mut below = guess;
        loop {
            let next = below.saturating_add(step);
            if next >= n {
                (low, high) = (below + 1, n);
                break;
            }
            if values[next] >= cut {
                (low, high) = (below + 1, next);
                break;
            }
            below = next;
            step *= 2;
        }
    } else {
        let mut above = guess;
        loop {
            if above == 0 {
                return 0;
            }
            let next = above.saturating_sub(step);
            if values[next] < cut {
                (low, high) = (next + 1, above);
                break;
            }
            above = next;
            step *= 2;
        }
    }
    low + values[low..high].partition_point(|&v| v < cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn search_finds_the_partition_point(
            mut values in proptest::collection::vec(-50i32..50, 1..60), guess in 0usize..70, cut in -55i32..55,
        ) {
            values.sort_unstable();
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let cut = cut as f32;
            prop_assert_eq!(search_from(&values, guess, cut), values.partition_point(|&v| v < cut));
        }

        #[test]
        fn one_pass_is_the_textbook_pass(
            values in proptest::collection::vec(-100i32..100, 1..80),
            init in proptest::collection::vec(-100i32..100, 1..7),
            mask in 0u32..128,
        ) {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let init: Vec<f32> = init.iter().map(|&v| v as f32).collect();
            let fixed: Vec<bool> = (0..init.len()).map(|i| mask >> i & 1 == 1).collect();
            let got = SortedValues::new(&values).unwrap().lloyd(&init, &fixed, 1).unwrap();
            let mut sums = vec![(0.0f64, 0.0f64); init.len()];
            for &v in &values {
                let best = init.iter().map(|c| (v - c).abs()).fold(f32::INFINITY, f32::min);
                let code = init.iter().position(|c| (v - c).abs() == best).unwrap();
                sums[code].0 += 1.0;
                sums[code].1 += f64::from(v);
            }
            for (i, (count, sum)) in sums.into_iter().enumerate() {
                let expected = if fixed[i] || count == 0.0 { init[i] } else { (sum / count) as f32 };
                prop_assert!((got.codebook[i] - expected).abs() <= 1e-5, "{} {}", got.codebook[i], expected);
            }
        }
    }

    #[test]
    fn order_fixed_and_empty_centroids_are_kept() {
        let values = [0.0f32, 0.1, 0.9, 1.1, 5.0];
        let sorted = SortedValues::new(&values).unwrap();
        let result = sorted.lloyd(&[4.0, -100.0, 0.0, 1.3], &[false, false, true, false], 50).unwrap();
        assert_eq!(result.codebook, [5.0, -100.0, 0.0, 1.0]);
        assert!(result.converged);
    }

    #[test]
    fn flags_must_pair_up() {
        let sorted = SortedValues::new(&[1.0]).unwrap();
        assert_eq!(
            sorted.lloyd(&[0.0, 1.0], &[true], 1).unwrap_err(),
            ClusterError::FixedCount { flags: 1, centroids: 2 }
        );
    }
}
