//! The nodes and constants that rebuild a palettized weight.
//!
//! Writer and reader share this one description: the reader builds what the writer would have written for an
//! entry of the property and compares.

use serde::{Deserialize, Serialize};
use slq_codebook::{PackError, Palette, bits_for, pack_rows};
use slq_graph::{Attribute, DType, Graph, Node, Tensor, TensorData, Weight};

use crate::matrix::unpacking_matrix;

/// The property `slq.palettes`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Index {
    /// Version of the layout.
    pub version: u32,
    /// What the names of all added values begin with.
    pub prefix: String,
    /// The palettized weights; position `i` gives the names `prefix.i…`.
    pub weights: Vec<Entry>,
}

/// One palettized weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the weight.
    pub name: String,
    /// Bits of a code.
    pub bits: u8,
    /// Centroids of a codebook.
    pub k: usize,
    /// Number of codebooks.
    pub groups: usize,
    /// Shape of the weight.
    pub shape: Vec<usize>,
    /// Inputs that share a step, for a weight that is stored as blocks of integers; 0 for codes and codebooks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub block: usize,
    /// Element type of codebook and weight.
    #[serde(default = "single", skip_serializing_if = "is_single")]
    pub dtype: DType,
    /// Whether the codebooks of a float32 weight are stored as float16.
    #[serde(default, skip_serializing_if = "is_false")]
    pub half: bool,
}

fn single() -> DType {
    DType::F32
}

fn is_zero(block: &usize) -> bool {
    *block == 0
}

fn is_false(half: &bool) -> bool {
    !*half
}

fn is_single(dtype: &DType) -> bool {
    *dtype == DType::F32
}

impl Entry {
    /// The entry of a weight that can be stored as codes: floats, fully fixed, not empty.
    pub fn of(name: &str, weight: &Weight) -> Option<Self> {
        let palette = weight.palette.as_ref()?;
        let fits = palette.is_fully_fixed()
            && weight.tensor.dtype().is_float()
            && !weight.tensor.is_empty()
            && weight.tensor.len() == palette.codes().len();
        fits.then(|| Self {
            name: name.into(),
            bits: palette.bits(),
            k: palette.codebook_size(),
            groups: palette.groups(),
            shape: weight.tensor.shape().to_vec(),
            block: 0,
            dtype: weight.tensor.dtype(),
            half: weight.tensor.dtype() == DType::F32 && palette.has_half_codebooks(),
        })
    }

    /// Element type of the stored codebooks.
    pub fn book_type(&self) -> DType {
        if self.half { DType::F16 } else { self.dtype }
    }

    /// Number of weights, if the entry is possible at all.
    pub fn count(&self) -> Option<usize> {
        let count = slq_graph::element_count(&self.shape).filter(|&n| n > 0)?;
        let possible = (1..=256).contains(&self.k)
            && self.bits == bits_for(self.k)
            && self.groups > 0
            && self.dtype.is_float()
            && (!self.half || self.dtype == DType::F32)
            && count.is_multiple_of(self.groups)
            && self.groups.checked_mul(self.k).is_some();
        possible.then_some(count)
    }
}

/// Everything that stands for one weight.
pub struct Layout {
    /// Name and shape of the packed codes (bytes).
    pub packed: (String, Vec<usize>),
    /// Name and shape of the codebook (floats).
    pub codebook: (String, Vec<usize>),
    /// Constants by name; those without the weight's number in their name are shared between weights.
    pub constants: Vec<(String, Tensor)>,
    /// The nodes in execution order, nameless; the last one writes the weight.
    pub nodes: Vec<Node>,
}

const FLOAT: i64 = 1;
const INT32: i64 = 6;

impl Layout {
    /// The layout of weight number `index`, for which [`Entry::count`] gave `count`.
    pub fn new(entry: &Entry, count: usize, index: usize, prefix: &str, opset: i64) -> Self {
        let own = |letter: &str| format!("{prefix}.{index}{letter}");
        let (bits, k, groups) = (usize::from(entry.bits), entry.k, entry.groups);
        let run = count / groups;
        // Codes and codebooks are brought to [groups, run] where each group has its own codebook.
        let lookup = if groups == 1 { entry.shape.clone() } else { vec![groups, run] };
        let by_element = groups > 1 && opset >= 11;
        let mut b = Builder {
            layout: Self {
                packed: (own(""), if bits == 8 { lookup.clone() } else { vec![count.div_ceil(8), bits] }),
                codebook: (own("k"), if by_element { vec![groups, k] } else { vec![groups * k] }),
                constants: Vec::new(),
                nodes: Vec::new(),
            },
        };
        let mut codes = own("");
        if bits == 8 {
            codes = b.node("Cast", &[&codes], own("a"), &[("to", INT32)]);
        } else {
            codes = b.unpack(codes, bits, prefix, opset, &own);
            if !count.is_multiple_of(8) {
                codes = b.trim(codes, count, prefix, opset, &own);
            }
            let shape = b.shape(own("s"), &lookup);
            codes = b.node("Reshape", &[&codes, &shape], own("h"), &[]);
        }
        let mut codebook = b.layout.codebook.0.clone();
        if entry.half {
            codebook = b.node("Cast", &[&codebook], own("u"), &[("to", FLOAT)]);
        }
        let done = lookup == entry.shape;
        let output = if done { entry.name.clone() } else { own("v") };
        let values = if by_element {
            b.node("GatherElements", &[&codebook, &codes], output, &[("axis", 1)])
        } else {
            if groups > 1 {
                let first = (0..groups).map(|g| (g * k) as i32).collect();
                let offsets = b.constant(format!("{prefix}.o{groups}x{k}"), &[groups, 1], first);
                codes = b.node("Add", &[&codes, &offsets], own("i"), &[]);
            }
            b.node("Gather", &[&codebook, &codes], output, &[])
        };
        if !done {
            let shape = b.shape(own("t"), &entry.shape);
            b.node("Reshape", &[&values, &shape], entry.name.clone(), &[]);
        }
        b.layout
    }

