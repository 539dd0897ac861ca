//! A whole network, layer by layer in execution order: each layer is fitted to the float network's outputs with the
//! inputs it gets from the network as compressed so far.

mod follow;
mod importance;
mod job;
mod price;
mod report;
mod sampler;
mod samples;
mod segment;
mod site;
#[cfg(test)]
mod tests;
mod walk;

use std::time::{Duration, Instant};

use slq_engine::Isa;
use slq_graph::{Graph, Palette, Tensor};

use super::matrix::{Books, Curvature, LayerShape, Moments, Prepared, Problem, SolveOptions, quantize};
use crate::error::CalibrateError;
use crate::inputs::InputError;
pub use importance::input_importance;
pub use job::{Job, NetworkOptions};
pub use price::jitter;
pub use report::{Calibrated, LayerReport, Outcome};
pub use site::LayerSpec;

use follow::Follow;
use sampler::Sampler;
use site::Site;
use walk::Walk;

/// How far a calibration has come: all that it needs to go on to the same bits.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The network as compressed so far.
    pub graph: Graph,
    /// What was found for each layer done.
    pub reports: Vec<LayerReport>,
}

impl State {
    /// The beginning: the float network.
    pub fn new(float: &Graph) -> Self {
        Self { graph: float.clone(), reports: Vec::new() }
    }
}

/// Progress after a layer.
#[derive(Debug, Clone, Copy)]
pub struct LayerDone<'a> {
    /// The state to go on from: store it for a checkpoint.
    pub state: &'a State,
    /// Layers in all; `state.reports.len()` are done.
    pub layers: usize,
    /// Time since the call began.
    pub elapsed: Duration,
}

