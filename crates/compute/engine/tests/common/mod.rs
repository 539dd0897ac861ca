//! Shared by the tests of the engine: PyTorch's reference values, and graphs built from their descriptions.
#![allow(dead_code)] // each test program uses a part

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use slq_engine::{CpuExecutor, EngineOptions, Isa};
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};

/// Files made by `make_fixtures.py`.
pub struct Fixtures {
    bytes: Vec<u8>,
    folder: std::path::PathBuf,
}

impl Fixtures {
    pub fn open() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let bytes = std::fs::read(folder.join("reference.safetensors")).unwrap();
        Self { bytes, folder }
    }

    pub fn json(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// All tensors of one case, by the rest of their name.
    pub fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }
}

pub fn floats(all: &SafeTensors<'_>, key: &str) -> (Vec<usize>, Vec<f32>) {
    let view = all.tensor(key).unwrap_or_else(|e| panic!("{key}: {e}"));
    let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (view.shape().to_vec(), values.collect())
}

pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

/// An input or output of floats: free batch, then known extents.
pub fn value_info(name: &str, image: &[usize]) -> ValueInfo {
    let mut shape = vec![Dim::Symbol("N".into())];
    shape.extend(image.iter().map(|&d| Dim::Known(d)));
    ValueInfo { name: name.into(), dtype: DType::F32, shape: Some(shape) }
}

pub fn output(name: &str) -> ValueInfo {
    ValueInfo { name: name.into(), dtype: DType::F32, shape: None }
}

/// A node from its description: op, inputs (`-` for an omitted one), outputs, attributes.
pub fn node(name: &str, json: &Value) -> Node {
    let inputs = strings(&json["inputs"]);
    let outputs = strings(&json["outputs"]);
    let inputs: Vec<&str> = inputs.iter().map(|i| if i == "-" { "" } else { i }).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut node = Node::new(name, json["op"].as_str().unwrap(), &inputs, &outputs);
    for (key, value) in json["attributes"].as_object().unwrap() {
        let attribute = match value {
            Value::String(s) => Attribute::String(s.clone().into_bytes()),
            Value::Array(a) => Attribute::Ints(a.iter().map(|v| v.as_i64().unwrap()).collect()),
            v if v.is_i64() => Attribute::Int(v.as_i64().unwrap()),
            v => Attribute::Float(v.as_f64().unwrap() as f32),
        };
        node = node.with(key, attribute);
    }
    node
}

pub fn options(isa: Isa) -> EngineOptions {
    EngineOptions { isa, ..EngineOptions::default() }
}

pub fn executor(graph: &Graph, batch: usize, isa: Isa) -> CpuExecutor {
    CpuExecutor::new(graph, batch, &options(isa)).unwrap_or_else(|e| panic!("{e}"))
}

pub fn insert(graph: &mut Graph, name: &str, shape: Vec<usize>, values: Vec<f32>) {
    graph.weights.insert(name.into(), Tensor::f32(shape, values).unwrap().into());
}

/// Largest difference, relative to the largest magnitude of `want` (at least `floor`).
pub fn difference(got: &[f32], want: &[f32], floor: f32) -> f32 {
    assert_eq!(got.len(), want.len());
    let size = want.iter().fold(floor, |m, v| m.max(v.abs()));
    got.iter()
        .zip(want)
        .fold(0.0f32, |m, (g, w)| if g.is_nan() { f32::INFINITY } else { m.max((g - w).abs()) })
        / size
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Runs `f` on a pool of so many threads.
pub fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// Deterministic values between -1 and 1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}
