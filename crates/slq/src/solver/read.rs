//! Caffe's solver files.
//!
//! [`SolverJob::open`] reads a `solver.prototxt` as a model (the network in its two phases), the images of its data
//! layers with their preprocessing, and the settings of the training.

use std::path::{Path, PathBuf};

use slq_caffe::{
    DataKind, DataSource, NetFile, Phase, ReadOptions, SolverSettings, Source, data_sources, read_net,
};
use slq_compress::{TrainingData, TrainingSettings};
use slq_data::{Split, Transform};
use slq_graph::{Graph, Node};

use super::{losses, settings};
use crate::Error;
use crate::caffe::{self, CaffeFiles, TestNet, images_of, resolve};
use crate::dataset::{DataOptions, part};
use crate::model::Model;

/// What the caller adds to a solver file or replaces in it.
pub struct SolverOptions<'a> {
    /// Weights to start from; default: those that the solver names, or the fillers' numbers.
    pub weights: Option<&'a Path>,
    /// The net, in place of the solver's.
    pub net: Option<&'a Path>,
    /// Images in place of those of the data layers, slices of them, and changes to their preprocessing.
    pub data: &'a DataOptions,
    /// Seed where the solver names none, or where this one is not 0.
    pub seed: u64,
}

/// Number of training images that are tested where there is no test data.
const STAND_IN: usize = 1000;

/// A training as Caffe's files describe it.
#[derive(Debug, Clone)]
pub struct SolverJob {
    /// The settings of the solver file.
    pub solver: SolverSettings,
    /// The net in its TRAIN phase; saved, it has the form of its TEST phase.
    pub model: Model,
    /// Images of the TRAIN and TEST phases.
    pub data: TrainingData,
    /// Settings of the training.
    pub training: TrainingSettings,
    /// Seed of the job.
    pub seed: u64,
    /// The files of the TRAIN phase.
    pub source: Source,
    /// Notes for the user: parts of the files that have no effect here.
    pub notes: Vec<String>,
}

impl SolverJob {
    /// Reads the solver file at `path`, its nets, weights and data.
    ///
    /// # Errors
    /// [`Error::Caffe`], [`Error::CaffeFile`], [`Error::CaffeLayer`] and [`Error::Data`], naming file, layer and field:
    /// what is not supported is refused, not ignored.
    pub fn open(path: &Path, options: &SolverOptions<'_>) -> Result<SolverJob, Error> {
        let solver = slq_caffe::read_solver(path)?;
        let seed = if options.seed != 0 { options.seed } else { solver.seed.unwrap_or(0) };
        let weights = weights(path, &solver, options)?;
        let mut notes = Vec::new();
        let train_net = file(path, &solver.train_net, options)?;
        let mut train_options = read_options(&solver.train_net, seed);
        let source = the_source(&train_net, &train_options)?;
        let given = options.data.files()?;
        let (train, transform) = images(&train_net, &source, given.as_ref().map(|g| g.train.clone()))?;
        let train = part(train, options.data.train_subset.as_deref())?;
        let transform = options.data.adjusted(transform)?;
        train_options.input_shape = Some(transform.output_shape(&train)?);
        let net = read_net(&train_net, weights.as_deref(), &train_options)?;
        if !net.info.fresh.is_empty() {
            notes.push(format!("fresh weights (not in the caffemodel): {}", net.info.fresh.join(", ")));
        }
        let heads = losses::heads(&train_net, &net.info, &net.graph, &source)?;
        let batch_norm = losses::batch_norm(&train_net, &net.info, &net.graph)?;
        let training = settings::training(&solver, source.batch_size, heads, batch_norm);
        let half = TestHalf {
            path,
            solver: &solver,
            train_net: &train_net,
            weights: weights.as_deref(),
            seed,
            given: given.is_some(),
        };
        let found = half.find(options, &mut notes)?;
        let test_images = half.images(given.map(|g| g.test), found.as_ref(), &train, options, &mut notes)?;
        let shape = train_options.input_shape;
        let test = found.map(|f| half.net(f.net, &f.source, shape, &net.graph)).transpose()?;
        let source = Source { prototxt: train_net, caffemodel: weights, options: train_options };
        let files = CaffeFiles { source: source.clone(), data_layers: Vec::new(), test };
        let caffe = crate::model::Source::Caffe(Box::new(files));
        let model = Model { transform: Some(transform.clone()), source: caffe, ..net.graph.into() };
        let (train, validation) = options.data.validation(train, &test_images)?;
        let data = TrainingData { train, validation, test: test_images, transform, following: None };
        Ok(SolverJob { solver, model, data, training, seed, source, notes })
    }
}

