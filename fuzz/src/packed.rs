//! One layer with packed weights: the runtime, on every instruction set of the machine, against the same layer as floats.

use slq::Isa;
use slq::codebook::Palette;
use slq::graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo, Weight};
use slq::runtime::{Expand, Network};

use super::bytes::Bytes;

/// Largest difference as a share of the largest sum of absolute products.
const TOLERANCE: f32 = 1e-5;
/// Products of a layer, at most: more takes an instruction set without vectors too long.
const WORK: usize = 1 << 20;

/// Numbers from -1 to 1, the same for the same seed.
struct Noise(u64);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.below(2001) as f32 / 1000.0 - 1.0).collect()
    }
}

/// What a layer is made of.
struct Layer {
    node: Node,
    input: Vec<usize>,
    weight: Vec<usize>,
    outputs: usize,
    /// Products of one pass.
    work: usize,
}

fn convolution(bytes: &mut Bytes<'_>) -> Option<Layer> {
    let kernel = [bytes.between(1, 5), bytes.between(1, 5)];
    let (stride, dilation) = (bytes.between(1, 2), bytes.between(1, 2));
    let pads: Vec<usize> = (0..4).map(|_| bytes.between(0, 2)).collect();
    let size = [bytes.between(1, 20), bytes.between(1, 20)];
    // One group, a few, or one for each channel.
    let (groups, inputs, outputs) = match bytes.between(0, 3) {
        0 => (bytes.between(1, 40), 1, bytes.between(1, 2)),
        1 => (bytes.between(2, 4), bytes.between(1, 20), bytes.between(1, 20)),
        _ => (1, bytes.between(1, 70), bytes.between(1, 70)),
    };
    let batch = bytes.between(1, 3);
    let mut places = batch;
    for axis in 0..2 {
        let padded = size[axis] + pads[axis] + pads[axis + 2];
        let reach = (kernel[axis] - 1) * dilation + 1;
        places *= padded.checked_sub(reach)? / stride + 1;
    }
    let ints = |v: &[usize]| Attribute::Ints(v.iter().map(|&x| x as i64).collect());
    let node = Node::new("layer", "Conv", &["x", "w", "b"], &["y"])
        .with("kernel_shape", ints(&kernel))
        .with("strides", ints(&[stride; 2]))
        .with("dilations", ints(&[dilation; 2]))
        .with("pads", ints(&pads))
        .with("group", Attribute::Int(groups as i64));
    Some(Layer {
        node,
        input: vec![batch, groups * inputs, size[0], size[1]],
        weight: vec![groups * outputs, inputs, kernel[0], kernel[1]],
        outputs: groups * outputs,
        work: places * groups * outputs * inputs * kernel[0] * kernel[1],
    })
}

fn product(bytes: &mut Bytes<'_>) -> Layer {
    let (batch, inputs, outputs) =
        (bytes.between(1, 20), 8 * bytes.between(0, 60) + bytes.between(1, 8), bytes.between(1, 130));
    let input = vec![batch, inputs];
    let (node, weight) = match bytes.between(0, 2) {
        0 => {
            let node = Node::new("layer", "Gemm", &["x", "w", "b"], &["y"]);
            (node.with("transB", Attribute::Int(1)), vec![outputs, inputs])
        }
        1 => (Node::new("layer", "Gemm", &["x", "w", "b"], &["y"]), vec![inputs, outputs]),
        _ => (Node::new("layer", "MatMul", &["x", "w"], &["y"]), vec![inputs, outputs]),
    };
    Layer { node, input, weight, outputs, work: batch * inputs * outputs }
}

/// A palette for a weight of `shape`: a codebook for all of it, for each of its first axis, or for blocks of these.
fn palette(bytes: &mut Bytes<'_>, noise: &mut Noise, shape: &[usize]) -> Option<Palette> {
    let (rows, count) = (shape[0], shape.iter().product::<usize>());
    let size = [2, 3, 4, 9, 16, 17, 32, 64, 200, 256][bytes.between(0, 9)];
    let block = bytes.between(1, 32);
    let groups = match bytes.between(0, 3) {
        0 | 1 => 1,
        2 => rows,
        _ if count % (rows * block) == 0 => count / block,
        _ => rows,
    };
    let codebook = noise.values(groups * size);
    let codes = (0..count).map(|_| noise.below(size) as u8).collect();
    Palette::fully_fixed(codebook, groups, codes).ok()
}

