//! Softmax, its logarithm, and the cross-entropy losses.

use crate::isa::{madd, multiversion};
use crate::parallel::{chunks, chunks_mut, parts};
use crate::{Isa, Store};
use crate::{math, par, scratch};

/// Where the axis lies: `x` is `[outer, axis, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Product of the dimensions before the axis.
    pub outer: usize,
    /// Length of the axis.
    pub axis: usize,
    /// Product of the dimensions after it.
    pub inner: usize,
}

impl Axis {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.outer * self.axis * self.inner
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

#[inline(always)]
fn max_of(x: &[f32]) -> f32 {
    // Eight running maxima vectorise; a maximum is the same in any order.
    let mut lanes = [f32::NEG_INFINITY; 8];
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        for (m, &v) in lanes.iter_mut().zip(chunk) {
            *m = if v > *m { v } else { *m };
        }
    }
    let rest = chunks.remainder().iter().copied();
    lanes.into_iter().chain(rest).fold(f32::NEG_INFINITY, |m, v| if v > m { v } else { m })
}

#[inline(always)]
fn sum_lanes(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        for (s, &v) in lanes.iter_mut().zip(chunk) {
            *s += v as f64;
        }
    }
    chunks.remainder().iter().fold(lanes.iter().sum::<f64>(), |s, &v| s + v as f64)
}

/// Softmax of one row of `scale * x`; returns the maximum and the sum of exponentials.
#[inline(always)]
fn row_body<const FMA: bool>(scale: f32, x: &[f32], y: &mut [f32]) -> (f32, f64) {
    let max = max_of(x) * scale;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = math::exp::<FMA>(madd::<FMA>(scale, x, -max));
    }
    let sum = sum_lanes(y);
    let inverse = (1.0 / sum) as f32;
    for y in y.iter_mut() {
        *y *= inverse;
    }
    (max, sum)
}

#[inline(always)]
fn log_row_body<const FMA: bool>(x: &[f32], y: &mut [f32]) {
    let (max, sum) = row_body::<FMA>(1.0, x, y);
    let log = sum.ln() as f32;
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - max) - log;
    }
}

#[inline(always)]
fn back_row_body<const FMA: bool>(y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    let mut dot = 0.0f64;
    for (&y, &dy) in y.iter().zip(dy) {
        dot += y as f64 * dy as f64;
    }
    let dot = dot as f32;
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        let d = y * (dy - dot);
        store.put(dx, d);
    }
}

#[inline(always)]
fn log_back_row_body<const FMA: bool>(y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    let sum = sum_lanes(dy) as f32;
    for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
        let d = dy - math::exp::<FMA>(y) * sum;
        store.put(dx, d);
    }
}

multiversion! {
    fn row_run(scale: f32, x: &[f32], y: &mut [f32]) -> (f32, f64) = row_body;
    fn log_row_run(x: &[f32], y: &mut [f32]) = log_row_body;
    fn back_row_run(y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) = back_row_body;
    fn log_back_row_run(y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) = log_back_row_body;
}

/// Runs `row(inputs, output)` along the axis; rows with a stride are gathered and scattered.
fn rows<const IN: usize>(
    axis: Axis,
    inputs: [&[f32]; IN],
    out: &mut [f32],
    row: impl Fn([&[f32]; IN], &mut [f32]) + Sync + Send,
) {
    assert!(inputs.iter().all(|x| x.len() == axis.len()) && out.len() == axis.len());
    let block = axis.axis * axis.inner;
    par::planes(out, block, |o, out| {
        let inputs = inputs.map(|x| &x[o * block..(o + 1) * block]);
        if axis.inner == 1 {
            return row(inputs, out);
        }
        scratch::with(axis.axis * (IN + 1), |buffer| {
            let (gathered, result) = buffer.split_at_mut(axis.axis * IN);
            for i in 0..axis.inner {
                for (lane, x) in gathered.chunks_exact_mut(axis.axis).zip(inputs) {
                    for (to, from) in lane.iter_mut().zip(x[i..].iter().step_by(axis.inner)) {
                        *to = *from;
                    }
                }
                for (to, from) in result.iter_mut().zip(out[i..].iter().step_by(axis.inner)) {
                    *to = *from;
                }
                let lanes: [&[f32]; IN] =
                    std::array::from_fn(|k| &gathered[k * axis.axis..(k + 1) * axis.axis]);
                row(lanes, result);
                for (to, from) in out[i..].iter_mut().step_by(axis.inner).zip(result.iter()) {
                    *to = *from;
                }
            }
        });
    });
}

