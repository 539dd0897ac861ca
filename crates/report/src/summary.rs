//! The figures at the top of a page.

use maud::{Markup, html};

use crate::data::{Changes, FloatTraining, Run, Score};
use crate::format::{bytes, duration, factor, macs, percent, thousands};

/// A figure: what it is, its value, and a remark.
struct Card {
    name: &'static str,
    value: Markup,
    remark: Markup,
}

pub(crate) fn draw(run: &Run) -> Markup {
    let cards = [
        accuracy(run),
        reference(run),
        size(run),
        outputs(run),
        compared(run),
        work(run),
        covered(run),
        time(run),
    ];
    html! {
        div.cards role="group" aria-label="Summary" {
            @for card in cards.into_iter().flatten() {
                div.card {
                    h2 { (card.name) }
                    p.value { (card.value) }
                    p.remark { (card.remark) }
                }
            }
        }
    }
}

/// An accuracy with its standard error.
pub(crate) fn with_error(score: &Score) -> Markup {
    html! { (percent(score.top1)) " " span.error { "\u{b1} " (format!("{:.2}", 100.0 * score.standard_error())) } }
}

/// The difference of two accuracies in points, paired image by image where the answers are known.
pub(crate) fn difference(before: &Score, after: &Score, changes: Option<&Changes>) -> String {
    let points = 100.0 * (after.top1 - before.top1);
    match changes.filter(|c| c.paired && c.images == before.images && c.images > 0) {
        Some(changes) => {
            format!("{points:+.2} \u{b1} {:.2} points, paired", 100.0 * changes.standard_error())
        }
        None => format!("{points:+.2} points"),
    }
}

fn accuracy(run: &Run) -> Option<Card> {
    let after = run.figures.after.or(run.figures.before)?;
    let before = run.figures.before.filter(|_| run.figures.after.is_some());
    let remark = html! {
        @if let Some(before) = before {
            (percent(before.top1)) " before; " (difference(&before, &after, run.changes.as_ref())) br;
        }
        @if let Some(float) = run.figures.fine_tuned.filter(|_| run.figures.bits.is_some()) {
            (percent(float.top1)) " after fine-tuning at full precision, before weights were shared" br;
        }
        (thousands(after.images as u64)) " test images"
        @if let Some(top5) = after.top5 { ", top-5 " (percent(top5)) }
        ", loss " (format!("{:.4}", after.loss))
    };
    let name = if run.figures.after.is_some() { "Top-1 accuracy" } else { "Top-1 accuracy before" };
    Some(Card { name, value: with_error(&after), remark })
}

/// The float network that was trained for as long.
fn reference(run: &Run) -> Option<Card> {
    let float = run.figures.reference?;
    let value = html! {
        (percent(float.top1)) " " span.error { "\u{b1} " (format!("{:.2}", 100.0 * float.standard_error)) }
    };
    let remark = html! {
        @if let Some(after) = &run.figures.after {
            "the compressed network: " (format!("{:+.2} points", 100.0 * (after.top1 - float.top1))) br;
        }
        (thousands(float.steps)) " further steps with labels, all weights as floats, loss " (format!("{:.4}", float.loss))
    };
    Some(Card { name: "Float network treated equally", value, remark })
}

fn size(run: &Run) -> Option<Card> {
    let sizes = run.figures.sizes?;
    let ratio = |n: u64| factor(sizes.dense as f64 / n.max(1) as f64);
    let remark = html! {
        (bytes(sizes.dense)) " before: " (ratio(sizes.stored)) " smaller" br;
        (bytes(sizes.entropy)) " at the entropy of the codes (" (ratio(sizes.entropy)) ")"
    };
    Some(Card { name: "Weights", value: html! { (bytes(sizes.stored)) }, remark })
}

