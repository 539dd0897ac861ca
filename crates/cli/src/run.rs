//! `slq run`.

use std::path::{Path, PathBuf};

use serde_json::json;
use slq::engine::Session;
use slq::graph::{DType, Tensor};
use slq::inference::{examples, image_split, run_in_batches, run_session, split_tensor};
use slq::{Error, Model, PackedModel};

use crate::batch::BatchSize;
use crate::common::{Common, ModelArgs};
use crate::data::DataArgs;
use crate::packed::PackedArgs;

/// Run a network on inputs and write its outputs.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq run small.onnx --input digits.npy -o outputs.npy")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// An .npy array or an image; NAME=FILE where the network has several inputs
    #[arg(long, value_name = "[NAME=]FILE", required = true)]
    input: Vec<String>,
    /// Where the first output goes; further ones go beside it, as STEM.NAME.npy
    #[arg(short, long, value_name = "NPY")]
    output: PathBuf,
    /// Examples at once, or auto: as many as fit into memory [default: all]
    #[arg(long, value_name = "N|auto")]
    batch: Option<BatchSize>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    packed: PackedArgs,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    args.data.refuse_beside_inputs()?;
    slq::files::check_no_model(&args.output, "an array", ".npy")?;
    let (model, packed) = match args.packed.open(&args.model.model, common)? {
        Some(PackedModel { network, about }) => (about, Some(network)),
        None => (args.model.open(common.seed())?, None),
    };
    let inputs = inputs(&args, &model, common)?;
    let paths = paths(&args, &model, common)?;
    let mut session = match packed {
        Some(network) => network.session(common.isa()),
        None => Session::of(&model.graph, common.isa()),
    };
    let (outputs, batch) = outputs(args.batch, &inputs, &mut session, common)?;
    let mut written = Vec::new();
    for (path, (name, tensor)) in paths.iter().zip(&outputs) {
        slq::arrays::write(path, tensor)?;
        written.push(json!({ "name": name, "path": path, "shape": tensor.shape() }));
    }
    let text: Vec<String> =
        written.iter().map(|w| format!("{} {} -> {}", w["name"], w["shape"], w["path"])).collect();
    let mut json = json!({ "outputs": written });
    if let Some(batch) = batch {
        json["batch"] = batch.into();
    }
    common.print(&json, text.join("\n"));
    Ok(())
}

/// The outputs by name, and the examples at once, where that was asked for.
type Ran = (Vec<(String, Tensor)>, Option<usize>);

/// Runs the network, in parts where that was asked for.
fn outputs(
    asked: Option<BatchSize>,
    inputs: &[(String, Tensor)],
    session: &mut Session,
    common: &Common,
) -> Result<Ran, Error> {
    if asked.is_none() {
        return Ok((run_session(session, inputs)?, None));
    }
    let (outputs, batch) = BatchSize::run(asked, examples(inputs)?, common, |batch| {
        run_in_batches(inputs, batch, |part| run_session(session, part))
    })?;
    Ok((outputs, Some(batch)))
}

/// Where the outputs go; none replaces a file that is read.
fn paths(args: &Args, model: &Model, common: &Common) -> Result<Vec<PathBuf>, Error> {
    let paths = output_paths(&args.output, model.graph.outputs.iter().map(|o| o.name.as_str()));
    let mut files = args.model.job(&args.data, common.seed()).input_files();
    files.extend(
        args.input.iter().map(|given| given.split_once('=').map_or(given.as_str(), |(_, f)| f).into()),
    );
    files.extend(args.input.iter().map(PathBuf::from));
    slq::files::check_paths(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &files)?;
    Ok(paths)
}

/// The tensors of all inputs of the network.
fn inputs(args: &Args, model: &Model, common: &Common) -> Result<Vec<(String, Tensor)>, Error> {
    let names: Vec<String> = model.graph.inputs.iter().map(|i| i.name.clone()).collect();
    let mut inputs = Vec::new();
    for (place, given) in args.input.iter().enumerate() {
        let (name, file) = match given.split_once('=') {
            Some((name, file)) if names.iter().any(|n| n == name) => (name.to_string(), file),
            _ => {
                let name = names.get(place).ok_or_else(|| {
                    Error::Argument(format!(
                        "{} inputs given, the network has {}",
                        args.input.len(),
                        names.len()
                    ))
                })?;
                (name.clone(), given.as_str())
            }
        };
        if inputs.iter().any(|(other, _)| *other == name) {
            return Err(Error::Argument(format!("--input {given}: input '{name}' is given twice")));
        }
        let tensor = match Path::new(file).extension().and_then(|e| e.to_str()) {
            Some("npy") => {
                let input = model.graph.inputs.iter().find(|i| i.name == name);
                slq::arrays::read_as(Path::new(file), input.map_or(DType::F32, |i| i.dtype))?
            }
            _ => {
                let image = image_split(Path::new(file))?;
                let preprocessing = args.data.options().preprocessing_for(model, &image)?;
                preprocessing.note().iter().for_each(|n| common.note(format_args!("note: {n}")));
                split_tensor(&image, &preprocessing.transform)?
            }
        };
        inputs.push((name, tensor));
    }
    if let Some(missing) = names.iter().find(|n| !inputs.iter().any(|(m, _)| m == *n)) {
        return Err(Error::Argument(format!("input '{missing}' is missing: give --input {missing}=FILE")));
    }
    Ok(inputs)
}

/// A file of its own for each output: `first`, then STEM.NAME.npy. Names that differ only in characters that a file name
/// lacks, or in case, get a number.
fn output_paths<'a>(first: &Path, names: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for name in names {
        let name = name.replace(|c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c), "_");
        let taken =
            |path: &PathBuf| paths.iter().any(|p| p.as_os_str().eq_ignore_ascii_case(path.as_os_str()));
        let mut path = first.to_path_buf();
        let mut number = 1;
        while taken(&path) {
            path = match number {
                1 => first.with_extension(format!("{name}.npy")),
                i => first.with_extension(format!("{name}.{i}.npy")),
            };
            number += 1;
        }
        paths.push(path);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_whose_names_become_one_file_get_numbers() {
        let paths = output_paths(Path::new("d/y.npy"), ["y", "a/b", "a:b", "A_B", "c"].into_iter());
        let names: Vec<&str> = paths.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, ["d/y.npy", "d/y.a_b.npy", "d/y.a_b.2.npy", "d/y.A_B.3.npy", "d/y.c.npy"]);
    }
}
