//! Tables of results.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use slq::graph::stats::WeightStats;
use slq::methods::{RoundReport, SearchReport};
use slq::{Accuracy, Budget};

use crate::names::shortened;

/// Columns of a terminal that is not asked, or of a file.
const COLUMNS: usize = 80;
/// Characters that a shortened cell keeps.
const SHORTEST: usize = 12;

/// A plain table whose columns after the first `left` are right-aligned. Where it is wider than the terminal, names in the left
/// columns (but for the last of several) are shortened, as far as they stay different.
pub(crate) fn table(header: &[&str], left: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut rows: Vec<Vec<String>> = rows.into_iter().collect();
    let mut excess = width(header, &rows).saturating_sub(columns());
    for column in 0..left.saturating_sub(1).max(1) {
        let longest = rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
        let keep = longest.saturating_sub(excess).max(SHORTEST).max(header[column].len());
        excess -= excess.min(longest.saturating_sub(keep));
        if longest > keep {
            let names: Vec<String> = rows.iter().map(|r| r[column].clone()).collect();
            rows.iter_mut().zip(shortened(&names, keep)).for_each(|(r, name)| r[column] = name);
        }
    }
    plain(header, left, rows)
}

/// A table as wide as it is.
fn plain(header: &[&str], left: usize, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Columns of the terminal, at least 80.
fn columns() -> usize {
    terminal_size::terminal_size().map_or(COLUMNS, |(width, _)| COLUMNS.max(usize::from(width.0)))
}

/// Characters that a row of the table takes.
fn width(header: &[&str], rows: &[Vec<String>]) -> usize {
    let cell =
        |i: usize| rows.iter().map(|r| r[i].chars().count()).chain([header[i].len()]).max().unwrap_or(0);
    (0..header.len()).map(|i| cell(i) + 3).sum::<usize>() + 1
}

/// Top-1 accuracy in percent.
pub(crate) fn percent(accuracy: &Accuracy) -> String {
    format!("{:.2} %", 100.0 * accuracy.top1)
}

/// What [`percent`] is of: with labels the top-1 accuracy, without them the agreement with the float network's outputs.
pub(crate) fn measure(accuracy: &Accuracy) -> &'static str {
    if accuracy.unlabelled { "agreement" } else { "top-1" }
}

/// The same with its figure: `97.10 % top-1`.
pub(crate) fn measured(accuracy: &Accuracy) -> String {
    format!("{} {}", percent(accuracy), measure(accuracy))
}

/// Digits in threes: 1 234 567.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// Rows up to which a table of layers is shown whole.
const WHOLE: usize = 40;
/// Rows of a longer one.
const LARGEST: usize = 10;

/// Layer by layer, for `slq inspect` and the end of `slq compress`; of more than forty the ten largest, unless `all` are
/// asked for.
pub(crate) fn layers(layers: &[WeightStats], all: bool) -> String {
    if all {
        return plain(&HEADER, 3, rows(layers)).to_string();
    }
    if layers.len() <= WHOLE {
        return fitted(layers);
    }
    let mut largest: Vec<usize> = (0..layers.len()).collect();
    largest.sort_by_key(|&i| std::cmp::Reverse(layers[i].dense_bytes));
    largest.truncate(LARGEST);
    largest.sort_unstable();
    let shown: Vec<WeightStats> = largest.iter().map(|&i| layers[i].clone()).collect();
    let bytes = |l: &[WeightStats]| l.iter().map(|l| l.dense_bytes).sum::<u64>();
    format!(
        "{}\nthe {LARGEST} largest of {} tensors, {:.1} % of the bytes; --all shows the rest",
        fitted(&shown),
        layers.len(),
        100.0 * bytes(&shown) as f64 / bytes(layers).max(1) as f64
    )
}

const HEADER: [&str; 10] =
    ["layer", "op", "shape", "weights", "values", "bits", "zeros", "before", "stored", "entropy"];
/// Columns that a narrow terminal does without, in this order: other columns or `--all` tell the same.
const SPARE: [&str; 3] = ["weights", "op", "entropy"];

/// The table with as many columns as fit.
fn fitted(layers: &[WeightStats]) -> String {
    let (mut header, mut rows, mut left) = (HEADER.to_vec(), rows(layers), 3);
    for spare in SPARE {
        if width(&header, &rows) <= columns() {
            break;
        }
        let Some(at) = header.iter().position(|h| *h == spare) else { continue };
        header.remove(at);
        rows.iter_mut().for_each(|r| drop(r.remove(at)));
        left -= usize::from(at < left);
    }
    table(&header, left, rows).to_string()
}

fn rows(layers: &[WeightStats]) -> Vec<Vec<String>> {
    let row = |l: &WeightStats| {
        let shape: Vec<String> = l.shape.iter().map(usize::to_string).collect();
        vec![
            l.name.clone(),
            l.op.clone(),
            shape.join("x"),
            thousands(l.count as u64),
            thousands(l.distinct as u64),
            l.bits.to_string(),
            format!("{:.1} %", 100.0 * l.zeros as f64 / l.count.max(1) as f64),
            thousands(l.dense_bytes),
            thousands(l.stored_bytes),
            thousands(l.entropy_bytes.ceil() as u64),
        ]
    };
    layers.iter().map(row).collect()
}

