//! Models: a network with its preprocessing and source format, opened and saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slq_compress::Inputs;
use slq_data::Transform;
use slq_engine::Isa;
use slq_graph::Graph;

use crate::caffe::CaffeFiles;
use crate::integers::Measured;
use crate::{Error, caffe, preprocessing};

/// How a user names a model: `x.onnx`, `x.prototxt` with weights, `x.safetensors` with a graph (or alone, for its
/// weights), `x.pth` for its weights, or `zoo:NAME`.
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

impl From<&Path> for ModelName {
    fn from(path: &Path) -> Self {
        Self { name: path.to_string_lossy().into_owned(), ..Self::default() }
    }
}

/// Where a model came from.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Source {
    /// A built-in architecture, or a graph made in memory.
    #[default]
    Memory,
    /// An ONNX file.
    Onnx,
    /// A `.slq` container.
    Slq,
    /// A safetensors file, with or without a network.
    Safetensors,
    /// The state dict of a PyTorch checkpoint.
    Pytorch,
    /// Caffe's files; a caffemodel written from the model keeps their layers.
    Caffe(Box<CaffeFiles>),
}

/// A network, its preprocessing and where it came from: everything that saving it again needs.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// Preprocessing of its images, where its file or its user has set it; see [`Model::preprocessing`].
    pub transform: Option<Transform>,
    /// Where it came from.
    pub source: Source,
    /// Ranges of its values, where they were [measured](Model::measured) for outputs of integers.
    pub measured: Option<Arc<Measured>>,
}

impl From<Graph> for Model {
    fn from(graph: Graph) -> Self {
        Self { graph, ..Self::default() }
    }
}

impl Model {
    /// Opens a model.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] for an unknown ending, [`Error::Invalid`] for a network that is not sound (a cycle, a
    /// weight that is not a number …), otherwise the error of the format's reader.
    pub fn open(name: impl Into<ModelName>) -> Result<Model, Error> {
        let name = name.into();
        let model = read(&name)?;
        check(&model.graph).map_err(|e| Error::Invalid { path: name.name.into(), source: Box::new(e) })?;
        Ok(model)
    }

    /// Preprocessing that the model's files name: stored in the file, or in a prototxt's data layer, whose mean image
    /// is read now.
    ///
    /// # Errors
    /// [`Error::CaffeFile`] and [`Error::Caffe`] for a mean file that is missing or no mean image.
    pub fn preprocessing(&self) -> Result<Option<Transform>, Error> {
        match (&self.transform, &self.source) {
            (None, Source::Caffe(files)) => files.preprocessing(),
            (transform, _) => Ok(transform.clone()),
        }
    }

    /// The images of the TEST phase's data layer; `None` where the model is no prototxt with one.
    ///
    /// # Errors
    /// Those of [`caffe::images_of`].
    pub fn test_images(&self) -> Result<Option<slq_data::Split>, Error> {
        match &self.source {
            Source::Caffe(files) => files.test_images(),
            _ => Ok(None),
        }
    }

    /// The same model with another network: preprocessing and source stay. A network whose layers are no longer those of
    /// its prototxt loses its Caffe files.
    #[must_use]
    pub fn with_graph(&self, graph: Graph, layers_changed: bool) -> Model {
        let source = match &self.source {
            Source::Caffe(_) if layers_changed => Source::Memory,
            source => source.clone(),
        };
        Model { graph, transform: self.transform.clone(), source, measured: None }
    }

    /// The model with the ranges of its values on up to 256 of `inputs`, which outputs of integers need
    /// ([`Activations::Int8`](crate::files::Activations::Int8)).
    ///
    /// # Errors
    /// [`Error::Argument`] for a value that is not finite; those of reading the inputs and running the network.
    pub fn measured(&self, inputs: impl Inputs + Send + Sync + 'static, isa: Isa) -> Result<Model, Error> {
        let measured = Measured::new(&self.clone().for_use(), Arc::new(inputs), isa)?;
        Ok(Model { measured: Some(Arc::new(measured)), ..self.clone() })
    }

