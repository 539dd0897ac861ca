//! What commands do with a network of a file: find its shapes, try to run and to train it, write it in every format.

use slq::engine::{CpuExecutor, EngineError, EngineOptions, Executor, StepSettings, Target};
use slq::files::{Runtime, verify};
use slq::graph::{Dim, Graph, infer_shapes, stats};
use slq::inference::Capability;
use slq::{Isa, Model, SaveOptions};

use super::files::{file, scratch};

/// Most elements of a value, and most multiplications, of a network that is run: slq runs what it is asked to, however slow.
const MOST: u64 = 1 << 20;

/// Whether the network runs within a moment; one without shapes is refused before it runs.
fn is_small(graph: &Graph) -> bool {
    let extent = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Known(extent) => Some(*extent),
        _ => (axis == 0).then_some(2),
    };
    let mut given = Vec::new();
    for input in &graph.inputs {
        let dims = input.shape.iter().flatten().enumerate().map(extent).collect::<Option<Vec<usize>>>();
        let Some(shape) = dims else { return true };
        given.push((input.name.as_str(), shape));
    }
    let Ok(shapes) = infer_shapes(graph, &given) else { return true };
    let elements = |shape: &[usize]| shape.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64));
    let macs = stats::macs(graph, &shapes).map(|m| m.iter().fold(0u64, |n, m| n.saturating_add(m.macs)));
    shapes.iter().all(|(_, shape)| elements(shape) <= MOST) && macs.is_ok_and(|m| m <= MOST)
}

/// A training step, for as many images as the network wants.
fn train(graph: &Graph) -> Result<(), EngineError> {
    let first = graph.free_inputs().next().and_then(|input| input.shape.as_ref()?.first());
    let batch = if let Some(Dim::Known(extent)) = first { *extent } else { 2 };
    let mut executor = CpuExecutor::new(graph, batch, &EngineOptions::default())?;
    let count = executor.image_shape().iter().product::<usize>() * batch;
    let images: Vec<f32> = (0..count).map(|i| (i * 37 % 17) as f32 / 8.0 - 1.0).collect();
    executor.train_step(&images, Target::Labels(&vec![0; batch]), &StepSettings::default())?;
    Ok(())
}

/// A network from an ONNX file is run, trained and written in one of the formats; what is read again computes the same to the bit.
pub fn network(bytes: &[u8]) {
    let Ok(model) = Model::open(file("network.onnx", bytes).as_path()) else { return };
    let small = is_small(&model.graph);
    if small {
        let _ = Capability::of(&model.graph, Isa::detect());
        let _ = train(&model.graph);
    }
    let plain = SaveOptions { overwrite: true, ..SaveOptions::default() };
    let packed = SaveOptions { runtime: Some(Runtime::Ort), ..plain };
    let outputs = [
        ("network.slq", plain),
        ("again.onnx", plain),
        ("packed.onnx", packed),
        ("network.safetensors", plain),
        ("network.caffemodel", plain),
        ("network.tflite", plain),
        ("network.mlpackage", plain),
    ];
    // One of the formats, by the input: all of them would take most of the time.
    let (name, options) = outputs[bytes.iter().map(|&b| usize::from(b)).sum::<usize>() % outputs.len()];
    let path = scratch().join(name);
    let Ok(saved) = model.save_with(&path, &options) else { return };
    if small && ["network.slq", "again.onnx"].contains(&name) {
        verify(&model, &saved, Isa::Scalar).expect("what is read again computes the same");
    }
}
