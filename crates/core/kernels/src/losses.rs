//! Losses without a softmax. They have few numbers for each image, so plain loops serve.
//!
//! Each returns the mean over the images and, where asked, writes the mean's gradient over `gradient`.

/// The two hinge losses; a term is max(0, 1 - score) for the label and max(0, 1 + score) for every other class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hinge {
    /// The sum of the terms.
    Plain,
    /// The sum of their squares.
    Squared,
}

/// Cross-entropy of sigmoid(score) with labels 0 and 1; `scores` holds one for each label.
pub fn sigmoid_cross_entropy(scores: &[f32], labels: &[u32], gradient: Option<&mut [f32]>) -> f64 {
    each(1, scores, labels, gradient, |score, label, _| {
        let (x, t) = (f64::from(score), f64::from(label));
        // log(1 + exp(x)) - t x, without exponentials that overflow.
        let loss = x.max(0.0) - t * x + (-x.abs()).exp().ln_1p();
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        (loss, sigmoid - t)
    })
}

/// Half the squared distance of each score from its label as a number.
pub fn euclidean(scores: &[f32], labels: &[u32], gradient: Option<&mut [f32]>) -> f64 {
    each(1, scores, labels, gradient, |score, label, _| {
        let difference = f64::from(score) - f64::from(label);
        (0.5 * difference * difference, difference)
    })
}

/// Hinge loss; `scores` is labels x classes.
pub fn hinge(
    kind: Hinge,
    classes: usize,
    scores: &[f32],
    labels: &[u32],
    gradient: Option<&mut [f32]>,
) -> f64 {
    each(classes, scores, labels, gradient, |score, label, class| {
        let sign = if label as usize == class { -1.0 } else { 1.0 };
        let term = 1.0 + sign * f64::from(score);
        // NaN stays NaN.
        let term = if term < 0.0 { 0.0 } else { term };
        match kind {
            Hinge::Plain => (term, if term > 0.0 { sign } else { 0.0 }),
            Hinge::Squared => (term * term, 2.0 * sign * term),
        }
    })
}

/// Mean squared difference between values and targets, of the same number; its gradient is 2 (value - target) / number.
pub fn squared_error(values: &[f32], targets: &[f32], mut gradient: Option<&mut [f32]>) -> f64 {
    let count = values.len().max(1) as f64;
    let mut sum = 0.0;
    for (i, (&value, &target)) in values.iter().zip(targets).enumerate() {
        let difference = f64::from(value) - f64::from(target);
        sum += difference * difference;
        if let Some(gradient) = &mut gradient {
            gradient[i] = (2.0 * difference / count) as f32;
        }
    }
    sum / count
}

/// Mean over the images of the sums of `f(score, label, class)`, which also gives the derivative.
fn each(
    classes: usize,
    scores: &[f32],
    labels: &[u32],
    mut gradient: Option<&mut [f32]>,
    f: impl Fn(f32, u32, usize) -> (f64, f64),
) -> f64 {
    let images = labels.len().max(1) as f64;
    let mut sum = 0.0;
    for (i, &score) in scores.iter().enumerate() {
        let (loss, slope) = f(score, labels[i / classes], i % classes);
        sum += loss;
        if let Some(gradient) = &mut gradient {
            gradient[i] = (slope / images) as f32;
        }
    }
    sum / images
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(&[f32], &[u32], Option<&mut [f32]>) -> f64;

    /// Values and gradients are those of PyTorch 2.15: `binary_cross_entropy_with_logits` and half of `mse_loss`.
    #[test]
    fn values_and_gradients_are_pytorchs() {
        let (scores, labels) = ([0.5f32, -2.0, 30.0, -90.0], [1u32, 1, 0, 0]);
        let check = |f: Function, loss: f64, slopes: [f32; 4]| {
            let mut gradient = [f32::NAN; 4];
            let found = f(&scores, &labels, Some(&mut gradient));
            assert!((found - loss).abs() < 1e-6 * loss.abs().max(1.0), "{found} is not {loss}");
            for (found, want) in gradient.iter().zip(slopes) {
                assert!((found - want).abs() < 1e-6 * want.abs().max(1.0), "{found} is not {want}");
            }
            assert_eq!(f(&scores, &labels, None), found);
        };
        check(sigmoid_cross_entropy, 8.150_251, [-0.094_385_17, -0.220_199_27, 0.25, 0.0]);
        check(euclidean, 1_126.156_25, [-0.125, -0.75, 7.5, -22.5]);
    }

    /// PyTorch 2.15 agrees: half the sum of `clamp(1 + sign * scores, min=0)`, plain and squared.
    #[test]
    fn hinge_losses_and_gradients() {
        let (scores, labels) = ([0.5f32, -2.0, 0.25, 3.0, -0.5, 1.0], [0u32, 2]);
        let mut gradient = [f32::NAN; 6];
        // Image 0: 0.5 + 0 + 1.25, image 1: 4 + 0.5 + 0.
        let loss = hinge(Hinge::Plain, 3, &scores, &labels, Some(&mut gradient));
        assert_eq!((loss, gradient), ((1.75 + 4.5) / 2.0, [-0.5, 0.0, 0.5, 0.5, 0.5, 0.0]));
        let loss = hinge(Hinge::Squared, 3, &scores, &labels, Some(&mut gradient));
        assert_eq!(loss, (0.25 + 1.5625 + 16.0 + 0.25) / 2.0);
        assert_eq!(gradient, [-0.5, 0.0, 1.25, 4.0, 0.5, 0.0]);
    }

    #[test]
    fn squared_errors_and_their_gradient() {
        let mut gradient = [f32::NAN; 2];
        let loss = squared_error(&[1.0, -2.0], &[0.5, -1.0], Some(&mut gradient));
        assert_eq!((loss, gradient), ((0.25 + 1.0) / 2.0, [0.5, -1.0]));
        assert!(squared_error(&[f32::NAN], &[0.0], None).is_nan());
    }

    #[test]
    fn nan_stays_nan() {
        for f in [sigmoid_cross_entropy as Function, euclidean, |s, l, g| hinge(Hinge::Plain, 1, s, l, g)] {
            assert!(f(&[f32::NAN], &[0], None).is_nan());
        }
        assert!(sigmoid_cross_entropy(&[f32::MAX], &[1], None) == 0.0);
    }
}
