//! Histograms: the weights of a layer before, and the values it takes after.

use maud::{Markup, html};

use crate::axis::Axis;
use crate::data::{Histogram, LayerFigures};
use crate::format::{at, number, thousands};

/// Bins of a histogram.
pub const BINS: usize = 64;
/// Places across the picture that values of codebooks are gathered in.
const PLACES: usize = 200;
/// Share of the weights at either end that may lie outside the picture, so that a few outliers do not flatten the rest.
const OUTLIERS: f64 = 0.001;

const WIDTH: f64 = 220.0;
const HEIGHT: f64 = 96.0;
const BOTTOM: f64 = 16.0;

/// The histogram of `before` (float weights, where known) with the weights that take each value `after`.
pub fn histogram(before: Option<&[f32]>, after: &[f32]) -> Histogram {
    let mut sorted: Vec<f32> = before.unwrap_or(after).iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let cut = (OUTLIERS * sorted.len() as f64) as usize;
    let Some((&first, &last)) =
        sorted.get(cut).zip(sorted.len().checked_sub(cut + 1).and_then(|i| sorted.get(i)))
    else {
        return Histogram { range: [0.0, 1.0], bins: Vec::new(), outside: 0, values: Vec::new() };
    };
    // Every value that weights take must lie in the picture, or be counted as outside it.
    let [mut low, mut high] = [f64::from(first), f64::from(last)];
    if high <= low {
        (low, high) = (low - 0.5, high + 0.5);
    }
    let bin = |v: f32, bins: usize| {
        let share = (f64::from(v) - low) / (high - low);
        (0.0..=1.0).contains(&share).then(|| ((share * bins as f64) as usize).min(bins - 1))
    };
    let mut bins = vec![0; if before.is_some() { BINS } else { 0 }];
    let mut outside = 0;
    for &v in before.unwrap_or_default() {
        match bin(v, BINS) {
            Some(i) => bins[i] += 1,
            None => outside += 1,
        }
    }
    // Neighbouring values of many codebooks fall together; a few values keep their exact places.
    let mut places: Vec<(f64, u64)> = vec![(0.0, 0); PLACES];
    for &v in after {
        if let Some(i) = bin(v, PLACES) {
            places[i].0 += f64::from(v);
            places[i].1 += 1;
        } else if before.is_none() {
            outside += 1;
        }
    }
    let values = places.into_iter().filter(|p| p.1 > 0).map(|(sum, n)| (sum / n as f64, n)).collect();
    Histogram { range: [low, high], bins, outside, values }
}

/// One of the small multiples.
pub(crate) fn draw(layer: &LayerFigures, histogram: &Histogram) -> Markup {
    let [low, high] = histogram.range;
    let x = Axis::exact(low, high, [4.0, WIDTH - 4.0]);
    let floor = HEIGHT - BOTTOM;
    let description = format!(
        "{}: {} weights from {} to {}, {} values",
        layer.name,
        thousands(layer.count as u64),
        number(low),
        number(high),
        layer.distinct
    );
    html! {
        figure.histogram {
            figcaption {
                b title=(layer.name) { (layer.name.trim_end_matches(".weight")) }
                span.muted {
                    (layer.bits) " bits"
                    @if layer.codebooks > 1 { ", " (thousands(layer.codebooks as u64)) " codebooks" }
                }
            }
            svg role="img" aria-label=(description) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
                path.bins d=(outline(&histogram.bins, floor)) {}
                path.values d=(stems(&histogram.values, &x, floor)) {}
                line.axis x1="0" x2=(WIDTH) y1=(floor) y2=(floor) {}
                text.start x="4" y=(HEIGHT - 3.0) { (number(low)) }
                text.end x=(WIDTH - 4.0) y=(HEIGHT - 3.0) { (number(high)) }
            }
        }
    }
}

/// The outline of the bins.
fn outline(bins: &[u64], floor: f64) -> String {
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = (WIDTH - 8.0) / bins.len().max(1) as f64;
    let mut path = format!("M4 {}", at(floor));
    for (i, &n) in bins.iter().enumerate() {
        let y = floor - (floor - 6.0) * n as f64 / most;
        path += &format!("V{}H{}", at(y), at(4.0 + step * (i + 1) as f64));
    }
    path + &format!("V{}z", at(floor))
}

/// A stem for every value, as high as its share of the weights.
fn stems(values: &[(f64, u64)], x: &Axis, floor: f64) -> String {
    let most = values.iter().map(|v| v.1).max().unwrap_or(0).max(1) as f64;
    let stem = |&(value, n): &(f64, u64)| {
        let height = 4.0 + (floor - 12.0) * n as f64 / most;
        format!("M{} {}v-{}", at(x.place(value)), at(floor), at(height))
    };
    values.iter().map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_values_keep_their_places() {
        let before: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        let after: Vec<f32> = before.iter().map(|v| if *v < 0.5 { 0.25 } else { 0.75 }).collect();
        let found = histogram(Some(&before), &after);
        assert_eq!(found.values, [(0.25, 500), (0.75, 500)]);
        assert_eq!(found.bins.iter().sum::<u64>() + found.outside, 1000);
        let alone = histogram(None, &after);
        assert!(alone.bins.is_empty() && alone.values.len() == 2);
    }

    #[test]
    fn an_outlier_is_counted_and_does_not_flatten_the_rest() {
        let mut before: Vec<f32> = (0..10_000).map(|i| (i as f32 / 10_000.0) - 0.5).collect();
        before[0] = 1e6;
        let found = histogram(Some(&before), &before);
        assert!(found.range[1] < 1.0, "{:?}", found.range);
        assert_eq!(found.outside, 20);
    }

    proptest! {
        #[test]
        fn every_weight_is_counted(before in prop::collection::vec(any::<f32>(), 0..50)) {
            let found = histogram(Some(&before), &before);
            let finite = before.iter().filter(|v| v.is_finite()).count();
            if finite > 0 {
                prop_assert_eq!(found.bins.iter().sum::<u64>() + found.outside, before.len() as u64);
            }
            let path = outline(&found.bins, 80.0);
            prop_assert!(!path.contains("NaN") && !path.contains("inf"));
        }
    }
}
