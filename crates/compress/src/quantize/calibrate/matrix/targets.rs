//! From gathered samples to what a layer's weights should be: curvature and output-aware targets.

use slq_engine::Isa;

use super::curvature::Curvature;
use super::damping::Damping;
use super::gram::{Gram, LayerShape, check_len};
use super::layout::transposed;
use super::regression::Directions;
use super::shrinkage::estimated_shrinkage;
use crate::error::CalibrateError;

/// How far second moments are drawn towards their diagonal, since few samples exaggerate correlations.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Shrinkage {
    /// As far as the differences between blocks of samples suggest (Schaefer and Strimmer, 2005, with blocks as the
    /// independent observations).
    Estimated,
    /// A given share, 0 to 1.
    Fixed(f64),
}

/// How far targets go from the float weights (0) to the regression on the float outputs (1).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Strength {
    /// As far as what one half of the samples says holds on the other half, with the damping that serves best there. With
    /// fewer than 4 blocks of samples, in full.
    Validated,
    /// A given share, 0 to 1.
    Fixed(f64),
}

/// How samples become targets and curvature.
///
/// Defaults: damping 1 % of the mean diagonal plus 1e-8, shrinkage estimated, strength validated.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TargetOptions {
    /// Share of the mean diagonal of X' X'^T / N that is added to the diagonal.
    pub damping: f64,
    /// Added to the diagonal beside it, since all inputs may be dead.
    pub absolute_damping: f64,
    /// Shrinkage of the second moments.
    pub shrinkage: Shrinkage,
    /// How far targets go.
    pub strength: Strength,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            damping: 0.01,
            absolute_damping: 1e-8,
            shrinkage: Shrinkage::Estimated,
            strength: Strength::Validated,
        }
    }
}

impl TargetOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`CalibrateError::Setting`].
    pub fn check(&self) -> Result<(), CalibrateError> {
        let range = |name, value: f64, low: f64, high: f64, expected| {
            let inside = value >= low && value <= high;
            if inside { Ok(()) } else { Err(CalibrateError::Setting { name, value, expected }) }
        };
        range("damping", self.damping, 1e-6, 1e3, "between 1e-6 and 1000")?;
        range("absolute damping", self.absolute_damping, 1e-30, 1e30, "a positive number")?;
        if let Shrinkage::Fixed(share) = self.shrinkage {
            range("shrinkage", share, 0.0, 1.0, "between 0 and 1")?;
        }
        if let Strength::Fixed(share) = self.strength {
            range("target strength", share, 0.0, 1.0, "between 0 and 1")?;
        }
        Ok(())
    }
}

/// Mean and variance of each output channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f64>,
    /// Variances.
    pub variance: Vec<f64>,
}

/// What a layer's weights are to be moved onto, and what an error costs.
pub struct Prepared {
    /// Shape of the layer.
    pub shape: LayerShape,
    /// One for each group.
    pub curvatures: Vec<Curvature>,
    /// T, rows x columns.
    pub targets: Vec<f32>,
    /// Samples behind it.
    pub samples: usize,
    /// Share by which second moments were drawn to their diagonal.
    pub shrinkage: f64,
    /// How far targets went from the float weights to the regression.
    pub strength: f64,
    /// Groups that keep their float weights as targets because H was not positive definite in single precision; more
    /// damping helps.
    pub unsolved_groups: usize,
    /// Moments of the outputs asked for: the mean is that of W X + R, the variance that of W X.
    pub float: Moments,
    /// Mean of each input of each group, as the network is now.
    pub input_mean: Vec<f64>,
}

impl Prepared {
    /// v H v^T for each row v of `values` (rows x columns).
    pub fn squares(&self, isa: Isa, values: &[f32]) -> Vec<f64> {
        let (n, rows) = (self.shape.columns, self.shape.group_rows());
        let groups = self.curvatures.iter().zip(values.chunks_exact(rows * n));
        groups.flat_map(|(curvature, own)| curvature.energy(isa, &transposed(own, rows, n), rows)).collect()
    }
}

/// Blocks from which on one half is checked against the other.
const BLOCKS: usize = 4;

impl Gram<'_> {
    /// Targets and curvature from the samples given; `row_weights` says what errors of each row count.
    ///
    /// T = W + strength Z X'^T / N H^-1 with Z = W (X - X') + R and H = X' X'^T / N + damping: the ridge regression of the
    /// wanted outputs on the inputs now, damped towards W (method: step 1); with an intercept where moments are about the
    /// mean. The damping of column j is delta + kappa (X' X'^T / N)_jj: the second term shrinks correlations by
    /// kappa / (1 + kappa).
    ///
    /// # Errors
    /// [`CalibrateError::NoSamples`]; [`CalibrateError::Setting`] for options out of range; [`CalibrateError::NotFinite`]
    /// where inputs were so large that sums overflowed; [`CalibrateError::Length`] for `row_weights`.
    pub fn finish(self, row_weights: &[f32], options: &TargetOptions) -> Result<Prepared, CalibrateError> {
        options.check()?;
        check_len("the row weights", self.shape.rows, row_weights.len())?;
        let samples = self.samples[0];
        if samples == 0 {
            return Err(CalibrateError::NoSamples);
        }
        let (shape, count) = (self.shape, samples as f64);
        let float = self.output_moments(count);
        let means = self.inputs.all.iter().zip(&self.shift);
        let input_mean = means.map(|(s, &c)| s / count + f64::from(c)).collect();
        let shrinkage = match options.shrinkage {
            Shrinkage::Fixed(share) => share,
            Shrinkage::Estimated => estimated_shrinkage(&self),
        };
        let weights = self.weights;
        let damping = Damping::new(options.damping, options.absolute_damping, shrinkage);
        let directions = match options.strength {
            Strength::Fixed(0.0) => Directions::default(),
            Strength::Fixed(strength) => Directions { strength, ..self.directions(&damping, None) },
            Strength::Validated if self.blocks < BLOCKS => self.directions(&damping, None),
            Strength::Validated => self.directions(&damping, Some(row_weights)),
        };
        let curvatures = self.curvatures(&damping);
        let strength = directions.strength;
        let targets: Vec<f32> = match directions.all.is_empty() {
            true => weights.to_vec(),
            false => weights.iter().zip(&directions.all).map(|(w, d)| w + strength as f32 * d).collect(),
        };
        let finite = targets.iter().all(|t| t.is_finite())
            && curvatures.iter().all(|c| c.damping().iter().all(|d| d.is_finite()));
        if !finite {
            return Err(CalibrateError::NotFinite { what: "a target (inputs of the layer are too large)" });
        }
        let unsolved_groups = directions.unsolved;
        Ok(Prepared {
            shape,
            curvatures,
            targets,
            samples,
            shrinkage,
            strength,
            unsolved_groups,
            float,
            input_mean,
        })
    }

    fn output_moments(&self, count: f64) -> Moments {
        let mean = self.outputs.iter().map(|s| (s[0] + s[2]) / count).collect();
        let variance = self.outputs.iter().map(|s| (s[1] / count - (s[0] / count).powi(2)).max(0.0));
        Moments { mean, variance: variance.collect() }
    }
}
