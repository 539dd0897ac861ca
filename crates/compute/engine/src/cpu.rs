//! The executor on the CPU.

mod losses;
mod room;

use slq_graph::{Graph, Weight};
use slq_kernels::Buffer;

use crate::error::EngineError;
use crate::executor::Executor;
use crate::inputs::{InputInfo, inputs};
use crate::loss;
use crate::memory;
use crate::options::{BatchNormMode, EngineOptions, Statistics, StepSettings, Target};
use crate::packed::{PackedWeight, keep_given_inputs};
use crate::pass;
use crate::plan::{Losses, Plan};
use crate::program::Mode;
use crate::share::Share;
use crate::update::{self, Mask, Update};

/// Runs and trains a network on the CPU, on the current rayon pool.
///
/// All memory is planned: the first batch of each kind (evaluation, training, gradients) allocates, later ones do
/// not. Results are the same bits on any number of threads.
pub struct CpuExecutor {
    /// The network without its palettes; holds the parameters' values.
    graph: Graph,
    packed: Vec<PackedWeight>,
    options: EngineOptions,
    batch: usize,
    inputs: Vec<InputInfo>,
    /// The network that is followed.
    followed: Option<Box<CpuExecutor>>,
    /// Whether evaluation computes the values at all heads.
    keeps_heads: bool,
    plans: Vec<(Mode, usize, Plan)>,
    buffers: Vec<Buffer>,
    gradients: Vec<Buffer>,
    /// Whether `gradients` holds the result of the last backward pass.
    known: Vec<bool>,
    momentum: Vec<Vec<f32>>,
    /// Gradients of the step's earlier batches; empty where there are none.
    pending: Vec<Vec<f32>>,
    masks: Vec<Mask>,
    /// Counts changes of parameters, so that plans know when to fold batch-norms again.
    version: u64,
    iteration: u64,
    copy: u64,
    peak: usize,
}

impl CpuExecutor {
    /// Plans `graph` for batches of up to `batch` images.
    ///
    /// # Errors
    /// [`EngineError::Graph`] for a node that cannot be run, with its name;
    /// [`EngineError::InputCount`], [`EngineError::OpenShape`], [`EngineError::ElementType`] for its inputs;
    /// [`EngineError::EmptyBatch`], [`EngineError::Memory`] for the batch.
    pub fn new(graph: &Graph, batch: usize, options: &EngineOptions) -> Result<Self, EngineError> {
        Self::with_packed(skeleton(graph), Vec::new(), batch, options)
    }

    /// Plans `graph` for evaluating batches of up to `batch` images; its weights are the floats, and `packed` are those
    /// that stay packed. Training and gradients are refused where there are any.
    ///
    /// # Errors
    /// As [`CpuExecutor::new`].
    pub fn with_packed(
        graph: Graph,
        packed: Vec<PackedWeight>,
        batch: usize,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let mut executor = Self::planned(graph, packed, batch, (options, options.follow.is_some()))?;
        if let Some(other) = &options.follow {
            executor.follow(&other.network)?;
        }
        Ok(executor)
    }

    fn unplanned(
        mut graph: Graph,
        packed: Vec<PackedWeight>,
        batch: usize,
        (options, keeps_heads): (&EngineOptions, bool),
    ) -> Result<Self, EngineError> {
        if batch == 0 {
            return Err(EngineError::EmptyBatch);
        }
        keep_given_inputs(&mut graph, &packed);
        let inputs = inputs(&mut graph)?;
        graph.inputs.extend(packed.iter().map(PackedWeight::as_input));
        let count = graph.weights.len();
        let executor = Self {
            graph,
            packed,
            options: options.clone(),
            batch,
            inputs,
            followed: None,
            keeps_heads,
            plans: Vec::new(),
            buffers: Vec::new(),
            gradients: vec![Buffer::default(); count],
            known: vec![false; count],
            momentum: vec![Vec::new(); count],
            pending: vec![Vec::new(); count],
            masks: (0..count).map(|_| Mask::Free).collect(),
            version: 0,
            iteration: 0,
            copy: 0,
            peak: 0,
        };
        Ok(executor)
    }

