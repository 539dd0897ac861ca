//! The architectures have the published sizes and shapes.

use slq_graph::stats::macs;
use slq_graph::{Graph, infer_shapes, validate};

/// Parameters as papers count them: without running statistics.
fn trained(graph: &Graph) -> usize {
    let statistic = |name: &str| name.ends_with(".running_mean") || name.ends_with(".running_var");
    graph.parameters().into_iter().filter(|n| !statistic(n)).map(|n| graph.weights[n].tensor.len()).sum()
}

/// The networks of MLPerf Tiny: input, outputs, parameters with running statistics as Keras counts them, parameters without.
type Tiny = (&'static str, &'static [usize], usize, usize, usize);

const TINY: [Tiny; 4] = [
    ("ds-cnn", &[1, 49, 10], 12, 24_908, 23_756),
    ("mobilenet-v1-025", &[3, 96, 96], 2, 221_794, 216_322),
    ("resnet8", &[3, 32, 32], 10, 78_666, 78_186),
    ("autoencoder", &[640], 640, 269_992, 267_928),
];

#[test]
fn the_networks_of_mlperf_tiny_have_the_published_sizes() {
    for (name, input, outputs, all, without_statistics) in TINY {
        let graph = slq_zoo::build(name, 0).unwrap();
        validate(&graph).unwrap();
        assert_eq!((graph.parameter_count(), trained(&graph)), (all, without_statistics), "{name}");
        for batch in [1, 3] {
            let shapes = infer_shapes(&graph, &[("input", [&[batch], input].concat())]).unwrap();
            assert_eq!(shapes.get("logits"), Some(&[batch, outputs][..]), "{name}");
        }
    }
    let shapes =
        infer_shapes(&slq_zoo::build("ds-cnn", 0).unwrap(), &[("input", vec![1, 1, 49, 10])]).unwrap();
    assert_eq!(shapes.get("conv1"), Some(&[1, 64, 25, 5][..]));
    assert!(slq_zoo::build_for("autoencoder", 10, 0).unwrap_err().to_string().contains("640"));
}

#[test]
fn parameter_counts_are_the_published_ones() {
    // (name, input, parameters, multiply-adds of one image)
    let table = [
        ("lenet", [1, 28, 28], 431_080, 2_293_000),
        ("lenet-300-100", [1, 28, 28], 266_610, 266_200),
        ("cifar-quick", [3, 32, 32], 145_578, 12_354_176),
        ("resnet20", [3, 32, 32], 269_722, 40_551_040),
        ("resnet32", [3, 32, 32], 464_154, 68_862_592),
        ("resnet56", [3, 32, 32], 853_018, 125_485_696),
        ("alexnet", [3, 227, 227], 60_965_224, 724_406_816),
        ("googlenet", [3, 224, 224], 6_998_552, 1_582_671_872),
        ("resnet18", [3, 224, 224], 11_689_512, 1_814_073_344),
        ("mobilenet-v2", [3, 224, 224], 3_504_872, 300_774_272),
        ("vgg16", [3, 224, 224], 138_357_544, 15_470_264_320),
    ];
    assert_eq!(table.len() + TINY.len(), slq_zoo::names().len());
    let mut wrong = Vec::new();
    for (name, [c, h, w], parameters, multiply_adds) in table {
        let graph = slq_zoo::build(name, 0).unwrap();
        validate(&graph).unwrap();
        let shapes = infer_shapes(&graph, &[("input", vec![1, c, h, w])]).unwrap();
        let classes = if h > 32 { 1000 } else { 10 };
        assert_eq!(shapes.get("logits"), Some(&[1, classes][..]), "{name}");
        let total: u64 = macs(&graph, &shapes).unwrap().iter().map(|m| m.macs).sum();
        if (trained(&graph), total) != (parameters, multiply_adds) {
            wrong.push((name, trained(&graph), total));
        }
        // Any batch size will do.
        let shapes = infer_shapes(&graph, &[("input", vec![3, c, h, w])]).unwrap();
        assert_eq!(shapes.get("logits"), Some(&[3, classes][..]), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn weights_depend_on_the_seed_alone() {
    let [a, b, c] = [1, 1, 2].map(|seed| slq_zoo::build("lenet", seed).unwrap());
    assert_eq!(a, b);
    assert_ne!(a, c);
}

#[test]
fn weights_are_spread_as_announced() {
    let graph = slq_zoo::build("resnet20", 7).unwrap();
    let weight = graph.weights["layer3.1.conv2.weight"].tensor.as_f32().unwrap();
    let variance = weight.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / weight.len() as f64;
    assert!(
        (variance * 576.0 / 2.0 - 1.0).abs() < 0.03,
        "He et al. 2015 ask for 2 / fan-in, this is {variance}"
    );
    let mean = weight.iter().map(|&v| f64::from(v)).sum::<f64>() / weight.len() as f64;
    assert!(mean.abs() < 1e-3, "{mean}");
}

#[test]
fn tensors_of_one_shape_differ() {
    let graph = slq_zoo::build("resnet20", 0).unwrap();
    let [a, b] = ["layer1.0.conv1.weight", "layer1.0.conv2.weight"].map(|n| graph.weights[n].tensor.as_f32());
    assert_ne!(a, b);
}

#[test]
fn every_layer_with_a_matrix_can_be_quantized() {
    let count = |name: &str| slq_zoo::build(name, 0).unwrap().quantizable().len();
    assert_eq!(["lenet", "resnet20", "resnet18", "mobilenet-v2"].map(count), [4, 20, 21, 53]);
}

#[test]
fn the_number_of_classes_can_be_chosen() {
    let graph = slq_zoo::build_for("resnet20", 100, 0).unwrap();
    let shapes = infer_shapes(&graph, &[("input", vec![2, 3, 32, 32])]).unwrap();
    assert_eq!(shapes.get("logits"), Some(&[2, 100][..]));
    assert!(matches!(slq_zoo::build_for("lenet", 0, 0), Err(slq_zoo::ZooError::Classes { .. })));
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let error = slq_zoo::build("lenet5", 0).unwrap_err().to_string();
    assert!(error.contains("`lenet5`") && error.contains("mobilenet-v2"), "{error}");
}
