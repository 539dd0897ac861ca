//! Helpers that the kernel tests share.

use crate::Isa;

/// Reproducible values in -1..1.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0xD1B5_4A32_D192_ED03);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

/// Asserts that `got` is within `tolerance` times the largest wanted magnitude (at least 1) of `want`.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!(
            (g as f64 - w).abs() <= tolerance * scale,
            "{what}: element {i} is {g}, not {w} (scale {scale})"
        );
    }
}

/// Runs `f` for each supported instruction set on pools of 1, 2 and 3 threads, asserts equal bits, and returns the
/// results, one for each instruction set.
#[track_caller]
pub(crate) fn on_all(f: impl Fn(Isa) -> Vec<f32> + Sync) -> Vec<(Isa, Vec<f32>)> {
    let mut out = Vec::new();
    for isa in Isa::supported() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(|| f(isa))
        };
        let one = run(1);
        for threads in [2, 3] {
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&one), bits(&run(threads)), "{isa}: {threads} threads differ from one");
        }
        out.push((isa, one));
    }
    out
}

/// Widens to `f64`.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| v as f64).collect()
}

/// Central differences of `f` at `x`, in `f64`.
pub(crate) fn differences(x: &[f32], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut at = wide(x);
    (0..x.len())
        .map(|i| {
            let keep = at[i];
            let h = 1e-5;
            at[i] = keep + h;
            let up = f(&at);
            at[i] = keep - h;
            let down = f(&at);
            at[i] = keep;
            (up - down) / (2.0 * h)
        })
        .collect()
}
