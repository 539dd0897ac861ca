//! How much of a layer is fixed after each round.

use crate::error::CompressError;

/// The published cumulative portions (arXiv 1702.03044, section 3.1); more than 5 bits take those of 5.
pub(crate) fn default_portions(bits: u8) -> Vec<f64> {
    match bits {
        0..=2 => vec![0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0],
        3 => vec![0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0],
        4 => vec![0.3, 0.5, 0.8, 0.9, 0.95, 1.0],
        _ => vec![0.5, 0.75, 0.875, 1.0],
    }
}

/// Checks that portions rise from above 0 to 1.
///
/// # Errors
/// [`CompressError::Setting`] saying what is wrong.
pub(crate) fn check_portions(portions: &[f64]) -> Result<(), CompressError> {
    let bad = |reason: String| Err(CompressError::Setting { name: "portions", reason });
    let mut before = 0.0;
    for &portion in portions {
        if !(portion > before && portion <= 1.0) {
            return bad(format!("{portion} after {before}: portions are cumulative and rise to 1"));
        }
        before = portion;
    }
    if before != 1.0 {
        return bad(format!("they end at {before}, not at 1, and would leave weights free"));
    }
    Ok(())
}

/// Number of fixed weights at the cumulative `portion` of `count` weights.
pub(crate) fn count(portion: f64, count: usize) -> usize {
    ((portion * count as f64).round() as usize).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_portions_are_valid_and_others_must_be() {
        for bits in 2..=8 {
            check_portions(&default_portions(bits)).unwrap();
        }
        for wrong in [&[][..], &[0.5], &[0.5, 0.5, 1.0], &[0.0, 1.0], &[0.5, 1.5], &[f64::NAN, 1.0]] {
            assert!(check_portions(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_portion_is_everything() {
        assert_eq!((count(0.5, 5), count(1.0, 5), count(0.2, 0)), (3, 5, 0));
    }
}
