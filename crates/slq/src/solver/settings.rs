//! A solver's settings as [`TrainingSettings`].

use slq_caffe::{LrPolicy, Regularization, SolverKind, SolverSettings};
use slq_compress::{Length, TrainingSettings};
use slq_engine::{BatchNormMode, Head, LearningRate, Penalty, UpdateRule};

/// The training that `solver` describes, with batches of `batch` images.
pub(super) fn training(
    solver: &SolverSettings,
    batch: usize,
    heads: Vec<Head>,
    batch_norm: BatchNormMode,
) -> TrainingSettings {
    TrainingSettings {
        length: Length::Iterations(solver.max_iter as u64),
        learning_rate: wide(solver.base_lr),
        lr_policy: policy(solver),
        batch,
        momentum: wide(solver.momentum),
        weight_decay: wide(solver.weight_decay),
        penalty: match solver.regularization {
            Regularization::L1 => Penalty::L1,
            Regularization::L2 => Penalty::L2,
        },
        nesterov: solver.kind == SolverKind::Nesterov,
        rule: rule(solver.kind),
        clip_gradients: solver.clip_gradients,
        iter_size: solver.iter_size,
        heads,
        test_interval: solver.tests.interval.map(|n| n as u64).filter(|_| !solver.tests.nets.is_empty()),
        batch_norm,
        distill: None,
    }
}

/// The number as it was written: 0.01 and not 0.009999999776.
fn wide(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn policy(solver: &SolverSettings) -> LearningRate {
    match &solver.lr_policy {
        LrPolicy::Step { gamma, stepsize } => {
            LearningRate::Step { gamma: wide(*gamma), stepsize: *stepsize as u64 }
        }
        LrPolicy::Exp { gamma } => LearningRate::Exp { gamma: wide(*gamma) },
        LrPolicy::Inv { gamma, power } => LearningRate::Inv { gamma: wide(*gamma), power: wide(*power) },
        LrPolicy::MultiStep { gamma, steps } => {
            LearningRate::MultiStep { gamma: wide(*gamma), steps: steps.iter().map(|&s| s as u64).collect() }
        }
        LrPolicy::Poly { power } => LearningRate::Poly { power: wide(*power), max: solver.max_iter as u64 },
        LrPolicy::Sigmoid { gamma, stepsize } => {
            LearningRate::Sigmoid { gamma: wide(*gamma), stepsize: *stepsize as u64 }
        }
        // `Fixed`; the reader refuses policies that it does not know.
        _ => LearningRate::Fixed,
    }
}

fn rule(kind: SolverKind) -> UpdateRule {
    match kind {
        SolverKind::Adam { momentum2, delta } => UpdateRule::Adam { momentum2, delta },
        SolverKind::RmsProp { rms_decay, delta } => UpdateRule::RmsProp { decay: rms_decay, delta },
        SolverKind::AdaGrad { delta } => UpdateRule::AdaGrad { delta },
        SolverKind::AdaDelta { delta } => UpdateRule::AdaDelta { delta },
        // SGD and Nesterov.
        _ => UpdateRule::Caffe,
    }
}

/// How often the rate has fallen after `iteration` steps, as Caffe counts it in its states.
pub(super) fn current_step(solver: &SolverSettings, iteration: u64) -> usize {
    match &solver.lr_policy {
        LrPolicy::Step { stepsize, .. } => iteration as usize / (*stepsize).max(1),
        LrPolicy::MultiStep { steps, .. } => steps.iter().filter(|&&s| iteration >= s as u64).count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solver(text: &str) -> SolverSettings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("solver.prototxt");
        std::fs::write(&path, format!("net: 'n.prototxt' base_lr: 0.01 max_iter: 1000 {text}")).unwrap();
        slq_caffe::read_solver(&path).unwrap()
    }

    #[test]
    fn every_policy_keeps_its_rates() {
        let policies = [
            "lr_policy: 'fixed'",
            "lr_policy: 'step' gamma: 0.1 stepsize: 200",
            "lr_policy: 'exp' gamma: 0.99",
            "lr_policy: 'inv' gamma: 0.0001 power: 0.75",
            "lr_policy: 'multistep' gamma: 0.5 stepvalue: 100 stepvalue: 900",
            "lr_policy: 'poly' power: 2",
            "lr_policy: 'sigmoid' gamma: -0.01 stepsize: 500",
        ];
        for text in policies {
            let solver = solver(text);
            let ours = training(&solver, 64, Vec::new(), BatchNormMode::Train);
            for iteration in [0, 1, 99, 100, 199, 200, 500, 900, 999] {
                let rate = ours.lr_policy.at(ours.learning_rate, iteration as u64);
                let caffe = f64::from(solver.rate(iteration));
                assert!(
                    (rate - caffe).abs() <= 1e-5 * caffe.max(1e-6),
                    "{text} at {iteration}: {rate} {caffe}"
                );
            }
            assert_eq!(ours.length, Length::Iterations(1000));
        }
    }

    #[test]
    fn every_type_has_its_rule() {
        let table = [
            ("", UpdateRule::Caffe, false),
            ("type: 'Nesterov' momentum: 0.9", UpdateRule::Caffe, true),
            (
                "type: 'Adam' momentum2: 0.99 delta: 1e-4",
                UpdateRule::Adam { momentum2: 0.99, delta: 1e-4 },
                false,
            ),
            (
                "type: 'RMSProp' rms_decay: 0.98 delta: 1e-4",
                UpdateRule::RmsProp { decay: 0.98, delta: 1e-4 },
                false,
            ),
            ("type: 'AdaGrad' delta: 1e-4", UpdateRule::AdaGrad { delta: 1e-4 }, false),
            ("solver_type: ADADELTA momentum: 0.95 delta: 1e-4", UpdateRule::AdaDelta { delta: 1e-4 }, false),
        ];
        for (text, rule, nesterov) in table {
            let ours =
                training(&solver(&format!("lr_policy: 'fixed' {text}")), 1, Vec::new(), BatchNormMode::Train);
            assert_eq!((ours.rule, ours.nesterov), (rule, nesterov), "{text}");
        }
    }

    #[test]
    fn the_rest_is_taken_over_as_written() {
        let solver = solver(
            "lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.0005 regularization_type: 'L1' iter_size: 4
             clip_gradients: 35 test_iter: 10 test_interval: 500",
        );
        let ours = training(&solver, 32, Vec::new(), BatchNormMode::Frozen);
        assert_eq!((ours.learning_rate, ours.momentum, ours.weight_decay), (0.01, 0.9, 0.0005));
        assert_eq!((ours.penalty, ours.iter_size, ours.clip_gradients), (Penalty::L1, 4, Some(35.0)));
        assert_eq!((ours.batch, ours.test_interval), (32, Some(500)));
        assert!(ours.check().is_ok());
    }

    #[test]
    fn steps_are_counted_as_caffe_does() {
        assert_eq!(current_step(&solver("lr_policy: 'step' gamma: 0.1 stepsize: 200"), 450), 2);
        let multistep = solver("lr_policy: 'multistep' gamma: 0.5 stepvalue: 100 stepvalue: 900");
        assert_eq!([99, 100, 950].map(|i| current_step(&multistep, i)), [0, 1, 2]);
    }
}
