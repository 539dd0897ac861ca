//! Convolution with kernels of 3 x 1 and 1 x 3 by F(4, 3): 6 products for 4 output pixels, where the definition has 12.
//!
//! Each lane of a vector is a tile of one channel, since thin layers have too few channels to fill vectors. Two vectors of
//! tiles of all channels are transformed; then come 6 matrix products (output channels x channels by channels x tiles) in
//! the micro-kernels of GEMM, and the transform back into the planes.

mod transforms;

use super::transforms::{FILTER_SCALE, evaluate};
use crate::Isa;
use crate::conv::finish::Finish;
use crate::conv::geometry::{ConvGeometry, Pass};
use crate::gemm::micro::{Kernels, cut};
use crate::simd::{Plain, Simd};
use crate::{par, scratch};
use transforms::{Columns, OUT, PRODUCTS, Piece, Pixels, Place, Transforms};

/// Channels read times channels written, below which transforms cost more than products save.
const PAIRS: usize = 384;
/// Most transformed weights, so that they stay in the second-level cache.
const WEIGHTS: usize = 96 * 1024;
/// Floats between one product's matrix and the next beyond its size, so that the 6 do not fall on the same cache lines.
const APART: usize = 48;
/// Pairs of vectors of a work item: enough to find its weights in cache after the first.
const HOLD: usize = 8;

/// The forward pass, or the data gradient.
pub(crate) struct Winograd1d {
    isa: Isa,
    transforms: &'static Transforms,
    n: usize,
    groups: usize,
    /// Channels of a group: read, written.
    channels: usize,
    rows: usize,
    /// Pixels of a plane that is read, and of one that is written.
    source: usize,
    target: usize,
    pass: Pass,
    /// The vectors of tiles of a plane.
    places: Vec<Place>,
    /// Where panels of rows begin, and where the last ends.
    panels: Vec<usize>,
}

