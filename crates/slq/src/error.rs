//! The errors of the library, one variant per subsystem.

use std::path::PathBuf;

use slq_compress::CompressError;

/// An error of the library; [`Error::kind`] is its name for programs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model name with an unknown ending.
    #[error(
        "'{0}' is not a model: expected .onnx, .slq, .prototxt (with --weights), .safetensors, .pth or zoo:NAME"
    )]
    UnknownModel(String),
    /// An output name with an unknown ending.
    #[error(
        "cannot tell the format of '{0}' from its ending: use .onnx, .slq, .tflite, .mlpackage, .caffemodel or .safetensors"
    )]
    UnknownOutput(PathBuf),
    /// A safetensors file alone cannot be run.
    #[error("'{0}' holds weights without a network: give the network with --graph model.onnx")]
    NeedsGraph(PathBuf),
    /// A model file that can be read but holds an invalid network.
    #[error("'{path}': {source}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where in the network.
        source: Box<slq_graph::GraphError>,
    },
    /// Stored preprocessing that cannot be understood.
    #[error("the preprocessing stored in the model (property 'slq.preprocessing') cannot be read: {0}")]
    Preprocessing(String),
    /// It is not known how pixels become inputs, and nothing usual fits.
    #[error("{0}")]
    UnknownPreprocessing(String),
    /// A file that a Caffe file names was not found.
    #[error(
        "'{near}' names '{name}', which is neither below the current folder nor beside that file or above it"
    )]
    CaffeFile {
        /// The name.
        name: PathBuf,
        /// The file that names it.
        near: PathBuf,
    },
    /// A layer of a Caffe net that can be read but not used for what was asked.
    #[error("'{path}', layer '{layer}': {reason}")]
    CaffeLayer {
        /// The prototxt.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Why not, and what can be done.
        reason: String,
    },
    /// A file of a job, an input, an output or a table that cannot be used.
    #[error("'{path}': {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A written file whose network computes something else than the one that was to be written.
    #[error(
        "'{path}' was written, but its network is not the one that it was to hold: {what}; do not use the file, and report this"
    )]
    Verify {
        /// The file.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// Arguments that contradict each other or the model.
    #[error("{0}")]
    Argument(String),
    /// ONNX files.
    #[error(transparent)]
    Onnx(#[from] slq_onnx::OnnxError),
    /// Caffe files.
    #[error(transparent)]
    Caffe(#[from] slq_caffe::CaffeError),
    /// Core ML packages.
    #[error(transparent)]
    Coreml(#[from] slq_coreml::CoremlError),
    /// `.slq` containers.
    #[error(transparent)]
    Slq(#[from] slq_pack::SlqError),
    /// Networks that run packed.
    #[error(transparent)]
    Runtime(#[from] slq_runtime::RuntimeError),
    /// TensorFlow Lite files.
    #[error(transparent)]
    Tflite(#[from] slq_tflite::TfliteError),
    /// safetensors files.
    #[error(transparent)]
    Safetensors(#[from] slq_safetensors::SafetensorsError),
    /// PyTorch checkpoints.
    #[error(transparent)]
    Pytorch(#[from] slq_pytorch::PytorchError),
    /// Graphs.
    #[error(transparent)]
    Graph(#[from] slq_graph::GraphError),
    /// Built-in architectures.
    #[error(transparent)]
    Zoo(#[from] slq_zoo::ZooError),
    /// Data.
    #[error(transparent)]
    Data(#[from] slq_data::DataError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] slq_engine::EngineError),
    /// Compression and training.
    #[error(transparent)]
    Compress(#[from] slq_compress::CompressError),
    /// Clustering.
    #[error(transparent)]
    Cluster(#[from] slq_codebook::ClusterError),
}

impl Error {
    /// For a batch that does not fit into memory, one that should; 0 where none does.
    pub fn smaller_batch(&self) -> Option<usize> {
        use slq_engine::EngineError::Memory;
        match self {
            Self::Engine(Memory { fits, .. })
            | Self::Runtime(slq_runtime::RuntimeError::Engine(Memory { fits, .. }))
            | Self::Compress(CompressError::Engine(Memory { fits, .. })) => Some(*fits),
            _ => None,
        }
    }

    /// The kind of the error, a word that stays the same from version to version.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownModel(_) => "unknown-model",
            Self::UnknownOutput(_) => "unknown-output",
            Self::NeedsGraph(_) => "needs-graph",
            Self::Invalid { .. } => "invalid-model",
            Self::Preprocessing(_) | Self::UnknownPreprocessing(_) => "preprocessing",
            Self::CaffeFile { .. } | Self::CaffeLayer { .. } | Self::Caffe(_) => "caffe",
            Self::File { .. } => "file",
            Self::Verify { .. } => "verify",
            Self::Argument(_) => "argument",
            Self::Onnx(_) => "onnx",
            Self::Safetensors(_) => "safetensors",
            Self::Pytorch(_) => "pytorch",
            Self::Coreml(_) => "coreml",
            Self::Slq(_) => "slq",
            Self::Tflite(_) => "tflite",
            Self::Runtime(slq_runtime::RuntimeError::Slq(_)) => "slq",
            Self::Runtime(slq_runtime::RuntimeError::Engine(_)) => "engine",
            Self::Runtime(_) => "runtime",
            Self::Graph(_) => "graph",
            Self::Zoo(_) => "zoo",
            Self::Data(_) => "data",
            Self::Engine(_) => "engine",
            Self::Cluster(_) => "cluster",
            Self::Compress(e) => match e {
                CompressError::Setting { .. } => "setting",
                CompressError::Schedule { .. } => "schedule",
                CompressError::Pattern { .. } => "pattern",
                CompressError::NoLayers | CompressError::NothingPays { .. } => "no-layers",
                CompressError::NonFinite { .. } => "non-finite",
                CompressError::NoData => "no-data",
                CompressError::NoInputs => "no-inputs",
                CompressError::Inputs(_) => "inputs",
                CompressError::Calibrate(_) => "calibrate",
                CompressError::TooFewImages { .. } => "too-few-images",
                CompressError::DataMismatch { .. } => "data-mismatch",
                CompressError::RunDir { .. } => "run-dir",
                CompressError::Fingerprint { .. } => "fingerprint",
                CompressError::Budget { .. } | CompressError::BudgetTooSmall { .. } => "budget",
                CompressError::Reduce(_) | CompressError::Processes { .. } => "processes",
                CompressError::Interrupted => "interrupted",
                CompressError::Engine(_) => "engine",
                CompressError::Data(_) => "data",
                _ => "compress",
            },
        }
    }
}
