//! Fingerprints: whether a checkpoint belongs to a job.
//!
//! A fingerprint is a SHA-256 hash over explicit fields, each written with its length in front. What is hashed belongs
//! to [`VERSION`]: a change of the fields raises it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slq_graph::{Attribute, Graph, Node, Tensor, TensorData};
use slq_reduce::Reducer;

use crate::context::Context;
use crate::error::CompressError;
use crate::inputs::Inputs;
use crate::train::TrainingData;

/// Version of the fields that are hashed, and of the settings that methods have.
const VERSION: u32 = 5;

/// Hashes of a stage's network, data, inputs, teacher and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    version: u32,
    model: String,
    data: Option<String>,
    inputs: Option<String>,
    teacher: Option<String>,
    settings: String,
}

impl Fingerprint {
    /// The fingerprint of a stage on `graph` with `settings`, which are hashed in their serialised form, names included.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] for settings that cannot be serialised.
    pub(crate) fn new(
        graph: &Graph,
        context: &Context<'_>,
        settings: &impl Serialize,
    ) -> Result<Self, CompressError> {
        let text = serde_json::to_vec(settings)
            .map_err(|e| CompressError::RunDir { path: "settings".into(), reason: e.to_string() })?;
        let mut hash = Fields::new();
        hash.bytes(&text);
        hash.number(context.seed);
        Ok(Self {
            version: VERSION,
            model: model(graph),
            data: context.data.map(data),
            inputs: context.inputs.map(inputs).transpose()?,
            teacher: context.teacher.map(model),
            settings: hash.finish(),
        })
    }

    /// Checks that a checkpoint with this fingerprint belongs to the job with the fingerprint `job`.
    ///
    /// # Errors
    /// [`CompressError::Fingerprint`] naming what differs, [`CompressError::RunDir`] for another version.
    pub(crate) fn check(&self, job: &Self, dir: &Path) -> Result<(), CompressError> {
        if self.version != job.version {
            let reason = format!(
                "it was written by another version of this program (format {}, this one reads {})",
                self.version, job.version
            );
            return Err(CompressError::RunDir { path: dir.into(), reason });
        }
        let fields = [
            ("a model", self.model == job.model),
            ("data", self.data == job.data),
            ("calibration inputs", self.inputs == job.inputs),
            ("a teacher", self.teacher == job.teacher),
            ("settings", self.settings == job.settings),
        ];
        match fields.iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(CompressError::Fingerprint { path: dir.into(), what }),
            None => Ok(()),
        }
    }
}

/// Length of a SHA-256 hash in hexadecimal digits.
const DIGITS: usize = 64;

impl Fingerprint {
    /// Checks that every process has this fingerprint.
    ///
    /// # Errors
    /// [`CompressError::Processes`] naming what differs, [`CompressError::Reduce`].
    pub(crate) fn check_processes(&self, reducer: &dyn Reducer) -> Result<(), CompressError> {
        let none = String::new();
        let fields = [
            ("model", &self.model),
            ("data", self.data.as_ref().unwrap_or(&none)),
            ("set of calibration inputs", self.inputs.as_ref().unwrap_or(&none)),
            ("teacher", self.teacher.as_ref().unwrap_or(&none)),
            ("recipe or seed", &self.settings),
        ];
        for (what, hash) in fields {
            // All must give as many bytes.
            if let Some(rank) = reducer.first_that_differs(format!("{hash:DIGITS$}").as_bytes())? {
                return Err(CompressError::Processes { rank, what });
            }
        }
        Ok(())
    }
}

/// Hashes fields, each with its length in front.
struct Fields(Sha256);

