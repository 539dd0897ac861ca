//! The tensors that a pickle describes: `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)` and its relatives.

use std::collections::HashMap;

use indexmap::IndexMap;
use slq_graph::DType;

use crate::machine::Pickle;
use crate::value::{Heap, Id, Value};

/// How deep dicts in dicts are searched for tensors.
const DEPTH: usize = 8;
/// Most values that are looked at: dicts may share what they hold, so that a small pickle could stand for a huge tree.
const MOST: usize = 1_000_000;
/// Keys under which training programs keep the weights beside other things, the usual first.
const NESTS: [&str; 6] = ["state_dict", "model_state_dict", "model", "state", "net", "weights"];

/// A tensor's place in its storage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Name of the storage.
    pub(crate) storage: String,
    /// Element type.
    pub(crate) dtype: DType,
    /// First element.
    pub(crate) offset: usize,
    /// Extents.
    pub(crate) size: Vec<usize>,
    /// Steps in elements.
    pub(crate) stride: Vec<usize>,
}

/// What was found in a pickle.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Tensors by name.
    pub(crate) views: IndexMap<String, View>,
    /// The first tensor that is not understood, with the reason.
    pub(crate) refused: Option<(String, String)>,
    /// Whether the pickle holds an object of a class of its own instead of a dict.
    pub(crate) module: bool,
    /// Values looked at.
    seen: usize,
}

/// The tensors of a pickle, by the names of a state dict: from under the usual keys where they stand beside an optimiser's,
/// nested names joined by dots.
pub(crate) fn tensors(pickle: &Pickle) -> Found {
    let (heap, root) = (&pickle.heap, pickle.root);
    let mut found = Found::default();
    let nested = heap.pairs(root).and_then(|pairs| {
        NESTS.iter().find_map(|nest| {
            let inner = pairs.iter().find(|(key, _)| heap.text(*key) == Some(nest));
            inner.map(|(_, value)| *value).filter(|v| heap.pairs(*v).is_some_and(|p| !p.is_empty()))
        })
    });
    collect(heap, nested.unwrap_or(root), String::new(), 0, &mut found);
    found.module = matches!(heap.get(root), Value::Call { .. }) && found.views.is_empty();
    found
}

fn collect(heap: &Heap, id: Id, name: String, depth: usize, found: &mut Found) {
    if let Some(view) = view(heap, id) {
        match view {
            Ok(view) => drop(found.views.insert(name, view)),
            Err(reason) => drop(found.refused.get_or_insert((name, reason))),
        }
        return;
    }
    let Some(pairs) = heap.pairs(id).filter(|_| depth < DEPTH) else { return };
    for (key, value) in pairs {
        found.seen += 1;
        if found.seen > MOST {
            found.refused.get_or_insert((name, "it lies in a tree of too many values".into()));
            return;
        }
        let key = match heap.get(*key) {
            Value::Text(text) => text.clone(),
            Value::Int(n) => n.to_string(),
            _ => continue,
        };
        let name = if name.is_empty() { key } else { format!("{name}.{key}") };
        collect(heap, *value, name, depth + 1, found);
    }
}

/// The tensor at `id`; `None` for other values.
fn view(heap: &Heap, id: Id) -> Option<Result<View, String>> {
    let Value::Call { of, arguments, .. } = heap.get(id) else { return None };
    let of = heap.text(*of)?;
    let arguments = heap.tuple(*arguments)?;
    match of {
        "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
            let data = *arguments.first()?;
            // A parameter wraps a tensor, not another parameter.
            let Value::Call { of, .. } = heap.get(data) else { return None };
            heap.text(*of).filter(|name| !name.contains("_rebuild_parameter"))?;
            view(heap, data)
        }
        "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v3" => Some(dense(heap, of, arguments)),
        name if name.starts_with("torch._utils._rebuild") && name.contains("tensor") => {
            let kind = name.trim_start_matches("torch._utils._rebuild_").replace('_', " ");
            Some(Err(format!("a {kind} is not read; save it as a dense tensor of floats or integers")))
        }
        _ => None,
    }
}

fn dense(heap: &Heap, of: &str, arguments: &[Id]) -> Result<View, String> {
    let broken = || "its description is broken".to_owned();
    let &[storage, offset, size, stride, ..] = arguments else { return Err(broken()) };
    let Value::Persistent(storage) = heap.get(storage) else { return Err(broken()) };
    // ('storage', type, key, location, elements)
    let [kind, class, key, ..] = heap.tuple(*storage).ok_or_else(broken)? else { return Err(broken()) };
    if heap.text(*kind) != Some("storage") {
        return Err(broken());
    }
    let class = match of {
        "torch._utils._rebuild_tensor_v3" => arguments.get(6).and_then(|&d| heap.text(d)),
        _ => heap.text(*class),
    };
    let class = class.ok_or_else(broken)?;
    let dtype = element_type(class).ok_or_else(|| format!("element type {class} is not read"))?;
    let numbers =
        |id: Id| -> Option<Vec<usize>> { heap.tuple(id)?.iter().map(|&n| heap.number(n)).collect() };
    let (size, stride) = (numbers(size).ok_or_else(broken)?, numbers(stride).ok_or_else(broken)?);
    if size.len() != stride.len() {
        return Err(broken());
    }
    let storage = heap.text(*key).ok_or_else(broken)?.to_owned();
    Ok(View { storage, dtype, offset: heap.number(offset).ok_or_else(broken)?, size, stride })
}

