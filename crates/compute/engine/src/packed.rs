//! Weights that stay packed: which ones can, and in which form a layer reads them.

use std::fmt;
use std::sync::Arc;

use slq_graph::{DType, Dim, Graph, ValueInfo};
use slq_kernels::packed::{Order, PackedMatrix};

/// A weight as codes and codebooks, for evaluation.
#[derive(Debug, Clone)]
pub struct PackedWeight {
    /// Its name in the graph.
    pub name: String,
    /// Its shape in the graph.
    pub shape: Vec<usize>,
    /// The matrix of its layer, as [`packed_form`] says.
    pub matrix: Arc<PackedMatrix>,
}

impl PackedWeight {
    /// The weight as an input of the network, which is how shape inference knows it.
    pub(crate) fn as_input(&self) -> ValueInfo {
        let shape = self.shape.iter().map(|&d| Dim::Known(d)).collect();
        ValueInfo { name: self.name.clone(), dtype: DType::F32, shape: Some(shape) }
    }
}

/// Leaves only the inputs that a caller gives: neither weights nor packed weights.
pub(crate) fn keep_given_inputs(graph: &mut Graph, packed: &[PackedWeight]) {
    let Graph { inputs, weights, .. } = graph;
    inputs.retain(|i| !weights.contains_key(&i.name) && packed.iter().all(|w| w.name != i.name));
}

/// Why a weight cannot stay packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotPacked {
    /// An operator reads it that has no packed kernel, or reads it as something else than the weight.
    Reader,
    /// It is an output of the network.
    Output,
    /// Nothing reads it.
    Unread,
    /// Two layers read it in different forms.
    Forms,
}

impl fmt::Display for NotPacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotPacked::Reader => {
                "it is not the weight of a Conv, Gemm or MatMul, or that node transposes its input"
            }
            NotPacked::Output => "it is an output of the network",
            NotPacked::Unread => "no node reads it",
            NotPacked::Forms => "layers read it in different forms",
        })
    }
}

/// The matrix that the layers of weight `name` multiply with: its rows (outputs) and depth (inputs), and in which order
/// the weight's elements are its elements.
///
/// # Errors
/// [`NotPacked`] where some node needs the weight as floats.
pub fn packed_form(graph: &Graph, name: &str, shape: &[usize]) -> Result<([usize; 2], Order), NotPacked> {
    let is_output = graph.outputs.iter().any(|o| o.name == name);
    if let Some(back) = turned_back(graph, name, shape).filter(|_| !is_output) {
        let turned: Vec<usize> = shape.iter().rev().copied().collect();
        let (size, order) = read_form(graph, back, &turned)?;
        return Ok((size, if order == Order::Rows { Order::Columns } else { Order::Rows }));
    }
    read_form(graph, name, shape)
}

/// The form in which the readers of value `name` take it.
fn read_form(graph: &Graph, name: &str, shape: &[usize]) -> Result<([usize; 2], Order), NotPacked> {
    if graph.outputs.iter().any(|o| o.name == name) {
        return Err(NotPacked::Output);
    }
    let mut form = None;
    for node in &graph.nodes {
        let places: Vec<usize> = (0..node.inputs.len()).filter(|&i| node.inputs[i] == name).collect();
        if places.is_empty() {
            // A sub-graph may read any value, but nodes that have one cannot run.
            continue;
        }
        let found = match (node.op.as_str(), shape) {
            _ if places != [1] || !(node.domain.is_empty() || node.domain == "ai.onnx") => None,
            ("Conv", &[rows, ref inner @ ..]) if inner.len() >= 2 => {
                Some(([rows, inner.iter().product()], Order::Rows))
            }
            ("Gemm", _) if node.int("transA", 0) != 0 => None,
            ("Gemm", &[rows, depth]) if node.int("transB", 0) != 0 => Some(([rows, depth], Order::Rows)),
            ("Gemm" | "MatMul", &[depth, rows]) => Some(([rows, depth], Order::Columns)),
            _ => None,
        };
        let found = found.ok_or(NotPacked::Reader)?;
        if form.is_some_and(|form| form != found) {
            return Err(NotPacked::Forms);
        }
        form = Some(found);
    }
    form.ok_or(NotPacked::Unread)
}

/// The transpose of a matrix that nothing else reads; products read such a weight as it is stored.
fn turned_back<'a>(graph: &'a Graph, name: &'a str, shape: &[usize]) -> Option<&'a str> {
    let mut readers = graph.consumers_of(name);
    let (node, None) = (readers.next()?, readers.next()) else { return None };
    let turns = node.op == "Transpose"
        && (node.domain.is_empty() || node.domain == "ai.onnx")
        && shape.len() == 2
        && node.ints("perm").is_none_or(|perm| perm == [1, 0]);
    node.outputs.first().filter(|_| turns).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slq_graph::{Attribute, Node};

    #[test]
    fn forms_follow_the_readers() {
        let form =
            |nodes: Vec<Node>, shape: &[usize]| packed_form(&Graph { nodes, ..Graph::default() }, "w", shape);
        let node = |op, inputs: &[&str]| Node::new(op, op, inputs, &["y"]);
        let turned = |name| node("Gemm", &["x", "w"]).with(name, Attribute::Int(1));
        assert_eq!(form(vec![node("Conv", &["x", "w"])], &[4, 3, 2, 1]), Ok(([4, 6], Order::Rows)));
        assert_eq!(form(vec![turned("transB")], &[4, 3]), Ok(([4, 3], Order::Rows)));
        assert_eq!(form(vec![turned("transA")], &[4, 3]), Err(NotPacked::Reader));
        assert_eq!(form(vec![node("MatMul", &["x", "w"])], &[4, 3]), Ok(([3, 4], Order::Columns)));
        assert_eq!(form(vec![node("MatMul", &["w", "x"])], &[4, 3]), Err(NotPacked::Reader));
        assert_eq!(form(vec![node("MatMul", &["w", "w"])], &[4, 4]), Err(NotPacked::Reader));
        assert_eq!(form(vec![node("Relu", &["w"])], &[4, 3]), Err(NotPacked::Reader));
        assert_eq!(form(vec![], &[4, 3]), Err(NotPacked::Unread));
        let turn = Node::new("t", "Transpose", &["w"], &["v"]);
        let behind = |op| vec![turn.clone(), node(op, &["x", "v"])];
        assert_eq!(form(behind("MatMul"), &[3, 4]), Ok(([3, 4], Order::Rows)));
        assert_eq!(form(behind("Gemm"), &[3, 4]), Ok(([3, 4], Order::Rows)));
        assert_eq!(form(behind("Relu"), &[3, 4]), Err(NotPacked::Reader));
        assert_eq!(
            form([behind("MatMul"), vec![node("Relu", &["w"])]].concat(), &[3, 4]),
            Err(NotPacked::Reader)
        );
        let both = vec![turned("transB"), node("MatMul", &["x", "w"])];
        assert_eq!(form(both, &[4, 3]), Err(NotPacked::Forms));
    }
}
