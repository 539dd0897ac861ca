//! Layers: bits and bytes, histograms, sensitivities.

use maud::{Markup, html};

use crate::bars::{nested, whisker};
use crate::data::{LayerFigures, Run};
use crate::format::{bytes, factor, number, percent, thousands};
use crate::histogram;

/// Histograms shown at most; the largest layers have one.
const HISTOGRAMS: usize = 60;
/// Rows that stand open; further ones, of small layers, are folded away.
const ROWS: usize = 40;

/// The table of bits and bytes.
pub(crate) fn table(run: &Run) -> Markup {
    let longest = run.layers.iter().map(|l| l.dense).max().unwrap_or(0).max(1) as f64;
    // Biases and the like are named in one row.
    let (shown, small): (Vec<&LayerFigures>, Vec<&LayerFigures>) =
        run.layers.iter().partition(|l| l.codebooks > 0 || l.shape.len() > 1);
    html! {
        @if !run.layers.is_empty() {
            section {
                h2 { "Bits and bytes of each layer" }
                p { "Pale bars are the bytes of 32-bit floats, full ones what is stored: codes, codebooks and float parameters." }
                (rows(&shown[..shown.len().min(ROWS)], &small, longest))
                @if shown.len() > ROWS {
                    details { summary { (shown.len() - ROWS) " more layers" } (rows(&shown[ROWS..], &[], longest)) }
                }
                (left(run))
            }
        }
    }
}

fn rows(layers: &[&LayerFigures], small: &[&LayerFigures], longest: f64) -> Markup {
    let sum = |pick: fn(&LayerFigures) -> u64| small.iter().map(|l| pick(l)).sum::<u64>();
    html! {
        div.scroll tabindex="0" role="group" aria-label="Table of layers" {
            table {
                thead {
                    tr {
                        th scope="col" { "layer" } th scope="col" { "shape" } th.number scope="col" { "values" }
                        th.number scope="col" { "bits" } th.number scope="col" { "zeros" } th.number scope="col" { "float" }
                        th.number scope="col" { "stored" } th.number scope="col" { "smaller" } th.wide scope="col" { "bytes" }
                    }
                }
                tbody {
                    @for l in layers {
                        tr {
                            th scope="row" { (l.name) @if !l.op.is_empty() { " " span.muted { (l.op) } } }
                            td { (l.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("\u{d7}")) }
                            td.number { (thousands(l.distinct as u64)) }
                            td.number { (l.bits) }
                            td.number { (format!("{:.1} %", 100.0 * l.zeros as f64 / l.count.max(1) as f64)) }
                            td.number { (bytes(l.dense)) }
                            td.number { (bytes(l.stored)) }
                            td.number { (factor(l.dense as f64 / l.stored.max(1) as f64)) }
                            td.wide { (nested(l.dense as f64 / longest, l.stored as f64 / longest)) }
                        }
                    }
                    @if !small.is_empty() {
                        tr {
                            th scope="row" { (small.len()) " vectors " span.muted { "biases, batch norm" } }
                            td {} td.number {} td.number { "32" } td.number {}
                            td.number { (bytes(sum(|l| l.dense))) }
                            td.number { (bytes(sum(|l| l.stored))) }
                            td.number { (factor(1.0)) }
                            td.wide { (nested(sum(|l| l.dense) as f64 / longest, sum(|l| l.stored) as f64 / longest)) }
                        }
                    }
                }
            }
        }
    }
}

/// The tensors that keep their floats, where they are too many for the summary.
fn left(run: &Run) -> Markup {
    let left = &run.figures.not_quantized;
    html! {
        @if left.len() > 3 {
            details {
                summary { (left.len()) " weight tensors that are not quantized" }
                ul { @for l in left { li { (l.name) ": " (l.reason) } } }
            }
        }
    }
}

/// Small multiples of the weights.
pub(crate) fn histograms(run: &Run) -> Markup {
    let mut found: Vec<_> = run.layers.iter().filter_map(|l| Some((l, l.histogram.as_ref()?))).collect();
    let all = found.len();
    let mut sizes: Vec<usize> = found.iter().map(|(l, _)| l.count).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    if let Some(&least) = sizes.get(HISTOGRAMS - 1) {
        found.retain(|(l, _)| l.count >= least);
        found.truncate(HISTOGRAMS);
    }
    let before = found.iter().any(|(_, h)| !h.bins.is_empty());
    let outside = found.iter().any(|(_, h)| h.outside > 0);
    html! {
        @if !found.is_empty() {
            section {
                h2 { "Weights and their values" }
                p {
                    @if before { "Areas are the weights of the float network. " }
                    "Stems are the values of the codebooks, as high as the number of weights that take each."
                    @if outside { " A thousandth of the weights at either end lies outside the pictures." }
                    @if all > found.len() { " The " (found.len()) " largest of " (all) " layers." }
                }
                div.multiples { @for (layer, h) in found { (histogram::draw(layer, h)) } }
            }
        }
    }
}

/// What quantizing single layers costs.
pub(crate) fn sensitivities(run: &Run) -> Markup {
    let found = &run.sensitivities;
    let reach = found.iter().map(|s| s.rise + s.error.unwrap_or(0.0)).fold(f64::MIN_POSITIVE, f64::max);
    html! {
        @if !found.is_empty() {
            section {
                h2 { "Sensitivity of each layer" }
                p {
                    "Rise of the loss when one layer takes " (found[0].codebook_size)
                    " values and all others keep their floats, without re-training; lines are \u{b1} one standard error."
                }
                div.scroll tabindex="0" role="group" aria-label="Table of sensitivities" {
                    table {
                        thead { tr { th scope="col" { "layer" } th.number scope="col" { "rise of the loss" } th.wide scope="col" { "" span.hidden { "bar" } } } }
                        tbody {
                            @for s in found {
                                tr {
                                    th scope="row" { (s.layer) }
                                    td.number { (number(s.rise)) @if let Some(e) = s.error { " \u{b1} " (number(e)) } }
                                    td.wide { (whisker(s.rise / reach, s.error.map(|e| e / reach))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How far weights are fixed, for a job that has not ended.
pub(crate) fn fixed(run: &Run) -> Option<String> {
    let known: Vec<(f64, usize)> = run.layers.iter().filter_map(|l| Some((l.fixed?, l.count))).collect();
    let all: usize = known.iter().map(|k| k.1).sum();
    let fixed: f64 = known.iter().map(|(share, count)| share * *count as f64).sum();
    (all > 0).then(|| percent(fixed / all as f64))
}
