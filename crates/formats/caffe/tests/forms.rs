//! The same net in every form that Caffe's files have had, and files that are broken.

mod common;

use std::path::{Path, PathBuf};

use common::fixture;
use proptest::prelude::*;
use slq_caffe::{CaffeError, Phase, ReadOptions, read, read_mean, read_net};

const MODELS: [&str; 6] = ["v2", "v2_unpacked", "v2_double", "v2_double_unpacked", "v1_legacy", "v0_legacy"];

fn model(name: &str) -> PathBuf {
    fixture(&format!("{name}.caffemodel"))
}

#[test]
fn all_forms_give_one_graph() {
    let reference = read(&fixture("v2.prototxt"), Some(&model("v2")), Phase::Test).unwrap();
    let weight: Vec<f32> = (0..12).map(|i| 0.5 * i as f32 - 1.25).collect();
    assert_eq!(reference.weights["ip.weight"].tensor.as_f32().unwrap(), weight);
    assert_eq!(reference.weights["ip.weight"].tensor.shape(), [2, 6]);
    assert_eq!(reference.weights["ip.bias"].tensor.as_f32().unwrap(), [0.125, -3.0]);
    assert_eq!(reference.weights["ip.bias"].rates.lr_mult, 2.0);
    assert_eq!(reference.weights["ip.bias"].rates.decay_mult, 0.0);
    for net in ["v2", "v1", "v0"] {
        for form in MODELS {
            let graph = read(&fixture(&format!("{net}.prototxt")), Some(&model(form)), Phase::Test).unwrap();
            assert_eq!(graph, reference, "{net}.prototxt with {form}.caffemodel");
        }
    }
}

#[test]
fn a_mean_image_is_read() {
    let mean = read_mean(&fixture("mean.binaryproto")).unwrap();
    assert_eq!(mean, ([2, 1, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert!(read_mean(&model("v2")).is_err(), "a net is no image");
}

fn in_folder<T>(name: &str, bytes: &[u8], test: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    test(&path)
}

fn read_bytes(bytes: &[u8]) -> Result<slq_graph::Graph, CaffeError> {
    in_folder("x.caffemodel", bytes, |path| read(&fixture("v2.prototxt"), Some(path), Phase::Test))
}

fn read_text(text: &str) -> Result<slq_caffe::Net, CaffeError> {
    in_folder("x.prototxt", text.as_bytes(), |path| read_net(path, None, &ReadOptions::new(Phase::Test)))
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_net() {
    let whole = std::fs::read(model("v2")).unwrap();
    for length in 0..whole.len() {
        let error = match read_bytes(&whole[..length]) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{length} of {} bytes gave a net", whole.len()),
        };
        assert!(error.contains("x.caffemodel"), "{error}");
    }
}

#[test]
fn a_length_past_the_end_is_refused_before_reading() {
    // Field 100, a layer that claims 2^60 bytes; then a blob of 2^40 values.
    let layer = [0xa2, 0x06, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let error = read_bytes(&layer).unwrap_err().to_string();
    assert!(error.contains("a length of") && error.contains("byte 11"), "{error}");
    let sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.as_file().set_len(3 << 30).unwrap();
    let error = read(&fixture("v2.prototxt"), Some(sparse.path()), Phase::Test).unwrap_err();
    assert!(matches!(error, CaffeError::TooLarge { .. }), "{error}");
}

#[test]
fn a_model_of_another_net_is_named() {
    let net = fixture("wide.prototxt");
    let error = read(&net, Some(&model("v2")), Phase::Test).unwrap_err();
    assert!(matches!(error, CaffeError::BlobShape { .. }), "{error}");
    let error = read(&fixture("opaque.prototxt"), Some(&model("v2")), Phase::Test).unwrap_err();
    assert!(matches!(error, CaffeError::NothingInCommon { .. }), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let mut bytes = std::fs::read(model("v2")).unwrap();
    let at = bytes.windows(4).position(|w| w == (-0.75f32).to_le_bytes()).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = read_bytes(&bytes).unwrap_err().to_string();
    assert!(error.contains("`ip`") && error.contains("element 1 is NaN"), "{error}");
}

/// A layer behind an input, and what the error names: the place and the reason.
const BROKEN: [(&str, &str, &str); 24] = [
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 2 kernel: 3 } }",
        "`c`",
        "kernel",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 2 } }",
        "`c`",
        "kernel_size",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 2 kernel_size: 9 } }",
        "`c`",
        "kernel_size",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 4 kernel_size: 3 group: 2 } }",
        "`c`",
        "group",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 4 kernel_size: 3 stride: 0 } }",
        "`c`",
        "stride",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'nowhere' top: 'c' convolution_param { num_output: 4 kernel_size: 3 } }",
        "`c`",
        "nowhere",
    ),
    (
        "layer { name: 'c' type: 'Convolution' bottom: 'data' top: 'c' convolution_param { num_output: 4000000000 kernel_size: 3 } }",
        "`c`",
        "2",
    ),
    (
        "layer { name: 'p' type: 'Pooling' bottom: 'data' top: 'p' pooling_param { pool: MEDIAN kernel_size: 2 } }",
        "`p`",
        "MEDIAN",
    ),
    (
        "layer { name: 'p' type: 'Pooling' bottom: 'data' top: 'p' pooling_param { kernel_size: 3 pad: 3 } }",
        "`p`",
        "kernel_size",
    ),
    ("layer { name: 'p' type: 'Poling' bottom: 'data' top: 'p' }", "`p`", "Poling"),
    ("layer { name: 'p' type: 'ContrastiveLoss' bottom: 'data' top: 'p' }", "`p`", "ContrastiveLoss"),
    ("layer { name: 'i' type: 'InnerProduct' bottom: 'data' top: 'i' }", "`i`", "num_output"),
    (
        "layer { name: 'i' type: 'InnerProduct' bottom: 'data' top: 'i' inner_product_param { num_output: 1 axis: 4 } }",
        "`i`",
        "axis",
    ),
    ("layer { name: 's' type: 'Slice' bottom: 'data' top: 'a' top: 'b' }", "`s`", "slice_point"),
    (
        "layer { name: 'r' type: 'Reshape' bottom: 'data' top: 'r' reshape_param { shape { dim: 0 dim: 5 dim: -1 } } }",
        "`r`",
        "shape",
    ),
    (
        "layer { name: 'f' type: 'ReLU' bottom: 'data' top: 'f' relu_param { negative_slope: 'x' } }",
        "`f`",
        "number",
    ),
    ("layer { name: 'd' type: 'Data' top: 'd' top: 'label' data_param { batch_size: 2 } }", "`d`", "source"),
    (
        "layer { name: 'd' type: 'Data' top: 'd' top: 'label' data_param { source: 'db' batch_size: 2 } }",
        "`d`",
        "shape",
    ),
    (
        "layer { name: 'd' type: 'Dropout' bottom: 'data' top: 'd' dropout_param { dropout_ratio: 1 } }",
        "`d`",
        "dropout_ratio",
    ),
    (
        "layer { name: 'e' type: 'Eltwise' bottom: 'data' bottom: 'data' top: 'e' eltwise_param { coeff: 1 } }",
        "`e`",
        "coeff",
    ),
    ("layer { name: 'x' type: 'ReLU' bottom: 'data' top: 'x' ", "line", "not closed"),
    ("} layer { }", "line 2", "closes nothing"),
    ("layer { name: 'x' type: 'ReLU }", "line 2", "string"),
    ("layers { name: 'x' type: RELU bottom: 'data' top: 'x' }", "layers", "mixes"),
];

