//! A graph to a file.

use std::collections::{HashMap, HashSet};
#[cfg(feature = "file")]
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
use slq_graph::{Attribute, Graph, Node, Tensor};

use crate::attribute::node_to_proto;
use crate::error::OnnxError;
use crate::options::WriteOptions;
#[cfg(feature = "file")]
use crate::options::{Data, Files};
use crate::ort::{self, Blocked};
#[cfg(feature = "file")]
use crate::outside::DataFile;
use crate::palettize::{Entry, Index, Layout, free_prefix};
use crate::proto::{GraphProto, KeyValue, OperatorSet, TensorProto};
use crate::{MAX_FILE_BYTES, OPSETS, element, extras, restore, value};

/// Writes `graph` to `path` and, where the model would exceed 2 GiB or `options` say so, the data of its large tensors to a new
/// file beside it.
///
/// The model keeps its operator set. The file is written beside `path`, read back, compared weight by weight
/// (values and codes, bit for bit) and only then renamed: an existing file is replaced whole or not at all. A data file replaces
/// none: it is complete, under a name that no file has, before the model that names it is; what the replaced model used stays, and
/// is among [`Files::unused`]. A palette that is not fully fixed is not stored; its weight is written as floats.
///
/// # Errors
/// [`OnnxError::File`] with the path and what is wrong: a graph of an unsupported operator set, with cycles or
/// values that nothing defines, of more than 2 GiB beside the data of its weights; a failing disk; [`OnnxError::ReadBack`] where the
/// file does not give the graph's weights, such as a weight whose values are not those of its palette.
#[cfg(feature = "file")]
pub fn write(graph: &Graph, path: impl AsRef<Path>, options: &WriteOptions) -> Result<Files, OnnxError> {
    let path = path.as_ref();
    store(graph, path, options)
        .map_err(|source| OnnxError::File { path: path.into(), source: Box::new(source) })
}

#[cfg(feature = "file")]
fn store(graph: &Graph, path: &Path, options: &WriteOptions) -> Result<Files, OnnxError> {
    let whole = bytes_of_floats(graph, options);
    let too_large = whole > MAX_FILE_BYTES;
    if options.data == Data::Inside && too_large {
        return Err(OnnxError::TooLarge { bytes: whole });
    }
    if options.data != Data::Beside && !too_large {
        match write_bytes(graph, options) {
            Err(OnnxError::TooLarge { .. }) if options.data == Data::AsNeeded => {}
            bytes => {
                let bytes = put(graph, path, bytes?, options)?;
                return Ok(Files { bytes, data: None, unused: Vec::new() });
            }
        }
    }
    let mut data = DataFile::beside(path)?;
    let bytes = encode(graph, options, &mut |tensor| data.put(tensor))?;
    let unused = std::mem::take(&mut data.others);
    let data = data.finish()?;
    let bytes = put(graph, path, bytes, options)?.saturating_add(data.bytes);
    Ok(Files { bytes, data: data.keep(), unused })
}

/// Bytes of the weights that are stored as they are: where these alone fill a file, it need not be tried.
#[cfg(feature = "file")]
fn bytes_of_floats(graph: &Graph, options: &WriteOptions) -> u64 {
    let whole =
        graph.weights.iter().filter(|(name, weight)| options.dense || Entry::of(name, weight).is_none());
    let bytes = whole.map(|(_, w)| w.tensor.len() as u64 * w.tensor.dtype().size() as u64);
    bytes.fold(0, u64::saturating_add)
}

/// Writes the model's bytes to `path` once they read back as the graph; their number.
#[cfg(feature = "file")]
fn put(graph: &Graph, path: &Path, bytes: Vec<u8>, options: &WriteOptions) -> Result<u64, OnnxError> {
    use std::io::Write;

    use crate::read::read_unfolded;
    use crate::verify;

    let mut file = slq_file::temporary_beside(path)?;
    file.write_all(&bytes)?;
    drop(bytes);
    let back = read_unfolded(file.path()).map_err(|e| OnnxError::ReadBack { reason: e.to_string() })?;
    verify::same(graph, &back, options)?;
    let size = file.as_file().metadata()?.len();
    slq_file::persist(file, path)?;
    Ok(size)
}

