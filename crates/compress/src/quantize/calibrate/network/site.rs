//! A layer as the driver sees it: where its weights lie, which inputs it reads, and how it becomes a matrix.

use std::collections::HashMap;

use slq_graph::op::{Op, Window};
use slq_graph::{Graph, Node, Shapes};

use super::super::matrix::{Books, LayerShape};

/// A layer to calibrate.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LayerSpec {
    /// Name of the weight.
    pub weight: String,
    /// Name of the node that reads it.
    pub node: String,
    /// Values of a codebook (K), 1 to 256.
    pub size: usize,
    /// Which weights share a codebook. Weights that do not lie channel by channel (MatMul without a Transpose, Gemm without
    /// transB, ConvTranspose) have one codebook whatever is asked.
    pub books: Books,
    /// Whether centroids of several codebooks are rounded to 16-bit floats.
    #[serde(default)]
    pub half: bool,
}

/// How the layer reads its input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reads {
    /// Windows over the last `axes` (one or two) axes of `[N, C, .., W]`; `transposed` for a transposed convolution.
    Windows { window: Window, transposed: bool, axes: usize },
    /// Rows of `[.., m, k]`.
    Rows,
    /// Columns of `[k, m]`: Gemm with transA.
    Columns,
}

/// Where weight (row, column) of the matrix lies in the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Row by row.
    Rows,
    /// Column by column.
    Columns,
    /// `[groups * channels, rows / groups, taps]`, as ConvTranspose keeps them.
    Transposed { channels: usize, taps: usize },
}

/// A layer resolved in a graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Site {
    /// Position of the node in the graph.
    pub node: usize,
    /// Name of the value read.
    pub input: String,
    /// Name of the value written.
    pub output: String,
    /// Name of the weight.
    pub weight: String,
    /// Name under which the node reads it: its own, or that of its transpose.
    pub read: String,
    pub shape: LayerShape,
    pub reads: Reads,
    pub place: Place,
    /// Factor of the product (Gemm's alpha).
    pub alpha: f32,
    /// Factor of the layer's own bias (Gemm's beta).
    pub beta: f32,
    /// Name of the layer's own bias.
    pub bias: Option<String>,
}

impl Site {
    /// Resolves a layer whose input's shape is known, or says why it cannot be calibrated.
    pub fn find(graph: &Graph, shapes: &Shapes, spec: &LayerSpec) -> Result<Self, String> {
        let turned = graph.turned_matrices();
        let found = reader(graph, spec, &turned);
        let Some(at) = found else {
            return Err(format!("no node `{}` reads the weight as its second input", spec.node));
        };
        let node = &graph.nodes[at];
        let weight = graph.weights.get(&spec.weight).ok_or("the network has no such weight")?;
        let (Some(input), Some(output)) = (node.input(0), node.outputs.first()) else {
            return Err("the node lacks an input or output".into());
        };
        let read = node.input(1).unwrap_or_default();
        let mut dims = weight.tensor.shape().to_vec();
        let is_turned = turned.contains_key(read);
        if is_turned {
            dims.reverse();
        }
        let known: Vec<Option<&[usize]>> = node
            .inputs
            .iter()
            .map(|name| match graph.weights.get(name) {
                _ if name == read => Some(dims.as_slice()),
                Some(w) => Some(w.tensor.shape()),
                None => shapes.get(name),
            })
            .collect();
        let op = Op::resolve(graph, node, &known).map_err(|e| e.to_string())?;
        let (shape, reads, place, alpha, beta) = view(&op, &dims)?;
        let place = if is_turned { place.turned() } else { place };
        let shape = shape.map_err(|e| e.to_string())?;
        Ok(Self {
            node: at,
            input: input.into(),
            output: output.clone(),
            weight: spec.weight.clone(),
            read: read.into(),
            shape,
            reads,
            place,
            alpha,
            beta,
            bias: node.input(2).map(Into::into),
        })
    }

    /// The codebooks that the tensor can have: those asked for where it lies channel by channel.
    pub fn books(&self, asked: Books) -> Books {
        if self.place == Place::Rows { asked } else { Books::Tensor }
    }

    /// The weights as a matrix, rows x columns.
    pub fn matrix(&self, values: &[f32]) -> Vec<f32> {
        self.indices().map(|at| values[at]).collect()
    }

    /// A matrix's entries in the tensor's order.
    pub fn tensor<T: Copy + Default>(&self, matrix: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); matrix.len()];
        self.indices().zip(matrix).for_each(|(at, &v)| out[at] = v);
        out
    }

    /// Index in the tensor of each entry of the matrix, row by row.
    fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        let LayerShape { rows, columns, .. } = self.shape;
        let group_rows = self.shape.group_rows();
        (0..rows * columns).map(move |at| {
            let (row, column) = (at / columns, at % columns);
            match self.place {
                Place::Rows => at,
                Place::Columns => column * rows + row,
                Place::Transposed { channels, taps } => {
                    let channel = row / group_rows * channels + column / taps;
                    (channel * group_rows + row % group_rows) * taps + column % taps
                }
            }
        })
    }
}

impl Place {
    /// That of the transpose of a matrix.
    fn turned(self) -> Self {
        match self {
            Place::Rows => Place::Columns,
            Place::Columns => Place::Rows,
            other => other,
        }
    }
}

/// The position of the node that reads the layer's weight, or its transpose, as its second input.
pub(crate) fn reader(graph: &Graph, spec: &LayerSpec, turned: &HashMap<&str, &str>) -> Option<usize> {
    let reads = |node: &Node| {
        node.input(1).is_some_and(|name| turned.get(name).copied().unwrap_or(name) == spec.weight)
    };
    graph.nodes.iter().position(|n| n.name == spec.node && n.domain.is_empty() && reads(n))
}

