//! Values sorted into fine bins that keep weight and sum.

use slq_kernels::Isa;
use slq_kernels::cluster::{self as kernels, BLOCK, LANES, SIDE, Spread};
use slq_kernels::parallel::prelude::*;

use crate::assign::CHUNK;
use crate::exact::penalty::{Division, Segment};
use crate::thresholds::cut;

const BINS: usize = 2 * SIDE as usize;
/// Most tables filled side by side; a fixed number, so that sums do not depend on the number of threads.
const SHARDS: usize = 16;
/// Rounding of the three float operations that find a bin, and as much again.
const ROUNDING: f64 = 1.0 / (1 << 22) as f64;

/// Bins that hold at least one value of positive weight, in ascending order.
pub(super) struct Bins {
    spread: Spread,
    /// Weight and value sum about the pivot before each bin and after the last.
    prefix: Vec<[f64; 2]>,
    /// Number of every bin.
    numbers: Vec<u16>,
    /// Which of them hold more than one distinct value, as far as is known.
    mixed: Vec<bool>,
    /// Weighted sum of squares about the pivot.
    square: f64,
    reach: f64,
}

/// Count, mean and range of the values.
struct Range {
    sum: f64,
    square: f64,
    low: f32,
    high: f32,
}

impl Range {
    fn of(values: &[f32]) -> Self {
        let parts: Vec<Range> = values.par_chunks(CHUNK).map(Self::of_chunk).collect();
        parts.into_iter().fold(Self { sum: 0.0, square: 0.0, low: f32::MAX, high: f32::MIN }, |a, b| Self {
            sum: a.sum + b.sum,
            square: a.square + b.square,
            low: a.low.min(b.low),
            high: a.high.max(b.high),
        })
    }

    fn of_chunk(values: &[f32]) -> Self {
        let extent = kernels::extent_of(Isa::detect(), values);
        Self {
            sum: extent.sums.iter().sum(),
            square: extent.squares.iter().sum(),
            low: extent.lows.into_iter().fold(f32::MAX, f32::min),
            high: extent.highs.into_iter().fold(f32::MIN, f32::max),
        }
    }
}

/// What one shard finds.
struct Table {
    /// Weight and value sum about the pivot of every bin.
    sums: Vec<[f64; 2]>,
    square: f64,
}

impl Table {
    fn fill(values: &[f32], weights: Option<&[f32]>, spread: Spread) -> Self {
        let pivot = f64::from(spread.pivot);
        let mut sums = vec![[0.0f64; 2]; BINS];
        let mut bins = [0u16; BLOCK];
        let centre = [spread.pivot; BLOCK];
        let mut squares = [0.0; LANES];
        for (b, values) in values.chunks(BLOCK).enumerate() {
            let bins = &mut bins[..values.len()];
            let weights = weights.map(|w| &w[b * BLOCK..b * BLOCK + values.len()]);
            kernels::bins_of(Isa::detect(), values, spread, bins);
            kernels::add_errors(Isa::detect(), values, &centre[..values.len()], weights, &mut squares);
            match weights {
                None => {
                    for (&bin, &x) in bins.iter().zip(values) {
                        let sum = &mut sums[usize::from(bin)];
                        *sum = [sum[0] + 1.0, sum[1] + (f64::from(x) - pivot)];
                    }
                }
                Some(weights) => {
                    for ((&bin, &x), &w) in bins.iter().zip(values).zip(weights) {
                        let sum = &mut sums[usize::from(bin)];
                        let w = f64::from(w);
                        *sum = [sum[0] + w, sum[1] + w * (f64::from(x) - pivot)];
                    }
                }
            }
        }
        Self { sums, square: squares.iter().sum() }
    }
}

