//! Clustering against all partitions of a few values.

use slq::codebook::{Algorithm, ClusterParams, Clustering, cluster};

use super::bytes::Bytes;

/// The smallest squared error of `values`, sorted, in `k` clusters, over all ways to cut them.
fn best(values: &[f64], k: usize) -> f64 {
    if k == 1 || values.len() <= 1 {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        return values.iter().map(|v| (v - mean).powi(2)).sum();
    }
    (1..=values.len())
        .map(|cut| best(&values[..cut], 1) + best(&values[cut..], k - 1))
        .fold(f64::INFINITY, f64::min)
}

/// The exact algorithm finds the smallest squared error there is, and every code is one of its codebook.
pub fn clustering(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (k, count) = (bytes.between(1, 4), bytes.between(1, 9));
    let scale = [1.0f32, 1e-20, 1e20, 3.0][bytes.between(0, 3)];
    let values: Vec<f32> = bytes.values(count).into_iter().map(|v| v * scale).collect();
    let Ok(params) = ClusterParams::builder(k).algorithm(Algorithm::Exact).build() else { return };
    let found: Result<Clustering<u16>, _> = cluster(&values, &params);
    let Ok(found) = found else { return };
    assert_eq!(found.codes.len(), values.len());
    let decoded = found.codes.iter().map(|&c| f64::from(found.codebook[usize::from(c)]));
    let error: f64 = decoded.zip(&values).map(|(c, &v)| (c - f64::from(v)).powi(2)).sum();
    let mut sorted: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    sorted.sort_by(f64::total_cmp);
    let least = best(&sorted, k);
    let size: f64 = sorted.iter().map(|v| v * v).sum();
    assert!(error <= least + 1e-12 * size, "{error} instead of {least} for {values:?} in {k}");
}
