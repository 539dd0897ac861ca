//! The stages for a user who names no settings of the training: those that measure best (docs/defaults.md).

use serde::{Deserialize, Serialize};
use slq_engine::BatchNormMode;
use slq_graph::Graph;

use super::recipe::{FineTune, Stage};
use crate::error::CompressError;
use crate::quantize::clustering::check_trained_centroids;
use crate::quantize::stage::round_count;
use crate::quantize::{Initialisation, LayerOrder, Method, Quantize, select_layers};
use crate::train::{Length, TrainingSettings};

/// Training images that the rounds of SLQ see in all, whatever the size of the dataset, within [`EPOCHS`].
const SEEN: f64 = 400_000.0;
/// Fewest and most passes over the data in all rounds.
const EPOCHS: [f64; 2] = [4.0, 30.0];
/// How much longer the many steps of MLQ take in all.
const LEVELS: f64 = 2.25;
/// Images below which a training is gentle: batch-norm stays as it is, rates fall in proportion, no fine-tuning.
const FEW: usize = 5000;
/// Images at which a network with batch-norm would take its full rate, for datasets of less than [`FEW`].
const FULL: f64 = 50_000.0;
/// Steps of MLQ through the layers of a deep network.
const GROUPS: usize = 5;
/// So many values of a codebook are few: where they start matters.
const FEW_VALUES: usize = 4;
/// Bound on the gradient's norm where a layer may have two values, its weights jump far, and training would diverge.
const CLIP: f32 = 5.0;
/// Temperature of distillation.
const TEMPERATURE: f32 = 4.0;

/// How much work a job may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effort {
    /// A quarter of the training, and no fine-tuning before it.
    Quick,
    /// The settings of the tables.
    #[default]
    Normal,
    /// Three times the training.
    Thorough,
}

impl Effort {
    fn factor(self) -> f64 {
        match self {
            Self::Quick => 0.25,
            Self::Normal => 1.0,
            Self::Thorough => 3.0,
        }
    }
}

/// What the defaults depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// Training images.
    pub images: usize,
    /// Whether the network has batch-norm.
    pub batch_norm: bool,
    /// Whether there are no labels, so that the float network has nothing to learn from.
    pub unlabelled: bool,
}

impl Situation {
    /// Of a network and its number of training images.
    pub fn of(graph: &Graph, images: usize) -> Self {
        let batch_norm = graph.nodes.iter().any(|n| n.op == "BatchNormalization");
        Self { images, batch_norm, unlabelled: false }
    }

    /// The same without labels.
    #[must_use]
    pub fn without_labels(self, unlabelled: bool) -> Self {
        Self { unlabelled, ..self }
    }

    fn few(&self) -> bool {
        self.images < FEW
    }

    /// Settings of SGD that measure best for such a network and codebooks of `values` values.
    fn training(&self, values: usize) -> TrainingSettings {
        let rate = match (self.batch_norm, values) {
            (true, 9..) => 0.02,
            (true, _) => 0.05,
            (false, _) => 0.01,
        };
        let gentle = match (self.few(), self.batch_norm) {
            (false, _) => 1.0,
            (true, true) => self.images as f64 / FULL,
            (true, false) => self.images as f64 / FEW as f64,
        };
        TrainingSettings {
            learning_rate: rate * gentle,
            batch: match (self.few(), self.batch_norm) {
                (true, _) => 16,
                (false, true) => 128,
                (false, false) => 64,
            },
            weight_decay: if self.batch_norm { 1e-4 } else { 5e-4 },
            batch_norm: if self.few() { BatchNormMode::Frozen } else { BatchNormMode::Train },
            distill: Some(TEMPERATURE),
            ..TrainingSettings::default()
        }
    }

    /// Where `values` values start from, if not as usual: few of a network without batch-norm from a calibration. With batch-norm, or
    /// more values, that measures no better.
    fn start(&self, values: usize) -> Option<Initialisation> {
        (!self.batch_norm && values <= FEW_VALUES).then_some(Initialisation::Calibrate)
    }

