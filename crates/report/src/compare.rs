//! Several jobs side by side.

use maud::{Markup, html};

use crate::chart::{Chart, Mark, Series, XAxis};
use crate::data::{Run, State};
use crate::format::{bytes, duration, factor, percent};
use crate::summary::{difference, with_error};

/// Bytes that a job is compared by: of its first file, else of its weights.
fn size(run: &Run) -> Option<u64> {
    run.outputs.first().map(|o| o.bytes).or(run.figures.sizes.map(|s| s.stored))
}

/// The table and the picture of size against accuracy.
pub(crate) fn draw(runs: &[Run]) -> Markup {
    html! {
        section {
            h2 { "Side by side" }
            (table(runs))
            (picture(runs))
        }
    }
}

fn table(runs: &[Run]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Table of jobs" {
            table {
                thead {
                    tr {
                        th scope="col" { "job" } th scope="col" { "method" } th.number scope="col" { "bits" } th.number scope="col" { "top-1" }
                        th.number scope="col" { "difference to before" } th.number scope="col" { "stored" } th.number scope="col" { "file" }
                        th.number scope="col" { "smaller" } th.number scope="col" { "time" }
                    }
                }
                tbody {
                    @for (i, run) in runs.iter().enumerate() {
                        @let f = &run.figures;
                        tr {
                            th scope="row" { a href={ "#run-" (i + 1) } { (run.name) } @if run.state != State::Finished { " " span.muted { "unfinished" } } }
                            td { (f.method.as_deref().unwrap_or_default()) }
                            td.number { @if run.search.is_some() { "mixed" } @else if let Some(bits) = f.bits { (bits) } }
                            td.number { @if let Some(after) = &f.after { (with_error(after)) } @else if let Some(share) = f.comparison.as_ref().and_then(|c| c.agreement) { (percent(share)) " agree" } }
                            td.number { @if let (Some(before), Some(after)) = (&f.before, &f.after) { (difference(before, after, run.changes.as_ref())) } }
                            td.number { @if let Some(sizes) = f.sizes { (bytes(sizes.stored)) } }
                            td.number { @if let Some(output) = run.outputs.first() { (bytes(output.bytes)) } }
                            td.number { @if let (Some(sizes), Some(size)) = (f.sizes, size(run)) { (factor(sizes.dense as f64 / size.max(1) as f64)) } }
                            td.number { @if let Some(seconds) = f.seconds { (duration(seconds)) } }
                        }
                    }
                }
            }
        }
    }
}

fn picture(runs: &[Run]) -> Markup {
    let mark = |x: u64, y: f64, name: &str| {
        let title = format!("{name}: {}, top-1 {}", bytes(x), percent(y));
        Mark { x: x as f64, y: 100.0 * y, title, label: Some(name.to_owned()) }
    };
    let after = |r: &Run| Some(mark(size(r)?, r.figures.after?.top1, &r.name));
    let before = |r: &Run| Some(mark(r.figures.sizes?.dense, r.figures.before?.top1, "float"));
    let mut floats: Vec<Mark> = runs.iter().filter_map(before).collect();
    floats.dedup_by(|a, b| a.x == b.x && a.y == b.y);
    let series = [
        Series {
            name: "compressed",
            class: "a",
            line: false,
            marks: runs.iter().filter_map(after).collect(),
        },
        Series { name: "before", class: "c", line: false, marks: floats },
    ];
    let chart = Chart {
        description: format!("Accuracy against size of {} jobs", runs.len()),
        x_label: "bytes of the file",
        y_label: "top-1, %",
        x: XAxis::Bytes,
        y_within: [0.0, 100.0],
        series: series.into_iter().filter(|s| !s.marks.is_empty()).collect(),
        reference: None,
    };
    html! { @if !chart.series.is_empty() { div.charts { (chart.draw()) } } }
}
