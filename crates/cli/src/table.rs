//! Tables of results.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use slq::Accuracy;
use slq::graph::stats::WeightStats;
use slq::methods::{RoundReport, SearchReport};

/// A plain table whose columns after the first `left` are right-aligned.
pub(crate) fn table(header: &[&str], left: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
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

/// Top-1 accuracy in percent.
pub(crate) fn percent(accuracy: &Accuracy) -> String {
    format!("{:.2} %", 100.0 * accuracy.top1)
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
    if all || layers.len() <= WHOLE {
        return layer_rows(layers).to_string();
    }
    let mut largest: Vec<usize> = (0..layers.len()).collect();
    largest.sort_by_key(|&i| std::cmp::Reverse(layers[i].dense_bytes));
    largest.truncate(LARGEST);
    largest.sort_unstable();
    let shown: Vec<WeightStats> = largest.iter().map(|&i| layers[i].clone()).collect();
    let bytes = |l: &[WeightStats]| l.iter().map(|l| l.dense_bytes).sum::<u64>();
    format!(
        "{}\nthe {LARGEST} largest of {} tensors, {:.1} % of the bytes; --all shows the rest",
        layer_rows(&shown),
        layers.len(),
        100.0 * bytes(&shown) as f64 / bytes(layers).max(1) as f64
    )
}

fn layer_rows(layers: &[WeightStats]) -> Table {
    let header =
        ["layer", "op", "shape", "weights", "values", "bits", "zeros", "bytes before", "stored", "entropy"];
    let rows = layers.iter().map(|l| {
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
    });
    table(&header, 3, rows)
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
        let fits = if t.fits { "" } else { "too far below float" };
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

/// Widths in execution order, as `5 3 3 4`.
pub(crate) fn widths(widths: &[(String, u8)]) -> String {
    let bits: Vec<String> = widths.iter().map(|(_, bits)| bits.to_string()).collect();
    bits.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_in_threes() {
        assert_eq!(thousands(7), "7");
        assert_eq!(thousands(1000), "1 000");
        assert_eq!(thousands(431_080), "431 080");
        assert_eq!(thousands(60_965_224), "60 965 224");
    }
}
