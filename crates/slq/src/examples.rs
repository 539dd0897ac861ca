//! Data for networks with named inputs: arrays of an `.npz`, examples along the first axis, with labels or without.

use std::path::Path;

use slq_compress::{Following, TrainingData};
use slq_data::{InputArray, Portion, Split, Transform};
use slq_engine::{InputInfo, Isa};
use slq_graph::{DType, Dim, Graph, Tensor};

use crate::dataset::{DataOptions, Prepared, part};
use crate::detect::{Preprocessing, PreprocessingSource};
use crate::model::Model;
use crate::{Error, arrays};

/// Name of the array of labels.
const LABELS: &str = "labels";
/// Most examples that are kept back to compare on.
const MOST_KEPT: usize = 1000;

impl DataOptions {
    /// The examples for `model` in the `.npz` at `path`. Where no part is named, a fifth of them is kept back for the test.
    /// Without labels, the outputs of `model` itself stand for them.
    ///
    /// # Errors
    /// [`Error::File`] naming the array that is missing or does not fit, [`Error::Argument`] for options that concern images,
    /// and those of [`Following::new`].
    pub(crate) fn open_examples(&self, path: &Path, model: &Model, isa: Isa) -> Result<Prepared, Error> {
        if let Some(flag) = self.image_option() {
            let text = format!(
                "{flag} changes images, and '{}' holds inputs as the network takes them",
                path.display()
            );
            return Err(Error::Argument(text));
        }
        let whole = read(path, &model.graph)?;
        let split = |slice: &Option<String>| part(whole.clone(), slice.as_deref());
        let (train, test) = match (&self.train_subset, &self.test_subset) {
            (None, None) => {
                let kept = (whole.len() / 5).clamp(1, MOST_KEPT);
                whole.split_off_validation(Portion::Count(kept), 0)?
            }
            _ => (split(&self.train_subset)?, split(&self.test_subset)?),
        };
        let (train, validation) = self.validation_examples(train, &test, model)?;
        let transform = Transform::default();
        let following = match whole.is_labelled() {
            true => None,
            false => {
                Some(Following::new(model.graph.clone(), &train, &transform, &self.output_weights, isa)?)
            }
        };
        if let (None, Some(weight)) = (&following, self.output_weights.first()) {
            let text = format!(
                "--output-weight {}: the data has labels, which are trained towards",
                String::from(weight.clone())
            );
            return Err(Error::Argument(text));
        }
        let data = TrainingData { train, validation, test, transform: transform.clone(), following };
        let source = PreprocessingSource::Default;
        Ok(Prepared { data, preprocessing: Preprocessing::new(transform, source) })
    }

    fn validation_examples(
        &self,
        train: Split,
        test: &Split,
        model: &Model,
    ) -> Result<(Split, Option<Split>), Error> {
        match &self.validation {
            Some(text) if text.parse::<f64>().is_err() => {
                Ok((train, Some(read(Path::new(text), &model.graph)?)))
            }
            _ => self.validation(train, test),
        }
    }

    /// An option that is set and concerns images alone.
    fn image_option(&self) -> Option<&'static str> {
        [
            ("--scale", self.scale.is_some()),
            ("--mean", !self.mean.is_empty()),
            ("--std", !self.std.is_empty()),
            ("--channel-order", self.channel_order.is_some()),
            ("--resize", self.resize.is_some()),
            ("--crop", self.crop.is_some()),
            ("--mirror", self.mirror),
            ("--pad-crop", self.pad_crop.is_some()),
            ("--classes", self.classes.is_some()),
            ("--label-offset", self.label_offset > 0),
        ]
        .into_iter()
        .find_map(|(flag, set)| set.then_some(flag))
    }
}

/// Reads the examples of an `.npz`.
fn read(path: &Path, graph: &Graph) -> Result<Split, Error> {
    let fail = |reason: String| Error::File { path: path.into(), reason };
    let found = arrays::read_npz(path)?;
    split(graph, &found).map_err(fail)
}

