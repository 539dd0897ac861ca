//! Inputs without labels, opened from what a user names: images, arrays, or random ones.

use std::path::Path;

use slq_compress::{InputError, Inputs, Origin, SplitInputs};
use slq_data::{Mode, OpenOptions, Split, Transform};
use slq_engine::Isa;
use slq_graph::{DType, Dim, Graph, Tensor, TensorData};

use crate::dataset::DataOptions;
use crate::detect::{Preprocessing, PreprocessingSource, detect_by_statistics};
use crate::model::Model;
use crate::{Error, arrays};

/// Samples in a batch.
const BATCH: usize = 16;
/// Most values of a random input that is made.
const MOST: usize = 1 << 28;

/// Inputs that a network is calibrated on, or compared with another one on.
#[derive(Debug, Clone)]
pub struct CalibrationInputs {
    source: Source,
    /// How pixels become inputs; `None` for arrays and random inputs.
    pub preprocessing: Option<Preprocessing>,
}

#[derive(Debug, Clone)]
enum Source {
    Images {
        name: String,
        images: Box<(Split, Transform)>,
    },
    /// Arrays by the names of the network's inputs, samples along the first axis.
    Arrays(Vec<(String, Tensor)>),
    /// Examples of a dataset with named inputs.
    Examples(Box<SplitInputs>),
    /// Draws from a normal distribution, of these shapes without their first axis.
    Random {
        shapes: Vec<(String, Vec<usize>)>,
        count: usize,
        seed: u64,
    },
}

