//! What a user asks of a compression, by flags or by arguments, and the stages that it means (docs/defaults.md).

mod settings;
mod stages;

use serde_json::{Map, Value};
use slq_compress::{Budget, Effort, Granularity, LayerRule, Length, MethodName, Quantize, Weighting};

use crate::Error;

pub use settings::setting_names;
pub use stages::{Known, stages};

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

    fn is(&self, preset: Preset) -> bool {
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
                return fail("--ternary is mlq's: leave out --method");
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

    /// A flag of the quantization that was given, if one was.
    fn given(&self) -> Option<String> {
        let lengths = &self.lengths;
        let own = [
            (self.method.is_some(), "--method"),
            (self.bits.is_some(), "--bits"),
            (self.codebook_size.is_some(), "--codebook-size"),
            (self.granularity.is_some(), "--granularity"),
            (!self.layers.is_empty(), "--layers"),
            (self.cluster_weights.is_some(), "--cluster-weights"),
            (self.partition_images.is_some(), "--partition-images"),
            (self.no_correction, "--no-correction"),
            (lengths.tune.is_some(), "--tune-epochs"),
            (lengths.tune_rate.is_some(), "--tune-lr"),
            (lengths.round.is_some(), "--epochs-per-round"),
            (lengths.fine_tune_epochs.is_some(), "--fine-tune-epochs"),
            (lengths.effort.is_some(), "--effort"),
            (self.budget.is_some(), "--target-size or --max-drop"),
        ];
        let own = own.iter().find(|(given, _)| *given).map(|(_, flag)| (*flag).to_owned());
        own.or_else(|| self.settings.keys().next().map(|key| settings::flag_of(key)))
    }

    /// The settings of a method and its training that are given, with the length of a round.
    fn table(&self, settings: &Quantize) -> Map<String, Value> {
        let mut table = self.settings.clone();
        let length = |length: Option<Length>| length.map(|l| serde_json::json!(l));
        let lengths = &self.lengths;
        table.extend(length(lengths.round).map(|l| ("length".to_owned(), l)));
        if settings.method.name() == MethodName::DeepCompression {
            // Its last round trains the shared values; it has settings of its own for that.
            table.extend(length(lengths.tune).map(|l| ("tune-length".to_owned(), l)));
            table.extend(lengths.tune_rate.map(|lr| ("tune-lr".to_owned(), lr.into())));
        }
        table
    }
}
