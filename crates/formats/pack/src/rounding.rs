//! Float parameters in 16 or 8 bits, where the caller asks for that.

use half::f16;
use slq_graph::{DType, TensorData};

/// How float parameters that have no palette are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloatStorage {
    /// As 32-bit floats, bit for bit.
    #[default]
    Exact,
    /// As 16-bit floats. A weight with values beyond 65 504 stays exact.
    Half,
    /// As 256 even steps from the least value of each weight to the largest.
    EightBit,
}

/// How far stored values are from the given ones.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RoundingError {
    /// Largest difference.
    pub max_abs: f32,
    /// Largest difference over the size of the value; infinite where a 0 has become something else.
    pub max_relative: f32,
}

/// Values of one weight in few bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Rounded {
    Half(Vec<f16>),
    Steps { first: f32, step: f32, codes: Vec<u8> },
}

/// Rounds `values`; `None` where they must stay exact.
pub(crate) fn round(values: &[f32], storage: FloatStorage) -> Option<Rounded> {
    if storage == FloatStorage::Exact || values.is_empty() || !values.iter().all(|v| v.is_finite()) {
        return None;
    }
    if storage == FloatStorage::Half {
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        return halves.iter().all(|h| h.is_finite()).then_some(Rounded::Half(halves));
    }
    let (first, last) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    let step = (last - first) / 255.0;
    if !step.is_normal() {
        return None;
    }
    let code =
        |&v: &f32| ((f64::from(v) - f64::from(first)) / f64::from(step)).round().clamp(0.0, 255.0) as u8;
    Some(Rounded::Steps { first, step, codes: values.iter().map(code).collect() })
}

/// The value of a code.
pub(crate) fn step_value(first: f32, step: f32, code: u8) -> f32 {
    first + step * f32::from(code)
}

impl Rounded {
    /// The values that a reader gets.
    pub fn values(&self) -> Vec<f32> {
        match self {
            Rounded::Half(halves) => halves.iter().map(|h| h.to_f32()).collect(),
            Rounded::Steps { first, step, codes } => {
                codes.iter().map(|&code| step_value(*first, *step, code)).collect()
            }
        }
    }

    /// What is stored of each value.
    pub fn data(&self) -> TensorData {
        match self {
            Rounded::Half(halves) => {
                TensorData::Raw(DType::F16, halves.iter().flat_map(|h| h.to_le_bytes()).collect())
            }
            Rounded::Steps { codes, .. } => TensorData::U8(codes.clone()),
        }
    }

    /// How far they are from `values`.
    pub fn error(&self, values: &[f32]) -> RoundingError {
        let mut error = RoundingError::default();
        for (stored, &value) in self.values().into_iter().zip(values) {
            let difference = (stored - value).abs();
            error.max_abs = error.max_abs.max(difference);
            if difference > 0.0 {
                error.max_relative = error.max_relative.max(difference / value.abs());
            }
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_keep_eleven_bits_where_they_reach() {
        let values = [1.0, -0.333_333_34, 65_504.0, 0.0, -0.0, 1e-4];
        let small = round(&[1e-7, 1e-9], FloatStorage::Half).unwrap().error(&[1e-7, 1e-9]);
        assert!(small.max_relative == 1.0 && small.max_abs < 6e-8, "{small:?}");
        let rounded = round(&values, FloatStorage::Half).unwrap();
        let error = rounded.error(&values);
        assert!(error.max_relative <= 1.0 / 2048.0 && error.max_relative > 0.0, "{error:?}");
        assert_eq!(rounded.values()[4].to_bits(), (-0.0f32).to_bits());
        for beyond in [65_520.0, f32::NAN, f32::INFINITY] {
            assert_eq!(round(&[1.0, beyond], FloatStorage::Half), None, "{beyond}");
        }
    }

    #[test]
    fn steps_are_at_most_half_a_step_away() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * 3.0 - 1.0).collect();
        let rounded = round(&values, FloatStorage::EightBit).unwrap();
        let Rounded::Steps { step, .. } = rounded else { panic!() };
        let error = rounded.error(&values);
        assert!(error.max_abs <= step * 0.501 && error.max_abs > step * 0.4, "{error:?}, step {step}");
        for (what, values) in
            [("one value", &[2.5, 2.5][..]), ("too wide", &[f32::MIN, f32::MAX]), ("none", &[])]
        {
            assert_eq!(round(values, FloatStorage::EightBit), None, "{what}");
        }
    }

    #[test]
    fn exact_is_not_rounded() {
        assert_eq!(round(&[1.0], FloatStorage::Exact), None);
    }
}
