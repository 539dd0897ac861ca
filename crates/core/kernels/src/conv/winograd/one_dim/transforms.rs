//! The transforms of F(4, 3), one vector of tiles at a time: between the planes of images and the matrices of products.

use crate::conv::finish::Finish;
use crate::conv::winograd::transforms::{UNSCALED, collect, input_line};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Masked};
use crate::{Isa, Store};

/// Products of a tile: the pixels that it reads.
pub(super) const PRODUCTS: usize = 6;
/// Pixels that a tile writes.
pub(super) const OUT: usize = 4;
/// Runs of columns that the tiles of a vector may make up.
pub(super) const PIECES: usize = 3;

/// Where the tiles of a vector lie in the planes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Down(Columns),
    Across(Pixels),
}

/// Tiles that reach down, side by side: each lane is a column.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Columns {
    pub pieces: [Piece; PIECES],
    pub count: usize,
    /// Pixels of a row.
    pub width: usize,
}

/// Lanes that lie side by side in the planes too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    /// Where lane 0 lies, or would lie: in the first row that is read, and in the first that is written.
    pub read_at: i32,
    pub write_at: i32,
    /// Lanes that exist in each row.
    pub read: [u16; PRODUCTS],
    pub write: [u16; OUT],
}

/// Tiles that reach across, one behind the other: four vectors of pixels, which a transposition makes lanes of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pixels {
    pub at: usize,
    /// Pixels that exist.
    pub inside: [u16; OUT],
    /// First pixels of tiles that have a pixel before them, and that have one behind them.
    pub before: [u16; OUT],
    pub after: [u16; OUT],
}

