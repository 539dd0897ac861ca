//! What can be done with a network: k-means is possible for all, calibration needs a network that runs, re-training one whose
//! operators have gradients.

use serde::Serialize;
use slq_compress::Inputs as _;
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa, StepSettings, Target};
use slq_graph::Graph;

use crate::calibration::CalibrationInputs;
use crate::infer::run_model;

/// Whether something can be done, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Possible {
    /// Whether it can.
    pub possible: bool,
    /// Why not, or what could not be tried.
    pub reason: Option<String>,
}

/// What can be done with a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// k-means: weights that may be quantized.
    pub clustered: Possible,
    /// Calibration.
    pub calibrated: Possible,
    /// Re-training.
    pub trained: Possible,
}

impl Possible {
    const YES: Self = Self { possible: true, reason: None };

    fn no(reason: impl Into<String>) -> Self {
        Self { possible: false, reason: Some(reason.into()) }
    }

    fn from<T, E: std::fmt::Display>(tried: Result<T, E>) -> Self {
        tried.map_or_else(|e| Self::no(e.to_string()), |_| Self::YES)
    }
}

impl Capability {
    /// Finds out by trying: one forward pass on random inputs, and one training step of rate 0 on an image of zeros.
    pub fn of(graph: &Graph, isa: Isa) -> Self {
        let clustered = match graph.weights.values().any(|w| w.tensor.shape().len() >= 2) {
            true => Possible::YES,
            false => Possible::no("it has no weights of two and more axes"),
        };
        if graph.nodes.is_empty() {
            let none = Possible::no("the file holds weights without a network (--graph names it)");
            return Self { clustered, calibrated: none.clone(), trained: none };
        }
        Self { clustered, calibrated: calibrated(graph, isa), trained: trained(graph, isa) }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let text = |what: &str, p: &Possible| match (&p.reason, p.possible) {
            (None, _) => what.to_owned(),
            (Some(reason), true) => format!("{what} ({reason})"),
            (Some(reason), false) => format!("not {what}: {reason}"),
        };
        let clustered = text("clustered (kmeans)", &self.clustered);
        if !self.trained.possible && self.trained.reason == self.calibrated.reason {
            return format!("can be {clustered}; {}", text("calibrated and trained", &self.trained));
        }
        let parts = [text("calibrated", &self.calibrated), text("trained", &self.trained)];
        format!("can be {clustered}; {}", parts.join("; "))
    }
}

/// Operators that keep the network from being run.
fn missing(graph: &Graph) -> Option<Possible> {
    match graph.missing_operators() {
        Ok(operators) if operators.is_empty() => None,
        Ok(operators) => {
            let names: Vec<String> = operators.iter().map(ToString::to_string).collect();
            Some(Possible::no(format!("the engine has no {}", names.join(", "))))
        }
        Err(error) => Some(Possible::no(error.to_string())),
    }
}

/// Whether the network runs.
fn calibrated(graph: &Graph, isa: Isa) -> Possible {
    if let Some(no) = missing(graph) {
        return no;
    }
    let inputs = match CalibrationInputs::random(graph, 1, 0) {
        Ok(inputs) => inputs,
        Err(error) => return Possible { possible: true, reason: Some(format!("not tried: {error}")) },
    };
    let tried = inputs.batch(0).map_err(|e| e.to_string());
    Possible::from(tried.and_then(|inputs| run_model(graph, &inputs, isa).map_err(|e| e.to_string())))
}

/// Whether a training step can be done.
fn trained(graph: &Graph, isa: Isa) -> Possible {
    if let Some(no) = missing(graph) {
        return no;
    }
    let step = || {
        let mut executor = CpuExecutor::new(graph, 1, &EngineOptions { isa, ..EngineOptions::default() })?;
        let image = vec![0.0; executor.image_shape().iter().product()];
        let still = StepSettings { learning_rate: 0.0, ..StepSettings::default() };
        executor.train_step(&image, Target::Labels(&[0]), &still).map(drop)
    };
    Possible::from(step())
}

#[cfg(test)]
mod tests {
    use slq_graph::Node;

    use super::*;

    #[test]
    fn a_network_of_known_operators_can_be_trained_and_an_unknown_one_is_named() {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let all = Capability::of(&graph, Isa::detect());
        assert_eq!(all.line(), "can be clustered (kmeans); calibrated; trained");
        let last = graph.nodes.len() - 1;
        let output = graph.nodes[last].outputs[0].clone();
        graph.nodes[last].outputs[0] = "before".into();
        graph.nodes.push(Node::new("odd", "Magic", &["before"], &[&output]));
        let found = Capability::of(&graph, Isa::detect());
        assert!(found.clustered.possible && !found.calibrated.possible && !found.trained.possible);
        assert!(
            found.line().contains("not calibrated and trained: the engine has no Magic"),
            "{}",
            found.line()
        );
    }
}