    /// Passes over the data in all rounds of SLQ.
    fn epochs(&self, effort: Effort) -> f64 {
        effort.factor() * (SEEN / self.images.max(1) as f64).clamp(EPOCHS[0], EPOCHS[1])
    }
}

/// The stages for `quantize`, a method with its number of values, in a situation: SLQ and MLQ learn from the outputs of the
/// float network, which is fine-tuned on the data first. Other methods keep their settings.
///
/// # Errors
/// Those of [`select_layers`] and of schedules.
pub fn recommended(
    graph: &Graph,
    mut quantize: Quantize,
    situation: &Situation,
    effort: Effort,
) -> Result<Vec<Stage>, CompressError> {
    let values = if quantize.budget.is_some() { usize::MAX } else { quantize.size() };
    let mut training = situation.training(values);
    // The float network learns for as long as the rounds will.
    let epochs =
        situation.epochs(effort) * if matches!(quantize.method, Method::Mlq(_)) { LEVELS } else { 1.0 };
    let layers = select_layers(graph, &quantize)?;
    if quantize.budget.is_some() || layers.iter().any(|l| l.size <= 2) {
        training.clip_gradients = Some(CLIP);
    }
    let rounds = |quantize: &Quantize| Ok::<_, CompressError>(round_count(quantize, &layers)?.max(1) as f64);
    match &mut quantize.method {
        Method::Slq(s) => {
            s.init = situation.start(values).unwrap_or(Initialisation::Exact);
            training.length = Length::Epochs(epochs / rounds(&quantize)?);
        }
        Method::Mlq(s) => {
            s.rank_by = LayerOrder::Size;
            s.init = situation.start(values).unwrap_or(s.init);
            // Values of a given shape stay, and adaptive rules have no step for shared values.
            s.train_centroids = check_trained_centroids(s.codebook, &s.training).is_ok();
            s.layers_per_step = layers.len().div_ceil(GROUPS).max(1);
            training.length = Length::Epochs(epochs / rounds(&quantize)?);
        }
        _ => return Ok(vec![quantize.into()]),
    }
    let length = Length::Epochs(epochs);
    let fine_tune = TrainingSettings { length, distill: None, clip_gradients: None, ..training.clone() };
    let quantize = quantize.training(|t| *t = training);
    Ok(match effort == Effort::Quick || situation.few() || situation.unlabelled {
        true => vec![quantize.into()],
        false => vec![FineTune { training: fine_tune }.into(), quantize.into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::{CodebookKind, Granularity, MlqSettings};
    use slq_engine::UpdateRule;

    fn graph() -> Graph {
        slq_zoo::build("lenet", 0).unwrap()
    }

    fn trainings(stages: &[Stage]) -> Vec<TrainingSettings> {
        let of = |s: &Stage| match s {
            Stage::FineTune(s) => s.training.clone(),
            Stage::Quantize(s) => s.method.training().unwrap().clone(),
            other => panic!("{other:?}"),
        };
        stages.iter().map(of).collect()
    }

    #[test]
    fn a_fine_tuned_network_teaches_rounds_that_see_as_many_images() {
        let situation = Situation { images: 60_000, batch_norm: false, unlabelled: false };
        let stages = recommended(&graph(), Quantize::slq(4), &situation, Effort::Normal).unwrap();
        let [float, rounds] = &trainings(&stages)[..] else { panic!("{stages:?}") };
        let (Length::Epochs(all), Length::Epochs(each)) = (float.length, rounds.length) else { panic!() };
        assert!((all - 6.67).abs() < 0.01 && (all - 5.0 * each).abs() < 1e-9, "{all} {each}");
        assert_eq!((float.distill, rounds.distill), (None, Some(4.0)));
        let ternary = recommended(&graph(), Quantize::ternary(), &situation, Effort::Normal).unwrap();
        assert_eq!(trainings(&ternary)[0].length, Length::Epochs(2.25 * all));
        let quick = recommended(&graph(), Quantize::slq(4), &situation, Effort::Quick).unwrap();
        assert_eq!(quick.len(), 1);
        assert_eq!(trainings(&quick)[0].length, Length::Epochs(each / 4.0));
    }

    #[test]
    fn few_images_are_trained_on_gently() {
        let situation = Situation { images: 250, batch_norm: true, unlabelled: false };
        let stages = recommended(&graph(), Quantize::slq(4), &situation, Effort::Normal).unwrap();
        let [rounds] = &trainings(&stages)[..] else { panic!("{stages:?}") };
        assert_eq!((rounds.learning_rate, rounds.batch), (1e-4, 16));
        assert_eq!((rounds.batch_norm, rounds.length), (BatchNormMode::Frozen, Length::Epochs(6.0)));
    }

    #[test]
    fn gradients_are_bounded_where_a_layer_may_have_two_values() {
        let situation = Situation { images: 60_000, batch_norm: false, unlabelled: false };
        let bounds = |quantize| {
            let stages = recommended(&graph(), quantize, &situation, Effort::Normal).unwrap();
            trainings(&stages).iter().map(|t| t.clip_gradients).collect::<Vec<_>>()
        };
        let budget = Quantize { budget: Some(crate::Budget::Ratio(20.0)), ..Quantize::slq(4) };
        assert_eq!(bounds(budget), [None, Some(CLIP)]);
        assert_eq!(bounds(Quantize::slq(4).layer("*", 1)), [None, Some(CLIP)]);
        assert_eq!(bounds(Quantize::slq(2)), [None, None]);
    }

    #[test]
    fn few_values_start_from_a_calibration_where_there_is_no_batch_norm() {
        let start = |quantize, batch_norm| {
            let situation = Situation { images: 60_000, batch_norm, unlabelled: false };
            let stages = recommended(&graph(), quantize, &situation, Effort::Normal).unwrap();
            let Some(Stage::Quantize(found)) = stages.last() else { panic!("{stages:?}") };
            match &found.method {
                Method::Slq(s) => s.init,
                Method::Mlq(s) => s.init,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(start(Quantize::slq(2), false), Initialisation::Calibrate);
        assert_eq!(start(Quantize::ternary(), false), Initialisation::Calibrate);
        assert_eq!(start(Quantize::slq(3), false), Initialisation::Exact);
        assert_eq!(start(Quantize::slq(2), true), Initialisation::Exact);
        assert_eq!(start(Quantize::ternary(), true), Initialisation::Published);
    }

    #[test]
    fn centroids_of_ternary_layers_go_on_training_where_they_can() {
        let situation = Situation { images: 60_000, batch_norm: true, unlabelled: false };
        let trained = |asked: Quantize| {
            let stages = recommended(&graph(), asked, &situation, Effort::Normal).unwrap();
            match stages.last() {
                Some(Stage::Quantize(Quantize { method: Method::Mlq(s), .. })) => s.train_centroids,
                other => panic!("{other:?}"),
            }
        };
        assert!(trained(Quantize::ternary()));
        assert!(!trained(Quantize::ternary().training(|t| t.rule = UpdateRule::AdaGrad { delta: 1e-8 })));
        let shaped = MlqSettings { codebook: CodebookKind::Pow2, ..MlqSettings::default() };
        assert!(!trained(Quantize::new(Method::Mlq(shaped), 2)));
    }

    #[test]
    fn what_the_user_set_beside_the_training_stays() {
        let situation = Situation { images: 60_000, batch_norm: true, unlabelled: false };
        let asked = Quantize::ternary().granularity(Granularity::Channel).skip("conv1*");
        let stages = recommended(&graph(), asked.clone(), &situation, Effort::Thorough).unwrap();
        let Some(Stage::Quantize(found)) = stages.last() else { panic!("{stages:?}") };
        assert_eq!((&found.granularity, &found.layers), (&asked.granularity, &asked.layers));
        assert_eq!((found.size(), found.method.training().unwrap().learning_rate), (3, 0.05));
        let kmeans = recommended(&graph(), Quantize::kmeans(4), &situation, Effort::Normal).unwrap();
        assert_eq!(kmeans, [Quantize::kmeans(4).into()]);
    }
}
