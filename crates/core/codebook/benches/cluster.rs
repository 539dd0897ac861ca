//! Speed of every algorithm; its error is printed first.
//!
//! `cargo bench -p slq-codebook`. Values are heavy-tailed; divan counts values per second.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use slq_codebook::{
    Algorithm, ClusterParams, Clustering, SortedValues, assign, cluster, cluster_groups, decode_into,
    error_curve, even_groups, histogram, lloyd_from, pack, published_ladder, unpack,
};

const COUNT: usize = 1 << 20;
const K: [usize; 3] = [3, 17, 256];
const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::Exact, Algorithm::Fast, Algorithm::Lloyd, Algorithm::Published];

fn main() {
    let values = values();
    println!("{:<12}{:>5}{:>16}{:>12}", "algorithm", "k", "above optimum", "bound");
    for k in K {
        let optimum = run(&values, k, Algorithm::Exact).lower_bound;
        for algorithm in ALGORITHMS {
            let c = run(&values, k, algorithm);
            println!(
                "{:<12}{k:>5}{:>16.1e}{:>12.1e}",
                format!("{algorithm:?}"),
                c.sse / optimum - 1.0,
                c.gap()
            );
        }
    }
    divan::main();
}

/// Numbers with a heavy-tailed distribution.
fn values() -> Vec<f32> {
    (0..COUNT as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .map(|u| u / (1.02 - u * u))
        .collect()
}

fn run(values: &[f32], k: usize, algorithm: Algorithm) -> Clustering<u8> {
    let params = ClusterParams::builder(k).algorithm(algorithm).threads(1).build().expect("valid settings");
    cluster(values, &params).expect("finite values")
}

#[divan::bench(args = K)]
fn exact(bencher: Bencher, k: usize) {
    let values = values();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| run(&values, k, Algorithm::Exact));
}

#[divan::bench(args = K)]
fn fast(bencher: Bencher, k: usize) {
    let values = values();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| run(&values, k, Algorithm::Fast));
}

#[divan::bench(args = K)]
fn published(bencher: Bencher, k: usize) {
    let values = values();
    let ladder = published_ladder(&values, k);
    bencher.counter(ItemsCount::new(COUNT)).bench(|| lloyd_from::<u8>(&values, &ladder, &[], 10));
}

#[divan::bench]
fn sort(bencher: Bencher) {
    let values = values();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| SortedValues::new(&values));
}

#[divan::bench(args = [17, 256])]
fn lloyd_on_sorted(bencher: Bencher, k: usize) {
    let sorted = SortedValues::new(&values()).expect("finite values");
    let ladder = published_ladder(sorted.values(), k);
    bencher.counter(ItemsCount::new(COUNT)).bench(|| sorted.lloyd(&ladder, &[], 300));
}

#[divan::bench(args = [32])]
fn curve(bencher: Bencher, k_max: usize) {
    let values = values();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| error_curve(&values, k_max));
}

#[divan::bench(args = [64, 576, 4608])]
fn groups(bencher: Bencher, group_len: usize) {
    let values = values();
    let groups = even_groups(COUNT / 16, group_len);
    let params = ClusterParams::builder(16).build().expect("valid settings");
    bencher
        .counter(ItemsCount::new(COUNT / 16))
        .bench(|| cluster_groups::<u8>(&values[..COUNT / 16], &groups, &params));
}

#[divan::bench(args = K)]
fn encode(bencher: Bencher, k: usize) {
    let values = values();
    let codebook = run(&values, k, Algorithm::Fast).codebook;
    bencher.counter(ItemsCount::new(COUNT)).bench(|| assign::<u8>(&values, &codebook));
}

#[divan::bench(args = K)]
fn decode(bencher: Bencher, k: usize) {
    let c = run(&values(), k, Algorithm::Fast);
    let mut out = vec![0.0; COUNT];
    bencher
        .counter(ItemsCount::new(COUNT))
        .bench_local(|| decode_into(&c.codes, &c.codebook, black_box(&mut out)));
}

#[divan::bench(args = [1, 3, 5, 8])]
fn packing(bencher: Bencher, bits: u32) {
    let codes: Vec<u8> = (0..COUNT).map(|i| (i % (1 << bits)) as u8).collect();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| pack(&codes, bits));
}

#[divan::bench(args = [1, 3, 5, 8])]
fn unpacking(bencher: Bencher, bits: u32) {
    let codes: Vec<u8> = (0..COUNT).map(|i| (i % (1 << bits)) as u8).collect();
    let packed = pack(&codes, bits).expect("codes fit");
    bencher.counter(ItemsCount::new(COUNT)).bench(|| unpack(&packed, bits, COUNT));
}

#[divan::bench]
fn counting(bencher: Bencher) {
    let codes: Vec<u8> = (0..COUNT).map(|i| (i % 17) as u8).collect();
    bencher.counter(ItemsCount::new(COUNT)).bench(|| histogram(&codes, 17));
}
