//! Samples of a layer's input: patches at random positions, or rows.

use rayon::prelude::*;
use slq_graph::Tensor;
use slq_graph::op::Window;

use super::site::{Reads, Site};
use crate::quantize::calibrate::random::Random;

/// Positions sampled in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Picks {
    /// (image, row, column) of the output.
    Windows(Vec<[usize; 3]>),
    /// Rows of a matrix.
    Rows(Vec<usize>),
}

impl Picks {
    pub fn len(&self) -> usize {
        match self {
            Picks::Windows(places) => places.len(),
            Picks::Rows(rows) => rows.len(),
        }
    }

    /// Cut into up to `count` parts of about the same size, in order: samples of an image stay together as far as
    /// possible.
    pub fn parts(&self, count: usize) -> Vec<Picks> {
        let each = self.len().div_ceil(count.max(1)).max(1);
        match self {
            Picks::Windows(places) => places.chunks(each).map(|p| Picks::Windows(p.to_vec())).collect(),
            Picks::Rows(rows) => rows.chunks(each).map(|r| Picks::Rows(r.to_vec())).collect(),
        }
    }
}

/// A shape as that of images; sequences are images of height 1.
fn image(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, height, width] => Some([n, c, height, width]),
        [n, c, width] => Some([n, c, 1, width]),
        _ => None,
    }
}

/// How many samples a batch gives, and which. `input` and `output` are the shapes of what the layer reads and writes,
/// `images` the batch's images; `per_image` positions are taken of each.
pub(crate) fn picks(
    reads: &Reads,
    (input, output): (&[usize], &[usize]),
    images: usize,
    per_image: usize,
    random: impl Fn(u64) -> Random,
) -> Picks {
    match (reads, image(output)) {
        (Reads::Windows { .. }, Some([n, _, height, width])) => {
            let mut places = Vec::with_capacity(n * per_image.min(height * width));
            for image in 0..n {
                let chosen = random(image as u64).choose(per_image, height * width);
                places.extend(chosen.into_iter().map(|at| [image, at / width, at % width]));
            }
            Picks::Windows(places)
        }
        (Reads::Columns, _) => {
            let rows = input.last().copied().unwrap_or(0);
            Picks::Rows(random(0).choose(images.saturating_mul(per_image), rows))
        }
        _ => {
            let rows = input.iter().rev().skip(1).product();
            Picks::Rows(random(0).choose(images.saturating_mul(per_image), rows))
        }
    }
}

/// The samples at `picks` of the layer's input, (groups x columns) x samples. `input` must be of floats, as the engine
/// returns them.
pub(crate) fn gather(site: &Site, input: &Tensor, picks: &Picks) -> Vec<f32> {
    let values = input.as_f32().unwrap_or_default();
    let samples = picks.len();
    let columns = site.shape.groups * site.shape.columns;
    let mut out = vec![0.0; columns * samples];
    if samples == 0 {
        return out;
    }
    match (picks, &site.reads, input.shape()) {
        (Picks::Windows(places), Reads::Windows { window, transposed, .. }, shape) => {
            let Some([_, channels, height, width]) = image(shape) else { return out };
            let sources = sources(window, *transposed, places, [height, width]);
            let taps = window.kernel[0] * window.kernel[1];
            let plane = height * width;
            out.par_chunks_mut(taps * samples).enumerate().for_each(|(channel, rows)| {
                for (value, &[image, at]) in rows.iter_mut().zip(&sources) {
                    if at != PADDING {
                        *value = values[(image as usize * channels + channel) * plane + at as usize];
                    }
                }
            });
        }
        (Picks::Rows(rows), Reads::Columns, &[_, width]) => {
            out.par_chunks_mut(samples).enumerate().for_each(|(column, out)| {
                out.iter_mut().zip(rows).for_each(|(o, &row)| *o = values[column * width + row]);
            });
        }
        (Picks::Rows(rows), _, _) => {
            out.par_chunks_mut(samples).enumerate().for_each(|(column, out)| {
                out.iter_mut().zip(rows).for_each(|(o, &row)| *o = values[row * columns + column]);
            });
        }
        _ => {}
    }
    out
}