    /// The largest batch that was planned for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Shape of one image: the first input's shape without the batch axis.
    pub fn image_shape(&self) -> &[usize] {
        self.inputs.first().map_or(&[], |i| &i.shape)
    }

    /// The inputs. An example of a batch holds all of them, one after the other, see [`examples`](crate::examples).
    pub fn inputs(&self) -> &[InputInfo] {
        &self.inputs
    }

    fn index(&self, name: &str) -> Result<usize, EngineError> {
        let index = self.graph.weights.get_full(name).filter(|(_, _, w)| w.tensor.as_f32().is_some());
        index.map(|(i, _, _)| i).ok_or_else(|| EngineError::UnknownParameter { name: name.into() })
    }

    fn values_mut(&mut self, index: usize) -> &mut [f32] {
        let weight = self.graph.weights.get_index_mut(index);
        weight.and_then(|(_, w)| w.tensor.as_f32_mut()).unwrap_or_default()
    }

    fn frozen(&self) -> Vec<bool> {
        let rates = self.graph.weights.values().map(|w| w.rates.lr_mult == 0.0);
        rates.zip(&self.masks).map(|(still, mask)| still || matches!(mask, Mask::Fixed)).collect()
    }

    /// Position of the plan for `images` images; makes the plan and its buffers if there are none.
    fn ready(&mut self, mode: Mode, images: usize) -> Result<usize, EngineError> {
        let found = self.plans.iter().position(|(m, n, _)| *m == mode && *n == images);
        let at = match found {
            Some(at) => at,
            None => {
                // Beside the planned batch, one short batch is remembered for each mode.
                self.plans.retain(|(m, n, _)| *m != mode || *n == self.batch || images == self.batch);
                let shapes = self.inputs.iter().map(|i| [&[images], i.shape.as_slice()].concat());
                let shapes: Vec<Vec<usize>> = shapes.collect();
                let losses = Losses { heads: &self.options.heads, follows: self.keeps_heads };
                let network = (&self.graph, self.packed.as_slice());
                let plan = Plan::new(network, &shapes, mode, self.options.isa, &self.frozen(), losses)?;
                pass::grow(&mut self.buffers, &plan.slots, images)?;
                if mode != Mode::Evaluate {
                    self.allocate_gradients(&plan.trained)?;
                }
                self.plans.push((mode, images, plan));
                self.peak = self.peak.max(self.bytes());
                self.plans.len() - 1
            }
        };
        let plan = &mut self.plans[at].2;
        if plan.version != Some(self.version) {
            plan.steps.iter_mut().for_each(|s| s.layer.refresh(&self.graph));
            plan.version = Some(self.version);
        }
        Ok(at)
    }

