//! The state of a lowering: which tensor holds each value, and in which order of axes.

use std::collections::HashMap;

use slq_graph::op::{BinaryOp, Op, Reduction};
use slq_graph::{DType, Graph, Node, Shapes, Tensor};

use crate::arrange::{Arrangement, CHANNELS_LAST, FROM_CHANNELS_FIRST, by_axis};
use crate::error::Unsupported;
use crate::model::{ModelDef, OperatorDef, float_bytes, int_bytes};
use crate::report::Report;
use crate::schema::{Activation, Code, Element, Options};

/// What cannot be expressed, in words.
pub(super) struct Refusal(pub(super) String);

/// The result of lowering a part of a node.
pub(super) type Lowers<T = ()> = Result<T, Refusal>;

pub(super) fn refuse<T>(reason: impl Into<String>) -> Lowers<T> {
    Err(Refusal(reason.into()))
}

/// A value of the network. One of four axes lies with its channels last, any other as ONNX has it.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// The tensor that holds it.
    pub(super) tensor: usize,
    /// Its shape in ONNX's order of axes.
    pub(super) shape: Vec<usize>,
    /// A flattened image whose elements lie with the channels last: its (channels, height, width).
    pub(super) image: Option<[usize; 3]>,
    /// Whether nothing but one node reads it.
    pub(super) read_once: bool,
}

/// A network on its way to a model.
pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    pub(super) shapes: &'a Shapes,
    pub(super) packed: bool,
    pub(super) model: ModelDef,
    pub(super) report: Report,
    values: HashMap<String, Value>,
    reads: HashMap<&'a str, usize>,
    /// Weights by the names of their transposes.
    pub(super) turned: HashMap<&'a str, &'a str>,
    /// Constants by content: zeros, shapes and the like are shared.
    shared: HashMap<(Vec<usize>, Vec<u8>, bool), usize>,
    /// Weights by name and order: float tensors, or codes and tables.
    pub(super) stored: HashMap<(String, Arrangement), Stored>,
}

/// What holds a weight in the file.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    /// A tensor of floats.
    Floats(usize),
    /// Packed codes, tables with their header, and how many tables follow which axis.
    Codes { codes: usize, tables: usize, several: Option<(usize, usize)> },
}

impl<'a> Lowering<'a> {
    pub(super) fn new(graph: &'a Graph, shapes: &'a Shapes, packed: bool) -> Self {
        let mut model = ModelDef { name: graph.name.clone(), ..ModelDef::default() };
        model.metadata =
            graph.metadata.properties.iter().map(|(k, v)| (k.clone(), v.clone().into_bytes())).collect();
        Self {
            graph,
            shapes,
            packed,
            model,
            report: Report::default(),
            values: HashMap::new(),
            reads: graph.reads(),
            turned: graph.turned_matrices(),
            shared: HashMap::new(),
            stored: HashMap::new(),
        }
    }

    /// Declares the network's inputs; those that cannot be.
    pub(super) fn inputs(&mut self) -> Vec<Unsupported> {
        let mut refused = Vec::new();
        for input in self.graph.free_inputs() {
            if input.dtype != DType::F32 {
                let reason = format!("it holds {:?}; only float32 inputs are written", input.dtype);
                refused.push(Unsupported { node: input.name.clone(), op: "input".into(), reason });
            }
            let shape = self.shapes.get(&input.name).unwrap_or_default().to_vec();
            let tensor = self.model.add(&input.name, by_axis(&shape), Element::F32, None);
            self.model.inputs.push(tensor);
            self.bind(&input.name, tensor, shape, None);
        }
        refused
    }

    /// Names the network's outputs; those that cannot be written.
    pub(super) fn outputs(&mut self) -> Vec<Unsupported> {
        let mut refused = Vec::new();
        for output in &self.graph.outputs {
            let Some(value) = self.values.get(&output.name).cloned() else {
                let reason = "it is a constant, not computed by the network".to_string();
                refused.push(Unsupported { node: output.name.clone(), op: "output".into(), reason });
                continue;
            };
            let mut tensor = value.tensor;
            if self.model.inputs.contains(&tensor) || self.model.outputs.contains(&tensor) {
                // An output of its own for what is an input, or an output already.
                tensor = self.reshape(tensor, &by_axis(&value.shape), &output.name);
            }
            self.model.tensors[tensor].name.clone_from(&output.name);
            self.model.outputs.push(tensor);
        }
        refused
    }

    pub(super) fn finish(self) -> (ModelDef, Report) {
        (self.model, self.report)
    }

    /// Gives the outputs of a node that was refused a tensor, so that the nodes after it can be looked at.
    pub(super) fn stand_in(&mut self, node: &Node) {
        for name in node.outputs.iter().filter(|n| !n.is_empty()) {
            let shape = self.shapes.get(name).unwrap_or_default().to_vec();
            let tensor = self.model.add(name, by_axis(&shape), Element::F32, None);
            self.bind(name, tensor, shape, None);
        }
    }

