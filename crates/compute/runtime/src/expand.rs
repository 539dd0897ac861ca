//! Which weights become floats.

use std::str::FromStr;

/// Which palettized weights are expanded to floats when a network is loaded.
///
/// A weight that some node needs as floats is expanded with every choice; the [`Report`](crate::Report) names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expand {
    /// Layers that take less than 256 KB as floats, the smallest first, 2 MB in all. With what convolutions expand for a
    /// moment (at most 6 MB on two threads), memory stays below codes + 8 MB + activations.
    #[default]
    Auto,
    /// All: the speed of the float kernels, at the memory of the float network.
    All,
    /// None.
    None,
}

/// Bytes as floats below which a layer may be expanded.
const SMALL: usize = 256 << 10;
/// Bytes of all such layers.
const CACHED: usize = 2 << 20;

impl Expand {
    /// Of layers with these numbers of weights, which are expanded.
    pub(crate) fn choose(self, counts: &[usize]) -> Vec<bool> {
        let mut chosen = vec![self == Expand::All; counts.len()];
        if self == Expand::Auto {
            let mut order: Vec<usize> = (0..counts.len()).collect();
            order.sort_by_key(|&i| (counts[i], i));
            let mut left = CACHED;
            for i in order {
                let bytes = counts[i].saturating_mul(4);
                // A batch-norm behind it keeps a second copy.
                let Some(rest) = left.checked_sub(bytes.saturating_mul(2)).filter(|_| bytes < SMALL) else {
                    break;
                };
                (left, chosen[i]) = (rest, true);
            }
        }
        chosen
    }
}

/// The text is not a choice of what to expand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not say what to expand (auto, all, none)")]
pub struct UnknownExpand(pub String);

impl FromStr for Expand {
    type Err = UnknownExpand;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => Err(UnknownExpand(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_layers_are_expanded_up_to_a_total() {
        let small = SMALL / 4 - 1;
        assert_eq!(Expand::Auto.choose(&[small, 10, SMALL / 4]), [true, true, false]);
        let many = Expand::Auto.choose(&[small; 20]);
        assert_eq!(many.iter().filter(|&&c| c).count(), CACHED / (8 * small));
        assert_eq!(Expand::All.choose(&[1, 1 << 30]), [true, true]);
        assert_eq!(Expand::None.choose(&[1, 1 << 30]), [false, false]);
        assert_eq!(Expand::Auto.choose(&[usize::MAX]), [false]);
        assert_eq!("none".parse(), Ok(Expand::None));
        assert_eq!("some".parse::<Expand>(), Err(UnknownExpand("some".into())));
    }
}
