//! The size of AlexNet's first fully connected layer. A minute of work: `cargo test --release -p slq-lowrank --test
//! large -- --ignored --nocapture`.

use std::time::Instant;

use faer::Mat;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use slq_lowrank::Svd;

const ROWS: usize = 4096;
const COLS: usize = 9216;
/// Singular values that are not zero; the last half is what rank 512 cannot keep.
const FULL: usize = 1024;
const RANK: usize = 512;

#[test]
#[ignore = "takes a minute"]
fn rank_512_of_4096_by_9216_takes_less_than_a_minute() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut orthonormal = |rows: usize| {
        let noise = Mat::from_fn(rows, FULL, |_, _| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5);
        noise.qr().compute_thin_Q()
    };
    let (u, v) = (orthonormal(ROWS), orthonormal(COLS));
    let value = |k: usize| 1.0 / ((k + 1) as f64).sqrt();
    let scaled = Mat::from_fn(ROWS, FULL, |i, k| u[(i, k)] * value(k));
    let product = &v * scaled.transpose(); // transposed: its columns are the rows
    let values: Vec<f32> = (0..ROWS).flat_map(|i| product.col(i).iter().map(|&x| x as f32)).collect();

    let began = Instant::now();
    let svd = Svd::leading(&values, ROWS, COLS, RANK, 0).unwrap();
    let (left, right) = svd.factors(RANK);
    let seconds = began.elapsed().as_secs_f64();

    assert_eq!((left.len(), right.len()), (ROWS * RANK, COLS * RANK));
    let best: f64 = (RANK..FULL).map(|k| value(k).powi(2)).sum();
    let excess = svd.squared_error(RANK) / best - 1.0;
    println!(
        "{ROWS} x {COLS} at rank {RANK}: {seconds:.1} s on {} threads, relative squared error {:.4}, {:.3} % above the \
         optimum",
        rayon::current_num_threads(),
        svd.squared_error(RANK) / svd.energy(),
        100.0 * excess
    );
    assert!(seconds < 60.0 && excess < 0.01);
}
