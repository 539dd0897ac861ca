//! What each layer becomes, and what is said beside the graph.

use std::path::Path;

use slq_caffe::{
    CaffeError, DataKind, LossKind, Net, Normalization, Phase, ReadOptions, data_sources, read_net,
};
use slq_graph::{Attribute, infer_shapes, validate};

fn build(text: &str, options: &ReadOptions) -> Result<Net, CaffeError> {
    with_file(text, |path| read_net(path, None, options))
}

fn with_file<T>(text: &str, test: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.prototxt");
    std::fs::write(&path, text).unwrap();
    test(&path)
}

const INPUT: &str = "name: 'n' layer { name: 'data' type: 'Input' top: 'data' \
    input_param { shape { dim: 2 dim: 4 dim: 9 dim: 6 } } }\n";

/// One layer on [2, 4, 9, 6]: its operators in order, and the shape of the result.
fn one(layer: &str) -> (String, Vec<usize>) {
    let net =
        build(&format!("{INPUT} layer {{ name: 'x' bottom: 'data' top: 'x' {layer} }}"), &test()).unwrap();
    validate(&net.graph).unwrap();
    let shapes = infer_shapes(&net.graph, &[("data", vec![5, 4, 9, 6])]).unwrap();
    let ops: Vec<&str> = net.graph.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(net.graph.nodes.last().unwrap().outputs, ["x"], "{layer}");
    (ops.join(" "), shapes.get("x").unwrap().to_vec())
}

fn test() -> ReadOptions {
    ReadOptions::new(Phase::Test)
}

const IMAGE: [usize; 4] = [5, 4, 9, 6];

/// A layer, its operators, and the shape of its output for an input of the shape [`IMAGE`].
const LAYERS: [(&str, &str, &[usize]); 41] = [
    ("type: 'AbsVal'", "Abs", &IMAGE),
    ("type: 'BatchNorm'", "BatchNormalization", &IMAGE),
    ("type: 'Bias'", "Add", &IMAGE),
    ("type: 'Clip' clip_param { min: -1 max: 2 }", "Clip", &IMAGE),
    (
        "type: 'Convolution' convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 }",
        "Conv",
        &[5, 6, 5, 3],
    ),
    (
        "type: 'Convolution' convolution_param { num_output: 6 kernel_h: 1 kernel_w: 3 dilation: 2 bias_term: false }",
        "Conv",
        &[5, 6, 9, 2],
    ),
    (
        "type: 'Deconvolution' convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }",
        "ConvTranspose",
        &[5, 3, 18, 12],
    ),
    ("type: 'Dropout'", "Dropout", &IMAGE),
    ("type: 'ELU' elu_param { alpha: 0.5 }", "Elu", &IMAGE),
    ("type: 'Exp'", "Exp", &IMAGE),
    ("type: 'Exp' exp_param { base: 2 scale: 3 shift: 1 }", "Mul Exp Mul", &IMAGE),
    ("type: 'Flatten'", "Flatten", &[5, 216]),
    ("type: 'Flatten' flatten_param { axis: 2 }", "Reshape", &[5, 4, 54]),
    ("type: 'Flatten' flatten_param { axis: 1 end_axis: 2 }", "Reshape", &[5, 36, 6]),
    ("type: 'InnerProduct' inner_product_param { num_output: 3 }", "Flatten Gemm", &[5, 3]),
    (
        "type: 'InnerProduct' inner_product_param { num_output: 3 axis: -1 transpose: true }",
        "Flatten Gemm Reshape",
        &[5, 4, 9, 3],
    ),
    ("type: 'LRN'", "LRN", &IMAGE),
    ("type: 'LRN' lrn_param { norm_region: WITHIN_CHANNEL }", "Mul AveragePool Mul Add Pow Div", &IMAGE),
    ("type: 'Log'", "Log", &IMAGE),
    ("type: 'PReLU'", "PRelu", &IMAGE),
    ("type: 'PReLU' prelu_param { channel_shared: true }", "PRelu", &IMAGE),
    ("type: 'Permute' permute_param { order: 0 order: 3 }", "Transpose", &[5, 6, 4, 9]),
    ("type: 'Pooling' pooling_param { kernel_size: 2 stride: 2 }", "MaxPool", &[5, 4, 5, 3]),
    ("type: 'Pooling' pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }", "AveragePool", &IMAGE),
    (
        "type: 'Pooling' pooling_param { pool: AVE kernel_size: 4 stride: 3 pad: 1 }",
        "Pad AveragePool",
        &[5, 4, 4, 3],
    ),
    ("type: 'Pooling' pooling_param { global_pooling: true }", "GlobalMaxPool", &[5, 4, 1, 1]),
    ("type: 'Power'", "Identity", &IMAGE),
    ("type: 'Power' power_param { power: 2 shift: 1 }", "Add Pow", &IMAGE),
    ("type: 'ReLU'", "Relu", &IMAGE),
    ("type: 'ReLU' relu_param { negative_slope: 0.1 }", "LeakyRelu", &IMAGE),
    ("type: 'ReLU6'", "Clip", &IMAGE),
    ("type: 'Reduction' reduction_param { operation: MEAN axis: 2 coeff: 2 }", "ReduceMean Mul", &[5, 4]),
    ("type: 'Reshape' reshape_param { shape { dim: 0 dim: 2 dim: -1 } }", "Reshape", &[5, 2, 108]),
    ("type: 'Reshape' reshape_param { shape { dim: 2 dim: 1 dim: 1 dim: -1 } }", "Reshape", &[5, 1, 1, 216]),
    (
        "type: 'Reshape' reshape_param { shape { dim: 3 dim: 3 } axis: 2 num_axes: 1 }",
        "Reshape",
        &[5, 4, 3, 3, 6],
    ),
    ("type: 'Scale' scale_param { bias_term: true }", "Mul Add", &IMAGE),
    ("type: 'Scale' scale_param { axis: 1 num_axes: 2 }", "Mul", &IMAGE),
    ("type: 'ShuffleChannel' shuffle_channel_param { group: 2 }", "Reshape Transpose Reshape", &IMAGE),
    ("type: 'Sigmoid'", "Sigmoid", &IMAGE),
    ("type: 'Softmax' softmax_param { axis: -2 }", "Softmax", &IMAGE),
    ("type: 'TanH'", "Tanh", &IMAGE),
];

