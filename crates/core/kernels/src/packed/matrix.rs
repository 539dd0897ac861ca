//! The packed matrix and how it is built.

use super::layout::{LINE, Layout};

/// What is wrong with codes or codebooks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Centroids that do not fill the codebooks, none, or more than 256 to a codebook.
    #[error("{centroids} centroids do not make {groups} codebooks of 1 to 256 values")]
    Codebooks {
        /// Centroids of all codebooks.
        centroids: usize,
        /// Codebooks.
        groups: usize,
    },
    /// A centroid is infinite or not a number.
    #[error("centroid {index} is not finite")]
    NotFinite {
        /// Its place among all centroids.
        index: usize,
    },
    /// The codebooks do not belong to whole rows of the product.
    #[error("{groups} codebooks do not divide the {rows} rows of the matrix")]
    Groups {
        /// Codebooks.
        groups: usize,
        /// Rows.
        rows: usize,
    },
    /// A code past the codebook.
    #[error("code {code} at position {index} is past the codebook of {size} values")]
    Code {
        /// Its place in the weight.
        index: usize,
        /// The code.
        code: u8,
        /// Values of a codebook.
        size: usize,
    },
    /// Fewer or more codes than the matrix has elements.
    #[error("{found} codes for a matrix of {wanted} elements")]
    Count {
        /// Codes given.
        found: usize,
        /// Elements.
        wanted: usize,
    },
    /// The elements of the matrix cannot be counted.
    #[error("a matrix of {rows} x {depth} is too large")]
    TooLarge {
        /// Rows.
        rows: usize,
        /// Elements of a row.
        depth: usize,
    },
}

/// How codes are handed to a [`PackedBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Row after row, as a weight `[rows, depth]` lies in memory.
    Rows,
    /// Column after column, as a weight `[depth, rows]` lies in memory.
    Columns,
}

/// A matrix of `rows x depth` weights as codes and codebooks.
///
/// A code takes `1 / floor(32 / bits)` of a word of 32 bits: no bit is lost for 1, 2, 4 and 8 bits, two of 32 for 3, 5
/// and 6, four for 7.
pub struct PackedMatrix {
    pub(super) rows: usize,
    pub(super) layout: Layout,
    /// Words of all rows, and a line behind the last so that whole lines can be read.
    pub(super) words: Vec<u32>,
    /// A table of `2^max(bits, 4)` entries for each codebook; what the codebook does not fill is repeated or 0.
    pub(super) tables: Vec<f32>,
    /// Rows that share a table.
    pub(super) rows_of_table: usize,
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Layout { depth, bits, .. } = self.layout;
        f.debug_struct("PackedMatrix")
            .field("rows", &self.rows)
            .field("depth", &depth)
            .field("bits", &bits)
            .field("codebooks", &(self.tables.len() / self.entries()))
            .finish_non_exhaustive()
    }
}

impl PackedMatrix {
    /// Packs codes that are in memory; `codebook` holds `groups` codebooks, each for the same number of rows.
    ///
    /// # Errors
    /// One variant of [`PackError`] each.
    pub fn new(
        [rows, depth]: [usize; 2],
        order: Order,
        codebook: &[f32],
        groups: usize,
        codes: &[u8],
    ) -> Result<Self, PackError> {
        let mut builder = PackedBuilder::new([rows, depth], order, codebook, groups)?;
        builder.push(codes)?;
        builder.finish()
    }

    /// Rows: outputs of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row: inputs of the product.
    pub fn depth(&self) -> usize {
        self.layout.depth
    }

    /// Bits of a code.
    pub fn bits(&self) -> u32 {
        self.layout.bits
    }

    /// Bytes of codes and tables.
    pub fn bytes(&self) -> usize {
        4 * (self.words.len() + self.tables.len())
    }

    /// Entries of a table.
    pub(super) fn entries(&self) -> usize {
        1 << self.layout.bits.max(4)
    }

    /// Whether all rows share one table.
    pub(super) fn is_shared(&self) -> bool {
        self.tables.len() == self.entries()
    }

    /// The words of a row; a line may be read behind them.
    pub(super) fn words_of(&self, row: usize) -> *const u32 {
        let (at, count) = (row * self.layout.words(), self.layout.words() + LINE);
        self.words[at..at + count].as_ptr()
    }

    /// The table of a row.
    pub(super) fn table_of(&self, row: usize) -> *const f32 {
        let entries = self.entries();
        self.tables[row / self.rows_of_table * entries..][..entries].as_ptr()
    }
}

