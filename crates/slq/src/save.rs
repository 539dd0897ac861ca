//! Writing models and datasets.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slq_coreml::Widths;
use slq_onnx::Prepared;

use crate::model::{Model, Source};
use crate::outputs::{Planned, plan_models};
use crate::{Error, preprocessing};

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its path.
    pub path: PathBuf,
    /// Its size; of a folder, that of its files.
    pub file_bytes: u64,
    /// For a caffemodel: its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prototxt: Option<PathBuf>,
    /// For an ONNX file of more than 2 GiB: the file beside it that holds its weights. It counts for the size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// What the format changed or left out, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A runtime that an ONNX file is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Runtime {
    /// onnxruntime: weights of dense layers as blocks of integers, which it keeps packed.
    Ort,
}

/// What becomes of batch-norms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BatchNorms {
    /// They keep their parameters and statistics.
    #[default]
    Keep,
    /// They keep one scale and one shift for each channel, as 16-bit floats.
    Collapse,
}

/// How many bits float parameters keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Floats {
    /// 32.
    #[default]
    Single,
    /// 16, those of a weight with values that a 16-bit float does not hold to a thousandth of its largest aside.
    Half,
}

/// What the activations of a network are, and with them its inputs, outputs, weights and tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activations {
    /// 32-bit floats.
    #[default]
    Float,
    /// Integers of 8 bits, for a [measured](Model::measured) model.
    Int8,
}

impl Activations {
    fn are_floats(&self) -> bool {
        *self == Self::Float
    }
}

/// How a model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct SaveOptions {
    /// Keep weights of ONNX, TensorFlow Lite and Core ML files as float32.
    pub dense: bool,
    /// For a caffemodel: describe the shapes of blobs by four extents, as files before 2015 did.
    pub legacy_blobs: bool,
    /// Replace a caffemodel's prototxt, or a Core ML package, that this library did not write.
    pub overwrite: bool,
    /// For a Core ML package: codes of 5 and 7 bits, which it does not have.
    pub widths: Widths,
    /// For an ONNX file: the runtime that it is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Whether batch-norms are written with all that they have. [`Model::save`] and its like write the model as it is:
    /// [`rounded`](Self::rounded) makes it so before.
    pub batch_norms: BatchNorms,
    /// The same for parameters that have no palette: biases, batch-norms, layers that stay floats.
    pub floats: Floats,
    /// For a TensorFlow Lite file: what its activations are.
    #[serde(skip_serializing_if = "Activations::are_floats")]
    pub activations: Activations,
}

impl SaveOptions {
    /// `model` with [`batch_norms`](Self::batch_norms) and [`floats`](Self::floats) as they are to be written, and sentences on
    /// what was changed.
    pub fn rounded<'m>(&self, model: &'m Model) -> (Cow<'m, Model>, Vec<String>) {
        let mut notes = Vec::new();
        if self.batch_norms == BatchNorms::Keep && self.floats == Floats::Single {
            return (Cow::Borrowed(model), notes);
        }
        let mut graph = model.graph.clone();
        if self.batch_norms == BatchNorms::Collapse {
            let norms = graph.nodes.iter().filter(|n| n.op == "BatchNormalization").count();
            let done = slq_graph::fold::collapse_batch_norms(&mut graph);
            notes.push(match norms {
                0 => "the network has no batch-norms: --collapse-batch-norm changes nothing".into(),
                _ => format!(
                    "{done} of {norms} batch-norms hold one scale and one shift for each channel as 16-bit floats, without \
                     statistics (--collapse-batch-norm)"
                ),
            });
        }
        if self.floats == Floats::Half {
            let names: Vec<String> = graph.parameters().into_iter().map(Into::into).collect();
            let variances: Vec<String> = variances(&graph);
            let (mut done, mut of) = (0, 0);
            for name in names {
                let Some(weight) = graph.weights.get_mut(&name).filter(|w| w.palette.is_none()) else {
                    continue;
                };
                let Some(values) = weight.tensor.as_f32_mut() else { continue };
                of += 1;
                // What is divided by has to keep its digits, however small it is.
                let size = if variances.contains(&name) { 1 } else { values.len() };
                done += usize::from(slq_codebook::halve(values, size));
            }
            notes.push(format!(
                "{done} of {of} float parameters are rounded to 16-bit floats (--half-floats)"
            ));
        }
        (Cow::Owned(model.with_graph(graph, false)), notes)
    }

    /// The options of a Core ML package.
    pub(crate) fn coreml(&self) -> slq_coreml::WriteOptions {
        let Self { dense, widths, overwrite, .. } = *self;
        slq_coreml::WriteOptions { dense, widths, overwrite }
    }
}

