//! The palette of a tensor: its codebooks, the code of every value, and which values are fixed.

use half::f16;

use crate::PaletteError;
use crate::assign::decode_into;
use crate::entropy::{coded_bits, histogram};

/// Most centroids of one codebook: codes are stored as bytes.
const LARGEST_CODEBOOK: usize = 256;
/// Bytes of a centroid as a 32-bit float.
pub const SINGLE: usize = 4;
/// Bytes of a centroid as a 16-bit float.
pub const HALF: usize = 2;

/// Codebooks and codes of one tensor.
///
/// A tensor has one codebook for all its values (`groups == 1`) or one for each of `groups` equal, contiguous runs
/// of values (row-major; an output channel of a convolution is such a run). A value is *fixed* once it has been
/// replaced by its centroid for good; the code of a free value is only its current assignment. A palette whose
/// values are all fixed reproduces the tensor exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    codebook: Vec<f32>,
    groups: usize,
    codes: Vec<u8>,
    fixed: Vec<bool>,
}

impl Palette {
    /// A palette over `codes.len()` values.
    ///
    /// `codebook` holds `groups` codebooks of `codebook.len() / groups` centroids, one after the other;
    /// `fixed[i]` says whether value `i` is fixed to its centroid.
    ///
    /// # Errors
    /// One variant of [`PaletteError`] each: lengths that disagree, a code past the codebook, a codebook that is
    /// empty, larger than 256 or not finite.
    pub fn new(
        codebook: Vec<f32>,
        groups: usize,
        codes: Vec<u8>,
        fixed: Vec<bool>,
    ) -> Result<Self, PaletteError> {
        if groups == 0 || codebook.is_empty() || !codebook.len().is_multiple_of(groups) {
            return Err(PaletteError::Codebooks { centroids: codebook.len(), groups });
        }
        let size = codebook.len() / groups;
        if size > LARGEST_CODEBOOK {
            return Err(PaletteError::TooLarge { size, limit: LARGEST_CODEBOOK });
        }
        if !codes.len().is_multiple_of(groups) || codes.len() != fixed.len() {
            return Err(PaletteError::Lengths { codes: codes.len(), flags: fixed.len(), groups });
        }
        if let Some(index) = codes.iter().position(|&c| usize::from(c) >= size) {
            return Err(PaletteError::CodeRange { index, code: codes[index], size });
        }
        if let Some(index) = codebook.iter().position(|v| !v.is_finite()) {
            return Err(PaletteError::NotFinite { index, value: codebook[index] });
        }
        Ok(Self { codebook, groups, codes, fixed })
    }

    /// A palette whose values are all fixed.
    ///
    /// # Errors
    /// As [`Palette::new`].
    pub fn fully_fixed(codebook: Vec<f32>, groups: usize, codes: Vec<u8>) -> Result<Self, PaletteError> {
        let fixed = vec![true; codes.len()];
        Self::new(codebook, groups, codes, fixed)
    }

    /// All codebooks, group after group.
    pub fn codebook(&self) -> &[f32] {
        &self.codebook
    }

    /// Number of codebooks.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Centroids of one codebook (K).
    pub fn codebook_size(&self) -> usize {
        self.codebook.len() / self.groups
    }

    /// Bits of one stored code, see [`bits_for`].
    pub fn bits(&self) -> u8 {
        bits_for(self.codebook_size())
    }

    /// The code of every value, row-major.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Which values are fixed.
    pub fn fixed(&self) -> &[bool] {
        &self.fixed
    }

    /// Whether every value is fixed, so that codes and codebook alone give the tensor.
    pub fn is_fully_fixed(&self) -> bool {
        self.fixed.iter().all(|&f| f)
    }

    /// Number of fixed values.
    pub fn fixed_count(&self) -> usize {
        self.fixed.iter().filter(|&&f| f).count()
    }

