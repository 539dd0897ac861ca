//! The figures of a job.

use serde::{Deserialize, Serialize};
use slq_graph::Graph;

use super::recipe::{Recipe, Stage};
use crate::damage::Damage;
use crate::inputs::Origin;
use crate::low_rank::DecomposeReport;
use crate::progress::{Accuracy, Reference, RoundReport};
use crate::quantize::calibrate::stage::warnings;
use crate::quantize::outcome::QuantizeReport;
use crate::quantize::select::columns_warning;
use crate::quantize::{CalibrationReport, Coverage, MethodName};
use crate::search::SearchReport;
use crate::size::{Size, width_warning};
use crate::train::FineTuneReport;

/// The figures of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageReport {
    /// See [`Stage::FineTune`](crate::Stage::FineTune).
    FineTune(FineTuneReport),
    /// See [`Stage::Decompose`](crate::Stage::Decompose).
    Decompose(Box<DecomposeReport>),
    /// See [`Stage::Quantize`](crate::Stage::Quantize), with the search under a budget.
    Quantize(Box<QuantizeReport>, Option<SearchReport>),
    /// See [`Stage::Tune`](crate::Stage::Tune).
    Tune(RoundReport),
}

/// Something that the user should know of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Its kind: `damage`, `clustered`, `few-samples`, `random-inputs`, `preprocessing`, `sync-batch-norm`, `granularity`,
    /// `size`, `unguided`.
    pub kind: String,
    /// What there is to know.
    pub message: String,
}

/// The figures of a job, in one view: those of its quantization, with what other stages did beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The quantization's method.
    pub method: Option<MethodName>,
    /// Bits asked for.
    pub bits: Option<u8>,
    /// K of a layer without a rule of its own.
    pub codebook_size: Option<usize>,
    /// Test accuracy of the network as it came; `None` without data.
    pub baseline: Option<Accuracy>,
    /// Test accuracy of the network that the job made; `None` without data.
    #[serde(rename = "final")]
    pub final_accuracy: Option<Accuracy>,
    /// The float network treated equally; `None` where it was not asked for.
    #[serde(default)]
    pub reference: Option<Reference>,
    /// Rounds of the quantization, and of the training of shared values behind it.
    pub rounds: Vec<RoundReport>,
    /// Sizes of the network that the job made.
    pub size: Size,
    /// Which weights the quantization covers.
    #[serde(flatten)]
    pub coverage: Coverage,
    /// Share of inputs without labels that the network answers as the float network does; `None` where that was not
    /// compared.
    pub agreement: Option<f64>,
    /// The outputs beside those of the float network, on inputs without labels.
    pub damage: Option<Damage>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
    /// Seconds in all, earlier sittings of a resumed job included.
    pub seconds: f64,
    /// A search under a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// A calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationReport>,
    /// A low-rank decomposition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decompose: Option<DecomposeReport>,
    /// A fine-tuning at full precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_tune: Option<FineTuneReport>,
}

/// Share of the float network's accuracy below which a network is called ruined.
const RUINED: f64 = 0.5;

/// See [`Report::ruined`].
fn ruined(before: &Accuracy, after: &Accuracy, recipe: &Recipe) -> Option<Warning> {
    if before.unlabelled || after.top1 >= RUINED * before.top1 {
        return None;
    }
    let advice = match (recipe.quantizes(), recipe.trains()) {
        (true, true) => "more bits, longer rounds or a lower learning rate",
        (true, false) => "more bits",
        (false, true) => "a lower learning rate",
        (false, false) => "higher ranks, or fine-tuning",
    };
    let message = format!(
        "the network classifies {:.2} % of the test images, less than half of the {:.2} % before: it is of no use; {advice} may \
         keep more",
        100.0 * after.top1,
        100.0 * before.top1
    );
    Some(Warning { kind: "accuracy".into(), message })
}

impl Report {
    /// A warning where the network has less than half of the float network's accuracy.
    pub(super) fn ruined(&self, recipe: &Recipe) -> Option<Warning> {
        ruined(self.baseline.as_ref()?, self.final_accuracy.as_ref()?, recipe)
    }

