//! Several named inputs (token ids, a mask, floats), and training towards the outputs of another network.

use std::sync::Arc;

use slq_engine::{
    CpuExecutor, EngineError, EngineOptions, Executor, Follow, Head, Isa, Loss, StepSettings, Target,
    examples, run,
};
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, TensorData, ValueInfo};

const TOKENS: usize = 3;
const WIDTH: usize = 4;

fn info(name: &str, dtype: DType, rest: &[usize]) -> ValueInfo {
    let batch = std::iter::once(Dim::Symbol("n".into()));
    ValueInfo {
        name: name.into(),
        dtype,
        shape: Some(batch.chain(rest.iter().map(|&d| Dim::Known(d))).collect()),
    }
}

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| draw()).collect()
}

/// Tokens are looked up, masked, multiplied by a matrix and shifted by a float input: `hidden` [n, tokens, width]; class scores
/// of the last axis' softmax `classes` [n, tokens, width].
fn encoder(seed: u64) -> Graph {
    let mut graph = Graph {
        inputs: vec![
            info("ids", DType::I64, &[TOKENS]),
            info("mask", DType::Bool, &[TOKENS, 1]),
            info("shift", DType::F32, &[1, WIDTH]),
        ],
        outputs: vec![
            info("hidden", DType::F32, &[TOKENS, WIDTH]),
            info("classes", DType::F32, &[TOKENS, WIDTH]),
        ],
        ..Graph::default()
    };
    for (i, (name, shape)) in
        [("table", [7, WIDTH]), ("w", [WIDTH, WIDTH]), ("v", [WIDTH, WIDTH])].into_iter().enumerate()
    {
        let tensor = Tensor::f32(shape.to_vec(), values(shape[0] * shape[1], seed + i as u64)).unwrap();
        graph.weights.insert(name.into(), tensor.into());
    }
    graph.nodes = vec![
        Node::new("embed", "Gather", &["table", "ids"], &["e"]),
        Node::new("float", "Cast", &["mask"], &["m"]).with("to", Attribute::Int(1)),
        Node::new("hide", "Mul", &["e", "m"], &["h"]),
        Node::new("dense", "MatMul", &["h", "w"], &["d"]),
        Node::new("add", "Add", &["d", "shift"], &["hidden"]),
        Node::new("head", "MatMul", &["hidden", "v"], &["scores"]),
        Node::new("soft", "Softmax", &["scores"], &["classes"]).with("axis", Attribute::Int(-1)),
    ];
    graph
}

fn batch(count: usize) -> Vec<(&'static str, Tensor)> {
    let ids = (0..count * TOKENS).map(|i| (i * 5 % 7) as i64).collect();
    let mask = (0..count * TOKENS).map(|i| i % 3 != 2).collect();
    vec![
        ("ids", Tensor::new(vec![count, TOKENS], TensorData::I64(ids)).unwrap()),
        ("mask", Tensor::new(vec![count, TOKENS, 1], TensorData::Bool(mask)).unwrap()),
        ("shift", Tensor::f32(vec![count, 1, WIDTH], values(count * WIDTH, 9)).unwrap()),
    ]
}

