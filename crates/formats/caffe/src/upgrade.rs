//! Conversion of the two older layer formats (V0 and V1) and of the older input declarations to today's layers.

use std::path::Path;

use crate::error::CaffeError;
use crate::proto::{self, LayerParameter, NetParameter, V1LayerParameter};

/// The net's layers in today's form; the net's own `input` declarations become `Input` layers.
pub(crate) fn layers(path: &Path, net: NetParameter) -> Result<Vec<LayerParameter>, CaffeError> {
    let invalid =
        |field: &str, reason: String| Err(CaffeError::Net { path: path.into(), field: field.into(), reason });
    if !net.layer.is_empty() && !net.layers.is_empty() {
        return invalid("layers", "the net mixes `layer` and the older `layers`".into());
    }
    let mut layers = Vec::with_capacity(net.layer.len() + net.layers.len() + net.input.len());
    for (i, name) in net.input.iter().enumerate() {
        let shape = match (net.input_shape.get(i), net.input_dim.get(4 * i..4 * i + 4)) {
            (Some(shape), _) => shape.clone(),
            (None, Some(dims)) => proto::BlobShape { dim: dims.iter().map(|&d| d.into()).collect() },
            (None, None) => return invalid("input_shape", format!("input `{name}` has no shape")),
        };
        layers.push(LayerParameter {
            name: Some(name.clone()),
            r#type: Some("Input".into()),
            top: vec![name.clone()],
            input_param: Some(proto::InputParameter { shape: vec![shape] }),
            ..LayerParameter::default()
        });
    }
    layers.extend(net.layer);
    for layer in net.layers {
        layers.push(from_v1(layer));
    }
    for layer in &mut layers {
        data_settings(layer);
    }
    Ok(layers)
}

/// Moves preprocessing settings from where data layers used to keep them to `transform_param`.
fn data_settings(layer: &mut LayerParameter) {
    type Old<'a> = (&'a mut Option<f32>, &'a mut Option<String>, &'a mut Option<u32>, &'a mut Option<bool>);
    let old: Option<Old> = match (&mut layer.data_param, &mut layer.image_data_param) {
        (Some(p), _) => Some((&mut p.scale, &mut p.mean_file, &mut p.crop_size, &mut p.mirror)),
        (None, Some(p)) => Some((&mut p.scale, &mut p.mean_file, &mut p.crop_size, &mut p.mirror)),
        (None, None) => None,
    };
    if let Some((scale, mean_file, crop_size, mirror)) = old {
        if scale.is_none() && mean_file.is_none() && crop_size.is_none() && mirror.is_none() {
            return;
        }
        let new = layer.transform_param.get_or_insert_default();
        new.scale = new.scale.or(scale.take());
        new.mean_file = new.mean_file.take().or(mean_file.take());
        new.crop_size = new.crop_size.or(crop_size.take());
        new.mirror = new.mirror.or(mirror.take());
    }
}