impl CalibrationInputs {
    /// Opens `text`: a folder or zip of images, with class folders or without; an `.npz` with an array for each input; an
    /// `.npy` for a network with one input; or `random:N`. Labels are not read, except to find out how pixels become inputs
    /// where nothing else says it.
    ///
    /// # Errors
    /// [`Error::Data`] and [`Error::File`] naming the file, [`Error::Argument`] for what is none of these,
    /// [`Error::UnknownPreprocessing`] where it is not known how pixels become inputs.
    pub fn open(
        text: &str,
        model: &Model,
        options: &DataOptions,
        seed: u64,
        isa: Isa,
    ) -> Result<Self, Error> {
        if let Some(count) = text.strip_prefix("random:") {
            let count = count.parse().ok().filter(|n| (1..=1 << 16).contains(n));
            let count = count.ok_or_else(|| {
                Error::Argument(format!("--calibrate {text}: give a number of inputs from 1 to 65536"))
            })?;
            return Self::random(&model.graph, count, seed);
        }
        let path = Path::new(text);
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => {
                let [name] = &input_names(&model.graph)[..] else {
                    let names = input_names(&model.graph).join(", ");
                    let reason = format!(
                        "the network has several inputs ({names}): give an .npz with an array for each"
                    );
                    return Err(Error::File { path: path.into(), reason });
                };
                Self::arrays(path, vec![(name.clone(), arrays::read(path)?)], &model.graph)
            }
            Some("npz") if !is_dataset(path) => Self::arrays(path, arrays::read_npz(path)?, &model.graph),
            _ => {
                let data = slq_data::Dataset::find(
                    text,
                    &OpenOptions { classes: options.classes.clone(), unlabelled: true },
                )?;
                Self::detected(model, data.train, options, seed, isa)
            }
        }
    }

    /// Images whose preprocessing `options` or the model's file say, or which is found out as [`open`](Self::open) does.
    ///
    /// # Errors
    /// [`Error::UnknownPreprocessing`] where it is not known how pixels become inputs, and those of [`images`](Self::images).
    pub fn detected(
        model: &Model,
        split: Split,
        options: &DataOptions,
        seed: u64,
        isa: Isa,
    ) -> Result<Self, Error> {
        let preprocessing = preprocessing(model, &split, options, isa)?;
        Self::images(model, split, preprocessing, seed)
    }

    /// Arrays by the names of the network's inputs, samples along the first axis; further arrays are left aside.
    ///
    /// # Errors
    /// [`Error::Argument`] for an input without an array, and arrays of different lengths or without samples.
    pub fn tensors(graph: &Graph, arrays: Vec<(String, Tensor)>) -> Result<Self, Error> {
        chosen(graph, arrays).map(Self::of_arrays).map_err(Error::Argument)
    }

    /// Images with known preprocessing, in an order drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a network with several inputs.
    pub fn images(
        model: &Model,
        split: Split,
        preprocessing: Preprocessing,
        seed: u64,
    ) -> Result<Self, Error> {
        if split.inputs().is_some() {
            let inputs = SplitInputs::new(&model.graph, split.shuffled(seed), preprocessing.transform);
            return Ok(Self { source: Source::Examples(Box::new(inputs)), preprocessing: None });
        }
        let names = input_names(&model.graph);
        let [name] = &names[..] else {
            let text = format!(
                "the network has {} inputs ({}): images serve one alone, give an .npz with an array for each",
                names.len(),
                names.join(", ")
            );
            return Err(Error::Argument(text));
        };
        let transform = preprocessing.transform.clone();
        let split = split.shuffled(seed);
        let source = Source::Images { name: name.clone(), images: Box::new((split, transform)) };
        Ok(Self { source, preprocessing: Some(preprocessing) })
    }

    /// `count` inputs from a normal distribution of mean 0 and deviation 1.
    ///
    /// # Errors
    /// [`Error::Argument`] for a network whose inputs have open sizes beside the first, or are not of floats.
    pub fn random(graph: &Graph, count: usize, seed: u64) -> Result<Self, Error> {
        let mut shapes = Vec::new();
        for input in graph.free_inputs() {
            let refuse = |why: &str| {
                let text = format!("random inputs cannot be made: input '{}' {why}", input.name);
                Err(Error::Argument(text))
            };
            if input.dtype != DType::F32 {
                return refuse("is not of 32-bit floats");
            }
            let Some([_, rest @ ..]) = input.shape.as_deref() else { return refuse("declares no shape") };
            let mut shape = Vec::new();
            for dim in rest {
                let Dim::Known(extent) = dim else {
                    return refuse("has open sizes; give them with --input-shape NAME=1x3x224x224");
                };
                shape.push(*extent);
            }
            if shape.iter().try_fold(BATCH, |n, &d| n.checked_mul(d)).is_none_or(|n| n > MOST) {
                return refuse("is too large");
            }
            shapes.push((input.name.clone(), shape));
        }
        if shapes.is_empty() {
            return Err(Error::Argument("random inputs cannot be made: the network has no input".into()));
        }
        Ok(Self { source: Source::Random { shapes, count, seed }, preprocessing: None })
    }

    /// Arrays of the file at `path`.
    fn arrays(path: &Path, found: Vec<(String, Tensor)>, graph: &Graph) -> Result<Self, Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        chosen(graph, found).map(Self::of_arrays).map_err(fail)
    }

    fn of_arrays(arrays: Vec<(String, Tensor)>) -> Self {
        Self { source: Source::Arrays(arrays), preprocessing: None }
    }

    /// Number of inputs.
    pub fn count(&self) -> usize {
        match &self.source {
            Source::Images { images, .. } => images.0.len(),
            Source::Examples(inputs) => inputs.count(),
            Source::Arrays(arrays) => arrays[0].1.shape()[0],
            Source::Random { count, .. } => *count,
        }
    }

    /// The images, where these are images.
    pub fn split(&self) -> Option<(&Split, &Transform)> {
        match &self.source {
            Source::Images { images, .. } => Some((&images.0, &images.1)),
            _ => None,
        }
    }
}

impl Inputs for CalibrationInputs {
    fn len(&self) -> usize {
        self.count().div_ceil(BATCH)
    }

