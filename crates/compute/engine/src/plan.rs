//! The static plan: the order of steps, the buffer of every tensor, what the backward pass computes.

use std::collections::{HashMap, HashSet};

use slq_graph::{Graph, Role};
use slq_kernels::{Isa, Store};

use crate::error::EngineError;
use crate::lower::lower;
use crate::memory::{self, Lifetime, Object};
use crate::ops::{self, GradientPlace, Layer, Place};
use crate::options::{Head, Loss};
use crate::packed::PackedWeight;
use crate::program::{Ends, Mode, Operand, Program, Source, Step};

/// The backward half of a step.
pub(crate) struct BackwardStep {
    pub output_gradient: Place,
    pub gradients: Vec<Option<GradientPlace>>,
    /// The gradient of input 0 is written over the output's gradient.
    pub in_place: bool,
}

/// One step with the buffers of its tensors.
pub(crate) struct PlannedStep {
    pub layer: Box<dyn Layer>,
    pub inputs: Vec<Place>,
    pub output: Place,
    pub in_place: bool,
    pub backward: Option<BackwardStep>,
}

/// The scores that a loss is computed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logits {
    pub place: Place,
    pub gradient: Place,
    pub classes: usize,
    pub loss: Loss,
}

/// A graph, planned for one batch size and one purpose.
pub(crate) struct Plan {
    pub steps: Vec<PlannedStep>,
    /// Values that each slot holds.
    pub slots: Vec<usize>,
    pub inputs: Vec<Place>,
    pub outputs: Vec<(Place, Vec<usize>)>,
    pub logits: Result<Logits, EngineError>,
    /// Weight of the first output's loss.
    pub weight: f32,
    /// Further scores with a loss, each with its weight.
    pub heads: Vec<(Logits, f32)>,
    /// Which parameters get a gradient.
    pub trained: Vec<bool>,
    /// Version of the parameters at the last [`Layer::refresh`].
    pub version: Option<u64>,
}

impl Plan {
    /// Plans `graph` for the given input shapes; `packed` weights are the last of its inputs. `frozen[i]` says that parameter i needs no gradient; `losses` are
    /// those at the outputs.
    ///
    /// # Errors
    /// Errors of shape inference; [`EngineError::Unsupported`], [`EngineError::ElementType`],
    /// [`EngineError::Memory`], [`EngineError::Head`].
    pub fn new(
        (graph, packed): (&Graph, &[PackedWeight]),
        input_shapes: &[Vec<usize>],
        mode: Mode,
        isa: Isa,
        frozen: &[bool],
        losses: Losses<'_>,
    ) -> Result<Plan, EngineError> {
        let (first, further) = losses_of(graph, losses)?;
        let heads = further.iter().map(|(at, head)| (*at, head.loss)).collect();
        let ends = Ends { first: first.loss, heads, follows: losses.follows };
        let program = lower(graph, packed, input_shapes, mode, &ends)?;
        let batch = input_shapes.first().and_then(|s| s.first()).copied().unwrap_or(1);
        let wants = wants(&program, graph, mode, frozen);
        let bytes = program.lens.iter().fold(0usize, |n, &len| n.saturating_add(len.saturating_mul(4)));
        memory::check_total(batch, bytes / program.lens.len().max(1))?;
        let mut layers = Vec::with_capacity(program.steps.len());
        for (step, wants) in program.steps.iter().zip(&wants) {
            // A layer may keep as much as its output beside it.
            memory::check_free(batch, program.lens[step.output].saturating_mul(8))?;
            layers.push(ops::build(step, mode, isa, wants, graph, packed)?);
        }
        let mut plan =
            Layout::new(&program, &layers, &wants, (mode, losses.follows))?.finish(graph, layers, batch)?;
        plan.weight = first.weight;
        if let Ok(logits) = &mut plan.logits {
            logits.loss = first.loss;
            check_scores(logits, &first)?;
        }
        for ((logits, weight), (_, head)) in plan.heads.iter_mut().zip(&further) {
            (logits.loss, *weight) = (head.loss, head.weight);
            check_scores(logits, head)?;
        }
        Ok(plan)
    }

    /// Bytes that the layers themselves keep.
    pub fn scratch_bytes(&self) -> usize {
        self.steps.iter().map(|s| s.layer.scratch_bytes()).sum()
    }
}

/// A loss of one score needs outputs of one score.
fn check_scores(logits: &Logits, head: &Head) -> Result<(), EngineError> {
    if head.loss.takes_one_score() && logits.classes != 1 {
        let problem = "this loss compares one score for each image with the label, and there are several";
        return Err(EngineError::Head { output: head.output.clone(), problem });
    }
    Ok(())
}

