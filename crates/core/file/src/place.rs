//! Where a path leads.

use std::io;
use std::path::{Path, PathBuf};

/// Links that are followed before a circle is assumed, as Linux does.
const LINKS: usize = 40;

/// The path that writing to `path` changes: links are followed, also one whose file does not exist yet.
///
/// # Errors
/// Links that lead round in a circle.
pub fn target(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_path_buf();
    for _ in 0..LINKS {
        match std::fs::read_link(&at) {
            // A name such as `pipe:[7]` below /proc is no path.
            Ok(_) if is_stream(&at) => return Ok(at),
            Ok(next) => at = folder_of(&at).join(next),
            Err(_) => return Ok(at),
        }
    }
    Err(io::Error::other("its links lead round in a circle"))
}

/// Whether `path` is a pipe, a device or a socket, into which bytes are written as they come.
pub(crate) fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths lead to the same file, existing or not, by whatever links.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (identity(a), identity(b)) {
        (Some(a), Some(b)) if a == b => true,
        _ => resolved(a) == resolved(b),
    }
}

/// Device and number of an existing file: the same for all its hard links.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}

/// The path without links; of a file that does not exist yet, with its folder resolved.
fn resolved(path: &Path) -> PathBuf {
    let target = target(path).unwrap_or_else(|_| path.into());
    if let Ok(whole) = target.canonicalize() {
        return whole;
    }
    let folder = folder_of(&target).canonicalize().unwrap_or_else(|_| folder_of(&target).into());
    folder.join(target.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_by_several_names_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|n| dir.path().join(n));
        std::fs::write(&a, b"x").unwrap();
        assert!(same_file(&a, &dir.path().join("./a")) && !same_file(&a, &b));
        assert!(same_file(&b, &dir.path().join("../").join(dir.path().file_name().unwrap()).join("b")));
        std::fs::hard_link(&a, &b).unwrap();
        assert!(same_file(&a, &b));
    }
}
