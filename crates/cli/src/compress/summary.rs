//! The final text of `slq compress`: layers, rounds, accuracy before and after, sizes, files.

use slq::methods::{Coverage, Damage, DecomposeReport, NotQuantized, Origin, OutputDamage};
use slq::{Done, JobReport};

use crate::table::{self, percent, thousands};

pub(crate) fn summary(done: &Done, job: &JobReport, all: bool) -> String {
    let report = &job.report;
    let layers = slq::graph::stats::summary(&done.model.graph).layers;
    let mut text = String::new();
    if let Some(search) = &report.search {
        text += &format!("{}\n\n", table::trials(search));
    }
    text += &format!("{}\n", table::layers(&layers, all));
    if !report.rounds.is_empty() {
        text += &format!("\n{}\n", table::rounds(&report.rounds));
    }
    text += "\n";
    if let (Some(before), Some(after)) = (&report.baseline, &report.final_accuracy) {
        let points = 100.0 * (after.top1 - before.top1);
        text += &format!(
            "{:<9} {} before, {} after ({points:+.2} points)\n",
            table::measure(after),
            percent(before),
            percent(after)
        );
    }
    if let Some(fine_tune) = report.fine_tune.as_ref().filter(|_| report.method.is_some()) {
        text += &format!(
            "          {} after fine-tuning at full precision, before the first round\n",
            percent(&fine_tune.final_accuracy)
        );
    }
    if let Some(float) = &report.reference {
        text += &format!(
            "          {:.2} ± {:.2} % for the float network treated equally ({} steps more)\n",
            100.0 * float.top1,
            100.0 * float.standard_error,
            thousands(float.iterations)
        );
    }
    if let Some(damage) = &report.damage {
        text += &format!("{}\n", beside(damage));
        if damage.outputs.len() > 1 || report.final_accuracy.is_some_and(|a| a.unlabelled) {
            text += &damage.outputs.iter().map(output).collect::<String>();
        }
    }
    let size = &report.size;
    text += &format!(
        "size      {} bytes before, {} stored ({:.1}x smaller), {} at the entropy of the codes ({:.1}x)\n",
        thousands(size.dense_bytes),
        thousands(size.stored_bytes),
        size.ratio,
        thousands(size.entropy_bytes),
        size.dense_bytes as f64 / size.entropy_bytes.max(1) as f64,
    );
    if report.method.is_some() {
        text += &format!("{}\n", coverage(&report.coverage));
    }
    for output in &job.outputs {
        text += &format!(
            "written   {}, {} bytes ({:.1}x)\n",
            output.path.display(),
            thousands(output.file_bytes),
            output.ratio
        );
    }
    if let Some(low_rank) = &report.decompose {
        text += &format!("{}\n", both_parts(low_rank, size.stored_bytes));
    }
    // Said before the work, as by commands that have no summary of warnings.
    for warning in report.warnings.iter().filter(|w| w.kind != "sync-batch-norm") {
        text += &format!("warning   {}\n", warning.message);
    }
    text.trim_end().into()
}

/// One line: outputs beside those of the float network.
fn beside(damage: &Damage) -> String {
    let inputs = match (damage.inputs, damage.seen) {
        (Origin::Random, _) => "random inputs",
        (_, true) => "the inputs calibrated on",
        _ => "inputs not calibrated on",
    };
    let classes = match (damage.agreement, damage.kl) {
        (Some(share), Some(kl)) if damage.inputs == Origin::Given => {
            format!("the same class for {:.2} %, mean KL divergence {kl:.4}, ", 100.0 * share)
        }
        (_, Some(kl)) => format!("mean KL divergence {kl:.4}, "),
        _ => String::new(),
    };
    let noise = damage.snr_db.map_or("nothing differs".into(), |db| format!("signal to noise {db:.1} dB"));
    format!("outputs   {classes}{noise} (beside the float network, {} {inputs})", damage.images)
}

/// One line: an output beside that of the float network.
fn output(damage: &OutputDamage) -> String {
    let classes = match (damage.agreement, damage.kl) {
        (Some(share), Some(kl)) => {
            format!("the same class for {:.2} %, mean KL divergence {kl:.4}, ", 100.0 * share)
        }
        _ => String::new(),
    };
    format!(
        "          '{}': {classes}mean cosine {:.5}, relative error {:.4}, largest difference {:.3e}\n",
        damage.name, damage.cosine, damage.relative, damage.max_abs
    )
}

/// One line: how much is quantized, and what is not.
fn coverage(coverage: &Coverage) -> String {
    const SHOWN: usize = 4;
    let left = &coverage.not_quantized;
    let mut text = format!(
        "quantized {} of {} weight tensors, {:.1} % of all parameters",
        coverage.quantized,
        coverage.quantized + left.len(),
        100.0 * coverage.quantized_fraction
    );
    if !left.is_empty() {
        let shown = &left[..left.len().min(SHOWN)];
        let named = |run: &[NotQuantized]| {
            let names: Vec<&str> = run.iter().map(|l| l.name.as_str()).collect();
            format!("{} ({})", names.join(", "), run[0].reason)
        };
        let runs: Vec<String> = shown.chunk_by(|a, b| a.reason == b.reason).map(named).collect();
        text += &format!("; not quantized: {}", runs.join(", "));
    }
    if left.len() > SHOWN {
        text += &format!(" and {} more", left.len() - SHOWN);
    }
    text
}

/// Two lines: the network of low rank, and both parts together.
fn both_parts(report: &DecomposeReport, stored_bytes: u64) -> String {
    let accuracy = |a: &Option<slq::Accuracy>| a.as_ref().map_or("not measured".into(), percent);
    let dense = 4 * report.parameters.before;
    format!(
        "low rank  {} MACs before, {} after ({:.2}x fewer); {} parameters before, {} after; top-1 {} before, {} \
         after\nin all    {} bytes before, {} stored ({:.1}x smaller)",
        thousands(report.flops.before),
        thousands(report.flops.after),
        report.flops.ratio,
        thousands(report.parameters.before),
        thousands(report.parameters.after),
        accuracy(&report.baseline),
        accuracy(&report.final_accuracy),
        thousands(dense),
        thousands(stored_bytes),
        dense as f64 / stored_bytes.max(1) as f64,
    )
}
