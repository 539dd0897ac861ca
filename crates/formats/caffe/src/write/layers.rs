//! Which layers each node becomes.

use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_graph::{Dim, Graph, Node, infer_shapes};

use super::writer::Writer;
use super::{dense, elementwise, pool, shape};
use crate::error::CaffeError;
use crate::proto::{self, BlobShape, LayerParameter};

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
        w.name(name);
    }
    for (position, (index, op)) in shapes.ops().iter().enumerate() {
        if !w.merged.contains(&position) {
            add(&mut w, position, &graph.nodes[*index], op)?;
        }
    }
    Ok(w.layers)
}

/// Adds the layers of one node.
fn add(w: &mut Writer, position: usize, node: &Node, op: &Op) -> Result<(), CaffeError> {
    match op {
        Op::Conv { window, groups } => dense::conv(w, node, window, *groups, None),
        Op::ConvTranspose { window, groups, output_padding } => {
            dense::conv(w, node, window, *groups, Some(*output_padding))
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            if *alpha != 1.0 || *beta != 1.0 && node.input(2).is_some() || *trans_a {
                return Err(w.no(node, "alpha and beta must be 1 and A not transposed"));
            }
            dense::gemm(w, node, *trans_b)
        }
        Op::MatMul => dense::gemm(w, node, false),
        Op::BatchNorm { epsilon, momentum } => dense::batch_norm(w, node, *epsilon, *momentum),
        Op::MaxPool { window, .. } => pool::max(w, node, window),
        Op::AveragePool { window, count_include_pad, .. } => {
            pool::average(w, node, window, *count_include_pad, None)
        }
        Op::Pad { before, after, mode } => shape::pad(w, position, node, before, after, *mode),
        Op::GlobalAveragePool => pool::global(w, node, proto::pooling_parameter::PoolMethod::Ave),
        Op::GlobalMaxPool => pool::global(w, node, proto::pooling_parameter::PoolMethod::Max),
        Op::Lrn { size, alpha, beta, bias } => elementwise::lrn(w, node, *size, *alpha, *beta, *bias),
        Op::Unary(function) => unary(w, node, *function),
        Op::PRelu => dense::prelu(w, node),
        Op::Clip { min, max } => elementwise::clip(w, node, *min, *max),
        Op::Binary(binary) => elementwise::binary(w, position, node, *binary),
        Op::Chain(BinaryOp::Add) => elementwise::sum(w, node),
        Op::Concat { axis } => shape::concat(w, node, *axis),
        Op::Split { axis, sizes } => shape::split(w, node, *axis, sizes),
        Op::Flatten { axis } => shape::flatten(w, node, *axis),
        Op::Reshape { .. } => shape::reshape(w, node),
        Op::Transpose { perm } => shape::transpose(w, node, perm),
        Op::Slice { ranges } => shape::slice(w, node, ranges),
        Op::Reduce { reduction, axes, keep_dims } => pool::reduce(w, node, *reduction, axes, *keep_dims),
        Op::Dropout { ratio } => {
            let param = proto::DropoutParameter { dropout_ratio: Some(*ratio), scale_train: None };
            w.simple(node, "Dropout", |l| l.dropout_param = Some(param))
        }
        Op::Softmax { axis, flatten, log } => {
            let trailing: usize = w.shape(node, 0)?.iter().skip(axis + 1).product();
            if *log || *flatten && trailing != 1 {
                return Err(w.no(node, "only a softmax along one axis, without logarithm"));
            }
            let axis = (*axis != 1).then_some(*axis as i32);
            let param = proto::SoftmaxParameter { axis, ..Default::default() };
            w.simple(node, "Softmax", |l| l.softmax_param = axis.map(|_| param))
        }
        Op::Identity => w.simple(node, "Split", |_| ()),
        other => Err(w.no(node, format!("{other:?} is not known to this writer"))),
    }
}

/// A function of each element.
fn unary(w: &mut Writer, node: &Node, op: UnaryOp) -> Result<(), CaffeError> {
    let power = |power: Option<f32>, scale: Option<f32>| {
        move |l: &mut LayerParameter| {
            l.power_param = Some(proto::PowerParameter { power, scale, shift: None });
        }
    };
    match op {
        UnaryOp::Relu => w.simple(node, "ReLU", |_| ()),
        UnaryOp::LeakyRelu { alpha } => w.simple(node, "ReLU", |l| {
            let param = proto::ReLuParameter { negative_slope: Some(alpha), ..Default::default() };
            l.relu_param = Some(param);
        }),
        UnaryOp::Elu { alpha } => w.simple(node, "ELU", |l| {
            l.elu_param = Some(proto::EluParameter { alpha: Some(alpha) });
        }),
        UnaryOp::Sigmoid => w.simple(node, "Sigmoid", |_| ()),
        UnaryOp::Tanh => w.simple(node, "TanH", |_| ()),
        UnaryOp::Exp => w.simple(node, "Exp", |_| ()),
        UnaryOp::Log => w.simple(node, "Log", |_| ()),
        UnaryOp::Abs => w.simple(node, "AbsVal", |_| ()),
        UnaryOp::Neg => w.simple(node, "Power", power(None, Some(-1.0))),
        UnaryOp::Sqrt => w.simple(node, "Power", power(Some(0.5), None)),
        UnaryOp::Reciprocal => w.simple(node, "Power", power(Some(-1.0), None)),
        _ => Err(w.no(node, "Caffe has no layer for this function; write ONNX instead")),
    }
}
