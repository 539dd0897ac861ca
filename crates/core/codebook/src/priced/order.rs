//! The same passes on sorted values: without weights the values of an entry are neighbours, so that a pass takes a few look-ups
//! an entry.

use crate::{ClusterError, SortedValues, coded_bits};

/// Most passes.
const MOST: usize = 200;
/// A pass that lowers the cost by a smaller share ends the work.
const LEAST: f64 = 1e-6;

/// Makes passes, each of which returns the cost behind it, until they stall. Returns their number.
pub(super) fn until_stalled(mut pass: impl FnMut() -> f64) -> usize {
    let mut before = f64::INFINITY;
    for iteration in 1..=MOST {
        let cost = pass();
        if before - cost <= LEAST * cost {
            return iteration;
        }
        before = cost;
    }
    MOST
}

/// What the code of each entry costs by how often the entries are taken; nothing for those that nothing takes.
pub(super) fn penalties(counts: &[u64], price: f64) -> Vec<Option<f64>> {
    let total: f64 = counts.iter().map(|&c| c as f64).sum();
    counts.iter().map(|&c| (c > 0).then(|| price * (total / c as f64).log2())).collect()
}

/// Moves the entries of `codebooks` (of `size` entries, each codebook for the next `run` values) by passes as those of
/// [`super::cluster_at_price`] until they stall; `counts` tells how often each entry is taken, before and after. Returns the
/// number of passes.
pub(super) fn lower(
    (values, run): (&[f32], usize),
    codebooks: &mut [f32],
    counts: &mut [u64],
    price: f64,
) -> Result<usize, ClusterError> {
    let sorted: Vec<_> = values.chunks(run).map(SortedValues::new).collect::<Result<_, _>>()?;
    Ok(until_stalled(|| pass(&sorted, codebooks, counts, price) + price * coded_bits(counts)))
}

/// One pass; the squared error behind it.
fn pass(sorted: &[SortedValues], codebooks: &mut [f32], counts: &mut [u64], price: f64) -> f64 {
    let penalties = penalties(counts, price);
    counts.fill(0);
    let mut sse = 0.0;
    for (sorted, book) in sorted.iter().zip(codebooks.chunks_exact_mut(penalties.len())) {
        let cheapest = cheapest(book, &penalties);
        let (mut start, mut before) = (0, [0.0, 0.0]);
        sse += sorted.total_square();
        for (i, &(entry, _)) in cheapest.iter().enumerate() {
            let next = cheapest.get(i + 1).map(|c| c.1);
            let end =
                next.map_or(sorted.len(), |cut| sorted.values().partition_point(|&v| f64::from(v) < cut));
            let after = sorted.prefix(end);
            let [weight, sum] = [after[0] - before[0], after[1] - before[1]];
            if end > start {
                counts[entry] += (end - start) as u64;
                let moved = (sorted.pivot() + sum / weight) as f32;
                let off = f64::from(moved) - sorted.pivot();
                sse += weight * off * off - 2.0 * off * sum;
                book[entry] = moved;
            }
            (start, before) = (end, after);
        }
    }
    sse.max(0.0)
}

/// The entries that are the cheapest for some value, in ascending order, each with the least value that it is the cheapest for.
/// `(x - c)^2 + p` are parabolas of one shape, so that their lower envelope is one of lines.
fn cheapest(book: &[f32], penalties: &[Option<f64>]) -> Vec<(usize, f64)> {
    let value = |k: usize| f64::from(book[k]);
    let penalty = |k: usize| penalties[k].unwrap_or(f64::INFINITY);
    let mut order: Vec<usize> = (0..book.len()).filter(|&k| penalties[k].is_some()).collect();
    order.sort_by(|&a, &b| value(a).total_cmp(&value(b)).then(penalty(a).total_cmp(&penalty(b))));
    order.dedup_by(|b, a| value(*a) == value(*b));
    let mut found: Vec<(usize, f64)> = Vec::with_capacity(order.len());
    for entry in order {
        let cut = loop {
            let Some(&(last, from)) = found.last() else { break f64::NEG_INFINITY };
            let (a, b) = (value(last), value(entry));
            let cut = 0.5 * (a + b) + (penalty(entry) - penalty(last)) / (2.0 * (b - a));
            if cut > from {
                break cut;
            }
            found.pop();
        };
        found.push((entry, cut));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_envelope_is_the_cheapest_of_all(
            entries in proptest::collection::vec((-50i32..50, 0u32..400, any::<bool>()), 1..12),
            at in proptest::collection::vec(-70i32..70, 20),
        ) {
            let book: Vec<f32> = entries.iter().map(|e| e.0 as f32 * 0.5).collect();
            let mut penalties: Vec<Option<f64>> =
                entries.iter().map(|e| e.2.then(|| f64::from(e.1))).collect();
            penalties[0] = penalties[0].or(Some(3.0));
            let found = cheapest(&book, &penalties);
            prop_assert!(found.windows(2).all(|w| w[0].1 < w[1].1));
            for x in at.into_iter().map(f64::from) {
                let cost = |k: usize| (x - f64::from(book[k])).powi(2) + penalties[k].unwrap_or(f64::INFINITY);
                let least = (0..book.len()).map(cost).fold(f64::INFINITY, f64::min);
                let (entry, _) = found[found.partition_point(|f| f.1 <= x) - 1];
                prop_assert!((cost(entry) - least).abs() < 1e-9 * (1.0 + least), "{} {}", cost(entry), least);
            }
        }
    }
}