type View = (Result<LayerShape, super::super::CalibrateError>, Reads, Place, f32, f32);

fn view(op: &Op, dims: &[usize]) -> Result<View, String> {
    Ok(match (op, dims) {
        (Op::Line(op), &[first, second, width]) => {
            let mut found = view(op, &[first, second, 1, width])?;
            if let Reads::Windows { axes, .. } = &mut found.1 {
                *axes = 1;
            }
            found
        }
        (Op::Conv { window, groups }, &[rows, channels, h, w]) => {
            let shape = LayerShape::new(*groups, rows, channels * h * w);
            (shape, Reads::Windows { window: *window, transposed: false, axes: 2 }, Place::Rows, 1.0, 1.0)
        }
        (Op::ConvTranspose { window, groups, .. }, &[inputs, group_rows, h, w]) => {
            let (channels, taps) = (inputs / groups, h * w);
            let shape = LayerShape::new(*groups, group_rows * groups, channels * taps);
            let place = Place::Transposed { channels, taps };
            (shape, Reads::Windows { window: *window, transposed: true, axes: 2 }, place, 1.0, 1.0)
        }
        (Op::Gemm { alpha, beta, trans_a, trans_b }, &[first, second]) => {
            let (rows, columns) = if *trans_b { (first, second) } else { (second, first) };
            let place = if *trans_b { Place::Rows } else { Place::Columns };
            let reads = if *trans_a { Reads::Columns } else { Reads::Rows };
            (LayerShape::new(1, rows, columns), reads, place, *alpha, *beta)
        }
        (Op::MatMul, &[columns, rows]) => {
            (LayerShape::new(1, rows, columns), Reads::Rows, Place::Columns, 1.0, 0.0)
        }
        _ => return Err(format!("a weight of shape {dims:?} in such a node is not calibrated")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use slq_graph::{Attribute, DType, Dim, Tensor, ValueInfo, infer_shapes};

    fn graph(op: &str, weight: &[usize], input: &[usize], attributes: &[(&str, i64)]) -> Graph {
        let mut graph = Graph::default();
        let dims = input.iter().map(|&d| Dim::Known(d)).collect();
        graph.inputs.push(ValueInfo { name: "x".into(), dtype: DType::F32, shape: Some(dims) });
        graph.outputs.push(ValueInfo { name: "y".into(), dtype: DType::F32, shape: None });
        let count: usize = weight.iter().product();
        let values = (0..count).map(|i| i as f32).collect();
        graph.weights.insert("w".into(), Tensor::f32(weight.to_vec(), values).unwrap().into());
        let mut node = Node::new("n", op, &["x", "w"], &["y"]);
        for (name, value) in attributes {
            node = node.with(name, Attribute::Int(*value));
        }
        graph.nodes.push(node);
        graph
    }

    fn site(graph: &Graph) -> Result<Site, String> {
        let shapes = infer_shapes(graph, &[]).unwrap();
        let spec =
            LayerSpec { weight: "w".into(), node: "n".into(), size: 2, books: Books::Rows(1), half: false };
        Site::find(graph, &shapes, &spec)
    }

    #[test]
    fn tensors_become_matrices_and_come_back() {
        for (op, weight, input, attributes, rows, columns) in [
            ("Conv", &[4, 3, 2, 2][..], &[1, 6, 5, 5][..], &[("group", 2)][..], 4, 12),
            ("ConvTranspose", &[6, 2, 2, 2], &[1, 6, 5, 5], &[("group", 2)], 4, 12),
            ("Gemm", &[3, 5], &[2, 5], &[("transB", 1)], 3, 5),
            ("Gemm", &[5, 3], &[5, 2], &[("transA", 1)], 3, 5),
            ("MatMul", &[5, 3], &[2, 7, 5], &[], 3, 5),
        ] {
            let graph = graph(op, weight, input, attributes);
            let site = site(&graph).unwrap();
            assert_eq!((site.shape.rows, site.shape.columns), (rows, columns), "{op}");
            let values = graph.weights["w"].tensor.as_f32().unwrap();
            let matrix = site.matrix(values);
            assert_eq!(site.tensor(&matrix), values, "{op}");
            let expected = if site.place == Place::Rows { Books::Rows(1) } else { Books::Tensor };
            assert_eq!(site.books(Books::Rows(1)), expected);
        }
    }

    #[test]
    fn rows_are_output_channels() {
        let gemm = graph("Gemm", &[2, 3], &[1, 2], &[]);
        assert_eq!(
            site(&gemm).unwrap().matrix(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
        // Two groups of one input channel and two outputs, kernel 1 x 2: [channel, output, tap].
        let up = graph("ConvTranspose", &[2, 2, 1, 2], &[1, 2, 3, 3], &[("group", 2)]);
        let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
        assert_eq!(site(&up).unwrap().matrix(&values), values);
        let up = graph("ConvTranspose", &[2, 2, 1, 2], &[1, 2, 3, 3], &[]);
        assert_eq!(site(&up).unwrap().matrix(&values), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }

    #[test]
    fn a_layer_that_is_not_there_is_named() {
        let mut graph = graph("Gemm", &[2, 3], &[1, 2], &[]);
        let shapes = infer_shapes(&graph, &[]).unwrap();
        graph.nodes[0].name = "other".into();
        let spec =
            LayerSpec { weight: "w".into(), node: "n".into(), size: 2, books: Books::Tensor, half: false };
        assert!(Site::find(&graph, &shapes, &spec).unwrap_err().contains("`n`"));
    }
}
