//! A section of codes: the codebooks of one weight, then its codes.

use std::borrow::Cow;
use std::ops::Range;

use slq_graph::{GraphError, Palette, PaletteError};

use crate::bytes::Input;
use crate::codebook::{self, BookDraft};
use crate::entropy::codes::Geometry;
use crate::entropy::draft::Draft;
use crate::entropy::stream::{Source, Stream};
use crate::error::{Fault, SlqError};
use crate::order::Order;
use crate::piece::Piece;

/// What a section of codes is made of.
pub(crate) struct Coded<'a> {
    /// Codebooks of `k` values, group after group.
    pub codebook: &'a [f32],
    pub k: usize,
    pub codes: &'a [u8],
    pub shape: &'a [usize],
}

/// The pieces of a section; adaptive streams are tried where they take at most `limit` decisions.
pub(crate) fn draft(coded: &Coded<'_>, limit: u64) -> Vec<Piece> {
    let mut pieces = match codebook::draft(coded.codebook, coded.k, limit) {
        BookDraft::Raw(bytes) => vec![Piece::Bytes(bytes)],
        BookDraft::Sorted { form, firsts, gaps, below } => {
            vec![Piece::Bytes(vec![form]), Piece::Stream(firsts), Piece::Stream(gaps), Piece::Bytes(below)]
        }
    };
    let order = Order::new(coded.codebook, coded.k, coded.codes.len());
    let mut ranks = coded.codes.to_vec();
    order.rank(&mut ranks);
    let source = Source::Codes { geometry: Geometry::of(coded.shape), zeros: &order.zeros, run: order.run };
    pieces.push(Piece::Stream(Draft::new(&ranks, coded.k, source, limit)));
    pieces
}

/// Codebooks and codes of one weight, the codes still compressed.
///
/// Blocks can be decoded in any order and from several threads.
pub struct PackedCodes<'a> {
    section: Cow<'a, [u8]>,
    codebook: Vec<f32>,
    k: usize,
    geometry: Geometry,
    order: Order,
    stream: Stream,
}

impl<'a> PackedCodes<'a> {
    /// Reads the codebooks of a section for `count` codes and finds the codes.
    pub(crate) fn read(
        section: Cow<'a, [u8]>,
        name: &str,
        shape: &[usize],
        (k, groups): (usize, usize),
    ) -> Result<Self, SlqError> {
        let count = shape.iter().product();
        let mut input = Input::new(&section, name);
        let codebook = codebook::read(&mut input, groups, k)?;
        let stream = Stream::read(&mut input, count, k)?;
        input.finish()?;
        let order = Order::new(&codebook, k, count);
        Ok(Self { codebook, k, geometry: Geometry::of(shape), order, stream, section })
    }

    /// All codebooks, group after group.
    pub fn codebook(&self) -> &[f32] {
        &self.codebook
    }

    /// Values of one codebook (K).
    pub fn codebook_size(&self) -> usize {
        self.k
    }

    /// Number of codebooks; the codes are cut into that many equal runs.
    pub fn groups(&self) -> usize {
        self.codebook.len() / self.k
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.stream.len()
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of blocks that can be decoded by themselves.
    pub fn blocks(&self) -> usize {
        self.stream.blocks()
    }

    /// The codes that a block holds, row-major in the weight.
    pub fn range(&self, block: usize) -> Range<usize> {
        self.stream.range(block)
    }

    /// Whether the codes follow contexts, at a tenth of the speed or less.
    pub fn is_adaptive(&self) -> bool {
        self.stream.is_adaptive()
    }

    /// Decodes the codes of a block into `out`.
    ///
    /// # Errors
    /// [`SlqError::Malformed`] where `out` has not the block's length or the stream is no such stream.
    pub fn decode_block(&self, block: usize, out: &mut [u8]) -> Result<(), SlqError> {
        let range = self.range(block);
        if range.len() != out.len() {
            let fault = Fault::Count {
                what: "codes wanted of a block",
                count: out.len() as u64,
                limit: range.len() as u64,
            };
            return Err(self.stream.fail(fault));
        }
        self.stream.decode(&self.section, block, self.source(), out)?;
        self.order.code(range.start, out);
        Ok(())
    }

    /// All codes, row-major.
    ///
    /// # Errors
    /// As [`PackedCodes::decode_block`].
    pub fn decode(&self) -> Result<Vec<u8>, SlqError> {
        let mut codes = self.stream.decode_all(&self.section, self.source())?;
        self.order.code(0, &mut codes);
        Ok(codes)
    }

    fn source(&self) -> Source<'_> {
        Source::Codes { geometry: self.geometry, zeros: &self.order.zeros, run: self.order.run }
    }

    /// The palette, every weight fixed.
    pub(crate) fn palette(self) -> Result<Palette, SlqError> {
        let codes = self.decode()?;
        let groups = self.groups();
        let fail = |e: PaletteError| self.stream.fail(GraphError::from(e).into());
        Palette::fully_fixed(self.codebook, groups, codes).map_err(fail)
    }

    /// The values that the codes stand for, where the codebook is a dictionary.
    pub(crate) fn values(&self) -> Result<Vec<f32>, SlqError> {
        // The decoder has checked that every code is below K.
        let value = |code: u8| self.codebook.get(usize::from(code)).copied().unwrap_or_default();
        Ok(self.decode()?.into_iter().map(value).collect())
    }
}
