//! What `slq compress` is asked to do: its flags, and the settings that follow from them.

use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, value::StrDeserializer};
use serde::{Deserialize, Serialize};
use slq::caffe::SolverJob;
use slq::{
    Advance, Budget, CodebookKind, DecomposeSettings, Duration, Granularity, Initialisation, LayerOrder,
    LayerRule, MethodName, MlqSettings, PartitionRule, PartitionScope, PruneRule, PruningSettings,
    Sensitivity, Settings, TuningSettings, Weighting,
};

use super::common::{ModelArgs, free_path};
use super::data::DataArgs;
use super::recipe::Recipe;
use super::solver::open_solver;
use super::training::TrainingArgs;

/// Everything that describes a compression; kept in the run directory.
#[derive(clap::Args, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// x.onnx, x.prototxt (with --weights), x.safetensors (with --graph), or zoo:NAME
    #[arg(required_unless_present_any = ["resume", "recipe", "solver"])]
    model: Option<String>,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX")]
    graph: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Bits of a weight: K = 2^(B-1)+1 values for slq, mlq and inq, 2^B for kmeans and
    /// deep-compression [default: 5]
    #[arg(long, value_name = "B")]
    bits: Option<u8>,
    /// Number of values K, where it is not to follow from the bits
    #[arg(long, value_name = "K")]
    codebook_size: Option<usize>,
    /// slq, mlq (layer after layer: for 2 bits), inq (powers of two), deep-compression (pruning and k-means) or
    /// kmeans (no re-training, no data needed) [default: slq]
    #[arg(long, value_parser = named::<MethodName>)]
    method: Option<MethodName>,
    /// Which values a codebook of slq or mlq may hold: free, pow2 or uniform [default: free]
    #[arg(long, value_name = "KIND", value_parser = named::<CodebookKind>)]
    codebook: Option<CodebookKind>,
    /// What weighs the values when they are clustered: none or fisher (needs data) [default: none]
    #[arg(long, value_name = "WHAT", value_parser = named::<Weighting>)]
    cluster_weights: Option<Weighting>,
    /// Do not move batch-norm statistics and biases by what sharing is expected to shift (kmeans, or with
    /// --freeze-batch-norm)
    #[arg(long)]
    no_correction: bool,
    /// Order in which clusters are fixed: loss, taylor, magnitude or reversed [default: magnitude, which measures best]
    #[arg(long, value_parser = named::<PartitionRule>)]
    partition: Option<PartitionRule>,
    /// Compare clusters within each layer or across the network (loss and taylor): layer or network
    #[arg(long, value_name = "SCOPE", value_parser = named::<PartitionScope>)]
    partition_scope: Option<PartitionScope>,
    /// Where the first centroids come from: published, kmeans-plus-plus or exact [default: published]
    #[arg(long, value_parser = named::<Initialisation>)]
    init: Option<Initialisation>,
    /// MLQ: layers that advance together [default: 1]
    #[arg(long, value_name = "N")]
    layers_per_step: Option<usize>,
    /// MLQ: what ranks layers: loss, lipschitz or size (smallest first) [default: loss]
    #[arg(long, value_name = "RULE", value_parser = named::<LayerOrder>)]
    rank_by: Option<LayerOrder>,
    /// MLQ: the last in rank goes first
    #[arg(long)]
    rank_reversed: bool,
    /// MLQ: finish a layer before the next begins, or a level of all layers: layer or level [default: layer]
    #[arg(long, value_name = "WHAT", value_parser = named::<Advance>)]
    advance: Option<Advance>,
    /// INQ: cumulative portions of the weights that are fixed: 0.5,0.75,0.875,1
    #[arg(long, value_name = "X,..", value_delimiter = ',')]
    portions: Option<Vec<f64>>,
    /// Deep Compression: share of the weights that becomes zero [default: 0.9]
    #[arg(long, value_name = "X")]
    sparsity: Option<f64>,
    /// Deep Compression: rounds that lead there [default: 8]
    #[arg(long, value_name = "N")]
    prune_steps: Option<usize>,
    /// Deep Compression: what is pruned first: lamp, magnitude or layer [default: lamp]
    #[arg(long, value_name = "RULE", value_parser = named::<PruneRule>)]
    prune_by: Option<PruneRule>,
    /// A last round of so many passes that trains the shared values themselves
    #[arg(long, value_name = "N", conflicts_with = "tune_iterations")]
    tune_epochs: Option<f64>,
    /// A last round of so many steps that trains the shared values themselves
    #[arg(long, value_name = "N")]
    tune_iterations: Option<u64>,
    /// Learning rate of that round [default: as in re-training]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    tune_lr: Option<f64>,
    /// Lloyd iterations at the start of a round [default: 10]
    #[arg(long, value_name = "N")]
    lloyd_iterations: Option<usize>,
    /// Do not fix a free weight because a fixed centroid is the nearest
    #[arg(long)]
    no_join: bool,
    /// Cumulative numbers of fixed clusters: 5,9,13,15,17
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    schedule: Option<Vec<usize>>,
    /// Weights that share a codebook: tensor, channel or group:N [default: tensor]
    #[arg(long)]
    granularity: Option<Granularity>,
    /// Bits of single layers: GLOB=BITS or GLOB=skip; may be given several times, the last match counts
    #[arg(long, value_name = "GLOB=BITS")]
    layers: Vec<LayerRule>,
    /// Training images set aside to measure partitions on [default: 1000]
    #[arg(long, value_name = "N")]
    calibration: Option<usize>,
    /// Passes over the training images in each round [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "iterations_per_round")]
    epochs_per_round: Option<f64>,
    /// Steps of one batch each in each round
    #[arg(long, value_name = "N")]
    iterations_per_round: Option<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    /// The most accurate network that fits: bytes as 50000, 50KB or 1.5MB, or 20x smaller; chooses the widths
    #[arg(long, value_name = "SIZE", conflicts_with = "max_drop")]
    target_size: Option<Budget>,
    /// The smallest network that loses at most so many points of top-1 accuracy; chooses the widths
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true)]
    max_drop: Option<f64>,
    /// Table of `slq sensitivity` to choose widths by, in place of a new one
    #[arg(long, value_name = "JSON")]
    sensitivity: Option<PathBuf>,
    /// Caffe's solver.prototxt: net, data and settings come from Caffe's files, flags go before them; max_iter counts
    /// for each round
    #[arg(long, value_name = "FILE")]
    solver: Option<PathBuf>,
    /// Network whose outputs --distill trains towards [default: the one that is compressed, as it came]
    #[arg(long, value_name = "MODEL")]
    #[serde(default)]
    teacher: Option<String>,
    /// Settings, model and data from a file such as recipe.toml in a run directory; flags win over it
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Where checkpoints go [default: slq-runs/NAME]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Output; may be given several times, the ending decides: .onnx (palettized), .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required_unless_present = "resume")]
    pub(crate) output: Vec<PathBuf>,
    /// Keep float32 weights in ONNX outputs
    #[arg(long)]
    pub(crate) dense: bool,
    /// Describe the shapes of a caffemodel's blobs by four extents, as files before 2015 did
    #[arg(long)]
    #[serde(default)]
    pub(crate) legacy_blobs: bool,
    /// The seed, if one was given
    #[arg(skip)]
    seed: Option<u64>,
    /// The recipe's settings
    #[arg(skip)]
    base: Option<Settings>,
    /// The recipe's budget
    #[arg(skip)]
    base_budget: Option<Budget>,
    /// What the recipe wants done before the weights are shared
    #[arg(skip)]
    #[serde(default)]
    decompose: Option<DecomposeSettings>,
}

