//! Coordinate descent on codes (method: step 5b).

use std::ops::Range;

use slq_engine::Isa;

use super::chunk::{Choice, Chunk, ROWS, Rate};
use super::curvature::Curvature;
use super::layout::Layout;

/// Columns handled between two products with H.
pub(crate) const BLOCK: usize = 64;

/// The ranges of columns that are handled together: none reaches across the border of two codebooks.
pub(crate) fn column_blocks(layout: &Layout) -> Vec<Range<usize>> {
    let books = (0..layout.columns).step_by(layout.book_columns);
    let blocks = books.flat_map(|start| {
        let end = start + layout.book_columns;
        (start..end).step_by(BLOCK).map(move |s| s..end.min(s + BLOCK))
    });
    blocks.collect()
}

/// What a sweep needs beside a chunk.
pub(crate) struct Sweep<'a> {
    pub isa: Isa,
    pub layout: &'a Layout,
    pub blocks: &'a [Range<usize>],
    /// H over each of the blocks.
    pub squares: &'a [Vec<f32>],
    pub curvature: &'a Curvature,
    pub values: &'a [f32],
    pub size: usize,
    pub rate: &'a Rate,
}

impl Sweep<'_> {
    /// Visits every column once: the best free value of row r is `q + (H e)_j / H_jj` while all other weights stay, and
    /// the weight takes the codebook value that costs least beside it. Returns by how much the objective (rate included)
    /// falls; it never rises.
    pub fn run(&self, chunk: &mut Chunk) -> f64 {
        let width = chunk.width();
        let mut carry = self.curvature.carry(self.isa, &chunk.errors, width);
        let mut products = vec![0.0; BLOCK * width];
        let mut change = vec![0.0; BLOCK * width];
        let mut fall = 0.0;
        let mut table = (usize::MAX, Vec::new());
        for (range, square) in self.blocks.iter().zip(self.squares) {
            let book = range.start / self.layout.book_columns;
            if table.0 != book {
                table = (book, chunk.table(self.layout, self.values, self.size, range.start));
            }
            let len = range.len() * width;
            let (products, change) = (&mut products[..len], &mut change[..len]);
            self.curvature.products(self.isa, range.clone(), (&chunk.errors, &carry), width, products);
            change.copy_from_slice(&chunk.errors[range.start * width..range.end * width]);
            fall += self.block(chunk, range, square, &table.1, products);
            let now = &chunk.errors[range.start * width..range.end * width];
            change.iter_mut().zip(now).for_each(|(c, n)| *c = n - *c);
            self.curvature.advance(self.isa, range.clone(), change, width, &mut carry);
        }
        fall
    }

    /// The columns of one block, whose rows of H E are in `products`.
    fn block(
        &self,
        chunk: &mut Chunk,
        range: &Range<usize>,
        square: &[f32],
        table: &[f32],
        products: &mut [f32],
    ) -> f64 {
        let (width, b) = (chunk.width(), range.len());
        let mut fall = 0.0;
        for (i, j) in range.clone().enumerate() {
            let curvature = square[i * b + i];
            let own = j * width..(j + 1) * width;
            let (targets, errors) = (&chunk.targets[own.clone()], &mut chunk.errors[own.clone()]);
            let codes = &mut chunk.codes[own];
            let (done, later) = products.split_at_mut((i + 1) * width);
            let (mut want, mut delta) = ([0.0f32; ROWS], [0.0f32; ROWS]);
            let (want, delta) = (&mut want[..width], &mut delta[..width]);
            let rows = want.iter_mut().zip(targets).zip(errors.iter()).zip(&done[i * width..]);
            rows.for_each(|(((w, t), e), p)| *w = t - e + p / curvature);
            let choice = Choice { table, curvature, rate: self.rate, weights: &chunk.weights };
            fall += choice.choose(want, codes);
            let mut moved = false;
            for (r, &code) in codes.iter().enumerate() {
                let error = targets[r] - table[usize::from(code) * width + r];
                delta[r] = errors[r] - error;
                moved |= delta[r] != 0.0;
                errors[r] = error;
            }
            if moved {
                for (later, &h) in later.chunks_exact_mut(width).zip(&square[i * b + i + 1..(i + 1) * b]) {
                    later.iter_mut().zip(delta.iter()).for_each(|(p, d)| *p -= h * d);
                }
            }
        }
        fall
    }
}
