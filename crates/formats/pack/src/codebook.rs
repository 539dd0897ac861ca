//! Codebooks to bytes: as the gaps between sorted values, or as they are.
//!
//! The bits of a float, with negative ones turned around, are integers in the order of the floats. A sorted codebook
//! is its first integer and the gaps to the next; each gap is coded as the number of its bits with the second highest
//! bit, and the bits below as they are.

use half::f16;
use slq_codebook::is_half;

use crate::bytes::{BitReader, BitWriter, Input};
use crate::entropy::codes::Geometry;
use crate::entropy::draft::Draft;
use crate::entropy::stream::{Source, Stream};
use crate::error::{Fault, SlqError};

/// Forms: 32-bit floats as they are, and sorted; the same of 16-bit floats, which hold all centroids exactly.
const RAW: u8 = 0;
const SORTED: u8 = 1;
const RAW_HALF: u8 = 2;
const SORTED_HALF: u8 = 3;
/// Classes of gaps: 0, 1, and two for each length from 2 to 32 bits.
const CLASSES: usize = 64;

/// The place of a float among all floats; NaN and infinities included.
fn place(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn at_place(place: u32) -> f32 {
    f32::from_bits(if place >> 31 == 1 { place & !(1 << 31) } else { !place })
}

/// The place of a 16-bit float among all of these.
fn half_place(value: f32) -> u32 {
    let bits = f16::from_f32(value).to_bits();
    u32::from(if bits >> 15 == 1 { !bits } else { bits | 1 << 15 })
}

/// `None` for a place past the last 16-bit float.
fn at_half_place(place: u32) -> Option<f32> {
    let place = u16::try_from(place).ok()?;
    Some(f16::from_bits(if place >> 15 == 1 { place & !(1 << 15) } else { !place }).to_f32())
}

/// A gap's class, and how many bits follow.
fn class(gap: u32) -> (u8, u32) {
    match gap.checked_ilog2() {
        None => (0, 0),
        Some(0) => (1, 0),
        Some(top) => ((2 * top) as u8 + (gap >> (top - 1) & 1) as u8, top - 1),
    }
}

/// The least gap of a class, and how many bits follow.
fn least(class: u8) -> (u32, u32) {
    match class {
        0 | 1 => (class.into(), 0),
        _ => {
            let top = u32::from(class / 2);
            (1 << top | u32::from(class & 1) << (top - 1), top - 1)
        }
    }
}

/// The bytes of a section before its codes, in one or two forms.
pub(crate) enum BookDraft {
    /// All bytes.
    Raw(Vec<u8>),
    /// The leading byte, the classes of first values and of gaps, and the bits below.
    Sorted { form: u8, firsts: Draft, gaps: Draft, below: Vec<u8> },
}

/// Turns `codebook`, of `k` values in each of its groups, into bytes.
pub(crate) fn draft(codebook: &[f32], k: usize, limit: u64) -> BookDraft {
    let half = codebook.iter().all(is_half);
    let raw = || {
        let wide = || codebook.iter().flat_map(|v| v.to_le_bytes());
        let narrow = || codebook.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
        BookDraft::Raw(match half {
            true => std::iter::once(RAW_HALF).chain(narrow()).collect(),
            false => std::iter::once(RAW).chain(wide()).collect(),
        })
    };
    let place = if half { half_place } else { place };
    let places: Vec<u32> = codebook.iter().map(|&v| place(v)).collect();
    if places.chunks(k).any(|book| !book.is_sorted()) {
        return raw();
    }
    let mut bits = BitWriter::default();
    let mut push = |classes: &mut Vec<u8>, gap: u32| {
        let (class, below) = class(gap);
        classes.push(class);
        bits.put(gap, below);
    };
    let (mut firsts, mut gaps, mut before) = (Vec::new(), Vec::new(), 0u32);
    for book in places.chunks(k) {
        push(&mut firsts, zigzag(book[0].wrapping_sub(before)));
        before = book[0];
        book.windows(2).for_each(|pair| push(&mut gaps, pair[1] - pair[0]));
    }
    let below = bits.finish();
    let firsts = Draft::new(&firsts, CLASSES, source(1), limit);
    let gaps = Draft::new(&gaps, CLASSES, source(k - 1), limit);
    if firsts.plain.len() + gaps.plain.len() + below.len() >= if half { 2 } else { 4 } * codebook.len() {
        return raw();
    }
    BookDraft::Sorted { form: if half { SORTED_HALF } else { SORTED }, firsts, gaps, below }
}

/// Contexts of the classes: each gap's place in its codebook.
fn source(row: usize) -> Source<'static> {
    let geometry = Geometry { row: row.max(1), kernel: 1, kernel_width: 1 };
    Source::Codes { geometry, zeros: &[], run: usize::MAX }
}

