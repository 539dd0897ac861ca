//! From tensors that were found and the bytes of their storages to weights.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;
use slq_graph::{Tensor, TensorData, Weight};

use crate::error::PytorchError;
use crate::tensors::Found;

/// Reads the tensors that were found; `storage` gives the bytes of one by its key.
pub(crate) fn weights(
    path: &Path,
    found: &Found,
    mut storage: impl FnMut(&str) -> Result<Option<Vec<u8>>, PytorchError>,
) -> Result<IndexMap<String, Weight>, PytorchError> {
    let wrong = |tensor: &str, reason: String| PytorchError::Tensor {
        path: path.into(),
        tensor: tensor.into(),
        reason,
    };
    if let Some((name, reason)) = &found.refused {
        return Err(wrong(name, reason.clone()));
    }
    if found.views.is_empty() {
        return Err(PytorchError::Empty { path: path.into(), module: found.module });
    }
    // Tensors that share a storage are read from it together, each storage once.
    let mut sharers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, view) in found.views.values().enumerate() {
        sharers.entry(&view.storage).or_default().push(at);
    }
    let mut tensors: Vec<Option<Tensor>> = vec![None; found.views.len()];
    for view in found.views.values() {
        let Some(together) = sharers.remove(view.storage.as_str()) else { continue };
        let Some(bytes) = storage(&view.storage)? else {
            let name = found.views.get_index(together[0]).map_or("?", |(n, _)| n);
            return Err(wrong(name, format!("its storage `{}` is missing", view.storage)));
        };
        let mut budget = bytes.len();
        for at in together {
            let Some((name, view)) = found.views.get_index(at) else { continue };
            let data = view.read(&bytes).map_err(|reason| wrong(name, reason))?;
            // Several names for the same elements are honest (tied weights), many are not.
            match budget.checked_sub(data.len()) {
                Some(left) => budget = left,
                None if at < 64 + found.views.len() / 2 => {}
                None => return Err(wrong(name, "too many tensors share its storage".into())),
            }
            let data = TensorData::from_le_bytes(view.dtype, data.into());
            let tensor = Tensor::new(view.size.clone(), data).map_err(|e| wrong(name, e.to_string()))?;
            tensors[at] = Some(tensor);
        }
    }
    let named = found.views.keys().cloned().zip(tensors);
    Ok(named.filter_map(|(name, tensor)| Some((name, tensor?.into()))).collect())
}
