//! Checkpoints of PyTorch before 1.6: four pickles (a magic number, a version, the machine, the object), a pickle with the
//! keys of the storages, then each storage as a count of elements (64 bits) and its bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use indexmap::IndexMap;
use slq_graph::Weight;

use crate::assemble::weights;
use crate::error::PytorchError;
use crate::machine::{Pickle, unpickle};
use crate::tensors::{tensors, widths};
use crate::value::Value;

/// The pickle of the magic number 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 15] = *b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// Whether a file begins like such a stream.
pub(crate) fn begins(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// The weights of such a file.
pub(crate) fn read(path: &Path) -> Result<IndexMap<String, Weight>, PytorchError> {
    let io = |source| PytorchError::Io { path: path.into(), source };
    let form = |reason: String| PytorchError::Form { path: path.into(), reason };
    let bytes = std::fs::read(path).map_err(io)?;
    let mut at = 0;
    let mut next = || -> Result<Pickle, PytorchError> {
        let rest = bytes.get(at..).unwrap_or_default();
        let pickle = unpickle(rest).map_err(|(offset, reason)| PytorchError::Pickle {
            path: path.into(),
            offset: at + offset,
            reason,
        })?;
        at += pickle.length;
        Ok(pickle)
    };
    let (_, _, _, object, keys) = (next()?, next()?, next()?, next()?, next()?);
    let found = tensors(&object);
    let widths = widths(&object.heap);
    let Value::List(listed) = keys.heap.get(keys.root) else {
        return Err(form("the list of storages is missing".into()));
    };
    let mut places: HashMap<String, Range<usize>> = HashMap::new();
    for key in listed.iter().filter_map(|&k| keys.heap.text(k)) {
        let count = bytes.get(at..).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_le_bytes(*b));
        // What follows a storage of unknown width cannot be found; a tensor that needs it says so.
        let Some(&width) = widths.get(key) else { break };
        let end = count.and_then(|n| usize::try_from(n).ok()?.checked_mul(width)?.checked_add(at + 8));
        let Some(end) = end.filter(|&end| end <= bytes.len()) else {
            return Err(form(format!("storage `{key}` is longer than the file")));
        };
        places.insert(key.to_owned(), at + 8..end);
        at = end;
    }
    weights(path, &found, |key| Ok(places.get(key).map(|place| bytes[place.clone()].to_vec())))
}
