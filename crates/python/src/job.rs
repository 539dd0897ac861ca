//! Jobs: compressing, calibrating, measuring, comparing.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::json;
use slq::detection::Preprocessing;
use slq::inference::evaluate_model;
use slq::jobs::{Asked, FileOptions, Known, Preset};
use slq::methods::{CompressError, TrainingData, compare_outputs};
use slq::{CalibrationInputs, DataOptions, Isa, JobFile, Prepared, Stage, Transform};

use crate::arrays::{Given, Images};
use crate::asked::asked;
use crate::error::{DataError, SettingError, in_python, raised, unlocked};
use crate::model::Model;
use crate::progress::Callback;
use crate::settings::{Settings, bad};

/// Random inputs that networks are compared on where there are no others.
const RANDOM: usize = 64;
/// Images in a batch of an evaluation.
const BATCH: usize = 100;

/// What a job is run on and where its results go.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Request<'py> {
    model: Bound<'py, Model>,
    data: Option<Given<'py>>,
    inputs: Option<Given<'py>>,
    teacher: Option<Bound<'py, Model>>,
    outputs: Vec<PathBuf>,
    settings: String,
    progress: Option<Py<PyAny>>,
}

/// How a job is run. Its stages depend on network and data, too: see [`Way::of`].
struct Way {
    job: JobFile,
    asked: Asked,
    augments: bool,
    isa: Isa,
    run_dir: Option<PathBuf>,
    resume: bool,
    every: Option<Duration>,
    verify: Option<bool>,
}

impl Way {
    fn read(request: &Request<'_>) -> PyResult<Self> {
        let mut given = Settings::parse(&request.settings)?;
        let seconds: Option<f64> = given.take("checkpoint_seconds")?;
        let every = seconds.map(Duration::try_from_secs_f64).transpose();
        let way = Self {
            isa: given.isa()?,
            run_dir: given.take("run_dir")?,
            resume: given.switch("resume")?,
            every: every.map_err(|_| bad("checkpoint_seconds", "give a number of seconds, 0 or more"))?,
            verify: given.take("verify")?,
            augments: !given.switch("no_augmentation")?,
            job: JobFile {
                outputs: request.outputs.clone(),
                seed: given.take("seed")?.unwrap_or(0),
                save: given.save()?,
                data: given.data()?,
                reference: given.switch("reference")?,
                ..JobFile::default()
            },
            asked: asked(&mut given)?,
        };
        given.finish()?;
        let has_images = request.data.is_some() || request.inputs.is_some();
        if !has_images && way.job.data != DataOptions::default() {
            return Err(SettingError::new_err(
                "settings of images (scale, mean, resize …) mean nothing without images",
            ));
        }
        if way.resume && way.run_dir.is_none() {
            return Err(bad("resume", "name the run_dir to go on with"));
        }
        Ok(way)
    }

    /// The job with its stages, and with the augmentation that the network bears; a note of it goes to the inputs.
    fn of(&self, inputs: &mut slq::Inputs) -> Result<JobFile, slq::Error> {
        let mut job = self.job.clone();
        let images = inputs.data.as_ref().map(|d| d.train.len());
        let method = self.asked.default_method(inputs.calibration.is_some(), images.is_some());
        let unlabelled = inputs.data.as_ref().is_some_and(|d| d.following.is_some());
        let known = Known { solver: None, method, graph: &inputs.model.graph, images, unlabelled };
        job.stages = slq::jobs::stages(&self.asked, Vec::new(), known)?;
        if job.save.runtime.is_some() {
            inputs.notes.extend(slq::jobs::suit_runtime(&mut job.stages, &self.asked));
        }
        let fail = |text: &str| Err(slq::Error::Argument(text.into()));
        if inputs.calibration.is_some() && job.stages.iter().any(Stage::trains) {
            return fail(
                "unlabelled inputs serve the method calibrate (and kmeans, to compare on); methods that train take data",
            );
        }
        if inputs.teacher.is_some() && !job.recipe().distills() {
            return fail("setting 'teacher': give distill, too; labels need no teacher");
        }
        let published = self.asked.preset == Some(Preset::Published);
        if self.augments && !published && job.recipe().trains() {
            let found = job.augment(inputs, self.isa)?;
            inputs.notes.extend(found.map(|f| f.note()));
        }
        if !published && !self.asked.settings.contains_key("lr") {
            let found = job.suit_rate(inputs, self.isa)?;
            inputs.notes.extend(found.map(|f| f.warning().message));
        }
        Ok(job)
    }
}

