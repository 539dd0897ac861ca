//! Activations of both networks, kept or computed again as the layers are done one by one.
//!
//! The walk keeps, for every batch, the values that are alive at a *cut* of the execution order. All layers before the cut
//! are done, so these values will not change. Before each layer the cut moves as far towards it as the memory allows; the
//! layer's input is then computed from the cut on. Where the cut goes depends on shapes and budget alone, so a job that is
//! resumed computes the same segments and with them the same bits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use slq_graph::{Graph, Shapes, Tensor};

use super::job::{InputShapes, Job, numbered};
use super::segment::{Order, Segment, Values, shapes_for, with_outputs};
use super::site::{LayerSpec, Site, reader};
use crate::error::CalibrateError;
use crate::inputs::InputError;

/// Values at the cut for one batch.
struct Kept {
    float: Values,
    /// Those of the network now; `None` before anything differs.
    now: Option<Values>,
}

/// Segments up to some values, one for each distinct shape of batches.
pub(super) struct Segments {
    float: Vec<Segment>,
    now: Option<Vec<Segment>>,
}

/// Values that are live at the cut or were computed from it.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    live: &'a Values,
    computed: &'a Values,
}

impl<'a> Found<'a> {
    /// One of the values that the segments lead to.
    pub fn value(&self, name: &str) -> Result<&'a Tensor, CalibrateError> {
        let found = self.computed.get(name).or_else(|| self.live.get(name));
        let reason = || format!("value `{name}` is not computed by the network");
        found.ok_or_else(|| CalibrateError::Inputs(InputError { reason: reason() }))
    }
}

pub(super) struct Walk<'a> {
    job: &'a Job<'a>,
    order: Order,
    /// Shapes for each distinct shape of batches, and which of them each batch has.
    shapes: Vec<Shapes>,
    of_batch: Vec<usize>,
    images: Vec<usize>,
    /// Where each layer is, or why it cannot be calibrated.
    sites: Vec<Result<Site, String>>,
    cut: usize,
    /// Those of this process's batches. Nothing at the start, where values are the inputs themselves.
    kept: HashMap<usize, Kept>,
}

impl<'a> Walk<'a> {
    /// Looks at all batches' shapes and finds the layers.
    pub fn new(job: &'a Job<'a>) -> Result<Self, CalibrateError> {
        let mut keys: Vec<InputShapes> = Vec::with_capacity(job.inputs.len());
        let mut images = Vec::with_capacity(job.inputs.len());
        for index in 0..job.inputs.len() {
            let batch = job.inputs.batch(index)?;
            check_batch(job.float, index, &batch)?;
            images.push(batch.first().and_then(|(_, t)| t.shape().first().copied()).unwrap_or(1));
            keys.push(batch.into_iter().map(|(name, tensor)| (name, tensor.shape().to_vec())).collect());
        }
        let (distinct, of_batch) = numbered(&keys);
        check_shapes(job.float, &distinct)?;
        let (wanted, reached) = reachable(job, &distinct);
        let graph = with_outputs(job.float, &wanted);
        let shapes = match wanted.is_empty() {
            true => vec![Shapes::default(); distinct.len()],
            false => distinct.iter().map(|d| shapes_for(&graph, d)).collect::<Result<Vec<_>, _>>()?,
        };
        let layers = reached.into_iter().zip(job.layers);
        let sites: Vec<Result<Site, String>> = layers
            .map(|(found, spec)| found.and_then(|()| Site::find(job.float, &shapes[0], spec)))
            .collect();
        let readers: Vec<(String, usize)> =
            sites.iter().flatten().map(|s| (s.input.clone(), s.node)).collect();
        let order = Order::new(job.float, &shapes[0], &readers);
        Ok(Self { job, order, shapes, of_batch, images, sites, cut: 0, kept: HashMap::new() })
    }

    /// The layer, or why it cannot be calibrated.
    pub fn site(&self, layer: usize) -> Result<&Site, &str> {
        self.sites[layer].as_ref().map_err(String::as_str)
    }

    /// Whether a value has the shape of the layer's output and is known when the layer's turn comes.
    pub fn same_extents(&self, value: &str, output: &[usize], batch: usize, site: &Site) -> bool {
        let shape = self.shapes[self.of_batch[batch]].get(value);
        // Written before the layer runs, so that it is final by then.
        shape == Some(output) && self.order.is_live(value, self.order.position(site.node))
    }

    /// Images of a batch.
    pub fn images(&self, batch: usize) -> usize {
        self.images[batch]
    }

