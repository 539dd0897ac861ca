//! Sizes of inputs that a model's file leaves open.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use slq_graph::{Dim, Graph};

use crate::Error;

/// The sizes of one input, `NAME=1x3x320x320`.
///
/// The first size is that of a batch: where the file leaves it open it stays open, since jobs choose their own batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InputShape {
    /// Name of the input.
    pub name: String,
    /// Its sizes.
    pub sizes: Vec<usize>,
}

impl FromStr for InputShape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad =
            || Error::Argument(format!("--input-shape {text}: give NAME=1x3x320x320, sizes of 1 or more"));
        // A name may hold an equals sign; sizes do not.
        let (name, sizes) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(bad)?;
        let size = |s: &str| s.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(bad);
        Ok(Self { name: name.into(), sizes: sizes.split('x').map(size).collect::<Result<_, _>>()? })
    }
}

impl TryFrom<String> for InputShape {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<InputShape> for String {
    fn from(shape: InputShape) -> Self {
        shape.to_string()
    }
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
        write!(f, "{}={}", self.name, sizes.join("x"))
    }
}

/// Gives the inputs of `graph` the sizes that its file leaves open.
///
/// # Errors
/// [`Error::Argument`] for an input that the network does not have, and for sizes that its file rules out.
pub(crate) fn fix(graph: &mut Graph, shapes: &[InputShape]) -> Result<(), Error> {
    for shape in shapes {
        let refuse = |reason: String| Error::Argument(format!("--input-shape {shape}: {reason}"));
        let names: Vec<String> = graph.free_inputs().map(|i| format!("'{}'", i.name)).collect();
        let Some(input) = graph.inputs.iter_mut().find(|i| i.name == shape.name) else {
            return Err(refuse(format!("the network has no such input; it has {}", names.join(", "))));
        };
        let declared = input.shape.clone().unwrap_or_else(|| vec![Dim::Unknown; shape.sizes.len()]);
        if declared.len() != shape.sizes.len() {
            return Err(refuse(format!("the input has {} sizes, not {}", declared.len(), shape.sizes.len())));
        }
        let mut sizes = Vec::with_capacity(declared.len());
        for (axis, (declared, &size)) in declared.into_iter().zip(&shape.sizes).enumerate() {
            sizes.push(match declared {
                Dim::Known(known) if known != size => {
                    return Err(refuse(format!("size {axis} is {known} in the model's file")));
                }
                // The batch.
                open @ (Dim::Symbol(_) | Dim::Unknown) if axis == 0 && shape.sizes.len() > 1 => open,
                _ => Dim::Known(size),
            });
        }
        input.shape = Some(sizes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use slq_graph::{DType, ValueInfo};

    use super::*;

    fn graph(shape: Option<Vec<Dim>>) -> Graph {
        let input = ValueInfo { name: "a=b".into(), dtype: DType::F32, shape };
        Graph { inputs: vec![input], ..Graph::default() }
    }

    fn fixed(shape: Option<Vec<Dim>>, text: &str) -> Result<Vec<Dim>, Error> {
        let mut graph = graph(shape);
        fix(&mut graph, &[text.parse()?])?;
        Ok(graph.inputs[0].shape.clone().unwrap())
    }

    #[test]
    fn open_sizes_are_filled_and_the_batch_stays_open() {
        let open = vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Unknown, Dim::Symbol("w".into())];
        let expected = vec![Dim::Symbol("N".into()), Dim::Known(3), Dim::Known(32), Dim::Known(40)];
        assert_eq!(fixed(Some(open.clone()), "a=b=1x3x32x40").unwrap(), expected);
        assert_eq!(fixed(None, "a=b=7").unwrap(), [Dim::Known(7)]);
        for (text, word) in [
            ("a=b=1x4x32x40", "size 1 is 3"),
            ("a=b=1x3x32", "has 4 sizes"),
            ("x=1x3x32x40", "it has 'a=b'"),
            ("a=b=1x0x32x40", "sizes of 1 or more"),
            ("1x3x32x40", "give NAME="),
        ] {
            let said = fixed(Some(open.clone()), text).unwrap_err().to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