/// The losses at a network's outputs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Losses<'a> {
    /// The outputs with a loss; none stands for the first one.
    pub heads: &'a [Head],
    /// Whether another network is followed at all of them: the first output is one of them, or has none.
    pub follows: bool,
}

/// The loss at the first output (of weight 0 where others are named), then the other outputs that have one, by position.
fn losses_of(graph: &Graph, losses: Losses<'_>) -> Result<(Head, Vec<(usize, Head)>), EngineError> {
    let output = graph.outputs.first().map(|o| o.name.as_str()).unwrap_or_default();
    let (mut first, mut further) =
        (Head::softmax(output, if losses.heads.is_empty() { 1.0 } else { 0.0 }), Vec::new());
    for head in losses.heads {
        let refuse = |problem| EngineError::Head { output: head.output.clone(), problem };
        let position = graph.outputs.iter().position(|o| o.name == head.output);
        match position.ok_or_else(|| refuse("the network has no such output"))? {
            0 if !losses.follows => first = head.clone(),
            position => further.push((position, head.clone())),
        }
        if !head.weight.is_finite() {
            return Err(refuse("its weight is not finite"));
        }
    }
    Ok((first, further))
}

/// For every step and input: whether its gradient is needed.
fn wants(program: &Program, graph: &Graph, mode: Mode, frozen: &[bool]) -> Vec<Vec<bool>> {
    let mut required = vec![false; program.lens.len()];
    let mut all = Vec::with_capacity(program.steps.len());
    for step in &program.steps {
        let one = |(i, operand): (usize, &Option<Operand>)| match operand {
            None | Some(Operand { source: Source::Packed(_), .. }) => false,
            Some(_) if mode == Mode::Evaluate => false,
            Some(Operand { source: Source::Value(v), .. }) => required[*v],
            Some(Operand { source: Source::Weight(w), .. }) => {
                (mode == Mode::Gradients || !frozen[*w]) && is_trainable(step, i, graph, *w)
            }
        };
        let wants: Vec<bool> = step.inputs.iter().enumerate().map(one).collect();
        required[step.output] = wants.iter().any(|&w| w);
        all.push(wants);
    }
    all
}

/// Whether training updates weight `w`, which `step` reads as input `i`.
fn is_trainable(step: &Step, i: usize, graph: &Graph, w: usize) -> bool {
    let elements = graph.weights.get_index(w).map_or(0, |(_, w)| w.tensor.len());
    // A mask of minus infinity that is added is no parameter.
    let finite = || {
        let values = graph.weights.get_index(w).and_then(|(_, w)| w.tensor.as_f32());
        values.is_some_and(|v| v.iter().all(|v| v.is_finite()))
    };
    Role::of(&graph.nodes[step.node], i, elements) == Role::Trainable && finite()
}

/// Lifetimes of values and gradients in plan time: 0 for the inputs, then one for each forward step, one for the loss,
/// and one for each backward step.
struct Layout<'a> {
    program: &'a Program,
    wants: &'a [Vec<bool>],
    objects: Vec<Object>,
    value: HashMap<usize, usize>,
    gradient: HashMap<usize, usize>,
    forward_in_place: Vec<bool>,
    backward: Vec<Option<Draft>>,
    logits_gradient: Option<usize>,
    head_gradients: Vec<usize>,
    follows: bool,
}

/// Backward step with objects instead of slots.
struct Draft {
    output_gradient: usize,
    gradients: Vec<Option<DraftTarget>>,
    in_place: bool,
}

struct DraftTarget {
    store: Store,
    detour: Option<usize>,
}

impl<'a> Layout<'a> {
    fn new(
        program: &'a Program,
        layers: &[Box<dyn Layer>],
        wants: &'a [Vec<bool>],
        (mode, follows): (Mode, bool),
    ) -> Result<Self, EngineError> {
        let count = program.steps.len();
        let mut layout = Self {
            program,
            wants,
            objects: Vec::new(),
            value: HashMap::new(),
            gradient: HashMap::new(),
            forward_in_place: vec![false; count],
            backward: (0..count).map(|_| None).collect(),
            logits_gradient: None,
            head_gradients: Vec::new(),
            follows,
        };
        let last_use = layout.last_uses(layers, mode);
        layout.place_values(layers, &last_use);
        if mode != Mode::Evaluate {
            layout.place_gradients(layers)?;
        }
        Ok(layout)
    }

    fn loss_time(&self) -> usize {
        self.program.steps.len() + 1
    }

    fn backward_time(&self, step: usize) -> usize {
        2 * self.program.steps.len() + 1 - step
    }