impl Winograd1d {
    /// The forward pass, if it is of the right kind and size.
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let before = [g.pads[0], g.pads[1]];
        Self::new(g, isa, [g.h, g.w], before, [g.out_h(), g.out_w()], Pass::Forward)
    }

    /// The data gradient, if it is of the right kind and size.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let before = [(g.kh - 1).checked_sub(g.pads[0])?, (g.kw - 1).checked_sub(g.pads[1])?];
        Self::new(g, isa, [g.out_h(), g.out_w()], before, [g.h, g.w], Pass::DataGradient)
    }

    fn new(
        g: &ConvGeometry,
        isa: Isa,
        source: [usize; 2],
        before: [usize; 2],
        target: [usize; 2],
        pass: Pass,
    ) -> Option<Self> {
        let transforms = Transforms::of(isa)?;
        let (channels, rows) = pass.channels(g);
        let pixels = source[0] * source[1];
        let fits = g.stride == [1; 2]
            && g.dilation == [1; 2]
            && g.out_len() > 0
            && i32::try_from(pixels.max(target[0] * target[1])).is_ok()
            && channels * rows >= PAIRS
            && PRODUCTS * channels * rows <= WEIGHTS;
        let lanes = Kernels::of(isa).lanes;
        let places = match [g.kh, g.kw] {
            [3, 1] if fits && source[1] == target[1] && before[1] == 0 => {
                down(source, before[0], target[0], lanes)?
            }
            [1, 3] if fits && source == target && before == [0, 1] => across(target, lanes)?,
            _ => return None,
        };
        // Lanes and rows that do not exist cost as much as others.
        let worthwhile = 4 * target[0] * target[1] >= 3 * OUT * lanes * places.len();
        let planes = [source, target].map(|p| p[0] * p[1]);
        let panels = Kernels::of(isa).panels(rows);
        let panels = (0..=panels).map(|p| cut(rows, panels, p)).collect();
        worthwhile.then_some(Self {
            isa,
            transforms,
            n: g.n,
            groups: g.groups,
            channels,
            rows,
            source: planes[0],
            target: planes[1],
            pass,
            places,
            panels,
        })
    }

    /// Bytes of the table of places.
    pub(crate) fn bytes(&self) -> usize {
        self.places.len() * size_of::<Place>()
    }

    /// Transformed weights of a group: product, panel of rows, channel, row.
    fn transform_weights(&self, group: usize, w: &[f32], to: &mut [f32]) {
        let (channels, rows) = (self.channels, self.rows);
        for panel in self.panels.windows(2) {
            let (r0, r1) = (panel[0], panel[1]);
            for c in 0..channels {
                for r in r0..r1 {
                    let taps: [f32; 3] = match self.pass {
                        Pass::Forward => {
                            let w = &w[((group * rows + r) * channels + c) * 3..][..3];
                            [w[0], w[1], w[2]]
                        }
                        Pass::DataGradient => {
                            let w = &w[((group * channels + c) * rows + r) * 3..][..3];
                            [w[2], w[1], w[0]]
                        }
                    };
                    // SAFETY: plain code needs no instruction set.
                    let values =
                        unsafe { evaluate::<Plain, 3>(taps.map(|t| [t; Plain::LANES]), FILTER_SCALE) };
                    for (p, v) in values.iter().enumerate() {
                        to[p * channels * rows + channels * r0 + c * (r1 - r0) + r - r0] = v[0];
                    }
                }
            }
        }
    }

    /// The sums of `x` and weights `w`, stored in `y` as `finish` says.
    pub(crate) fn run(&self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let size = PRODUCTS * self.channels * self.rows;
        let pairs = (self.n * self.places.len()).div_ceil(2);
        let items = pairs.div_ceil(HOLD).max(16usize.div_ceil(self.groups)).min(pairs);
        let out = par::Shared::new(y);
        scratch::with(self.groups * size, |u| {
            par::each_chunk(u, size, |group, u| self.transform_weights(group, w, u));
            let u: &[f32] = u;
            par::each(self.groups * items, |item| {
                let (group, item) = (item / items, item % items);
                let finish = finish.of(group * self.rows..(group + 1) * self.rows);
                for pair in cut(pairs, items, item)..cut(pairs, items, item + 1) {
                    self.pair(group, pair, x, &u[group * size..][..size], finish, out);
                }
            });
        });
    }

    /// Two vectors of tiles, counted over all images.
    fn pair(&self, group: usize, pair: usize, x: &[f32], u: &[f32], finish: Finish<'_>, out: par::Shared) {
        let kernels = Kernels::of(self.isa);
        let (lanes, cols) = (kernels.lanes, kernels.cols);
        let (channels, rows) = (self.channels, self.rows);
        let total = self.n * self.places.len();
        let vectors = 2 * pair..(2 * pair + 2).min(total);
        // A vector's place, and the first of its image's planes.
        let find = |vector: usize, channels: usize, plane: usize| {
            let (image, place) = (vector / self.places.len(), vector % self.places.len());
            (&self.places[place], (image * self.groups + group) * channels * plane)
        };
        let (v_step, m_step) = (channels * cols + APART, rows * cols + APART);
        scratch::with(PRODUCTS * (v_step + m_step), |buffer| {
            let (v, m) = buffer.split_at_mut(PRODUCTS * v_step);
            for (half, vector) in vectors.clone().enumerate() {
                let (place, first) = find(vector, channels, self.source);
                let x = &x[first..][..channels * self.source];
                // SAFETY: `Transforms::of` chose a supported instruction set; `x` has the planes that places lie in, `v` two vectors
                // for each product and channel.
                unsafe {
                    let to = v[half * lanes..].as_mut_ptr();
                    (self.transforms.inputs)(place, channels, x.as_ptr(), self.source, to, v_step);
                }
            }
            for p in 0..PRODUCTS {
                let (v, m) = (&v[p * v_step..][..channels * cols], &mut m[p * m_step..][..rows * cols]);
                let u = &u[p * channels * rows..][..channels * rows];
                for panel in self.panels.windows(2) {
                    let (r0, r1) = (panel[0], panel[1]);
                    let (a, tile) = (&u[channels * r0..channels * r1], &mut m[r0 * cols..r1 * cols]);
                    // SAFETY: `a` holds channels x rows, `v` channels x cols, the tile rows x cols.
                    unsafe {
                        kernels.tiles[r1 - r0 - 1](
                            channels,
                            a.as_ptr(),
                            1,
                            r1 - r0,
                            v.as_ptr(),
                            tile.as_mut_ptr(),
                        );
                    }
                }
            }
            for (half, vector) in vectors.enumerate() {
                let (place, first) = find(vector, rows, self.target);
                let y = out.at(first, rows * self.target);
                // SAFETY: as above; different vectors hold different pixels.
                unsafe {
                    let from = m[half * lanes..].as_ptr();
                    (self.transforms.outputs)(place, rows, from, m_step, y, self.target, finish);
                }
            }
        });
    }
}

