//! A builder with one function a layer, which adds nodes and weights and tracks shapes.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use slq_graph::op::{Padding, Window};
use slq_graph::{Attribute, DType, Dim, Graph, GraphError, Metadata, Node, Tensor, ValueInfo};

use crate::error::ZooError;

/// A value of the network: its name and what one image of it holds.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub name: String,
    pub channels: usize,
    pub hw: [usize; 2],
}

/// How initial weights are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    /// Uniform within sqrt(6 / fan-in).
    He,
    /// Uniform within sqrt(3 / fan-in).
    Xavier,
    /// Uniform with a standard deviation of 0.01.
    Small,
}

/// A convolution's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub groups: usize,
    pub bias: bool,
    pub init: Init,
}

impl Conv {
    /// `outputs` filters of `kernel` x `kernel`, with a bias.
    pub fn new(outputs: usize, kernel: usize) -> Self {
        Self { outputs, kernel, stride: 1, pad: 0, groups: 1, bias: true, init: Init::He }
    }

    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    pub fn pad(self, pad: usize) -> Self {
        Self { pad, ..self }
    }

    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    pub fn init(self, init: Init) -> Self {
        Self { init, ..self }
    }

    pub fn no_bias(self) -> Self {
        Self { bias: false, ..self }
    }
}

/// A pooling layer's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    pub op: &'static str,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    /// Caffe's rounding.
    pub ceil: bool,
}

/// Name of every network's input.
const INPUT: &str = "input";

pub(crate) struct Builder {
    graph: Graph,
    seed: u64,
    drawn: u64,
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

impl Builder {
    pub fn new(name: &str, seed: u64) -> Self {
        let metadata = Metadata { opset: 13, producer: "slq".into(), ..Metadata::default() };
        Self { graph: Graph { name: name.into(), metadata, ..Graph::default() }, seed, drawn: 0 }
    }

    pub fn input(&mut self, channels: usize, extent: usize) -> Feature {
        self.input_of(channels, [extent; 2])
    }

    /// An image of height and width `hw`.
    pub fn input_of(&mut self, channels: usize, hw: [usize; 2]) -> Feature {
        self.declare(&[channels, hw[0], hw[1]]);
        Feature { name: INPUT.into(), channels, hw }
    }

    /// An input of `length` values without spatial axes.
    pub fn vector(&mut self, length: usize) -> Feature {
        self.declare(&[length]);
        Feature { name: INPUT.into(), channels: length, hw: [1, 1] }
    }

    fn declare(&mut self, extents: &[usize]) {
        let known = extents.iter().map(|&n| Dim::Known(n));
        let shape = std::iter::once(Dim::Symbol("N".into())).chain(known).collect();
        self.graph.inputs.push(ValueInfo { name: INPUT.into(), dtype: DType::F32, shape: Some(shape) });
    }

    /// The finished graph, whose output is the last node's, renamed `logits`.
    pub fn finish(mut self, classes: usize) -> Result<Graph, ZooError> {
        let name = "logits".to_string();
        if let Some(output) = self.graph.nodes.last_mut().and_then(|n| n.outputs.first_mut()) {
            output.clone_from(&name);
        }
        let shape = Some(vec![Dim::Symbol("N".into()), Dim::Known(classes)]);
        self.graph.outputs.push(ValueInfo { name, dtype: DType::F32, shape });
        Ok(self.graph)
    }

