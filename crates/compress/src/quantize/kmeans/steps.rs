//! Evenly spaced values for short runs of weights, of which a large layer has millions.

/// Longest run that the grid serves; longer ones get the search with a proven error.
pub(super) const SHORT: usize = 1024;
/// Steps tried, from the one that reaches the largest weight downwards.
const TRIED: u32 = 25;
/// The grid divides that largest step into so many parts.
const PARTS: f64 = 32.0;
/// Times the step of least squares is taken for the codes as they are.
const REFINED: usize = 3;

/// The `size` values `(i - m) step`, ascending, with `m = (size - 1) / 2` for an odd size: the step of least squared error among 25
/// steps between a quarter of the largest and the largest, each refined three times by least squares.
pub(super) fn codebook(values: &[f32], size: usize) -> Vec<f32> {
    let most = (size.saturating_sub(1) / 2).max(1) as f64;
    let reach = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let largest = f64::from(reach) / most;
    let mut best = (f64::INFINITY, largest);
    for part in 0..TRIED {
        let mut step = largest * (1.0 - f64::from(part) / PARTS);
        for _ in 0..=REFINED {
            let (error, next) = at(values, step, most);
            if error < best.0 {
                best = (error, step);
            }
            match next {
                Some(next) if next != step => step = next,
                _ => break,
            }
        }
    }
    let step = best.1 as f32;
    (0..size).map(|i| (i as f32 - most as f32) * step).collect()
}

/// Squared error at a step, and the step of least squared error for the same codes.
fn at(values: &[f32], step: f64, most: f64) -> (f64, Option<f64>) {
    if step <= 0.0 {
        return (values.iter().map(|v| f64::from(*v).powi(2)).sum(), None);
    }
    let (mut error, mut cross, mut square) = (0.0, 0.0, 0.0);
    for &value in values {
        let value = f64::from(value);
        let level = (value / step).round().clamp(-most, most);
        error += (value - level * step).powi(2);
        cross += level * value;
        square += level * level;
    }
    (error, (cross > 0.0 && square > 0.0).then(|| cross / square))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_is_close_to_the_proven_search() {
        let values: Vec<f32> =
            (0..640u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 4e6 - 2.0).collect();
        let error = |book: &[f32], run: &[f32]| {
            let nearest =
                |v: &f32| book.iter().map(|c| f64::from(c - v).powi(2)).fold(f64::INFINITY, f64::min);
            run.iter().map(nearest).sum::<f64>()
        };
        for (size, worse) in [(3, 1.05), (7, 1.05), (15, 1.1), (31, 1.25)] {
            let (mut ours, mut proven) = (0.0, 0.0);
            for run in values.chunks(32) {
                ours += error(&codebook(run, size), run);
                proven += error(&slq_codebook::uniform_codebook(run, size).unwrap(), run);
            }
            assert!(ours <= worse * proven, "{size}: {ours} beside {proven}");
        }
        assert_eq!(codebook(&[0.0; 32], 15).iter().map(|v| v.abs()).fold(0.0, f32::max), 0.0);
        assert_eq!(codebook(&[0.7, -0.7, 0.7], 3), [-0.7, 0.0, 0.7]);
    }
}
