//! Properties of every clustering, and edge cases.

use proptest::prelude::*;
use slq_codebook::{
    Algorithm, ClusterError, ClusterParams, Clustering, assign, cluster, cluster_weighted, decode, lloyd_from,
};

fn exact(values: &[f32], k: usize) -> Clustering<u8> {
    cluster(values, &ClusterParams::new(k).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scaling_by_a_power_of_two_changes_no_code(
        values in proptest::collection::vec(-1000i32..1000, 1..200), k in 1usize..20, power in -40i32..40,
    ) {
        prop_assume!(k <= values.len());
        let values: Vec<f32> = values.iter().map(|&v| v as f32 * 0.125).collect();
        let factor = 2f32.powi(power);
        let scaled: Vec<f32> = values.iter().map(|v| v * factor).collect();
        let (a, b) = (exact(&values, k), exact(&scaled, k));
        prop_assert_eq!(a.codes, b.codes);
        prop_assert_eq!(a.sse * f64::from(factor).powi(2), b.sse);
    }

    #[test]
    fn translation_keeps_the_error(
        values in proptest::collection::vec(-1000i32..1000, 1..200), k in 1usize..20, shift in -5000i32..5000,
    ) {
        prop_assume!(k <= values.len());
        let plain: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        let moved: Vec<f32> = values.iter().map(|&v| (v + shift) as f32).collect();
        let (a, b) = (exact(&plain, k), exact(&moved, k));
        // Centroids are rounded to f32, so the errors agree to about the square of that.
        prop_assert!((a.sse - b.sse).abs() <= 1e-4 + 1e-9 * a.sse, "{} {}", a.sse, b.sse);
        prop_assert!((a.lower_bound - b.lower_bound).abs() <= 1e-6 + 1e-9 * a.sse);
    }

    #[test]
    fn weights_are_repetitions(
        pairs in proptest::collection::vec((-100i32..100, 0u8..5), 2..60), k in 1usize..8, fixed in -100i32..100,
    ) {
        prop_assume!(pairs.iter().any(|p| p.1 > 0));
        let values: Vec<f32> = pairs.iter().map(|p| p.0 as f32).collect();
        let weights: Vec<f32> = pairs.iter().map(|p| f32::from(p.1)).collect();
        let repeated: Vec<f32> = pairs.iter().flat_map(|p| vec![p.0 as f32; p.1.into()]).collect();
        prop_assume!(k <= values.len() && k <= repeated.len());
        for algorithm in [Algorithm::Exact, Algorithm::Lloyd, Algorithm::Published] {
            let mut builder = ClusterParams::builder(k).algorithm(algorithm);
            if algorithm != Algorithm::Published {
                builder = builder.fixed([fixed as f32]);
            }
            let params = builder.build().unwrap();
            let a: Clustering<u8> = cluster_weighted(&values, &weights, &params).unwrap();
            let b: Clustering<u8> = cluster(&repeated, &params).unwrap();
            // The published ladder looks at every value, weighted or not, so starts agree only without zeros.
            if algorithm != Algorithm::Lloyd && weights.iter().all(|&w| w > 0.0) || algorithm == Algorithm::Exact {
                prop_assert!((a.sse - b.sse).abs() <= 1e-6 * (1.0 + b.sse), "{:?}: {} {}", algorithm, a.sse, b.sse);
            }
        }
    }

    #[test]
    fn more_clusters_never_cost_more(values in proptest::collection::vec(-50.0f32..50.0, 2..120)) {
        let mut before = f64::INFINITY;
        for k in 1..values.len().min(24) {
            let sse = exact(&values, k).sse;
            prop_assert!(sse <= before * (1.0 + 1e-6) + 1e-9);
            before = sse;
        }
    }

    #[test]
    fn lloyd_never_gains_error_and_codes_are_nearest(
        values in proptest::collection::vec(-50.0f32..50.0, 1..120),
        init in proptest::collection::vec(-60.0f32..60.0, 1..9),
        mask in 0u32..512,
    ) {
        let fixed: Vec<bool> = (0..init.len()).map(|i| mask >> i & 1 == 1).collect();
        let mut before = f64::INFINITY;
        for passes in 0..8 {
            let c: Clustering<u8> = lloyd_from(&values, &init, &fixed, passes).unwrap();
            prop_assert!(c.sse <= before * (1.0 + 1e-6) + 1e-9);
            before = c.sse;
            prop_assert_eq!(&c.codes, &assign::<u8>(&values, &c.codebook).unwrap());
            for ((fixed, a), b) in fixed.iter().zip(&c.codebook).zip(&init) {
                prop_assert!(!fixed || a == b);
            }
        }
    }

    #[test]
    fn any_finite_values_are_handled(
        bits in proptest::collection::vec(any::<u32>(), 1..60), k in 1usize..12,
        algorithm in prop_oneof![
            Just(Algorithm::Exact), Just(Algorithm::Fast), Just(Algorithm::Lloyd), Just(Algorithm::Published)
        ],
    ) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).filter(|v| v.is_finite()).collect();
        prop_assume!(k <= values.len());
        let params = ClusterParams::builder(k).algorithm(algorithm).build().unwrap();
        let c: Clustering<u8> = cluster(&values, &params).unwrap();
        prop_assert_eq!(c.codes.len(), values.len());
        prop_assert!(c.codebook.len() <= k && c.codebook.iter().all(|v| v.is_finite()));
        prop_assert!(c.sse.is_finite() && c.lower_bound >= 0.0 && c.lower_bound <= c.sse);
        prop_assert_eq!(c.counts.iter().sum::<u64>(), values.len() as u64);
    }
}

