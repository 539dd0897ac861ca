//! Bilinear resizing with antialiasing.
//!
//! Separable: a horizontal pass, then a vertical one, each a weighted mean under a triangle whose width is two pixels, or
//! two steps of the output grid when the image shrinks. 8-bit images are computed as Pillow does, to the bit: weights in
//! fixed point, and rounding after each pass.

/// A value that pixels are stored as.
pub(crate) trait Pixel: Copy + Default + Send + Sync {
    /// A weight, and a sum of weighted pixels.
    type Sum: Copy + Send + Sync;
    /// What a sum starts at.
    const START: Self::Sum;
    /// The value as a float.
    fn float(self) -> f32;
    /// The nearest weight that can be represented.
    fn weight(exact: f64) -> Self::Sum;
    /// Adds a weighted pixel.
    fn add(self, weight: Self::Sum, sum: Self::Sum) -> Self::Sum;
    /// The value of a sum.
    fn finish(sum: Self::Sum) -> Self;
    /// Grey from red, green and blue (BT.601).
    fn luma(r: Self, g: Self, b: Self) -> Self;
}

/// Fraction bits of the weights of 8-bit pixels: 8 for the pixel and 2 of reserve remain of 32.
const FRACTION: u32 = 22;

impl Pixel for u8 {
    type Sum = i32;
    const START: i32 = 1 << (FRACTION - 1);
    fn float(self) -> f32 {
        f32::from(self)
    }
    fn weight(exact: f64) -> i32 {
        (exact * f64::from(1 << FRACTION) + 0.5) as i32
    }
    fn add(self, weight: i32, sum: i32) -> i32 {
        sum + i32::from(self) * weight
    }
    fn finish(sum: i32) -> u8 {
        (sum >> FRACTION).clamp(0, 255) as u8
    }
    // The weights in 16-bit fixed point, with rounding: Pillow's conversion to "L".
    fn luma(r: u8, g: u8, b: u8) -> u8 {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    }
}

impl Pixel for f32 {
    type Sum = f32;
    const START: f32 = 0.0;
    fn float(self) -> f32 {
        self
    }
    fn weight(exact: f64) -> f32 {
        exact as f32
    }
    fn add(self, weight: f32, sum: f32) -> f32 {
        sum + self * weight
    }
    fn finish(sum: f32) -> f32 {
        sum
    }
    fn luma(r: f32, g: f32, b: f32) -> f32 {
        0.299 * r + 0.587 * g + 0.114 * b
    }
}

/// The input pixels that make one output pixel: the first, and where their weights stand.
#[derive(Debug)]
struct Tap {
    first: usize,
    weights: std::ops::Range<usize>,
}

/// Taps and weights for resizing `from` pixels to `to`.
fn taps<T: Pixel>(from: usize, to: usize) -> (Vec<Tap>, Vec<T::Sum>) {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    let mut weights = Vec::new();
    let taps = (0..to).map(|i| {
        let centre = (i as f64 + 0.5) * step;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let last = ((centre + reach + 0.5) as usize).min(from);
        let start = weights.len();
        let raw: Vec<f64> =
            (first..last).map(|x| (1.0 - ((x as f64 + 0.5 - centre) / reach).abs()).max(0.0)).collect();
        let sum: f64 = raw.iter().sum();
        weights.extend(raw.iter().map(|w| T::weight(w / sum)));
        Tap { first, weights: start..weights.len() }
    });
    (taps.collect(), weights)
}

/// Resizes `channels` planes of `[height, width]` into `out`.
pub(crate) fn resize<T: Pixel>(
    pixels: &[T],
    channels: usize,
    [height, width]: [usize; 2],
    [to_height, to_width]: [usize; 2],
    out: &mut Vec<T>,
) {
    let (columns, column_weights) = taps::<T>(width, to_width);
    let (rows, row_weights) = taps::<T>(height, to_height);
    out.clear();
    out.resize(channels * to_height * to_width, T::default());
    let mut narrow = vec![T::default(); height * to_width];
    let mut sum = vec![T::START; to_width];
    for (plane, target) in pixels.chunks_exact(height * width).zip(out.chunks_exact_mut(to_height * to_width))
    {
        for (row, target) in plane.chunks_exact(width).zip(narrow.chunks_exact_mut(to_width)) {
            for (tap, value) in columns.iter().zip(target) {
                let weights = &column_weights[tap.weights.clone()];
                let inputs = &row[tap.first..][..weights.len()];
                *value = T::finish(inputs.iter().zip(weights).fold(T::START, |sum, (x, &w)| x.add(w, sum)));
            }
        }
        for (tap, target) in rows.iter().zip(target.chunks_exact_mut(to_width)) {
            sum.fill(T::START);
            for (y, &weight) in row_weights[tap.weights.clone()].iter().enumerate() {
                let row = &narrow[(tap.first + y) * to_width..][..to_width];
                for (sum, x) in sum.iter_mut().zip(row) {
                    *sum = x.add(weight, *sum);
                }
            }
            for (value, &sum) in target.iter_mut().zip(&sum) {
                *value = T::finish(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn the_result_is_that_of_pillow() {
        let (image, [channels, height, width]) = fixture::planes("image");
        let mut wrong = Vec::new();
        for to in [[15, 20], [20, 53], [60, 80], [50, 7], [1, 1]] {
            let (expected, _) = fixture::planes(&format!("to_{}x{}", to[0], to[1]));
            let mut out = Vec::new();
            resize(&image, channels, [height, width], to, &mut out);
            if out != expected {
                wrong.push((to, out.iter().zip(&expected).filter(|(a, b)| a != b).count()));
            }
        }
        assert!(wrong.is_empty(), "size and differing values: {wrong:?}");
    }

    #[test]
    fn luma_is_that_of_pillow() {
        let (image, [_, height, width]) = fixture::planes("image");
        let area = height * width;
        let luma: Vec<u8> =
            (0..area).map(|i| u8::luma(image[i], image[area + i], image[2 * area + i])).collect();
        assert_eq!(luma, fixture::array("luma").0);
    }

    #[test]
    fn floats_are_not_rounded() {
        let mut out = Vec::new();
        resize(&[0.0f32, 1.0, 0.25, 0.5], 1, [1, 4], [1, 2], &mut out);
        // Weights 3/8, 3/8, 1/4 x 1/2 of a triangle of width 2: by hand for the first output.
        let first = (0.75 * 0.0 + 0.75 * 1.0 + 0.25 * 0.25) / 1.75;
        assert!((out[0] - first).abs() < 1e-6, "{out:?}");
        resize(&[3.0f32; 35], 1, [5, 7], [11, 2], &mut out);
        assert!(out.iter().all(|value| (value - 3.0).abs() < 1e-6), "{out:?}");
    }
}
