//! The files that a command will write: known, distinct, writable and none of its inputs, before the work begins.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::model::is_model;

/// A file that will be written, with the one that goes beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The file.
    pub path: PathBuf,
    /// For a caffemodel: its description.
    pub prototxt: Option<PathBuf>,
    /// A user's prototxt that stays where the description would have gone.
    pub kept: Option<PathBuf>,
}

impl Planned {
    /// All paths that are written.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.prototxt.as_deref())
    }

    /// A sentence about a file of the user's that stays, where there is one.
    pub fn note(&self) -> Option<String> {
        let (prototxt, kept) = (self.prototxt.as_ref()?.display(), self.kept.as_ref()?.display());
        let name = self.path.display();
        Some(format!("{kept} stays as it is; the description of {name} goes to {prototxt}"))
    }
}

/// Plans models at `outputs` by a command that reads `inputs`. A caffemodel comes with a prototxt: `X.prototxt`, or
/// `X.slq.prototxt` where the former is an input or, unless `overwrite`, a file that this library did not write.
///
/// The file beside an ONNX model of more than 2 GiB is not planned: it takes a name that no file has when it is written, so that it
/// replaces neither inputs nor other outputs ([`slq_onnx::write`]).
///
/// # Errors
/// [`Error::UnknownOutput`] for an unknown ending, otherwise those of [`check_paths`].
pub fn plan_models(outputs: &[PathBuf], inputs: &[PathBuf], overwrite: bool) -> Result<Vec<Planned>, Error> {
    outputs.iter().try_for_each(|o| check_ending(o))?;
    let plan: Vec<Planned> =
        outputs.iter().map(|o| planned(o, inputs, overwrite)).collect::<Result<_, _>>()?;
    let all: Vec<&Path> = plan.iter().flat_map(Planned::paths).collect();
    check_paths(&all, inputs)?;
    let packages = outputs.iter().filter(|o| is_package(o));
    packages.into_iter().try_for_each(|o| slq_coreml::check_place(o, overwrite))?;
    Ok(plan)
}

/// Checks that `outputs` are distinct, are none of the `inputs` and can be written: a temporary file is made beside each,
/// and what a killed process left there is removed.
///
/// # Errors
/// [`Error::File`], naming the output.
pub fn check_paths(outputs: &[&Path], inputs: &[PathBuf]) -> Result<(), Error> {
    for (i, output) in outputs.iter().enumerate() {
        if outputs[..i].iter().any(|o| slq_file::same_file(o, output)) {
            return Err(refused(
                output,
                "two outputs would be this file: give each a name of its own".into(),
            ));
        }
        check_no_input(output, inputs)?;
    }
    // Packages are folders, with a check of their own.
    for output in outputs.iter().filter(|o| !is_package(o)) {
        slq_file::probe(output).map_err(|e| {
            let folder = output.parent().filter(|p| !p.as_os_str().is_empty());
            refused(
                output,
                match folder {
                    Some(folder) if !folder.is_dir() => "its folder does not exist".into(),
                    _ => format!("this output cannot be written: {e}"),
                },
            )
        })?;
    }
    Ok(())
}

/// Checks that the folder `output` is none of the `inputs` and that one can be made in its place.
///
/// # Errors
/// [`Error::File`], naming the output.
pub fn check_folder(output: &Path, inputs: &[PathBuf]) -> Result<(), Error> {
    check_no_input(output, inputs)?;
    let probe = slq_file::temporary_folder_beside(output).map(drop);
    probe.map_err(|e| refused(output, format!("this output cannot be written: {e}")))
}

/// Checks that an output that holds `what`, and no model, does not have the ending of one: a model may have that name already.
///
/// # Errors
/// [`Error::File`], naming the output and the `usual` ending.
pub fn check_no_model(output: &Path, what: &str, usual: &str) -> Result<(), Error> {
    let Some(ending) = output.extension().and_then(OsStr::to_str) else { return Ok(()) };
    let lower = output.with_extension(ending.to_ascii_lowercase());
    if check_ending(&lower).is_err() && !is_model(&lower) {
        return Ok(());
    }
    let reason = format!(
        "{what} is written here, and .{ending} is the ending of a model: name a file that ends in {usual}"
    );
    Err(refused(output, reason))
}

/// Whether the path names a Core ML package.
pub(crate) fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "mlpackage")
}

fn check_no_input(output: &Path, inputs: &[PathBuf]) -> Result<(), Error> {
    let Some(input) = inputs.iter().find(|input| slq_file::same_file(input, output)) else { return Ok(()) };
    let reason = format!("this output would replace the input '{}': give it another name", input.display());
    Err(refused(output, reason))
}

fn refused(path: &Path, reason: String) -> Error {
    Error::File { path: path.into(), reason }
}