/// Runs a job; the model it made, and its report as JSON.
#[pyfunction]
pub(crate) fn compress(py: Python<'_>, request: Request<'_>) -> PyResult<(Model, String)> {
    let way = Way::read(&request)?;
    let Request { model, data, inputs, teacher, progress, .. } = request;
    let model = model.get().inner.clone();
    let (data, inputs) = (data.map(Given::owned).transpose()?, inputs.map(Given::owned).transpose()?);
    let teacher = teacher.map(|t| t.get().inner.clone());
    let mut callback = Callback::new(progress);
    let done = unlocked(py, || {
        let opened = open(&way, &model, data, inputs)?;
        let mut given = slq::Inputs {
            model: (*model).clone(),
            data: opened.data,
            calibration: opened.calibration,
            preprocessing: opened.preprocessing,
            teacher: teacher.map(|t| (*t).clone()),
            training: None,
            seed: None,
            notes: opened.notes,
        };
        let job = way.of(&mut given)?;
        let options = FileOptions {
            run_dir: way.run_dir.as_deref(),
            resume: way.resume,
            isa: way.isa,
            checkpoint_every: way.every,
            verify: way.verify,
            ..FileOptions::default()
        };
        let done = match job.run(&given, &options, &mut callback) {
            Err(slq::Error::Compress(CompressError::Interrupted)) => return Ok(None),
            done => done?,
        };
        Ok(Some((done, given.notes, opened.is_raw)))
    });
    // What the callback raised goes before what followed from it.
    if let Some(raised) = callback.raised {
        return Err(raised);
    }
    py.check_signals()?;
    let Some(((done, report), notes, is_raw)) = done? else {
        return Err(raised(&CompressError::Interrupted.into()));
    };
    let mut made = done.model;
    if is_raw {
        // The arrays were the network's inputs themselves: they say nothing of how pixels become inputs.
        made.transform.clone_from(&model.transform);
    }
    let notes: Vec<String> = notes.iter().map(|n| in_python(n)).collect();
    let report = json!({ "report": report, "notes": notes });
    Ok((made.into(), report.to_string()))
}

/// The inputs of a job, opened.
#[derive(Default)]
struct Opened {
    data: Option<TrainingData>,
    calibration: Option<CalibrationInputs>,
    preprocessing: Option<Preprocessing>,
    notes: Vec<String>,
    /// Whether the data is the network's inputs as they are.
    is_raw: bool,
}

fn open(
    way: &Way,
    model: &slq::Model,
    data: Option<Images>,
    inputs: Option<Images>,
) -> Result<Opened, slq::Error> {
    let mut opened = Opened::default();
    if let Some(data) = data {
        opened.is_raw = data.is_raw();
        if data.is_one_split() {
            opened.notes.push(
                "accuracy is measured on the training images: give test images, too, as (x_train, y_train, x_test, y_test)"
                    .into(),
            );
        }
        let prepared = prepared(&way.job.data, model, data, way.isa)?;
        opened.notes.extend(prepared.preprocessing.note());
        opened.notes.extend(prepared.preprocessing.doubt.clone());
        (opened.data, opened.preprocessing) = (Some(prepared.data), Some(prepared.preprocessing));
    }
    if let Some(inputs) = inputs {
        opened.is_raw |= inputs.is_raw();
        let found = calibration(&way.job, model, inputs, way.isa)?;
        opened.notes.extend(found.preprocessing.iter().filter_map(Preprocessing::note));
        opened.preprocessing = opened.preprocessing.or_else(|| found.preprocessing.clone());
        opened.calibration = Some(found);
    }
    Ok(opened)
}

