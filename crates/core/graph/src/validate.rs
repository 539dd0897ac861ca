//! Validation of a graph: unique names, execution order, weights that fit their nodes.

use std::collections::HashSet;

use crate::error::GraphError;
use crate::graph::Graph;
use crate::node::Node;
use crate::order::{execution_order, label, writers};

/// Checks that `graph` is well formed, whether or not the engine can run it.
///
/// Node names are present and unique; every value is written once, and before it is read; graph outputs exist;
/// parameters of layers are finite; palettes belong to their weights; the weights of convolutions, Gemms and
/// batch-norms fit each other. Shapes of activations are checked by
/// [`infer_shapes`](crate::infer::infer_shapes).
///
/// # Errors
/// One variant of [`GraphError`] for each of these, naming node, value or weight.
pub fn validate(graph: &Graph) -> Result<(), GraphError> {
    unique_names(graph)?;
    written_before_read(graph)?;
    if graph.outputs.is_empty() {
        return Err(GraphError::NoOutputs);
    }
    outputs_exist(graph)?;
    non_finite_weights(graph)?;
    for (name, weight) in &graph.weights {
        let Some(palette) = &weight.palette else { continue };
        let refuse = |reason: String| GraphError::PaletteMismatch { weight: name.clone(), reason };
        let values = weight.tensor.to_f32();
        let values = values.ok_or_else(|| refuse("a palette needs floats".into()))?;
        if palette.codes().len() != values.len() {
            return Err(refuse(format!("{} codes for {} values", palette.codes().len(), values.len())));
        }
        if let Some(i) = palette.first_off_centroid(&values) {
            let (value, centroid) = (values[i], palette.decode()[i]);
            return Err(refuse(format!(
                "the fixed value at position {i} is {value}, its centroid {centroid}"
            )));
        }
    }
    graph.nodes.iter().filter(|n| n.domain.is_empty()).try_for_each(|node| weights_fit(graph, node))
}

fn unique_names(graph: &Graph) -> Result<(), GraphError> {
    let mut names = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if node.name.is_empty() {
            return Err(GraphError::UnnamedNode { index, op: node.op.clone() });
        }
        if !names.insert(&node.name) {
            return Err(GraphError::DuplicateNode { node: node.name.clone() });
        }
    }
    Ok(())
}

