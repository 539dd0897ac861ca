//! One layer's samples, from the activations of both networks.

use slq_graph::Graph;

use super::super::matrix::{Block, Gathering, Gram, Start};
use super::Job;
use super::samples::{Picks, gather, gather_outputs, picks};
use super::site::Site;
use super::walk::{Found, Segments, Walk};
use crate::error::CalibrateError;
use crate::processes::gather_any;
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
        let blocks: Vec<Vec<Picks>> = chosen.iter().map(|picks| picks.parts(parts)).collect();
        let done = self.add_own(&mut gram, &blocks, &segments);
        self.job.agree(done)?;
        gram.join(self.job.reducer)?;
        Ok(gram)
    }

    /// Adds the blocks of this process's batches. All take shift and units from the first block, which another process may have.
    fn add_own(
        &self,
        gram: &mut Gram<'_>,
        blocks: &[Vec<Picks>],
        segments: &Segments,
    ) -> Result<(), CalibrateError> {
        let job = self.job;
        let first = blocks.iter().position(|b| !b.is_empty()).unwrap_or(0);
        let has_first = first % job.reducer.size() == job.reducer.rank();
        let (mut told, mut done) = (false, Ok(true));
        for batch in job.own() {
            gram.seek(blocks[..batch].iter().map(Vec::len).sum());
            done = self.walk.inputs(segments, batch, |float, now| {
                // The others have come as far as this by now.
                if !told && !has_first {
                    told = true;
                    if !self.begin(gram)? {
                        return Ok(false);
                    }
                }
                blocks[batch].iter().try_for_each(|picks| self.add(gram, picks, float, now))?;
                Ok(true)
            });
            if matches!(&done, Err(error) if !error.is_unreached()) {
                return done.map(drop);
            }
            if !told && has_first && batch >= first {
                told = true;
                self.begin(gram)?;
            }
            if !matches!(done, Ok(true)) {
                break;
            }
        }
        if !told {
            self.begin(gram)?;
        }
        done.map(drop)
    }

    /// Gives what the first block has set to all processes, or takes it; whether there is any.
    fn begin(&self, gram: &mut Gram<'_>) -> Result<bool, CalibrateError> {
        let own = gram.start();
        if self.job.reducer.size() == 1 {
            return Ok(own.is_some());
        }
        let bytes = own.as_ref().map(Start::bytes).unwrap_or_default();
        let all = gather_any(self.job.reducer, bytes)?;
        match (own, all.iter().find_map(|bytes| Start::from_bytes(bytes))) {
            (Some(_), _) => Ok(true),
            (None, Some(start)) => {
                gram.begin(start);
                Ok(true)
            }
            (None, None) => Ok(false),
        }
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
