//! Shapes as onnx infers and onnxruntime produces them (tests/make_fixtures.py).

use serde_json::Value;
use slq_graph::{Attribute, DType, Graph, Metadata, Node, Tensor, TensorData, ValueInfo, infer_shapes};

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

fn integers(value: &Value) -> Vec<i64> {
    match value.as_array() {
        Some(list) => list.iter().map(|v| v.as_i64().unwrap()).collect(),
        None => vec![value.as_i64().unwrap()],
    }
}

fn dims(value: &Value) -> Vec<usize> {
    integers(value).into_iter().map(|v| v as usize).collect()
}

fn weight(value: &Value) -> Tensor {
    if let Some(ints) = value.get("ints") {
        let shape = if ints.is_array() { vec![integers(ints).len()] } else { vec![] };
        return Tensor::new(shape, TensorData::I64(integers(ints))).unwrap();
    }
    let shape = dims(&value["shape"]);
    Tensor::f32(shape.clone(), vec![0.5; shape.iter().product()]).unwrap()
}

fn attribute(value: &Value) -> Attribute {
    match value {
        Value::Array(_) => Attribute::Ints(integers(value)),
        Value::Number(n) => Attribute::Int(n.as_i64().unwrap()),
        other => Attribute::String(other["s"].as_str().unwrap().as_bytes().to_vec()),
    }
}

fn graph(case: &Value) -> Graph {
    let value = |n: &String| ValueInfo { name: n.clone(), dtype: DType::F32, shape: None };
    let node = |(i, n): (usize, &Value)| {
        let node =
            Node::new(&format!("n{i}"), n["op"].as_str().unwrap(), &strings(&n["in"]), &strings(&n["out"]));
        n["at"].as_object().unwrap().iter().fold(node, |node, (k, v)| node.with(k, attribute(v)))
    };
    Graph {
        inputs: case["inputs"].as_object().unwrap().keys().map(value).collect(),
        outputs: case["shapes"].as_object().unwrap().keys().map(value).collect(),
        weights: case["weights"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(n, w)| (n.clone(), weight(w).into()))
            .collect(),
        nodes: case["nodes"].as_array().unwrap().iter().enumerate().map(node).collect(),
        metadata: Metadata { opset: case["opset"].as_i64().unwrap(), ..Metadata::default() },
        ..Graph::default()
    }
}

#[test]
fn shapes_agree_with_onnx_and_onnxruntime() {
    let text = include_str!("fixtures/shapes.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(cases.len() > 400);
    let mut wrong = Vec::new();
    for case in &cases {
        let inputs = case["inputs"].as_object().unwrap();
        let inputs: Vec<_> = inputs.iter().map(|(n, s)| (n.as_str(), dims(s))).collect();
        let found = infer_shapes(&graph(case), &inputs);
        for (name, shape) in case["shapes"].as_object().unwrap() {
            let got = found.as_ref().map(|s| s.get(name).map(<[usize]>::to_vec));
            if got != Ok(Some(dims(shape))) {
                wrong.push(format!("{got:?}\n    {case}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
