//! Nodes to layers.

use std::collections::{HashMap, HashSet};

use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_graph::{Dim, Graph, Node, Shapes, TensorData, element_count, infer_shapes};

use super::{dense, elementwise, pool, shape};
use crate::error::CaffeError;
use crate::proto::{self, BlobProto, BlobShape, LayerParameter, ParamSpec};

/// The layers that compute what `graph` computes, inputs first.
pub(super) fn layers(graph: &Graph) -> Result<Vec<LayerParameter>, CaffeError> {
    let inputs: Vec<(&str, Vec<usize>)> = graph
        .inputs
        .iter()
        .filter_map(|input| {
            let dims = input.shape.as_ref()?.iter().enumerate().map(|(i, dim)| match dim {
                Dim::Known(d) => Some(*d),
                _ if i == 0 => Some(1),
                _ => None,
            });
            Some((input.name.as_str(), dims.collect::<Option<Vec<usize>>>()?))
        })
        .collect();
    if let Some(node) = graph.nodes.iter().find(|n| n.domain == "caffe") {
        return Err(CaffeError::NoLayer {
            node: node.name.clone(),
            op: node.op.clone(),
            reason: "it was kept from a prototxt; name that prototxt to write its layers as they stand"
                .into(),
        });
    }
    let shapes = infer_shapes(graph, &inputs)?;
    let mut w = Writer::new(graph, &shapes);
    for (name, dims) in &inputs {
        let dim = dims.iter().map(|&d| d as i64).collect();
        w.layers.push(LayerParameter {
            name: Some((*name).into()),
            r#type: Some("Input".into()),
            top: vec![(*name).into()],
            input_param: Some(proto::InputParameter { shape: vec![BlobShape { dim }] }),
            ..LayerParameter::default()
        });
        w.names.insert((*name).into());
    }
    for (position, (index, op)) in shapes.ops().iter().enumerate() {
        if !w.merged.contains(&position) {
            w.add(position, &graph.nodes[*index], op)?;
        }
    }
    Ok(w.layers)
}

/// A blob, or `None` where shape and values disagree.
pub(super) fn blob(shape: Vec<usize>, values: Vec<f32>) -> Option<BlobProto> {
    if element_count(&shape) != Some(values.len()) {
        return None;
    }
    let dim = shape.iter().map(|&d| d as i64).collect();
    Some(BlobProto { shape: Some(BlobShape { dim }), data: values, ..BlobProto::default() })
}

pub(super) struct Writer<'g> {
    pub graph: &'g Graph,
    pub shapes: &'g Shapes,
    pub layers: Vec<LayerParameter>,
    /// Positions (in `shapes.ops()`) of nodes that an earlier layer has taken in.
    pub merged: HashSet<usize>,
    /// Values that are another value under Caffe's layers.
    aliases: HashMap<String, String>,
    /// Positions of the nodes that read each value.
    readers: HashMap<&'g str, Vec<usize>>,
    names: HashSet<String>,
}

