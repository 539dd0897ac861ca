//! Which nodes fold: those whose inputs are constants, as far as that keeps a network's constants small and shared.

use std::collections::{HashMap, HashSet};

use crate::dtype::DType;
use crate::evaluate::{LARGEST_SMALL, evaluate, is_reshaping, is_unlimited, shape_of, size_of};
use crate::graph::Graph;
use crate::node::Node;
use crate::resolve::{Context, resolve_with};
use crate::rules::output_shapes;
use crate::tensor::{Tensor, element_count};

/// Bytes up to which a constant is small: copies of it cost nothing.
const SMALL_BYTES: usize = 1 << 16;
/// Bytes by which folding may enlarge a network's constants in all.
const GROWTH: usize = 16 << 20;

/// A node to be folded.
pub(super) struct Step {
    /// Position of the node in the graph.
    pub index: usize,
    /// The node.
    pub node: Node,
    /// Name of its only output.
    pub output: String,
    /// Names of what it reads, each once.
    pub inputs: Vec<String>,
}

/// A node that reads constants alone.
struct Candidate<'g> {
    /// Position of the node in the graph.
    node: usize,
    /// Name of its only output.
    output: &'g str,
    /// Names of what it reads, each once.
    inputs: Vec<&'g str>,
    /// Whether it is folded.
    folds: bool,
    shape: Vec<usize>,
    dtype: DType,
}

impl Candidate<'_> {
    fn bytes(&self) -> usize {
        bytes(&self.shape, self.dtype)
    }
}

fn bytes(shape: &[usize], dtype: DType) -> usize {
    element_count(shape).and_then(|n| n.checked_mul(dtype.size())).unwrap_or(usize::MAX)
}

/// The nodes that read constants alone, and which of them are folded.
pub(super) struct Plan<'g> {
    graph: &'g Graph,
    /// In execution order.
    candidates: Vec<Candidate<'g>>,
    /// Candidate that writes each value.
    writers: HashMap<&'g str, usize>,
    /// Candidates that read each value.
    readers: HashMap<&'g str, Vec<usize>>,
    /// Values that remain: graph outputs, and what a node that is not folded reads.
    kept: HashSet<&'g str>,
    /// Bytes by which the constants have grown so far.
    grown: usize,
}

impl<'g> Plan<'g> {
    /// Plans the folding of `graph`, whose nodes can run in `order`.
    pub fn new(graph: &'g Graph, order: &[usize]) -> Self {
        let mut plan = Self {
            graph,
            candidates: Vec::new(),
            writers: HashMap::new(),
            readers: HashMap::new(),
            kept: graph.outputs.iter().map(|o| o.name.as_str()).collect(),
            grown: 0,
        };
        plan.collect(order);
        plan.keep_what_is_shared();
        plan.keep_what_grows();
        plan
    }

    /// The nodes to be folded, in execution order, and the constants that remain.
    pub fn into_steps(self) -> (Vec<Step>, HashSet<String>) {
        let step = |c: Candidate| Step {
            index: c.node,
            node: self.graph.nodes[c.node].clone(),
            output: c.output.into(),
            inputs: c.inputs.into_iter().map(str::to_string).collect(),
        };
        let steps = self.candidates.into_iter().filter(|c| c.folds).map(step).collect();
        (steps, self.kept.into_iter().map(str::to_string).collect())
    }

    /// Finds the candidates and what the other nodes read.
    fn collect(&mut self, order: &[usize]) {
        // What the bodies of nodes read stays; of a body that cannot be decoded, everything may be read.
        let bodies: Option<Vec<_>> = self.graph.nodes.iter().map(Node::bodies).collect();
        let any_opaque = bodies.is_none();
        let written = self.graph.nodes.iter().flat_map(|n| &n.outputs);
        let own: HashSet<&str> = self.graph.weights.keys().chain(written).map(String::as_str).collect();
        let read_inside = bodies.unwrap_or_default().into_iter().flat_map(|b| b.reads);
        self.kept.extend(read_inside.filter_map(|name| own.get(name.as_str()).copied()));
        let read = self.graph.nodes.iter().flat_map(|n| &n.inputs).map(String::as_str).collect();
        let mut values = Values { read, known: HashMap::new(), coded: HashSet::new() };
        for &i in order {
            let node = &self.graph.nodes[i];
            let found = self.result(node, &mut values);
            if let (Some((shape, dtype)), [output]) = (found, node.outputs.as_slice()) {
                let mut inputs: Vec<&str> = Vec::new();
                for input in node.inputs.iter().filter(|i| !i.is_empty()) {
                    if !inputs.contains(&input.as_str()) {
                        inputs.push(input);
                    }
                }
                let position = self.candidates.len();
                inputs.iter().for_each(|input| self.readers.entry(input).or_default().push(position));
                self.writers.insert(output, position);
                if any_opaque {
                    self.kept.extend(inputs.iter().copied().chain([output.as_str()]));
                }
                self.candidates.push(Candidate { node: i, output, inputs, folds: true, shape, dtype });
            } else {
                self.kept.extend(node.inputs.iter().map(String::as_str));
            }
        }
    }

