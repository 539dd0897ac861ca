//! Input layers and layers that read data.

use std::path::Path;

use super::builder::Builder;
use crate::error::CaffeError;
use crate::info::{DataKind, DataSource, TransformParam};
use crate::proto::{BlobShape, LayerParameter, data_parameter};

/// What a data layer says, or `None` for a layer of another kind.
pub(super) fn source(path: &Path, layer: &LayerParameter) -> Result<Option<DataSource>, CaffeError> {
    let bad = |field: &str, reason: &str| CaffeError::Layer {
        path: path.into(),
        layer: layer.name().into(),
        field: field.into(),
        reason: reason.into(),
    };
    let mut found = DataSource {
        layer: layer.name().into(),
        kind: DataKind::Lmdb,
        source: None,
        root_folder: None,
        batch_size: 1,
        shuffle: false,
        resize: None,
        color: true,
        tops: layer.top.clone(),
        transform: transform(path, layer)?,
    };
    let (source, batch) = match layer.r#type() {
        "Data" => {
            let p = layer.data_param.clone().unwrap_or_default();
            if p.backend() == data_parameter::Db::Leveldb {
                found.kind = DataKind::LevelDb;
            }
            found.transform.force_color |= p.force_encoded_color();
            if p.rand_skip() > 0 {
                return Err(bad("rand_skip", "skipping a random number of images is not supported"));
            }
            (p.source, p.batch_size)
        }
        "ImageData" => {
            let p = layer.image_data_param.clone().unwrap_or_default();
            found.kind = DataKind::ImageList;
            if p.rand_skip() > 0 {
                return Err(bad("rand_skip", "skipping a random number of images is not supported"));
            }
            found.shuffle = p.shuffle();
            found.color = p.is_color();
            found.root_folder = p.root_folder.clone().filter(|f| !f.is_empty()).map(Into::into);
            found.resize = match (p.new_height(), p.new_width()) {
                (0, 0) => None,
                (0, _) | (_, 0) => return Err(bad("new_height", "needs new_width beside it")),
                (h, w) => Some([h as usize, w as usize]),
            };
            (p.source.clone(), Some(p.batch_size()))
        }
        "HDF5Data" => {
            let p = layer.hdf5_data_param.clone().unwrap_or_default();
            found.kind = DataKind::Hdf5;
            found.shuffle = p.shuffle();
            (p.source, p.batch_size)
        }
        "MemoryData" => {
            let p = layer.memory_data_param.unwrap_or_default();
            found.kind = DataKind::Memory;
            (Some(String::new()), p.batch_size)
        }
        "DummyData" => {
            found.kind = DataKind::Dummy;
            (Some(String::new()), Some(1))
        }
        _ => return Ok(None),
    };
    let source = source.ok_or_else(|| bad("source", "missing"))?;
    found.source = (!source.is_empty()).then(|| source.into());
    found.batch_size = batch.filter(|&b| b > 0).ok_or_else(|| bad("batch_size", "missing"))? as usize;
    Ok(Some(found))
}

fn transform(path: &Path, layer: &LayerParameter) -> Result<TransformParam, CaffeError> {
    let p = layer.transform_param.clone().unwrap_or_default();
    let bad = |field: &str, reason: &str| CaffeError::Layer {
        path: path.into(),
        layer: layer.name().into(),
        field: format!("transform_param.{field}"),
        reason: reason.into(),
    };
    if p.mean_file.is_some() && !p.mean_value.is_empty() {
        return Err(bad("mean_file", "a mean file and mean values exclude each other"));
    }
    if !p.scale().is_finite() || p.mean_value.iter().any(|v| !v.is_finite()) {
        return Err(bad("scale", "scale and mean values must be finite"));
    }
    if p.force_color() && p.force_gray() {
        return Err(bad("force_color", "excludes force_gray"));
    }
    Ok(TransformParam {
        scale: p.scale(),
        mirror: p.mirror(),
        crop_size: Some(p.crop_size() as usize).filter(|&c| c > 0),
        force_color: p.force_color(),
        force_gray: p.force_gray(),
        mean_file: p.mean_file.map(Into::into),
        mean_value: p.mean_value,
    })
}

