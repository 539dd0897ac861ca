//! Layers to files: encoded, read back, compared, renamed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use prost::Message as _;
use prost_reflect::DynamicMessage;
use slq_file::NamedTempFile;

use super::options::WriteOptions;
use super::print::print;
use crate::error::CaffeError;
use crate::proto::{BlobProto, NetParameter, POOL};
use crate::{text, wire};

/// Writes `net` with its blobs to `path`, and without them to the prototxt of `options`.
pub(super) fn save(mut net: NetParameter, path: &Path, options: &WriteOptions) -> Result<(), CaffeError> {
    if options.legacy_blobs {
        net.layer.iter_mut().flat_map(|l| &mut l.blobs).for_each(legacy);
    }
    let bytes = net.encoded_len() as u64;
    if bytes > wire::MAX_FILE {
        return Err(CaffeError::TooLarge { path: path.into(), bytes, limit: wire::MAX_FILE });
    }
    let model = temporary(path, &net.encode_to_vec())?;
    compare(&net, model.path(), path)?;
    net.layer.iter_mut().for_each(|l| l.blobs.clear());
    let description = match &options.prototxt {
        Some(to) => {
            let file = temporary(to, describe(&net, to)?.as_bytes())?;
            let back: NetParameter = text::read(file.path(), "NetParameter")?;
            if back != net {
                let reason = "the description reads back differently".into();
                return Err(CaffeError::ReadBack { path: to.clone(), reason });
            }
            Some((file, to))
        }
        None => None,
    };
    persist(model, path)?;
    description.map_or(Ok(()), |(file, to)| persist(file, to))
}

fn temporary(path: &Path, bytes: &[u8]) -> Result<NamedTempFile, CaffeError> {
    let mut file = slq_file::temporary_beside(path).map_err(CaffeError::io("write", path))?;
    file.write_all(bytes).map_err(CaffeError::io("write", path))?;
    Ok(file)
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), CaffeError> {
    slq_file::persist(file, path).map_err(CaffeError::io("write", path))
}

/// The net in text form.
fn describe(net: &NetParameter, path: &Path) -> Result<String, CaffeError> {
    let fail = |reason: String| CaffeError::ReadBack { path: path.into(), reason };
    let descriptor =
        POOL.get_message_by_name("caffe.NetParameter").ok_or_else(|| fail("no schema".into()))?;
    let mut message = DynamicMessage::new(descriptor);
    message.transcode_from(net).map_err(|e| fail(e.to_string()))?;
    Ok(format!("{MARK} {}\n{}", env!("CARGO_PKG_VERSION"), print(&message)))
}

/// Begins the first line of every prototxt that [`write`](fn@crate::write) writes.
const MARK: &str = "# Written by slq";

/// Whether [`write`](fn@crate::write) wrote the prototxt at `path`: its first line says so. An unreadable file is not ours.
pub fn is_own_prototxt(path: &Path) -> bool {
    let mut start = Vec::new();
    // A pipe would wait for its writer.
    if !path.is_file() {
        return false;
    }
    let read = File::open(path).and_then(|f| f.take(MARK.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == MARK.as_bytes()
}

/// Compares the blobs of the file at `written` with those of `net`, bit by bit.
fn compare(net: &NetParameter, written: &Path, path: &Path) -> Result<(), CaffeError> {
    let differs = |reason: String| Err(CaffeError::ReadBack { path: path.into(), reason });
    let back = wire::read_model(written)?;
    if back.len() != net.layer.len() {
        return differs(format!("{} layers instead of {}", back.len(), net.layer.len()));
    }
    for (read, layer) in back.iter().zip(&net.layer) {
        let same = |(a, b): (&wire::Blob, &BlobProto)| {
            a.data.len() == b.data.len()
                && a.data.iter().zip(&b.data).all(|(x, y)| x.to_bits() == y.to_bits())
                && b.shape.as_ref().is_none_or(|s| s.dim.iter().map(|&d| d as usize).eq(a.shape.clone()))
        };
        let blobs = read.blobs.len() == layer.blobs.len() && read.blobs.iter().zip(&layer.blobs).all(same);
        if read.name != layer.name() || !blobs {
            return differs(format!("layer `{}`", layer.name()));
        }
    }
    Ok(())
}

/// Replaces a blob's shape by four extents, leading ones first. A shape of more axes stays.
fn legacy(blob: &mut BlobProto) {
    let Some(shape) = blob.shape.take_if(|s| s.dim.len() <= 4) else { return };
    let mut four = [1i32; 4];
    let start = 4 - shape.dim.len();
    for (slot, &dim) in four[start..].iter_mut().zip(&shape.dim) {
        *slot = i32::try_from(dim).unwrap_or(i32::MAX);
    }
    [blob.num, blob.channels, blob.height, blob.width] = four.map(Some);
}
