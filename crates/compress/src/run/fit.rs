//! Batches that fit into memory: a step's batch in as many equal parts as that takes, whose gradients are added up.

use serde::{Deserialize, Serialize};
use slq_engine::{CpuExecutor, EngineError, Isa};
use slq_graph::{Dim, Graph, ValueInfo};

use super::recipe::Stage;
use crate::error::CompressError;
use crate::train::{TrainingData, TrainingSettings, options, sized};

/// What a training takes beside its plan, in sizes of the network's weights: momentum, the best network so far, and a
/// checkpoint on its way to the disk.
const WEIGHTS: usize = 4;
/// The same in batches of images: the one in use and those being prepared.
const BATCHES: usize = 4;

/// What is left free, as a share of what plans take: memory that was given back is not always found again.
const SPARE: f64 = 0.5;

/// How the images of a step go through memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FittedBatch {
    /// Images of a step.
    pub step: usize,
    /// Images in memory at once; it divides those of a step.
    pub part: usize,
}

impl FittedBatch {
    /// Parts of a step.
    pub fn parts(self) -> usize {
        self.step / self.part.max(1)
    }
}

/// Makes the trainings of `stages` fit into memory: where a batch does not, it becomes the largest part of it that does, and
/// a step adds up the gradients of its parts. So a step has as many images as before, and a training as many steps. The
/// result is that of whole batches up to rounding, dropout, and the statistics of batch-norm in training, which are those
/// of a part.
///
/// Returns the training with the most parts, of these the one with the largest step; `None` where nothing is trained.
///
/// # Errors
/// [`EngineError::Memory`] where not even one image fits; those of a network that cannot be trained.
pub fn fit_batches(
    graph: &Graph,
    data: &TrainingData,
    stages: &mut [Stage],
    isa: Isa,
) -> Result<Option<FittedBatch>, CompressError> {
    let graph = &sized(graph.clone(), &data.train);
    // Thin layers are more layers, whose activations are not known yet.
    let spare = stages.iter().any(|s| matches!(s, Stage::Decompose(_)));
    let mut found = Vec::new();
    for stage in stages {
        for training in stage.trainings_mut() {
            found.push(fit(graph, data, training, (spare, isa))?);
        }
        if let Stage::Decompose(settings) = stage {
            let part = found.iter().map(|f| f.part).min();
            settings.batch = settings.batch.min(part.unwrap_or(usize::MAX));
        }
    }
    Ok(widest(found))
}

/// The same for one training of `graph` as it is.
///
/// # Errors
/// As [`fit_batches`].
pub fn fit_training(
    graph: &Graph,
    data: &TrainingData,
    training: &mut TrainingSettings,
    isa: Isa,
) -> Result<FittedBatch, CompressError> {
    fit(&sized(graph.clone(), &data.train), data, training, (false, isa))
}

/// Undoes [`fit_batches`]: every step is one batch.
pub fn whole_batches(stages: &mut [Stage]) {
    for training in stages.iter_mut().flat_map(Stage::trainings_mut) {
        (training.batch, training.iter_size) = (training.images_per_step(), 1);
    }
}

/// Makes batches smaller that were found to fit, to `most` images at once: what was free then need not be free now, as memory
/// that was given back is not always found again.
///
/// Returns what [`fit_batches`] does.
pub fn narrow_batches(stages: &mut [Stage], most: usize) -> Option<FittedBatch> {
    let mut found = Vec::new();
    for stage in stages {
        found.extend(stage.trainings_mut().into_iter().map(|training| narrow(training, most)));
        if let Stage::Decompose(settings) = stage {
            settings.batch = settings.batch.min(most.max(1));
        }
    }
    widest(found)
}

/// The one with the most parts, of these the one with the largest step.
fn widest(found: Vec<FittedBatch>) -> Option<FittedBatch> {
    found.into_iter().max_by_key(|f| (f.parts(), f.step))
}

