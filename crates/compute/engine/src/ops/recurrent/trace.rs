//! What one direction of a recurrent layer computes and keeps.

use slq_graph::op::Cell;

/// Sizes of a recurrent layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub steps: usize,
    pub batch: usize,
    pub inputs: usize,
    pub hidden: usize,
    pub gates: usize,
}

impl Sizes {
    /// Rows: one for each step of each sequence.
    pub fn rows(&self) -> usize {
        self.steps * self.batch
    }

    /// Elements of a row of gates.
    pub fn columns(&self) -> usize {
        self.gates * self.hidden
    }

    /// Elements of the states of all sequences.
    pub fn state(&self) -> usize {
        self.batch * self.hidden
    }
}

/// Values of a direction, in the order in which it runs; what only the backward pass needs is empty in evaluation.
pub(super) struct Trace {
    reverse: bool,
    /// Gates before and after their functions, `[rows, columns]`.
    pub gates: Vec<f32>,
    /// Slopes of their functions.
    pub slopes: Vec<f32>,
    /// States before the first and after each step, `[steps + 1, batch, hidden]`.
    pub h: Vec<f32>,
    /// Memory of an LSTM, likewise.
    pub c: Vec<f32>,
    /// Function of the memory and its slope, `[rows, hidden]`.
    pub squashed: Vec<f32>,
    pub squashed_slopes: Vec<f32>,
    /// Of a GRU, what the reset gate is multiplied with, or where it acts first the product of the two.
    pub q: Vec<f32>,
    /// Products of the states of one step with R.
    pub product: Vec<f32>,
    /// Gradients of the sums that the gates' functions take.
    pub d_gates: Vec<f32>,
    /// The same of the parts that come from the state, where they differ.
    pub d_recurrent: Vec<f32>,
    cell: Cell,
}

impl Trace {
    pub fn new(sizes: &Sizes, cell: Cell, reverse: bool, differentiates: bool) -> Self {
        let zeros = |wanted: bool, len: usize| if wanted { vec![0.0; len] } else { Vec::new() };
        let (rows, columns, state) = (sizes.rows(), sizes.columns(), sizes.state());
        let (lstm, gru) = (cell == Cell::Lstm, matches!(cell, Cell::Gru { .. }));
        let states = state * (sizes.steps + 1);
        Self {
            reverse,
            gates: vec![0.0; rows * columns],
            slopes: zeros(differentiates, rows * columns),
            h: vec![0.0; states],
            c: zeros(lstm, states),
            squashed: zeros(lstm, rows * sizes.hidden),
            squashed_slopes: zeros(lstm && differentiates, rows * sizes.hidden),
            q: zeros(gru, rows * sizes.hidden),
            product: vec![0.0; sizes.batch * columns],
            d_gates: zeros(differentiates, rows * columns),
            d_recurrent: zeros(differentiates && cell == Cell::Gru { reset_after: true }, rows * columns),
            cell,
        }
    }

    /// The data in the order of this direction; `held` is room for a copy.
    pub fn order<'a>(&self, data: &'a [f32], sizes: &Sizes, held: &'a mut Vec<f32>) -> &'a [f32] {
        if !self.reverse {
            return data;
        }
        let step = sizes.batch * sizes.inputs;
        held.clear();
        data.chunks(step).rev().for_each(|step| held.extend_from_slice(step));
        held
    }

    /// Gradients of the sums, of the parts that come from the state.
    pub fn d_state(&self) -> &[f32] {
        if self.d_recurrent.is_empty() { &self.d_gates } else { &self.d_recurrent }
    }

    /// Whether this is a GRU whose reset gate acts before the product with R.
    pub fn resets_before(&self) -> bool {
        self.cell == Cell::Gru { reset_after: false }
    }

    pub fn bytes(&self) -> usize {
        let all = [
            &self.gates,
            &self.slopes,
            &self.h,
            &self.c,
            &self.squashed,
            &self.squashed_slopes,
            &self.q,
            &self.product,
            &self.d_gates,
            &self.d_recurrent,
        ];
        4 * all.iter().map(|v| v.len()).sum::<usize>()
    }
}
