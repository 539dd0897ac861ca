//! 1-D k-means of a network's weights, each weight for itself.

use serde_json::{Value, json};
use slq_codebook::{ClusterParams, Palette, SINGLE, cluster_groups, even_groups, stored_bytes};
use slq_graph::{Graph, Quantizable, Tensor, Weight};

use crate::error::WebError;

/// What shares a codebook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granularity {
    /// All values of a weight.
    Tensor,
    /// Those of an output channel, where channels are the first axis.
    Channel,
}

/// One weight of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRow {
    /// Name of the weight.
    pub weight: String,
    /// Name of the node that reads it.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Bytes as 32-bit floats.
    pub float_bytes: usize,
    /// Bytes of codes and codebooks, whole bits; those of the floats where it has none.
    pub stored_bytes: usize,
    /// Bytes at the entropy of the codes, with codebooks.
    pub entropy_bytes: usize,
    /// Codebooks, and values in each; 0 where it stays floats.
    pub codebooks: [usize; 2],
    /// Root of the squared error against that of the weights.
    pub error: f64,
    /// Why it stays as it is.
    pub note: Option<String>,
}

/// A compressed network in both forms.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// One row for each weight of two and more axes.
    pub layers: Vec<LayerRow>,
    /// Bytes of the file that came in.
    pub file_bytes: usize,
    /// Bytes of parameters that have no row: biases, batch-norm.
    pub other_bytes: usize,
    /// The palettized ONNX file.
    pub onnx: Vec<u8>,
    /// The container.
    pub slq: Vec<u8>,
}

impl Compressed {
    /// What the page shows.
    pub(crate) fn as_json(&self) -> Value {
        let row = |l: &LayerRow| {
            json!({
                "weight": l.weight, "node": l.node, "op": l.op, "shape": l.shape, "float_bytes": l.float_bytes,
                "stored_bytes": l.stored_bytes, "entropy_bytes": l.entropy_bytes,
                "codebooks": l.codebooks[0], "values": l.codebooks[1], "error": l.error, "note": l.note,
            })
        };
        json!({
            "layers": self.layers.iter().map(row).collect::<Vec<_>>(),
            "file_bytes": self.file_bytes, "other_bytes": self.other_bytes,
            "onnx_bytes": self.onnx.len(), "slq_bytes": self.slq.len(),
        })
    }
}

/// Moves the weights of an ONNX file onto codebooks of `2^bits` values, the best ones for each weight or channel by squared
/// error. Weights that would not get smaller, that are not 32-bit floats or that have a codebook already stay as they are, and
/// their rows say so.
///
/// # Errors
/// [`WebError::Bits`], [`WebError::NoWeights`], those of the readers and writers of both formats, [`WebError::Cluster`] for
/// weights that are not finite.
pub fn compress(file: &[u8], bits: u32, granularity: Granularity) -> Result<Compressed, WebError> {
    if !(1..=8).contains(&bits) {
        return Err(WebError::Bits(bits));
    }
    let mut graph = slq_onnx::read_bytes(file)?;
    let found = graph.quantizable();
    if found.is_empty() {
        return Err(WebError::NoWeights);
    }
    let mut layers = Vec::with_capacity(found.len());
    for quantizable in found {
        layers.extend(layer(&mut graph, quantizable, 1 << bits, granularity)?);
    }
    let rows: usize = layers.iter().map(|l| l.float_bytes).sum();
    let all: usize = graph.weights.values().map(|w| w.tensor.len() * w.tensor.dtype().size()).sum();
    let onnx = slq_onnx::write_bytes(&graph, &slq_onnx::WriteOptions::default())?;
    let slq = slq_pack::write_bytes(&graph, &slq_pack::WriteOptions::default())?.bytes;
    Ok(Compressed { layers, file_bytes: file.len(), other_bytes: all.saturating_sub(rows), onnx, slq })
}

/// Clusters one weight; its row.
fn layer(
    graph: &mut Graph,
    found: Quantizable,
    size: usize,
    granularity: Granularity,
) -> Result<Option<LayerRow>, WebError> {
    let Some(weight) = graph.weights.get_mut(&found.weight) else { return Ok(None) };
    let (count, shape) = (weight.tensor.len(), weight.tensor.shape().to_vec());
    let bytes = count * weight.tensor.dtype().size();
    let channels = match granularity {
        Granularity::Channel if found.channel_axis == 0 => shape[0].max(1),
        _ => 1,
    };
    let mut row = LayerRow {
        weight: found.weight,
        node: found.node,
        op: found.op,
        shape,
        float_bytes: bytes,
        stored_bytes: bytes,
        entropy_bytes: bytes,
        codebooks: [0; 2],
        error: 0.0,
        note: None,
    };
    if let Some(palette) = &weight.palette {
        row.codebooks = [palette.groups(), palette.codebook_size()];
        (row.stored_bytes, row.entropy_bytes) =
            (palette.stored_bytes(), palette.entropy_bytes().ceil() as usize);
        row.note = Some("has a codebook already".into());
    } else if let Some(values) = weight.tensor.as_f32() {
        if stored_bytes(count, channels, size.min(count / channels), SINGLE) >= bytes {
            row.note = Some("stays floats: codes and codebooks would take no less".into());
        } else {
            let palette = cluster(values, channels, size, &row.weight)?;
            row.codebooks = [palette.groups(), palette.codebook_size()];
            (row.stored_bytes, row.entropy_bytes) =
                (palette.stored_bytes(), palette.entropy_bytes().ceil() as usize);
            let shared = palette.decode();
            let norm: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
            let error: f64 =
                values.iter().zip(&shared).map(|(&v, &s)| (f64::from(v) - f64::from(s)).powi(2)).sum();
            row.error = if norm > 0.0 { (error / norm).sqrt() } else { 0.0 };
            let tensor = Tensor::f32(row.shape.clone(), shared)?;
            *weight = Weight { tensor, palette: Some(palette), rates: weight.rates };
        }
    } else {
        row.note = Some(format!(
            "stays as it is: {:?}, only 32-bit floats are clustered here",
            weight.tensor.dtype()
        ));
    }
    Ok(Some(row))
}

/// The best codebooks for equal runs of `values`.
fn cluster(values: &[f32], channels: usize, size: usize, name: &str) -> Result<Palette, WebError> {
    let fail = |source| WebError::Cluster { weight: name.into(), source };
    let params = ClusterParams::new(size).map_err(fail)?;
    let groups = even_groups(values.len(), values.len() / channels);
    let found = cluster_groups::<u8>(values, &groups, &params).map_err(fail)?;
    // All codebooks of a weight have one size; where there are fewer different values, the last one is repeated.
    let width = found.iter().map(|f| f.codebook.len()).max().unwrap_or(1);
    let (mut book, mut codes) = (Vec::with_capacity(channels * width), Vec::with_capacity(values.len()));
    for one in found {
        let last = one.codebook.last().copied().unwrap_or_default();
        let start = book.len();
        book.extend(one.codebook);
        book.resize(start + width, last);
        codes.extend(one.codes);
    }
    Palette::fully_fixed(book, channels, codes)
        .map_err(|source| WebError::Palette { weight: name.into(), source })
}