/// The network of one layer.
fn network(layer: &Layer, weight: Weight, bias: &[f32], relu: bool) -> Option<Graph> {
    let declared = |name: &str, shape| ValueInfo { name: name.into(), dtype: DType::F32, shape };
    let input = layer.input.iter().map(|&n| Dim::Known(n)).collect();
    let mut graph = Graph {
        name: "packed".into(),
        inputs: vec![declared("x", Some(input))],
        nodes: vec![layer.node.clone()],
        outputs: vec![declared(if relu { "z" } else { "y" }, None)],
        ..Graph::default()
    };
    graph.metadata.opset = 17;
    graph.weights.insert("w".into(), weight);
    if layer.node.inputs.len() > 2 {
        graph.weights.insert("b".into(), Tensor::f32(vec![layer.outputs], bias.to_vec()).ok()?.into());
    }
    if relu {
        graph.nodes.push(Node::new("relu", "Relu", &["y"], &["z"]));
    }
    Some(graph)
}

fn tensor(shape: &[usize], values: Vec<f32>) -> Tensor {
    Tensor::f32(shape.to_vec(), values).expect("values of the shape")
}

/// The only output of a layer of floats, in plain code.
fn as_floats(layer: &Layer, [x, weight, bias]: [&[f32]; 3], relu: bool) -> Vec<f32> {
    let weight = tensor(&layer.weight, weight.to_vec());
    let graph = network(layer, weight.into(), bias, relu).expect("a layer");
    let inputs = [("x".to_owned(), tensor(&layer.input, x.to_vec()))];
    let found = slq::inference::run_model(&graph, &inputs, Isa::Scalar).expect("a network that runs");
    found[0].1.as_f32().expect("floats").to_vec()
}

/// A packed layer from bytes: what it computes is what it would as floats.
pub fn packed(bytes: &[u8]) {
    let bytes = &mut Bytes(bytes);
    let layer = match bytes.between(0, 1) {
        0 => convolution(bytes),
        _ => Some(product(bytes)),
    };
    let Some(layer) = layer.filter(|l| l.work <= WORK) else { return };
    let seed = bytes.values(2).iter().fold(1, |s, v| 257 * s + u64::from(v.to_bits()));
    let noise = &mut Noise(seed);
    let Some(palette) = palette(bytes, noise, &layer.weight) else { return };
    let (relu, x) = (bytes.between(0, 1) == 1, noise.values(layer.input.iter().product()));
    let (weight, bias) = (palette.decode(), noise.values(layer.outputs));
    let reference = as_floats(&layer, [&x, &weight, &bias], relu);
    let sizes = [&x, &weight, &bias].map(|v| v.iter().map(|v| v.abs()).collect::<Vec<f32>>());
    let sums = as_floats(&layer, sizes.each_ref().map(Vec::as_slice), false);
    let largest = sums.iter().fold(1e-3f32, |m, v| m.max(*v));
    let shared = Weight { palette: Some(palette), ..tensor(&layer.weight, weight).into() };
    let graph = network(&layer, shared, &bias, relu).expect("a layer");
    let input = tensor(&layer.input, x);
    for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= Isa::detect()) {
        let network = Network::from_graph(graph.clone(), Expand::None).expect("a network that loads");
        let packed = network.report().packed.len();
        let outputs = network.session(isa).run(&[("x", &input)]).expect("a network that runs");
        let found = outputs[0].1.as_f32().expect("floats");
        assert_eq!(found.len(), reference.len(), "{:?}", graph.nodes);
        for (position, (a, b)) in found.iter().zip(&reference).enumerate() {
            assert!(
                (a - b).abs() <= TOLERANCE * largest,
                "{isa} at {position}: {a} instead of {b}, {packed} packed, {:?} of {:?}",
                graph.nodes,
                layer.weight
            );
        }
    }
}