/// `y = softmax(x)` along the axis.
pub fn forward(isa: Isa, axis: Axis, x: &[f32], y: &mut [f32]) {
    rows(axis, [x], y, |[x], y| {
        row_run(isa, 1.0, x, y);
    });
}

/// `dx = y (dy - <y, dy>)`, where `y` is the output of [`forward`].
pub fn backward(isa: Isa, axis: Axis, y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    rows(axis, [y, dy], dx, |[y, dy], dx| back_row_run(isa, y, dy, dx, store));
}

/// `y = log(softmax(x))` along the axis.
pub fn log_forward(isa: Isa, axis: Axis, x: &[f32], y: &mut [f32]) {
    rows(axis, [x], y, |[x], y| log_row_run(isa, x, y));
}

/// `dx = dy - e^y sum(dy)`, where `y` is the output of [`log_forward`].
pub fn log_backward(isa: Isa, axis: Axis, y: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    rows(axis, [y, dy], dx, |[y, dy], dx| log_back_row_run(isa, y, dy, dx, store));
}

/// A label is not a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label} of item {item} is not below the number of classes, {classes}")]
pub struct LabelOutOfRange {
    /// Position in the batch.
    pub item: usize,
    /// The label.
    pub label: u32,
    /// Number of classes.
    pub classes: usize,
}

/// Sums one loss for each item, in order, whatever the number of threads.
fn losses(
    classes: usize,
    logits: &[f32],
    dlogits: Option<&mut [f32]>,
    item: impl Fn(usize, &[f32], &mut [f32]) -> f64 + Sync + Send,
) -> f64 {
    let batch = logits.len().checked_div(classes).unwrap_or(0);
    assert_eq!(logits.len(), batch * classes);
    let mut each = vec![0.0; batch];
    let (sums, rows) = (chunks_mut(&mut each, 1), chunks(logits, classes));
    match dlogits {
        Some(d) => {
            assert_eq!(d.len(), logits.len());
            let all = (sums, rows, chunks_mut(d, classes));
            parts(all, 16, |i, (sum, x, d)| sum[0] = item(i, x, d));
        }
        None => parts((sums, rows), 16, |i, (sum, x)| {
            sum[0] = scratch::with(classes, |d| item(i, x, d));
        }),
    }
    each.iter().sum::<f64>() / batch.max(1) as f64
}

/// Mean over the batch of `-log softmax(x)[label]`, and its gradient (scaled by 1/batch) when `dlogits` is given.
///
/// `logits` is `[batch, classes]`. The loss is exact in `f64` up to the `f32` exponentials.
///
/// # Errors
/// [`LabelOutOfRange`], before anything is written.
pub fn cross_entropy(
    isa: Isa,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    dlogits: Option<&mut [f32]>,
) -> Result<f64, LabelOutOfRange> {
    assert_eq!(logits.len(), labels.len() * classes);
    if let Some(item) = labels.iter().position(|&l| l as usize >= classes) {
        return Err(LabelOutOfRange { item, label: labels[item], classes });
    }
    let scale = 1.0 / labels.len().max(1) as f32;
    Ok(losses(classes, logits, dlogits, |i, x, d| {
        let (max, sum) = row_run(isa, 1.0, x, d);
        let label = labels[i] as usize;
        let loss = sum.ln() + max as f64 - x[label] as f64;
        d[label] -= 1.0;
        d.iter_mut().for_each(|d| *d *= scale);
        loss
    }))
}

