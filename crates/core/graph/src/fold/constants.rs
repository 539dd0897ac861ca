//! Nodes that read constants alone, replaced by their results.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::plan::{Plan, Step, is_finite};
use crate::error::GraphError;
use crate::evaluate::{evaluate, is_reshaping};
use crate::graph::{Graph, Weight};
use crate::order::execution_order;
use crate::resolve::{Context, resolve_with};
use crate::rules::output_shapes;
use crate::tensor::{Tensor, element_count};

/// Replaces nodes that read constants alone by weights under their outputs' names, and removes weights that nothing
/// reads any more because of that. Returns how many nodes went.
///
/// Folded are operators that move elements (`Identity`, `Reshape`, `Squeeze`, `Unsqueeze`, `Flatten`, `Transpose`,
/// `Slice`, `Concat`), casts to 32-bit floats, arithmetic on 32-bit floats (`Add`, `Sub`, `Mul`, `Div`, `Pow`, `Neg`,
/// `Abs`, `Sqrt`, `Reciprocal`, `Exp`, `Log`), and shape arithmetic on up to 4096 integers (those, and `Shape`, `Size`,
/// `Gather`, `Range`, `Where`, ...). Elements are moved exactly; arithmetic is within one unit in the last place.
///
/// What depends on an input of the network, writes one of its outputs or a value that no node reads, or makes no sense
/// is left alone. So is a result
/// of more than 64 KiB that
/// - is computed from a constant of more than 64 KiB that another node reads too, or that several such results are
///   made of which hold more than it does: weights that are shared stay shared;
/// - is more than twice as large as its inputs, or would enlarge the network's constants by more than 16 MiB in all;
/// - holds NaN or an infinity.
///
/// A palette survives a new shape; where other operators read a palettized weight, they stay. A result has the training
/// rates of its node's first input. It takes the place of the first weight it is computed from, if that goes.
///
/// # Errors
/// [`GraphError`] of [`execution_order`]; the graph is then unchanged.
pub fn fold_constants(graph: &mut Graph) -> Result<usize, GraphError> {
    let order = execution_order(graph)?;
    let (steps, kept) = Plan::new(graph, &order).into_steps();
    let mut folding = Folding::new(graph, &steps, kept);
    let gone: HashSet<usize> =
        steps.iter().filter(|step| folding.fold(step)).map(|step| step.index).collect();
    folding.finish();
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
    Ok(gone.len())
}

/// A graph some of whose nodes have been folded: their results are among its weights, behind those of the file.
struct Folding<'g> {
    graph: &'g mut Graph,
    /// Steps to come that read each constant.
    uses: HashMap<String, usize>,
    /// Constants that remain.
    kept: HashSet<String>,
    /// Constants that nothing reads any more; their values are freed.
    gone: HashSet<String>,
    /// The weight of the file that each result begins with.
    origins: HashMap<String, String>,
}

impl<'g> Folding<'g> {
    fn new(graph: &'g mut Graph, steps: &[Step], kept: HashSet<String>) -> Self {
        let mut uses = HashMap::new();
        for input in steps.iter().flat_map(|s| &s.inputs) {
            *uses.entry(input.clone()).or_default() += 1;
        }
        Self { graph, uses, kept, gone: HashSet::new(), origins: HashMap::new() }
    }

    /// Adds the result of a node to the weights; returns whether there is one. Inputs that are read for the last time go.
    fn fold(&mut self, step: &Step) -> bool {
        // An input may be missing because its own node could not be folded.
        let ready = step.inputs.iter().all(|name| self.graph.weights.contains_key(name));
        let result = if ready { self.result(step) } else { None };
        let folded = match (result, step.inputs.first()) {
            (Some(weight), Some(first)) => {
                let origin = self.origins.get(first).unwrap_or(first).clone();
                self.origins.insert(step.output.clone(), origin);
                self.graph.weights.insert(step.output.clone(), weight);
                true
            }
            _ => {
                self.kept.extend(step.inputs.iter().cloned());
                false
            }
        };
        for name in &step.inputs {
            let left = self.uses.get_mut(name).map_or(0, |n| {
                *n -= 1;
                *n
            });
            if left == 0 && !self.kept.contains(name) {
                if let Some(weight) = self.graph.weights.get_mut(name) {
                    *weight = Weight::from(Tensor::i64_vector(Vec::new()));
                }
                self.gone.insert(name.clone());
            }
        }
        folded
    }

