//! Small valid networks: engine and runtime, on every instruction set of the machine, against a reference of plain loops over
//! doubles.

use std::collections::BTreeMap;

use slq::Isa;
use slq::graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};
use slq::runtime::{Expand, Network};

use super::bytes::Bytes;

/// Largest difference as a share of the largest output.
const TOLERANCE: f64 = 1e-4;
const BATCH: usize = 2;

/// Values of an N x C x H x W tensor.
#[derive(Clone)]
struct Values {
    shape: [usize; 4],
    data: Vec<f64>,
}

impl Values {
    fn at(&self, [n, c, h, w]: [usize; 4]) -> f64 {
        let [_, cs, hs, ws] = self.shape;
        self.data[((n * cs + c) * hs + h) * ws + w]
    }

    fn make(shape: [usize; 4], mut value: impl FnMut([usize; 4]) -> f64) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        for n in 0..shape[0] {
            for c in 0..shape[1] {
                for h in 0..shape[2] {
                    for w in 0..shape[3] {
                        data.push(value([n, c, h, w]));
                    }
                }
            }
        }
        Self { shape, data }
    }
}

/// A network under construction with the reference's value of its last node.
struct Builder<'a> {
    bytes: Bytes<'a>,
    graph: Graph,
    value: Values,
    name: String,
}

/// A window: extents of the kernel, step and padding, which are the same along both axes but for the kernel.
#[derive(Clone, Copy)]
struct Window {
    kernel: [usize; 2],
    stride: usize,
    pad: usize,
}

impl Builder<'_> {
    fn node(&mut self, op: &str, weights: Vec<(&str, Tensor)>, attributes: Vec<(&str, Attribute)>) {
        let number = self.graph.nodes.len();
        let output = format!("v{number}");
        let mut inputs = vec![self.name.clone()];
        for (name, tensor) in weights {
            let name = format!("{name}{number}");
            inputs.push(name.clone());
            self.graph.weights.insert(name, tensor.into());
        }
        let attributes: BTreeMap<String, Attribute> =
            attributes.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        self.graph.nodes.push(Node {
            name: format!("n{number}"),
            op: op.into(),
            inputs,
            outputs: vec![output.clone()],
            attributes,
            ..Node::default()
        });
        self.name = output;
    }

    fn window(&mut self) -> Option<Window> {
        let window = Window {
            kernel: [self.bytes.between(1, 3), self.bytes.between(1, 3)],
            stride: self.bytes.between(1, 2),
            pad: self.bytes.between(0, 2),
        };
        let [_, _, h, w] = self.value.shape;
        let fits = [h, w].iter().zip(window.kernel).all(|(&n, k)| n + 2 * window.pad >= k && window.pad < k);
        fits.then_some(window)
    }

    /// Applies `combine` to the values of each window that lie in the image, with their place in the window.
    fn slide(&self, w: Window, channels: usize, mut combine: impl FnMut(usize, &[Seen]) -> f64) -> Values {
        let [n, cs, hs, ws] = self.value.shape;
        let out = |extent: usize, k: usize| (extent + 2 * w.pad - k) / w.stride + 1;
        let shape = [n, channels, out(hs, w.kernel[0]), out(ws, w.kernel[1])];
        Values::make(shape, |[n, c, oh, ow]| {
            let mut seen = Vec::new();
            for source in 0..cs {
                for kh in 0..w.kernel[0] {
                    for kw in 0..w.kernel[1] {
                        let (h, x) = (oh * w.stride + kh, ow * w.stride + kw);
                        if h >= w.pad && x >= w.pad && h - w.pad < hs && x - w.pad < ws {
                            let value = self.value.at([n, source, h - w.pad, x - w.pad]);
                            seen.push(Seen { channel: source, at: kh * w.kernel[1] + kw, value });
                        }
                    }
                }
            }
            combine(c, &seen)
        })
    }

    fn attributes(w: Window) -> Vec<(&'static str, Attribute)> {
        let ints = |v: &[usize]| Attribute::Ints(v.iter().map(|&x| x as i64).collect());
        vec![
            ("kernel_shape", ints(&w.kernel)),
            ("strides", ints(&[w.stride; 2])),
            ("pads", ints(&[w.pad; 4])),
        ]
    }

    fn convolution(&mut self) -> Option<()> {
        let w = self.window()?;
        let (inputs, outputs) = (self.value.shape[1], self.bytes.between(1, 5));
        let area = w.kernel[0] * w.kernel[1];
        let weights = self.bytes.values(outputs * inputs * area);
        let bias = self.bytes.values(outputs);
        self.value = self.slide(w, outputs, |c, seen| {
            let term = |s: &Seen| s.value * f64::from(weights[(c * inputs + s.channel) * area + s.at]);
            f64::from(bias[c]) + seen.iter().map(term).sum::<f64>()
        });
        let weight = Tensor::f32(vec![outputs, inputs, w.kernel[0], w.kernel[1]], weights.clone()).ok()?;
        let bias = Tensor::f32(vec![outputs], bias.clone()).ok()?;
        self.node("Conv", vec![("w", weight), ("b", bias)], Self::attributes(w));
        Some(())
    }

    fn pool(&mut self, largest: bool) -> Option<()> {
        let w = self.window()?;
        let with_padding = self.bytes.between(0, 1) == 1;
        let area = (w.kernel[0] * w.kernel[1]) as f64;
        self.value = self.slide(w, self.value.shape[1], |c, seen| {
            let own = || seen.iter().filter(|s| s.channel == c).map(|s| s.value);
            match largest {
                true => own().fold(f64::NEG_INFINITY, f64::max),
                false => own().sum::<f64>() / if with_padding { area } else { own().count() as f64 },
            }
        });
        let mut attributes = Self::attributes(w);
        if !largest {
            attributes.push(("count_include_pad", Attribute::Int(i64::from(with_padding))));
        }
        self.node(if largest { "MaxPool" } else { "AveragePool" }, vec![], attributes);
        Some(())
    }

    fn each(&mut self, op: &str, f: impl Fn(f64) -> f64) {
        self.value.data.iter_mut().for_each(|v| *v = f(*v));
        self.node(op, vec![], vec![]);
    }

    fn normalisation(&mut self) -> Option<()> {
        let channels = self.value.shape[1];
        let [scale, shift, mean] = [0; 3].map(|_| self.bytes.values(channels));
        let variance: Vec<f32> = self.bytes.values(channels).iter().map(|v| v.abs() + 0.5).collect();
        let (old, at) = (self.value.clone(), |v: &[f32], c: usize| f64::from(v[c]));
        self.value = Values::make(old.shape, |[n, c, h, w]| {
            (old.at([n, c, h, w]) - at(&mean, c)) / (at(&variance, c) + 1e-5).sqrt() * at(&scale, c)
                + at(&shift, c)
        });
        let tensor = |v: Vec<f32>| Tensor::f32(vec![channels], v).ok();
        let weights = vec![
            ("scale", tensor(scale)?),
            ("shift", tensor(shift)?),
            ("mean", tensor(mean)?),
            ("var", tensor(variance)?),
        ];
        self.node("BatchNormalization", weights, vec![]);
        Some(())
    }

    fn fully_connected(&mut self) -> Option<()> {
        let old = self.value.clone();
        let (inputs, outputs) = (old.shape[1..].iter().product::<usize>(), self.bytes.between(1, 6));
        if inputs > 400 {
            return None;
        }
        let (weights, bias) = (self.bytes.values(outputs * inputs), self.bytes.values(outputs));
        self.value = Values::make([BATCH, outputs, 1, 1], |[n, c, ..]| {
            let row = old.data[n * inputs..].iter().zip(&weights[c * inputs..(c + 1) * inputs]);
            f64::from(bias[c]) + row.map(|(a, b)| a * f64::from(*b)).sum::<f64>()
        });
        self.node("Flatten", vec![], vec![("axis", Attribute::Int(1))]);
        let weight = Tensor::f32(vec![outputs, inputs], weights).ok()?;
        let bias = Tensor::f32(vec![outputs], bias).ok()?;
        self.node("Gemm", vec![("w", weight), ("b", bias)], vec![("transB", Attribute::Int(1))]);
        Some(())
    }

    /// One more node, if it fits.
    fn grow(&mut self) {
        match self.bytes.between(0, 7) {
            0 | 1 => drop(self.convolution()),
            2 => drop(self.pool(true)),
            3 => drop(self.pool(false)),
            4 => self.each("Relu", |v| v.max(0.0)),
            5 => self.each("Sigmoid", |v| 1.0 / (1.0 + (-v).exp())),
            6 => self.each("Tanh", f64::tanh),
            _ => drop(self.normalisation()),
        }
    }
}