/// The examples of named arrays, or what is wrong with them.
pub(crate) fn split(graph: &Graph, found: &[(String, Tensor)]) -> Result<Split, String> {
    let mut inputs = Vec::new();
    for input in graph.free_inputs() {
        let array = found.iter().find(|(n, _)| *n == input.name).map(|(_, t)| t).ok_or_else(|| {
            let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
            format!(
                "it has no array for the network's input '{}'; its arrays are {} (a dataset of images has x_train and y_train)",
                input.name,
                names.join(", ")
            )
        })?;
        let Some((_, shape)) = array.shape().split_first() else {
            return Err(format!("'{}' is a single number; examples go along the first axis", input.name));
        };
        let declared = input.shape.as_deref().map(|d| d.get(1..).unwrap_or_default());
        let fits = |dims: &[Dim]| {
            dims.len() == shape.len()
                && dims.iter().zip(shape).all(|(d, n)| !matches!(d, Dim::Known(k) if k != n))
        };
        if declared.is_some_and(|dims| !fits(dims)) {
            let declared = declared.unwrap_or_default();
            return Err(format!(
                "'{}' holds examples of {shape:?}, the network takes {declared:?}",
                input.name
            ));
        }
        inputs
            .push((InputInfo { name: input.name.clone(), dtype: input.dtype, shape: shape.to_vec() }, array));
    }
    let count = inputs.first().map_or(0, |(_, t)| t.shape()[0]);
    if let Some((info, other)) = inputs.iter().find(|(_, t)| t.shape()[0] != count) {
        return Err(format!(
            "'{}' has {} examples, '{}' has {count}",
            info.name,
            other.shape()[0],
            inputs[0].0.name
        ));
    }
    if count < 2 {
        return Err("it holds fewer than two examples".into());
    }
    let given: Vec<(&str, &Tensor)> = inputs.iter().map(|(i, t)| (i.name.as_str(), *t)).collect();
    let infos: Vec<InputInfo> = inputs.iter().map(|(i, _)| i.clone()).collect();
    let examples = slq_engine::examples(&infos, &given).map_err(|e| e.to_string())?;
    let is_input = infos.iter().any(|i| i.name == LABELS);
    let labels =
        found.iter().find(|(n, _)| n == LABELS && !is_input).map(|(_, t)| labels(t, count)).transpose()?;
    let arrays = infos.into_iter().map(|i| InputArray { name: i.name, shape: i.shape }).collect();
    Split::from_inputs(arrays, examples, labels).map_err(|e| e.to_string())
}

/// Classes, one for each example.
fn labels(tensor: &Tensor, count: usize) -> Result<Vec<u32>, String> {
    let values = tensor.to_i64().filter(|_| matches!(tensor.dtype(), DType::I64 | DType::I32));
    let values = values.ok_or("'labels' are not integers")?;
    if values.len() != count {
        return Err(format!("'labels' has {} values for {count} examples", values.len()));
    }
    let class = |v: i64| u32::try_from(v).map_err(|_| format!("'labels' holds {v}, which is no class"));
    values.into_iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use slq_graph::{TensorData, ValueInfo};

    use super::*;

    fn graph() -> Graph {
        let open = || Dim::Symbol("n".into());
        let input = |name: &str, dtype, dims| ValueInfo { name: name.into(), dtype, shape: Some(dims) };
        let inputs = vec![
            input("ids", DType::I64, vec![open(), open()]),
            input("scale", DType::F32, vec![open(), Dim::Known(2)]),
        ];
        Graph { inputs, ..Graph::default() }
    }

    fn integers(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>() as i64;
        Tensor::new(shape.to_vec(), TensorData::I64((0..count).collect())).unwrap()
    }

    fn floats(shape: &[usize]) -> Tensor {
        Tensor::f32(shape.to_vec(), vec![0.5; shape.iter().product()]).unwrap()
    }

    #[test]
    fn arrays_become_examples() {
        let found = [("ids".into(), integers(&[3, 4])), ("scale".into(), floats(&[3, 2]))];
        let examples = split(&graph(), &found).unwrap();
        assert_eq!((examples.len(), examples.is_labelled()), (3, false));
        assert_eq!(examples.inputs().unwrap()[0].shape, [4]);
        let labelled = [found.to_vec(), vec![("labels".into(), integers(&[3]))]].concat();
        assert_eq!(split(&graph(), &labelled).unwrap().labels(), [0, 1, 2]);
    }

    #[test]
    fn what_does_not_fit_is_said_in_a_sentence() {
        let ids = ("ids".to_string(), integers(&[3, 4]));
        let scale = ("scale".to_string(), floats(&[3, 2]));
        let cases: Vec<(Vec<(String, Tensor)>, &str)> = vec![
            (vec![ids.clone()], "no array for the network's input 'scale'"),
            (vec![ids.clone(), ("scale".into(), floats(&[3, 5]))], "'scale' holds examples of [5]"),
            (vec![ids.clone(), ("scale".into(), floats(&[2, 2]))], "'scale' has 2 examples, 'ids' has 3"),
            (vec![ids.clone(), ("scale".into(), integers(&[3, 2]))], "takes F32"),
            (vec![("ids".into(), floats(&[3, 4])), scale.clone()], "takes I64"),
            (vec![("ids".into(), integers(&[1, 4])), ("scale".into(), floats(&[1, 2]))], "fewer than two"),
            (vec![ids.clone(), scale.clone(), ("labels".into(), integers(&[2]))], "'labels' has 2 values"),
            (vec![ids, scale, ("labels".into(), floats(&[3]))], "not integers"),
        ];
        for (found, word) in cases {
            let said = split(&graph(), &found).unwrap_err();
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
