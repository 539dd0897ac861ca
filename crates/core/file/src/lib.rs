//! Atomic writing of files and folders: they appear whole or not at all. And the files that only stand in for others.
//!
//! Everything slq writes goes to a temporary file in the same folder first, is checked there where possible, and is then
//! renamed. No reader sees half a file, and an existing file stays until the new one is complete.
//!
//! A temporary file is named after its target and locked while its writer lives, so that [`probe`] can remove what a killed
//! process left. A link stays a link: the file that it names is replaced. A pipe or a device receives the bytes.

#![forbid(unsafe_code)]

mod lock;
mod place;
mod stand_in;

use std::io::{self, Write};
use std::path::Path;

pub use lock::Lock;
pub use place::{same_file, target};
pub use stand_in::{stand_in, stand_in_bytes};
pub use tempfile::{NamedTempFile, TempDir};

use place::{folder_of, is_stream};

/// Ends the name of every temporary file.
const ENDING: &str = ".slq-tmp";

/// A new file in the folder of `path`, removed again unless it is persisted. It has the permissions of an
/// ordinary new file (temporary files are private to their owner by default).
///
/// # Errors
/// Whatever the file system reports.
pub fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let target = target(path)?;
    let mut builder = tempfile::Builder::new();
    let prefix = prefix(&target);
    builder.prefix(&prefix).suffix(ENDING);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = match is_stream(&target) {
        true => builder.tempfile()?,
        false => builder.tempfile_in(folder_of(&target))?,
    };
    // Shows that the writer lives. Where the file system has no locks, nothing is ever taken for a left-over.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Flushes `file` to the disk and gives it its name; the name is on the disk, too, when this returns.
///
/// # Errors
/// Whatever the file system reports.
pub fn persist(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    let target = target(path)?;
    if is_stream(&target) {
        io::Seek::rewind(file.as_file_mut())?;
        let mut stream = std::fs::OpenOptions::new().write(true).open(&target)?;
        io::copy(file.as_file_mut(), &mut stream)?;
        return stream.flush();
    }
    if let Ok(old) = std::fs::metadata(&target) {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|e| e.error)?;
    sync_folder(folder_of(&target))
}

/// As [`persist`], for a name that no file has.
///
/// # Errors
/// Whatever the file system reports; [`io::ErrorKind::AlreadyExists`] where there is such a file by now.
pub fn persist_new(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    sync_folder(folder_of(path))
}

/// Puts the names in `folder` on the disk. File systems that cannot sync a folder need not.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match std::fs::File::open(folder).and_then(|f| f.sync_all()) {
        Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Err(e),
        _ => Ok(()),
    }
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

/// Checks that `path` can be written, by writing a temporary file beside it and removing it again. Removes what a killed
/// writer of the same file left.
///
/// # Errors
/// Whatever the file system reports; [`io::ErrorKind::IsADirectory`] for a folder of that name,
/// [`io::ErrorKind::PermissionDenied`] for a file that is read-only.
pub fn probe(path: &Path) -> io::Result<()> {
    let target = target(path)?;
    match std::fs::metadata(&target) {
        Ok(found) if found.is_dir() => {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        Ok(_) if is_stream(&target) => return Ok(()),
        Ok(found) if found.permissions().readonly() => {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
        }
        _ => {}
    }
    remove_leftovers_of(&target)?;
    let mut file = temporary_beside(&target)?;
    file.write_all(b"slq")?;
    file.as_file().sync_all()?;
    file.close()
}

/// Removes the temporary files that killed writers of `path` left.
fn remove_leftovers_of(path: &Path) -> io::Result<()> {
    let prefix = prefix(path);
    remove_if(folder_of(path), |name| name.starts_with(&prefix))
}

/// Removes the temporary files that killed writers left in `folder`.
///
/// # Errors
/// Whatever the file system reports.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    remove_if(folder, |_| true)
}

fn remove_if(folder: &Path, ours: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let temporary = name.starts_with('.') && name.ends_with(ENDING) && ours(&name);
        if !temporary || !entry.file_type()?.is_file() {
            continue;
        }
        // A writer that lives holds the lock.
        let abandoned = std::fs::File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok());
        if abandoned {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Begins the names of the temporary files of `path`: its own name, as far as a file name may be long.
fn prefix(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut short = String::from(".");
    for c in name.chars() {
        if short.len() + c.len_utf8() > 200 {
            break;
        }
        short.push(c);
    }
    short.push('.');
    short
}

/// A new folder beside `path`, removed again with all that is in it unless it is persisted.
///
/// # Errors
/// Whatever the file system reports.
pub fn temporary_folder_beside(path: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".slq-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder_of(path))
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
    fn a_new_file_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let write = |bytes: &[u8]| {
            let mut file = temporary_beside(&path)?;
            file.write_all(bytes)?;
            persist_new(file, &path)
        };
        write(b"one").unwrap();
        assert_eq!(write(b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

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

    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("net.onnx");
        let stale = dir.path().join(".net.onnx.abc123.slq-tmp");
        let other = dir.path().join(".other.onnx.abc123.slq-tmp");
        std::fs::write(&stale, b"half").unwrap();
        std::fs::write(&other, b"half").unwrap();
        let living = temporary_beside(&path).unwrap();
        probe(&path).unwrap();
        assert!(!stale.exists() && other.exists() && living.path().exists());
        remove_leftovers(dir.path()).unwrap();
        assert!(!other.exists() && living.path().exists());
        assert!(!path.exists(), "a probe leaves nothing");
    }

    #[test]
    fn a_probe_refuses_folders_missing_folders_and_read_only_files() {
        let dir = tempfile::tempdir().unwrap();
        let kind = |p: &Path| probe(p).unwrap_err().kind();
        assert_eq!(kind(dir.path()), io::ErrorKind::IsADirectory);
        assert_eq!(kind(&dir.path().join("no/a")), io::ErrorKind::NotFound);
        let kept = dir.path().join("kept");
        std::fs::write(&kept, b"x").unwrap();
        let mut permissions = std::fs::metadata(&kept).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&kept, permissions).unwrap();
        assert_eq!(kind(&kept), io::ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read(&kept).unwrap(), b"x");
    }

    #[test]
    fn names_as_long_as_the_file_system_allows_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x".repeat(255), "\u{e9}".repeat(127)] {
            write_atomically(&dir.path().join(name), b"x").unwrap();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link_and_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("deep");
        std::fs::create_dir(&deep).unwrap();
        for (link, to) in [("one", "deep/a"), ("two", "one")] {
            std::os::unix::fs::symlink(to, dir.path().join(link)).unwrap();
        }
        // The first time the link dangles.
        for text in ["first", "second"] {
            write_atomically(&dir.path().join("two"), text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(deep.join("a")).unwrap(), text);
        }
        assert!(dir.path().join("two").is_symlink() && dir.path().join("one").is_symlink());
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        assert!(write_atomically(&dir.path().join("round"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_receives_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || std::fs::read(path).unwrap()
        });
        probe(&path).unwrap();
        write_atomically(&path, b"through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), b"through the pipe");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the pipe alone");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        write_atomically(&path, b"y").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
