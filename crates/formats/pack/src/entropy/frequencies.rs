//! How often each symbol occurs: fitted to counts, stored in few bits, rebuilt exactly.
//!
//! Frequencies are stored as levels on a logarithmic scale of 1 to 16 steps an octave. The finer the steps, the
//! nearer the frequencies and the longer the table; the writer takes what is shortest with the codes together.
//! Everything is computed in integers, so that every machine rebuilds the same numbers.

use crate::bytes::{BitReader, BitWriter, Input};
use crate::error::{Fault, SlqError};

/// 65536 * 2^(i / 16).
const SIXTEENTHS: [u64; 16] = [
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752, 92682, 96785, 101070, 105545, 110218, 115098,
    120194, 125515,
];
/// The highest octave of a level.
const OCTAVES: u32 = 16;
/// The longest run of ones in a stored level.
const LONGEST: u32 = 2 * (16 * OCTAVES + 1) + 1;
/// Bits of a frequency's denominator: for few symbols, and for many.
pub(crate) const PRECISIONS: [u32; 2] = [12, 14];

const RANGE_FLAG: u8 = 0x40;
const PRECISION_FLAG: u8 = 0x80;

/// Frequencies of symbols, in units of 2^-precision; their sum is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frequencies {
    /// One for each symbol of the alphabet.
    pub values: Vec<u32>,
    /// Bits of the denominator: one of [`PRECISIONS`].
    pub precision: u32,
}

/// log2(x) in units of 2^-16, rounded down; 0 for 0.
pub(crate) fn log2_fixed(x: u64) -> u64 {
    let Some(whole) = x.checked_ilog2() else { return 0 };
    // The mantissa as 1.31 fixed point, squared again and again: each doubling gives one bit.
    let mut mantissa = if whole <= 31 { x << (31 - whole) } else { x >> (whole - 31) };
    let mut result = u64::from(whole);
    for _ in 0..16 {
        mantissa = (mantissa * mantissa) >> 31;
        let bit = mantissa >> 32;
        result = result << 1 | bit;
        mantissa >>= bit;
    }
    result
}

impl Frequencies {
    /// Bits that symbols of these counts take, rounded up; `None` where one of them has no frequency.
    pub fn cost(&self, counts: &[u64]) -> Option<u64> {
        let whole = u64::from(self.precision) << 16;
        let mut bits: u128 = 0;
        for (&count, &value) in counts.iter().zip(&self.values).filter(|&(&count, _)| count > 0) {
            if value == 0 {
                return None;
            }
            bits += u128::from(count) * u128::from(whole - log2_fixed(value.into()));
        }
        Some(bits.div_ceil(1 << 16) as u64)
    }

    /// Frequencies that take the fewest bits with their table, and the table's bytes. At least one count must be
    /// above 0.
    pub fn fit(counts: &[u64]) -> (Self, Vec<u8>) {
        let precisions = if counts.len() <= 32 { &PRECISIONS[..1] } else { &PRECISIONS[..] };
        let mut best: Option<(u64, Self, Vec<u8>)> = None;
        for &precision in precisions {
            for shift in 0..=4 {
                let levels = levels(counts, precision, shift);
                let Some(values) = rebuild(&levels, precision, shift) else { continue };
                let found = Self { values, precision };
                let table = write_levels(&levels, precision, shift);
                let Some(bits) = found.cost(counts) else { continue };
                let total = bits + 8 * table.len() as u64;
                if best.as_ref().is_none_or(|(least, ..)| total < *least) {
                    best = Some((total, found, table));
                }
            }
        }
        let (_, found, table) = best.unwrap_or_else(|| (0, Self::single(counts.len()), vec![0]));
        (found, table)
    }

    /// All weight on symbol 0: what [`Frequencies::fit`] gives for nothing.
    fn single(alphabet: usize) -> Self {
        let mut values = vec![0; alphabet];
        values[0] = 1 << PRECISIONS[0];
        Self { values, precision: PRECISIONS[0] }
    }

