//! From a file to weights.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use indexmap::IndexMap;
use slq_graph::Weight;
use zip::ZipArchive;

use crate::assemble::weights;
use crate::error::PytorchError;
use crate::machine::unpickle;
use crate::stream;
use crate::tensors::tensors;

/// Most bytes of a pickle: those of some millions of values.
const PICKLE: u64 = 256 << 20;

/// The weights of a checkpoint, by the names of its state dict, in its order. 16-bit and 64-bit floats stay as they are.
///
/// # Errors
/// One variant of [`PytorchError`] for each way in which the file can be broken; nothing is allocated that the file's length
/// does not justify.
pub fn read(path: &Path) -> Result<IndexMap<String, Weight>, PytorchError> {
    let io = |source| PytorchError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut start = [0; 16];
    let got = file.read(&mut start).map_err(io)?;
    if stream::begins(&start[..got]) {
        return stream::read(path);
    }
    let form = |reason: String| PytorchError::Form { path: path.into(), reason };
    if !start.starts_with(b"PK\x03\x04") {
        return Err(form("it begins like neither a zip archive nor PyTorch's older stream".into()));
    }
    let mut archive = Archive::open(path, file, length)?;
    if archive.text("byteorder")?.is_some_and(|order| order.trim() == "big") {
        return Err(form("its numbers are big-endian; load and save it on an ordinary machine".into()));
    }
    let Some(pickle) = archive.bytes("data.pkl", PICKLE)? else {
        return Err(form("it has no data.pkl".into()));
    };
    let pickle = unpickle(&pickle).map_err(|(offset, reason)| PytorchError::Pickle {
        path: path.into(),
        offset,
        reason,
    })?;
    weights(path, &tensors(&pickle), |key| {
        let name = format!("data/{key}");
        archive.bytes(&name, length)
    })
}

/// The zip archive of a checkpoint: all its entries lie in one folder.
struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<File>,
    folder: String,
    /// Bytes that may still be read: those of the file, once.
    left: u64,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, file: File, length: u64) -> Result<Self, PytorchError> {
        let form = |reason: String| PytorchError::Form { path: path.into(), reason };
        let zip = ZipArchive::new(file).map_err(|e| form(e.to_string()))?;
        let folder = |name: &str| name.strip_suffix("data.pkl").map(str::to_owned);
        let pickle = zip.file_names().find_map(|name| folder(&name.ok()?));
        let Some(folder) = pickle else { return Err(form("the archive has no data.pkl".into())) };
        Ok(Self { path, zip, folder, left: length })
    }

    /// The bytes of an entry; `None` where there is none of the name.
    fn bytes(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, PytorchError> {
        let path = self.path;
        let form = |reason: String| PytorchError::Form { path: path.into(), reason };
        let name = format!("{}{name}", self.folder);
        let entry = match self.zip.by_name(&name) {
            Ok(entry) => entry,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(form(format!("{name}: {error}"))),
        };
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(form(format!("{name} is compressed, which PyTorch does not do")));
        }
        let length = entry.size();
        if length > most || length > self.left {
            return Err(form(format!("{name} declares {length} bytes, more than the file holds")));
        }
        self.left -= length;
        let mut bytes = Vec::new();
        entry.take(length).read_to_end(&mut bytes).map_err(|e| form(format!("{name}: {e}")))?;
        if bytes.len() as u64 != length {
            return Err(form(format!("{name} ends after {} of {length} bytes", bytes.len())));
        }
        Ok(Some(bytes))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, PytorchError> {
        let bytes = self.bytes(name, 64)?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }
}
