//! The static coder: asymmetric numeral systems (rANS) with one table, in several independent lanes.
//!
//! The coder is `constriction`'s `AnsCoder` with 32-bit words and a 64-bit state. Symbol `i` belongs to lane
//! `i mod lanes`; a core works on four lanes at once.

use std::borrow::Borrow;
use std::num::NonZeroU32;

use constriction::UnwrapInfallible;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::stack::DefaultAnsCoder;
use constriction::stream::{Decode, Encode};

use super::frequencies::Frequencies;

/// The lanes of a stream that is worth it.
pub(crate) const LANES: usize = 4;

/// The words as bytes, lowest first, without the zeros at the end.
pub(super) fn to_bytes(words: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
    bytes
}

/// A coder over bytes that [`to_bytes`] made; `None` where the last one is zero.
pub(super) fn coder(bytes: &[u8]) -> Option<DefaultAnsCoder> {
    if bytes.last() == Some(&0) {
        return None;
    }
    let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
    DefaultAnsCoder::from_compressed(bytes.chunks(4).map(word).collect()).ok()
}

/// Where a symbol's interval begins, and how long it is.
#[derive(Clone, Copy)]
struct Interval {
    start: u32,
    /// Above 0 for every symbol that occurs.
    length: u32,
}

fn intervals(values: &[u32]) -> Vec<Interval> {
    let mut start = 0;
    let next = |&length: &u32| {
        let interval = Interval { start, length };
        start += length;
        interval
    };
    values.iter().map(next).collect()
}

struct Encoder<const PRECISION: usize>(Vec<Interval>);

impl<const PRECISION: usize> EntropyModel<PRECISION> for Encoder<PRECISION> {
    type Symbol = u8;
    type Probability = u32;
}

impl<const PRECISION: usize> EncoderModel<PRECISION> for Encoder<PRECISION> {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<u8>) -> Option<(u32, NonZeroU32)> {
        let interval = self.0.get(usize::from(*symbol.borrow()))?;
        Some((interval.start, NonZeroU32::new(interval.length)?))
    }
}

/// Each lane of `symbols` as bytes; `None` if one of them has no frequency.
pub(crate) fn encode(symbols: &[u8], lanes: usize, frequencies: &Frequencies) -> Option<Vec<Vec<u8>>> {
    let intervals = intervals(&frequencies.values);
    match frequencies.precision {
        12 => encode_with(symbols, lanes, &Encoder::<12>(intervals)),
        _ => encode_with(symbols, lanes, &Encoder::<14>(intervals)),
    }
}

fn encode_with<const PRECISION: usize>(
    symbols: &[u8],
    lanes: usize,
    model: &Encoder<PRECISION>,
) -> Option<Vec<Vec<u8>>> {
    let lane = |lane: usize| {
        let mut coder = DefaultAnsCoder::new();
        let symbols = symbols.get(lane..).unwrap_or_default().iter().step_by(lanes);
        symbols.rev().try_for_each(|&symbol| coder.encode_symbol(symbol, model)).ok()?;
        Some(to_bytes(&coder.into_compressed().unwrap_infallible()))
    };
    (0..lanes).map(lane).collect()
}

/// A table that turns quantiles into symbols.
pub(crate) enum Table {
    /// 12 bits: symbol, length - 1 and offset of each quantile in one word.
    Narrow(Narrow),
    /// 14 bits: the symbol of each quantile, and each symbol's interval.
    Wide(Wide),
    /// One symbol only: it takes no bits.
    Single(u8),
}

pub(crate) struct Narrow(Box<[u32; 1 << 12]>);

pub(crate) struct Wide {
    symbols: Box<[u8; 1 << 14]>,
    intervals: Box<[Interval; 256]>,
}

impl EntropyModel<12> for Narrow {
    type Symbol = u8;
    type Probability = u32;
}

impl DecoderModel<12> for Narrow {
    #[inline(always)]
    fn quantile_function(&self, quantile: u32) -> (u8, u32, NonZeroU32) {
        let entry = self.0[(quantile & 0xfff) as usize];
        (entry as u8, quantile - (entry >> 20), NonZeroU32::MIN.saturating_add(entry >> 8 & 0xfff))
    }
}

impl EntropyModel<14> for Wide {
    type Symbol = u8;
    type Probability = u32;
}

impl DecoderModel<14> for Wide {
    #[inline(always)]
    fn quantile_function(&self, quantile: u32) -> (u8, u32, NonZeroU32) {
        let symbol = self.symbols[(quantile & 0x3fff) as usize];
        let Interval { start, length } = self.intervals[usize::from(symbol)];
        (symbol, start, NonZeroU32::new(length).unwrap_or(NonZeroU32::MIN))
    }
}

