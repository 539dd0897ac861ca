//! The parts of a page between the summary and the layers: warnings, rounds, budgets, and how to repeat the job.

use maud::{Markup, html};

use crate::chart::{Chart, Mark, Reference, Series, XAxis};
use crate::data::{Round, Run, Score, Search, State};
use crate::format::{bytes, duration, factor, percent, thousands};
use crate::layers::fixed;

/// What is unfinished, warnings and notes.
pub(crate) fn warnings(run: &Run) -> Markup {
    html! {
        @if let State::Unfinished { stages, resume } = &run.state {
            section.notice {
                h2 { "This job is not finished" }
                ul { @for stage in stages { li { (stage) } } }
                @if let Some(share) = fixed(run) { p { (share) " of the weights to be quantized are fixed so far." } }
                p { "Go on with " code { (resume) } }
            }
        }
        @if !run.warnings.is_empty() {
            section.notice {
                h2 { "Warnings" }
                ul { @for w in &run.warnings { li { b { (w.kind) } ": " (w.message) } } }
            }
        }
        @if !run.notes.is_empty() {
            section.missing {
                h2 { "Not in this report" }
                ul { @for note in &run.notes { li { (note) } } }
            }
        }
    }
}

/// Accuracy and loss through the rounds.
pub(crate) fn rounds(run: &Run) -> Markup {
    let measured = run.rounds.iter().any(|r| r.shared.or(r.retrained).is_some());
    html! {
        @if !run.rounds.is_empty() {
            section {
                h2 { "Rounds" }
                @if measured {
                    div.charts {
                        (chart(run, "top-1, %", [0.0, 100.0], |s| 100.0 * s.top1))
                        (chart(run, "loss", [0.0, f64::MAX], |s| s.loss))
                    }
                }
                details open[!measured] { summary { "Table of rounds" } (table(&run.rounds)) }
            }
        }
    }
}

fn chart(run: &Run, label: &'static str, within: [f64; 2], pick: fn(&Score) -> f64) -> Markup {
    let marks = |of: fn(&Round) -> Option<Score>, what: &str| -> Vec<Mark> {
        let numbered = run.rounds.iter().enumerate().filter_map(|(i, r)| Some((i + 1, r.fixed, of(r)?)));
        numbered
            .map(|(i, fixed, score)| Mark {
                x: i as f64,
                y: pick(&score),
                title: format!(
                    "round {i} {what}: top-1 {}, loss {:.4}, {} fixed",
                    percent(score.top1),
                    score.loss,
                    percent(fixed)
                ),
                label: None,
            })
            .collect()
    };
    let series = [
        Series {
            name: "after re-training",
            class: "a",
            line: true,
            marks: marks(|r| r.retrained, "after re-training"),
        },
        Series {
            name: "weights shared, not yet re-trained",
            class: "b",
            line: false,
            marks: marks(|r| r.shared, "before re-training"),
        },
    ];
    let last = series[0].marks.last().map(|m| format!("; {}", m.title)).unwrap_or_default();
    Chart {
        description: format!("{label} on the test images through {} rounds{last}", run.rounds.len()),
        x_label: "round",
        y_label: label,
        x: XAxis::Rounds,
        y_within: within,
        series: series.into_iter().filter(|s| !s.marks.is_empty()).collect(),
        reference: start(run).map(|(name, score)| Reference { name, y: pick(&score) }),
    }
    .draw()
}

/// The float network that the rounds began with, and its name.
fn start(run: &Run) -> Option<(&'static str, Score)> {
    let before = run.figures.before?;
    Some(match run.figures.fine_tuned {
        Some(float) => ("float, fine-tuned", Score { top1: float.top1, loss: float.loss, ..before }),
        None => ("float network", before),
    })
}

fn table(rounds: &[Round]) -> Markup {
    let accuracy = |s: &Option<Score>| s.map(|s| percent(s.top1)).unwrap_or_default();
    let loss = |s: &Option<Score>| s.map(|s| format!("{:.4}", s.loss)).unwrap_or_default();
    html! {
        div.scroll tabindex="0" role="group" aria-label="Table of rounds" {
            table {
                thead {
                    tr {
                        th scope="col" { "round" } th.number scope="col" { "fixed" }
                        th.number scope="col" { "top-1 shared" } th.number scope="col" { "re-trained" }
                        th.number scope="col" { "loss shared" } th.number scope="col" { "re-trained" }
                        th.number scope="col" { "steps" } th.number scope="col" { "time" }
                    }
                }
                tbody {
                    @for (i, r) in rounds.iter().enumerate() {
                        tr {
                            th scope="row" { (i + 1) }
                            td.number { (percent(r.fixed)) }
                            td.number { (accuracy(&r.shared)) } td.number { (accuracy(&r.retrained)) }
                            td.number { (loss(&r.shared)) } td.number { (loss(&r.retrained)) }
                            td.number { (thousands(r.iterations)) } td.number { (duration(r.seconds)) }
                        }
                    }
                }
            }
        }
    }
}

