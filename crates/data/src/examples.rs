//! Splits of examples for networks with named inputs of any shapes.

use crate::split::{InputArray, check_lengths};
use crate::storage::Storage;
use crate::{DataError, Split};

impl Split {
    /// A split of examples for a network with named inputs: `examples` holds for each one all its inputs one after the other,
    /// in the order of `inputs`, integers as floats. Without `labels`, the examples serve to compare networks by their outputs.
    ///
    /// # Errors
    /// [`DataError::Dimensions`] if the lengths do not agree, [`DataError::NotFinite`].
    pub fn from_inputs(
        inputs: Vec<InputArray>,
        examples: Vec<f32>,
        labels: Option<Vec<u32>>,
    ) -> Result<Split, DataError> {
        let values: usize = inputs.iter().map(|i| i.shape.iter().product::<usize>()).sum();
        let count = examples.len().checked_div(values).unwrap_or(0);
        let labelled = labels.is_some();
        let labels = labels.unwrap_or_else(|| vec![0; count]);
        check_lengths(examples.len(), labels.len(), [1, 1, values])?;
        if let Some(index) = examples.iter().position(|v| !v.is_finite()) {
            return Err(DataError::NotFinite { array: "the inputs".into(), index });
        }
        let whole = Split::whole(Storage::Floats { data: examples, shape: [1, 1, values] }, labels);
        Ok(Split { inputs: Some(inputs.into()), labelled, ..whole })
    }

    /// The inputs that each example holds one after the other; `None` for images.
    pub fn inputs(&self) -> Option<&[InputArray]> {
        self.inputs.as_deref()
    }

    /// Whether there are labels; without them, [`labels`](Self::labels) are all 0.
    pub fn is_labelled(&self) -> bool {
        self.labelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Portion, Transform};

    #[test]
    fn examples_hold_several_inputs_and_stay_whole() {
        let input = |name: &str, shape: &[usize]| InputArray { name: name.into(), shape: shape.to_vec() };
        let inputs = vec![input("ids", &[2]), input("scale", &[])];
        let values: Vec<f32> = (0..30).map(|i| i as f32).collect();
        let split = Split::from_inputs(inputs.clone(), values.clone(), None).unwrap();
        assert_eq!((split.len(), split.is_labelled(), split.inputs()), (10, false, Some(&inputs[..])));
        let transform = Transform::default();
        for batch in split.batches(4, &transform, Mode::Train { seed: 1, epoch: 0 }, false).unwrap() {
            let batch = batch.unwrap();
            for (row, &position) in batch.images.chunks(3).zip(&batch.positions) {
                assert_eq!(row, &values[3 * position as usize..][..3]);
            }
        }
        let (rest, part) = split.split_off_validation(Portion::Count(3), 0).unwrap();
        assert_eq!((rest.len(), part.len(), part.is_labelled()), (7, 3, false));
        let labelled = Split::from_inputs(inputs.clone(), values.clone(), Some(vec![0; 10])).unwrap();
        assert!(labelled.is_labelled() && labelled.fingerprint() != split.fingerprint());
        assert!(Split::from_inputs(inputs.clone(), values[1..].to_vec(), None).is_err());
        assert!(Split::from_inputs(inputs.clone(), vec![f32::NAN; 3], None).is_err());
        assert!(Split::from_inputs(inputs, values, Some(vec![0; 9])).is_err());
    }
}
