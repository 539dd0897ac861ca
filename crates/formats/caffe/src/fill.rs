//! Fillers: initial values of weights that no caffemodel gives.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::proto::FillerParameter;
use crate::proto::filler_parameter::VarianceNorm;

/// Values for a weight of `shape`. The random numbers depend on `seed` and `name` alone, so that a weight gets the same
/// values whatever else the net contains.
///
/// # Errors
/// A sentence that names the invalid field of the filler.
pub(crate) fn fill(
    filler: &FillerParameter,
    shape: &[usize],
    seed: u64,
    name: &str,
) -> Result<Vec<f32>, String> {
    let count: usize = shape.iter().product();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv(name));
    let first = shape.first().copied().unwrap_or(1).max(1);
    let second = shape.get(1).copied().unwrap_or(1).max(1);
    let (fan_in, fan_out) = ((count / first) as f64, (count / second) as f64);
    let fan = match filler.variance_norm() {
        VarianceNorm::FanIn => fan_in,
        VarianceNorm::FanOut => fan_out,
        VarianceNorm::Average => (fan_in + fan_out) / 2.0,
    };
    let values = match filler.r#type() {
        "constant" => vec![filler.value(); count],
        "uniform" => uniform(&mut rng, count, filler.min().into(), filler.max().into()),
        "xavier" => {
            let limit = (3.0 / fan.max(1.0)).sqrt();
            uniform(&mut rng, count, -limit, limit)
        }
        "msra" => normal(&mut rng, count, 0.0, (2.0 / fan.max(1.0)).sqrt()),
        "gaussian" => {
            let mut values = normal(&mut rng, count, filler.mean().into(), filler.std().into());
            if filler.sparse() >= 0 {
                let keep = f64::from(filler.sparse()) / first as f64;
                for v in &mut values {
                    if rng.random::<f64>() >= keep {
                        *v = 0.0;
                    }
                }
            }
            values
        }
        "positive_unitball" => {
            let mut values = uniform(&mut rng, count, 0.0, 1.0);
            for row in values.chunks_mut((count / first).max(1)) {
                let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / sum.max(f64::MIN_POSITIVE)) as f32);
            }
            values
        }
        "bilinear" => return bilinear(shape),
        other => return Err(format!("filler type `{other}` is not known")),
    };
    Ok(values)
}

fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

fn uniform(rng: &mut ChaCha8Rng, count: usize, min: f64, max: f64) -> Vec<f32> {
    (0..count).map(|_| (min + (max - min) * rng.random::<f64>()) as f32).collect()
}

/// Normal deviates by the method of Box and Muller, in double precision.
fn normal(rng: &mut ChaCha8Rng, count: usize, mean: f64, std: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.push((mean + std * radius * cos) as f32);
        values.push((mean + std * radius * sin) as f32);
    }
    values.truncate(count);
    values
}

/// Weights that make a deconvolution interpolate bilinearly.
fn bilinear(shape: &[usize]) -> Result<Vec<f32>, String> {
    let &[n, c, h, w] = shape else {
        return Err("the bilinear filler needs a weight of four axes".into());
    };
    if h != w {
        return Err(format!("the bilinear filler needs a square kernel, not {h} x {w}"));
    }
    let factor = w.div_ceil(2) as f32;
    let centre = (2.0 * factor - 1.0 - factor % 2.0) / (2.0 * factor);
    let tap = |i: usize| 1.0 - (i as f32 / factor - centre).abs();
    let kernel = (0..h).flat_map(|y| (0..w).map(move |x| tap(y) * tap(x)));
    let kernel: Vec<f32> = kernel.collect();
    Ok(kernel.iter().copied().cycle().take(n * c * h * w).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(text: &str) -> FillerParameter {
        crate::text::parse(std::path::Path::new("t"), text, "FillerParameter").unwrap()
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, var.sqrt())
    }

    #[test]
    fn moments_follow_the_fans() {
        // [64, 32, 5, 5]: fan-in 800, fan-out 1600; 51 200 values keep the sampling error below 1 %.
        let table = [
            ("type: 'xavier'", 0.0, (1.0f64 / 800.0).sqrt()),
            ("type: 'xavier' variance_norm: FAN_OUT", 0.0, (1.0f64 / 1600.0).sqrt()),
            ("type: 'xavier' variance_norm: AVERAGE", 0.0, (1.0f64 / 1200.0).sqrt()),
            ("type: 'msra'", 0.0, (2.0f64 / 800.0).sqrt()),
            ("type: 'gaussian' mean: 2 std: 0.5", 2.0, 0.5),
            ("type: 'uniform' min: -1 max: 3", 1.0, 4.0 / 12f64.sqrt()),
            ("value: 0.25", 0.25, 0.0),
        ];
        for (text, mean, std) in table {
            let values = fill(&filler(text), &[64, 32, 5, 5], 7, "w").unwrap();
            let (m, s) = moments(&values);
            assert!((m - mean).abs() < 0.03 * std.max(1e-9), "{text}: mean {m}");
            assert!((s - std).abs() <= 0.02 * std, "{text}: deviation {s}, not {std}");
        }
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let f = filler("type: 'gaussian'");
        let make = |seed, name| fill(&f, &[4, 4], seed, name).unwrap();
        assert_eq!(make(1, "a"), make(1, "a"));
        assert_ne!(make(1, "a"), make(2, "a"));
        assert_ne!(make(1, "a"), make(1, "b"));
    }

    #[test]
    fn bilinear_kernel_of_side_four() {
        let values = fill(&filler("type: 'bilinear'"), &[2, 1, 4, 4], 0, "w").unwrap();
        let row = [0.25, 0.75, 0.75, 0.25];
        let expected: Vec<f32> = (0..32).map(|i| row[i / 4 % 4] * row[i % 4]).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn unknown_and_unsuitable_fillers_are_errors() {
        assert!(fill(&filler("type: 'magic'"), &[2], 0, "w").unwrap_err().contains("magic"));
        assert!(fill(&filler("type: 'bilinear'"), &[2, 2], 0, "w").is_err());
        assert!(fill(&filler("type: 'bilinear'"), &[1, 1, 2, 3], 0, "w").is_err());
    }

    #[test]
    fn sparse_keeps_the_asked_share() {
        let values = fill(&filler("type: 'gaussian' sparse: 16"), &[64, 1000], 3, "w").unwrap();
        let share = values.iter().filter(|&&v| v != 0.0).count() as f64 / values.len() as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
    }
}