    /// Shapes of what the layer reads and writes in a batch.
    pub fn extents(&self, site: &Site, batch: usize) -> Result<(Vec<usize>, Vec<usize>), CalibrateError> {
        let shapes = &self.shapes[self.of_batch[batch]];
        let input = shapes.get(&site.input).unwrap_or_default().to_vec();
        if let Some(output) = shapes.get(&site.output) {
            return Ok((input, output.to_vec()));
        }
        // The last layers' own outputs were not asked for.
        let mut alone = Graph { metadata: self.job.float.metadata.clone(), ..Graph::default() };
        let node = &self.job.float.nodes[site.node];
        let turned = site.read != site.weight;
        if turned {
            alone.nodes.extend(self.job.float.producer_of(&site.read).cloned());
            let weight = self.job.float.weights[&site.weight].tensor.clone();
            alone.weights.insert(site.weight.clone(), weight.into());
        }
        for name in node.inputs.iter().filter(|n| !(n.is_empty() || turned && **n == site.read)) {
            match self.job.float.weights.get(name) {
                Some(weight) => {
                    alone.weights.insert(name.clone(), weight.tensor.clone().into());
                }
                None => alone.inputs.push(value(name)),
            }
        }
        alone.nodes.push(node.clone());
        alone.outputs.push(value(&site.output));
        let given: InputShapes = alone
            .inputs
            .iter()
            .map(|i| (i.name.clone(), shapes.get(&i.name).unwrap_or_default().to_vec()))
            .collect();
        let found = shapes_for(&alone, &given)?;
        Ok((input, found.get(&site.output).unwrap_or_default().to_vec()))
    }

    /// Moves the cut towards a layer as far as the memory allows; `now` is the network as compressed so far, all earlier
    /// layers done.
    ///
    /// # Errors
    /// Where the engine cannot compute what lies between. The walk then starts from the inputs again.
    pub fn advance(&mut self, layer: usize, now: &Graph) -> Result<(), CalibrateError> {
        let moved = self.move_cut(layer, now);
        let moved = self.job.agree(moved);
        if moved.is_err() {
            self.kept.clear();
            self.cut = 0;
        }
        moved
    }

    fn move_cut(&mut self, layer: usize, now: &Graph) -> Result<(), CalibrateError> {
        let Ok(site) = &self.sites[layer] else { return Ok(()) };
        let input = self.order.after_writer(&site.input);
        let fits = |cut: &usize| self.bytes(*cut) <= self.job.options.memory;
        let Some(cut) = (self.cut + 1..=input).rev().find(fits) else { return Ok(()) };
        let live = self.order.live(self.job.float, cut);
        let differs = layer > 0;
        let build = |graph: &Graph| -> Vec<Segment> {
            self.shapes.iter().map(|s| Segment::new(graph, &self.order, s, self.cut, &live)).collect()
        };
        let (float, current) = (build(self.job.float), differs.then(|| build(now)));
        for batch in self.job.own() {
            let kind = self.of_batch[batch];
            let isa = self.job.options.isa;
            // Batch by batch, so that old and new values are together for one batch only.
            let kept = match self.kept.entry(batch) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) => place.insert(first(self.job, batch)?),
            };
            if let Some(current) = &current {
                let now = kept.now.get_or_insert_with(|| kept.float.clone());
                current[kind].step(now, isa)?;
            }
            float[kind].step(&mut kept.float, isa)?;
        }
        self.cut = cut;
        Ok(())
    }

    /// Segments from the cut to what is sampled for layer number `layer`: its input, and what its output is added to.
    pub fn segments(&self, layer: usize, outputs: &[String], now: &Graph) -> Segments {
        let build = |graph: &Graph| -> Vec<Segment> {
            self.shapes.iter().map(|s| Segment::new(graph, &self.order, s, self.cut, outputs)).collect()
        };
        Segments { float: build(self.job.float), now: (layer > 0).then(|| build(now)) }
    }

    /// Hands the segments' values in one batch to `take`: of the float network, and of the network now (`None` where they
    /// cannot differ).
    pub fn inputs<T>(
        &self,
        segments: &Segments,
        batch: usize,
        take: impl FnOnce(Found<'_>, Option<Found<'_>>) -> Result<T, CalibrateError>,
    ) -> Result<T, CalibrateError> {
        let fresh;
        let kept = match self.kept.get(&batch) {
            Some(kept) => kept,
            None => {
                fresh = first(self.job, batch)?;
                &fresh
            }
        };
        let (kind, isa) = (self.of_batch[batch], self.job.options.isa);
        let float = segments.float[kind].run(&kept.float, isa)?;
        let float = Found { live: &kept.float, computed: &float };
        let Some(current) = &segments.now else { return take(float, None) };
        let live = kept.now.as_ref().unwrap_or(&kept.float);
        let now = current[kind].run(live, isa)?;
        take(float, Some(Found { live, computed: &now }))
    }

    /// Bytes of the values of both networks and all batches at a cut.
    fn bytes(&self, cut: usize) -> usize {
        let live = self.order.live(self.job.float, cut);
        let floats = |shapes: &Shapes| -> usize {
            live.iter().filter_map(|name| shapes.get(name)).map(|s| s.iter().product::<usize>()).sum()
        };
        let each: Vec<usize> = self.shapes.iter().map(floats).collect();
        let all = self.of_batch.iter().fold(0usize, |sum, &kind| sum.saturating_add(each[kind]));
        all.saturating_mul(2 * size_of::<f32>())
    }
}

