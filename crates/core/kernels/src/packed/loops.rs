//! The inner loops: dot products of packed rows, and rows as floats.

use super::layout::{LINE, Layout, MAX_LINE_CODES};
#[cfg(target_arch = "x86_64")]
use super::table::{Gathered, Narrow8, Narrow16, Wide16, WidePairs};
use super::table::{PlainTable, Table};
#[cfg(target_arch = "aarch64")]
use super::table_neon::{InMemory, Looked};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use super::table_wasm::{InMemory, Looked};
use crate::Isa;
use crate::simd::Simd;

/// Rows that are computed together.
pub(super) const ROWS: usize = 4;
/// Columns that are computed together where there are several.
pub(super) const COLS: usize = 4;

/// Some packed rows and what they are multiplied with.
pub(super) struct Rows<const WIDE: usize> {
    pub words: [*const u32; ROWS],
    pub tables: [*const f32; ROWS],
    /// The columns, and their last elements as a line with zeros (see [`spread`]).
    pub x: [*const f32; WIDE],
    pub tails: [*const f32; WIDE],
}

/// `out[r * WIDE + c]` = row r times column c.
///
/// # Safety
/// Each row has the words of `layout` and a line that may be read behind them, each table the entries for its bits,
/// each column `layout.depth` elements and each tail a line. The processor has the instruction set.
pub(super) type Dot<const WIDE: usize> = unsafe fn(layout: &Layout, rows: &Rows<WIDE>, out: &mut [f32]);

/// Writes whole lines `from..to` of a row, then its tail where `to` is past the last line, each weight times `factor`.
///
/// # Safety
/// `words` and `table` as for [`Dot`]; `out` is writable for all weights from line `from` on.
pub(super) type Expand = unsafe fn(
    layout: &Layout,
    words: *const u32,
    table: *const f32,
    lines: [usize; 2],
    factor: f32,
    out: *mut f32,
);

/// The loops of one instruction set; entry `bits - 1`. Of the products the second is for rows that share a table.
pub(super) struct Loops {
    pub one: [[Dot<1>; 2]; 8],
    pub several: [[Dot<COLS>; 2]; 8],
    pub expand: [Expand; 8],
}

/// The elements of `x` behind the whole lines in the order of a line: lane `l` of vector `j` is what word `l` multiplies
/// with its code `j`.
pub(super) fn spread(layout: &Layout, x: &[f32], to: &mut [f32]) {
    to.fill(0.0);
    let last = &x[layout.tail_start()..];
    for (from, to) in last.chunks(layout.tail.max(1)).zip(to.chunks_exact_mut(LINE)) {
        to[..from.len()].copy_from_slice(from);
    }
}

// The loops below have no closures: one that is not inlined would not have the instruction set, and then neither would
// what it calls.

/// Adds the products of the lowest codes of a vector of words to the sums, and shifts to the next.
///
/// # Safety
/// As [`Dot`]; each `x` points to a vector.
#[inline(always)]
unsafe fn step<T: Table, const BITS: u32, const WIDE: usize, const SHARED: bool>(
    tables: &[T; ROWS],
    codes: &mut [T::Words; ROWS],
    x: &mut [*const f32; WIDE],
    sums: &mut [[<T::S as Simd>::V; WIDE]; ROWS],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut values = [T::S::zero(); WIDE];
        for c in 0..WIDE {
            values[c] = T::S::load(x[c]);
            x[c] = x[c].wrapping_add(LINE);
        }
        for r in 0..ROWS {
            let w = tables[if SHARED { 0 } else { r }].look(codes[r]);
            for c in 0..WIDE {
                sums[r][c] = T::S::fma(w, values[c], sums[r][c]);
            }
            codes[r] = T::shift::<BITS>(codes[r]);
        }
    }
}

