//! Tensors whose data lie in files beside the model.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::error::OnnxError;
use crate::proto::KeyValue;

/// Most bytes that all external tensors of one model may take together.
const MAX_TOTAL: u64 = 1 << 36;
/// How often the bytes of an external file may be used (weights that share data).
const MAX_REUSE: u64 = 4;

/// Reads external data relative to a model's folder.
#[derive(Default)]
pub struct External {
    /// The model's folder; `None` for a model in memory.
    folder: Option<PathBuf>,
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
        Self { folder: Some(folder), ..Self::default() }
    }

    /// The `wanted` bytes that `entries` point at.
    ///
    /// The location must be a plain relative path that stays, links resolved, in the model's folder; lengths
    /// are compared with the file before memory is taken; checksums are not looked at.
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
        let path = folder.join(relative).canonicalize().map_err(fail)?;
        if !path.starts_with(folder.canonicalize().map_err(fail)?) {
            return Err(outside());
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
        let limit = metadata.len().saturating_mul(MAX_REUSE).min(MAX_TOTAL);
        if *used > limit || self.total > MAX_TOTAL {
            return Err(OnnxError::ExternalTotal { limit });
        }

        let mut file = File::open(&path).map_err(fail)?;
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut bytes = vec![0; wanted];
        file.read_exact(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }
}