/// Packs codes as they arrive, so that they need not be in memory at once.
pub struct PackedBuilder {
    matrix: PackedMatrix,
    order: Order,
    /// Values of a codebook.
    size: usize,
    /// Codes seen so far.
    seen: usize,
    /// Codes of a row that is not complete.
    row: Vec<u8>,
}

impl PackedBuilder {
    /// A matrix without codes yet; see [`PackedMatrix::new`].
    ///
    /// # Errors
    /// Those of [`PackedMatrix::new`] but for codes. In [`Order::Columns`] there must be one codebook.
    pub fn new(
        [rows, depth]: [usize; 2],
        order: Order,
        codebook: &[f32],
        groups: usize,
    ) -> Result<Self, PackError> {
        let size = codebook.len().checked_div(groups).unwrap_or(0);
        if size == 0 || size > 256 || size * groups != codebook.len() {
            return Err(PackError::Codebooks { centroids: codebook.len(), groups });
        }
        if let Some(index) = codebook.iter().position(|v| !v.is_finite()) {
            return Err(PackError::NotFinite { index });
        }
        if (order == Order::Columns && groups > 1) || !rows.is_multiple_of(groups) {
            return Err(PackError::Groups { groups, rows });
        }
        let bits = (usize::BITS - (size - 1).leading_zeros()).max(1);
        let layout = Layout::new(depth, bits);
        let words = rows.checked_mul(layout.words()).filter(|_| rows.checked_mul(depth).is_some());
        let words = words.and_then(|n| n.checked_add(LINE)).ok_or(PackError::TooLarge { rows, depth })?;
        let entries = 1usize << bits.max(4);
        let entry = |book: &[f32], e: usize| book.get(e & ((1 << bits) - 1)).copied().unwrap_or(0.0);
        let tables =
            codebook.chunks_exact(size).flat_map(|book| (0..entries).map(move |e| entry(book, e))).collect();
        let rows_of_table = (rows / groups).max(1);
        let matrix = PackedMatrix { rows, layout, words: vec![0; words], tables, rows_of_table };
        Ok(Self { matrix, order, size, seen: 0, row: Vec::new() })
    }

    /// Adds the next codes, any number of them.
    ///
    /// # Errors
    /// [`PackError::Code`], [`PackError::Count`].
    pub fn push(&mut self, codes: &[u8]) -> Result<(), PackError> {
        let (rows, depth) = (self.matrix.rows, self.matrix.layout.depth);
        let (found, wanted) = (self.seen + codes.len(), rows * depth);
        if found > wanted {
            return Err(PackError::Count { found, wanted });
        }
        if let Some(i) = codes.iter().position(|&c| usize::from(c) >= self.size) {
            return Err(PackError::Code { index: self.seen + i, code: codes[i], size: self.size });
        }
        match self.order {
            Order::Columns => {
                for (i, &code) in (self.seen..).zip(codes) {
                    self.put(i % rows, i / rows, code);
                }
            }
            Order::Rows => self.push_rows(codes),
        }
        self.seen = found;
        Ok(())
    }

    fn push_rows(&mut self, mut codes: &[u8]) {
        let depth = self.matrix.layout.depth;
        let mut at = self.seen;
        while !codes.is_empty() {
            let row = at / depth;
            let (now, later) = codes.split_at(codes.len().min(depth - self.row.len()));
            codes = later;
            self.row.extend_from_slice(now);
            if self.row.len() == depth {
                let complete = std::mem::take(&mut self.row);
                self.put_row(row, &complete);
                self.row = complete;
                self.row.clear();
            }
            at += now.len();
        }
    }

    fn put(&mut self, row: usize, k: usize, code: u8) {
        let layout = self.matrix.layout;
        let (word, shift) = layout.place(k);
        self.matrix.words[row * layout.words() + word] |= u32::from(code) << shift;
    }

    fn put_row(&mut self, row: usize, codes: &[u8]) {
        let layout = self.matrix.layout;
        let words = &mut self.matrix.words[row * layout.words()..][..layout.words()];
        for (words, codes) in words.chunks_mut(LINE).zip(codes.chunks(layout.line_codes())) {
            let width = words.len();
            for (j, codes) in codes.chunks(width).enumerate() {
                let shift = layout.bits * j as u32;
                words.iter_mut().zip(codes).for_each(|(w, &c)| *w |= u32::from(c) << shift);
            }
        }
    }

    /// The matrix.
    ///
    /// # Errors
    /// [`PackError::Count`] where codes are missing.
    pub fn finish(self) -> Result<PackedMatrix, PackError> {
        let wanted = self.matrix.rows * self.matrix.layout.depth;
        if self.seen != wanted {
            return Err(PackError::Count { found: self.seen, wanted });
        }
        Ok(self.matrix)
    }
}
