//! Convolution with weights that stay packed: expanded a panel of rows at a time where pixels are few, else a slab of output
//! channels.

use std::ops::Range;

use super::finish::Finish;
use super::taps::TapConv;
use super::{Conv, ConvGeometry, ConvNeeds, Forward, Post};
use crate::packed::PackedMatrix;
use crate::{Isa, Store, scratch};

/// Floats of a slab: 1 MB. Winograd transforms it to four times as many.
const SLAB: usize = 1 << 18;
/// Floats of gathered inputs at most: 2 MB.
const GATHERED: usize = 1 << 19;
/// Pixels that are few enough to be read again for each panel of weights.
const FEW: usize = 256;
/// Slabs within a group have a whole number of so many channels, which fill the tiles of all instruction sets.
const STEP: usize = 32;

/// Output channels whose weights are expanded together: whole groups, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slab {
    groups: Range<usize>,
    /// Output channels, counted over all groups.
    rows: Range<usize>,
    /// Which of the convolutions computes it.
    conv: usize,
}

/// A convolution of one shape whose weights are a [`PackedMatrix`] of `out_c` rows.
///
/// Memory for weights as floats does not grow with the layer. Where pixels are few, all inputs are gathered (at most 2 MB) and each
/// thread keeps a panel of rows; otherwise each thread keeps one buffer of a slab (1 MB, or 32 output channels where these are more)
/// and one for what a convolution makes of it.
#[derive(Debug)]
pub struct PackedConv {
    geometry: ConvGeometry,
    isa: Isa,
    how: How,
}

#[derive(Debug)]
enum How {
    Rows(Box<TapConv>),
    Slabs { slabs: Vec<Slab>, convs: Vec<Conv> },
}

/// Tensors of a pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    post: Post,
    onto: bool,
}

impl PackedConv {
    /// Chooses slabs and algorithms.
    ///
    /// # Panics
    /// As [`Conv::new`].
    pub fn new(geometry: ConvGeometry, isa: Isa) -> Self {
        // What a convolution asserts is asserted by the slabs.
        let slabs = Self::with_slab(geometry, isa, SLAB);
        let few = geometry.n * geometry.out_h() * geometry.out_w() <= FEW;
        let several = matches!(&slabs.how, How::Slabs { slabs, .. } if slabs.len() > 1);
        let suits = geometry.out_len() > 0 && (few || several);
        let rows = suits.then(|| Forward::by_rows(&geometry, isa.effective(), GATHERED)).flatten();
        match rows {
            Some(taps) => Self { how: How::Rows(Box::new(taps)), ..slabs },
            None => slabs,
        }
    }

    fn with_slab(geometry: ConvGeometry, isa: Isa, floats: usize) -> Self {
        let (mut slabs, mut convs): (Vec<Slab>, Vec<Conv>) = (Vec::new(), Vec::new());
        for (groups, rows) in cuts(&geometry, floats) {
            let part = ConvGeometry {
                c: groups.len() * geometry.group_c(),
                out_c: rows.len(),
                groups: groups.len(),
                ..geometry
            };
            let conv = convs.iter().position(|c| *c.geometry() == part).unwrap_or_else(|| {
                convs.push(Conv::new(part, isa, ConvNeeds::default()));
                convs.len() - 1
            });
            slabs.push(Slab { groups, rows, conv });
        }
        Self { geometry, isa, how: How::Slabs { slabs, convs } }
    }

    /// The shape.
    pub fn geometry(&self) -> &ConvGeometry {
        &self.geometry
    }

    /// Bytes that this object keeps, as [`Conv::scratch_bytes`].
    pub fn scratch_bytes(&self) -> usize {
        match &self.how {
            How::Rows(taps) => taps.bytes(),
            How::Slabs { convs, .. } => convs.iter().map(Conv::scratch_bytes).sum(),
        }
    }

    /// [`Conv::forward`] with weights `w`; where there are `factors`, the weights of each output channel are multiplied
    /// with its factor (a batch-norm behind the convolution).
    ///
    /// # Panics
    /// For slices and matrices of another size.
    pub fn forward(
        &mut self,
        x: &[f32],
        (w, factors): (&PackedMatrix, Option<&[f32]>),
        bias: Option<&[f32]>,
        post: Post,
        y: &mut [f32],
    ) {
        self.pass(Pass { x, bias, post, onto: false }, w, factors, y);
    }

