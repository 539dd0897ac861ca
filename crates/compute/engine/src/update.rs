//! The optimiser's step on one parameter.

use slq_graph::TrainingRates;
use slq_kernels::adaptive::{Adaptive, AdaptiveStep, masked_adaptive_step};
use slq_kernels::sgd::{Rule, Step, masked_momentum_step, sum_of_squares};
use slq_kernels::{Buffer, Isa};

use crate::error::EngineError;
use crate::options::{Penalty, StepSettings, UpdateRule};

/// Which weights of a parameter are trained.
#[derive(Debug)]
pub(crate) enum Mask {
    /// All.
    Free,
    /// Those marked 1.
    Partly(Vec<u8>),
    /// None.
    Fixed,
}

impl Mask {
    pub fn new(fixed: Option<&[bool]>) -> Self {
        match fixed {
            Some(fixed) if fixed.iter().all(|&f| f) => Mask::Fixed,
            Some(fixed) if fixed.contains(&true) => {
                Mask::Partly(fixed.iter().map(|&f| u8::from(!f)).collect())
            }
            _ => Mask::Free,
        }
    }

    pub fn bytes(&self) -> usize {
        if let Mask::Partly(mask) = self { mask.len() } else { 0 }
    }
}

/// Checks that every setting is finite and in range.
pub(crate) fn check(settings: &StepSettings) -> Result<(), EngineError> {
    let refuse = |setting, value, expected| Err(EngineError::Setting { setting, value, expected });
    let usable = |v: f32| v >= 0.0 && v.is_finite();
    let s = settings;
    if !usable(s.learning_rate) {
        return refuse("learning rate", s.learning_rate, "it must be finite and not negative");
    }
    if !(usable(s.momentum) && s.momentum < 1.0) {
        return refuse("momentum", s.momentum, "it must be at least 0 and below 1");
    }
    if !usable(s.weight_decay) {
        return refuse("weight decay", s.weight_decay, "it must be finite and not negative");
    }
    if s.iter_size == 0 {
        return refuse("iter_size", 0.0, "it must be at least 1");
    }
    let (decay, delta) = match s.rule {
        UpdateRule::Caffe | UpdateRule::PyTorch => (0.0, 0.0),
        UpdateRule::Adam { momentum2, delta } => (momentum2, delta),
        UpdateRule::RmsProp { decay, delta } => (decay, delta),
        UpdateRule::AdaGrad { delta } | UpdateRule::AdaDelta { delta } => (0.0, delta),
    };
    if !(usable(decay) && decay < 1.0) {
        return refuse("decay of the history", decay, "it must be at least 0 and below 1");
    }
    if !usable(delta) {
        return refuse("delta", delta, "it must be finite and not negative");
    }
    match s.clip_gradients {
        Some(limit) if !(limit > 0.0 && limit.is_finite()) => {
            refuse("gradient clip", limit, "it must be finite and positive")
        }
        _ => Ok(()),
    }
}

/// The factor that brings the global norm of the gradients down to the limit; the norm itself where it is not
/// finite.
pub(crate) fn clip(
    gradients: &[Buffer],
    trained: &[bool],
    settings: &StepSettings,
    isa: Isa,
) -> Result<f32, f64> {
    let Some(limit) = settings.clip_gradients else { return Ok(1.0) };
    let squares = gradients.iter().zip(trained).filter(|(_, t)| **t).map(|(g, _)| sum_of_squares(isa, g));
    let norm = squares.sum::<f64>().sqrt();
    match norm {
        n if !n.is_finite() => Err(n),
        n if n > f64::from(limit) => Ok((f64::from(limit) / n) as f32),
        _ => Ok(1.0),
    }
}

/// The adaptive rule of the kernels, if it is one.
fn adaptive(rule: UpdateRule) -> Option<Adaptive> {
    match rule {
        UpdateRule::Caffe | UpdateRule::PyTorch => None,
        UpdateRule::Adam { momentum2, delta } => Some(Adaptive::Adam { beta: momentum2, delta }),
        UpdateRule::RmsProp { decay, delta } => Some(Adaptive::RmsProp { decay, delta }),
        UpdateRule::AdaGrad { delta } => Some(Adaptive::AdaGrad { delta }),
        UpdateRule::AdaDelta { delta } => Some(Adaptive::AdaDelta { delta }),
    }
}

