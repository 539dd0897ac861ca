//! Models by name: which file, which format, read and written.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use slq_graph::Graph;

use crate::{Error, caffe};

/// How a user names a model (docs/cli.md): `x.onnx`, `x.prototxt` with weights, `x.safetensors` with a graph, or
/// `zoo:NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelName {
    /// The file or `zoo:NAME`.
    pub name: String,
    /// Caffe's weights.
    pub weights: Option<PathBuf>,
    /// The network of a safetensors file.
    pub graph: Option<PathBuf>,
    /// Seed of fresh weights.
    pub seed: u64,
    /// Channels, height and width of the images, for a prototxt whose data layers leave them to the data.
    pub input_shape: Option<[usize; 3]>,
}

impl From<&str> for ModelName {
    fn from(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A network and what its files say beside it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Preprocessing that the files name, if any.
    pub transform: Option<slq_data::Transform>,
    /// The Caffe files it came from, if it did: what is written as caffemodel then keeps their layers.
    pub caffe: Option<slq_caffe::Source>,
    /// The data layers of the TEST phase, for a prototxt that has some.
    pub data_layers: Vec<slq_caffe::DataSource>,
}

impl Model {
    /// Preprocessing that the files name, if any; a mean image is read now.
    ///
    /// # Errors
    /// [`Error::CaffeFile`] and [`Error::Caffe`] for a mean file that is missing or no mean image.
    pub fn preprocessing(&self) -> Result<Option<slq_data::Transform>, Error> {
        match (&self.transform, &self.caffe, self.data_layers.first()) {
            (None, Some(source), Some(layer)) => caffe::transform(&source.prototxt, layer).map(Some),
            (transform, ..) => Ok(transform.clone()),
        }
    }

    /// The images of the TEST phase's data layer: `None` where the model is no prototxt with one.
    ///
    /// # Errors
    /// Those of [`caffe::images_of`].
    pub fn test_images(&self) -> Result<Option<slq_data::Split>, Error> {
        match (&self.caffe, self.data_layers.first()) {
            (Some(source), Some(layer)) => caffe::images_of(&source.prototxt, layer).map(|i| Some(i.split)),
            _ => Ok(None),
        }
    }
}

/// Opens a model.
///
/// # Errors
/// [`Error::UnknownModel`] for an unknown ending, [`Error::Invalid`] for a network that is not sound (a cycle, a weight
/// that is not a number …), otherwise what the format's reader reports.
pub fn open(name: impl Into<ModelName>) -> Result<Model, Error> {
    let name = name.into();
    let model = read(&name)?;
    check(&model.graph).map_err(|e| Error::Invalid { path: name.name.into(), source: Box::new(e) })?;
    Ok(model)
}

/// Whether the graph is sound: names, order, shapes of weights, no weight that is not a number.
fn check(graph: &Graph) -> Result<(), slq_graph::GraphError> {
    if graph.nodes.is_empty() {
        return slq_graph::validate::non_finite_weights(graph);
    }
    slq_graph::validate(graph)
}

fn read(name: &ModelName) -> Result<Model, Error> {
    let graph = match zoo_or_ending(&name.name)? {
        Source::Zoo(zoo) => slq_zoo::build(zoo, name.seed)?,
        Source::Onnx => slq_onnx::read(Path::new(&name.name))?,
        Source::Prototxt => {
            let path = Path::new(&name.name);
            let mut options = slq_caffe::ReadOptions::new(slq_caffe::Phase::Test);
            (options.seed, options.input_shape) = (name.seed, name.input_shape);
            let data_layers = slq_caffe::data_sources(path, &options)?;
            if let (None, Some(layer)) =
                (options.input_shape, data_layers.iter().find(|l| caffe::needs_data(l)))
            {
                let images = caffe::images_of(path, layer)?;
                options.input_shape = Some(images.transform.output_shape(&images.split)?);
            }
            let net = slq_caffe::read_net(path, name.weights.as_deref(), &options)?;
            let caffemodel = name.weights.clone();
            let source = slq_caffe::Source { prototxt: path.into(), caffemodel, options };
            return Ok(Model { transform: None, graph: net.graph, caffe: Some(source), data_layers });
        }
        Source::Safetensors => match &name.graph {
            Some(path) => {
                let mut graph = slq_onnx::read(path)?;
                slq_safetensors::read_into(&mut graph, Path::new(&name.name))?;
                graph
            }
            None => weights_alone(Path::new(&name.name))?,
        },
    };
    let transform = crate::preprocessing::stored(&graph)?;
    Ok(Model { transform, graph, caffe: None, data_layers: Vec::new() })
}

enum Source<'a> {
    Zoo(&'a str),
    Onnx,
    Prototxt,
    Safetensors,
}

fn zoo_or_ending(name: &str) -> Result<Source<'_>, Error> {
    if let Some(zoo) = name.strip_prefix("zoo:") {
        return Ok(Source::Zoo(zoo));
    }
    match Path::new(name).extension().and_then(OsStr::to_str) {
        Some("onnx") => Ok(Source::Onnx),
        Some("prototxt") => Ok(Source::Prototxt),
        Some("safetensors") => Ok(Source::Safetensors),
        Some("slq") => Err(Error::NotYet("the .slq container")),
        _ => Err(Error::UnknownModel(name.into())),
    }
}

