//! Recipes: the stages of a job with their settings.

use serde::{Deserialize, Serialize};
use slq_engine::BatchNormMode;
use slq_graph::Graph;

use crate::budget::Budget;
use crate::error::CompressError;
use crate::low_rank::Decompose;
use crate::quantize::Quantize;
use crate::quantize::tune::Tune;
use crate::train::TrainingSettings;

/// A stage that trains the whole network at full precision.
///
/// Defaults: those of [`TrainingSettings`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct FineTune {
    /// The training.
    pub training: TrainingSettings,
}

/// One stage of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // a job has a handful of stages
pub enum Stage {
    /// Trains the whole network at full precision.
    FineTune(FineTune),
    /// Splits layers into thin ones of low rank.
    Decompose(Decompose),
    /// Moves weights onto codebooks.
    Quantize(Quantize),
    /// Trains the shared values of weights that are quantized already.
    Tune(Tune),
}

impl Stage {
    /// Its name in recipes, reports and directories.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FineTune(_) => "fine-tune",
            Self::Decompose(_) => "decompose",
            Self::Quantize(_) => "quantize",
            Self::Tune(_) => "tune",
        }
    }

    /// Whether the stage trains, and so needs data.
    pub fn trains(&self) -> bool {
        match self {
            Self::FineTune(_) | Self::Tune(_) => true,
            Self::Decompose(s) => s.trains(),
            Self::Quantize(s) => s.retrains(),
        }
    }

    /// Whether the stage keeps checkpoints.
    pub fn keeps_checkpoints(&self) -> bool {
        self.trains() || matches!(self, Self::Quantize(s) if s.calibrates())
    }

    /// Whether the stage cannot do without data.
    pub fn needs_data(&self) -> bool {
        match self {
            Self::Quantize(s) => s.needs_data(),
            other => other.trains(),
        }
    }

    /// Whether the stage is trained towards the outputs of another network.
    pub(crate) fn distills(&self) -> bool {
        self.trainings().iter().any(|t| t.distill.is_some())
    }

    /// The settings of its trainings.
    pub(super) fn trainings(&self) -> Vec<&TrainingSettings> {
        match self {
            Self::FineTune(s) => vec![&s.training],
            Self::Tune(s) => vec![&s.training],
            Self::Decompose(s) => s.trainings().collect(),
            Self::Quantize(s) => s.method.training().into_iter().collect(),
        }
    }

    /// The same, to change.
    pub(super) fn trainings_mut(&mut self) -> Vec<&mut TrainingSettings> {
        match self {
            Self::FineTune(s) => vec![&mut s.training],
            Self::Tune(s) => vec![&mut s.training],
            Self::Decompose(s) => s.trainings_mut().collect(),
            Self::Quantize(s) => s.method.training_mut().into_iter().collect(),
        }
    }

    fn check(&self) -> Result<(), CompressError> {
        match self {
            Self::FineTune(s) => s.training.check(),
            Self::Tune(s) => s.check(),
            Self::Decompose(s) => s.check(),
            Self::Quantize(s) => s.check(),
        }
    }
}

impl From<FineTune> for Stage {
    fn from(stage: FineTune) -> Self {
        Self::FineTune(stage)
    }
}

impl From<Decompose> for Stage {
    fn from(stage: Decompose) -> Self {
        Self::Decompose(stage)
    }
}

impl From<Quantize> for Stage {
    fn from(stage: Quantize) -> Self {
        Self::Quantize(stage)
    }
}

impl From<Tune> for Stage {
    fn from(stage: Tune) -> Self {
        Self::Tune(stage)
    }
}

impl<S: Into<Stage>> From<S> for Recipe {
    fn from(stage: S) -> Self {
        Self::new(stage)
    }
}

/// The stages of a job, in order, and the seed of every random choice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Recipe {
    /// Seed of every random choice.
    pub seed: u64,
    /// Whether the float network is trained for as long, too, to compare with.
    pub reference: bool,
    /// The stages.
    pub stages: Vec<Stage>,
}

impl Recipe {
    /// A recipe of one stage.
    pub fn new(stage: impl Into<Stage>) -> Self {
        Self { seed: 0, reference: false, stages: vec![stage.into()] }
    }

