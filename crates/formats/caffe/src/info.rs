//! Data layers, losses and accuracies: what a prototxt says beside the network.

use std::path::PathBuf;

use slq_graph::Graph;

use crate::phase::Phase;

/// A graph, and what its prototxt says about data and training.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    /// The network, from its inputs to the logits.
    pub graph: Graph,
    /// Everything else.
    pub info: NetInfo,
}

/// What a prototxt says about data and training, and how the caffemodel met it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NetInfo {
    /// Layers that read data, in file order.
    pub data: Vec<DataSource>,
    /// Losses, in file order.
    pub losses: Vec<Loss>,
    /// Accuracy layers, in file order.
    pub accuracies: Vec<Accuracy>,
    /// `BatchNormalization` nodes whose statistics are frozen in training (`use_global_stats: true`).
    pub frozen_batch_norms: Vec<String>,
    /// Layers whose weights were initialised by fillers because the caffemodel has none for them.
    pub fresh: Vec<String>,
    /// Layers of the caffemodel whose blobs the net does not use.
    pub unused: Vec<String>,
    /// Layers kept as nodes of the domain `caffe`, which the engine does not run, each with the reason.
    pub opaque: Vec<(String, String)>,
}

/// Where a data layer reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataKind {
    /// `Data` with an LMDB of `Datum`.
    Lmdb,
    /// `Data` with a LevelDB of `Datum`.
    LevelDb,
    /// `ImageData`: a text file with a path and a label in each line.
    ImageList,
    /// `HDF5Data`: a text file that lists HDF5 files.
    Hdf5,
    /// `MemoryData`: the program gives the data.
    Memory,
    /// `DummyData`: constants or random numbers.
    Dummy,
}

/// A layer that reads data.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSource {
    /// The layer's name.
    pub layer: String,
    /// Where it reads from.
    pub kind: DataKind,
    /// The database or list, as the prototxt writes it.
    pub source: Option<PathBuf>,
    /// Folder that the list's paths are relative to.
    pub root_folder: Option<PathBuf>,
    /// Images in a batch.
    pub batch_size: usize,
    /// Whether the list is shuffled at every epoch.
    pub shuffle: bool,
    /// Height and width that images are resized to.
    pub resize: Option<[usize; 2]>,
    /// Whether images are read as colour (`ImageData` only; databases hold what they hold).
    pub color: bool,
    /// Value names: images first, then labels if the layer gives them.
    pub tops: Vec<String>,
    /// Preprocessing of each image.
    pub transform: TransformParam,
}

/// Preprocessing of an image: `(pixel - mean) * scale`, on 0..255 values in BGR order.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformParam {
    /// Factor, after the mean has been subtracted.
    pub scale: f32,
    /// Whether training mirrors images at random.
    pub mirror: bool,
    /// Side of the square crop: at random when training, central when testing.
    pub crop_size: Option<usize>,
    /// A binaryproto of the mean image, as the prototxt writes it; see [`read_mean`](crate::read_mean).
    pub mean_file: Option<PathBuf>,
    /// A mean for all channels or one for each.
    pub mean_value: Vec<f32>,
    /// Encoded images are decoded to three channels.
    pub force_color: bool,
    /// Encoded images are decoded to one channel.
    pub force_gray: bool,
}

impl Default for TransformParam {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mirror: false,
            crop_size: None,
            mean_file: None,
            mean_value: Vec::new(),
            force_color: false,
            force_gray: false,
        }
    }
}

/// Kind of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossKind {
    /// Softmax and multinomial logistic loss of integer labels.
    SoftmaxWithLoss,
    /// Multinomial logistic loss of probabilities.
    MultinomialLogistic,
    /// Sigmoid and cross-entropy, element by element.
    SigmoidCrossEntropy,
    /// Half the squared distance.
    Euclidean,
    /// Hinge loss of integer labels.
    Hinge {
        /// Each term is squared (norm L2).
        squared: bool,
    },
}

/// What a loss is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// Predictions: images times positions.
    Full,
    /// Predictions whose label is not ignored.
    Valid,
    /// Images.
    BatchSize,
    /// One.
    None,
}

/// A loss layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The layer's name.
    pub layer: String,
    /// Kind.
    pub kind: LossKind,
    /// Value name of the predictions; an output of the graph.
    pub predictions: String,
    /// Blob name of the labels.
    pub labels: String,
    /// Weight in the sum of all losses; 0 for a loss that is only reported.
    pub weight: f32,
    /// What the sum is divided by.
    pub normalization: Normalization,
    /// Label that is ignored.
    pub ignore_label: Option<i64>,
    /// Axis of the classes.
    pub axis: i64,
}

/// An accuracy layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Accuracy {
    /// The layer's name.
    pub layer: String,
    /// Value name of the predictions; an output of the graph.
    pub predictions: String,
    /// Blob name of the labels.
    pub labels: String,
    /// A prediction is correct if its label is among this many highest scores.
    pub top_k: usize,
    /// Label that is ignored.
    pub ignore_label: Option<i64>,
    /// Axis of the classes.
    pub axis: i64,
}

/// How a net is built from its files.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// Phase that `include` and `exclude` rules are compared with.
    pub phase: Phase,
    /// Level of the net's state. Default 0.
    pub level: i32,
    /// Stages of the net's state. Default none.
    pub stages: Vec<String>,
    /// Seed of the fillers. Default 0.
    pub seed: u64,
    /// Channels, height and width of the images, for data layers whose data say it (after cropping).
    pub input_shape: Option<[usize; 3]>,
}

impl ReadOptions {
    /// Options for `phase`, all else at its default.
    pub fn new(phase: Phase) -> Self {
        Self { phase, level: 0, stages: Vec::new(), seed: 0, input_shape: None }
    }
}

/// The files that a net was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The prototxt.
    pub prototxt: PathBuf,
    /// The caffemodel, if there was one.
    pub caffemodel: Option<PathBuf>,
    /// How they were read.
    pub options: ReadOptions,
}