#[test]
fn broken_descriptions_name_layer_and_field() {
    let input = "layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n";
    for (text, place, reason) in BROKEN {
        let error = match read_text(&format!("{input}{text}")) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted: {text}"),
        };
        let fits = error.contains("x.prototxt") && error.contains(place) && error.contains(reason);
        assert!(fits, "{text}\n gave: {error}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let text = "[a/caffe.NetParameter] {".repeat(100_000);
    let error = read_text(&text).unwrap_err().to_string();
    assert!(error.contains("inside each other"), "{error}");
}

#[test]
fn other_encodings_give_the_same_graph() {
    let reference = read(&fixture("v2.prototxt"), Some(&model("v2")), Phase::Test).unwrap();
    let text = std::fs::read(fixture("v2.prototxt")).unwrap();
    // A byte order mark; a comment in GBK.
    for start in [&b"\xef\xbb\xbf"[..], b"# \xbe\xed\xbb\xfd\n"] {
        let bytes = [start, &text].concat();
        let graph =
            in_folder("x.prototxt", &bytes, |path| read(path, Some(&model("v2")), Phase::Test)).unwrap();
        assert_eq!(graph, reference);
    }
}

#[test]
fn statistics_of_the_batch_in_a_test_net_are_refused() {
    let text = "layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: 'bn' type: 'BatchNorm' bottom: 'data' top: 'bn' batch_norm_param { use_global_stats: false } }
        layer { name: 'sc' type: 'Scale' bottom: 'bn' top: 'sc' }";
    let error = read_text(text).unwrap_err().to_string();
    let named = ["`bn`", "use_global_stats", "not supported in a test net", "set it to true"];
    assert!(named.iter().all(|part| error.contains(part)), "{error}");
    assert!(read_text(&text.replace("false", "true")).is_ok());
    let train = |path: &Path| read(path, None, Phase::Train);
    assert!(in_folder("x.prototxt", text.as_bytes(), train).is_ok(), "training is what it is for");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(&bytes);
        let _ = in_folder("m", &bytes, read_mean);
        let _ = in_folder("x.prototxt", &bytes, |p| read(p, None, Phase::Train));
    }

    #[test]
    fn changed_bytes_never_panic(which in 0..MODELS.len(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = std::fs::read(model(MODELS[which])).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn garbled_descriptions_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~\n]{0,3}|dim: [-0-9]{1,20}|[0-9]{1,12}"), 1..4),
    ) {
        let mut text = std::fs::read_to_string(fixture("wide.prototxt")).unwrap();
        for (at, value) in changes {
            let at = at.index(text.len());
            text.replace_range(at..at + 1, &value);
        }
        let _ = read_text(&text);
    }
}
