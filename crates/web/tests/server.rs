//! The calls of the page, on this machine.

use slq_graph::{Graph, Tensor};
use slq_runtime::{Expand, Isa, Network};
use slq_web::{Call, Granularity, Server, WebError, compress};

fn lenet() -> (Graph, Vec<u8>) {
    let graph = slq_zoo::build("lenet", 1).unwrap();
    let bytes = slq_onnx::write_bytes(&graph, &slq_onnx::WriteOptions::default()).unwrap();
    (graph, bytes)
}

fn run(shape: &[u32], values: &[f32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (shape.len() as u32).to_le_bytes().into();
    bytes.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn an_onnx_file_comes_back_small_and_runs_the_same_in_both_forms() {
    let (graph, onnx) = lenet();
    let mut server = Server::default();
    let table = json(&server.call(Call::Compress, [4, 0], onnx.clone()).unwrap());
    assert_eq!(table["layers"].as_array().unwrap().len(), 4);
    assert_eq!(table["file_bytes"], onnx.len());
    let sum =
        |key: &str| table["layers"].as_array().unwrap().iter().map(|l| l[key].as_u64().unwrap()).sum::<u64>();
    let weights = sum("float_bytes") / 4;
    let parameters: usize = graph.weights.values().map(|w| w.tensor.len()).sum();
    assert_eq!(weights * 4 + table["other_bytes"].as_u64().unwrap(), 4 * parameters as u64);
    // 4 bits a weight, 16 floats a layer.
    assert_eq!(sum("stored_bytes"), weights / 2 + 4 * 64);
    for layer in table["layers"].as_array().unwrap() {
        let error = layer["error"].as_f64().unwrap();
        assert!(error > 0.001 && error < 0.2, "{layer}");
        assert_eq!((layer["codebooks"].as_u64(), layer["values"].as_u64()), (Some(1), Some(16)));
    }
    let parts = [0, 1].map(|i| server.call(Call::Part, [i, 0], Vec::new()).unwrap());
    assert_eq!(parts[0].len() as u64, table["onnx_bytes"].as_u64().unwrap());
    assert!(parts[1].len() * 7 < onnx.len());

    let image: Vec<f32> = (0..784).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let outputs: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let opened = json(&server.call(Call::Open, [0, 0], part.clone()).unwrap());
            assert_eq!(opened["inputs"][0]["shape"], serde_json::json!([null, 1, 28, 28]));
            let network = opened["network"].as_u64().unwrap() as u32;
            let output = server.call(Call::Run, [network, 0], run(&[1, 1, 28, 28], &image)).unwrap();
            server.call(Call::Close, [network, 0], Vec::new()).unwrap();
            assert!(matches!(server.call(Call::Close, [network, 0], Vec::new()), Err(WebError::Network(_))));
            output
        })
        .collect();
    assert_eq!(outputs[0], outputs[1]);
    let network = Network::from_graph(slq_onnx::read_bytes(&parts[0]).unwrap(), Expand::Auto).unwrap();
    let name = network.graph().inputs[0].name.clone();
    let tensor = Tensor::f32(vec![1, 1, 28, 28], image).unwrap();
    let want = network.session(Isa::detect()).run(&[(&name, &tensor)]).unwrap();
    let bytes: Vec<u8> = want[0].1.as_f32().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(outputs[0], bytes);
}

#[test]
fn channels_have_codebooks_of_their_own_where_that_pays() {
    let (_, onnx) = lenet();
    let made = compress(&onnx, 4, Granularity::Channel).unwrap();
    let conv1 = &made.layers[0];
    // 25 weights a channel: 16 floats and 25 codes would take 76 of 100 bytes.
    assert_eq!((conv1.codebooks, conv1.note.as_deref()), ([20, 16], None));
    assert!(conv1.error < compress(&onnx, 4, Granularity::Tensor).unwrap().layers[0].error);
    let wide = compress(&onnx, 8, Granularity::Channel).unwrap();
    assert!(wide.layers[0].note.as_ref().unwrap().contains("stays floats"), "{:?}", wide.layers[0]);
    assert_eq!(wide.layers[0].codebooks, [0; 2]);
    let again = compress(&made.onnx, 2, Granularity::Tensor).unwrap();
    assert!(again.layers.iter().all(|l| l.note.as_ref().unwrap().contains("already")));
}

#[test]
fn bad_arguments_are_errors_and_change_nothing() {
    let (_, onnx) = lenet();
    let mut server = Server::default();
    let opened = json(&server.call(Call::Open, [2, 0], onnx.clone()).unwrap());
    let network = opened["network"].as_u64().unwrap() as u32;
    let fails = |server: &mut Server, number: u32, numbers, argument: &[u8], what: &str| {
        let error = server.call_number(number, numbers, argument.to_vec()).unwrap_err().to_string();
        assert!(error.contains(what), "{error:?} does not contain {what:?}");
    };
    fails(&mut server, 99, [0, 0], &[], "no call 99");
    fails(&mut server, 1, [0, 0], &[], "neither a .slq container nor an ONNX model");
    fails(&mut server, 1, [0, 0], b"hello", "neither");
    fails(&mut server, 1, [7, 0], &onnx, "expand");
    fails(&mut server, 2, [network + 1, 0], &[], "no open network");
    fails(&mut server, 2, [network, 0], &[], "0 bytes");
    fails(&mut server, 2, [network, 0], &run(&[1, 1, 28, 28], &[0.5; 783]), "not rank");
    fails(&mut server, 2, [network, 0], &run(&[u32::MAX; 8], &[]), "not rank");
    fails(&mut server, 2, [network, 0], &[9, 0, 0, 0], "not rank");
    fails(&mut server, 2, [network, 0], &[1, 0, 0, 0, 1, 0, 0, 0, 1], "9 bytes");
    let error = server.call(Call::Run, [network, 0], run(&[1, 2], &[0.5; 2])).unwrap_err();
    assert!(matches!(error, WebError::Run(_)), "{error}");
    fails(&mut server, 4, [0, 0], &onnx, "0 bits");
    fails(&mut server, 4, [9, 0], &onnx, "9 bits");
    fails(&mut server, 4, [4, 0], &onnx[..onnx.len() / 2], "");
    fails(&mut server, 5, [0, 0], &[], "no part 0");
    fails(&mut server, 5, [9, 0], &[], "no part 9");
    let output = server.call(Call::Run, [network, 0], run(&[1, 1, 28, 28], &[0.5; 784])).unwrap();
    assert_eq!(output.len(), 40);
}
