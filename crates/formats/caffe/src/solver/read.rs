//! A solver file's text to settings.

use std::path::Path;

use super::settings::{
    LrPolicy, NetFile, Regularization, SnapshotSettings, SolverKind, SolverSettings, TestSettings,
};
use crate::error::CaffeError;
use crate::phase::Phase;
use crate::proto::solver_parameter::{SnapshotFormat, SolverType};
use crate::proto::{NetState, SolverParameter};
use crate::text;

/// Reads a solver file.
///
/// # Errors
/// [`CaffeError::Text`] for what is not in the format; [`CaffeError::Net`] naming the field that is missing,
/// contradicts another or is not supported.
pub fn read_solver(path: &Path) -> Result<SolverSettings, CaffeError> {
    settings(path, text::read(path, "SolverParameter")?)
}

/// Numbers of one solver file, checked; errors name the field.
struct Fields<'a> {
    path: &'a Path,
}

impl Fields<'_> {
    fn bad(&self, field: &str, reason: impl Into<String>) -> CaffeError {
        CaffeError::Net { path: self.path.into(), field: field.into(), reason: reason.into() }
    }

    /// A number that is not negative, if there is one.
    fn count(&self, field: &str, value: Option<i32>) -> Result<Option<usize>, CaffeError> {
        let count = |v| usize::try_from(v).map_err(|_| self.bad(field, format!("{v} is negative")));
        value.map(count).transpose()
    }

    /// A number of at least 1.
    fn positive(&self, field: &str, value: Option<i32>) -> Result<usize, CaffeError> {
        match self.count(field, value)? {
            Some(v) if v > 0 => Ok(v),
            Some(_) => Err(self.bad(field, "must be at least 1")),
            None => Err(self.bad(field, "missing")),
        }
    }

    /// A finite number; without a default it must be given.
    fn finite(&self, field: &str, value: Option<f32>, default: Option<f32>) -> Result<f32, CaffeError> {
        match value.or(default) {
            Some(v) if v.is_finite() => Ok(v),
            Some(v) => Err(self.bad(field, format!("{v} is not finite"))),
            None => Err(self.bad(field, "missing")),
        }
    }

    /// A number in 0..1.
    fn fraction(&self, field: &str, value: Option<f32>, default: f32) -> Result<f32, CaffeError> {
        match self.finite(field, value, Some(default))? {
            v if (0.0..1.0).contains(&v) => Ok(v),
            v => Err(self.bad(field, format!("{v} is not in 0..1"))),
        }
    }
}

fn settings(path: &Path, p: SolverParameter) -> Result<SolverSettings, CaffeError> {
    let fields = Fields { path };
    refuse_unsupported(&fields, &p)?;
    let kind = kind(&p).map_err(|(field, reason)| fields.bad(field, reason))?;
    let momentum = fields.fraction("momentum", p.momentum, 0.0)?;
    if momentum != 0.0 && matches!(kind, SolverKind::RmsProp { .. } | SolverKind::AdaGrad { .. }) {
        return Err(fields.bad("momentum", "this solver type has none"));
    }
    let base_lr = fields.finite("base_lr", p.base_lr, None)?;
    let weight_decay = fields.finite("weight_decay", p.weight_decay, Some(0.0))?;
    if base_lr < 0.0 || weight_decay < 0.0 {
        return Err(fields.bad("base_lr", "rates are not negative"));
    }
    let interval = fields.count("test_interval", p.test_interval)?.filter(|&i| i > 0);
    let (train_net, nets) = nets(path, &p)?;
    if nets.is_empty() != interval.is_none() && !p.test_iter.is_empty() {
        return Err(fields.bad("test_interval", "tests need both test_iter and test_interval"));
    }
    let clip_gradients = fields.finite("clip_gradients", p.clip_gradients, Some(-1.0))?;
    Ok(SolverSettings {
        train_net,
        tests: TestSettings { nets, interval, initialization: p.test_initialization() },
        base_lr,
        lr_policy: lr_policy(&fields, &p)?,
        max_iter: fields.positive("max_iter", p.max_iter)?,
        iter_size: fields.positive("iter_size", Some(p.iter_size()))?,
        momentum,
        weight_decay,
        regularization: match p.regularization_type() {
            "L1" => Regularization::L1,
            "L2" => Regularization::L2,
            other => return Err(fields.bad("regularization_type", format!("`{other}` is neither L1 nor L2"))),
        },
        clip_gradients: Some(clip_gradients).filter(|&c| c >= 0.0),
        snapshots: SnapshotSettings {
            interval: fields.count("snapshot", p.snapshot)?.filter(|&s| s > 0),
            prefix: p.snapshot_prefix().into(),
            after_train: p.snapshot_after_train(),
        },
        seed: u64::try_from(p.random_seed()).ok(),
        kind,
        weights: p.weights.iter().flat_map(|w| w.split(',')).map(|w| w.trim().into()).collect(),
    })
}