    /// [`Conv::forward_onto`], likewise.
    ///
    /// # Panics
    /// As there, and for slices and matrices of another size.
    pub fn forward_onto(
        &mut self,
        x: &[f32],
        (w, factors): (&PackedMatrix, Option<&[f32]>),
        bias: Option<&[f32]>,
        post: Post,
        y: &mut [f32],
    ) {
        self.pass(Pass { x, bias, post, onto: true }, w, factors, y);
    }

    fn pass(&mut self, pass: Pass<'_>, w: &PackedMatrix, factors: Option<&[f32]>, y: &mut [f32]) {
        let g = self.geometry;
        let depth = g.group_c() * g.taps();
        assert!(w.rows() == g.out_c && w.depth() == depth, "weights");
        assert!(pass.x.len() == g.in_len() && y.len() == g.out_len(), "tensor sizes");
        assert!(pass.bias.is_none_or(|b| b.len() == g.out_c), "bias size");
        if y.is_empty() {
            return;
        }
        assert!(factors.is_none_or(|f| f.len() == g.out_c), "factors");
        let isa = self.isa;
        match &mut self.how {
            How::Rows(taps) => {
                let store = if pass.onto { Store::Accumulate } else { Store::Overwrite };
                let weights = |rows: Range<usize>, to: &mut [f32]| w.expand_rows(isa, rows, factors, to);
                taps.by_rows(&weights, pass.x, Finish::new(pass.bias, pass.post, store), y);
            }
            How::Slabs { slabs, convs } => by_slabs(&g, isa, slabs, convs, pass, (w, factors), y),
        }
    }
}

/// Slab by slab.
fn by_slabs(
    g: &ConvGeometry,
    isa: Isa,
    slabs: &[Slab],
    convs: &mut [Conv],
    pass: Pass<'_>,
    (w, factors): (&PackedMatrix, Option<&[f32]>),
    y: &mut [f32],
) {
    let depth = g.group_c() * g.taps();
    let (plane_in, plane_out) = (g.h * g.w, g.out_h() * g.out_w());
    for slab in slabs {
        let conv = &mut convs[slab.conv];
        let channels = slab.groups.start * g.group_c()..slab.groups.end * g.group_c();
        let (inputs, outputs) = (*conv.geometry(), slab.rows.len() * plane_out);
        scratch::with(slab.rows.len() * depth, |floats| {
            w.expand(isa, slab.rows.clone(), factors, floats);
            let part = Pass { bias: pass.bias.map(|b| &b[slab.rows.clone()]), ..pass };
            let (rows, whole) = (slab.rows.clone(), inputs.out_c == g.out_c);
            if whole || g.n == 1 {
                // What the slab reads and writes is contiguous.
                let x =
                    if whole { pass.x } else { &pass.x[channels.start * plane_in..channels.end * plane_in] };
                let y = if whole { &mut *y } else { &mut y[rows.start * plane_out..rows.end * plane_out] };
                return run(conv, Pass { x, ..part }, floats, y);
            }
            let copied = if inputs.c == g.c { 0 } else { inputs.in_len() };
            scratch::with(g.n * outputs + copied, |buffer| {
                let (to, from) = buffer.split_at_mut(g.n * outputs);
                let mut x = pass.x;
                if copied > 0 {
                    planes(pass.x, g.c * plane_in, channels.start * plane_in, from, inputs.c * plane_in);
                    x = from;
                }
                let all = g.out_c * plane_out;
                if pass.onto {
                    planes(y, all, rows.start * plane_out, to, outputs);
                }
                run(conv, Pass { x, ..part }, floats, to);
                for (y, part) in y.chunks_exact_mut(all).zip(to.chunks_exact(outputs)) {
                    y[rows.start * plane_out..rows.end * plane_out].copy_from_slice(part);
                }
            });
        });
    }
}

fn run(conv: &mut Conv, pass: Pass<'_>, w: &[f32], y: &mut [f32]) {
    if pass.onto {
        conv.forward_onto(pass.x, w, pass.bias, pass.post, y);
    } else {
        conv.forward(pass.x, w, pass.bias, pass.post, y);
    }
}

/// Copies `len` elements from `start` on of each image of `image` elements.
fn planes(from: &[f32], image: usize, start: usize, to: &mut [f32], len: usize) {
    for (from, to) in from.chunks_exact(image).zip(to.chunks_exact_mut(len)) {
        to.copy_from_slice(&from[start..start + len]);
    }
}