/// Quantizes the layers that `state` has not done yet. `observer` hears of each layer; an error from it stops the job,
/// whose state then holds the layers done.
///
/// The result depends on job and state alone, not on the number of threads or on where a job was interrupted. A layer
/// whose inputs the engine cannot compute is clustered without data, and its report says so.
///
/// # Errors
/// [`CalibrateError::Setting`]; [`CalibrateError::Inputs`] for inputs that do not fit the network; [`CalibrateError::Layer`]
/// around what is wrong with one layer, such as activations that are not finite; what `observer` returns.
pub fn calibrate(
    job: &Job<'_>,
    state: &mut State,
    observer: &mut dyn FnMut(LayerDone<'_>) -> Result<(), CalibrateError>,
) -> Result<(), CalibrateError> {
    let begin = Instant::now();
    job.options.check()?;
    if job.inputs.is_empty() {
        return Err(CalibrateError::Inputs(InputError { reason: "there are none".into() }));
    }
    if state.reports.len() > job.layers.len() {
        let reason = format!("{} layers are done, but the job has {}", state.reports.len(), job.layers.len());
        return Err(CalibrateError::Inputs(InputError { reason }));
    }
    let mut walk = Walk::new(job)?;
    // On resuming, activations are kept from the same places as in a run without interruption. A layer that the engine
    // cannot reach was clustered then, and so it is now.
    for layer in 0..state.reports.len() {
        // Either way the walk stands where it stood then.
        let _: Result<(), String> = reached(walk.advance(layer, &state.graph))?;
    }
    for layer in state.reports.len()..job.layers.len() {
        let spec = &job.layers[layer];
        let named =
            |e: CalibrateError| CalibrateError::Layer { layer: spec.weight.clone(), source: Box::new(e) };
        let done = match walk.site(layer).cloned() {
            Ok(site) => reached(
                walk.advance(layer, &state.graph)
                    .and_then(|()| calibrate_layer(job, &walk, (layer, &site), &mut state.graph)),
            )
            .map_err(named)?,
            Err(reason) => Err(reason.to_string()),
        };
        let outcome = match done {
            Ok(figures) => Outcome::Calibrated(figures),
            Err(reason) => {
                cluster_layer(job, spec, &mut state.graph).map_err(named)?;
                Outcome::Clustered { reason }
            }
        };
        state.reports.push(LayerReport { weight: spec.weight.clone(), node: spec.node.clone(), outcome });
        observer(LayerDone { state, layers: job.layers.len(), elapsed: begin.elapsed() })?;
    }
    Ok(())
}

/// Keeps apart what the engine cannot compute, with the reason, from other errors.
fn reached<T>(result: Result<T, CalibrateError>) -> Result<Result<T, String>, CalibrateError> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(error) if error.is_unreached() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Samples, targets, codes and moments of one layer, written into `graph`.
fn calibrate_layer(
    job: &Job<'_>,
    walk: &Walk<'_>,
    (layer, site): (usize, &Site),
    graph: &mut Graph,
) -> Result<Calibrated, CalibrateError> {
    let options = job.options;
    let weights = site.matrix(floats(job.float, &site.weight));
    let LayerShape { rows, columns, .. } = site.shape;
    let follow = Follow::of(job.float, site, &job.float.reads());
    let centred = options.centred && options.correct && follow.takes_shifts();
    let row_weights = match options.norm_weights {
        true => follow.row_weights(job.float, rows),
        false => vec![1.0; rows],
    };
    let skip = follow.skip(job.float, site, &job.float.reads()).filter(|_| options.residual);
    let sampler = Sampler { job, walk, layer, site, skip, centred };
    let prepared = sampler.run(&weights, graph)?.finish(&row_weights, &options.targets)?;
    let energy = energy(&prepared.float, &row_weights, centred);
    let spec = &job.layers[layer];
    let problem = Problem {
        targets: &prepared.targets,
        curvatures: &prepared.curvatures,
        row_weights: &row_weights,
        books: site.books(spec.books),
        size: spec.size,
    };
    let rate = price::price(job, (layer, site), (&prepared, &problem), energy);
    let scale_rows = options.solve.scale_rows && options.correct && follow.takes_scales();
    let mut found = quantize(options.isa, &problem, &SolveOptions { rate, scale_rows, ..options.solve })?;
    round(spec, &mut found.codebooks);
    let values = found.decode(columns, problem.books, spec.size)?;
    let now = output_moments(options.isa, &prepared, &values, centred);
    store(graph, site, problem.books, (&found.codebooks, &found.codes))?;
    let mut corrected = 0;
    if options.correct {
        let corrections = follow.corrections(graph, (&prepared.float, &now), &found.scales, options.spread);
        corrected = corrections.len();
        for (name, values) in corrections {
            if let Some(to) = graph.weights.get_mut(&name).and_then(|w| w.tensor.as_f32_mut()) {
                to.copy_from_slice(&values);
            }
        }
    }
    Ok(Calibrated {
        samples: prepared.samples,
        columns,
        books: problem.books,
        energy,
        progress: found.progress,
        shrinkage: prepared.shrinkage,
        strength: prepared.strength,
        unsolved_groups: prepared.unsolved_groups,
        uncorrected: match &follow {
            _ if !options.correct => Some("corrections are switched off".into()),
            Follow::Nothing(why) => Some((*why).into()),
            _ => None,
        },
        corrected,
    })
}

/// Mean square of the float outputs (about their mean where a constant error costs nothing), weighted as errors are and
/// summed over rows.
fn energy(float: &Moments, row_weights: &[f32], centred: bool) -> f64 {
    let square = |(m, v): (&f64, &f64)| if centred { *v } else { m * m + v };
    let squares = float.mean.iter().zip(&float.variance).map(square);
    squares.zip(row_weights).map(|(square, &s)| square * f64::from(s)).sum()
}

/// Mean and variance of the outputs of quantized weights (rows x columns) on the inputs now.
fn output_moments(isa: Isa, prepared: &Prepared, values: &[f32], centred: bool) -> Moments {
    let (n, rows) = (prepared.shape.columns, prepared.shape.group_rows());
    let mut squares = prepared.squares(isa, values).into_iter();
    let mut moments = Moments::default();
    for (g, curvature) in prepared.curvatures.iter().enumerate() {
        let own = &values[g * rows * n..][..rows * n];
        let input = &prepared.input_mean[g * n..][..n];
        for (row, square) in own.chunks_exact(n).zip(squares.by_ref()) {
            let mean: f64 = row.iter().zip(input).map(|(&v, m)| f64::from(v) * m).sum();
            let damping = row.iter().zip(curvature.damping());
            let damped: f64 = damping.map(|(&v, &d)| f64::from(v).powi(2) * f64::from(d)).sum();
            let about = if centred { 0.0 } else { mean * mean };
            moments.mean.push(mean);
            moments.variance.push((square - damped - about).max(0.0));
        }
    }
    moments
}

/// Clusters a layer whose inputs are not known: every weight counts alike.
fn cluster_layer(job: &Job<'_>, spec: &LayerSpec, graph: &mut Graph) -> Result<(), CalibrateError> {
    let tensor = graph.weights.get(&spec.weight).map(|w| &w.tensor);
    let values = tensor.and_then(Tensor::as_f32).unwrap_or_default().to_vec();
    let channels = tensor.map_or(0, |t| t.shape().first().copied().unwrap_or(0));
    // Every weight counts alike, so that a row is what shares a codebook.
    let (rows, books) = match spec.books {
        Books::Tensor => (1, Books::Tensor),
        Books::Rows(n) => (channels / n, Books::Rows(1)),
        Books::Inputs(n) => (values.len() / n, Books::Rows(1)),
    };
    let shape = LayerShape::new(1, rows, values.len().checked_div(rows).unwrap_or(0))?;
    let problem = Problem {
        targets: &values,
        curvatures: &[Curvature::identity(shape.columns)],
        row_weights: &vec![1.0; rows],
        books,
        size: spec.size,
    };
    let options =
        SolveOptions { error_passes: 0, scale_rows: false, rounds: 0, rate: 0.0, ..job.options.solve };
    let mut found = quantize(job.options.isa, &problem, &options)?;
    round(spec, &mut found.codebooks);
    let groups = found.codebooks.len() / spec.size;
    let palette = Palette::fully_fixed(found.codebooks, groups, found.codes)?;
    crate::quantize::state::store_palette(graph, &spec.weight, palette);
    Ok(())
}

/// Several codebooks as the file will hold them: later layers then see what this one computes.
fn round(spec: &LayerSpec, codebooks: &mut [f32]) {
    if spec.half && codebooks.len() > spec.size {
        slq_codebook::halve(codebooks, spec.size);
    }
}

/// Writes codebooks and codes (rows x columns) as the weight's palette and values.
fn store(
    graph: &mut Graph,
    site: &Site,
    books: Books,
    (codebooks, codes): (&[f32], &[u8]),
) -> Result<(), CalibrateError> {
    let groups = match books {
        Books::Tensor => 1,
        Books::Rows(n) => site.shape.rows / n,
        Books::Inputs(n) => site.shape.weights() / n,
    };
    let palette = Palette::fully_fixed(codebooks.to_vec(), groups, site.tensor(codes))?;
    crate::quantize::state::store_palette(graph, &site.weight, palette);
    Ok(())
}

fn floats<'a>(graph: &'a Graph, name: &str) -> &'a [f32] {
    graph.weights.get(name).and_then(|w| w.tensor.as_f32()).unwrap_or_default()
}
