//! Augmentation of the training images by what the network bears.

use slq_engine::Isa;

use super::file::JobFile;
use super::inputs::Inputs;
use crate::Error;
use crate::detect::{Augmentation, detect_augmentation};

impl JobFile {
    /// Augments the training images where the network bears it, and sets the options that stand for it; what was found.
    ///
    /// # Errors
    /// Those of [`detect_augmentation`].
    pub fn augment(&mut self, inputs: &mut Inputs, isa: Isa) -> Result<Option<Augmentation>, Error> {
        let Some(data) = &mut inputs.data else { return Ok(None) };
        if data.train.inputs().is_some() {
            return Ok(None);
        }
        let Some(found) = detect_augmentation(&inputs.model.graph, data, isa)? else { return Ok(None) };
        self.data.augment(&found);
        data.transform = self.data.adjusted(data.transform.clone())?;
        inputs.preprocessing.iter_mut().for_each(|p| p.transform = data.transform.clone());
        Ok(Some(found))
    }
}
