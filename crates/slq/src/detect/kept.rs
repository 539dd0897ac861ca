//! Preprocessing that was detected once: a job that is resumed takes it from its run directory.

use serde::{Deserialize, Serialize};
use slq_compress::Accuracy;
use slq_data::{Split, Transform};

use super::candidates::usual;
use super::preprocessing::Detection;

/// What was detected, as a run directory keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Detected {
    /// What the preprocessing is called, such as `0 to 1`.
    pub name: String,
    /// Images of the comparison.
    pub images: usize,
    /// The float network's accuracy on them; `None` where it was found by batch-norm statistics.
    pub accuracy: Option<Accuracy>,
}

impl From<&Detection> for Detected {
    fn from(from: &Detection) -> Self {
        Self { name: from.name.into(), images: from.images, accuracy: from.accuracy }
    }
}

impl Detected {
    /// The same for the images of `split`, with the sizes, crops and augmentation of `base`; `None` where these images have no
    /// usual preprocessing of that name.
    pub(crate) fn on(&self, split: &Split, base: &Transform) -> Option<Detection> {
        let candidate = usual(base, split).iter().find(|c| c.name == self.name)?;
        Some(candidate.found(candidate.transform(base), self.accuracy, self.images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_preprocessing_is_found_again_by_its_name() {
        let base = Transform { mirror: true, ..Transform::default() };
        for channels in [1, 3] {
            let split = Split::from_bytes(vec![0; channels * 4], vec![0], [channels, 2, 2]).unwrap();
            for candidate in usual(&base, &split) {
                let detection = candidate.found(candidate.transform(&base), None, 64);
                let again = Detected::from(&detection).on(&split, &base).unwrap();
                assert_eq!((again.transform, again.flags), (detection.transform, detection.flags));
            }
            let other = Detected { name: "none".into(), images: 64, accuracy: None };
            assert!(other.on(&split, &base).is_none());
        }
    }
}
