//! From the library's figures to those of a page.

use slq::jobs::Reference;
use slq::methods::{Damage, FineTuneReport, LayerSensitivity, Origin, RoundReport, SearchReport, Trial};
use slq::{Accuracy, JobReport};
use slq_report::{
    Comparison, Figures, FloatTraining, NotQuantized, OutputFile, Round, Run, Score, Search, Sensitivity,
    Sizes, Warning,
};

use crate::table::{budget, widths};

/// What the report of a finished job tells.
pub(super) fn of(job: &JobReport) -> Run {
    let report = &job.report;
    let coverage = &report.coverage;
    let quantized = report.method.is_some();
    let left = coverage.not_quantized.iter().filter(|_| quantized);
    let figures = Figures {
        method: method(job),
        bits: report.bits,
        codebook_size: report.codebook_size,
        before: report.baseline.as_ref().filter(labelled).map(score),
        after: report.final_accuracy.as_ref().filter(labelled).map(score),
        fine_tuned: report.fine_tune.as_ref().map(fine_tuned),
        reference: report.reference.as_ref().map(reference),
        comparison: report.damage.as_ref().map(comparison),
        sizes: Some(Sizes {
            dense: report.size.dense_bytes,
            stored: report.size.stored_bytes,
            entropy: report.size.entropy_bytes,
        }),
        macs: report.decompose.as_ref().map(|d| [d.flops.before, d.flops.after]),
        quantized_fraction: quantized.then_some(coverage.quantized_fraction),
        not_quantized: left
            .map(|l| NotQuantized { name: l.name.clone(), reason: l.reason.clone() })
            .collect(),
        seconds: Some(report.seconds),
    };
    let output = |o: &slq::jobs::Output| OutputFile {
        path: o.path.display().to_string(),
        bytes: o.file_bytes,
        ratio: o.ratio,
    };
    let warning = |w: &slq::methods::Warning| Warning { kind: w.kind.clone(), message: w.message.clone() };
    Run {
        figures,
        outputs: job.outputs.iter().map(output).collect(),
        warnings: report.warnings.iter().map(warning).collect(),
        rounds: report.rounds.iter().map(round).collect(),
        search: report.search.as_ref().map(|s| search(s, report.baseline.is_some())),
        ..Run::default()
    }
}

/// What was done, in the order of the stages.
fn method(job: &JobReport) -> Option<String> {
    let report = &job.report;
    let fine_tune = report.fine_tune.as_ref().map(|_| "fine-tuning".to_owned());
    let decompose = report.decompose.as_ref().map(|d| format!("low rank ({})", d.scheme));
    let quantize = report.method.map(|m| m.text().to_owned());
    let parts: Vec<String> = [fine_tune, decompose, quantize].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", then "))
}

/// Whether an accuracy is one; without labels, the comparison of outputs says what there is to say.
fn labelled(accuracy: &&Accuracy) -> bool {
    !accuracy.unlabelled
}

pub(super) fn score(accuracy: &Accuracy) -> Score {
    let Accuracy { top1, top5, loss, images, .. } = *accuracy;
    Score { top1, top5, loss, images }
}

fn fine_tuned(report: &FineTuneReport) -> FloatTraining {
    let score = score(&report.final_accuracy);
    FloatTraining {
        top1: score.top1,
        standard_error: score.standard_error(),
        loss: score.loss,
        steps: report.iterations,
        seconds: report.seconds,
    }
}

fn reference(found: &Reference) -> FloatTraining {
    let Reference { top1, standard_error, loss, iterations, seconds } = *found;
    FloatTraining { top1, standard_error, loss, steps: iterations, seconds }
}

fn comparison(damage: &Damage) -> Comparison {
    let origin = match (damage.inputs, damage.seen) {
        (Origin::Random, _) => "random inputs (an estimate)",
        (_, true) => "inputs calibrated on",
        _ => "inputs not calibrated on",
    };
    // Random inputs lie so near the borders between classes that agreement on them says little.
    let agreement = damage.agreement.filter(|_| damage.inputs == Origin::Given);
    Comparison {
        inputs: damage.images,
        origin: origin.into(),
        agreement,
        kl: damage.kl,
        snr_db: damage.snr_db,
    }
}

pub(super) fn round(round: &RoundReport) -> Round {
    Round {
        fixed: round.fixed_fraction,
        shared: round.before.as_ref().filter(labelled).map(score),
        retrained: round.after.as_ref().filter(labelled).map(score),
        iterations: round.iterations,
        seconds: round.seconds,
    }
}

fn search(report: &SearchReport, labels: bool) -> Search {
    Search {
        labels,
        budget: budget(report.budget),
        baseline: report.validation_baseline.as_ref().map(score),
        trials: report.trials.iter().map(trial).collect(),
        chosen: Some(report.chosen),
    }
}

pub(super) fn trial(trial: &Trial) -> slq_report::Trial {
    slq_report::Trial {
        label: trial.label.clone(),
        widths: widths(&trial.widths),
        bytes: trial.stored_bytes,
        validation: trial.validation.as_ref().map(score),
        fits: trial.fits,
    }
}

pub(super) fn sensitivity(layer: &LayerSensitivity) -> Sensitivity {
    Sensitivity {
        layer: layer.weight.clone(),
        rise: layer.rise.mean,
        error: Some(layer.rise.error).filter(|e| e.is_finite()),
        codebook_size: layer.codebook_size,
    }
}
