//! Larger inputs: against kmeans1d, against each other, and on any number of threads.

use slq_codebook::{
    Algorithm, ClusterParams, Clustering, cluster, cluster_weighted, error_curve, published_ladder,
};

/// The values of tests/fixtures/make_reference.py, bit by bit.
fn values(n: u64) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let u = ((i * 2_654_435_761 % (1 << 32)) >> 8) as f64 / f64::from(1 << 24) - 0.5;
            (u * u * u * 8.0 + 0.25 * u) as f32
        })
        .collect()
}

fn run(values: &[f32], k: usize, algorithm: Algorithm) -> Clustering<u8> {
    cluster(values, &ClusterParams::builder(k).algorithm(algorithm).build().unwrap()).unwrap()
}

#[test]
fn exact_reaches_the_error_of_kmeans1d() {
    for line in include_str!("fixtures/kmeans1d.txt").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let values = values(fields[0].parse().unwrap());
        let k = fields[1].parse().unwrap();
        let reference: f64 = fields[2].parse().unwrap();
        let clustering = run(&values, k, Algorithm::Exact);
        assert!((clustering.sse / reference - 1.0).abs() < 1e-9, "{line}: {}", clustering.sse);
        assert!(
            (clustering.lower_bound / reference - 1.0).abs() < 1e-9,
            "{line}: {}",
            clustering.lower_bound
        );
        let point = error_curve(&values, k).unwrap()[k - 1];
        assert!(point / reference > 1.0 - 1e-9 && point / reference < 1.0 + 1e-5, "{line}: curve {point}");
    }
}

#[test]
fn fast_is_near_the_optimum_and_certified() {
    let values = values(400_000);
    for k in [2, 3, 17, 64] {
        let exact = run(&values, k, Algorithm::Exact);
        let fast = run(&values, k, Algorithm::Fast);
        assert!(exact.gap() < 1e-11, "k = {k}: {}", exact.gap());
        assert!(fast.sse <= exact.sse * (1.0 + 1e-5), "k = {k}: {} {}", fast.sse, exact.sse);
        assert!(fast.lower_bound <= exact.sse, "k = {k}: the bound is above the optimum");
        // Not the exact solution itself: the fast route was taken.
        assert!(fast.lower_bound < exact.lower_bound && fast.gap() < 1e-2, "k = {k}: {}", fast.gap());
    }
}

#[test]
fn fast_keeps_fixed_centroids_and_symmetry() {
    let values = values(300_000);
    let both = |fixed: &[f32], symmetric: bool, k: usize| {
        let params = ClusterParams::builder(k).fixed(fixed.iter().copied()).symmetric(symmetric);
        let exact: Clustering<u8> = cluster(&values, &params.clone().build().unwrap()).unwrap();
        let fast = cluster(&values, &params.algorithm(Algorithm::Fast).build().unwrap()).unwrap();
        (exact, fast)
    };
    for (fixed, symmetric, k) in [
        (&[0.0f32][..], false, 9),
        (&[-0.3, 0.1, 7.0], false, 9),
        (&[], true, 9),
        (&[], true, 8),
        (&[0.5, -0.5], true, 7),
    ] {
        let (exact, fast): (_, Clustering<u8>) = both(fixed, symmetric, k);
        assert!(fast.sse <= exact.sse * (1.0 + 1e-5), "{fixed:?} {symmetric}: {} {}", fast.sse, exact.sse);
        assert!(
            fast.lower_bound <= exact.sse && fast.lower_bound < exact.lower_bound,
            "{fixed:?} {symmetric}"
        );
        assert_eq!(fast.codebook.len(), k);
        for centroid in fixed {
            assert!(fast.codebook.contains(centroid) && exact.codebook.contains(centroid));
        }
        if symmetric {
            assert!(fast.codebook.iter().all(|c| fast.codebook.contains(&-c)));
        }
    }
}

#[test]
fn fast_solves_exactly_where_bins_are_no_use() {
    // Two narrow heaps far apart: every bin that matters holds thousands of values.
    let values: Vec<f32> = values(200_000)
        .iter()
        .enumerate()
        .map(|(i, v)| if i % 2 == 0 { v * 1e-6 } else { 1.0 + v * 1e-6 })
        .collect();
    let fast = run(&values, 16, Algorithm::Fast);
    let exact = run(&values, 16, Algorithm::Exact);
    assert_eq!(fast, exact);
}

#[test]
fn threads_do_not_change_a_bit() {
    let values = values(2_500_000);
    let weights: Vec<f32> = (0..values.len()).map(|i| (i % 11) as f32).collect();
    for algorithm in [Algorithm::Exact, Algorithm::Fast, Algorithm::Published, Algorithm::Lloyd] {
        let on = |threads: usize, n: usize| {
            let params = ClusterParams::builder(17).algorithm(algorithm).threads(threads).build().unwrap();
            let plain: Clustering<u8> = cluster(&values[..n], &params).unwrap();
            let weighted: Clustering<u16> = cluster_weighted(&values[..n], &weights[..n], &params).unwrap();
            (plain, weighted)
        };
        let n = if algorithm == Algorithm::Fast { values.len() } else { 200_000 };
        assert!(on(1, n) == on(3, n), "{algorithm:?}");
    }
}

#[test]
fn published_starts_at_the_ladder_and_pins_zero() {
    let values = values(20_000);
    let published = run(&values, 17, Algorithm::Published);
    assert_eq!(published.codebook[0], 0.0);
    assert!(published.fixed[0] && !published.fixed[1..].contains(&true));
    assert_eq!(published.iterations, 10);
    let ladder = published_ladder(&values, 17);
    // Ladder order is kept: signs alternate, magnitudes of one sign fall.
    for (i, (got, rung)) in published.codebook.iter().zip(&ladder).enumerate().skip(1) {
        assert_eq!(*got > 0.0, *rung > 0.0, "entry {i}");
        assert!(i < 3 || got.abs() <= published.codebook[i - 2].abs(), "entry {i}");
    }
    let optimum = run(&values, 17, Algorithm::Exact);
    assert!(published.sse > optimum.sse);
    let pinned: Clustering<u8> =
        cluster(&values, &ClusterParams::builder(17).pin_zero(true).build().unwrap()).unwrap();
    assert_eq!(published.lower_bound, pinned.lower_bound);
    let lloyd = run(&values, 17, Algorithm::Lloyd);
    assert!(lloyd.converged && lloyd.sse >= optimum.sse * (1.0 - 1e-12) && lloyd.sse < optimum.sse * 2.0);
}
