//! The place of a job: its run directory, locked, and removed where the job failed before anything in it was worth keeping.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slq_compress::CompressError;
use slq_file::Lock;

use super::{lock, run_dir_error};
use crate::Error;

/// Name of the job file in a run directory.
pub const RECIPE: &str = "recipe.toml";

/// A run directory, locked.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    lock: Arc<Lock>,
    /// The folders that this job made: the directory and those above it, the innermost first; none where it was there before.
    made: Vec<PathBuf>,
}

impl Place {
    /// A directory that is there.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where another process works in it.
    pub(super) fn there(dir: &Path) -> Result<Self, Error> {
        Ok(Self { dir: dir.into(), lock: Arc::new(lock(dir)?), made: Vec::new() })
    }

    /// A directory that is made where it is not there.
    ///
    /// # Errors
    /// [`CompressError::RunDir`] where it cannot be made, or another process works in it.
    pub(super) fn made(dir: &Path) -> Result<Self, Error> {
        let missing = |d: &&Path| !d.as_os_str().is_empty() && !d.exists();
        let made = dir.ancestors().take_while(missing).map(Path::to_path_buf).collect();
        std::fs::create_dir_all(dir).map_err(|e| run_dir_error(dir, e))?;
        Ok(Self { made, ..Self::there(dir)? })
    }

    /// Its lock.
    pub(super) fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    /// After the job ended in `error`: removes a directory that this job made and that holds nothing but the lock, the job file
    /// and the state of a first stage that has kept no weights yet. A stopped job keeps it, to go on in. That something cannot
    /// be removed does no harm.
    pub(super) fn remove_unused(&self, error: &Error) {
        let stopped = matches!(error, Error::Compress(CompressError::Interrupted));
        if stopped || self.made.is_empty() {
            return;
        }
        let Some((folders, files)) = self.unused() else { return };
        files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        folders.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
        // The lock goes last: until then no other process begins here.
        for file in [RECIPE, "lock"] {
            let _ = std::fs::remove_file(self.dir.join(file));
        }
        // Folders that hold something stay.
        self.made.iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }

    /// Folders, the innermost first, and files of a directory that holds nothing worth keeping, less lock and job file; `None`
    /// where it does, or where it cannot be read.
    fn unused(&self) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (mut folders, mut files, mut next) = (Vec::new(), Vec::new(), vec![self.dir.clone()]);
        while let Some(folder) = next.pop() {
            let first = folder.parent() == Some(&self.dir) && begins(&folder, "1-");
            for entry in std::fs::read_dir(&folder).ok()? {
                let entry = entry.ok()?;
                let name = entry.file_name();
                match entry.file_type().ok()?.is_dir() {
                    true => {
                        folders.push(entry.path());
                        next.push(entry.path());
                    }
                    false if folder == self.dir && (name == RECIPE || name == "lock") => {}
                    // Without weights beside it, it counts no step.
                    false if first && name == "state.json" => files.push(entry.path()),
                    false => return None,
                }
            }
        }
        // A folder is found before those in it.
        folders.reverse();
        Some((folders, files))
    }
}

fn begins(folder: &Path, with: &str) -> bool {
    folder.file_name().is_some_and(|n| n.to_string_lossy().starts_with(with))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Error {
        Error::Argument("the first stage failed".into())
    }

    #[test]
    fn a_directory_without_a_checkpoint_goes_with_the_folders_made_for_it() {
        let top = tempfile::tempdir().unwrap();
        let (runs, dir) = (top.path().join("runs"), top.path().join("runs/net"));
        let begin = || {
            let place = Place::made(&dir).unwrap();
            std::fs::write(dir.join(RECIPE), "").unwrap();
            std::fs::create_dir_all(dir.join("1-quantize/trial-1")).unwrap();
            std::fs::write(dir.join("1-quantize/state.json"), "").unwrap();
            place
        };
        begin().remove_unused(&failed());
        assert!(!runs.exists());
        std::fs::create_dir(&runs).unwrap();
        begin().remove_unused(&failed());
        assert!(runs.exists() && !dir.exists(), "a folder that was there stays");
        begin().remove_unused(&Error::Compress(CompressError::Interrupted));
        assert!(dir.join(RECIPE).exists(), "a stopped job goes on");
        // It is there already, and so not removed by a job that begins in it.
        Place::made(&dir).unwrap().remove_unused(&failed());
        assert!(dir.join(RECIPE).exists());
    }

    #[test]
    fn whatever_else_a_directory_holds_is_kept() {
        let top = tempfile::tempdir().unwrap();
        for (number, file) in
            ["1-quantize/round-1.safetensors", "report.json", "2-tune/state.json", "1-quantize/lock"]
                .iter()
                .enumerate()
        {
            let dir = top.path().join(number.to_string());
            let place = Place::made(&dir).unwrap();
            for folder in ["1-quantize", "2-tune"] {
                std::fs::create_dir(dir.join(folder)).unwrap();
            }
            std::fs::write(dir.join("1-quantize/state.json"), "").unwrap();
            std::fs::write(dir.join(file), "").unwrap();
            place.remove_unused(&failed());
            let all = [file, "lock", "1-quantize/state.json"];
            assert!(all.iter().all(|f| dir.join(f).exists()), "{file}");
        }
    }
}