#[test]
fn each_layer_becomes_its_operators() {
    for (layer, ops, shape) in LAYERS {
        let found = one(layer);
        assert_eq!((found.0.as_str(), found.1.as_slice()), (ops, shape), "{layer}");
    }
}

#[test]
fn layers_with_several_inputs_or_outputs() {
    let net = build(
        &format!(
            "{INPUT}
            layer {{ name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' slice_param {{ slice_point: 2 }} }}
            layer {{ name: 'sum' type: 'Eltwise' bottom: 'a' bottom: 'b' top: 'sum' eltwise_param {{ coeff: 1 coeff: -1 }} }}
            layer {{ name: 'max' type: 'Eltwise' bottom: 'a' bottom: 'b' bottom: 'sum' top: 'max' eltwise_param {{ operation: MAX }} }}
            layer {{ name: 'cat' type: 'Concat' bottom: 'max' bottom: 'a' top: 'cat' concat_param {{ axis: -3 }} }}
            layer {{ name: 'pool' type: 'Pooling' bottom: 'cat' top: 'pool' pooling_param {{ pool: AVE global_pooling: true }} }}
            layer {{ name: 'flat' type: 'Flatten' bottom: 'pool' top: 'flat' }}
            layer {{ name: 'gate' type: 'Scale' bottom: 'cat' bottom: 'flat' top: 'gate' scale_param {{ axis: 0 }} }}
            layer {{ name: 'up' type: 'Deconvolution' bottom: 'gate' top: 'up' convolution_param {{ num_output: 2 kernel_size: 2 stride: 2 }} }}
            layer {{ name: 'crop' type: 'Crop' bottom: 'up' bottom: 'data' top: 'crop' crop_param {{ offset: 3 offset: 4 }} }}"
        ),
        &test(),
    )
    .unwrap();
    let ops: Vec<&str> = net.graph.nodes.iter().map(|n| n.op.as_str()).collect();
    let expected = "Split Sub Max Max Concat GlobalAveragePool Flatten Reshape Mul ConvTranspose Slice";
    assert_eq!(ops.join(" "), expected);
    validate(&net.graph).unwrap();
    let shapes = infer_shapes(&net.graph, &[("data", vec![7, 4, 9, 6])]).unwrap();
    assert_eq!(shapes.get("crop").unwrap(), [7, 2, 9, 6]);
}

const TRAIN_VAL: &str = "
    name: 'train_val'
    layer { name: 'data' type: 'Data' top: 'data' top: 'label' include { phase: TRAIN }
      transform_param { mirror: true crop_size: 8 mean_value: 104 mean_value: 117 mean_value: 123 }
      data_param { source: 'train_lmdb' batch_size: 32 backend: LMDB } }
    layer { name: 'data' type: 'ImageData' top: 'data' top: 'label' include { phase: TEST }
      transform_param { crop_size: 8 mean_file: 'mean.binaryproto' scale: 0.5 }
      image_data_param { source: 'test.txt' batch_size: 5 root_folder: 'images/' new_height: 10 new_width: 12 shuffle: true } }
    layer { name: 'conv' type: 'Convolution' bottom: 'data' top: 'conv' param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
      convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } bias_filler { value: 0.25 } } }
    layer { name: 'bn' type: 'BatchNorm' bottom: 'conv' top: 'conv' batch_norm_param { use_global_stats: true moving_average_fraction: 0.9 } }
    layer { name: 'sc' type: 'Scale' bottom: 'conv' top: 'conv' scale_param { bias_term: true } }
    layer { name: 'relu' type: 'ReLU' bottom: 'conv' top: 'conv' }
    layer { name: 'aux' type: 'InnerProduct' bottom: 'conv' top: 'aux' inner_product_param { num_output: 3 } include { phase: TRAIN } }
    layer { name: 'aux_loss' type: 'SoftmaxWithLoss' bottom: 'aux' bottom: 'label' top: 'aux_loss' loss_weight: 0.3 include { phase: TRAIN } }
    layer { name: 'fc' type: 'InnerProduct' bottom: 'conv' top: 'fc' inner_product_param { num_output: 3 } }
    layer { name: 'drop' type: 'Dropout' bottom: 'fc' top: 'fc' dropout_param { dropout_ratio: 0.4 } }
    layer { name: 'top1' type: 'Accuracy' bottom: 'fc' bottom: 'label' top: 'top1' include { phase: TEST } }
    layer { name: 'top2' type: 'Accuracy' bottom: 'fc' bottom: 'label' top: 'top2' include { phase: TEST } accuracy_param { top_k: 2 ignore_label: 255 } }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'fc' bottom: 'label' top: 'loss' loss_param { ignore_label: 255 normalize: false } }";

