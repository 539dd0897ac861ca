//! One sequence of symbols as it is stored: a method, then blocks that can be decoded by themselves.

use std::ops::Range;

use super::ans::{LANES, Table};
use super::codes::{CodeModel, ContextSet, Geometry};
use super::decisions::{Coder, Player};
use super::frequencies::Frequencies;
use super::planes::PlaneModel;
use super::tree::Tree;
use crate::bytes::Input;
use crate::error::{Fault, Place, SlqError};

/// Symbols of a block of the packed and the static method.
pub(crate) const BLOCK: usize = 1 << 18;
/// Symbols of a block of the adaptive method, which starts to learn in each of them.
pub(crate) const ADAPTIVE_BLOCK: usize = 1 << 20;

pub(crate) const PACKED: u8 = 0;
pub(crate) const STATIC: u8 = 1;
pub(crate) const STATIC_LANES: u8 = 2;
pub(crate) const ADAPTIVE: u8 = 3;

/// Bits of [`Setup::flags`].
const KERNEL_FLAG: u8 = 1;
const LIKELY_FLAG: u8 = 2;

/// What both sides know about the symbols: where contexts come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// Codes of a weight, numbered by the order of their centroids.
    Codes {
        geometry: Geometry,
        /// The code next to zero in each group.
        zeros: &'a [u8],
        /// Codes of a group.
        run: usize,
    },
    /// One byte of each value of several tensors, with the planes of the higher bytes.
    Plane { ends: &'a [usize], higher: &'a [Vec<u8>] },
}

/// How the adaptive method is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub set: ContextSet,
    pub likely_first: bool,
    pub rate: u8,
}

impl Setup {
    /// The two bytes that store it.
    pub fn bytes(self) -> [u8; 2] {
        let kernel = if self.set == ContextSet::Kernel { KERNEL_FLAG } else { 0 };
        [kernel | if self.likely_first { LIKELY_FLAG } else { 0 }, self.rate]
    }

    fn read(input: &mut Input<'_>) -> Result<Self, SlqError> {
        let at = input.position();
        let [flags, rate] = input.array()?;
        if flags > KERNEL_FLAG | LIKELY_FLAG {
            return Err(input.fail_at(at, Fault::Tag { what: "set of contexts", value: flags.into() }));
        }
        let set = if flags & KERNEL_FLAG != 0 { ContextSet::Kernel } else { ContextSet::Matrix };
        Ok(Self { set, likely_first: flags & LIKELY_FLAG != 0, rate })
    }

    /// Runs the model over a block, in place.
    pub fn run<C: Coder>(
        self,
        source: Source<'_>,
        bits: u32,
        start: usize,
        symbols: &mut [u8],
        coder: &mut C,
    ) {
        match source {
            Source::Codes { geometry, zeros, run } => {
                let tree = Tree { bits, likely_first: self.likely_first };
                CodeModel { geometry, set: self.set, tree, rate: self.rate, zeros, run, start }
                    .run(symbols, coder)
            }
            Source::Plane { ends, higher } => {
                PlaneModel { ends, higher, start, rate: self.rate }.run(symbols, coder)
            }
        }
    }
}

enum Method {
    Packed,
    Static { table: Table, lanes: usize },
    Adaptive(Setup),
}

/// A sequence of symbols that has been found but not decoded.
///
/// Its bytes stay where they are; decoding takes the section that the stream was found in.
pub(crate) struct Stream {
    symbols: usize,
    alphabet: usize,
    method: Method,
    block: usize,
    /// Where each lane of each block lies in the section.
    lanes: Vec<Range<usize>>,
    /// The first byte behind the method, for errors.
    place: Place,
}