/// A difference that may be negative as a small number.
fn zigzag(difference: u32) -> u32 {
    difference << 1 ^ ((difference as i32) >> 31) as u32
}

fn unzigzag(value: u32) -> u32 {
    value >> 1 ^ 0u32.wrapping_sub(value & 1)
}

/// Reads `groups` codebooks of `k` values.
pub(crate) fn read(input: &mut Input<'_>, groups: usize, k: usize) -> Result<Vec<f32>, SlqError> {
    let at = input.position();
    let count = groups.saturating_mul(k);
    match input.byte()? {
        RAW => {
            let bytes = input.take(count.saturating_mul(4))?;
            let word = |b: &[u8]| b.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
            Ok(bytes.chunks_exact(4).map(|b| f32::from_bits(word(b))).collect())
        }
        RAW_HALF => {
            let bytes = input.take(count.saturating_mul(2))?;
            let word = |b: &[u8]| b.iter().rev().fold(0, |word, &byte| word << 8 | u16::from(byte));
            Ok(bytes.chunks_exact(2).map(|b| f16::from_bits(word(b)).to_f32()).collect())
        }
        SORTED => read_sorted(input, groups, k, |place| Some(at_place(place))),
        SORTED_HALF => read_sorted(input, groups, k, at_half_place),
        tag => Err(input.fail_at(at, Fault::Tag { what: "form of codebook", value: tag.into() })),
    }
}

