//! The writer's side of a stream: every method that may be the shortest, tried.

use super::ans::{self, LANES};
use super::codes::ContextSet;
use super::decisions::Recorder;
use super::frequencies::Frequencies;
use super::stream::{ADAPTIVE, ADAPTIVE_BLOCK, BLOCK, PACKED, STATIC, STATIC_LANES, Setup, Source, bits};
use crate::bytes::put_number;

/// Bytes from which a static stream has several lanes.
const WORTH_LANES: usize = 1 << 14;
/// How fast the mixer may learn.
const RATES: [u8; 2] = [3, 9];

/// A stream in the two ways that the writer chooses from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// Packed or static: fast to decode.
    pub plain: Vec<u8>,
    /// Adaptive, where that is shorter.
    pub adaptive: Option<Adaptive>,
}

/// An adaptive stream.
#[derive(Debug, Clone)]
pub(crate) struct Adaptive {
    /// The stream.
    pub bytes: Vec<u8>,
    /// Binary decisions that decoding takes.
    pub decisions: u64,
}

impl Draft {
    /// Both forms of `symbols`, each below `alphabet`; the adaptive form only if it takes at most `limit` decisions.
    pub fn new(symbols: &[u8], alphabet: usize, source: Source<'_>, limit: u64) -> Self {
        let plain = plain(symbols, alphabet);
        let mut adaptive: Option<Adaptive> = None;
        for setup in setups(source) {
            let least = if setup.likely_first { 1 } else { bits(alphabet).into() };
            // A table, a length and nothing else cannot be beaten.
            if least * symbols.len() as u64 > limit || plain.len() < 8 {
                continue;
            }
            let found = adapt(symbols, alphabet, source, setup);
            let best = adaptive.as_ref().map_or(plain.len(), |a| a.bytes.len());
            if found.bytes.len() < best && found.decisions <= limit {
                adaptive = Some(found);
            }
        }
        Self { plain, adaptive }
    }
}

/// The setups worth a trial.
fn setups(source: Source<'_>) -> Vec<Setup> {
    let sets: &[ContextSet] = match source {
        Source::Codes { geometry, .. } if geometry.kernel > 1 => &[ContextSet::Kernel, ContextSet::Matrix],
        _ => &[ContextSet::Matrix],
    };
    let orders: &[bool] = if let Source::Codes { .. } = source { &[false, true] } else { &[false] };
    let mut setups = Vec::new();
    for &set in sets {
        for &likely_first in orders {
            setups.extend(RATES.map(|rate| Setup { set, likely_first, rate }));
        }
    }
    setups
}

/// The shorter of the packed and the static form.
fn plain(symbols: &[u8], alphabet: usize) -> Vec<u8> {
    let mut packed = vec![PACKED];
    for block in symbols.chunks(BLOCK) {
        // The width reaches every symbol below the alphabet.
        packed.extend(slq_codebook::pack(block, bits(alphabet)).unwrap_or_default());
    }
    match fixed(symbols, alphabet) {
        Some(coded) if coded.len() < packed.len() => coded,
        _ => packed,
    }
}

/// The static form.
fn fixed(symbols: &[u8], alphabet: usize) -> Option<Vec<u8>> {
    if symbols.is_empty() {
        return None;
    }
    let counts = slq_codebook::histogram(symbols, alphabet);
    let (frequencies, table) = Frequencies::fit(&counts);
    let bytes = frequencies.cost(&counts)? / 8;
    let lanes = if bytes < WORTH_LANES as u64 { 1 } else { LANES };
    let mut lengths = Vec::new();
    let mut content = Vec::new();
    for block in symbols.chunks(BLOCK) {
        for lane in ans::encode(block, lanes, &frequencies)? {
            put_number(&mut lengths, lane.len() as u64);
            content.extend(lane);
        }
    }
    let tag = if lanes == 1 { STATIC } else { STATIC_LANES };
    Some([&[tag], &table[..], &lengths, &content].concat())
}

