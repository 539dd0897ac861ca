//! Progress: the library's events as small objects for a callback, and Ctrl-C.

use pyo3::prelude::*;
use slq::{Event, Observer};

/// What has just happened in a job. `kind` is one of:
///
/// - `baseline`, `final`, `tested`: an accuracy was measured (`top1`, `loss`)
/// - `round`: round `done` of `total` begins (from 0); `shared`: weights took their values (`fraction` is fixed);
///   `round_end`: the round is over
/// - `step`: training step `done` of `total` is done (`loss`, `lr`)
/// - `measuring`: cluster `done` of `total` was measured
/// - `layer`: layer `name`, `done` of `total`, was calibrated
/// - `tried`: a search tried the network `name` (`top1`)
/// - `resumed`: the job goes on behind `done` rounds, layers or steps
/// - `other`: anything else
#[pyclass(frozen, get_all, module = "slq", name = "Event")]
#[derive(Debug, Clone, Default)]
pub(crate) struct PyEvent {
    /// What it is.
    kind: &'static str,
    /// How much is done, in units of the kind.
    done: u64,
    /// How much there is to do; 0 where that is not known.
    total: u64,
    /// A layer or a trial.
    name: Option<String>,
    /// Share of test images classified correctly.
    top1: Option<f64>,
    /// Mean loss.
    loss: Option<f64>,
    /// Learning rate.
    lr: Option<f64>,
    /// Share of the weights that is fixed.
    fraction: Option<f64>,
}

#[pymethods]
impl PyEvent {
    fn __repr__(&self) -> String {
        let mut text = format!("Event(kind='{}', done={}, total={}", self.kind, self.done, self.total);
        if let Some(name) = &self.name {
            text += &format!(", name={name:?}");
        }
        let numbers =
            [("top1", self.top1), ("loss", self.loss), ("lr", self.lr), ("fraction", self.fraction)];
        for (name, value) in numbers {
            text += &value.map(|v| format!(", {name}={v}")).unwrap_or_default();
        }
        text + ")"
    }
}

impl PyEvent {
    fn of(event: &Event<'_>) -> Self {
        let measured = |kind, a: &slq::Accuracy| Self {
            kind,
            top1: Some(a.top1),
            loss: Some(a.loss),
            ..Self::default()
        };
        let counted = |kind, done: usize, total: usize| Self {
            kind,
            done: done as u64,
            total: total as u64,
            ..Self::default()
        };
        match event {
            Event::Baseline(a) => measured("baseline", a),
            Event::Final(a) => measured("final", a),
            Event::Tested { iteration, accuracy } => {
                Self { done: *iteration, ..measured("tested", accuracy) }
            }
            Event::RoundStarted { round, rounds } => counted("round", *round, *rounds),
            Event::Measuring { done, of } => counted("measuring", *done, *of),
            Event::Shared { fixed_fraction, before, .. } => Self {
                kind: "shared",
                fraction: Some(*fixed_fraction),
                top1: before.map(|a| a.top1),
                loss: before.map(|a| a.loss),
                ..Self::default()
            },
            Event::Step { iteration, iterations, loss, learning_rate, .. } => Self {
                kind: "step",
                done: *iteration,
                total: *iterations,
                loss: Some(*loss),
                lr: Some(f64::from(*learning_rate)),
                ..Self::default()
            },
            Event::Tried(trial) => Self {
                kind: "tried",
                name: Some(trial.label.clone()),
                top1: trial.validation.map(|a| a.top1),
                ..Self::default()
            },
            Event::RoundEnded(round) => Self {
                kind: "round_end",
                fraction: Some(round.fixed_fraction),
                top1: round.after.map(|a| a.top1),
                loss: round.after.map(|a| a.loss),
                ..Self::default()
            },
            Event::Resumed(rounds) => counted("resumed", rounds.len(), 0),
            Event::LayersResumed(done) => counted("resumed", *done, 0),
            Event::Continued { iteration, iterations } => {
                Self { kind: "resumed", done: *iteration, total: *iterations, ..Self::default() }
            }
            Event::LayerShared { weight, done, layers, .. } => {
                Self { name: Some((*weight).into()), ..counted("layer", *done, *layers) }
            }
            _ => Self { kind: "other", ..Self::default() },
        }
    }
}

/// Calls Python back, and stops the job where the callback raises or Ctrl-C was pressed.
pub(crate) struct Callback {
    function: Option<Py<PyAny>>,
    /// What was raised.
    pub(crate) raised: Option<PyErr>,
}

impl Callback {
    pub(crate) fn new(function: Option<Py<PyAny>>) -> Self {
        Self { function, raised: None }
    }
}

impl Observer for Callback {
    fn on(&mut self, event: &Event<'_>) {
        if self.raised.is_some() {
            return;
        }
        let called = Python::attach(|py| {
            py.check_signals()?;
            match &self.function {
                Some(function) => function.call1(py, (PyEvent::of(event),)).map(drop),
                None => Ok(()),
            }
        });
        self.raised = called.err();
    }

    fn stop(&mut self) -> bool {
        self.raised.is_some()
    }
}