/// The bytes of the file that [`write()`] makes, not read back, with the data of all tensors.
///
/// # Errors
/// As [`write()`], without the path; [`OnnxError::TooLarge`] for more than 2 GiB.
pub fn write_bytes(graph: &Graph, options: &WriteOptions) -> Result<Vec<u8>, OnnxError> {
    encode(graph, options, &mut Ok)
}

/// What becomes of an initializer before it is encoded.
type Place<'a> = &'a mut dyn FnMut(TensorProto) -> Result<TensorProto, OnnxError>;

/// The bytes of the model, its initializers as `place` gives them.
fn encode(graph: &Graph, options: &WriteOptions, place: Place) -> Result<Vec<u8>, OnnxError> {
    let opset = graph.metadata.opset;
    if !OPSETS.contains(&opset) {
        return Err(OnnxError::Opset(opset));
    }
    let mut model = extras::restore(&graph.metadata)?;
    let some = |s: &str| (!s.is_empty()).then(|| s.to_string());
    model.producer_name = some(&graph.metadata.producer);
    model.doc_string = some(&graph.metadata.doc);
    let own = OperatorSet { domain: Some(String::new()), version: Some(opset) };
    let others = graph
        .metadata
        .domains
        .iter()
        .map(|(domain, version)| OperatorSet { domain: Some(domain.clone()), version: Some(*version) });
    model.opset_import = std::iter::once(own).chain(others).collect();

    let mut parts = Parts { tensors: Vec::new(), nodes: Vec::new(), layouts: HashMap::new(), place };
    let palettes = if options.dense { None } else { parts.palettes(graph, options.blocked)? };
    let properties = graph.metadata.properties.iter();
    let properties =
        properties.filter(|(key, _)| *key != restore::PROPERTY && !key.starts_with(extras::PREFIX));
    let properties = properties.map(|(k, v)| (k.clone(), v.clone()));
    let palettes = palettes.map(|json| (restore::PROPERTY.to_string(), json));
    model.metadata_props = properties
        .chain(palettes)
        .map(|(key, value)| KeyValue { key: Some(key), value: Some(value) })
        .collect();

    let mut proto: GraphProto = model.graph.take().unwrap_or_default();
    proto.name = Some(if graph.name.is_empty() { "graph".into() } else { graph.name.clone() });
    let inputs = graph.free_inputs();
    proto.input = inputs.map(value::to_proto).collect::<Result<_, _>>()?;
    proto.output = graph.outputs.iter().map(value::to_proto).collect::<Result<_, _>>()?;
    parts.weights(graph)?;
    parts.nodes(graph)?;
    (proto.initializer, proto.node) = (parts.tensors, parts.nodes);
    model.graph = Some(proto);

    let bytes = model.encoded_len() as u64;
    if bytes > MAX_FILE_BYTES {
        return Err(OnnxError::TooLarge { bytes });
    }
    Ok(model.encode_to_vec())
}

/// Encoded initializers and nodes.
struct Parts<'a> {
    tensors: Vec<Bytes>,
    nodes: Vec<Bytes>,
    /// How each palettized weight is laid out.
    layouts: HashMap<String, (Entry, Planned)>,
    place: Place<'a>,
}

/// The nodes and tensors that stand for a weight.
enum Planned {
    /// Codes and codebooks.
    Codes(Layout),
    /// Blocks of integers and their steps.
    Blocks(Blocked),
}

impl Planned {
    fn nodes(&self) -> &[Node] {
        match self {
            Self::Codes(layout) => &layout.nodes,
            Self::Blocks(layout) => &layout.nodes,
        }
    }
}