/// Names of the variances of batch-norms.
fn variances(graph: &slq_graph::Graph) -> Vec<String> {
    let norms = graph.nodes.iter().filter(|n| n.op == "BatchNormalization");
    norms.filter_map(|n| n.input(4)).map(Into::into).collect()
}

impl Model {
    /// Writes the model in the format that the ending of `path` names, with its preprocessing. The file is read back and
    /// compared before it takes the place of what was there. A caffemodel comes with a prototxt, see
    /// [`plan_models`](crate::files::plan_models).
    ///
    /// # Errors
    /// [`Error::UnknownOutput`] for an unknown ending, [`Error::File`] for a file that the model was read from, otherwise the
    /// error of the format's writer.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        self.save_with(path, &SaveOptions::default())
    }

    /// As [`Model::save`], with options of the format.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_with(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<Saved, Error> {
        let outputs = [path.as_ref().to_path_buf()];
        let plan = plan_models(&outputs, &self.caffe_files(), options.overwrite)?;
        plan.iter()
            .map(|p| self.save_planned(p, options))
            .next_back()
            .unwrap_or_else(|| measure(path.as_ref()))
    }

    /// The network as files hold it, with its preprocessing; and the Caffe net that it was read from.
    fn written(&self) -> (Cow<'_, slq_graph::Graph>, Option<slq_caffe::Source>) {
        let (mut graph, mut source) = (Cow::Borrowed(&self.graph), None);
        if let Source::Caffe(files) = &self.source {
            let (finished, from) = files.finished(&self.graph);
            (graph, source) = (finished, Some(from));
        }
        if let Some(transform) = &self.transform {
            preprocessing::store(graph.to_mut(), transform);
        }
        (graph, source)
    }

    /// Bytes of the model's `.slq` file.
    ///
    /// # Errors
    /// Those of its writer.
    pub(crate) fn container_bytes(&self, options: &SaveOptions) -> Result<u64, Error> {
        let (model, _) = options.rounded(self);
        let packed = slq_pack::write_bytes(&model.written().0, &slq_pack::WriteOptions::default())?;
        Ok(packed.bytes.len() as u64)
    }

    /// Writes the files of a plan, see [`plan_models`].
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_planned(&self, planned: &Planned, options: &SaveOptions) -> Result<Saved, Error> {
        let path = planned.path.as_path();
        let (graph, source) = self.written();
        let mut notes = self.notes();
        match path.extension().and_then(OsStr::to_str) {
            Some("onnx") => {
                let saved = write_onnx(&graph, path, options)?;
                notes.extend(saved.notes);
                return Ok(Saved { notes, ..saved });
            }
            Some("caffemodel") => {
                let (prototxt, legacy_blobs) = (planned.prototxt.clone(), options.legacy_blobs);
                slq_caffe::write(&graph, path, &slq_caffe::WriteOptions { prototxt, source, legacy_blobs })?;
            }
            Some("safetensors") => slq_safetensors::write(&graph, path)?,
            Some("slq") => {
                slq_pack::write(&graph, path, &slq_pack::WriteOptions::default())?;
            }
            Some("tflite") => {
                notes.extend(self.write_tflite(&graph, path, *options)?);
            }
            Some("mlpackage") => {
                notes.extend(slq_coreml::write(&graph, path, &options.coreml())?.notes);
                return Ok(Saved { notes, ..measure(path)? });
            }
            _ => return Err(Error::UnknownOutput(path.into())),
        }
        Ok(Saved { prototxt: planned.prototxt.clone(), notes, ..measure(path)? })
    }
}