    /// Shape and element type of the output of a node that can be folded. Small results are evaluated, since shapes
    /// depend on them.
    fn result(&mut self, node: &'g Node, values: &mut Values<'g>) -> Option<(Vec<usize>, DType)> {
        let [output] = node.outputs.as_slice() else { return None };
        let constant = |name: &String| name.is_empty() || self.described(name).is_some();
        let reads = node.inputs.iter().any(|i| !i.is_empty()) && node.inputs.iter().all(constant);
        let wanted = values.read.contains(output.as_str()) && !self.kept.contains(output.as_str());
        if !node.domain.is_empty() || !reads || !wanted {
            return None;
        }
        // A palette survives another shape, and nothing else.
        let coded = |name: &String| {
            values.coded.contains(name.as_str())
                || self.graph.weights.get(name).is_some_and(|w| w.palette.is_some())
        };
        let palettized = node.inputs.iter().any(coded);
        if palettized && !is_reshaping(&node.op) {
            return None;
        }
        let described: Vec<Option<(&[usize], DType)>> =
            node.inputs.iter().map(|name| self.described(name)).collect();
        let shapes: Vec<Option<&[usize]>> = described.iter().map(|d| d.map(|(shape, _)| shape)).collect();
        let found = match self.small_result(node, &shapes, values) {
            Some(tensor) if !is_finite(&tensor) => return None,
            Some(tensor) => {
                let result = (tensor.shape().to_vec(), tensor.dtype());
                let grown = self.grown.saturating_add(bytes(&result.0, result.1));
                if grown > GROWTH {
                    return None;
                }
                self.grown = grown;
                values.known.insert(output.clone(), tensor);
                result
            }
            None => {
                let cx =
                    Context { graph: self.graph, folded: &values.known, types: None, node, shapes: &shapes };
                let types: Vec<DType> = described.iter().flatten().map(|d| d.1).collect();
                large_result(&cx, &types)?
            }
        };
        if palettized {
            values.coded.insert(output);
        }
        Some(found)
    }

    /// Shape and type of a weight or of a candidate's output.
    fn described(&self, name: &str) -> Option<(&[usize], DType)> {
        if let Some(weight) = self.graph.weights.get(name) {
            return Some((weight.tensor.shape(), weight.tensor.dtype()));
        }
        let candidate = &self.candidates[*self.writers.get(name)?];
        Some((&candidate.shape, candidate.dtype))
    }

