//! Clustering at a price on bits: a value may take an entry that is farther but more frequent, so that entropy-coded codes
//! get shorter. Entropy-constrained quantization (Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37(1), 1989) in one dimension.

mod order;

use slq_kernels::parallel::prelude::*;

use self::order::{penalties, until_stalled};
use crate::assign::CHUNK;
use crate::sorted::{check_values, check_weights};
use crate::{ClusterError, Code, coded_bits, histogram};

/// Values that take their entries together; small enough for registers and the nearest cache.
const BLOCK: usize = 64;

/// Codebooks and codes of [`cluster_at_price`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Priced<C> {
    /// The entries of all codebooks, one codebook behind the other, each as long as the others.
    pub codebooks: Vec<f32>,
    /// The entry of every value within its codebook.
    pub codes: Vec<C>,
    /// Weighted squared error over all values.
    pub sse: f64,
    /// Bits of all codes together at the entropy of their common histogram.
    pub bits: f64,
    /// Passes made.
    pub iterations: usize,
}

/// Where [`cluster_at_price`] begins: codebooks of equal length, each for as many values as the others, and the codes.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a, C> {
    /// The entries of all codebooks, one codebook behind the other.
    pub codebooks: &'a [f32],
    /// Number of codebooks.
    pub groups: usize,
    /// The entry of every value within its codebook.
    pub codes: &'a [C],
}

/// Lowers `squared error + price * bits` from `start`, until a pass lowers it by less than a millionth: every value takes the
/// entry that costs least beside the bits its code takes now, every entry becomes the mean of its values. `bits` is the
/// entropy of the codes of all codebooks together. Neither half ever raises the cost. A code that no value takes any more
/// is left out; fewer, larger clusters are what saves bits. `weights` (none, or one for each value) weigh the squared error.
///
/// # Errors
/// No values, values or weights that are not finite, a price that is no number of 0 or more, and a start that does not fit
/// the values.
pub fn cluster_at_price<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    start: Start<'_, C>,
    price: f64,
) -> Result<Priced<C>, ClusterError> {
    check_values(values)?;
    if let Some(weights) = weights {
        check_weights(values, weights)?;
    }
    if !(price >= 0.0 && price.is_finite()) {
        return Err(ClusterError::Price { price });
    }
    let size = start.codebooks.len() / start.groups.max(1);
    let fits = start.groups > 0
        && size > 0
        && size <= C::LIMIT
        && size * start.groups == start.codebooks.len()
        && start.codes.len() == values.len()
        && values.len().is_multiple_of(start.groups)
        && start.codes.iter().all(|c| c.index() < size);
    if !fits {
        return Err(ClusterError::Start {
            values: values.len(),
            entries: start.codebooks.len(),
            groups: start.groups,
        });
    }
    let work = Work { values, weights, run: values.len() / start.groups, size, price };
    work.lower(start)
}

/// What stays the same from pass to pass.
struct Work<'a> {
    values: &'a [f32],
    weights: Option<&'a [f32]>,
    /// Values of one codebook.
    run: usize,
    /// Entries of one codebook.
    size: usize,
    price: f64,
}

/// Sums over some values of one codebook: for each entry the number of values, their weight and their weighted sum.
struct Sums {
    counts: Vec<u64>,
    weights: Vec<f64>,
    values: Vec<f64>,
    sse: f64,
}

