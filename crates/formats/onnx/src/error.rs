//! What can go wrong between an ONNX file and a graph.

use std::path::PathBuf;

use slq_codebook::PackError;
use slq_graph::GraphError;

/// A model that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// Any of the errors below, with the file it concerns.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<OnnxError>,
    },
    /// The operating system refused.
    #[error("cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// A folder, pipe or device where a file is wanted.
    #[error("not a regular file")]
    NotAFile,
    /// Beyond the limit of protocol buffers.
    #[error(
        "a model of {bytes} bytes exceeds the 2 GiB that an ONNX file may have; weights may lie in a file beside it (external data)"
    )]
    TooLarge {
        /// Size of the model.
        bytes: u64,
    },
    /// No name for the file with the model's data.
    #[error(
        "the file for its data, NAME.data beside it, has no free name: remove those that are there, or give another name"
    )]
    DataName,
    /// The bytes do not have the structure of a model.
    #[error("not a valid ONNX file: {what} cannot be decoded: {source}")]
    Decode {
        /// The part of the file.
        what: String,
        /// What the decoder met.
        source: prost::DecodeError,
    },
    /// No graph in the model.
    #[error("not an ONNX model: it holds no graph")]
    NoGraph,
    /// A version of the file format outside [`IR_VERSIONS`](crate::IR_VERSIONS).
    #[error("IR version {0} is not among the supported 3 to 14")]
    IrVersion(i64),
    /// No version of ONNX's own operators is declared.
    #[error("the model declares no version of the ONNX operator set")]
    NoOpset,
    /// An operator set outside [`OPSETS`](crate::OPSETS).
    #[error("operator set {0} is not among the supported 7 to 28; convert the model to one of them")]
    Opset(i64),
    /// The same domain is declared twice with different versions.
    #[error("operator domain `{0}` is declared with two versions")]
    DuplicateDomain(String),
    /// A weight without a name.
    #[error("initializer {index} has no name")]
    UnnamedWeight {
        /// Position among the initializers.
        index: usize,
    },
    /// Sparse initializers.
    #[error("the model holds {count} sparse initializers, which are not supported; make them dense")]
    SparseInitializers {
        /// How many.
        count: usize,
    },
    /// Two weights of one name.
    #[error("weight `{name}` is defined twice")]
    DuplicateWeight {
        /// The weight.
        name: String,
    },
    /// A graph output that nothing writes.
    #[error("output `{name}` is written by no node")]
    UndefinedOutput {
        /// The output.
        name: String,
    },
    /// A graph input or output that is not a dense tensor of a known element type.
    #[error(
        "the graph's {side} `{name}` is {kind}, not a tensor of numbers; export the model without it (for scikit-learn \
         with the option `zipmap: False`) or remove it and the nodes that serve it alone"
    )]
    ValueType {
        /// The value.
        name: String,
        /// `input` or `output`.
        side: &'static str,
        /// What it is.
        kind: String,
    },
    /// A tensor with a negative dimension.
    #[error("tensor `{tensor}` has the negative dimension {dim}")]
    NegativeDimension {
        /// The tensor.
        tensor: String,
        /// The dimension.
        dim: i64,
    },
    /// A tensor whose shape and data disagree.
    #[error("tensor `{tensor}` of shape {shape:?} does not match its {stored} stored {unit}")]
    TensorData {
        /// The tensor.
        tensor: String,
        /// Shape declared.
        shape: Vec<usize>,
        /// Elements or bytes present.
        stored: usize,
        /// `elements` or `bytes`.
        unit: &'static str,
    },
    /// A tensor of an element type that a graph cannot hold.
    #[error("tensor `{tensor}` has the unsupported element type {code}")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// Code of the type in ONNX.
        code: i32,
    },
    /// An element that its type cannot represent.
    #[error("tensor `{tensor}` holds {value}, outside the range of its type")]
    ElementRange {
        /// The tensor.
        tensor: String,
        /// The element.
        value: i64,
    },
    /// A tensor cut into segments.
    #[error("tensor `{tensor}` is stored in segments, which are not supported")]
    Segmented {
        /// The tensor.
        tensor: String,
    },
    /// External data in a model that was not read from a file.
    #[error("tensor `{tensor}` is stored in another file, and the place of the model is not known")]
    ExternalWithoutFile {
        /// The tensor.
        tensor: String,
    },
    /// A location outside the model's folder.
    #[error("tensor `{tensor}` is stored at `{location}`, which is not inside the model's folder")]
    ExternalLocation {
        /// The tensor.
        tensor: String,
        /// The location as written.
        location: String,
    },
    /// An entry that is not a number.
    #[error("tensor `{tensor}` has the invalid external {key} `{value}`")]
    ExternalEntry {
        /// The tensor.
        tensor: String,
        /// `offset` or `length`.
        key: String,
        /// What is written there.
        value: String,
    },
    /// External data past the end of its file, or of another length than the tensor.
    #[error(
        "tensor `{tensor}` needs {wanted} bytes at offset {offset} of `{location}`, which does not provide them"
    )]
    ExternalBounds {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// First byte.
        offset: u64,
        /// Bytes needed.
        wanted: u64,
    },
    /// A file of external data that cannot be read.
    #[error("tensor `{tensor}`: external file `{location}`: {source}")]
    ExternalIo {
        /// The tensor.
        tensor: String,
        /// The file.
        location: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A location that links to a place outside the model's folder.
    #[error(
        "tensor `{tensor}` is stored at `{location}`, a link to {target}, which is neither in the model's folder nor \
         beside the file that the model is a link to; copy the data into the model's folder",
        target = target.display()
    )]
    ExternalLink {
        /// The tensor.
        tensor: String,
        /// The location as written.
        location: String,
        /// Where it leads.
        target: PathBuf,
    },
    /// More external data than the files hold, read over and over.
    #[error(
        "the model's tensors take {used} bytes from `{location}` of {size} bytes, {} times its content; store a weight \
         that is used many times as one initializer",
        used.div_ceil((*size).max(1))
    )]
    ExternalTotal {
        /// The file.
        location: String,
        /// Bytes taken from it.
        used: u64,
        /// Its size.
        size: u64,
    },
    /// External data inside an attribute that is kept as it is.
    #[error("node `{node}` has a sub-graph with external data, which is not supported")]
    ExternalInSubgraph {
        /// The node.
        node: String,
    },
    /// External data inside a function of the model that is kept as it is.
    #[error(
        "function `{function}` of the model holds external data and cannot be written out where it is called; store the \
         data in the file, or export the model without functions"
    )]
    ExternalInFunction {
        /// The function.
        function: String,
    },
    /// Sub-graphs nested too deeply.
    #[error("node `{node}` has sub-graphs nested more than {limit} deep")]
    SubgraphDepth {
        /// The node.
        node: String,
        /// The limit.
        limit: usize,
    },
    /// A node without an operator.
    #[error("node {index} names no operator")]
    UnnamedOperator {
        /// Position among the nodes.
        index: usize,
    },
    /// A node that calls one of several functions of one name.
    #[error("node `{node}` calls an overloaded function, which is not supported")]
    Overload {
        /// The node.
        node: String,
    },
    /// An attribute without a name or of a kind ONNX does not have.
    #[error("node `{node}` has the attribute `{attribute}` of the unknown kind {kind}")]
    AttributeKind {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// Code of the kind.
        kind: i32,
    },
    /// Codes that cannot be packed to the width of their codebook.
    #[error("weight `{weight}`: {source}")]
    Codes {
        /// The weight.
        weight: String,
        /// Which code does not fit.
        source: PackError,
    },
    /// The property that describes the palettes is not what it should be.
    #[error("property `slq.palettes` cannot be understood: {0}")]
    PaletteProperty(serde_json::Error),
    /// The property is of a later version.
    #[error("property `slq.palettes` has version {0}; only version 1 is known")]
    PaletteVersion(u32),
    /// The property and the rest of the file disagree.
    #[error(
        "property `slq.palettes` says otherwise of weight `{weight}`: {reason}; without the property the file \
         loads as an ordinary model"
    )]
    PaletteMismatch {
        /// The weight.
        weight: String,
        /// What does not agree.
        reason: String,
    },
    /// Nodes of an older operator set that are not known to mean the same in the one that is needed.
    #[error(
        "the network is of operator set {from}, and blocks of weights for onnxruntime need 21, in which these nodes may mean \
         something else: {nodes}; export it with operator set 21 (in PyTorch: opset_version=21) or leave out --runtime"
    )]
    Raise {
        /// Operator set of the network.
        from: i64,
        /// The nodes, with their operators.
        nodes: String,
    },
    /// A property under `slq.onnx.` that cannot be written back.
    #[error("property `{key}` does not hold what this writer stores there")]
    Extra {
        /// The property.
        key: String,
    },
    /// A graph that does not hold together: values that nothing defines or that are defined twice, cycles.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// What was written does not read back as the graph.
    #[error("the file written does not read back: {reason}")]
    ReadBack {
        /// What differs.
        reason: String,
    },
}