    /// The centroid of every value.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.codes.len()];
        // Codes are checked when the palette is made, so that this succeeds whenever there is one codebook.
        if self.groups == 1 && decode_into(&self.codes, &self.codebook, &mut values).is_ok() {
            return values;
        }
        let runs = self.codes.chunks_exact(self.run()).zip(values.chunks_exact_mut(self.run()));
        for (book, (codes, values)) in self.codebook.chunks_exact(self.codebook_size()).zip(runs) {
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = book[usize::from(code)];
            }
        }
        values
    }

    /// Values that share a codebook; 1 for a palette over no values.
    fn run(&self) -> usize {
        (self.codes.len() / self.groups).max(1)
    }

    /// Position of the first fixed value of `values` that is not its centroid, bit for bit; `None` where all are.
    /// `values` must have as many elements as there are codes: what is missing is not compared.
    pub fn first_off_centroid(&self, values: &[f32]) -> Option<usize> {
        let centroids = self.decode();
        let mut pairs = self.fixed.iter().zip(centroids.iter().zip(values));
        pairs.position(|(&fixed, (centroid, value))| fixed && centroid.to_bits() != value.to_bits())
    }

    /// Whether `other` has the same codes, flags and codebooks, these bit for bit (0 is not -0).
    pub fn is_identical(&self, other: &Palette) -> bool {
        let bits = |p: &Palette| p.codebook.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        self.groups == other.groups
            && self.codes == other.codes
            && self.fixed == other.fixed
            && bits(self) == bits(other)
    }

    /// Bytes of the packed codes, see [`code_bytes`].
    pub fn packed_bytes(&self) -> usize {
        code_bytes(self.codes.len(), self.codebook_size())
    }

    /// Whether there are several codebooks whose centroids are 16-bit floats, all of them: files keep them as such.
    pub fn has_half_codebooks(&self) -> bool {
        self.groups > 1 && self.codebook.iter().all(is_half)
    }

    /// The palette with the centroids of several codebooks rounded to 16-bit floats, see [`halve`]; unchanged where that would
    /// lose more than their rounding.
    #[must_use]
    pub fn with_half_codebooks(mut self) -> Self {
        if self.groups > 1 {
            let size = self.codebook_size();
            halve(&mut self.codebook, size);
        }
        self
    }

    /// Bytes of the codebooks as 32-bit floats, or as 16-bit ones where [`Palette::has_half_codebooks`].
    pub fn codebook_bytes(&self) -> usize {
        self.codebook.len() * if self.has_half_codebooks() { HALF } else { SINGLE }
    }

    /// Bytes of packed codes and codebooks together, see [`stored_bytes`].
    pub fn stored_bytes(&self) -> usize {
        self.packed_bytes() + self.codebook_bytes()
    }

    /// Bytes of the codebooks and of the codes at their Shannon entropy, each group of codes by itself: what an ideal
    /// entropy coder would store.
    pub fn entropy_bytes(&self) -> f64 {
        let bits = |codes: &[u8]| coded_bits(&histogram(codes, LARGEST_CODEBOOK));
        let codes: f64 = self.codes.chunks(self.run()).map(bits).sum();
        codes / 8.0 + self.codebook_bytes() as f64
    }
}

/// Bits of a code that reaches `size` centroids: the smallest b >= 1 with 2^b >= size.
pub fn bits_for(size: usize) -> u8 {
    let bits = usize::BITS - size.saturating_sub(1).leading_zeros();
    u8::try_from(bits.max(1)).unwrap_or(u8::MAX)
}

/// Bytes of `count` packed codes of a codebook of `size` centroids: `ceil(count * bits / 8)`.
pub fn code_bytes(count: usize, size: usize) -> usize {
    let bits = usize::from(bits_for(size));
    // Eight codes take `bits` bytes; this way round nothing overflows for codes of a byte or less.
    (count / 8).saturating_mul(bits).saturating_add((count % 8 * bits).div_ceil(8))
}

