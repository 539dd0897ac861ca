//! The paths in a job file.

use std::path::{Path, PathBuf};

use super::file::JobFile;

impl JobFile {
    /// The files and folders that the job names and reads.
    pub fn input_files(&self) -> Vec<PathBuf> {
        let names = [&self.model, &self.teacher, &self.calibrate, &self.data.path, &self.data.validation]
            .into_iter()
            .flatten()
            .map(PathBuf::from);
        let paths = [&self.weights, &self.graph, &self.solver, &self.sensitivity, &self.data.classes];
        // Built-in names are no paths; no output has such a name.
        names.chain(paths.into_iter().flatten().cloned()).collect()
    }

    /// The job with all paths from the root, so that it can be resumed from any folder.
    #[must_use]
    pub(super) fn absolute(&self) -> JobFile {
        let mut job = self.clone();
        let data = &mut job.data;
        let names =
            [&mut job.model, &mut job.teacher, &mut job.calibrate, &mut data.path, &mut data.validation];
        for name in names.into_iter().flatten() {
            // A built-in name, such as `zoo:lenet` or `mnist-10k`, stays.
            if let (true, Some(path)) = (Path::new(name).exists(), from_root(Path::new(name)).to_str()) {
                *name = path.into();
            }
        }
        let paths =
            [&mut job.weights, &mut job.graph, &mut job.solver, &mut job.sensitivity, &mut data.classes];
        for path in paths.into_iter().flatten().chain(&mut job.outputs) {
            *path = from_root(path);
        }
        job
    }
}

/// The path from the root; as it is where the current folder is not known.
fn from_root(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_built_in_names_stay() {
        let job = JobFile {
            model: Some("zoo:lenet".into()),
            weights: Some("w.caffemodel".into()),
            outputs: vec!["out/small.onnx".into()],
            data: crate::DataOptions { path: Some("src".into()), ..Default::default() },
            ..JobFile::default()
        };
        let absolute = job.absolute();
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute.model.as_deref(), Some("zoo:lenet"));
        assert_eq!(absolute.weights, Some(here.join("w.caffemodel")));
        assert_eq!(absolute.outputs, [here.join("out/small.onnx")]);
        assert_eq!(absolute.data.path.map(PathBuf::from), Some(here.join("src")));
        let named = JobFile {
            data: crate::DataOptions { path: Some("mnist-10k".into()), ..Default::default() },
            ..JobFile::default()
        };
        assert_eq!(named.absolute().data.path.as_deref(), Some("mnist-10k"));
    }
}
