//! Batch normalisation.

use slq_graph::Graph;
use slq_kernels::batchnorm::{
    self, BatchNormGeometry, BatchNormGradients, GradientSums, Moments, Running, Statistics, Whole,
};
use slq_kernels::conv::Post;
use slq_kernels::{Isa, Store};

use super::layer::Layer;
use super::pass::{Backward, Forward, Gradient};
use super::place::Place;
use super::post;
use super::site::Site;
use crate::error::EngineError;
use crate::program::Source;
use crate::share::Share;

/// Batch normalisation with a residual branch (input 5) and an activation.
struct BatchNormLayer {
    geometry: BatchNormGeometry,
    statistics: Statistics<'static>,
    /// Sums over all shares of a step, where the statistics are those of all.
    shared: Option<Shared>,
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
        shared: site.mode.synchronized().then(|| Shared::new(geometry.c)),
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
            let shared = self.shared.as_mut().filter(|_| !pass.share.is_whole());
            let whole = shared.map(|shared| shared.moments(isa, g, x, pass.share));
            batchnorm::train_forward(
                isa,
                g,
                x,
                whole,
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
        let (isa, g, x, mean) = (pass.isa, &self.geometry, pass.input(0), &self.mean);
        let mut statistics = self.statistics;
        if let Some(shared) = self.shared.as_mut().filter(|_| !pass.share.is_whole()) {
            batchnorm::gradient_sums(isa, g, x, y, self.post, &dy, mean, &mut shared.own);
            shared.add_sums(g.count(), pass.share);
            statistics = Statistics::Part { own: &shared.own, mean: &shared.sums };
        }
        let (gamma, inv_std) = (pass.input(1), &self.inv_std);
        batchnorm::backward(isa, g, statistics, x, y, self.post, &dy, gamma, mean, inv_std, out);
        for (i, gradient) in [(0, dx), (1, dgamma), (2, dbeta), (5, dadd)] {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }

    fn fault(&self) -> Option<EngineError> {
        self.shared.as_ref().and_then(|s| s.fault.clone())
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
        16 * self.geometry.c + if self.shared.is_some() { 48 * self.geometry.c } else { 0 }
    }
}

/// Statistics and sums of gradients of all shares of a step, one for each channel. Those of the shares are added in double
/// precision, in the order of the executors: all get the same bits.
struct Shared {
    moments: Vec<Moments>,
    /// Elements of a channel in all shares.
    count: f64,
    /// Sums of this share.
    own: Vec<GradientSums>,
    sums: Vec<GradientSums>,
    /// What went wrong on the way.
    fault: Option<EngineError>,
}

impl Shared {
    fn new(channels: usize) -> Self {
        Self {
            moments: vec![Moments::default(); channels],
            count: 1.0,
            own: vec![GradientSums::default(); channels],
            sums: vec![GradientSums::default(); channels],
            fault: None,
        }
    }

    /// Mean and variance of all shares. Where another executor is gone they are those of this share, and the fault is kept.
    fn moments(&mut self, isa: Isa, g: &BatchNormGeometry, x: &[f32], share: Share<'_>) -> Whole<'_> {
        batchnorm::moments(isa, g, x, &mut self.moments);
        let own = self.moments.iter().flat_map(|m| [m.mean, m.var]);
        let bytes: Vec<u8> = [g.count()].into_iter().chain(own).flat_map(f64::to_le_bytes).collect();
        (self.count, self.fault) = (g.count(), None);
        match share.reducer.gather(&bytes) {
            Ok(all) => {
                let all: Vec<Vec<f64>> = all.iter().map(|bytes| floats(bytes)).collect();
                for (c, moments) in self.moments.iter_mut().enumerate() {
                    let part = |f: &Vec<f64>| (f[0], Moments { mean: f[1 + 2 * c], var: f[2 + 2 * c] });
                    (self.count, *moments) = Moments::together(all.iter().map(part));
                }
            }
            Err(error) => self.fault = Some(error.into()),
        }
        Whole { moments: &self.moments, count: self.count }
    }

    /// Adds the sums of gradients of all shares; `count` are the elements of a channel in this one.
    ///
    /// The loss of the step is the mean of those of the shares, each weighted by its elements; what comes out is in units of
    /// this share's loss, divided by all elements: see [`GradientSums`].
    fn add_sums(&mut self, count: f64, share: Share<'_>) {
        let weight = count / self.count;
        let mut sums: Vec<f64> = self.own.iter().flat_map(|s| [s.sum * weight, s.dot * weight]).collect();
        if let Err(error) = share.reducer.sum(&mut sums) {
            self.fault = Some(error.into());
        }
        for (total, sums) in self.sums.iter_mut().zip(sums.chunks_exact(2)) {
            *total = GradientSums { sum: sums[0] / count, dot: sums[1] / count };
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|b| b.try_into().map_or(f64::NAN, f64::from_le_bytes)).collect()
}
