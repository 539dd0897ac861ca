//! Bilinear resizing with antialiasing.
//!
//! Separable: a horizontal pass, then a vertical one, each a weighted mean under a triangle whose width is two pixels, or
//! two steps of the output grid when the image shrinks. 8-bit images are rounded after each pass, as Pillow does.

/// A value that pixels are stored as.
pub(crate) trait Pixel: Copy + Default + Send + Sync {
    /// The value as a float.
    fn float(self) -> f32;
    /// The nearest storable value.
    fn store(value: f32) -> Self;
    /// Grey from red, green and blue (BT.601).
    fn luma(r: Self, g: Self, b: Self) -> Self;
}

impl Pixel for u8 {
    fn float(self) -> f32 {
        f32::from(self)
    }
    fn store(value: f32) -> u8 {
        // The cast saturates.
        (value + 0.5) as u8
    }
    // The weights in 16-bit fixed point, with rounding: Pillow's conversion to "L".
    fn luma(r: u8, g: u8, b: u8) -> u8 {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    }
}

impl Pixel for f32 {
    fn float(self) -> f32 {
        self
    }
    fn store(value: f32) -> f32 {
        value
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
fn taps(from: usize, to: usize) -> (Vec<Tap>, Vec<f32>) {
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
        weights.extend(raw.iter().map(|w| (w / sum) as f32));
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
    let (columns, column_weights) = taps(width, to_width);
    let (rows, row_weights) = taps(height, to_height);
    out.clear();
    out.resize(channels * to_height * to_width, T::default());
    let mut narrow = vec![T::default(); height * to_width];
    let mut sum = vec![0.0f32; to_width];
    for (plane, target) in pixels.chunks_exact(height * width).zip(out.chunks_exact_mut(to_height * to_width))
    {
        for (row, target) in plane.chunks_exact(width).zip(narrow.chunks_exact_mut(to_width)) {
            for (tap, value) in columns.iter().zip(target) {
                let weights = &column_weights[tap.weights.clone()];
                let inputs = &row[tap.first..][..weights.len()];
                *value = T::store(inputs.iter().zip(weights).map(|(x, w)| x.float() * w).sum());
            }
        }
        for (tap, target) in rows.iter().zip(target.chunks_exact_mut(to_width)) {
            sum.fill(0.0);
            for (y, weight) in row_weights[tap.weights.clone()].iter().enumerate() {
                let row = &narrow[(tap.first + y) * to_width..][..to_width];
                for (sum, x) in sum.iter_mut().zip(row) {
                    *sum += x.float() * weight;
                }
            }
            for (value, sum) in target.iter_mut().zip(&sum) {
                *value = T::store(*sum);
            }
        }
    }
}
