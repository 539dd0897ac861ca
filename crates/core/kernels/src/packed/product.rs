//! Products with a packed matrix, and rows as floats.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::bytes;
use super::loops::{COLS, Dot, Loops, ROWS, Rows, spread};
use super::matrix::PackedMatrix;
use crate::Isa;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::gemm::pack;
use crate::{par, scratch};

/// Columns up to which codes are looked up for a few columns at a time, twice as many with AVX-512; beyond, tiles of weights are
/// expanded.
const FEW: usize = 8;
/// Weights of a work item.
const ITEM: usize = 1 << 16;
/// Depth of a block of expanded weights, about: a whole number of lines.
const DEPTH: usize = 320;
/// Rows of a work item of expanded weights: several tiles, which share the columns that it packs.
const BLOCK: usize = 10 * MAX_ROWS;

/// Brings a line of a column into the order in which a product reads it.
type Arrange = fn(line: &[f32], to: &mut [f32]);

/// The product with one column of codes of so many bits, of rows that share a table or not, and the order of the column's lines, if
/// it is not their own.
fn single(isa: Isa, bits: u32, shared: bool) -> (Dot<1>, Option<Arrange>) {
    #[cfg(target_arch = "x86_64")]
    if isa.effective() == Isa::Avx2 && bits == 4 {
        return (bytes::dot, Some(bytes::arrange));
    }
    (Loops::of(isa).one[bits as usize - 1][usize::from(shared)], None)
}

impl PackedMatrix {
    /// `y = alpha x W' + beta y`: `x` holds any number of rows of `depth` values, `y` as many of `rows` values. With `beta`
    /// 0, `y` is not read. The bits of `y` do not depend on the number of threads.
    ///
    /// # Panics
    /// Where `x` has no whole number of rows, or `y` another number of them.
    pub fn multiply(&self, isa: Isa, x: &[f32], [alpha, beta]: [f32; 2], y: &mut [f32]) {
        let (n, k) = (self.rows, self.layout.depth);
        let m = y.len().checked_div(n).unwrap_or(0);
        assert!(y.len() == m * n && x.len() == m * k, "matrix sizes");
        if y.is_empty() {
            return;
        }
        let few = if isa.effective() == Isa::Avx512 { 2 * FEW } else { FEW };
        match m {
            1 => self.one(isa, x, [alpha, beta], y),
            _ if m <= few => self.few(isa, x, m, [alpha, beta], y),
            _ => self.many(isa, x, m, [alpha, beta], y),
        }
    }

