//! Every operator, forward and all gradients, against PyTorch's values and against finite differences.

mod common;

use common::{Fixtures, difference, executor, floats, insert, node, output, strings, value_info};
use serde_json::Value;
use slq_engine::{CpuExecutor, Executor, Isa, StepSettings, Target};
use slq_graph::{Attribute, Graph, Node, Tensor};

const CLASSES: usize = 4;
const LABEL: [u32; 1] = [1];

/// The fixed projection that turns an output of `n` values into class scores; the same in `make_fixtures.py`.
fn projection(n: usize) -> Vec<f32> {
    let entry =
        |i: usize, j: usize| ((((i * 37 + j * 101) % 17) as f64 - 8.0) / 8.0 / (n as f64).sqrt()) as f32;
    (0..n).flat_map(|i| (0..CLASSES).map(move |j| entry(i, j))).collect()
}

struct Case {
    name: String,
    graph: Graph,
    image: Vec<f32>,
    y: Vec<f32>,
    loss: f64,
    /// Parameter of the graph and its expected gradient.
    gradients: Vec<(String, Vec<f32>)>,
    /// Parameter of the graph and the loss's slope along [`direction`], by central differences in double precision.
    slopes: Vec<(String, f64)>,
    /// Running statistics after one training step; empty for a case without.
    after: Vec<(String, Vec<f32>)>,
    batch_norm: bool,
}

/// All data tensors come in through one image of one flat batch; to each an all-zero parameter `d.NAME` is added,
/// whose gradient is that of the tensor.
fn build(json: &Value, fixtures: &Fixtures) -> Case {
    let all = fixtures.tensors();
    let name = json["name"].as_str().unwrap().to_string();
    let tensor = |key: &str| floats(&all, &format!("{name}/{key}"));
    let mut graph = Graph::default();
    graph.metadata.opset = json["opset"].as_i64().unwrap();
    let mut image = Vec::new();
    let mut gradients = Vec::new();
    let opset = graph.metadata.opset;
    for data in strings(&json["data"]) {
        let (shape, values) = tensor(&data);
        let (start, end) = (image.len() as i64, (image.len() + values.len()) as i64);
        let slice = |a: Attribute, b: Attribute| {
            Node::new(&format!("cut {data}"), "Slice", &["image"], &[&format!("flat.{data}")])
                .with("axes", Attribute::Ints(vec![1]))
                .with("starts", a)
                .with("ends", b)
        };
        if opset < 10 {
            graph.nodes.push(slice(Attribute::Ints(vec![start]), Attribute::Ints(vec![end])));
        } else {
            for (key, value) in [("start", start), ("end", end), ("axis", 1)] {
                graph.weights.insert(format!("{key}.{data}"), Tensor::i64_vector(vec![value]).into());
            }
            let names = ["start", "end", "axis"].map(|k| format!("{k}.{data}"));
            let inputs = ["image", &names[0], &names[1], &names[2]];
            graph.nodes.push(Node::new(&format!("cut {data}"), "Slice", &inputs, &[&format!("flat.{data}")]));
        }
        let target = shape.iter().map(|&d| d as i64).collect();
        graph.weights.insert(format!("shape.{data}"), Tensor::i64_vector(target).into());
        let reshape = [format!("flat.{data}"), format!("shape.{data}")];
        let inputs = [reshape[0].as_str(), reshape[1].as_str()];
        graph.nodes.push(Node::new(&format!("shape {data}"), "Reshape", &inputs, &[&format!("raw.{data}")]));
        let sum = [format!("raw.{data}"), format!("d.{data}")];
        graph.nodes.push(Node::new(&format!("add {data}"), "Add", &[&sum[0], &sum[1]], &[&data]));
        insert(&mut graph, &format!("d.{data}"), shape, vec![0.0; values.len()]);
        gradients.push((format!("d.{data}"), tensor(&format!("gradient/{data}")).1));
        image.extend(values);
    }
    for weight in strings(&json["weights"]) {
        let (shape, values) = tensor(&weight);
        insert(&mut graph, &weight, shape, values);
        gradients.push((weight.clone(), tensor(&format!("gradient/{weight}")).1));
    }
    for constant in strings(&json["floats"]) {
        let (shape, values) = tensor(&constant);
        insert(&mut graph, &constant, shape, values);
    }
    for (key, value) in json["ints"].as_object().unwrap() {
        let values = value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect();
        graph.weights.insert(key.clone(), Tensor::i64_vector(values).into());
    }
    for (i, described) in json["nodes"].as_array().unwrap().iter().enumerate() {
        graph.nodes.push(node(&format!("{name} {i}"), described));
    }
    let y = tensor("y").1;
    graph.weights.insert("row".into(), Tensor::i64_vector(vec![1, -1]).into());
    insert(&mut graph, "projection", vec![y.len(), CLASSES], projection(y.len()));
    graph.nodes.push(Node::new("to a row", "Reshape", &["y", "row"], &["y.row"]));
    graph.nodes.push(Node::new("project", "MatMul", &["y.row", "projection"], &["logits"]));
    graph.inputs.push(value_info("image", &[image.len()]));
    graph.outputs.extend([output("logits"), output("y")]);
    let after =
        strings(&json["after"]).into_iter().map(|k| (k.clone(), tensor(&format!("after/{k}")).1)).collect();
    let slopes = json["slopes"].as_object().unwrap().iter().map(|(key, slope)| {
        let data = graph.weights.contains_key(&format!("d.{key}"));
        (if data { format!("d.{key}") } else { key.clone() }, slope.as_f64().unwrap())
    });
    let slopes = slopes.collect();
    let (loss, batch_norm) = (json["loss"].as_f64().unwrap(), json["batch_norm"].as_bool().unwrap());
    Case { name, graph, image, y, loss, gradients, slopes, after, batch_norm }
}