/// Refuses settings that change what is trained or written and that are not supported.
fn refuse_unsupported(fields: &Fields, p: &SolverParameter) -> Result<(), CaffeError> {
    let inline = [
        ("net_param", p.net_param.is_some()),
        ("train_net_param", p.train_net_param.is_some()),
        ("test_net_param", !p.test_net_param.is_empty()),
    ];
    if let Some((field, _)) = inline.iter().find(|(_, set)| *set) {
        let reason = "a net inside the solver file is not supported; put it in its own file";
        return Err(fields.bad(field, reason));
    }
    let unsupported = [
        ("snapshot_diff", p.snapshot_diff()),
        ("test_compute_loss", p.test_compute_loss()),
        ("snapshot_format", p.snapshot_format() == SnapshotFormat::Hdf5),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(fields.bad(field, "this setting is not supported")),
        None => Ok(()),
    }
}

fn lr_policy(fields: &Fields, p: &SolverParameter) -> Result<LrPolicy, CaffeError> {
    let gamma = || fields.finite("gamma", p.gamma, None);
    let power = || fields.finite("power", p.power, None);
    Ok(match p.lr_policy.as_deref() {
        None => return Err(fields.bad("lr_policy", "missing")),
        Some("fixed") => LrPolicy::Fixed,
        Some("step") => {
            LrPolicy::Step { gamma: gamma()?, stepsize: fields.positive("stepsize", p.stepsize)? }
        }
        Some("exp") => LrPolicy::Exp { gamma: gamma()? },
        Some("inv") => LrPolicy::Inv { gamma: gamma()?, power: power()? },
        Some("multistep") => {
            let steps: Option<Vec<usize>> = p.stepvalue.iter().map(|&s| usize::try_from(s).ok()).collect();
            let steps = steps.filter(|s| s.is_sorted()).ok_or_else(|| {
                fields.bad("stepvalue", format!("{:?} does not ascend from 0", p.stepvalue))
            })?;
            LrPolicy::MultiStep { gamma: gamma()?, steps }
        }
        Some("poly") => LrPolicy::Poly { power: power()? },
        Some("sigmoid") => {
            let stepsize = fields.count("stepsize", p.stepsize)?;
            let stepsize = stepsize.ok_or_else(|| fields.bad("stepsize", "missing"))?;
            LrPolicy::Sigmoid { gamma: gamma()?, stepsize }
        }
        Some(other) => return Err(fields.bad("lr_policy", format!("`{other}` is not known"))),
    })
}

fn kind(p: &SolverParameter) -> Result<SolverKind, (&'static str, String)> {
    let name = match (&p.r#type, p.solver_type) {
        (Some(_), Some(_)) => return Err(("solver_type", "excludes type".into())),
        (None, Some(_)) => match p.solver_type() {
            SolverType::Sgd => "SGD",
            SolverType::Nesterov => "Nesterov",
            SolverType::Adagrad => "AdaGrad",
            SolverType::Rmsprop => "RMSProp",
            SolverType::Adadelta => "AdaDelta",
            SolverType::Adam => "Adam",
        },
        _ => p.r#type(),
    };
    let delta = p.delta();
    if !(delta >= 0.0 && delta.is_finite()) {
        return Err(("delta", format!("{delta} is not a small positive number")));
    }
    for (field, value) in [("momentum2", p.momentum2()), ("rms_decay", p.rms_decay())] {
        if !(0.0..1.0).contains(&value) {
            return Err((field, format!("{value} is not in 0..1")));
        }
    }
    Ok(match name {
        "SGD" => SolverKind::Sgd,
        "Nesterov" => SolverKind::Nesterov,
        "Adam" => SolverKind::Adam { momentum2: p.momentum2(), delta },
        "RMSProp" => SolverKind::RmsProp { rms_decay: p.rms_decay(), delta },
        "AdaGrad" => SolverKind::AdaGrad { delta },
        "AdaDelta" => SolverKind::AdaDelta { delta },
        other => return Err(("type", format!("solver type `{other}` is not known"))),
    })
}

