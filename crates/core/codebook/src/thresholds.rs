//! Decision thresholds between neighbouring centroids, exact to the last bit.

use crate::ClusterError;

/// A codebook turned into ascending cuts: value `x` belongs to `codes[number of cuts <= x]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Thresholds {
    pub cuts: Vec<f32>,
    /// Codebook entry of every interval, one more than there are cuts.
    pub codes: Vec<u16>,
}

impl Thresholds {
    /// Cuts that send every finite value to its nearest centroid, to the lowest index on a tie.
    /// The codebook may be in any order and hold equal entries; it must not have more than 65 536.
    pub fn nearest(codebook: &[f32]) -> Result<Self, ClusterError> {
        Self::with_ties(codebook, |left, right| right.0 < left.0)
    }

    /// As [`Thresholds::nearest`], but `tie_right` decides between two neighbours (index and value, ascending)
    /// at equal distance.
    pub fn with_ties(
        codebook: &[f32],
        tie_right: impl Fn((u16, f32), (u16, f32)) -> bool,
    ) -> Result<Self, ClusterError> {
        check_codebook(codebook)?;
        let mut order: Vec<u16> = (0..codebook.len()).map(|i| i as u16).collect();
        let value = |i: u16| codebook[usize::from(i)] + 0.0;
        order.sort_unstable_by(|&a, &b| value(a).total_cmp(&value(b)).then(a.cmp(&b)));
        order.dedup_by(|b, a| value(*a) == value(*b));
        let pair = |i: u16| (i, value(i));
        let cuts = order.windows(2);
        let cuts = cuts.map(|p| cut(value(p[0]), value(p[1]), tie_right(pair(p[0]), pair(p[1])))).collect();
        Ok(Self { cuts, codes: order })
    }

    /// Position of the interval of `x`.
    #[cfg(test)]
    pub fn position(&self, x: f32) -> usize {
        self.cuts.partition_point(|&cut| cut <= x)
    }
}

/// Refuses codebooks that are empty, too long or not finite.
pub(crate) fn check_codebook(codebook: &[f32]) -> Result<(), ClusterError> {
    if codebook.is_empty() {
        return Err(ClusterError::EmptyCodebook);
    }
    if codebook.len() > 1 << 16 {
        return Err(ClusterError::CodeTooNarrow { k: codebook.len(), limit: 1 << 16 });
    }
    if let Some((index, &value)) = codebook.iter().enumerate().find(|(_, c)| !c.is_finite()) {
        return Err(ClusterError::CentroidNotFinite { index, value });
    }
    Ok(())
}

/// Smallest float that belongs to `right` rather than `left`, where `left < right`; at equal distance it
/// belongs to `right` if `tie_right`.
pub(crate) fn cut(left: f32, right: f32, tie_right: bool) -> f32 {
    let (a, b) = (f64::from(left), f64::from(right));
    // left + right as an exact sum of two doubles (Knuth's two-sum).
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let goes_right = |x: f32| {
        let double = 2.0 * f64::from(x);
        double > sum || (double == sum && (error < 0.0 || (error == 0.0 && tie_right)))
    };
    let mut x = (0.5 * sum) as f32;
    if goes_right(x) {
        while goes_right(x.next_down()) {
            x = x.next_down();
        }
    } else {
        while !goes_right(x) {
            x = x.next_up();
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ties_go_to_the_lowest_index() {
        let t = Thresholds::nearest(&[2.0, 0.0, 1.0, 1.0]).unwrap();
        assert_eq!(t.codes, [1, 2, 0]);
        assert_eq!(t.cuts, [0.5f32.next_up(), 1.5]);
        let zeros = Thresholds::nearest(&[0.0, -0.0]).unwrap();
        assert_eq!(zeros.codes, [0]);
    }

    #[test]
    fn cuts_survive_extreme_gaps() {
        for (a, b) in
            [(f32::MIN, f32::MAX), (1e-45, 1e30), (-1e30, 1e-45), (1.0, 1.0f32.next_up()), (0.0, 1e-45)]
        {
            for tie in [false, true] {
                let c = cut(a, b, tie);
                assert!(c > a && c <= b, "{a} {b}: {c}");
            }
        }
        assert_eq!(cut(f32::MIN, f32::MAX, true), 0.0);
    }

    #[test]
    fn bad_codebooks_are_named() {
        assert_eq!(Thresholds::nearest(&[]).unwrap_err(), ClusterError::EmptyCodebook);
        assert!(matches!(
            Thresholds::nearest(&[0.0, f32::NAN]).unwrap_err(),
            ClusterError::CentroidNotFinite { index: 1, .. }
        ));
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_over_all_entries(
            codebook in proptest::collection::vec(-8i32..8, 1..12),
            xs in proptest::collection::vec(-40i32..40, 1..40),
        ) {
            // Quarters make ties common and every distance exact.
            let codebook: Vec<f32> = codebook.iter().map(|&c| c as f32 * 0.5).collect();
            let t = Thresholds::nearest(&codebook).unwrap();
            for x in xs.iter().map(|&x| x as f32 * 0.25) {
                let best = codebook.iter().map(|c| (x - c).abs()).fold(f32::INFINITY, f32::min);
                let first = codebook.iter().position(|c| (x - c).abs() == best).unwrap();
                prop_assert_eq!(usize::from(t.codes[t.position(x)]), first);
            }
        }
    }
}
