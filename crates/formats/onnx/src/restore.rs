//! Palettes back from a file that [`write`](crate::write()) made.

use std::collections::{HashMap, HashSet};

use slq_codebook::{Palette, rows_len, unpack_rows};
use slq_graph::{Graph, Node, Tensor, TensorData, Weight};

use crate::error::OnnxError;
use crate::ort;
use crate::palettize::{Entry, Index, Layout};

/// The property that names the palettized weights.
pub const PROPERTY: &str = "slq.palettes";
/// Version of the layout that this crate writes.
pub const VERSION: u32 = 1;

/// Replaces packed codes, codebooks, constants and nodes by weights with palettes, as `json` lists them.
///
/// Each entry's nodes and constants must be exactly those that the writer makes for it; only the names of
/// nodes are free.
pub fn palettes(graph: &mut Graph, json: &str) -> Result<(), OnnxError> {
    let index: Index = serde_json::from_str(json).map_err(OnnxError::PaletteProperty)?;
    if index.version != VERSION {
        return Err(OnnxError::PaletteVersion(index.version));
    }
    let mut found = Found::new(graph);
    for (i, entry) in index.weights.iter().enumerate() {
        found
            .weight(graph, entry, i, &index.prefix)
            .map_err(|reason| OnnxError::PaletteMismatch { weight: entry.name.clone(), reason })?;
    }
    let Found { nodes, mut weights, gone, .. } = found;

    let mut position = 0;
    graph.nodes.retain(|_| {
        position += 1;
        !nodes.contains(&(position - 1))
    });
    // A restored weight takes the place of its packed codes.
    for (name, weight) in std::mem::take(&mut graph.weights) {
        if let Some((name, weight)) = weights.remove(&name) {
            if graph.weights.insert(name.clone(), weight).is_some() {
                return Err(OnnxError::DuplicateWeight { name });
            }
        } else if !gone.contains(&name) && graph.weights.insert(name.clone(), weight).is_some() {
            return Err(OnnxError::DuplicateWeight { name });
        }
    }
    Ok(())
}

/// What belongs to the palettes.
struct Found {
    /// Node that writes each value.
    producers: HashMap<String, usize>,
    /// Positions of the nodes that rebuild weights.
    nodes: HashSet<usize>,
    /// Name and weight for the name of each packed tensor.
    weights: HashMap<String, (String, Weight)>,
    /// Names of codebooks and constants.
    gone: HashSet<String>,
}

impl Found {
    fn new(graph: &Graph) -> Self {
        let outputs = graph.nodes.iter().enumerate();
        let producers = outputs.flat_map(|(i, n)| n.outputs.iter().map(move |o| (o.clone(), i))).collect();
        Self { producers, nodes: HashSet::new(), weights: HashMap::new(), gone: HashSet::new() }
    }

    /// Recognises weight number `i`, or says why not.
    fn weight(&mut self, graph: &Graph, entry: &Entry, i: usize, prefix: &str) -> Result<(), String> {
        let count = entry.count().ok_or("bits, codebooks and shape do not fit together")?;
        if graph.inputs.iter().any(|input| input.name == entry.name) {
            return Err("it is an input of the graph".into());
        }
        if entry.block > 0 {
            return self.blocks(graph, entry, i, prefix);
        }
        // The lengths in the file bound everything that is built below.
        let tensor = |name: &str| {
            let weight = graph.weights.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
            Ok::<&Tensor, String>(&weight.tensor)
        };
        let packed = tensor(&format!("{prefix}.{i}"))?;
        let codebook = tensor(&format!("{prefix}.{i}k"))?;
        let bits = u32::from(entry.bits);
        let bytes = if bits == 8 { Some(count) } else { rows_len(count, bits).ok() };
        let (TensorData::U8(codes), Some(centroids)) = (packed.data(), codebook.to_f32()) else {
            return Err("codes are not bytes or centroids not floats".into());
        };
        if codebook.dtype() != entry.book_type() {
            return Err(format!(
                "the codebook is of type {:?}, not {:?}",
                codebook.dtype(),
                entry.book_type()
            ));
        }
        if bytes != Some(codes.len()) || centroids.len() != entry.groups * entry.k {
            return Err(format!("{} bytes and {} centroids do not fit", codes.len(), centroids.len()));
        }
        let stored = TensorData::floats(entry.book_type(), centroids.to_vec());
        if !stored.is_some_and(|stored| stored.is_identical(codebook.data())) {
            return Err("a centroid is no 32-bit float".into());
        }
        let layout = Layout::new(entry, count, i, prefix, graph.metadata.opset);
        if layout.packed.1 != packed.shape() || layout.codebook.1 != codebook.shape() {
            return Err("codes or codebook have another shape".into());
        }
        for (name, expected) in &layout.constants {
            if tensor(name)? != expected {
                return Err(format!("constant `{name}` has another value"));
            }
        }
        self.nodes_of(graph, &layout.nodes)?;
        let codes = match bits {
            8 => codes.clone(),
            bits => unpack_rows(codes, bits, count).map_err(|e| e.to_string())?,
        };
        let palette =
            Palette::fully_fixed(centroids.to_vec(), entry.groups, codes).map_err(|e| e.to_string())?;
        let tensor =
            Tensor::floats(entry.shape.clone(), entry.dtype, palette.decode()).map_err(|e| e.to_string())?;
        let weight = Weight { palette: Some(palette), ..Weight::from(tensor) };
        self.gone.insert(layout.codebook.0);
        self.gone.extend(layout.constants.into_iter().map(|(name, _)| name));
        self.weights.insert(layout.packed.0, (entry.name.clone(), weight));
        Ok(())
    }

    /// Takes the nodes that the writer makes for a weight, which must be these exactly.
    fn nodes_of(&mut self, graph: &Graph, nodes: &[Node]) -> Result<(), String> {
        for expected in nodes {
            let output = &expected.outputs[0];
            let position = *self.producers.get(output).ok_or_else(|| format!("no node writes `{output}`"))?;
            let node = &graph.nodes[position];
            let same = node.op == expected.op
                && node.domain.is_empty()
                && node.inputs == expected.inputs
                && node.outputs == expected.outputs
                && node.attributes == expected.attributes;
            if !same || !self.nodes.insert(position) {
                return Err(format!("the node that writes `{output}` is another one"));
            }
        }
        Ok(())
    }

    /// Recognises a weight that is stored as blocks of integers.
    fn blocks(&mut self, graph: &Graph, entry: &Entry, i: usize, prefix: &str) -> Result<(), String> {
        let layout = ort::layout(entry, i, prefix);
        self.nodes_of(graph, &layout.nodes)?;
        let palette = ort::read_back(graph, entry, &layout)?;
        let tensor = Tensor::f32(entry.shape.clone(), palette.decode()).map_err(|e| e.to_string())?;
        let weight = Weight { palette: Some(palette), ..Weight::from(tensor) };
        // Integers of 4 bits are a node of the graph, those of 8 a tensor; the steps are a tensor in either case.
        self.nodes.extend(self.producers.get(&layout.integers));
        self.gone.insert(layout.integers);
        self.weights.insert(layout.steps, (entry.name.clone(), weight));
        Ok(())
    }
}
