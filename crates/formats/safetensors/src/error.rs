//! What can be wrong with a safetensors file.

use std::path::PathBuf;

/// Why a file could not be read or written. Each variant that concerns a file names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file ends before its header does.
    #[error("{}: a header of {header} bytes does not fit into a file of {file}", path.display())]
    HeaderLength {
        /// The file.
        path: PathBuf,
        /// Bytes of the header, as declared.
        header: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// The header is larger than any honest one.
    #[error("{}: a header of {header} bytes exceeds the {limit} that are read", path.display())]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the header, as declared.
        header: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The header is not the JSON it should be, or describes tensors that overlap or leave gaps.
    #[error("{}: the header is broken: {source}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The tensors do not fill the file.
    #[error("{}: the header describes {described} bytes of tensors, the file holds {found}", path.display())]
    DataLength {
        /// The file.
        path: PathBuf,
        /// Bytes according to the header.
        described: u64,
        /// Bytes that follow the header.
        found: u64,
    },
    /// An element type that no weight has.
    #[error("{}: tensor `{tensor}` has element type {dtype}, which is not supported", path.display())]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
    },
    /// A Boolean that is neither 0 nor 1.
    #[error("{}: tensor `{tensor}` holds a boolean of value {value}", path.display())]
    Boolean {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The byte.
        value: u8,
    },
    /// The file follows a version of the format that is not known.
    #[error("{}: format version `{version}` is not known, this program reads version 1", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: String,
    },
    /// The list of weights in the metadata is not the JSON it should be.
    #[error("{}: the list of weights is broken: {source}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A tensor that the list of weights needs and the file lacks, or that has another shape or type.
    #[error("{}: weight `{weight}` needs tensor `{tensor}` as {needed}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
        /// The tensor.
        tensor: String,
        /// Element type and shape.
        needed: String,
    },
    /// A weight that is listed twice, or a tensor that no weight lists.
    #[error("{}: the list of weights and the tensors differ at `{name}`", path.display())]
    Listing {
        /// The file.
        path: PathBuf,
        /// The weight or tensor.
        name: String,
    },
    /// Codes that cannot be unpacked.
    #[error("{}: weight `{weight}`: {source}", path.display())]
    Codes {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
        /// What is wrong.
        source: slq_codebook::PackError,
    },
    /// A palette or tensor that cannot be what it claims.
    #[error("{}: weight `{weight}`: {source}", path.display())]
    Weight {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
        /// What is wrong.
        source: Box<slq_graph::GraphError>,
    },
    /// A fixed value that is not its centroid.
    #[error("{}: weight `{weight}` differs from its centroid at position {position}", path.display())]
    NotItsCentroid {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
        /// Row-major position.
        position: usize,
    },
    /// A weight that the network does not have.
    #[error("{}: the network has no weight named `{weight}`", path.display())]
    UnknownWeight {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
    },
    /// A weight of the network that the file lacks.
    #[error("{}: weight `{weight}` of the network is missing", path.display())]
    MissingWeight {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
    },
    /// A weight of another shape or element type than the network's.
    #[error("{}: weight `{weight}` is {found}, the network needs {needed}", path.display())]
    WeightMismatch {
        /// The file.
        path: PathBuf,
        /// The weight.
        weight: String,
        /// Element type and shape in the file.
        found: String,
        /// Element type and shape in the network.
        needed: String,
    },
    /// Two tensors of one name, such as the codes of `w` and a weight called `w.codes`.
    #[error("{}: two tensors would be named `{tensor}`", path.display())]
    NameClash {
        /// The file.
        path: PathBuf,
        /// The name.
        tensor: String,
    },
    /// What was written does not read back as what it should be; nothing was replaced.
    #[error("{}: weight `{weight}` did not read back as written", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// The weight, or the metadata.
        weight: String,
    },
}