impl Model {
    /// Writes a TensorFlow Lite file; what it changes, in sentences.
    fn write_tflite(
        &self,
        graph: &slq_graph::Graph,
        path: &Path,
        options: SaveOptions,
    ) -> Result<Vec<String>, Error> {
        let int8 = options.activations == Activations::Int8;
        let measured = self.measured.as_deref().filter(|_| int8);
        if int8 && measured.is_none() {
            let text =
                "integers need the ranges of the network's values: measure them on a few inputs before";
            return Err(Error::Argument(text.into()));
        }
        let how = slq_tflite::WriteOptions { dense: options.dense, integers: measured.map(|m| &m.ranges) };
        let report = slq_tflite::write(graph, path, &how)?;
        let mut notes = report.notes();
        if let (Some(measured), Some(integers)) = (measured, &report.integers) {
            notes.push(measured.damage(graph, &integers.covers)?);
        }
        Ok(notes)
    }
}

/// Writes an ONNX file; what had to be changed for the runtime is in the notes.
fn write_onnx(graph: &slq_graph::Graph, path: &Path, options: &SaveOptions) -> Result<Saved, Error> {
    let mut format = slq_onnx::WriteOptions { dense: options.dense, ..Default::default() };
    let Some(Runtime::Ort) = options.runtime.filter(|_| !options.dense) else {
        return write_onnx_files(graph, path, &format);
    };
    let Prepared { graph, mut notes, packed } = slq_onnx::for_onnxruntime(graph)?;
    notes.push(match packed.len() {
        0 => "no weight is packed for onnxruntime, which will hold all of them as float32".into(),
        count => format!("weights that onnxruntime keeps packed: {count}"),
    });
    format.blocked = true;
    let saved = write_onnx_files(&graph, path, &format)?;
    notes.extend(saved.notes);
    Ok(Saved { notes, ..saved })
}

/// Writes an ONNX file and, for a large network, the data file beside it.
fn write_onnx_files(
    graph: &slq_graph::Graph,
    path: &Path,
    options: &slq_onnx::WriteOptions,
) -> Result<Saved, Error> {
    let slq_onnx::Files { data, unused, .. } = slq_onnx::write(graph, path, options)?;
    let mut saved = measure(path)?;
    if let Some(data) = &data {
        saved.file_bytes = saved.file_bytes.saturating_add(measure(data)?.file_bytes);
        saved.notes.push(format!("its weights are in {}, which belongs beside it", data.display()));
    }
    saved.notes.extend(unused.iter().map(|old| {
        format!(
            "{} stays, and is not used by {}: remove it if nothing else needs it",
            old.display(),
            path.display()
        )
    }));
    Ok(Saved { data, ..saved })
}

/// Writes a dataset as an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
///
/// # Errors
/// [`Error::Data`] for images that cannot be read or a disk that refuses.
pub fn write_npz(dataset: &slq_data::Dataset, path: &Path) -> Result<Saved, Error> {
    slq_data::write_npz(dataset, path)?;
    measure(path)
}

/// Writes a dataset as LMDB databases for Caffe, in the folder `path`; see [`slq_data::write_lmdb`].
///
/// # Errors
/// [`Error::Data`] for images that cannot be read or a disk that refuses.
pub fn write_lmdb(dataset: &slq_data::Dataset, path: &Path, seed: u64) -> Result<Saved, Error> {
    slq_data::write_lmdb(dataset, path, seed)?;
    let parts = [path.join("data.mdb"), path.join("train/data.mdb"), path.join("test/data.mdb")];
    let file_bytes = parts.iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum();
    Ok(Saved { path: path.into(), file_bytes, prototxt: None, data: None, notes: Vec::new() })
}

