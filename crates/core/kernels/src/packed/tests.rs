use proptest::prelude::*;

use super::*;
use crate::gemm::{Factor, gemm};
use crate::testing::*;

/// Codes, codebooks, and the floats that they stand for.
fn weights(
    [rows, depth]: [usize; 2],
    size: usize,
    groups: usize,
    seed: u64,
) -> (Vec<u8>, Vec<f32>, Vec<f32>) {
    let book = values(size * groups, seed);
    let codes: Vec<u8> = values(rows * depth, seed + 1)
        .iter()
        .map(|v| ((v + 1.0) * 0.5 * size as f32) as usize % size)
        .map(|c| c as u8)
        .collect();
    let run = (rows * depth / groups).max(1);
    let floats = codes.iter().enumerate().map(|(i, &c)| book[i / run * size + usize::from(c)]).collect();
    (codes, book, floats)
}

/// Compares the product with the definition in double precision and with the float kernel.
fn check(m: usize, shape: [usize; 2], size: usize, groups: usize, scale: [f32; 2]) {
    let [n, k] = shape;
    let (codes, book, floats) = weights(shape, size, groups, 7);
    let matrix = PackedMatrix::new(shape, Order::Rows, &book, groups, &codes).unwrap();
    let (x, y0) = (values(m * k, 3), values(m * n, 4));
    let start = || if scale[1] == 0.0 { vec![f32::NAN; m * n] } else { y0.clone() };
    let want: Vec<f64> = (0..m * n)
        .map(|i| {
            let (row, r) = (&x[i / n * k..][..k], &floats[i % n * k..][..k]);
            let sum: f64 = row.iter().zip(r).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let old = if scale[1] == 0.0 { 0.0 } else { f64::from(scale[1]) * f64::from(y0[i]) };
            f64::from(scale[0]) * sum + old
        })
        .collect();
    for (isa, got) in on_all(|isa| {
        let mut y = start();
        matrix.multiply(isa, &x, scale, &mut y);
        y
    }) {
        let what = format!("{m} x {n} x {k}, {size} values, {groups} groups, {isa}");
        assert_close(&got, &want, 1e-5, &what);
        let mut float = start();
        gemm(isa, [m, n, k], scale[0], Factor::plain(&x), Factor::transposed(&floats), scale[1], &mut float);
        assert_close(&got, &wide(&float), 1e-5, &what);
    }
    for isa in crate::Isa::supported() {
        let mut out = vec![f32::NAN; n * k];
        matrix.expand(isa, 0..n, None, &mut out);
        assert_eq!(out, floats, "{isa}: expanded rows are the centroids, bit for bit");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn products_are_those_of_the_floats(
        m in prop_oneof![Just(1usize), 2usize..6, 15usize..40],
        n in 1usize..40, k in 0usize..700, size in 1usize..=256, grouped: bool,
        scale in prop_oneof![Just([1.0f32, 0.0f32]), Just([0.5, 1.0]), Just([-2.0, 0.25])],
    ) {
        check(m, [n, k], size, if grouped { n } else { 1 }, scale);
    }
}

#[test]
fn products_of_no_terms_are_zero() {
    for m in [1, 3, 17, 40] {
        for n in [1, 6, 39] {
            check(m, [n, 0], 3, 1, [1.0, 0.0]);
            check(m, [n, 0], 3, 1, [-2.0, 0.25]);
        }
    }
}

#[test]
fn every_width_with_whole_lines_and_tails() {
    for bits in 1..=8 {
        for depth in [1, 31, 512, 640, 1537] {
            for (m, groups) in [(1, 1), (1, 6), (3, 2), (17, 1), (33, 6)] {
                check(m, [6, depth], 1 << bits, groups, [1.0, 1.0]);
            }
        }
    }
}

#[test]
fn columns_give_the_same_matrix_as_rows() {
    let (rows, depth) = (13, 200);
    let (codes, book, floats) = weights([rows, depth], 11, 1, 5);
    let transposed: Vec<u8> = (0..rows * depth).map(|i| codes[i % rows * depth + i / rows]).collect();
    let mut builder = PackedBuilder::new([rows, depth], Order::Columns, &book, 1).unwrap();
    transposed.chunks(37).for_each(|part| builder.push(part).unwrap());
    let matrix = builder.finish().unwrap();
    let mut out = vec![0.0; rows * depth];
    matrix.expand(crate::Isa::detect(), 0..rows, None, &mut out);
    assert_eq!(out, floats);
    let factors: Vec<f32> = (0..rows).map(|r| r as f32).collect();
    matrix.expand(crate::Isa::detect(), 3..5, Some(&factors), &mut out[..2 * depth]);
    let scaled = |r: usize, k: usize| floats[r * depth + k] * r as f32;
    assert!((0..2 * depth).all(|i| out[i] == scaled(3 + i / depth, i % depth)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let new = |shape, order, book: &[f32], groups, codes: &[u8]| {
        PackedMatrix::new(shape, order, book, groups, codes).unwrap_err()
    };
    let rows = Order::Rows;
    assert_eq!(new([1, 2], rows, &[0.0; 3], 1, &[0, 3]), PackError::Code { index: 1, code: 3, size: 3 });
    assert_eq!(new([1, 2], rows, &[0.0; 3], 1, &[0]), PackError::Count { found: 1, wanted: 2 });
    assert_eq!(new([1, 2], rows, &[0.0; 3], 1, &[0; 3]), PackError::Count { found: 3, wanted: 2 });
    assert_eq!(new([1, 2], rows, &[], 1, &[]), PackError::Codebooks { centroids: 0, groups: 1 });
    assert_eq!(new([1, 2], rows, &[0.0; 257], 1, &[]), PackError::Codebooks { centroids: 257, groups: 1 });
    assert_eq!(new([1, 2], rows, &[0.0], 0, &[]), PackError::Codebooks { centroids: 1, groups: 0 });
    assert_eq!(new([1, 2], rows, &[f32::NAN], 1, &[]), PackError::NotFinite { index: 0 });
    assert_eq!(new([3, 2], rows, &[0.0; 4], 2, &[]), PackError::Groups { groups: 2, rows: 3 });
    assert_eq!(new([2, 2], Order::Columns, &[0.0; 4], 2, &[]), PackError::Groups { groups: 2, rows: 2 });
    let large = [usize::MAX / 2, 64];
    assert!(matches!(new(large, rows, &[0.0; 2], 1, &[]), PackError::TooLarge { .. }));
}
