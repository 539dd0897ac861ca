//! Layers to files: encoded, read back, compared, renamed.

use std::io::Write as _;
use std::path::Path;

use prost::Message as _;
use prost_reflect::DynamicMessage;
use tempfile::NamedTempFile;

use super::WriteOptions;
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
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).map_err(CaffeError::io("write", path))?;
    let done = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
    done.map_err(CaffeError::io("write", path))?;
    Ok(file)
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), CaffeError> {
    // Temporary files are private to their owner; a model is an ordinary file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).map_or(0o644, |m| m.permissions().mode());
        let set = file.as_file().set_permissions(std::fs::Permissions::from_mode(mode));
        set.map_err(CaffeError::io("write", path))?;
    }
    file.persist(path).map(drop).map_err(|e| CaffeError::io("write", path)(e.error))
}

/// The net in text form.
fn describe(net: &NetParameter, path: &Path) -> Result<String, CaffeError> {
    let fail = |reason: String| CaffeError::ReadBack { path: path.into(), reason };
    let descriptor =
        POOL.get_message_by_name("caffe.NetParameter").ok_or_else(|| fail("no schema".into()))?;
    let mut message = DynamicMessage::new(descriptor);
    message.transcode_from(net).map_err(|e| fail(e.to_string()))?;
    Ok(print(&message))
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
