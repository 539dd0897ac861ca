//! Finding the penalty at which the optimum has the number of clusters asked for.

use super::path::splice;
use super::penalty::{Division, Segment, Workspace};

/// The best divisions of all segments with `k` free clusters together.
#[derive(Debug, Clone)]
pub(crate) struct Optimum {
    pub divisions: Vec<Division>,
    /// Lower bound on the cost of any division with `k` free clusters.
    pub bound: f64,
    /// A penalty that gives it.
    pub penalty: f64,
}

/// All segments solved at one penalty.
#[derive(Debug, Clone)]
struct Vertex {
    divisions: Vec<Division>,
    penalty: f64,
    clusters: usize,
    cost: f64,
}

/// Most passes, after which the bracket is joined as it is; never reached when sums are exact.
const MAX_PASSES: usize = 200;

/// Solves for `k` free clusters. `scale` is the cost range of the problem (the sum of squares about the mean);
/// `guess` a penalty to begin with. `None` if the minimum size allows no solution.
pub(crate) fn search(segments: &[Segment], k: usize, scale: f64, guess: Option<f64>) -> Option<Optimum> {
    let mut work = Workspace::default();
    let mut bound = f64::NEG_INFINITY;
    let mut solve = |penalty: f64| -> Option<Vertex> {
        let mut vertex =
            Vertex { divisions: Vec::with_capacity(segments.len()), penalty, clusters: 0, cost: 0.0 };
        for segment in segments {
            let division = segment.pass(penalty, &mut work)?;
            vertex.clusters += division.nodes.len() - 1;
            vertex.cost += division.cost;
            vertex.divisions.push(division);
        }
        bound = bound.max(vertex.cost + penalty * (vertex.clusters as f64 - k as f64));
        Some(vertex)
    };
    let done = |vertex: Vertex, bound: f64| {
        Some(Optimum { penalty: vertex.penalty, divisions: vertex.divisions, bound })
    };
    // Above every gain a cluster can bring there are as few clusters as possible, below zero as many.
    let extreme = 2.0 * scale + f64::MIN_POSITIVE;
    let (mut few, mut many): (Option<Vertex>, Option<Vertex>) = (None, None);
    // The cost falls about as 1 / k^2, so the gain of one more cluster about as 1 / k^3.
    let mut penalty = guess.unwrap_or(5.0 * scale / (k as f64 + 0.5).powi(3));
    let mut last_chord = false;
    // Steps to one side grow, for errors that fall by many powers of ten from one number to the next.
    let mut stride = 1;
    for pass in 0..MAX_PASSES {
        let vertex = solve(penalty)?;
        if vertex.clusters == k {
            return done(vertex, bound);
        }
        let inside = |few: &Option<Vertex>, many: &Option<Vertex>| {
            few.as_ref().is_none_or(|f| vertex.clusters > f.clusters)
                && many.as_ref().is_none_or(|m| vertex.clusters < m.clusters)
        };
        let progress = inside(&few, &many);
        if vertex.clusters < k {
            few = Some(vertex);
        } else {
            many = Some(vertex);
        }
        if last_chord && !progress {
            break;
        }
        last_chord = false;
        let target = k as f64 + 0.25;
        penalty = match (&few, &many) {
            (Some(f), Some(m)) => {
                let chord = (f.cost - m.cost) / (m.clusters - f.clusters) as f64;
                let slope = (m.penalty / f.penalty).ln()
                    / ((m.clusters as f64 + 0.5) / (f.clusters as f64 + 0.5)).ln();
                let power = f.penalty * (target / (f.clusters as f64 + 0.5)).powf(slope);
                if pass < 12 && power > m.penalty && power < f.penalty {
                    power
                } else {
                    last_chord = true;
                    chord
                }
            }
            (Some(f), None) if pass < 24 && f.penalty > 0.0 => {
                stride *= 2;
                f.penalty * ((f.clusters as f64 + 0.5) / target).powi(3).min(0.9).powi(stride / 2)
            }
            (None, Some(m)) if pass < 24 && m.penalty < extreme => {
                stride *= 2;
                (m.penalty * ((m.clusters as f64 + 0.5) / target).powi(3).max(1.1).powi(stride / 2))
                    .min(extreme)
            }
            (Some(_), None) => -extreme,
            _ => extreme,
        };
        if (few.is_none() && many.as_ref().is_some_and(|m| m.penalty >= extreme))
            || (many.is_none() && few.as_ref().is_some_and(|f| f.penalty < 0.0))
        {
            return None;
        }
    }
    join(segments, few?, many?, k, bound)
}

