//! Training towards the values of another network, at any outputs: distillation without labels.

use slq_kernels::losses::squared_error;
use slq_kernels::softmax::{soft_cross_entropy, soften};
use slq_kernels::{Buffer, Isa};

use crate::error::EngineError;
use crate::loss::first_maximum;
use crate::ops::Place;
use crate::options::{Loss, Statistics};
use crate::plan::Logits;

/// Loss and agreement at one head; `scores` and `values` are those of the two networks. With `gradient`, the gradient of the
/// mean loss is written.
///
/// [`Loss::SquaredError`]: the mean squared difference; the agreement of an example is the cosine between the two, 0 where
/// it is negative. Other losses are classes: the Kullback-Leibler divergence at the temperature T, times T^2; the agreement
/// is the share of rows with the same largest value. Agreements are summed over the `images` examples.
pub(crate) fn compare(
    isa: Isa,
    head: &Logits,
    images: usize,
    (scores, values): (&[f32], &[f32]),
    temperature: f32,
    gradient: Option<&mut [f32]>,
) -> Statistics {
    if head.loss == Loss::SquaredError {
        let loss = squared_error(scores, values, gradient);
        let len = (scores.len() / images.max(1)).max(1);
        let agreement = scores.chunks(len).zip(values.chunks(len)).map(|(s, v)| cosine(s, v).max(0.0)).sum();
        return Statistics { loss, agreement, images, ..Statistics::default() };
    }
    let classes = head.classes.max(1);
    let mut wanted = values.to_vec();
    soften(&mut wanted, classes, temperature);
    let crossed = soft_cross_entropy(isa, classes, scores, &wanted, temperature, gradient);
    let rows = (values.len() / classes).max(1) as f64;
    let entropy: f64 = wanted.iter().filter(|p| **p > 0.0).map(|&p| -f64::from(p) * f64::from(p).ln()).sum();
    let same = scores.chunks_exact(classes).zip(values.chunks_exact(classes));
    let same = same.filter(|(s, v)| first_maximum(s) == first_maximum(v)).count();
    let loss = crossed - f64::from(temperature).powi(2) * entropy / rows;
    Statistics { loss, agreement: same as f64 / rows * images as f64, images, ..Statistics::default() }
}

/// The cosine of the angle between two vectors; 1 for two of length 0, 0 where one is or the values are not finite.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut product, mut lengths) = (0.0, [0.0f64; 2]);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        product += x * y;
        lengths = [lengths[0] + x * x, lengths[1] + y * y];
    }
    let found = if lengths == [0.0; 2] { 1.0 } else { product / (lengths[0] * lengths[1]).sqrt() };
    if found.is_finite() { found.min(1.0) } else { 0.0 }
}

/// The weighted losses at all heads, whose values in the other network are `values`; writes the gradients where the plan has
/// places for them. Agreements are averaged over the heads.
pub(crate) fn at_heads(
    buffers: &mut [Buffer],
    heads: &[(Logits, f32)],
    (values, temperature): (&[Vec<f32>], f32),
    images: usize,
    isa: Isa,
) -> Statistics {
    let mut sum = Statistics { images, ..Statistics::default() };
    for ((head, weight), values) in heads.iter().zip(values) {
        let Place::Slot { slot, len } = head.place else { continue };
        let seen = if let Place::Slot { slot: own, .. } = head.gradient {
            let mut gradient = std::mem::take(&mut buffers[own]);
            let scores = &buffers[slot][..len];
            let seen = compare(isa, head, images, (scores, values), temperature, Some(&mut gradient[..len]));
            gradient[..len].iter_mut().for_each(|g| *g *= weight);
            buffers[own] = gradient;
            seen
        } else {
            compare(isa, head, images, (&buffers[slot][..len], values), temperature, None)
        };
        sum.loss += f64::from(*weight) * seen.loss;
        sum.agreement += seen.agreement / heads.len() as f64;
    }
    sum
}

/// Checks that another network's heads have as many values as this one's.
///
/// # Errors
/// [`EngineError::Head`].
pub(crate) fn check_heads(
    names: &[String],
    own: &[(Logits, f32)],
    other: &[(Logits, f32)],
) -> Result<(), EngineError> {
    let len = |(head, _): &(Logits, f32)| match head.place {
        Place::Slot { len, .. } => len,
        _ => 0,
    };
    let differs = |i: &usize| own.get(*i).map(len) != other.get(*i).map(len);
    let count = own.len().max(other.len());
    match (0..count).find(differs) {
        None => Ok(()),
        Some(at) => {
            let output = names.get(at).cloned().unwrap_or_default();
            let problem = "the network to follow has another number of values there";
            Err(EngineError::Head { output, problem })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(classes: usize, loss: Loss) -> Logits {
        Logits { place: Place::Absent, gradient: Place::Absent, classes, loss }
    }

    #[test]
    fn the_same_values_have_no_loss_and_agree() {
        let values = [0.5f32, -1.0, 2.0, 0.0, 3.0, 1.0];
        for (loss, classes) in [(Loss::SquaredError, 3), (Loss::SoftmaxCrossEntropy, 3)] {
            let mut gradient = [9.0f32; 6];
            let both = (&values[..], &values[..]);
            let seen = compare(Isa::Scalar, &head(classes, loss), 2, both, 2.0, Some(&mut gradient));
            assert!(seen.loss.abs() < 1e-6 && (seen.agreement - 2.0).abs() < 1e-6, "{seen:?}");
            assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{gradient:?}");
        }
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let (scores, values) = ([0.5f32, -1.0, 2.0, 0.0, 3.0, 1.0], [0.2f32, -0.5, 1.0, 1.0, 2.0, 0.0]);
        for loss in [Loss::SquaredError, Loss::SoftmaxCrossEntropy] {
            let of = |scores: &[f32], gradient: Option<&mut [f32]>| {
                compare(Isa::Scalar, &head(3, loss), 2, (scores, &values), 2.0, gradient).loss
            };
            let mut gradient = [0.0f32; 6];
            of(&scores, Some(&mut gradient));
            for i in 0..6 {
                let moved = |by: f32| {
                    let mut scores = scores;
                    scores[i] += by;
                    of(&scores, None)
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (slope - f64::from(gradient[i])).abs() < 1e-3,
                    "{loss:?} {i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn cosines_of_what_has_no_direction() {
        assert_eq!((cosine(&[0.0], &[0.0]), cosine(&[0.0], &[1.0])), (1.0, 0.0));
        assert_eq!(cosine(&[f32::NAN], &[1.0]), 0.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 2.0]), 0.0);
    }
}
