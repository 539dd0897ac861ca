//! Detection of preprocessing: which of the usual ones a network was trained with.
//!
//! A network fed with wrong pixels often runs without an error and answers at chance. Where neither flags nor the model's
//! file say how pixels become inputs, the usual candidates are tried on a few hundred training images, and the one that the
//! network classifies best is taken, if it is clearly better than chance.

use serde::{Deserialize, Serialize};
use slq_compress::{Accuracy, TrainingData};
use slq_data::{Batch, ChannelOrder, Mode, Resize, Split, Transform};
use slq_engine::Isa;
use slq_graph::{DType, Dim, Graph, Node, Tensor, ValueInfo};

use crate::Error;
use crate::infer::evaluate_model;

/// Images of the first pass over all candidates.
const FIRST: usize = 64;
/// Images of the second pass over the best ones, where they are small and where they are not.
const SECOND: [usize; 2] = [1024, 256];
/// Values of an image up to which it is small.
const SMALL: usize = 3 * 64 * 64;
/// Candidates that reach the second pass.
const FINALISTS: usize = 3;

/// Where preprocessing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PreprocessingSource {
    /// Flags or options.
    Flags,
    /// The model's file.
    Stored,
    /// A prototxt's `transform_param`.
    Prototxt,
    /// The usual one that the network classifies best with.
    Detected,
    /// The default of built-in architectures: pixels from 0 to 1.
    Default,
    /// The format's default, for want of data to detect it on.
    Assumed,
}

/// Preprocessing, and where it comes from.
#[derive(Debug, Clone)]
pub struct Preprocessing {
    /// The preprocessing.
    pub transform: Transform,
    /// Where it comes from.
    pub source: PreprocessingSource,
    /// How it was detected, if it was.
    pub detection: Option<Detection>,
    /// What was added so that images get the network's size and channels; `None` where they have them.
    pub fitted: Option<String>,
}

impl From<Detection> for Preprocessing {
    fn from(detection: Detection) -> Self {
        Self {
            transform: detection.transform.clone(),
            source: PreprocessingSource::Detected,
            detection: Some(detection),
            fitted: None,
        }
    }
}

impl Preprocessing {
    /// Brings images of another size or number of channels to those that the network declares, as ImageNet's networks are
    /// evaluated: the short side to 8/7 of the input's, then the central crop. What options and files say is kept.
    pub(crate) fn fitted_to(mut self, graph: &Graph, split: &Split) -> Self {
        let shape = graph.inputs.first().and_then(|i| i.shape.as_deref());
        let Some([_, Dim::Known(channels), Dim::Known(h), Dim::Known(w)]) = shape else { return self };
        if !matches!(channels, 1 | 3) && matches!(w, 1 | 3) {
            return self; // channels last: what fits is for the engine to say
        }
        let transform = &mut self.transform;
        let mut notes = Vec::new();
        if transform.resize.is_none() && transform.crop.is_none() {
            let size = (split.height(), split.width());
            if size != (Some(*h), Some(*w)) {
                let short = (*h.max(w) * 8).div_ceil(7);
                (transform.resize, transform.crop) = (Some(Resize::ShortSide(short)), Some((*h, *w)));
                notes.push(format!(
                    "resized to a short side of {short}, central {h}x{w} (--resize and --crop set it)"
                ));
            }
        }
        let colours = (transform.channels.unwrap_or(split.channels()), *channels);
        if matches!(colours, (1, 3) | (3, 1)) && transform.channels.is_none() {
            transform.channels = Some(*channels);
            notes.push(if *channels == 1 {
                "colour made grey".into()
            } else {
                "grey repeated as colour".into()
            });
        }
        self.fitted = (!notes.is_empty()).then(|| notes.join(", "));
        self
    }

    /// A sentence for what was detected, assumed or added; `None` where a file or a flag says all.
    pub fn note(&self) -> Option<String> {
        let fitted = self.fitted.as_ref().map(|f| format!("images fitted to the network's input: {f}"));
        let texts: Vec<String> = self.origin().into_iter().chain(fitted).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn origin(&self) -> Option<String> {
        match (&self.detection, self.source) {
            (Some(d), _) => Some(match d.accuracy {
                Some(accuracy) => format!(
                    "preprocessing detected: {}, with which the network classifies {:.1} % of {} training images; {} \
                     pins it",
                    d.name,
                    100.0 * accuracy.top1,
                    d.images,
                    d.flags
                ),
                None => format!(
                    "preprocessing detected: {}, with which activations of {} images have the statistics stored in \
                     batch-norm; {} pins it",
                    d.name, d.images, d.flags
                ),
            }),
            (None, PreprocessingSource::Assumed) => Some(
                "preprocessing assumed: the network's file says nothing of it; --scale, --mean and --std set it".into(),
            ),
            _ => None,
        }
    }
}

/// The part of a report about preprocessing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreprocessingReport {
    /// Factor on pixels; `None` for 1/255 on 8-bit images.
    pub scale: Option<f32>,
    /// Means.
    pub mean: Vec<f32>,
    /// Deviations.
    pub std: Vec<f32>,
    /// Where they come from.
    pub source: PreprocessingSource,
}

