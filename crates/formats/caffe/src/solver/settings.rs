//! What a solver file says.

use std::path::PathBuf;

use crate::phase::Phase;

/// How the learning rate changes. `iter` counts the solver's steps from 0.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LrPolicy {
    /// base
    Fixed,
    /// base gamma^floor(iter / stepsize)
    Step {
        /// Factor at each step.
        gamma: f32,
        /// Iterations between steps.
        stepsize: usize,
    },
    /// base gamma^iter
    Exp {
        /// Factor at each iteration.
        gamma: f32,
    },
    /// base (1 + gamma iter)^-power
    Inv {
        /// Rate of the decay.
        gamma: f32,
        /// Its exponent.
        power: f32,
    },
    /// base gamma^(number of `steps` that are at most iter)
    MultiStep {
        /// Factor at each step.
        gamma: f32,
        /// Iterations of the steps, ascending.
        steps: Vec<usize>,
    },
    /// base (1 - iter / max_iter)^power
    Poly {
        /// Exponent.
        power: f32,
    },
    /// base / (1 + exp(-gamma (iter - stepsize)))
    Sigmoid {
        /// Steepness; negative for a falling rate.
        gamma: f32,
        /// Iteration of the half.
        stepsize: usize,
    },
}

/// The rule that turns gradients into updates.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SolverKind {
    /// v = momentum v + rate g; w -= v: the rate is inside the velocity, unlike PyTorch's SGD.
    Sgd,
    /// Nesterov's accelerated gradient: w -= (1 + momentum) v - momentum v_old.
    Nesterov,
    /// Adam; `momentum` is its first decay.
    Adam {
        /// Decay of the second moment.
        momentum2: f32,
        /// Added to the root of the second moment.
        delta: f32,
    },
    /// RMSProp.
    RmsProp {
        /// Decay of the mean square.
        rms_decay: f32,
        /// Added to the root.
        delta: f32,
    },
    /// AdaGrad.
    AdaGrad {
        /// Added to the root.
        delta: f32,
    },
    /// AdaDelta; `momentum` is the decay of both means.
    AdaDelta {
        /// Added to both means.
        delta: f32,
    },
}

/// Penalty that `weight_decay` multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regularization {
    /// Sum of absolute values.
    L1,
    /// Half the sum of squares.
    L2,
}

/// A net that the solver trains or tests, and the state it is built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetFile {
    /// The prototxt, as the solver file writes it: relative to the folder Caffe is started in.
    pub path: PathBuf,
    /// Phase.
    pub phase: Phase,
    /// Level.
    pub level: i32,
    /// Stages.
    pub stages: Vec<String>,
    /// Batches of one test (0 for the net that is trained).
    pub test_iter: usize,
}

/// What is tested, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestSettings {
    /// The nets to test, each with its number of batches.
    pub nets: Vec<NetFile>,
    /// Iterations between tests; `None` for no tests.
    pub interval: Option<usize>,
    /// Whether a test comes before the first iteration.
    pub initialization: bool,
}

/// When snapshots are taken, and their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Iterations between snapshots; `None` for none.
    pub interval: Option<usize>,
    /// Beginning of the names.
    pub prefix: PathBuf,
    /// Whether a snapshot is taken at the end.
    pub after_train: bool,
}

/// What a solver file says. All that changes the numbers is here; what only concerns printing or the choice of
/// a device (`display`, `average_loss`, `debug_info`, `solver_mode`, `device_id`, `layer_wise_reduce`) is read
/// and left out; anything else is an error that names the field.
#[derive(Debug, Clone, PartialEq)]
pub struct SolverSettings {
    /// The net to train.
    pub train_net: NetFile,
    /// What is tested, and when.
    pub tests: TestSettings,
    /// Learning rate that the policy changes.
    pub base_lr: f32,
    /// The policy.
    pub lr_policy: LrPolicy,
    /// Iterations (of one round, for methods that go in rounds).
    pub max_iter: usize,
    /// Batches whose gradients are summed for one iteration.
    pub iter_size: usize,
    /// Momentum.
    pub momentum: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Penalty of the weight decay.
    pub regularization: Regularization,
    /// Bound on the gradient's global norm.
    pub clip_gradients: Option<f32>,
    /// When snapshots are taken, and their names.
    pub snapshots: SnapshotSettings,
    /// Seed of the random numbers; `None` leaves it to the program.
    pub seed: Option<u64>,
    /// The rule.
    pub kind: SolverKind,
    /// Caffemodels to start from.
    pub weights: Vec<PathBuf>,
}

impl SolverSettings {
    /// The learning rate of iteration `iter`, before a parameter's own multiplier.
    pub fn rate(&self, iter: usize) -> f32 {
        let i = iter as f32;
        let factor = match &self.lr_policy {
            LrPolicy::Fixed => 1.0,
            LrPolicy::Step { gamma, stepsize } => gamma.powf((iter / stepsize) as f32),
            LrPolicy::Exp { gamma } => gamma.powf(i),
            LrPolicy::Inv { gamma, power } => (1.0 + gamma * i).powf(-power),
            LrPolicy::MultiStep { gamma, steps } => {
                gamma.powf(steps.iter().filter(|&&s| iter >= s).count() as f32)
            }
            LrPolicy::Poly { power } => (1.0 - i / self.max_iter as f32).max(0.0).powf(*power),
            LrPolicy::Sigmoid { gamma, stepsize } => 1.0 / (1.0 + (-gamma * (i - *stepsize as f32)).exp()),
        };
        self.base_lr * factor
    }
}