/// Takes a step in parts of at most `most` images.
fn narrow(training: &mut TrainingSettings, most: usize) -> FittedBatch {
    let step = training.images_per_step();
    if training.batch > most {
        training.batch = part_of(step, most);
        training.iter_size = step / training.batch;
    }
    FittedBatch { step, part: training.batch }
}

fn fit(
    graph: &Graph,
    data: &TrainingData,
    training: &mut TrainingSettings,
    how: (bool, Isa),
) -> Result<FittedBatch, CompressError> {
    training.check()?;
    loop {
        let part = training.batch;
        match check_room(graph, data, training, how) {
            Err(CompressError::Engine(EngineError::Memory { fits, .. })) if part > 1 => {
                narrow(training, if fits == 0 { part / 2 } else { fits.min(part - 1) });
            }
            planned => {
                return planned.map(|()| FittedBatch { step: training.images_per_step(), part });
            }
        }
    }
}

/// The largest divisor of `whole` that is at most `most`, at least 1.
fn part_of(whole: usize, most: usize) -> usize {
    (1..=most.min(whole)).rev().find(|part| whole.is_multiple_of(*part)).unwrap_or(1)
}

/// Checks that there is memory for a training, [`SPARE`] as much again, twice that where it trains `thin` layers, and what it
/// takes beside its plan.
fn check_room(
    graph: &Graph,
    data: &TrainingData,
    training: &TrainingSettings,
    (thin, isa): (bool, Isa),
) -> Result<(), CompressError> {
    let options = options(training, Some(data), (0, isa));
    let teacher = (training.distill.is_some() && options.follow.is_none()).then_some(graph);
    let image: usize = graph.free_inputs().map(values).sum();
    let images = image.saturating_mul(4 * BATCHES * training.batch);
    let further = images.saturating_add(graph.parameter_count().saturating_mul(4 * WEIGHTS));
    let spare = if thin { 1.0 + 2.0 * SPARE } else { SPARE };
    Ok(CpuExecutor::check_training((graph, teacher), training.batch, &options, (spare, further))?)
}

/// Values of an example at an input, as far as its shape is known.
fn values(input: &ValueInfo) -> usize {
    let known = |dim: &Dim| if let Dim::Known(n) = dim { *n } else { 1 };
    input.shape.iter().flatten().skip(1).map(known).fold(1, usize::saturating_mul)
}

#[cfg(test)]
mod tests {
    use slq_data::{Split, Transform};

    use super::*;
    use crate::quantize::Quantize;
    use crate::run::FineTune;

    #[test]
    fn parts_divide_the_step() {
        assert_eq!([part_of(64, 63), part_of(60, 29), part_of(61, 60), part_of(16, 0)], [32, 20, 1, 1]);
    }

    #[test]
    fn what_fits_stays_whole_and_parts_become_whole_again() {
        let images = Split::from_bytes(vec![7; 32 * 784], (0..32).map(|i| i % 10).collect(), [1, 28, 28]);
        let images = images.unwrap();
        let transform = Transform::default();
        let data = TrainingData {
            train: images.clone(),
            validation: None,
            test: images,
            transform,
            following: None,
        };
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let mut stages =
            vec![Stage::from(FineTune::default()), Quantize::slq(4).into(), Quantize::kmeans(4).into()];
        let before = stages.clone();
        let found = fit_batches(&graph, &data, &mut stages, Isa::detect()).unwrap();
        assert_eq!((found, &stages), (Some(FittedBatch { step: 64, part: 64 }), &before));
        assert_eq!(fit_batches(&graph, &data, &mut stages[2..], Isa::detect()).unwrap(), None);
        assert_eq!(narrow_batches(&mut stages, 20), Some(FittedBatch { step: 64, part: 16 }));
        let parts = |t: &TrainingSettings| (t.batch, t.iter_size);
        assert!(stages.iter_mut().flat_map(Stage::trainings_mut).all(|t| parts(t) == (16, 4)));
        assert_eq!(narrow_batches(&mut stages, 16), Some(FittedBatch { step: 64, part: 16 }));
        whole_batches(&mut stages);
        assert_eq!(stages, before);
    }
}
