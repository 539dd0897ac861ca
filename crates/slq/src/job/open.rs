//! Opening what a job file names: model, images, teacher.

use slq_compress::TrainingData;
use slq_engine::{Head, Isa, Loss};

use super::file::JobFile;
use super::inputs::Inputs;
use crate::calibration::CalibrationInputs;
use crate::dataset::Prepared;
use crate::detect::{Preprocessing, PreprocessingSource};
use crate::model::{Model, ModelName};
use crate::solver::{SolverJob, SolverOptions};
use crate::{Error, caffe, input_shape};

/// Data without labels, with the teacher's outputs in their place, where there is one.
fn taught(mut data: TrainingData, teacher: Option<&Model>) -> TrainingData {
    if let (Some(following), Some(teacher)) = (&mut data.following, teacher) {
        following.teach(teacher.graph.clone(), &data.train);
    }
    data
}

/// What is said of data without labels.
fn examples_note(data: &TrainingData) -> Option<String> {
    let following = data.following.as_ref()?;
    let loss = |head: &Head| match head.loss {
        Loss::SquaredError => format!("'{}' by squared error over its variance", head.output),
        _ => format!("'{}' by KL divergence", head.output),
    };
    let heads: Vec<String> = following.heads.iter().map(loss).collect();
    Some(format!(
        "the data has no labels: outputs are compared with the float network's ({}), on {} examples that are not trained on",
        heads.join(", "),
        data.test.len()
    ))
}

impl JobFile {
    /// Opens the model, the images and the teacher.
    ///
    /// # Errors
    /// [`Error::Argument`] where no model is named, otherwise the errors of the readers.
    pub fn open(&self, isa: Isa) -> Result<Inputs, Error> {
        self.open_checked(isa, |_| Ok(()))
    }

    /// The same; `check` sees the model before images are read and preprocessing is detected, which can take long. With a solver
    /// file it sees it afterwards.
    ///
    /// # Errors
    /// As [`JobFile::open`], and those of `check`.
    pub fn open_checked(
        &self,
        isa: Isa,
        check: impl FnOnce(&Model) -> Result<(), Error>,
    ) -> Result<Inputs, Error> {
        let teacher = self.teacher.as_deref().map(Model::open).transpose()?;
        if let Some(solver) = &self.solver {
            if let Some(shape) = self.input_shapes.first() {
                let reason = "with --solver the prototxt says the sizes of inputs";
                return Err(Error::Argument(format!("--input-shape {shape}: {reason}")));
            }
            let job = SolverJob::open(solver, &self.solver_options()?)?;
            let SolverJob { model, data, training, seed, notes, .. } = job;
            check(&model)?;
            let (transform, source) = (data.transform.clone(), PreprocessingSource::Prototxt);
            let preprocessing = Some(Preprocessing::new(transform, source));
            let (data, training, seed) = (Some(data), Some(training), Some(seed));
            let calibration = self.calibration(&model, data.as_ref(), isa)?;
            return Ok(Inputs { model, data, calibration, preprocessing, teacher, training, seed, notes });
        }
        let model = self.open_model()?;
        if self.data.path.is_some() && self.calibrate.is_none() {
            // All at once, and before images are read. Calibration goes as far as the network runs.
            model.graph.check_operators()?;
        }
        check(&model)?;
        let (data, preprocessing) = match self.data.open(&model, isa)? {
            Some(Prepared { data, preprocessing }) => {
                let images = data.train.inputs().is_none();
                (Some(data), Some(preprocessing).filter(|_| images))
            }
            None => (None, None),
        };
        let data = data.map(|d| taught(d, teacher.as_ref()));
        let calibration = self.calibration(&model, data.as_ref(), isa)?;
        let preprocessing =
            preprocessing.or_else(|| calibration.as_ref().and_then(|c| c.preprocessing.clone()));
        let mut notes: Vec<String> = data.iter().filter_map(examples_note).collect();
        notes.extend(preprocessing.iter().filter_map(Preprocessing::note));
        notes.extend(
            self.input_shapes.iter().map(|s| format!("inputs have the sizes {s}, in the outputs, too")),
        );
        notes.extend(data.as_ref().and_then(|d| d.validation.as_ref()).map(|images| {
            let from = self.data.validation.as_deref().unwrap_or_default();
            format!("choices are made on {} validation images (--validation {from})", images.len())
        }));
        Ok(Inputs { model, data, calibration, preprocessing, teacher, training: None, seed: None, notes })
    }

    /// The inputs without labels, with the preprocessing of the images where there are any.
    fn calibration(
        &self,
        model: &Model,
        data: Option<&TrainingData>,
        isa: Isa,
    ) -> Result<Option<CalibrationInputs>, Error> {
        let Some(text) = &self.calibrate else { return Ok(None) };
        let known = data.filter(|d| d.train.inputs().is_none()).map(|d| d.transform.clone());
        let known = known.and_then(|transform| Model { transform: Some(transform), ..model.clone() }.into());
        let model = known.as_ref().unwrap_or(model);
        CalibrationInputs::open(text, model, &self.data, self.seed, isa).map(Some)
    }

    /// Opens the model, with images of the shape that the data has where a prototxt leaves their shape to the data.
    ///
    /// # Errors
    /// As [`JobFile::open`].
    pub fn open_model(&self) -> Result<Model, Error> {
        let Some(name) = self.model.clone() else {
            return Err(Error::Argument("no model: name one".into()));
        };
        let is_prototxt = name.ends_with(".prototxt");
        let (weights, graph, seed) = (self.weights.clone(), self.graph.clone(), self.seed);
        let mut name = ModelName { name, weights, graph, seed, input_shape: None };
        if is_prototxt
            && let Some(layer) = caffe::layer_without_shape(name.name.as_ref())?
            && let Some(files) = self.data.files()?
        {
            let transform = self.data.adjusted(caffe::transform(name.name.as_ref(), &layer)?)?;
            name.input_shape = Some(transform.output_shape(&files.test)?);
        }
        let mut model = Model::open(name)?;
        input_shape::fix(&mut model.graph, &self.input_shapes)?;
        Ok(model)
    }

    /// How the solver file is read.
    ///
    /// # Errors
    /// [`Error::Argument`] for a model that is no prototxt.
    pub fn solver_options(&self) -> Result<SolverOptions<'_>, Error> {
        if let Some(other) = self.model.as_ref().filter(|m| !m.ends_with(".prototxt")) {
            let reason =
                format!("{other}: with --solver the network is a prototxt, with --weights its caffemodel");
            return Err(Error::Argument(reason));
        }
        Ok(SolverOptions {
            weights: self.weights.as_deref(),
            net: self.model.as_deref().map(std::path::Path::new),
            data: &self.data,
            seed: self.seed,
        })
    }
}