    /// A weight of values drawn around 0.
    fn draw(&mut self, name: &str, shape: Vec<usize>, fan_in: usize, init: Init) -> Result<(), GraphError> {
        let bound = match init {
            Init::He => (6.0 / fan_in as f64).sqrt(),
            Init::Xavier => (3.0 / fan_in as f64).sqrt(),
            Init::Small => 0.01 * 3f64.sqrt(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.drawn);
        self.drawn += 1;
        // Midpoints of 2^32 equal parts of -1 .. 1: symmetric, and never 0.
        let mut next = || ((f64::from(rng.next_u32()) + 0.5) / f64::from(1u32 << 31) - 1.0) * bound;
        let values = (0..shape.iter().product()).map(|_| next() as f32).collect();
        self.graph.weights.insert(name.into(), Tensor::f32(shape, values)?.into());
        Ok(())
    }

    fn constant(&mut self, name: &str, count: usize, value: f32) -> Result<(), GraphError> {
        self.graph.weights.insert(name.into(), Tensor::f32(vec![count], vec![value; count])?.into());
        Ok(())
    }

    /// A single number, or list of integers, that several nodes may share.
    pub fn scalar(&mut self, name: &str, value: f32) -> Result<(), GraphError> {
        self.graph.weights.insert(name.into(), Tensor::f32(vec![], vec![value])?.into());
        Ok(())
    }

    pub fn list(&mut self, name: &str, values: &[i64]) {
        self.graph.weights.insert(name.into(), Tensor::i64_vector(values.to_vec()).into());
    }

    /// A node whose only output is a value of its own name.
    pub fn node(&mut self, node: Node, channels: usize, hw: [usize; 2]) -> Feature {
        let name = node.name.clone();
        self.graph.nodes.push(Node { outputs: vec![name.clone()], ..node });
        Feature { name, channels, hw }
    }

    /// A node that keeps its input's shape.
    pub fn same(&mut self, node: Node, x: &Feature) -> Feature {
        self.node(node, x.channels, x.hw)
    }

    fn extent(kernel: usize, stride: usize, pad: usize, ceil: bool, hw: [usize; 2]) -> [usize; 2] {
        let window = Window {
            kernel: [kernel; 2],
            strides: [stride; 2],
            dilations: [1; 2],
            padding: Padding::Explicit([pad; 4]),
        };
        window.output_extent(hw, ceil).unwrap_or([1; 2]) // every architecture here fits its input
    }

    pub fn conv(&mut self, name: &str, x: &Feature, conv: Conv) -> Result<Feature, ZooError> {
        let Conv { outputs, kernel, stride, pad, groups, bias, init } = conv;
        let (weight, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        let per_group = x.channels / groups;
        self.draw(&weight, vec![outputs, per_group, kernel, kernel], per_group * kernel * kernel, init)?;
        let mut inputs = vec![x.name.as_str(), &weight];
        if bias {
            self.constant(&bias_name, outputs, 0.0)?;
            inputs.push(&bias_name);
        }
        let node = Node::new(name, "Conv", &inputs, &[])
            .with("kernel_shape", ints(&[kernel; 2]))
            .with("strides", ints(&[stride; 2]))
            .with("pads", ints(&[pad; 4]))
            .with("group", Attribute::Int(groups as i64));
        Ok(self.node(node, outputs, Self::extent(kernel, stride, pad, false, x.hw)))
    }

    /// The weight and the bias of a convolution whose kernel has the extents `kernel`: their names.
    pub fn kernel(
        &mut self,
        name: &str,
        x: &Feature,
        conv: Conv,
        kernel: [usize; 2],
    ) -> Result<(String, String), ZooError> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let per_group = x.channels / conv.groups;
        let [h, w] = kernel;
        self.draw(&weight, vec![conv.outputs, per_group, h, w], per_group * h * w, conv.init)?;
        self.constant(&bias, conv.outputs, 0.0)?;
        Ok((weight, bias))
    }

    pub fn pool(&mut self, name: &str, x: &Feature, pool: Pool) -> Feature {
        let Pool { op, kernel, stride, pad, ceil } = pool;
        let node = Node::new(name, op, &[&x.name], &[])
            .with("kernel_shape", ints(&[kernel; 2]))
            .with("strides", ints(&[stride; 2]))
            .with("pads", ints(&[pad; 4]))
            .with("ceil_mode", Attribute::Int(ceil.into()));
        self.node(node, x.channels, Self::extent(kernel, stride, pad, ceil, x.hw))
    }

    /// Caffe's maximum pooling without padding.
    pub fn max_pool(&mut self, name: &str, x: &Feature, kernel: usize, stride: usize) -> Feature {
        self.pool(name, x, Pool { op: "MaxPool", kernel, stride, pad: 0, ceil: true })
    }

    pub fn relu(&mut self, name: &str, x: &Feature) -> Feature {
        self.same(Node::new(name, "Relu", &[&x.name], &[]), x)
    }

    pub fn batch_norm(&mut self, name: &str, x: &Feature) -> Result<Feature, ZooError> {
        let parts = ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{name}.{part}"));
        for (part, value) in parts.iter().zip([1.0, 0.0, 0.0, 1.0]) {
            self.constant(part, x.channels, value)?;
        }
        let inputs: Vec<&str> = std::iter::once(&x.name).chain(&parts).map(String::as_str).collect();
        let node = Node::new(name, "BatchNormalization", &inputs, &[])
            .with("epsilon", Attribute::Float(1e-5))
            .with("momentum", Attribute::Float(0.9));
        Ok(self.same(node, x))
    }

    /// Caffe's LRN across channels: size 5, alpha 1e-4, beta 0.75.
    pub fn lrn(&mut self, name: &str, x: &Feature) -> Feature {
        let node = Node::new(name, "LRN", &[&x.name], &[])
            .with("size", Attribute::Int(5))
            .with("alpha", Attribute::Float(1e-4))
            .with("beta", Attribute::Float(0.75))
            .with("bias", Attribute::Float(1.0));
        self.same(node, x)
    }

    pub fn dropout(&mut self, name: &str, x: &Feature, ratio: f32) -> Result<Feature, ZooError> {
        let constant = format!("{name}.ratio");
        self.scalar(&constant, ratio)?;
        Ok(self.same(Node::new(name, "Dropout", &[&x.name, &constant], &[]), x))
    }

    pub fn flatten(&mut self, name: &str, x: &Feature) -> Feature {
        let node = Node::new(name, "Flatten", &[&x.name], &[]).with("axis", Attribute::Int(1));
        self.node(node, x.channels * x.hw[0] * x.hw[1], [1, 1])
    }

    pub fn global_average(&mut self, name: &str, x: &Feature) -> Feature {
        self.node(Node::new(name, "GlobalAveragePool", &[&x.name], &[]), x.channels, [1, 1])
    }

    /// A fully connected layer; its weight is [outputs, inputs].
    pub fn dense(
        &mut self,
        name: &str,
        x: &Feature,
        outputs: usize,
        init: Init,
    ) -> Result<Feature, ZooError> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.draw(&weight, vec![outputs, x.channels], x.channels, init)?;
        self.constant(&bias, outputs, 0.0)?;
        let node = Node::new(name, "Gemm", &[&x.name, &weight, &bias], &[]).with("transB", Attribute::Int(1));
        Ok(self.node(node, outputs, [1, 1]))
    }

    pub fn add(&mut self, name: &str, a: &Feature, b: &Feature) -> Feature {
        self.same(Node::new(name, "Add", &[&a.name, &b.name], &[]), a)
    }

    /// Joins along the channels.
    pub fn concat(&mut self, name: &str, parts: &[Feature]) -> Feature {
        let inputs: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        let node = Node::new(name, "Concat", &inputs, &[]).with("axis", Attribute::Int(1));
        let hw = parts.first().map_or([1, 1], |p| p.hw);
        self.node(node, parts.iter().map(|p| p.channels).sum(), hw)
    }
}