    /// The last time at which each value is read.
    fn last_uses(&self, layers: &[Box<dyn Layer>], mode: Mode) -> Vec<usize> {
        let mut last = vec![0; self.program.lens.len()];
        let mut note = |source: Source, time: usize| {
            if let Source::Value(v) = source {
                last[v] = last[v].max(time);
            }
        };
        for (s, step) in self.program.steps.iter().enumerate() {
            let backward = self.wants[s].iter().any(|&w| w);
            note(Source::Value(step.output), s + 1);
            for (i, operand) in step.inputs.iter().enumerate() {
                let Some(operand) = operand else { continue };
                note(operand.source, s + 1);
                if backward && layers[s].reads_input(i) {
                    note(operand.source, self.backward_time(s));
                }
            }
            if backward && layers[s].reads_output() {
                note(Source::Value(step.output), self.backward_time(s));
            }
        }
        let end = if mode == Mode::Evaluate { usize::MAX } else { self.loss_time() };
        let heads = self.program.heads.iter().map(|(_, o)| o);
        self.program
            .outputs
            .iter()
            .chain(&self.program.logits)
            .chain(heads)
            .for_each(|o| note(o.source, end));
        last
    }

    fn add(&mut self, len: usize, start: usize, end: usize) -> usize {
        self.objects.push(Object { len, life: Lifetime { start, end } });
        self.objects.len() - 1
    }

    fn place_values(&mut self, layers: &[Box<dyn Layer>], last_use: &[usize]) {
        for &v in &self.program.inputs {
            let object = self.add(self.program.lens[v], 0, last_use[v]);
            self.value.insert(v, object);
        }
        for (s, step) in self.program.steps.iter().enumerate() {
            let (len, end) = (self.program.lens[step.output], last_use[step.output]);
            let over = layers[s].in_place().and_then(|i| step.operand(i));
            let reused = match over.map(|o| o.source) {
                Some(Source::Value(v)) => {
                    let reads = step.inputs.iter().flatten().filter(|o| o.source == Source::Value(v)).count();
                    let free = last_use[v] == s + 1 && self.program.lens[v] == len && reads == 1;
                    self.value.get(&v).copied().filter(|_| free)
                }
                _ => None,
            };
            self.forward_in_place[s] = reused.is_some();
            let object = reused.unwrap_or_else(|| self.add(len, s + 1, end));
            self.objects[object].life.end = self.objects[object].life.end.max(end);
            self.value.insert(step.output, object);
        }
    }

    fn place_gradients(&mut self, layers: &[Box<dyn Layer>]) -> Result<(), EngineError> {
        let program = self.program;
        if let Some(Source::Value(logits)) = program.logits.as_ref().map(|o| o.source) {
            let object = self.add(program.lens[logits], self.loss_time(), self.loss_time());
            self.gradient.insert(logits, object);
            self.logits_gradient = Some(object);
        }
        for (position, head) in &program.heads {
            let output = format!("output {position}");
            let refuse = |problem| EngineError::Head { output, problem };
            let Source::Value(scores) = head.source else { return Err(refuse("it is a weight")) };
            if self.gradient.contains_key(&scores) {
                return Err(refuse("another loss has the same scores; add their weights"));
            }
            let object = self.add(program.lens[scores], self.loss_time(), self.loss_time());
            self.gradient.insert(scores, object);
            self.head_gradients.push(object);
        }
        let mut weights_written: HashSet<usize> = HashSet::new();
        for s in (0..program.steps.len()).rev() {
            let (step, time) = (&program.steps[s], self.backward_time(s));
            if !self.wants[s].iter().any(|&w| w) {
                continue;
            }
            let Some(&output_gradient) = self.gradient.get(&step.output) else { continue };
            self.extend(output_gradient, time);
            let mut in_place = false;
            let mut gradients = Vec::with_capacity(step.inputs.len());
            let mut touched: Vec<Source> = Vec::new();
            for (i, operand) in step.inputs.iter().enumerate() {
                let Some(operand) = operand.as_ref().filter(|_| self.wants[s][i]) else {
                    gradients.push(None);
                    continue;
                };
                let known = match operand.source {
                    Source::Value(v) => self.gradient.contains_key(&v),
                    Source::Weight(w) => !weights_written.insert(w),
                    // It has no gradient.
                    Source::Packed(_) => false,
                };
                let store = if known { Store::Accumulate } else { Store::Overwrite };
                let again = touched.contains(&operand.source);
                touched.push(operand.source);
                let detoured = again || (known && !layers[s].accumulates(i));
                let detour = detoured.then(|| self.add(operand.len(), time, time));
                if let Source::Value(v) = operand.source {
                    let same_len = program.lens[v] == program.lens[step.output];
                    if let Some(&object) = self.gradient.get(&v) {
                        self.extend(object, time);
                    } else if i == 0 && same_len && layers[s].gradient_in_place() {
                        in_place = true;
                        self.gradient.insert(v, output_gradient);
                    } else {
                        let object = self.add(program.lens[v], time, time);
                        self.gradient.insert(v, object);
                    }
                }
                gradients.push(Some(DraftTarget { store, detour }));
            }
            self.backward[s] = Some(Draft { output_gradient, gradients, in_place });
        }
        Ok(())
    }