    /// The view of `stages` on the network they made by `recipe`.
    pub(crate) fn new(graph: &Graph, recipe: &Recipe, stages: &[StageReport]) -> Self {
        let quantize = recipe.stages.iter().find_map(|stage| match stage {
            Stage::Quantize(settings) => Some(settings),
            _ => None,
        });
        let rules = quantize.map(|settings| settings.layers.as_slice());
        let mut report = Self {
            method: None,
            bits: None,
            codebook_size: None,
            baseline: None,
            final_accuracy: None,
            reference: None,
            rounds: Vec::new(),
            size: Size::of(graph),
            coverage: Coverage::of(graph, rules.unwrap_or_default()),
            agreement: None,
            damage: None,
            warnings: Vec::new(),
            seconds: 0.0,
            search: None,
            calibration: None,
            decompose: None,
            fine_tune: None,
        };
        for stage in stages {
            report.add(stage);
        }
        let columns = quantize.and_then(|settings| columns_warning(graph, settings.granularity));
        let width = width_warning(graph).map(|message| Warning { kind: "element-type".into(), message });
        report.warnings.extend(width);
        report.warnings.extend(columns.map(|message| Warning { kind: "granularity".into(), message }));
        report
    }

    /// Takes the outputs of the whole job beside those of the float network in place of those of a stage.
    pub(crate) fn compared(&mut self, damage: Damage) {
        self.warnings.retain(|w| w.kind != "damage");
        let message = damage.warning();
        self.warnings.extend(message.map(|message| Warning { kind: "damage".into(), message }));
        self.agreement = damage.agreement;
        self.damage = Some(damage);
    }

    fn add_damage(&mut self, r: &QuantizeReport) {
        // Random inputs lie so near the borders between classes that agreement on them says little.
        let given = r.damage.as_ref().filter(|d| d.inputs == Origin::Given);
        self.agreement = given.and_then(|d| d.agreement);
        self.damage = r.damage.clone();
        self.calibration = r.calibration.clone();
        let found = match &r.calibration {
            Some(calibration) => warnings(calibration),
            None => r.damage.iter().filter_map(Damage::warning).map(|text| ("damage", text)).collect(),
        };
        self.warnings.extend(found.into_iter().map(|(kind, message)| Warning { kind: kind.into(), message }));
        let unguided = r.unguided.clone();
        self.warnings.extend(unguided.map(|message| Warning { kind: "unguided".into(), message }));
    }

    fn add(&mut self, stage: &StageReport) {
        match stage {
            StageReport::FineTune(r) => {
                let baseline = self.baseline.or(Some(r.baseline));
                (self.baseline, self.final_accuracy) = (baseline, Some(r.final_accuracy));
                self.seconds += r.seconds;
                self.fine_tune = Some(r.clone());
            }
            StageReport::Decompose(r) => {
                (self.baseline, self.final_accuracy) = (self.baseline.or(r.baseline), r.final_accuracy);
                self.seconds += r.seconds;
                self.decompose = Some(*r.clone());
            }
            StageReport::Quantize(r, search) => {
                (self.baseline, self.final_accuracy) = (self.baseline.or(r.baseline), r.final_accuracy);
                self.method = Some(r.method);
                (self.bits, self.codebook_size) = (Some(r.bits), Some(r.codebook_size));
                self.rounds = r.rounds.clone();
                self.add_damage(r);
                self.seconds += r.seconds;
                self.search = search.clone();
                let few = search.as_ref().and_then(SearchReport::warning);
                self.warnings.extend(few.map(|message| Warning { kind: "few-inputs".into(), message }));
            }
            StageReport::Tune(r) => {
                self.baseline = self.baseline.or(r.before);
                self.final_accuracy = r.after;
                self.seconds += r.seconds;
                self.rounds.push(r.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Quantize;

    #[test]
    fn a_network_that_lost_more_than_half_is_called_ruined() {
        let accuracy = |top1, unlabelled| Accuracy { top1, top5: None, loss: 1.0, images: 100, unlabelled };
        let said = |before, after, settings| ruined(&before, &after, &Recipe::new(settings));
        let found = said(accuracy(0.85, false), accuracy(0.09, false), Quantize::slq(3)).unwrap();
        assert_eq!(found.kind, "accuracy");
        assert!(
            found.message.contains("9.00 %") && found.message.contains("learning rate"),
            "{}",
            found.message
        );
        let found = said(accuracy(0.85, false), accuracy(0.09, false), Quantize::kmeans(3)).unwrap();
        assert!(found.message.contains("more bits may"), "{}", found.message);
        assert_eq!(said(accuracy(0.85, false), accuracy(0.5, false), Quantize::slq(3)), None);
        assert_eq!(said(accuracy(1.0, true), accuracy(0.1, true), Quantize::slq(3)), None);
    }
}
