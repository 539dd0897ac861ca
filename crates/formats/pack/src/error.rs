//! What can go wrong with a `.slq` file.

use std::fmt;

use slq_graph::GraphError;

/// A `.slq` file that cannot be read, or a graph that cannot be written as one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlqError {
    /// Any of the errors below, with the file it concerns.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: Box<SlqError>,
    },
    /// The operating system, or the stream that is read from, refused.
    #[error("cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// A folder, pipe or device where a file is wanted.
    #[error("not a regular file")]
    NotAFile,
    /// The first bytes are not those of the format.
    #[error("not a .slq file: it does not begin with the bytes 89 53 4C 51")]
    NotSlq,
    /// The file follows a later version of the format.
    #[error("format version {version} is read by slq {program} and later; this is slq {this}")]
    NewerVersion {
        /// Version of the format.
        version: u8,
        /// The first version of the program that reads it, as the file says.
        program: String,
        /// Version of this program.
        this: &'static str,
    },
    /// The file is shorter or longer than its header says.
    #[error("the header declares {declared} bytes, the file has {found}: it is cut short or was appended to")]
    FileLength {
        /// Bytes the header speaks of.
        declared: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// Bytes that do not have the checksum recorded for them.
    #[error("{section}: the checksum is {found:08x} instead of {stored:08x}: the file is damaged")]
    Checksum {
        /// The part of the file.
        section: String,
        /// The checksum recorded.
        stored: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// More content than a file of this size can hold.
    #[error(
        "a file of {file} bytes declares content of {declared} bytes, above the limit of {limit} bytes for each \
         byte of the file"
    )]
    Expansion {
        /// Bytes of the file.
        file: u64,
        /// Bytes of memory its content would take.
        declared: u64,
        /// [`MAX_EXPANSION`](crate::MAX_EXPANSION).
        limit: u64,
    },
    /// A section whose checksum is right and whose content is not.
    #[error("{place}: {fault}")]
    Malformed {
        /// Where it was noticed.
        place: Place,
        /// What is wrong.
        fault: Fault,
    },
    /// No weight of that name.
    #[error("the network has no weight `{name}`")]
    UnknownWeight {
        /// The name asked for.
        name: String,
    },
    /// Codes were asked of a weight that is stored as plain values.
    #[error("weight `{name}` is stored as values, it has no codes")]
    NoCodes {
        /// The weight.
        name: String,
    },
    /// A weight whose fixed values are not those of its palette.
    #[error("weight `{weight}` cannot be written: {reason}")]
    Palette {
        /// The weight.
        weight: String,
        /// How values and palette disagree.
        reason: String,
    },
    /// A part of a graph that the format has no place for.
    #[error("{what} cannot be written to a .slq file of this version")]
    Unsupported {
        /// The part.
        what: String,
    },
    /// The file written does not give the graph back.
    #[error("the file written does not give the network back: {reason}")]
    ReadBack {
        /// The first difference.
        reason: String,
    },
}

/// A position in a `.slq` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The section, such as "section 3 (codes of `conv1.weight`)".
    pub section: String,
    /// Bytes from the section's beginning; in the network section, from the beginning of its unpacked bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, offset {}", self.section, self.offset)
    }
}

/// What is wrong at a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The section ends too early.
    #[error("{needed} more bytes are needed, {left} are left")]
    Ends {
        /// Bytes wanted.
        needed: u64,
        /// Bytes there.
        left: u64,
    },
    /// Bytes after the last field.
    #[error("{count} bytes follow the last field")]
    Trailing {
        /// How many.
        count: u64,
    },
    /// A number of more bits than its field allows.
    #[error("a number exceeds its field")]
    Number,
    /// A name that is not text.
    #[error("a text is not valid UTF-8")]
    Text,
    /// A field with a value that this version does not know.
    #[error("{value} is no {what}")]
    Tag {
        /// What the field says.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A count beyond what the bytes can hold or the format allows.
    #[error("{count} {what} exceed the {limit} that are possible here")]
    Count {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The most there can be.
        limit: u64,
    },
    /// A reference to something that is not there.
    #[error("{what} {index} is referred to, of {count}")]
    Reference {
        /// What is referred to.
        what: &'static str,
        /// Its number.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A name that is given twice.
    #[error("{what} `{name}` appears twice")]
    Duplicate {
        /// What the name belongs to.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A shape, palette or tensor that is impossible.
    #[error("weight `{name}`: {reason}")]
    Weight {
        /// The weight.
        name: String,
        /// Why it cannot be.
        reason: String,
    },
    /// A frequency table that describes no distribution.
    #[error("the frequency table {0}")]
    Frequencies(&'static str),
    /// Compressed data that does not end with its last symbol.
    #[error("the compressed stream does not end with its last symbol")]
    StreamEnd,
    /// A symbol beyond the alphabet.
    #[error("symbol {symbol} is past the last of {alphabet}")]
    Symbol {
        /// The symbol.
        symbol: u32,
        /// Size of the alphabet.
        alphabet: u32,
    },
    /// Deflated data that cannot be inflated to the length declared.
    #[error("the deflated bytes do not give the {declared} bytes declared")]
    Inflate {
        /// Length declared.
        declared: u64,
    },
    /// Sections in an order that no writer makes.
    #[error("{0}")]
    Layout(&'static str),
    /// The decoded parts form no valid tensor or palette.
    #[error("{0}")]
    Graph(String),
}

impl From<GraphError> for Fault {
    fn from(error: GraphError) -> Self {
        Fault::Graph(error.to_string())
    }
}