/// A choice by the name that the library's settings have for it; the error lists the names there are.
pub(crate) fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(name)).map_err(|e| e.to_string())
}

/// Opens the network that `--teacher` names.
pub(crate) fn teacher(model: Option<&str>, distill: Option<f32>) -> Result<Option<slq::Graph>, slq::Error> {
    if model.is_some() && distill.is_none() {
        return Err(slq::Error::Argument("--teacher: give --distill, too; labels need no teacher".into()));
    }
    model.map(|name| slq::open(name).map(|model| model.graph)).transpose()
}

impl Job {
    /// The job with its seed, and with what its recipe says in place of what was not given.
    pub(crate) fn completed(mut self, seed: Option<u64>) -> Result<Self, slq::Error> {
        self.seed = seed;
        let Some(path) = self.recipe.take() else { return Ok(self) };
        let recipe = Recipe::read(&path)?;
        // Another model comes with its own weights or graph.
        if self.model.is_none() {
            self.model = recipe.model;
            self.weights = self.weights.or(recipe.weights);
            self.graph = self.graph.or(recipe.graph);
        }
        if self.model.is_none() {
            return Err(slq::Error::Argument(format!("'{}' names no model: give one", path.display())));
        }
        self.data = self.data.over(recipe.data);
        self.teacher = self.teacher.or(recipe.teacher);
        self.base = Some(recipe.settings);
        self.base_budget = recipe.budget;
        self.decompose = recipe.decompose;
        Ok(self)
    }