/// Labelled images as a job uses them.
fn prepared(
    options: &DataOptions,
    model: &slq::Model,
    data: Images,
    isa: Isa,
) -> Result<Prepared, slq::Error> {
    match data {
        Images::Path(path) => DataOptions { path: Some(path), ..options.clone() }.require(model, isa),
        Images::Labelled { mut files, is_raw } => {
            if options.label_offset > 0 {
                files.train = files.train.with_label_offset(options.label_offset)?;
                files.test = files.test.with_label_offset(options.label_offset)?;
            }
            let options = DataOptions { path: Some("the arrays".into()), ..options.clone() };
            if !is_raw {
                return options.prepared(model, *files, isa);
            }
            // Floats are inputs as they are: nothing is looked for, and no size is changed unless settings say so.
            let graph = slq::graph::Graph {
                inputs: model.graph.inputs.clone(),
                outputs: model.graph.outputs.clone(),
                ..Default::default()
            };
            let bare = slq::Model { transform: Some(Transform::default()), ..graph.into() };
            let prepared = options.prepared(&bare, *files, isa)?;
            match prepared.preprocessing.fitted {
                Some(what) => Err(slq::Error::Argument(format!(
                    "float images are inputs of the network as they are, but these do not have its size ({what}): give \
                     resize, crop, or uint8 images"
                ))),
                None => Ok(prepared),
            }
        }
        _ => Err(slq::Error::Argument("images with labels are a pair (x, y) or a path".into())),
    }
}

/// Inputs without labels.
fn calibration(
    job: &JobFile,
    model: &slq::Model,
    inputs: Images,
    isa: Isa,
) -> Result<CalibrationInputs, slq::Error> {
    match inputs {
        Images::Path(path) => CalibrationInputs::open(&path, model, &job.data, job.seed, isa),
        Images::Pixels(split) => CalibrationInputs::detected(model, *split, &job.data, job.seed, isa),
        Images::Tensors(tensors) => CalibrationInputs::tensors(&model.graph, tensors),
        Images::Labelled { .. } => Err(slq::Error::Argument(
            "inputs are an array, a dict of arrays or a path, without labels".into(),
        )),
    }
}

/// Accuracy of a network on labelled test images, as JSON.
#[pyfunction]
pub(crate) fn evaluate(
    py: Python<'_>,
    model: &Bound<'_, Model>,
    data: Given<'_>,
    settings: &str,
) -> PyResult<String> {
    let mut given = Settings::parse(settings)?;
    let (isa, options) = (given.isa()?, given.data()?);
    given.finish()?;
    let (model, data) = (model.get().inner.clone(), data.owned()?);
    let found = unlocked(py, || {
        let prepared = prepared(&options, &model, data, isa)?;
        let (test, transform) = (&prepared.data.test, &prepared.data.transform);
        let graph = (*model).clone().for_use();
        let accuracy = evaluate_model(&graph, test, transform, BATCH.min(test.len()), isa)?;
        let found = &prepared.preprocessing;
        let notes: Vec<String> = found.note().into_iter().chain(found.doubt.clone()).collect();
        Ok(json!({ "accuracy": accuracy, "notes": notes }))
    })?;
    Ok(found.to_string())
}

/// How far the outputs of two networks are apart, as JSON.
#[pyfunction]
#[pyo3(signature = (a, b, inputs, settings))]
pub(crate) fn compare(
    py: Python<'_>,
    a: &Bound<'_, Model>,
    b: &Bound<'_, Model>,
    inputs: Option<Given<'_>>,
    settings: &str,
) -> PyResult<String> {
    let mut given = Settings::parse(settings)?;
    let (isa, seed) = (given.isa()?, given.take("seed")?.unwrap_or(0));
    let job = JobFile { data: given.data()?, seed, ..JobFile::default() };
    given.finish()?;
    let (a, b) = (a.get().inner.clone(), b.get().inner.clone());
    if a.graph.nodes.is_empty() || b.graph.nodes.is_empty() {
        return Err(DataError::new_err(
            "weights without a network have no outputs: give the network with graph=",
        ));
    }
    let inputs = inputs.map(Given::owned).transpose()?;
    let found = unlocked(py, || {
        let inputs = match inputs {
            Some(inputs) => calibration(&job, &a, inputs, isa)?,
            None => CalibrationInputs::random(&a.graph, RANDOM, seed)?,
        };
        Ok(json!(compare_outputs(&a.graph, &b.graph, &inputs, isa)?))
    })?;
    Ok(found.to_string())
}

/// Images and labels of a dataset as arrays; see `slq.load_data`.
#[pyfunction]
pub(crate) fn load_data<'py>(py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let splits = unlocked(py, || {
        let data = slq::Dataset::open(name)?;
        [&data.train, &data.test].into_iter().map(crate::arrays::pixels).collect::<Result<Vec<_>, _>>()
    })?;
    let mut arrays = Vec::new();
    for (images, labels) in splits {
        arrays.push(crate::tensors::array(py, images)?);
        let count = [labels.len()];
        arrays.push(crate::tensors::shaped(py, labels, &count)?);
    }
    Ok(arrays)
}