    /// The network as it is used: of Caffe's files, in its TEST phase.
    pub fn for_use(self) -> Graph {
        match &self.source {
            Source::Caffe(files) => files.finished(&self.graph).0.into_owned(),
            _ => self.graph,
        }
    }

    /// What its reader could not do with the model's file, in sentences.
    pub fn notes(&self) -> Vec<String> {
        slq_onnx::notes(&self.graph)
    }

    /// The Caffe files that the model was read from; none for other formats.
    pub fn caffe_files(&self) -> Vec<PathBuf> {
        match &self.source {
            Source::Caffe(files) => files.paths(),
            _ => Vec::new(),
        }
    }

    /// Whether the weights come from a file, not from a seed.
    pub(crate) fn is_trained(&self) -> bool {
        match &self.source {
            Source::Memory => false,
            Source::Caffe(files) => files.source.caffemodel.is_some(),
            _ => true,
        }
    }

    /// Whether the model comes from Caffe's files.
    pub fn is_caffe(&self) -> bool {
        matches!(self.source, Source::Caffe(_))
    }
}

/// Checks that the graph is sound: names, order, shapes of weights, no weight that is not a number.
fn check(graph: &Graph) -> Result<(), slq_graph::GraphError> {
    if graph.nodes.is_empty() {
        return slq_graph::validate::non_finite_weights(graph);
    }
    slq_graph::validate(graph)
}

fn read(name: &ModelName) -> Result<Model, Error> {
    let path = Path::new(&name.name);
    for file in [Some(path), name.weights.as_deref(), name.graph.as_deref()].into_iter().flatten() {
        if let Some(what) = slq_file::stand_in(file) {
            return Err(Error::File { path: file.into(), reason: what.into() });
        }
    }
    let ending = Ending::of(&name.name)?;
    let beside = |file: &Option<PathBuf>, flag: &str, other: &str| {
        let reason = format!("{flag} goes with a {other} file, and '{}' is none: leave it out", name.name);
        file.as_ref().map_or(Ok(()), |file| Err(Error::File { path: file.clone(), reason }))
    };
    if !matches!(ending, Ending::Prototxt) {
        beside(&name.weights, "--weights", ".prototxt")?;
    }
    if !matches!(ending, Ending::Safetensors | Ending::Pytorch) {
        beside(&name.graph, "--graph", ".safetensors")?;
    }
    let (graph, source) = match ending {
        Ending::Zoo(zoo) => (slq_zoo::build(zoo, name.seed)?, Source::Memory),
        Ending::Onnx => (slq_onnx::read(path)?, Source::Onnx),
        Ending::Slq => (slq_pack::read(path)?, Source::Slq),
        Ending::Prototxt => return read_caffe(path, name),
        Ending::Safetensors => (read_safetensors(path, name)?, Source::Safetensors),
        Ending::Pytorch => (read_pytorch(path, name)?, Source::Pytorch),
    };
    let transform = preprocessing::stored(&graph)?;
    Ok(Model { graph, transform, source, measured: None })
}

fn read_caffe(path: &Path, name: &ModelName) -> Result<Model, Error> {
    let mut options = slq_caffe::ReadOptions::new(slq_caffe::Phase::Test);
    (options.seed, options.input_shape) = (name.seed, name.input_shape);
    let data_layers = slq_caffe::data_sources(path, &options)?;
    let open = data_layers.iter().find(|l| caffe::needs_data(l));
    if let (None, Some(layer)) = (options.input_shape, open) {
        let images = caffe::images_of(path, layer)?;
        options.input_shape = Some(images.transform.output_shape(&images.split)?);
    }
    let net = slq_caffe::read_net(path, name.weights.as_deref(), &options)?;
    let source = slq_caffe::Source { prototxt: path.into(), caffemodel: name.weights.clone(), options };
    let files = CaffeFiles { source, data_layers, test: None };
    let source = Source::Caffe(Box::new(files));
    Ok(Model { source, ..net.graph.into() })
}

