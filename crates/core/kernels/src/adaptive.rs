//! Masked optimiser steps with adaptive rates (Adam, RMSProp, AdaGrad, AdaDelta), in Caffe's arithmetic.

use crate::parallel::{chunks, chunks_mut, parts};

use crate::Isa;
use crate::isa::{madd, multiversion};
use crate::par;

/// The update rule; g is the gradient with weight decay, all operations are element by element.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Adaptive {
    /// `m = mu m + (1 - mu) g`, `v = beta v + (1 - beta) g^2`,
    /// `w -= lr sqrt(1 - beta^t) / (1 - mu^t) m / (sqrt(v) + delta)`, t counting steps from 1
    /// (Kingma, Ba, "Adam", ICLR 2015, in the order of the end of its section 2).
    Adam {
        /// beta, the decay of v.
        beta: f32,
        /// Added to the root.
        delta: f32,
    },
    /// `v = decay v + (1 - decay) g^2`, `w -= lr g / (sqrt(v) + delta)`.
    RmsProp {
        /// Decay of v.
        decay: f32,
        /// Added to the root.
        delta: f32,
    },
    /// `v = v + g^2`, `w -= lr g / (sqrt(v) + delta)` (Duchi, Hazan, Singer, JMLR 2011).
    AdaGrad {
        /// Added to the root.
        delta: f32,
    },
    /// `v = mu v + (1 - mu) g^2`, `d = g sqrt((u + delta) / (v + delta))`, `u = mu u + (1 - mu) d^2`,
    /// `w -= lr d` (Zeiler, arXiv 1212.5701).
    AdaDelta {
        /// Added to both means.
        delta: f32,
    },
}

impl Adaptive {
    /// Values that the history holds for each weight: the second half of a history of two is v in Adam, u in AdaDelta.
    pub fn histories(self) -> usize {
        match self {
            Adaptive::Adam { .. } | Adaptive::AdaDelta { .. } => 2,
            Adaptive::RmsProp { .. } | Adaptive::AdaGrad { .. } => 1,
        }
    }
}

/// Settings of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveStep {
    /// Learning rate.
    pub lr: f32,
    /// Momentum mu (Adam and AdaDelta).
    pub mu: f32,
    /// Weight decay.
    pub wd: f32,
    /// Whether the weight decay is that of the sum of absolute values, and not of half the sum of squares.
    pub l1: bool,
    /// Factor on the gradient before anything else.
    pub scale: f32,
    /// Steps taken before, for Adam's correction.
    pub iteration: u64,
    /// Update rule.
    pub rule: Adaptive,
}

/// A step with its rate.
#[derive(Clone, Copy)]
struct Ready {
    step: AdaptiveStep,
    /// The rate, with Adam's correction in it.
    rate: f32,
}

impl Ready {
    fn new(step: AdaptiveStep) -> Self {
        let rate = match step.rule {
            Adaptive::Adam { beta, .. } => {
                let t = step.iteration as f64 + 1.0;
                let correction = (1.0 - f64::from(beta).powf(t)).sqrt() / (1.0 - f64::from(step.mu).powf(t));
                (f64::from(step.lr) * correction) as f32
            }
            _ => step.lr,
        };
        Self { step, rate }
    }
}

/// -1, 0 or 1.
#[inline(always)]
fn sign(w: f32) -> f32 {
    f32::from(u8::from(w > 0.0)) - f32::from(u8::from(w < 0.0))
}

#[inline(always)]
fn decayed<const FMA: bool>(s: &AdaptiveStep, w: f32, g: f32) -> f32 {
    madd::<FMA>(s.wd, if s.l1 { sign(w) } else { w }, s.scale * g)
}

/// `top / bottom`, and 0 for 0 / 0: a weight whose gradients were all zero does not change.
#[inline(always)]
fn quotient(top: f32, bottom: f32) -> f32 {
    if top == 0.0 { 0.0 } else { top / bottom }
}

/// Subtracts `f(w, history, g)` from each weight; a weight whose mask is 0 keeps its bits.
#[inline(always)]
fn one_history(
    w: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
    f: impl Fn(f32, &mut f32, f32) -> f32,
) {
    match mask {
        None => w.iter_mut().zip(v).zip(g).for_each(|((w, v), &g)| *w -= f(*w, v, g)),
        Some(mask) => w.iter_mut().zip(v).zip(g).zip(mask).for_each(|(((w, v), &g), &free)| {
            let down = f(*w, v, g);
            *w = if free != 0 { *w - down } else { *w };
        }),
    }
}

