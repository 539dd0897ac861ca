//! One step of each kind of cell, forward and backward.

use slq_graph::op::{Cell as Kind, Gate, Recurrent};
use slq_kernels::Isa;
use slq_kernels::gemm::{Factor, gemm};

use super::trace::Trace;

/// A cell of one direction.
pub(super) struct Cell<'a> {
    kind: Kind,
    /// Functions of the gates, of the new state, and of the memory.
    functions: [Gate; 3],
    clip: f32,
    couple: bool,
    hidden: usize,
    /// Biases of W, then of R.
    bias: Option<&'a [f32]>,
    /// Of input, output and forget gate.
    peephole: Option<&'a [f32]>,
}

/// Value and slope of a function.
fn value(gate: Gate, z: f32) -> (f32, f32) {
    match gate {
        Gate::Sigmoid => {
            let y = 1.0 / (1.0 + (-z).exp());
            (y, y * (1.0 - y))
        }
        Gate::Tanh => {
            let y = z.tanh();
            (y, 1.0 - y * y)
        }
        Gate::Relu => (z.max(0.0), f32::from(u8::from(z > 0.0))),
        Gate::Affine(a, b) => (a * z + b, a),
        Gate::HardSigmoid(a, b) => {
            let y = a * z + b;
            (y.clamp(0.0, 1.0), if y > 0.0 && y < 1.0 { a } else { 0.0 })
        }
        Gate::Softsign => (z / (1.0 + z.abs()), (1.0 + z.abs()).powi(-2)),
    }
}

/// Stores `value` where there is room.
fn note(list: &mut [f32], at: usize, value: f32) {
    if let Some(slot) = list.get_mut(at) {
        *slot = value;
    }
}

impl<'a> Cell<'a> {
    pub fn new(
        op: &Recurrent,
        direction: usize,
        hidden: usize,
        bias: Option<&'a [f32]>,
        peephole: Option<&'a [f32]>,
    ) -> Self {
        let count = op.cell.functions();
        let at = |i: usize| op.functions.get(direction * count + i).copied().unwrap_or(Gate::Tanh);
        // An RNN's only gate is its new state.
        let functions = [at(0), at(1.min(count - 1)), at(count - 1)];
        let clip = op.clip.unwrap_or(f32::INFINITY);
        Self { kind: op.cell, functions, clip, couple: op.couple, hidden, bias, peephole }
    }

    fn columns(&self) -> usize {
        self.kind.gates() * self.hidden
    }

    /// The function of a gate at a sum, which is bounded before.
    fn gate(&self, which: usize, z: f32) -> (f32, f32) {
        let (y, slope) = value(self.functions[which], z.clamp(-self.clip, self.clip));
        (y, if z.abs() > self.clip { 0.0 } else { slope })
    }

    /// Bias of W (0) or R (1) for column `j`.
    fn bias(&self, which: usize, j: usize) -> f32 {
        self.bias.map_or(0.0, |b| b[which * self.columns() + j])
    }

    fn peephole(&self, which: usize, j: usize) -> f32 {
        self.peephole.map_or(0.0, |p| p[which * self.hidden + j])
    }

    /// Step `s`: the states after it from those before it. Sequences that are not `alive` keep theirs.
    pub fn forward(&self, isa: Isa, trace: &mut Trace, r: &[f32], s: usize, alive: &[bool]) {
        let (hidden, columns, batch) = (self.hidden, self.columns(), alive.len());
        let state = batch * hidden;
        let h = Factor::plain(&trace.h[s * state..][..state]);
        gemm(isa, [batch, columns, hidden], 1.0, h, Factor::transposed(r), 0.0, &mut trace.product);
        if self.kind == (Kind::Gru { reset_after: false }) {
            self.reset_before(isa, trace, r, s, batch);
        }
        for (b, alive) in alive.iter().enumerate() {
            let (before, after) = (s * state + b * hidden, (s + 1) * state + b * hidden);
            if !alive {
                trace.h.copy_within(before..before + hidden, after);
                if !trace.c.is_empty() {
                    trace.c.copy_within(before..before + hidden, after);
                }
                continue;
            }
            let row = s * batch + b;
            match self.kind {
                Kind::Rnn => self.rnn(trace, row, b, after),
                Kind::Gru { reset_after } => self.gru(trace, row, b, [before, after], reset_after),
                Kind::Lstm => self.lstm(trace, row, b, [before, after]),
            }
        }
    }

    fn rnn(&self, trace: &mut Trace, row: usize, b: usize, after: usize) {
        let hidden = self.hidden;
        for j in 0..hidden {
            let at = row * hidden + j;
            let z = trace.gates[at] + trace.product[b * hidden + j] + self.bias(0, j) + self.bias(1, j);
            let (y, slope) = self.gate(0, z);
            trace.gates[at] = y;
            trace.h[after + j] = y;
            note(&mut trace.slopes, at, slope);
        }
    }

