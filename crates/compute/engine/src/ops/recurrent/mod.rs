//! Recurrent layers (LSTM, GRU, RNN), forward and backward through time.
//!
//! The formulas are those of the ONNX standard: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997,
//! with peepholes (Gers and Schmidhuber 2000); Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP
//! 2014. Rows are (step, sequence), in the order in which a direction runs through them.

mod cell;
mod trace;

use slq_graph::op::Recurrent;
use slq_kernels::Isa;
use slq_kernels::gemm::{Factor, gemm};

use super::layer::Layer;
use super::pass::{Backward, Forward, Gradient};
use super::site::Site;
use crate::error::EngineError;
use trace::{Sizes, Trace};

/// Inputs of a recurrent layer.
const DATA: usize = 0;
const W: usize = 1;
const R: usize = 2;
const BIAS: usize = 3;
const STATE: usize = 5;
const MEMORY: usize = 6;
const PEEPHOLE: usize = 7;

struct RecurrentLayer {
    op: Recurrent,
    sizes: Sizes,
    /// What each direction keeps for its backward pass.
    traces: Vec<Trace>,
}

pub(super) fn recurrent(site: Site<'_>, op: &Recurrent) -> Result<Box<dyn Layer>, EngineError> {
    let &[steps, batch, inputs] = site.shape(DATA)? else {
        return Err(site.unsupported("its data have not three axes".into()));
    };
    let sizes = Sizes { steps, batch, inputs, hidden: op.hidden, gates: op.cell.gates() };
    let traces = op.reverse.iter().map(|&r| Trace::new(&sizes, op.cell, r, site.differentiates())).collect();
    Ok(Box::new(RecurrentLayer { op: op.clone(), sizes, traces }))
}

/// Part `d` of a tensor of one part for each direction.
fn part(values: &[f32], d: usize, len: usize) -> &[f32] {
    &values[d * len..][..len]
}

impl RecurrentLayer {
    /// The step of the data that comes as number `s` in direction `d`.
    fn step(&self, d: usize, s: usize) -> usize {
        if self.op.reverse[d] { self.sizes.steps - 1 - s } else { s }
    }

    /// Whether sequence `b` has a step `t`.
    fn lives(&self, t: usize, b: usize) -> bool {
        self.op.lengths.get(b).is_none_or(|&length| t < length)
    }

    /// Where the output of (step `t`, direction `d`) begins.
    fn place(&self, t: usize, d: usize) -> usize {
        (t * self.op.reverse.len() + d) * self.sizes.state()
    }

    fn run(&self, d: usize, trace: &mut Trace, pass: &Forward<'_>, y: &mut [f32]) {
        let Sizes { steps, batch, hidden, inputs, .. } = self.sizes;
        let (rows, columns, state) = (self.sizes.rows(), self.sizes.columns(), self.sizes.state());
        let (w, r) = (part(pass.input(W), d, columns * inputs), part(pass.input(R), d, columns * hidden));
        let bias = pass.optional(BIAS).map(|b| part(b, d, 2 * columns));
        let peephole = pass.optional(PEEPHOLE).map(|p| part(p, d, 3 * hidden));
        let mut held = Vec::new();
        let x = trace.order(pass.input(DATA), &self.sizes, &mut held);
        gemm(
            pass.isa,
            [rows, columns, inputs],
            1.0,
            Factor::plain(x),
            Factor::transposed(w),
            0.0,
            &mut trace.gates,
        );
        for (start, input) in [(&mut trace.h, STATE), (&mut trace.c, MEMORY)] {
            match pass.optional(input) {
                Some(first) if !start.is_empty() => start[..state].copy_from_slice(part(first, d, state)),
                _ => start.iter_mut().take(state).for_each(|v| *v = 0.0),
            }
        }
        let cell = cell::Cell::new(&self.op, d, hidden, bias, peephole);
        for s in 0..steps {
            let t = self.step(d, s);
            let alive: Vec<bool> = (0..batch).map(|b| self.lives(t, b)).collect();
            cell.forward(pass.isa, trace, r, s, &alive);
            let to = self.place(t, d);
            for (b, row) in y[to..to + state].chunks_mut(hidden).enumerate() {
                let h = &trace.h[(s + 1) * state + b * hidden..][..hidden];
                if alive[b] { row.copy_from_slice(h) } else { row.fill(0.0) }
            }
        }
        let all = self.sizes.steps * self.op.reverse.len() * state;
        let directions = self.op.reverse.len();
        y[all + d * state..][..state].copy_from_slice(&trace.h[steps * state..]);
        let last = &mut y[all + (directions + d) * state..][..state];
        match trace.c.get(steps * state..) {
            Some(c) if !c.is_empty() => last.copy_from_slice(c),
            _ => last.fill(0.0),
        }
    }

