//! Prefix sums in twice the precision, for values whose optimal error is tiny beside their sum of squares.

use crate::SortedValues;

/// An unevaluated sum of two doubles, the second below half a unit in the last place of the first: 106 bits
/// (Dekker, "A floating-point technique for extending the available precision", 1971).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Wide {
    high: f64,
    low: f64,
}

impl Wide {
    #[inline(always)]
    fn sum(a: f64, b: f64) -> Self {
        let high = a + b;
        let part = high - a;
        Self { high, low: (a - (high - part)) + (b - part) }
    }

    /// Without a fused multiply-add, which not every machine has and whose emulation is slow.
    #[inline(always)]
    fn product(a: f64, b: f64) -> Self {
        let halves = |x: f64| {
            let scaled = x * ((1u64 << 27) + 1) as f64;
            let high = scaled - (scaled - x);
            (high, x - high)
        };
        let high = a * b;
        let ((a_high, a_low), (b_high, b_low)) = (halves(a), halves(b));
        let low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low;
        Self { high, low }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        let high = Self::sum(self.high, other.high);
        let low = Self::sum(self.low, other.low);
        let first = Self::sum(high.high, high.low + low.high);
        Self::sum(first.high, first.low + low.low)
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.plus(Self { high: -other.high, low: -other.low })
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        let product = Self::product(self.high, other.high);
        Self::sum(product.high, product.low + (self.high * other.low + self.low * other.high))
    }

    #[inline(always)]
    fn divided_by(self, other: Self) -> Self {
        let first = self.high / other.high;
        let rest = self.minus(other.times(Self { high: first, low: 0.0 }));
        Self::sum(first, rest.high / other.high)
    }

    #[inline(always)]
    fn value(self) -> f64 {
        self.high + self.low
    }
}

/// Share of a sum of squares below which a difference of it is rounding: a few units in the last of 106 bits.
const RESOLUTION: f64 = 1.0 / (1u128 << 100) as f64;

/// Weight, value sum and sum of squares (about zero) of everything before a value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct WideSums {
    weight: Wide,
    sum: Wide,
    square: Wide,
}

impl WideSums {
    /// Sums before each distinct value and after the last.
    pub fn prefix(sorted: &SortedValues) -> Vec<Self> {
        let mut prefix = Vec::new();
        let mut sums = Self::default();
        let mut last = None;
        for (i, &v) in sorted.values().iter().enumerate() {
            if last != Some(v) {
                prefix.push(sums);
                last = Some(v);
            }
            let w = sorted.weights().map_or(1.0, |w| f64::from(w[i]));
            let x = f64::from(v);
            // A product of two f32 fits a double, one of three fits a pair of them.
            sums.weight = sums.weight.plus(Wide { high: w, low: 0.0 });
            sums.sum = sums.sum.plus(Wide { high: w * x, low: 0.0 });
            sums.square = sums.square.plus(Wide::product(w * x, x));
        }
        prefix.push(sums);
        prefix
    }

    /// Squared error about the mean of what lies between two places.
    pub fn error(from: &Self, to: &Self) -> f64 {
        let sum = to.sum.minus(from.sum);
        let square = to.square.minus(from.square);
        let error = square.minus(sum.times(sum).divided_by(to.weight.minus(from.weight))).value();
        // One huge value alone has no error, and what rounding leaves of it would hide those of small values.
        if error > RESOLUTION * square.value() { error } else { 0.0 }
    }

    /// Squared error about `centroid` of what lies between two places.
    pub fn error_about(from: &Self, to: &Self, centroid: f64) -> f64 {
        let c = Wide { high: centroid, low: 0.0 };
        let twice = Wide { high: 2.0 * centroid, low: 0.0 };
        let square = to.square.minus(from.square);
        let cross = twice.times(to.sum.minus(from.sum));
        square.minus(cross).plus(c.times(c).times(to.weight.minus(from.weight))).value().max(0.0)
    }

    /// Mean of what lies between two places.
    pub fn mean(from: &Self, to: &Self) -> f64 {
        to.sum.minus(from.sum).divided_by(to.weight.minus(from.weight)).value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_errors_survive_beside_huge_values() {
        let sorted = SortedValues::new(&[1e30, 1.0, 2.0, 3.0, -1e25]).unwrap();
        let prefix = WideSums::prefix(&sorted);
        assert!((WideSums::error(&prefix[1], &prefix[4]) - 2.0).abs() < 1e-12);
        assert_eq!(WideSums::error(&prefix[4], &prefix[5]), 0.0);
        assert!((WideSums::mean(&prefix[1], &prefix[4]) - 2.0).abs() < 1e-15);
        assert!((WideSums::error_about(&prefix[1], &prefix[3], 0.5) - 2.5).abs() < 1e-12);
    }

    #[test]
    fn a_value_alone_has_no_error_beside_ones_36_decades_smaller() {
        let sorted = SortedValues::new(&[2e26, 6e-26, -1e-10, 5e-11]).unwrap();
        let prefix = WideSums::prefix(&sorted);
        for i in 0..4 {
            assert_eq!(WideSums::error(&prefix[i], &prefix[i + 1]), 0.0, "{i}");
        }
        assert!((WideSums::error(&prefix[1], &prefix[3]) / 1.25e-21 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn weights_multiply() {
        let sorted = SortedValues::weighted(&[0.1, 0.7], &[0.3, 2.5]).unwrap();
        let prefix = WideSums::prefix(&sorted);
        let (a, b, v, w) = (f64::from(0.1f32), f64::from(0.7f32), f64::from(0.3f32), 2.5);
        let expected = v * w / (v + w) * (a - b) * (a - b);
        assert!((WideSums::error(&prefix[0], &prefix[2]) / expected - 1.0).abs() < 1e-14);
        assert!((WideSums::mean(&prefix[0], &prefix[2]) - (a * v + b * w) / (v + w)).abs() < 1e-15);
    }
}