/// The values of an output-shaped tensor at `picks`, rows x samples.
pub(crate) fn gather_outputs(site: &Site, output: &Tensor, picks: &Picks) -> Vec<f32> {
    let values = output.as_f32().unwrap_or_default();
    let (rows, samples) = (site.shape.rows, picks.len());
    let mut out = vec![0.0; rows * samples];
    if samples == 0 {
        return out;
    }
    match (picks, image(output.shape())) {
        (Picks::Windows(places), Some([_, channels, height, width])) => {
            out.par_chunks_mut(samples).enumerate().for_each(|(channel, out)| {
                for (o, &[image, y, x]) in out.iter_mut().zip(places) {
                    *o = values[((image * channels + channel) * height + y) * width + x];
                }
            });
        }
        (Picks::Rows(chosen), _) => {
            out.par_chunks_mut(samples).enumerate().for_each(|(column, out)| {
                out.iter_mut().zip(chosen).for_each(|(o, &row)| *o = values[row * rows + column]);
            });
        }
        _ => {}
    }
    out
}

/// Stands for a pixel in the padding.
const PADDING: u32 = u32::MAX;

/// Image and pixel that each tap reads at each place, taps x places.
fn sources(window: &Window, transposed: bool, places: &[[usize; 3]], size: [usize; 2]) -> Vec<[u32; 2]> {
    let pads = window.resolve_pads(size);
    let source = if transposed { transposed_source } else { source };
    let taps = 0..window.kernel[0] * window.kernel[1];
    let of = |tap: usize, &[image, y, x]: &[usize; 3]| {
        let at = source(window, &pads, tap, [y, x], size).and_then(|at| u32::try_from(at).ok());
        [image as u32, at.unwrap_or(PADDING)]
    };
    taps.flat_map(|tap| places.iter().map(move |place| of(tap, place))).collect()
}

/// The pixel that a tap of the window at an output position reads; `None` in the padding.
fn source(window: &Window, pads: &[usize; 4], tap: usize, at: [usize; 2], size: [usize; 2]) -> Option<usize> {
    let taps = [tap / window.kernel[1], tap % window.kernel[1]];
    let mut place = [0; 2];
    for i in 0..2 {
        let padded = at[i] * window.strides[i] + taps[i] * window.dilations[i];
        place[i] = padded.checked_sub(pads[i]).filter(|&p| p < size[i])?;
    }
    Some(place[0] * size[1] + place[1])
}

/// The pixel whose product with a tap a transposed convolution adds at an output position.
fn transposed_source(
    window: &Window,
    pads: &[usize; 4],
    tap: usize,
    at: [usize; 2],
    size: [usize; 2],
) -> Option<usize> {
    let taps = [tap / window.kernel[1], tap % window.kernel[1]];
    let mut place = [0; 2];
    for i in 0..2 {
        let steps = (at[i] + pads[i]).checked_sub(taps[i] * window.dilations[i])?;
        let whole = steps.is_multiple_of(window.strides[i]);
        place[i] = Some(steps / window.strides[i]).filter(|&p| whole && p < size[i])?;
    }
    Some(place[0] * size[1] + place[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_sets_of_the_size_asked_for_and_even() {
        let mut hits = [0; 10];
        for seed in 0..2000 {
            let chosen = Random::of(seed, &[3, 4]).choose(3, 10);
            assert_eq!(chosen.len(), 3);
            assert!(chosen.windows(2).all(|p| p[0] < p[1]));
            chosen.iter().for_each(|&c| hits[c] += 1);
        }
        assert!(hits.iter().all(|h| (500..700).contains(h)), "{hits:?}");
        assert_eq!(Random::of(1, &[]).choose(9, 4), [0, 1, 2, 3]);
        assert_ne!(Random::of(1, &[1]).choose(8, 1000), Random::of(1, &[2]).choose(8, 1000));
    }
}