    /// The job as a recipe, with every setting written out.
    pub(crate) fn recipe(&self, settings: &Settings) -> Recipe {
        Recipe {
            slq: env!("CARGO_PKG_VERSION").into(),
            model: self.model.clone(),
            weights: self.weights.clone(),
            graph: self.graph.clone(),
            data: self.data.clone(),
            teacher: self.teacher.clone(),
            budget: self.budget().ok().flatten(),
            decompose: self.decompose.clone(),
            settings: settings.clone(),
        }
    }

    /// What the flags ask for, or a clear word on what this version lacks.
    pub(crate) fn settings(&self) -> Result<Settings, slq::Error> {
        let base = self.base.clone().unwrap_or_default();
        self.refuse_foreign_flags(self.method.unwrap_or(base.method))?;
        let duration = match (self.epochs_per_round, self.iterations_per_round) {
            (Some(epochs), _) => Duration::Epochs(epochs),
            (None, Some(iterations)) => Duration::Iterations(iterations),
            (None, None) => base.training.duration,
        };
        let mut training = self.training.settings(base.training);
        training.duration = duration;
        let tuning = match (self.tune_epochs, self.tune_iterations, &base.tuning) {
            (Some(epochs), ..) => Some(Duration::Epochs(epochs)),
            (None, Some(iterations), _) => Some(Duration::Iterations(iterations)),
            (None, None, base) => base.as_ref().map(|t| t.duration),
        };
        let tune_lr = self.tune_lr.or(base.tuning.as_ref().and_then(|t| t.learning_rate));
        let tuning = tuning.map(|duration| TuningSettings { duration, learning_rate: tune_lr });
        if tuning.is_none() && tune_lr.is_some() {
            let missing = "--tune-lr: say how long with --tune-epochs or --tune-iterations";
            return Err(slq::Error::Argument(missing.into()));
        }
        let same_size = self.bits.is_none() && self.codebook_size.is_none() && self.method.is_none();
        let settings = Settings {
            method: self.method.unwrap_or(base.method),
            bits: self.bits.unwrap_or(base.bits),
            // Bits given stand for the size they imply, and another size for another schedule.
            codebook_size: self.codebook_size.or(base.codebook_size.filter(|_| self.bits.is_none())),
            codebook: self.codebook.unwrap_or(base.codebook),
            weighting: self.cluster_weights.unwrap_or(base.weighting),
            correction: base.correction && !self.no_correction,
            partition: self.partition.unwrap_or(base.partition),
            partition_scope: self.partition_scope.unwrap_or(base.partition_scope),
            initialisation: self.init.unwrap_or(base.initialisation),
            mlq: MlqSettings {
                layers_per_step: self.layers_per_step.unwrap_or(base.mlq.layers_per_step),
                rank_by: self.rank_by.unwrap_or(base.mlq.rank_by),
                rank_reversed: self.rank_reversed || base.mlq.rank_reversed,
                advance: self.advance.unwrap_or(base.mlq.advance),
            },
            portions: self.portions.clone().or(base.portions),
            pruning: PruningSettings {
                sparsity: self.sparsity.unwrap_or(base.pruning.sparsity),
                steps: self.prune_steps.unwrap_or(base.pruning.steps),
                by: self.prune_by.unwrap_or(base.pruning.by),
            },
            tuning,
            lloyd_iterations: self.lloyd_iterations.unwrap_or(base.lloyd_iterations),
            join: base.join && !self.no_join,
            schedule: self.schedule.clone().or(base.schedule.filter(|_| same_size)),
            granularity: self.granularity.unwrap_or(base.granularity),
            layers: [base.layers, self.layers.clone()].concat(),
            calibration: self.calibration.unwrap_or(base.calibration),
            training,
            seed: self.seed.unwrap_or(base.seed),
        };
        settings.check()?;
        if self.no_correction && !(Settings { correction: true, ..settings.clone() }).corrects() {
            let text = "--no-correction: only --method kmeans and --freeze-batch-norm make corrections";
            return Err(slq::Error::Argument(text.into()));
        }
        Ok(settings)
    }

    /// The budget, if there is one.
    pub(crate) fn budget(&self) -> Result<Option<Budget>, slq::Error> {
        let given = self.target_size.or(self.max_drop.map(Budget::Drop));
        let wide = [(self.bits.is_some(), "--bits"), (self.codebook_size.is_some(), "--codebook-size")];
        if let (Some((_, flag)), true) = (wide.iter().find(|(w, _)| *w), given.is_some()) {
            let text = format!(
                "{flag} and a budget exclude each other, since the budget chooses the widths; use --layers GLOB=BITS to set those of single layers"
            );
            return Err(slq::Error::Argument(text));
        }
        // Bits given beside a recipe with a budget ask for those bits.
        let base = self.base_budget.filter(|_| wide.iter().all(|(w, _)| !w));
        let budget = given.or(base);
        if budget.is_none() && self.sensitivity.is_some() {
            let text = "--sensitivity serves --target-size and --max-drop; give one of them";
            return Err(slq::Error::Argument(text.into()));
        }
        Ok(budget)
    }

