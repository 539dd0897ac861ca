//! What clustering goes by beside the values of the weights: what an error of each counts, and codebooks to start from.

use std::collections::HashMap;

use slq_data::Split;
use slq_graph::{Graph, Palette};

use super::calibrate::stage::{announce, go_on, spec};
use super::calibrate::{
    CalibrateSettings, CalibrationPart, Job, LayerSpec, Outcome, State, calibrate, input_importance,
};
use super::choices::CodebookKind;
use super::importance::{Importance, importance_of};
use super::layer::Layer;
use crate::context::Context;
use crate::error::CompressError;
use crate::inputs::{Inputs, SplitInputs};
use crate::progress::Observer;
use crate::train::TrainingData;

/// Inputs that are looked at, without their labels, at most.
pub(super) const IMAGES: usize = 512;

/// Guides of the layers of a job, by the names of their weights.
#[derive(Debug, Default)]
pub(crate) struct Guides {
    /// What an error of each weight counts; all alike where there is nothing.
    pub(super) importance: Option<Importance>,
    /// Codebooks of a calibration.
    pub(super) start: HashMap<String, Palette>,
    /// Layers that have none although they were asked for, and why.
    pub(super) without: Vec<(String, String)>,
}

/// The guide of one layer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Guide<'a> {
    /// What an error of each weight counts.
    pub(crate) importance: Option<&'a [f32]>,
    /// Codebooks to start from.
    pub(crate) start: Option<&'a Palette>,
}

impl Guides {
    /// The guide of a layer.
    pub(crate) fn of(&self, weight: &str) -> Guide<'_> {
        Guide { importance: importance_of(self.importance.as_ref(), weight), start: self.start.get(weight) }
    }

    /// Weighs errors by the second moments of the inputs that weights meet in `graph`.
    ///
    /// # Errors
    /// [`CompressError::Calibrate`].
    pub(super) fn weigh_by_inputs(
        &mut self,
        graph: &Graph,
        layers: &[Layer],
        inputs: &dyn Inputs,
        context: Context<'_>,
    ) -> Result<(), CompressError> {
        let specs: Vec<LayerSpec> = layers.iter().map(|l| spec(graph, l)).collect();
        let options = CalibrateSettings::default().options(context.seed, context.isa);
        let reducer = context.reducer;
        let job = Job { float: graph, layers: &specs, inputs, options: &options, rises: &[], reducer };
        let mut importance = Importance::new();
        for (layer, found) in layers.iter().zip(input_importance(&job)?) {
            match found {
                Ok(found) => drop(importance.insert(layer.weight.clone(), found)),
                Err(reason) => self.without.push((layer.weight.clone(), reason)),
            }
        }
        self.importance = Some(importance);
        Ok(())
    }

    /// Takes the codebooks of a calibration of `graph`, without scales of rows, which would be other weights' codebooks.
    ///
    /// # Errors
    /// [`CompressError::Calibrate`] and [`CompressError::Interrupted`].
    pub(super) fn start_calibrated(
        &mut self,
        graph: &Graph,
        (layers, codebook): (&[Layer], CodebookKind),
        inputs: &dyn Inputs,
        context: Context<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), CompressError> {
        let specs: Vec<LayerSpec> = layers.iter().map(|l| spec(graph, l)).collect();
        let without = vec![CalibrationPart::Scales];
        let settings = CalibrateSettings { codebook, without, ..CalibrateSettings::default() };
        let options = settings.options(context.seed, context.isa);
        let reducer = context.reducer;
        let job = Job { float: graph, layers: &specs, inputs, options: &options, rises: &[], reducer };
        let (mut state, mut stopped) = (State::new(graph), false);
        let done = calibrate(&job, &mut state, &mut |done| {
            announce(&done, observer);
            go_on(&done, observer, reducer, &mut stopped)
        });
        if stopped {
            return Err(CompressError::Interrupted);
        }
        done?;
        for report in state.reports {
            if let Outcome::Clustered { reason } = report.outcome {
                self.without.push((report.weight, reason));
            } else if let Some(palette) =
                state.graph.weights.get_mut(&report.weight).and_then(|w| w.palette.take())
            {
                self.start.insert(report.weight, palette);
            }
        }
        Ok(())
    }

    /// What the user should know: which layers have no guide.
    pub(super) fn warning(&self) -> Option<String> {
        let (first, reason) = self.without.first()?;
        Some(format!(
            "{} of the layers, {first} among them, were clustered by their weights alone: the inputs that they get are not known \
             ({reason})",
            self.without.len()
        ))
    }
}

/// Some of the training images, without their labels.
pub(super) fn some_of(
    graph: &Graph,
    data: &TrainingData,
    train: &Split,
    seed: u64,
) -> Result<SplitInputs, CompressError> {
    let images = train.shuffled(seed).subset(&format!("0:{}", IMAGES.min(train.len())))?;
    Ok(SplitInputs::new(graph, images, data.transform.clone()))
}

#[cfg(test)]
mod tests {
    use slq_graph::Tensor;

    use super::*;
    use crate::progress::{Event, Silent};
    use crate::quantize::Quantize;
    use crate::quantize::select::select_layers;

    fn inputs(graph: &Graph) -> Vec<Vec<(String, Tensor)>> {
        let pixels = (0..8 * 784).map(|i| ((i * 31) % 97) as f32 / 97.0).collect();
        vec![vec![(graph.inputs[0].name.clone(), Tensor::f32(vec![8, 1, 28, 28], pixels).unwrap())]]
    }

    #[test]
    fn every_layer_has_a_guide_or_a_reason() {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let layers = select_layers(&graph, &Quantize::slq(2)).unwrap();
        let (inputs, context) = (inputs(&graph), Context::bare());
        let mut guides = Guides::default();
        guides.weigh_by_inputs(&graph, &layers, &inputs, context).unwrap();
        let kind = (&layers[..], CodebookKind::Free);
        guides.start_calibrated(&graph, kind, &inputs, context, &mut Silent).unwrap();
        for layer in &layers {
            let Guide { importance: Some(importance), start: Some(start) } = guides.of(&layer.weight) else {
                panic!("{layer:?} has no guide");
            };
            assert_eq!((importance.len(), start.codebook_size()), (layer.count, 4));
            assert!(importance.iter().all(|&s| s > 0.0));
        }
        assert!(guides.warning().is_none());
        // What stands behind an operator that the engine lacks is not reached.
        let relu = graph.nodes.iter_mut().rfind(|n| n.op == "Relu").unwrap();
        relu.op = "Unheard".into();
        let mut guides = Guides::default();
        guides.weigh_by_inputs(&graph, &layers, &inputs, context).unwrap();
        let last = &layers[layers.len() - 1].weight;
        assert!(guides.of(last).importance.is_none() && guides.of(&layers[0].weight).importance.is_some());
        let text = guides.warning().unwrap();
        assert!(text.contains(last) && text.contains("Unheard"), "{text}");
    }

    #[test]
    fn a_calibration_stops_when_it_is_asked_to() {
        struct Stop;
        impl Observer for Stop {
            fn on(&mut self, _: &Event<'_>) {}
            fn stop(&mut self) -> bool {
                true
            }
        }
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let layers = select_layers(&graph, &Quantize::slq(2)).unwrap();
        let (inputs, kind) = (inputs(&graph), (&layers[..], CodebookKind::Free));
        let done = Guides::default().start_calibrated(&graph, kind, &inputs, Context::bare(), &mut Stop);
        assert!(matches!(done, Err(CompressError::Interrupted)), "{done:?}");
    }
}