    /// Reads a table for an alphabet of 1 to 256 symbols.
    pub fn read(input: &mut Input<'_>, alphabet: usize) -> Result<Self, SlqError> {
        let start = input.clone();
        let bad = |reason| start.fail(Fault::Frequencies(reason));
        let flags = input.byte()?;
        let (shift, rice) = (u32::from(flags & 7), u32::from(flags >> 3 & 7));
        if shift > 4 {
            return Err(bad("has more than 16 steps an octave"));
        }
        let precision = PRECISIONS[usize::from(flags & PRECISION_FLAG != 0)];
        let (first, last) = if flags & RANGE_FLAG != 0 {
            (usize::from(input.byte()?), usize::from(input.byte()?))
        } else {
            (0, alphabet - 1)
        };
        if first > last || last >= alphabet {
            return Err(bad("covers symbols outside the alphabet"));
        }
        // The table has no length of its own: the bits are read from the rest, and then the bytes they began.
        let mut rest = input.clone();
        let mut bits = BitReader::new(rest.take(rest.left())?);
        let mut levels = vec![0u32; alphabet];
        let mut previous = 0i64;
        for level in &mut levels[first..=last] {
            let step = read_rice(&mut bits, rice).ok_or_else(|| bad("ends early"))?;
            previous += i64::from(step >> 1) ^ -i64::from(step & 1);
            let most = (OCTAVES << shift) + 1;
            *level =
                u32::try_from(previous).ok().filter(|&l| l <= most).ok_or_else(|| bad("leaves its scale"))?;
        }
        let used = bits.end().ok_or_else(|| bad("has bits after its end"))?;
        input.take(used)?;
        let values = rebuild(&levels, precision, shift).ok_or_else(|| bad("has no symbol"))?;
        Ok(Self { values, precision })
    }
}

/// The level of each count, 0 for a count of 0, with 2^`shift` steps an octave.
fn levels(counts: &[u64], precision: u32, shift: u32) -> Vec<u32> {
    let most = log2_fixed(counts.iter().copied().max().unwrap_or_default());
    // Level 1 stands for the smallest frequency there is, or for a count of 1.
    let floor = most.saturating_sub(u64::from(precision) << 16);
    let level = |&count: &u64| {
        if count == 0 {
            return 0;
        }
        let above = log2_fixed(count).saturating_sub(floor);
        1 + (((above << shift) + (1 << 15)) >> 16) as u32
    };
    counts.iter().map(level).collect()
}

/// Frequencies of levels, or `None` if every level is 0.
fn rebuild(levels: &[u32], precision: u32, shift: u32) -> Option<Vec<u32>> {
    let weight = |&level: &u32| match level.checked_sub(1) {
        None => 0,
        Some(above) => {
            let (octave, step) = (above >> shift, above & ((1 << shift) - 1));
            SIXTEENTHS[(step << (4 - shift)) as usize] << octave
        }
    };
    let weights: Vec<u64> = levels.iter().map(weight).collect();
    let total: u64 = weights.iter().sum();
    if total == 0 {
        return None;
    }
    let present = weights.iter().filter(|&&w| w > 0).count() as u64;
    let room = (1u64 << precision) - present;
    let share = |&w: &u64| if w == 0 { 0 } else { 1 + (w * room / total) as u32 };
    let mut values: Vec<u32> = weights.iter().map(share).collect();
    // What rounding down leaves goes to the largest, the first of them.
    let left = (1u32 << precision) - values.iter().sum::<u32>();
    let largest = values.iter().copied().max().unwrap_or_default();
    if let Some(value) = values.iter_mut().find(|v| **v == largest) {
        *value += left;
    }
    Some(values)
}

/// A table's bytes, with the Rice parameter and the range that take the fewest.
fn write_levels(levels: &[u32], precision: u32, shift: u32) -> Vec<u8> {
    let used = |(i, &level): (usize, &u32)| (level > 0).then_some(i);
    let first = levels.iter().enumerate().find_map(used).unwrap_or_default();
    let last = levels.iter().enumerate().rev().find_map(used).unwrap_or_default();
    let ranges = [(0, levels.len() - 1, 0), (first, last, RANGE_FLAG)];
    let candidates = ranges.into_iter().flat_map(|range| (0..8).map(move |rice| (range, rice)));
    let tables = candidates.map(|((first, last, flag), rice)| {
        let precision = if precision == PRECISIONS[0] { 0 } else { PRECISION_FLAG };
        let mut table = vec![shift as u8 | (rice as u8) << 3 | flag | precision];
        if flag != 0 {
            table.extend([first as u8, last as u8]);
        }
        let mut bits = BitWriter::default();
        let mut previous = 0i64;
        for &level in &levels[first..=last] {
            let step = i64::from(level) - previous;
            previous = level.into();
            write_rice(&mut bits, ((step << 1) ^ (step >> 63)) as u32, rice);
        }
        table.extend(bits.finish());
        table
    });
    tables.min_by_key(Vec::len).unwrap_or_default()
}

