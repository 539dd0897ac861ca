//! Features for Caffe's solvers: several losses, steps of several batches, restored histories.

use slq_engine::{
    CpuExecutor, EngineError, EngineOptions, Executor, Head, Penalty, StepSettings, Target, UpdateRule,
};
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};

const LABELS: [u32; 6] = [0, 1, 2, 2, 1, 0];

fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// x (4) -> h (5, ReLU) -> y (3), with a second classifier `side` (3) on h.
fn net() -> Graph {
    let mut graph = Graph::default();
    let value = |name: &str, n| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(vec![Dim::Symbol("N".into()), Dim::Known(n)]),
    };
    graph.inputs.push(value("x", 4));
    graph.outputs.extend([value("y", 3), value("side", 3)]);
    let gemm = |name: &str, from: &str, weight: &str, to: &str| {
        Node::new(name, "Gemm", &[from, weight], &[to]).with("transB", Attribute::Int(1))
    };
    graph.nodes.push(gemm("fc1", "x", "W1", "a"));
    graph.nodes.push(Node::new("relu", "Relu", &["a"], &["h"]));
    graph.nodes.push(gemm("fc2", "h", "W2", "y"));
    graph.nodes.push(gemm("aux", "h", "W3", "side_scores"));
    graph.nodes.push(Node::new("prob", "Softmax", &["side_scores"], &["side"]));
    for (seed, (name, shape)) in
        [("W1", vec![5, 4]), ("W2", vec![3, 5]), ("W3", vec![3, 5])].into_iter().enumerate()
    {
        let values = noise(shape.iter().product(), seed as u32 + 1);
        graph.weights.insert(name.into(), Tensor::f32(shape, values).unwrap().into());
    }
    graph
}

fn executor(graph: &Graph, heads: &[(&str, f32)]) -> CpuExecutor {
    let heads = heads.iter().map(|&(output, weight)| Head::softmax(output, weight)).collect();
    CpuExecutor::new(graph, 6, &EngineOptions { heads, ..EngineOptions::default() }).unwrap()
}

/// Loss and gradients of one training step.
fn step(executor: &mut CpuExecutor) -> (f64, Vec<Vec<f32>>) {
    let images = noise(24, 9);
    let seen = executor.train_step(&images, Target::Labels(&LABELS), &StepSettings::default()).unwrap();
    let gradient = |name| executor.gradient(name).map(<[f32]>::to_vec).unwrap_or_default();
    (seen.loss, ["W1", "W2", "W3"].map(gradient).to_vec())
}

#[test]
fn several_losses_add_up_by_their_weights() {
    let graph = net();
    let mut swapped = graph.clone();
    swapped.outputs.reverse();
    let (main, of_main) = step(&mut executor(&graph, &[]));
    let (side, of_side) = step(&mut executor(&swapped, &[]));
    let (both, of_both) = step(&mut executor(&graph, &[("y", 1.0), ("side", 0.3)]));
    assert!((both - (main + 0.3 * side)).abs() < 1e-6, "{both} is not {main} + 0.3 x {side}");
    assert!(of_main[2].is_empty(), "without its loss the side classifier has no gradient");
    for i in 0..of_both[0].len() {
        let want = of_main[0][i] + 0.3 * of_side[0][i];
        assert!((of_both[0][i] - want).abs() < 1e-6, "W1[{i}]: {} is not {want}", of_both[0][i]);
    }
    assert_eq!(of_both[1], of_main[1]);
    for (both, side) in of_both[2].iter().zip(&of_side[2]) {
        assert!((both - 0.3 * side).abs() < 1e-7);
    }
}

#[test]
fn losses_where_none_can_be_are_refused() {
    let graph = net();
    let refused = |heads: &[(&str, f32)]| {
        let heads = heads.iter().map(|&(output, weight)| Head::softmax(output, weight)).collect();
        let built = CpuExecutor::new(&graph, 6, &EngineOptions { heads, ..EngineOptions::default() });
        matches!(built, Err(EngineError::Head { .. }))
    };
    assert!(refused(&[("nowhere", 1.0)]));
    assert!(refused(&[("y", 1.0), ("side", f32::NAN)]));
    let mut twice = net();
    twice.outputs.push(ValueInfo { name: "a".into(), dtype: DType::F32, shape: None });
    twice.nodes.push(Node::new("copy", "Identity", &["y"], &["again"]));
    twice.outputs[2].name = "again".into();
    let mut executor = executor(&twice, &[("y", 1.0), ("again", 1.0)]);
    let images = noise(24, 9);
    let outcome = executor.train_step(&images, Target::Labels(&LABELS), &StepSettings::default());
    assert!(matches!(outcome, Err(EngineError::Head { .. })), "{outcome:?}");
}

