//! Batches that fit into memory.

use slq_compress::rows;
use slq_graph::{Tensor, TensorData};

use crate::Error;

/// Largest difference between the outputs of an example alone and beside others, as a share of the largest output, that
/// rounding explains.
const TOLERANCE: f32 = 1e-3;

/// Tensors by name.
type Named = [(String, Tensor)];

/// What `work` makes of the largest batch up to `most` that fits into memory, and that batch: where it does not fit, `work` is
/// tried again with a smaller one.
///
/// # Errors
/// Those of `work`; that of memory where not even a batch of 1 fits.
pub fn fitting_batch<T>(
    most: usize,
    mut work: impl FnMut(usize) -> Result<T, Error>,
) -> Result<(T, usize), Error> {
    let mut batch = most;
    loop {
        match work(batch) {
            Ok(done) => return Ok((done, batch)),
            Err(error) => match error.smaller_batch().filter(|_| batch > 1) {
                // An estimate; and steps are never small, so that there are few.
                Some(fits) => batch = if fits == 0 { batch / 2 } else { fits.min(batch * 9 / 10).max(1) },
                None => return Err(error),
            },
        }
    }
}

/// Runs a network on the examples of `inputs`, the entries of their first axes, `batch` at a time.
///
/// # Errors
/// Those of `run`; [`Error::Argument`] for inputs or outputs without an entry for each example, and for a network whose outputs
/// for an example depend on the examples beside it (tried with the first two).
pub fn run_in_batches(
    inputs: &Named,
    batch: usize,
    mut run: impl FnMut(&Named) -> Result<Vec<(String, Tensor)>, Error>,
) -> Result<Vec<(String, Tensor)>, Error> {
    let examples = examples(inputs)?;
    if batch == 0 {
        return Err(Error::Argument("--batch 0: give 1 or more".into()));
    }
    if batch >= examples {
        return run(inputs);
    }
    check_alone(inputs, &mut run)?;
    let mut outputs: Vec<(String, Vec<usize>, TensorData)> = Vec::new();
    for first in (0..examples).step_by(batch) {
        let count = batch.min(examples - first);
        for (place, (name, tensor)) in run(&part(inputs, first, count)?)?.into_iter().enumerate() {
            let rest = entries(&name, &tensor, count)?.to_vec();
            match outputs.get_mut(place) {
                None => outputs.push((name, rest, tensor.into_data())),
                Some((_, known, all)) if *known == rest => join(all, tensor.into_data()),
                Some((_, known, _)) => {
                    return Err(not_in_parts(&name, &format!("has entries of {known:?} and of {rest:?}")));
                }
            }
        }
    }
    let whole = |(name, rest, data): (String, Vec<usize>, TensorData)| {
        Ok((name, Tensor::new([&[examples], rest.as_slice()].concat(), data)?))
    };
    outputs.into_iter().map(whole).collect()
}

/// The number of examples of the inputs.
///
/// # Errors
/// [`Error::Argument`] where they do not have one.
pub fn examples(inputs: &Named) -> Result<usize, Error> {
    let extent = |(_, t): &(String, Tensor)| t.shape().first().copied();
    let first = inputs.first().and_then(extent).filter(|&n| n > 0);
    match first.filter(|_| inputs.iter().all(|i| extent(i) == first)) {
        Some(examples) => Ok(examples),
        None => {
            let shapes: Vec<String> =
                inputs.iter().map(|(n, t)| format!("'{n}' of {:?}", t.shape())).collect();
            let text =
                "--batch: the inputs have no common number of examples, by which they could be run in parts";
            Err(Error::Argument(format!("{text}: {}", shapes.join(", "))))
        }
    }
}

fn part(inputs: &Named, first: usize, count: usize) -> Result<Vec<(String, Tensor)>, Error> {
    let one = |(name, tensor): &(String, Tensor)| {
        let part = rows(tensor, first, count).map_err(slq_compress::CompressError::from)?;
        Ok((name.clone(), part))
    };
    inputs.iter().map(one).collect()
}

/// The shape of an output's entries, of which it must have `count`.
fn entries<'t>(name: &str, tensor: &'t Tensor, count: usize) -> Result<&'t [usize], Error> {
    match tensor.shape().split_first() {
        Some((extent, rest)) if *extent == count => Ok(rest),
        _ => Err(not_in_parts(name, &format!("is {:?} for {count} examples", tensor.shape()))),
    }
}

fn not_in_parts(name: &str, what: &str) -> Error {
    let reason = "the network cannot be run in parts; leave out --batch";
    Error::Argument(format!("--batch: output '{name}' {what}: {reason}"))
}

