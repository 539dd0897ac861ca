//! Runs a recipe: stage after stage, each with checkpoints of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slq_engine::Isa;
use slq_graph::Graph;
use slq_reduce::{Alone, Reducer};

use super::recipe::{Recipe, Stage};
use super::report::{Report, StageReport, Warning};
use crate::checkpoint::{Fingerprint, StageDir, TrainingDir, check_hash, hash_of};
use crate::context::{CHECKPOINT_EVERY, Context};
use crate::control::control;
use crate::damage::compare_shared;
use crate::error::CompressError;
use crate::inputs::{Inputs, SplitInputs, given};
use crate::low_rank::{Keepers, check_layers, decompose};
use crate::progress::{Event, Observer, Reference};
use crate::quantize::stage as quantization;
use crate::quantize::tune::tune;
use crate::quantize::{Quantize, Sensitivity, turned};
use crate::search::{quantize_within, training_part};
use crate::size::FileBytes;
use crate::train::{Keep, TrainOptions, TrainingData, TrainingSettings, sized, train_kept};

/// Where and how a job runs, beside its recipe.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions<'a> {
    /// Directory of the checkpoints; `None` keeps none. A job goes on from what it finds there.
    pub run_dir: Option<&'a Path>,
    /// Instruction set.
    pub isa: Isa,
    /// Teacher of all stages that distil; `None` for the network before the job or, behind a `fine-tune` stage, for the
    /// fine-tuned one.
    pub teacher: Option<&'a Graph>,
    /// Inputs without labels: what calibration runs on, and what other methods are compared with the float network on.
    pub inputs: Option<&'a dyn Inputs>,
    /// What a budget of bytes holds for.
    pub file: FileBytes<'a>,
    /// Sensitivities measured before, for a budget.
    pub sensitivity: Option<&'a Sensitivity>,
    /// Time between two checkpoints within a training, see [`CHECKPOINT_EVERY`].
    pub checkpoint_every: Duration,
    /// The processes that do the job together. Each needs a directory of its own, which holds the same at the start; only
    /// that of the first is written while a training goes on.
    pub reducer: &'a dyn Reducer,
}

impl Default for RunOptions<'_> {
    fn default() -> Self {
        Self {
            run_dir: None,
            isa: Isa::detect(),
            teacher: None,
            inputs: None,
            file: FileBytes::Stored(0),
            sensitivity: None,
            checkpoint_every: CHECKPOINT_EVERY,
            reducer: Alone::shared(),
        }
    }
}

/// The kind of the warning that [`Recipe::idle_sync`] makes.
const IDLE_SYNC: &str = "sync-batch-norm";

/// The result of a job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The network.
    pub graph: Graph,
    /// The figures in one view.
    pub report: Report,
    /// The figures of each stage.
    pub stages: Vec<StageReport>,
}

/// Checks what can be known before a job begins: settings, layers, schedules, whether there is data and inputs.
///
/// # Errors
/// [`CompressError::Setting`], [`CompressError::NoLayers`] and the like, [`CompressError::Schedule`],
/// [`CompressError::NoData`], [`CompressError::NoInputs`].
pub fn check(
    graph: &Graph,
    data: Option<&TrainingData>,
    inputs: Option<&dyn Inputs>,
    recipe: &Recipe,
) -> Result<(), CompressError> {
    recipe.check()?;
    if inputs.is_none_or(|i| i.is_empty()) && recipe.calibrates() {
        return Err(CompressError::NoInputs);
    }
    if data.is_none() && recipe.needs_data() {
        return Err(CompressError::NoData);
    }
    if data.is_none() && given(inputs).is_none() && recipe.weighs_by_inputs() {
        let reason =
            "inputs: give images or arrays (--calibrate), not random ones, or a dataset (--data)".into();
        return Err(CompressError::Setting { name: "cluster-weights", reason });
    }
    check_network(graph, &recipe.stages)
}

