//! The errors of this crate, one variant per failure.

/// What to try when the engine cannot run a network.
pub(crate) const KMEANS_ADVICE: &str = "`--method kmeans` needs no engine and still compresses this network";

/// An invalid graph, tensor or palette, or an operator that is not supported.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Shape and number of elements disagree.
    #[error("{elements} elements do not fill the shape {shape:?}")]
    ElementCount {
        /// Elements present.
        elements: usize,
        /// Shape declared.
        shape: Vec<usize>,
    },
    /// Floats asked for in a type that holds none.
    #[error("{dtype:?} is no type of floats")]
    NotFloats {
        /// The type.
        dtype: crate::dtype::DType,
    },
    /// A palette that does not describe a tensor.
    #[error(transparent)]
    Palette(#[from] slq_codebook::PaletteError),
    /// An operator that is not supported.
    #[error("node `{node}`: operator {op} is not supported; {advice}")]
    UnsupportedOperator {
        /// The operator, with its domain unless that is ONNX's own.
        op: String,
        /// Name of the node.
        node: String,
        /// What can be done.
        advice: String,
    },
    /// Several operators that are not supported.
    #[error("these operators are not supported: {}; {advice}", show_missing(.operators))]
    UnsupportedOperators {
        /// The operators, in the order of their first nodes.
        operators: Vec<Missing>,
        /// What can be done.
        advice: String,
    },
    /// An option or form of an operator that is not supported.
    #[error("node `{node}` ({op}): {what} is not supported; {advice}")]
    UnsupportedForm {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// The option or form.
        what: String,
        /// What can be done.
        advice: String,
    },
    /// An invalid value of an attribute.
    #[error("node `{node}` ({op}): attribute `{attribute}` {reason}")]
    InvalidAttribute {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the attribute.
        attribute: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A required input is missing.
    #[error("node `{node}` ({op}): input {index} is missing")]
    MissingInput {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Position of the input.
        index: usize,
    },
    /// An invalid value of a constant input.
    #[error("node `{node}` ({op}): input `{value}` {reason}")]
    InvalidInput {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An input that must be a constant and is computed from the network's inputs.
    #[error("node `{node}` ({op}): input `{value}` must be a constant; {advice}")]
    NotConstant {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the value.
        value: String,
        /// What can be done.
        advice: String,
    },
    /// The shape of an input is not known.
    #[error("node `{node}` ({op}): the shape of `{value}` is not known")]
    UnknownShape {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the value.
        value: String,
    },
    /// Input shapes that do not fit each other or the operator.
    #[error("node `{node}` ({op}): {reason} (input shapes {})", show_shapes(.shapes))]
    ShapeMismatch {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// What does not fit.
        reason: String,
        /// Shapes of the inputs.
        shapes: Vec<Vec<usize>>,
    },
    /// A value of more elements than this program handles.
    #[error("node `{node}` ({op}): output shape {shape:?} is too large (input shapes {})", show_shapes(.shapes))]
    TooLarge {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Shape of the output.
        shape: Vec<usize>,
        /// Shapes of the inputs.
        shapes: Vec<Vec<usize>>,
    },
    /// Shape arithmetic beyond the limit on its results.
    #[error("node `{node}`: values computed from shapes exceed {limit} elements in all")]
    TooManyConstants {
        /// Name of the node that passes the limit.
        node: String,
        /// The limit.
        limit: usize,
    },
    /// No shape was given for an input whose declared shape is not fully known.
    #[error("a shape is needed for input `{input}`")]
    InputShapeNeeded {
        /// Name of the graph input.
        input: String,
    },
    /// A shape that contradicts the graph's declaration or is empty or too large.
    #[error("input `{input}` cannot have shape {given:?}: {reason}")]
    InputShape {
        /// Name of the graph input.
        input: String,
        /// Shape given.
        given: Vec<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// A shape was given for an input that the graph does not have.
    #[error("the graph has no input named `{input}`")]
    UnknownInput {
        /// Name given.
        input: String,
    },
    /// A node reads a value that no node, input or weight defines.
    #[error("node `{node}` ({op}) reads `{value}`, which nothing writes")]
    UnknownValue {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the value.
        value: String,
    },
    /// A node reads a value that a later node writes.
    #[error("node `{node}` ({op}) reads `{value}` before it is written")]
    ReadBeforeWrite {
        /// The operator.
        op: String,
        /// Name of the node.
        node: String,
        /// Name of the value.
        value: String,
    },
    /// A cycle of nodes.
    #[error("the graph has a cycle through nodes {}", show_names(.nodes))]
    Cycle {
        /// Names of the nodes on the cycle.
        nodes: Vec<String>,
    },
    /// A graph output that no node writes.
    #[error("nothing writes the graph output `{output}`")]
    UnknownOutput {
        /// Name of the output.
        output: String,
    },
    /// A graph without outputs.
    #[error("the graph has no outputs")]
    NoOutputs,
    /// Two nodes of one name.
    #[error("two nodes are named `{node}`")]
    DuplicateNode {
        /// The name.
        node: String,
    },
    /// A node without a name.
    #[error("node {index} ({op}) has no name")]
    UnnamedNode {
        /// Position of the node.
        index: usize,
        /// The operator.
        op: String,
    },
    /// A value that is written more than once.
    #[error("value `{value}` is written twice, by {first} and by {second}")]
    DuplicateValue {
        /// Name of the value.
        value: String,
        /// Who writes it first.
        first: String,
        /// Who writes it again.
        second: String,
    },
    /// A weight that holds NaN or an infinity.
    #[error("weight `{weight}` holds {value} at position {position}")]
    NonFiniteWeight {
        /// Name of the weight.
        weight: String,
        /// Row-major position of the first such element.
        position: usize,
        /// The element.
        value: f32,
    },
    /// A palette that does not belong to the weight that carries it.
    #[error("weight `{weight}`: {reason}")]
    PaletteMismatch {
        /// Name of the weight.
        weight: String,
        /// What does not fit.
        reason: String,
    },
}

/// An operator that is not supported, and where it occurs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// The operator, with its domain unless that is ONNX's own.
    pub op: String,
    /// Number of its nodes.
    pub count: usize,
    /// Names of the first of them, at most three.
    pub nodes: Vec<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let more = if self.count > self.nodes.len() { " …" } else { "" };
        write!(f, "{} ({} of them: {}{more})", self.op, self.count, show_names(&self.nodes))
    }
}

fn show_missing(operators: &[Missing]) -> String {
    operators.iter().map(Missing::to_string).collect::<Vec<_>>().join(", ")
}

fn show_shapes(shapes: &[Vec<usize>]) -> String {
    shapes.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ")
}

fn show_names(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