/// `value >> rice` ones, a zero, and the lowest `rice` bits.
fn write_rice(bits: &mut BitWriter, value: u32, rice: u32) {
    for _ in 0..value >> rice {
        bits.put(1, 1);
    }
    bits.put(0, 1);
    bits.put(value, rice);
}

fn read_rice(bits: &mut BitReader<'_>, rice: u32) -> Option<u32> {
    let mut ones = 0u32;
    while bits.get(1)? == 1 {
        ones += 1;
        if ones > LONGEST {
            return None;
        }
    }
    Some(ones << rice | bits.get(rice)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn logarithms_are_near() {
        for x in (1..2000).chain([1 << 31, 1 << 32, 123_456_789_012, u64::MAX]) {
            let expected = (x as f64).log2();
            let found = log2_fixed(x) as f64 / 65536.0;
            assert!(
                found <= expected + 1e-9 && found > expected - 1e-4,
                "log2({x}) is {expected}, not {found}"
            );
        }
    }

    #[test]
    fn a_single_symbol_takes_no_bits() {
        let (found, table) = Frequencies::fit(&[0, 0, 7, 0]);
        assert_eq!(found.values, [0, 0, 4096, 0]);
        assert_eq!(found.cost(&[0, 0, 7, 0]), Some(0));
        assert!(table.len() <= 4, "{table:?}");
    }

    #[test]
    fn bell_curves_cost_little_more_than_their_entropy() {
        for k in [4usize, 16, 64, 256] {
            let middle = (k - 1) as f64 / 2.0;
            let count = |i: usize| (1e6 * (-8.0 * ((i as f64 - middle) / k as f64).powi(2)).exp()) as u64;
            let counts: Vec<u64> = (0..k).map(count).collect();
            let (found, table) = Frequencies::fit(&counts);
            let total: u64 = counts.iter().sum();
            let entropy = slq_codebook::entropy_bits(&counts) * total as f64;
            let stored = found.cost(&counts).unwrap() as f64 + 8.0 * table.len() as f64;
            assert!(stored < 1.0005 * entropy, "K = {k}: {stored} bits, entropy {entropy}");
        }
    }

    #[test]
    fn impossible_tables_are_refused() {
        let cases: [(&[u8], &str); 6] = [
            (&[7], "has more than 16 steps an octave"),
            (&[RANGE_FLAG, 3, 2], "covers symbols outside the alphabet"),
            (&[RANGE_FLAG, 0, 4], "covers symbols outside the alphabet"),
            (&[0, 0], "has no symbol"),
            (&[0], "ends early"),
            (&[0, 0b1], "leaves its scale"), // a step of 1 is a level of -1
        ];
        for (bytes, reason) in cases {
            let error = Frequencies::read(&mut Input::new(bytes, "s"), 4).unwrap_err().to_string();
            assert!(error.ends_with(reason), "{bytes:?}: {error}");
        }
        let endless = [0xff; 200];
        assert!(Frequencies::read(&mut Input::new(&[&[0], &endless[..]].concat(), "s"), 4).is_err());
    }

    proptest! {
        #[test]
        fn tables_come_back(
            counts in proptest::collection::vec(prop_oneof![Just(0u64), 1..50u64, 1..u64::from(u32::MAX)], 1..=256),
            after in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            prop_assume!(counts.iter().any(|&c| c > 0));
            let (found, table) = Frequencies::fit(&counts);
            prop_assert_eq!(found.values.iter().sum::<u32>(), 1 << found.precision);
            prop_assert!(found.cost(&counts).is_some());
            let bytes = [&table[..], &after].concat();
            let mut input = Input::new(&bytes, "s");
            let back = Frequencies::read(&mut input, counts.len()).unwrap();
            prop_assert_eq!(back, found);
            prop_assert_eq!(input.left(), after.len());
        }
    }
}