/// The part of [`check`] for which the network is enough: nothing need be read or measured before it.
///
/// # Errors
/// [`CompressError::Setting`], [`CompressError::NoLayers`], [`CompressError::NothingToDecompose`] and the like,
/// [`CompressError::Schedule`].
pub fn check_network(graph: &Graph, stages: &[Stage]) -> Result<(), CompressError> {
    stages.iter().flat_map(Stage::trainings).try_for_each(|t| t.check_norms(graph))?;
    // The layers of later stages are known once the earlier ones have run.
    match stages.iter().find(|s| !matches!(s, Stage::FineTune(_))) {
        Some(Stage::Quantize(settings)) if settings.budget.is_none() => quantization::check(graph, settings),
        Some(Stage::Decompose(settings)) => check_layers(graph, settings),
        _ => Ok(()),
    }
}

/// Runs `recipe` on `graph`.
///
/// # Errors
/// Any [`CompressError`]; the run directory then holds what is complete.
pub fn run(
    graph: Graph,
    data: Option<&TrainingData>,
    recipe: &Recipe,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, CompressError> {
    check(&graph, data, options.inputs, recipe)?;
    let declared = graph.inputs.clone();
    // Sizes that the file leaves open are those of the examples while the job runs.
    let graph = match data {
        Some(data) => sized(graph, &data.train),
        None => graph,
    };
    let mut job = Job {
        data,
        recipe,
        options,
        teacher: None,
        quantized: None,
        float: None,
        split: false,
        steps: 0,
        reports: Vec::with_capacity(recipe.stages.len()),
    };
    if options.teacher.is_none() && recipe.stages.len() > 1 && recipe.stages.iter().any(Stage::distills) {
        job.teacher = Some(graph.clone());
    }
    job.check_processes(&graph)?;
    let (held, mut graph) = (recipe.holds_out(), graph);
    let part = data.filter(|_| held).map(|d| training_part(d, recipe.seed)).transpose()?;
    for (index, stage) in recipe.stages.iter().enumerate() {
        observer.on(&Event::StageStarted(stage.name()));
        graph = job.stage(index, stage, graph, part.as_ref(), observer)?;
    }
    let mut report = Report::new(&graph, recipe, &job.reports);
    let idle = recipe.idle_sync(&graph, options.reducer.size());
    report.warnings.extend(idle.map(|message| Warning { kind: IDLE_SYNC.into(), message }));
    report.warnings.extend(report.ruined(recipe));
    report.reference = job.reference(observer)?;
    if let Some((data, following)) = data.and_then(|d| Some((d, d.following.as_ref()?))) {
        let inputs = SplitInputs::new(&graph, data.test.clone(), data.transform.clone());
        let networks = (&*following.network, &graph);
        report.compared(compare_shared(networks, &inputs, options.isa, options.reducer)?);
    }
    graph.inputs = declared;
    Ok(Outcome { graph, report, stages: job.reports })
}

/// A stage that is complete and has no checkpoints of its own.
#[derive(Serialize, Deserialize)]
struct Done {
    fingerprint: Fingerprint,
    /// SHA-256 of the file that holds the result.
    network: String,
    report: StageReport,
}

/// The result of a stage that changes the layers, and of one that changes the weights alone.
const NETWORK: &str = "network.onnx";
const WEIGHTS: &str = "network";

struct Job<'a> {
    data: Option<&'a TrainingData>,
    recipe: &'a Recipe,
    options: RunOptions<'a>,
    /// The network that teaches in all stages, where none was given.
    teacher: Option<Graph>,
    /// The weights that an earlier stage quantized.
    quantized: Option<Vec<String>>,
    /// The network that was quantized and the training of its rounds, where the float network is to be treated equally.
    float: Option<(Graph, TrainingSettings)>,
    /// Whether layers have been split.
    split: bool,
    /// Training steps of the stages since the network last changed as a whole.
    steps: u64,
    reports: Vec<StageReport>,
}