impl Work<'_> {
    fn lower<C: Code>(&self, start: Start<'_, C>) -> Result<Priced<C>, ClusterError> {
        let mut codebooks = start.codebooks.to_vec();
        let mut codes = start.codes.to_vec();
        let mut counts = histogram(&codes, self.size);
        let (mut sse, mut iterations) = (0.0, 0);
        if self.weights.is_none() {
            iterations = order::lower((self.values, self.run), &mut codebooks, &mut counts, self.price)?;
        }
        // From there one or two passes give the codes; with weights all passes are here.
        iterations += until_stalled(|| {
            (sse, counts) = self.pass(&mut codebooks, &mut codes, &counts);
            sse + self.price * coded_bits(&counts)
        });
        let bits = coded_bits(&counts);
        let (codebooks, codes) = self.without_unused(codebooks, codes, &counts);
        Ok(Priced { codebooks, codes, sse, bits, iterations })
    }

    /// Every value takes its entry, then every entry its mean. Returns the squared error behind that and the new histogram.
    fn pass<C: Code>(&self, codebooks: &mut [f32], codes: &mut [C], counts: &[u64]) -> (f64, Vec<u64>) {
        let penalties = penalties(counts, self.price).into_iter().enumerate();
        let taken: Vec<(usize, f32)> = penalties.filter_map(|(k, p)| Some((k, p? as f32))).collect();
        let pieces: Vec<_> = codes
            .chunks_mut(self.run)
            .enumerate()
            .flat_map(|(group, codes)| {
                let pieces = codes.chunks_mut(CHUNK).enumerate();
                pieces.map(move |(i, codes)| (group, group * self.run + i * CHUNK, codes))
            })
            .collect();
        let books: &[f32] = codebooks;
        let sums: Vec<(usize, Sums)> = pieces
            .into_par_iter()
            .map(|(group, first, codes)| {
                let range = first..first + codes.len();
                let weights = self.weights.map(|w| &w[range.clone()]);
                let book = &books[group * self.size..][..self.size];
                (group, assign_priced((&self.values[range], weights), book, &taken, codes))
            })
            .collect();
        let mut sse = 0.0;
        let mut counts = vec![0; self.size];
        for own in sums.chunk_by(|a, b| a.0 == b.0) {
            let book = &mut codebooks[own[0].0 * self.size..][..self.size];
            sse += own.iter().map(|(_, s)| s.sse).sum::<f64>();
            for (k, entry) in book.iter_mut().enumerate() {
                counts[k] += own.iter().map(|(_, s)| s.counts[k]).sum::<u64>();
                let weight: f64 = own.iter().map(|(_, s)| s.weights[k]).sum();
                if weight <= 0.0 {
                    continue;
                }
                let mean = own.iter().map(|(_, s)| s.values[k]).sum::<f64>() / weight;
                let moved = mean as f32;
                let distance = |from: f32| (mean - f64::from(from)).powi(2);
                sse += weight * (distance(moved) - distance(*entry));
                *entry = moved;
            }
        }
        (sse.max(0.0), counts)
    }

    /// Codebooks without the entries that no value of any group takes.
    fn without_unused<C: Code>(
        &self,
        codebooks: Vec<f32>,
        mut codes: Vec<C>,
        counts: &[u64],
    ) -> (Vec<f32>, Vec<C>) {
        let used: Vec<usize> = (0..self.size).filter(|&k| counts[k] > 0).collect();
        if used.len() == self.size {
            return (codebooks, codes);
        }
        let mut place = vec![0; self.size];
        used.iter().enumerate().for_each(|(i, &k)| place[k] = i);
        codes.iter_mut().for_each(|c| *c = C::from_index(place[c.index()]));
        let books = codebooks.chunks_exact(self.size);
        (books.flat_map(|book| used.iter().map(|&k| book[k])).collect(), codes)
    }
}

