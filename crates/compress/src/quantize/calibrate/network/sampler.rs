//! One layer's samples, from the activations of both networks.

use slq_graph::Graph;

use super::super::matrix::{Block, Gathering, Gram};
use super::Job;
use super::samples::{Picks, gather, gather_outputs, picks};
use super::site::Site;
use super::walk::{Found, Walk};
use crate::error::CalibrateError;
use crate::quantize::calibrate::random::Random;

/// Blocks of samples that are wanted at least: they are compared with each other.
const BLOCKS: usize = 4;

/// Runs both networks up to a layer, batch by batch, and gathers samples of its inputs.
pub(super) struct Sampler<'a> {
    pub job: &'a Job<'a>,
    pub walk: &'a Walk<'a>,
    /// Number of the layer.
    pub layer: usize,
    pub site: &'a Site,
    /// What the output is added to, and its factors.
    pub skip: Option<(String, Vec<f32>)>,
    /// Whether moments are about the mean.
    pub centred: bool,
}

impl Sampler<'_> {
    /// `weights` are the layer's, rows x columns; `graph` is the network as compressed so far.
    pub fn run<'w>(mut self, weights: &'w [f32], graph: &Graph) -> Result<Gram<'w>, CalibrateError> {
        let (options, site) = (self.job.options, self.site);
        let mut chosen = Vec::with_capacity(self.job.inputs.len());
        for batch in 0..self.job.inputs.len() {
            let (input, output) = self.walk.extents(site, batch)?;
            if let Some((value, _)) = &self.skip
                && !self.walk.same_extents(value, &output, batch, site)
            {
                self.skip = None;
            }
            let random = |image| Random::of(options.seed, &[self.layer as u64, batch as u64, image]);
            let images = self.walk.images(batch);
            chosen.push(picks(&site.reads, (&input, &output), images, options.positions, random));
        }
        let expected = chosen.iter().map(Picks::len).sum();
        let gathering = Gathering { expected, centred: self.centred };
        let mut gram = Gram::new(options.isa, site.shape, weights, gathering)?;
        let values: Vec<String> =
            [&site.input].into_iter().chain(self.skip.as_ref().map(|(name, _)| name)).cloned().collect();
        let segments = self.walk.segments(self.layer, &values, graph);
        let parts = BLOCKS.div_ceil(chosen.len());
        for (batch, picks) in chosen.iter().enumerate() {
            self.walk.inputs(&segments, batch, |float, now| {
                picks.parts(parts).iter().try_for_each(|picks| self.add(&mut gram, picks, float, now))
            })?;
        }
        Ok(gram)
    }

    fn add(
        &self,
        gram: &mut Gram<'_>,
        picks: &Picks,
        float: Found<'_>,
        now: Option<Found<'_>>,
    ) -> Result<(), CalibrateError> {
        let (site, samples) = (self.site, picks.len());
        let old = gather(site, float.value(&site.input)?, picks);
        let Some(now) = now else { return gram.add(Block { samples, now: &old, float: None, extra: None }) };
        let new = gather(site, now.value(&site.input)?, picks);
        let mut extra = None;
        if let Some((value, factors)) = &self.skip {
            let mut missing = gather_outputs(site, float.value(value)?, picks);
            let there = gather_outputs(site, now.value(value)?, picks);
            let rows = missing.chunks_mut(samples.max(1)).zip(there.chunks(samples.max(1)));
            for ((missing, there), factor) in rows.zip(factors) {
                missing.iter_mut().zip(there).for_each(|(m, t)| *m = (*m - t) * factor);
            }
            extra = Some(missing);
        }
        gram.add(Block { samples, now: &new, float: Some(&old), extra: extra.as_deref() })
    }
}
