//! Solver states (Caffe's `solverstate`): iteration and optimiser state, to resume training.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::error::CaffeError;
use crate::info::Source;
use crate::proto;
use crate::read::{BlobSource, layers_and_blobs};
use crate::wire;

/// The state of a training after some iterations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SolverState {
    /// Iterations done.
    pub iteration: usize,
    /// Number of times the learning rate has been lowered (policies `step` and `multistep`); Caffe resumes counting from it.
    pub current_step: usize,
    /// The caffemodel of the same moment.
    pub learned_net: Option<PathBuf>,
    /// The optimiser's history (momentum) by weight. For Adam and AdaDelta it holds two values for each weight: all first
    /// ones, then all second ones. A weight that is not named has a history of zeros.
    pub history: Vec<(String, Vec<f32>)>,
}

/// The blobs of the net that have a history: each weight once, in the order of the layers.
fn owners(source: &Source) -> Result<Vec<BlobSource>, CaffeError> {
    let (_, blobs) = layers_and_blobs(source)?;
    let mut seen = HashSet::new();
    let first = |b: &BlobSource| b.constant.is_some() || seen.insert(b.weight.clone());
    Ok(blobs.into_iter().filter(first).collect())
}

/// Writes `state` for the net of `source`, which must be the net that is trained. The file appears by rename.
///
/// # Errors
/// [`CaffeError::Io`]; [`CaffeError::TooLarge`] above protobuf's 2 GB; [`CaffeError::State`] for a history of the wrong
/// length.
pub fn write_state(path: &Path, source: &Source, state: &SolverState) -> Result<(), CaffeError> {
    let owners = owners(source)?;
    let bad = |reason: String| CaffeError::State { path: path.into(), reason };
    let known = |name: &String| state.history.iter().find(|(n, _)| n == name).map(|(_, v)| v);
    let per_weight =
        |b: &BlobSource| Some(known(&b.weight)?.len() / b.shape.iter().product::<usize>().max(1));
    let parts = owners.iter().filter_map(per_weight).max().unwrap_or(1).max(1);
    let mut history = Vec::with_capacity(parts * owners.len());
    for part in 0..parts {
        for owner in &owners {
            let count: usize = owner.shape.iter().product();
            let data = match known(&owner.weight).filter(|_| owner.constant.is_none()) {
                Some(values) if values.len() == count * parts => values[part * count..][..count].to_vec(),
                Some(values) => {
                    let name = &owner.weight;
                    return Err(bad(format!(
                        "{} values of history for the {count} of `{name}`",
                        values.len()
                    )));
                }
                None => vec![0.0; count],
            };
            let dim = owner.shape.iter().map(|&d| d as i64).collect();
            let shape = Some(proto::BlobShape { dim });
            history.push(proto::BlobProto { shape, data, ..Default::default() });
        }
    }
    let number = |n: usize| i32::try_from(n).ok();
    let message = proto::SolverState {
        iter: number(state.iteration),
        learned_net: state.learned_net.as_ref().map(|p| p.display().to_string()),
        history,
        current_step: number(state.current_step),
    };
    let bytes = message.encoded_len() as u64;
    if bytes > wire::MAX_FILE {
        return Err(CaffeError::TooLarge { path: path.into(), bytes, limit: wire::MAX_FILE });
    }
    slq_file::write_atomically(path, &message.encode_to_vec()).map_err(CaffeError::io("write", path))
}

/// The caffemodel that a state names, without its history.
///
/// # Errors
/// As [`read_state`].
pub fn learned_net(path: &Path) -> Result<Option<PathBuf>, CaffeError> {
    Ok(decode(path)?.learned_net.filter(|n| !n.is_empty()).map(Into::into))
}

fn decode(path: &Path) -> Result<proto::SolverState, CaffeError> {
    let bytes = std::fs::metadata(path).map_err(CaffeError::io("read", path))?.len();
    if bytes > wire::MAX_FILE {
        return Err(CaffeError::TooLarge { path: path.into(), bytes, limit: wire::MAX_FILE });
    }
    let bytes = std::fs::read(path).map_err(CaffeError::io("read", path))?;
    proto::SolverState::decode(bytes.as_slice())
        .map_err(|e| CaffeError::State { path: path.into(), reason: e.to_string() })
}