fn measure(path: &Path) -> Result<Saved, Error> {
    let fail = |e: std::io::Error| Error::File { path: path.into(), reason: e.to_string() };
    let found = std::fs::metadata(path).map_err(fail)?;
    let file_bytes = if found.is_dir() { slq_coreml::size(path).map_err(fail)? } else { found.len() };
    Ok(Saved { path: path.into(), file_bytes, prototxt: None, data: None, notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use slq_data::Transform;

    use super::*;

    #[test]
    fn the_file_beside_a_large_network_counts_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let graph = Model::open("zoo:lenet").unwrap().graph;
        let options = slq_onnx::WriteOptions { data: slq_onnx::Data::Beside, ..Default::default() };
        let path = dir.path().join("a.onnx");
        let first = write_onnx_files(&graph, &path, &options).unwrap();
        assert_eq!(first.data, Some(dir.path().join("a.onnx.data")));
        assert!(first.file_bytes > 4 * 431_080 && path.metadata().unwrap().len() < 20_000, "{first:?}");
        assert!(matches!(&first.notes[..], [note] if note.contains("belongs beside it")), "{first:?}");
        let second = write_onnx_files(&graph, &path, &options).unwrap();
        assert_eq!(second.data, Some(dir.path().join("a.onnx.2.data")));
        assert!(second.notes[1].contains("a.onnx.data stays"), "{second:?}");
        assert_eq!(Model::open(path.as_path()).unwrap().graph.weights, graph.weights);
    }

    #[test]
    fn a_core_ml_package_holds_the_preprocessing_and_its_size_is_that_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let transform = Transform { mean: vec![0.5], ..Transform::default() };
        let model = Model { transform: Some(transform), ..Model::open("zoo:lenet").unwrap() };
        let path = dir.path().join("a.mlpackage");
        let saved = model.save(&path).unwrap();
        assert!((4 * 431_080..4 * 431_080 + 10_000).contains(&saved.file_bytes), "{saved:?}");
        assert!(saved.notes.iter().any(|n| n.contains("batch")), "{saved:?}");
        let spec = std::fs::read(path.join("Data/com.apple.CoreML/model.mlmodel")).unwrap();
        let text = String::from_utf8_lossy(&spec);
        assert!(text.contains("slq.preprocessing") && text.contains("\"mean\":[0.5]"));
    }

    #[test]
    fn small_variances_keep_their_digits() {
        let mut model = Model::open("zoo:resnet20").unwrap();
        let graph = &mut model.graph;
        let names = variances(graph);
        assert_eq!(names.len(), 19);
        graph.weights[&names[0]].tensor.as_f32_mut().unwrap()[0] = 1e-9;
        let bias = graph.nodes.iter().find(|n| n.op == "BatchNormalization").unwrap().inputs[2].clone();
        graph.weights[&bias].tensor.as_f32_mut().unwrap().copy_from_slice(&[0.1; 16]);
        graph.weights[&bias].tensor.as_f32_mut().unwrap()[0] = 1e-9;
        let options = SaveOptions { floats: Floats::Half, ..SaveOptions::default() };
        let (rounded, notes) = options.rounded(&model);
        let values = |name: &str| rounded.graph.weights[name].tensor.as_f32().unwrap().to_vec();
        assert_eq!(values(&names[0])[0], 1e-9);
        assert_eq!(values(&bias)[..2], [0.0, 0.099_975_586]);
        assert_eq!(notes.len(), 1);
        let (same, notes) = SaveOptions::default().rounded(&model);
        assert!(matches!(same, Cow::Borrowed(_)) && notes.is_empty());
    }
}
