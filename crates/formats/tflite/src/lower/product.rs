//! Dense layers and matrix products with a constant matrix.

use slq_graph::Node;
use slq_graph::op::Op;

use super::context::{Lowering, Lowers, output, refuse};
use crate::arrange::Arrangement;
use crate::schema::{Code, Options};

impl Lowering<'_> {
    pub(super) fn gemm(&mut self, node: &Node, op: &Op) -> Lowers {
        let &Op::Gemm { alpha, beta, trans_a, trans_b } = op else {
            return refuse("it is no matrix product");
        };
        if trans_a {
            return refuse("its first matrix is transposed");
        }
        let value = self.input(node, 0)?;
        let (node, trans_b) = (&self.as_stored(node), trans_b != self.reads_turned(node));
        let (inputs, outputs) = self.matrix(node, trans_b)?;
        let order = Arrangement::dense(outputs, inputs, trans_b, value.image);
        let weight = self.weight(node, 1, order, alpha)?;
        let bias = self.bias(node, 2, outputs, beta)?;
        self.result(node, Code::FullyConnected, Options::fully_connected(), vec![value.tensor, weight, bias])
    }

    pub(super) fn mat_mul(&mut self, node: &Node) -> Lowers {
        let value = self.input(node, 0)?;
        let (node, turned) = (&self.as_stored(node), self.reads_turned(node));
        let (inputs, outputs) = self.matrix(node, turned)?;
        let order = Arrangement::dense(outputs, inputs, turned, value.image);
        let shape = self.output_shape(node)?;
        if value.shape.len() == 2 {
            let weight = self.weight(node, 1, order, 1.0)?;
            let bias = self.bias(node, 2, outputs, 1.0)?;
            let read = vec![value.tensor, weight, bias];
            return self.result(node, Code::FullyConnected, Options::fully_connected(), read);
        }
        // Rows of all leading axes at once.
        let name = output(node)?.to_string();
        let (tensor, old) = self.plain_input(node, 0)?;
        let rows = old.iter().rev().skip(1).product::<usize>();
        let flat = self.reshape(tensor, &[rows, inputs], &format!("{name}.rows"));
        let weight = self.weight(node, 1, order, 1.0)?;
        let bias = self.bias(node, 2, outputs, 1.0)?;
        let options = Options::fully_connected();
        let read = vec![flat, weight, bias];
        let product =
            self.emit(Code::FullyConnected, options, read, vec![rows, outputs], &format!("{name}.product"));
        let shaped = self.reshape(product, &shape, &name);
        let tensor = self.channels_last(shaped, &shape, &name);
        self.bind(&name, tensor, shape, None);
        Ok(())
    }

    /// Whether the node's second input is the transpose of a weight.
    fn reads_turned(&self, node: &Node) -> bool {
        node.input(1).is_some_and(|name| self.turned.contains_key(name))
    }

    /// The node, its second input named as the weight that it is or that it is the transpose of.
    fn as_stored(&self, node: &Node) -> Node {
        let mut node = node.clone();
        if let Some(weight) = node.input(1).and_then(|name| self.turned.get(name)) {
            node.inputs[1] = (*weight).to_owned();
        }
        node
    }

    /// Whether the node turns a weight for dense layers alone, which read it as it is stored.
    pub(super) fn only_turns(&self, node: &Node) -> bool {
        let Some(turned) = node.outputs.first().filter(|o| self.turned.contains_key(o.as_str())) else {
            return false;
        };
        let reads = |n: &Node| {
            matches!(n.op.as_str(), "Gemm" | "MatMul")
                && n.inputs.iter().enumerate().all(|(i, input)| (i == 1) == (input == turned))
        };
        self.graph.outputs.iter().all(|o| o.name != *turned) && self.graph.consumers_of(turned).all(reads)
    }

    /// Inputs and outputs of the constant matrix that is the node's second input.
    fn matrix(&self, node: &Node, transposed: bool) -> Lowers<(usize, usize)> {
        let shape = node.input(1).and_then(|name| self.constant(name)).map(|t| t.shape().to_vec());
        match shape.as_deref() {
            Some(&[outputs, inputs]) if transposed => Ok((inputs, outputs)),
            Some(&[inputs, outputs]) => Ok((inputs, outputs)),
            Some(_) => refuse("its matrix has more than two axes"),
            None => refuse("it multiplies two activations; one of them must be a constant matrix"),
        }
    }
}
