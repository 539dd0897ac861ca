//! The blobs of the caffemodel, by layer.

use std::collections::HashSet;
use std::path::Path;

use crate::error::CaffeError;
use crate::proto::LayerParameter;
use crate::wire::LayerBlobs;

/// The blobs of a caffemodel, if there is one, and which layers have used theirs.
pub(super) struct Blobs<'a> {
    model: Option<(&'a Path, Vec<LayerBlobs>)>,
    used: HashSet<String>,
    /// Layer names that occur more than once in the net.
    repeated: HashSet<String>,
}

impl<'a> Blobs<'a> {
    /// The blobs of `model` for a net of `layers`, whose prototxt is `net`.
    pub fn new(
        model: Option<(&'a Path, Vec<LayerBlobs>)>,
        layers: &[LayerParameter],
        net: &Path,
    ) -> Result<Self, CaffeError> {
        let mut seen = HashSet::new();
        let repeated = layers.iter().map(|l| l.name()).filter(|n| !seen.insert(*n));
        let repeated = repeated.map(str::to_owned).collect();
        if let Some((file, blobs)) = &model {
            let mut with_blobs = blobs.iter().filter(|l| !l.blobs.is_empty()).peekable();
            if with_blobs.peek().is_some() && !with_blobs.any(|l| seen.contains(l.name.as_str())) {
                return Err(CaffeError::NothingInCommon { path: file.to_path_buf(), net: net.into() });
            }
        }
        Ok(Self { model, used: HashSet::new(), repeated })
    }

    /// The caffemodel's path; `None` where there is none.
    pub fn path(&self) -> Option<&'a Path> {
        self.model.as_ref().map(|(path, _)| *path)
    }

    fn of(&self, layer: &LayerParameter) -> Option<&LayerBlobs> {
        let (_, model) = self.model.as_ref()?;
        model.iter().rev().find(|l| l.name == layer.name() && !l.blobs.is_empty())
    }

    /// The shape of blob `index` of `layer`.
    pub fn shape(&self, layer: &LayerParameter, index: usize) -> Option<&[usize]> {
        self.of(layer)?.blobs.get(index).map(|b| b.shape.as_slice())
    }

    /// Number of blobs for `layer`.
    pub fn count(&self, layer: &LayerParameter) -> Option<usize> {
        self.of(layer).map(|found| found.blobs.len())
    }

    /// Input channels of the first convolution, as far as its blobs tell.
    pub fn first_channels(&self) -> Option<usize> {
        let (_, model) = self.model.as_ref()?;
        let first = model.iter().find_map(|l| l.blobs.first())?;
        Some(*first.shape.get(1).filter(|_| first.shape.len() == 4)?)
    }

    /// Refuses a layer whose blobs are not exactly `expected` in number.
    pub fn check_count(&self, layer: &LayerParameter, expected: usize) -> Result<(), CaffeError> {
        match (self.count(layer), self.path()) {
            (Some(found), Some(path)) if found != expected => {
                Err(CaffeError::BlobCount { path: path.into(), layer: layer.name().into(), expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a layer that the caffemodel lacks.
    pub fn require(&self, layer: &LayerParameter) -> Result<(), CaffeError> {
        match self.path() {
            Some(path) if self.of(layer).is_none() => {
                Err(CaffeError::MissingBlobs { path: path.into(), layer: layer.name().into() })
            }
            _ => Ok(()),
        }
    }

    /// The values of blob `index` in the shape `expected`, if the caffemodel has the layer.
    pub fn take(
        &mut self,
        layer: &LayerParameter,
        index: usize,
        expected: &[usize],
    ) -> Result<Option<Vec<f32>>, CaffeError> {
        let Some((path, model)) = self.model.as_mut() else { return Ok(None) };
        let name = layer.name();
        let Some(found) = model.iter_mut().rev().find(|l| l.name == name && !l.blobs.is_empty()) else {
            return Ok(None);
        };
        self.used.insert(name.to_owned());
        let count = found.blobs.len();
        let Some(blob) = found.blobs.get_mut(index) else {
            return Err(CaffeError::BlobCount {
                path: path.to_path_buf(),
                layer: name.into(),
                expected: index + 1,
                found: count,
            });
        };
        // Older files pad shapes to four axes with leading ones.
        let core = |shape: &[usize]| shape.iter().copied().skip_while(|&d| d == 1).collect::<Vec<_>>();
        if core(&blob.shape) != core(expected) {
            return Err(CaffeError::BlobShape {
                path: path.to_path_buf(),
                layer: name.into(),
                blob: index,
                expected: expected.to_vec(),
                found: blob.shape.clone(),
            });
        }
        if let Some(at) = blob.data.iter().position(|v| !v.is_finite()) {
            return Err(CaffeError::NotFinite {
                path: path.to_path_buf(),
                layer: name.into(),
                blob: index,
                index: at,
                value: blob.data[at],
            });
        }
        // Large nets should not be held twice; but another layer of the same name reads the same blobs.
        let moved = !self.repeated.contains(name);
        Ok(Some(if moved { std::mem::take(&mut blob.data) } else { blob.data.clone() }))
    }

    /// Counts the layer's blobs as used: it shares the weights of another layer.
    pub fn mark_used(&mut self, layer: &LayerParameter) {
        self.used.insert(layer.name().to_owned());
    }

    /// Layers of the caffemodel whose blobs nothing has used.
    pub fn unused(&self) -> Vec<String> {
        let layers = self.model.iter().flat_map(|(_, layers)| layers);
        let unused = layers.filter(|l| !l.blobs.is_empty() && !self.used.contains(&l.name));
        unused.map(|l| l.name.clone()).collect()
    }
}