fn read_sorted(
    input: &mut Input<'_>,
    groups: usize,
    k: usize,
    at_place: impl Fn(u32) -> Option<f32>,
) -> Result<Vec<f32>, SlqError> {
    let firsts = Stream::read(input, groups, CLASSES)?.decode_all(input.whole(), source(1))?;
    let gaps = Stream::read(input, groups.saturating_mul(k - 1), CLASSES)?
        .decode_all(input.whole(), source(k - 1))?;
    let mut rest = input.clone();
    let mut bits = BitReader::new(rest.take(rest.left())?);
    let short = || input.fail(Fault::Ends { needed: 1, left: 0 });
    let mut take = |class: u8| -> Result<u32, SlqError> {
        let (least, below) = least(class);
        Ok(least | bits.get(below).ok_or_else(short)?)
    };
    let value = |place: u32| at_place(place).ok_or_else(|| input.fail(Fault::Number));
    let mut values = Vec::with_capacity(groups.saturating_mul(k));
    let mut before = 0u32;
    for (group, &first) in firsts.iter().enumerate() {
        let mut at = before.wrapping_add(unzigzag(take(first)?));
        before = at;
        values.push(value(at)?);
        for &gap in &gaps[group * (k - 1)..(group + 1) * (k - 1)] {
            let next = at.checked_add(take(gap)?);
            at = next.ok_or_else(|| input.fail(Fault::Number))?;
            values.push(value(at)?);
        }
    }
    let used = bits.end().ok_or_else(|| input.fail(Fault::StreamEnd))?;
    input.take(used)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(codebook: &[f32], k: usize) -> Vec<u8> {
        match draft(codebook, k, 0) {
            BookDraft::Raw(bytes) => bytes,
            BookDraft::Sorted { form, firsts, gaps, below } => {
                [&[form][..], &firsts.plain, &gaps.plain, &below].concat()
            }
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn places_are_in_the_order_of_the_floats() {
        let sorted = [f32::MIN, -1.0, -1e-40, -0.0, 0.0, 1e-40, 1.0, f32::MAX];
        assert!(sorted.map(place).is_sorted_by(|a, b| a < b));
        assert_eq!(bits(&sorted.map(|v| at_place(place(v)))), bits(&sorted));
    }

    #[test]
    fn sorted_codebooks_take_less() {
        let books: Vec<f32> = (0..100)
            .flat_map(|g| (0..16).map(move |i| (i as f32 - 7.3) * (0.01 + g as f32 * 1e-4)))
            .collect();
        let stored = bytes(&books, 16);
        assert_eq!(stored[0], SORTED);
        assert!(stored.len() * 10 < books.len() * 4 * 8, "{} of {} bytes", stored.len(), books.len() * 4);
        let back = read(&mut Input::new(&stored, "s"), 100, 16).unwrap();
        assert_eq!(bits(&back), bits(&books));
    }

    #[test]
    fn a_gap_beyond_the_last_float_is_refused() {
        // The first value, NaN at the end of the order, and a gap of 1 behind it.
        let first = Draft::new(&[class(zigzag(u32::MAX)).0], CLASSES, source(1), 0).plain;
        let gap = Draft::new(&[1], CLASSES, source(1), 0).plain;
        let stored = [&[SORTED][..], &first, &gap].concat();
        assert!(
            read(&mut Input::new(&stored, "s"), 1, 2).unwrap_err().to_string().ends_with("exceeds its field")
        );
    }

    #[test]
    fn codebooks_of_16_bit_floats_take_half_the_bytes() {
        let books: Vec<f32> = (0..100)
            .flat_map(|g| (0..16).map(move |i| (i as f32 - 7.3) * (0.01 + g as f32 * 1e-4)))
            .collect();
        let half: Vec<f32> = books.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
        let mut mixed = half.clone();
        mixed.swap(0, 15);
        for (books, form) in [(&half, SORTED_HALF), (&mixed, RAW_HALF)] {
            let stored = bytes(books, 16);
            assert_eq!(stored[0], form);
            assert!(stored.len() <= 1 + 2 * books.len());
            assert_eq!(bits(&read(&mut Input::new(&stored, "s"), 100, 16).unwrap()), bits(books));
        }
        assert!(bytes(&half, 16).len() * 10 < bytes(&books, 16).len() * 7);
        // A place past the last 16-bit float.
        let first = class(zigzag(1 << 16));
        let mut low = BitWriter::default();
        low.put(zigzag(1 << 16), first.1);
        let firsts = Draft::new(&[first.0], CLASSES, source(1), 0).plain;
        let gaps = Draft::new(&[], CLASSES, source(1), 0).plain;
        let stored = [&[SORTED_HALF][..], &firsts, &gaps, &low.finish()].concat();
        let error = read(&mut Input::new(&stored, "s"), 1, 1).unwrap_err().to_string();
        assert!(error.ends_with("exceeds its field"), "{error}");
    }

    proptest! {
        #[test]
        fn codebooks_come_back(
            words in proptest::collection::vec(any::<u32>(), 1..200),
            k in 1usize..=20,
            sort in any::<bool>(),
            half in any::<bool>(),
            after in proptest::collection::vec(any::<u8>(), 0..3),
        ) {
            let value = |&w: &u32| if half { f16::from_bits(w as u16).to_f32() } else { f32::from_bits(w) };
            let mut codebook: Vec<f32> = words.iter().map(value).collect();
            codebook.truncate(codebook.len().max(k) / k * k);
            codebook.resize(codebook.len().div_ceil(k) * k, 0.0);
            if sort {
                codebook.chunks_mut(k).for_each(|book| book.sort_by(f32::total_cmp));
            }
            let groups = codebook.len() / k;
            let stored = [&bytes(&codebook, k)[..], &after].concat();
            let mut input = Input::new(&stored, "s");
            let back = read(&mut input, groups, k).unwrap();
            prop_assert_eq!(bits(&back), bits(&codebook));
            prop_assert_eq!(input.left(), after.len());
        }
    }
}