fn from_v1(mut old: V1LayerParameter) -> LayerParameter {
    if let Some(oldest) = old.layer.take() {
        return from_v0(oldest, old);
    }
    let kind = type_name(old.r#type());
    let mut param = params(&old.blobs_lr, &old.weight_decay);
    for (i, name) in old.param.iter().enumerate().take(MAX_PARAMS) {
        at(&mut param, i).name = Some(name.clone());
    }
    for (i, &mode) in old.blob_share_mode.iter().enumerate().take(MAX_PARAMS) {
        at(&mut param, i).share_mode = Some(mode);
    }
    LayerParameter {
        name: old.name,
        r#type: Some(kind.into()),
        bottom: old.bottom,
        top: old.top,
        loss_weight: old.loss_weight,
        param,
        blobs: old.blobs,
        include: old.include,
        exclude: old.exclude,
        transform_param: old.transform_param,
        loss_param: old.loss_param,
        accuracy_param: old.accuracy_param,
        argmax_param: old.argmax_param,
        concat_param: old.concat_param,
        contrastive_loss_param: old.contrastive_loss_param,
        convolution_param: old.convolution_param,
        data_param: old.data_param,
        dropout_param: old.dropout_param,
        dummy_data_param: old.dummy_data_param,
        eltwise_param: old.eltwise_param,
        exp_param: old.exp_param,
        hdf5_data_param: old.hdf5_data_param,
        hdf5_output_param: old.hdf5_output_param,
        hinge_loss_param: old.hinge_loss_param,
        image_data_param: old.image_data_param,
        infogain_loss_param: old.infogain_loss_param,
        inner_product_param: old.inner_product_param,
        lrn_param: old.lrn_param,
        memory_data_param: old.memory_data_param,
        mvn_param: old.mvn_param,
        pooling_param: old.pooling_param,
        power_param: old.power_param,
        relu_param: old.relu_param,
        sigmoid_param: old.sigmoid_param,
        softmax_param: old.softmax_param,
        slice_param: old.slice_param,
        tanh_param: old.tanh_param,
        threshold_param: old.threshold_param,
        window_data_param: old.window_data_param,
        ..LayerParameter::default()
    }
}

/// The name that a numbered layer type has today.
fn type_name(kind: proto::v1_layer_parameter::LayerType) -> &'static str {
    use proto::v1_layer_parameter::LayerType as T;
    match kind {
        T::None => "",
        T::Absval => "AbsVal",
        T::Accuracy => "Accuracy",
        T::Argmax => "ArgMax",
        T::Bnll => "BNLL",
        T::Concat => "Concat",
        T::ContrastiveLoss => "ContrastiveLoss",
        T::Convolution => "Convolution",
        T::Data => "Data",
        T::Deconvolution => "Deconvolution",
        T::Dropout => "Dropout",
        T::DummyData => "DummyData",
        T::Eltwise => "Eltwise",
        T::EuclideanLoss => "EuclideanLoss",
        T::Exp => "Exp",
        T::Flatten => "Flatten",
        T::Hdf5Data => "HDF5Data",
        T::Hdf5Output => "HDF5Output",
        T::HingeLoss => "HingeLoss",
        T::Im2col => "Im2col",
        T::ImageData => "ImageData",
        T::InfogainLoss => "InfogainLoss",
        T::InnerProduct => "InnerProduct",
        T::Lrn => "LRN",
        T::MemoryData => "MemoryData",
        T::MultinomialLogisticLoss => "MultinomialLogisticLoss",
        T::Mvn => "MVN",
        T::Pooling => "Pooling",
        T::Power => "Power",
        T::Relu => "ReLU",
        T::Sigmoid => "Sigmoid",
        T::SigmoidCrossEntropyLoss => "SigmoidCrossEntropyLoss",
        T::Silence => "Silence",
        T::Slice => "Slice",
        T::Softmax => "Softmax",
        T::SoftmaxLoss => "SoftmaxWithLoss",
        T::Split => "Split",
        T::Tanh => "TanH",
        T::Threshold => "Threshold",
        T::WindowData => "WindowData",
    }
}

/// Parameters of one layer that carry multipliers; no layer has more.
const MAX_PARAMS: usize = 256;

fn at(params: &mut Vec<proto::ParamSpec>, i: usize) -> &mut proto::ParamSpec {
    if params.len() <= i {
        params.resize_with(i + 1, Default::default);
    }
    &mut params[i]
}

fn params(rates: &[f32], decays: &[f32]) -> Vec<proto::ParamSpec> {
    let mut params = Vec::new();
    for (i, &rate) in rates.iter().enumerate().take(MAX_PARAMS) {
        at(&mut params, i).lr_mult = Some(rate);
    }
    for (i, &decay) in decays.iter().enumerate().take(MAX_PARAMS) {
        at(&mut params, i).decay_mult = Some(decay);
    }
    params
}