impl<'g> Writer<'g> {
    fn new(graph: &'g Graph, shapes: &'g Shapes) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (position, (index, _)) in shapes.ops().iter().enumerate() {
            for input in &graph.nodes[*index].inputs {
                readers.entry(input).or_default().push(position);
            }
        }
        Self {
            graph,
            shapes,
            layers: Vec::new(),
            merged: HashSet::new(),
            aliases: HashMap::new(),
            readers,
            names: HashSet::new(),
        }
    }

    /// An error about `node`.
    pub(super) fn no(&self, node: &Node, reason: impl Into<String>) -> CaffeError {
        CaffeError::NoLayer { node: node.name.clone(), op: node.op.clone(), reason: reason.into() }
    }

    /// The shape of input `i` of `node`.
    pub(super) fn shape(&self, node: &Node, i: usize) -> Result<&'g [usize], CaffeError> {
        let shape = node.input(i).and_then(|name| self.shapes.get(name));
        shape.ok_or_else(|| self.no(node, format!("the shape of input {i} is not known")))
    }

    /// The shape of output `i` of `node`.
    pub(super) fn out_shape(&self, node: &Node, i: usize) -> Result<&'g [usize], CaffeError> {
        let shape = node.outputs.get(i).and_then(|name| self.shapes.get(name));
        shape.ok_or_else(|| self.no(node, format!("the shape of output {i} is not known")))
    }

    /// The values of input `i` of `node` if it is a constant of floats.
    pub(super) fn constant(&self, node: &Node, i: usize) -> Option<&'g [f32]> {
        let name = node.input(i)?;
        let tensor = match self.graph.weights.get(name) {
            Some(weight) => &weight.tensor,
            None => self.shapes.constant(name)?,
        };
        match tensor.data() {
            TensorData::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The blob name of input `i` of `node`, which must be an activation.
    pub(super) fn bottom(&self, node: &Node, i: usize) -> Result<String, CaffeError> {
        let name = node.input(i).ok_or_else(|| self.no(node, format!("input {i} is missing")))?;
        if self.graph.weights.contains_key(name) || self.shapes.constant(name).is_some() {
            return Err(self.no(node, format!("input {i} (`{name}`) is a constant")));
        }
        Ok(self.aliases.get(name).cloned().unwrap_or_else(|| name.into()))
    }

    /// Makes `value` another name of what blob `blob` holds.
    pub(super) fn alias(&mut self, value: &str, blob: String) {
        self.aliases.insert(value.into(), blob);
    }

    /// The position of the only node that reads `value`, unless the value is an output of the graph.
    pub(super) fn only_reader(&self, value: &str) -> Option<usize> {
        match self.readers.get(value)?.as_slice() {
            [one] if !self.graph.outputs.iter().any(|o| o.name == value) => Some(*one),
            _ => None,
        }
    }

    /// Whether nothing reads `value` and it is no output of the graph: in Caffe's nets it would be one.
    pub(super) fn is_idle(&self, value: &str) -> bool {
        !self.readers.contains_key(value) && !self.graph.outputs.iter().any(|o| o.name == value)
    }

    /// The node and operator at a position.
    pub(super) fn at(&self, position: usize) -> (&'g Node, &'g Op) {
        let (index, op) = &self.shapes.ops()[position];
        (&self.graph.nodes[*index], op)
    }

    /// A layer name that no other layer has.
    pub(super) fn name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut i = 1;
        while !self.names.insert(name.clone()) {
            i += 1;
            name = format!("{base}_{i}");
        }
        name
    }

    /// Adds a layer of `kind` between blobs, changed by `set`.
    pub(super) fn layer(
        &mut self,
        name: &str,
        kind: &str,
        bottom: &[&str],
        top: &[&str],
        set: impl FnOnce(&mut LayerParameter),
    ) {
        let owned = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        let mut layer = LayerParameter {
            name: Some(self.name(name)),
            r#type: Some(kind.into()),
            bottom: owned(bottom),
            top: owned(top),
            ..LayerParameter::default()
        };
        set(&mut layer);
        if layer.param.iter().all(|p| *p == ParamSpec::default()) {
            layer.param.clear();
        }
        self.layers.push(layer);
    }

    /// The blob of a weight, and how it is trained; weights that several nodes read are shared by name.
    pub(super) fn weight(
        &self,
        node: &Node,
        i: usize,
        shape: Vec<usize>,
    ) -> Result<(BlobProto, ParamSpec), CaffeError> {
        let name = node.input(i).unwrap_or_default();
        let not_constant = || self.no(node, format!("input {i} (`{name}`) is not a float constant"));
        let values = self.constant(node, i).ok_or_else(not_constant)?;
        let mut spec = ParamSpec::default();
        if let Some(weight) = self.graph.weights.get(name) {
            spec.lr_mult = Some(weight.rates.lr_mult).filter(|&m| m != 1.0);
            spec.decay_mult = Some(weight.rates.decay_mult).filter(|&m| m != 1.0);
        }
        if self.readers.get(name).is_some_and(|r| r.len() > 1) {
            spec.name = Some(name.into());
        }
        let found = self.shape(node, i)?.to_vec();
        let blob = blob(shape.clone(), values.to_vec());
        let reason = || self.no(node, format!("input {i} has the shape {found:?}, not {shape:?}"));
        Ok((blob.ok_or_else(reason)?, spec))
    }

    fn add(&mut self, position: usize, node: &Node, op: &Op) -> Result<(), CaffeError> {
        match op {
            Op::Conv { window, groups } => dense::conv(self, node, window, *groups, None),
            Op::ConvTranspose { window, groups, output_padding } => {
                dense::conv(self, node, window, *groups, Some(*output_padding))
            }
            Op::Gemm { alpha, beta, trans_a, trans_b } => {
                if *alpha != 1.0 || *beta != 1.0 && node.input(2).is_some() || *trans_a {
                    return Err(self.no(node, "alpha and beta must be 1 and A not transposed"));
                }
                dense::gemm(self, node, *trans_b)
            }
            Op::MatMul => dense::gemm(self, node, false),
            Op::BatchNorm { epsilon, momentum } => dense::batch_norm(self, node, *epsilon, *momentum),
            Op::MaxPool { window, .. } => pool::max(self, node, window),
            Op::AveragePool { window, count_include_pad, .. } => {
                pool::average(self, node, window, *count_include_pad, None)
            }
            Op::Pad { before, after, mode } => shape::pad(self, position, node, before, after, *mode),
            Op::GlobalAveragePool => pool::global(self, node, proto::pooling_parameter::PoolMethod::Ave),
            Op::GlobalMaxPool => pool::global(self, node, proto::pooling_parameter::PoolMethod::Max),
            Op::Lrn { size, alpha, beta, bias } => elementwise::lrn(self, node, *size, *alpha, *beta, *bias),
            Op::Unary(unary) => self.unary(node, *unary),
            Op::PRelu => dense::prelu(self, node),
            Op::Clip { min, max } => elementwise::clip(self, node, *min, *max),
            Op::Binary(binary) => elementwise::binary(self, position, node, *binary),
            Op::Chain(BinaryOp::Add) => elementwise::sum(self, node),
            Op::Concat { axis } => shape::concat(self, node, *axis),
            Op::Split { axis, sizes } => shape::split(self, node, *axis, sizes),
            Op::Flatten { axis } => shape::flatten(self, node, *axis),
            Op::Reshape { .. } => shape::reshape(self, node),
            Op::Transpose { perm } => shape::transpose(self, node, perm),
            Op::Slice { ranges } => shape::slice(self, node, ranges),
            Op::Reduce { reduction, axes, keep_dims } => {
                pool::reduce(self, node, *reduction, axes, *keep_dims)
            }
            Op::Dropout { ratio } => {
                let param = proto::DropoutParameter { dropout_ratio: Some(*ratio), scale_train: None };
                self.simple(node, "Dropout", |l| l.dropout_param = Some(param))
            }
            Op::Softmax { axis, flatten, log } => {
                let trailing: usize = self.shape(node, 0)?.iter().skip(axis + 1).product();
                if *log || *flatten && trailing != 1 {
                    return Err(self.no(node, "only a softmax along one axis, without logarithm"));
                }
                let axis = (*axis != 1).then_some(*axis as i32);
                let param = proto::SoftmaxParameter { axis, ..Default::default() };
                self.simple(node, "Softmax", |l| l.softmax_param = axis.map(|_| param))
            }
            Op::Identity => self.simple(node, "Split", |_| ()),
            other => Err(self.no(node, format!("{other:?} is not known to this writer"))),
        }
    }

    /// A layer with one activation in and one out.
    pub(super) fn simple(
        &mut self,
        node: &Node,
        kind: &str,
        set: impl FnOnce(&mut LayerParameter),
    ) -> Result<(), CaffeError> {
        let bottom = self.bottom(node, 0)?;
        self.layer(&node.name, kind, &[&bottom], &[&node.outputs[0]], set);
        Ok(())
    }

    fn unary(&mut self, node: &Node, op: UnaryOp) -> Result<(), CaffeError> {
        let power = |power: Option<f32>, scale: Option<f32>| {
            move |l: &mut LayerParameter| {
                l.power_param = Some(proto::PowerParameter { power, scale, shift: None });
            }
        };
        match op {
            UnaryOp::Relu => self.simple(node, "ReLU", |_| ()),
            UnaryOp::LeakyRelu { alpha } => self.simple(node, "ReLU", |l| {
                let param = proto::ReLuParameter { negative_slope: Some(alpha), ..Default::default() };
                l.relu_param = Some(param);
            }),
            UnaryOp::Elu { alpha } => self.simple(node, "ELU", |l| {
                l.elu_param = Some(proto::EluParameter { alpha: Some(alpha) });
            }),
            UnaryOp::Sigmoid => self.simple(node, "Sigmoid", |_| ()),
            UnaryOp::Tanh => self.simple(node, "TanH", |_| ()),
            UnaryOp::Exp => self.simple(node, "Exp", |_| ()),
            UnaryOp::Log => self.simple(node, "Log", |_| ()),
            UnaryOp::Abs => self.simple(node, "AbsVal", |_| ()),
            UnaryOp::Neg => self.simple(node, "Power", power(None, Some(-1.0))),
            UnaryOp::Sqrt => self.simple(node, "Power", power(Some(0.5), None)),
            UnaryOp::Reciprocal => self.simple(node, "Power", power(Some(-1.0), None)),
            _ => Err(self.no(node, "Caffe has no layer for this function; write ONNX instead")),
        }
    }
}
