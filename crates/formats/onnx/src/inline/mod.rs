//! Functions of a model, written out where they are called, so that their weights can be quantized and the network runs.

mod expand;
mod kept;
mod library;
mod names;
mod node;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use prost::bytes::Bytes;

use crate::attribute::{decode, refuse_external};
use crate::error::OnnxError;
use crate::proto::{FunctionProto, GraphProto, Model, NodeProto, OperatorSet, TensorProto};
use expand::Expansion;
use kept::{FREE_BYTES, Kept, MAX_GROWTH, Stop};
use library::Library;
use node::{Seen, domain, walk};

/// Replaces calls of the functions of `model`, a file of `size` bytes, in `graph` by the functions' nodes. A `Constant` of a
/// function becomes one constant of the network, however often the function is called. Functions that nothing calls any more
/// leave the model.
///
/// A call stays where its function cannot be written out (it calls itself, or is written for another operator set) or
/// does not fit it, and all calls stay where the nodes would be too many; then a sentence says so.
///
/// # Errors
/// Parts that cannot be decoded, bodies nested too deeply, [`OnnxError::ExternalInFunction`] for a function that stays.
pub fn functions(
    model: &mut Model,
    graph: &mut GraphProto,
    size: usize,
) -> Result<Option<String>, OnnxError> {
    if model.functions.is_empty() {
        return Ok(None);
    }
    let library = Library::new(&model.functions, &model.opset_import)?;
    let mut expansion = Expansion::new(&library, size.saturating_mul(MAX_GROWTH).max(FREE_BYTES));
    names_of(graph, &mut expansion)?;
    let nodes = match expansion.nodes(&graph.node, 0) {
        Ok(nodes) => nodes,
        Err(Stop::Failed(error)) => return Err(error),
        Err(Stop::Kept(reason)) => {
            model.functions.iter().try_for_each(check_external)?;
            return Ok(Some(sentence(&BTreeMap::from([("all".to_string(), reason)]))));
        }
    };
    let Expansion { constants, kept, used, .. } = expansion;
    graph.node = constants;
    graph.node.extend(nodes);
    let left = Left::of(graph, &library, &used)?;
    // Training information may call functions, too.
    if model.training_info.is_empty() {
        left.tidy(model, &library, &used);
    }
    left.import(model, &library, &used);
    model.functions.iter().try_for_each(check_external)?;
    Ok((!kept.is_empty()).then(|| sentence(&kept)))
}

/// Marks all names of values and nodes in `graph` as used.
fn names_of(graph: &GraphProto, expansion: &mut Expansion) -> Result<(), OnnxError> {
    for value in graph.input.iter().chain(&graph.output) {
        expansion.values.take(value.name.as_deref().unwrap_or_default());
    }
    for (index, bytes) in graph.initializer.iter().enumerate() {
        let tensor: TensorProto = decode(bytes.clone(), || format!("initializer {index}"))?;
        expansion.values.take(tensor.name.as_deref().unwrap_or_default());
    }
    walk(&graph.node, &mut |seen| match seen {
        Seen::Name(name) => expansion.values.take(name),
        Seen::Node(node) => {
            node.input.iter().chain(&node.output).for_each(|name| expansion.values.take(name));
            expansion.labels.take(node.name.as_deref().unwrap_or_default());
        }
    })
}

/// What a network still needs of its model.
struct Left {
    /// Whether each function is called, by nodes or by functions that stay, or was never called.
    functions: Vec<bool>,
    /// Domains of nodes, and of functions that stay with their operators.
    domains: HashSet<String>,
}

impl Left {
    fn of(graph: &GraphProto, library: &Library, used: &HashSet<usize>) -> Result<Self, OnnxError> {
        let mut wanted: Vec<usize> = (0..library.functions.len()).filter(|i| !used.contains(i)).collect();
        let mut left = Self { functions: vec![false; library.functions.len()], domains: HashSet::new() };
        walk(&graph.node, &mut |seen| {
            if let Seen::Node(node) = seen {
                wanted.extend(library.called(node));
                left.domains.insert(domain(&node.domain).into());
            }
        })?;
        while let Some(i) = wanted.pop() {
            if !std::mem::replace(&mut left.functions[i], true) {
                let function = &library.functions[i];
                wanted.extend(&function.calls);
                left.domains.insert(function.domain.clone());
                left.domains.extend(function.imports.keys().cloned());
            }
        }
        Ok(left)
    }

    /// Removes the functions that are no longer needed, and their domains where no node is of them.
    fn tidy(&self, model: &mut Model, library: &Library, used: &HashSet<usize>) {
        let mut stay = self.functions.iter();
        model.functions.retain(|_| stay.next().is_none_or(|stays| *stays));
        let gone = used.iter().filter(|i| !self.functions[**i]);
        let gone: HashSet<&str> = gone.map(|&i| library.functions[i].domain.as_str()).collect();
        let stays = |d: &str| self.domains.contains(d) || !gone.contains(d);
        model.opset_import.retain(|import| stays(domain(&import.domain)));
    }

    /// Imports the domains of nodes that came out of functions.
    fn import(&self, model: &mut Model, library: &Library, used: &HashSet<usize>) {
        let mut used: Vec<usize> = used.iter().copied().collect();
        used.sort_unstable();
        for (name, version) in used.into_iter().flat_map(|i| &library.functions[i].imports) {
            let known = model.opset_import.iter().any(|i| domain(&i.domain) == name);
            if !known && self.domains.contains(name) {
                let import = OperatorSet { domain: Some(name.clone()), version: Some(*version) };
                model.opset_import.push(import);
            }
        }
    }
}

/// A function is kept as bytes, which would lose sight of data beside the file.
fn check_external(bytes: &Bytes) -> Result<(), OnnxError> {
    let function: FunctionProto = decode(bytes.clone(), || "a function".into())?;
    let name = function.name.clone().unwrap_or_default();
    for bytes in &function.node {
        let node: NodeProto = decode(bytes.clone(), || format!("a node of function `{name}`"))?;
        for attribute in node.attribute {
            let attribute = decode(attribute, || "an attribute".into())?;
            refuse_external(&attribute, &name, 0).map_err(|error| match error {
                OnnxError::ExternalInSubgraph { .. } => {
                    OnnxError::ExternalInFunction { function: name.clone() }
                }
                other => other,
            })?;
        }
    }
    Ok(())
}

/// How many functions a sentence names.
const NAMED: usize = 5;

fn sentence(kept: &BTreeMap<String, Kept>) -> String {
    let named: Vec<String> =
        kept.iter().take(NAMED).map(|(function, reason)| format!("{function}: {reason}")).collect();
    let more = match kept.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "calls of functions of the model stay as they are, so that weights in them are not quantized and the engine does not \
         run them ({}{more})",
        named.join("; ")
    )
}