/// Bytes of `count` packed codes and their `groups` codebooks of `size` centroids of `centroid` bytes ([`SINGLE`], [`HALF`]) each.
pub fn stored_bytes(count: usize, groups: usize, size: usize, centroid: usize) -> usize {
    code_bytes(count, size).saturating_add(groups.saturating_mul(size).saturating_mul(centroid))
}

/// Whether a 16-bit float holds the value, bit for bit.
pub fn is_half(value: &f32) -> bool {
    f16::from_f32(*value).to_f32().to_bits() == value.to_bits()
}

/// Rounds codebooks of `size` centroids to 16-bit floats, to nearest; whether it did. Nothing is rounded where a centroid would
/// move by more than 2^-10 of the largest of its codebook: 16-bit floats are too coarse below 2^-14 and end at 65504.
pub fn halve(codebook: &mut [f32], size: usize) -> bool {
    let near = |book: &[f32]| {
        let most = book.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        book.iter().all(|&v| (f16::from_f32(v).to_f32() - v).abs() <= most / 1024.0)
    };
    let fits = codebook.chunks(size.max(1)).all(near);
    if fits {
        codebook.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
    }
    fits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pack;

    #[test]
    fn bits_of_the_published_codebooks() {
        let table = [(1, 1), (2, 1), (3, 2), (5, 3), (9, 4), (17, 5), (32, 5), (33, 6), (256, 8)];
        for (size, bits) in table {
            assert_eq!(bits_for(size), bits, "K = {size}");
        }
    }

    #[test]
    fn decode_uses_each_groups_own_codebook() {
        let p = Palette::fully_fixed(vec![0.0, 1.0, 10.0, 20.0], 2, vec![0, 1, 1, 0]).unwrap();
        assert_eq!(p.decode(), [0.0, 1.0, 20.0, 10.0]);
        assert_eq!((p.bits(), p.packed_bytes(), p.codebook_bytes(), p.stored_bytes()), (1, 1, 8, 9));
    }

    #[test]
    fn several_codebooks_are_rounded_to_16_bits_where_they_bear_it() {
        let palette =
            |book: [f32; 4], groups| Palette::fully_fixed(book.to_vec(), groups, vec![0, 1, 1, 0]).unwrap();
        let third = palette([0.0, 1.0 / 3.0, -0.7, 20.1], 2);
        assert!(!third.has_half_codebooks() && third.codebook_bytes() == 16);
        let half = third.clone().with_half_codebooks();
        assert!(half.has_half_codebooks() && half.codebook_bytes() == 8);
        assert!(half.codebook().iter().zip(third.codebook()).all(|(h, v)| (h - v).abs() <= v.abs() / 2048.0));
        assert_eq!(half.codes(), third.codes());
        let one = palette([0.0, 1.0 / 3.0, -0.7, 20.1], 1);
        assert_eq!(one.clone().with_half_codebooks(), one, "one codebook is small as it is");
        for off in [1e-9, 1e5, 3e-6] {
            let odd = palette([off / 3.0, off, 1.0, 2.0], 2);
            assert_eq!(odd.clone().with_half_codebooks(), odd, "{off} is out of range");
        }
        // Beside large values small ones may be coarse; a codebook of zeros is one.
        assert!(palette([1e-9, 1.0, 0.0, 0.0], 2).with_half_codebooks().has_half_codebooks());
    }

    #[test]
    fn invalid_palettes_are_refused() {
        let full = |book: &[f32], groups, codes: &[u8]| {
            Palette::fully_fixed(book.to_vec(), groups, codes.to_vec()).unwrap_err()
        };
        assert_eq!(full(&[0.0, 1.0], 1, &[0, 2]), PaletteError::CodeRange { index: 1, code: 2, size: 2 });
        assert_eq!(full(&[], 1, &[]), PaletteError::Codebooks { centroids: 0, groups: 1 });
        assert_eq!(full(&[0.0; 3], 2, &[0, 0]), PaletteError::Codebooks { centroids: 3, groups: 2 });
        assert_eq!(full(&[0.0; 4], 0, &[0]), PaletteError::Codebooks { centroids: 4, groups: 0 });
        assert_eq!(full(&[0.0; 257], 1, &[0]), PaletteError::TooLarge { size: 257, limit: 256 });
        assert_eq!(full(&[0.0; 2], 2, &[0; 3]), PaletteError::Lengths { codes: 3, flags: 3, groups: 2 });
        assert!(matches!(full(&[f32::NAN], 1, &[0]), PaletteError::NotFinite { index: 0, .. }));
        let short = Palette::new(vec![0.0], 1, vec![0, 0], vec![true]).unwrap_err();
        assert_eq!(short, PaletteError::Lengths { codes: 2, flags: 1, groups: 1 });
    }

    #[test]
    fn entropy_counts_each_group_by_itself() {
        // 3 of 4 codes are 0: 2 bits of information for the rare one, log2(4/3) for the others.
        let p = Palette::fully_fixed(vec![0.0, 1.5, -1.5], 1, vec![0, 0, 0, 1]).unwrap();
        let expected = (2.0 + 3.0 * (4.0f64 / 3.0).log2()) / 8.0 + 12.0;
        assert!((p.entropy_bytes() - expected).abs() < 1e-12);
        // Two groups that are constant in themselves carry no information beside their codebooks.
        let p = Palette::fully_fixed(vec![0.0, 1.0, 0.0, 1.0], 2, vec![0, 0, 1, 1]).unwrap();
        assert_eq!(p.entropy_bytes(), 8.0);
    }

    #[test]
    fn identity_is_by_bits() {
        let palette = |zero: f32| Palette::fully_fixed(vec![zero, 1.0], 1, vec![0, 1]).unwrap();
        assert!(palette(0.0).is_identical(&palette(0.0)));
        assert!(!palette(0.0).is_identical(&palette(-0.0)));
        assert_eq!(palette(-0.0).first_off_centroid(&[0.0, 1.0]), Some(0));
        assert_eq!(palette(0.0).first_off_centroid(&[0.0, 1.0]), None);
        let free = Palette::new(vec![0.0, 1.0], 1, vec![0, 1], vec![false, true]).unwrap();
        assert_eq!(free.first_off_centroid(&[7.0, 1.0]), None);
        assert_eq!(free.first_off_centroid(&[7.0, 2.0]), Some(1));
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_what_is_stored(
            count in 0usize..300, size in 1usize..=256, groups in 1usize..5,
        ) {
            let codes: Vec<u8> = (0..count).map(|i| (i % size) as u8).collect();
            let packed = pack(&codes, bits_for(size).into()).unwrap();
            prop_assert_eq!(code_bytes(count, size), packed.len());
            prop_assert_eq!(stored_bytes(count, groups, size, SINGLE), packed.len() + 4 * groups * size);
            prop_assert_eq!(stored_bytes(count, groups, size, HALF), packed.len() + 2 * groups * size);
        }

        #[test]
        fn every_value_is_its_groups_centroid(
            groups in 1usize..4, run in 0usize..70, size in 1usize..20, seed in any::<u8>(),
        ) {
            let book: Vec<f32> = (0..groups * size).map(|i| i as f32 - 7.5).collect();
            let codes: Vec<u8> =
                (0..groups * run).map(|i| ((i * 31 + usize::from(seed)) % size) as u8).collect();
            let palette = Palette::fully_fixed(book.clone(), groups, codes.clone()).unwrap();
            let expected: Vec<f32> = codes
                .iter()
                .enumerate()
                .map(|(i, &c)| book[i / run.max(1) * size + usize::from(c)])
                .collect();
            prop_assert_eq!(palette.decode(), expected);
        }
    }
}
