//! Tensors whose data lie in files beside the model.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::error::OnnxError;
use crate::proto::KeyValue;

/// Most bytes that all external tensors of one model may take together.
const MAX_TOTAL: u64 = 1 << 36;
/// How often the bytes of an external file may be used (weights that share data) once [`FREE_REUSE`] is spent.
const MAX_REUSE: u64 = 4;
/// Bytes of one file that may be used over and over: small layers that are used many times.
const FREE_REUSE: u64 = 1 << 30;

/// Reads external data relative to a model's folder.
#[derive(Default)]
pub struct External {
    /// The model's folder; `None` for a model in memory.
    folder: Option<PathBuf>,
    /// The folder of the file that the model's path links to, where that is another one.
    linked: Option<PathBuf>,
    /// Bytes handed out, in all and of each file.
    total: u64,
    used: HashMap<PathBuf, u64>,
}

impl External {
    /// For a model at `path`.
    pub fn beside(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.into(),
            _ => PathBuf::from("."),
        };
        let linked = path.canonicalize().ok().and_then(|p| p.parent().map(Path::to_path_buf));
        Self { folder: Some(folder), linked, ..Self::default() }
    }

    /// The `wanted` bytes that `entries` point at.
    ///
    /// The location must be a plain relative path that stays, links resolved, in the model's folder or in that of the
    /// file that the model's path links to (caches of model hubs keep links to a folder of blobs); lengths are compared
    /// with the file before memory is taken; checksums are not looked at.
    pub fn load(&mut self, entries: &[KeyValue], wanted: usize, tensor: &str) -> Result<Vec<u8>, OnnxError> {
        let name = || tensor.to_string();
        let folder = self.folder.as_ref().ok_or_else(|| OnnxError::ExternalWithoutFile { tensor: name() })?;
        let find = |key: &str| {
            entries.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref())
        };
        let number = |key: &str| match find(key) {
            None => Ok(None),
            Some(v) => v.trim().parse::<u64>().map(Some).map_err(|_| OnnxError::ExternalEntry {
                tensor: name(),
                key: key.into(),
                value: v.into(),
            }),
        };
        let location = find("location").unwrap_or_default();
        let outside = || OnnxError::ExternalLocation { tensor: name(), location: location.into() };
        let fail = |source| OnnxError::ExternalIo { tensor: name(), location: location.into(), source };

        let relative = Path::new(location);
        let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !plain {
            return Err(outside());
        }
        let found = folder.join(relative).canonicalize();
        let found = found.or_else(|error| match &self.linked {
            Some(linked) => linked.join(relative).canonicalize(),
            None => Err(error),
        });
        let path = found.map_err(fail)?;
        let beside = self.linked.as_ref().is_some_and(|linked| path.starts_with(linked));
        if !beside && !path.starts_with(folder.canonicalize().map_err(fail)?) {
            return Err(OnnxError::ExternalLink { tensor: name(), location: location.into(), target: path });
        }
        let metadata = std::fs::metadata(&path).map_err(fail)?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let wanted64 = wanted as u64;
        let fits = offset.checked_add(wanted64).is_some_and(|end| end <= metadata.len());
        if !metadata.is_file() || !fits || length.is_some_and(|l| l != wanted64) {
            return Err(OnnxError::ExternalBounds {
                tensor: name(),
                location: location.into(),
                offset,
                wanted: wanted64,
            });
        }
        let used = self.used.entry(path.clone()).or_default();
        *used = used.saturating_add(wanted64);
        self.total = self.total.saturating_add(wanted64);
        let limit = reuse_limit(metadata.len());
        if *used > limit || self.total > MAX_TOTAL {
            let (used, size) = (*used, metadata.len());
            return Err(OnnxError::ExternalTotal { location: location.into(), used, size });
        }

        let mut file = File::open(&path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut bytes = vec![0; wanted];
        file.read_exact(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }
}

/// Most bytes that tensors may take from an external file of `size` bytes.
fn reuse_limit(size: u64) -> u64 {
    size.saturating_mul(MAX_REUSE).clamp(FREE_REUSE, MAX_TOTAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_read_over_and_over_is_refused() {
        assert_eq!(reuse_limit(8), FREE_REUSE);
        assert_eq!(reuse_limit(FREE_REUSE), 4 * FREE_REUSE);
        assert_eq!(reuse_limit(u64::MAX), MAX_TOTAL);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), [0; 8]).unwrap();
        let mut external = External::beside(&folder.path().join("model.onnx"));
        let location = [KeyValue { key: Some("location".into()), value: Some("data".into()) }];
        assert!(external.load(&location, 8, "w").is_ok());
        external.used.values_mut().for_each(|used| *used = FREE_REUSE - 8);
        assert!(external.load(&location, 8, "w").is_ok());
        let error = external.load(&location, 8, "w").unwrap_err().to_string();
        assert!(error.contains("`data`") && error.contains("134217729 times"), "{error}");
    }
}