/// Adds the products of one line (sixteen words a row) to the sums.
///
/// # Safety
/// As [`Dot`]; `x` points to the elements that the line multiplies.
#[inline(always)]
unsafe fn line<T: Table, const BITS: u32, const WIDE: usize, const SHARED: bool>(
    words: &[*const u32; ROWS],
    tables: &[T; ROWS],
    x: &[*const f32; WIDE],
    sums: &mut [[[<T::S as Simd>::V; WIDE]; ROWS]; 2],
) {
    let lanes = T::S::LANES;
    // SAFETY: the caller's promise covers every place that is read.
    unsafe {
        for part in 0..LINE / lanes {
            let mut codes = [T::words(words[0].add(part * lanes)); ROWS];
            for r in 1..ROWS {
                codes[r] = T::words(words[r].add(part * lanes));
            }
            let mut x = *x;
            for x in &mut x {
                *x = x.add(part * lanes);
            }
            // For one column two sets of sums, so that one does not wait for the other; several columns fill the registers.
            let other = usize::from(WIDE == 1);
            for _ in 0..32 / BITS / 2 {
                step::<T, BITS, WIDE, SHARED>(tables, &mut codes, &mut x, &mut sums[0]);
                step::<T, BITS, WIDE, SHARED>(tables, &mut codes, &mut x, &mut sums[other]);
            }
            if 32 / BITS % 2 == 1 {
                step::<T, BITS, WIDE, SHARED>(tables, &mut codes, &mut x, &mut sums[0]);
            }
        }
    }
}

#[inline(always)]
unsafe fn dot_body<T: Table, const BITS: u32, const WIDE: usize, const SHARED: bool>(
    layout: &Layout,
    rows: &Rows<WIDE>,
    out: &mut [f32],
) {
    // SAFETY: the caller's promise covers every place that is read.
    unsafe {
        let mut tables = [T::load(rows.tables[0]); ROWS];
        if !SHARED {
            for (table, &from) in tables.iter_mut().zip(&rows.tables) {
                *table = T::load(from);
            }
        }
        let mut sums = [[[T::S::zero(); WIDE]; ROWS]; 2];
        let (mut words, mut x) = (rows.words, rows.x);
        // One loop for lines and tail: the body is large.
        for l in 0..layout.lines + usize::from(layout.tail > 0) {
            if l == layout.lines {
                x = rows.tails;
            }
            line::<T, BITS, WIDE, SHARED>(&words, &tables, &x, &mut sums);
            for words in &mut words {
                *words = words.wrapping_add(LINE);
            }
            for x in &mut x {
                *x = x.wrapping_add(layout.line_codes());
            }
        }
        let mut lanes = [0.0f32; LINE];
        for r in 0..ROWS {
            for c in 0..WIDE {
                T::S::store(lanes.as_mut_ptr(), T::S::add(sums[0][r][c], sums[1][r][c]));
                // Halves are added to halves: few roundings, one order.
                let mut width = T::S::LANES;
                while width > 1 {
                    width /= 2;
                    for l in 0..width {
                        lanes[l] += lanes[l + width];
                    }
                }
                out[r * WIDE + c] = lanes[0];
            }
        }
    }
}

/// One line as floats.
///
/// # Safety
/// As [`Expand`]; `to` is writable for a line.
#[inline(always)]
unsafe fn expand_line<T: Table, const BITS: u32>(
    words: *const u32,
    table: &T,
    factor: <T::S as Simd>::V,
    to: *mut f32,
) {
    let lanes = T::S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        for part in 0..LINE / lanes {
            let mut codes = T::words(words.add(part * lanes));
            for j in 0..32 / BITS as usize {
                T::S::store(to.add(j * LINE + part * lanes), T::S::mul(table.look(codes), factor));
                codes = T::shift::<BITS>(codes);
            }
        }
    }
}

