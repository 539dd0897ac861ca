//! Settings of calibration, and the parts that can be switched off.

use serde::{Deserialize, Serialize};
use slq_engine::Isa;

use super::matrix::{Shrinkage, SolveOptions, Strength, TargetOptions, Values};
use super::network::NetworkOptions;
use super::tuning::BlockTune;
use crate::error::CompressError;
use crate::quantize::choices::CodebookKind;

/// A part of the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CalibrationPart {
    /// Targets by regression on the inputs as they are now; without it the float weights.
    Targets,
    /// Aiming at the float network's sum behind a residual connection.
    Residual,
    /// Weights of the start's k-means.
    Weights,
    /// The error-carrying pass.
    Pass,
    /// Codebooks in closed form.
    Fit,
    /// Coordinate descent on codes.
    Descent,
    /// Scales of rows where a batch-norm follows.
    Scales,
    /// Batch-norm statistics and biases.
    Correction,
}

/// Settings of calibration.
///
/// Defaults: at most 512 inputs, 64 positions of a layer's output in each, free codebooks, damping 1 % of the mean diagonal,
/// no price on bits, 1024 MB for activations, no distillation (else 20 epochs, rate 0.0003, temperature 1), no part left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct CalibrateSettings {
    /// Most inputs calibrated on; further ones are compared on.
    pub calibration_images: usize,
    /// Positions of a layer's output sampled in each input.
    pub positions: usize,
    /// Which values a codebook may hold.
    pub codebook: CodebookKind,
    /// Share of the mean diagonal of the second moments that is added to the diagonal.
    pub damping: f64,
    /// Price of a bit: how far the outputs may move (mean KL divergence, in nats) to save one bit of every weight; 0 for codes of
    /// fixed width.
    pub rate: f64,
    /// Megabytes of activations that may be kept between layers; beyond them they are computed again.
    pub memory: usize,
    /// Whether the network is distilled behind the layers: codebooks, biases and batch-norm, on the same inputs.
    pub block_tune: bool,
    /// Times that the distillation goes through the inputs.
    pub block_tune_epochs: u32,
    /// Its learning rate at the start.
    pub block_tune_lr: f64,
    /// Its temperature.
    pub block_tune_temperature: f32,
    /// Parts left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<CalibrationPart>,
}

impl Default for CalibrateSettings {
    fn default() -> Self {
        Self {
            calibration_images: 512,
            positions: 64,
            codebook: CodebookKind::Free,
            damping: 0.01,
            rate: 0.0,
            memory: 1024,
            block_tune: false,
            block_tune_epochs: 20,
            block_tune_lr: 3e-4,
            block_tune_temperature: 1.0,
            without: Vec::new(),
        }
    }
}

impl CalibrateSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason| Err(CompressError::Setting { name, reason });
        if self.calibration_images == 0 {
            return bad("calibration-images", "at least one input is needed".into());
        }
        if !(1..=1 << 20).contains(&self.positions) {
            return bad("positions", format!("{} is not between 1 and 1048576", self.positions));
        }
        if !(1e-6..=1e3).contains(&self.damping) {
            return bad("damping", format!("{} is not between 1e-6 and 1000", self.damping));
        }
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            return bad("rate", format!("{} is not a number of 0 or more", self.rate));
        }
        if self.memory > 1 << 30 {
            return bad("memory", format!("{} MB are more than any machine has", self.memory));
        }
        self.tuning().check()
    }

    /// The settings of the distillation.
    pub(super) fn tuning(&self) -> BlockTune {
        BlockTune {
            epochs: self.block_tune_epochs,
            learning_rate: self.block_tune_lr,
            temperature: self.block_tune_temperature,
        }
    }

    /// As options of a network's calibration.
    pub(crate) fn options(&self, seed: u64, isa: Isa) -> NetworkOptions {
        let with = |part| !self.without.contains(&part);
        let defaults = NetworkOptions::default();
        let strength =
            if with(CalibrationPart::Targets) { Strength::Validated } else { Strength::Fixed(0.0) };
        let shrinkage = Shrinkage::Estimated;
        let values = match self.codebook {
            CodebookKind::Free => Values::Free,
            CodebookKind::Pow2 => Values::PowersOfTwo,
            CodebookKind::Uniform => Values::Uniform,
        };
        NetworkOptions {
            targets: TargetOptions { damping: self.damping, strength, shrinkage, ..defaults.targets },
            solve: SolveOptions {
                weighted_start: with(CalibrationPart::Weights),
                error_passes: if with(CalibrationPart::Pass) { defaults.solve.error_passes } else { 0 },
                fit_codebooks: with(CalibrationPart::Fit),
                descend: with(CalibrationPart::Descent),
                scale_rows: with(CalibrationPart::Scales),
                rate: self.rate,
                values,
                ..defaults.solve
            },
            residual: with(CalibrationPart::Residual),
            correct: with(CalibrationPart::Correction),
            positions: self.positions,
            memory: self.memory << 20,
            seed,
            isa,
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_switch_off_what_they_name() {
        let whole = CalibrateSettings::default().options(3, Isa::Scalar);
        let defaults = NetworkOptions { seed: 3, isa: Isa::Scalar, ..NetworkOptions::default() };
        assert_eq!(whole, defaults);
        let without = vec![CalibrationPart::Pass, CalibrationPart::Correction, CalibrationPart::Targets];
        let some = CalibrateSettings { without, ..Default::default() }.options(3, Isa::Scalar);
        assert_eq!((some.solve.error_passes, some.correct), (0, false));
        assert_eq!(some.targets.strength, Strength::Fixed(0.0));
        assert!(some.solve.descend && some.residual);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let cases = [
            ("rate", CalibrateSettings { rate: f64::NAN, ..Default::default() }),
            ("damping", CalibrateSettings { damping: 0.0, ..Default::default() }),
            ("positions", CalibrateSettings { positions: 0, ..Default::default() }),
            ("block-tune-epochs", CalibrateSettings { block_tune_epochs: 0, ..Default::default() }),
            ("block-tune-lr", CalibrateSettings { block_tune_lr: f64::NAN, ..Default::default() }),
            (
                "block-tune-temperature",
                CalibrateSettings { block_tune_temperature: 0.0, ..Default::default() },
            ),
            ("calibration-images", CalibrateSettings { calibration_images: 0, ..Default::default() }),
        ];
        for (name, settings) in cases {
            let error = settings.check().unwrap_err();
            assert!(matches!(error, CompressError::Setting { name: n, .. } if n == name), "{error}");
        }
    }
}