impl Bins {
    /// Two passes over the values. `None` if their range is too wide or too narrow for f32 arithmetic on it.
    pub fn collect(values: &[f32], weights: Option<&[f32]>) -> Option<Self> {
        let range = Range::of(values);
        let n = values.len() as f64;
        let mean = range.sum / n;
        let deviation = (range.square / n - mean * mean).max(0.0).sqrt();
        let spread = Spread { pivot: mean as f32, s: (2.0 * deviation) as f32 };
        let reach = (f64::from(range.high) - mean).max(mean - f64::from(range.low)) * (1.0 + ROUNDING);
        if !(spread.s > 1e-30 && reach < 1e30 && f64::from(spread.s) > mean.abs() * 1e-4) {
            return None;
        }
        let shard = values.len().div_ceil((values.len() >> 20).clamp(1, SHARDS)).next_multiple_of(BLOCK);
        let shards: Vec<(usize, &[f32])> = values.chunks(shard).enumerate().collect();
        let tables: Vec<Table> = shards
            .into_par_iter()
            .map(|(i, values)| {
                let weights = weights.map(|w| &w[i * shard..i * shard + values.len()]);
                Table::fill(values, weights, spread)
            })
            .collect();
        let square = tables.iter().map(|t| t.square).sum();
        let mut prefix = Vec::with_capacity(BINS + 1);
        let (mut numbers, mut mixed) = (Vec::with_capacity(BINS), Vec::with_capacity(BINS));
        let mut before = [0.0f64; 2];
        for bin in 0..BINS {
            let mut sum = [0.0f64; 2];
            for table in &tables {
                sum = [sum[0] + table.sums[bin][0], sum[1] + table.sums[bin][1]];
            }
            if sum[0] > 0.0 {
                prefix.push(before);
                numbers.push(bin as u16);
                // A single value cannot be divided; of weighted ones the number is not known.
                mixed.push(weights.is_some() || sum[0] > 1.0);
                before = [before[0] + sum[0], before[1] + sum[1]];
            }
        }
        prefix.push(before);
        Some(Self { spread, prefix, numbers, mixed, square, reach })
    }

    /// Number of bins that are not empty.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Weighted sum of squares about the pivot.
    pub fn square(&self) -> f64 {
        self.square
    }

    /// No cluster can gain more than this.
    pub fn scale(&self, fixed: &[f32]) -> f64 {
        let [weight, sum] = self.prefix[self.len()];
        let about = |&c: &f32| {
            let c = self.relative(c);
            self.square - 2.0 * c * sum + c * c * weight
        };
        fixed.iter().map(about).fold(self.square, f64::max)
    }

    fn relative(&self, x: f32) -> f64 {
        f64::from(x) - f64::from(self.spread.pivot)
    }

    /// Weight and mean about the pivot of a bin.
    fn bin(&self, i: usize) -> (f64, f64) {
        let (a, b) = (self.prefix[i], self.prefix[i + 1]);
        (b[0] - a[0], (b[1] - a[1]) / (b[0] - a[0]))
    }