/// Groups and output channels of each slab of at most `floats` weights (or of [`STEP`] channels, where these are more).
fn cuts(g: &ConvGeometry, floats: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let (row, rows) = (g.group_c() * g.taps(), g.group_out());
    let group = row * rows;
    let groups_of_slab = if g.weight_len() <= floats { g.groups } else { floats / group.max(1) };
    if groups_of_slab > 0 {
        let starts = (0..g.groups).step_by(groups_of_slab);
        let groups = starts.map(|s| s..g.groups.min(s + groups_of_slab));
        return groups.map(|s| (s.clone(), s.start * rows..s.end * rows)).collect();
    }
    let most = (floats / row / STEP * STEP).max(STEP);
    let parts = rows.div_ceil(most);
    let step = rows.div_ceil(parts).next_multiple_of(STEP).min(most);
    let part = |group: usize| {
        (0..rows)
            .step_by(step)
            .map(move |r| (group..group + 1, group * rows + r..group * rows + rows.min(r + step)))
    };
    (0..g.groups).flat_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::Order;
    use crate::testing::*;

    fn geometry(n: usize, c: usize, side: usize, out_c: usize, k: usize, groups: usize) -> ConvGeometry {
        let pads = [k / 2; 4];
        let (h, w, stride, dilation) = (side, side, [1; 2], [1; 2]);
        ConvGeometry { n, c, h, w, out_c, kh: k, kw: k, stride, pads, dilation, groups }
    }

    /// Whatever a packed convolution chooses.
    const ANY: usize = usize::MAX;

    /// Compares with the convolution of floats, for slabs of `floats` weights.
    fn check(g: ConvGeometry, floats: usize, factored: bool) {
        let depth = g.group_c() * g.taps();
        let book = values(16, 1);
        let codes: Vec<u8> = (0..g.weight_len()).map(|i| (i * 7919 % 16) as u8).collect();
        let w = PackedMatrix::new([g.out_c, depth], Order::Rows, &book, 1, &codes).unwrap();
        let factors: Vec<f32> = values(g.out_c, 2).iter().map(|v| 1.0 + 0.5 * v).collect();
        let factors = factored.then_some(factors.as_slice());
        let weight = |(i, &c): (usize, &u8)| book[usize::from(c)] * factors.map_or(1.0, |f| f[i / depth]);
        let dense: Vec<f32> = codes.iter().enumerate().map(weight).collect();
        let (x, bias, y0) = (values(g.in_len(), 3), values(g.out_c, 4), values(g.out_len(), 5));
        for onto in [false, true] {
            if onto && g.groups > 1 {
                continue;
            }
            for (isa, got) in on_all(|isa| {
                let mut conv = match floats {
                    ANY => PackedConv::new(g, isa),
                    _ => PackedConv::with_slab(g, isa, floats),
                };
                let mut y = y0.clone();
                if onto {
                    conv.forward_onto(&x, (&w, factors), Some(&bias), Post::Relu, &mut y);
                } else {
                    conv.forward(&x, (&w, factors), Some(&bias), Post::Relu, &mut y);
                }
                y
            }) {
                let mut conv = Conv::new(g, isa, ConvNeeds::default());
                let mut want = y0.clone();
                run(&mut conv, Pass { x: &x, bias: Some(&bias), post: Post::Relu, onto }, &dense, &mut want);
                assert_close(&got, &wide(&want), 2e-5, &format!("{g:?} {floats} {isa}"));
            }
        }
    }

    #[test]
    fn rows_and_slabs_give_what_the_float_convolution_gives() {
        for n in [1, 3] {
            for floats in [1, 1500, 1 << 20, ANY] {
                check(geometry(n, 8, 6, 70, 3, 1), floats, true);
                check(geometry(n, 16, 16, 72, 3, 1), floats, false);
                check(geometry(n, 24, 5, 96, 1, 1), floats, true);
                check(geometry(n, 12, 7, 144, 3, 2), floats, true);
                check(geometry(n, 40, 7, 40, 3, 40), floats, false);
            }
        }
    }

    #[test]
    fn slabs_cover_all_channels_once() {
        for (g, floats) in [
            (geometry(1, 512, 7, 512, 3, 1), SLAB),
            (geometry(1, 384, 13, 384, 3, 2), SLAB),
            (geometry(1, 64, 7, 100, 3, 1), 1000),
            (geometry(1, 64, 7, 64, 3, 64), 100),
        ] {
            let mut next = 0;
            for (groups, rows) in cuts(&g, floats) {
                assert_eq!(rows.start, next);
                assert!(rows.len() * g.group_c() * g.taps() <= floats || rows.len() <= STEP);
                assert!(groups.start * g.group_out() <= rows.start && rows.end <= groups.end * g.group_out());
                next = rows.end;
            }
            assert_eq!(next, g.out_c);
        }
    }
}