    /// The value of a node if its inputs and its result are small; `None` where they are not, or where the node is not
    /// one that is evaluated.
    fn small_result(&self, node: &Node, shapes: &[Option<&[usize]>], values: &Values) -> Option<Tensor> {
        let cx = Context { graph: self.graph, folded: &values.known, types: None, node, shapes };
        match node.op.as_str() {
            "Shape" => return shape_of(&cx).ok(),
            "Size" => return size_of(&cx).ok().flatten(),
            _ => {}
        }
        let small = |name: &String| {
            let weight = self.graph.weights.get(name).map(|w| &w.tensor);
            weight.or_else(|| values.known.get(name)).filter(|t| t.len() <= LARGEST_SMALL)
        };
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            inputs.push(if name.is_empty() { None } else { Some(small(name)?) });
        }
        // A node that makes no sense is left to whoever runs it.
        evaluate(&cx, &inputs, SMALL_BYTES / 4).ok().flatten().filter(|t| !t.is_empty())
    }

    fn bytes_of(&self, name: &str) -> usize {
        self.described(name).map_or(0, |(shape, dtype)| bytes(shape, dtype))
    }

    fn is_large(&self, name: &str) -> bool {
        self.bytes_of(name) > SMALL_BYTES
    }

    /// A large constant that remains, or that several nodes make more of than it holds, is not copied: the network
    /// would grow, and weights that are one would be trained as two. Nor is a result folded that is more than twice as
    /// large as what it is computed from.
    fn keep_what_is_shared(&mut self) {
        let mut rejected = Vec::new();
        for (&name, readers) in self.readers.iter().filter(|(name, _)| self.is_large(name)) {
            let own = self.bytes_of(name);
            let large = readers.iter().filter(|&&r| self.candidates[r].bytes() > SMALL_BYTES);
            let taken = large.fold(0usize, |n, &r| n.saturating_add(self.candidates[r].bytes().min(own)));
            if self.kept.contains(name) || taken > own {
                rejected.extend(readers.iter().filter(|&&r| self.candidates[r].bytes() > SMALL_BYTES));
            }
        }
        for (i, candidate) in self.candidates.iter().enumerate() {
            let read = self.bytes_read(candidate);
            if candidate.bytes() > SMALL_BYTES && candidate.bytes() > read.saturating_mul(2) {
                rejected.push(i);
            }
        }
        self.reject(rejected);
    }

    fn bytes_read(&self, candidate: &Candidate) -> usize {
        candidate.inputs.iter().fold(0usize, |n, name| n.saturating_add(self.bytes_of(name)))
    }

    /// Stops folding large results where the constants have grown by [`GROWTH`].
    fn keep_what_grows(&mut self) {
        for i in 0..self.candidates.len() {
            let candidate = &self.candidates[i];
            // Widening a float is bounded by the number of elements.
            let widens = self.graph.nodes[candidate.node].op == "Cast";
            if !candidate.folds || candidate.bytes() <= SMALL_BYTES || widens {
                continue;
            }
            let growth = candidate.bytes().saturating_sub(self.bytes_read(candidate));
            if self.grown.saturating_add(growth) > GROWTH {
                self.reject(vec![i]);
            } else {
                self.grown += growth;
            }
        }
    }

    /// Leaves these candidates alone, and with them what depends on it.
    fn reject(&mut self, mut pending: Vec<usize>) {
        let none = Vec::new();
        while let Some(i) = pending.pop() {
            if !std::mem::replace(&mut self.candidates[i].folds, false) {
                continue;
            }
            // Its output is no constant any more.
            pending.extend(self.readers.get(self.candidates[i].output).unwrap_or(&none));
            // Its inputs remain, so that no large copies of them are made.
            for k in 0..self.candidates[i].inputs.len() {
                let input = self.candidates[i].inputs[k];
                if self.kept.insert(input) && self.is_large(input) {
                    let readers = self.readers.get(input).unwrap_or(&none).iter();
                    pending.extend(readers.filter(|&&r| self.candidates[r].bytes() > SMALL_BYTES));
                }
            }
        }
    }
}

/// What is known of values while candidates are collected.
struct Values<'g> {
    /// Values that some node reads.
    read: HashSet<&'g str>,
    /// Small results.
    known: HashMap<String, Tensor>,
    /// Results that have a palette.
    coded: HashSet<&'g str>,
}

/// Whether no element is NaN or infinite.
pub(super) fn is_finite(tensor: &Tensor) -> bool {
    tensor.as_f32().is_none_or(|values| values.iter().all(|v| v.is_finite()))
}

/// Shape and element type of a result that is not evaluated yet.
fn large_result(cx: &Context, types: &[DType]) -> Option<(Vec<usize>, DType)> {
    let (op, first) = (cx.node.op.as_str(), *types.first()?);
    let dtype = match op {
        "Cast" => {
            use DType::{Bf16, Bool, F16, F32, F64, I32, I64, U8};
            matches!(first, F32 | F64 | F16 | Bf16 | I64 | I32 | U8 | Bool).then_some(F32)?
        }
        "Concat" => types.iter().all(|&t| t == first).then_some(first)?,
        "Transpose" | "Slice" => first,
        _ if is_reshaping(op) => first,
        _ if is_unlimited(op) => types.iter().all(|&t| t == DType::F32).then_some(DType::F32)?,
        _ => return None,
    };
    // Resolving refuses casts to anything but 32-bit floats, and shapes without elements.
    let op = resolve_with(cx).ok()?;
    let shape = output_shapes(cx.node, &op, cx.shapes).ok()?.into_iter().next()?;
    Some((shape, dtype))
}
