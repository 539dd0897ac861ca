//! Matrices stored by output channels behind a `Transpose`.

use super::*;

/// Two products of one input, added and multiplied again, with biases.
fn products() -> Graph {
    let mut net = Net::new(&[6, 16]);
    for (at, (from, to)) in [("x", "a"), ("x", "b"), ("s", "c"), ("r", "d")].into_iter().enumerate() {
        if to == "c" {
            net.node("Sub", &["a.sum", "b.sum"], "s", &[]);
        } else if to == "d" {
            net.node("Relu", &["c.sum"], "r", &[]);
        }
        net.noisy(&format!("{to}.w"), &[16, 16], at as u64);
        net.noisy(&format!("{to}.b"), &[16], 10 + at as u64);
        net.node("MatMul", &[from, &format!("{to}.w")], to, &[]);
        net.node("Add", &[to, &format!("{to}.b")], &format!("{to}.sum"), &[]);
    }
    net.finish("d.sum")
}

fn batches(counts: &[usize], seed: u64) -> Vec<Vec<(String, Tensor)>> {
    let one = |(i, &n): (usize, &usize)| {
        let values = noise(n * 96, seed + i as u64);
        vec![("x".to_owned(), Tensor::f32(vec![n, 6, 16], values).unwrap())]
    };
    counts.iter().enumerate().map(one).collect()
}

#[test]
fn a_turned_matrix_is_fitted_as_it_was_and_its_channels_have_codebooks() {
    let (graph, inputs, fresh) = (products(), batches(&[5, 5, 3], 50), batches(&[8], 90));
    let mut rows = graph.clone();
    assert_eq!(rows.turn_rows(|_| true), ["a.w", "b.w", "c.w", "d.w"]);
    let of = |graph: &Graph, books| run(graph, &layers(graph, 4, books), &inputs, &options());
    let error = |found: &State| distance(&graph, &found.graph, "d.sum", &fresh);
    let all = |found: &State| found.reports.iter().all(|r| matches!(r.outcome, Outcome::Calibrated(_)));
    let (plain, turned) = (of(&graph, Books::Tensor), of(&rows, Books::Tensor));
    assert!(all(&plain) && all(&turned));
    for (a, b) in plain.reports.iter().zip(&turned.reports) {
        let (Outcome::Calibrated(a), Outcome::Calibrated(b)) = (&a.outcome, &b.outcome) else {
            unreachable!()
        };
        assert_eq!((a.columns, a.corrected, a.samples), (b.columns, b.corrected, b.samples));
        assert!(
            (a.progress.end / b.progress.end - 1.0).abs() < 0.02,
            "{} {}",
            a.progress.end,
            b.progress.end
        );
    }
    assert!((error(&plain) / error(&turned) - 1.0).abs() < 0.05);
    let by_channel = of(&rows, Books::Rows(1));
    assert!(all(&by_channel));
    assert!(error(&by_channel) < 0.7 * error(&turned), "{} {}", error(&by_channel), error(&turned));
    let groups = |name: &str| by_channel.graph.weights[name].palette.as_ref().unwrap().groups();
    assert_eq!(["a.w", "b.w", "c.w", "d.w"].map(groups), [16; 4]);
}

#[test]
fn a_transpose_at_the_front_is_computed_from_the_weights_now() {
    let (graph, inputs) = (products(), batches(&[5, 5], 50));
    let mut rows = graph.clone();
    rows.turn_rows(|_| true);
    let mut front = rows.clone();
    front.nodes.sort_by_key(|n| n.op != "Transpose");
    let of = |graph: &Graph| run(graph, &layers(graph, 4, Books::Rows(1)), &inputs, &options());
    let (near, far) = (of(&rows), of(&front));
    for (name, weight) in &near.graph.weights {
        assert!(weight.tensor.data().is_identical(far.graph.weights[name].tensor.data()), "{name}");
    }
}
