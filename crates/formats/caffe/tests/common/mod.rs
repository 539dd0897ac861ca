//! Where test files are.
#![allow(dead_code)] // each test binary uses its part

use std::path::PathBuf;

/// A file kept beside the tests.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// A file of the shared test data, or `None` with a message that names the test skipped.
pub fn shared(test: &str, file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("SLQ_DATA").map(PathBuf::from);
    let root =
        root.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared")));
    let path = root.join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped {test}: {} is missing", path.display());
    None
}