/// The extents of `shape`, checked.
fn dims(b: &Builder, layer: &LayerParameter, shape: &BlobShape) -> Result<Vec<usize>, CaffeError> {
    let dims: Option<Vec<usize>> = shape.dim.iter().map(|&d| usize::try_from(d).ok()).collect();
    match dims {
        Some(dims) if !dims.is_empty() && dims.len() <= 32 && dims.iter().all(|&d| d > 0 && d <= 1 << 31) => {
            Ok(dims)
        }
        _ => Err(b.bad(layer, "shape", format!("{:?} is not the shape of an input", shape.dim))),
    }
}

/// Adds the tops of an `Input` or data layer; `false` for a layer of another kind.
pub(super) fn add(b: &mut Builder, layer: &LayerParameter) -> Result<bool, CaffeError> {
    if layer.r#type() == "Input" {
        let shapes = layer.input_param.clone().unwrap_or_default().shape;
        for (i, top) in layer.top.iter().enumerate() {
            match shapes.get(i).or(shapes.last().filter(|_| shapes.len() == 1)) {
                Some(shape) => {
                    let dims = dims(b, layer, shape)?;
                    b.input(top, dims);
                }
                None => return Err(b.bad(layer, "input_param.shape", format!("`{top}` has no shape"))),
            }
        }
        return Ok(true);
    }
    let Some(source) = source(b.path, layer)? else { return Ok(false) };
    let Some(images) = layer.top.first() else {
        return Err(b.bad(layer, "top", "a data layer needs a top"));
    };
    match source.kind {
        DataKind::Dummy => {
            let p = layer.dummy_data_param.clone().unwrap_or_default();
            for (i, top) in layer.top.iter().enumerate() {
                let four = [&p.num, &p.channels, &p.height, &p.width];
                let at = |list: &Vec<u32>| list.get(i).or(list.first()).map(|&d| i64::from(d));
                let old: Option<Vec<i64>> = four.iter().map(|list| at(list)).collect();
                let shape = p.shape.get(i).or(p.shape.first()).cloned();
                match shape.or(old.map(|dim| BlobShape { dim })) {
                    Some(shape) => {
                        let dims = dims(b, layer, &shape)?;
                        b.input(top, dims);
                    }
                    None => return Err(b.bad(layer, "dummy_data_param.shape", "missing")),
                }
            }
        }
        _ => {
            let crop = source.transform.crop_size;
            let chw = match (source.kind, layer.memory_data_param) {
                (DataKind::Memory, Some(p)) => {
                    Some([p.channels() as usize, p.height() as usize, p.width() as usize])
                }
                _ => b.options.input_shape,
            };
            // A crop tells height and width; channels are told by the mean, or are three.
            let guessed = crop.filter(|_| source.kind != DataKind::Hdf5).map(|side| {
                let channels = match (source.transform.mean_value.len(), source.transform.force_gray) {
                    (_, true) => 1,
                    (0 | 1, _) => b.blobs.first_channels().unwrap_or(if source.color { 3 } else { 1 }),
                    (n, _) => n,
                };
                [channels, side, side]
            });
            let resized = source.resize.map(|[h, w]| [if source.color { 3 } else { 1 }, h, w]);
            let Some([c, h, w]) = chw.or(guessed).or(resized) else {
                return Err(CaffeError::InputShape { path: b.path.into(), layer: layer.name().into() });
            };
            let dim = [source.batch_size, c, h, w].map(|d| d as i64).to_vec();
            let dims = dims(b, layer, &BlobShape { dim })?;
            b.input(images, dims);
            for label in layer.top.iter().skip(1) {
                b.label(label);
            }
        }
    }
    b.info.data.push(source);
    Ok(true)
}
