//! Training: PyTorch's losses step by step, masks, threads, interruption and resumption.

mod common;

use std::ops::Range;

use common::{
    Fixtures, bits, difference, executor, floats, insert, noise, on_threads, output, strings, value_info,
};
use slq_engine::{
    BatchNormMode, CpuExecutor, EngineError, EngineOptions, Executor, Isa, StepSettings, Target, UpdateRule,
};
use slq_graph::{Attribute, Graph, Node};

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn conv(graph: &mut Graph, inputs: &[&str], to: &str, kernel: i64, pad: i64, stride: i64) {
    let node = Node::new(&format!("conv {to}"), "Conv", inputs, &[to]);
    let node = node.with("kernel_shape", ints(&[kernel; 2])).with("pads", ints(&[pad; 4]));
    graph.nodes.push(node.with("strides", ints(&[stride; 2])));
}

fn pool(graph: &mut Graph, from: &str, to: &str, kernel: i64, stride: i64, ceil: i64) {
    let node = Node::new(&format!("pool {to}"), "MaxPool", &[from], &[to]);
    let node = node.with("kernel_shape", ints(&[kernel; 2])).with("strides", ints(&[stride; 2]));
    graph.nodes.push(node.with("ceil_mode", Attribute::Int(ceil)));
}

fn simple(graph: &mut Graph, op: &str, inputs: &[&str], to: &str) {
    graph.nodes.push(Node::new(&format!("{op} {to}"), op, inputs, &[to]));
}

fn linear(graph: &mut Graph, inputs: &[&str], to: &str) {
    graph.nodes.push(Node::new(&format!("fc {to}"), "Gemm", inputs, &[to]).with("transB", Attribute::Int(1)));
}

/// A small LeNet; `dropout` adds one before the last layer.
fn lenet(dropout: bool) -> Graph {
    let mut g = Graph::default();
    g.metadata.opset = 11;
    g.inputs.push(value_info("x", &[1, 18, 18]));
    conv(&mut g, &["x", "c1.w", "c1.b"], "a", 5, 0, 1);
    pool(&mut g, "a", "b", 2, 2, 0);
    conv(&mut g, &["b", "c2.w", "c2.b"], "c", 3, 0, 1);
    simple(&mut g, "Relu", &["c"], "d");
    pool(&mut g, "d", "e", 3, 2, 1);
    simple(&mut g, "Flatten", &["e"], "f");
    linear(&mut g, &["f", "f1.w", "f1.b"], "h");
    simple(&mut g, "Relu", &["h"], "i");
    if dropout {
        simple(&mut g, "Dropout", &["i"], "j");
    }
    linear(&mut g, &[if dropout { "j" } else { "i" }, "f2.w", "f2.b"], "k");
    simple(&mut g, "Softmax", &["k"], "p");
    g.outputs.push(output("p"));
    g
}

/// A small residual network with one shortcut by 1 x 1 convolution.
fn resnet() -> Graph {
    let mut g = Graph::default();
    g.metadata.opset = 13;
    g.inputs.push(value_info("x", &[3, 8, 8]));
    let norm = |g: &mut Graph, from: &str, i: usize, to: &str| {
        let names = ["gamma", "beta", "mean", "var"].map(|k| format!("b{i}.{k}"));
        let inputs = [from, &names[0], &names[1], &names[2], &names[3]];
        g.nodes.push(Node::new(&format!("norm {to}"), "BatchNormalization", &inputs, &[to]));
    };
    conv(&mut g, &["x", "c0.w"], "a0", 3, 1, 1);
    norm(&mut g, "a0", 0, "a1");
    simple(&mut g, "Relu", &["a1"], "a");
    conv(&mut g, &["a", "c1.w"], "b0", 3, 1, 1);
    norm(&mut g, "b0", 1, "b1");
    simple(&mut g, "Relu", &["b1"], "b2");
    conv(&mut g, &["b2", "c2.w"], "b3", 3, 1, 1);
    norm(&mut g, "b3", 2, "b4");
    simple(&mut g, "Add", &["b4", "a"], "b5");
    simple(&mut g, "Relu", &["b5"], "b");
    conv(&mut g, &["b", "c3.w"], "d0", 3, 1, 2);
    norm(&mut g, "d0", 3, "d1");
    simple(&mut g, "Relu", &["d1"], "d2");
    conv(&mut g, &["d2", "c4.w"], "d3", 3, 1, 1);
    norm(&mut g, "d3", 4, "d4");
    conv(&mut g, &["b", "c5.w"], "s0", 1, 0, 2);
    norm(&mut g, "s0", 5, "s1");
    simple(&mut g, "Add", &["d4", "s1"], "d5");
    simple(&mut g, "Relu", &["d5"], "d");
    simple(&mut g, "GlobalAveragePool", &["d"], "e");
    simple(&mut g, "Flatten", &["e"], "f");
    linear(&mut g, &["f", "fc.w", "fc.b"], "y");
    g.outputs.push(output("y"));
    g
}