impl From<&Preprocessing> for PreprocessingReport {
    fn from(from: &Preprocessing) -> Self {
        let t = &from.transform;
        Self { scale: t.scale, mean: t.mean.clone(), std: t.std.clone(), source: from.source }
    }
}

/// Preprocessing that was found, and how sure that is.
#[derive(Debug, Clone)]
pub struct Detection {
    /// The preprocessing, with the crops and sizes it was asked with.
    pub transform: Transform,
    /// What it is called.
    pub name: &'static str,
    /// The flags that pin it.
    pub flags: &'static str,
    /// The float network's accuracy with it, on [`Detection::images`] training images; `None` where it was found by
    /// batch-norm statistics, without labels.
    pub accuracy: Option<Accuracy>,
    /// Images of the final comparison.
    pub images: usize,
}

/// A usual preprocessing of 8-bit images.
struct Candidate {
    name: &'static str,
    flags: &'static str,
    scale: Option<f32>,
    mean: &'static [f32],
    std: &'static [f32],
    order: ChannelOrder,
}

const fn rgb(
    name: &'static str,
    flags: &'static str,
    scale: Option<f32>,
    mean: &'static [f32],
    std: &'static [f32],
) -> Candidate {
    Candidate { name, flags, scale, mean, std, order: ChannelOrder::Rgb }
}

const IMAGENET: &[f32] = &[0.485, 0.456, 0.406];
const IMAGENET_STD: &[f32] = &[0.229, 0.224, 0.225];

/// The usual ones for images of one channel.
const GREY: &[Candidate] = &[
    rgb("0 to 1", "--scale 0.00392156862745098", None, &[], &[]),
    rgb("pixels over 256", "--scale 0.00390625", Some(1.0 / 256.0), &[], &[]),
    rgb("0 to 255", "--scale 1", Some(1.0), &[], &[]),
    rgb("-1 to 1", "--mean 0.5 --std 0.5", None, &[0.5], &[0.5]),
    rgb("MNIST's mean and deviation", "--mean 0.1307 --std 0.3081", None, &[0.1307], &[0.3081]),
];

/// The usual ones for images of three channels.
const COLOUR: &[Candidate] = &[
    rgb(
        "ImageNet's mean and deviation",
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        None,
        IMAGENET,
        IMAGENET_STD,
    ),
    rgb("0 to 1", "--scale 0.00392156862745098", None, &[], &[]),
    rgb("0 to 255", "--scale 1", Some(1.0), &[], &[]),
    rgb("pixels over 256", "--scale 0.00390625", Some(1.0 / 256.0), &[], &[]),
    rgb("-1 to 1", "--mean 0.5 --std 0.5", None, &[0.5], &[0.5]),
    rgb("(pixel - 127) / 128", "--scale 1 --mean 127 --std 128", Some(1.0), &[127.0], &[128.0]),
    rgb(
        "CIFAR-10's mean and deviation",
        "--mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616",
        None,
        &[0.4914, 0.4822, 0.4465],
        &[0.2470, 0.2435, 0.2616],
    ),
    Candidate {
        name: "Caffe's means, blue first",
        flags: "--channel-order bgr --scale 1 --mean 103.939,116.779,123.68",
        scale: Some(1.0),
        mean: &[103.939, 116.779, 123.68],
        std: &[],
        order: ChannelOrder::Bgr,
    },
    Candidate {
        name: "0 to 255, blue first",
        flags: "--channel-order bgr --scale 1",
        scale: Some(1.0),
        mean: &[],
        std: &[],
        order: ChannelOrder::Bgr,
    },
    Candidate {
        name: "0 to 1, blue first",
        flags: "--channel-order bgr --scale 0.00392156862745098",
        scale: None,
        mean: &[],
        std: &[],
        order: ChannelOrder::Bgr,
    },
];