    /// The result of a node, `None` where it cannot be had or is not finite.
    fn result(&mut self, step: &Step) -> Option<Weight> {
        let node = &step.node;
        let first = node.input(0)?;
        let weights = &self.graph.weights;
        let inputs: Vec<Option<&Tensor>> =
            node.inputs.iter().map(|name| weights.get(name).map(|w| &w.tensor)).collect();
        let shapes: Vec<Option<&[usize]>> = inputs.iter().map(|t| t.map(Tensor::shape)).collect();
        let nothing = HashMap::new();
        let cx = Context { graph: self.graph, folded: &nothing, types: None, node, shapes: &shapes };
        if !is_reshaping(&node.op) {
            let tensor = evaluate(&cx, &inputs, usize::MAX).ok().flatten().filter(is_finite)?;
            return Some(Weight { rates: weights[first].rates, ..Weight::from(tensor) });
        }
        let op = resolve_with(&cx).ok()?;
        let shape = output_shapes(node, &op, &shapes).ok()?.into_iter().next()?;
        if element_count(&shape) != Some(weights[first].tensor.len()) || !is_finite(&weights[first].tensor) {
            return None;
        }
        // A large weight is moved rather than copied where this is its last reader.
        let last = self.uses.get(first) == Some(&1) && !self.kept.contains(first);
        let weight = if last {
            let empty = Weight::from(Tensor::i64_vector(Vec::new()));
            std::mem::replace(self.graph.weights.get_mut(first)?, empty)
        } else {
            weights[first].clone()
        };
        Some(Weight { tensor: weight.tensor.reshape(shape).ok()?, ..weight })
    }

    /// Puts the results in the places of the weights they begin with, where those are gone, and the others at the end.
    fn finish(self) {
        let mut results: HashMap<&String, Vec<String>> = HashMap::new();
        let mut order = Vec::new();
        for name in self.graph.weights.keys() {
            match self.origins.get(name) {
                Some(_) if self.gone.contains(name) => {}
                Some(origin) if self.gone.contains(origin) => {
                    results.entry(origin).or_default().push(name.clone())
                }
                _ => order.push(name.clone()),
            }
        }
        let names = order.into_iter().flat_map(|name| match results.remove(&name) {
            Some(results) => results,
            None if self.gone.contains(&name) => Vec::new(),
            None => vec![name],
        });
        let names: Vec<String> = names.collect();
        let mut weights: HashMap<String, Weight> =
            std::mem::take(&mut self.graph.weights).into_iter().collect();
        let kept = names.into_iter().filter_map(|name| weights.remove_entry(&name));
        self.graph.weights = kept.collect::<IndexMap<String, Weight>>();
        // Files of ONNX's IR version 3 list weights as inputs too.
        self.graph.inputs.retain(|input| !self.gone.contains(&input.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, DType, Node, Palette, TensorData, ValueInfo};

    fn graph(nodes: Vec<Node>, weights: Vec<(&str, Weight)>) -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes,
            weights: weights.into_iter().map(|(n, w)| (n.to_string(), w)).collect(),
            ..Graph::default()
        }
    }

    fn floats(shape: &[usize]) -> Weight {
        let count = shape.iter().product::<usize>();
        Tensor::f32(shape.to_vec(), (0..count).map(|i| i as f32).collect()).unwrap().into()
    }

    fn ints(values: &[i64]) -> Weight {
        Tensor::i64_vector(values.to_vec()).into()
    }

    /// Names of the weights and nodes that are left.
    fn names(graph: &Graph) -> (Vec<&str>, Vec<&str>) {
        (
            graph.weights.keys().map(String::as_str).collect(),
            graph.nodes.iter().map(|n| n.name.as_str()).collect(),
        )
    }

    fn transpose(name: &str, from: &str, to: &str) -> Node {
        Node::new(name, "Transpose", &[from], &[to])
    }

