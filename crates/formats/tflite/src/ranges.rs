//! Ranges of a network's values, which integers are to cover.

use std::collections::BTreeMap;

/// Intervals between the smallest and the largest element of a value, in which elements are counted.
const BINS: usize = 2048;
/// Elements that are counted at once.
const COUNTED: usize = 1 << 15;
/// Ends of a range that are tried, from the middle of each side on.
const TRIED: usize = 64;

/// The ranges of a network's values, by the values' names, over the inputs that it was run on: first the smallest and the largest
/// element of each ([`widen`](Ranges::widen)), then, on the same inputs again, how elements lie between them
/// ([`count`](Ranges::count)).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranges {
    values: BTreeMap<String, Spread>,
    /// Number of inputs that they were measured on.
    pub inputs: usize,
}

/// How the elements of a value lie.
#[derive(Debug, Clone, PartialEq)]
struct Spread {
    low: f32,
    high: f32,
    /// Elements in intervals of equal width, zeros left out: an integer stands for zero exactly.
    counts: Vec<u64>,
}

impl Ranges {
    /// Takes in the smallest and largest of `elements` of the value `name`; whether all of them are finite.
    pub fn widen(&mut self, name: &str, elements: &[f32]) -> bool {
        let Some([low, high]) = ends(elements) else { return true };
        // Without an early end, so that it is computed by vectors.
        let finite = elements.iter().fold(true, |all, v| all & v.is_finite());
        if finite {
            let none = Spread { low, high, counts: Vec::new() };
            let spread = self.values.entry(name.into()).or_insert(none);
            (spread.low, spread.high) = (spread.low.min(low), spread.high.max(high));
        }
        finite
    }

    /// Counts `elements` of the value `name`.
    pub fn count(&mut self, name: &str, elements: &[f32]) {
        let Some(spread) = self.values.get_mut(name) else { return };
        spread.counts.resize(BINS, 0);
        let (low, step) = (f64::from(spread.low), spread.step());
        // Some of very many show how they lie.
        let every = elements.len().div_ceil(COUNTED).max(1);
        for &element in elements.iter().step_by(every).filter(|e| **e != 0.0) {
            let at = ((f64::from(element) - low) / step).clamp(0.0, (BINS - 1) as f64);
            spread.counts[at as usize] += 1;
        }
    }

    /// The range of the value `name` at which rounding to 256 numbers moves its elements least, in squares: what lies outside is
    /// moved to its end. From the smallest to the largest element where they were not counted; `None` where it was not seen.
    pub fn get(&self, name: &str) -> Option<[f32; 2]> {
        self.values.get(name).map(Spread::best)
    }
}

/// The smallest and the largest of `elements`; `None` where there are none.
pub(crate) fn ends(elements: &[f32]) -> Option<[f32; 2]> {
    let (&first, _) = elements.split_first()?;
    let (mut low, mut high) = ([first; 16], [first; 16]);
    let (runs, rest) = elements.as_chunks::<16>();
    for run in runs {
        for i in 0..16 {
            low[i] = if run[i] < low[i] { run[i] } else { low[i] };
            high[i] = if run[i] > high[i] { run[i] } else { high[i] };
        }
    }
    let all = |lanes: [f32; 16], f: fn(f32, f32) -> f32| {
        lanes.into_iter().chain(rest.iter().copied()).fold(first, f)
    };
    Some([all(low, f32::min), all(high, f32::max)])
}

impl Spread {
    /// Width of an interval.
    fn step(&self) -> f64 {
        ((f64::from(self.high) - f64::from(self.low)) / BINS as f64).max(f64::MIN_POSITIVE)
    }

    fn best(&self) -> [f32; 2] {
        // Zero is inside any range.
        let (low, high) = (f64::from(self.low.min(0.0)), f64::from(self.high.max(0.0)));
        if self.counts.is_empty() {
            return [low as f32, high as f32];
        }
        let moments = self.moments();
        let ends = |end: f64| {
            let tried = if end == 0.0 { TRIED } else { 0 };
            (tried..=TRIED).rev().map(move |i| end * (0.1 + 0.9 * i as f64 / TRIED as f64))
        };
        let mut best = (f64::INFINITY, [low, high]);
        for from in ends(low) {
            for to in ends(high) {
                let error = self.error(&moments, [from, to]);
                // The wider one of equal ranges, which comes first.
                if error < best.0 {
                    best = (error, [from, to]);
                }
            }
        }
        best.1.map(|end| end as f32)
    }