    /// Position of the first bin whose mean is not below `x`.
    fn first_not_below(&self, x: f32) -> usize {
        let x = self.relative(x);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.bin(middle).1 < x { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The line cut at the fixed centroids; a bin belongs to the side of its mean.
    pub fn segments(&self, fixed: &[f32]) -> Vec<Segment<'_>> {
        let mut start = 0;
        (0..=fixed.len())
            .map(|s| {
                let right = fixed.get(s).copied();
                let end = right.map_or(self.len(), |f| self.first_not_below(f)).max(start);
                let segment = Segment {
                    prefix: &self.prefix[start..=end],
                    wide: &[],
                    counts: &[],
                    left: s.checked_sub(1).map(|l| self.relative(fixed[l])),
                    right: right.map(|f| self.relative(f)),
                    min_size: 1,
                };
                start = end;
                segment
            })
            .collect()
    }

    /// Range about the pivot of what falls into a bin, rounding included.
    fn edges(&self, i: usize) -> (f64, f64) {
        let number = i32::from(self.numbers[i]);
        let from_end = if number < SIDE { number } else { 2 * SIDE - 1 - number };
        let s = f64::from(self.spread.s);
        let offset = |j: i32, rounding: f64| f64::from(SIDE) * s / f64::from(j) * rounding - s;
        let near = if from_end == SIDE - 1 { 0.0 } else { offset(from_end + 1, 1.0 - ROUNDING).max(0.0) };
        let far = if from_end == 0 { self.reach } else { offset(from_end, 1.0 + ROUNDING).min(self.reach) };
        let far = far.max(near);
        if number < SIDE { (-far, -near) } else { (near, far) }
    }

    /// What the division at bin borders can lose at most against any codebook of error `upper` or less.
    pub fn slack(&self, borders: usize, fixed: &[f32], upper: f64) -> f64 {
        let spread = |i: usize| {
            let (low, high) = self.edges(i);
            if self.mixed[i] { self.bin(i).0 * (high - low).powi(2) } else { 0.0 }
        };
        let mut largest: Vec<f64> = (0..self.len()).map(spread).collect();
        let around_fixed: f64 = fixed
            .iter()
            .map(|&f| {
                let at = self.first_not_below(f);
                let near = [at.checked_sub(1), Some(at).filter(|&at| at < self.len())];
                near.into_iter().flatten().map(|i| largest[i]).sum::<f64>()
            })
            .sum();
        if borders < largest.len() {
            largest.select_nth_unstable_by(borders, |a, b| b.total_cmp(a));
            largest.truncate(borders);
        }
        let sum: f64 = largest.iter().sum();
        (upper * sum).sqrt() + sum + around_fixed
    }

    /// Means of the divisions with the fixed centroids between them, ascending, and which are fixed.
    pub fn codebook(
        &self,
        segments: &[Segment],
        divisions: &[Division],
        fixed: &[f32],
    ) -> (Vec<f32>, Vec<bool>) {
        let (mut codebook, mut flags) = (Vec::new(), Vec::new());
        for (s, (segment, division)) in segments.iter().zip(divisions).enumerate() {
            for pair in division.nodes.windows(2) {
                let (a, b) = (segment.prefix[pair[0] as usize], segment.prefix[pair[1] as usize]);
                codebook.push((f64::from(self.spread.pivot) + (b[1] - a[1]) / (b[0] - a[0])) as f32);
                flags.push(false);
            }
            if let Some(&centroid) = fixed.get(s) {
                codebook.push(centroid);
                flags.push(true);
            }
        }
        (codebook, flags)
    }

    /// Lloyd's iteration on an ascending codebook, with values taken to lie evenly inside each bin.
    pub fn polish(&self, codebook: &mut [f32], fixed: &[bool], max_passes: usize) {
        for _ in 0..max_passes {
            let mut moved = false;
            let mut before = [0.0, 0.0];
            for i in 0..codebook.len() {
                let border = codebook.get(i + 1).map(|&next| (codebook[i], next));
                let after = match border {
                    Some((a, b)) if a < b => self.below(cut(a, b, false)),
                    Some(_) => before,
                    None => self.prefix[self.len()],
                };
                let [weight, sum] = [after[0] - before[0], after[1] - before[1]];
                before = after;
                if weight > 0.0 && !fixed[i] {
                    let mean = (f64::from(self.spread.pivot) + sum / weight) as f32;
                    moved |= mean != codebook[i];
                    codebook[i] = mean;
                }
            }
            if !moved {
                break;
            }
        }
    }

    /// Weight and value sum of what lies below `x`, to the accuracy of even density inside one bin.
    fn below(&self, x: f32) -> [f64; 2] {
        let mut number = [0];
        kernels::bins_of(Isa::Scalar, &[x], self.spread, &mut number);
        let at = self.numbers.partition_point(|&n| n < number[0]);
        let mut below = self.prefix[at];
        if self.numbers.get(at) == Some(&number[0]) {
            let (weight, mean) = self.bin(at);
            let (low, high) = self.edges(at);
            let part =
                if high > low { ((self.relative(x) - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
            below[0] += part * weight;
            below[1] += part * weight * (mean - (high - low) * 0.5 * (1.0 - part));
        }
        below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_inside_the_edges_of_its_bin() {
        let values: Vec<f32> = (0..200_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .map(|u| u / (1.001 - u.abs()))
            .collect();
        let bins = Bins::collect(&values, None).unwrap();
        let mut numbers = vec![0; values.len()];
        kernels::bins_of(Isa::Scalar, &values, bins.spread, &mut numbers);
        for (&x, number) in values.iter().zip(&numbers) {
            let (low, high) = bins.edges(bins.numbers.binary_search(number).unwrap());
            let offset = f64::from(x) - f64::from(bins.spread.pivot);
            assert!(low <= offset && offset <= high, "{x}: {low} {high}");
        }
        let total = bins.prefix[bins.len()];
        assert_eq!(total[0], 200_000.0);
        let sum: f64 = values.iter().map(|&x| bins.relative(x)).sum();
        assert!((total[1] - sum).abs() < 1e-6);
    }

    #[test]
    fn mass_below_a_value_is_nearly_counted() {
        let values: Vec<f32> = (0..150_000).map(|i| (i as f32 / 1000.0).sin() * 3.0).collect();
        let bins = Bins::collect(&values, None).unwrap();
        for x in [-2.9f32, -1.0, 0.0, 0.37, 2.5] {
            let count = values.iter().filter(|v| **v < x).count() as f64;
            let [weight, _] = bins.below(x);
            assert!((weight - count).abs() < 40.0, "{x}: {weight} {count}");
        }
        assert_eq!(bins.below(10.0)[0], 150_000.0);
        assert_eq!(bins.below(-10.0)[0], 0.0);
    }
}