    /// The low rank that the recipe asks for first, with the run's seed.
    pub(crate) fn decompose(&self, settings: &Settings) -> Result<Option<DecomposeSettings>, slq::Error> {
        let Some(decompose) = &self.decompose else { return Ok(None) };
        if self.solver.is_some() {
            let text = "[decompose] in a recipe does not go with --solver, whose net keeps its layers";
            return Err(slq::Error::Argument(text.into()));
        }
        decompose.check()?;
        Ok(Some(DecomposeSettings { seed: settings.seed, ..decompose.clone() }))
    }

    /// The table of sensitivities, if one was named.
    pub(crate) fn table(&self) -> Result<Option<Sensitivity>, slq::Error> {
        let Some(path) = &self.sensitivity else { return Ok(None) };
        let fail = |e: &dyn std::fmt::Display| slq::Error::File { path: path.clone(), reason: e.to_string() };
        let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
        serde_json::from_str(&text).map(Some).map_err(|e| fail(&e))
    }

    /// Flags of one method beside another are a mistake, not something to pass over.
    fn refuse_foreign_flags(&self, method: MethodName) -> Result<(), slq::Error> {
        use MethodName::{DeepCompression, Inq, Mlq, Slq};
        let owned: [(bool, &str, &[MethodName]); 12] = [
            (self.codebook.is_some_and(|c| c != CodebookKind::Free), "--codebook", &[Slq, Mlq]),
            (self.partition.is_some(), "--partition", &[Slq]),
            (self.partition_scope.is_some(), "--partition-scope", &[Slq]),
            (self.schedule.is_some(), "--schedule", &[Slq, Mlq]),
            (self.layers_per_step.is_some(), "--layers-per-step", &[Mlq]),
            (self.rank_by.is_some(), "--rank-by", &[Mlq]),
            (self.rank_reversed, "--rank-reversed", &[Mlq]),
            (self.advance.is_some(), "--advance", &[Mlq]),
            (self.portions.is_some(), "--portions", &[Inq]),
            (self.sparsity.is_some(), "--sparsity", &[DeepCompression]),
            (self.prune_steps.is_some(), "--prune-steps", &[DeepCompression]),
            (self.prune_by.is_some(), "--prune-by", &[DeepCompression]),
        ];
        let text = |m: MethodName| serde_json::to_value(m).map(|v| v.as_str().unwrap_or("").to_owned());
        for (given, flag, methods) in owned {
            if given && !methods.contains(&method) {
                let names: Vec<String> = methods.iter().filter_map(|&m| text(m).ok()).collect();
                let (names, method) = (names.join(" and "), text(method).unwrap_or_default());
                return Err(slq::Error::Argument(format!(
                    "{flag} belongs to {names} and means nothing to {method}"
                )));
            }
        }
        Ok(())
    }

    /// Reads the solver file, if one is named: what it says of the training stands below the flags.
    pub(crate) fn open_solver(&mut self) -> Result<Option<SolverJob>, slq::Error> {
        let Some(solver) = &self.solver else { return Ok(None) };
        let (model, weights) = (self.model.as_deref(), self.weights.as_deref());
        let files = open_solver(solver, model, weights, &self.data, self.seed.unwrap_or(0))?;
        let base = self.base.take().unwrap_or_default();
        self.base = Some(Settings { training: files.training.clone(), seed: files.seed, ..base });
        Ok(Some(files))
    }

    pub(crate) fn named_model(&self) -> ModelArgs {
        let model = self.model.clone().unwrap_or_default();
        ModelArgs { model, weights: self.weights.clone(), graph: self.graph.clone() }
    }

    /// The network that teaches, where another one than the student is named.
    pub(crate) fn open_teacher(&self, settings: &Settings) -> Result<Option<slq::Graph>, slq::Error> {
        teacher(self.teacher.as_deref(), settings.training.distill)
    }

    /// Where checkpoints go, for methods that make any.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| self.default_run_dir())
    }

    fn default_run_dir(&self) -> PathBuf {
        let solver = self.solver.as_ref().map(|s| s.to_string_lossy());
        let model = self.model.as_deref().or(solver.as_deref()).unwrap_or_default();
        let name = Path::new(model).file_stem().map(|s| s.to_string_lossy().replace(':', "-"));
        free_path(Path::new("slq-runs").join(name.unwrap_or_default()))
    }
}