/// The net to train, and the nets to test: those of `test_net`, then `net` again for what `test_iter` is left.
fn nets(path: &Path, p: &SolverParameter) -> Result<(NetFile, Vec<NetFile>), CaffeError> {
    let bad =
        |field: &str, reason: String| CaffeError::Net { path: path.into(), field: field.into(), reason };
    let file = |name: &str, phase: Phase, state: Option<&NetState>| NetFile {
        path: name.into(),
        phase,
        level: state.map_or(0, |s| s.level()),
        stages: state.map(|s| s.stage.clone()).unwrap_or_default(),
        test_iter: 0,
    };
    let train = match (&p.net, &p.train_net) {
        (Some(_), Some(_)) => return Err(bad("train_net", "excludes net".into())),
        (Some(net), None) | (None, Some(net)) => file(net, Phase::Train, p.train_state.as_ref()),
        (None, None) => return Err(bad("net", "missing".into())),
    };
    let mut names: Vec<&str> = p.test_net.iter().map(String::as_str).collect();
    if let Some(net) = &p.net
        && p.test_iter.len() > names.len()
    {
        names.resize(p.test_iter.len(), net);
    }
    if names.len() != p.test_iter.len() {
        let reason = format!("{} values for {} test nets", p.test_iter.len(), names.len());
        return Err(bad("test_iter", reason));
    }
    if !p.test_state.is_empty() && p.test_state.len() != names.len() {
        let reason = format!("{} states for {} test nets", p.test_state.len(), names.len());
        return Err(bad("test_state", reason));
    }
    let mut tests = Vec::new();
    for (i, (name, &iter)) in names.iter().zip(&p.test_iter).enumerate() {
        let test_iter = usize::try_from(iter).ok().filter(|&n| n > 0);
        let test_iter =
            test_iter.ok_or_else(|| bad("test_iter", format!("{iter} is not a number of batches")))?;
        tests.push(NetFile { test_iter, ..file(name, Phase::Test, p.test_state.get(i)) });
    }
    Ok((train, tests))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENET: &str = r#"
        net: "lenet_train_test.prototxt"
        test_iter: 100 test_interval: 500
        base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005
        lr_policy: "inv" gamma: 0.0001 power: 0.75
        display: 100 max_iter: 10000 snapshot: 5000 snapshot_prefix: "lenet" solver_mode: CPU
    "#;

    fn solver(text: &str) -> Result<SolverSettings, CaffeError> {
        let path = Path::new("solver.prototxt");
        settings(path, text::parse(path, text, "SolverParameter")?)
    }

    #[test]
    fn caffes_lenet_solver() {
        let s = solver(LENET).unwrap();
        assert_eq!(s.train_net.path, s.tests.nets[0].path);
        assert_eq!((s.train_net.phase, s.tests.nets[0].phase), (Phase::Train, Phase::Test));
        assert_eq!((s.tests.nets[0].test_iter, s.tests.interval), (100, Some(500)));
        assert_eq!((s.max_iter, s.iter_size, s.snapshots.interval, s.seed), (10_000, 1, Some(5000), None));
        assert_eq!((s.kind, s.regularization), (SolverKind::Sgd, Regularization::L2));
        assert_eq!(s.clip_gradients, None);
        assert_eq!(s.rate(0), 0.01);
        // 0.01 (1 + 0.0001 * 10000)^-0.75 = 0.01 / 2^0.75.
        assert!((s.rate(10_000) - 0.005_946_036).abs() < 1e-8);
    }

    #[test]
    fn each_policy_follows_its_formula() {
        let rate = |text: &str, iter| {
            let text = format!("net: 'n' base_lr: 2 max_iter: 100 {text}");
            solver(&text).unwrap().rate(iter)
        };
        let table = [
            ("lr_policy: 'fixed'", 99, 2.0),
            ("lr_policy: 'step' gamma: 0.5 stepsize: 10", 9, 2.0),
            ("lr_policy: 'step' gamma: 0.5 stepsize: 10", 20, 0.5),
            ("lr_policy: 'exp' gamma: 0.5", 3, 0.25),
            ("lr_policy: 'inv' gamma: 1 power: 2", 1, 0.5),
            ("lr_policy: 'multistep' gamma: 0.1 stepvalue: 5 stepvalue: 7", 4, 2.0),
            ("lr_policy: 'multistep' gamma: 0.1 stepvalue: 5 stepvalue: 7", 5, 0.2),
            ("lr_policy: 'multistep' gamma: 0.1 stepvalue: 5 stepvalue: 7", 70, 0.02),
            ("lr_policy: 'poly' power: 2", 50, 0.5),
            ("lr_policy: 'poly' power: 1", 100, 0.0),
            ("lr_policy: 'sigmoid' gamma: -1 stepsize: 10", 10, 1.0),
        ];
        for (text, iter, expected) in table {
            let got = rate(text, iter);
            assert!((got - expected).abs() < 1e-6, "{text} at {iter}: {got}");
        }
    }

    #[test]
    fn each_type_brings_its_settings() {
        let kind = |text: &str| {
            solver(&format!("net: 'n' base_lr: 1 max_iter: 1 lr_policy: 'fixed' {text}")).unwrap().kind
        };
        assert_eq!(kind("type: 'Nesterov' momentum: 0.9"), SolverKind::Nesterov);
        assert_eq!(kind("solver_type: ADAGRAD"), SolverKind::AdaGrad { delta: 1e-8 });
        assert_eq!(
            kind("type: 'Adam' momentum: 0.9 momentum2: 0.99 delta: 0.001"),
            SolverKind::Adam { momentum2: 0.99, delta: 0.001 }
        );
        assert_eq!(
            kind("type: 'RMSProp' rms_decay: 0.98"),
            SolverKind::RmsProp { rms_decay: 0.98, delta: 1e-8 }
        );
        assert_eq!(kind("type: 'AdaDelta' momentum: 0.95 delta: 1e-6"), SolverKind::AdaDelta { delta: 1e-6 });
    }

    #[test]
    fn two_test_nets_have_their_own_states() {
        let s = solver(
            "train_net: 'a' test_net: 'b' test_net: 'c' test_iter: 1 test_iter: 2 test_interval: 5 \
             test_state { stage: 'x' } test_state { level: 3 } \
             base_lr: 1 max_iter: 1 lr_policy: 'fixed' random_seed: 7 weights: 'm, n'",
        )
        .unwrap();
        assert_eq!(s.tests.nets[0].stages, ["x"]);
        assert_eq!((s.tests.nets[1].level, s.tests.nets[1].test_iter), (3, 2));
        assert_eq!((s.seed, s.weights.len()), (Some(7), 2));
    }

    #[test]
    fn mistakes_name_their_field() {
        let table = [
            ("base_lr: 0.01", "lr_policy: 'fast'", "lr_policy"),
            ("base_lr: 0.01", "", "base_lr"),
            ("max_iter: 10000", "max_iter: -3", "max_iter"),
            ("max_iter: 10000", "", "max_iter"),
            ("gamma: 0.0001", "", "gamma"),
            ("momentum: 0.9", "momentum: 1.5", "momentum"),
            ("momentum: 0.9", "momentum: 0.9 type: 'AdaGrad'", "momentum"),
            ("display: 100", "type: 'LBFGS'", "type"),
            ("display: 100", "regularization_type: 'L3'", "regularization_type"),
            ("display: 100", "snapshot_diff: true", "snapshot_diff"),
            ("display: 100", "snapshot_format: HDF5", "snapshot_format"),
            ("display: 100", "net_param { }", "net_param"),
            ("display: 100", "train_net: 'x'", "train_net"),
            ("display: 100", "colour: 'red'", "colour"),
            ("test_iter: 100", "test_iter: 0", "test_iter"),
            ("test_iter: 100", "test_iter: 1 test_net: 'a' test_net: 'b'", "test_iter"),
        ];
        for (from, to, field) in table {
            let text = LENET.replace(from, to);
            let text = if to.starts_with("lr_policy") {
                text.replace("lr_policy: \"inv\"", "") + "base_lr: 1"
            } else {
                text
            };
            let error = solver(&text).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains("solver.prototxt"), "{to}: {error}");
        }
    }

    proptest! {
        #[test]
        fn garbled_solvers_never_panic(at in 0usize..300, with in "[ -~]{0,6}") {
            let mut text = LENET.to_owned();
            let at = at.min(text.len() - 1);
            text.replace_range(at..at + 1, &with);
            if let Ok(s) = solver(&text) {
                let _ = s.rate(usize::MAX);
            }
        }
    }
}