fn outputs(run: &Run) -> Option<Card> {
    let first = run.outputs.first()?;
    let remark = html! {
        (first.path)
        @for output in &run.outputs[1..] {
            br; (output.path) ": " (bytes(output.bytes)) " (" (factor(output.ratio)) ")"
        }
    };
    Some(Card {
        name: "File",
        value: html! { (bytes(first.bytes)) " " span.error { (factor(first.ratio)) " smaller" } },
        remark,
    })
}

fn compared(run: &Run) -> Option<Card> {
    let found = run.figures.comparison.as_ref()?;
    let value = match (found.agreement, found.kl, found.snr_db) {
        (Some(share), ..) => html! { (percent(share)) " " span.error { "same class" } },
        (_, Some(kl), _) => html! { (format!("{kl:.4}")) " " span.error { "nats" } },
        (.., Some(db)) => html! { (format!("{db:.1}")) " " span.error { "dB" } },
        _ => html! { "nothing differs" },
    };
    let remark = html! {
        @if let Some(kl) = found.kl { "mean KL divergence " (format!("{kl:.4}")) ", " }
        @if let Some(db) = found.snr_db { "signal to noise " (format!("{db:.1}")) " dB, " }
        (found.inputs) " " (found.origin)
    };
    Some(Card { name: "Beside the float network", value, remark })
}

fn work(run: &Run) -> Option<Card> {
    let [before, after] = run.figures.macs?;
    let remark = match before == after {
        true => html! { "multiply-accumulates for one input; sharing weights does not change them" },
        false => html! { (macs(before)) " before: " (factor(before as f64 / after.max(1) as f64)) " fewer" },
    };
    Some(Card { name: "MACs", value: html! { (macs(after)) }, remark })
}

fn covered(run: &Run) -> Option<Card> {
    let share = run.figures.quantized_fraction?;
    let left = &run.figures.not_quantized;
    let remark = html! {
        @if left.is_empty() { "every weight tensor" } @else {
            @for (i, layer) in left.iter().take(3).enumerate() {
                @if i > 0 { "; " } "not " (layer.name) " (" (layer.reason) ")"
            }
            @if left.len() > 3 { "; and " (left.len() - 3) " more, listed below" }
        }
    };
    Some(Card {
        name: "Quantized",
        value: html! { (percent(share)) " " span.error { "of all parameters" } },
        remark,
    })
}

fn time(run: &Run) -> Option<Card> {
    let seconds = run.figures.seconds?;
    let steps: u64 = run.rounds.iter().map(|r| r.iterations).sum();
    let float = |what: &str, training: Option<FloatTraining>| {
        training.map(|t| format!("{what}: {} steps, {}", thousands(t.steps), duration(t.seconds)))
    };
    let floats = [
        float("fine-tuning", run.figures.fine_tuned),
        float("float network treated equally", run.figures.reference),
    ];
    let remark = html! {
        @if !run.rounds.is_empty() {
            (run.rounds.len()) @if run.rounds.len() == 1 { " round" } @else { " rounds" } ", " (thousands(steps)) " training steps"
        }
        @for line in floats.into_iter().flatten() { br; (line) }
    };
    Some(Card { name: "Time", value: html! { (duration(seconds)) }, remark })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(top1: f64) -> Score {
        Score { top1, top5: None, loss: 0.1, images: 10_000 }
    }

    #[test]
    fn the_standard_error_is_the_binomial_one() {
        assert!((score(0.5).standard_error() - 0.005).abs() < 1e-12);
        assert!(with_error(&score(0.9)).into_string().contains("\u{b1} 0.30"));
    }

    #[test]
    fn the_difference_is_paired_where_the_answers_are_known() {
        // 60 became wrong, 40 right: a difference of -20 with a standard error of sqrt(100 - 400/10000) images.
        let changes =
            Changes { images: 10_000, of: 10_000, worse: 60, better: 40, paired: true, ..Changes::default() };
        let text = difference(&score(0.90), &score(0.898), Some(&changes));
        assert_eq!(text, "-0.20 \u{b1} 0.10 points, paired");
        assert_eq!(difference(&score(0.90), &score(0.898), None), "-0.20 points");
    }
}