    fn batch(&self, index: usize) -> Result<Vec<(String, Tensor)>, InputError> {
        let first = index * BATCH;
        let last = first + Inputs::samples(self, index)?;
        match &self.source {
            Source::Images { name, images } => {
                let (split, transform) = &**images;
                let part = split.subset(&format!("{first}:{last}")).map_err(said)?;
                let mut batch = slq_data::Batch::default();
                let mut batches = part.batches(part.len(), transform, Mode::Eval, false).map_err(said)?;
                batches.next_into(&mut batch).map_err(said)?;
                let tensor = Tensor::f32(batch.shape.to_vec(), batch.images).map_err(said)?;
                Ok(vec![(name.clone(), tensor)])
            }
            Source::Examples(inputs) => inputs.batch(index),
            Source::Arrays(arrays) => {
                let slice = |(n, t): &(String, Tensor)| Ok((n.clone(), rows(t, first, last)?));
                arrays.iter().map(slice).collect()
            }
            Source::Random { shapes, seed, .. } => {
                let mut random = Normal::new(*seed, index as u64);
                let mut draw = |(name, rest): &(String, Vec<usize>)| {
                    let shape: Vec<usize> =
                        std::iter::once(last - first).chain(rest.iter().copied()).collect();
                    let values = (first..last).flat_map(|_| random.sample(rest)).collect();
                    Ok((name.clone(), Tensor::f32(shape, values).map_err(said)?))
                };
                shapes.iter().map(&mut draw).collect()
            }
        }
    }

    fn samples(&self, index: usize) -> Result<usize, InputError> {
        Ok(self.count().saturating_sub(index * BATCH).min(BATCH))
    }

    fn origin(&self) -> Origin {
        match self.source {
            Source::Random { .. } => Origin::Random,
            _ => Origin::Given,
        }
    }