    /// Adds a stage.
    #[must_use]
    pub fn then(mut self, stage: impl Into<Stage>) -> Self {
        self.stages.push(stage.into());
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Asks for the float network treated equally.
    #[must_use]
    pub fn with_reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// Whether a stage searches for the smallest network within a drop of accuracy: then no stage trains on the images
    /// that the search chooses by.
    pub(crate) fn holds_out(&self) -> bool {
        let drop = |s: &Stage| matches!(s, Stage::Quantize(q) if matches!(q.budget, Some(Budget::Drop(_))));
        self.stages.iter().any(drop)
    }

    /// Whether a stage is trained towards the outputs of another network.
    pub fn distills(&self) -> bool {
        self.stages.iter().any(Stage::distills)
    }

    /// Why batch-norm that is to be synchronised makes no difference to a job of `processes` on `graph`; `None` where it does, or
    /// is not asked for.
    pub fn idle_sync(&self, graph: &Graph, processes: usize) -> Option<String> {
        let asked = |t: &&TrainingSettings| t.batch_norm == BatchNormMode::Sync;
        if !self.stages.iter().any(|s| s.trainings().iter().any(asked)) {
            return None;
        }
        let norms = graph.nodes.iter().any(|n| n.op == "BatchNormalization");
        match (processes, norms) {
            (1, _) => Some("--sync-batch-norm has no effect: the job runs on one process".into()),
            (_, false) => Some("--sync-batch-norm has no effect: the network has no batch-norm".into()),
            _ => None,
        }
    }

    /// Whether a stage cannot do without data.
    pub fn needs_data(&self) -> bool {
        self.stages.iter().any(Stage::needs_data)
    }

    /// Whether a stage trains.
    pub fn trains(&self) -> bool {
        self.stages.iter().any(Stage::trains)
    }

    /// Whether a stage quantizes.
    pub fn quantizes(&self) -> bool {
        self.stages.iter().any(|s| matches!(s, Stage::Quantize(_)))
    }

    /// Whether a stage keeps checkpoints.
    pub fn keeps_checkpoints(&self) -> bool {
        self.stages.iter().any(Stage::keeps_checkpoints)
    }

    /// Whether a stage runs on inputs without labels.
    pub fn calibrates(&self) -> bool {
        self.stages.iter().any(|s| matches!(s, Stage::Quantize(q) if q.calibrates()))
    }

    /// Whether a stage weighs values by inputs.
    pub fn weighs_by_inputs(&self) -> bool {
        self.stages.iter().any(|s| matches!(s, Stage::Quantize(q) if q.weighs_by_inputs()))
    }

    /// Checks the settings of all stages, and their order.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming what is out of range, [`CompressError::NoStages`], and
    /// [`CompressError::StageOrder`] where a later stage would undo an earlier one.
    pub fn check(&self) -> Result<(), CompressError> {
        if self.stages.is_empty() {
            return Err(CompressError::NoStages);
        }
        if self.reference && !self.stages.iter().any(|s| matches!(s, Stage::Quantize(q) if q.retrains())) {
            let reason = "no stage re-trains, so there is no training to compare with".into();
            return Err(CompressError::Setting { name: "reference", reason });
        }
        for (i, stage) in self.stages.iter().enumerate() {
            stage.check()?;
            let undoes = matches!(stage, Stage::FineTune(_) | Stage::Decompose(_));
            if undoes && self.stages[..i].iter().any(|s| matches!(s, Stage::Quantize(_))) {
                return Err(CompressError::StageOrder { stage: stage.name() });
            }
            let shaped = |s: &Stage| matches!(s, Stage::Quantize(q) if q.method.has_shaped_codebook());
            if matches!(stage, Stage::Tune(_)) && self.stages[..i].iter().any(shaped) {
                let reason = "trained values would leave a codebook of given shape".into();
                return Err(CompressError::Setting { name: "tune-epochs", reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_undo_others_are_refused() {
        let quantize = Recipe::new(Quantize::slq(4));
        assert!(quantize.check().is_ok());
        assert!(quantize.clone().then(Tune::default()).check().is_ok());
        let error = quantize.then(FineTune::default()).check().unwrap_err();
        assert!(matches!(error, CompressError::StageOrder { stage: "fine-tune" }), "{error}");
        assert!(matches!(Recipe::default().check(), Err(CompressError::NoStages)));
        let untrained = Recipe::new(Quantize::kmeans(4)).with_reference().check().unwrap_err();
        assert!(matches!(untrained, CompressError::Setting { name: "reference", .. }), "{untrained}");
        let bad = Recipe::new(Quantize::slq(9));
        assert!(matches!(bad.check(), Err(CompressError::Setting { name: "bits", .. })));
    }

    #[test]
    fn a_recipe_survives_json() {
        let recipe = Recipe::new(FineTune::default())
            .then(Quantize::ternary().layer("fc*", 4).skip("conv1*"))
            .then(Tune::default())
            .seed(7);
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
    }
}
