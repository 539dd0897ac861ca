//! Distillation behind a calibration: codes stay; codebooks, biases and the scales and shifts of batch-norm learn from the float
//! network's outputs (Hinton, Vinyals, Dean 2015) on the inputs that the layers were calibrated on. Where BRECQ (Li et al., ICLR
//! 2021) reconstructs block by block, the whole network is one block here.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use slq_engine::{
    BatchNormMode, CpuExecutor, EngineError, EngineOptions, Executor, LearningRate, StepSettings, Target,
    soften,
};
use slq_graph::Graph;

use super::random::Random;
use crate::context::Context;
use crate::error::CompressError;
use crate::inputs::{InputError, Inputs};
use crate::progress::{Event, Observer};
use crate::quantize::centroids::Centroids;
use crate::train::{Between, Home, TrainingSettings};

/// Settings of the distillation.
///
/// Batches are as the inputs come, the rate falls along a half cosine, momentum is 0.9.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockTune {
    /// Times that the inputs are gone through.
    pub(super) epochs: u32,
    /// Learning rate at the start.
    pub(super) learning_rate: f64,
    /// Temperature of both networks' outputs.
    pub(super) temperature: f32,
}

impl BlockTune {
    pub(super) fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason| Err(CompressError::Setting { name, reason });
        if !(1..=10_000).contains(&self.epochs) {
            return bad("block-tune-epochs", format!("{} is not between 1 and 10000", self.epochs));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return bad("block-tune-lr", format!("{} is not a number above 0", self.learning_rate));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return bad("block-tune-temperature", format!("{} is not a number above 0", self.temperature));
        }
        Ok(())
    }
}

/// Names the random numbers of the distillation.
const TUNING: u64 = 0x7475_6e65;

/// What a distillation did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// Steps.
    pub iterations: u64,
    /// Mean KL divergence from the float network before, on inputs left out of the calibration (nats); `None` where none are.
    pub kl_before: Option<f64>,
    /// The same behind it.
    pub kl_after: Option<f64>,
    /// Whether the result was taken: not where the divergence has risen.
    pub taken: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// Trains `graph` towards the outputs of `float` on `inputs`; the seconds it took. Moments are kept by `home`, whose graph it
/// is.
///
/// # Errors
/// [`CompressError::Engine`] for a network that the engine cannot train or whose training diverges,
/// [`CompressError::Inputs`] for inputs that are no images, [`CompressError::Interrupted`].
pub(super) fn tune(
    float: &Graph,
    weights: &[String],
    settings: &BlockTune,
    (inputs, memory): (&dyn Inputs, usize),
    home: &mut Home<'_, '_>,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(u64, f64), CompressError> {
    let mut source = Source::new(float, inputs, memory, settings.temperature, context)?;
    let options = EngineOptions {
        isa: context.isa,
        batch_norm: BatchNormMode::Frozen,
        seed: context.seed,
        ..EngineOptions::default()
    };
    let mut executor = CpuExecutor::new(home.graph, source.largest, &options)?;
    let training = TrainingSettings { weight_decay: 0.0, ..TrainingSettings::default() };
    let mut centroids = Centroids::begin(home.graph, weights.iter().cloned(), &training, &mut executor)?;
    let batches = inputs.len() as u64;
    let iterations = batches * u64::from(settings.epochs);
    let policy = LearningRate::Cosine { max: 0 }.with_length(iterations);
    let (mut first, mut before) = (0, 0.0);
    if let Some(moment) = home.resume(&mut executor)? {
        (first, before) = (moment.iteration.min(iterations), moment.seconds);
        centroids.restore(moment.between)?;
        observer.on(&Event::Continued { iteration: first, iterations });
    }
    let began = Instant::now();
    let mut kept = Instant::now();
    for iteration in first..iterations {
        let order = slq_data::epoch_order(context.seed, iteration / batches, inputs.len());
        let at = order[(iteration % batches) as usize] as usize;
        let learning_rate = policy.at(settings.learning_rate, iteration) as f32;
        let step = StepSettings {
            learning_rate,
            momentum: training.momentum as f32,
            weight_decay: 0.0,
            rule: training.rule,
            iteration,
            ..StepSettings::default()
        };
        let (images, probabilities) = source.batch(at, iteration)?;
        let target =
            Target::Distribution { probabilities: &probabilities, temperature: settings.temperature };
        let seen = executor.train_step(&images, target, &step)?;
        centroids.step(&mut executor, learning_rate)?;
        observer.on(&Event::Step {
            iteration: iteration + 1,
            iterations,
            loss: seen.loss,
            learning_rate,
            images: seen.images,
            correct: seen.top1,
        });
        let stop = iteration + 1 < iterations && observer.stop();
        if stop || home.pause().is_some_and(|pause| kept.elapsed() >= pause) {
            let seconds = before + began.elapsed().as_secs_f64();
            home.keep(&executor, iteration + 1, seconds, &centroids)?;
            kept = Instant::now();
        }
        if stop {
            return Err(CompressError::Interrupted);
        }
    }
    executor.store_parameters(home.graph)?;
    centroids.finish(home.graph, &mut executor)?;
    Ok((iterations, before + began.elapsed().as_secs_f64()))
}

/// Batches, varied each time, with the float network's outputs.
struct Source<'a> {
    inputs: &'a dyn Inputs,
    /// Images of a batch where they may be kept.
    images: Vec<Vec<f32>>,
    keeps: bool,
    teacher: CpuExecutor,
    classes: usize,
    temperature: f32,
    seed: u64,
    /// Samples of the largest batch.
    largest: usize,
}