#[inline(always)]
fn single_body<const FMA: bool>(r: Ready, w: &mut [f32], v: &mut [f32], g: &[f32], mask: Option<&[u8]>) {
    let s = r.step;
    match s.rule {
        Adaptive::RmsProp { decay, delta } => one_history(w, v, g, mask, |w, v, g| {
            let d = decayed::<FMA>(&s, w, g);
            *v = madd::<FMA>(decay, *v, (1.0 - decay) * (d * d));
            r.rate * quotient(d, v.sqrt() + delta)
        }),
        Adaptive::AdaGrad { delta } => one_history(w, v, g, mask, |w, v, g| {
            let d = decayed::<FMA>(&s, w, g);
            *v = madd::<FMA>(d, d, *v);
            r.rate * quotient(d, v.sqrt() + delta)
        }),
        Adaptive::Adam { .. } | Adaptive::AdaDelta { .. } => {}
    }
}

#[inline(always)]
fn double_body<const FMA: bool>(
    r: Ready,
    w: &mut [f32],
    a: &mut [f32],
    b: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
) {
    let s = r.step;
    let moves = a.iter_mut().zip(b).zip(g);
    let step = |w: f32, a: &mut f32, b: &mut f32, g: f32| {
        let d = decayed::<FMA>(&s, w, g);
        match s.rule {
            Adaptive::Adam { beta, delta } => {
                *a = madd::<FMA>(s.mu, *a, (1.0 - s.mu) * d);
                *b = madd::<FMA>(beta, *b, (1.0 - beta) * (d * d));
                r.rate * quotient(*a, b.sqrt() + delta)
            }
            Adaptive::AdaDelta { delta } => {
                *a = madd::<FMA>(s.mu, *a, (1.0 - s.mu) * (d * d));
                let down = d * quotient(*b + delta, *a + delta).sqrt();
                *b = madd::<FMA>(s.mu, *b, (1.0 - s.mu) * (down * down));
                r.rate * down
            }
            Adaptive::RmsProp { .. } | Adaptive::AdaGrad { .. } => 0.0,
        }
    };
    match mask {
        None => w.iter_mut().zip(moves).for_each(|(w, ((a, b), &g))| *w -= step(*w, a, b, g)),
        Some(mask) => w.iter_mut().zip(moves).zip(mask).for_each(|((w, ((a, b), &g)), &free)| {
            let down = step(*w, a, b, g);
            *w = if free != 0 { *w - down } else { *w };
        }),
    }
}

multiversion! {
    fn single_run(r: Ready, w: &mut [f32], v: &mut [f32], g: &[f32], mask: Option<&[u8]>) = single_body;
    fn double_run(
        r: Ready,
        w: &mut [f32],
        a: &mut [f32],
        b: &mut [f32],
        g: &[f32],
        mask: Option<&[u8]>,
    ) = double_body;
}