/// The weights of a safetensors file in the network beside it, or alone; alone, matrices count as quantizable.
fn read_safetensors(path: &Path, name: &ModelName) -> Result<Graph, Error> {
    if let Some(network) = &name.graph {
        let mut graph = slq_onnx::read(network)?;
        slq_safetensors::read_into(&mut graph, path)?;
        return Ok(graph);
    }
    let mut graph = Graph { name: path.display().to_string(), ..Graph::default() };
    graph.weights = slq_safetensors::read(path)?;
    Ok(graph)
}

/// The weights of a PyTorch checkpoint; the network itself is Python code.
fn read_pytorch(path: &Path, name: &ModelName) -> Result<Graph, Error> {
    if name.graph.is_some() {
        let reason =
            "--graph goes with a .safetensors file: convert the checkpoint first (slq convert)".into();
        return Err(Error::File { path: path.into(), reason });
    }
    let mut graph = Graph { name: path.display().to_string(), ..Graph::default() };
    graph.weights = slq_pytorch::read(path)?;
    Ok(graph)
}

enum Ending<'a> {
    Zoo(&'a str),
    Onnx,
    Slq,
    Prototxt,
    Safetensors,
    Pytorch,
}

impl Ending<'_> {
    fn of(name: &str) -> Result<Ending<'_>, Error> {
        if let Some(zoo) = name.strip_prefix("zoo:") {
            return Ok(Ending::Zoo(zoo));
        }
        Self::of_file(Path::new(name)).ok_or_else(|| Error::UnknownModel(name.into()))
    }

    fn of_file(path: &Path) -> Option<Ending<'static>> {
        match path.extension()?.to_str()? {
            "onnx" => Some(Ending::Onnx),
            "slq" => Some(Ending::Slq),
            "prototxt" => Some(Ending::Prototxt),
            "safetensors" => Some(Ending::Safetensors),
            "pth" | "pt" | "bin" | "ckpt" => Some(Ending::Pytorch),
            _ => None,
        }
    }
}

/// Whether the ending of `path` is one of the models that are read.
pub(crate) fn is_model(path: &Path) -> bool {
    Ending::of_file(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save::SaveOptions;

    #[test]
    fn names_that_are_not_models_are_refused() {
        assert!(matches!(Model::open("lenet.h5"), Err(Error::UnknownModel(_))));
        assert!(matches!(Model::open("lenet"), Err(Error::UnknownModel(_))));
        assert!(matches!(Model::open("zoo:nothing"), Err(Error::Zoo(_))));
        assert!(matches!(Model::open("missing.onnx"), Err(Error::Onnx(_))));
    }

    #[test]
    fn a_network_survives_every_format_with_its_preprocessing() {
        let dir = tempfile::tempdir().unwrap();
        let transform = Transform { mean: vec![0.5], ..Transform::default() };
        let model = Model { transform: Some(transform.clone()), ..Model::open("zoo:lenet").unwrap() };
        for file in ["a.onnx", "a.caffemodel", "a.safetensors", "a.slq"] {
            let path = dir.path().join(file);
            let saved = model.save_with(&path, &SaveOptions { dense: true, ..Default::default() }).unwrap();
            // Floats in a container are coded.
            assert!(saved.file_bytes > 3 * 431_080, "{file}");
        }
        let caffe = ModelName {
            name: dir.path().join("a.prototxt").display().to_string(),
            weights: Some(dir.path().join("a.caffemodel")),
            ..ModelName::default()
        };
        let onnx = dir.path().join("a.onnx");
        let bare =
            ModelName { graph: Some(onnx.clone()), ..dir.path().join("a.safetensors").as_path().into() };
        let packed = dir.path().join("a.slq");
        for (name, stored) in
            [(onnx.as_path().into(), true), (packed.as_path().into(), true), (bare, true), (caffe, false)]
        {
            let model = Model::open(name).unwrap();
            assert_eq!(model.graph.parameter_count(), 431_080);
            assert_eq!(model.transform, stored.then(|| transform.clone()));
        }
    }
}