/// Round by round.
pub(crate) fn rounds(rounds: &[RoundReport]) -> Table {
    let header = ["round", "fixed", "before re-training", "after", "seconds"];
    let rows = rounds.iter().enumerate().map(|(i, r)| {
        vec![
            (i + 1).to_string(),
            format!("{:.1} %", 100.0 * r.fixed_fraction),
            r.before.as_ref().map(percent).unwrap_or_default(),
            r.after.as_ref().map(percent).unwrap_or_default(),
            format!("{:.1}", r.seconds),
        ]
    });
    table(&header, 1, rows)
}

/// The networks that a search tried.
pub(crate) fn trials(search: &SearchReport) -> Table {
    let header = ["tried", "bits by layer", "stored", "validation", "taken"];
    let rows = search.trials.iter().enumerate().map(|(i, t)| {
        let fits = if t.fits { "" } else { outside(search.budget) };
        vec![
            t.label.clone(),
            widths(&t.widths),
            thousands(t.stored_bytes),
            t.validation.as_ref().map(percent).unwrap_or_default(),
            if i == search.chosen { "yes".into() } else { fits.into() },
        ]
    });
    table(&header, 2, rows)
}

/// How a network misses a budget.
fn outside(budget: Budget) -> &'static str {
    match budget {
        Budget::Drop(_) => "too low",
        _ => "too large",
    }
}

/// A budget in words.
pub(crate) fn budget(budget: Budget) -> String {
    match budget {
        Budget::Bytes(bytes) => format!("at most {} bytes", thousands(bytes)),
        Budget::Ratio(ratio) => format!("at least {ratio} times smaller"),
        Budget::Drop(1.0) => "a drop of at most 1 point".into(),
        Budget::Drop(points) => format!("a drop of at most {points} points"),
        _ => "a budget".into(),
    }
}

/// Most layers whose widths are told one by one: more do not fit a line.
const LAYERS_TOLD: usize = 10;

/// Widths in execution order, as `5 3 3 4`; of many layers, how many have each: `7x2 11x3`.
pub(crate) fn widths(widths: &[(String, u8)]) -> String {
    if widths.len() <= LAYERS_TOLD {
        let bits: Vec<String> = widths.iter().map(|(_, bits)| bits.to_string()).collect();
        return bits.join(" ");
    }
    let mut counts = BTreeMap::new();
    for (_, bits) in widths {
        *counts.entry(bits).or_insert(0) += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(bits, layers)| format!("{layers}x{bits}")).collect();
    counts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trials_of_a_deep_network_fit_a_line() {
        let layers = |n: usize| (0..n).map(|i| (format!("layer{i}"), (i % 5 + 1) as u8)).collect::<Vec<_>>();
        assert_eq!(widths(&layers(4)), "1 2 3 4");
        assert_eq!(widths(&layers(54)), "11x1 11x2 11x3 11x4 10x5");
        let row = ["by relative error".into(), widths(&layers(54)), "1 234 567".into(), "60.00 %".into()];
        let row = [&row[..], &["too low".into()]].concat();
        let shown = table(&["tried", "bits by layer", "stored", "validation", "taken"], 2, [row]);
        assert!(shown.lines().all(|l| l.chars().count() <= COLUMNS), "{shown}");
        assert!(shown.to_string().contains("11x1 11x2"), "{shown}");
    }

    #[test]
    fn a_wide_table_loses_the_middle_of_names_and_columns_that_others_tell() {
        let long = "model.features.12.block.3.expand.convolution.weight";
        let rows = || [vec![long.to_owned(), "1 234 567".into()], vec!["fc".into(), "5".into()]];
        let shown = table(&["layer", "weights before the job and behind it"], 1, rows()).to_string();
        assert!(shown.lines().all(|l| l.chars().count() <= COLUMNS), "{shown}");
        assert!(
            shown.contains("model.features") && shown.contains('\u{2026}') && shown.contains("weight |"),
            "{shown}"
        );
        let stats = WeightStats {
            name: long.into(),
            node: String::new(),
            op: "ConvTranspose".into(),
            shape: vec![1024, 512, 3, 3],
            count: 4_718_592,
            distinct: 16,
            bits: 4,
            zeros: 1000,
            fixed: None,
            codebook_size: Some(16),
            dense_bytes: 18_874_368,
            stored_bytes: 2_359_360,
            entropy_bytes: 2_300_000.0,
        };
        let narrow = layers(std::slice::from_ref(&stats), false);
        assert!(narrow.lines().all(|l| l.chars().count() <= COLUMNS), "{narrow}");
        let all = layers(&[stats], true);
        assert!(all.contains(long) && all.contains("ConvTranspose") && all.contains("entropy"), "{all}");
    }

    #[test]
    fn digits_in_threes() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1000), "1 000");
        assert_eq!(thousands(431_080), "431 080");
        assert_eq!(thousands(60_965_224), "60 965 224");
    }
}
