//! Job files: everything a job was made with, as a TOML file that makes it again (docs/recipes.md).

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slq_compress::{
    FileBytes, FittedBatch, LoweredRate, Observer, Quantize, Recipe, Sensitivity, Stage, Warning,
};
use slq_engine::Isa;
use slq_graph::Palette;
use slq_reduce::{Alone, Reducer};

use super::container::{Container, unused_price};
use super::devices;
use super::inputs::Inputs;
use super::place::{Place, RECIPE};
use super::processes::Own;
use super::report::{JobReport, Output};
use super::{Done, Job, run_dir_error};
use crate::Error;
use crate::calibration::CalibrationInputs;
use crate::dataset::DataOptions;
use crate::detect::Detected;
use crate::input_shape::InputShape;
use crate::model::Model;
use crate::outputs::{Planned, is_package, plan_models};
use crate::save::{Activations, SaveOptions};

/// Name of the report in the run directory of a job that is finished.
pub const REPORT: &str = "report.json";
/// Share of a budget of bytes, and the most bytes, kept for constants that depend on the mix of widths.
const SLACK: u64 = 200;
/// See [`SLACK`].
const MOST_SLACK: u64 = 2048;
/// Random inputs that damage is estimated on.
const RANDOM: usize = 32;
/// Version of the job file's format.
pub const FORMAT: u32 = 2;

/// A job from files to files. What is left out takes its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct JobFile {
    /// Version of the format: 2.
    pub format: u32,
    /// Version of the library that wrote the file.
    pub slq: String,
    /// The model: a file or `zoo:NAME`.
    pub model: Option<String>,
    /// Caffe's weights.
    pub weights: Option<PathBuf>,
    /// The network of a safetensors file.
    pub graph: Option<PathBuf>,
    /// Caffe's solver file, whose net and data are used.
    pub solver: Option<PathBuf>,
    /// The model whose outputs distillation trains towards; without one, see [`Job::teacher`].
    pub teacher: Option<String>,
    /// Inputs without labels: a path, or `random:N`.
    pub calibrate: Option<String>,
    /// Sizes of inputs that the model's file leaves open; the outputs have them, too.
    pub input_shapes: Vec<InputShape>,
    /// A table of `slq sensitivity` for a budget.
    pub sensitivity: Option<PathBuf>,
    /// Where the results go; the endings name the formats. The program takes them from its flags, except to resume.
    pub outputs: Vec<PathBuf>,
    /// How the results are written.
    pub save: SaveOptions,
    /// The data.
    pub data: DataOptions,
    /// What `--batch auto` found; the stages hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<FittedBatch>,
    /// Where the usual learning rate was lowered; the stages hold the lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lowered_rate: Option<LoweredRate>,
    /// Seed of every random choice.
    pub seed: u64,
    /// Whether the float network is trained for as long, too, to compare with.
    pub reference: bool,
    /// The stages.
    pub stages: Vec<Stage>,
}

impl Default for JobFile {
    fn default() -> Self {
        Self {
            format: FORMAT,
            slq: env!("CARGO_PKG_VERSION").into(),
            model: None,
            weights: None,
            graph: None,
            solver: None,
            teacher: None,
            calibrate: None,
            input_shapes: Vec::new(),
            sensitivity: None,
            outputs: Vec::new(),
            save: SaveOptions::default(),
            data: DataOptions::default(),
            batch: None,
            lowered_rate: None,
            seed: 0,
            reference: false,
            stages: Vec::new(),
        }
    }
}

/// Where and how a job file is run.
#[derive(Default)]
pub struct FileOptions<'a> {
    /// Directory of the checkpoints and of the job file itself; `None` keeps none.
    pub run_dir: Option<&'a Path>,
    /// Go on with the job in the directory; otherwise a directory that holds a job is refused.
    pub resume: bool,
    /// Instruction set.
    pub isa: Isa,
    /// Sensitivities measured before, for a budget.
    pub sensitivity: Option<&'a Sensitivity>,
    /// Time between two checkpoints within a training; `None` for the default.
    pub checkpoint_every: Option<Duration>,
    /// Whether outputs are read again and compared with the network, see [`verify`](crate::files::verify); `None` for those up to
    /// [`VERIFIED_BYTES`](crate::files::VERIFIED_BYTES).
    pub verify: Option<bool>,
    /// Files beside those that the job names which no output may replace.
    pub inputs: &'a [PathBuf],
    /// The processes that do the job together; `None` for one alone. The first one writes the run directory and the outputs.
    pub reducer: Option<&'a dyn Reducer>,
}