fn weights(
    path: &Path,
    solver: &SolverSettings,
    options: &SolverOptions<'_>,
) -> Result<Option<PathBuf>, Error> {
    match (options.weights, solver.weights.as_slice()) {
        (Some(weights), _) => Ok(Some(weights.into())),
        (None, []) => Ok(None),
        (None, [one]) => resolve(one, path).map(Some),
        (None, _) => {
            let reason = "weights: more than one caffemodel is not supported".into();
            Err(Error::File { path: path.into(), reason })
        }
    }
}

/// The prototxt of a net of the solver at `path`.
fn file(path: &Path, net: &NetFile, options: &SolverOptions<'_>) -> Result<PathBuf, Error> {
    match options.net {
        Some(net) => Ok(net.into()),
        None => resolve(&net.path, path),
    }
}

fn read_options(net: &NetFile, seed: u64) -> ReadOptions {
    ReadOptions { level: net.level, stages: net.stages.clone(), seed, ..ReadOptions::new(net.phase) }
}

/// The data layer of a net.
fn the_source(prototxt: &Path, options: &ReadOptions) -> Result<DataSource, Error> {
    let mut sources = data_sources(prototxt, options)?;
    sources.retain(|s| s.kind != DataKind::Dummy);
    match (sources.len(), sources.pop()) {
        (1, Some(source)) => Ok(source),
        (0, _) | (_, None) => {
            let reason = format!("the net has no data layer in its {:?} phase", options.phase);
            Err(Error::File { path: prototxt.into(), reason })
        }
        (_, Some(second)) => {
            let reason = "a second data layer in the same phase is not supported".into();
            Err(Error::CaffeLayer { path: prototxt.into(), layer: second.layer, reason })
        }
    }
}

/// Images and preprocessing of a data layer; `given` ones take the place of its images.
fn images(prototxt: &Path, source: &DataSource, given: Option<Split>) -> Result<(Split, Transform), Error> {
    match given {
        Some(split) => Ok((split, caffe::transform(prototxt, source)?)),
        None => images_of(prototxt, source).map(|images| (images.split, images.transform)),
    }
}

/// The first `test_iter` batches.
fn limited(
    images: Split,
    solver: &SolverSettings,
    source: &DataSource,
    notes: &mut Vec<String>,
) -> Result<Split, Error> {
    let Some(net) = solver.tests.nets.first() else { return Ok(images) };
    let asked = net.test_iter.saturating_mul(source.batch_size);
    if asked > images.len() {
        let (iter, len) = (net.test_iter, images.len());
        notes.push(format!("test_iter {iter} asks for {asked} test images: all {len} are tested, each once"));
    }
    Ok(if asked < images.len() { images.subset(&format!(":{asked}"))? } else { images })
}

/// Inputs of the search for the TEST phase.
struct TestHalf<'a> {
    path: &'a Path,
    solver: &'a SolverSettings,
    train_net: &'a Path,
    weights: Option<&'a Path>,
    seed: u64,
    /// Whether the images are given.
    given: bool,
}

/// The TEST phase: prototxt and state of the net, its data layer, and its images unless they were given.
struct Found {
    net: (PathBuf, ReadOptions),
    source: DataSource,
    split: Option<Split>,
}