impl Stream {
    /// Finds a stream of `symbols` symbols of an alphabet of 1 to 256.
    pub fn read(input: &mut Input<'_>, symbols: usize, alphabet: usize) -> Result<Self, SlqError> {
        let at = input.position();
        let (method, block, per_block) = match input.byte()? {
            PACKED => (Method::Packed, BLOCK, 1),
            tag @ (STATIC | STATIC_LANES) => {
                let table = Table::new(&Frequencies::read(input, alphabet)?);
                let lanes = if tag == STATIC { 1 } else { LANES };
                (Method::Static { table, lanes }, BLOCK, lanes)
            }
            ADAPTIVE => (Method::Adaptive(Setup::read(input)?), ADAPTIVE_BLOCK, 1),
            tag => return Err(input.fail_at(at, Fault::Tag { what: "method", value: tag.into() })),
        };
        let place = input.place();
        let blocks = symbols.div_ceil(block);
        let mut stream = Self { symbols, alphabet, method, block, lanes: Vec::new(), place };
        if let Method::Packed = stream.method {
            stream.lanes = (0..blocks)
                .map(|b| input.skip(packed_bytes(stream.range(b).len(), alphabet)))
                .collect::<Result<_, _>>()?;
            return Ok(stream);
        }
        // Each lane has a length of at least one byte.
        let count = (blocks as u64).saturating_mul(per_block as u64);
        if count > input.left() as u64 {
            return Err(input.fail(Fault::Ends { needed: count, left: input.left() as u64 }));
        }
        let lengths: Vec<usize> = (0..count).map(|_| input.size()).collect::<Result<_, _>>()?;
        stream.lanes = lengths.into_iter().map(|length| input.skip(length)).collect::<Result<_, _>>()?;
        Ok(stream)
    }

    /// Number of symbols.
    pub fn len(&self) -> usize {
        self.symbols
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.symbols.div_ceil(self.block)
    }

    /// The symbols that a block holds.
    pub fn range(&self, block: usize) -> Range<usize> {
        let start = (block * self.block).min(self.symbols);
        start..(start + self.block).min(self.symbols)
    }

    /// Whether decoding follows contexts and is slow.
    pub fn is_adaptive(&self) -> bool {
        matches!(self.method, Method::Adaptive(_))
    }

    /// An error where the stream begins.
    pub fn fail(&self, fault: Fault) -> SlqError {
        SlqError::Malformed { place: self.place.clone(), fault }
    }

    /// Decodes a block into `out`, which has its length. `section` is what the stream was found in.
    pub fn decode(
        &self,
        section: &[u8],
        block: usize,
        source: Source<'_>,
        out: &mut [u8],
    ) -> Result<(), SlqError> {
        if out.is_empty() {
            return Ok(());
        }
        let lane = |i: usize| {
            let range = self.lanes.get(i).cloned().unwrap_or_default();
            section.get(range).unwrap_or_default()
        };
        let bits = bits(self.alphabet);
        let right = match &self.method {
            Method::Packed => slq_codebook::unpack(lane(block), bits, out.len())
                .map(|symbols| out.copy_from_slice(&symbols))
                .is_ok(),
            Method::Static { table, lanes } => {
                let lanes: Vec<&[u8]> = (block * lanes..(block + 1) * lanes).map(lane).collect();
                table.decode(&lanes, out)
            }
            Method::Adaptive(setup) => Player::new(lane(block)).is_some_and(|mut player| {
                setup.run(source, bits, self.range(block).start, out, &mut player);
                player.is_done()
            }),
        };
        if !right {
            return Err(self.fail(Fault::StreamEnd));
        }
        let largest = out.iter().copied().max().unwrap_or_default();
        if usize::from(largest) >= self.alphabet {
            return Err(self.fail(Fault::Symbol { symbol: largest.into(), alphabet: self.alphabet as u32 }));
        }
        Ok(())
    }

    /// All symbols.
    pub fn decode_all(&self, section: &[u8], source: Source<'_>) -> Result<Vec<u8>, SlqError> {
        let mut symbols = vec![0; self.symbols];
        for (block, out) in symbols.chunks_mut(self.block).enumerate() {
            self.decode(section, block, source, out)?;
        }
        Ok(symbols)
    }
}

/// Bits of a symbol.
pub(crate) fn bits(alphabet: usize) -> u32 {
    slq_graph::bits_for(alphabet).into()
}

/// Bytes of a packed block.
fn packed_bytes(symbols: usize, alphabet: usize) -> usize {
    (symbols * bits(alphabet) as usize).div_ceil(8)
}