/// Gives every value the cheapest of the `taken` entries (entry and penalty of its bits), the first one on a tie.
fn assign_priced<C: Code>(
    (values, weights): (&[f32], Option<&[f32]>),
    book: &[f32],
    taken: &[(usize, f32)],
    codes: &mut [C],
) -> Sums {
    let zero = || vec![0.0; book.len()];
    let mut sums = Sums { counts: vec![0; book.len()], weights: zero(), values: zero(), sse: 0.0 };
    for (b, (values, codes)) in values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)).enumerate() {
        let mut weight = [1.0f32; BLOCK];
        if let Some(weights) = weights {
            weight[..values.len()].copy_from_slice(&weights[b * BLOCK..][..values.len()]);
        }
        let mut value = [0.0f32; BLOCK];
        value[..values.len()].copy_from_slice(values);
        let first = taken.first().map_or(0, |t| t.0 as u32);
        let (mut least, mut found) = ([f32::INFINITY; BLOCK], [first; BLOCK]);
        for &(k, penalty) in taken {
            let entry = book[k];
            for i in 0..BLOCK {
                let off = value[i] - entry;
                let cost = off * off * weight[i] + penalty;
                let better = cost < least[i];
                least[i] = if better { cost } else { least[i] };
                found[i] = if better { k as u32 } else { found[i] };
            }
        }
        for (i, code) in codes.iter_mut().enumerate() {
            let k = found[i] as usize;
            *code = C::from_index(k);
            let (value, weight) = (f64::from(value[i]), f64::from(weight[i]));
            sums.counts[k] += 1;
            sums.weights[k] += weight;
            sums.values[k] += weight * value;
            sums.sse += weight * (value - f64::from(book[k])).powi(2);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterParams, cluster, cluster_weighted, squared_error};
    use proptest::prelude::*;

    /// About normal, from a counter.
    fn values(count: u32) -> Vec<f32> {
        let part = |i: u32, j: u32| {
            let x = (i * 4 + j).wrapping_mul(2_654_435_761);
            f64::from((x ^ x >> 15).wrapping_mul(2_246_822_519) >> 8) / f64::from(1 << 24) - 0.5
        };
        (0..count).map(|i| (0..4).map(|j| part(i, j)).sum::<f64>() as f32).collect()
    }

    fn cost(priced: &Priced<u8>, price: f64) -> f64 {
        priced.sse + price * priced.bits
    }

    #[test]
    fn bits_fall_and_errors_rise_with_the_price() {
        let values = values(20_000);
        let start = cluster::<u8>(&values, &ClusterParams::new(32).unwrap()).unwrap();
        let from = Start { codebooks: &start.codebook, groups: 1, codes: &start.codes };
        let mut last: Option<Priced<u8>> = None;
        for price in [0.0, 1e-4, 1e-3, 1e-2] {
            let now = cluster_at_price(&values, None, from, price).unwrap();
            let error = squared_error(&values, None, &now.codes, &now.codebooks).unwrap();
            assert!((error - now.sse).abs() < 1e-6 * error, "{error} {}", now.sse);
            assert_eq!(now.bits, coded_bits(&histogram(&now.codes, now.codebooks.len())));
            assert!(histogram(&now.codes, now.codebooks.len()).iter().all(|&c| c > 0));
            if let Some(last) = &last {
                assert!(now.bits < last.bits && now.sse > last.sse, "{price}");
                assert!(cost(&now, price) <= cost(last, price) * (1.0 + 1e-3), "{price}");
            } else {
                assert!(now.sse <= start.sse * (1.0 + 1e-6));
            }
            last = Some(now);
        }
        let last = last.unwrap();
        assert!(last.codebooks.len() < 32, "{}", last.codebooks.len());
    }

    /// At the same entropy, fewer but dearer bits: the known gain of coding over codes of fixed width for a bell shape.
    #[test]
    fn a_price_beats_fewer_centroids_at_the_same_entropy() {
        let values = values(40_000);
        let fixed = |k| cluster::<u8>(&values, &ClusterParams::new(k).unwrap()).unwrap();
        let (eight, start) = (fixed(8), fixed(32));
        let entropy = coded_bits(&eight.counts);
        let from = Start { codebooks: &start.codebook, groups: 1, codes: &start.codes };
        let (mut low, mut high) = (1e-6, 1e-1);
        for _ in 0..20 {
            let middle = f64::sqrt(low * high);
            match cluster_at_price(&values, None, from, middle).unwrap().bits > entropy {
                true => low = middle,
                false => high = middle,
            }
        }
        let priced = cluster_at_price(&values, None, from, high).unwrap();
        assert!(priced.bits <= entropy && priced.sse < 0.9 * eight.sse, "{} {}", priced.sse, eight.sse);
    }

    #[test]
    fn starts_and_prices_that_do_not_fit_are_named() {
        let from = |codebooks, groups, codes| Start { codebooks, groups, codes };
        let bad = |from: Start<'_, u8>| cluster_at_price(&[1.0, 2.0], None, from, 1.0).unwrap_err();
        for start in [
            from(&[1.0], 0, &[0, 0]),
            from(&[], 1, &[0, 0]),
            from(&[1.0, 2.0], 1, &[0]),
            from(&[1.0, 2.0], 1, &[0, 2]),
            from(&[1.0, 2.0, 3.0], 2, &[0, 0]),
            from(&[1.0, 2.0, 3.0], 3, &[0, 0]),
        ] {
            assert!(matches!(bad(start), ClusterError::Start { values: 2, .. }), "{start:?}");
        }
        let good = from(&[1.0, 2.0], 1, &[0, 1]);
        for price in [-1.0, f64::NAN, f64::INFINITY] {
            let error = cluster_at_price(&[1.0, 2.0], None, good, price).unwrap_err();
            assert!(matches!(error, ClusterError::Price { .. }), "{error}");
        }
        assert!(cluster_at_price(&[1.0, f32::NAN], None, good, 1.0).is_err());
        assert!(cluster_at_price(&[1.0, 2.0], Some(&[1.0]), good, 1.0).is_err());
        let free = cluster_at_price(&[1.0, 2.0], None, good, 0.0).unwrap();
        assert_eq!((free.codebooks, free.codes, free.sse, free.bits), (vec![1.0, 2.0], vec![0, 1], 0.0, 2.0));
    }

    #[test]
    fn sorted_values_give_what_equal_weights_give() {
        let values = values(6000);
        let start = cluster::<u8>(&values, &ClusterParams::new(24).unwrap()).unwrap();
        // Both codebooks serve half of the values.
        let codebooks = [&start.codebook[..], &start.codebook[..]].concat();
        let from = Start { codebooks: &codebooks, groups: 2, codes: &start.codes };
        for price in [0.0, 1e-4, 1e-3, 1e-2] {
            let sorted = cluster_at_price(&values, None, from, price).unwrap();
            let weighted = cluster_at_price(&values, Some(&vec![1.0; values.len()]), from, price).unwrap();
            let (a, b) = (cost(&sorted, price), cost(&weighted, price));
            assert!((a - b).abs() <= 2e-3 * b, "{price}: {a} {b}");
            assert!(sorted.codebooks.len().abs_diff(weighted.codebooks.len()) <= 2);
        }
    }

    proptest! {
        /// Every value has the cheapest entry beside the bits of the last but one pass, and every pass lowers the cost.
        #[test]
        fn the_cost_never_rises(
            found in proptest::collection::vec(-100i32..100, 12..120),
            heavy in proptest::collection::vec(0u8..4, 120),
            k in 1usize..6,
            groups in 1usize..4,
            price in 0.0f64..400.0,
        ) {
            let run = found.len() / groups;
            let values: Vec<f32> = found[..run * groups].iter().map(|&v| v as f32).collect();
            let mut weights: Vec<f32> = heavy[..values.len()].iter().map(|&w| f32::from(w)).collect();
            weights.chunks_mut(run).for_each(|w| w[0] = 1.0);
            let (mut codebooks, mut codes) = (Vec::new(), Vec::new());
            for (values, weights) in values.chunks(run).zip(weights.chunks(run)) {
                let params = ClusterParams::new(k.min(run)).unwrap();
                let own = cluster_weighted::<u8>(values, weights, &params).unwrap();
                let last = *own.codebook.last().unwrap();
                codebooks.extend((0..k).map(|i| own.codebook.get(i).copied().unwrap_or(last)));
                codes.extend(own.codes);
            }
            let work = Work { values: &values, weights: Some(&weights), run, size: k, price };
            let error = |codebooks: &[f32], codes: &[u8]| -> f64 {
                let pairs = values.iter().zip(&weights).zip(codes).enumerate();
                pairs.map(|(i, ((&v, &w), &c))| {
                    let entry = codebooks[i / run * k + usize::from(c)];
                    f64::from(w) * (f64::from(v) - f64::from(entry)).powi(2)
                }).sum()
            };
            let mut counts = histogram(&codes, k);
            let mut before = error(&codebooks, &codes) + price * coded_bits(&counts);
            for _ in 0..8 {
                let (sse, next) = work.pass(&mut codebooks, &mut codes, &counts);
                let direct = error(&codebooks, &codes);
                prop_assert!((sse - direct).abs() <= 1e-6 * (1.0 + direct), "{} {}", sse, direct);
                prop_assert_eq!(&next, &histogram(&codes, k));
                let cost = sse + price * coded_bits(&next);
                prop_assert!(cost <= before * (1.0 + 1e-5) + 1e-3, "{} {}", cost, before);
                (before, counts) = (cost, next);
            }
            let from = Start { codebooks: &codebooks, groups, codes: &codes };
            let done = cluster_at_price(&values, Some(&weights), from, price).unwrap();
            prop_assert!(done.sse + price * done.bits <= before * (1.0 + 1e-5) + 1e-3);
        }
    }
}
