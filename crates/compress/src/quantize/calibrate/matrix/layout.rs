//! Which weights share a codebook.

use crate::error::CalibrateError;

/// How a layer's codebooks lie over its `rows x columns` matrix of weights (a row is an output channel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Books {
    /// One codebook for all weights.
    Tensor,
    /// One for every so many neighbouring output channels; 1 is a codebook for each channel.
    Rows(usize),
    /// One for every so many neighbouring inputs of each output channel.
    Inputs(usize),
}

/// The extents of a layer's matrix and its codebooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub rows: usize,
    pub columns: usize,
    /// Rows that share a codebook.
    pub book_rows: usize,
    /// Columns that share a codebook.
    pub book_columns: usize,
}

impl Layout {
    /// Checks that the codebooks cover the matrix in equal parts.
    pub fn new(rows: usize, columns: usize, books: Books) -> Result<Self, CalibrateError> {
        let (book_rows, book_columns) = match books {
            Books::Tensor => (rows, columns),
            Books::Rows(n) => (n, columns),
            Books::Inputs(n) => (1, n),
        };
        let fits = |whole: usize, part: usize| part > 0 && whole.is_multiple_of(part);
        if rows == 0 || columns == 0 {
            return Err(CalibrateError::Shape { rows, groups: 1, columns });
        }
        if !fits(rows, book_rows) || !fits(columns, book_columns) {
            let (name, part) = match books {
                Books::Rows(n) => ("channels per codebook", n),
                Books::Tensor | Books::Inputs(_) => ("inputs per codebook", book_columns),
            };
            let expected = "a number that divides the layer's channels or inputs is needed";
            return Err(CalibrateError::Setting { name, value: part as f64, expected });
        }
        Ok(Self { rows, columns, book_rows, book_columns })
    }

    /// Codebooks side by side in a row.
    pub fn across(&self) -> usize {
        self.columns / self.book_columns
    }

    /// Number of codebooks.
    pub fn count(&self) -> usize {
        self.rows / self.book_rows * self.across()
    }

    /// The codebook of a weight.
    pub fn book(&self, row: usize, column: usize) -> usize {
        row / self.book_rows * self.across() + column / self.book_columns
    }
}

/// A matrix of `rows` rows, with rows and columns exchanged.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            out[c * rows + r] = v;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_cover_the_matrix() {
        let layout = |books| Layout::new(6, 8, books).unwrap();
        assert_eq!(layout(Books::Tensor).count(), 1);
        assert_eq!(layout(Books::Rows(2)).count(), 3);
        assert_eq!(layout(Books::Inputs(4)).count(), 12);
        assert_eq!(layout(Books::Rows(2)).book(3, 7), 1);
        assert_eq!(layout(Books::Inputs(4)).book(3, 5), 7);
    }

    #[test]
    fn parts_that_do_not_divide_are_refused() {
        for books in [Books::Rows(4), Books::Rows(0), Books::Inputs(3), Books::Inputs(0)] {
            assert!(matches!(Layout::new(6, 8, books), Err(CalibrateError::Setting { .. })), "{books:?}");
        }
        assert!(matches!(Layout::new(0, 8, Books::Tensor), Err(CalibrateError::Shape { .. })));
    }
}