impl Fields {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, n: u64) {
        self.0.update(n.to_le_bytes());
    }

    fn texts(&mut self, texts: &[String]) {
        self.number(texts.len() as u64);
        texts.iter().for_each(|t| self.text(t));
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Nodes (names, operators, edges, attributes) and all constants (names, types, shapes, values).
fn model(graph: &Graph) -> String {
    let mut hash = Fields::new();
    hash.number(graph.nodes.len() as u64);
    graph.nodes.iter().for_each(|n| node(&mut hash, n));
    hash.number(graph.weights.len() as u64);
    for (name, weight) in &graph.weights {
        hash.text(name);
        tensor(&mut hash, &weight.tensor);
    }
    hash.finish()
}

fn node(hash: &mut Fields, node: &Node) {
    [&node.name, &node.op, &node.domain].iter().for_each(|t| hash.text(t));
    hash.texts(&node.inputs);
    hash.texts(&node.outputs);
    hash.number(node.attributes.len() as u64);
    for (name, value) in &node.attributes {
        hash.text(name);
        attribute(hash, value);
    }
}

fn attribute(hash: &mut Fields, value: &Attribute) {
    let floats = |hash: &mut Fields, tag: u64, values: &[f32]| {
        hash.number(tag);
        hash.number(values.len() as u64);
        values.iter().for_each(|v| hash.number(u64::from(v.to_bits())));
    };
    let ints = |hash: &mut Fields, tag: u64, values: &[i64]| {
        hash.number(tag);
        hash.number(values.len() as u64);
        values.iter().for_each(|v| hash.number(*v as u64));
    };
    match value {
        Attribute::Int(v) => ints(hash, 1, &[*v]),
        Attribute::Float(v) => floats(hash, 2, &[*v]),
        Attribute::Ints(v) => ints(hash, 3, v),
        Attribute::Floats(v) => floats(hash, 4, v),
        Attribute::String(v) => {
            hash.number(5);
            hash.bytes(v);
        }
        Attribute::Strings(v) => {
            hash.number(6);
            hash.number(v.len() as u64);
            v.iter().for_each(|s| hash.bytes(s));
        }
        Attribute::Tensor(v) => {
            hash.number(7);
            tensor(hash, v);
        }
        Attribute::Opaque(v) => {
            hash.number(8);
            hash.bytes(v);
        }
        // A kind that the graph may gain later; its debug form would not be stable.
        _ => hash.number(9),
    }
}

fn tensor(hash: &mut Fields, tensor: &Tensor) {
    hash.number(tensor.shape().len() as u64);
    tensor.shape().iter().for_each(|&d| hash.number(d as u64));
    let mut fill = |tag: u64, bytes: &mut dyn Iterator<Item = u8>| {
        hash.number(tag);
        let mut block = Vec::with_capacity(1 << 16);
        loop {
            block.clear();
            block.extend(bytes.take(1 << 16));
            if block.is_empty() {
                break;
            }
            hash.0.update(&block);
        }
    };
    match tensor.data() {
        TensorData::F32(v) => fill(1, &mut v.iter().flat_map(|x| x.to_le_bytes())),
        TensorData::I64(v) => fill(2, &mut v.iter().flat_map(|x| x.to_le_bytes())),
        TensorData::I32(v) => fill(3, &mut v.iter().flat_map(|x| x.to_le_bytes())),
        TensorData::U8(v) => fill(4, &mut v.iter().copied()),
        TensorData::Bool(v) => fill(5, &mut v.iter().map(|&b| u8::from(b))),
        other => {
            // A type the engine does not compute with: its bytes are kept as they are.
            let TensorData::Raw(dtype, bytes) = other else { return };
            fill(16 + *dtype as u64, &mut bytes.iter().copied());
        }
    }
}

/// All inputs without labels.
fn inputs(inputs: &dyn Inputs) -> Result<String, CompressError> {
    let mut hash = Fields::new();
    hash.bytes(&inputs.fingerprint()?);
    Ok(hash.finish())
}

/// Both splits and the preprocessing.
fn data(data: &TrainingData) -> String {
    let mut hash = Fields::new();
    hash.bytes(&data.train.fingerprint());
    hash.bytes(&data.test.fingerprint());
    if let Some(validation) = &data.validation {
        hash.bytes(&validation.fingerprint());
    }
    if let Some(following) = &data.following {
        hash.text(&model(&following.network));
        for head in &following.heads {
            hash.text(&serde_json::to_string(head).unwrap_or_default());
        }
    }
    // Serialised by field name; floats are written with all their digits.
    hash.text(&serde_json::to_string(&data.transform).unwrap_or_default());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use slq_data::Split;

    use super::*;
    use crate::quantize::Quantize;

    #[test]
    fn what_differs_is_named() {
        let images = Split::from_bytes(vec![7; 4 * 784], vec![0, 1, 2, 3], [1, 28, 28]).unwrap();
        let all = TrainingData {
            train: images.clone(),
            validation: None,
            test: images,
            transform: Default::default(),
            following: None,
        };
        let fewer = TrainingData { train: all.train.subset(":3").unwrap(), ..all.clone() };
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let context = Context { data: Some(&all), ..Context::bare() };
        let (four, three) = (Quantize::slq(4), Quantize::slq(3));
        let job = Fingerprint::new(&graph, &context, &four).unwrap();
        let other = slq_zoo::build("lenet", 1).unwrap();
        let cases = [
            ("a model", Fingerprint::new(&other, &context, &four)),
            ("settings", Fingerprint::new(&graph, &context, &three)),
            ("settings", Fingerprint::new(&graph, &Context { seed: 1, ..context }, &four)),
            ("data", Fingerprint::new(&graph, &Context { data: Some(&fewer), ..context }, &four)),
            ("data", Fingerprint::new(&graph, &Context { data: None, ..context }, &four)),
            ("a teacher", Fingerprint::new(&graph, &Context { teacher: Some(&graph), ..context }, &four)),
        ];
        for (what, found) in cases {
            let error = found.unwrap().check(&job, Path::new("x")).unwrap_err();
            assert!(matches!(error, CompressError::Fingerprint { what: w, .. } if w == what), "{what}");
        }
        assert!(job.check(&job.clone(), Path::new("x")).is_ok());
    }

    #[test]
    fn one_bit_of_a_weight_is_another_model() {
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let mut other = graph.clone();
        let value = &mut other.weights[0].tensor.as_f32_mut().unwrap()[3];
        *value = f32::from_bits(value.to_bits() ^ 1);
        assert_ne!(model(&graph), model(&other));
    }
}