fn borrowed<'a>(named: &'a [(&'static str, Tensor)]) -> Vec<(&'a str, &'a Tensor)> {
    named.iter().map(|(n, t)| (*n, t)).collect()
}

fn following(teacher: &Graph, isa: Isa) -> EngineOptions {
    let hidden = Head { output: "hidden".into(), weight: 2.0, loss: Loss::SquaredError };
    let follow = Follow { network: Arc::new(teacher.clone()), temperature: 2.0 };
    EngineOptions {
        isa,
        heads: vec![hidden, Head::softmax("classes", 0.5)],
        follow: Some(follow),
        ..Default::default()
    }
}

#[test]
fn batches_give_the_outputs_of_a_single_run() {
    let graph = encoder(1);
    let named = batch(5);
    let wanted = run(&graph, &borrowed(&named), Isa::detect()).unwrap();
    let mut executor = CpuExecutor::new(&graph, 5, &EngineOptions::default()).unwrap();
    let all = examples(executor.inputs(), &borrowed(&named)).unwrap();
    let found = executor.outputs(&all).unwrap();
    for ((name, wanted), found) in wanted.iter().zip(&found) {
        assert_eq!(wanted.as_f32().unwrap(), found, "{name}");
    }
    // Fewer examples than were planned for.
    let row = all.len() / 5;
    let two = executor.outputs(&all[..2 * row]).unwrap();
    assert_eq!(two[0], found[0][..2 * TOKENS * WIDTH]);
    assert!(matches!(executor.outputs(&all[1..]), Err(EngineError::Batch { .. })));
}

#[test]
fn gradients_towards_another_network_are_slopes_of_the_loss() {
    let (graph, teacher) = (encoder(1), encoder(5));
    let options = following(&teacher, Isa::Scalar);
    let mut executor = CpuExecutor::new(&graph, 4, &options).unwrap();
    let all = examples(executor.inputs(), &borrowed(&batch(4))).unwrap();
    let seen = executor.gradients(&all, Target::Network).unwrap();
    let evaluated = executor.evaluate(&all, Some(Target::Network)).unwrap();
    assert!((seen.loss - evaluated.loss).abs() < 1e-6 && seen.loss > 0.0, "{seen:?} {evaluated:?}");
    for name in ["table", "w", "v"] {
        let gradient = executor.gradient(name).unwrap().to_vec();
        assert!(gradient.iter().any(|g| g.abs() > 1e-4), "{name}");
        let before = executor.parameter(name).unwrap().to_vec();
        for at in [0, 5, before.len() - 1] {
            let mut loss = |by: f32| {
                let mut moved = before.clone();
                moved[at] += by;
                executor.set_parameter(name, &moved).unwrap();
                executor.evaluate(&all, Some(Target::Network)).unwrap().loss
            };
            let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[at])).abs() < 2e-3, "{name} {at}: {slope} {}", gradient[at]);
        }
        executor.set_parameter(name, &before).unwrap();
    }
}

#[test]
fn training_moves_a_network_to_the_one_it_follows() {
    let (graph, teacher) = (encoder(1), encoder(5));
    let mut executor = CpuExecutor::new(&graph, 4, &following(&teacher, Isa::detect())).unwrap();
    assert!(executor.follows());
    let all = examples(executor.inputs(), &borrowed(&batch(4))).unwrap();
    let before = executor.evaluate(&all, Some(Target::Network)).unwrap();
    let step = StepSettings { learning_rate: 0.5, weight_decay: 0.0, ..StepSettings::default() };
    for _ in 0..200 {
        executor.train_step(&all, Target::Network, &step).unwrap();
    }
    let after = executor.evaluate(&all, Some(Target::Network)).unwrap();
    assert!(after.loss < 0.1 * before.loss && after.agreement > before.agreement, "{before:?} {after:?}");
    let mut itself = CpuExecutor::new(&teacher, 4, &following(&teacher, Isa::detect())).unwrap();
    let same = itself.evaluate(&all, Some(Target::Network)).unwrap();
    assert!(same.loss.abs() < 1e-6 && (same.agreement - 4.0).abs() < 1e-6, "{same:?}");
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let (graph, teacher) = (encoder(1), encoder(5));
    let mut alone = CpuExecutor::new(&graph, 4, &EngineOptions::default()).unwrap();
    let all = examples(alone.inputs(), &borrowed(&batch(4))).unwrap();
    assert_eq!(alone.evaluate(&all, Some(Target::Network)), Err(EngineError::NothingToFollow));
    let mut other = teacher.clone();
    other.inputs[2] = info("shift", DType::F32, &[TOKENS, WIDTH]);
    let error = CpuExecutor::new(&graph, 4, &following(&other, Isa::Scalar)).err();
    assert_eq!(error, Some(EngineError::OtherInputs));
    let mut executor = CpuExecutor::new(&graph, 4, &following(&teacher, Isa::Scalar)).unwrap();
    assert!(executor.evaluate(&all, Some(Target::Labels(&[0; 4]))).is_err());
    let options = EngineOptions {
        heads: vec![Head { output: "other".into(), weight: 1.0, loss: Loss::SquaredError }],
        ..following(&teacher, Isa::Scalar)
    };
    assert!(matches!(CpuExecutor::new(&graph, 4, &options), Err(EngineError::Head { .. })));
}
