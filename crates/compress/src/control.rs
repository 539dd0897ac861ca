//! The float network treated equally: trained for as many steps as a method re-trains, at the same rates and on the same
//! images, so that a drop of accuracy is due to the quantization alone (docs/budgets.md).

use serde::{Deserialize, Serialize};
use slq_graph::Graph;

use crate::checkpoint::{Fingerprint, StageDir, TrainingDir};
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::{Event, Observer, Reference};
use crate::train::{Keep, Length, TrainOptions, TrainingSettings, train_kept};

#[derive(Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    reference: Reference,
}

/// Trains a copy of `graph` towards the labels as `training` says, for `steps` steps, and measures it on the test images of
/// the context.
///
/// # Errors
/// [`CompressError::NoData`] and those of a training.
pub(crate) fn control(
    graph: &Graph,
    training: &TrainingSettings,
    steps: u64,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Reference, CompressError> {
    let data = context.require_data()?;
    let settings = TrainingSettings { length: Length::Iterations(steps), distill: None, ..training.clone() };
    let fingerprint = Fingerprint::new(graph, &context, &settings)?;
    let dir = context.dir.map(StageDir::create).transpose()?;
    if let Some(dir) = &dir
        && let Some(done) = dir.state::<State>()?
    {
        done.fingerprint.check(&fingerprint, dir.path())?;
        return Ok(done.reference);
    }
    let mut keeper =
        dir.as_ref().map(|dir| TrainingDir::new(dir, &fingerprint, "training".into(), context.every));
    let reducer = Some(context.reducer);
    let options = TrainOptions { seed: context.seed, isa: context.isa, reducer, ..TrainOptions::default() };
    let keep = keeper.as_mut().map(|k| k as &mut dyn Keep);
    let mut inner = Steps(observer);
    let report = train_kept(graph.clone(), data, &settings, options, keep, &mut inner)?.report;
    let reference = Reference::new(&report.final_accuracy, report.iterations, report.seconds);
    if let Some(dir) = &dir {
        dir.save_state(&State { fingerprint, reference: reference.clone() })?;
    }
    keeper.iter_mut().for_each(TrainingDir::clear);
    observer.on(&Event::Reference(&reference));
    Ok(reference)
}

/// Passes on the steps alone: accuracies of the control are not those of the job.
struct Steps<'a>(&'a mut dyn Observer);

impl Observer for Steps<'_> {
    fn on(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Step { .. } | Event::Continued { .. }) {
            self.0.on(event);
        }
    }

    fn stop(&mut self) -> bool {
        self.0.stop()
    }
}