    /// Gradients of direction `d`; `wanted` are the buffers of all inputs' gradients.
    fn reverse(
        &self,
        d: usize,
        trace: &mut Trace,
        pass: &Backward<'_>,
        dy: &[f32],
        wanted: &mut [Option<Gradient>],
    ) {
        let Sizes { steps, batch, hidden, inputs, .. } = self.sizes;
        let (columns, state) = (self.sizes.columns(), self.sizes.state());
        let directions = self.op.reverse.len();
        let r = part(pass.input(R), d, columns * hidden);
        let has_peephole = pass.inputs.get(PEEPHOLE).is_some_and(|p| *p != super::Place::Absent);
        let peephole = has_peephole.then(|| part(pass.input(PEEPHOLE), d, 3 * hidden));
        let cell = cell::Cell::new(&self.op, d, hidden, None, peephole);
        let all = steps * directions * state;
        let mut dh = part(&dy[all..], d, state).to_vec();
        let mut dc = part(&dy[all + directions * state..], d, state).to_vec();
        let mut dp = vec![0.0; if has_peephole { 3 * hidden } else { 0 }];
        for s in (0..steps).rev() {
            let t = self.step(d, s);
            let alive: Vec<bool> = (0..batch).map(|b| self.lives(t, b)).collect();
            let from = &dy[self.place(t, d)..][..state];
            for (i, (dh, dy)) in dh.iter_mut().zip(from).enumerate() {
                *dh += if alive[i / hidden] { *dy } else { 0.0 };
            }
            cell.backward(pass.isa, trace, r, s, &alive, [&mut dh, &mut dc, &mut dp]);
        }
        self.weights(d, trace, pass, wanted);
        for (input, values, len) in [(STATE, &dh, state), (MEMORY, &dc, state), (PEEPHOLE, &dp, 3 * hidden)] {
            if let Some(gradient) = wanted.get_mut(input).and_then(Option::as_mut) {
                gradient[d * len..][..len].copy_from_slice(values);
            }
        }
        if let Some(dx) = wanted.get_mut(DATA).and_then(Option::as_mut) {
            let w = part(pass.input(W), d, columns * inputs);
            let gates = Factor::plain(&trace.d_gates);
            let mut sum = vec![0.0; self.sizes.rows() * inputs];
            gemm(pass.isa, [self.sizes.rows(), inputs, columns], 1.0, gates, Factor::plain(w), 0.0, &mut sum);
            for s in 0..steps {
                let to = &mut dx[self.step(d, s) * batch * inputs..][..batch * inputs];
                let from = &sum[s * batch * inputs..][..batch * inputs];
                to.iter_mut().zip(from).for_each(|(x, y)| *x += y);
            }
        }
    }

    /// Gradients of W, R and the biases from those of the gates.
    fn weights(&self, d: usize, trace: &Trace, pass: &Backward<'_>, wanted: &mut [Option<Gradient>]) {
        let Sizes { hidden, inputs, .. } = self.sizes;
        let (rows, columns, state) = (self.sizes.rows(), self.sizes.columns(), self.sizes.state());
        let isa: Isa = pass.isa;
        if let Some(dw) = wanted.get_mut(W).and_then(Option::as_mut) {
            let mut held = Vec::new();
            let x = trace.order(pass.input(DATA), &self.sizes, &mut held);
            let dw = &mut dw[d * columns * inputs..][..columns * inputs];
            gemm(
                isa,
                [columns, inputs, rows],
                1.0,
                Factor::transposed(&trace.d_gates),
                Factor::plain(x),
                0.0,
                dw,
            );
        }
        let by_state = trace.d_state();
        if let Some(dr) = wanted.get_mut(R).and_then(Option::as_mut) {
            let dr = &mut dr[d * columns * hidden..][..columns * hidden];
            let h = Factor::plain(&trace.h[..self.sizes.steps * state]);
            gemm(isa, [columns, hidden, rows], 1.0, Factor::transposed(by_state), h, 0.0, dr);
            if trace.resets_before() {
                // The new state's weights saw the state after the reset gate.
                let new: Vec<f32> =
                    by_state.chunks(columns).flat_map(|row| row[2 * hidden..].iter().copied()).collect();
                let (new, q) = (Factor::transposed(&new), Factor::plain(&trace.q));
                gemm(isa, [hidden, hidden, rows], 1.0, new, q, 0.0, &mut dr[2 * hidden * hidden..]);
            }
        }
        if let Some(db) = wanted.get_mut(BIAS).and_then(Option::as_mut) {
            let db = &mut db[d * 2 * columns..][..2 * columns];
            for (sums, gates) in [(0, &trace.d_gates[..]), (columns, by_state)] {
                for (i, sum) in db[sums..sums + columns].iter_mut().enumerate() {
                    *sum = gates[i..].iter().step_by(columns).map(|&v| f64::from(v)).sum::<f64>() as f32;
                }
            }
        }
    }
}

impl Layer for RecurrentLayer {
    fn reads_input(&self, i: usize) -> bool {
        matches!(i, DATA | W | R | PEEPHOLE)
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let mut traces = std::mem::take(&mut self.traces);
        for (d, trace) in traces.iter_mut().enumerate() {
            self.run(d, trace, pass, y);
        }
        self.traces = traces;
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        let mut wanted: Vec<Option<Gradient>> = (0..8).map(|i| pass.take_gradient(i)).collect();
        wanted.iter_mut().flatten().for_each(|g| g.fill(0.0));
        let mut traces = std::mem::take(&mut self.traces);
        for (d, trace) in traces.iter_mut().enumerate() {
            self.reverse(d, trace, pass, &dy, &mut wanted);
        }
        self.traces = traces;
        for (i, gradient) in wanted.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        self.traces.iter().map(Trace::bytes).sum()
    }
}
