//! Stochastic gradient descent with momentum, under a mask.

use crate::Isa;
use crate::isa::{madd, multiversion};
use crate::par;
use crate::parallel::{chunks, chunks_mut, parts};

/// The update rule: Caffe's (`SGDSolver`, `NesterovSolver`) or PyTorch's (`torch.optim.SGD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rule {
    /// `v = mu v + lr (g + wd w)`, `w -= v`: the rate enters the history.
    Caffe,
    /// Caffe's Nesterov solver: `v' = mu v + lr (g + wd w)`, `w -= (1 + mu) v' - mu v`.
    CaffeNesterov,
    /// `v = mu v + (g + wd w)`, `w -= lr v`.
    #[default]
    PyTorch,
    /// PyTorch with `nesterov=True`: `v = mu v + d`, `w -= lr (d + mu v)`, where `d = g + wd w`.
    PyTorchNesterov,
}

/// Settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate.
    pub lr: f32,
    /// Momentum.
    pub mu: f32,
    /// Weight decay.
    pub wd: f32,
    /// Whether the weight decay is that of the sum of absolute values (L1: the sign of the weight stands for `w` in the
    /// rules), and not of half the sum of squares (L2).
    pub l1: bool,
    /// Factor on the gradient before anything else (1 / iter_size, clipping by the global norm).
    pub scale: f32,
    /// Update rule.
    pub rule: Rule,
}

/// The derivative of the penalty: the weight, or -1, 0 or 1.
#[inline(always)]
fn pull<const L1: bool>(w: f32) -> f32 {
    if L1 { f32::from(u8::from(w > 0.0)) - f32::from(u8::from(w < 0.0)) } else { w }
}

#[inline(always)]
fn move_of<const FMA: bool, const L1: bool>(s: &Step, w: f32, v: f32, g: f32) -> (f32, f32) {
    let d = madd::<FMA>(s.wd, pull::<L1>(w), s.scale * g);
    match s.rule {
        Rule::Caffe => {
            let v = madd::<FMA>(s.mu, v, s.lr * d);
            (v, v)
        }
        Rule::CaffeNesterov => {
            let new = madd::<FMA>(s.mu, v, s.lr * d);
            (new, madd::<FMA>(1.0 + s.mu, new, -(s.mu * v)))
        }
        Rule::PyTorch => {
            let v = madd::<FMA>(s.mu, v, d);
            (v, s.lr * v)
        }
        Rule::PyTorchNesterov => {
            let v = madd::<FMA>(s.mu, v, d);
            (v, s.lr * madd::<FMA>(s.mu, v, d))
        }
    }
}

#[inline(always)]
fn step_rule<const FMA: bool, const L1: bool>(
    s: Step,
    w: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
) {
    match mask {
        None => {
            for ((w, v), &g) in w.iter_mut().zip(v).zip(g) {
                let (new, down) = move_of::<FMA, L1>(&s, *w, *v, g);
                *v = new;
                *w -= down;
            }
        }
        Some(mask) => {
            for (((w, v), &g), &free) in w.iter_mut().zip(v).zip(g).zip(mask) {
                let (new, down) = move_of::<FMA, L1>(&s, *w, *v, g);
                *v = new;
                // A choice and not a product: 0 * inf is NaN, and w - 0 would lose the sign of a negative zero.
                *w = if free != 0 { *w - down } else { *w };
            }
        }
    }
}

#[inline(always)]
fn step_body<const FMA: bool>(s: Step, w: &mut [f32], v: &mut [f32], g: &[f32], mask: Option<&[u8]>) {
    if s.l1 {
        step_body_of::<FMA, true>(s, w, v, g, mask);
    } else {
        step_body_of::<FMA, false>(s, w, v, g, mask);
    }
}

#[inline(always)]
fn step_body_of<const FMA: bool, const L1: bool>(
    s: Step,
    w: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
) {
    // The rule is a constant in each branch, so that each loop vectorises.
    match s.rule {
        Rule::Caffe => step_rule::<FMA, L1>(Step { rule: Rule::Caffe, ..s }, w, v, g, mask),
        Rule::CaffeNesterov => step_rule::<FMA, L1>(Step { rule: Rule::CaffeNesterov, ..s }, w, v, g, mask),
        Rule::PyTorch => step_rule::<FMA, L1>(Step { rule: Rule::PyTorch, ..s }, w, v, g, mask),
        Rule::PyTorchNesterov => {
            step_rule::<FMA, L1>(Step { rule: Rule::PyTorchNesterov, ..s }, w, v, g, mask)
        }
    }
}

#[inline(always)]
fn squares_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            let v = v as f64;
            *lane += v * v;
        }
    }
    let rest: f64 = chunks.remainder().iter().map(|&v| v as f64 * v as f64).sum();
    lanes.iter().sum::<f64>() + rest
}

multiversion! {
    fn step_run(s: Step, w: &mut [f32], v: &mut [f32], g: &[f32], mask: Option<&[u8]>) = step_body;
    fn squares_run(x: &[f32]) -> f64 = squares_body;
}

