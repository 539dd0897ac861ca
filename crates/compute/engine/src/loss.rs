//! Loss and accuracy of a batch.

use slq_kernels::losses::{Hinge, euclidean, hinge, sigmoid_cross_entropy};
use slq_kernels::softmax::{cross_entropy, soft_cross_entropy};
use slq_kernels::{Buffer, Isa};

use crate::error::EngineError;
use crate::ops::Place;
use crate::options::{Loss, Statistics, Target};
use crate::plan::Logits;

/// Checks a target against the batch before anything is computed.
pub(crate) fn check_target(target: &Target<'_>, images: usize, logits: &Logits) -> Result<(), EngineError> {
    let (classes, loss) = (logits.classes, logits.loss);
    let (found, expected) = match target {
        Target::Labels(labels) => (labels.len(), images),
        Target::Distribution { probabilities, .. } => (probabilities.len(), images * classes),
        // Its values are computed on the images.
        Target::Network => return Ok(()),
    };
    if found != expected {
        return Err(EngineError::TargetCount { found, expected, images });
    }
    match target {
        Target::Labels(_) | Target::Distribution { .. } if loss == Loss::SquaredError => {
            Err(EngineError::NetworkOnly { loss })
        }
        Target::Labels(labels) => {
            let classes = loss.labels(classes);
            match labels.iter().position(|&l| l as usize >= classes) {
                Some(image) => Err(EngineError::Label { image, label: labels[image], classes }),
                None => Ok(()),
            }
        }
        Target::Distribution { .. } if loss != Loss::SoftmaxCrossEntropy => {
            Err(EngineError::LabelsOnly { loss })
        }
        Target::Distribution { temperature, .. } if !(*temperature > 0.0 && temperature.is_finite()) => {
            Err(EngineError::Temperature { temperature: *temperature })
        }
        Target::Distribution { .. } | Target::Network => Ok(()),
    }
}

/// Loss and correct predictions.
pub(crate) fn value(buffers: &[Buffer], logits: &Logits, target: &Target<'_>, isa: Isa) -> Statistics {
    let Place::Slot { slot, len } = logits.place else { return Statistics::default() };
    compare(isa, logits, &buffers[slot][..len], target, None)
}

/// Loss times `weight`, and correct predictions; writes the gradient of the weighted loss.
pub(crate) fn with_gradient(
    buffers: &mut [Buffer],
    logits: &Logits,
    target: &Target<'_>,
    weight: f32,
    isa: Isa,
) -> Statistics {
    let Place::Slot { slot, len } = logits.place else { return Statistics::default() };
    let Place::Slot { slot: gradient_slot, .. } = logits.gradient else {
        return value(buffers, logits, target, isa);
    };
    let mut gradient = std::mem::take(&mut buffers[gradient_slot]);
    let scores = &buffers[slot][..len];
    let mut statistics = compare(isa, logits, scores, target, Some(&mut gradient[..len]));
    if weight != 1.0 {
        gradient[..len].iter_mut().for_each(|g| *g *= weight);
        statistics.loss *= f64::from(weight);
    }
    buffers[gradient_slot] = gradient;
    statistics
}

fn compare(
    isa: Isa,
    logits: &Logits,
    scores: &[f32],
    target: &Target<'_>,
    gradient: Option<&mut [f32]>,
) -> Statistics {
    let classes = logits.classes;
    let loss = match (*target, logits.loss) {
        // Labels were checked before; a label out of range would give NaN.
        (Target::Labels(labels), Loss::SoftmaxCrossEntropy) => {
            cross_entropy(isa, classes, scores, labels, gradient).unwrap_or(f64::NAN)
        }
        (Target::Labels(labels), Loss::SigmoidCrossEntropy) => {
            sigmoid_cross_entropy(scores, labels, gradient)
        }
        (Target::Labels(labels), Loss::Euclidean) => euclidean(scores, labels, gradient),
        (Target::Labels(labels), Loss::Hinge) => hinge(Hinge::Plain, classes, scores, labels, gradient),
        (Target::Labels(labels), Loss::SquaredHinge) => {
            hinge(Hinge::Squared, classes, scores, labels, gradient)
        }
        (Target::Distribution { probabilities, temperature }, _) => {
            soft_cross_entropy(isa, classes, scores, probabilities, temperature, gradient)
        }
        // Checked before, or compared with the network's values instead.
        (Target::Labels(_), Loss::SquaredError) | (Target::Network, _) => f64::NAN,
    };
    let rows = scores.chunks_exact(classes);
    let mut statistics = Statistics { loss, images: rows.len(), ..Statistics::default() };
    for (i, row) in rows.enumerate() {
        let label = match *target {
            Target::Labels(labels) => labels[i] as usize,
            Target::Distribution { probabilities, .. } => {
                first_maximum(&probabilities[i * classes..][..classes])
            }
            Target::Network => break,
        };
        let rank = match logits.loss {
            // One score ranks no classes: the prediction is right (rank 0) or wrong (no rank).
            Loss::SigmoidCrossEntropy => rank_if(usize::from(row[0] > 0.0) == label),
            Loss::Euclidean => rank_if(row[0].round() == label as f32),
            _ => rank(row, label),
        };
        statistics.top1 += usize::from(rank == 0);
        statistics.top5 += usize::from(rank < 5);
    }
    statistics
}

