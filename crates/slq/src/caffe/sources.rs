//! A data layer's images and their preprocessing.

use std::path::Path;

use slq_caffe::{DataKind, DataSource, read_mean};
use slq_data::{MeanImage, Resize, Split, Transform};

use super::resolve;
use crate::Error;

/// The images of a data layer.
#[derive(Debug, Clone)]
pub struct Images {
    /// In the order in which Caffe reads them.
    pub split: Split,
    /// `transform_param`.
    pub transform: Transform,
}

/// Opens what the data layer `source` of `prototxt` reads.
///
/// # Errors
/// [`Error::CaffeLayer`] for sources that are not supported, [`Error::CaffeFile`] for files that are missing, and what
/// reading them reports.
pub fn images_of(prototxt: &Path, source: &DataSource) -> Result<Images, Error> {
    Ok(Images { split: split(prototxt, source)?, transform: transform(prototxt, source)? })
}

/// Whether the size of the layer's images is known from its data alone.
pub fn needs_data(source: &DataSource) -> bool {
    let from_files =
        matches!(source.kind, DataKind::Lmdb | DataKind::LevelDb | DataKind::ImageList | DataKind::Hdf5);
    from_files && source.transform.crop_size.is_none() && source.resize.is_none()
}

/// The first data layer of the TEST phase of `prototxt` whose images' size is not in the net.
///
/// # Errors
/// [`Error::Caffe`] for a prototxt that cannot be read.
pub fn layer_without_shape(prototxt: &Path) -> Result<Option<DataSource>, Error> {
    let options = slq_caffe::ReadOptions::new(slq_caffe::Phase::Test);
    Ok(slq_caffe::data_sources(prototxt, &options)?.into_iter().find(needs_data))
}

fn refuse<T>(prototxt: &Path, source: &DataSource, reason: &str) -> Result<T, Error> {
    let (path, layer) = (prototxt.into(), source.layer.clone());
    Err(Error::CaffeLayer { path, layer, reason: reason.into() })
}

fn split(prototxt: &Path, source: &DataSource) -> Result<Split, Error> {
    let path = || match &source.source {
        Some(path) => resolve(path, prototxt),
        None => refuse(prototxt, source, "it names no source"),
    };
    match source.kind {
        DataKind::Lmdb => Ok(Split::open_lmdb(&path()?)?.in_order()),
        DataKind::ImageList => {
            let list = path()?;
            let root = match &source.root_folder {
                Some(folder) => resolve(folder, prototxt)?,
                None => ".".into(),
            };
            let split = Split::open_list(&list, &root)?;
            Ok(if source.shuffle { split } else { split.in_order() })
        }
        DataKind::LevelDb => {
            let reason = "LevelDB is not supported (it is the default where no backend is named): make an LMDB of \
                          the images with `slq convert`, or name a dataset with --data";
            refuse(prototxt, source, reason)
        }
        DataKind::Hdf5 => {
            refuse(prototxt, source, "HDF5Data is not supported: give the images as an .npz with --data")
        }
        DataKind::Memory | DataKind::Dummy => {
            refuse(prototxt, source, "the layer has no images of its own: name a dataset with --data")
        }
        _ => refuse(prototxt, source, "this kind of data layer is not supported"),
    }
}

/// A data layer's `transform_param`, with its mean image.
///
/// # Errors
/// [`Error::CaffeFile`] and [`Error::Caffe`] for a mean file that is missing or no mean image.
pub fn transform(prototxt: &Path, source: &DataSource) -> Result<Transform, Error> {
    let param = &source.transform;
    let mean_image = match &param.mean_file {
        Some(name) => {
            let (shape, values) = read_mean(&resolve(name, prototxt)?)?;
            Some(MeanImage { shape, values })
        }
        None => None,
    };
    let channels = match (param.force_color, param.force_gray, source.kind) {
        (true, ..) => Some(3),
        (_, true, _) => Some(1),
        (.., DataKind::ImageList) => Some(if source.color { 3 } else { 1 }),
        _ => None,
    };
    Ok(Transform {
        channels,
        mean_image,
        resize: source.resize.map(|[h, w]| Resize::Exact(h, w)),
        crop: param.crop_size.map(|side| (side, side)),
        mirror: param.mirror,
        ..Transform::caffe(param.scale, param.mean_value.clone())
    })
}