/// A batch at the beginning of the network.
fn first(job: &Job<'_>, batch: usize) -> Result<Kept, CalibrateError> {
    Ok(Kept { float: job.inputs.batch(batch)?.into_iter().collect(), now: None })
}

fn value(name: &str) -> slq_graph::ValueInfo {
    slq_graph::ValueInfo { name: name.into(), dtype: slq_graph::DType::F32, shape: None }
}

/// Refuses a batch whose tensors are not those that the network takes.
fn check_batch(graph: &Graph, index: usize, batch: &[(String, Tensor)]) -> Result<(), CalibrateError> {
    let refuse = |reason: String| {
        Err(CalibrateError::Inputs(InputError { reason: format!("batch {index}: {reason}") }))
    };
    for (name, tensor) in batch {
        let Some(info) = graph.inputs.iter().find(|i| i.name == *name) else {
            return refuse(format!("the network has no input `{name}`"));
        };
        if tensor.dtype() != info.dtype {
            return refuse(format!(
                "input `{name}` is {:?}, the network takes {:?}",
                tensor.dtype(),
                info.dtype
            ));
        }
        if tensor.as_f32().is_some_and(|v| !v.iter().all(|v| v.is_finite())) {
            return refuse(format!("input `{name}` holds a value that is not finite"));
        }
    }
    let given = |name: &str| batch.iter().any(|(n, _)| n == name) || graph.weights.contains_key(name);
    match graph.inputs.iter().find(|i| !given(&i.name)) {
        Some(info) => refuse(format!("input `{}` is missing", info.name)),
        None => Ok(()),
    }
}

/// Refuses inputs of shapes that the network does not take.
fn check_shapes(graph: &Graph, distinct: &[InputShapes]) -> Result<(), CalibrateError> {
    let inputs = graph.free_inputs();
    let handed_on: Vec<String> = inputs.take(1).map(|i| i.name.clone()).collect();
    let graph = with_outputs(graph, &handed_on);
    let refuse = |e: CalibrateError| CalibrateError::Inputs(InputError { reason: e.to_string() });
    distinct.iter().try_for_each(|d| shapes_for(&graph, d).map(|_| ()).map_err(refuse))
}

/// The inputs of all layers whose inputs can be inferred for every shape of batches, and for each other layer why not.
fn reachable(job: &Job<'_>, distinct: &[InputShapes]) -> (Vec<String>, Vec<Result<(), String>>) {
    let turned = job.float.turned_matrices();
    let input = |spec: &LayerSpec| -> Result<String, String> {
        let name = reader(job.float, spec, &turned).and_then(|at| job.float.nodes[at].input(0));
        name.map(Into::into)
            .ok_or_else(|| format!("no node `{}` reads the weight as its second input", spec.node))
    };
    let fits = |names: &[String]| -> Result<(), CalibrateError> {
        let graph = with_outputs(job.float, names);
        distinct.iter().try_for_each(|d| shapes_for(&graph, d).map(|_| ()))
    };
    let mut inputs: Vec<Result<String, String>> = job.layers.iter().map(input).collect();
    let all = unique(inputs.iter().flatten());
    if !all.is_empty() && fits(&all).is_err() {
        for name in &mut inputs {
            let failed = name.as_ref().ok().and_then(|n| fits(std::slice::from_ref(n)).err());
            if let Some(error) = failed {
                *name = Err(error.to_string());
            }
        }
    }
    let wanted = unique(inputs.iter().flatten());
    (wanted, inputs.into_iter().map(|name| name.map(|_| ())).collect())
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if !out.contains(name) {
            out.push(name.clone());
        }
    }
    out
}