impl<'a> Job<'a> {
    /// Checks that all processes do the same work with the same files.
    fn check_processes(&self, graph: &Graph) -> Result<(), CompressError> {
        let reducer = self.options.reducer;
        if reducer.size() == 1 {
            return Ok(());
        }
        let context = Context { teacher: self.options.teacher, ..self.context(None) };
        Fingerprint::new(graph, &context, self.recipe)?.check_processes(reducer)
    }

    /// What the stages share, without a teacher.
    fn context<'c>(&self, dir: Option<&'c Path>) -> Context<'c>
    where
        'a: 'c,
    {
        let RunOptions { inputs, isa, checkpoint_every: every, reducer, .. } = self.options;
        let seed = self.recipe.seed;
        Context { data: self.data, inputs, teacher: None, seed, isa, dir, every, reducer, rises: None }
    }

    fn stage(
        &mut self,
        index: usize,
        stage: &Stage,
        graph: Graph,
        part: Option<&TrainingData>,
        observer: &mut dyn Observer,
    ) -> Result<Graph, CompressError> {
        let name = format!("{}-{}", index + 1, stage.name());
        let dir: Option<PathBuf> =
            self.options.run_dir.filter(|_| stage.keeps_checkpoints()).map(|d| d.join(name));
        let teacher = self.teacher.take();
        let teaches = self.options.teacher.or(teacher.as_ref()).filter(|_| stage.distills());
        let context = Context { teacher: teaches, ..self.context(dir.as_deref()) };
        let (graph, report) = match stage {
            Stage::Quantize(settings) => self.quantize(graph, settings, context, observer)?,
            Stage::Tune(settings) => {
                let all = || graph.weights.iter().filter(|(_, w)| w.palette.is_some());
                let weights =
                    self.quantized.clone().unwrap_or_else(|| all().map(|(n, _)| n.clone()).collect());
                observer.on(&Event::RoundStarted { round: 0, rounds: 1 });
                let (graph, round) = tune(graph, &weights, settings, self.steps, context, observer)?;
                observer.on(&Event::RoundEnded(&round));
                self.steps += round.iterations;
                (graph, StageReport::Tune(round))
            }
            Stage::FineTune(_) | Stage::Decompose(_) => {
                // Not on the images that a search will choose by.
                let context = Context { data: part.or(context.data), ..context };
                self.steps = 0;
                self.split |= matches!(stage, Stage::Decompose(_));
                whole_network(graph, stage, context, observer)?
            }
        };
        self.teacher = match stage {
            // The fine-tuned network teaches, unless it is one that a split has weakened.
            Stage::FineTune(_) if teacher.is_some() && !self.split => Some(graph.clone()),
            _ => teacher,
        };
        self.reports.push(report);
        Ok(graph)
    }

    fn quantize(
        &mut self,
        graph: Graph,
        settings: &Quantize,
        context: Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(Graph, StageReport), CompressError> {
        let graph = turned(graph, settings)?;
        if let (true, Some(training)) = (self.recipe.reference, settings.method.training()) {
            self.float = Some((graph.clone(), training.clone()));
        }
        let (done, search) = match settings.budget {
            None => (quantization::quantize(graph, settings, context, observer)?, None),
            Some(budget) => {
                let table = self.options.sensitivity;
                let (done, search) =
                    quantize_within(graph, settings, budget, (table, self.options.file), context, observer)?;
                (done, Some(search))
            }
        };
        self.steps = done.report.rounds.iter().map(|r| r.iterations).sum();
        self.quantized = Some(done.weights);
        Ok((done.graph, StageReport::Quantize(Box::new(done.report), search)))
    }
}

