//! Outputs of integers: ranges of a network's values on a few inputs, and what rounding them does to its outputs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use slq_compress::{CompressError, Damage, Inputs, SmallBatches, compare_outputs};
use slq_engine::{Isa, Session};
use slq_graph::{DType, Dim, Graph, Node, Tensor, ValueInfo, infer_shapes};
use slq_tflite::Ranges;

use crate::Error;

/// Inputs that ranges are measured on, where there are as many.
const INPUTS: usize = 256;
/// Inputs at once: all values of the network are kept.
const BATCH: usize = 4;

/// Ranges of a network's values, and the inputs that they were measured on.
#[derive(Debug, Clone)]
pub struct Measured {
    pub(crate) ranges: Ranges,
    inputs: Arc<dyn Inputs + Send + Sync>,
    isa: Isa,
}

/// Checks that integers are asked for an output that holds them, and that there are inputs to measure ranges on.
///
/// # Errors
/// [`Error::Argument`] with what is missing.
pub fn check_int8(outputs: &[PathBuf], has_inputs: bool) -> Result<(), Error> {
    let refuse = |text: &str| Err(Error::Argument(format!("--int8 {text}")));
    if !outputs.iter().any(|o| o.extension().is_some_and(|e| e == "tflite")) {
        return refuse("is for TensorFlow Lite files: name an output that ends in .tflite");
    }
    match has_inputs {
        true => Ok(()),
        false => refuse(
            "measures the ranges of the network's values on real inputs: name some with --calibrate or --data",
        ),
    }
}

impl Measured {
    /// The ranges of the values of `graph` on up to 256 of `inputs`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a value that is not finite; those of reading the inputs and running the network.
    pub(crate) fn new(graph: &Graph, inputs: Arc<dyn Inputs + Send + Sync>, isa: Isa) -> Result<Self, Error> {
        Ok(Self { ranges: ranges(graph, &*inputs, isa)?, inputs, isa })
    }
}

/// The first of the inputs, in small batches or in those that the network declares.
fn some<'i>(graph: &Graph, inputs: &'i dyn Inputs) -> Result<SmallBatches<'i>, Error> {
    let first = graph.free_inputs().next().and_then(|i| i.shape.as_ref()?.first());
    let batch = if let Some(Dim::Known(n)) = first { *n } else { BATCH };
    Ok(SmallBatches::new(inputs, batch).map_err(CompressError::from)?.first(INPUTS))
}

/// The ranges of all values of floats.
fn ranges(graph: &Graph, inputs: &dyn Inputs, isa: Isa) -> Result<Ranges, Error> {
    let mut open = graph.clone();
    open.outputs = values(graph)?;
    let mut session = Session::of(&open, isa);
    let batches = some(graph, inputs)?;
    let mut ranges = Ranges::default();
    let mut each = |take: &mut dyn FnMut(&str, &[f32]) -> bool| {
        for index in 0..batches.len() {
            let batch = batches.batch(index).map_err(CompressError::from)?;
            let named: Vec<(&str, &Tensor)> =
                batch.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            let found = session.run(&named)?;
            for (name, tensor) in batch.iter().chain(&found) {
                if tensor.as_f32().is_some_and(|values| !take(name, values)) {
                    let text =
                        format!("--int8: '{name}' is not finite on the inputs that ranges are measured on");
                    return Err(Error::Argument(text));
                }
            }
        }
        Ok(())
    };
    each(&mut |name, values| ranges.widen(name, values))?;
    each(&mut |name, values| {
        ranges.count(name, values);
        true
    })?;
    for index in 0..batches.len() {
        ranges.inputs += batches.samples(index).map_err(CompressError::from)?;
    }
    Ok(ranges)
}

/// All values of floats that nodes compute.
fn values(graph: &Graph) -> Result<Vec<ValueInfo>, Error> {
    let known = |input: &ValueInfo| {
        let dims = input.shape.as_deref().unwrap_or_default();
        dims.iter().map(|d| if let Dim::Known(n) = d { *n } else { 1 }).collect::<Vec<usize>>()
    };
    let given: Vec<(&str, Vec<usize>)> = graph.free_inputs().map(|i| (i.name.as_str(), known(i))).collect();
    let shapes = infer_shapes(graph, &given)?;
    let computed = |(index, _): &(usize, _)| graph.nodes[*index].outputs.iter();
    let floats = |name: &&String| {
        !name.is_empty()
            && !shapes.is_integer(name)
            && shapes.constant(name).is_none()
            && shapes.get(name).is_some()
    };
    let info = |name: &String| ValueInfo { name: name.clone(), dtype: DType::F32, shape: None };
    Ok(shapes.ops().iter().flat_map(computed).filter(floats).map(info).collect())
}

