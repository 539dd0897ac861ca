//! Matrices turned so that their output channels are rows: a codebook for each channel or for groups of them serves rows.

use std::collections::HashMap;

use crate::evaluate::transposed;
use crate::graph::{Graph, Weight, first_free};
use crate::node::{Attribute, Node};
use crate::quantizable::Quantizable;

impl Graph {
    /// The matrices that a `Transpose` turns round: the name of the result, which is no output of the network, and that of the
    /// weight.
    pub fn turned_matrices(&self) -> HashMap<&str, &str> {
        let turns = |n: &&Node| {
            n.op == "Transpose" && n.domain.is_empty() && n.ints("perm").is_none_or(|perm| perm == [1, 0])
        };
        let mut found = HashMap::new();
        for node in self.nodes.iter().filter(turns) {
            let (Some(from), Some(to)) = (node.input(0), node.outputs.first()) else { continue };
            let is_output = self.outputs.iter().any(|o| o.name == *to);
            if !is_output && self.weights.get(from).is_some_and(|w| w.tensor.shape().len() == 2) {
                found.insert(to.as_str(), from);
            }
        }
        found
    }

    /// Stores matrices `[inputs, outputs]` that `wanted` chooses as `[outputs, inputs]` under their own names, and returns these
    /// in the graph's order. The network computes the same.
    ///
    /// Chosen among are the weights of [`Graph::quantizable`] of two axes, without a palette, that `MatMul` and `Gemm` alone read,
    /// as the right factor. A `Gemm` gets `transB`; for a `MatMul` one `Transpose` for each weight turns it back.
    pub fn turn_rows(&mut self, wanted: impl Fn(&Quantizable) -> bool) -> Vec<String> {
        let found: Vec<String> = self
            .quantizable()
            .into_iter()
            .filter(|q| self.is_turnable(q) && wanted(q))
            .map(|q| q.weight)
            .collect();
        found.into_iter().filter(|name| self.turn(name).is_some()).collect()
    }

    /// Whether weight `q` can be stored as `[outputs, inputs]` by [`Graph::turn_rows`] and is not yet.
    pub fn is_turnable(&self, q: &Quantizable) -> bool {
        let Some(weight) = self.weights.get(&q.weight) else { return false };
        let inside = |n: &Node| {
            n.may_hold_subgraph() && n.bodies().is_none_or(|bodies| bodies.reads.contains(&q.weight))
        };
        let mut readers = self.consumers_of(&q.weight).peekable();
        q.channel_axis == 1
            && weight.tensor.shape().len() == 2
            && weight.palette.is_none()
            && readers.peek().is_some()
            && readers.all(|node| reads_columns(node, &q.weight))
            && self.outputs.iter().all(|o| o.name != q.weight)
            && self.inputs.iter().all(|i| i.name != q.weight)
            && !self.nodes.iter().any(inside)
    }

    fn turn(&mut self, name: &str) -> Option<()> {
        let weight = self.weights.get(name)?;
        let tensor = transposed(&weight.tensor, &[1, 0])?;
        let turned = Weight { tensor, ..weight.clone() };
        let back = self.free_name(&format!("{name}.columns"));
        let mut first = None;
        for (index, node) in
            self.nodes.iter_mut().enumerate().filter(|(_, n)| n.inputs.iter().any(|i| i == name))
        {
            if node.op == "Gemm" {
                node.attributes.insert("transB".into(), Attribute::Int(1));
            } else {
                node.inputs[1].clone_from(&back);
                first.get_or_insert(index);
            }
        }
        if let Some(at) = first {
            let title = self.free_node_name(&format!("{}.columns", self.nodes[at].name));
            let node =
                Node::new(&title, "Transpose", &[name], &[&back]).with("perm", Attribute::Ints(vec![1, 0]));
            self.nodes.insert(at, node);
        }
        self.weights[name] = turned;
        Some(())
    }

    fn free_node_name(&self, wish: &str) -> String {
        first_free(wish, |name| self.nodes.iter().any(|n| n.name == name))
    }
}