/// Reads a state of the net of `source`.
///
/// # Errors
/// [`CaffeError::State`] for a file that is damaged, or whose history is that of another net; [`CaffeError::Io`].
pub fn read_state(path: &Path, source: &Source) -> Result<SolverState, CaffeError> {
    let message = decode(path)?;
    let bad = |reason: String| CaffeError::State { path: path.into(), reason };
    let owners = owners(source)?;
    let parts = message.history.len() / owners.len().max(1);
    if !(1..=2).contains(&parts) || parts * owners.len() != message.history.len() {
        let reason =
            format!("{} blobs of history for the net's {} blobs", message.history.len(), owners.len());
        return Err(bad(reason));
    }
    let mut history: Vec<(String, Vec<f32>)> = Vec::new();
    for (i, blob) in message.history.iter().enumerate() {
        let owner = &owners[i % owners.len()];
        let count: usize = owner.shape.iter().product();
        let values = &blob.data;
        if values.len() != count || values.iter().any(|v| !v.is_finite()) {
            let name = &owner.weight;
            return Err(bad(format!(
                "the history of `{name}` has {} values, not {count} finite ones",
                values.len()
            )));
        }
        if owner.constant.is_some() {
            continue;
        }
        match history.iter_mut().find(|(name, _)| *name == owner.weight) {
            Some((_, all)) => all.extend_from_slice(values),
            None => history.push((owner.weight.clone(), values.clone())),
        }
    }
    let count = |field: &str, v: i32| usize::try_from(v).map_err(|_| bad(format!("{field} is {v}")));
    Ok(SolverState {
        iteration: count("iter", message.iter())?,
        current_step: count("current_step", message.current_step())?,
        learned_net: message.learned_net.filter(|n| !n.is_empty()).map(Into::into),
        history,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Phase, ReadOptions};

    const NET: &str = "
        layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 4 } } }
        layer { name: 'a' type: 'InnerProduct' bottom: 'data' top: 'a' param { name: 'w' } param { name: 'b' }
                inner_product_param { num_output: 4 weight_filler { type: 'xavier' } } }
        layer { name: 'c' type: 'InnerProduct' bottom: 'a' top: 'c' param { name: 'w' } param { name: 'b' }
                inner_product_param { num_output: 4 weight_filler { type: 'xavier' } } }
        layer { name: 'd' type: 'InnerProduct' bottom: 'c' top: 'd'
                inner_product_param { num_output: 2 bias_term: false weight_filler { type: 'xavier' } } }";

    fn net() -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        let prototxt = dir.path().join("net.prototxt");
        std::fs::write(&prototxt, NET).unwrap();
        (dir, Source { prototxt, caffemodel: None, options: ReadOptions::new(Phase::Train) })
    }

    #[test]
    fn a_state_comes_back_with_one_history_or_two() {
        let (dir, source) = net();
        let path = dir.path().join("x.solverstate");
        for parts in [1, 2] {
            let history = |name: &str, n: usize| {
                (name.to_owned(), (0..n * parts).map(|i| i as f32 - 2.5).collect::<Vec<f32>>())
            };
            let state = SolverState {
                iteration: 500,
                current_step: 2,
                learned_net: Some("x.caffemodel".into()),
                history: vec![history("a.weight", 16), history("a.bias", 4), history("d.weight", 8)],
            };
            write_state(&path, &source, &state).unwrap();
            assert_eq!(read_state(&path, &source).unwrap(), state);
            assert_eq!(learned_net(&path).unwrap(), state.learned_net);
            // Shared weights have one history, as in Caffe.
            let blobs = decode(&path).unwrap().history;
            assert_eq!(blobs.len(), 3 * parts);
        }
    }

    #[test]
    fn weights_without_a_history_get_zeros() {
        let (dir, source) = net();
        let path = dir.path().join("x.solverstate");
        let history = vec![("d.weight".to_owned(), vec![1.0; 8])];
        write_state(&path, &source, &SolverState { history, ..Default::default() }).unwrap();
        let back = read_state(&path, &source).unwrap();
        assert_eq!(back.history[0], ("a.weight".into(), vec![0.0; 16]));
        assert_eq!(back.history[2], ("d.weight".into(), vec![1.0; 8]));
    }

    #[test]
    fn the_state_of_another_net_and_garbage_are_refused() {
        let (dir, source) = net();
        let path = dir.path().join("x.solverstate");
        let short = SolverState { history: vec![("d.weight".into(), vec![1.0; 7])], ..Default::default() };
        assert!(matches!(write_state(&path, &source, &short), Err(CaffeError::State { .. })));
        assert!(!path.exists());
        write_state(&path, &source, &SolverState::default()).unwrap();
        std::fs::write(&source.prototxt, NET.replace("num_output: 2", "num_output: 3")).unwrap();
        assert!(matches!(read_state(&path, &source), Err(CaffeError::State { .. })));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        assert!(matches!(read_state(&path, &source), Err(CaffeError::State { .. })));
    }
}