/// Bytes of an element of each storage that a pickle names, by its key.
pub(crate) fn widths(heap: &Heap) -> HashMap<&str, usize> {
    let storage = |value: &Value| {
        let Value::Persistent(id) = value else { return None };
        let [_, class, key, ..] = heap.tuple(*id)? else { return None };
        let (class, key) = (heap.text(*class)?, heap.text(*key)?);
        let width = match class.rsplit('.').next()? {
            "ComplexDoubleStorage" => 16,
            "ComplexFloatStorage" => 8,
            _ => element_type(class)?.size(),
        };
        Some((key, width))
    };
    heap.0.iter().filter_map(storage).collect()
}

/// The element type of a storage class (`torch.FloatStorage`) or a `torch.dtype`.
fn element_type(class: &str) -> Option<DType> {
    Some(match class.rsplit('.').next()? {
        "FloatStorage" | "float32" => DType::F32,
        "HalfStorage" | "float16" => DType::F16,
        "BFloat16Storage" | "bfloat16" => DType::Bf16,
        "DoubleStorage" | "float64" => DType::F64,
        "LongStorage" | "int64" => DType::I64,
        "IntStorage" | "int32" => DType::I32,
        "ShortStorage" | "int16" => DType::I16,
        "CharStorage" | "int8" => DType::I8,
        "ByteStorage" | "uint8" => DType::U8,
        "BoolStorage" | "bool" => DType::Bool,
        _ => return None,
    })
}

impl View {
    /// The tensor's elements from its storage, in row-major order.
    ///
    /// # Errors
    /// A sentence where the storage does not hold them, or where the tensor repeats elements (then it may be larger than
    /// its file).
    pub(crate) fn read(&self, storage: &[u8]) -> Result<Vec<u8>, String> {
        let width = self.dtype.size();
        let count = self.size.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        let held = storage.len() / width;
        let count = count.filter(|&n| n <= held);
        let Some(count) = count else {
            return Err(format!("its storage of {held} elements does not hold shape {:?}", self.size));
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        let steps = self.size.iter().zip(&self.stride);
        let last =
            steps.clone().try_fold(self.offset, |at, (&n, &step)| at.checked_add((n - 1).checked_mul(step)?));
        if last.is_none_or(|last| last >= held) {
            return Err(format!("it reaches beyond its storage of {held} elements"));
        }
        let mut place = vec![0_usize; self.size.len()];
        let mut bytes = Vec::with_capacity(count * width);
        if contiguous(&self.size, &self.stride) {
            let start = self.offset * width;
            bytes.extend_from_slice(&storage[start..start + count * width]);
            return Ok(bytes);
        }
        for _ in 0..count {
            let at = self.offset + place.iter().zip(&self.stride).map(|(p, s)| p * s).sum::<usize>();
            bytes.extend_from_slice(&storage[at * width..(at + 1) * width]);
            for axis in (0..place.len()).rev() {
                place[axis] += 1;
                if place[axis] < self.size[axis] {
                    break;
                }
                place[axis] = 0;
            }
        }
        Ok(bytes)
    }
}

fn contiguous(size: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1;
    size.iter().zip(stride).rev().all(|(&n, &step)| {
        let fits = n == 1 || step == expected;
        expected *= n;
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, size: &[usize], stride: &[usize]) -> View {
        View { storage: "0".into(), dtype: DType::U8, offset, size: size.into(), stride: stride.into() }
    }

    #[test]
    fn strides_are_followed() {
        let storage = [0, 1, 2, 3, 4, 5];
        assert_eq!(view(0, &[2, 3], &[3, 1]).read(&storage).unwrap(), storage);
        assert_eq!(view(0, &[3, 2], &[1, 3]).read(&storage).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(view(4, &[], &[]).read(&storage).unwrap(), [4]);
        assert_eq!(view(0, &[0, 9], &[9, 1]).read(&storage).unwrap(), []);
    }

    #[test]
    fn tensors_beyond_their_storage_are_refused() {
        let storage = [0; 6];
        for wrong in [
            view(0, &[7], &[1]),
            view(5, &[2], &[1]),
            view(0, &[2, 2], &[usize::MAX, 1]),
            view(0, &[1 << 40, 1 << 40], &[0, 0]),
            view(0, &[1000], &[0]),
        ] {
            assert!(wrong.read(&storage).is_err(), "{wrong:?}");
        }
    }
}
