//! Rules for the number of singular values to keep.

use serde::{Deserialize, Serialize};

use crate::error::LowRankError;

/// A rule that gives a rank from singular values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankRule {
    /// The least rank that keeps this share of the energy, the sum of squared singular values.
    Energy(f64),
    /// Keeps the singular values of at least this size.
    Threshold(f64),
    /// This rank.
    Rank(usize),
    /// This share of the full rank, rounded up.
    Rate(f64),
}

impl RankRule {
    /// Checks the rule's number.
    ///
    /// # Errors
    /// [`LowRankError::Rule`] for a share outside (0, 1], a threshold below zero or not finite, a rank of zero.
    pub fn check(&self) -> Result<(), LowRankError> {
        let share = |v: f64| v > 0.0 && v <= 1.0;
        let (rule, value, fine, expected) = match *self {
            Self::Energy(v) => ("energy", v, share(v), "it is a share above 0, at most 1"),
            Self::Rate(v) => ("rate", v, share(v), "it is a share above 0, at most 1"),
            Self::Threshold(v) => {
                ("threshold", v, v >= 0.0 && v.is_finite(), "it is finite and not negative")
            }
            Self::Rank(n) => ("rank", n as f64, n > 0, "it is at least 1"),
        };
        if fine { Ok(()) } else { Err(LowRankError::Rule { rule, value, expected }) }
    }

    /// The rank for a matrix of rank at most `full` with these singular values, largest first: from 1 to `full`.
    ///
    /// Energy and threshold never keep what 32-bit rounding alone can make: singular values below the largest
    /// one times `full` times 2^-23.
    pub fn rank(&self, singular: &[f64], full: usize) -> usize {
        let floor = singular.first().copied().unwrap_or(0.0) * full as f64 * f64::from(f32::EPSILON);
        let above = |least: f64| singular.iter().take_while(|&&s| s >= least && s > floor).count();
        let rank = match *self {
            Self::Rank(n) => n,
            Self::Rate(share) => (share * full as f64).ceil() as usize,
            Self::Threshold(least) => above(least),
            Self::Energy(share) => {
                let total: f64 = singular.iter().map(|s| s * s).sum();
                let (mut rank, mut dropped) = (above(0.0), 0.0);
                // From the small end, where sums of squares lose nothing to rounding.
                while rank > 1 {
                    dropped += singular[rank - 1] * singular[rank - 1];
                    if dropped > (1.0 - share) * total {
                        break;
                    }
                    rank -= 1;
                }
                rank
            }
        };
        rank.clamp(1, full.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_rule_on_a_known_spectrum() {
        // Energies 16, 4, 1, 0.25: shares 0.753, 0.188, 0.047, 0.012.
        let s = [4.0, 2.0, 1.0, 0.5];
        let table = [
            (RankRule::Energy(0.7), 1),
            (RankRule::Energy(0.76), 2),
            (RankRule::Energy(0.95), 3),
            (RankRule::Energy(1.0), 4),
            (RankRule::Threshold(0.0), 4),
            (RankRule::Threshold(1.0), 3),
            (RankRule::Threshold(9.0), 1),
            (RankRule::Rank(3), 3),
            (RankRule::Rank(9), 4),
            (RankRule::Rate(0.5), 2),
            (RankRule::Rate(0.51), 3),
            (RankRule::Rate(0.01), 1),
        ];
        for (rule, want) in table {
            assert_eq!(rule.rank(&s, 4), want, "{rule:?}");
        }
    }

    #[test]
    fn rounding_counts_as_nothing() {
        let s = [1.0, 0.5, 1e-8, 1e-9];
        assert_eq!(RankRule::Energy(1.0).rank(&s, 4), 2);
        assert_eq!(RankRule::Threshold(0.0).rank(&s, 4), 2);
        assert_eq!(RankRule::Energy(1.0).rank(&[0.0; 3], 3), 1, "a zero matrix still needs a factor");
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let bad = [
            RankRule::Energy(0.0),
            RankRule::Energy(1.01),
            RankRule::Energy(f64::NAN),
            RankRule::Threshold(-0.1),
            RankRule::Threshold(f64::INFINITY),
            RankRule::Rank(0),
            RankRule::Rate(-1.0),
        ];
        for rule in bad {
            assert!(matches!(rule.check(), Err(LowRankError::Rule { .. })), "{rule:?}");
        }
        assert_eq!(RankRule::Energy(1.0).check(), Ok(()));
        assert_eq!(RankRule::Rank(1).check(), Ok(()));
    }

    proptest! {
        #[test]
        fn energy_keeps_its_share_and_no_more_than_needed(
            mut s in prop::collection::vec(0.001f64..10.0, 1..20), share in 0.01f64..1.0,
        ) {
            s.sort_by(|a, b| b.total_cmp(a));
            let rank = RankRule::Energy(share).rank(&s, s.len());
            let energy = |n: usize| s[..n].iter().map(|v| v * v).sum::<f64>();
            let total = energy(s.len());
            prop_assert!(energy(rank) >= share * total * (1.0 - 1e-12));
            prop_assert!(rank == 1 || energy(rank - 1) < share * total * (1.0 + 1e-12));
        }
    }
}
