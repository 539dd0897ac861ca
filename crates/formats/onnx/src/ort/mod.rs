//! Networks for onnxruntime with weights that stay packed: dense layers whose weights are evenly spaced in blocks along the input
//! axis are written as blocked `DequantizeLinear`, which onnxruntime fuses with the product into its `MatMulNBits`.

mod blocked;
mod prepare;
mod raise;

use slq_graph::{Graph, Node, Weight};

pub(crate) use blocked::{Blocked, is_even, layout, read_back, tensors};
pub use prepare::{Prepared, for_onnxruntime};

/// Operator set from which on `DequantizeLinear` has blocks and 4-bit integers.
pub const OPSET: i64 = 21;
/// Smallest block that onnxruntime fuses; blocks are powers of two.
pub const SMALLEST_BLOCK: usize = 16;

/// Why a weight is not written as blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpacked {
    /// It has no palette that is fully fixed, or is no matrix of float32.
    NoCodes,
    /// Something else than a plain `Gemm` with `transB` reads it.
    Readers,
    /// The codebooks do not lie in blocks of a power of two of at least [`SMALLEST_BLOCK`] inputs.
    Blocks,
    /// A codebook is not evenly spaced about zero.
    Spacing,
}

impl Unpacked {
    /// The reason in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoCodes => "it is no float32 matrix with codes",
            Self::Readers => "it is read by others than a Gemm with transB and factors of 1",
            Self::Blocks => "its codebooks do not lie in blocks of 16, 32, 64 ... along the input axis",
            Self::Spacing => {
                "its codebooks are not evenly spaced about zero, as those of slq compress --runtime ort are"
            }
        }
    }
}

/// Inputs that share a step, for a weight that can be written as blocks.
///
/// # Errors
/// Why it cannot.
pub fn block_of(graph: &Graph, name: &str, weight: &Weight) -> Result<usize, Unpacked> {
    let &[rows, columns] = weight.tensor.shape() else { return Err(Unpacked::NoCodes) };
    let Some(palette) = weight.palette.as_ref().filter(|p| p.is_fully_fixed()) else {
        return Err(Unpacked::NoCodes);
    };
    if weight.tensor.as_f32().is_none()
        || palette.codes().len() != rows * columns
        || palette.codes().is_empty()
    {
        return Err(Unpacked::NoCodes);
    }
    if !only_plain_gemms(graph, name) {
        return Err(Unpacked::Readers);
    }
    let block = palette.codes().len() / palette.groups();
    if !fits(columns, block) {
        return Err(Unpacked::Blocks);
    }
    if palette.codebook().chunks_exact(palette.codebook_size()).any(|b| slq_codebook::even(b).is_none()) {
        return Err(Unpacked::Spacing);
    }
    Ok(block)
}

/// Whether blocks of this many inputs cover a row of `columns` in the form that onnxruntime fuses.
pub fn fits(columns: usize, block: usize) -> bool {
    block >= SMALLEST_BLOCK && block.is_power_of_two() && columns.is_multiple_of(block)
}

/// Whether only `Gemm` nodes read the weight, as `[outputs, inputs]` and without factors.
fn only_plain_gemms(graph: &Graph, name: &str) -> bool {
    let plain = |n: &Node| {
        let others = n.inputs.iter().enumerate().any(|(i, input)| input == name && i != 1);
        let bias = n.input(2).is_some();
        n.op == "Gemm"
            && n.domain.is_empty()
            && !others
            && n.int("transB", 0) != 0
            && n.int("transA", 0) == 0
            && n.float("alpha", 1.0) == 1.0
            && (!bias || n.float("beta", 1.0) == 1.0)
    };
    let mut readers = graph.consumers_of(name).peekable();
    readers.peek().is_some()
        && readers.all(plain)
        && graph.outputs.iter().all(|o| o.name != name)
        && !graph.nodes.iter().any(Node::may_hold_subgraph)
}
