//! Which augmentation of the training images a network bears: one that it was trained with hardly lowers its accuracy, one
//! that changes what an image shows does (a mirrored digit is another one).

use slq_compress::TrainingData;
use slq_data::{AxisOrder, Mode, Split, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa, Statistics, Target};
use slq_graph::Graph;

use super::candidates::spread;
use crate::Error;
use crate::batches::fitting_batch;

/// Training images below which nothing is added: a few hundred are too few to tell.
const FEWEST: usize = 5000;
/// Images it is measured on.
const IMAGES: usize = 1024;
/// Images in a batch, where as many fit into memory.
const BATCH: usize = 64;
/// Points of top-1 that augmentation may cost, beside two standard errors.
const MOST: f64 = 0.01;
/// Largest side of images that are shifted, and the share of it.
const SMALL: usize = 64;
const SHIFT: usize = 8;

/// Augmentation of training images that a network bears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Mirrors images at random.
    pub mirror: bool,
    /// Shifts images by up to so many pixels.
    pub pad_crop: Option<usize>,
    /// Top-1 without and with it, on as many training images.
    pub top1: [f64; 2],
    /// Training images it was measured on.
    pub images: usize,
}

impl Augmentation {
    /// What was found, with the flags that pin it.
    pub fn note(&self) -> String {
        let flags =
            [self.mirror.then(|| "--mirror".to_owned()), self.pad_crop.map(|n| format!("--pad-crop {n}"))];
        let flags: Vec<String> = flags.into_iter().flatten().collect();
        let [before, after] = self.top1.map(|t| 100.0 * t);
        format!(
            "training images are augmented by {}, which the network bears ({before:.1} % of {} training images without, \
             {after:.1} % with; --no-augmentation leaves them)",
            flags.join(" and "),
            self.images
        )
    }
}

/// The augmentation that `graph` bears on the training images of `data`; `None` where the preprocessing has some already,
/// where images are few, and where the network bears none.
///
/// # Errors
/// Those of engine and data.
pub fn detect_augmentation(
    graph: &Graph,
    data: &TrainingData,
    isa: Isa,
) -> Result<Option<Augmentation>, Error> {
    let given = &data.transform;
    if given.mirror || given.pad_crop.is_some() || data.train.len() < FEWEST {
        return Ok(None);
    }
    let images = spread(&data.train, IMAGES)?;
    let options = EngineOptions { isa, ..EngineOptions::default() };
    let (mut executor, _) = fitting_batch(BATCH, |batch| Ok(CpuExecutor::new(graph, batch, &options)?))?;
    let mut share = |transform: &Transform, mode| top1(&mut executor, &images, transform, mode);
    let before = share(given, Mode::Eval)?;
    let error = (before * (1.0 - before) / images.len() as f64).sqrt();
    let bears = |after: f64| before - after <= MOST + 2.0 * error;
    let train = Mode::Train { seed: 0, epoch: 0 };
    let planes = Transform { axis_order: AxisOrder::ChannelsFirst, ..given.clone() };
    let [_, height, width] = planes.output_shape(&images)?;
    let whole = given.crop.is_none() && height.max(width) <= SMALL;
    let shift = (height.min(width) / SHIFT).max(1);
    let mirrored = Transform { mirror: true, ..given.clone() };
    let mirror = bears(share(&mirrored, train)?);
    let shifted = Transform { pad_crop: Some(shift), ..given.clone() };
    let pad_crop = (whole && bears(share(&shifted, train)?)).then_some(shift);
    if !mirror && pad_crop.is_none() {
        return Ok(None);
    }
    let after = share(&Transform { mirror, pad_crop, ..given.clone() }, train)?;
    Ok(Some(Augmentation { mirror, pad_crop, top1: [before, after], images: images.len() }))
}

fn top1(executor: &mut CpuExecutor, images: &Split, transform: &Transform, mode: Mode) -> Result<f64, Error> {
    let mut sum = Statistics::default();
    for batch in images.batches(executor.batch(), transform, mode, false)? {
        let batch = batch?;
        let labels = Target::Labels(&batch.labels);
        sum.merge(&executor.evaluate(&batch.images, Some(labels))?);
    }
    Ok(sum.top1 as f64 / sum.images.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_neither_mirrored_nor_shifted_far() {
        let (model, data) = crate::sample().unwrap();
        let data = data.for_model(&model).unwrap();
        let found = detect_augmentation(&model.graph, &data, Isa::detect()).unwrap();
        assert!(found.is_none_or(|f| !f.mirror), "{found:?}");
        let few = TrainingData { train: data.train.subset("0:100").unwrap(), ..data };
        assert_eq!(detect_augmentation(&model.graph, &few, Isa::detect()).unwrap(), None);
    }
}
