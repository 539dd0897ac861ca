//! One pass: the cheapest division of a segment when every free cluster costs an extra penalty.
//!
//! `best[j] = min over i of best[i] + cost(i, j) + penalty` is solved left to right. By the Monge property a
//! later start `i` that once beats an earlier one beats it ever after, so the starts that can still win form a
//! queue, each with the first end at which it wins (Galil and Park, "Dynamic programming with convexity,
//! concavity and sparsity", 1992). That first end is close to its neighbour's, and is galloped for from there.

use super::wide::WideSums;

/// Where a path comes from when its first cluster belongs to the fixed centroid on the left.
const FROM_LEFT: u32 = u32::MAX;

/// Values between two neighbouring fixed centroids (either may be missing) as prefix sums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// Weight and value sum before each of the distinct values, and after the last.
    pub prefix: &'a [[f64; 2]],
    /// The same in twice the precision and with squares; empty if that is not needed. Centroids are then about
    /// zero and costs are squared errors in full.
    pub wide: &'a [WideSums],
    /// Number of values before each of the distinct ones; empty if there is no minimum size.
    pub counts: &'a [u64],
    /// Fixed centroid at the left end, about the pivot.
    pub left: Option<f64>,
    /// Fixed centroid at the right end, about the pivot.
    pub right: Option<f64>,
    /// Smallest number of values in a free cluster.
    pub min_size: u64,
}

/// Memory of the passes, kept between them.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    best: Vec<f64>,
    from: Vec<u32>,
    queue: Vec<(u32, u32)>,
}

/// Squared error less the sum of squares of the values, of the free clusters `nodes[i]..nodes[i + 1]` and the
/// fixed ones around them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Division {
    /// Ends of the free clusters: values before the first belong to the left centroid, those from the last on
    /// to the right one.
    pub nodes: Vec<u32>,
    /// Squared error less the sum of squares, without the penalties.
    pub cost: f64,
}

impl Segment<'_> {
    /// Number of distinct values.
    pub fn len(&self) -> usize {
        self.prefix.len() - 1
    }

    #[inline(always)]
    fn interval<const WIDE: bool>(&self, i: usize, j: usize) -> f64 {
        if WIDE {
            return WideSums::error(&self.wide[i], &self.wide[j]);
        }
        let (a, b) = (self.prefix[i], self.prefix[j]);
        let sum = b[1] - a[1];
        -(sum * sum) / (b[0] - a[0])
    }

    /// Cost of values `i..j` in the cluster of a fixed centroid.
    fn fixed(&self, centroid: f64, i: usize, j: usize) -> f64 {
        if !self.wide.is_empty() {
            return WideSums::error_about(&self.wide[i], &self.wide[j], centroid);
        }
        let (a, b) = (self.prefix[i], self.prefix[j]);
        centroid * (centroid * (b[0] - a[0]) - 2.0 * (b[1] - a[1]))
    }

    /// Cost of a division given by its nodes.
    pub fn cost(&self, nodes: &[u32]) -> f64 {
        let n = self.len();
        let (first, last) = (nodes[0] as usize, nodes[nodes.len() - 1] as usize);
        let ends = nodes.windows(2).map(|p| (p[0] as usize, p[1] as usize));
        let free: f64 = if self.wide.is_empty() {
            ends.map(|(i, j)| self.interval::<false>(i, j)).sum()
        } else {
            ends.map(|(i, j)| self.interval::<true>(i, j)).sum()
        };
        let left = self.left.map_or(0.0, |c| self.fixed(c, 0, first));
        let right = self.right.map_or(0.0, |c| self.fixed(c, last, n));
        free + left + right
    }

    /// The cheapest division at this penalty, or `None` if the minimum size allows none.
    pub fn pass(&self, penalty: f64, work: &mut Workspace) -> Option<Division> {
        let n = self.len();
        if n == 0 {
            return Some(Division { nodes: vec![0], cost: 0.0 });
        }
        work.best.clear();
        work.best.resize(n + 1, f64::INFINITY);
        work.from.clear();
        work.from.resize(n + 1, FROM_LEFT);
        work.queue.clear();
        work.best[0] = 0.0;
        match (self.min_size > 1, !self.wide.is_empty()) {
            (false, false) => self.fill::<false, false>(penalty, work),
            (false, true) => self.fill::<false, true>(penalty, work),
            (true, false) => self.fill::<true, false>(penalty, work),
            (true, true) => self.fill::<true, true>(penalty, work),
        }
        let mut end = n;
        if let Some(centroid) = self.right {
            let total = |i: usize| work.best[i] + self.fixed(centroid, i, n);
            let mut least = total(n);
            for i in (0..n).rev() {
                let cost = total(i);
                if cost < least {
                    (end, least) = (i, cost);
                }
            }
        }
        if work.best[end] == f64::INFINITY {
            return None;
        }
        let mut nodes = vec![end as u32];
        while end > 0 && work.from[end] != FROM_LEFT {
            end = work.from[end] as usize;
            nodes.push(end as u32);
        }
        nodes.reverse();
        let cost = self.cost(&nodes);
        Some(Division { nodes, cost })
    }

    fn fill<const SIZED: bool, const WIDE: bool>(&self, penalty: f64, work: &mut Workspace) {
        let n = self.len();
        let Workspace { best, from, queue } = work;
        let mut head = 0;
        let mut next = 0;
        for j in 1..=n {
            // A start can end here once its cluster is large enough.
            while next < j && (!SIZED || self.counts[j] - self.counts[next] >= self.min_size) {
                if best[next] < f64::INFINITY {
                    self.insert::<WIDE>(best, queue, head, next, j);
                }
                next += 1;
            }
            while head + 1 < queue.len() && queue[head + 1].1 as usize <= j {
                head += 1;
            }
            if let Some(&(start, first)) = queue.get(head)
                && first as usize <= j
            {
                let i = start as usize;
                best[j] = best[i] + self.interval::<WIDE>(i, j) + penalty;
                from[j] = start;
            }
            if let Some(centroid) = self.left {
                let cost = self.fixed(centroid, 0, j);
                if cost <= best[j] {
                    best[j] = cost;
                    from[j] = FROM_LEFT;
                }
            }
        }
    }

    /// Puts start `i` into the queue, which serves ends from `now` on.
    #[inline(always)]
    fn insert<const WIDE: bool>(
        &self,
        best: &[f64],
        queue: &mut Vec<(u32, u32)>,
        head: usize,
        i: usize,
        now: usize,
    ) {
        let n = self.len();
        let beats = |other: u32, end: usize| {
            best[i] + self.interval::<WIDE>(i, end)
                <= best[other as usize] + self.interval::<WIDE>(other as usize, end)
        };
        // First end from which `i` is known to win over all that were dropped.
        let mut known = n + 1;
        let mut push_at = now;
        while queue.len() > head {
            let (other, first) = queue[queue.len() - 1];
            let first = (first as usize).max(now);
            if beats(other, first) {
                known = first;
                queue.pop();
                continue;
            }
            // Loses at `first`; gallop for the first end where it wins.
            let mut low = first;
            let mut step = 1;
            let mut high = known;
            while low + step < high {
                if beats(other, low + step) {
                    high = low + step;
                    break;
                }
                low += step;
                step *= 2;
            }
            while low + 1 < high {
                let middle = low + (high - low) / 2;
                if beats(other, middle) { high = middle } else { low = middle }
            }
            if high > n {
                return;
            }
            push_at = high;
            break;
        }
        queue.push((i as u32, push_at as u32));
    }
}