#[test]
fn training_nets_end_at_their_logits() {
    let net = build(TRAIN_VAL, &ReadOptions::new(Phase::Train)).unwrap();
    validate(&net.graph).unwrap();
    let names = |values: &[slq_graph::ValueInfo]| values.iter().map(|v| v.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&net.graph.inputs), ["data"]);
    assert_eq!(names(&net.graph.outputs), ["fc", "aux"], "the main head comes first");
    let losses: Vec<_> =
        net.info.losses.iter().map(|l| (l.predictions.as_str(), l.labels.as_str(), l.weight)).collect();
    assert_eq!(losses, [("aux", "label", 0.3), ("fc", "label", 1.0)]);
    assert!(net.info.losses.iter().all(|l| l.kind == LossKind::SoftmaxWithLoss));
    assert_eq!(net.info.losses[0].normalization, Normalization::Valid);
    assert_eq!(net.info.losses[1].normalization, Normalization::BatchSize);
    assert_eq!(net.info.losses[1].ignore_label, Some(255));
    assert_eq!(net.info.frozen_batch_norms, ["bn"]);
    let data = &net.info.data[0];
    assert_eq!((data.kind, data.batch_size), (DataKind::Lmdb, 32));
    assert_eq!(data.source.as_deref(), Some(Path::new("train_lmdb")));
    assert!(data.transform.mirror && data.transform.crop_size == Some(8));
    assert_eq!(data.transform.mean_value, [104.0, 117.0, 123.0]);
    let rates = net.graph.weights["conv.bias"].rates;
    assert_eq!((rates.lr_mult, rates.decay_mult), (2.0, 0.0));
    assert_eq!(net.graph.weights["conv.bias"].tensor.as_f32().unwrap(), [0.25; 4]);
}

