//! What suits network and data where nobody says: augmentation of the training images, the learning rate.

use slq_compress::LoweredRate;
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

    /// Lowers the learning rates of the stages where the usual one would ruin the network; what was found.
    ///
    /// # Errors
    /// Those of [`slq_compress::suit_rate`].
    pub fn suit_rate(&mut self, inputs: &Inputs, isa: Isa) -> Result<Option<LoweredRate>, Error> {
        let Some(data) = &inputs.data else { return Ok(None) };
        let found = slq_compress::suit_rate(&inputs.model.graph, data, &mut self.stages, (self.seed, isa))?;
        self.lowered_rate = found;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use slq_compress::{Effort, Quantize, Situation, recommended};

    use super::*;

    /// The sample network and its data, and the same network on pixels that are 256 times as large.
    #[test]
    fn a_network_of_raw_pixels_takes_a_lower_rate_and_the_usual_one_stays_for_others() {
        let (model, data) = crate::sample().unwrap();
        let data = data.for_model(&model).unwrap();
        let situation = Situation::of(&model.graph, data.train.len());
        let stages = recommended(&model.graph, Quantize::slq(4), &situation, Effort::Normal).unwrap();
        let found = |graph, data| {
            let mut stages = stages.clone();
            let found = slq_compress::suit_rate(graph, data, &mut stages, (0, Isa::detect())).unwrap();
            (found, stages)
        };
        assert_eq!(found(&model.graph, &data), (None, stages.clone()));

        let mut raw = model.graph.clone();
        let first = raw.quantizable()[0].weight.clone();
        let weights = raw.weights[&first].tensor.as_f32_mut().unwrap();
        weights.iter_mut().for_each(|w| *w /= 256.0);
        let mut bright = data.clone();
        bright.transform.scale = Some(256.0 * bright.transform.scale.unwrap_or(1.0));
        let (lowered, now) = found(&raw, &bright);
        let lowered = lowered.unwrap();
        assert!(lowered.rate < lowered.usual / 2.0 && lowered.rate > lowered.usual / 1e4, "{lowered:?}");
        assert!(lowered.warning().message.contains("--lr"));
        let rate = |stages: &[slq_compress::Stage]| match stages.last() {
            Some(slq_compress::Stage::Quantize(q)) => q.method.training().unwrap().learning_rate,
            other => panic!("{other:?}"),
        };
        assert!((rate(&now) / rate(&stages) - lowered.rate / lowered.usual).abs() < 1e-12);

        // Several short rounds are tried as a whole.
        let short = Quantize::slq(4).training(|t| t.length = slq_compress::Length::Iterations(6));
        let mut short = vec![slq_compress::Stage::Quantize(short)];
        let found = slq_compress::suit_rate(&raw, &bright, &mut short, (0, Isa::detect())).unwrap().unwrap();
        assert!(found.steps > 6 && found.steps <= 60, "{found:?}");
    }
}
