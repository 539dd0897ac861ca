//! Sizes of a network.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use slq_graph::Graph;

use crate::error::CompressError;

/// Sizes of a network, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Four bytes for every parameter.
    pub dense_bytes: u64,
    /// Codes, codebooks and float parameters.
    pub stored_bytes: u64,
    /// The same with the codes at their entropy.
    pub entropy_bytes: u64,
    /// `dense_bytes / stored_bytes`.
    pub ratio: f64,
}

impl Size {
    /// The sizes of a network.
    pub fn of(graph: &Graph) -> Self {
        let total = slq_graph::stats::summary(graph).total;
        Self {
            dense_bytes: total.dense_bytes,
            stored_bytes: total.stored_bytes,
            entropy_bytes: total.entropy_bytes,
            ratio: total.ratio(),
        }
    }
}

/// How many bytes a network takes as a file whose codes are entropy-coded, which is known once it is written.
pub trait FileSize: std::fmt::Debug + Sync {
    /// Bytes of the file of `graph`.
    ///
    /// # Errors
    /// [`CompressError::FileSize`] for a network that the format cannot hold.
    fn bytes(&self, graph: &Graph) -> Result<u64, CompressError>;
}

/// What a budget of bytes holds for.
#[derive(Debug, Clone, Copy)]
pub enum FileBytes<'a> {
    /// Codes, codebooks and float parameters, and so many bytes around them.
    Stored(u64),
    /// A file whose codes are entropy-coded. Calibration chooses a price on bits for it; other methods count as with
    /// [`FileBytes::Stored`].
    Coded(&'a dyn FileSize),
}

impl FileBytes<'_> {
    /// Bytes around codes, codebooks and float parameters.
    pub(crate) fn overhead(self) -> u64 {
        match self {
            FileBytes::Stored(overhead) => overhead,
            FileBytes::Coded(_) => 0,
        }
    }
}

/// A sentence about a network whose parameters do not come as 32-bit floats, which sizes and ratios count as such.
pub(crate) fn width_warning(graph: &Graph) -> Option<String> {
    let tensors = || graph.parameters().into_iter().filter_map(|name| Some(&graph.weights.get(name)?.tensor));
    let own: u64 = tensors().map(|t| (t.len() * t.dtype().size()) as u64).sum();
    let size = Size::of(graph);
    let word = match own.cmp(&size.dense_bytes) {
        Ordering::Equal => return None,
        Ordering::Less => "less",
        Ordering::Greater => "more",
    };
    let times = own as f64 / size.stored_bytes.max(1) as f64;
    Some(format!(
        "sizes before and ratios count 4 bytes a parameter; this network's parameters came as {own} bytes, {word} than that: \
         beside those it is {times:.1}x smaller"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use slq_graph::{DType, Node, Palette, Tensor, TensorData};

    #[test]
    fn other_widths_than_floats_are_said_with_the_ratio_to_the_network_as_it_came() {
        let mut graph = Graph::default();
        graph.nodes.push(Node::new("n", "MatMul", &["x", "w"], &["y"]));
        graph.weights.insert("w".into(), Tensor::f32(vec![16, 16], vec![0.0; 256]).unwrap().into());
        assert_eq!(width_warning(&graph), None);
        let half = Tensor::new(vec![16, 16], TensorData::Raw(DType::F16, vec![0; 512])).unwrap();
        graph.weights["w"].tensor = half;
        graph.weights["w"].palette = Some(Palette::fully_fixed(vec![0.0, 1.0], 1, vec![0; 256]).unwrap());
        let said = width_warning(&graph).unwrap();
        // 32 bytes of codes, 8 of codebook.
        assert!(said.contains("came as 512 bytes, less") && said.contains("12.8x"), "{said}");
    }
}