impl Candidate {
    /// The preprocessing, with the sizes, crops and augmentation of `base`.
    fn transform(&self, base: &Transform) -> Transform {
        Transform {
            scale: self.scale,
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
            mean_first: false,
            mean_image: None,
            channel_order: self.order,
            ..base.clone()
        }
    }
}

/// The candidates for the channels that images have behind `transform`.
fn usual(transform: &Transform, split: &Split) -> &'static [Candidate] {
    if transform.channels.unwrap_or(split.channels()) == 1 { GREY } else { COLOUR }
}

/// One candidate's result on some images.
struct Tried<'a> {
    candidate: &'a Candidate,
    transform: Transform,
    accuracy: Accuracy,
}

/// Finds the preprocessing of `graph` on the training images of `data`, whose own preprocessing gives sizes and crops.
///
/// # Errors
/// [`Error::UnknownPreprocessing`] where no candidate is clearly better than chance, with what was tried, and the errors of
/// engine and data.
pub fn detect(graph: &Graph, data: &TrainingData, isa: Isa) -> Result<Detection, Error> {
    let candidates = usual(&data.transform, &data.train);
    let few = images(&data.train, FIRST)?;
    let base = &data.transform;
    let try_on = |candidate, images: &Split| {
        let transform = Candidate::transform(candidate, base);
        let accuracy = evaluate_model(graph, images, &transform, FIRST.min(images.len()), isa)?;
        Ok::<_, Error>(Tried { candidate, transform, accuracy })
    };
    let mut tried = candidates.iter().map(|c| try_on(c, &few)).collect::<Result<Vec<_>, _>>()?;
    best_first(&mut tried);
    let small = base.output_shape(&data.train)?.iter().product::<usize>() <= SMALL;
    let more = images(&data.train, SECOND[usize::from(!small)])?;
    let finalists = tried
        .iter()
        .take(FINALISTS)
        .map(|t| final_of(graph, t, &more, isa))
        .collect::<Result<Vec<_>, _>>()?;
    let classes = data.train.class_counts().len().max(2);
    match chosen(&finalists, candidates) {
        Some(best) if clear(&best.accuracy, classes) => Ok(Detection {
            transform: best.transform.clone(),
            name: best.candidate.name,
            flags: best.candidate.flags,
            accuracy: Some(best.accuracy),
            images: more.len(),
        }),
        _ => Err(undetected(&tried, classes)),
    }
}

/// Inputs of batch-norms whose statistics are compared.
const NORMS: usize = 3;
/// Images that statistics are taken of.
const STATISTICS: usize = 64;
/// Distance (see [`distance`]) up to which statistics are those of the stored ones.
const NEAR: f64 = 0.5;
/// Candidates that are no further than this factor times the smallest distance, or nearer than [`ALIKE`], fit as well.
const SLACK: f64 = 1.25;
/// See [`SLACK`].
const ALIKE: f64 = 0.05;

/// Finds the preprocessing without labels: the one with which the inputs of the first batch-norms have the means and
/// variances that are stored in them. `None` where there is no batch-norm to compare with, or none of the usual ones fits.
///
/// # Errors
/// The errors of engine and data.
pub fn detect_by_statistics(
    graph: &Graph,
    split: &Split,
    base: &Transform,
    isa: Isa,
) -> Result<Option<Detection>, Error> {
    let norms: Vec<Norm<'_>> = graph.nodes.iter().filter_map(|n| Norm::of(graph, n)).take(NORMS).collect();
    let [input] =
        &graph.inputs.iter().filter(|i| !graph.weights.contains_key(&i.name)).collect::<Vec<_>>()[..]
    else {
        return Ok(None);
    };
    if norms.is_empty() {
        return Ok(None);
    }
    let info = |n: &Norm<'_>| ValueInfo { name: n.input.into(), dtype: DType::F32, shape: None };
    let tapped = Graph { outputs: norms.iter().map(info).collect(), ..graph.clone() };
    let images = images(split, STATISTICS)?;
    let candidates = usual(base, split);
    let mut tried = Vec::new();
    for candidate in candidates {
        let transform = candidate.transform(base);
        let mut batches = images.batches(images.len(), &transform, Mode::Eval, false)?;
        let mut batch = Batch::default();
        batches.next_into(&mut batch)?;
        let tensor = Tensor::f32(batch.shape.to_vec(), batch.images)?;
        let Ok(found) = slq_engine::run(&tapped, &[(input.name.as_str(), &tensor)], isa) else {
            return Ok(None);
        };
        let far: Vec<f64> = norms.iter().zip(&found).map(|(n, (_, t))| distance(n, t)).collect();
        tried.push((candidate, transform, far.iter().sum::<f64>() / far.len() as f64));
    }
    let nearest = tried.iter().map(|t| t.2).fold(f64::INFINITY, f64::min);
    // The first in the list is the most usual; chance moves the statistics of so few images.
    let found = tried.iter().find(|t| t.2 <= (SLACK * nearest).max(ALIKE));
    Ok(match found {
        Some((candidate, transform, far)) if *far <= NEAR => Some(Detection {
            transform: transform.clone(),
            name: candidate.name,
            flags: candidate.flags,
            accuracy: None,
            images: images.len(),
        }),
        _ => None,
    })
}