    /// Looks codes up for one column.
    fn one(&self, isa: Isa, x: &[f32], scale: [f32; 2], y: &mut [f32]) {
        let (layout, line) = (&self.layout, self.layout.line_codes());
        let (dot, arrange) = single(isa, layout.bits, self.is_shared());
        let arranged = if arrange.is_some() { layout.tail_start() } else { 0 };
        scratch::with(2 * line + arranged, |buffer| {
            let (tail, rest) = buffer.split_at_mut(line);
            let (plain, arranged) = rest.split_at_mut(line);
            spread(layout, x, tail);
            let mut x = x;
            if let Some(arrange) = arrange {
                for (x, to) in x.chunks_exact(line).zip(arranged.chunks_exact_mut(line)) {
                    arrange(x, to);
                }
                plain.copy_from_slice(tail);
                arrange(plain, tail);
                x = arranged;
            }
            let tail: &[f32] = tail;
            self.by_rows(y, |words, tables, y, [r, used]| {
                let (x, tails, mut sums) = ([x.as_ptr()], [tail.as_ptr()], [0.0f32; ROWS]);
                // SAFETY: words, tables, column and tail have the sizes that the layout says; `single` chose a supported
                // instruction set.
                unsafe { dot(layout, &Rows { words, tables, x, tails }, &mut sums) };
                // SAFETY: items own their rows.
                let y = unsafe { y.slice(r, used) };
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = finish(sum, *y, scale));
            });
        });
    }

    /// Looks codes up for a few columns at a time.
    fn few(&self, isa: Isa, x: &[f32], m: usize, scale: [f32; 2], y: &mut [f32]) {
        let (n, layout) = (self.rows, &self.layout);
        let line = layout.line_codes();
        let dot = Loops::of(isa).several[layout.bits as usize - 1][usize::from(self.is_shared())];
        scratch::with(m * line, |tails| {
            for (x, tail) in x.chunks(layout.depth.max(1)).zip(tails.chunks_exact_mut(line)) {
                spread(layout, x, tail);
            }
            let tails: &[f32] = tails;
            let column = |c: usize| {
                let c = c.min(m - 1);
                (x[c * layout.depth..][..layout.depth].as_ptr(), tails[c * line..][..line].as_ptr())
            };
            self.by_rows(y, |words, tables, y, [r, used]| {
                let mut sums = [0.0f32; ROWS * COLS];
                for c in (0..m).step_by(COLS) {
                    let columns: [_; COLS] = std::array::from_fn(|i| column(c + i));
                    let (x, tails) = (columns.map(|c| c.0), columns.map(|c| c.1));
                    // SAFETY: words, tables, columns and tails have the sizes that the layout says, by their slices;
                    // `Loops::of` chose a supported instruction set.
                    unsafe { dot(layout, &Rows { words, tables, x, tails }, &mut sums) };
                    for j in 0..COLS.min(m - c) {
                        // SAFETY: items own their rows.
                        let y = unsafe { y.slice((c + j) * n + r, used) };
                        for (i, y) in y.iter_mut().enumerate() {
                            *y = finish(sums[i * COLS + j], *y, scale);
                        }
                    }
                }
            });
        });
    }

    /// Calls `f(words, tables, y, [row, used])` for `ROWS` rows at a time, in parallel; `used` of them exist, the others repeat
    /// the last.
    fn by_rows(
        &self,
        y: &mut [f32],
        f: impl Fn([*const u32; ROWS], [*const f32; ROWS], par::Shared, [usize; 2]) + Sync + Send,
    ) {
        let n = self.rows;
        let per_item = (ITEM / self.layout.depth.max(1)).next_multiple_of(ROWS).max(ROWS);
        let out = par::Shared::new(y);
        par::each(n.div_ceil(per_item), |item| {
            for r in (item * per_item..n.min((item + 1) * per_item)).step_by(ROWS) {
                let used = ROWS.min(n - r);
                let row = |i: usize| r + i.min(used - 1);
                let words: [_; ROWS] = std::array::from_fn(|i| self.words_of(row(i)));
                let tables: [_; ROWS] = std::array::from_fn(|i| self.table_of(row(i)));
                f(words, tables, out, [r, used]);
            }
        });
    }

    /// Expands tiles of weights for many columns.
    fn many(&self, isa: Isa, x: &[f32], m: usize, scale: [f32; 2], y: &mut [f32]) {
        let n = self.rows;
        let blocks = n.div_ceil(BLOCK).max(n.div_ceil(MAX_ROWS).min(8));
        let out = par::Shared::new(y);
        par::each(blocks, |item| {
            self.block(isa, cut(n, blocks, item)..cut(n, blocks, item + 1), x, m, scale, out);
        });
    }

    /// The products of some rows with all columns.
    fn block(&self, isa: Isa, rows: Range<usize>, x: &[f32], m: usize, scale: [f32; 2], out: par::Shared) {
        let (n, layout, kernels) = (self.rows, &self.layout, Kernels::of(isa));
        let cols = kernels.cols;
        let tiles = m.div_ceil(cols);
        let lines_of_block = (DEPTH / layout.line_codes()).max(1);
        let blocks = layout.lines.div_ceil(lines_of_block).max(1);
        let panels = kernels.panels(rows.len());
        // The last block takes the tail, too.
        let deepest = (lines_of_block + 1) * layout.line_codes();
        scratch::with(tiles * cols * deepest + MAX_ROWS * deepest, |buffer| {
            let (columns, weights) = buffer.split_at_mut(tiles * cols * deepest);
            for d in 0..blocks {
                let last = d + 1 == blocks;
                let from = d * lines_of_block;
                let lines = [from, if last { layout.lines + 1 } else { from + lines_of_block }];
                let start = from * layout.line_codes();
                let depth = if last { layout.depth } else { lines[1] * layout.line_codes() } - start;
                for t in 0..tiles {
                    let width = cols.min(m - t * cols);
                    let to = &mut columns[t * depth * cols..][..depth * cols];
                    pack::columns(
                        isa,
                        x,
                        start + t * cols * layout.depth,
                        (1, layout.depth),
                        depth,
                        width,
                        cols,
                        to,
                    );
                }
                for p in 0..panels {
                    let (r0, r1) = (cut(rows.len(), panels, p), cut(rows.len(), panels, p + 1));
                    for (i, to) in weights.chunks_exact_mut(depth.max(1)).take(r1 - r0).enumerate() {
                        self.expand_lines(isa, rows.start + r0 + i, lines, 1.0, &mut to[..depth]);
                    }
                    for t in 0..tiles {
                        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
                        // SAFETY: `weights` holds `depth` values for each row, `columns` for each of the tile's
                        // columns; the tile holds the largest kernel's.
                        unsafe {
                            kernels.tiles[r1 - r0 - 1](
                                depth,
                                weights.as_ptr(),
                                depth,
                                1,
                                columns[t * depth * cols..][..depth * cols].as_ptr(),
                                tile.as_mut_ptr(),
                            );
                        }
                        let keep = if d == 0 { scale[1] } else { 1.0 };
                        for j in 0..cols.min(m - t * cols) {
                            // SAFETY: items own their rows.
                            let y = unsafe { out.slice((t * cols + j) * n + rows.start + r0, r1 - r0) };
                            for (i, y) in y.iter_mut().enumerate() {
                                *y = finish(tile[i * cols + j], *y, [scale[0], keep]);
                            }
                        }
                    }
                }
            }
        });
    }

    /// Writes some rows as floats; each row is multiplied with its element of `factors`, which has one for each row of
    /// the matrix.
    ///
    /// # Panics
    /// Where `rows` reaches past the matrix, or a slice has another length.
    pub fn expand(&self, isa: Isa, rows: Range<usize>, factors: Option<&[f32]>, out: &mut [f32]) {
        let depth = self.layout.depth;
        assert!(rows.end <= self.rows && out.len() == rows.len() * depth, "rows");
        assert!(factors.is_none_or(|f| f.len() == self.rows), "factors");
        if out.is_empty() {
            return;
        }
        let per_item = (ITEM / depth).max(1);
        par::each_chunk(out, per_item * depth, |item, out| {
            let first = rows.start + item * per_item;
            self.expand_rows(isa, first..first + out.len() / depth, factors, out);
        });
    }

    /// [`PackedMatrix::expand`] on the calling thread alone.
    pub(crate) fn expand_rows(&self, isa: Isa, rows: Range<usize>, factors: Option<&[f32]>, out: &mut [f32]) {
        for (row, to) in rows.zip(out.chunks_exact_mut(self.layout.depth.max(1))) {
            let factor = factors.map_or(1.0, |f| f[row]);
            self.expand_lines(isa, row, [0, self.layout.lines + 1], factor, to);
        }
    }

    /// Writes lines of one row, see [`super::loops::Expand`].
    fn expand_lines(&self, isa: Isa, row: usize, lines: [usize; 2], factor: f32, to: &mut [f32]) {
        let layout = &self.layout;
        let code = layout.line_codes();
        let end = if lines[1] > layout.lines { layout.depth } else { lines[1] * code };
        assert!(to.len() == end - lines[0] * code, "weights of a row");
        let expand = Loops::of(isa).expand[layout.bits as usize - 1];
        // SAFETY: words and table have the sizes that the layout says; `to` has room by the assertion; the instruction
        // set is supported.
        unsafe { expand(layout, self.words_of(row), self.table_of(row), lines, factor, to.as_mut_ptr()) };
    }
}

#[inline(always)]
fn finish(sum: f32, old: f32, [alpha, beta]: [f32; 2]) -> f32 {
    if beta == 0.0 { alpha * sum } else { alpha * sum + beta * old }
}
