//! One weight as integers and steps, and the nodes that multiply them.
//!
//! A weight `[n, k]` with a codebook `(i - m) step` for each block of `b` inputs is stored as onnxruntime wants the second operand
//! of a product, inputs first: integers `i - m` of 4 or 8 bits `[k, n]` and steps float32 `[k/b, n]`. `DequantizeLinear` makes
//! `[k, n]` floats of them, and a `Transpose` the weight; onnxruntime merges that with the transposition within `Gemm`.

use prost::bytes::Bytes;
use slq_codebook::Palette;
use slq_graph::{Attribute, Graph, Node, Tensor, TensorData};

use crate::attribute::decode;
use crate::palettize::Entry;
use crate::proto::{AttributeProto, TensorProto};

/// ONNX's codes of the element types.
const INT8: i32 = 3;
const INT4: i32 = 22;
/// Most steps from zero in 4 bits.
const MOST_IN_4: usize = 7;

/// The nodes of a weight, and the names of what they read.
pub struct Blocked {
    /// Name of the integers, of shape `[k, n]`.
    pub integers: String,
    /// Name of the steps, of shape `[k/b, n]`.
    pub steps: String,
    /// `DequantizeLinear` and `Transpose`.
    pub nodes: [Node; 2],
}

/// The layout of weight number `index`.
pub fn layout(entry: &Entry, index: usize, prefix: &str) -> Blocked {
    let own = |letter: &str| format!("{prefix}.{index}{letter}");
    let (integers, steps) = (own(""), own("k"));
    let block = i64::try_from(entry.block).unwrap_or(i64::MAX);
    let decode = Node::new("", "DequantizeLinear", &[&integers, &steps], &[&own("d")])
        .with("axis", Attribute::Int(0))
        .with("block_size", Attribute::Int(block));
    let turn =
        Node::new("", "Transpose", &[&own("d")], &[&entry.name]).with("perm", Attribute::Ints(vec![1, 0]));
    Blocked { integers, steps, nodes: [decode, turn] }
}

/// Extents `(n, k, blocks of a row)` of an entry that is possible.
fn extents(entry: &Entry) -> Option<(usize, usize, usize)> {
    let &[n, k] = entry.shape.as_slice() else { return None };
    let fits = super::fits(k, entry.block)
        && entry.groups.checked_mul(entry.block) == n.checked_mul(k)
        && entry.k % 2 == 1
        && entry.k >= 3;
    fits.then(|| (n, k, k / entry.block))
}

/// Whether a palette is in the form that an entry with blocks stores: `(i - m) step`, ascending.
pub fn is_even(palette: &Palette) -> bool {
    palette.evened().is_some_and(|even| even.is_identical(palette))
}

/// Integers and steps; none for an entry that is not possible.
pub fn tensors(entry: &Entry, palette: &Palette, layout: &Blocked) -> Vec<TensorProto> {
    let Some((n, k, across)) = extents(entry) else { return Vec::new() };
    let most = (entry.k - 1) / 2;
    let codes = palette.codes();
    let integer = |at: usize| (codes[at % n * k + at / n]).wrapping_sub(most as u8);
    let (kind, raw): (i32, Vec<u8>) = if most <= MOST_IN_4 {
        let low = |at: usize| if at < n * k { integer(at) & 15 } else { 0 };
        (INT4, (0..(n * k).div_ceil(2)).map(|i| low(2 * i) | low(2 * i + 1) << 4).collect())
    } else {
        (INT8, (0..n * k).map(integer).collect())
    };
    // One step above zero.
    let step = |group: usize| palette.codebook()[group * entry.k + most + 1];
    let steps =
        (0..across * n).flat_map(|at| step(at % n * across + at / n).to_le_bytes()).collect::<Vec<u8>>();
    let tensor = |name: &str, rows: usize, kind: i32, raw: Vec<u8>| TensorProto {
        dims: vec![rows as i64, n as i64],
        data_type: Some(kind),
        name: Some(name.into()),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    };
    vec![tensor(&layout.integers, k, kind, raw), tensor(&layout.steps, across, 1, steps)]
}

/// The palette of an entry with blocks from the tensors that a graph holds.
///
/// # Errors
/// What does not fit, in words.
pub fn read_back(graph: &Graph, entry: &Entry, layout: &Blocked) -> Result<Palette, String> {
    let (n, k, across) = extents(entry).ok_or("blocks and shape do not fit together")?;
    let steps = graph.weights.get(&layout.steps).ok_or_else(|| format!("`{}` is missing", layout.steps))?;
    let (Some(values), true) = (steps.tensor.as_f32(), steps.tensor.shape() == [across, n]) else {
        return Err("the steps are no floats, or of another shape".into());
    };
    let most = (entry.k - 1) / 2;
    let integers = integers(graph, &layout.integers, (k, n), most <= MOST_IN_4)?;
    let mut codes = vec![0u8; n * k];
    for (at, integer) in integers.enumerate() {
        let code = i64::from(integer) + most as i64;
        let code = u8::try_from(code).ok().filter(|&c| usize::from(c) < entry.k);
        codes[at % n * k + at / n] = code.ok_or("an integer lies outside the codebook")?;
    }
    let mut codebook = Vec::with_capacity(entry.groups * entry.k);
    for group in 0..entry.groups {
        let step = values[group % across * n + group / across];
        codebook.extend((0..entry.k).map(|i| (i as f32 - most as f32) * step));
    }
    Palette::fully_fixed(codebook, entry.groups, codes).map_err(|e| e.to_string())
}

/// The integers `[k, n]` of name `name`: a tensor of 8 bits, or a constant of 4, two to a byte, the first in the lower half.
fn integers(
    graph: &Graph,
    name: &str,
    (k, n): (usize, usize),
    four: bool,
) -> Result<Box<dyn Iterator<Item = i8>>, String> {
    let count = k * n;
    if !four {
        let tensor: &Tensor = &graph.weights.get(name).ok_or_else(|| format!("`{name}` is missing"))?.tensor;
        let TensorData::Raw(slq_graph::DType::I8, bytes) = tensor.data() else {
            return Err("the integers are not of 8 bits".into());
        };
        if tensor.shape() != [k, n] {
            return Err("the integers have another shape".into());
        }
        let values: Vec<i8> = bytes.iter().map(|&b| b as i8).collect();
        return Ok(Box::new(values.into_iter()));
    }
    let node = graph.producer_of(name).filter(|n| n.op == "Constant");
    let node = node.ok_or_else(|| format!("`{name}` is missing"))?;
    let Some(Attribute::Opaque(bytes)) = node.attributes.get("value") else {
        return Err("the integers are not of 4 bits".into());
    };
    let proto: AttributeProto =
        decode(Bytes::copy_from_slice(bytes), || "a constant".into()).map_err(|e| e.to_string())?;
    let tensor = proto.t.filter(|t| t.data_type == Some(INT4)).ok_or("the integers are not of 4 bits")?;
    let raw = tensor.raw_data.filter(|raw| raw.len() == count.div_ceil(2));
    let raw = raw.filter(|_| tensor.dims == [k as i64, n as i64]);
    let raw = raw.ok_or("the integers have another shape")?;
    // The half is moved to the top and back down, so that its sign comes along.
    let half = move |at: usize| ((raw[at / 2] << (4 * (1 - at % 2))) as i8) >> 4;
    Ok(Box::new((0..count).map(half)))
}
