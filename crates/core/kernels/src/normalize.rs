//! Normalisation of rows by their own mean and variance, then a scale and a shift: layer, group, instance and root mean
//! square normalisation.
//!
//! Statistics are summed in double precision, in an order that depends on the row's length alone.

use crate::parallel::{chunks, chunks_mut, parts};

/// How a tensor is cut into rows, and which scale belongs to each element.
///
/// Element j of row r has the scale number `((r % period) * len + j) / inner`; `inner` divides `len`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rows {
    /// Elements of a row.
    pub len: usize,
    /// Rows after which the scales repeat.
    pub period: usize,
    /// Neighbouring elements that share a scale.
    pub inner: usize,
    /// Whether the mean is subtracted; without it the root mean square takes the place of the deviation.
    pub centred: bool,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Where the gradients go that are needed; each is overwritten.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// Of the input.
    pub x: Option<&'a mut [f32]>,
    /// Of the scale.
    pub scale: Option<&'a mut [f32]>,
    /// Of the shift.
    pub bias: Option<&'a mut [f32]>,
}

/// Blocks of rows whose sums of the parameters' gradients are taken apart.
const BLOCKS: usize = 16;

impl Rows {
    /// Number of scales.
    pub fn scales(&self) -> usize {
        self.period * self.len / self.inner
    }

    /// Values of working memory that [`backward`] needs for the gradients of scale and shift.
    pub fn scratch(&self) -> usize {
        2 * BLOCKS * self.scales()
    }

    /// The number of the first scale of row `r`.
    fn first(&self, r: usize) -> usize {
        (r % self.period) * self.len / self.inner
    }

    /// Mean, or 0 where it is not subtracted, and the factor that makes the variance 1.
    fn statistics(&self, row: &[f32]) -> (f64, f64) {
        let mean = if self.centred { sum(row, f64::from) / row.len() as f64 } else { 0.0 };
        let variance = sum(row, |x| (f64::from(x) - mean).powi(2)) / row.len() as f64;
        (mean, 1.0 / (variance + f64::from(self.epsilon)).sqrt())
    }
}

/// The sum of `f` over a row, in eight interleaved parts.
fn sum(row: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let mut parts = [0.0; 8];
    let (chunks, rest) = row.as_chunks::<8>();
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(p, &x)| *p += f(x));
    }
    parts.iter_mut().zip(rest).for_each(|(p, &x)| *p += f(x));
    parts.iter().sum()
}

/// y = (x - mean) / deviation * scale + bias, row by row.
pub fn forward(rows: &Rows, x: &[f32], scale: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let pairs = (chunks_mut(y, rows.len), chunks(x, rows.len));
    parts(pairs, 4096 / rows.len.max(1), |r, (y, x)| {
        let (mean, factor) = rows.statistics(x);
        let (mean, factor) = (mean as f32, factor as f32);
        let first = rows.first(r);
        if rows.inner == 1 {
            let scale = &scale[first..][..rows.len];
            y.iter_mut().zip(x).zip(scale).for_each(|((y, &x), &s)| *y = (x - mean) * factor * s);
            if let Some(bias) = bias {
                y.iter_mut().zip(&bias[first..]).for_each(|(y, &b)| *y += b);
            }
            return;
        }
        for (c, (y, x)) in y.chunks_mut(rows.inner).zip(x.chunks(rows.inner)).enumerate() {
            let (s, b) = (factor * scale[first + c], bias.map_or(0.0, |b| b[first + c]));
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - mean) * s + b);
        }
    });
}

/// The gradients of [`forward`]; `scratch` holds [`Rows::scratch`] values where those of scale or shift are asked for.
pub fn backward(rows: &Rows, x: &[f32], scale: &[f32], dy: &[f32], to: Gradients<'_>, scratch: &mut [f32]) {
    if let Some(dx) = to.x {
        input_gradient(rows, x, scale, dy, dx);
    }
    if to.scale.is_none() && to.bias.is_none() {
        return;
    }
    let (count, scales) = (x.len() / rows.len.max(1), rows.scales());
    let block = count.div_ceil(BLOCKS).max(1);
    parts(chunks_mut(scratch, 2 * scales), 1, |b, sums| {
        sums.fill(0.0);
        let (dscale, dbias) = sums.split_at_mut(scales);
        for r in b * block..((b + 1) * block).min(count) {
            let (x, dy) = (&x[r * rows.len..][..rows.len], &dy[r * rows.len..][..rows.len]);
            let (mean, factor) = rows.statistics(x);
            let (mean, factor, first) = (mean as f32, factor as f32, rows.first(r));
            for (c, (x, dy)) in x.chunks(rows.inner).zip(dy.chunks(rows.inner)).enumerate() {
                dscale[first + c] += x.iter().zip(dy).map(|(&x, &d)| (x - mean) * factor * d).sum::<f32>();
                dbias[first + c] += dy.iter().sum::<f32>();
            }
        }
    });
    for (gradient, half) in [(to.scale, 0), (to.bias, scales)] {
        let Some(gradient) = gradient else { continue };
        gradient.fill(0.0);
        for sums in scratch.chunks(2 * scales) {
            gradient.iter_mut().zip(&sums[half..]).for_each(|(g, s)| *g += s);
        }
    }
}