/// Bits `from..to`.
fn bits(from: usize, to: usize) -> u16 {
    (((1u32 << to) - 1) & !((1u32 << from) - 1)) as u16
}

/// Places of tiles that reach down, `before` rows of zeros above; none where rows are so short that a vector has too many
/// pieces.
fn down(source: [usize; 2], before: usize, height: usize, lanes: usize) -> Option<Vec<Place>> {
    let width = source[1];
    let total = height.div_ceil(OUT) * width;
    let vector = |first: usize| {
        let mut columns = Columns { width, ..Columns::default() };
        let mut lane = 0;
        while lane < lanes && first + lane < total {
            let (tile, x) = ((first + lane) / width, (first + lane) % width);
            let end = lanes.min(lane + width - x);
            let here = bits(lane, end);
            let row = |k: usize| (tile * OUT + k) as isize;
            let exists = |y: isize, height: usize| if (0..height as isize).contains(&y) { here } else { 0 };
            let at = |y: isize| (y * width as isize + x as isize - lane as isize) as i32;
            *columns.pieces.get_mut(columns.count)? = Piece {
                read_at: at(row(0) - before as isize),
                write_at: at(row(0)),
                read: std::array::from_fn(|k| exists(row(k) - before as isize, source[0])),
                write: std::array::from_fn(|k| exists(row(k), height)),
            };
            columns.count += 1;
            lane = end;
        }
        Some(Place::Down(columns))
    };
    (0..total).step_by(lanes).map(vector).collect()
}

/// Places of tiles that reach across with a zero on either side; none where tiles span rows.
fn across([height, width]: [usize; 2], lanes: usize) -> Option<Vec<Place>> {
    let pixels = height * width;
    let vector = |at: usize| {
        let masks = |lane: &dyn Fn(usize) -> bool| {
            std::array::from_fn(|j| {
                let pixel = |l: usize| at + j * lanes + l;
                (0..lanes).filter(|&l| pixel(l) < pixels && lane(pixel(l))).fold(0, |m, l| m | 1 << l)
            })
        };
        let first = |pixel: usize| pixel.is_multiple_of(OUT);
        Place::Across(Pixels {
            at,
            inside: masks(&|_| true),
            before: masks(&|p| first(p) && !p.is_multiple_of(width)),
            after: masks(&|p| first(p) && !(p + OUT).is_multiple_of(width)),
        })
    };
    width.is_multiple_of(OUT).then(|| (0..pixels).step_by(OUT * lanes).map(vector).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_two_lines_of_tiles_share_a_vector() {
        let places = down([8, 8], 1, 8, 16).unwrap();
        let [Place::Down(columns)] = places[..] else { panic!("{places:?}") };
        let [upper, lower, _] = columns.pieces;
        assert_eq!((columns.count, columns.width), (2, 8));
        assert_eq!((upper.read, upper.write), ([0, 0xff, 0xff, 0xff, 0xff, 0xff], [0xff; 4]));
        assert_eq!((upper.read_at, upper.write_at), (-8, 0));
        assert_eq!((lower.read[4], lower.read[5], lower.write), (0xff00, 0, [0xff00; 4]));
        assert_eq!((lower.read_at, lower.write_at), (16, 24));
        // Four rows of tiles to a vector are too many pieces.
        assert!(down([16, 4], 1, 16, 16).is_none());
    }

    #[test]
    fn tiles_at_the_ends_of_rows_have_no_neighbour() {
        let places = across([2, 8], 16).unwrap();
        let [Place::Across(pixels)] = places[..] else { panic!("{places:?}") };
        assert_eq!(pixels.inside, [0xffff, 0, 0, 0]);
        assert_eq!((pixels.before[0], pixels.after[0]), (0x1010, 0x0101));
        assert!(across([8, 6], 16).is_none(), "tiles span rows");
    }
}