    /// Up to each interval: the number of elements, their sum and the sum of their squares.
    fn moments(&self) -> Vec<[f64; 3]> {
        let mut sums = vec![[0.0; 3]];
        let mut sum = [0.0; 3];
        for (i, &count) in self.counts.iter().enumerate() {
            let (n, v) = (count as f64, f64::from(self.low) + (i as f64 + 0.5) * self.step());
            sum = [sum[0] + n, sum[1] + n * v, sum[2] + n * v * v];
            sums.push(sum);
        }
        sums
    }

    /// The sum of squares by which elements move that are rounded within `[from, to]`.
    fn error(&self, moments: &[[f64; 3]], [from, to]: [f64; 2]) -> f64 {
        let place =
            |v: f64| (((v - f64::from(self.low)) / self.step()).round().clamp(0.0, BINS as f64)) as usize;
        let (first, last) = (place(from), place(to));
        let all = moments[BINS];
        let moved = |[n, sum, squares]: [f64; 3], end: f64| squares - 2.0 * end * sum + n * end * end;
        let above = [0, 1, 2].map(|i| all[i] - moments[last][i]);
        let inside = moments[last][0] - moments[first][0];
        let step = (to - from) / 255.0;
        moved(moments[first], from).max(0.0) + moved(above, to).max(0.0) + inside * step * step / 12.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_with_what_is_seen() {
        let mut ranges = Ranges::default();
        assert!(ranges.widen("x", &[0.5, -1.0]) && ranges.widen("x", &[2.0]) && ranges.widen("y", &[]));
        assert!(!ranges.widen("x", &[f32::NAN, 9.0]));
        assert_eq!((ranges.get("x"), ranges.get("y")), (Some([-1.0, 2.0]), None));
        ranges.count("y", &[1.0]);
        ranges.widen("z", &[3.0, 3.0]);
        ranges.count("z", &[3.0, 3.0]);
        assert_eq!(ranges.get("z"), Some([0.0, 3.0]));
    }

    #[test]
    fn a_few_large_elements_are_cut_off_and_many_are_not() {
        let bell = |i: usize| ((i * 7919 % 10_000) as f32 / 10_000.0 - 0.5) * 2.0;
        let mut elements: Vec<f32> = (0..100_000).map(bell).collect();
        let best = |elements: &[f32]| {
            let mut ranges = Ranges::default();
            ranges.widen("x", elements);
            ranges.count("x", elements);
            ranges.get("x").unwrap()
        };
        let [low, high] = best(&elements);
        assert!(low < -0.98 && high > 0.98, "{low} {high}");
        elements.push(1.9);
        let [low, high] = best(&elements);
        assert!(low < -0.98 && high < 1.85 && high > 0.98, "{low} {high}");
    }

    #[test]
    fn the_error_is_that_of_rounding() {
        let elements: Vec<f32> =
            (0..20_000).map(|i| ((i * 7919 % 10_000) as f32 / 5_000.0 - 1.0).powi(3)).collect();
        let mut ranges = Ranges::default();
        ranges.widen("x", &elements);
        ranges.count("x", &elements);
        let spread = &ranges.values["x"];
        for range in [[-1.0, 1.0], [-0.8, 0.6], [-1.0, 0.5]] {
            let step = (range[1] - range[0]) / 255.0;
            let moved = |&v: &f32| {
                let at = (f64::from(v).clamp(range[0], range[1]) / step).round() * step;
                (at - f64::from(v)).powi(2)
            };
            let (expected, found) =
                (elements.iter().map(moved).sum::<f64>(), spread.error(&spread.moments(), range));
            assert!((found / expected - 1.0).abs() < 0.1, "{range:?}: {found} for {expected}");
        }
    }
}
