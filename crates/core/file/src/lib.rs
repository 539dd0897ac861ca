//! Atomic writing of files and folders: they appear whole or not at all. And the files that only stand in for others.
//!
//! Everything slq writes goes to a temporary file in the same folder first, is checked there where possible, and is then
//! renamed. No reader sees half a file, and an existing file stays until the new one is complete.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::Path;

mod stand_in;

pub use stand_in::{stand_in, stand_in_bytes};
pub use tempfile::{NamedTempFile, TempDir};

/// A new file in the folder of `path`, removed again unless it is persisted. It has the permissions of an
/// ordinary new file (temporary files are private to their owner by default).
///
/// # Errors
/// Whatever the file system reports.
pub fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".slq-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Flushes `file` to the disk and gives it its name.
///
/// # Errors
/// Whatever the file system reports.
pub fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Writes `bytes` to `path`, whole or not at all.
///
/// # Errors
/// Whatever the file system reports.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// A new folder beside `path`, removed again with all that is in it unless it is persisted.
///
/// # Errors
/// Whatever the file system reports.
pub fn temporary_folder_beside(path: &Path) -> io::Result<TempDir> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".slq-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder)
}

/// Gives `folder` its name. A folder of that name is moved out of the way first and removed once the new one is in its
/// place: no system replaces a folder in one step, so a crash between the two leaves the old one under a hidden name.
///
/// # Errors
/// Whatever the file system reports; the old folder is then back in its place.
pub fn persist_folder(folder: TempDir, path: &Path) -> io::Result<()> {
    let old = match path.exists() {
        true => {
            let old = temporary_folder_beside(path)?;
            std::fs::rename(path, old.path().join("old"))?;
            Some(old)
        }
        false => None,
    };
    match std::fs::rename(folder.path(), path) {
        Ok(()) => {
            // Nothing is left under the temporary name to remove.
            let _ = folder.keep();
            Ok(())
        }
        Err(error) => {
            if let Some(old) = old {
                std::fs::rename(old.path().join("old"), path)?;
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_folder_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for text in ["one", "two"] {
            let folder = temporary_folder_beside(&path).unwrap();
            std::fs::write(folder.path().join(text), text).unwrap();
            persist_folder(folder, &path).unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["two"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary folder is left");
    }

    #[test]
    fn what_is_not_persisted_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"old").unwrap();
        drop(temporary_beside(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomically(&dir.path().join("no/such/a"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|n| dir.path().join(n));
        write_atomically(&ours, b"x").unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
