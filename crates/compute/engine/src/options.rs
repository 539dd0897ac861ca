//! Settings of an executor and of a training step.

use std::sync::Arc;

use slq_graph::Graph;
use slq_kernels::Isa;
use slq_kernels::centroids::CentroidRule;

/// How batch normalisation behaves in [`train_step`](crate::Executor::train_step).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// Batch statistics normalise, and the running ones are updated.
    #[default]
    Train,
    /// Running statistics normalise and stay as they are; scale and bias are trained.
    Frozen,
    /// As [`Train`](Self::Train), by the statistics of all shares of a step together ([`Share`](crate::Share)).
    Sync,
}

/// The loss of scores against labels; its mean over the images is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Loss {
    /// Cross-entropy of the softmax over the classes.
    #[default]
    SoftmaxCrossEntropy,
    /// Cross-entropy of the sigmoid of one score, for labels 0 and 1. A positive score predicts label 1.
    SigmoidCrossEntropy,
    /// Half the squared difference between one output and the label as a number. The prediction is the rounded output.
    Euclidean,
    /// Sum over the classes of max(0, 1 - score) for the label's and max(0, 1 + score) for the others.
    Hinge,
    /// The same with each term squared.
    SquaredHinge,
    /// Mean squared difference from the values of another network ([`Target::Network`]); labels have none.
    SquaredError,
}

impl Loss {
    /// Whether it takes a single score for each image.
    pub fn takes_one_score(self) -> bool {
        matches!(self, Loss::SigmoidCrossEntropy | Loss::Euclidean)
    }

    /// Number of labels (0, 1, ...) that it accepts where there are `scores` scores for each image.
    pub fn labels(self, scores: usize) -> usize {
        match self {
            Loss::SigmoidCrossEntropy => 2,
            Loss::Euclidean => (u32::MAX as usize).saturating_add(1),
            Loss::SoftmaxCrossEntropy | Loss::Hinge | Loss::SquaredHinge | Loss::SquaredError => scores,
        }
    }
}

/// An output with a loss, and its weight in the sum that training minimises.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Name of a graph output of class scores; for [`Loss::SoftmaxCrossEntropy`] either logits or probabilities.
    pub output: String,
    /// Weight of its loss.
    pub weight: f32,
    /// Its loss.
    #[serde(default)]
    pub loss: Loss,
}

impl Head {
    /// Softmax cross-entropy at `output`.
    pub fn softmax(output: &str, weight: f32) -> Self {
        Self { output: output.into(), weight, loss: Loss::SoftmaxCrossEntropy }
    }
}

/// Another network with the same inputs and outputs, whose values at the heads are followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Follow {
    /// The network.
    pub network: Arc<Graph>,
    /// Temperature of both networks' class scores, see [`Target::Distribution`](crate::Target::Distribution).
    pub temperature: f32,
}

/// How an executor is built.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// Instruction set; [`Isa::detect`] by default. Results are the same bits on any number of threads, but
    /// may differ in the last bits between instruction sets.
    pub isa: Isa,
    /// Batch normalisation while training.
    pub batch_norm: BatchNormMode,
    /// Seed of the dropout masks; with the iteration it determines them.
    pub seed: u64,
    /// Outputs whose losses are trained on, such as GoogLeNet's auxiliary classifiers; an empty list means the first
    /// output with softmax cross-entropy and weight 1. Evaluation uses the first output alone.
    pub heads: Vec<Head>,
    /// Another network whose values at all heads are followed, in evaluation too, where the target is [`Target::Network`].
    /// Labels and distributions then have no loss.
    pub follow: Option<Follow>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            isa: Isa::detect(),
            batch_norm: BatchNormMode::Train,
            seed: 0,
            heads: Vec::new(),
            follow: None,
        }
    }
}

/// The target of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target<'a> {
    /// One class for each image: softmax cross-entropy.
    Labels(&'a [u32]),
    /// A distribution over the classes for each image, as from another network: T^2 times the cross-entropy
    /// between it and softmax(logits / T). The factor keeps the gradient's size independent of T (Hinton,
    /// Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.1).
    Distribution {
        /// N x classes, each row summing to 1.
        probabilities: &'a [f32],
        /// T, the temperature of the distribution (see [`soften`](crate::soften)); 1 for plain probabilities.
        temperature: f32,
    },
    /// The values of the network that [`EngineOptions::follow`] names, on the same examples.
    Network,
}