fn cases() -> Vec<Case> {
    let fixtures = Fixtures::open();
    fixtures.json("operators.json").iter().map(|json| build(json, &fixtures)).collect()
}

/// Loss and gradients, by whichever pass the case is about.
fn differentiate(case: &Case, executor: &mut CpuExecutor) -> f64 {
    let target = Target::Labels(&LABEL);
    let still = StepSettings { learning_rate: 0.0, ..StepSettings::default() };
    let result = if case.batch_norm {
        executor.train_step(&case.image, target, &still)
    } else {
        executor.gradients(&case.image, target)
    };
    result.unwrap_or_else(|e| panic!("{}: {e}", case.name)).loss
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let mut failures = Vec::new();
    let cases = cases();
    for case in &cases {
        for isa in Isa::supported() {
            let mut executor = match CpuExecutor::new(&case.graph, 1, &common::options(isa)) {
                Ok(executor) => executor,
                Err(e) => {
                    failures.push(format!("{} on {isa}: {e}", case.name));
                    continue;
                }
            };
            let mut check = |what: &str, got: &[f32], want: &[f32]| {
                let off = difference(got, want, 0.05);
                if off > 2e-5 {
                    failures.push(format!("{} on {isa}: {what} is off by {off:e}", case.name));
                }
            };
            if !case.batch_norm {
                check("y", &executor.outputs(&case.image).unwrap()[1], &case.y);
            }
            // Twice: what the first pass left behind must not show in the second.
            for _ in 0..2 {
                let loss = differentiate(case, &mut executor);
                check("loss", &[loss as f32], &[case.loss as f32]);
                for (name, want) in &case.gradients {
                    check(&format!("gradient of {name}"), executor.gradient(name).unwrap(), want);
                }
                if case.batch_norm {
                    break;
                }
            }
            for (name, want) in &case.after {
                check(&format!("running {name}"), executor.parameter(name).unwrap(), want);
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// The direction of the central differences; the same in `make_fixtures.py`.
fn direction(n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(|i| ((i * 37 % 17) as f64 - 8.0) / 8.0)
}

/// Central differences in double precision, as a check independent of autograd. At kinks there are none.
#[test]
fn gradients_are_slopes_of_the_loss() {
    let mut failures = Vec::new();
    let mut checked = 0;
    for case in cases().iter().filter(|c| !c.batch_norm) {
        let mut executor = executor(&case.graph, 1, Isa::detect());
        differentiate(case, &mut executor);
        for (name, slope) in &case.slopes {
            let gradient = executor.gradient(name).unwrap();
            let products = gradient.iter().zip(direction(gradient.len())).map(|(g, d)| f64::from(*g) * d);
            let (sum, size) = products.fold((0.0, 0.0f64), |(sum, size), p| (sum + p, size.max(p.abs())));
            checked += 1;
            if (slope - sum).abs() > 1e-4 * size.max(0.05) {
                failures.push(format!("{}: {name} {sum}, by differences {slope}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {checked}:\n{}", failures.len(), failures.join("\n"));
    assert!(checked > 200, "{checked}");
}
