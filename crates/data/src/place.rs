//! One image through a transform into its place in a batch.

use rand::Rng;

use crate::order::{Purpose, below, generator};
use crate::resize::{Pixel, resize};
use crate::storage::{Image, Pixels};
use crate::transform::{Phase, Plan, resized};
use crate::{AxisOrder, DataError};

/// The most pixels an image may have after a resize.
const MAX_RESIZED: usize = 1 << 26;

/// Buffers that one thread reuses from image to image.
#[derive(Debug, Default)]
pub(crate) struct Work {
    bytes: Buffers<u8>,
    floats: Buffers<f32>,
    /// One image with its channels first, where it is written with its channels last.
    planes: Vec<f32>,
}

#[derive(Debug, Default)]
struct Buffers<T> {
    luma: Vec<T>,
    resized: Vec<T>,
}

/// What the random numbers of one image depend on: the seed, which epoch it is seen in, and its position in the split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub seed: u64,
    pub epoch: u64,
    pub position: u32,
}

/// Writes one image, transformed, to `out` (of [`Plan::output_shape`]). `name` is for messages.
pub(crate) fn place(
    plan: &Plan,
    image: Image<'_>,
    draw: Draw,
    work: &mut Work,
    name: impl Fn() -> String,
    out: &mut [f32],
) -> Result<(), DataError> {
    let channels = plan.shape[0];
    if plan.axis_order == AxisOrder::ChannelsFirst || channels == 1 {
        return place_planes(plan, image, draw, work, name, out);
    }
    let mut planes = std::mem::take(&mut work.planes);
    planes.resize(out.len(), 0.0);
    place_planes(plan, image, draw, work, name, &mut planes)?;
    for (c, plane) in planes.chunks_exact(out.len() / channels).enumerate() {
        out[c..].iter_mut().step_by(channels).zip(plane).for_each(|(out, value)| *out = *value);
    }
    work.planes = planes;
    Ok(())
}

/// Writes one image, transformed, to `out`, one plane after the other (`plan.shape` values).
fn place_planes(
    plan: &Plan,
    image: Image<'_>,
    draw: Draw,
    work: &mut Work,
    name: impl Fn() -> String,
    out: &mut [f32],
) -> Result<(), DataError> {
    match image.pixels {
        Pixels::Bytes(pixels) => place_as(plan, pixels, image.shape, draw, &mut work.bytes, name, out),
        Pixels::Floats(pixels) => place_as(plan, pixels, image.shape, draw, &mut work.floats, name, out),
    }
}

fn place_as<'a, T: Pixel>(
    plan: &Plan,
    mut pixels: &'a [T],
    [mut channels, height, width]: [usize; 3],
    draw: Draw,
    buffers: &'a mut Buffers<T>,
    name: impl Fn() -> String,
    out: &mut [f32],
) -> Result<(), DataError> {
    let [out_channels, out_height, out_width] = plan.shape;
    if channels == 3 && out_channels == 1 {
        let (r, rest) = pixels.split_at(height * width);
        let (g, b) = rest.split_at(height * width);
        buffers.luma.clear();
        buffers.luma.extend(r.iter().zip(g).zip(b).map(|((&r, &g), &b)| T::luma(r, g, b)));
        pixels = &buffers.luma;
        channels = 1;
    }
    let mut size = [height, width];
    if let Some(how) = plan.resize
        && resized(how, size) != size
    {
        let to = resized(how, size);
        // A short side of an image that is one pixel high can mean millions of columns.
        if to[0].saturating_mul(to[1]) > MAX_RESIZED {
            return Err(DataError::ResizeTooLarge { place: name(), image: size, resized: to });
        }
        resize(pixels, channels, size, to, &mut buffers.resized);
        pixels = &buffers.resized;
        size = to;
    }
    let room = [0, 1].map(|d| (size[d] + 2 * plan.pad).checked_sub(plan.shape[d + 1]));
    let [Some(room_y), Some(room_x)] = room else {
        return Err(DataError::CropTooLarge { place: name(), crop: [out_height, out_width], image: size });
    };
    let crop = Crop::draw(plan, draw, [room_y, room_x]);
    for (c, plane) in out.chunks_exact_mut(out_height * out_width).enumerate() {
        let source = match (channels, plan.reverse_channels) {
            (1, _) => 0,
            (_, true) => channels - 1 - c,
            (_, false) => c,
        };
        let source = &pixels[source * size[0] * size[1]..][..size[0] * size[1]];
        place_plane(plan, c, source, size, crop, plane);
    }
    Ok(())
}

/// Where the output lies in the image, and whether it is mirrored.
#[derive(Clone, Copy, Debug)]
struct Crop {
    /// Row and column of its first pixel; negative inside the padding.
    top: isize,
    left: isize,
    mirrored: bool,
}

impl Crop {
    /// A random place in training, the centre in evaluation; `room` is how far the crop can move down and right.
    fn draw(plan: &Plan, draw: Draw, [room_y, room_x]: [usize; 2]) -> Crop {
        if plan.phase == Phase::Eval {
            return Crop { top: (room_y / 2) as isize, left: (room_x / 2) as isize, mirrored: false };
        }
        // All three numbers are drawn whatever is switched on, so that switching one on leaves the others as they are.
        let mut rng = generator(draw.seed, draw.epoch, Purpose::Augment, u64::from(draw.position));
        let (y, x) = (below(&mut rng, room_y + 1), below(&mut rng, room_x + 1));
        Crop {
            top: y as isize - plan.pad as isize,
            left: x as isize - plan.pad as isize,
            mirrored: rng.next_u64() >> 63 == 1 && plan.mirror,
        }
    }
}

/// Writes output channel `c`, whose pixels in an image of height and width `size` are `source`.
fn place_plane<T: Pixel>(
    plan: &Plan,
    c: usize,
    source: &[T],
    size: [usize; 2],
    crop: Crop,
    plane: &mut [f32],
) {
    let out_width = plan.shape[2];
    let (scale, mean, std) = (plan.scale, plan.mean[c], plan.std[c]);
    let scale_first = |x: f32| (x * scale - mean) / std;
    let mean_first = |x: f32| (x - mean) * scale / std;
    let padding = if plan.mean_first { mean_first(0.0) } else { scale_first(0.0) };
    // Columns of the output that show the image; the others show the padding.
    let from_x = (-crop.left).clamp(0, out_width as isize) as usize;
    let to_x = (size[1] as isize - crop.left).clamp(from_x as isize, out_width as isize) as usize;
    for (y, row) in plane.chunks_exact_mut(out_width).enumerate() {
        let source_y = y as isize + crop.top;
        if source_y < 0 || source_y >= size[0] as isize || from_x == to_x {
            row.fill(padding);
            continue;
        }
        let start = source_y as usize * size[1] + (from_x as isize + crop.left) as usize;
        let source = &source[start..][..to_x - from_x];
        row[..from_x].fill(padding);
        row[to_x..].fill(padding);
        let target = row[from_x..to_x].iter_mut().zip(source);
        match &plan.mean_image {
            Some(mean) => {
                let mean = &mean[c * size[0] * size[1] + start..][..to_x - from_x];
                let values = target.zip(mean).map(|((out, x), mean)| (out, x.float() - mean));
                values
                    .for_each(|(out, x)| *out = if plan.mean_first { mean_first(x) } else { scale_first(x) });
            }
            None if plan.mean_first => target.for_each(|(out, x)| *out = mean_first(x.float())),
            None => target.for_each(|(out, x)| *out = scale_first(x.float())),
        }
        if crop.mirrored {
            row.reverse();
        }
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