/// A value in a window, with its channel and its place in the kernel.
struct Seen {
    channel: usize,
    at: usize,
    value: f64,
}

fn declared(name: &str, shape: Option<Vec<Dim>>) -> ValueInfo {
    ValueInfo { name: name.into(), dtype: DType::F32, shape }
}

/// A network from bytes: the outputs of engine and runtime are those of the reference.
pub fn graph(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let image = [bytes.between(1, 3), bytes.between(1, 7), bytes.between(1, 7)];
    let shape = [BATCH, image[0], image[1], image[2]];
    let input = bytes.values(shape.iter().product());
    let value = Values { shape, data: input.iter().map(|&v| f64::from(v)).collect() };
    let dims = shape.iter().map(|&n| Dim::Known(n)).collect();
    let mut graph = Graph { name: "g".into(), inputs: vec![declared("x", Some(dims))], ..Graph::default() };
    graph.metadata.opset = 17;
    let mut builder = Builder { bytes, graph, value, name: "x".into() };
    for _ in 0..builder.bytes.between(1, 6) {
        if !builder.bytes.is_empty() {
            builder.grow();
        }
    }
    if builder.bytes.between(0, 1) == 1 {
        let _ = builder.fully_connected();
    }
    if builder.graph.nodes.is_empty() {
        return;
    }
    let Builder { mut graph, value, name, .. } = builder;
    graph.outputs = vec![declared(&name, None)];
    slq::graph::validate(&graph).expect("a valid network");
    let tensor = Tensor::f32(shape.to_vec(), input).expect("values of the shape");
    let largest = value.data.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= Isa::detect()) {
        let inputs = [("x".to_owned(), tensor.clone())];
        let engine = slq::inference::run_model(&graph, &inputs, isa).expect("a network that runs");
        let network = Network::from_graph(graph.clone(), Expand::None).expect("a network that loads");
        let runtime = network.session(isa).run(&[("x", &tensor)]).expect("a network that runs");
        for (from, found) in [("engine", &engine), ("runtime", &runtime)] {
            let found = found[0].1.as_f32().expect("floats");
            assert_eq!(found.len(), value.data.len(), "{:?}", graph.nodes);
            for (position, (a, b)) in found.iter().zip(&value.data).enumerate() {
                let off = (f64::from(*a) - b).abs() / largest;
                assert!(
                    off <= TOLERANCE,
                    "{from}, {isa} at {position}: {a} instead of {b} in {:?}",
                    graph.nodes
                );
            }
        }
    }
}