#[inline(always)]
unsafe fn expand_body<T: Table, const BITS: u32>(
    layout: &Layout,
    words: *const u32,
    table: *const f32,
    [from, to]: [usize; 2],
    factor: f32,
    out: *mut f32,
) {
    // SAFETY: the caller's promise; the tail is written from a buffer of a line, as far as the row reaches.
    unsafe {
        let (table, factor) = (T::load(table), T::S::splat(&factor));
        let last = to.min(layout.lines);
        for l in from..last {
            expand_line::<T, BITS>(
                words.add(l * LINE),
                &table,
                factor,
                out.add((l - from) * layout.line_codes()),
            );
        }
        if to > layout.lines && layout.tail > 0 {
            let mut line = [0.0f32; MAX_LINE_CODES];
            expand_line::<T, BITS>(words.add(layout.lines * LINE), &table, factor, line.as_mut_ptr());
            let start = layout.tail_start();
            let out = out.add(start - from * layout.line_codes());
            for (j, k) in (start..layout.depth).step_by(layout.tail).enumerate() {
                let count = layout.tail.min(layout.depth - k);
                std::ptr::copy_nonoverlapping(line.as_ptr().add(j * LINE), out.add(k - start), count);
            }
        }
    }
}

macro_rules! loops {
    ($table:ident, [$($bits:literal: $t:ty),*], $(#[$feature:meta])?) => {
        static $table: Loops = {
            $(#[$feature])?
            unsafe fn dot<T: Table, const BITS: u32, const WIDE: usize, const SHARED: bool>(
                layout: &Layout,
                rows: &Rows<WIDE>,
                out: &mut [f32],
            ) {
                // SAFETY: passed on.
                unsafe { dot_body::<T, BITS, WIDE, SHARED>(layout, rows, out) }
            }
            $(#[$feature])?
            unsafe fn expand<T: Table, const BITS: u32>(
                layout: &Layout,
                words: *const u32,
                table: *const f32,
                lines: [usize; 2],
                factor: f32,
                out: *mut f32,
            ) {
                // SAFETY: passed on.
                unsafe { expand_body::<T, BITS>(layout, words, table, lines, factor, out) }
            }
            Loops {
                one: [$([dot::<$t, $bits, 1, false>, dot::<$t, $bits, 1, true>]),*],
                several: [$([dot::<$t, $bits, COLS, false>, dot::<$t, $bits, COLS, true>]),*],
                expand: [$(expand::<$t, $bits>),*],
            }
        };
    };
}

loops!(
    PLAIN,
    [
        1: PlainTable<1>, 2: PlainTable<3>, 3: PlainTable<7>, 4: PlainTable<15>,
        5: PlainTable<31>, 6: PlainTable<63>, 7: PlainTable<127>, 8: PlainTable<255>
    ],
);
#[cfg(target_arch = "aarch64")]
loops!(
    SIMD128,
    [
        1: Looked<1>, 2: Looked<1>, 3: Looked<1>, 4: Looked<1>,
        5: Looked<2>, 6: InMemory<63>, 7: InMemory<127>, 8: InMemory<255>
    ],
);
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
loops!(
    SIMD128,
    [
        1: Looked<1>, 2: Looked<1>, 3: Looked<2>, 4: Looked<4>,
        5: InMemory<31>, 6: InMemory<63>, 7: InMemory<127>, 8: InMemory<255>
    ],
);
#[cfg(target_arch = "x86_64")]
loops!(
    AVX2,
    [
        1: Narrow8, 2: Narrow8, 3: Narrow8, 4: Narrow16,
        5: Gathered<31>, 6: Gathered<63>, 7: Gathered<127>, 8: Gathered<255>
    ],
    #[target_feature(enable = "avx2,fma")]
);
#[cfg(target_arch = "x86_64")]
loops!(
    AVX512,
    [
        1: Wide16, 2: Wide16, 3: Wide16, 4: Wide16,
        5: WidePairs<1>, 6: WidePairs<2>, 7: WidePairs<4>, 8: WidePairs<8>
    ],
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
);

impl Loops {
    /// Those of the best supported instruction set, up to `isa`.
    pub(super) fn of(isa: Isa) -> &'static Loops {
        match isa.effective() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Simd128 => &SIMD128,
            _ => &PLAIN,
        }
    }
}