    fn allocate_gradients(&mut self, trained: &[bool]) -> Result<(), EngineError> {
        for (i, weight) in self.graph.weights.values().enumerate() {
            if trained[i] && self.gradients[i].len() != weight.tensor.len() {
                memory::grow(&mut self.gradients[i], weight.tensor.len(), self.batch)?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let floats = |all: &[Vec<f32>]| all.iter().map(|v| 4 * v.capacity()).sum::<usize>();
        let weights: usize =
            self.graph.weights.values().map(|w| w.tensor.len() * w.tensor.dtype().size()).sum();
        let masks: usize = self.masks.iter().map(Mask::bytes).sum();
        let plans: usize = self.plans.iter().map(|(_, _, p)| p.scratch_bytes()).sum();
        let buffers = self.gradients.iter().chain(&self.buffers).map(Buffer::bytes).sum::<usize>();
        let steps = buffers + floats(&self.momentum) + floats(&self.pending);
        let packed: usize = self.packed.iter().map(|w| w.matrix.bytes()).sum();
        weights + packed + masks + plans + steps
    }

    /// Number of labels (0, 1, ...) that the loss at the first output accepts.
    ///
    /// # Errors
    /// [`EngineError::Logits`] where its shape is not N x classes.
    pub fn labels(&mut self) -> Result<usize, EngineError> {
        let at = self.ready(Mode::Evaluate, self.batch)?;
        let logits = self.plans[at].2.logits.clone()?;
        Ok(logits.loss.labels(logits.classes))
    }

    /// Number of images in `images`.
    fn count(&self, images: &[f32]) -> Result<usize, EngineError> {
        let per_image: usize = self.inputs.iter().map(InputInfo::values).sum();
        let count = images.len().checked_div(per_image).unwrap_or(0);
        if count == 0 || count > self.batch || count * per_image != images.len() {
            let input = self.graph.inputs.first().map(|i| i.name.clone()).unwrap_or_default();
            return Err(EngineError::Batch { input, values: images.len(), per_image, batch: self.batch });
        }
        Ok(count)
    }

    /// Forward pass; returns the plan's position and the number of images.
    fn forward(&mut self, mode: Mode, images: &[f32]) -> Result<(usize, usize), EngineError> {
        self.forward_share(mode, images, Share::whole())
    }

    /// Forward pass beside those of the other executors of a step.
    fn forward_share(
        &mut self,
        mode: Mode,
        images: &[f32],
        share: Share<'_>,
    ) -> Result<(usize, usize), EngineError> {
        let count = self.count(images)?;
        let at = self.ready(mode, count)?;
        let plan = &mut self.plans[at].2;
        let lens: Vec<usize> = self.inputs.iter().map(InputInfo::values).collect();
        pass::set_inputs(&mut self.buffers, plan, &lens, images);
        let random = (self.options.seed ^ self.copy.rotate_right(16), self.iteration);
        pass::forward(plan, &mut self.buffers, &self.graph, self.options.isa, random, share)?;
        Ok((at, count))
    }

    /// After a batch that was trained on: updates running statistics, counters and peak memory.
    fn end_batch(&mut self, at: usize) {
        let plan = &mut self.plans[at].2;
        plan.steps.iter_mut().for_each(|s| s.layer.commit(&s.inputs, &mut self.graph));
        self.iteration += 1;
        self.version += 1;
        self.peak = self.peak.max(self.bytes());
    }

    /// Checks that `graph` has every parameter in the right shape.
    fn matching(&self, graph: &Graph) -> Result<(), EngineError> {
        for (name, mine) in self.graph.weights.iter().filter(|(_, w)| w.tensor.as_f32().is_some()) {
            let theirs = graph.weights.get(name).filter(|w| w.tensor.as_f32().is_some());
            let theirs = theirs.ok_or_else(|| EngineError::UnknownParameter { name: name.clone() })?;
            if theirs.tensor.shape() != mine.tensor.shape() {
                return Err(EngineError::ParameterShape {
                    name: name.clone(),
                    expected: mine.tensor.shape().to_vec(),
                    found: format!("values of shape {:?}", theirs.tensor.shape()),
                });
            }
        }
        Ok(())
    }

    fn check_len(&self, name: &str, found: usize, what: &str) -> Result<usize, EngineError> {
        let index = self.index(name)?;
        let tensor = &self.graph.weights[index].tensor;
        if tensor.len() == found {
            return Ok(index);
        }
        let (name, expected) = (name.into(), tensor.shape().to_vec());
        Err(EngineError::ParameterShape { name, expected, found: format!("{found} {what}") })
    }
}

/// The graph without palettes and without inputs that are weights.
pub(crate) fn skeleton(graph: &Graph) -> Graph {
    let bare = |w: &Weight| Weight { tensor: w.tensor.clone(), palette: None, rates: w.rates };
    Graph {
        name: graph.name.clone(),
        inputs: graph.free_inputs().cloned().collect(),
        outputs: graph.outputs.clone(),
        nodes: graph.nodes.clone(),
        weights: graph.weights.iter().map(|(name, w)| (name.clone(), bare(w))).collect(),
        metadata: graph.metadata.clone(),
    }
}

impl Executor for CpuExecutor {
    fn load_parameters(&mut self, graph: &Graph) -> Result<(), EngineError> {
        self.matching(graph)?;
        for (name, mine) in &mut self.graph.weights {
            let theirs = graph.weights.get(name).and_then(|w| w.tensor.as_f32());
            if let (Some(mine), Some(theirs)) = (mine.tensor.as_f32_mut(), theirs) {
                mine.copy_from_slice(theirs);
            }
        }
        self.version += 1;
        Ok(())
    }

    fn store_parameters(&self, graph: &mut Graph) -> Result<(), EngineError> {
        self.matching(graph)?;
        for (name, mine) in &self.graph.weights {
            let theirs = graph.weights.get_mut(name).and_then(|w| w.tensor.as_f32_mut());
            if let (Some(mine), Some(theirs)) = (mine.tensor.as_f32(), theirs) {
                theirs.copy_from_slice(mine);
            }
        }
        Ok(())
    }

    fn set_parameter(&mut self, name: &str, values: &[f32]) -> Result<(), EngineError> {
        let index = self.check_len(name, values.len(), "values")?;
        self.values_mut(index).copy_from_slice(values);
        self.version += 1;
        Ok(())
    }

    fn parameter(&self, name: &str) -> Result<&[f32], EngineError> {
        let index = self.index(name)?;
        Ok(self.graph.weights[index].tensor.as_f32().unwrap_or_default())
    }

    fn set_mask(&mut self, name: &str, fixed: Option<&[bool]>) -> Result<(), EngineError> {
        let index = match fixed {
            Some(fixed) => self.check_len(name, fixed.len(), "flags")?,
            None => self.index(name)?,
        };
        let mask = Mask::new(fixed);
        let whole = |m: &Mask| matches!(m, Mask::Fixed);
        if whole(&mask) != whole(&self.masks[index]) {
            self.plans.retain(|(mode, _, _)| !matches!(mode, Mode::Train(_)));
        }
        self.masks[index] = mask;
        Ok(())
    }

    fn evaluate(&mut self, images: &[f32], target: Option<Target<'_>>) -> Result<Statistics, EngineError> {
        let count = self.count(images)?;
        let at = self.ready(Mode::Evaluate, count)?;
        let Some(target) = target else {
            self.forward(Mode::Evaluate, images)?;
            return Ok(Statistics { images: count, ..Statistics::default() });
        };
        if target == Target::Network {
            return self.compare(images);
        }
        let logits = self.plans[at].2.logits.clone()?;
        loss::check_target(&target, count, &logits)?;
        self.forward(Mode::Evaluate, images)?;
        Ok(loss::value(&self.buffers, &logits, &target, self.options.isa))
    }

    fn follows(&self) -> bool {
        self.followed.is_some()
    }

    fn outputs(&mut self, images: &[f32]) -> Result<Vec<Vec<f32>>, EngineError> {
        let (at, _) = self.forward(Mode::Evaluate, images)?;
        let outputs = self.plans[at].2.outputs.iter();
        Ok(outputs.map(|(place, _)| pass::read(&self.buffers, &self.graph, *place).to_vec()).collect())
    }

    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, EngineError> {
        let (at, _) = self.forward(Mode::Evaluate, images)?;
        let logits = self.plans[at].2.logits.clone()?;
        Ok(pass::read(&self.buffers, &self.graph, logits.place).to_vec())
    }

    fn train_share(
        &mut self,
        images: &[f32],
        target: Target<'_>,
        settings: &StepSettings,
        share: Share<'_>,
    ) -> Result<Statistics, EngineError> {
        update::check(settings)?;
        let mode = Mode::Train(self.options.batch_norm);
        let (at, statistics) = self.differentiate(mode, images, target, (share, share))?;
        for (gradient, earlier) in self.gradients.iter_mut().zip(&mut self.pending) {
            gradient.iter_mut().zip(earlier.iter()).for_each(|(g, e)| *g += e);
            earlier.clear();
        }
        let scale = update::clip(&self.gradients, &self.known, settings, self.options.isa);
        let scale = scale.map_err(|value| EngineError::Diverged {
            what: "gradient norm",
            value,
            iteration: self.iteration,
        })?;
        let scale = scale / settings.iter_size as f32;
        let update = Update { settings, scale, isa: self.options.isa };
        let histories = update::histories(settings.rule);
        for i in 0..self.known.len() {
            if !self.known[i] {
                continue;
            }
            let Some((_, weight)) = self.graph.weights.get_index_mut(i) else { continue };
            let rates = weight.rates;
            let Some(values) = weight.tensor.as_f32_mut() else { continue };
            let momentum = &mut self.momentum[i];
            momentum.resize(values.len() * histories, 0.0);
            let (gradient, mask) = (&self.gradients[i], &self.masks[i]);
            update.apply(values, momentum, gradient, mask, rates);
        }
        self.end_batch(at);
        // Synchronised ones are the same everywhere.
        if self.options.batch_norm == BatchNormMode::Train {
            share.average(&mut self.graph)?;
        }
        Ok(statistics)
    }

    fn accumulate_share(
        &mut self,
        images: &[f32],
        target: Target<'_>,
        share: Share<'_>,
    ) -> Result<Statistics, EngineError> {
        let mode = Mode::Train(self.options.batch_norm);
        let (at, statistics) = self.differentiate(mode, images, target, (share, Share::whole()))?;
        for (i, sum) in self.pending.iter_mut().enumerate().filter(|(i, _)| self.known[*i]) {
            let gradient = &self.gradients[i];
            sum.resize(gradient.len(), 0.0);
            sum.iter_mut().zip(gradient.iter()).for_each(|(s, g)| *s += g);
        }
        self.end_batch(at);
        Ok(statistics)
    }

    fn gradients(&mut self, images: &[f32], target: Target<'_>) -> Result<Statistics, EngineError> {
        let whole = (Share::whole(), Share::whole());
        self.differentiate(Mode::Gradients, images, target, whole).map(|(_, statistics)| statistics)
    }

    fn gradient(&self, name: &str) -> Result<&[f32], EngineError> {
        let index = self.index(name)?;
        if self.known[index] {
            Ok(&self.gradients[index])
        } else {
            Err(EngineError::NoGradient { name: name.into() })
        }
    }

    fn momentum(&self) -> Vec<(String, Vec<f32>)> {
        let named = self.graph.weights.keys().zip(&self.momentum);
        named.filter(|(_, m)| !m.is_empty()).map(|(name, m)| (name.clone(), m.clone())).collect()
    }

    fn set_momentum(&mut self, momentum: &[(String, Vec<f32>)]) -> Result<(), EngineError> {
        // Some rules keep two values for each weight.
        let check = |(name, values): &(String, Vec<f32>)| {
            let len = self.parameter(name)?.len();
            let one = if values.len() == 2 * len { len } else { values.len() };
            self.check_len(name, one, "values")
        };
        let indices = momentum.iter().map(check).collect::<Result<Vec<usize>, EngineError>>()?;
        self.reset_momentum();
        for (index, (_, values)) in indices.into_iter().zip(momentum) {
            self.momentum[index].clone_from(values);
        }
        Ok(())
    }

    fn reset_momentum(&mut self) {
        self.momentum.iter_mut().chain(&mut self.pending).for_each(Vec::clear);
    }

    fn iteration(&self) -> u64 {
        self.iteration
    }

    fn set_iteration(&mut self, iteration: u64) {
        self.iteration = iteration;
    }

    fn set_copy(&mut self, copy: u64) {
        self.copy = copy;
    }

    fn peak_bytes(&self) -> usize {
        self.peak
    }

    fn classes(&mut self) -> Result<usize, EngineError> {
        let at = self.ready(Mode::Evaluate, self.batch)?;
        self.plans[at].2.logits.clone().map(|l| l.classes)
    }
}
