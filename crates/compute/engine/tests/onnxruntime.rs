//! Operators of transformers, normalisation and integer inputs: values are onnxruntime's, gradients are slopes of the loss.

mod common;

use common::{difference, executor, insert, node, noise, output, value_info};
use serde_json::Value;
use slq_engine::{EngineError, Executor, Isa, Target, run};
use slq_graph::{DType, Graph, GraphError, Node, Tensor, TensorData, ValueInfo};

fn cases() -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnxruntime.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn tensor(json: &Value) -> Tensor {
    let shape = json["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    let values = json["values"].as_array().unwrap();
    let int = |v: &Value| v.as_i64().unwrap();
    let float = |v: &Value| v.as_f64().map_or(f32::NEG_INFINITY, |v| v as f32);
    let data = match json["type"].as_str().unwrap() {
        "float32" => TensorData::F32(values.iter().map(float).collect()),
        "int64" => TensorData::I64(values.iter().map(int).collect()),
        "int32" => TensorData::I32(values.iter().map(|v| int(v) as i32).collect()),
        "bool" => TensorData::Bool(values.iter().map(|v| int(v) != 0).collect()),
        other => panic!("{other}"),
    };
    Tensor::new(shape, data).unwrap()
}

/// The network of a case without its data.
fn network(case: &Value) -> Graph {
    let mut graph = Graph::default();
    graph.metadata.opset = case["opset"].as_i64().unwrap();
    for (name, value) in case["constants"].as_object().unwrap() {
        graph.weights.insert(name.clone(), tensor(value).into());
    }
    for (i, described) in case["nodes"].as_array().unwrap().iter().enumerate() {
        graph.nodes.push(node(&format!("{} {i}", case["name"]), described));
    }
    graph.outputs.push(output("y"));
    graph
}

#[test]
fn values_are_onnxruntimes() {
    let mut failures = Vec::new();
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let mut graph = network(&case);
        let data: Vec<(&String, Tensor)> =
            case["data"].as_object().unwrap().iter().map(|(k, v)| (k, tensor(v))).collect();
        for (key, value) in &data {
            graph.inputs.push(ValueInfo { name: key.to_string(), dtype: value.dtype(), shape: None });
        }
        let given: Vec<(&str, &Tensor)> = data.iter().map(|(k, v)| (k.as_str(), v)).collect();
        let want = tensor(&case["y"]);
        match run(&graph, &given, Isa::detect()) {
            Err(error) => failures.push(format!("{name}: {error}")),
            Ok(found) => {
                let y = &found[0].1;
                let off = difference(y.as_f32().unwrap(), want.as_f32().unwrap(), 0.05);
                if y.shape() != want.shape() || off > 2e-6 {
                    failures.push(format!("{name}: {:?} is off by {off:e}", y.shape()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The case with a parameter added to each of its data of floats, and class scores that are a fixed projection of its output.
fn trainable(case: &Value) -> (Graph, Vec<String>) {
    let mut graph = network(case);
    let mut parameters = Vec::new();
    for (key, value) in case["data"].as_object().unwrap() {
        let value = tensor(value);
        // What is raised to a power is no parameter by itself; what is added to it is.
        let Some(values) = value.as_f32() else {
            graph.weights.insert(key.clone(), value.into());
            continue;
        };
        let [base, added] = [format!("base.{key}"), format!("d.{key}")];
        insert(&mut graph, &added, value.shape().to_vec(), vec![0.0; values.len()]);
        graph.weights.insert(base.clone(), value.into());
        graph.nodes.insert(0, Node::new(&format!("add {key}"), "Add", &[&base, &added], &[key]));
        parameters.push(added);
    }
    let n = tensor(&case["y"]).len();
    graph.weights.insert("row".into(), Tensor::i64_vector(vec![1, -1]).into());
    insert(&mut graph, "projection", vec![n, 4], noise(4 * n, 5));
    graph.nodes.push(Node::new("to a row", "Reshape", &["y", "row"], &["y.row"]));
    graph.nodes.push(Node::new("project", "MatMul", &["y.row", "projection"], &["scores"]));
    graph.nodes.push(Node::new("plus", "Add", &["scores", "image"], &["logits"]));
    graph.inputs.push(value_info("image", &[4]));
    graph.outputs = vec![output("logits")];
    (graph, parameters)
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    let (mut failures, mut checked) = (Vec::new(), 0);
    for case in cases().iter().filter(|c| c["gradient"] == true) {
        let (graph, parameters) = trainable(case);
        let mut executor = executor(&graph, 1, Isa::detect());
        let image = [0.0; 4];
        executor.gradients(&image, Target::Labels(&[1])).unwrap();
        for name in parameters {
            let gradient =
                executor.gradient(&name).unwrap_or_else(|e| panic!("{}: {e}", case["name"])).to_vec();
            let value = executor.parameter(&name).unwrap().to_vec();
            let along = noise(value.len(), 9);
            let mut loss = |step: f32| {
                let moved: Vec<f32> = value.iter().zip(&along).map(|(v, d)| v + step * d).collect();
                executor.set_parameter(&name, &moved).unwrap();
                executor.evaluate(&image, Some(Target::Labels(&[1]))).unwrap().loss
            };
            // The fourth-order difference: its step can be large enough for 32-bit floats.
            let h = 1e-2f32;
            let slope =
                (8.0 * (loss(h) - loss(-h)) - (loss(2.0 * h) - loss(-2.0 * h))) / (12.0 * f64::from(h));
            loss(0.0);
            let products = gradient.iter().zip(&along).map(|(g, d)| f64::from(g * d));
            let (sum, size) = products.fold((0.0, 0.0f64), |(sum, size), p| (sum + p, size.max(p.abs())));
            checked += 1;
            if (slope - sum).abs() > 2e-3 * size.max(0.5) {
                failures.push(format!("{}: {name} {sum}, by differences {slope}", case["name"]));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {checked}:\n{}", failures.len(), failures.join("\n"));
    assert!(checked > 90, "{checked}");
}

fn table_of_three(op: Node) -> Graph {
    let mut graph = Graph::default();
    insert(&mut graph, "table", vec![3, 2], noise(6, 1));
    graph.inputs.push(ValueInfo { name: "ids".into(), dtype: DType::I64, shape: None });
    graph.nodes.push(op);
    graph.outputs.push(output("y"));
    graph
}

#[test]
fn rows_that_do_not_exist_are_an_error() {
    let graph = table_of_three(Node::new("look-up", "Gather", &["table", "ids"], &["y"]));
    for (ids, good) in [(vec![0, 2, -3], true), (vec![3], false), (vec![-4], false)] {
        let found = run(&graph, &[("ids", &Tensor::i64_vector(ids.clone()))], Isa::detect());
        match found {
            Ok(_) => assert!(good, "{ids:?}"),
            Err(error) => {
                assert!(!good, "{ids:?}: {error}");
                assert!(matches!(error, EngineError::Data { .. }), "{error}");
                assert!(
                    error.to_string().contains("look-up") && error.to_string().contains("3 rows"),
                    "{error}"
                );
            }
        }
    }
    let far = Tensor::i64_vector(vec![(1 << 24) + 1]);
    let error = run(&graph, &[("ids", &far)], Isa::detect()).unwrap_err();
    assert!(error.to_string().contains("2^24"), "{error}");
}

#[test]
fn integers_that_a_float_does_not_hold_are_an_error() {
    let mut graph = table_of_three(Node::new("sum", "Add", &["ids", "ids"], &["y"]));
    graph.outputs[0].dtype = DType::I64;
    let sum = |v: i64| run(&graph, &[("ids", &Tensor::i64_vector(vec![v]))], Isa::detect());
    assert_eq!(sum(8_388_608).unwrap()[0].1, Tensor::i64_vector(vec![16_777_216]));
    for beyond in [8_388_609, -9_000_000] {
        let error = sum(beyond).unwrap_err();
        assert!(matches!(error, EngineError::Data { .. }), "{error}");
        assert!(error.to_string().contains("`sum`"), "{error}");
    }
}

#[test]
fn integers_stay_within_their_type_and_are_divided_towards_zero() {
    let binary = |op: &str, dtype: DType, a: i64, b: i64| {
        let mut graph = Graph::default();
        for name in ["a", "b"] {
            graph.inputs.push(ValueInfo { name: name.into(), dtype, shape: None });
        }
        graph.nodes.push(Node::new("n", op, &["a", "b"], &["y"]));
        graph.outputs.push(ValueInfo { dtype, ..output("y") });
        let [a, b] = [a, b].map(|v| Tensor::integers(vec![1], dtype, &[v]).unwrap());
        run(&graph, &[("a", &a), ("b", &b)], Isa::detect()).map(|found| found[0].1.to_i64().unwrap()[0])
    };
    assert_eq!(binary("Div", DType::I32, -7, 2), Ok(-3));
    assert_eq!(binary("Mod", DType::I32, -7, 2), Ok(1));
    assert_eq!(binary("Pow", DType::I32, 3, 5), Ok(243));
    assert_eq!(binary("Sub", DType::U8, 7, 2), Ok(5));
    for (op, dtype, a, b) in [
        ("Sub", DType::U8, 2, 7),
        ("Mul", DType::I8, 16, 8),
        ("Div", DType::I32, 1, 0),
        ("Mod", DType::I32, 1, 0),
    ] {
        assert!(matches!(binary(op, dtype, a, b), Err(EngineError::Data { .. })), "{op} {a} {b}");
    }
}

#[test]
fn arithmetic_on_integers_that_cannot_be_checked_is_refused() {
    let graph = table_of_three(Node::new("product", "MatMul", &["ids", "ids"], &["y"]));
    let error = run(&graph, &[("ids", &Tensor::i64_vector(vec![1]))], Isa::detect()).unwrap_err();
    assert!(matches!(error, EngineError::Graph(GraphError::UnsupportedForm { .. })), "{error}");
    assert!(error.to_string().contains("integers"), "{error}");
}

#[test]
fn all_missing_operators_are_named_at_once() {
    let mut graph = table_of_three(Node::new("a", "NonZero", &["table"], &["h"]));
    graph.nodes.push(Node::new("b", "Unique", &["h"], &["i"]));
    graph.nodes.push(Node::new("c", "Unique", &["i"], &["y"]));
    graph.nodes.push(Node::new("unused", "Det", &["i"], &["z"]));
    let error = run(&graph, &[("ids", &Tensor::i64_vector(vec![1]))], Isa::detect()).unwrap_err().to_string();
    assert!(error.contains("NonZero (1 of them: `a`), Unique (2 of them: `b`, `c`)"), "{error}");
    assert!(!error.contains("Det"), "{error}");
    let missing = graph.missing_operators().unwrap();
    assert_eq!(
        missing.iter().map(|m| (m.op.as_str(), m.count)).collect::<Vec<_>>(),
        [("NonZero", 1), ("Unique", 2)]
    );
}