    /// The two tensors that carry the weight: packed codes and codebook.
    ///
    /// # Errors
    /// [`PackError`] for codes that do not fit the entry's width: a palette that is not the entry's.
    pub fn data(
        &self,
        entry: &Entry,
        palette: &Palette,
    ) -> Result<[(String, TensorData, Vec<usize>); 2], PackError> {
        let packed = match entry.bits {
            8 => palette.codes().to_vec(),
            b => pack_rows(palette.codes(), b.into())?,
        };
        let (codes, book) = (&self.packed, &self.codebook);
        let centroids = palette.codebook().to_vec();
        // An entry is of floats.
        let centroids =
            TensorData::floats(entry.book_type(), centroids).unwrap_or(TensorData::F32(Vec::new()));
        Ok([
            (codes.0.clone(), TensorData::U8(packed), codes.1.clone()),
            (book.0.clone(), centroids, book.1.clone()),
        ])
    }
}

struct Builder {
    layout: Layout,
}

impl Builder {
    fn node(&mut self, op: &str, inputs: &[&str], output: String, ints: &[(&str, i64)]) -> String {
        let mut node = Node::new("", op, inputs, &[&output]);
        node.attributes = ints.iter().map(|(n, v)| (n.to_string(), Attribute::Int(*v))).collect();
        self.layout.nodes.push(node);
        output
    }

    fn add(&mut self, name: String, shape: &[usize], data: TensorData) -> String {
        // Lengths and shapes are built together, so this cannot fail.
        if let Ok(tensor) = Tensor::new(shape.to_vec(), data) {
            self.layout.constants.push((name.clone(), tensor));
        }
        name
    }

    fn constant(&mut self, name: String, shape: &[usize], values: Vec<i32>) -> String {
        self.add(name, shape, TensorData::I32(values))
    }

    fn shape(&mut self, name: String, shape: &[usize]) -> String {
        let dims = shape.iter().map(|&d| d as i64).collect();
        self.add(name, &[shape.len()], TensorData::I64(dims))
    }

    /// Packed rows [r, bits] to codes [r, 8].
    fn unpack(
        &mut self,
        packed: String,
        bits: usize,
        prefix: &str,
        opset: i64,
        own: &dyn Fn(&str) -> String,
    ) -> String {
        let matrix =
            self.add(format!("{prefix}.m{bits}"), &[bits, 8], TensorData::F32(unpacking_matrix(bits)));
        let radix = self.constant(format!("{prefix}.r{bits}"), &[], vec![1 << bits]);
        let floats = self.node("Cast", &[&packed], own("a"), &[("to", FLOAT)]);
        let quotients = self.node("MatMul", &[&floats, &matrix], own("b"), &[]);
        let whole = self.node("Cast", &[&quotients], own("c"), &[("to", INT32)]);
        if opset >= 10 {
            return self.node("Mod", &[&whole, &radix], own("d"), &[]);
        }
        let above = self.node("Div", &[&whole, &radix], own("e"), &[]);
        let above = self.node("Mul", &[&above, &radix], own("f"), &[]);
        self.node("Sub", &[&whole, &above], own("d"), &[])
    }

    /// Codes [r, 8] to the first `count` of them.
    fn trim(
        &mut self,
        codes: String,
        count: usize,
        prefix: &str,
        opset: i64,
        own: &dyn Fn(&str) -> String,
    ) -> String {
        let flat = self.add(format!("{prefix}.f"), &[1], TensorData::I64(vec![-1]));
        let codes = self.node("Reshape", &[&codes, &flat], own("g"), &[]);
        if opset >= 10 {
            let zero = self.add(format!("{prefix}.z"), &[1], TensorData::I64(vec![0]));
            let end = self.add(own("n"), &[1], TensorData::I64(vec![count as i64]));
            return self.node("Slice", &[&codes, &zero, &end], own("j"), &[]);
        }
        let node = Node::new("", "Slice", &[&codes], &[&own("j")])
            .with("starts", Attribute::Ints(vec![0]))
            .with("ends", Attribute::Ints(vec![count as i64]));
        self.layout.nodes.push(node);
        own("j")
    }
}

/// A prefix with which no value of the graph begins.
pub fn free_prefix(graph: &Graph) -> String {
    let values = graph.nodes.iter().flat_map(|n| n.inputs.iter().chain(&n.outputs));
    let declared = graph.inputs.iter().chain(&graph.outputs).map(|v| &v.name);
    let taken: std::collections::HashSet<&str> = values
        .chain(declared)
        .chain(graph.weights.keys())
        .filter_map(|name| name.split_once('.').map(|(first, _)| first))
        .collect();
    let numbered = (1usize..).map(|i| format!("slq{i}"));
    std::iter::once("slq".to_string())
        .chain(numbered)
        .find(|p| !taken.contains(p.as_str()))
        .unwrap_or_default()
}
