//! The exact algorithm against a search over every possible assignment.

use proptest::prelude::*;
use slq_codebook::{ClusterError, ClusterParams, Clustering, cluster, cluster_weighted, squared_error};

/// The least squared error over all ways to label the values, equal values alike; `None` if the minimum size
/// allows none. Labels below `fixed.len()` mean a fixed centroid, the others a free one. With a minimum size
/// clusters must be intervals, and free ones must not reach across zero if that is fixed.
fn brute_force(values: &[f32], weights: &[f32], k: usize, fixed: &[f32], min_size: usize) -> Option<f64> {
    let mut distinct = values.to_vec();
    distinct.sort_by(f32::total_cmp);
    distinct.dedup();
    let mut labels = vec![0usize; distinct.len()];
    let mut best: Option<f64> = None;
    loop {
        let label = |v: f32| labels[distinct.iter().position(|&d| d == v).unwrap()];
        let mut total = Some(0.0);
        for l in 0..k {
            let members = || values.iter().zip(weights).filter(|(v, _)| label(**v) == l);
            let weight: f64 = members().map(|(_, &w)| f64::from(w)).sum();
            let sum: f64 = members().map(|(&v, &w)| f64::from(v) * f64::from(w)).sum();
            let count = members().count();
            if min_size > 1 {
                let places: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == l).collect();
                let gaps = places.windows(2).any(|p| p[1] != p[0] + 1);
                let negative = places.iter().filter(|&&i| distinct[i] < 0.0).count();
                let across = l >= fixed.len() && !fixed.is_empty() && negative % places.len().max(1) != 0;
                if gaps || across {
                    total = None;
                    break;
                }
            }
            let centroid = match fixed.get(l) {
                Some(&c) => f64::from(c),
                None if min_size > 1 && count < min_size => {
                    total = None;
                    break;
                }
                None if weight > 0.0 => sum / weight,
                None => 0.0,
            };
            let error: f64 = members().map(|(&v, &w)| f64::from(w) * (f64::from(v) - centroid).powi(2)).sum();
            total = total.map(|t| t + error);
        }
        if let Some(total) = total {
            best = Some(best.map_or(total, |b: f64| b.min(total)));
        }
        let Some(i) = labels.iter().position(|&l| l + 1 < k) else { return best };
        labels[i] += 1;
        labels[..i].fill(0);
    }
}

fn check(
    clustering: &Clustering<u8>,
    values: &[f32],
    weights: &[f32],
    best: f64,
) -> Result<(), TestCaseError> {
    let scale: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() + 1.0;
    // Centroids are rounded to f32, which costs in the order of the square of its precision.
    prop_assert!(clustering.sse <= best + 1e-11 * scale, "sse {} optimum {}", clustering.sse, best);
    prop_assert!(clustering.sse >= best - 1e-11 * scale, "sse {} below the optimum {}", clustering.sse, best);
    prop_assert!(
        clustering.lower_bound <= best + 1e-11 * scale,
        "bound {} optimum {}",
        clustering.lower_bound,
        best
    );
    prop_assert!(
        clustering.lower_bound >= best - 1e-9 * scale,
        "bound {} optimum {}",
        clustering.lower_bound,
        best
    );
    let sse = squared_error(values, Some(weights), &clustering.codes, &clustering.codebook).unwrap();
    prop_assert_eq!(clustering.sse, sse);
    Ok(())
}