/// Values in the history for each weight.
pub(crate) fn histories(rule: UpdateRule) -> usize {
    adaptive(rule).map_or(1, Adaptive::histories)
}

/// One optimiser step, the same for all parameters.
#[derive(Clone, Copy)]
pub(crate) struct Update<'a> {
    pub settings: &'a StepSettings,
    /// Factor on every gradient: clipping, and one over `iter_size`.
    pub scale: f32,
    pub isa: Isa,
}

impl Update<'_> {
    /// Updates the values of one parameter; `history` holds [`histories`] values for each of them.
    pub fn apply(
        &self,
        values: &mut [f32],
        history: &mut [f32],
        gradient: &[f32],
        mask: &Mask,
        rates: TrainingRates,
    ) {
        let mask = match mask {
            Mask::Free => None,
            Mask::Partly(mask) => Some(mask.as_slice()),
            Mask::Fixed => return,
        };
        let Update { settings, scale, isa } = *self;
        let (lr, mu) = (settings.learning_rate * rates.lr_mult, settings.momentum);
        let wd = settings.weight_decay * rates.decay_mult;
        let l1 = settings.penalty == Penalty::L1;
        let rule = match (settings.rule, settings.nesterov) {
            (UpdateRule::PyTorch, false) => Rule::PyTorch,
            (UpdateRule::PyTorch, true) => Rule::PyTorchNesterov,
            (_, false) => Rule::Caffe,
            (_, true) => Rule::CaffeNesterov,
        };
        match adaptive(settings.rule) {
            Some(rule) => {
                let step = AdaptiveStep { lr, mu, wd, l1, scale, iteration: settings.iteration, rule };
                masked_adaptive_step(isa, values, history, gradient, mask, step);
            }
            None => {
                let step = Step { lr, mu, wd, l1, scale, rule };
                masked_momentum_step(isa, values, history, gradient, mask, step);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_scales_down_to_the_limit_only() {
        let gradients = [3.0, 100.0, 4.0].map(|g| Buffer::from([g].as_slice()));
        let trained = [true, false, true];
        let at = |limit| {
            let settings = StepSettings { clip_gradients: limit, ..StepSettings::default() };
            clip(&gradients, &trained, &settings, Isa::Scalar)
        };
        assert_eq!((at(None), at(Some(10.0)), at(Some(1.0))), (Ok(1.0), Ok(1.0), Ok(0.2)));
        let settings = StepSettings { clip_gradients: Some(1.0), ..StepSettings::default() };
        assert!(clip(&[Buffer::from([f32::NAN].as_slice())], &[true], &settings, Isa::Scalar).is_err());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let good = StepSettings::default();
        assert!(check(&good).is_ok());
        let table = [
            StepSettings { learning_rate: f32::NAN, ..good },
            StepSettings { learning_rate: -0.1, ..good },
            StepSettings { momentum: 1.0, ..good },
            StepSettings { weight_decay: f32::INFINITY, ..good },
            StepSettings { clip_gradients: Some(0.0), ..good },
            StepSettings { iter_size: 0, ..good },
            StepSettings { rule: UpdateRule::Adam { momentum2: 1.0, delta: 1e-8 }, ..good },
            StepSettings { rule: UpdateRule::AdaGrad { delta: -1.0 }, ..good },
        ];
        for settings in table {
            assert!(check(&settings).is_err(), "{settings:?}");
        }
    }

    #[test]
    fn masks_know_the_whole_from_the_part() {
        assert!(matches!(Mask::new(None), Mask::Free));
        assert!(matches!(Mask::new(Some(&[false, false])), Mask::Free));
        assert!(matches!(Mask::new(Some(&[true, true])), Mask::Fixed));
        assert!(matches!(Mask::new(Some(&[true, false])), Mask::Partly(m) if m == [0, 1]));
    }
}