impl JobFile {
    /// Reads a job file as a recipe: preprocessing that was detected is detected again, as model and data may be others, and of a
    /// learning rate that was lowered the rate alone is left.
    ///
    /// # Errors
    /// [`Error::File`], naming the line; a file of the first version gets a sentence of its own.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let job = Self::parsed(path)?;
        Ok(Self { data: DataOptions { detected: None, ..job.data }, lowered_rate: None, ..job })
    }

    fn parsed(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        if is_first_version(&text) {
            let reason = "it is a recipe of slq 0.1: settings now belong to stages ([[stages]]), see \
                          docs/recipes.md";
            return Err(fail(reason.into()));
        }
        let job: Self = toml::from_str(&text).map_err(|e| {
            // The parser's message spans several lines; the first holds the place, the last the reason.
            let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            fail(format!("line {line}: {}", e.message().replace('\n', " ")))
        })?;
        if job.format != FORMAT {
            let (format, slq) = (job.format, &job.slq);
            return Err(fail(format!("it has format {format} of slq {slq}; this version reads {FORMAT}")));
        }
        Ok(job)
    }

    /// Writes the job file.
    ///
    /// # Errors
    /// [`Error::File`] where the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        let body = toml::to_string(self).map_err(|e| fail(e.to_string()))?;
        let text = format!("# Made again by: slq compress --recipe {RECIPE} -o OUT\n{body}");
        slq_file::write_atomically(path, text.as_bytes()).map_err(|e| fail(e.to_string()))
    }

    /// The job that `dir` was begun with, with the preprocessing that was detected then.
    ///
    /// # Errors
    /// [`Error::Compress`] for a directory that holds none or one of the first version, and those of [`JobFile::read`].
    pub fn resume(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(RECIPE);
        if dir.join("command.json").exists() {
            let reason = "it was begun by slq 0.1, whose run directories this version does not resume";
            return Err(run_dir_error(dir, reason));
        }
        if !path.exists() {
            return Err(run_dir_error(dir, "it holds no run"));
        }
        let job = Self::parsed(&path)?;
        if job.model.is_none() && job.solver.is_none() {
            return Err(run_dir_error(dir, format!("its {RECIPE} names no model: no run began with it")));
        }
        Ok(job)
    }

    /// The stages with their seed.
    pub fn recipe(&self) -> Recipe {
        Recipe { seed: self.seed, reference: self.reference, stages: self.stages.clone() }
    }

    /// The batch-norms that are folded into the layers before them before compression begins: all that can be, where an output
    /// is a `.tflite` file with look-up tables. Folded later, a layer's codebook would become one for each channel. The other
    /// outputs of the job hold the same folded network.
    pub fn folds(&self, inputs: &Inputs) -> Vec<String> {
        devices::folded(self.wanted(), &inputs.model, &self.recipe()).1
    }

    /// Runs the job on its opened inputs and writes the outputs.
    ///
    /// # Errors
    /// [`Error::UnknownOutput`] and [`Error::File`] for outputs that cannot be written, [`Error::Compress`].
    pub fn run(
        &self,
        inputs: &Inputs,
        options: &FileOptions<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(Done, JobReport), Error> {
        let reducer = options.reducer.unwrap_or(Alone::shared());
        // The others write none, and need not reach the folders.
        let plan = match reducer.rank() {
            0 => self.plan(inputs, options.inputs)?,
            _ => Vec::new(),
        };
        let recipe = self.recipe();
        devices::check(self.wanted(), inputs, &recipe)?;
        let (model, folded_batch_norms) = devices::folded(self.wanted(), &inputs.model, &recipe);
        let (model, changes) = devices::prepared(self.wanted(), model)?;
        super::processes::check_recipe(&recipe, options.resume, reducer)?;
        let run_dir = options.run_dir.filter(|_| recipe.keeps_checkpoints());
        let own = Own::of(run_dir, reducer)?;
        let fallback = match inputs.calibration {
            None => self.unnamed_inputs(inputs, &recipe)?,
            Some(_) => None,
        };
        let container = Container::of(self.wanted(), inputs, &model);
        let file = match &container {
            Some(container) => FileBytes::Coded(container),
            None => FileBytes::Stored(self.overhead(inputs, &recipe)?),
        };
        let job = Job::new(recipe)
            .prepared(inputs.data.as_ref())
            .calibrate(inputs.calibration.as_ref().or(fallback.as_ref()))
            .teacher(inputs.teacher.as_ref())
            .run_dir(own.path())
            .reducer(reducer)
            .isa(options.isa)
            .file(file)
            .sensitivity(options.sensitivity)
            .checkpoint_every(options.checkpoint_every)
            .observe(observer);
        job.check(&model)?;
        let place = own.path().map(|dir| self.place(dir, inputs, options.resume)).transpose()?;
        let done = job.locked(place.as_ref().map(Place::lock)).run(&model);
        let mut done = done.inspect_err(|error| place.iter().for_each(|p| p.remove_unused(error)))?;
        let (rounded, rounding) = self.save.rounded(&done.model);
        done.model = rounded.into_owned();
        if self.save.activations == Activations::Int8 && reducer.rank() == 0 {
            done.model = devices::measured(&done.model, inputs, self.seed, options.isa)?;
        }
        let dense = done.report.size.dense_bytes;
        let mut outputs = Vec::new();
        for planned in &plan {
            let mut saved = done.model.save_planned(planned, &self.save)?;
            if saved.path.extension().is_some_and(|e| e == "onnx") {
                saved.notes.splice(0..0, changes.iter().cloned());
            }
            if outputs.is_empty() {
                saved.notes.extend(rounding.iter().cloned());
            }
            outputs.push(Output::checked(&done.model, (saved, dense), options.verify, options.isa)?);
        }
        // No process ends before the outputs are written.
        reducer.barrier().map_err(slq_compress::CompressError::from)?;
        let mut figures = done.report.clone();
        figures.warnings.extend(outputs.iter().filter_map(Output::warning));
        figures.warnings.extend(unused_price(self.wanted(), &self.recipe()));
        figures.warnings.extend(self.lowered_rate.iter().map(LoweredRate::warning));
        let doubt = inputs.preprocessing.iter().filter_map(|p| p.doubt.clone());
        figures.warnings.splice(0..0, doubt.map(|message| Warning { kind: "preprocessing".into(), message }));
        let report = JobReport {
            report: figures,
            outputs,
            preprocessing: inputs.preprocessing.as_ref().map(Into::into),
            folded_batch_norms,
            batch: self.batch,
            run_dir: run_dir.map(Into::into),
        };
        if let Some(dir) = run_dir.filter(|_| reducer.rank() == 0) {
            report.write(&dir.join(REPORT))?;
        }
        Ok((done, report))
    }

    fn wanted(&self) -> devices::Wanted<'_> {
        devices::Wanted { outputs: &self.outputs, save: &self.save }
    }

    /// What the first output takes beside the stored bytes, where a budget of bytes is to hold for its file: the network is
    /// written with codebooks of zeros. Files whose weights stay floats are left aside.
    fn overhead(&self, inputs: &Inputs, recipe: &Recipe) -> Result<u64, Error> {
        let Some(ending) = self.outputs.first().and_then(|o| o.extension()?.to_str()) else { return Ok(0) };
        let sized =
            |s: &&Stage| matches!(s, Stage::Quantize(q) if q.budget.is_some_and(|b| b.bytes(1).is_some()));
        let (Some(Stage::Quantize(settings)), false) = (recipe.stages.iter().find(sized), self.save.dense)
        else {
            return Ok(0);
        };
        if !matches!(ending, "onnx" | "safetensors") {
            return Ok(0);
        }
        let dir = tempfile::tempdir()
            .map_err(|e| Error::File { path: std::env::temp_dir(), reason: e.to_string() })?;
        let mut most = 0;
        // Widths that do not divide a byte are written with more operators than others.
        for bits in (settings.lowest_bits()..=8).filter(|b| 8 % b != 0).chain([8]) {
            let settings = Quantize { bits, codebook_size: None, ..settings.clone() };
            let mut blank = inputs.model.clone();
            blank.transform = inputs.preprocessing.as_ref().map(|p| p.transform.clone()).or(blank.transform);
            blank.graph = slq_compress::turned(blank.graph, &settings)?;
            for layer in slq_compress::select_layers(&blank.graph, &settings)? {
                let (values, codes) = (vec![0.0; layer.groups * layer.size], vec![0; layer.count]);
                let weight = &mut blank.graph.weights[&layer.weight];
                weight.tensor.as_f32_mut().into_iter().for_each(|v| v.fill(0.0));
                weight.palette = Palette::fully_fixed(values, layer.groups, codes).ok();
            }
            let saved = blank.save_with(dir.path().join("blank").with_extension(ending), &self.save)?;
            let stored = slq_compress::Size::of(&blank.graph).stored_bytes;
            most = saved.file_bytes.saturating_sub(stored).max(most);
        }
        // Layers of one width share some constants; several widths have their own.
        let dense = slq_compress::Size::of(&inputs.model.graph).dense_bytes;
        let share = settings.budget.and_then(|b| b.bytes(dense)).unwrap_or(0) / SLACK;
        Ok(most + share.min(MOST_SLACK))
    }

    /// Inputs where none are named: for calibration the training images without their labels; for a method that uses no
    /// data random ones, on which the network is compared with the float network.
    fn unnamed_inputs(&self, inputs: &Inputs, recipe: &Recipe) -> Result<Option<CalibrationInputs>, Error> {
        let (model, seed) = (&inputs.model, self.seed);
        match &inputs.data {
            Some(_) if recipe.calibrates() => inputs.unlabelled(seed),
            None if !recipe.calibrates() && !model.graph.nodes.is_empty() => {
                // Where such inputs cannot be made, damage is not estimated.
                Ok(CalibrationInputs::random(&model.graph, RANDOM, seed).ok())
            }
            _ => Ok(None),
        }
    }

    /// Plans the outputs of the job, see [`plan_models`]; none may replace a file that the job reads, nor one of `further`.
    ///
    /// # Errors
    /// Those of [`plan_models`]; [`Error::Coreml`] for a network that a Core ML package cannot hold.
    pub fn plan(&self, inputs: &Inputs, further: &[PathBuf]) -> Result<Vec<Planned>, Error> {
        let plan = self.plan_files(&inputs.model, inputs.teacher.as_ref(), further)?;
        if self.outputs.iter().any(|o| is_package(o)) {
            super::package::check(&inputs.model, &self.recipe(), &self.save)?;
        }
        Ok(plan)
    }

    /// The part of [`JobFile::plan`] for which no image need be read.
    ///
    /// # Errors
    /// Those of [`plan_models`].
    pub fn plan_files(
        &self,
        model: &Model,
        teacher: Option<&Model>,
        further: &[PathBuf],
    ) -> Result<Vec<Planned>, Error> {
        let mut files = self.input_files();
        files.extend(model.caffe_files());
        files.extend(teacher.into_iter().flat_map(Model::caffe_files));
        files.extend_from_slice(further);
        plan_models(&self.outputs, &files, self.save.overwrite)
    }

    /// Locks the run directory, and writes the job into one that holds none yet.
    fn place(&self, dir: &Path, inputs: &Inputs, resume: bool) -> Result<Place, Error> {
        let path = dir.join(RECIPE);
        if resume {
            return Place::there(dir);
        }
        // Before the lock's file is made in a directory that is not ours.
        check_unused(dir)?;
        let place = Place::made(dir)?;
        check_unused(dir)?;
        let mut begun = self.absolute();
        begun.data.detected =
            inputs.preprocessing.as_ref().and_then(|p| p.detection.as_ref()).map(Detected::from);
        begun.write(&path).inspect_err(|error| place.remove_unused(error))?;
        Ok(place)
    }
}

