//! Recurrent layers.

/// Settings of `LSTM`, `GRU` and `RNN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// The kind of cell.
    pub cell: Cell,
    /// Elements of the state (H).
    pub hidden: usize,
    /// Forward, reverse or both, in the order of the weights: whether each direction runs from the end.
    pub reverse: Vec<bool>,
    /// For each direction the functions of its gates, one for an RNN, two (gates, new state) for a GRU, three (gates, new
    /// state, output) for an LSTM.
    pub functions: Vec<Gate>,
    /// The sums that the functions take are kept within this range on both sides.
    pub clip: Option<f32>,
    /// Steps of each sequence of the batch; all of them where it is empty.
    pub lengths: Vec<usize>,
    /// Data and outputs have the batch before the steps.
    pub batch_first: bool,
    /// An LSTM's forget gate is one minus its input gate.
    pub couple: bool,
}

/// Kind of a recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// h = f(W x + R h + b).
    Rnn,
    /// Gates update, reset, new state.
    Gru {
        /// The reset gate acts after the product with R (and its bias), as in PyTorch and cuDNN; else before.
        reset_after: bool,
    },
    /// Gates input, output, forget, new state.
    Lstm,
}

impl Cell {
    /// Number of gates (G).
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm => 4,
        }
    }

    /// Number of functions of one direction.
    pub fn functions(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 2,
            Cell::Lstm => 3,
        }
    }
}

/// Function of a gate.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Gate {
    Sigmoid,
    Tanh,
    Relu,
    /// The identity with a factor and a constant.
    Affine(f32, f32),
    HardSigmoid(f32, f32),
    Softsign,
}