/// Mean over the batch of the cross-entropy between `targets` (a distribution for each item) and
/// `softmax(logits / temperature)`, times `temperature^2` as in distillation (Hinton et al. 2015, section 2.1), with the
/// gradient when `dlogits` is given.
pub fn soft_cross_entropy(
    isa: Isa,
    classes: usize,
    logits: &[f32],
    targets: &[f32],
    temperature: f32,
    dlogits: Option<&mut [f32]>,
) -> f64 {
    assert_eq!(logits.len(), targets.len());
    let batch = (logits.len().checked_div(classes).unwrap_or(0)).max(1);
    let inverse = 1.0 / temperature;
    let t = temperature as f64;
    losses(classes, logits, dlogits, |i, x, d| {
        let target = &targets[i * classes..(i + 1) * classes];
        let (max, sum) = row_run(isa, inverse, x, d);
        let log = sum.ln() + max as f64;
        let mut loss = 0.0;
        let mut mass = 0.0f64;
        for (&q, &x) in target.iter().zip(x) {
            mass += q as f64;
            // 0 * inf is 0 here: a class without mass adds nothing.
            if q != 0.0 {
                loss += q as f64 * (log - x as f64 / t);
            }
        }
        // d/dx of t^2 * loss is t * (mass * softmax - target).
        let scale = (t / batch as f64) as f32;
        for (d, &q) in d.iter_mut().zip(target) {
            *d = (mass as f32 * *d - q) * scale;
        }
        loss * t * t
    })
}