/// Checks that a run can begin in `dir`.
///
/// # Errors
/// [`CompressError::RunDir`](slq_compress::CompressError::RunDir) where it holds one.
pub fn check_unused(dir: &Path) -> Result<(), Error> {
    if dir.join(RECIPE).exists() || dir.join("command.json").exists() {
        return Err(run_dir_error(dir, "it already holds a run: --resume it, or name another --run-dir"));
    }
    Ok(())
}

/// Whether the text is a recipe of the first version, which had one table of settings.
fn is_first_version(text: &str) -> bool {
    let table = |name: &str| text.lines().any(|l| l.trim_start().starts_with(name));
    table("[settings") || table("[decompose")
}

#[cfg(test)]
mod tests {
    use slq_compress::{
        Budget, Decompose, FineTune, Granularity, Length, Method, MlqSettings, Quantize, RankChoice, Scheme,
        TrpSettings, Tune,
    };

    use super::*;

    fn job() -> JobFile {
        let method = Method::Mlq(MlqSettings { schedule: Some(vec![2, 3]), ..MlqSettings::default() });
        let quantize = Quantize::new(method, 2)
            .granularity(Granularity::Group(4))
            .skip("conv*")
            .layer("fc", 4)
            .within(Budget::Ratio(20.0))
            .training(|t| {
                t.length = Length::Iterations(7);
                t.lr_policy = "step:0.1:200".parse().unwrap();
                t.distill = Some(2.0);
            });
        let trp = TrpSettings { period: 10, ..TrpSettings::default() };
        let low_rank = Decompose {
            layers: vec!["conv1=auto".parse().unwrap(), "fc=12".parse().unwrap()],
            trp: Some(trp),
            ..Decompose::new(Scheme::Spatial, RankChoice::Macs(2.84))
        };
        JobFile {
            model: Some("net.onnx".into()),
            outputs: vec!["small.onnx".into()],
            stages: Recipe::new(FineTune::default())
                .then(low_rank)
                .then(quantize)
                .then(Tune::default())
                .stages,
            ..JobFile::default()
        }
    }