    fn fingerprint(&self) -> Result<Vec<u8>, InputError> {
        let mut bytes = Vec::new();
        match &self.source {
            Source::Images { images, .. } => {
                let (split, transform) = &**images;
                bytes.extend(split.fingerprint());
                bytes.extend(serde_json::to_vec(transform).map_err(said)?);
            }
            Source::Examples(inputs) => bytes.extend(inputs.fingerprint()?),
            Source::Arrays(arrays) => {
                for (name, tensor) in arrays {
                    bytes.extend(name.bytes());
                    bytes.extend(format!("{:?}", tensor.shape()).bytes());
                    match tensor.data() {
                        TensorData::F32(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
                        TensorData::I64(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
                        TensorData::I32(v) => bytes.extend(v.iter().flat_map(|x| x.to_le_bytes())),
                        _ => {}
                    }
                }
            }
            Source::Random { count, seed, .. } => bytes.extend(format!("random {count} {seed}").bytes()),
        }
        Ok(bytes)
    }
}

fn said(error: impl std::fmt::Display) -> InputError {
    InputError { reason: error.to_string() }
}

/// The inputs that a caller gives.
fn input_names(graph: &Graph) -> Vec<String> {
    let given = graph.free_inputs();
    given.map(|i| i.name.clone()).collect()
}

/// The array of each input of the network, or what is wrong with them.
fn chosen(graph: &Graph, found: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, String> {
    let mut chosen = Vec::new();
    let names = || found.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
    for name in input_names(graph) {
        let array = found.iter().find(|(n, _)| *n == name).map(|(_, t)| t.clone());
        let array = array.ok_or_else(|| {
            format!("it has no array for the network's input '{name}'; its arrays are {}", names())
        })?;
        chosen.push((name, array));
    }
    let count = chosen.first().and_then(|(_, t)| t.shape().first().copied()).unwrap_or(0);
    if let Some((name, array)) = chosen.iter().find(|(_, t)| t.shape().first() != Some(&count)) {
        let (other, found) = (&chosen[0].0, array.shape());
        return Err(format!("'{name}' is {found:?}, but '{other}' has {count} samples"));
    }
    match count {
        0 => Err("it holds no samples".into()),
        _ => Ok(chosen),
    }
}

/// Samples `first..last` along the first axis.
fn rows(tensor: &Tensor, first: usize, last: usize) -> Result<Tensor, InputError> {
    let mut shape = tensor.shape().to_vec();
    let step: usize = shape[1..].iter().product();
    shape[0] = last - first;
    let range = first * step..last * step;
    let data = match tensor.data() {
        TensorData::F32(v) => TensorData::F32(v[range].to_vec()),
        TensorData::I64(v) => TensorData::I64(v[range].to_vec()),
        TensorData::I32(v) => TensorData::I32(v[range].to_vec()),
        _ => return Err(InputError { reason: format!("elements of type {:?}", tensor.dtype()) }),
    };
    Tensor::new(shape, data).map_err(said)
}

/// Whether an `.npz` has the arrays of a dataset.
fn is_dataset(path: &Path) -> bool {
    arrays::names(path).is_ok_and(|names| names.iter().any(|n| n == "x_train" || n == "x_test"))
}

/// How pixels become inputs: by flags, by the file, by batch-norm statistics or, failing these, by labels.
fn preprocessing(
    model: &Model,
    images: &Split,
    options: &DataOptions,
    isa: Isa,
) -> Result<Preprocessing, Error> {
    let found = options.preprocessing_for(model, images)?;
    if found.source != PreprocessingSource::Assumed {
        return Ok(found);
    }
    if let Some(kept) = options.kept(&found, images) {
        return Ok(kept);
    }
    if let Some(detection) = detect_by_statistics(&model.graph, images, &found.transform, isa)? {
        return Ok(found.found(detection));
    }
    if images.class_counts().len() > 1 {
        let (train, test, transform) = (images.clone(), images.clone(), found.transform.clone());
        let data = slq_compress::TrainingData { train, validation: None, test, transform, following: None };
        return found.detected(&model.graph, &data, isa);
    }
    let text = "how pixels become inputs is not known: the model's file does not say it, and without batch-norm or labels \
                it cannot be found out; give --scale, --mean and --std (0 to 1 is --scale 0.00392156862745098)";
    Err(Error::UnknownPreprocessing(text.into()))
}

/// Draws of mean 0 and deviation 1.
struct Normal(u64);

/// Share of an image's variance that its channels have in common.
const COMMON: f32 = 0.9;

impl Normal {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// From the normal distribution: the sum of twelve uniform draws, less 6.
    fn draw(&mut self) -> f32 {
        let mut sum = -6.0f32;
        for _ in 0..12 {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            sum += ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        }
        sum
    }

    /// A sample of a shape: independent draws or, for what looks like an image, planes whose amplitude falls with frequency,
    /// as that of photographs does.
    fn sample(&mut self, shape: &[usize]) -> Vec<f32> {
        match *shape {
            [channels @ (1 | 3), h, w] if h.min(w) >= 8 => {
                let common = self.plane(h, w);
                let mut values = Vec::with_capacity(channels * h * w);
                for _ in 0..channels {
                    let own = self.plane(h, w);
                    let mixed = |(c, o): (&f32, &f32)| COMMON.sqrt() * c + (1.0 - COMMON).sqrt() * o;
                    values.extend(common.iter().zip(&own).map(mixed));
                }
                values
            }
            _ => (0..shape.iter().product()).map(|_| self.draw()).collect(),
        }
    }

    /// Octaves of interpolated noise, each twice as fine as the one before and of half its amplitude.
    fn plane(&mut self, h: usize, w: usize) -> Vec<f32> {
        let mut values = vec![0.0f32; h * w];
        let (mut cells, mut amplitude) = (2, 1.0f32);
        while cells <= 2 * h.max(w) {
            let side = cells + 2;
            let grid: Vec<f32> = (0..side * side).map(|_| amplitude * self.draw()).collect();
            // Each octave begins anywhere, so that no place of the plane is special.
            let (dy, dx) = ((self.draw() + 6.0) / 12.0, (self.draw() + 6.0) / 12.0);
            for y in 0..h {
                let (row, v) = cell(y, h, cells, dy);
                for x in 0..w {
                    let (column, u) = cell(x, w, cells, dx);
                    let at = |r: usize, c: usize| grid[r * side + c];
                    let top = at(row, column) * (1.0 - u) + at(row, column + 1) * u;
                    let bottom = at(row + 1, column) * (1.0 - u) + at(row + 1, column + 1) * u;
                    values[y * w + x] += top * (1.0 - v) + bottom * v;
                }
            }
            (cells, amplitude) = (2 * cells, amplitude / 2.0);
        }
        // Variances of the octaves sum to about 4/3, of which interpolation keeps 4/9.
        values.iter_mut().for_each(|v| *v *= (27.0f32 / 16.0).sqrt());
        values
    }
}

/// The cell of a grid that pixel `i` of `n` lies in, and how far.
fn cell(i: usize, n: usize, cells: usize, offset: f32) -> (usize, f32) {
    let place = (i as f32 * cells as f32 / n as f32 + offset).min(cells as f32);
    (place as usize, place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lenet() -> Model {
        Model::open("zoo:lenet").unwrap()
    }

    #[test]
    fn random_inputs_are_normal_and_the_same_each_time() {
        let inputs = CalibrationInputs::random(&lenet().graph, 40, 7).unwrap();
        assert_eq!((inputs.len(), inputs.count(), inputs.origin()), (3, 40, Origin::Random));
        let batch = inputs.batch(2).unwrap();
        assert_eq!(batch[0].1.shape(), [8, 1, 28, 28]);
        assert_eq!(batch, inputs.batch(2).unwrap());
        let values = batch[0].1.as_f32().unwrap();
        let n = values.len() as f32;
        let mean = values.iter().sum::<f32>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        assert!(mean.abs() < 0.5 && (0.4..1.8).contains(&variance), "{mean} {variance}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (model, options) = (lenet(), DataOptions::default());
        let open = |text: &str| CalibrationInputs::open(text, &model, &options, 0, Isa::detect());
        for text in ["random:0", "random:x", "random:99999999"] {
            assert!(open(text).unwrap_err().to_string().contains(text), "{text}");
        }
        let path = dir.path().join("x.npy");
        let tensor = Tensor::f32(vec![3, 1, 28, 28], vec![0.5; 3 * 784]).unwrap();
        arrays::write(&path, &tensor).unwrap();
        let inputs = open(path.to_str().unwrap()).unwrap();
        assert_eq!((inputs.count(), inputs.batch(0).unwrap()[0].1.shape()), (3, &[3, 1, 28, 28][..]));
    }

    #[test]
    fn tensors_in_memory_are_chosen_by_name() {
        let graph = lenet().graph;
        let name = graph.inputs[0].name.clone();
        let tensor = |n: usize| Tensor::f32(vec![n, 1, 28, 28], vec![0.5; n * 784]).unwrap();
        let given = vec![("other".into(), tensor(1)), (name.clone(), tensor(20))];
        let inputs = CalibrationInputs::tensors(&graph, given).unwrap();
        assert_eq!((inputs.count(), inputs.len(), inputs.origin()), (20, 2, Origin::Given));
        assert_eq!(inputs.batch(1).unwrap(), [(name.clone(), tensor(4))]);
        let fail = |given| CalibrationInputs::tensors(&graph, given).unwrap_err().to_string();
        assert!(fail(vec![("other".into(), tensor(1))]).contains(&format!("'{name}'")));
        assert!(fail(vec![(name.clone(), tensor(0))]).contains("no samples"));
        assert!(fail(vec![(name, Tensor::f32(vec![], vec![1.0]).unwrap())]).contains("samples"));
    }
}
