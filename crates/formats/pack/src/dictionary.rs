//! Weights of few different values that have no palette: shared weights of Caffe's files, for instance.

use std::collections::HashMap;

/// Values of a weight, each once, and the number of each weight's value.
pub(crate) struct Dictionary {
    /// Different values by their bits, in the order of the floats.
    pub values: Vec<f32>,
    /// One for each weight.
    pub codes: Vec<u8>,
}

/// Values from which a dictionary is worth it.
const LEAST: usize = 1 << 12;

impl Dictionary {
    /// The dictionary of `values`, if they are many and at most 256 are different.
    pub fn of(values: &[f32]) -> Option<Self> {
        if values.len() < LEAST {
            return None;
        }
        let mut numbers: HashMap<u32, u8> = HashMap::new();
        let mut last = !values[0].to_bits();
        for bits in values.iter().map(|v| v.to_bits()) {
            if bits != last && numbers.insert(bits, 0).is_none() && numbers.len() > 256 {
                return None;
            }
            last = bits;
        }
        let mut distinct: Vec<f32> = numbers.keys().map(|&bits| f32::from_bits(bits)).collect();
        distinct.sort_by(f32::total_cmp);
        for (number, value) in distinct.iter().enumerate() {
            numbers.insert(value.to_bits(), number as u8);
        }
        let codes = values.iter().map(|v| numbers[&v.to_bits()]).collect();
        Some(Self { values: distinct, codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_dictionary() {
        let values: Vec<f32> = (0..5000).map(|i| [0.5, -0.0, 0.0, f32::NAN, -2.0][i * i % 5]).collect();
        let found = Dictionary::of(&values).unwrap();
        let back: Vec<u32> = found.codes.iter().map(|&c| found.values[usize::from(c)].to_bits()).collect();
        assert_eq!(back, values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        assert!(found.values.is_sorted_by(|a, b| a.total_cmp(b).is_lt()));
    }

    #[test]
    fn others_have_none() {
        assert!(Dictionary::of(&[1.0; LEAST - 1]).is_none(), "too few");
        let all: Vec<f32> = (0..5000).map(|i| (i % 257) as f32).collect();
        assert!(Dictionary::of(&all).is_none(), "too many different ones");
        assert!(Dictionary::of(&all.iter().map(|v| v.min(255.0)).collect::<Vec<_>>()).is_some());
    }
}
