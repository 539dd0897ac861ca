//! Batch normalisation and local response normalisation.

use slq_graph::Graph;
use slq_kernels::Store;
use slq_kernels::batchnorm::{self, BatchNormGeometry, BatchNormGradients, Running, Statistics};
use slq_kernels::conv::Post;
use slq_kernels::lrn::{self, Lrn};

use super::layer::Layer;
use super::pass::{Backward, Forward, Gradient};
use super::place::Place;
use super::post;
use super::site::Site;
use crate::error::EngineError;
use crate::program::Source;

/// Batch normalisation with a residual branch (input 5) and an activation.
struct BatchNormLayer {
    geometry: BatchNormGeometry,
    statistics: Statistics,
    epsilon: f32,
    /// Share of the batch in the new running statistics.
    share: f32,
    post: Post,
    /// Mean and 1 / standard deviation of the last forward pass.
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    /// Running statistics after the last forward pass.
    running_mean: Vec<f32>,
    running_var: Vec<f32>,
}

pub(super) fn batch_norm(site: Site<'_>, epsilon: f32, momentum: f32) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    if shape.len() < 2 {
        return Err(site.unsupported(format!("data of shape {shape:?} has no channels")));
    }
    let geometry = BatchNormGeometry { n: shape[0], c: shape[1], inner: shape[2..].iter().product() };
    let statistics = if site.mode.batch_statistics() { Statistics::Batch } else { Statistics::Frozen };
    if statistics == Statistics::Batch {
        let constant = |i| Ok::<bool, EngineError>(matches!(site.operand(i)?.source, Source::Weight(_)));
        if !constant(3)? || !constant(4)? {
            return Err(site
                .unsupported("its running statistics are computed, so training cannot update them".into()));
        }
    }
    let zeros = || vec![0.0; geometry.c];
    Ok(Box::new(BatchNormLayer {
        geometry,
        statistics,
        epsilon,
        share: 1.0 - momentum,
        post: site.step.post,
        mean: zeros(),
        inv_std: zeros(),
        running_mean: zeros(),
        running_var: zeros(),
    }))
}

impl Layer for BatchNormLayer {
    fn reads_input(&self, i: usize) -> bool {
        i < 2
    }

    fn reads_output(&self) -> bool {
        post::is_some(self.post)
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (x, gamma, beta) = (pass.input(0), pass.input(1), pass.input(2));
        let (isa, g, add) = (pass.isa, &self.geometry, pass.optional(5));
        if self.statistics == Statistics::Batch {
            self.running_mean.copy_from_slice(pass.input(3));
            self.running_var.copy_from_slice(pass.input(4));
            let running = Running {
                mean: &mut self.running_mean,
                var: &mut self.running_var,
                share: self.share,
                unbiased: true,
            };
            let (mean, inv_std) = (&mut self.mean, &mut self.inv_std);
            batchnorm::train_forward(
                isa,
                g,
                x,
                gamma,
                beta,
                self.epsilon,
                add,
                self.post,
                y,
                mean,
                inv_std,
                Some(running),
            );
        } else {
            batchnorm::inverse_std(pass.input(4), self.epsilon, &mut self.inv_std);
            self.mean.copy_from_slice(pass.input(3));
            batchnorm::frozen_forward(isa, g, x, gamma, beta, &self.mean, &self.inv_std, add, self.post, y);
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        let [mut dx, mut dgamma, mut dbeta, mut dadd] = [0, 1, 2, 5].map(|i| pass.take_gradient(i));
        fn target(gradient: &mut Option<Gradient>) -> Option<(&mut [f32], Store)> {
            let gradient = gradient.as_mut()?;
            let store = gradient.store;
            Some((gradient, store))
        }
        let out = BatchNormGradients {
            dx: target(&mut dx),
            dadd: target(&mut dadd),
            dgamma: target(&mut dgamma),
            dbeta: target(&mut dbeta),
        };
        let y = post::is_some(self.post).then(|| pass.output());
        batchnorm::backward(
            pass.isa,
            &self.geometry,
            self.statistics,
            pass.input(0),
            y,
            self.post,
            &dy,
            pass.input(1),
            &self.mean,
            &self.inv_std,
            out,
        );
        for (i, gradient) in [(0, dx), (1, dgamma), (2, dbeta), (5, dadd)] {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }

    fn commit(&mut self, inputs: &[Place], weights: &mut Graph) {
        if self.statistics != Statistics::Batch {
            return;
        }
        for (place, values) in [(inputs[3], &self.running_mean), (inputs[4], &self.running_var)] {
            let Place::Weight(index) = place else { continue };
            let weight = weights.weights.get_index_mut(index);
            if let Some(old) = weight.and_then(|(_, w)| w.tensor.as_f32_mut()) {
                old.copy_from_slice(values);
            }
        }
    }

    fn scratch_bytes(&self) -> usize {
        16 * self.geometry.c
    }
}

/// Local response normalisation across channels.
struct LrnLayer {
    settings: Lrn,
    n: usize,
    c: usize,
    plane: usize,
    /// Denominators before the power, for the backward pass.
    scale: Option<Vec<f32>>,
}

pub(super) fn lrn(
    site: Site<'_>,
    size: usize,
    alpha: f32,
    beta: f32,
    bias: f32,
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    if shape.len() < 2 {
        return Err(site.unsupported(format!("data of shape {shape:?} has no channels")));
    }
    let (n, c, plane) = (shape[0], shape[1], shape[2..].iter().product());
    let scale = site.differentiates().then(|| vec![0.0; n * c * plane]);
    Ok(Box::new(LrnLayer { settings: Lrn { alpha, beta, bias, size }, n, c, plane, scale }))
}

impl Layer for LrnLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let scale = self.scale.as_deref_mut();
        lrn::forward(pass.isa, self.settings, self.n, self.c, self.plane, pass.input(0), y, scale);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let (Some(mut dx), Some(scale)) = (pass.take_gradient(0), &self.scale) {
            let (x, store) = (pass.input(0), dx.store);
            lrn::backward(pass.isa, self.settings, self.n, self.c, self.plane, x, scale, &dy, &mut dx, store);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        self.scale.as_ref().map_or(0, |s| 4 * s.len())
    }
}