/// A batch-norm and what it stores.
struct Norm<'a> {
    input: &'a str,
    mean: &'a [f32],
    variance: &'a [f32],
}

impl<'a> Norm<'a> {
    fn of(graph: &'a Graph, node: &'a Node) -> Option<Self> {
        let constant = |i: usize| graph.weights.get(node.input(i)?)?.tensor.as_f32();
        let is_norm = node.op == "BatchNormalization";
        let (input, mean, variance) = (node.input(0)?, constant(3)?, constant(4)?);
        (is_norm && mean.len() == variance.len()).then_some(Self { input, mean, variance })
    }
}

/// How far an activation's means and variances are from those stored: the mean over channels of the squared difference of
/// means in units of the stored deviation, and of the squared logarithm of the ratio of variances; each at most 10.
fn distance(norm: &Norm<'_>, found: &Tensor) -> f64 {
    let (Some(values), [batch, channels, ..]) = (found.as_f32(), found.shape()) else { return f64::INFINITY };
    if *channels != norm.mean.len() {
        return f64::INFINITY;
    }
    let plane = values.len() / (batch * channels).max(1);
    let mut sum = 0.0;
    for c in 0..*channels {
        let runs = || (0..*batch).flat_map(|n| &values[(n * channels + c) * plane..][..plane]);
        let n = (batch * plane).max(1) as f64;
        let mean = runs().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = runs().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let stored = f64::from(norm.variance[c]).max(1e-8);
        let shift = (mean - f64::from(norm.mean[c])).powi(2) / stored;
        let ratio = ((variance + 1e-8) / stored).ln().powi(2);
        sum += shift.min(10.0) + ratio.min(10.0);
    }
    sum / *channels as f64
}

/// A candidate of the second pass, with its loss on each batch.
struct Finalist<'a> {
    candidate: &'a Candidate,
    transform: Transform,
    accuracy: Accuracy,
    losses: Vec<f64>,
}

fn final_of<'a>(graph: &Graph, tried: &Tried<'a>, images: &Split, isa: Isa) -> Result<Finalist<'a>, Error> {
    let batch = FIRST.min(images.len()).max(1);
    let mut losses = Vec::new();
    let (mut top1, mut loss) = (0.0, 0.0);
    for start in (0..images.len()).step_by(batch) {
        let part = images.subset(&format!("{start}:{}", (start + batch).min(images.len())))?;
        let found = evaluate_model(graph, &part, &tried.transform, batch, isa)?;
        let share = part.len() as f64 / images.len() as f64;
        (top1, loss) = (top1 + share * found.top1, loss + share * found.loss);
        losses.push(found.loss);
    }
    let accuracy = Accuracy { top1, top5: None, loss, images: images.len() };
    Ok(Finalist { candidate: tried.candidate, transform: tried.transform.clone(), accuracy, losses })
}

/// Of the finalists whose loss is not clearly above the smallest (two standard errors of the paired difference over
/// batches), the most usual one: the first in the list of candidates.
fn chosen<'a, 'b>(finalists: &'b [Finalist<'a>], candidates: &[Candidate]) -> Option<&'b Finalist<'a>> {
    let finite = |f: &&Finalist<'_>| f.accuracy.loss.is_finite();
    let best = finalists.iter().filter(finite).min_by(|a, b| a.accuracy.loss.total_cmp(&b.accuracy.loss))?;
    let as_good = |f: &&Finalist<'_>| {
        let differences: Vec<f64> = f.losses.iter().zip(&best.losses).map(|(a, b)| a - b).collect();
        let n = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / n;
        let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        mean <= 2.0 * (variance / n).sqrt()
    };
    let place = |f: &&Finalist<'_>| candidates.iter().position(|c| c.name == f.candidate.name);
    finalists.iter().filter(finite).filter(as_good).min_by_key(place)
}

