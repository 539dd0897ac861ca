//! One writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// A lock on a folder, held until it is dropped or its process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    /// The system releases the lock with the open file.
    _file: File,
}

impl Lock {
    /// Locks `folder`, which must exist; `None` where another process holds the lock. The file `lock` in it stays: its lock
    /// counts, not its existence, so that a killed process leaves nothing to clean up.
    ///
    /// # Errors
    /// Whatever the file system reports. Where it has no locks, the lock is taken to be free.
    pub fn take(folder: &Path) -> io::Result<Option<Self>> {
        let mut file =
            OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) if e.kind() != io::ErrorKind::Unsupported => Err(e),
            _ => {
                file.set_len(0)?;
                writeln!(file, "held by process {}", std::process::id())?;
                Ok(Some(Self { _file: file }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        // What a killed process left does not count.
        std::fs::write(dir.path().join("lock"), "held by process 1").unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(dir.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::take(dir.path()).unwrap().is_some());
        assert!(Lock::take(&dir.path().join("no")).is_err());
    }
}