/// A graph without nodes around the weights of a safetensors file. Matrices count as quantizable.
fn weights_alone(path: &Path) -> Result<Graph, Error> {
    let mut graph = Graph { name: path.display().to_string(), ..Graph::default() };
    graph.weights = slq_safetensors::read(path)?;
    Ok(graph)
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Saved {
    /// Where.
    pub path: PathBuf,
    /// How large it is.
    pub file_bytes: u64,
}

/// How a model is written.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// Keep ONNX weights as float32.
    pub dense: bool,
    /// For a caffemodel: the Caffe files the network came from, whose layers are kept. The prototxt beside the
    /// caffemodel is then theirs.
    pub caffe: Option<slq_caffe::Source>,
    /// For a caffemodel: describe the shapes of blobs by four extents, as files before 2015 did.
    pub legacy_blobs: bool,
}

/// Writes `graph` in the format that the ending of `path` names. The file is read back and compared before it takes the place of what was there.
///
/// # Errors
/// [`Error::UnknownOutput`] for an unknown ending, otherwise what the format's writer reports.
pub fn save(graph: &Graph, path: &Path, options: &SaveOptions) -> Result<Saved, Error> {
    let dense = options.dense;
    match path.extension().and_then(OsStr::to_str) {
        Some("onnx") => {
            slq_onnx::write(graph, path, &slq_onnx::WriteOptions { dense })?;
        }
        Some("caffemodel") => {
            let prototxt = Some(path.with_extension("prototxt"));
            slq_caffe::write(
                graph,
                path,
                &slq_caffe::WriteOptions {
                    prototxt,
                    source: options.caffe.clone(),
                    legacy_blobs: options.legacy_blobs,
                },
            )?
        }
        Some("safetensors") => slq_safetensors::write(graph, path)?,
        Some("slq") => return Err(Error::NotYet("the .slq container")),
        _ => return Err(Error::UnknownOutput(path.into())),
    };
    measure(path)
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
    Ok(Saved { path: path.into(), file_bytes })
}

fn measure(path: &Path) -> Result<Saved, Error> {
    let found =
        std::fs::metadata(path).map_err(|e| Error::File { path: path.into(), reason: e.to_string() })?;
    Ok(Saved { path: path.into(), file_bytes: found.len() })
}

/// Whether [`save`] knows the ending of `path`; asked before hours of training.
///
/// # Errors
/// As [`save`]; also [`Error::File`] where the folder does not exist.
pub fn check_output(path: &Path) -> Result<(), Error> {
    match path.extension().and_then(OsStr::to_str) {
        Some("onnx" | "caffemodel" | "safetensors") => {}
        Some("slq") => return Err(Error::NotYet("the .slq container")),
        _ => return Err(Error::UnknownOutput(path.into())),
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => {
            Err(Error::File { path: path.into(), reason: "its folder does not exist".into() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_models_are_refused() {
        assert!(matches!(open("lenet.h5"), Err(Error::UnknownModel(_))));
        assert!(matches!(open("lenet"), Err(Error::UnknownModel(_))));
        assert!(matches!(open("lenet.slq"), Err(Error::NotYet(_))));
        assert!(matches!(open("zoo:nothing"), Err(Error::Zoo(_))));
        assert!(matches!(open("missing.onnx"), Err(Error::Onnx(_))));
    }

    #[test]
    fn outputs_are_checked_before_the_work() {
        assert!(matches!(check_output(Path::new("x.h5")), Err(Error::UnknownOutput(_))));
        assert!(matches!(check_output(Path::new("no/such/folder/x.onnx")), Err(Error::File { .. })));
        assert!(check_output(Path::new("x.onnx")).is_ok());
    }

    #[test]
    fn a_network_survives_every_format() {
        let dir = tempfile::tempdir().unwrap();
        let graph = open("zoo:lenet").unwrap().graph;
        for file in ["a.onnx", "a.caffemodel", "a.safetensors"] {
            let path = dir.path().join(file);
            let saved = save(&graph, &path, &SaveOptions { dense: true, ..Default::default() }).unwrap();
            assert!(saved.file_bytes > 4 * 431_080, "{file}");
        }
        let name = ModelName {
            name: dir.path().join("a.prototxt").display().to_string(),
            weights: Some(dir.path().join("a.caffemodel")),
            ..ModelName::default()
        };
        for model in [open(dir.path().join("a.onnx").to_str().unwrap()).unwrap(), open(name).unwrap()] {
            assert_eq!(model.graph.parameter_count(), 431_080);
        }
    }
}
