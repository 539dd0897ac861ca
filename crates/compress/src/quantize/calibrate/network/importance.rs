//! What an error of each weight counts, in a network that is not compressed yet.

use super::super::matrix::{Strength, TargetOptions, importance};
use super::follow::Follow;
use super::job::Job;
use super::sampler::Sampler;
use super::walk::Walk;
use super::{floats, reached};
use crate::error::CalibrateError;

/// The weight s_r H_jj of every value of each layer (method: step 3), in the tensor's order: the second moment of the input that
/// it meets in the float network, damped, times the squared scale that the batch-norm behind the layer applies. For a layer whose
/// inputs the engine cannot compute, why not.
///
/// # Errors
/// As [`calibrate`](super::calibrate).
pub fn input_importance(job: &Job<'_>) -> Result<Vec<Result<Vec<f32>, String>>, CalibrateError> {
    job.options.check()?;
    let mut walk = Walk::new(job)?;
    let layers = (0..job.layers.len()).map(|layer| {
        let advanced = reached(walk.advance(layer, job.float))?;
        match (advanced, walk.site(layer)) {
            (Ok(()), Ok(_)) => reached(of_layer(job, &walk, layer)),
            (Err(reason), _) => Ok(Err(reason)),
            (_, Err(reason)) => Ok(Err(reason.to_owned())),
        }
        .map_err(|source| CalibrateError::Layer {
            layer: job.layers[layer].weight.clone(),
            source: Box::new(source),
        })
    });
    layers.collect()
}

fn of_layer(job: &Job<'_>, walk: &Walk<'_>, layer: usize) -> Result<Vec<f32>, CalibrateError> {
    let options = job.options;
    let Ok(site) = walk.site(layer) else { return Ok(Vec::new()) };
    let weights = site.matrix(floats(job.float, &site.weight));
    let follow = Follow::of(job.float, site, &job.float.reads());
    let row_weights = match options.norm_weights {
        true => follow.row_weights(job.float, site.shape.rows),
        false => vec![1.0; site.shape.rows],
    };
    let centred = options.centred && follow.takes_shifts();
    let sampler = Sampler { job, walk, layer, site, skip: None, centred };
    // The float weights are what is wanted: there is nothing to regress.
    let targets = TargetOptions { strength: Strength::Fixed(0.0), ..options.targets };
    let prepared = sampler.run(&weights, job.float)?.finish(&row_weights, &targets)?;
    Ok(site.tensor(&importance(&prepared.curvatures, &row_weights)))
}