/// The oldest form: one message with the settings of all layer types, inside a V1 layer that connects it.
/// Types that were renamed since get their name of today; the separate `padding` layer has none and is kept
/// by its own name, so that it is reported as unknown.
fn from_v0(mut old: proto::V0LayerParameter, shell: V1LayerParameter) -> LayerParameter {
    let kind = match old.r#type.take().unwrap_or_default().as_str() {
        "accuracy" => "Accuracy",
        "bnll" => "BNLL",
        "concat" => "Concat",
        "conv" => "Convolution",
        "data" => "Data",
        "dropout" => "Dropout",
        "euclidean_loss" => "EuclideanLoss",
        "flatten" => "Flatten",
        "images" => "ImageData",
        "innerproduct" => "InnerProduct",
        "lrn" => "LRN",
        "multinomial_logistic_loss" => "MultinomialLogisticLoss",
        "pool" => "Pooling",
        "relu" => "ReLU",
        "sigmoid" => "Sigmoid",
        "softmax" => "Softmax",
        "softmax_loss" => "SoftmaxWithLoss",
        "split" => "Split",
        "tanh" => "TanH",
        other => other,
    }
    .to_owned();
    let mut new = LayerParameter {
        name: old.name.take(),
        bottom: shell.bottom,
        top: shell.top,
        include: shell.include,
        exclude: shell.exclude,
        param: params(&old.blobs_lr, &old.weight_decay),
        blobs: std::mem::take(&mut old.blobs),
        ..LayerParameter::default()
    };
    match kind.as_str() {
        "Data" | "ImageData" => data_from_v0(old, &mut new, &kind),
        _ => settings_from_v0(old, &mut new, &kind),
    }
    new.r#type = Some(kind);
    new
}

/// Where a layer that reads data finds them, and its preprocessing.
fn data_from_v0(old: proto::V0LayerParameter, new: &mut LayerParameter, kind: &str) {
    new.transform_param = Some(proto::TransformationParameter {
        scale: old.scale,
        mean_file: old.meanfile,
        crop_size: old.cropsize,
        mirror: old.mirror,
        ..Default::default()
    });
    if kind == "Data" {
        new.data_param = Some(proto::DataParameter {
            source: old.source,
            batch_size: old.batchsize,
            rand_skip: old.rand_skip,
            ..Default::default()
        });
        return;
    }
    let size = |v: Option<i32>| v.and_then(|v| u32::try_from(v).ok());
    new.image_data_param = Some(proto::ImageDataParameter {
        source: old.source,
        batch_size: old.batchsize,
        rand_skip: old.rand_skip,
        shuffle: old.shuffle_images,
        new_height: size(old.new_height),
        new_width: size(old.new_width),
        ..Default::default()
    });
}

/// The settings of a layer that computes.
fn settings_from_v0(old: proto::V0LayerParameter, new: &mut LayerParameter, kind: &str) {
    let list = |value: Option<u32>| value.into_iter().collect::<Vec<_>>();
    match kind {
        "Concat" => {
            new.concat_param = Some(proto::ConcatParameter { concat_dim: old.concat_dim, axis: None });
        }
        "Convolution" => {
            new.convolution_param = Some(proto::ConvolutionParameter {
                num_output: old.num_output,
                bias_term: old.biasterm,
                pad: list(old.pad),
                kernel_size: list(old.kernelsize),
                group: old.group,
                stride: list(old.stride),
                weight_filler: old.weight_filler,
                bias_filler: old.bias_filler,
                ..Default::default()
            });
        }
        "Dropout" => {
            let settings = proto::DropoutParameter { dropout_ratio: old.dropout_ratio, ..Default::default() };
            new.dropout_param = Some(settings);
        }
        "InnerProduct" => {
            new.inner_product_param = Some(proto::InnerProductParameter {
                num_output: old.num_output,
                bias_term: old.biasterm,
                weight_filler: old.weight_filler,
                bias_filler: old.bias_filler,
                ..Default::default()
            });
        }
        "LRN" => {
            new.lrn_param = Some(proto::LrnParameter {
                local_size: old.local_size,
                alpha: old.alpha,
                beta: old.beta,
                k: old.k,
                ..Default::default()
            });
        }
        "Pooling" => {
            new.pooling_param = Some(proto::PoolingParameter {
                pool: old.pool,
                kernel_size: old.kernelsize,
                stride: old.stride,
                pad: old.pad,
                ..Default::default()
            });
        }
        _ => {}
    }
}