impl<'a> Source<'a> {
    fn new(
        float: &Graph,
        inputs: &'a dyn Inputs,
        memory: usize,
        temperature: f32,
        context: Context<'_>,
    ) -> Result<Self, CompressError> {
        let sizes = (0..inputs.len()).map(|i| inputs.samples(i)).collect::<Result<Vec<_>, _>>()?;
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let options = EngineOptions { isa: context.isa, ..EngineOptions::default() };
        let mut teacher = CpuExecutor::new(float, largest, &options)?;
        let classes = teacher.classes()?;
        let values = teacher.image_shape().iter().product::<usize>();
        let bytes = sizes.iter().sum::<usize>().saturating_mul(values).saturating_mul(4);
        let keeps = bytes <= memory;
        let seed = context.seed;
        let mut source =
            Self { inputs, images: Vec::new(), keeps, teacher, classes, temperature, seed, largest };
        if keeps {
            source.images = (0..inputs.len()).map(|i| source.read(i)).collect::<Result<_, _>>()?;
        }
        Ok(source)
    }

    fn read(&self, index: usize) -> Result<Vec<f32>, CompressError> {
        match <[_; 1]>::try_from(self.inputs.batch(index)?) {
            Ok([(name, tensor)]) => {
                let values = tensor.as_f32().map(<[f32]>::to_vec);
                let reason = format!("input '{name}' is not of 32-bit floats");
                values.ok_or_else(|| InputError { reason }.into())
            }
            Err(several) => Err(EngineError::InputCount { count: several.len() }.into()),
        }
    }

    /// Images and distributions of a batch, as varied for a step.
    fn batch(&mut self, index: usize, step: u64) -> Result<(Vec<f32>, Vec<f32>), CompressError> {
        let mut images = if self.keeps { self.images[index].clone() } else { self.read(index)? };
        if let &[a, b, c] = self.teacher.image_shape() {
            for (place, image) in images.chunks_exact_mut(a * b * c).enumerate() {
                let mut random = Random::of(self.seed, &[TUNING, step, place as u64]);
                vary(image, Layout::of([a, b, c]), &mut random);
            }
        }
        let mut outputs = self.teacher.logits(&images)?;
        soften(&mut outputs, self.classes, self.temperature);
        Ok((images, outputs))
    }
}

/// Where the values of an image lie.
#[derive(Clone, Copy)]
struct Layout {
    /// Channels, height, width.
    sides: [usize; 3],
    /// The distance between neighbours along each of them.
    steps: [usize; 3],
}

impl Layout {
    /// Channels come last where the last side is that of an image's channels and the first is not.
    fn of([a, b, c]: [usize; 3]) -> Self {
        if matches!(c, 1 | 3) && !matches!(a, 1 | 3) {
            Self { sides: [c, a, b], steps: [1, b * c, c] }
        } else {
            Self { sides: [a, b, c], steps: [b * c, c, 1] }
        }
    }
}

