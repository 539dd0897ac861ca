//! Run directories of a job that several processes do together.

use std::path::{Path, PathBuf};

use slq_compress::{CompressError, Recipe};
use slq_reduce::Reducer;
use tempfile::TempDir;

use super::run_dir_error;
use crate::Error;

/// The run directory of one process: that of the job in the first, a temporary copy of it in the others, so that the
/// directory need not be on a file system that all of them reach.
#[derive(Debug)]
pub(super) enum Own<'a> {
    Job(Option<&'a Path>),
    Copy(TempDir),
}

/// Largest file that is sent: more is not held in memory at once.
const MOST: u64 = 1 << 34;

impl<'a> Own<'a> {
    /// The directory of this process; what an earlier sitting left in `run_dir` goes to all of them.
    ///
    /// # Errors
    /// A directory that cannot be read or made, [`CompressError::Reduce`].
    pub(super) fn of(run_dir: Option<&'a Path>, reducer: &dyn Reducer) -> Result<Self, Error> {
        let Some(dir) = run_dir.filter(|_| reducer.size() > 1) else { return Ok(Own::Job(run_dir)) };
        let first = reducer.rank() == 0;
        let copy = match first {
            true => None,
            false => Some(tempfile::tempdir().map_err(|e| run_dir_error(&std::env::temp_dir(), e))?),
        };
        let files = if first && dir.exists() { files(dir)? } else { Vec::new() };
        let names: Vec<String> = files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
        let names = send(reducer, names.join("\n").into_bytes())?;
        let names = String::from_utf8(names).map_err(|e| run_dir_error(dir, e))?;
        for name in names.lines() {
            let bytes = if first { read(&dir.join(name))? } else { Vec::new() };
            let bytes = send(reducer, bytes)?;
            if let Some(copy) = &copy {
                write(copy.path(), name, &bytes)?;
            }
        }
        Ok(copy.map_or(Own::Job(run_dir), Own::Copy))
    }

    /// Its path, where there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Own::Job(path) => *path,
            Own::Copy(copy) => Some(copy.path()),
        }
    }
}

/// Checks that all processes do the same job, before they exchange anything whose length or number depends on it.
///
/// # Errors
/// [`CompressError::Processes`], [`CompressError::Reduce`].
pub(super) fn check_recipe(recipe: &Recipe, resume: bool, reducer: &dyn Reducer) -> Result<(), Error> {
    if reducer.size() == 1 {
        return Ok(());
    }
    let text = serde_json::to_vec(&(recipe, resume)).map_err(|e| run_dir_error(Path::new("recipe"), e))?;
    // All must give as many bytes.
    let length = (text.len() as u64).to_le_bytes();
    let differs = match reducer.first_that_differs(&length).map_err(CompressError::from)? {
        None => reducer.first_that_differs(&text).map_err(CompressError::from)?,
        other => other,
    };
    match differs {
        Some(rank) => Err(CompressError::Processes { rank, what: "recipe or seed" }.into()),
        None => Ok(()),
    }
}

fn send(reducer: &dyn Reducer, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    Ok(reducer.broadcast(bytes).map_err(CompressError::from)?)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path).map_err(|e| run_dir_error(path, e))?.len();
    if length > MOST {
        return Err(run_dir_error(path, "it is too large to be sent to the other processes"));
    }
    std::fs::read(path).map_err(|e| run_dir_error(path, e))
}

/// Writes a file that came from the first process; its name may not lead out of `dir`.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let inside = |c| matches!(c, std::path::Component::Normal(_));
    if !Path::new(name).components().all(inside) {
        return Err(run_dir_error(Path::new(name), "process 0 names a file outside of the run directory"));
    }
    let path = dir.join(name);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| std::fs::write(&path, bytes)).map_err(|e| run_dir_error(&path, e))
}

/// The files below `dir` less the lock and what a killed process left, in a fixed order, relative to it. Links are left out.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| run_dir_error(&folder, e))? {
            let entry = entry.map_err(|e| run_dir_error(&folder, e))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(|e| run_dir_error(&path, e))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && name != "lock" && !name.to_string_lossy().ends_with(".slq-tmp") {
                found.extend(path.strip_prefix(dir).map(Path::to_path_buf));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_gets_the_files_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let stage = dir.path().join("1-quantize");
        std::fs::create_dir_all(&stage).unwrap();
        for (name, text) in [("state.json", "{}"), ("round-1.safetensors", "weights"), (".x.slq-tmp", "half")]
        {
            std::fs::write(stage.join(name), text).unwrap();
        }
        std::fs::write(dir.path().join("lock"), "").unwrap();
        std::fs::write(dir.path().join("recipe.toml"), "").unwrap();
        let wanted = ["1-quantize/round-1.safetensors", "1-quantize/state.json", "recipe.toml"];
        std::thread::scope(|scope| {
            for rank in slq_reduce::threads(3) {
                let dir = dir.path();
                scope.spawn(move || {
                    let own = Own::of(Some(dir), &rank).unwrap();
                    let path = own.path().unwrap();
                    assert_eq!(path == dir, rank.rank() == 0);
                    let found: Vec<_> = files(path).unwrap();
                    assert_eq!(found, wanted.map(PathBuf::from));
                    let text = std::fs::read(path.join("1-quantize/round-1.safetensors")).unwrap();
                    assert_eq!(text, b"weights");
                });
            }
        });
    }

    #[test]
    fn another_recipe_in_one_process_is_refused_by_name() {
        let jobs = |seed, steps| {
            let quantize = slq_compress::Quantize::slq(4)
                .training(|t| t.length = slq_compress::Length::Iterations(steps));
            Recipe { seed, ..Recipe::new(quantize) }
        };
        for (odd, fits) in [(jobs(0, 5), true), (jobs(1, 5), false), (jobs(0, 1000), false)] {
            std::thread::scope(|scope| {
                for rank in slq_reduce::threads(3) {
                    let job = if rank.rank() == 2 { odd.clone() } else { jobs(0, 5) };
                    scope.spawn(move || match check_recipe(&job, false, &rank) {
                        Ok(()) => assert!(fits),
                        Err(error) => {
                            let said = error.to_string();
                            assert!(!fits && said.contains("process 2") && said.contains("recipe"), "{said}");
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_file_outside_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["../x", "/x", "a/../../x"] {
            assert!(write(dir.path(), name, b"").is_err(), "{name}");
        }
    }
}
