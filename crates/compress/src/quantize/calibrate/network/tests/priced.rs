//! Bits at a price.

use super::*;

/// Bits of each layer's codes at their entropy, by `rate` and by how far each layer's noise moves the outputs.
fn entropies(rate: f64, rises: &[f64]) -> Vec<f64> {
    let (graph, inputs) = (network(), images(&[6, 6, 6]));
    let layers = layers(&graph, 8, Books::Tensor);
    let options = NetworkOptions { solve: SolveOptions { rate, ..options().solve }, ..options() };
    let mut state = State::new(&graph);
    let job = Job { rises, ..job(&graph, &layers, &inputs, &options) };
    calibrate(&job, &mut state, &mut |_| Ok(())).unwrap();
    let bits = |layer: &LayerSpec| {
        let codes = state.graph.weights[&layer.weight].palette.as_ref().unwrap().codes();
        let mut counts = [0.0f64; 8];
        codes.iter().for_each(|&c| counts[usize::from(c)] += 1.0);
        let total = codes.len() as f64;
        counts.iter().filter(|&&c| c > 0.0).map(|c| -c * (c / total).log2()).sum()
    };
    layers.iter().map(bits).collect()
}

#[test]
fn bits_go_where_the_outputs_need_them() {
    let free = entropies(0.0, &[]);
    let (first, last) = (entropies(3.0, &[1.0, 0.1, 0.1, 0.01]), entropies(3.0, &[0.01, 0.1, 0.1, 1.0]));
    assert!(first[0] > 1.2 * last[0] && first[3] < last[3] / 1.2, "{first:?} {last:?}");
    let sum = |bits: &[f64]| bits.iter().sum::<f64>();
    assert!(sum(&first) < sum(&free) && sum(&last) < 0.9 * sum(&free), "{free:?} {first:?} {last:?}");
    // Where the outputs are not known, the noise in each layer's own counts.
    let unpriced = entropies(10.0, &[]);
    assert!(sum(&unpriced) < 0.9 * sum(&free), "{unpriced:?} {free:?}");
}