#[test]
fn testing_nets_have_their_own_data_and_accuracies() {
    let net = build(TRAIN_VAL, &test()).unwrap();
    assert_eq!(net.graph.outputs.len(), 1);
    assert!(net.graph.nodes.iter().all(|n| !n.name.starts_with("aux")));
    let accuracies: Vec<_> = net.info.accuracies.iter().map(|a| (a.top_k, a.ignore_label)).collect();
    assert_eq!(accuracies, [(1, None), (2, Some(255))]);
    let data = with_file(TRAIN_VAL, |path| data_sources(path, &test())).unwrap();
    assert_eq!(data, net.info.data);
    assert_eq!((data[0].kind, data[0].shuffle, data[0].resize), (DataKind::ImageList, true, Some([10, 12])));
    assert_eq!(data[0].root_folder.as_deref(), Some(Path::new("images/")));
    assert_eq!(data[0].transform.mean_file.as_deref(), Some(Path::new("mean.binaryproto")));
    assert_eq!(data[0].transform.scale, 0.5);
}

#[test]
fn batch_norm_and_scale_become_one_node() {
    let net = build(TRAIN_VAL, &test()).unwrap();
    let bn = net.graph.nodes.iter().find(|n| n.op == "BatchNormalization").unwrap();
    assert_eq!(bn.inputs[1..], ["sc.weight", "sc.bias", "bn.mean", "bn.var"]);
    assert_eq!(bn.attributes["momentum"], Attribute::Float(0.9));
    assert_eq!(net.graph.weights["bn.mean"].rates.lr_mult, 0.0);
    // Another reader of the normalised values keeps the pair apart.
    let apart = TRAIN_VAL.replace(
        "layer { name: 'sc'",
        "layer { name: 'tap' type: 'TanH' bottom: 'conv' top: 'tap' } layer { name: 'sc'",
    );
    let net = build(&apart, &test()).unwrap();
    validate(&net.graph).unwrap();
    let ops: Vec<&str> = net.graph.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(ops[..5], ["Conv", "BatchNormalization", "Tanh", "Mul", "Add"]);
}

#[test]
fn layers_share_weights_by_name() {
    let text = format!(
        "{INPUT}
        layer {{ name: 'a' type: 'Convolution' bottom: 'data' top: 'a' param {{ name: 'w' }} param {{ name: 'b' }}
          convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 weight_filler {{ type: 'msra' }} }} }}
        layer {{ name: 'c' type: 'Convolution' bottom: 'a' top: 'c' param {{ name: 'w' }} param {{ name: 'b' }}
          convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 }} }}"
    );
    let net = build(&text, &test()).unwrap();
    assert_eq!(net.graph.nodes[1].inputs[1..], ["a.weight", "a.bias"]);
    assert_eq!(net.graph.weights.len(), 2);
    let other = text.replace("bottom: 'a' top: 'c'", "bottom: 'a' top: 'd'").replace(
        "convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }",
        "convolution_param { num_output: 4 kernel_size: 5 pad: 1 } }",
    );
    let error = build(&other, &test()).unwrap_err().to_string();
    assert!(error.contains("`c`") && error.contains("param.name"), "{error}");
}

#[test]
fn in_place_layers_on_the_input_leave_it_alone() {
    let text = format!(
        "{INPUT} layer {{ name: 'p' type: 'Power' bottom: 'data' top: 'data' power_param {{ shift: 1 }} }}"
    );
    let net = build(&text, &test()).unwrap();
    validate(&net.graph).unwrap();
    assert_eq!(net.graph.nodes[0].inputs[0], "data");
    assert_ne!(net.graph.nodes[0].outputs[0], "data");
}

#[test]
fn images_whose_shape_only_the_data_know() {
    let text = TRAIN_VAL.replace("crop_size: 8 mean_value: 104 mean_value: 117 mean_value: 123", "");
    let options = ReadOptions::new(Phase::Train);
    assert!(matches!(build(&text, &options), Err(CaffeError::InputShape { .. })));
    let options = ReadOptions { input_shape: Some([1, 12, 10]), ..options };
    let net = build(&text, &options).unwrap();
    assert_eq!(net.graph.weights["conv.weight"].tensor.shape(), [4, 1, 3, 3]);
}

#[test]
fn fresh_weights_follow_the_seed() {
    let make = |seed| {
        let options = ReadOptions { seed, ..ReadOptions::new(Phase::Train) };
        build(TRAIN_VAL, &options).unwrap().graph.weights["conv.weight"].tensor.clone()
    };
    assert_eq!(make(3), make(3));
    assert_ne!(make(3), make(4));
}

#[test]
fn silent_values_are_no_outputs() {
    let text = format!(
        "{INPUT} layer {{ name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' }}
         layer {{ name: 'hush' type: 'Silence' bottom: 'b' }}"
    );
    let net = build(&text, &test()).unwrap();
    assert_eq!(net.graph.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["a"]);
}