    /// Of a GRU whose reset gate acts first: the reset gate, and the product of the reset state with R's last part.
    fn reset_before(&self, isa: Isa, trace: &mut Trace, r: &[f32], s: usize, batch: usize) {
        let (hidden, columns) = (self.hidden, self.columns());
        let first = s * batch * hidden;
        for b in 0..batch {
            for j in 0..hidden {
                let k = hidden + j;
                let z = trace.gates[(s * batch + b) * columns + k] + trace.product[b * columns + k];
                let (reset, _) = self.gate(0, z + self.bias(0, k) + self.bias(1, k));
                trace.q[first + b * hidden + j] = reset * trace.h[first + b * hidden + j];
            }
        }
        let mut product = vec![0.0; batch * hidden];
        let q = Factor::plain(&trace.q[first..][..batch * hidden]);
        let last = Factor::transposed(&r[2 * hidden * hidden..]);
        gemm(isa, [batch, hidden, hidden], 1.0, q, last, 0.0, &mut product);
        for (b, product) in product.chunks(hidden).enumerate() {
            trace.product[b * columns + 2 * hidden..][..hidden].copy_from_slice(product);
        }
    }

    fn gru(&self, trace: &mut Trace, row: usize, b: usize, [before, after]: [usize; 2], reset_after: bool) {
        let (hidden, columns) = (self.hidden, self.columns());
        for j in 0..hidden {
            let sum = |trace: &Trace, gate: usize| {
                let k = gate * hidden + j;
                trace.gates[row * columns + k]
                    + trace.product[b * columns + k]
                    + self.bias(0, k)
                    + self.bias(1, k)
            };
            let (update, update_slope) = self.gate(0, sum(trace, 0));
            let (reset, reset_slope) = self.gate(0, sum(trace, 1));
            let k = 2 * hidden + j;
            let z = if reset_after {
                let product = trace.product[b * columns + k] + self.bias(1, k);
                trace.q[row * hidden + j] = product;
                trace.gates[row * columns + k] + self.bias(0, k) + reset * product
            } else {
                sum(trace, 2)
            };
            let (new, new_slope) = self.gate(1, z);
            trace.h[after + j] = (1.0 - update) * new + update * trace.h[before + j];
            let triple = [(update, update_slope), (reset, reset_slope), (new, new_slope)];
            for (gate, (y, slope)) in triple.into_iter().enumerate() {
                let at = row * columns + gate * hidden + j;
                trace.gates[at] = y;
                note(&mut trace.slopes, at, slope);
            }
        }
    }

    fn lstm(&self, trace: &mut Trace, row: usize, b: usize, [before, after]: [usize; 2]) {
        let (hidden, columns) = (self.hidden, self.columns());
        for j in 0..hidden {
            let old = trace.c[before + j];
            let sum = |trace: &Trace, gate: usize| {
                let k = gate * hidden + j;
                trace.gates[row * columns + k]
                    + trace.product[b * columns + k]
                    + self.bias(0, k)
                    + self.bias(1, k)
            };
            let (input, input_slope) = self.gate(0, sum(trace, 0) + self.peephole(0, j) * old);
            let (forget, forget_slope) = if self.couple {
                (1.0 - input, 0.0)
            } else {
                self.gate(0, sum(trace, 2) + self.peephole(2, j) * old)
            };
            let (new, new_slope) = self.gate(1, sum(trace, 3));
            let c = forget * old + input * new;
            let (output, output_slope) = self.gate(0, sum(trace, 1) + self.peephole(1, j) * c);
            let (squashed, squashed_slope) = value(self.functions[2], c);
            trace.c[after + j] = c;
            trace.h[after + j] = output * squashed;
            trace.squashed[row * hidden + j] = squashed;
            note(&mut trace.squashed_slopes, row * hidden + j, squashed_slope);
            let four =
                [(input, input_slope), (output, output_slope), (forget, forget_slope), (new, new_slope)];
            for (gate, (y, slope)) in four.into_iter().enumerate() {
                let at = row * columns + gate * hidden + j;
                trace.gates[at] = y;
                note(&mut trace.slopes, at, slope);
            }
        }
    }

