//! What every search needs: the network, its images, and how one network is tried.

use slq_data::{Portion, Split};
use slq_graph::Graph;

use super::dir::SearchDir;
use super::outputs;
use crate::context::Context;
use crate::control::control;
use crate::error::CompressError;
use crate::progress::{Accuracy, Event, Observer, Trial};
use crate::quantize::Quantize;
use crate::quantize::outcome::Quantized;
use crate::quantize::stage::quantize;
use crate::train::{TrainingData, check_fit, evaluate_shared, evaluator};

/// Share of the training images that choices are made on.
const VALIDATION: f64 = 0.1;

/// Images to train on, and images to choose by.
pub(super) fn parts(data: &TrainingData, seed: u64) -> Result<(Split, Split), CompressError> {
    data.parts(Portion::Fraction(VALIDATION), seed)
}

/// `data` without the training images that a search with this seed chooses by.
///
/// # Errors
/// [`CompressError::Data`] where there are too few.
pub(crate) fn training_part(data: &TrainingData, seed: u64) -> Result<TrainingData, CompressError> {
    Ok(TrainingData { train: parts(data, seed)?.0, ..data.clone() })
}

/// A search under way.
pub(super) struct Tries<'a> {
    pub(super) graph: Graph,
    /// What remains to train on, and the validation part.
    pub(super) parts: Option<(Split, Split)>,
    /// At the widest.
    pub(super) settings: Quantize,
    pub(super) context: Context<'a>,
    pub(super) dir: SearchDir,
    pub(super) observer: &'a mut dyn Observer,
}

impl Tries<'_> {
    /// The training images without the validation part.
    pub(super) fn training_part(&self) -> Option<TrainingData> {
        let (data, (train, validation)) = (self.context.data?, self.parts.as_ref()?);
        Some(TrainingData {
            train: train.clone(),
            validation: data.validation.clone(),
            test: validation.clone(),
            transform: data.transform.clone(),
            following: data.following.clone(),
        })
    }

    /// Records trial number `place`, unless an earlier sitting has.
    pub(super) fn record(&mut self, place: usize, trial: Trial) -> Result<(), CompressError> {
        let same = |t: &Trial| t.widths == trial.widths && t.label == trial.label;
        if self.dir.trials().get(place).is_some_and(same) {
            return Ok(());
        }
        self.observer.on(&Event::Tried(&trial));
        self.dir.add(trial)
    }

    pub(super) fn accuracy(
        &self,
        graph: &Graph,
        split: &Split,
        batch: usize,
    ) -> Result<Accuracy, CompressError> {
        let data = self.context.require_data()?;
        let mut executor = evaluator(graph, batch, data, self.context.isa)?;
        check_fit(&mut executor, split, &data.transform)?;
        evaluate_shared(&mut executor, (split, &data.transform), batch, self.context.reducer)
    }

    /// The float network on the validation images, trained for as long as `done` was.
    pub(super) fn treated_equally(
        &mut self,
        done: &Quantized,
        part: Option<&TrainingData>,
    ) -> Result<Accuracy, CompressError> {
        let Some(part) = part else {
            // It agrees with itself.
            return Ok(Accuracy { top1: 1.0, loss: 0.0, ..outputs::agreement(done)? });
        };
        let steps = done.report.rounds.iter().map(|r| r.iterations).sum();
        match self.settings.method.training() {
            Some(training) if steps > 0 => {
                let dir = self.dir.of("reference");
                let context = Context { data: Some(part), dir: dir.as_deref(), ..self.context };
                let found = control(&self.graph, training, steps, context, self.observer)?;
                let images = part.test.len();
                let unlabelled = part.following.is_some();
                Ok(Accuracy { top1: found.top1, top5: None, loss: found.loss, images, unlabelled })
            }
            _ => self.accuracy(&self.graph, &part.test, self.settings.method.batch()),
        }
    }

    /// A network compressed by `settings` on the training part alone, the `place`-th of the search.
    pub(super) fn in_full(
        &mut self,
        settings: &Quantize,
        part: Option<&TrainingData>,
        place: usize,
    ) -> Result<Quantized, CompressError> {
        let dir = self.dir.of(&format!("trial-{}", place + 1));
        let context = Context { data: part, dir: dir.as_deref(), ..self.context };
        quantize(self.graph.clone(), settings, context, self.observer)
    }

    /// What a network is judged by: its accuracy on the validation images or, without labels, its agreement.
    pub(super) fn judged(&self, done: &Quantized) -> Result<Option<Accuracy>, CompressError> {
        match self.parts {
            Some(_) => Ok(done.report.final_accuracy),
            None => outputs::agreement(done).map(Some),
        }
    }

    /// Makes the report of the chosen network one of the test images: what its rounds saw were the validation images.
    pub(super) fn finish(&mut self, done: &mut Quantized) -> Result<(), CompressError> {
        let batch = self.settings.method.batch();
        done.report.baseline = self.context.accuracy(&self.graph, batch)?;
        done.report.final_accuracy = self.context.accuracy(&done.graph, batch)?;
        if let Some(accuracy) = done.report.final_accuracy {
            self.observer.on(&Event::Final(accuracy));
        }
        Ok(())
    }
}