impl Table {
    /// The table of these frequencies.
    pub fn new(frequencies: &Frequencies) -> Self {
        let whole = 1u32 << frequencies.precision;
        if let Some(symbol) = frequencies.values.iter().position(|&v| v == whole) {
            return Table::Single(symbol as u8);
        }
        let all = intervals(&frequencies.values);
        let spans = all.iter().enumerate().map(|(s, i)| (s, i.start as usize..(i.start + i.length) as usize));
        if frequencies.precision == 12 {
            let mut table = Box::new([0; 1 << 12]);
            for (symbol, span) in spans {
                let length = span.len() as u32;
                for (offset, entry) in table[span].iter_mut().enumerate() {
                    *entry = symbol as u32 | (length - 1) << 8 | (offset as u32) << 20;
                }
            }
            return Table::Narrow(Narrow(table));
        }
        let mut table = Wide {
            symbols: Box::new([0; 1 << 14]),
            intervals: Box::new([Interval { start: 0, length: 0 }; 256]),
        };
        table.intervals[..all.len()].copy_from_slice(&all);
        spans.for_each(|(symbol, span)| table.symbols[span].fill(symbol as u8));
        Table::Wide(table)
    }

    /// Decodes one symbol for each element of `out`. Says whether every lane ends with its last symbol.
    pub fn decode(&self, lanes: &[&[u8]], out: &mut [u8]) -> bool {
        match self {
            Table::Single(symbol) => {
                out.fill(*symbol);
                lanes.iter().all(|lane| lane.is_empty())
            }
            Table::Narrow(table) => decode_with(table, lanes, out),
            Table::Wide(table) => decode_with(table, lanes, out),
        }
    }
}

fn decode_with<const PRECISION: usize, M>(model: &M, lanes: &[&[u8]], out: &mut [u8]) -> bool
where
    M: DecoderModel<PRECISION, Symbol = u8, Probability = u32>,
{
    let coders: Option<Vec<DefaultAnsCoder>> = lanes.iter().map(|lane| coder(lane)).collect();
    let Some(mut coders) = coders else { return false };
    if coders.len() != LANES {
        for row in out.chunks_mut(coders.len().max(1)) {
            for (symbol, coder) in row.iter_mut().zip(&mut coders) {
                *symbol = coder.decode_symbol(model).unwrap_infallible();
            }
        }
        return coders.iter().all(DefaultAnsCoder::is_empty);
    }
    let mut coders = coders.into_iter();
    let mut next = || coders.next().unwrap_or_default();
    // Four locals, so that their states stay in registers.
    let (mut a, mut b, mut c, mut d) = (next(), next(), next(), next());
    let mut rows = out.chunks_exact_mut(LANES);
    for row in &mut rows {
        row[0] = a.decode_symbol(model).unwrap_infallible();
        row[1] = b.decode_symbol(model).unwrap_infallible();
        row[2] = c.decode_symbol(model).unwrap_infallible();
        row[3] = d.decode_symbol(model).unwrap_infallible();
    }
    for (symbol, coder) in rows.into_remainder().iter_mut().zip([&mut a, &mut b, &mut c]) {
        *symbol = coder.decode_symbol(model).unwrap_infallible();
    }
    [a, b, c, d].iter().all(DefaultAnsCoder::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(symbols: &[u8], alphabet: usize) -> Vec<u64> {
        slq_codebook::histogram(symbols, alphabet)
    }

    #[test]
    fn one_symbol_takes_no_bytes() {
        let symbols = [3u8; 1000];
        let (frequencies, _) = Frequencies::fit(&counts(&symbols, 16));
        let lanes = encode(&symbols, 4, &frequencies).unwrap();
        assert!(lanes.iter().all(Vec::is_empty));
        let mut out = [0; 1000];
        assert!(Table::new(&frequencies).decode(&[&[][..]; 4], &mut out));
        assert_eq!(out, symbols);
        assert!(!Table::new(&frequencies).decode(&[&[1]], &mut out), "a byte too many");
    }

    #[test]
    fn a_symbol_without_frequency_is_refused() {
        let (frequencies, _) = Frequencies::fit(&[5, 0, 5]);
        assert_eq!(encode(&[0, 2, 1], 1, &frequencies), None);
    }

    #[test]
    fn changed_and_missing_bytes_are_noticed_at_the_end() {
        let symbols: Vec<u8> = (0..600u32).map(|i| (i * i % 7) as u8).collect();
        let (frequencies, _) = Frequencies::fit(&counts(&symbols, 7));
        let lanes = encode(&symbols, 1, &frequencies).unwrap();
        let table = Table::new(&frequencies);
        let mut out = vec![0; symbols.len()];
        assert!(table.decode(&[&lanes[0]], &mut out));
        let end = lanes[0].len();
        for cut in 0..end {
            let right = table.decode(&[&lanes[0][..cut]], &mut out);
            assert!(!right || out != symbols, "cut at {cut}");
        }
        assert!(!table.decode(&[&[&lanes[0][..], &[0]].concat()], &mut out), "a zero at the end");
    }

    proptest! {
        #[test]
        fn symbols_come_back(
            symbols in proptest::collection::vec(0u8..=255, 0..700),
            alphabet in 1usize..=256,
            lanes in 1usize..=5,
        ) {
            let symbols: Vec<u8> = symbols.iter().map(|&s| (usize::from(s) % alphabet) as u8).collect();
            let (frequencies, _) = Frequencies::fit(&counts(&symbols, alphabet));
            let streams = encode(&symbols, lanes, &frequencies).unwrap();
            let streams: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
            let mut out = vec![0; symbols.len()];
            prop_assert!(Table::new(&frequencies).decode(&streams, &mut out));
            prop_assert_eq!(out, symbols);
        }
    }
}