/// The rank of the label for a loss of one score.
fn rank_if(right: bool) -> usize {
    if right { 0 } else { usize::MAX }
}

/// Position of the largest value; the first of equals.
pub(crate) fn first_maximum(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if x > row[best] {
            best = i;
        }
    }
    best
}

/// How many classes come before `label`: those with a larger score, and earlier ones with the same. NaN
/// comes before all.
fn rank(row: &[f32], label: usize) -> usize {
    let own = row[label];
    let after = |i: usize, x: f32| x < own || (x == own && i > label);
    row.iter().enumerate().filter(|&(i, &x)| i != label && !after(i, x)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(classes: usize, loss: Loss) -> Logits {
        Logits { place: Place::Absent, gradient: Place::Absent, classes, loss }
    }

    #[test]
    fn one_score_is_right_or_wrong() {
        let hits = |loss, scores: &[f32], labels: &[u32]| {
            let seen = compare(Isa::Scalar, &logits(1, loss), scores, &Target::Labels(labels), None);
            (seen.top1, seen.top5)
        };
        assert_eq!(hits(Loss::SigmoidCrossEntropy, &[0.1, -0.1, 0.0, f32::NAN], &[1, 1, 0, 1]), (2, 2));
        assert_eq!(hits(Loss::Euclidean, &[3.4, 3.6, -1.0, f32::NAN], &[3, 3, 1, 0]), (1, 1));
    }

    #[test]
    fn losses_of_labels_refuse_distributions_and_other_labels() {
        let sigmoid = &logits(1, Loss::SigmoidCrossEntropy);
        assert_eq!(check_target(&Target::Labels(&[0, 1]), 2, sigmoid), Ok(()));
        let two = check_target(&Target::Labels(&[0, 2]), 2, sigmoid);
        assert_eq!(two, Err(EngineError::Label { image: 1, label: 2, classes: 2 }));
        assert_eq!(check_target(&Target::Labels(&[u32::MAX]), 1, &logits(1, Loss::Euclidean)), Ok(()));
        let soft = Target::Distribution { probabilities: &[1.0], temperature: 1.0 };
        let refused = check_target(&soft, 1, sigmoid);
        assert_eq!(refused, Err(EngineError::LabelsOnly { loss: Loss::SigmoidCrossEntropy }));
    }

    #[test]
    fn ties_go_to_the_first_class() {
        assert_eq!(rank(&[1.0, 1.0, 0.0], 0), 0);
        assert_eq!(rank(&[1.0, 1.0, 0.0], 1), 1);
        assert_eq!(rank(&[0.0; 7], 4), 4);
        assert_eq!(rank(&[0.0; 7], 5), 5);
        assert_eq!(first_maximum(&[0.0, 2.0, 2.0]), 1);
    }

    #[test]
    fn nan_is_never_right() {
        assert_eq!(rank(&[f32::NAN, 0.0, 1.0], 0), 2);
        assert_eq!(rank(&[f32::NAN, 0.0, 1.0], 2), 1);
    }

    #[test]
    fn correct_predictions_are_counted_for_labels_and_distributions() {
        let three = &logits(3, Loss::SoftmaxCrossEntropy);
        let scores = [0.1, 0.9, 0.0, 0.5, 0.2, 0.3];
        let by_label = compare(Isa::Scalar, three, &scores, &Target::Labels(&[1, 1]), None);
        assert_eq!((by_label.top1, by_label.top5, by_label.images), (1, 2, 2));
        let probabilities = [0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let target = Target::Distribution { probabilities: &probabilities, temperature: 1.0 };
        let by_distribution = compare(Isa::Scalar, three, &scores, &target, None);
        assert_eq!(by_distribution.top1, 1);
        assert!((by_distribution.loss - by_label.loss).abs() < 1e-6);
    }

    #[test]
    fn bad_targets_are_refused() {
        let [two, three] = [2, 3].map(|classes| logits(classes, Loss::SoftmaxCrossEntropy));
        let short = check_target(&Target::Labels(&[0]), 2, &three);
        assert_eq!(short, Err(EngineError::TargetCount { found: 1, expected: 2, images: 2 }));
        let past = check_target(&Target::Labels(&[0, 3]), 2, &three);
        assert_eq!(past, Err(EngineError::Label { image: 1, label: 3, classes: 3 }));
        for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let target = Target::Distribution { probabilities: &[1.0, 0.0], temperature };
            assert!(matches!(check_target(&target, 1, &two), Err(EngineError::Temperature { .. })));
        }
    }
}
