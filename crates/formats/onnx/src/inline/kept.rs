//! Why calls of functions stay as they are.

use crate::error::OnnxError;

/// Most steps of inlining: nodes of functions and their inputs and outputs, each as often as it is called for.
pub const MAX_STEPS: usize = 1 << 18;
/// Deepest calls of functions by functions.
pub const MAX_DEPTH: usize = 64;
/// Bytes of nodes that inlining may always make; beyond, [`MAX_GROWTH`] times the file.
pub const FREE_BYTES: usize = 1 << 26;
/// How many times the file's size the nodes may take that inlining makes.
pub const MAX_GROWTH: usize = 4;

/// Why a call of a function of the model is not replaced by the function's nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    #[error("it calls itself, by itself or through others")]
    Recursive,
    #[error("it has the name of an operator {}", of(.0))]
    StandardDomain(String),
    #[error("two functions have this name")]
    Duplicate,
    #[error(
        "it is written for version {theirs} of the operators {}, the network for version {ours}",
        of(domain)
    )]
    OperatorSet { domain: String, theirs: i64, ours: i64 },
    #[error("it does not say for which version of the operators {} it is written", of(.0))]
    NoOperatorSet(String),
    #[error("it reads `{0}`, which nothing in it defines")]
    Undefined(String),
    #[error("it defines `{0}` twice")]
    DefinedTwice(String),
    #[error("it does not write its output `{0}`")]
    OutputUnwritten(String),
    #[error("a body in it has sparse initializers or quantization annotations")]
    Sparse,
    #[error("it takes attribute `{0}`, which is no number, text or tensor")]
    AttributeKind(String),
    #[error("it is called with {given} {what}, and has {wanted}")]
    Arity { what: &'static str, given: usize, wanted: usize },
    #[error("it is called with attribute `{0}` of another type than it takes")]
    AttributeType(String),
    #[error("it hands on its input `{0}`, which a call leaves out")]
    InputOmitted(String),
    #[error("the network with its functions written out would take more than {MAX_STEPS} steps to make")]
    TooManySteps,
    #[error("the nodes of its functions, written out, would take more than {0} bytes")]
    TooManyBytes(usize),
    #[error(
        "functions call each other more than {MAX_DEPTH} deep, or bodies of nodes stand more than 16 deep in each other"
    )]
    TooDeep,
}

fn of(domain: &str) -> String {
    if domain.is_empty() { "of ONNX".into() } else { format!("of `{domain}`") }
}

/// Why inlining ends before its end.
pub enum Stop {
    /// All calls stay.
    Kept(Kept),
    /// The file is broken.
    Failed(OnnxError),
}

impl From<OnnxError> for Stop {
    fn from(error: OnnxError) -> Self {
        Self::Failed(error)
    }
}
