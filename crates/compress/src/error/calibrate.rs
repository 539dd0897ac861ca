//! What can go wrong while calibrating.

/// A calibration, or one layer of it, that could not be done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// A slice whose length does not fit the layer's shape.
    #[error("{what} holds {found} values, but the layer's shape needs {expected}")]
    Length {
        /// What the slice holds.
        what: &'static str,
        /// Length that the shape needs.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// A shape without rows or columns, or groups that do not divide the rows.
    #[error("{rows} outputs in {groups} groups of {columns} inputs each make no layer")]
    Shape {
        /// Output channels.
        rows: usize,
        /// Groups.
        groups: usize,
        /// Inputs of a group.
        columns: usize,
    },
    /// A codebook size that codes of 8 bits cannot number, or none.
    #[error("a codebook of {size} values is out of range: 1 to 256 are possible")]
    CodebookSize {
        /// Size asked for.
        size: usize,
    },
    /// An option out of range.
    #[error("calibration option '{name}' is {value}: {expected}")]
    Setting {
        /// The option.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What it has to be.
        expected: &'static str,
    },
    /// An activation, weight or target that is not a finite number.
    #[error("{what} is not a finite number")]
    NotFinite {
        /// What was looked at.
        what: &'static str,
    },
    /// No sample has been seen.
    #[error("no samples of the layer's inputs were given")]
    NoSamples,
    /// The start codebook could not be found.
    #[error(transparent)]
    Cluster(#[from] slq_codebook::ClusterError),
    /// Inputs that do not fit the network or cannot be read.
    #[error(transparent)]
    Inputs(#[from] crate::inputs::InputError),
    /// What is wrong with one layer.
    #[error("layer '{layer}': {source}")]
    Layer {
        /// The layer's weight.
        layer: String,
        /// What is wrong.
        source: Box<CalibrateError>,
    },
    /// The observer stopped the job.
    #[error("stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
    /// The graph does not allow what was asked.
    #[error(transparent)]
    Graph(#[from] slq_graph::GraphError),
    /// The engine cannot compute an activation.
    #[error(transparent)]
    Engine(#[from] slq_engine::EngineError),
    /// What another process of the job cannot compute.
    #[error("{reason}")]
    Elsewhere {
        /// Its reason.
        reason: String,
    },
    /// The other processes of the job cannot be reached.
    #[error(transparent)]
    Reduce(#[from] slq_reduce::ReduceError),
    /// Codes that no palette of the layer's codebooks holds.
    #[error(transparent)]
    Palette(#[from] slq_codebook::PaletteError),
}

impl CalibrateError {
    /// Whether the engine, of this process or another, cannot compute what is needed: the layer can be clustered without it.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Graph(_) | Self::Elsewhere { .. })
    }
}
