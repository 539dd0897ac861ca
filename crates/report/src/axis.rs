//! Axes: from values to places in a picture, with round numbers to mark.

/// Logarithm of the ratio of largest to smallest below which a linear axis has more round values to mark.
const NARROW: f64 = 1.8;

/// A linear or logarithmic axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Places of `low` and `high` in the picture.
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over all finite `values`, a little wider than they are; 0 to 1 where there are none.
    pub(crate) fn over(values: impl Iterator<Item = f64>, [from, to]: [f64; 2]) -> Self {
        let [low, high] = extent(values).unwrap_or([0.0, 1.0]);
        let margin = match high - low {
            d if d > 0.0 => 0.06 * d,
            _ => (0.05 * high.abs()).max(1e-3),
        };
        Self { low: low - margin, high: high + margin, log: false, from, to }
    }

    /// The same on a logarithmic scale, where values span more than a few times the smallest; they must be above 0.
    pub(crate) fn logarithmic(values: impl Iterator<Item = f64>, [from, to]: [f64; 2]) -> Self {
        let positive: Vec<f64> = values.filter(|v| *v > 0.0).collect();
        let [low, high] = extent(positive.iter().map(|v| v.ln())).unwrap_or([0.0, 1.0]);
        if high - low < NARROW {
            return Self::over(positive.into_iter(), [from, to]);
        }
        let margin = (0.08 * (high - low)).max(0.1);
        Self { low: low - margin, high: high + margin, log: true, from, to }
    }

    /// An axis from `low` to `high` exactly.
    pub(crate) fn exact(low: f64, high: f64, [from, to]: [f64; 2]) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, log: false, from, to }
    }

    /// The same axis, not beyond these values.
    pub(crate) fn within(mut self, least: f64, most: f64) -> Self {
        self.low = self.low.max(least);
        self.high = self.high.min(most);
        if self.high <= self.low {
            (self.low, self.high) = (least, most);
        }
        self
    }

    /// The place of a value; one outside lies on the border.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        let share = if share.is_nan() { 0.0 } else { share };
        self.from + share * (self.to - self.from)
    }

    /// Round values on the axis, at most eight.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if self.log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let span = self.high - self.low;
        if !(span.is_finite() && span > 0.0) {
            return Vec::new();
        }
        let rough = span / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.low / step).ceil();
        (0..8).map(|i| (first + f64::from(i)) * step).filter(|t| *t <= self.high + 1e-9 * span).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        for power in (self.low / std::f64::consts::LN_10).floor() as i32.. {
            for m in [1.0, 2.0, 5.0] {
                let tick = m * 10f64.powi(power);
                if tick.ln() > self.high || ticks.len() > 20 {
                    let every = ticks.len().div_ceil(7).max(1);
                    return ticks.into_iter().step_by(every).collect();
                }
                if tick.ln() >= self.low {
                    ticks.push(tick);
                }
            }
        }
        ticks
    }
}

/// Smallest and largest of the finite values.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values.filter(|v| v.is_finite()).fold(None, |found, v| match found {
        None => Some([v, v]),
        Some([low, high]) => Some([low.min(v), high.max(v)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::exact(0.0, 1.0, [0.0, 100.0]);
        assert_eq!(axis.ticks(), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert!((axis.place(0.25) - 25.0).abs() < 1e-9);
        let log = Axis::logarithmic([1e3, 1e6].into_iter(), [0.0, 100.0]);
        assert!(log.ticks().len() >= 3 && log.ticks().len() <= 7, "{:?}", log.ticks());
    }

    proptest! {
        #[test]
        fn every_axis_has_few_ticks_and_places_inside(values in prop::collection::vec(any::<f64>(), 0..8), at in any::<f64>()) {
            for axis in [
                Axis::over(values.iter().copied(), [10.0, 90.0]),
                Axis::logarithmic(values.iter().copied(), [10.0, 90.0]),
            ] {
                prop_assert!(axis.ticks().len() <= 8);
                let place = axis.place(at);
                prop_assert!((10.0..=90.0).contains(&place), "{place}");
            }
        }
    }
}
