//! A check of a written model by a second way: the file is read again, run with scalar kernels on a few inputs, and compared
//! with the network that was to be written.

use std::path::{Path, PathBuf};

use slq_engine::Isa;
use slq_graph::{DType, Dim, Graph, Tensor};

use crate::Error;
use crate::infer::run_model;
use crate::model::{Model, ModelName};
use crate::save::Saved;

/// Files up to this size are checked unless the caller says otherwise.
pub const VERIFIED_BYTES: u64 = 1 << 30;
/// Largest difference of an output that passes, as a share of the largest output of the network. Kernels of different
/// instruction sets add in different orders, which moves outputs by about a hundredth of it.
pub const TOLERANCE: f64 = 1e-3;
/// Inputs that are compared.
const INPUTS: usize = 2;

/// The result of a check.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Verified {
    /// The outputs agree within [`TOLERANCE`]; their largest difference as a share of the largest output.
    Agrees(f64),
    /// The network cannot be run here; the reason.
    NotRun(String),
}

/// Reads the file that `saved` names again and compares its outputs with those of `model`, computed on `isa`.
///
/// # Errors
/// [`Error::Verify`] where they differ, and the errors of reading the file.
pub fn verify(model: &Model, saved: &Saved, isa: Isa) -> Result<Verified, Error> {
    if let Some(reason) = not_readable(&saved.path) {
        return Ok(Verified::NotRun(reason.into()));
    }
    let expected = model.clone().for_use();
    let inputs = match inputs(&expected) {
        Ok(inputs) => inputs,
        Err(reason) => return Ok(Verified::NotRun(reason)),
    };
    let expected_outputs = match run_model(&expected, &inputs, isa) {
        Ok(outputs) => outputs,
        Err(error) => return Ok(Verified::NotRun(error.to_string())),
    };
    let written = read_again(&expected, saved)?;
    // Formats may name inputs and outputs in their own way; their order stays.
    let names: Vec<String> = written.free_inputs().map(|i| i.name.clone()).collect();
    let inputs: Vec<(String, Tensor)> = names.into_iter().zip(inputs).map(|(n, (_, t))| (n, t)).collect();
    let outputs = run_model(&written, &inputs, Isa::Scalar)?;
    compare(&saved.path, &expected_outputs, &outputs)
}

/// Why a file of this ending cannot be read again; its writer has compared it with the network, bit by bit.
pub fn not_readable(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "tflite" => Some("slq writes .tflite files and does not run them"),
        "mlpackage" => Some("slq writes Core ML packages and does not run them"),
        _ => None,
    }
}

/// Numbers from -1 to 1 for every input of the network, the same every time.
fn inputs(graph: &Graph) -> Result<Vec<(String, Tensor)>, String> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let mut found = Vec::new();
    for input in graph.free_inputs() {
        let name = &input.name;
        if input.dtype != DType::F32 {
            return Err(format!("input '{name}' does not hold floats"));
        }
        let dims = input.shape.as_ref().ok_or_else(|| format!("input '{name}' has no shape"))?;
        let extent = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Known(n) => Ok(*n),
            _ if axis == 0 => Ok(INPUTS),
            _ => Err(format!("input '{name}' leaves an extent open")),
        };
        let shape = dims.iter().enumerate().map(extent).collect::<Result<Vec<usize>, _>>()?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= 1 << 26);
        let count = count.ok_or_else(|| format!("input '{name}' is too large to try"))?;
        let tensor = Tensor::f32(shape, (0..count).map(|_| random()).collect()).map_err(|e| e.to_string())?;
        found.push((name.clone(), tensor));
    }
    if graph.nodes.is_empty() || found.is_empty() {
        return Err("it is no network with an input".into());
    }
    Ok(found)
}

/// The network in the file, read as a user would read it.
fn read_again(expected: &Graph, saved: &Saved) -> Result<Graph, Error> {
    let ending = saved.path.extension().and_then(|e| e.to_str());
    if ending == Some("safetensors") {
        let mut graph = expected.clone();
        slq_safetensors::read_into(&mut graph, &saved.path)?;
        return Ok(graph);
    }
    let name = match (&saved.prototxt, ending) {
        (Some(prototxt), Some("caffemodel")) => ModelName {
            name: text(prototxt)?,
            weights: Some(saved.path.clone()),
            input_shape: image_shape(expected),
            ..ModelName::default()
        },
        _ => ModelName { name: text(&saved.path)?, ..ModelName::default() },
    };
    Ok(Model::open(name)?.for_use())
}