#[test]
fn a_step_of_two_half_batches_is_a_step_of_the_whole() {
    let graph = net();
    let images = noise(24, 9);
    let settings = StepSettings { rule: UpdateRule::Caffe, ..StepSettings::default() };
    let (mut whole, mut parts) = (executor(&graph, &[]), executor(&graph, &[]));
    for _ in 0..3 {
        whole.train_step(&images, Target::Labels(&LABELS), &settings).unwrap();
        parts.accumulate(&images[..12], Target::Labels(&LABELS[..3])).unwrap();
        let two = StepSettings { iter_size: 2, ..settings };
        parts.train_step(&images[12..], Target::Labels(&LABELS[3..]), &two).unwrap();
    }
    for name in ["W1", "W2"] {
        let (a, b) = (whole.parameter(name).unwrap(), parts.parameter(name).unwrap());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
        assert_ne!(a, graph.weights[name].tensor.as_f32().unwrap());
    }
    assert_eq!((whole.iteration(), parts.iteration()), (3, 6));
}

#[test]
fn clipping_looks_at_the_sum_before_it_is_divided() {
    let graph = net();
    let images = noise(24, 9);
    let moved = |clip, iter_size| {
        let mut executor = executor(&graph, &[]);
        for _ in 1..iter_size {
            executor.accumulate(&images, Target::Labels(&LABELS)).unwrap();
        }
        let settings = StepSettings {
            clip_gradients: clip,
            iter_size,
            weight_decay: 0.0,
            rule: UpdateRule::Caffe,
            ..StepSettings::default()
        };
        executor.train_step(&images, Target::Labels(&LABELS), &settings).unwrap();
        let before = graph.weights["W2"].tensor.as_f32().unwrap();
        let after = executor.parameter("W2").unwrap();
        before.iter().zip(after).map(|(b, a)| f64::from(b - a)).collect::<Vec<f64>>()
    };
    // The limit binds in all cases: two equal batches then move half as far as one.
    let (one, two) = (moved(Some(1e-3), 1), moved(Some(1e-3), 2));
    assert!(one.iter().zip(&two).all(|(a, b)| (a - 2.0 * b).abs() < 1e-6), "{one:?} {two:?}");
    let (free, free2) = (moved(None, 1), moved(None, 2));
    assert!(free.iter().zip(&free2).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn every_rule_goes_on_from_its_restored_history() {
    let rules = [
        UpdateRule::Caffe,
        UpdateRule::Adam { momentum2: 0.99, delta: 1e-8 },
        UpdateRule::RmsProp { decay: 0.9, delta: 1e-6 },
        UpdateRule::AdaGrad { delta: 1e-6 },
        UpdateRule::AdaDelta { delta: 1e-4 },
    ];
    let images = noise(24, 9);
    for (rule, penalty) in rules.into_iter().zip([Penalty::L2, Penalty::L1].into_iter().cycle()) {
        let at = |iteration| StepSettings { rule, penalty, iteration, ..StepSettings::default() };
        let mut straight = executor(&net(), &[]);
        let mut graph = net();
        let (mut history, mut halfway) = (Vec::new(), 0);
        for t in 0..6 {
            if t == 3 {
                history = straight.momentum();
                halfway = straight.iteration();
                straight.store_parameters(&mut graph).unwrap();
            }
            straight.train_step(&images, Target::Labels(&LABELS), &at(t)).unwrap();
        }
        let mut resumed = executor(&graph, &[]);
        resumed.set_momentum(&history).unwrap();
        resumed.set_iteration(halfway);
        for t in 3..6 {
            resumed.train_step(&images, Target::Labels(&LABELS), &at(t)).unwrap();
        }
        for name in ["W1", "W2"] {
            assert_eq!(straight.parameter(name), resumed.parameter(name), "{rule:?} {name}");
        }
    }
}

#[test]
fn gradients_that_wait_for_their_step_count_once_in_the_peak_memory() {
    let mut executor = executor(&net(), &[]);
    let images = noise(24, 9);
    executor.train_step(&images, Target::Labels(&LABELS), &StepSettings::default()).unwrap();
    let before = executor.peak_bytes();
    executor.accumulate(&images, Target::Labels(&LABELS)).unwrap();
    // One value for each weight of W1 and W2; W3 has no loss here.
    assert_eq!(executor.peak_bytes() - before, 4 * (20 + 15));
}