/// Takes divisions from `many` until the target is passed, joins that one, and leaves the rest as in `few`.
fn join(segments: &[Segment], few: Vertex, many: Vertex, k: usize, bound: f64) -> Option<Optimum> {
    let mut clusters = few.clusters;
    let mut divisions = few.divisions;
    for ((segment, division), other) in segments.iter().zip(&mut divisions).zip(many.divisions) {
        let (a, b) = (division.nodes.len() - 1, other.nodes.len() - 1);
        if clusters == k || b <= a {
            continue;
        }
        let target = b.min(a + k - clusters);
        clusters += target - a;
        *division = if target == b { other } else { splice(segment, division, &other, target) };
    }
    (clusters == k).then_some(Optimum { divisions, bound, penalty: many.penalty })
}

#[cfg(test)]
mod tests {
    use super::super::layered::divide_layers;
    use super::super::points::Points;
    use super::*;
    use crate::SortedValues;

    /// Numbers whose low bits look random.
    fn noise(i: u32) -> u32 {
        i.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(2_246_822_519) >> 8
    }

    #[test]
    fn agrees_with_the_table_of_all_k() {
        let inputs: [(&str, Vec<f32>); 5] = [
            ("random", (0..700).map(|i| noise(i) as f32 / 1e6).collect()),
            ("even grid, all gains alike", (0..700).map(|i| i as f32).collect()),
            ("coarse grid with repeats", (0..2000).map(|i| (noise(i) % 60) as f32).collect()),
            ("heaps", (0..700).map(|i| (noise(i) % 7) as f32 * 1e3 + (noise(i) % 11) as f32).collect()),
            ("powers", (0..120).map(|i| 1.2f32.powi(i - 60)).collect()),
        ];
        for (name, values) in inputs {
            let sorted = SortedValues::new(&values).unwrap();
            let points = Points::new(&sorted, 1);
            let segments = points.segments(&[], 1);
            let most = 50.min(segments[0].len() - 1);
            for (c, ends) in divide_layers(&points.prefix, most).iter().enumerate() {
                let expected = segments[0].cost(ends);
                let optimum = search(&segments, c + 1, sorted.total_square(), None).unwrap();
                let got = &optimum.divisions[0];
                let rounding = 1e-12 * sorted.total_square();
                assert_eq!(got.nodes.len(), c + 2, "{name}");
                assert!(
                    (got.cost - expected).abs() <= rounding,
                    "{name}, k = {}: {} {expected}",
                    c + 1,
                    got.cost
                );
                assert!((optimum.bound - expected).abs() <= rounding, "{name}, k = {}: bound", c + 1);
            }
        }
    }

    #[test]
    fn a_wrong_guess_only_costs_time() {
        let values: Vec<f32> = (0..3000).map(|i| noise(i) as f32).collect();
        let sorted = SortedValues::new(&values).unwrap();
        let points = Points::new(&sorted, 1);
        let segments = points.segments(&[], 1);
        let scale = sorted.total_square();
        let cost = |guess| search(&segments, 17, scale, guess).unwrap().divisions[0].cost;
        for guess in [1e-300, 1.0, scale, 1e300] {
            assert!((cost(Some(guess)) - cost(None)).abs() <= 1e-12 * scale, "{guess}");
        }
    }
}
