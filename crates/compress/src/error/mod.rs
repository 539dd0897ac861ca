//! Errors of compression and training.

mod calibrate;

use std::path::PathBuf;

pub use calibrate::CalibrateError;

/// A compression or training that could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// A setting that is out of range or contradicts another.
    #[error("setting '{name}': {reason}")]
    Setting {
        /// The setting, as the command line calls it.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A schedule that does not lead from none to all clusters.
    #[error("schedule {schedule:?}: {reason}")]
    Schedule {
        /// The schedule given.
        schedule: Vec<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer pattern that is malformed or matches no layer.
    #[error("layer pattern '{pattern}': {reason}; the layers are {layers}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
        /// Names of the layers there are.
        layers: String,
    },
    /// Nothing to quantize.
    #[error(
        "the network has no layer to quantize: no Conv, Gemm or MatMul with constant float weights that no rule of layers skips"
    )]
    NoLayers,
    /// Every layer is smaller than its codebook.
    #[error(
        "no layer is worth a codebook of {values} values: codes and codebook would take as many bytes as the weights as \
         floats; ask for fewer bits"
    )]
    NothingPays {
        /// Values of a codebook.
        values: usize,
    },
    /// A weight that is not a number.
    #[error("weight '{weight}' holds {value} at position {position}; repair the model before compressing it")]
    NonFinite {
        /// The weight.
        weight: String,
        /// First offending position, row-major.
        position: usize,
        /// What stands there.
        value: f32,
    },
    /// A method that re-trains was given no data.
    #[error("this job needs a dataset, to re-train or to measure on; without data use the method 'kmeans'")]
    NoData,
    /// A calibration without inputs.
    #[error(
        "calibration needs inputs: name images, arrays or random:N with --calibrate, or a dataset with --data"
    )]
    NoInputs,
    /// A budget of accuracy with nothing to measure it on.
    #[error(
        "--max-drop needs something to measure on: labelled images (--data), or inputs without labels (--calibrate), on \
         which agreement with the float network counts"
    )]
    NoMeasure,
    /// Inputs that cannot be read.
    #[error(transparent)]
    Inputs(#[from] crate::inputs::InputError),
    /// A calibration failed.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
    /// A split too small for what is asked of it.
    #[error("{images} training images are too few: {reason}")]
    TooFewImages {
        /// Images there are.
        images: usize,
        /// What needs more.
        reason: String,
    },
    /// The data does not fit the network.
    #[error("the data does not fit the network: {reason}")]
    DataMismatch {
        /// What disagrees.
        reason: String,
    },
    /// A run directory that cannot be used.
    #[error("run directory '{path}': {reason}")]
    RunDir {
        /// The directory or a file in it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A run directory belongs to another job.
    #[error(
        "run directory '{path}' was begun with {what} that differ; give another directory or the same inputs"
    )]
    Fingerprint {
        /// The directory.
        path: PathBuf,
        /// What differs: model, data, teacher or settings.
        what: &'static str,
    },
    /// A budget that cannot be kept.
    #[error("{reason}")]
    Budget {
        /// What is possible instead.
        reason: String,
    },
    /// A file whose size a budget counts cannot be made.
    #[error("the size of the file cannot be told: {reason}")]
    FileSize {
        /// Why.
        reason: String,
    },
    /// The method's state in a checkpoint does not fit.
    #[error("the method's state in the checkpoint does not fit this run: {reason}")]
    MethodState {
        /// What disagrees.
        reason: String,
    },
    /// The observer asked the job to stop.
    #[error("the job was stopped before its end")]
    Interrupted,
    /// A recipe without a stage.
    #[error("the recipe has no stage: give at least one of fine-tune, decompose, quantize and tune")]
    NoStages,
    /// A stage that would undo the quantization before it.
    #[error(
        "a stage '{stage}' behind a quantization would move the weights off their codebooks: put it first"
    )]
    StageOrder {
        /// The stage.
        stage: &'static str,
    },
    /// Shared values were to be trained where there are none.
    #[error(
        "no weight is quantized: a tune stage follows a quantize stage, or starts from a quantized network"
    )]
    NotQuantized,
    /// Clustering failed.
    #[error("layer '{layer}': {source}")]
    Cluster {
        /// The layer's weight.
        layer: String,
        /// What the clustering says.
        source: slq_codebook::ClusterError,
    },
    /// No layer that a low-rank decomposition could split.
    #[error("the network has no layer to split by {schemes}: {left}")]
    NothingToDecompose {
        /// The schemes.
        schemes: String,
        /// Why the layers of these kinds stay whole.
        left: String,
    },
    /// A rank above a layer's full rank.
    #[error("layer '{layer}': rank {rank} is out of range, its full rank is {full}")]
    LayerRank {
        /// The layer.
        layer: String,
        /// Rank asked for.
        rank: usize,
        /// Its full rank.
        full: usize,
    },
    /// A budget below what the network takes with every layer at rank 1.
    #[error(
        "the network cannot be brought to {asked} {what}: split at rank 1 it takes {least} of {whole} \
         (a ratio of {:.2})", *.whole as f64 / (*.least).max(1) as f64
    )]
    BudgetTooSmall {
        /// What is counted: MACs or parameters.
        what: &'static str,
        /// Asked for.
        asked: u64,
        /// Least possible.
        least: u64,
        /// The network as it is.
        whole: u64,
    },
    /// Codebook and codes that do not make a palette.
    #[error(transparent)]
    Palette(#[from] slq_codebook::PaletteError),
    /// The graph does not allow what was asked.
    #[error(transparent)]
    Graph(#[from] slq_graph::GraphError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] slq_engine::EngineError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] slq_data::DataError),
    /// The other processes of the job cannot be reached.
    #[error(transparent)]
    Reduce(#[from] slq_reduce::ReduceError),
    /// The processes of a job do not do the same work.
    #[error("process {rank} has another {what} than process 0: start all with the same program and files")]
    Processes {
        /// The first that differs.
        rank: usize,
        /// What differs.
        what: &'static str,
    },
    /// A snapshot could not be written.
    #[error(transparent)]
    Snapshot(Box<dyn std::error::Error + Send + Sync>),
    /// The network of a complete stage could not be written or read.
    #[error(transparent)]
    Network(#[from] slq_onnx::OnnxError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] slq_safetensors::SafetensorsError),
}