/// Checks that a model can be written under the ending of `path`.
fn check_ending(path: &Path) -> Result<(), Error> {
    match path.extension().and_then(OsStr::to_str) {
        Some("onnx" | "caffemodel" | "safetensors" | "slq" | "tflite" | "mlpackage") => Ok(()),
        _ => Err(Error::UnknownOutput(path.into())),
    }
}

fn planned(path: &Path, inputs: &[PathBuf], overwrite: bool) -> Result<Planned, Error> {
    let alone = Planned { path: path.into(), prototxt: None, kept: None };
    if path.extension().and_then(OsStr::to_str) != Some("caffemodel") {
        return Ok(alone);
    }
    let usual = path.with_extension("prototxt");
    let is_input = |p: &Path| inputs.iter().any(|input| slq_file::same_file(input, p));
    let free = |p: &Path| !is_input(p) && (overwrite || !p.exists() || slq_caffe::is_own_prototxt(p));
    if free(&usual) {
        return Ok(Planned { prototxt: Some(usual), ..alone });
    }
    let ours = path.with_extension("slq.prototxt");
    if free(&ours) {
        return Ok(Planned { prototxt: Some(ours), kept: Some(usual), ..alone });
    }
    let (usual, ours) = (usual.display(), ours.display());
    let reason = format!(
        "its description has no place: '{usual}' and '{ours}' are others' files; give another name, or --overwrite"
    );
    Err(refused(path, reason))
}

/// Checks that [`Model::save`](crate::Model::save) knows the ending of `path` and that it can be written; for use before a
/// long training.
///
/// # Errors
/// [`Error::UnknownOutput`]; [`Error::File`] where the file cannot be written, with what the file system says.
pub fn check_output(path: &Path) -> Result<(), Error> {
    check_ending(path)?;
    check_paths(&[path], &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(outputs: &[PathBuf], inputs: &[PathBuf]) -> String {
        plan_models(outputs, inputs, true).unwrap_err().to_string()
    }

    #[test]
    fn outputs_are_checked_before_the_work() {
        assert!(matches!(check_output(Path::new("x.h5")), Err(Error::UnknownOutput(_))));
        assert!(matches!(check_output(Path::new("no/such/folder/x.onnx")), Err(Error::File { .. })));
        let dir = tempfile::tempdir().unwrap();
        assert!(check_output(&dir.path().join("x.onnx")).is_ok());
        let folder = dir.path().join("d.onnx");
        std::fs::create_dir(&folder).unwrap();
        assert!(check_output(&folder).unwrap_err().to_string().contains("folder"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a check leaves nothing");
    }

    #[test]
    fn an_output_is_no_input_and_no_other_output() {
        let dir = tempfile::tempdir().unwrap();
        let [net, link, other] = ["net.onnx", "link.onnx", "net.caffemodel"].map(|n| dir.path().join(n));
        std::fs::write(&net, "x").unwrap();
        std::fs::hard_link(&net, &link).unwrap();
        let inputs = [net.clone()];
        assert!(refusal(std::slice::from_ref(&net), &inputs).contains("replace the input"));
        assert!(refusal(&[link], &inputs).contains("replace the input"));
        let twice = [other.clone(), dir.path().join(".").join("net.caffemodel")];
        assert!(refusal(&twice, &inputs).contains("two outputs"));
        assert!(plan_models(&[other], &inputs, false).is_ok());
        assert_eq!(std::fs::read(&net).unwrap(), b"x");
        let folder = dir.path().to_path_buf();
        assert!(check_folder(&folder, std::slice::from_ref(&folder)).is_err());
        assert!(check_folder(&folder.join("new"), &[folder]).is_ok());
    }

    #[test]
    fn a_users_prototxt_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let [model, usual, ours] =
            ["net.caffemodel", "net.prototxt", "net.slq.prototxt"].map(|n| dir.path().join(n));
        let plan = |inputs: &[PathBuf], overwrite| {
            let mut plan = plan_models(std::slice::from_ref(&model), inputs, overwrite)?;
            Ok::<_, Error>(plan.remove(0))
        };
        let place = |inputs: &[PathBuf], overwrite| plan(inputs, overwrite).unwrap().prototxt.unwrap();
        assert_eq!(place(&[], false), usual);
        std::fs::write(&usual, "name: 'mine'").unwrap();
        let kept = plan(&[], false).unwrap();
        assert_eq!((kept.prototxt.as_ref(), kept.kept.as_ref()), (Some(&ours), Some(&usual)));
        assert!(kept.note().unwrap().contains("net.slq.prototxt"));
        assert_eq!(place(&[], true), usual);
        // An input is never replaced, whoever wrote it.
        assert_eq!(place(std::slice::from_ref(&usual), true), ours);
        std::fs::write(&ours, "name: 'mine, too'").unwrap();
        assert!(plan(&[], false).unwrap_err().to_string().contains("--overwrite"));
        std::fs::write(&usual, "# Written by slq 0.2.0\nname: 'net'").unwrap();
        assert_eq!(place(&[], false), usual);
    }
}