/// Values on a coarse grid (equal ones and ties), or anywhere.
fn values(max: usize) -> impl Strategy<Value = Vec<f32>> {
    let grid = (-4i32..5).prop_map(|v| v as f32 * 0.5);
    prop_oneof![proptest::collection::vec(grid, 1..=max), proptest::collection::vec(-10.0f32..10.0, 1..=max),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_magnitudes(
        parts in proptest::collection::vec((-30i32..30, -9i32..10), 1..=8), k in 1usize..4, pin in any::<bool>(),
    ) {
        prop_assume!(k <= parts.len());
        let values: Vec<f32> = parts.iter().map(|&(power, digit)| digit as f32 * 10f32.powi(power)).collect();
        let ones = vec![1.0; values.len()];
        let fixed: &[f32] = if pin { &[0.0] } else { &[] };
        let best = brute_force(&values, &ones, k, fixed, 1).unwrap();
        let params = ClusterParams::builder(k).pin_zero(pin).build().unwrap();
        let clustering: Clustering<u8> = cluster(&values, &params).unwrap();
        // Beside the optimum itself only the rounding of every centroid to f32.
        let rounding: f64 = clustering
            .codes
            .iter()
            .map(|&c| (f64::from(clustering.codebook[usize::from(c)]) * f64::from(f32::EPSILON)).powi(2))
            .sum();
        prop_assert!(clustering.sse <= best * (1.0 + 1e-9) + rounding, "sse {} optimum {}", clustering.sse, best);
        prop_assert!(clustering.lower_bound <= best * (1.0 + 1e-9), "bound {} optimum {}", clustering.lower_bound, best);
    }

    #[test]
    fn unconstrained(values in values(8), k in 1usize..4) {
        prop_assume!(k <= values.len());
        let ones = vec![1.0; values.len()];
        let best = brute_force(&values, &ones, k, &[], 1).unwrap();
        check(&cluster(&values, &ClusterParams::new(k).unwrap()).unwrap(), &values, &ones, best)?;
    }

    #[test]
    fn weighted(values in values(7), k in 1usize..4, weights in proptest::collection::vec(0u32..4, 7)) {
        let weights: Vec<f32> = weights[..values.len()].iter().map(|&w| w as f32 * 0.75).collect();
        prop_assume!(k <= values.len() && weights.iter().any(|&w| w > 0.0));
        let best = brute_force(&values, &weights, k, &[], 1).unwrap();
        let params = ClusterParams::new(k).unwrap();
        check(&cluster_weighted(&values, &weights, &params).unwrap(), &values, &weights, best)?;
    }

    #[test]
    fn with_fixed_centroids(
        values in values(6), free in 0usize..3, fixed in proptest::collection::vec(-14i32..15, 1..3),
    ) {
        // Some of them lie outside the range of the values.
        let mut fixed: Vec<f32> = fixed.iter().map(|&f| f as f32).collect();
        fixed.sort_by(f32::total_cmp);
        fixed.dedup();
        let k = free + fixed.len();
        prop_assume!(k <= values.len());
        let ones = vec![1.0; values.len()];
        let best = brute_force(&values, &ones, k, &fixed, 1).unwrap();
        let params = ClusterParams::builder(k).fixed(fixed.clone()).build().unwrap();
        let clustering = cluster(&values, &params).unwrap();
        check(&clustering, &values, &ones, best)?;
        let kept: Vec<f32> =
            clustering.codebook.iter().zip(&clustering.fixed).filter(|(_, f)| **f).map(|(c, _)| *c).collect();
        prop_assert_eq!(kept, fixed);
    }

    #[test]
    fn with_a_minimum_size(values in values(8), k in 1usize..4, size in 2usize..4, pin in any::<bool>()) {
        prop_assume!(k <= values.len());
        let ones = vec![1.0; values.len()];
        let fixed: &[f32] = if pin { &[0.0] } else { &[] };
        let params = ClusterParams::builder(k).pin_zero(pin).min_cluster_size(size).build().unwrap();
        match (brute_force(&values, &ones, k, fixed, size), cluster::<u8>(&values, &params)) {
            (Some(best), Ok(clustering)) => {
                check(&clustering, &values, &ones, best)?;
                for (count, fixed) in clustering.counts.iter().zip(&clustering.fixed) {
                    prop_assert!(*fixed || *count >= size as u64);
                }
            }
            (None, Err(ClusterError::MinimumSizeTooLarge { .. })) => {}
            (best, got) => prop_assert!(false, "optimum {best:?}, got {got:?}"),
        }
    }

    #[test]
    fn symmetric(values in values(7), k in 1usize..5) {
        prop_assume!(k <= values.len());
        let ones = vec![1.0; values.len()];
        let folded: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        let fixed: &[f32] = if k % 2 == 1 { &[0.0] } else { &[] };
        let best = brute_force(&folded, &ones, k.div_ceil(2), fixed, 1).unwrap();
        let params = ClusterParams::builder(k).symmetric(true).build().unwrap();
        let clustering = cluster(&values, &params).unwrap();
        check(&clustering, &values, &ones, best)?;
        let mirrored: Vec<f32> = clustering.codebook.iter().rev().map(|c| 0.0 - c).collect();
        prop_assert_eq!(&clustering.codebook, &mirrored);
        prop_assert!(clustering.codebook.len() <= k);
    }
}