    /// Gradients of step `s`: of its gates, and `dh` and `dc` become those of the states before it.
    pub fn backward(
        &self,
        isa: Isa,
        trace: &mut Trace,
        r: &[f32],
        s: usize,
        alive: &[bool],
        [dh, dc, dp]: [&mut Vec<f32>; 3],
    ) {
        let (hidden, columns, batch) = (self.hidden, self.columns(), alive.len());
        // What reaches the states before the step beside the products with R.
        let mut direct = vec![0.0; batch * hidden];
        for (b, alive) in alive.iter().enumerate() {
            let row = s * batch + b;
            let dh = &dh[b * hidden..][..hidden];
            let direct = &mut direct[b * hidden..][..hidden];
            if !alive {
                direct.copy_from_slice(dh);
                trace.d_gates[row * columns..][..columns].fill(0.0);
                if let Some(row) = trace.d_recurrent.get_mut(row * columns..(row + 1) * columns) {
                    row.fill(0.0);
                }
                continue;
            }
            let before = s * batch * hidden + b * hidden;
            match self.kind {
                Kind::Rnn => {
                    for (j, dh) in dh.iter().enumerate() {
                        trace.d_gates[row * hidden + j] = dh * trace.slopes[row * hidden + j];
                    }
                }
                Kind::Gru { reset_after } => self.gru_back(trace, row, before, reset_after, dh, direct),
                Kind::Lstm => {
                    let after = before + batch * hidden;
                    self.lstm_back(trace, row, [before, after], dh, &mut dc[b * hidden..][..hidden], dp);
                }
            }
        }
        let rows = s * batch * columns..(s + 1) * batch * columns;
        if self.kind == (Kind::Gru { reset_after: false }) {
            self.reset_before_back(isa, trace, r, s, alive, &mut direct);
            let mut gates = trace.d_gates[rows].to_vec();
            gates.chunks_mut(columns).for_each(|row| row[2 * hidden..].fill(0.0));
            gemm(isa, [batch, hidden, columns], 1.0, Factor::plain(&gates), Factor::plain(r), 0.0, dh);
        } else {
            let gates = Factor::plain(&trace.d_state()[rows]);
            gemm(isa, [batch, hidden, columns], 1.0, gates, Factor::plain(r), 0.0, dh);
        }
        dh.iter_mut().zip(&direct).for_each(|(dh, direct)| *dh += direct);
    }

    fn gru_back(
        &self,
        trace: &mut Trace,
        row: usize,
        before: usize,
        reset_after: bool,
        dh: &[f32],
        direct: &mut [f32],
    ) {
        let (hidden, columns) = (self.hidden, self.columns());
        for (j, &dh) in dh.iter().enumerate() {
            let at = |gate: usize| row * columns + gate * hidden + j;
            let (update, reset, new) = (trace.gates[at(0)], trace.gates[at(1)], trace.gates[at(2)]);
            let d_new = dh * (1.0 - update) * trace.slopes[at(2)];
            direct[j] = dh * update;
            trace.d_gates[at(0)] = dh * (trace.h[before + j] - new) * trace.slopes[at(0)];
            trace.d_gates[at(2)] = d_new;
            if reset_after {
                trace.d_gates[at(1)] = d_new * trace.q[row * hidden + j] * trace.slopes[at(1)];
                for gate in 0..2 {
                    trace.d_recurrent[at(gate)] = trace.d_gates[at(gate)];
                }
                trace.d_recurrent[at(2)] = d_new * reset;
            }
        }
    }

    /// Of a GRU whose reset gate acts first: the reset gate's gradient.
    fn reset_before_back(
        &self,
        isa: Isa,
        trace: &mut Trace,
        r: &[f32],
        s: usize,
        alive: &[bool],
        direct: &mut [f32],
    ) {
        let (hidden, columns, batch) = (self.hidden, self.columns(), alive.len());
        let gates = trace.d_gates[s * batch * columns..][..batch * columns].chunks(columns);
        let new: Vec<f32> = gates.flat_map(|row| row[2 * hidden..].iter().copied()).collect();
        let mut dq = vec![0.0; batch * hidden];
        let last = Factor::plain(&r[2 * hidden * hidden..]);
        gemm(isa, [batch, hidden, hidden], 1.0, Factor::plain(&new), last, 0.0, &mut dq);
        for (b, _) in alive.iter().enumerate().filter(|(_, alive)| **alive) {
            for j in 0..hidden {
                let at = (s * batch + b) * columns + hidden + j;
                let dq = dq[b * hidden + j];
                trace.d_gates[at] = dq * trace.h[(s * batch + b) * hidden + j] * trace.slopes[at];
                direct[b * hidden + j] += dq * trace.gates[at];
            }
        }
    }

    fn lstm_back(
        &self,
        trace: &mut Trace,
        row: usize,
        [before, after]: [usize; 2],
        dh: &[f32],
        dc: &mut [f32],
        dp: &mut [f32],
    ) {
        let (hidden, columns) = (self.hidden, self.columns());
        for (j, &dh) in dh.iter().enumerate() {
            let at = |gate: usize| row * columns + gate * hidden + j;
            let [input, output, forget, new] = [0, 1, 2, 3].map(|gate| trace.gates[at(gate)]);
            let old = trace.c[before + j];
            let d_output = dh * trace.squashed[row * hidden + j] * trace.slopes[at(1)];
            let through = dh * output * trace.squashed_slopes[row * hidden + j];
            let d_memory = dc[j] + through + d_output * self.peephole(1, j);
            let lost = if self.couple { old } else { 0.0 };
            let d_input = d_memory * (new - lost) * trace.slopes[at(0)];
            let d_forget = d_memory * old * trace.slopes[at(2)];
            trace.d_gates[at(0)] = d_input;
            trace.d_gates[at(1)] = d_output;
            trace.d_gates[at(2)] = d_forget;
            trace.d_gates[at(3)] = d_memory * input * trace.slopes[at(3)];
            dc[j] = d_memory * forget + d_input * self.peephole(0, j) + d_forget * self.peephole(2, j);
            if !dp.is_empty() {
                dp[j] += d_input * old;
                dp[hidden + j] += d_output * trace.c[after + j];
                dp[2 * hidden + j] += d_forget * old;
            }
        }
    }
}