/// One step on weights `w` with gradient `g`. `history` holds [`Adaptive::histories`] values for each weight, all
/// first ones before all second ones. `mask` holds 1 for a free weight and 0 for a fixed one, which keeps its exact
/// bits while its history is updated; without it all are free.
///
/// # Panics
/// If the lengths do not agree.
pub fn masked_adaptive_step(
    isa: Isa,
    w: &mut [f32],
    history: &mut [f32],
    g: &[f32],
    mask: Option<&[u8]>,
    step: AdaptiveStep,
) {
    let len = w.len();
    assert!(g.len() == len && mask.is_none_or(|m| m.len() == len));
    assert_eq!(history.len(), len * step.rule.histories());
    let ready = Ready::new(step);
    let part = |i: usize| mask.map(|m| &m[i * par::CHUNK..((i + 1) * par::CHUNK).min(len)]);
    let (first, second) = history.split_at_mut(len);
    let (w, first, g) = (chunks_mut(w, par::CHUNK), chunks_mut(first, par::CHUNK), chunks(g, par::CHUNK));
    if second.is_empty() {
        parts((w, first, g), 1, |i, (w, v, g)| single_run(isa, ready, w, v, g, part(i)));
    } else {
        let all = (w, first, chunks_mut(second, par::CHUNK), g);
        parts(all, 1, |i, (w, a, b, g)| double_run(isa, ready, w, a, b, g, part(i)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    const RULES: [Adaptive; 4] = [
        Adaptive::Adam { beta: 0.99, delta: 1e-6 },
        Adaptive::RmsProp { decay: 0.9, delta: 1e-6 },
        Adaptive::AdaGrad { delta: 1e-6 },
        Adaptive::AdaDelta { delta: 1e-4 },
    ];

    fn step(rule: Adaptive, iteration: u64) -> AdaptiveStep {
        AdaptiveStep { lr: 0.05, mu: 0.9, wd: 0.01, l1: false, scale: 0.5, iteration, rule }
    }

    /// The published formulas, one element at a time in f64.
    fn reference(s: &AdaptiveStep, w: &mut f64, a: &mut f64, b: &mut f64, g: f64) {
        let (mu, lr) = (f64::from(s.mu), f64::from(s.lr));
        let penalty = if s.l1 && *w != 0.0 {
            w.signum()
        } else if s.l1 {
            0.0
        } else {
            *w
        };
        let d = g * f64::from(s.scale) + f64::from(s.wd) * penalty;
        *w -= match s.rule {
            Adaptive::Adam { beta, delta } => {
                let (beta, t) = (f64::from(beta), s.iteration as i32 + 1);
                *a = mu * *a + (1.0 - mu) * d;
                *b = beta * *b + (1.0 - beta) * d * d;
                lr * (1.0 - beta.powi(t)).sqrt() / (1.0 - mu.powi(t)) * *a / (b.sqrt() + f64::from(delta))
            }
            Adaptive::RmsProp { decay, delta } => {
                *a = f64::from(decay) * *a + (1.0 - f64::from(decay)) * d * d;
                lr * d / (a.sqrt() + f64::from(delta))
            }
            Adaptive::AdaGrad { delta } => {
                *a += d * d;
                lr * d / (a.sqrt() + f64::from(delta))
            }
            Adaptive::AdaDelta { delta } => {
                *a = mu * *a + (1.0 - mu) * d * d;
                let down = d * ((*b + f64::from(delta)) / (*a + f64::from(delta))).sqrt();
                *b = mu * *b + (1.0 - mu) * down * down;
                lr * down
            }
        };
    }

    #[test]
    fn rules_follow_their_formulas_over_steps() {
        let len = 20_011;
        let w0 = values(len, 1);
        for (rule, l1) in RULES.into_iter().flat_map(|r| [(r, false), (r, true)]) {
            let mut w64 = wide(&w0);
            let (mut a, mut b) = (vec![0.0; len], vec![0.0; len]);
            let gradients: Vec<Vec<f32>> = (0..5).map(|t| values(len, 10 + t)).collect();
            for (t, g) in gradients.iter().enumerate() {
                let s = AdaptiveStep { l1, ..step(rule, t as u64) };
                for i in 0..len {
                    reference(&s, &mut w64[i], &mut a[i], &mut b[i], g[i].into());
                }
            }
            for (isa, w) in on_all(|isa| {
                let (mut w, mut history) = (w0.clone(), vec![0.0; len * rule.histories()]);
                for (t, g) in gradients.iter().enumerate() {
                    let s = AdaptiveStep { l1, ..step(rule, t as u64) };
                    masked_adaptive_step(isa, &mut w, &mut history, g, None, s);
                }
                w
            }) {
                // Near-zero gradients make the first quotients steep: rounding grows with the rate.
                assert_close(&w, &w64, 1e-4, &format!("{rule:?} {isa} l1 {l1}"));
            }
        }
    }

    #[test]
    fn a_fixed_weight_keeps_its_bits() {
        let w0 = [-0.0, 0.5, f32::from_bits(1), 0.5, -0.25];
        let mask = [0, 1, 0, 0, 1];
        for isa in Isa::supported() {
            for rule in RULES {
                let (mut w, mut history) = (w0, vec![1.0; 5 * rule.histories()]);
                let g = [1.0, 1.0, 2.0, f32::NAN, 1.0];
                masked_adaptive_step(isa, &mut w, &mut history, &g, Some(&mask), step(rule, 3));
                for i in 0..w.len() {
                    assert_eq!(w[i].to_bits() == w0[i].to_bits(), mask[i] == 0, "{rule:?} {isa} {i}");
                }
            }
        }
    }

    #[test]
    fn a_weight_without_gradients_does_not_change_even_without_delta() {
        for rule in [Adaptive::AdaGrad { delta: 0.0 }, Adaptive::RmsProp { decay: 0.9, delta: 0.0 }] {
            let (mut w, mut history) = ([0.5], [0.0]);
            let still = AdaptiveStep { wd: 0.0, ..step(rule, 0) };
            masked_adaptive_step(Isa::Scalar, &mut w, &mut history, &[0.0], None, still);
            assert_eq!(w, [0.5], "{rule:?}");
        }
    }
}