/// Sizes against accuracy: what a search under a budget tried.
pub(crate) fn search(search: &Search) -> Markup {
    // Without labels a network is as good as it agrees with the float network.
    let (measured_by, column) = match search.labels {
        true => ("top-1", "top-1 on validation images"),
        false => ("agreement", "agreement with float"),
    };
    let marks = |pick: fn(bool, bool) -> bool| -> Vec<Mark> {
        let kept = search.trials.iter().enumerate().filter(|(i, t)| pick(search.chosen == Some(*i), t.fits));
        kept.filter_map(|(_, t)| {
            let score = t.validation?;
            let title = format!(
                "{}: {}, {measured_by} {}, bits {}",
                t.label,
                bytes(t.bytes),
                percent(score.top1),
                t.widths
            );
            Some(Mark { x: t.bytes as f64, y: 100.0 * score.top1, title, label: None })
        })
        .collect()
    };
    let series = [
        Series { name: "taken", class: "a", line: false, marks: marks(|chosen, _| chosen) },
        Series { name: "tried", class: "b", line: false, marks: marks(|chosen, fits| !chosen && fits) },
        Series {
            name: "outside the budget",
            class: "c",
            line: false,
            marks: marks(|chosen, fits| !chosen && !fits),
        },
    ];
    let measured = series.iter().any(|s| !s.marks.is_empty());
    let chart = Chart {
        description: format!(
            "{} against stored bytes of {} networks",
            if search.labels { "Accuracy on validation images" } else { "Agreement with the float network" },
            search.trials.len()
        ),
        x_label: "stored bytes",
        y_label: if search.labels { "top-1 on validation, %" } else { "agreement, %" },
        x: XAxis::Bytes,
        y_within: [0.0, 100.0],
        series: series.into_iter().filter(|s| !s.marks.is_empty()).collect(),
        reference: search.baseline.map(|s| Reference { name: "float network", y: 100.0 * s.top1 }),
    };
    html! {
        section {
            h2 { "Networks tried for " (search.budget) }
            @if measured { div.charts { (chart.draw()) } }
            div.scroll tabindex="0" role="group" aria-label="Table of networks tried" {
                table {
                    thead {
                        tr {
                            th scope="col" { "tried" } th scope="col" { "bits by layer" } th.number scope="col" { "stored" }
                            th.number scope="col" { (column) } th scope="col" { "" span.hidden { "outcome" } }
                        }
                    }
                    tbody {
                        @for (i, t) in search.trials.iter().enumerate() {
                            tr {
                                th scope="row" { (t.label) }
                                td.break { (t.widths) }
                                td.number { (bytes(t.bytes)) }
                                td.number { (t.validation.map(|s| percent(s.top1)).unwrap_or_default()) }
                                td { @if search.chosen == Some(i) { b { "taken" } } @else if !t.fits { "outside the budget" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Command and recipe.
pub(crate) fn repeat(run: &Run) -> Markup {
    let from = &run.provenance;
    if from.model.is_empty() && from.command.is_none() && from.recipe.is_none() {
        return html! {};
    }
    html! {
        section {
            h2 { "Repeat it" }
            dl {
                @if !from.model.is_empty() { dt { "Model" } dd { (from.model) } }
                @if let Some(data) = &from.data { dt { "Data" } dd { (data) } }
                @if let Some(command) = &from.command { dt { "Command" } dd { pre tabindex="0" { code { (command) } } } }
            }
            @if let Some(recipe) = &from.recipe {
                details { summary { "The whole recipe" } pre tabindex="0" { code { (recipe) } } }
            }
        }
    }
}

/// The line under the title: method, bits, sizes.
pub(crate) fn subtitle(run: &Run) -> String {
    let figures = &run.figures;
    let mut parts: Vec<String> = figures.method.iter().cloned().collect();
    match (figures.bits, figures.codebook_size) {
        (_, Some(size)) if run.search.is_none() => {
            let bits = figures.bits.map(|b| format!("{b} bits, ")).unwrap_or_default();
            parts.push(format!("{bits}{size} values"));
        }
        _ => {}
    }
    parts.extend(run.search.as_ref().map(|s| s.budget.clone()));
    if let Some(sizes) = figures.sizes {
        parts.push(format!("{} smaller", factor(sizes.dense as f64 / sizes.stored.max(1) as f64)));
    }
    parts.join(" \u{b7} ")
}
