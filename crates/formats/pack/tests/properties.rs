//! Random graphs come back, and the same graph gives the same bytes.

mod common;

use common::{difference, graph_of, set_palette};
use proptest::collection::vec;
use proptest::prelude::*;
use slq_graph::{Palette, Tensor, Weight};
use slq_pack::{Effort, Reader, WriteOptions, write_bytes};

/// A float weight of any bits, NaN with payloads included, or a palette of K values in some groups.
fn weight() -> impl Strategy<Value = Weight> {
    let floats = (1usize..12, vec(any::<u32>(), 0..12)).prop_map(|(rows, bits)| {
        let values: Vec<f32> =
            bits.iter().cycle().take(rows * bits.len()).map(|&b| f32::from_bits(b)).collect();
        Weight::from(Tensor::f32(vec![rows, bits.len()], values).unwrap())
    });
    let palette = (1usize..=256, 1usize..5, 0usize..40, 1usize..4, any::<u64>(), any::<bool>());
    let palette = palette.prop_map(|(k, groups, columns, kernel, seed, sorted)| {
        let mut seed = seed;
        let mut random = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u32
        };
        let mut codebook: Vec<f32> = (0..k * groups)
            .map(|_| Some(f32::from_bits(random() << 1)).filter(|v| v.is_finite()).unwrap_or(-0.0))
            .collect();
        if sorted {
            codebook.chunks_mut(k).for_each(|book| book.sort_by(f32::total_cmp));
        }
        let shape = vec![groups, columns, kernel, kernel];
        let count: usize = shape.iter().product();
        // Small numbers are likelier.
        let codes = (0..count).map(|_| ((random() % k as u32) & random()) as u8).collect();
        let mut weight = Tensor::f32(shape, vec![0.0; count]).unwrap().into();
        set_palette(&mut weight, Palette::fully_fixed(codebook, groups, codes).unwrap());
        weight
    });
    prop_oneof![floats, palette]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn graphs_come_back(weights in vec(weight(), 0..6), effort in 0usize..3) {
        let effort = [Effort::Fast, Effort::Balanced, Effort::Smallest][effort];
        let named = weights.into_iter().enumerate().map(|(i, w)| (format!("w{i}"), w)).collect();
        let graph = graph_of(named);
        let options = WriteOptions { effort, ..WriteOptions::default() };
        let packed = write_bytes(&graph, &options).unwrap();
        let reader = Reader::from_bytes(&packed.bytes).unwrap();
        prop_assert_eq!(difference(&graph, &reader.graph().unwrap()), None);
        prop_assert_eq!(write_bytes(&graph, &options).unwrap().bytes, packed.bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Reader::from_bytes(&bytes).is_err());
        let started = [&[0x89, b'S', b'L', b'Q', 1, 0, 1, 0][..], &bytes].concat();
        prop_assert!(Reader::from_bytes(&started).is_err());
    }
}