/// Mirrors every other image and moves it by up to an eighth of its sides, with its edge repeated: the float network's outputs
/// follow, and a few hundred images are learned by heart less.
fn vary(image: &mut [f32], layout: Layout, random: &mut Random) {
    let ([channels, height, width], [plane, down_one, right_one]) = (layout.sides, layout.steps);
    let mirrored = random.below(2) == 1;
    let mut shift = |side: usize| random.below(2 * (side / 8) + 1) as i64 - (side / 8) as i64;
    let (down, right) = (shift(height), shift(width));
    let from = |at: usize, by: i64, side: usize| (at as i64 - by).clamp(0, side as i64 - 1) as usize;
    let source = image.to_vec();
    for (c, y) in (0..channels).flat_map(|c| (0..height).map(move |y| (c, y))) {
        let row = c * plane + from(y, down, height) * down_one;
        for x in 0..width {
            let column = from(x, right, width);
            let column = if mirrored { width - 1 - column } else { column };
            image[c * plane + y * down_one + x * right_one] = source[row + column * right_one];
        }
    }
}

#[cfg(test)]
mod tests {
    use slq_engine::Isa;
    use slq_graph::Tensor;

    use super::*;
    use crate::damage::compare_outputs;
    use crate::progress::Silent;
    use crate::quantize::{Quantize, kmeans, select_layers};

    fn inputs(batches: usize) -> Vec<Vec<(String, Tensor)>> {
        let name = slq_zoo::build("lenet", 0).unwrap().inputs[0].name.clone();
        let value =
            |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32;
        let batch = |b: usize| {
            let values = (0..8 * 784).map(|i| value(b * 8 * 784 + i)).collect();
            vec![(name.clone(), Tensor::f32(vec![8, 1, 28, 28], values).unwrap())]
        };
        (0..batches).map(batch).collect()
    }

    #[test]
    fn an_image_is_varied_alike_whatever_its_layout() {
        let (h, w) = (9, 11);
        let value = |c: usize, y: usize, x: usize| (c * 1000 + y * 20 + x) as f32;
        for step in 0..8 {
            let mut first: Vec<f32> = (0..3 * h * w).map(|i| value(i / (h * w), i / w % h, i % w)).collect();
            let mut last: Vec<f32> = (0..3 * h * w).map(|i| value(i % 3, i / (3 * w), i / 3 % w)).collect();
            vary(&mut first, Layout::of([3, h, w]), &mut Random::of(1, &[step]));
            vary(&mut last, Layout::of([h, w, 3]), &mut Random::of(1, &[step]));
            for (i, value) in first.iter().enumerate() {
                assert_eq!(last[i % (h * w) * 3 + i / (h * w)], *value);
            }
        }
    }

    #[test]
    fn outputs_come_nearer_to_the_float_network_and_codes_stay() {
        let float = slq_zoo::build("lenet", 3).unwrap();
        let mut graph = float.clone();
        let layers = select_layers(&graph, &Quantize::kmeans(2)).unwrap();
        kmeans::share(&mut graph, &layers, None, kmeans::Sharing::default(), &mut |_, _| Ok(())).unwrap();
        let weights: Vec<String> = layers.iter().map(|l| l.weight.clone()).collect();
        let (inputs, settings) = (inputs(4), BlockTune { epochs: 40, learning_rate: 0.05, temperature: 1.0 });
        let kl = |graph: &Graph| compare_outputs(&float, graph, &inputs, Isa::Scalar).unwrap().kl.unwrap();
        let context = Context { isa: Isa::Scalar, ..Context::bare() };
        let tuned = |memory| {
            let mut graph = graph.clone();
            let mut home = Home { graph: &mut graph, keeper: None };
            let from: (&dyn Inputs, usize) = (&inputs, memory);
            tune(&float, &weights, &settings, from, &mut home, context, &mut Silent).unwrap();
            graph
        };
        let done = tuned(1 << 30);
        assert!(kl(&done) < 0.7 * kl(&graph), "{} to {}", kl(&graph), kl(&done));
        for weight in &weights {
            let (before, after) = (&graph.weights[weight], &done.weights[weight]);
            let (old, new) = (before.palette.as_ref().unwrap(), after.palette.as_ref().unwrap());
            assert_eq!(old.codes(), new.codes());
            assert_ne!(old.codebook(), new.codebook());
            assert_eq!(after.tensor.as_f32().unwrap(), new.decode());
        }
        // Inputs that are read again each time give the same bits.
        let again = tuned(0);
        assert!(weights.iter().all(|w| again.weights[w].tensor == done.weights[w].tensor));
    }
}