    fn extend(&mut self, object: usize, time: usize) {
        let end = &mut self.objects[object].life.end;
        *end = (*end).max(time);
    }

    /// Gives every object its slot.
    fn finish(self, graph: &Graph, layers: Vec<Box<dyn Layer>>, batch: usize) -> Result<Plan, EngineError> {
        let slots = memory::assign(&self.objects);
        let wanted = slots.lens.iter().fold(0usize, |n, &len| n.saturating_add(len.saturating_mul(4)));
        let own: usize = layers.iter().map(|l| l.scratch_bytes()).sum();
        memory::check_total(batch, wanted.saturating_add(own))?;
        let at = |object: usize, len: usize| Place::Slot { slot: slots.slot_of[object], len };
        let place = |operand: &Operand| match operand.source {
            Source::Weight(w) => Place::Weight(w),
            // Its layer holds it.
            Source::Packed(_) => Place::Absent,
            Source::Value(v) => at(self.value[&v], self.program.lens[v]),
        };
        let mut trained = vec![false; graph.weights.len()];
        let mut steps = Vec::with_capacity(layers.len());
        for (s, layer) in layers.into_iter().enumerate() {
            let step = &self.program.steps[s];
            let backward = self.backward[s].as_ref().map(|draft| {
                let target = |(operand, target): (&Option<Operand>, &Option<DraftTarget>)| {
                    let (operand, target) = (operand.as_ref()?, target.as_ref()?);
                    let place = match operand.source {
                        Source::Weight(w) => {
                            trained[w] = true;
                            Place::Weight(w)
                        }
                        Source::Packed(_) => Place::Absent,
                        Source::Value(v) => at(self.gradient[&v], self.program.lens[v]),
                    };
                    let detour = target.detour.map(|object| slots.slot_of[object]);
                    Some(GradientPlace { place, store: target.store, detour })
                };
                let gradients = step.inputs.iter().zip(&draft.gradients).map(target).collect();
                let output_gradient = at(draft.output_gradient, self.program.lens[step.output]);
                BackwardStep { output_gradient, gradients, in_place: draft.in_place }
            });
            let inputs = step.inputs.iter().map(|o| o.as_ref().map_or(Place::Absent, place)).collect();
            let output = at(self.value[&step.output], self.program.lens[step.output]);
            let in_place = self.forward_in_place[s];
            steps.push(PlannedStep { layer, inputs, output, in_place, backward });
        }
        let program = self.program;
        let inputs = program.inputs.iter().map(|v| at(self.value[v], program.lens[*v])).collect();
        let outputs = program.outputs.iter().map(|o| (place(o), o.shape.clone())).collect();
        let gradient = self
            .logits_gradient
            .map_or(Place::Absent, |o| at(o, program.logits.as_ref().map_or(0, Operand::len)));
        let logits = classes(graph, program.logits.as_ref(), 0, batch, false);
        let logits = logits.map(|(operand, classes)| Logits {
            place: place(operand),
            gradient,
            classes,
            loss: Loss::default(),
        });
        let mut heads = Vec::with_capacity(program.heads.len());
        for (i, (position, head)) in program.heads.iter().enumerate() {
            let (operand, classes) = classes(graph, Some(head), *position, batch, self.follows)?;
            let object = self.head_gradients.get(i);
            let gradient = object.map_or(Place::Absent, |&object| at(object, operand.len()));
            let logits = Logits { place: place(operand), gradient, classes, loss: Loss::default() };
            heads.push((logits, 1.0));
        }
        let slots = slots.lens.clone();
        Ok(Plan { steps, slots, inputs, outputs, logits, weight: 1.0, heads, trained, version: None })
    }
}

/// The scores of an output as a table of N rows or, with `rows`, of any number of them along the last axis.
fn classes<'a>(
    graph: &Graph,
    operand: Option<&'a Operand>,
    position: usize,
    batch: usize,
    rows: bool,
) -> Result<(&'a Operand, usize), EngineError> {
    let name = graph.outputs.get(position).map(|o| o.name.clone()).unwrap_or_default();
    let operand = operand.ok_or(EngineError::Logits { output: name.clone(), shape: Vec::new() })?;
    let shape = &operand.shape;
    let wide = shape.iter().skip(1).filter(|&&d| d != 1).count();
    let classes: usize = shape.iter().skip(1).product();
    if rows && wide != 1 {
        return Ok((operand, shape.last().copied().unwrap_or(1).max(1)));
    }
    if shape.len() < 2 || shape[0] != batch || wide > 1 || classes == 0 {
        return Err(EngineError::Logits { output: name, shape: shape.clone() });
    }
    Ok((operand, classes))
}