fn written_before_read(graph: &Graph) -> Result<(), GraphError> {
    let writers = writers(graph)?;
    for (i, node) in graph.nodes.iter().enumerate() {
        for value in node.inputs.iter().filter(|v| !v.is_empty()) {
            let (op, node, value) = (node.op.clone(), label(graph, i), value.clone());
            match writers.get(value.as_str()) {
                None => return Err(GraphError::UnknownValue { op, node, value }),
                Some(&Some(writer)) if writer >= i => {
                    execution_order(graph)?; // a cycle is the better diagnosis
                    return Err(GraphError::ReadBeforeWrite { op, node, value });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

fn outputs_exist(graph: &Graph) -> Result<(), GraphError> {
    let writers = writers(graph)?;
    match graph.outputs.iter().find(|o| !writers.contains_key(o.name.as_str())) {
        Some(output) => Err(GraphError::UnknownOutput { output: output.name.clone() }),
        None => Ok(()),
    }
}

/// Refuses weights that hold NaN, and parameters of layers that hold an infinity. Other constants may be infinite: the
/// bounds of a `Clip`, the mask that is added before a softmax.
///
/// # Errors
/// [`GraphError::NonFiniteWeight`] with the first such weight and position.
pub fn non_finite_weights(graph: &Graph) -> Result<(), GraphError> {
    let parameters = layer_parameters(graph);
    for (name, weight) in &graph.weights {
        let values = weight.tensor.to_f32().unwrap_or_default();
        let parameter = graph.nodes.is_empty() || parameters.contains(name.as_str());
        let bad = |v: &f32| v.is_nan() || (v.is_infinite() && parameter);
        if let Some(position) = values.iter().position(bad) {
            let value = values[position];
            return Err(GraphError::NonFiniteWeight { weight: name.clone(), position, value });
        }
    }
    Ok(())
}

/// Names of the values that nodes read as weights, biases or statistics of a layer.
fn layer_parameters(graph: &Graph) -> HashSet<&str> {
    let mut names = HashSet::new();
    for node in graph.nodes.iter().filter(|n| n.domain.is_empty()) {
        let first = match node.op.as_str() {
            "MatMul" | "Einsum" => 0,
            "Conv"
            | "ConvTranspose"
            | "Gemm"
            | "PRelu"
            | "LSTM"
            | "GRU"
            | "RNN"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "LayerNormalization" => 1,
            _ => continue,
        };
        names.extend(node.inputs.iter().skip(first).map(String::as_str));
    }
    names
}

/// Checks the weights of one node against each other and against its attributes.
fn weights_fit(graph: &Graph, node: &Node) -> Result<(), GraphError> {
    let shape = |i: usize| node.input(i).and_then(|n| graph.weights.get(n)).map(|w| w.tensor.shape());
    let refuse = |reason: String| {
        Err(GraphError::ShapeMismatch {
            op: node.op.clone(),
            node: node.name.clone(),
            reason,
            shapes: (0..node.inputs.len()).filter_map(shape).map(<[usize]>::to_vec).collect(),
        })
    };
    match (node.op.as_str(), shape(1)) {
        ("Conv" | "ConvTranspose", Some(weight)) => {
            let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
            let [first, second, kernel @ ..] = weight else {
                return refuse("the weight has no channel axes".into());
            };
            if kernel.is_empty() {
                return refuse("the weight has no kernel".into());
            }
            if groups == 0 || first % groups != 0 {
                return refuse(format!("{groups} groups do not divide {first} channels"));
            }
            let declared = node.ints("kernel_shape");
            let same =
                |d: &[i64]| d.iter().map(|&k| usize::try_from(k).ok()).eq(kernel.iter().map(|&k| Some(k)));
            if declared.is_some_and(|d| !same(d)) {
                return refuse("the weight's kernel is not `kernel_shape`".into());
            }
            let outputs = if node.op == "Conv" { *first } else { second.saturating_mul(groups) };
            match shape(2) {
                Some(bias) if bias != [outputs] => refuse(format!("the bias must have shape [{outputs}]")),
                _ => Ok(()),
            }
        }
        ("Gemm", Some(weight)) => {
            let &[rows, columns] = weight else { return refuse("the weight is not a matrix".into()) };
            let outputs = if node.int("transB", 0) != 0 { rows } else { columns };
            match shape(2).and_then(<[usize]>::last) {
                Some(&n) if n != 1 && n != outputs => {
                    refuse(format!("the third input has {n} columns, the product {outputs}"))
                }
                _ => Ok(()),
            }
        }
        ("BatchNormalization", Some(scale)) => {
            if scale.len() != 1 || (2..5).filter_map(shape).any(|s| s != scale) {
                return refuse("scale, bias, mean and variance must be vectors of one length".into());
            }
            let variance = node.input(4).and_then(|n| graph.weights.get(n)).and_then(|w| w.tensor.as_f32());
            match variance.unwrap_or_default().iter().find(|&&v| v < 0.0) {
                Some(v) => refuse(format!("a variance is {v}")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Gives every nameless node, and every node whose name an earlier one has, a name made of its operator and
/// position, such as `Conv_3`. The same graph always gets the same names. Returns how many it gave.
pub fn name_nodes(graph: &mut Graph) -> usize {
    let mut taken: HashSet<String> = graph.nodes.iter().map(|n| n.name.clone()).collect();
    let (mut seen, mut given) = (HashSet::new(), 0);
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        if node.name.is_empty() || seen.contains(&node.name) {
            let base = format!("{}_{i}", node.op);
            // Few names can be taken: the position is part of each.
            let mut names = std::iter::once(base.clone()).chain((1..).map(|k| format!("{base}_{k}")));
            node.name = names.find(|n| !taken.contains(n)).unwrap_or(base);
            taken.insert(node.name.clone());
            given += 1;
        }
        seen.insert(node.name.clone());
    }
    given
}

/// Puts the nodes into an order in which each value is written before it is read; nodes that are in order
/// already keep their places.
///
/// # Errors
/// As [`execution_order`]; the graph is then unchanged.
pub fn sort_topologically(graph: &mut Graph) -> Result<(), GraphError> {
    let order = execution_order(graph)?;
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, DType, Palette, Tensor, ValueInfo, Weight};

    fn sample() -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        let weight = |shape: &[usize]| {
            Weight::from(Tensor::f32(shape.to_vec(), vec![0.5; shape.iter().product()]).unwrap())
        };
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            nodes: vec![
                Node::new("c", "Conv", &["x", "w", "b"], &["h"]),
                Node::new("n", "BatchNormalization", &["h", "s", "o", "m", "v"], &["i"]),
                Node::new("r", "Relu", &["i"], &["y"]),
            ],
            weights: [
                ("w", &[4, 3, 2, 2][..]),
                ("b", &[4]),
                ("s", &[4]),
                ("o", &[4]),
                ("m", &[4]),
                ("v", &[4]),
            ]
            .into_iter()
            .map(|(n, s)| (n.to_string(), weight(s)))
            .collect(),
            ..Graph::default()
        }
    }

    type Damage = Box<dyn Fn(&mut Graph)>;

    #[test]
    fn each_kind_of_damage_has_its_error() {
        assert_eq!(validate(&sample()), Ok(()));
        fn replace(name: &'static str, shape: &'static [usize], value: f32) -> Damage {
            Box::new(move |g| {
                let values = vec![value; shape.iter().product()];
                g.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
            })
        }
        let cases: Vec<(&str, Damage, &str)> = vec![
            ("no name", Box::new(|g| g.nodes[1].name.clear()), "node 1"),
            ("same name", Box::new(|g| g.nodes[1].name = "c".into()), "`c`"),
            ("order", Box::new(|g| g.nodes.swap(0, 1)), "before it is written"),
            ("loose input", Box::new(|g| g.nodes[2].inputs[0] = "q".into()), "`q`"),
            ("cycle", Box::new(|g| g.nodes[0].inputs[0] = "i".into()), "cycle through nodes"),
            ("written twice", Box::new(|g| g.nodes[1].outputs[0] = "w".into()), "written twice"),
            ("no output", Box::new(|g| g.outputs.clear()), "no outputs"),
            ("loose output", Box::new(|g| g.outputs[0].name = "q".into()), "`q`"),
            ("NaN", replace("w", &[4, 3, 2, 2], f32::NAN), "NaN at position 0"),
            ("infinity", replace("b", &[4], f32::INFINITY), "inf"),
            ("bias", replace("b", &[5], 0.0), "[4]"),
            ("variance", replace("v", &[4], -1.0), "variance is -1"),
            ("statistics", replace("m", &[3], 0.0), "one length"),
            ("no kernel", replace("w", &[4, 3], 0.0), "no kernel"),
            (
                "groups",
                Box::new(|g| {
                    g.nodes[0].attributes.insert("group".into(), Attribute::Int(3));
                }),
                "3 groups",
            ),
            (
                "kernel",
                Box::new(|g| {
                    g.nodes[0].attributes.insert("kernel_shape".into(), Attribute::Ints(vec![3, 3]));
                }),
                "kernel_shape",
            ),
            (
                "palette length",
                Box::new(|g| {
                    g.weights["b"].palette = Palette::fully_fixed(vec![0.5], 1, vec![0; 3]).ok();
                }),
                "3 codes for 4 values",
            ),
            (
                "palette value",
                Box::new(|g| {
                    g.weights["b"].palette = Palette::fully_fixed(vec![0.25], 1, vec![0; 4]).ok();
                }),
                "centroid 0.25",
            ),
        ];
        for (what, damage, part) in cases {
            let mut graph = sample();
            damage(&mut graph);
            match validate(&graph) {
                Ok(()) => panic!("{what} goes unnoticed"),
                Err(e) => assert!(e.to_string().contains(part), "{what}: {e}"),
            }
        }
    }

    #[test]
    fn an_infinite_bound_is_no_defect() {
        let mut graph = sample();
        graph.nodes[2] = Node::new("r", "Clip", &["i", "low"], &["y"]);
        graph.weights.insert("low".into(), Tensor::f32(vec![], vec![f32::NEG_INFINITY]).unwrap().into());
        assert_eq!(validate(&graph), Ok(()));
    }

    #[test]
    fn an_infinite_mask_is_no_defect_and_nan_is() {
        let mut graph = sample();
        let mask = |v| Weight::from(Tensor::f32(vec![2], vec![0.0, v]).unwrap());
        graph.nodes[2] = Node::new("r", "Add", &["i", "mask"], &["y"]);
        graph.weights.insert("mask".into(), mask(f32::NEG_INFINITY));
        assert_eq!(validate(&graph), Ok(()));
        graph.weights.insert("mask".into(), mask(f32::NAN));
        assert!(matches!(validate(&graph), Err(GraphError::NonFiniteWeight { position: 1, .. })));
        graph.nodes[2] = Node::new("r", "MatMul", &["i", "mask"], &["y"]);
        graph.weights.insert("mask".into(), mask(f32::INFINITY));
        assert!(validate(&graph).is_err(), "the weight of a layer");
        graph.nodes.clear();
        assert!(non_finite_weights(&graph).is_err(), "weights without a network");
    }

    #[test]
    fn names_are_given_once_and_never_twice() {
        let mut graph = Graph::default();
        for name in ["", "Relu_2", "", "a", "a"] {
            graph.nodes.push(Node::new(name, "Relu", &["x"], &[]));
        }
        assert_eq!(name_nodes(&mut graph), 3);
        let names: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["Relu_0", "Relu_2", "Relu_2_1", "a", "Relu_4"]);
        assert_eq!(name_nodes(&mut graph), 0);
    }

    #[test]
    fn sorting_repairs_order_and_keeps_a_sorted_graph() {
        let (mut graph, sorted) = (sample(), sample());
        sort_topologically(&mut graph).unwrap();
        assert_eq!(graph, sorted);
        graph.nodes.reverse();
        sort_topologically(&mut graph).unwrap();
        assert_eq!(graph, sorted);
        graph.nodes[0].inputs[0] = "i".into();
        let cyclic = graph.clone();
        assert!(sort_topologically(&mut graph).is_err());
        assert_eq!(graph, cyclic);
    }
}