impl Parts<'_> {
    /// Plans the palettized weights and gives the property that lists them, if there are any.
    fn palettes(&mut self, graph: &Graph, blocked: bool) -> Result<Option<String>, OnnxError> {
        let prefix = free_prefix(graph);
        let entries = graph.weights.iter().filter_map(|(name, weight)| Entry::of(name, weight));
        let mut weights: Vec<Entry> = entries.filter(|e| e.count().is_some()).collect();
        if blocked && graph.metadata.opset >= ort::OPSET {
            for entry in &mut weights {
                let weight = &graph.weights[&entry.name];
                let even = weight.palette.as_ref().is_some_and(ort::is_even);
                entry.block = ort::block_of(graph, &entry.name, weight).ok().filter(|_| even).unwrap_or(0);
            }
        }
        for (i, entry) in weights.iter().enumerate() {
            let count = entry.count().unwrap_or_default();
            let layout = match entry.block {
                0 => Planned::Codes(Layout::new(entry, count, i, &prefix, graph.metadata.opset)),
                _ => Planned::Blocks(ort::layout(entry, i, &prefix)),
            };
            self.layouts.insert(entry.name.clone(), (entry.clone(), layout));
        }
        let index = Index { version: restore::VERSION, prefix, weights };
        let json = serde_json::to_string(&index).map_err(OnnxError::PaletteProperty)?;
        Ok((!index.weights.is_empty()).then_some(json))
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), OnnxError> {
        self.add(element::from_tensor(name, tensor)?)
    }

    fn add(&mut self, tensor: TensorProto) -> Result<(), OnnxError> {
        self.tensors.push((self.place)(tensor)?.encode_to_vec().into());
        Ok(())
    }

    fn weights(&mut self, graph: &Graph) -> Result<(), OnnxError> {
        let mut written: HashSet<String> = HashSet::new();
        for (name, weight) in &graph.weights {
            let planned = self.layouts.get(name).zip(weight.palette.as_ref());
            let Some(((entry, layout), palette)) = planned else {
                self.tensor(name, &weight.tensor)?;
                continue;
            };
            let layout = match layout {
                Planned::Codes(layout) => layout,
                Planned::Blocks(layout) => {
                    ort::tensors(entry, palette, layout).into_iter().try_for_each(|t| self.add(t))?;
                    continue;
                }
            };
            let data = layout
                .data(entry, palette)
                .map_err(|source| OnnxError::Codes { weight: name.clone(), source })?;
            let constants = layout.constants.clone();
            for (name, data, shape) in data {
                self.tensor(&name, &Tensor::new(shape, data)?)?;
            }
            for (name, tensor) in constants {
                if written.insert(name.clone()) {
                    self.tensor(&name, &tensor)?;
                }
            }
        }
        Ok(())
    }

    /// The graph's nodes, each palettized weight's nodes in front of the first that may read it.
    fn nodes(&mut self, graph: &Graph) -> Result<(), OnnxError> {
        let mut pending: Vec<&String> =
            graph.weights.keys().filter(|n| self.layouts.contains_key(*n)).collect();
        let mut nodes: Vec<Bytes> = Vec::new();
        let mut push = |node: &Node| {
            nodes.push(node_to_proto(node)?.encode_to_vec().into());
            Ok::<(), OnnxError>(())
        };
        for node in slq_graph::execution_order(graph)?.into_iter().map(|i| &graph.nodes[i]) {
            // A sub-graph, kept as bytes, may read any weight.
            let opaque = node.attributes.values().any(|a| matches!(a, Attribute::Opaque(_)));
            let reads = |name: &String| opaque || node.inputs.contains(name);
            let (now, later): (Vec<_>, Vec<_>) = pending.into_iter().partition(|name| reads(name));
            pending = later;
            for name in now {
                self.layouts[name].1.nodes().iter().try_for_each(&mut push)?;
            }
            push(node)?;
        }
        for name in pending {
            self.layouts[name].1.nodes().iter().try_for_each(&mut push)?;
        }
        self.nodes = nodes;
        Ok(())
    }
}