/// Channels, height and width of the first input.
fn image_shape(graph: &Graph) -> Option<[usize; 3]> {
    let dims = graph.free_inputs().next()?.shape.as_ref()?;
    let known: Option<Vec<usize>> =
        dims.iter().skip(1).map(|d| if let Dim::Known(n) = d { Some(*n) } else { None }).collect();
    known?.try_into().ok()
}

fn text(path: &Path) -> Result<String, Error> {
    let fail = || Error::File { path: path.into(), reason: "its name is not UTF-8".into() };
    path.to_str().map(str::to_owned).ok_or_else(fail)
}

fn compare(
    path: &Path,
    expected: &[(String, Tensor)],
    found: &[(String, Tensor)],
) -> Result<Verified, Error> {
    let differs = |what: String| Error::Verify { path: PathBuf::from(path), what };
    if expected.len() != found.len() {
        return Err(differs(format!("{} outputs instead of {}", found.len(), expected.len())));
    }
    let (mut worst, mut overflows) = (0.0f64, None);
    for ((name, a), (_, b)) in expected.iter().zip(found) {
        let (Some(left), Some(right)) = (a.as_f32(), b.as_f32()) else { continue };
        if left.len() != right.len() {
            return Err(differs(format!(
                "output '{name}' has {} values instead of {}",
                right.len(),
                left.len()
            )));
        }
        let largest = left.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs()))).max(f64::MIN_POSITIVE);
        for (position, (l, r)) in left.iter().zip(right).enumerate() {
            let difference = match l.to_bits() == r.to_bits() || (l.is_nan() && r.is_nan()) {
                true => 0.0,
                false => f64::from((l - r).abs()) / largest,
            };
            if difference.is_nan() && !l.is_finite() && !r.is_finite() {
                // Sums in another order overflow in another way; the other values are still compared.
                overflows = Some(name);
                continue;
            }
            if !difference.is_finite() || difference > TOLERANCE {
                let text = format!("output '{name}' at position {position} is {r} instead of {l}");
                return Err(differs(text));
            }
            worst = worst.max(difference);
        }
    }
    Ok(match overflows {
        None => Verified::Agrees(worst),
        Some(name) => Verified::NotRun(format!(
            "output '{name}' of the network itself is NaN or infinite, on numbers from -1 to 1: check its weights"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_verified_and_another_network_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::open(ModelName { seed: 3, ..ModelName::from("zoo:lenet") }).unwrap();
        let other = Model::open(ModelName { seed: 4, ..ModelName::from("zoo:lenet") }).unwrap();
        for file in ["a.onnx", "a.caffemodel", "a.safetensors", "a.slq"] {
            let saved = model.save(dir.path().join(file)).unwrap();
            let verified = verify(&model, &saved, Isa::detect()).unwrap();
            assert!(matches!(verified, Verified::Agrees(d) if d < TOLERANCE / 10.0), "{file}: {verified:?}");
            let error = verify(&other, &saved, Isa::detect()).unwrap_err();
            assert!(matches!(error, Error::Verify { .. }), "{file}: {error}");
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn one_wrong_weight_of_many_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let model = Model::open("zoo:resnet20").unwrap();
        let mut wrong = model.clone();
        let first = wrong.graph.quantizable()[0].weight.clone();
        wrong.graph.weights[&first].tensor.as_f32_mut().unwrap()[0] += 1.0;
        let saved = wrong.save(dir.path().join("a.onnx")).unwrap();
        assert!(matches!(verify(&model, &saved, Isa::detect()), Err(Error::Verify { .. })));
    }

    #[test]
    fn numbers_that_are_none_are_no_agreement() {
        let output = |v: f32| vec![("y".to_owned(), Tensor::f32(vec![1, 2], vec![1.0, v]).unwrap())];
        let path = Path::new("x");
        assert!(compare(path, &output(0.5), &output(f32::NAN)).is_err());
        assert!(compare(path, &output(f32::NAN), &output(0.5)).is_err());
        assert_eq!(compare(path, &output(f32::NAN), &output(f32::NAN)).unwrap(), Verified::Agrees(0.0));
        assert!(compare(path, &output(0.5), &output(0.502)).is_err());
        // A network that overflows is not the writer's fault.
        let found = compare(path, &output(f32::INFINITY), &output(f32::NAN)).unwrap();
        assert!(matches!(found, Verified::NotRun(reason) if reason.contains("'y' of the network itself")));
        // What differs behind such a value is found all the same.
        let two = |a, b| vec![("y".to_owned(), Tensor::f32(vec![1, 2], vec![a, b]).unwrap())];
        assert!(compare(path, &two(f32::INFINITY, 0.5), &two(f32::NAN, f32::NAN)).is_err());
        assert!(compare(path, &output(0.5), &output(0.5005)).is_ok());
    }
}
