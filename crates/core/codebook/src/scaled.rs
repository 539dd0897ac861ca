//! The best scale of a codebook of given shape, by branch and bound.
//!
//! With `l_s(x)` the level that `x` takes at scale `s`, the error obeys
//! `sqrt E(t) <= |x - t l_s(x)| <= sqrt E(s) + |t - s| |l_s|` (norms over all values). As `s` grows the level of
//! a value moves one way only, so between two scales a and b the slope is at most `sqrt(|l_a|^2 + |l_b|^2)`,
//! which bounds the error between them from below.

use crate::thresholds::check_codebook;
use crate::{ClusterError, SortedValues};

/// Relative excess of the squared error that is not looked into any more.
const EXCESS: f64 = 1e-5;
/// Octaves of scale below the one that reaches the largest value.
const OCTAVES: i32 = 24;
/// Most scales tried; never needed by a factor of ten where measured.
const MOST: usize = 50_000;

/// A scale that was tried.
#[derive(Debug, Clone, Copy)]
struct Tried {
    scale: f64,
    /// Square root of the error.
    norm: f64,
    /// Weighted sum of squares of the levels taken.
    levels: f64,
}

impl SortedValues {
    /// The codebook `scale * levels` with the positive scale of least squared error, in the order of the levels.
    /// The error is at most 1e-5 (relative) above the least that any scale of the last 24 octaves below the range of
    /// the values allows.
    ///
    /// # Errors
    /// Levels that are empty, not finite, or all zero.
    pub fn scaled_codebook(&self, levels: &[f32]) -> Result<Vec<f32>, ClusterError> {
        check_codebook(levels)?;
        let magnitudes = || levels.iter().map(|l| l.abs()).filter(|&l| l > 0.0);
        let (Some(reach), Some(least)) = (magnitudes().reduce(f32::max), magnitudes().reduce(f32::min))
        else {
            return Err(ClusterError::BadLevels {
                k: levels.len(),
                reason: "one level at least must not be zero",
            });
        };
        let full = f64::from(self.max_abs()) / f64::from(reach);
        if full == 0.0 {
            return Ok(vec![0.0; levels.len()]);
        }
        // Beyond twice the scale at which the smallest level is the largest value nothing changes for the better.
        let top = 2.0 * f64::from(self.max_abs()) / f64::from(least);
        let octaves = (top / full).log2().ceil() as i32 + OCTAVES;
        let mut best = Tried { scale: full, norm: f64::INFINITY, levels: 0.0 };
        let mut tried = Vec::new();
        for octave in 0..=2 * octaves {
            let t = self.try_scale(levels, top * (-0.5 * f64::from(octave)).exp2())?;
            best = if t.norm < best.norm { t } else { best };
            tried.push(t);
        }
        // Going down from the best scale found makes the bound sharp early.
        best = self.descend(levels, best)?;
        let mut open: Vec<(Tried, Tried)> = tried.windows(2).map(|p| (p[1], p[0])).collect();
        let mut count = 0;
        while let Some((a, b)) = open.pop() {
            let slope = (a.levels + b.levels).sqrt();
            let bound = 0.5 * (a.norm + b.norm - slope * (b.scale - a.scale));
            if bound >= best.norm * (1.0 - 0.5 * EXCESS) || count >= MOST {
                continue;
            }
            count += 1;
            let middle = self.try_scale(levels, 0.5 * (a.scale + b.scale))?;
            if middle.norm < best.norm {
                best = self.descend(levels, middle)?;
            }
            open.push((a, middle));
            open.push((middle, b));
        }
        Ok(scaled(levels, best.scale))
    }

    fn try_scale(&self, levels: &[f32], scale: f64) -> Result<Tried, ClusterError> {
        let codebook = scaled(levels, scale);
        let (mut error, mut square) = (self.total_square(), 0.0);
        self.each_cluster(&codebook, |code, weight, sum| {
            let c = f64::from(codebook[code]) - self.pivot();
            error += c * (c * weight - 2.0 * sum);
            square += f64::from(levels[code]).powi(2) * weight;
        })?;
        Ok(Tried { scale, norm: error.max(0.0).sqrt(), levels: square })
    }

    /// Takes the least-squares scale of the current assignment as long as that helps.
    fn descend(&self, levels: &[f32], mut best: Tried) -> Result<Tried, ClusterError> {
        for _ in 0..50 {
            let (mut cross, mut square) = (0.0, 0.0);
            self.each_cluster(&scaled(levels, best.scale), |code, weight, sum| {
                let level = f64::from(levels[code]);
                cross += level * (sum + weight * self.pivot());
                square += level * level * weight;
            })?;
            if !(cross > 0.0 && square > 0.0) {
                break;
            }
            let next = self.try_scale(levels, cross / square)?;
            if next.norm >= best.norm {
                break;
            }
            best = next;
        }
        Ok(best)
    }
}

fn scaled(levels: &[f32], scale: f64) -> Vec<f32> {
    let most = f64::from(f32::MAX);
    levels.iter().map(|&l| (f64::from(l) * scale).clamp(-most, most) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_scale_of_a_fine_grid_is_better(
            values in proptest::collection::vec(-9.0f32..10.0, 1..30), shape in 0usize..4,
        ) {
            let shapes: [&[f32]; 4] =
                [&[-1.0, 0.0, 1.0], &[-1.5, -0.5, 0.5, 1.5], &[-4.0, -1.0, 0.0, 2.0], &[0.0, 1.0, 2.0, 4.0, -8.0]];
            let levels = shapes[shape];
            let sorted = SortedValues::new(&values).unwrap();
            let got = sorted.codebook_error(&sorted.scaled_codebook(levels).unwrap()).unwrap();
            for step in 1..4000 {
                let error = sorted.codebook_error(&scaled(levels, f64::from(step) * 0.005)).unwrap();
                prop_assert!(got <= error * (1.0 + 2.0 * EXCESS) + 1e-9, "{} at {}: {}", got, step, error);
            }
        }
    }

    #[test]
    fn a_grid_is_found_again() {
        let values: Vec<f32> = (0..700).map(|i| ((i % 7) - 3) as f32 * 0.37).collect();
        let sorted = SortedValues::new(&values).unwrap();
        let codebook = sorted.scaled_codebook(&[-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]).unwrap();
        for (i, c) in codebook.iter().enumerate() {
            assert!((c - (i as f32 - 3.0) * 0.37).abs() < 1e-6);
        }
        assert!(matches!(sorted.scaled_codebook(&[0.0]).unwrap_err(), ClusterError::BadLevels { .. }));
    }
}
