//! A weight's palette: the codebook, the code of every weight, and which weights are fixed to it.

use crate::error::GraphError;

/// Codebook and codes of one weight tensor.
///
/// A tensor has one codebook for all its weights (`groups == 1`) or one for each of `groups` equal, contiguous
/// runs of weights (row-major; an output channel of a convolution is such a run). A weight is *fixed* when it
/// has taken its centroid's value for good; the codes of weights that are still free are their current
/// assignment only. A fully fixed palette reproduces the tensor exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    codebook: Vec<f32>,
    groups: usize,
    codes: Vec<u8>,
    fixed: Vec<bool>,
}

impl Palette {
    /// A palette over `codes.len()` weights.
    ///
    /// `codebook` holds `groups` codebooks of `codebook.len() / groups` centroids, one after the other;
    /// `fixed[i]` says whether weight `i` is fixed to its centroid.
    ///
    /// # Errors
    /// [`GraphError::Palette`] where lengths disagree, a code points past the codebook, a codebook is empty,
    /// larger than 256 or not finite.
    pub fn new(
        codebook: Vec<f32>,
        groups: usize,
        codes: Vec<u8>,
        fixed: Vec<bool>,
    ) -> Result<Self, GraphError> {
        let bad = |reason: String| Err(GraphError::Palette { reason });
        if groups == 0 || codebook.is_empty() || !codebook.len().is_multiple_of(groups) {
            return bad(format!("{} centroids cannot form {groups} codebooks", codebook.len()));
        }
        let size = codebook.len() / groups;
        if size > 256 {
            return bad(format!("a codebook of {size} values exceeds the 256 that 8-bit codes reach"));
        }
        if !codes.len().is_multiple_of(groups) || codes.len() != fixed.len() {
            return bad(format!(
                "{} codes, {} flags and {groups} groups do not fit",
                codes.len(),
                fixed.len()
            ));
        }
        if let Some(c) = codes.iter().find(|&&c| usize::from(c) >= size) {
            return bad(format!("code {c} is past the last of {size} centroids"));
        }
        if let Some(v) = codebook.iter().find(|v| !v.is_finite()) {
            return bad(format!("centroid {v} is not finite"));
        }
        Ok(Self { codebook, groups, codes, fixed })
    }

    /// A palette whose weights are all fixed.
    ///
    /// # Errors
    /// As [`Palette::new`].
    pub fn fully_fixed(codebook: Vec<f32>, groups: usize, codes: Vec<u8>) -> Result<Self, GraphError> {
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

    /// Bits of one stored code: the smallest b with 2^b >= K, at least 1.
    pub fn bits(&self) -> u8 {
        bits_for(self.codebook_size())
    }

    /// The code of every weight, row-major.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Which weights are fixed.
    pub fn fixed(&self) -> &[bool] {
        &self.fixed
    }

    /// Whether every weight is fixed, so that codes and codebook alone give the tensor.
    pub fn is_fully_fixed(&self) -> bool {
        self.fixed.iter().all(|&f| f)
    }

    /// Number of fixed weights.
    pub fn fixed_count(&self) -> usize {
        self.fixed.iter().filter(|&&f| f).count()
    }

    /// The tensor's values: each weight's centroid.
    pub fn decode(&self) -> Vec<f32> {
        let (k, run) = (self.codebook_size(), (self.codes.len() / self.groups).max(1));
        let books = self.codebook.chunks_exact(k);
        let runs = self.codes.chunks_exact(run);
        books.zip(runs).flat_map(|(book, codes)| codes.iter().map(|&c| book[usize::from(c)])).collect()
    }

    /// Bytes of the packed codes: `ceil(count * bits / 8)`.
    pub fn packed_bytes(&self) -> usize {
        (self.codes.len() * usize::from(self.bits())).div_ceil(8)
    }

    /// Bytes of the codebooks as 32-bit floats.
    pub fn codebook_bytes(&self) -> usize {
        4 * self.codebook.len()
    }
}

/// Bits of a code that reaches `size` centroids: the smallest b >= 1 with 2^b >= size.
pub fn bits_for(size: usize) -> u8 {
    let bits = usize::BITS - size.saturating_sub(1).leading_zeros();
    u8::try_from(bits.max(1)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((p.bits(), p.packed_bytes(), p.codebook_bytes()), (1, 1, 16));
    }

    #[test]
    fn invalid_palettes_are_refused() {
        assert!(Palette::fully_fixed(vec![0.0, 1.0], 1, vec![2]).is_err(), "code past the codebook");
        assert!(Palette::fully_fixed(vec![], 1, vec![]).is_err(), "empty codebook");
        assert!(Palette::fully_fixed(vec![0.0; 3], 2, vec![0, 0]).is_err(), "uneven codebooks");
        assert!(Palette::fully_fixed(vec![0.0; 257], 1, vec![0]).is_err(), "too many centroids");
        assert!(Palette::fully_fixed(vec![f32::NAN], 1, vec![0]).is_err(), "NaN centroid");
        assert!(Palette::new(vec![0.0], 1, vec![0, 0], vec![true]).is_err(), "flags missing");
    }
}