    /// Lowers one node.
    pub(super) fn node(&mut self, node: &Node, op: &Op) -> Lowers {
        if node.outputs.first().is_some_and(|o| self.shapes.is_integer(o)) {
            return refuse("it computes integers, which only shapes may be");
        }
        match op {
            Op::Conv { window, groups } => self.conv(node, window, *groups),
            Op::Gemm { .. } => self.gemm(node, op),
            Op::MatMul => self.mat_mul(node),
            Op::MaxPool { window, .. } => self.max_pool(node, window),
            Op::AveragePool { window, count_include_pad, .. } => {
                self.average_pool(node, window, *count_include_pad)
            }
            Op::GlobalAveragePool => self.global_average(node),
            Op::GlobalMaxPool => self.global_max(node),
            Op::BatchNorm { epsilon, .. } => self.batch_norm(node, *epsilon),
            Op::Unary(unary) => self.unary(node, *unary),
            Op::Clip { min, max } => self.clip(node, *min, *max),
            Op::Binary(BinaryOp::Add) | Op::Chain(BinaryOp::Add) => self.chain(node, Code::Add),
            Op::Binary(BinaryOp::Mul) => self.chain(node, Code::Mul),
            Op::Binary(BinaryOp::Sub) => self.chain(node, Code::Sub),
            Op::Binary(BinaryOp::Div) => self.chain(node, Code::Div),
            Op::Binary(BinaryOp::Max) | Op::Chain(BinaryOp::Max) => self.chain(node, Code::Maximum),
            Op::Binary(BinaryOp::Min) | Op::Chain(BinaryOp::Min) => self.chain(node, Code::Minimum),
            Op::Softmax { axis, flatten, log } => self.softmax(node, *axis, *flatten, *log),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Flatten { .. } | Op::Reshape { .. } => self.view(node),
            Op::Transpose { perm } => self.transposed(node, perm),
            Op::Slice { ranges } => self.slice(node, ranges),
            Op::Split { axis, sizes } => self.split(node, *axis, sizes),
            Op::Pad { before, after, mode } => self.pad(node, before, after, *mode),
            Op::Reduce { reduction, axes, keep_dims } => {
                let code = match reduction {
                    Reduction::Mean => Code::Mean,
                    Reduction::Sum => Code::Sum,
                    other => return refuse(format!("the reduction {other:?} has no counterpart here")),
                };
                self.reduce(node, code, axes, *keep_dims)
            }
            Op::Identity | Op::Dropout { .. } => self.alias(node),
            _ => refuse("this operator has no counterpart here"),
        }
    }

    /// Hands the first input on under the name of the first output.
    pub(super) fn alias(&mut self, node: &Node) -> Lowers {
        let value = self.input(node, 0)?;
        let read_once = value.read_once;
        let name = output(node)?;
        self.bind(name, value.tensor, value.shape, value.image);
        if let Some(bound) = self.values.get_mut(name) {
            bound.read_once &= read_once;
        }
        Ok(())
    }

    /// Records that `tensor` holds the value `name` of `shape` (ONNX's order).
    pub(super) fn bind(&mut self, name: &str, tensor: usize, shape: Vec<usize>, image: Option<[usize; 3]>) {
        let read_once = self.reads.get(name).copied().unwrap_or(0) == 1
            && !self.graph.outputs.iter().any(|o| o.name == name);
        self.values.insert(name.into(), Value { tensor, shape, image, read_once });
    }

