//! Histograms of codes and their Shannon entropy.

use slq_kernels::parallel::prelude::*;

use crate::Code;

/// How often each of the first `k` codes occurs (of all codes the type has, if `k` is more). Codes of `k` and above
/// are not counted.
pub fn histogram<C: Code>(codes: &[C], k: usize) -> Vec<u64> {
    let size = k.min(C::LIMIT);
    let add = |mut a: Vec<u64>, b: Vec<u64>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    let parts: Vec<Vec<u64>> = codes
        .par_chunks(1 << 20)
        .map(|chunk| {
            // Four tables, so that runs of one code do not wait for each other.
            let mut tables = vec![[0u32; 4]; C::LIMIT];
            for (i, code) in chunk.iter().enumerate() {
                tables[code.index()][i % 4] += 1;
            }
            tables[..size].iter().map(|t| t.iter().map(|&c| u64::from(c)).sum()).collect()
        })
        .collect();
    parts.into_iter().fold(vec![0; size], add)
}

/// Shannon entropy of codes that occur `counts` times, in bits per code; zero if nothing is counted.
pub fn entropy_bits(counts: &[u64]) -> f64 {
    let total: f64 = counts.iter().map(|&c| c as f64).sum();
    if total == 0.0 { 0.0 } else { coded_bits(counts) / total }
}

/// Bits that all codes together take at their Shannon entropy, where they occur `counts` times.
pub fn coded_bits(counts: &[u64]) -> f64 {
    let total: f64 = counts.iter().map(|&c| c as f64).sum();
    counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 * (total / c as f64).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_every_code_once() {
        let codes: Vec<u8> = (0..300_000u32).map(|i| (i % 7) as u8).collect();
        let counts = histogram(&codes, 9);
        assert_eq!(counts.iter().sum::<u64>(), 300_000);
        assert_eq!(counts[0], 42_858);
        assert_eq!(counts[6], 42_857);
        assert_eq!(counts[7..], [0, 0]);
        assert_eq!(histogram(&[3u16, 65_535, 3], 65_536)[65_535], 1);
        assert_eq!(histogram::<u8>(&[], 2), [0, 0]);
        assert_eq!(histogram::<u8>(&[9], usize::MAX).len(), 256);
    }

    #[test]
    fn entropy_of_known_distributions() {
        assert_eq!(entropy_bits(&[]), 0.0);
        assert_eq!(entropy_bits(&[0, 0]), 0.0);
        assert_eq!(entropy_bits(&[9]), 0.0);
        assert_eq!(entropy_bits(&[5, 5, 5, 5]), 2.0);
        assert!((entropy_bits(&[1, 3]) - 0.811_278_124_459_132_8).abs() < 1e-15);
        assert_eq!((coded_bits(&[]), coded_bits(&[9]), coded_bits(&[5, 5, 5, 5])), (0.0, 0.0, 40.0));
    }
}