    #[test]
    fn a_job_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECIPE);
        for job in [JobFile::default(), job()] {
            job.write(&path).unwrap();
            assert_eq!(JobFile::read(&path).unwrap(), job);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for line in
            ["method = \"mlq\"", "lr-policy = \"step:0.1:200\"", "granularity = \"group:4\"", "macs = 2.84"]
        {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn what_was_found_out_goes_on_with_a_job_and_is_left_out_of_a_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let detected = Detected { name: "0 to 1".into(), images: 400, accuracy: None };
        let begun = JobFile {
            data: DataOptions { detected: Some(detected), ..DataOptions::default() },
            lowered_rate: Some(LoweredRate { usual: 0.01, rate: 1e-4, steps: 60 }),
            ..job()
        };
        begun.write(&dir.path().join(RECIPE)).unwrap();
        assert_eq!(JobFile::resume(dir.path()).unwrap(), begun);
        let recipe = JobFile::read(&dir.path().join(RECIPE)).unwrap();
        assert_eq!((recipe.data.detected, recipe.lowered_rate), (None, None));
        assert_eq!(recipe.stages, begun.stages);
    }

    #[test]
    fn a_few_lines_are_a_job_and_mistakes_are_named_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            JobFile::read(&path)
        };
        let short = "[[stages]]\n[stages.quantize]\nbits = 4\nslq.training.lr = 0.02\n";
        let expected = Recipe::new(Quantize::slq(4).training(|t| t.learning_rate = 0.02));
        assert_eq!(read(short).unwrap().recipe(), expected);
        let stage = |body: &str| format!("[[stages]]\n[stages.{body}\n");
        for (text, word) in [
            (stage("decompose]\nconvolutions = 'channel'"), "ranks"),
            (stage("decompose]\nranks = { flops = 2 }\nconvolutions = 'sideways'"), "sideways"),
            (stage("quantize]\nbitss = 4"), "bitss"),
            (stage("quantize]\n\nmethod = 'magic'"), "magic"),
            (stage("quantize]\ngranularity = 'group:0'"), "group:0"),
            (stage("quantize]\nmethod = 'slq'\nmlq.rank-by = 'size'"), "mlq"),
            ("not toml".into(), "line 1"),
            ("[settings]\nbits = 4\n".into(), "slq 0.1"),
            ("format = 3\n".into(), "format 3"),
        ] {
            let said = read(&text).unwrap_err().to_string();
            assert!(said.contains(word) && said.contains("short.toml") && !said.contains('\n'), "{said}");
        }
    }
}
