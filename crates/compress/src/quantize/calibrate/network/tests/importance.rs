//! What an error of each weight counts.

use super::super::super::matrix::{Shrinkage, TargetOptions};
use super::*;

fn unshrunk() -> NetworkOptions {
    let targets = TargetOptions { shrinkage: Shrinkage::Fixed(0.0), ..TargetOptions::default() };
    NetworkOptions { targets, ..options() }
}

#[test]
fn an_error_counts_by_the_square_of_the_input_it_meets() {
    let mut net = Net::new(&[4]);
    net.noisy("w", &[3, 4], 1);
    net.node("Gemm", &["x", "w"], "y", &[("transB", Attribute::Int(1))]);
    let graph = net.finish("y");
    let values: Vec<f32> =
        noise(32 * 4, 7).iter().zip([0.0, 1.0, 2.0, 3.0].iter().cycle()).map(|(v, s)| v * s).collect();
    let square =
        |column: usize| values.iter().skip(column).step_by(4).map(|v| f64::from(v * v)).sum::<f64>() / 32.0;
    let mean = (0..4).map(square).sum::<f64>() / 4.0;
    let inputs = vec![vec![("x".to_owned(), Tensor::f32(vec![32, 4], values.clone()).unwrap())]];
    let (layers, options) = (layers(&graph, 2, Books::Tensor), unshrunk());
    let found = input_importance(&job(&graph, &layers, &inputs, &options)).unwrap();
    let found = found[0].as_ref().unwrap();
    for (i, &found) in found.iter().enumerate() {
        let expected = square(i % 4) + 0.01 * mean;
        assert!((f64::from(found) - expected).abs() < 1e-4 * expected, "{i}: {found} {expected}");
    }
}

#[test]
fn rows_count_by_the_batch_norm_behind_them_and_other_layers_say_why_not() {
    let mut graph = network();
    let inputs = images(&[6, 6]);
    let mut layers = layers(&graph, 4, Books::Tensor);
    let options = unshrunk();
    let of = |graph: &Graph, layers: &[LayerSpec]| {
        input_importance(&job(graph, layers, &inputs, &options)).unwrap()
    };
    let found = of(&graph, &layers);
    assert!(found.iter().zip(&layers).all(|(found, layer)| {
        found.as_ref().unwrap().len() == graph.weights[&layer.weight].tensor.len()
    }));
    // A scale of half the size counts a quarter.
    let before = found[0].as_ref().unwrap();
    let gamma = graph.weights["n1.gamma"].tensor.as_f32_mut().unwrap();
    let largest = (0..8).max_by(|&a, &b| before[a * 27].total_cmp(&before[b * 27])).unwrap();
    let other = (largest + 1) % 8;
    gamma[other] /= 2.0;
    let after = of(&graph, &layers);
    let after = after[0].as_ref().unwrap();
    for i in 0..27 {
        let (own, rest) = (
            after[other * 27 + i] / before[other * 27 + i],
            after[largest * 27 + i] / before[largest * 27 + i],
        );
        assert!((own - 0.25).abs() < 1e-4 && (rest - 1.0).abs() < 1e-4, "{own} {rest}");
    }
    layers[2].node = "another".into();
    let found = of(&graph, &layers);
    assert!(found[2].as_ref().unwrap_err().contains("another"));
    assert!(found[3].is_ok());
}