/// With x' the normalised input and g = dy * scale: dx = factor * (g - mean(g) - x' mean(g x')).
fn input_gradient(rows: &Rows, x: &[f32], scale: &[f32], dy: &[f32], dx: &mut [f32]) {
    let all = (chunks_mut(dx, rows.len), chunks(x, rows.len), chunks(dy, rows.len));
    parts(all, 4096 / rows.len.max(1), |r, (dx, x, dy)| {
        let (mean, factor) = rows.statistics(x);
        let first = rows.first(r);
        for (c, (dx, dy)) in dx.chunks_mut(rows.inner).zip(dy.chunks(rows.inner)).enumerate() {
            let s = scale[first + c];
            dx.iter_mut().zip(dy).for_each(|(g, &d)| *g = d * s);
        }
        let n = rows.len as f64;
        let middle = if rows.centred { sum(dx, f64::from) / n } else { 0.0 };
        let mut along = 0.0;
        for (&g, &x) in dx.iter().zip(x) {
            along += f64::from(g) * (f64::from(x) - mean) * factor;
        }
        let (along, middle) = (along / n, middle as f32);
        let (mean, slope, factor) = (mean as f32, (along * factor) as f32, factor as f32);
        dx.iter_mut().zip(x).for_each(|(g, &x)| *g = factor * (*g - middle - (x - mean) * slope));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 7.0 - 1.4).collect()
    }

    const ROWS: [Rows; 4] = [
        Rows { len: 12, period: 1, inner: 1, centred: true, epsilon: 1e-5 },
        Rows { len: 12, period: 1, inner: 1, centred: false, epsilon: 1e-5 },
        Rows { len: 6, period: 4, inner: 6, centred: true, epsilon: 1e-3 },
        Rows { len: 12, period: 2, inner: 6, centred: true, epsilon: 1e-5 },
    ];

    #[test]
    fn rows_have_mean_0_and_variance_1() {
        for rows in ROWS {
            let x = values(48, 1);
            let mut y = vec![0.0; 48];
            forward(&rows, &x, &vec![1.0; rows.scales()], None, &mut y);
            for row in y.chunks(rows.len) {
                let n = row.len() as f32;
                let mean = row.iter().sum::<f32>() / n;
                assert!(!rows.centred || mean.abs() < 1e-5, "{mean}");
                assert!((row.iter().map(|v| v * v).sum::<f32>() / n - 1.0).abs() < 5e-3);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        for rows in ROWS {
            let (x, w, scales) = (values(48, 2), values(48, 5), rows.scales());
            let (scale, bias) = (values(scales, 3), values(scales, 4));
            // The derivative of sum(w y) with respect to each operand.
            let loss = |x: &[f32], scale: &[f32], bias: &[f32]| {
                let mut y = vec![0.0; 48];
                forward(&rows, x, scale, Some(bias), &mut y);
                y.iter().zip(&w).map(|(y, w)| f64::from(y * w)).sum::<f64>()
            };
            let (mut dx, mut dscale, mut dbias) = (vec![9.0; 48], vec![9.0; scales], vec![9.0; scales]);
            let to = Gradients { x: Some(&mut dx), scale: Some(&mut dscale), bias: Some(&mut dbias) };
            backward(&rows, &x, &scale, &w, to, &mut vec![7.0; rows.scratch()]);
            let step = 1e-2;
            let around = |values: &[f32], i: usize, run: &dyn Fn(&[f32]) -> f64| {
                let (mut up, mut down) = (values.to_vec(), values.to_vec());
                up[i] += step;
                down[i] -= step;
                (run(&up) - run(&down)) / f64::from(up[i] - down[i])
            };
            for (i, &found) in dx.iter().enumerate() {
                let want = around(&x, i, &|x| loss(x, &scale, &bias));
                assert!((f64::from(found) - want).abs() < 2e-3 * (1.0 + want.abs()), "{rows:?} {i}");
            }
            for i in 0..scales {
                let want = around(&scale, i, &|s| loss(&x, s, &bias));
                assert!((f64::from(dscale[i]) - want).abs() < 2e-3 * (1.0 + want.abs()), "{rows:?} {i}");
                let want = around(&bias, i, &|b| loss(&x, &scale, b));
                assert!((f64::from(dbias[i]) - want).abs() < 2e-3 * (1.0 + want.abs()), "{rows:?} {i}");
            }
        }
    }
}
