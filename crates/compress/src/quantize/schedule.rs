//! How many clusters are fixed after each round.

use crate::error::CompressError;

/// Cumulative counts of fixed clusters, one for each round, for codebooks of `size` centroids: the published
/// 5, 9, 13, 15, 17 and its relatives (the authors' program). Other sizes follow the pattern of 17: a
/// quarter, a half, three quarters, seven eighths, all.
pub fn default_schedule(size: usize) -> Vec<usize> {
    match size {
        0 | 1 => vec![size],
        2 => vec![1, 2],
        3 => vec![2, 3],
        5 => vec![3, 5],
        9 => vec![3, 5, 7, 9],
        _ => {
            let steps = size - 1;
            let mut counts: Vec<usize> = [
                steps.div_ceil(4),
                steps.div_ceil(2),
                (3 * steps).div_ceil(4),
                (7 * steps).div_ceil(8),
                steps,
            ]
            .into_iter()
            .map(|n| n + 1)
            .collect();
            counts.dedup();
            counts
        }
    }
}

/// A given schedule for codebooks of `size` centroids.
///
/// # Errors
/// [`CompressError::Schedule`] where the counts do not rise or do not end at the last cluster.
pub fn check_schedule(counts: &[usize], size: usize) -> Result<(), CompressError> {
    let bad = |reason: String| Err(CompressError::Schedule { schedule: counts.to_vec(), reason });
    if counts.is_empty() || counts[0] == 0 {
        return bad("it must begin with a count of 1 or more".into());
    }
    if let Some(pair) = counts.windows(2).find(|p| p[0] >= p[1]) {
        return bad(format!("{} is followed by {}: counts are cumulative and must rise", pair[0], pair[1]));
    }
    if counts.last() != Some(&size) {
        return bad(format!("it must end at {size}, the number of clusters"));
    }
    Ok(())
}

/// Clusters fixed after `round` in a layer whose codebook has `layer_size` centroids, when the whole run has
/// `rounds` rounds: its own default schedule stretched so that every layer ends with the last round.
pub fn count_for_layer(schedule: &[usize], round: usize, size: usize, layer_size: usize) -> usize {
    if round + 1 >= schedule.len() {
        return layer_size;
    }
    if layer_size == size {
        return schedule[round];
    }
    (schedule[round] * layer_size).div_ceil(size).min(layer_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_schedules() {
        assert_eq!(default_schedule(17), [5, 9, 13, 15, 17]);
        assert_eq!(default_schedule(9), [3, 5, 7, 9]);
        assert_eq!(default_schedule(5), [3, 5]);
        assert_eq!(default_schedule(3), [2, 3]);
        assert_eq!(default_schedule(33), [9, 17, 25, 29, 33]);
    }

    #[test]
    fn every_default_is_valid() {
        for size in 1..=256 {
            check_schedule(&default_schedule(size), size).unwrap();
        }
    }

    #[test]
    fn wrong_schedules_are_refused() {
        for wrong in [&[][..], &[0, 17], &[5, 5, 17], &[9, 5, 17], &[5, 9], &[5, 18]] {
            assert!(check_schedule(wrong, 17).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn narrow_layers_follow_and_end_with_the_last_round() {
        let schedule = [5, 9, 13, 15, 17];
        let counts: Vec<_> = (0..5).map(|r| count_for_layer(&schedule, r, 17, 9)).collect();
        assert_eq!(counts, [3, 5, 7, 8, 9]);
    }
}
