//! Losses of the executor: at labels, or beside the network that is followed.

use slq_graph::Graph;
use slq_kernels::Buffer;

use super::{CpuExecutor, skeleton};
use crate::buckets::Buckets;
use crate::error::EngineError;
use crate::follow;
use crate::loss;
use crate::options::{EngineOptions, Statistics, Target};
use crate::pass;
use crate::program::Mode;
use crate::share::Share;

impl CpuExecutor {
    /// Names the network to follow.
    ///
    /// # Errors
    /// Those of planning it; [`EngineError::OtherInputs`], [`EngineError::Head`] for one that does not match.
    pub(super) fn follow(&mut self, network: &Graph) -> Result<(), EngineError> {
        let options = EngineOptions { follow: None, ..self.options.clone() };
        let mut other = Self::planned(skeleton(network), Vec::new(), self.batch, (&options, true))?;
        if other.inputs != self.inputs {
            return Err(EngineError::OtherInputs);
        }
        let (own, theirs) =
            (self.ready(Mode::Evaluate, self.batch)?, other.ready(Mode::Evaluate, self.batch)?);
        let names: Vec<String> = options.heads.iter().map(|h| h.output.clone()).collect();
        follow::check_heads(&names, &self.plans[own].2.heads, &other.plans[theirs].2.heads)?;
        self.followed = Some(Box::new(other));
        Ok(())
    }

    /// The values of the network that is followed, and the temperature.
    fn wanted(&mut self, images: &[f32]) -> Result<(Vec<Vec<f32>>, f32), EngineError> {
        let temperature = self.options.follow.as_ref().map_or(1.0, |f| f.temperature);
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(EngineError::Temperature { temperature });
        }
        let other = self.followed.as_mut().ok_or(EngineError::NothingToFollow)?;
        let (at, _) = other.forward(Mode::Evaluate, images)?;
        let heads = other.plans[at].2.heads.iter();
        let values = heads.map(|(head, _)| pass::read(&other.buffers, &other.graph, head.place).to_vec());
        Ok((values.collect(), temperature))
    }

    /// Loss and agreement beside the network that is followed, in inference mode.
    pub(super) fn compare(&mut self, images: &[f32]) -> Result<Statistics, EngineError> {
        let (values, temperature) = self.wanted(images)?;
        let (at, count) = self.forward(Mode::Evaluate, images)?;
        let heads = self.plans[at].2.heads.clone();
        let isa = self.options.isa;
        Ok(follow::at_heads(&mut self.buffers, &heads, (&values, temperature), count, isa))
    }

    /// Forward and backward pass; the layers see the executors of the first share, gradients are added over those of the second.
    pub(super) fn differentiate(
        &mut self,
        mode: Mode,
        images: &[f32],
        target: Target<'_>,
        (share, adds): (Share<'_>, Share<'_>),
    ) -> Result<(usize, Statistics), EngineError> {
        let count = self.count(images)?;
        let at = self.ready(mode, count)?;
        let statistics = match target {
            Target::Network => {
                let (values, temperature) = self.wanted(images)?;
                self.forward_share(mode, images, share)?;
                let heads = self.plans[at].2.heads.clone();
                let isa = self.options.isa;
                follow::at_heads(&mut self.buffers, &heads, (&values, temperature), count, isa)
            }
            _ => self.at_target(at, (mode, count), images, &target, share)?,
        };
        let isa = self.options.isa;
        if mode != Mode::Gradients && !statistics.loss.is_finite() {
            let (value, iteration) = (statistics.loss, self.iteration);
            return Err(EngineError::Diverged { what: "loss", value, iteration });
        }
        let plan = &mut self.plans[at].2;
        self.known.copy_from_slice(&plan.trained);
        let mut buckets = Buckets::new(plan, adds);
        let pending = &self.pending;
        let mut after = |at: usize, gradients: &mut [Buffer]| buckets.after(at, gradients, pending);
        let gradients = &mut self.gradients;
        pass::backward(plan, &mut self.buffers, &self.graph, gradients, (isa, share), &mut after)?;
        buckets.finish(&mut self.gradients, &mut self.pending)?;
        Ok((at, statistics))
    }

    /// Forward pass of plan `at` and the losses at labels or distributions.
    fn at_target(
        &mut self,
        at: usize,
        (mode, count): (Mode, usize),
        images: &[f32],
        target: &Target<'_>,
        share: Share<'_>,
    ) -> Result<Statistics, EngineError> {
        let logits = self.plans[at].2.logits.clone()?;
        loss::check_target(target, count, &logits)?;
        let heads = self.plans[at].2.heads.clone();
        heads.iter().try_for_each(|(head, _)| loss::check_target(target, count, head))?;
        self.forward_share(mode, images, share)?;
        let weight = self.plans[at].2.weight;
        let isa = self.options.isa;
        let mut statistics = loss::with_gradient(&mut self.buffers, &logits, target, weight, isa);
        for (head, weight) in &heads {
            statistics.loss += loss::with_gradient(&mut self.buffers, head, target, *weight, isa).loss;
        }
        Ok(statistics)
    }
}
