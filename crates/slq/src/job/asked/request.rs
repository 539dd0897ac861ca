//! What a user asks of a compression.

use serde_json::{Map, Value};
use slq_compress::{Budget, Effort, Granularity, LayerRule, Length, MethodName, Weighting};

use crate::Error;

/// What a user asks of a compression. Everything left out takes the default of the method, or the one that measures best for
/// network and data ([`Effort`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The method.
    pub method: Option<MethodName>,
    /// Settings known by a name.
    pub preset: Option<Preset>,
    /// Bits of a code.
    pub bits: Option<u8>,
    /// Number of values, where it does not follow from the bits.
    pub codebook_size: Option<usize>,
    /// Weights that share a codebook.
    pub granularity: Option<Granularity>,
    /// Rules for single layers; they come behind those of a recipe.
    pub layers: Vec<LayerRule>,
    /// Weights of the values in clustering.
    pub cluster_weights: Option<Weighting>,
    /// Leave out the correction of batch-norm statistics and biases.
    pub no_correction: bool,
    /// Training images held out to measure on.
    pub partition_images: Option<usize>,
    /// A size, or an accuracy to keep.
    pub budget: Option<Budget>,
    /// Lengths of all trainings.
    pub lengths: Lengths,
    /// Settings of the method and of its training by their names in a recipe: `lr`, `init`, `batch-norm` …
    pub settings: Map<String, Value>,
}

/// How long is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lengths {
    /// How much work the defaults take.
    pub effort: Option<Effort>,
    /// Passes over the data at full precision before the first round; 0 for none.
    pub fine_tune_epochs: Option<f64>,
    /// Length of a round.
    pub round: Option<Length>,
    /// Training of the shared values at the end.
    pub tune: Option<Length>,
    /// Learning rate of that training.
    pub tune_rate: Option<f64>,
}

/// Settings known by a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Three values, by MLQ.
    Ternary,
    /// The settings of the publication.
    Published,
}

impl Asked {
    /// The method where none is named: calibration for inputs without labels, SLQ for data, k-means for neither.
    pub fn default_method(&self, inputs: bool, data: bool) -> MethodName {
        match (inputs, data) {
            (true, _) => MethodName::Calibrate,
            (false, true) => MethodName::Slq,
            (false, false) if self.preset.is_some() => MethodName::Slq,
            (false, false) => MethodName::Kmeans,
        }
    }

    pub(super) fn is(&self, preset: Preset) -> bool {
        self.preset == Some(preset)
    }

    /// Checks what contradicts itself whatever the network.
    ///
    /// # Errors
    /// [`Error::Argument`], naming both sides.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |text: &str| Err(Error::Argument(text.into()));
        if self.is(Preset::Ternary) {
            if self.bits.is_some() || self.codebook_size.is_some() {
                return fail("--ternary has three values: leave out --bits and --codebook-size");
            }
            if self.method.is_some_and(|m| m != MethodName::Mlq) {
                return fail(
                    "--ternary is mlq's: leave out --method, or give --codebook-size 3 in place of --ternary",
                );
            }
        }
        let lengths = &self.lengths;
        if self.is(Preset::Published) && (lengths.effort.is_some() || lengths.fine_tune_epochs.is_some()) {
            return fail("--published says how long is trained: leave out --effort and --fine-tune-epochs");
        }
        if let Some(Budget::Drop(points)) = self.budget.filter(|b| !b.is_possible()) {
            return fail(&format!("--max-drop {points}: give 0 to 100 points"));
        }
        let widths = [
            (self.bits.is_some(), "--bits"),
            (self.codebook_size.is_some(), "--codebook-size"),
            (self.is(Preset::Ternary), "--ternary"),
        ];
        if let (Some((_, flag)), true) = (widths.iter().find(|(given, _)| *given), self.budget.is_some()) {
            return fail(&format!(
                "{flag} and a budget exclude each other, since the budget chooses the widths; use --layers to set those of \
                 single layers"
            ));
        }
        Ok(())
    }
}