/// The transforms of one instruction set.
///
/// # Safety
/// The processor has the instruction set. The lanes of `place` lie inside planes, of which there are as many as channels or rows;
/// nobody else touches those that are written. Vectors of products, two for each channel or row and `product` floats from one
/// product to the next, are readable or writable.
#[derive(Debug)]
pub(super) struct Transforms {
    /// `(place, channels, x, plane, to, product)`: from the planes of `x` to products.
    pub inputs: unsafe fn(&Place, usize, *const f32, usize, *mut f32, usize),
    /// `(place, rows, from, product, y, plane, finish)`: from sums of products to the planes of `y`.
    pub outputs: unsafe fn(&Place, usize, *const f32, usize, *mut f32, usize, Finish<'_>),
}

#[cfg(target_arch = "x86_64")]
impl Columns {
    /// Row `k` of what the tiles read.
    #[inline(always)]
    unsafe fn load<S: Masked>(&self, x: *const f32, k: usize) -> S::V {
        // SAFETY: lanes in the mask are inside the plane; others are not touched.
        unsafe {
            let mut v = S::zero();
            for (i, piece) in self.pieces[..self.count].iter().enumerate() {
                let from = x.wrapping_offset(piece.read_at as isize).wrapping_add(k * self.width);
                let part = S::load_masked(from, S::mask(piece.read[k]));
                v = if i == 0 { part } else { S::add(v, part) };
            }
            v
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Pixels {
    #[inline(always)]
    unsafe fn load<S: Masked>(&self, x: *const f32, shift: isize, masks: &[u16; OUT]) -> [S::V; OUT] {
        // SAFETY: as above.
        unsafe {
            let mut v = [S::zero(); OUT];
            for (j, v) in v.iter_mut().enumerate() {
                let from = x.wrapping_offset((self.at + j * S::LANES) as isize + shift);
                *v = S::load_masked(from, S::mask(masks[j]));
            }
            v
        }
    }
}

/// # Safety
/// As [`Transforms::inputs`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn inputs_body<S: Masked>(
    place: &Place,
    channels: usize,
    x: *const f32,
    plane: usize,
    to: *mut f32,
    product: usize,
) {
    for c in 0..channels {
        // SAFETY: the caller's promise.
        unsafe {
            let (x, to) = (x.add(c * plane), to.add(2 * c * S::LANES));
            let mut d = [S::zero(); PRODUCTS];
            match place {
                Place::Down(columns) => {
                    for (k, d) in d.iter_mut().enumerate() {
                        *d = columns.load::<S>(x, k);
                    }
                }
                Place::Across(p) => {
                    let tiles = S::transpose4(p.load::<S>(x, 0, &p.inside));
                    d[1..=OUT].copy_from_slice(&tiles);
                    d[0] = S::first4(p.load::<S>(x, -1, &p.before));
                    d[OUT + 1] = S::first4(p.load::<S>(x, OUT as isize, &p.after));
                }
            }
            for (p, v) in input_line::<S>(d).into_iter().enumerate() {
                S::store(to.add(p * product), v);
            }
        }
    }
}

/// # Safety
/// `to` is writable, and to accumulate readable, in the lanes of `mask`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn store<S: Masked>(to: *mut f32, mask: u16, v: S::V, onto: Store, bounds: [S::V; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        let lanes = S::mask(mask);
        let v = if onto.accumulates() { S::add(S::load_masked(to, lanes), v) } else { v };
        let v = S::clamp(v, bounds[0], bounds[1]);
        // Masked stores are slow on some machines.
        if mask == u16::MAX >> (16 - S::LANES) { S::store(to, v) } else { S::store_masked(to, lanes, v) }
    }
}

/// # Safety
/// As [`Transforms::outputs`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn outputs_body<S: Masked>(
    place: &Place,
    rows: usize,
    from: *const f32,
    product: usize,
    y: *mut f32,
    plane: usize,
    finish: Finish<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let bounds = [S::splat(&finish.bounds.0), S::splat(&finish.bounds.1)];
        for r in 0..rows {
            let (from, y) = (from.add(2 * r * S::LANES), y.add(r * plane));
            let mut m = [S::zero(); PRODUCTS];
            for (p, m) in m.iter_mut().enumerate() {
                *m = S::load(from.add(p * product));
            }
            let mut sums = collect::<S, OUT>(m, UNSCALED);
            let bias = finish.bias.map_or(S::zero(), |b| S::splat(b.as_ptr().add(r)));
            for v in &mut sums {
                *v = S::add(*v, bias);
            }
            match place {
                Place::Down(columns) => {
                    for piece in &columns.pieces[..columns.count] {
                        for (k, &v) in sums.iter().enumerate() {
                            let to =
                                y.wrapping_offset(piece.write_at as isize).wrapping_add(k * columns.width);
                            store::<S>(to, piece.write[k], v, finish.store, bounds);
                        }
                    }
                }
                Place::Across(pixels) => {
                    for (j, v) in S::transpose4(sums).into_iter().enumerate() {
                        let to = y.wrapping_add(pixels.at + j * S::LANES);
                        store::<S>(to, pixels.inside[j], v, finish.store, bounds);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! transforms {
    ($table:ident, $simd:ty, $feature:literal) => {
        static $table: Transforms = {
            #[target_feature(enable = $feature)]
            unsafe fn inputs(
                place: &Place,
                channels: usize,
                x: *const f32,
                plane: usize,
                to: *mut f32,
                product: usize,
            ) {
                // SAFETY: passed on.
                unsafe { inputs_body::<$simd>(place, channels, x, plane, to, product) }
            }
            #[target_feature(enable = $feature)]
            unsafe fn outputs(
                place: &Place,
                rows: usize,
                from: *const f32,
                product: usize,
                y: *mut f32,
                plane: usize,
                finish: Finish<'_>,
            ) {
                // SAFETY: passed on.
                unsafe { outputs_body::<$simd>(place, rows, from, product, y, plane, finish) }
            }
            Transforms { inputs, outputs }
        };
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(AVX2, Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
transforms!(AVX512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");

impl Transforms {
    /// Those of an instruction set with masked loads.
    pub(super) fn of(isa: Isa) -> Option<&'static Transforms> {
        match isa.effective() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Some(&AVX512),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&AVX2),
            _ => None,
        }
    }
}