/// Whether `node` reads the matrix as `[inputs, outputs]`, on the right and nowhere else.
fn reads_columns(node: &Node, weight: &str) -> bool {
    let places = node.inputs.iter().enumerate().filter(|(_, input)| *input == weight);
    node.domain.is_empty()
        && places.map(|(place, _)| place).eq([1])
        && (node.op == "MatMul" || (node.op == "Gemm" && node.int("transB", 0) == 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DType, Tensor, TensorData};

    fn graph(nodes: Vec<Node>, shape: &[usize]) -> Graph {
        let values = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        let mut graph = Graph { nodes, ..Graph::default() };
        graph.weights.insert("w".into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
        graph
    }

    fn product(op: &str, to: &str) -> Node {
        Node::new(to, op, &["x", "w"], &[to])
    }

    #[test]
    fn a_gemm_reads_rows_and_a_matmul_gets_a_transpose() {
        let mut g =
            graph(vec![product("Gemm", "y"), product("MatMul", "z"), product("MatMul", "t")], &[2, 3]);
        g.weights.insert("w.columns".into(), Tensor::f32(vec![1], vec![0.0]).unwrap().into());
        let before = g.quantizable();
        assert_eq!((before.len(), before[0].channel_axis), (1, 1));
        assert_eq!(g.turn_rows(|_| true), ["w"]);
        assert_eq!(g.weights["w"].tensor.shape(), [3, 2]);
        assert_eq!(g.weights["w"].tensor.as_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let read: Vec<_> =
            g.nodes.iter().map(|n| (n.op.as_str(), n.inputs.join(" "), n.int("transB", 0))).collect();
        let wanted = [
            ("Gemm", "x w", 1),
            ("Transpose", "w", 0),
            ("MatMul", "x w.columns_1", 0),
            ("MatMul", "x w.columns_1", 0),
        ];
        assert_eq!(read, wanted.map(|(op, inputs, trans)| (op, inputs.to_owned(), trans)));
        let after = g.quantizable();
        assert_eq!((after.len(), after[0].weight.as_str(), after[0].channel_axis), (1, "w", 0));
        assert_eq!(g.turn_rows(|_| true), [""; 0], "once is enough");
    }

    #[test]
    fn a_turned_matrix_is_the_weight_of_its_product() {
        let mut g = graph(vec![product("MatMul", "y")], &[2, 3]);
        g.turn_rows(|q| q.op == "MatMul");
        let found = &g.quantizable()[0];
        assert_eq!((found.weight.as_str(), found.node.as_str(), found.op.as_str()), ("w", "y", "MatMul"));
        assert_eq!(g.turned_matrices().into_iter().collect::<Vec<_>>(), [("w.columns", "w")]);
    }

    #[test]
    fn half_floats_are_turned_too() {
        let mut g = graph(vec![product("MatMul", "y")], &[2, 2]);
        let bytes = vec![1, 2, 3, 4, 5, 6, 7, 8];
        g.weights["w"].tensor = Tensor::new(vec![2, 2], TensorData::Raw(DType::F16, bytes)).unwrap();
        assert_eq!(g.turn_rows(|_| true), ["w"]);
        assert_eq!(g.weights["w"].tensor.data(), &TensorData::Raw(DType::F16, vec![1, 2, 5, 6, 3, 4, 7, 8]));
    }

    #[test]
    fn what_others_read_or_what_has_rows_stays() {
        let left = Node::new("l", "MatMul", &["w", "x"], &["l"]);
        let look = Node::new("g", "Gather", &["w", "i"], &["g"]);
        let rows = product("Gemm", "r").with("transB", Attribute::Int(1));
        let own = Node { domain: "own".into(), ..product("MatMul", "o") };
        for nodes in [
            vec![left],
            vec![product("MatMul", "y"), look],
            vec![rows],
            vec![product("MatMul", "y"), own],
            vec![product("Conv", "y")],
        ] {
            let mut g = graph(nodes, &[2, 3]);
            let before = g.clone();
            assert_eq!(g.turn_rows(|_| true), [""; 0]);
            assert_eq!(g, before);
        }
        let mut g = graph(vec![product("MatMul", "y")], &[2, 3]);
        g.weights["w"].palette = Some(crate::Palette::fully_fixed(vec![0.0], 1, vec![0; 6]).unwrap());
        assert_eq!(g.turn_rows(|_| true), [""; 0], "its codes are given");
        let mut g = graph(vec![product("MatMul", "y")], &[1, 2, 3]);
        assert_eq!(g.turn_rows(|_| true), [""; 0], "a stack of matrices");
    }

    proptest! {
        #[test]
        fn every_element_keeps_its_row_and_column(rows in 1usize..70, columns in 1usize..70) {
            let mut g = graph(vec![product("MatMul", "y")], &[rows, columns]);
            g.turn_rows(|_| true);
            let turned = g.weights["w"].tensor.as_f32().unwrap();
            for (at, &v) in turned.iter().enumerate() {
                prop_assert_eq!(v as usize, at % rows * columns + at / rows);
            }
        }
    }
}
