//! What can go wrong between Caffe's files and a graph.

use std::path::PathBuf;

use slq_graph::GraphError;

/// A Caffe file that cannot be read or written, or a net that has no counterpart on the other side.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaffeError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file beyond the size that its format allows.
    #[error("{path} has {bytes} bytes, more than the {limit} that this format allows", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A text file that does not follow the text format, or that uses names the schema lacks.
    #[error("{path}, {place}: {reason}", path = path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Layer and line, as far as known.
        place: String,
        /// What is wrong, with the field's name.
        reason: String,
    },
    /// A binary file that is truncated or garbled.
    #[error("{path}, byte {offset}: {reason}", path = path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// A layer whose settings contradict themselves or their surroundings.
    #[error("{path}, layer `{layer}`, {field}: {reason}", path = path.display())]
    Layer {
        /// The prototxt.
        path: PathBuf,
        /// The layer's name.
        layer: String,
        /// The field at fault.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// Settings of the whole net that contradict each other.
    #[error("{path}, {field}: {reason}", path = path.display())]
    Net {
        /// The prototxt.
        path: PathBuf,
        /// The field at fault.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// A data layer that does not say how large its images are.
    #[error(
        "{path}, layer `{layer}`: the shape of the images stands in the data, not in the net; open the data \
         first, or use a deploy prototxt with an input shape",
        path = path.display()
    )]
    InputShape {
        /// The prototxt.
        path: PathBuf,
        /// The data layer.
        layer: String,
    },
    /// A blob of the caffemodel that does not fit the layer of the prototxt.
    #[error(
        "{path}, layer `{layer}`, blob {blob}: shape {found:?} does not fit the {expected:?} of the prototxt",
        path = path.display()
    )]
    BlobShape {
        /// The caffemodel.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Index of the blob.
        blob: usize,
        /// Shape the prototxt asks for.
        expected: Vec<usize>,
        /// Shape in the caffemodel.
        found: Vec<usize>,
    },
    /// A layer that the caffemodel has too few or too many blobs for.
    #[error("{path}, layer `{layer}`: {found} blobs where the prototxt asks for {expected}", path = path.display())]
    BlobCount {
        /// The caffemodel.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Blobs the prototxt asks for.
        expected: usize,
        /// Blobs in the caffemodel.
        found: usize,
    },
    /// A layer that has weights, but neither blobs in the caffemodel nor a filler.
    #[error(
        "{path} has no blobs for layer `{layer}`, and the prototxt no filler; is this the caffemodel of this net?",
        path = path.display()
    )]
    MissingBlobs {
        /// The caffemodel.
        path: PathBuf,
        /// The layer.
        layer: String,
    },
    /// A caffemodel none of whose layers occurs in the net.
    #[error("no layer with blobs of {path} occurs in {net}; is this the caffemodel of this net?",
        path = path.display(), net = net.display())]
    NothingInCommon {
        /// The caffemodel.
        path: PathBuf,
        /// The prototxt.
        net: PathBuf,
    },
    /// A weight that is NaN or infinite.
    #[error("{path}, layer `{layer}`, blob {blob}: element {index} is {value}", path = path.display())]
    NotFinite {
        /// The caffemodel.
        path: PathBuf,
        /// The layer.
        layer: String,
        /// Index of the blob.
        blob: usize,
        /// Index of the first such element.
        index: usize,
        /// The element.
        value: f32,
    },
    /// A net whose fresh weights would not fit a caffemodel.
    #[error("{path}, layer `{layer}`: the net's weights exceed the {limit} values that a caffemodel can hold",
        path = path.display())]
    TooManyWeights {
        /// The prototxt.
        path: PathBuf,
        /// The layer that passes the limit.
        layer: String,
        /// The limit.
        limit: usize,
    },
    /// A graph that Caffe's layers cannot express.
    #[error("node `{node}` ({op}) has no Caffe layer: {reason}")]
    NoLayer {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// A solver state that is damaged, or belongs to another net.
    #[error("{path}: not a solver state of this net: {reason}", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A file that does not read back as it was written.
    #[error("{path} did not read back as written: {reason}; nothing was replaced", path = path.display())]
    ReadBack {
        /// The file that was to be written.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// Tensors that do not fit together.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl CaffeError {
    /// Binds an operating system's error to a file.
    pub(crate) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> CaffeError + use<> {
        let path = path.to_path_buf();
        move |source| CaffeError::Io { action, path, source }
    }
}