/// The update rule of the optimiser; g is the gradient with weight decay, m the mask (0 for fixed weights). The rules behind
/// the first two are Caffe's, whose formulas stand at [`Adaptive`](slq_kernels::adaptive::Adaptive).
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UpdateRule {
    /// v = mu v + lr g, w -= m v: the rate enters the history, as in Caffe.
    Caffe,
    /// v = mu v + g, w -= lr m v, as in PyTorch.
    #[default]
    PyTorch,
    /// Adam; the momentum is its first decay.
    Adam {
        /// Decay of the second moment.
        momentum2: f32,
        /// Added to the root of the second moment.
        delta: f32,
    },
    /// RMSProp; it has no momentum.
    RmsProp {
        /// Decay of the mean square.
        decay: f32,
        /// Added to the root.
        delta: f32,
    },
    /// AdaGrad; it has no momentum.
    AdaGrad {
        /// Added to the root.
        delta: f32,
    },
    /// AdaDelta; the momentum is the decay of both means.
    AdaDelta {
        /// Added to both means.
        delta: f32,
    },
}

impl UpdateRule {
    /// The rule by which centroids are trained under this one; `None` for the adaptive rules, which have none.
    pub fn for_centroids(self) -> Option<CentroidRule> {
        match self {
            UpdateRule::Caffe => Some(CentroidRule::Caffe),
            UpdateRule::PyTorch => Some(CentroidRule::PyTorch),
            UpdateRule::Adam { .. }
            | UpdateRule::RmsProp { .. }
            | UpdateRule::AdaGrad { .. }
            | UpdateRule::AdaDelta { .. } => None,
        }
    }
}

/// The penalty that weight decay adds to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Penalty {
    /// Half the sum of squares.
    #[default]
    L2,
    /// The sum of absolute values.
    L1,
}

/// Settings of one step of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepSettings {
    /// Learning rate of this step (after the policy); a weight's `lr_mult` multiplies it.
    pub learning_rate: f32,
    /// Momentum mu.
    pub momentum: f32,
    /// Weight decay; a weight's `decay_mult` multiplies it.
    pub weight_decay: f32,
    /// The penalty of the weight decay.
    pub penalty: Penalty,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Update rule.
    pub rule: UpdateRule,
    /// Largest global norm of the gradient over all tensors that train; a larger one is scaled down to it.
    pub clip_gradients: Option<f32>,
    /// Batches in the step: this one, and those before it that were given to
    /// [`accumulate`](crate::Executor::accumulate). The sum of their gradients is divided by it after clipping.
    pub iter_size: usize,
    /// Steps of this training before this one: Adam's correction counts them.
    pub iteration: u64,
}

impl Default for StepSettings {
    fn default() -> Self {
        Self {
            learning_rate: 0.01,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: false,
            rule: UpdateRule::default(),
            clip_gradients: None,
            penalty: Penalty::L2,
            iter_size: 1,
            iteration: 0,
        }
    }
}

/// Loss and accuracy of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Statistics {
    /// Mean loss over the batch (when training, the weighted sum over all heads); 0 where no target was given.
    pub loss: f64,
    /// Images whose label (or the target distribution's argmax) is the argmax of the logits; earlier classes win ties.
    pub top1: usize,
    /// Images whose label is among the five largest logits; earlier classes win ties.
    pub top5: usize,
    /// Images in the batch.
    pub images: usize,
    /// For [`Target::Network`], summed over the images and averaged over the heads: 1 where the class with the largest score
    /// is the same, or the cosine between both networks' values; otherwise 0.
    pub agreement: f64,
}

impl Statistics {
    /// Adds another batch: counts add up, the loss becomes the mean over all images.
    pub fn merge(&mut self, other: &Statistics) {
        let images = self.images + other.images;
        if images > 0 {
            let total = self.loss * self.images as f64 + other.loss * other.images as f64;
            self.loss = total / images as f64;
        }
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.agreement += other.agreement;
        self.images = images;
    }

    /// Top-1 accuracy; 0 for no images.
    pub fn accuracy(&self) -> f64 {
        if self.images == 0 { 0.0 } else { self.top1 as f64 / self.images as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_weights_the_loss_by_images() {
        let mut a = Statistics { loss: 1.0, top1: 1, top5: 2, images: 3, agreement: 1.5 };
        a.merge(&Statistics { loss: 5.0, top1: 1, top5: 1, images: 1, agreement: 0.5 });
        assert_eq!(a, Statistics { loss: 2.0, top1: 2, top5: 3, images: 4, agreement: 2.0 });
        assert_eq!(a.accuracy(), 0.5);
        let mut empty = Statistics::default();
        empty.merge(&Statistics::default());
        assert_eq!((empty.loss, empty.accuracy()), (0.0, 0.0));
    }
    #[test]
    fn centroids_have_the_momentum_rules_only() {
        assert_eq!(UpdateRule::Caffe.for_centroids(), Some(CentroidRule::Caffe));
        assert_eq!(UpdateRule::PyTorch.for_centroids(), Some(CentroidRule::PyTorch));
        assert_eq!(UpdateRule::AdaGrad { delta: 1e-8 }.for_centroids(), None);
    }
}