    /// A constant input's tensor: a weight, or computed from shapes.
    pub(super) fn constant(&self, name: &str) -> Option<&'a Tensor> {
        self.shapes.constant(name).or_else(|| self.graph.weights.get(name).map(|w| &w.tensor))
    }

    /// The floats and shape of a constant input.
    pub(super) fn floats(&self, node: &Node, i: usize) -> Lowers<(Vec<f32>, Vec<usize>)> {
        let name = node.input(i).unwrap_or_default();
        let Some(tensor) = self.constant(name) else {
            return refuse(format!("its input {i} must be a constant"));
        };
        match tensor.to_f32() {
            Some(values) => Ok((values.into_owned(), tensor.shape().to_vec())),
            None => refuse(format!("its input {i} holds no floats")),
        }
    }

    /// The value of input `i`; constants get a tensor.
    pub(super) fn input(&mut self, node: &Node, i: usize) -> Lowers<Value> {
        let name = node.input(i).unwrap_or_default();
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        let (values, shape) = self.floats(node, i)?;
        let order = match shape.len() {
            4 => Arrangement::permuted(&shape, &CHANNELS_LAST),
            _ => Arrangement::plain(&shape),
        };
        let tensor = self.float_constant(name, order.shape().to_vec(), &order.apply(&values));
        Ok(Value { tensor, shape, image: None, read_once: false })
    }

    /// The value of input `i` in ONNX's order of axes, whatever its rank.
    pub(super) fn plain_input(&mut self, node: &Node, i: usize) -> Lowers<(usize, Vec<usize>)> {
        let value = self.input(node, i)?;
        if value.image.is_some() {
            return refuse("it reads a flattened image in another order than it was written");
        }
        let tensor = self.row_major(value.tensor, &value.shape);
        Ok((tensor, value.shape))
    }

    /// A tensor of `shape` (ONNX's order), channels last where it has four axes, brought into ONNX's order.
    pub(super) fn row_major(&mut self, tensor: usize, shape: &[usize]) -> usize {
        let &[_, c, h, w] = shape else { return tensor };
        let name = format!("{}.nchw", self.model.tensors[tensor].name);
        match c == 1 || h * w == 1 {
            true => self.reshape(tensor, shape, &name),
            false => self.transpose(tensor, &FROM_CHANNELS_FIRST, &name),
        }
    }

    /// A tensor of `shape` in ONNX's order, with its channels brought last where it has four axes.
    pub(super) fn channels_last(&mut self, tensor: usize, shape: &[usize], name: &str) -> usize {
        let &[_, c, h, w] = shape else { return tensor };
        match c == 1 || h * w == 1 {
            true => self.reshape(tensor, &by_axis(shape), name),
            false => self.transpose(tensor, &CHANNELS_LAST, name),
        }
    }

    /// The shape (ONNX's order) of the first output.
    pub(super) fn output_shape(&self, node: &Node) -> Lowers<Vec<usize>> {
        match self.shapes.get(output(node)?) {
            Some(shape) => Ok(shape.to_vec()),
            None => refuse("the shape of its output is not known"),
        }
    }

    /// Adds an operator whose result, in the file's order, is the node's first output.
    pub(super) fn result(&mut self, node: &Node, code: Code, options: Options, inputs: Vec<usize>) -> Lowers {
        let shape = self.output_shape(node)?;
        let name = output(node)?;
        let tensor = self.emit(code, options, inputs, by_axis(&shape), name);
        self.bind(name, tensor, shape, None);
        Ok(())
    }

    /// Adds an operator and its only output.
    pub(super) fn emit(
        &mut self,
        code: Code,
        options: Options,
        inputs: Vec<usize>,
        shape: Vec<usize>,
        name: &str,
    ) -> usize {
        let output = self.model.add(name, shape, Element::F32, None);
        self.model.operators.push(OperatorDef { code, inputs, outputs: vec![output], options });
        output
    }

    /// Applies `activation` in the operator that writes `value`, where nothing else reads that and the operator can.
    pub(super) fn fuse(&mut self, value: &Value, activation: Activation) -> bool {
        if !value.read_once {
            return false;
        }
        let writer = self.model.operators.iter_mut().rev().find(|o| o.outputs.contains(&value.tensor));
        writer.is_some_and(|o| o.options.fuse(activation))
    }

    pub(super) fn reshape(&mut self, tensor: usize, shape: &[usize], name: &str) -> usize {
        let target = self.int_constant(vec![shape.len()], shape.iter().map(|&d| d as i32).collect());
        self.emit(Code::Reshape, Options::of(Code::Reshape), vec![tensor, target], shape.to_vec(), name)
    }

    pub(super) fn transpose(&mut self, tensor: usize, perm: &[usize], name: &str) -> usize {
        let order = self.int_constant(vec![perm.len()], perm.iter().map(|&a| a as i32).collect());
        let old = &self.model.tensors[tensor].shape;
        let shape = perm.iter().map(|&a| old[a]).collect();
        self.emit(Code::Transpose, Options::of(Code::Transpose), vec![tensor, order], shape, name)
    }

    /// A constant of floats, in the file's order.
    pub(super) fn float_constant(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) -> usize {
        self.share(name, shape, float_bytes(values), Element::F32)
    }

    /// A constant of 32-bit integers.
    pub(super) fn int_constant(&mut self, shape: Vec<usize>, values: Vec<i32>) -> usize {
        let name = format!("const.{}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join("_"));
        self.share(&name, shape, int_bytes(&values), Element::I32)
    }

    fn share(&mut self, name: &str, shape: Vec<usize>, data: Vec<u8>, element: Element) -> usize {
        let key = (shape, data, element == Element::F32);
        if let Some(&tensor) = self.shared.get(&key) {
            return tensor;
        }
        let tensor = self.model.add(name, key.0.clone(), element, Some(key.1.clone()));
        self.shared.insert(key, tensor);
        tensor
    }
}

/// The name of a node's first output.
pub(super) fn output(node: &Node) -> Lowers<&str> {
    match node.outputs.first().filter(|o| !o.is_empty()) {
        Some(name) => Ok(name),
        None => refuse("it has no output"),
    }
}