impl Measured {
    /// A sentence on what the outputs of `graph` lose where its values are rounded to integers that cover these ranges.
    ///
    /// # Errors
    /// Those of running the networks.
    pub(crate) fn damage(&self, graph: &Graph, covers: &BTreeMap<String, [f32; 2]>) -> Result<String, Error> {
        let batches = some(graph, &*self.inputs)?;
        let Damage { agreement, snr_db, images, .. } =
            compare_outputs(graph, &rounded(graph, covers), &batches, self.isa)?;
        let noise = snr_db.map_or("no noise".into(), |db| format!("a signal-to-noise ratio of {db:.1} dB"));
        Ok(match agreement {
            Some(share) => format!(
                "with activations rounded so, its weights as they are, the network finds the same class for {:.1} % of {images} \
                 inputs, with {noise}",
                100.0 * share
            ),
            None => format!(
                "with activations rounded so, its weights as they are, the network's outputs on {images} inputs have {noise}"
            ),
        })
    }
}

/// The network with each value rounded to the 256 numbers from the smallest to the largest that `covers` gives.
fn rounded(graph: &Graph, covers: &BTreeMap<String, [f32; 2]>) -> Graph {
    let mut made = graph.clone();
    let mut nodes = Vec::new();
    let round = |made: &mut Graph, nodes: &mut Vec<Node>, name: &str, [low, high]: [f32; 2]| {
        let step = (high - low) / 255.0;
        let part = |what: &str| format!("{name}/int8.{what}");
        for (what, value) in [("low", low), ("high", high), ("step", step)] {
            if let Ok(tensor) = Tensor::f32(Vec::new(), vec![value]) {
                made.weights.insert(part(what), tensor.into());
            }
        }
        let mut node = |op: &str, inputs: &[&str], output: &str| {
            nodes.push(Node::new(output, op, inputs, &[output]));
        };
        let [clipped, steps, whole] = ["clipped", "steps", "whole"].map(&part);
        node("Clip", &[name, &part("low"), &part("high")], &clipped);
        node("Div", &[&clipped, &part("step")], &steps);
        node("Round", &[&steps], &whole);
        node("Mul", &[&whole, &part("step")], &part("value"));
    };
    let renamed = |name: &str| format!("{name}/int8.value");
    let inputs: Vec<String> = graph.free_inputs().map(|i| i.name.clone()).collect();
    for name in &inputs {
        if let Some(&range) = covers.get(name) {
            round(&mut made, &mut nodes, name, range);
        }
    }
    for node in &graph.nodes {
        let mut node = node.clone();
        for input in node.inputs.iter_mut().filter(|i| covers.contains_key(i.as_str())) {
            *input = renamed(input);
        }
        let outputs = node.outputs.clone();
        nodes.push(node);
        for name in outputs.iter().filter(|o| !o.is_empty()) {
            if let Some(&range) = covers.get(name) {
                round(&mut made, &mut nodes, name, range);
            }
        }
    }
    // Outputs keep their names.
    for output in graph.outputs.iter().filter(|o| covers.contains_key(&o.name)) {
        let hidden = format!("{}/int8.float", output.name);
        for node in &mut nodes {
            for name in node.inputs.iter_mut().chain(&mut node.outputs) {
                if *name == output.name {
                    name.clone_from(&hidden);
                } else if *name == renamed(&output.name) {
                    name.clone_from(&output.name);
                }
            }
        }
    }
    made.nodes = nodes;
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = relu(x) + x, with relu(x) an output, too.
    fn network() -> Graph {
        let value = |name: &str, n| ValueInfo {
            name: name.into(),
            dtype: DType::F32,
            shape: Some(vec![Dim::Known(n), Dim::Known(3)]),
        };
        Graph {
            inputs: vec![value("x", 1)],
            outputs: vec![value("r", 1), value("y", 1)],
            nodes: vec![
                Node::new("relu", "Relu", &["x"], &["r"]),
                Node::new("add", "Add", &["r", "x"], &["y"]),
            ],
            ..Graph::default()
        }
    }

    #[test]
    fn values_are_rounded_where_they_are_made_and_outputs_keep_their_names() {
        let covers = [("x", [-2.55f32, 0.0]), ("r", [0.0, 2.55]), ("y", [-1.0, 1.55])];
        let covers = covers.map(|(name, range)| (name.to_owned(), range)).into();
        let rounded = rounded(&network(), &covers);
        let x = Tensor::f32(vec![1, 3], vec![-1.004, 0.3, -2.0]).unwrap();
        let run = |graph: &Graph| slq_engine::run(graph, &[("x", &x)], Isa::Scalar).unwrap();
        let found = run(&rounded);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["r", "y"]);
        // x becomes -1.00, 0 and -2; y is cut off at -1.
        for ((_, tensor), expected) in found.iter().zip([[0.0f32; 3], [-1.0, 0.0, -1.0]]) {
            let values = tensor.as_f32().unwrap();
            assert!(values.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-6), "{found:?}");
        }
        assert_eq!(run(&network())[1].1.as_f32().unwrap(), [-1.004, 0.6, -2.0]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |output: &str, inputs| check_int8(&[output.into()], inputs).map_err(|e| e.to_string());
        assert_eq!(check("a.tflite", true), Ok(()));
        assert!(check("a.tflite", false).unwrap_err().contains("--calibrate"));
        assert!(check("a.onnx", true).unwrap_err().contains(".tflite"));
    }
}