/// The adaptive form with these settings.
fn adapt(symbols: &[u8], alphabet: usize, source: Source<'_>, setup: Setup) -> Adaptive {
    let (mut lengths, mut content, mut decisions) = (Vec::new(), Vec::new(), 0);
    let mut block = Vec::new();
    for (index, original) in symbols.chunks(ADAPTIVE_BLOCK).enumerate() {
        block.clear();
        block.extend_from_slice(original);
        let mut recorder = Recorder::default();
        setup.run(source, bits(alphabet), index * ADAPTIVE_BLOCK, &mut block, &mut recorder);
        decisions += recorder.len() as u64;
        let bytes = recorder.finish();
        put_number(&mut lengths, bytes.len() as u64);
        content.extend(bytes);
    }
    let bytes = [&[ADAPTIVE], &setup.bytes()[..], &lengths, &content].concat();
    Adaptive { bytes, decisions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Input;
    use crate::entropy::codes::Geometry;
    use crate::entropy::stream::Stream;
    use crate::error::{Fault, SlqError};
    use proptest::prelude::*;

    fn decode(bytes: &[u8], count: usize, alphabet: usize, source: Source<'_>) -> Result<Vec<u8>, SlqError> {
        let mut input = Input::new(bytes, "s");
        let stream = Stream::read(&mut input, count, alphabet)?;
        input.finish()?;
        stream.decode_all(bytes, source)
    }

    fn matrix(row: usize) -> Source<'static> {
        let geometry = Geometry { row, kernel: 1, kernel_width: 1 };
        Source::Codes { geometry, zeros: &[0], run: usize::MAX }
    }

    /// Symbols whose probabilities halve from one to the next.
    fn skewed(count: usize, alphabet: usize) -> Vec<u8> {
        let mut seed = 1u64;
        let next = |_| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((seed >> 33) as u32 | 1 << 30).trailing_zeros().min(alphabet as u32 - 1) as u8
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn long_streams_have_blocks_that_decode_alone() {
        let symbols = skewed(BLOCK * 2 + 77, 6);
        let draft = Draft::new(&symbols, 6, matrix(100), u64::MAX);
        assert_eq!(draft.plain[0], STATIC_LANES);
        let mut input = Input::new(&draft.plain, "s");
        let stream = Stream::read(&mut input, symbols.len(), 6).unwrap();
        assert_eq!((stream.blocks(), stream.range(2)), (3, 2 * BLOCK..symbols.len()));
        let mut out = vec![0; 77];
        stream.decode(&draft.plain, 2, matrix(100), &mut out).unwrap();
        assert_eq!(out, symbols[2 * BLOCK..]);
        assert_eq!(decode(&draft.plain, symbols.len(), 6, matrix(100)).unwrap(), symbols);
        let long = skewed(ADAPTIVE_BLOCK + 5, 3);
        let setup = Setup { set: ContextSet::Matrix, likely_first: true, rate: 5 };
        let adaptive = adapt(&long, 3, matrix(1000), setup);
        assert_eq!(decode(&adaptive.bytes, long.len(), 3, matrix(1000)).unwrap(), long);
    }

    #[test]
    fn static_streams_are_near_the_entropy() {
        let symbols = skewed(200_000, 8);
        let counts = slq_codebook::histogram(&symbols, 8);
        let entropy = slq_codebook::entropy_bits(&counts) * symbols.len() as f64 / 8.0;
        let found = plain(&symbols, 8).len() as f64;
        assert!(found < 1.001 * entropy + 30.0, "{found} bytes, entropy {entropy}");
    }

    #[test]
    fn no_symbols_and_one_symbol_take_next_to_nothing() {
        assert_eq!(plain(&[], 16), [PACKED]);
        let same = vec![9; 3 * BLOCK];
        let bytes = plain(&same, 16);
        assert!(bytes.len() < 10, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes, same.len(), 16, matrix(1)).unwrap(), same);
    }

    #[test]
    fn impossible_streams_are_refused() {
        let fault = |bytes: &[u8], count, alphabet| match decode(bytes, count, alphabet, matrix(4)) {
            Err(SlqError::Malformed { fault, .. }) => fault,
            other => panic!("{bytes:?}: {other:?}"),
        };
        assert_eq!(fault(&[9], 1, 4), Fault::Tag { what: "method", value: 9 });
        assert_eq!(fault(&[PACKED, 0], 9, 4), Fault::Ends { needed: 3, left: 1 });
        assert_eq!(fault(&[PACKED, 3], 1, 3), Fault::Symbol { symbol: 3, alphabet: 3 });
        assert_eq!(fault(&[PACKED, 0x80], 1, 4), Fault::StreamEnd, "padding that is not zero");
        assert_eq!(fault(&[ADAPTIVE, 4, 5, 0], 1, 4), Fault::Tag { what: "set of contexts", value: 4 });
        assert_eq!(fault(&[ADAPTIVE, 0, 5, 2, 1], 1, 4), Fault::Ends { needed: 2, left: 1 });
        // More blocks than the bytes can list.
        assert_eq!(fault(&[ADAPTIVE, 0, 5, 0, 0], usize::MAX, 4), Fault::Ends { needed: 1 << 44, left: 2 });
    }

    proptest! {
        #[test]
        fn every_form_comes_back(
            symbols in proptest::collection::vec(0u8..=255, 0..500),
            alphabet in 1usize..=256,
            row in 1usize..40,
        ) {
            let symbols: Vec<u8> = symbols.iter().map(|&s| (usize::from(s) % alphabet) as u8).collect();
            let draft = Draft::new(&symbols, alphabet, matrix(row), u64::MAX);
            prop_assert_eq!(&decode(&draft.plain, symbols.len(), alphabet, matrix(row)).unwrap(), &symbols);
            let setup = Setup { set: ContextSet::Kernel, likely_first: false, rate: 5 };
            let adaptive = adapt(&symbols, alphabet, matrix(row), setup);
            prop_assert_eq!(decode(&adaptive.bytes, symbols.len(), alphabet, matrix(row)).unwrap(), symbols);
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            method in 0u8..4,
            count in 0usize..300,
            alphabet in 1usize..=256,
        ) {
            let bytes = [&[method], &bytes[..]].concat();
            if let Ok(symbols) = decode(&bytes, count, alphabet, matrix(7)) {
                prop_assert_eq!(symbols.len(), count);
            }
        }
    }
}