#[test]
fn few_distinct_values_cost_nothing() {
    let subnormal = f32::from_bits(3);
    let cases: [&[f32]; 6] = [
        &[0.25],
        &[7.0; 40],
        &[-0.0, 0.0, 0.0],
        &[subnormal, -subnormal, 0.0, subnormal],
        &[f32::MAX, f32::MIN, 0.0, 1.0],
        &[1.0, 1.0 + f32::EPSILON, 1.0, 1.0 - f32::EPSILON],
    ];
    for values in cases {
        for k in 1..=values.len().min(6) {
            let mut distinct: Vec<f32> = values.iter().map(|v| v + 0.0).collect();
            distinct.sort_by(f32::total_cmp);
            distinct.dedup();
            let c = exact(values, k);
            if k >= distinct.len() {
                assert_eq!((c.sse, c.lower_bound), (0.0, 0.0), "{values:?}, k = {k}");
                assert_eq!(c.codebook, distinct);
                assert_eq!(decode(&c.codes, &c.codebook).unwrap(), values);
            } else {
                assert_eq!(c.codebook.len(), k, "{values:?}");
            }
        }
    }
}

#[test]
fn zero_weights_have_no_say_but_get_codes() {
    let params = ClusterParams::new(2).unwrap();
    let c: Clustering<u8> =
        cluster_weighted(&[0.0, 100.0, 1.0, 0.2], &[1.0, 0.0, 1.0, 1.0], &params).unwrap();
    assert_eq!(c.codes, [0, 1, 1, 0]);
    assert_eq!(c.codebook, [0.1, 1.0]);
}

#[test]
fn bad_input_is_an_error_of_its_own() {
    let two = ClusterParams::new(2).unwrap();
    let run = |values: &[f32]| cluster::<u8>(values, &two).unwrap_err();
    assert_eq!(run(&[]), ClusterError::Empty);
    assert!(matches!(run(&[1.0, f32::NAN]), ClusterError::NotFinite { index: 1, .. }));
    assert!(matches!(run(&[f32::NEG_INFINITY, 0.0]), ClusterError::NotFinite { index: 0, .. }));
    assert_eq!(run(&[1.0]), ClusterError::TooManyClusters { k: 2, count: 1 });
    assert_eq!(ClusterParams::new(0).unwrap_err(), ClusterError::ZeroClusters);
    let wide = ClusterParams::new(257).unwrap();
    assert_eq!(
        cluster::<u8>(&[0.0; 300], &wide).unwrap_err(),
        ClusterError::CodeTooNarrow { k: 257, limit: 256 }
    );
    assert!(cluster::<u16>(&[0.0; 300], &wide).is_ok());
    let weighted = |weights: &[f32]| cluster_weighted::<u8>(&[1.0, 2.0], weights, &two).unwrap_err();
    assert_eq!(weighted(&[1.0]), ClusterError::WeightCount { weights: 1, values: 2 });
    assert!(matches!(weighted(&[1.0, f32::NAN]), ClusterError::BadWeight { index: 1, .. }));
    assert!(matches!(weighted(&[-1.0, 0.0]), ClusterError::BadWeight { index: 0, .. }));
    assert_eq!(weighted(&[0.0, 0.0]), ClusterError::NoWeight);
    let build = |fixed: &[f32], k: usize| ClusterParams::builder(k).fixed(fixed.iter().copied());
    assert!(matches!(
        build(&[0.0, f32::INFINITY], 3).build().unwrap_err(),
        ClusterError::CentroidNotFinite { index: 1, .. }
    ));
    assert_eq!(
        build(&[1.0, 2.0], 2).pin_zero(true).build().unwrap_err(),
        ClusterError::TooManyFixed { fixed: 3, k: 2 }
    );
    assert_eq!(
        build(&[1.0], 4).symmetric(true).build().unwrap_err(),
        ClusterError::FixedNotSymmetric { value: 1.0 }
    );
    assert_eq!(
        build(&[], 4).symmetric(true).pin_zero(true).build().unwrap_err(),
        ClusterError::SymmetricEven { k: 4 }
    );
    let lloyd = build(&[], 4).algorithm(Algorithm::Lloyd);
    assert_eq!(lloyd.clone().symmetric(true).build().unwrap_err(), ClusterError::SymmetricUnsupported);
    assert_eq!(lloyd.min_cluster_size(2).build().unwrap_err(), ClusterError::MinimumSizeUnsupported);
    assert_eq!(
        build(&[1.0], 4).algorithm(Algorithm::Published).build().unwrap_err(),
        ClusterError::PublishedFixed
    );
    assert!(matches!(
        lloyd_from::<u8>(&[1.0], &[f32::NAN], &[], 1).unwrap_err(),
        ClusterError::CentroidNotFinite { index: 0, .. }
    ));
    assert_eq!(lloyd_from::<u8>(&[1.0], &[], &[], 1).unwrap_err(), ClusterError::EmptyCodebook);
}