impl TestHalf<'_> {
    fn find(&self, options: &SolverOptions<'_>, notes: &mut Vec<String>) -> Result<Option<Found>, Error> {
        if let Some(net) = self.solver.tests.nets.first() {
            let more = self.solver.tests.nets.len() - 1;
            if more > 0 {
                notes.push(format!("the first test net is tested; {more} more have no effect"));
            }
            let (prototxt, read) = (file(self.path, net, options)?, read_options(net, self.seed));
            let source = the_source(&prototxt, &read)?;
            let split = if self.given { None } else { Some(images_of(&prototxt, &source)?.split) };
            return Ok(Some(Found { net: (prototxt, read), source, split }));
        }
        // The solver tests nothing; a TEST phase of the same file still says what accuracies are measured on.
        let read = ReadOptions { phase: Phase::Test, ..read_options(&self.solver.train_net, self.seed) };
        let Ok(source) = the_source(self.train_net, &read) else { return Ok(None) };
        let split = match self.given {
            true => None,
            false => match images_of(self.train_net, &source) {
                Ok(images) => Some(images.split),
                Err(_) => return Ok(None),
            },
        };
        Ok(Some(Found { net: (self.train_net.into(), read), source, split }))
    }

    /// The test images: given ones, those of the TEST phase, or the first training images.
    fn images(
        &self,
        given: Option<Split>,
        found: Option<&Found>,
        train: &Split,
        options: &SolverOptions<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Split, Error> {
        let images = match (given, found.and_then(|f| f.split.clone())) {
            (Some(split), _) | (None, Some(split)) => split,
            _ => {
                let count = train.len().min(STAND_IN);
                notes
                    .push(format!("no TEST data: accuracies are those of the first {count} training images"));
                train.subset(&format!(":{count}"))?
            }
        };
        let images = part(images, options.data.test_subset.as_deref())?;
        match found {
            Some(found) => limited(images, self.solver, &found.source, notes),
            None => Ok(images),
        }
    }

    /// The net in its TEST phase, which must compute what the TRAIN phase computes.
    fn net(
        &self,
        (prototxt, mut read): (PathBuf, ReadOptions),
        source: &DataSource,
        shape: Option<[usize; 3]>,
        train: &Graph,
    ) -> Result<TestNet, Error> {
        let own = caffe::transform(&prototxt, source)?;
        let differs = |reason: &str| {
            let (path, layer) = (prototxt.clone(), source.layer.clone());
            Err(Error::CaffeLayer { path, layer, reason: reason.into() })
        };
        if own.mirror {
            return differs("transform_param.mirror in the TEST phase is not supported");
        }
        let same = |a: &Transform, b: &Transform| {
            (a.scale, &a.mean, &a.mean_image, a.crop, a.resize, a.channels)
                == (b.scale, &b.mean, &b.mean_image, b.crop, b.resize, b.channels)
        };
        let train_source = the_source(self.train_net, &read_options(&self.solver.train_net, self.seed))?;
        if !same(&own, &caffe::transform(self.train_net, &train_source)?) {
            return differs(
                "its preprocessing differs from the TRAIN phase's in more than mirror, which is not supported",
            );
        }
        read.input_shape = shape;
        let net = read_net(&prototxt, self.weights, &read)?;
        let mut graph = aligned(&prototxt, train, net.graph)?;
        let weights = graph.weights.keys().cloned().collect();
        graph.weights.retain(|name, _| !train.weights.contains_key(name));
        let source = Source { prototxt, caffemodel: self.weights.map(Into::into), options: read };
        Ok(TestNet { graph, weights, source })
    }
}

/// The nodes that `output` depends on, in order.
fn main_path<'a>(graph: &'a Graph, output: &str) -> Vec<&'a Node> {
    let mut wanted = std::collections::HashSet::from([output]);
    let mut path: Vec<&Node> = Vec::new();
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|o| wanted.contains(o.as_str())) {
            wanted.extend(node.inputs.iter().map(String::as_str));
            path.push(node);
        }
    }
    path.reverse();
    path
}

/// The TEST net with the TRAIN net's main output first, where both compute it in the same way.
fn aligned(prototxt: &Path, train: &Graph, mut test: Graph) -> Result<Graph, Error> {
    let refuse = |layer: &str, reason: &str| {
        let (path, layer) = (prototxt.into(), layer.to_owned());
        Err(Error::CaffeLayer { path, layer, reason: reason.into() })
    };
    let main = train.outputs.first().map(|o| o.name.clone()).unwrap_or_default();
    let Some(at) = test.outputs.iter().position(|o| o.name == main) else {
        return refuse(
            &main,
            "what the TRAIN phase's loss looks at is no output of the TEST phase, which is not supported",
        );
    };
    test.outputs.swap(0, at);
    let (ours, theirs) = (main_path(train, &main), main_path(&test, &main));
    let other = ours.iter().zip(&theirs).find(|(a, b)| a != b).map(|(a, _)| a.name.clone());
    match other.or((ours.len() != theirs.len()).then(|| main.clone())) {
        Some(layer) => {
            refuse(&layer, "the layer differs between the TRAIN and the TEST phase, which is not supported")
        }
        None => Ok(test),
    }
}