    #[test]
    fn a_transposed_weight_becomes_a_weight_in_its_place() {
        let nodes = || {
            let product = Node::new("m", "MatMul", &["x", "v"], &["h"]);
            vec![transpose("t", "w", "v"), product, Node::new("a", "Add", &["h", "b"], &["y"])]
        };
        let mut g = graph(nodes(), vec![("w", floats(&[2, 3])), ("b", floats(&[2]))]);
        assert_eq!(fold_constants(&mut g), Ok(1));
        assert_eq!(names(&g), (vec!["v", "b"], vec!["m", "a"]));
        let v = &g.weights["v"].tensor;
        assert_eq!((v.shape(), v.as_f32().unwrap()), (&[3, 2][..], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0][..]));
        assert_eq!(g.quantizable().into_iter().map(|q| q.weight).collect::<Vec<_>>(), ["v"]);
        // A palette stays where it is.
        let palette = Palette::fully_fixed((0..6).map(|i| i as f32).collect(), 1, (0..6).collect()).ok();
        let mut g = graph(nodes(), vec![("w", Weight { palette, ..floats(&[2, 3]) }), ("b", floats(&[2]))]);
        let before = g.clone();
        assert_eq!(fold_constants(&mut g), Ok(0));
        assert_eq!(g, before);
    }

    #[test]
    fn a_reshaped_weight_keeps_palette_and_rates() {
        let palette = Palette::fully_fixed(vec![0.0, 1.0], 1, vec![0, 1]).ok();
        let rates = crate::TrainingRates { lr_mult: 0.5, decay_mult: 2.0 };
        let w = Weight { palette: palette.clone(), rates, ..floats(&[2]) };
        let mut g = graph(
            vec![
                Node::new("u", "Unsqueeze", &["w"], &["u"]).with("axes", Attribute::Ints(vec![0])),
                Node::new("i", "Identity", &["u"], &["v"]),
                Node::new("m", "MatMul", &["x", "v"], &["y"]),
            ],
            vec![("w", w)],
        );
        assert_eq!(fold_constants(&mut g), Ok(2));
        assert_eq!(names(&g), (vec!["v"], vec!["m"]));
        let v = &g.weights["v"];
        assert_eq!((v.tensor.shape(), &v.palette, v.rates), (&[1, 2][..], &palette, rates));
    }

    #[test]
    fn shape_arithmetic_keeps_its_element_types() {
        let mut g = graph(
            vec![
                Node::new("s", "Shape", &["w"], &["s"]),
                Node::new("g", "Gather", &["s", "one"], &["g"]),
                Node::new("c", "Concat", &["minus", "g"], &["c"]).with("axis", Attribute::Int(0)),
                Node::new("i", "Cast", &["c"], &["i"]).with("to", Attribute::Int(6)),
                Node::new("r", "Reshape", &["x", "c"], &["y"]),
                Node::new("k", "Keep", &["i"], &["z"]),
                Node::new("n", "Neg", &["one"], &["unread"]),
            ],
            vec![("w", floats(&[4, 7])), ("one", ints(&[1])), ("minus", ints(&[-1]))],
        );
        assert_eq!(fold_constants(&mut g), Ok(4));
        assert_eq!(names(&g), (vec!["one", "c", "i"], vec!["r", "k", "n"]));
        assert_eq!(g.weights["c"].tensor.data(), &TensorData::I64(vec![-1, 7]));
        assert_eq!(g.weights["i"].tensor.data(), &TensorData::I32(vec![-1, 7]));
    }

    /// A square weight of 256 KiB.
    fn large() -> Weight {
        floats(&[256, 256])
    }

    fn product(name: &str, b: &str, to: &str) -> Node {
        Node::new(name, "MatMul", &["x", b], &[to])
    }

    #[test]
    fn large_weights_that_are_shared_stay_one() {
        let turned = transpose("t", "w", "v");
        let back = Node::new("s", "Transpose", &["w"], &["u"]).with("perm", Attribute::Ints(vec![0, 1]));
        let by_another =
            vec![turned.clone(), product("m", "v", "y"), Node::new("e", "Gather", &["w", "x"], &["z"])];
        let twice = vec![turned.clone(), back, product("m", "v", "y"), product("n", "u", "z")];
        let sub_graph =
            Node::new("if", "If", &["x"], &["z"]).with("then_branch", Attribute::Opaque(vec![1, 2]));
        let by_sub_graph = vec![turned.clone(), product("m", "v", "y"), sub_graph];
        let mut as_output = graph(vec![turned.clone(), product("m", "v", "y")], vec![("w", large())]);
        as_output.outputs.push(ValueInfo { name: "w".into(), ..as_output.outputs[0].clone() });
        let cases = [by_another, twice, by_sub_graph].map(|nodes| graph(nodes, vec![("w", large())]));
        for mut g in cases.into_iter().chain([as_output]) {
            let before = g.clone();
            assert_eq!(fold_constants(&mut g), Ok(0), "{:?}", names(&g));
            assert_eq!(g, before);
        }
        // A small copy costs nothing.
        let mut g = graph(
            vec![turned, product("m", "v", "y"), Node::new("e", "Gather", &["w", "x"], &["z"])],
            vec![("w", floats(&[16, 16]))],
        );
        assert_eq!(fold_constants(&mut g), Ok(1));
        assert_eq!(names(&g), (vec!["w", "v"], vec!["m", "e"]));
    }

    #[test]
    fn disjoint_parts_of_a_large_weight_are_no_copies() {
        // Queries, keys and values in one matrix, as attention layers have it.
        let w = floats(&[256, 3 * 256]);
        let part = |i: i64| {
            Node::new(&format!("s{i}"), "Slice", &["w"], &[&format!("v{i}")])
                .with("starts", Attribute::Ints(vec![i * 256]))
                .with("ends", Attribute::Ints(vec![(i + 1) * 256]))
                .with("axes", Attribute::Ints(vec![1]))
        };
        let mut nodes: Vec<Node> = (0..3).map(part).collect();
        nodes.extend((0..3).map(|i| product(&format!("m{i}"), &format!("v{i}"), &format!("y{i}"))));
        let mut g = graph(nodes, vec![("first", floats(&[1])), ("w", w), ("last", floats(&[1]))]);
        g.outputs = (0..3).map(|i| ValueInfo { name: format!("y{i}"), ..g.outputs[0].clone() }).collect();
        g.metadata.opset = 9;
        assert_eq!(fold_constants(&mut g), Ok(3));
        assert_eq!(names(&g), (vec!["first", "v0", "v1", "v2", "last"], vec!["m0", "m1", "m2"]));
        let v1 = &g.weights["v1"].tensor;
        assert_eq!((v1.shape(), v1.as_f32().unwrap()[256]), (&[256, 256][..], (768 + 256) as f32));
    }

    #[test]
    fn nothing_grows_without_bound() {
        // An outer product: 256 KiB from 2 KiB.
        let outer = Node::new("o", "Mul", &["r", "c"], &["v"]);
        let weights = vec![("r", floats(&[1, 256])), ("c", floats(&[256, 1]))];
        let mut g = graph(vec![outer, product("m", "v", "y")], weights);
        assert_eq!(fold_constants(&mut g), Ok(0));
        // A weight beside itself, again and again: 64 times 256 KiB is the most that is added.
        let mut nodes: Vec<Node> = (0..40)
            .map(|i| {
                let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
                Node::new(&format!("n{i}"), "Concat", &[&from, &from], &[&to]).with("axis", Attribute::Int(0))
            })
            .collect();
        nodes.push(Node::new("last", "Add", &["x", "v40"], &["y"]));
        let mut g = graph(nodes, vec![("v0", large())]);
        assert_eq!(fold_constants(&mut g), Ok(6));
        assert_eq!(g.weights["v6"].tensor.shape(), [256 << 6, 256]);
        // 64 MiB from 32 KiB are not even tried.
        let mut nodes: Vec<Node> =
            (0..5000).map(|i| Node::new(&format!("n{i}"), "Mul", &["r", "c"], &[&format!("v{i}")])).collect();
        nodes.extend((0..5000).map(|i| Node::new(&format!("m{i}"), "Neg", &[&format!("v{i}")], &[])));
        nodes.push(Node::new("last", "Add", &["x", "r"], &["y"]));
        let weights = vec![("r", floats(&[1, 4096])), ("c", floats(&[4096, 1]))];
        assert_eq!(fold_constants(&mut graph(nodes, weights)), Ok(0));
        // Nor is 1 GiB from 16 KiB.
        let join = Node::new("j", "Concat", &["w"; 1 << 16], &["v"]).with("axis", Attribute::Int(0));
        let nodes = vec![join, Node::new("a", "Add", &["x", "v"], &["y"])];
        assert_eq!(fold_constants(&mut graph(nodes, vec![("w", floats(&[4096]))])), Ok(0));
        // Many small results of one constant stop at 16 MiB as well.
        let mut nodes: Vec<Node> =
            (0..2000).map(|i| Node::new(&format!("n{i}"), "Neg", &["w"], &[&format!("v{i}")])).collect();
        nodes.extend((0..2000).map(|i| {
            let output = if i == 0 { "y".into() } else { format!("y{i}") };
            Node::new(&format!("m{i}"), "Add", &["x", &format!("v{i}")], &[&output])
        }));
        let mut g = graph(nodes, vec![("w", floats(&[4096]))]);
        assert_eq!(fold_constants(&mut g), Ok((16 << 20) / (4 * 4096)));
    }

    #[test]
    fn results_that_are_no_numbers_stay_nodes() {
        for (weight, op) in [(floats(&[2]), "Log"), (large(), "Reciprocal")] {
            let nodes = vec![
                Node::new("f", op, &["w"], &["u"]),
                Node::new("n", "Neg", &["u"], &["v"]),
                Node::new("a", "Add", &["x", "v"], &["y"]),
            ];
            let mut g = graph(nodes, vec![("w", weight)]);
            let before = g.clone();
            assert_eq!(fold_constants(&mut g), Ok(0), "{op}");
            assert_eq!(g, before);
        }
    }
}
