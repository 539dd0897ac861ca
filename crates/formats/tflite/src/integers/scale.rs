//! What an integer of 8 bits stands for.

use crate::model::Quantization;

/// (integer - zero) x scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) scale: f32,
    pub(crate) zero: i32,
}

impl Scale {
    /// The scale at which 256 integers cover `range` and 0, which one of them stands for.
    pub(super) fn of([low, high]: [f32; 2]) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = ((high - low) / 255.0) as f32;
        if !scale.is_normal() {
            return Self { scale: 1.0, zero: 0 };
        }
        let zero = (-128.0 - low / f64::from(scale)).round().clamp(-128.0, 127.0);
        Self { scale, zero: zero as i32 }
    }

    /// The integer closest to `value`.
    pub(super) fn integer(self, value: f32) -> i8 {
        let at = (f64::from(value) / f64::from(self.scale)).round() + f64::from(self.zero);
        at.clamp(-128.0, 127.0) as i8
    }

    /// Smallest and largest number that an integer stands for.
    pub(super) fn covers(self) -> [f32; 2] {
        [-128, 127].map(|q| (q - self.zero) as f32 * self.scale)
    }

    pub(super) fn quantization(self) -> Quantization {
        Quantization { scales: vec![self.scale], zeros: vec![self.zero.into()], axis: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_ends_are_reached() {
        for range in [[-1.0, 3.0], [0.0, 6.0], [0.5, 2.0], [-4.0, -1.0], [-1e-3, 1e-4]] {
            let scale = Scale::of(range);
            let back = |v: f32| (i32::from(scale.integer(v)) - scale.zero) as f32 * scale.scale;
            assert_eq!(back(0.0), 0.0, "{range:?}");
            for v in range {
                assert!((back(v) - v).abs() <= scale.scale, "{range:?}: {v} becomes {}", back(v));
            }
        }
        assert_eq!(Scale::of([0.0, 0.0]), Scale { scale: 1.0, zero: 0 });
        assert_eq!(Scale::of([0.0, 2.55]).zero, -128);
        let covers = Scale::of([-1.0, 1.0]).covers();
        assert!(covers[0] < -0.99 && covers[1] > 0.99, "{covers:?}");
    }
}
