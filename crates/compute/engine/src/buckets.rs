//! Gradients of data-parallel steps, added over several executors.

use slq_kernels::Buffer;

use crate::error::EngineError;
use crate::ops::Place;
use crate::plan::Plan;
use crate::share::Share;

/// Values in a message: large enough for the speed of a network, small enough for the first one to leave early. A gradient of
/// more travels alone, without being copied.
const BUCKET: usize = 1 << 20;

/// Gradients on their way to the other executors, while the backward pass goes on.
///
/// Which gradients travel together depends on the network alone.
pub(crate) struct Buckets<'a> {
    share: Share<'a>,
    /// For each step of the plan, the weights whose gradients are complete behind it.
    complete: Vec<Vec<usize>>,
    /// Trained weights that no step adds to.
    rest: Vec<usize>,
    message: Vec<f32>,
    members: Vec<usize>,
    begun: Vec<Begun>,
}

/// The weights whose gradients are in a message.
enum Begun {
    /// The message is the gradient itself.
    Alone(usize),
    Together(Vec<usize>),
}

impl<'a> Buckets<'a> {
    /// For one backward pass of `plan`.
    pub(crate) fn new(plan: &Plan, share: Share<'a>) -> Self {
        let (mut complete, mut rest) = (Vec::new(), Vec::new());
        if !share.is_whole() {
            // The pass goes backwards: the first step that reads a weight is the last one that adds to its gradient.
            let mut open = plan.trained.clone();
            for step in &plan.steps {
                let mut done = Vec::new();
                for place in step.backward.iter().flat_map(|_| &step.inputs) {
                    if let Place::Weight(i) = *place
                        && std::mem::take(&mut open[i])
                    {
                        done.push(i);
                    }
                }
                complete.push(done);
            }
            rest = (0..open.len()).filter(|&i| open[i]).collect();
        }
        Self { share, complete, rest, message: Vec::new(), members: Vec::new(), begun: Vec::new() }
    }

    /// Takes the gradients that are complete behind step `at`, with those of earlier batches.
    pub(crate) fn after(
        &mut self,
        at: usize,
        gradients: &mut [Buffer],
        earlier: &[Vec<f32>],
    ) -> Result<(), EngineError> {
        match self.complete.get_mut(at).map(std::mem::take) {
            Some(done) => self.take(done, gradients, earlier),
            None => Ok(()),
        }
    }

    fn take(
        &mut self,
        done: Vec<usize>,
        gradients: &mut [Buffer],
        earlier: &[Vec<f32>],
    ) -> Result<(), EngineError> {
        for i in done {
            let (gradient, weight) = (&mut gradients[i], self.share.weight);
            if earlier[i].is_empty() {
                gradient.iter_mut().for_each(|g| *g *= weight);
            } else {
                gradient.iter_mut().zip(&earlier[i]).for_each(|(g, e)| *g = (*g + e) * weight);
            }
            if gradient.len() >= BUCKET {
                self.share.reducer.begin_sum(std::mem::take(gradient).to_vec())?;
                self.begun.push(Begun::Alone(i));
                continue;
            }
            self.message.extend_from_slice(gradient);
            self.members.push(i);
            if self.message.len() >= BUCKET {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), EngineError> {
        self.share.reducer.begin_sum(std::mem::take(&mut self.message))?;
        self.begun.push(Begun::Together(std::mem::take(&mut self.members)));
        Ok(())
    }

    /// Waits for the sums over all executors and puts them in place of the gradients; drops those of `earlier` batches,
    /// which they hold.
    pub(crate) fn finish(
        mut self,
        gradients: &mut [Buffer],
        earlier: &mut [Vec<f32>],
    ) -> Result<(), EngineError> {
        if self.share.is_whole() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        self.take(rest, gradients, earlier)?;
        if !self.members.is_empty() {
            self.send()?;
        }
        for begun in &self.begun {
            let sums = self.share.reducer.finish_sum()?;
            let members = match begun {
                Begun::Alone(i) => {
                    gradients[*i] = Buffer::from(sums.as_slice());
                    continue;
                }
                Begun::Together(members) => members,
            };
            let mut sums = sums.as_slice();
            for &i in members {
                let (mine, others) = sums.split_at(gradients[i].len());
                gradients[i].copy_from_slice(mine);
                sums = others;
            }
        }
        earlier.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}