/// Turns rows of `classes` logits into probabilities in place: softmax(logits / temperature), the soft targets of
/// distillation (Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2, equation 1).
///
/// The largest logit is subtracted first, so that none overflows. `temperature` must be positive; 1 is the plain softmax.
///
/// # Panics
/// Where `logits` is no whole number of rows.
pub fn soften(logits: &mut [f32], classes: usize, temperature: f32) {
    let classes = classes.max(1);
    assert!(logits.len().is_multiple_of(classes));
    for row in logits.chunks_exact_mut(classes) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|v| *v = ((*v - top) / temperature).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn soft(axis: Axis, x: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; x.len()];
        for o in 0..axis.outer {
            for i in 0..axis.inner {
                let at = |a: usize| (o * axis.axis + a) * axis.inner + i;
                let max = (0..axis.axis).map(|a| x[at(a)]).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..axis.axis).map(|a| (x[at(a)] - max).exp()).sum();
                (0..axis.axis).for_each(|a| y[at(a)] = (x[at(a)] - max).exp() / sum);
            }
        }
        y
    }

    #[test]
    fn along_any_axis_with_gradients() {
        for (outer, len, inner) in [(3, 10, 1), (2, 7, 5), (1, 1, 4), (5, 19, 1)] {
            let axis = Axis { outer, axis: len, inner };
            let x: Vec<f32> = values(axis.len(), 1).iter().map(|v| v * 4.0).collect();
            let dy = values(axis.len(), 2);
            let dot = |y: Vec<f64>| -> f64 { y.iter().zip(&dy).map(|(a, &b)| a * b as f64).sum() };
            let want = soft(axis, &wide(&x));
            let log: Vec<f64> = want.iter().map(|v| v.ln()).collect();
            let grad = differences(&x, |x| dot(soft(axis, x)));
            let log_grad = differences(&x, |x| dot(soft(axis, x).iter().map(|v| v.ln()).collect()));
            for (isa, got) in on_all(|isa| {
                let mut y = vec![0.0; axis.len()];
                let mut dx = vec![0.0; axis.len()];
                forward(isa, axis, &x, &mut y);
                backward(isa, axis, &y, &dy, &mut dx, Store::Overwrite);
                backward(isa, axis, &y, &dy, &mut dx, Store::Accumulate);
                let mut ly = vec![0.0; axis.len()];
                let mut ldx = vec![0.0; axis.len()];
                log_forward(isa, axis, &x, &mut ly);
                log_backward(isa, axis, &ly, &dy, &mut ldx, Store::Overwrite);
                [y, dx, ly, ldx].concat()
            }) {
                let parts: Vec<&[f32]> = got.chunks(axis.len()).collect();
                assert_close(parts[0], &want, 1e-6, &format!("softmax {isa}"));
                let twice: Vec<f64> = grad.iter().map(|v| 2.0 * v).collect();
                assert_close(parts[1], &twice, 2e-6, "gradient, accumulated");
                assert_close(parts[2], &log, 1e-6, "log softmax");
                assert_close(parts[3], &log_grad, 3e-6, "its gradient");
            }
        }
    }

    #[test]
    fn cross_entropy_and_gradient() {
        let (batch, classes) = (37, 10);
        let x: Vec<f32> = values(batch * classes, 1).iter().map(|v| v * 6.0).collect();
        let labels: Vec<u32> = (0..batch as u32).map(|i| i * 7 % 10).collect();
        let axis = Axis { outer: batch, axis: classes, inner: 1 };
        let f = |x: &[f64]| -> f64 {
            let y = soft(axis, x);
            labels.iter().enumerate().map(|(i, &l)| -y[i * classes + l as usize].ln()).sum::<f64>()
                / batch as f64
        };
        let grad = differences(&x, f);
        for (_, d) in on_all(|isa| {
            let mut d = vec![0.0; x.len()];
            let loss = cross_entropy(isa, classes, &x, &labels, Some(&mut d)).expect("labels");
            assert!((loss - f(&wide(&x))).abs() < 1e-6);
            assert_eq!(loss, cross_entropy(isa, classes, &x, &labels, None).expect("labels"));
            d
        }) {
            assert_close(&d, &grad, 1e-6, "gradient");
        }
        let bad = cross_entropy(Isa::Scalar, 2, &[0.0; 4], &[1, 2], None);
        assert_eq!(bad, Err(LabelOutOfRange { item: 1, label: 2, classes: 2 }));
    }

    #[test]
    fn soft_targets_with_temperature() {
        let (batch, classes, t) = (5, 7, 3.0f32);
        let x: Vec<f32> = values(batch * classes, 1).iter().map(|v| v * 6.0).collect();
        let axis = Axis { outer: batch, axis: classes, inner: 1 };
        let q = soft(axis, &wide(&values(batch * classes, 2)));
        let q32: Vec<f32> = q.iter().map(|&v| v as f32).collect();
        let f = |x: &[f64]| -> f64 {
            let y = soft(axis, &x.iter().map(|v| v / t as f64).collect::<Vec<_>>());
            let sum: f64 = y.iter().zip(&q).map(|(y, q)| -q * y.ln()).sum();
            sum * (t * t) as f64 / batch as f64
        };
        let grad = differences(&x, f);
        for (_, d) in on_all(|isa| {
            let mut d = vec![0.0; x.len()];
            let loss = soft_cross_entropy(isa, classes, &x, &q32, t, Some(&mut d));
            assert!((loss - f(&wide(&x))).abs() < 1e-5);
            d
        }) {
            assert_close(&d, &grad, 1e-6, "gradient");
        }
    }
    #[test]
    fn temperature_softens_and_rows_sum_to_one() {
        let mut sharp = vec![1.0, 2.0, 3.0, 1000.0, 0.0, 0.0];
        let mut gentle = sharp.clone();
        soften(&mut sharp, 3, 1.0);
        soften(&mut gentle, 3, 4.0);
        assert!((sharp[2] - 0.665_24).abs() < 1e-4 && gentle[2] < sharp[2]);
        assert_eq!(sharp[3..], [1.0, 0.0, 0.0]);
        assert!((gentle[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn soft_targets_agree_with_double_precision_and_have_no_gradient_at_themselves() {
        let (batch, classes, t) = (5, 7, 3.0f32);
        let x: Vec<f32> = values(batch * classes, 1).iter().map(|v| v * 6.0).collect();
        let axis = Axis { outer: batch, axis: classes, inner: 1 };
        let want = soft(axis, &x.iter().map(|&v| v as f64 / t as f64).collect::<Vec<_>>());
        let mut q = x.clone();
        soften(&mut q, classes, t);
        assert_close(&q, &want, 1e-6, "soft targets");
        // A student that equals its teacher is where the distillation loss is least.
        let mut d = vec![0.0; x.len()];
        soft_cross_entropy(Isa::detect(), classes, &x, &q, t, Some(&mut d));
        assert!(d.iter().all(|d| d.abs() < 1e-6));
    }
}
