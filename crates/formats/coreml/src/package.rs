//! The package: a folder with a manifest, the model file and the blob file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use prost::Message;
use serde_json::json;
use slq_graph::Graph;

use crate::error::CoremlError;
use crate::options::{WriteOptions, Written};
use crate::program::assemble;
use crate::{blob, verify};

/// Identifiers of the two items; they tell a package of this library from others.
const MODEL_ID: &str = "5f0c7a52-6b1d-4c8e-9a3f-510000000001";
const WEIGHTS_ID: &str = "5f0c7a52-6b1d-4c8e-9a3f-510000000002";
/// The folder of both items, below `Data`.
const AUTHOR: &str = "com.apple.CoreML";
/// Longest manifest that is looked at.
const LONGEST: u64 = 1 << 20;

/// Writes a network as the package `path`: into a folder beside it, which is read back, compared with the network and then
/// renamed.
///
/// # Errors
/// [`CoremlError::Operators`] and [`CoremlError::Widths`], each naming all that Core ML lacks; [`CoremlError::OpenShape`],
/// [`CoremlError::Feature`], [`CoremlError::Network`]; [`CoremlError::Place`] for a place that holds something else;
/// [`CoremlError::Io`], [`CoremlError::Verify`].
pub fn write(graph: &Graph, path: impl AsRef<Path>, options: &WriteOptions) -> Result<Written, CoremlError> {
    let path = path.as_ref();
    check_place(path, options.overwrite)?;
    let failed = |source| CoremlError::Io { path: path.into(), source };
    let folder = slq_file::temporary_folder_beside(path).map_err(failed)?;
    let items = folder.path().join("Data").join(AUTHOR);
    fs::create_dir_all(items.join("weights")).map_err(failed)?;
    let blobs = File::create(items.join("weights/weight.bin")).map_err(failed)?;
    let made = assemble(graph, options, BufWriter::new(blobs)).map_err(|error| match error {
        CoremlError::Io { source, .. } => failed(source),
        other => other,
    })?;
    let finish = || -> io::Result<()> {
        let mut blobs = made.blobs.into_inner().map_err(io::IntoInnerError::into_error)?;
        blobs.rewind()?;
        blobs.write_all(&blob::header(made.count))?;
        blobs.sync_all()?;
        put(&items.join("model.mlmodel"), &made.model.encode_to_vec())?;
        put(&folder.path().join("Manifest.json"), manifest().as_bytes())
    };
    finish().map_err(failed)?;
    let differs = |what| CoremlError::Verify { path: path.into(), what };
    verify::package(&items, graph, &made.model, &made.weights)
        .map_err(failed)?
        .map_or(Ok(()), |w| Err(differs(w)))?;
    let bytes = size(folder.path()).map_err(failed)?;
    slq_file::persist_folder(folder, path).map_err(failed)?;
    Ok(Written { bytes, notes: made.notes })
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn manifest() -> String {
    let item = |name: &str, description: &str| {
        json!({
            "author": AUTHOR, "description": description, "name": name, "path": format!("{AUTHOR}/{name}"),
        })
    };
    let manifest = json!({
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            MODEL_ID: item("model.mlmodel", "CoreML Model Specification"),
            WEIGHTS_ID: item("weights", "CoreML Model Weights"),
        },
        "rootModelIdentifier": MODEL_ID,
    });
    format!("{manifest:#}\n")
}

/// Bytes of all files of a package, or of a file.
///
/// # Errors
/// Whatever the file system reports.
pub fn size(path: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Ok(found.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// Checks that a package can be written at `path`: the folder beside it can be made, and what is there is nothing, a package
/// of this library or, with `overwrite`, any package.
///
/// # Errors
/// [`CoremlError::Place`], [`CoremlError::Io`].
pub fn check_place(path: &Path, overwrite: bool) -> Result<(), CoremlError> {
    let refuse = |what: &str| Err(CoremlError::Place { path: path.into(), what: what.into() });
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            return refuse("it is a link, and a package would take its place: name the folder it leads to");
        }
        Ok(found) if !found.is_dir() => {
            return refuse("a Core ML package is a folder, and there is a file of that name: remove it");
        }
        Ok(_) => match root_identifier(path) {
            None => {
                return refuse(
                    "there is a folder of that name which is no Core ML package: it is never replaced",
                );
            }
            Some(id) if id != MODEL_ID && !overwrite => {
                return refuse(
                    "there is a Core ML package that slq did not write: give another name, or --overwrite",
                );
            }
            Some(_) => {}
        },
        Err(_) => {}
    }
    let failed = |source| CoremlError::Io { path: path.into(), source };
    slq_file::temporary_folder_beside(path).map(drop).map_err(failed)
}

/// The identifier of the root model of a package; `None` for a folder that is none or holds further files.
fn root_identifier(path: &Path) -> Option<String> {
    for entry in fs::read_dir(path).ok()? {
        let name = entry.ok()?.file_name();
        if name != "Manifest.json" && name != "Data" {
            return None;
        }
    }
    let manifest = path.join("Manifest.json");
    if fs::metadata(&manifest).ok().filter(|m| m.is_file())?.len() > LONGEST {
        return None;
    }
    let text = fs::read_to_string(manifest).ok()?;
    let manifest: serde_json::Value = serde_json::from_str(&text).ok()?;
    manifest.get("rootModelIdentifier")?.as_str().map(str::to_owned)
}