impl Job<'_> {
    /// The float network trained for as many steps as the stages behind it.
    fn reference(&mut self, observer: &mut dyn Observer) -> Result<Option<Reference>, CompressError> {
        let Some((graph, training)) = self.float.take() else { return Ok(None) };
        observer.on(&Event::StageStarted("reference"));
        let dir = self.options.run_dir.map(|d| d.join("reference"));
        let context = Context { inputs: None, ..self.context(dir.as_deref()) };
        control(&graph, &training, self.steps, context, observer).map(Some)
    }
}

/// A stage that changes the network as a whole: once complete, its network is kept in its directory.
fn whole_network(
    graph: Graph,
    stage: &Stage,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Graph, StageReport), CompressError> {
    let dir = context.dir.map(StageDir::create).transpose()?;
    let fingerprint = Fingerprint::new(&graph, &context, stage)?;
    if let Some(dir) = &dir
        && let Some(done) = dir.state::<Done>()?
    {
        done.fingerprint.check(&fingerprint, dir.path())?;
        return Ok((kept(graph, stage, dir, &done.network)?, done.report));
    }
    let keeper =
        |part: &str| dir.as_ref().map(|dir| TrainingDir::new(dir, &fingerprint, part.into(), context.every));
    let mut keepers = [keeper("training"), keeper("low-rank"), keeper("factors")];
    let [training, low_rank, factors] = keepers.each_mut().map(|k| k.as_mut().map(|k| k as &mut dyn Keep));
    let (graph, report) = match stage {
        Stage::Decompose(settings) => {
            let done = decompose(graph, settings, context, Keepers { low_rank, factors }, observer)?;
            (done.graph, StageReport::Decompose(Box::new(done.report)))
        }
        Stage::FineTune(settings) => {
            let data = context.require_data()?;
            let options = TrainOptions {
                seed: context.seed,
                isa: context.isa,
                teacher: context.teacher,
                reducer: Some(context.reducer),
                ..TrainOptions::default()
            };
            let done = train_kept(graph, data, &settings.training, options, training, observer)?;
            (done.graph, StageReport::FineTune(done.report))
        }
        Stage::Quantize(_) | Stage::Tune(_) => return Err(CompressError::StageOrder { stage: stage.name() }),
    };
    let Some(dir) = &dir else { return Ok((graph, report)) };
    let Some(network) = keep(&graph, stage, dir)? else { return Ok((graph, report)) };
    let done = Done { fingerprint: fingerprint.clone(), network, report: report.clone() };
    dir.save_state(&done)?;
    keepers.iter_mut().flatten().for_each(TrainingDir::clear);
    // As a resumed job will read it.
    Ok((kept(graph, stage, dir, &done.network)?, report))
}

/// Keeps the result of a complete stage; its hash. `None` where the layers are none that ONNX can hold: then the stage's
/// trainings, which are kept on their own, are what a resumed job goes on from.
fn keep(graph: &Graph, stage: &Stage, dir: &StageDir) -> Result<Option<String>, CompressError> {
    if let Stage::FineTune(_) = stage {
        return dir.save_weights(WEIGHTS, graph).map(Some);
    }
    let network = dir.path().join(NETWORK);
    // In one file, whose hash stands for all of it.
    let options = slq_onnx::WriteOptions { dense: true, data: slq_onnx::Data::Inside, ..Default::default() };
    match slq_onnx::write(graph, &network, &options) {
        Err(slq_onnx::OnnxError::Io(error)) => Err(slq_onnx::OnnxError::Io(error).into()),
        Err(_) => Ok(None),
        Ok(_) => hash_of(&network).map(Some),
    }
}

/// The result of a complete stage that began with `graph`.
fn kept(mut graph: Graph, stage: &Stage, dir: &StageDir, hash: &str) -> Result<Graph, CompressError> {
    if let Stage::FineTune(_) = stage {
        graph.weights.values_mut().for_each(|w| w.palette = None);
        dir.load_weights(WEIGHTS, hash, &mut graph)?;
        return Ok(graph);
    }
    let network = dir.path().join(NETWORK);
    check_hash(&network, hash)?;
    Ok(slq_onnx::read(network)?)
}