/// Checks that the first example has the same outputs alone and beside the second. Where two do not fit into memory, nothing is
/// checked.
fn check_alone(
    inputs: &Named,
    run: &mut impl FnMut(&Named) -> Result<Vec<(String, Tensor)>, Error>,
) -> Result<(), Error> {
    let beside = match run(&part(inputs, 0, 2)?) {
        Err(error) if error.smaller_batch().is_some() => return Ok(()),
        outputs => outputs?,
    };
    let alone = run(&part(inputs, 0, 1)?)?;
    for ((name, both), (_, one)) in beside.iter().zip(&alone) {
        entries(name, both, 2)?;
        entries(name, one, 1)?;
        let both = rows(both, 0, 1).map_err(slq_compress::CompressError::from)?;
        let same = match (both.as_f32(), one.as_f32()) {
            (Some(a), Some(b)) => {
                let largest = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let near =
                    |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x - y).abs() <= TOLERANCE * largest;
                a.len() == b.len() && a.iter().zip(b).all(near)
            }
            _ => both == *one,
        };
        if !same {
            return Err(not_in_parts(name, "of an example depends on the examples beside it"));
        }
    }
    Ok(())
}

/// Adds values of the same type.
fn join(all: &mut TensorData, more: TensorData) {
    match (all, more) {
        (TensorData::F32(a), TensorData::F32(b)) => a.extend(b),
        (TensorData::I64(a), TensorData::I64(b)) => a.extend(b),
        (TensorData::I32(a), TensorData::I32(b)) => a.extend(b),
        (TensorData::U8(a), TensorData::U8(b)) | (TensorData::Raw(_, a), TensorData::Raw(_, b)) => {
            a.extend(b)
        }
        (TensorData::Bool(a), TensorData::Bool(b)) => a.extend(b),
        // A network gives the same types every time; otherwise the lengths would not fit the shape, which is an error.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use slq_engine::EngineError;

    use super::*;

    fn named(values: &[f32]) -> Vec<(String, Tensor)> {
        vec![("x".into(), Tensor::f32(vec![values.len(), 1], values.to_vec()).unwrap())]
    }

    fn memory(batch: usize, fits: usize) -> Error {
        EngineError::Memory { batch, bytes: 2, available: 1, fits }.into()
    }

    #[test]
    fn batches_shrink_until_they_fit_and_no_further() {
        let up_to = |limit: usize, guess: usize| {
            let mut tried = Vec::new();
            let done = fitting_batch(100, |batch| {
                tried.push(batch);
                if batch <= limit { Ok(batch) } else { Err(memory(batch, guess.min(batch - 1))) }
            });
            (done.map(|(made, used)| (made == used).then_some(used)), tried)
        };
        assert_eq!(up_to(100, 0).0.unwrap(), Some(100));
        assert_eq!(up_to(40, 37).0.unwrap(), Some(37));
        assert_eq!(up_to(1, 99).0.unwrap(), Some(1));
        let (none, tried) = up_to(0, 0);
        assert!(none.is_err() && tried == [100, 50, 25, 12, 6, 3, 1], "{tried:?}");
        let other = fitting_batch(4, |_| -> Result<(), Error> { Err(Error::Argument("x".into())) });
        assert!(matches!(other, Err(Error::Argument(_))));
    }

    #[test]
    fn parts_give_the_outputs_of_the_whole() {
        let double = |inputs: &Named| {
            let values: Vec<f32> = inputs[0].1.as_f32().unwrap().iter().map(|v| 2.0 * v).collect();
            Ok(vec![("y".to_owned(), Tensor::f32(vec![values.len(), 1], values).unwrap())])
        };
        let inputs = named(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        for batch in [1, 2, 4, 5, 100] {
            let outputs = run_in_batches(&inputs, batch, double).unwrap();
            assert_eq!(outputs[0].1.as_f32().unwrap(), [2.0, 4.0, 6.0, 8.0, 10.0], "{batch}");
            assert_eq!(outputs[0].1.shape(), [5, 1]);
        }
    }

    #[test]
    fn what_mixes_examples_is_refused() {
        let inputs = named(&[1.0, 2.0, 3.0]);
        let mean = |inputs: &Named| {
            let values = inputs[0].1.as_f32().unwrap();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            Ok(vec![("y".to_owned(), Tensor::f32(vec![values.len(), 1], vec![mean; values.len()]).unwrap())])
        };
        let said = run_in_batches(&inputs, 1, mean).unwrap_err().to_string();
        assert!(said.contains("'y'") && said.contains("beside it"), "{said}");
        let sum = |_: &Named| Ok(named(&[6.0]));
        let said = run_in_batches(&inputs, 2, sum).unwrap_err().to_string();
        assert!(said.contains("for 2 examples"), "{said}");
        let mut uneven = inputs.clone();
        uneven.extend(named(&[1.0]));
        assert!(examples(&uneven).unwrap_err().to_string().contains("common number"));
    }
}