/// So many training images, evenly spread over the split.
fn images(split: &Split, count: usize) -> Result<Split, Error> {
    let step = split.len().div_ceil(count).max(1);
    Ok(split.subset(&format!("::{step}"))?)
}

/// By falling accuracy; of those within a standard error of each other, the smaller loss first.
fn best_first(tried: &mut [Tried<'_>]) {
    let Some(top) = tried.iter().map(|t| t.accuracy.top1).max_by(f64::total_cmp) else { return };
    let images = tried[0].accuracy.images.max(1) as f64;
    let error = (top * (1.0 - top) / images).sqrt();
    let class = |t: &Tried<'_>| t.accuracy.top1 < top - error;
    let loss = |t: &Tried<'_>| if t.accuracy.loss.is_finite() { t.accuracy.loss } else { f64::INFINITY };
    tried.sort_by(|a, b| {
        let far = class(a).cmp(&class(b));
        let by =
            if class(a) { b.accuracy.top1.total_cmp(&a.accuracy.top1) } else { loss(a).total_cmp(&loss(b)) };
        far.then(by)
    });
}

/// Whether an accuracy is at least twice that of guessing, by three standard errors.
fn clear(accuracy: &Accuracy, classes: usize) -> bool {
    let chance = 1.0 / classes as f64;
    let error = (chance * (1.0 - chance) / accuracy.images.max(1) as f64).sqrt();
    accuracy.top1 >= (2.0 * chance).min(0.5 + chance / 2.0).max(chance + 3.0 * error)
}

fn undetected(tried: &[Tried<'_>], classes: usize) -> Error {
    let text: Vec<String> = tried
        .iter()
        .take(4)
        .map(|t| format!("{} ({:.1} %)", t.candidate.name, 100.0 * t.accuracy.top1))
        .collect();
    Error::UnknownPreprocessing(format!(
        "the network's preprocessing is not known, and with none of the {} usual ones it classifies {} training images \
         clearly better than chance ({:.1} %): {}, ...; give --scale, --mean and --std, or check that the class numbers \
         are those of the network",
        tried.len(),
        tried.first().map_or(0, |t| t.accuracy.images),
        100.0 / classes as f64,
        text.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_was_trained_on_pixels_from_0_to_1() {
        let (model, data) = crate::sample().unwrap();
        let data = TrainingData { transform: Transform::default(), ..data.for_model(&model).unwrap() };
        let found = detect(&model.graph, &data, Isa::detect()).unwrap();
        assert!(found.name == "0 to 1" || found.name == "pixels over 256", "{}", found.name);
        assert!(found.accuracy.unwrap().top1 > 0.95);
    }

    #[test]
    fn candidates_have_the_channels_of_the_network() {
        let split = Split::from_bytes(vec![0; 3 * 4], vec![0], [3, 2, 2]).unwrap();
        let grey = Transform { channels: Some(1), ..Transform::default() };
        for candidate in usual(&grey, &split) {
            assert!(candidate.mean.len() <= 1 && candidate.std.len() <= 1, "{}", candidate.name);
        }
        assert!(usual(&Transform::default(), &split).iter().any(|c| c.mean.len() == 3));
    }

    #[test]
    fn images_are_not_fitted_to_an_input_whose_channels_come_last() {
        let split = Split::from_bytes(vec![0; 3 * 25], vec![0], [3, 5, 5]).unwrap();
        let dims = |d: [usize; 3]| Some(std::iter::once(Dim::Unknown).chain(d.map(Dim::Known)).collect());
        let fitted = |shape| {
            let mut graph = Graph::default();
            graph.inputs.push(ValueInfo { name: "x".into(), dtype: DType::F32, shape: dims(shape) });
            let source = PreprocessingSource::Assumed;
            let plain =
                Preprocessing { transform: Transform::default(), source, detection: None, fitted: None };
            plain.fitted_to(&graph, &split).transform
        };
        assert_eq!(fitted([5, 5, 3]), Transform::default());
        assert_eq!(fitted([3, 4, 4]).crop, Some((4, 4)));
    }

    #[test]
    fn a_network_that_knows_nothing_has_no_preprocessing_to_find() {
        let (model, data) = crate::sample().unwrap();
        let data = data.for_model(&model).unwrap();
        let fresh = crate::Model::open("zoo:lenet").unwrap();
        let error = detect(&fresh.graph, &data, Isa::detect()).unwrap_err().to_string();
        assert!(error.contains("chance") && error.contains("--scale"), "{error}");
    }
}