/// The losses of a training run in PyTorch.
struct Record {
    graph: Graph,
    losses: Vec<f64>,
    hits: Vec<u64>,
    batch: usize,
    images: Vec<f32>,
    labels: Vec<u32>,
    after: Vec<(String, Vec<f32>)>,
    logits: Vec<f32>,
}

fn record(name: &str, mut graph: Graph) -> Record {
    let fixtures = Fixtures::open();
    let all = fixtures.tensors();
    let trainings = fixtures.json("trainings.json");
    let json = trainings.iter().find(|j| j["name"] == name).unwrap();
    let tensor = |key: &str| floats(&all, &format!("{name}/{key}"));
    let parameters = strings(&json["parameters"]);
    for key in &parameters {
        let (shape, values) = tensor(&format!("before/{key}"));
        insert(&mut graph, key, shape, values);
    }
    Record {
        graph,
        losses: json["losses"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect(),
        hits: json["hits"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect(),
        batch: json["batch"].as_u64().unwrap() as usize,
        images: tensor("images").1,
        labels: tensor("labels").1.iter().map(|&l| l as u32).collect(),
        after: parameters.iter().map(|k| (k.clone(), tensor(&format!("after/{k}")).1)).collect(),
        logits: tensor("logits").1,
    }
}

impl Record {
    fn images(&self, step: usize) -> &[f32] {
        let steps = self.losses.len();
        let len = self.images.len() / steps;
        &self.images[step % steps * len..][..len]
    }

    fn labels(&self, step: usize) -> &[u32] {
        &self.labels[step % self.losses.len() * self.batch..][..self.batch]
    }

    fn step(&self, executor: &mut CpuExecutor, step: usize, settings: &StepSettings) -> f64 {
        executor.train_step(self.images(step), Target::Labels(self.labels(step)), settings).unwrap().loss
    }

    fn steps(
        &self,
        executor: &mut CpuExecutor,
        steps: Range<usize>,
        settings: impl Fn(usize) -> StepSettings,
    ) {
        for step in steps {
            self.step(executor, step, &settings(step));
        }
    }

    /// The values of all parameters, one after the other, as bits.
    fn bits(&self, executor: &CpuExecutor) -> Vec<u32> {
        self.after.iter().flat_map(|(name, _)| bits(executor.parameter(name).unwrap())).collect()
    }
}

fn both() -> [Record; 2] {
    [record("lenet", lenet(false)), record("resnet", resnet())]
}

fn pytorch_settings(step: usize) -> StepSettings {
    let learning_rate = if step < 4 { 0.05 } else { 0.025 };
    StepSettings { learning_rate, weight_decay: 0.01, ..StepSettings::default() }
}

#[test]
fn trainings_follow_pytorchs_step_by_step() {
    for record in both() {
        for isa in Isa::supported() {
            let mut executor = executor(&record.graph, record.batch, isa);
            for step in 0..record.losses.len() {
                let target = Target::Labels(record.labels(step));
                let seen = executor.train_step(record.images(step), target, &pytorch_settings(step)).unwrap();
                let want = record.losses[step];
                assert!((seen.loss - want).abs() < 2e-5 * want, "step {step} on {isa}: {} {want}", seen.loss);
                assert_eq!(seen.top1 as u64, record.hits[step], "hits of step {step}");
            }
            for (name, want) in &record.after {
                let off = difference(executor.parameter(name).unwrap(), want, 0.05);
                assert!(off < 1e-4, "{name} on {isa} is off by {off:e}");
            }
            let logits = executor.logits(record.images(0)).unwrap();
            let off = difference(&logits, &record.logits, 0.1);
            assert!(off < 1e-4, "logits on {isa} are off by {off:e}");
        }
    }
}

#[test]
fn fixed_weights_keep_their_bits() {
    for record in both() {
        for (rule, nesterov) in [
            (UpdateRule::Caffe, false),
            (UpdateRule::Caffe, true),
            (UpdateRule::PyTorch, false),
            (UpdateRule::PyTorch, true),
        ] {
            let mut executor = executor(&record.graph, record.batch, Isa::detect());
            let settings = StepSettings { rule, nesterov, weight_decay: 0.1, ..pytorch_settings(0) };
            // Momentum first, which must not carry a weight on once it is fixed.
            record.steps(&mut executor, 0..2, |_| settings);
            let name = if record.graph.weights.contains_key("c2.w") { "c2.w" } else { "c1.w" };
            let mut before = executor.parameter(name).unwrap().to_vec();
            before[0] = -0.0;
            before[1] = f32::from_bits(1);
            executor.set_parameter(name, &before).unwrap();
            let fixed: Vec<bool> = (0..before.len()).map(|i| i % 3 != 2).collect();
            executor.set_mask(name, Some(&fixed)).unwrap();
            record.steps(&mut executor, 0..4, |_| settings);
            let after = executor.parameter(name).unwrap();
            let mut moved = 0;
            for i in 0..before.len() {
                let same = before[i].to_bits() == after[i].to_bits();
                assert!(
                    same || !fixed[i],
                    "{name}[{i}] is fixed and went from {} to {}",
                    before[i],
                    after[i]
                );
                moved += usize::from(!same);
            }
            assert_eq!(moved, fixed.iter().filter(|f| !**f).count(), "all free weights move");
        }
    }
}

#[test]
fn a_fully_fixed_parameter_stays_and_the_rest_trains_on_as_before() {
    for record in both() {
        let mut partly = executor(&record.graph, record.batch, Isa::detect());
        let mut whole = executor(&record.graph, record.batch, Isa::detect());
        let len = partly.parameter("c1.w").unwrap().len();
        whole.set_mask("c1.w", Some(&vec![true; len])).unwrap();
        // All but one weight: the gradient is computed, and the free weight is put back after each step.
        let mut all_but_one = vec![true; len];
        all_but_one[0] = false;
        partly.set_mask("c1.w", Some(&all_but_one)).unwrap();
        let start = partly.parameter("c1.w").unwrap().to_vec();
        for s in 0..4 {
            record.step(&mut partly, s, &pytorch_settings(s));
            partly.set_parameter("c1.w", &start).unwrap();
            record.step(&mut whole, s, &pytorch_settings(s));
        }
        assert_eq!(bits(whole.parameter("c1.w").unwrap()), bits(&start));
        assert!(
            matches!(whole.gradient("c1.w"), Err(EngineError::NoGradient { .. })),
            "no gradient was computed"
        );
        for (name, _) in &record.after {
            let off = difference(whole.parameter(name).unwrap(), partly.parameter(name).unwrap(), 0.05);
            assert!(off < 1e-5, "{name} is off by {off:e}");
        }
        whole.gradients(record.images(0), Target::Labels(record.labels(0))).unwrap();
        assert!(whole.gradient("c1.w").is_ok(), "an explicit backward pass ignores masks");
        whole.set_mask("c1.w", None).unwrap();
        record.step(&mut whole, 0, &pytorch_settings(0));
        assert_ne!(bits(whole.parameter("c1.w").unwrap()), bits(&start), "freed again");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for record in both().iter().chain(&[record("lenet", lenet(true))]) {
        for isa in Isa::supported() {
            let run = |threads| {
                on_threads(threads, || {
                    let mut executor = executor(&record.graph, record.batch, isa);
                    let losses: Vec<u64> = (0..6)
                        .map(|s| record.step(&mut executor, s, &pytorch_settings(s)).to_bits())
                        .collect();
                    let logits = bits(&executor.logits(record.images(0)).unwrap());
                    (losses, record.bits(&executor), logits)
                })
            };
            let one = run(1);
            assert!(one == run(2) && one == run(3), "{isa}");
        }
    }
}

#[test]
fn a_resumed_training_repeats_the_undisturbed_one() {
    for record in [record("lenet", lenet(true)), record("resnet", resnet())] {
        let mut whole = executor(&record.graph, record.batch, Isa::detect());
        record.steps(&mut whole, 0..6, pytorch_settings);

        let mut first = executor(&record.graph, record.batch, Isa::detect());
        record.steps(&mut first, 0..3, pytorch_settings);
        let mut checkpoint = record.graph.clone();
        first.store_parameters(&mut checkpoint).unwrap();
        let (momentum, iteration) = (first.momentum(), first.iteration());
        assert_eq!(iteration, 3);

        let mut second = executor(&checkpoint, record.batch, Isa::detect());
        second.set_momentum(&momentum).unwrap();
        second.set_iteration(iteration);
        record.steps(&mut second, 3..6, pytorch_settings);
        assert_eq!(record.bits(&second), record.bits(&whole));

        // Without the momentum it is another training: the test can tell.
        let mut forgetful = executor(&checkpoint, record.batch, Isa::detect());
        forgetful.set_iteration(iteration);
        record.steps(&mut forgetful, 3..6, pytorch_settings);
        assert_ne!(record.bits(&forgetful), record.bits(&whole));
    }
}

#[test]
fn dropout_follows_seed_and_iteration() {
    let record = record("lenet", lenet(true));
    let run = |seed, iteration| {
        let options = EngineOptions { seed, ..EngineOptions::default() };
        let mut executor = CpuExecutor::new(&record.graph, record.batch, &options).unwrap();
        executor.set_iteration(iteration);
        let loss = record.step(&mut executor, 0, &pytorch_settings(0));
        loss.to_bits()
    };
    assert_eq!(run(1, 5), run(1, 5));
    assert_ne!(run(1, 5), run(1, 6));
    assert_ne!(run(1, 5), run(2, 5));
}

#[test]
fn a_diverging_step_changes_nothing() {
    for record in both() {
        let mut executor = executor(&record.graph, record.batch, Isa::detect());
        record.step(&mut executor, 0, &pytorch_settings(0));
        let (before, momentum) = (record.bits(&executor), executor.momentum());
        let mut images = record.images(1).to_vec();
        images.iter_mut().for_each(|x| *x = f32::NAN);
        let error = executor.train_step(&images, Target::Labels(record.labels(1)), &pytorch_settings(1));
        let error = error.unwrap_err();
        assert!(matches!(error, EngineError::Diverged { iteration: 1, .. }), "{error}");
        assert!(error.to_string().contains("learning rate"));
        // Before the first step no learning rate is to blame.
        let first = EngineError::Diverged { what: "loss", value: f64::NAN, iteration: 0 }.to_string();
        assert!(first.contains("no step was made yet") && !first.contains("learning rate"), "{first}");
        assert_eq!(record.bits(&executor), before, "parameters and running statistics");
        assert_eq!((executor.momentum(), executor.iteration()), (momentum, 1));
    }
}

#[test]
fn frozen_batch_norm_leaves_its_statistics_alone() {
    let record = record("resnet", resnet());
    let options = EngineOptions { batch_norm: BatchNormMode::Frozen, ..EngineOptions::default() };
    let mut executor = CpuExecutor::new(&record.graph, record.batch, &options).unwrap();
    let before = bits(executor.parameter("b3.mean").unwrap());
    let gamma = bits(executor.parameter("b3.gamma").unwrap());
    let evaluated = executor.evaluate(record.images(0), Some(Target::Labels(record.labels(0)))).unwrap().loss;
    let trained = record.step(&mut executor, 0, &pytorch_settings(0));
    assert!((trained - evaluated).abs() < 1e-5, "the same statistics: {trained} {evaluated}");
    assert_eq!(bits(executor.parameter("b3.mean").unwrap()), before);
    assert_ne!(bits(executor.parameter("b3.gamma").unwrap()), gamma);
}

#[test]
fn a_rate_of_zero_freezes_a_parameter() {
    let mut record = record("lenet", lenet(false));
    record.graph.weights["c1.w"].rates.lr_mult = 0.0;
    let mut executor = executor(&record.graph, record.batch, Isa::detect());
    let before = record.bits(&executor);
    record.step(&mut executor, 0, &pytorch_settings(0));
    let len = record.graph.weights["c1.w"].tensor.len();
    let after = record.bits(&executor);
    assert_eq!(before[..len], after[..len]);
    assert_ne!(before[len..], after[len..]);
}

#[test]
fn a_caffe_step_is_caffes() {
    // v = mu v + lr (g + wd w), w -= v: with a rate that falls, the first step's share keeps its own rate.
    let record = record("lenet", lenet(false));
    let mut executor = executor(&record.graph, record.batch, Isa::detect());
    let at = |s: usize| StepSettings {
        learning_rate: if s == 0 { 0.1 } else { 0.001 },
        weight_decay: 0.01,
        rule: UpdateRule::Caffe,
        ..StepSettings::default()
    };
    let mut history = vec![0.0f64; record.graph.weights["f2.w"].tensor.len()];
    for s in 0..3 {
        let before = executor.parameter("f2.w").unwrap().to_vec();
        record.step(&mut executor, s, &at(s));
        let (gradient, after) = (executor.gradient("f2.w").unwrap(), executor.parameter("f2.w").unwrap());
        for i in 0..history.len() {
            let w = f64::from(before[i]);
            let g = f64::from(gradient[i]) + 0.01 * w;
            history[i] = 0.9 * history[i] + f64::from(at(s).learning_rate) * g;
            assert!((f64::from(after[i]) - (w - history[i])).abs() < 1e-6, "step {s}, weight {i}");
        }
    }
}

#[test]
fn short_batches_and_whole_ones_agree() {
    for record in both() {
        let mut executor = executor(&record.graph, record.batch, Isa::detect());
        let whole = executor.logits(record.images(0)).unwrap();
        let per_image = record.images(0).len() / record.batch;
        for count in [1, 3, 5, 8, 3] {
            let part = executor.logits(&record.images(0)[..count * per_image]).unwrap();
            let off = difference(&part, &whole[..part.len()], 0.1);
            assert!(off < 1e-5, "{count} images: {off:e}");
        }
        // A short training batch is a batch of its own size.
        let target = Target::Labels(&record.labels(0)[..3]);
        let seen =
            executor.train_step(&record.images(0)[..3 * per_image], target, &pytorch_settings(0)).unwrap();
        assert_eq!(seen.images, 3);
    }
}

#[test]
fn distillation_pulls_towards_the_teacher() {
    let record = record("resnet", resnet());
    let mut student = executor(&record.graph, record.batch, Isa::detect());
    let probabilities: Vec<f32> = noise(record.batch, 3)
        .iter()
        .flat_map(|v| {
            let k = ((v + 1.0) * 2.5) as usize;
            (0..5).map(move |c| if c == k.min(4) { 0.6 } else { 0.1 })
        })
        .collect();
    for temperature in [1.0, 4.0] {
        let target = Target::Distribution { probabilities: &probabilities, temperature };
        let settings = StepSettings { learning_rate: 0.02, ..StepSettings::default() };
        let first = student.train_step(record.images(0), target, &settings).unwrap().loss;
        let mut last = first;
        for _ in 0..40 {
            last = student.train_step(record.images(0), target, &settings).unwrap().loss;
        }
        // The cross-entropy of a distribution with itself is its entropy: nothing gets below it.
        let entropy = f64::from(temperature).powi(2) * -(0.6 * 0.6f64.ln() + 4.0 * 0.1 * 0.1f64.ln());
        assert!(last < first && last > entropy - 1e-4, "{first} {last} {entropy}");
    }
}