/// One step of masked momentum SGD on weights `w`, with history `v` and gradient `g`.
///
/// `mask` holds 1 for a free weight and 0 for a fixed one; without it all are free. A fixed weight keeps its exact bits
/// whatever its gradient and history; its history is updated as if it were free.
pub fn masked_momentum_step(
    isa: Isa,
    w: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
    step: Step,
) {
    assert!(w.len() == v.len() && w.len() == g.len() && mask.is_none_or(|m| m.len() == w.len()));
    let (w, v, g) = (chunks_mut(w, par::CHUNK), chunks_mut(v, par::CHUNK), chunks(g, par::CHUNK));
    match mask {
        None => parts((w, v, g), 1, |_, (w, v, g)| step_run(isa, step, w, v, g, None)),
        Some(mask) => {
            let all = (w, v, g, chunks(mask, par::CHUNK));
            parts(all, 1, |_, (w, v, g, m)| step_run(isa, step, w, v, g, Some(m)));
        }
    }
}

/// Sum of squares in `f64`; take the root of the sum over all gradients for their global norm.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    par::sum_chunks(x.len(), |at| squares_run(isa, &x[at]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    const RULES: [Rule; 4] = [Rule::Caffe, Rule::CaffeNesterov, Rule::PyTorch, Rule::PyTorchNesterov];

    fn reference(rule: Rule, s: &Step, w: &mut [f64], v: &mut [f64], g: &[f32], lr: f64) {
        let (mu, wd) = (s.mu as f64, s.wd as f64);
        for i in 0..w.len() {
            let pull = if s.l1 { (w[i] > 0.0) as i8 as f64 - (w[i] < 0.0) as i8 as f64 } else { w[i] };
            let d = g[i] as f64 * s.scale as f64 + wd * pull;
            let old = v[i];
            match rule {
                Rule::Caffe => {
                    v[i] = mu * old + lr * d;
                    w[i] -= v[i];
                }
                Rule::CaffeNesterov => {
                    v[i] = mu * old + lr * d;
                    w[i] -= (1.0 + mu) * v[i] - mu * old;
                }
                Rule::PyTorch => {
                    v[i] = mu * old + d;
                    w[i] -= lr * v[i];
                }
                Rule::PyTorchNesterov => {
                    v[i] = mu * old + d;
                    w[i] -= lr * (d + mu * v[i]);
                }
            }
        }
    }

    #[test]
    fn rules_over_steps_with_a_falling_rate() {
        let len = 20_011;
        let w0 = values(len, 1);
        for (rule, l1) in RULES.into_iter().flat_map(|rule| [(rule, false), (rule, true)]) {
            let base = Step { lr: 0.1, mu: 0.9, wd: 0.01, l1, scale: 0.5, rule };
            let (mut w64, mut v64) = (wide(&w0), vec![0.0; len]);
            for t in 0..5 {
                let lr = if t < 3 { base.lr } else { 0.01 };
                reference(rule, &base, &mut w64, &mut v64, &values(len, 10 + t), lr as f64);
            }
            for (isa, w) in on_all(|isa| {
                let (mut w, mut v) = (w0.clone(), vec![0.0; len]);
                for t in 0..5 {
                    let lr = if t < 3 { base.lr } else { 0.01 };
                    let g = values(len, 10 + t);
                    masked_momentum_step(isa, &mut w, &mut v, &g, None, Step { lr, ..base });
                }
                w
            }) {
                assert_close(&w, &w64, 2e-6, &format!("{rule:?} {isa} l1 {l1}"));
            }
        }
    }

    #[test]
    fn a_fixed_weight_keeps_its_bits() {
        let w0 = [-0.0, 0.5, f32::from_bits(1), 0.5, -0.25];
        let mask = [0, 1, 0, 0, 1];
        for isa in Isa::supported() {
            for rule in RULES {
                let step = Step { lr: 0.1, mu: 0.9, wd: 0.1, l1: false, scale: 1.0, rule };
                let (mut w, mut v) = (w0, [0.0, 1.0, -1.0, f32::INFINITY, 1.0]);
                let g = [1.0, 1.0, 2.0, f32::NAN, 1.0];
                masked_momentum_step(isa, &mut w, &mut v, &g, Some(&mask), step);
                for i in 0..w.len() {
                    assert_eq!(w[i].to_bits() == w0[i].to_bits(), mask[i] == 0, "{rule:?} {isa} {i}");
                }
            }
        }
    }

    #[test]
    fn norm_in_a_fixed_order() {
        let x = values(100_003, 9);
        let want: f64 = x.iter().map(|&v| v as f64 * v as f64).sum();
        for (_, got) in on_all(|isa| {
            let s = sum_of_squares(isa, &x);
            assert!((s - want).abs() < 1e-9 * want);
            vec![s as f32, (s - s as f32 as f64) as f32]
        }) {
            assert_eq!(got[0], want as f32);
        }
    }
}
