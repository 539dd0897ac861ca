//! A scale for each activation.

use super::operators::{Way, way};
use super::scale::Scale;
use crate::error::TfliteError;
use crate::model::{ModelDef, OperatorDef, TensorDef, floats};
use crate::ranges::{Ranges, ends};
use crate::schema::{Code, Element};

/// Tensors that share a scale, as a forest: each names another one of its group, the root itself.
struct Groups(Vec<usize>);

impl Groups {
    fn root(&self, mut at: usize) -> usize {
        while self.0[at] != at {
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        // Towards the lower number, so that paths stay short: operators come in order.
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

/// Whether the tensor holds floats that the network computes, weights that are decoded included.
fn is_activation(tensor: &TensorDef) -> bool {
    tensor.element == Element::F32 && tensor.data.is_none()
}

/// The scale of each activation by its number; `None` for constants and decoded weights.
///
/// # Errors
/// [`TfliteError::NoRange`] for a value whose range is neither measured nor follows from its inputs.
pub(super) fn scales(model: &ModelDef, measured: &Ranges) -> Result<Vec<Option<Scale>>, TfliteError> {
    let mut groups = Groups((0..model.tensors.len()).collect());
    for operator in model.operators.iter().filter(|o| way(o.code) == Way::Tied) {
        for &input in operator.inputs.iter().filter(|&&i| is_activation(&model.tensors[i])) {
            groups.join(operator.outputs[0], input);
        }
    }
    let mut ranges: Vec<Option<[f32; 2]>> = vec![None; model.tensors.len()];
    let mut include = |groups: &Groups, at: usize, [low, high]: [f32; 2]| {
        let range = ranges[groups.root(at)].get_or_insert([low, high]);
        *range = [range[0].min(low), range[1].max(high)];
    };
    for (at, tensor) in model.tensors.iter().enumerate().filter(|(_, t)| is_activation(t)) {
        if let Some(range) = measured.get(&tensor.name) {
            include(&groups, at, range);
        }
    }
    for operator in model.operators.iter().filter(|o| o.code == Code::Concatenation) {
        for range in operator.inputs.iter().filter_map(|&i| constant(&model.tensors[i])) {
            include(&groups, operator.outputs[0], range);
        }
    }
    for operator in model.operators.iter().filter(|o| way(o.code) != Way::Decode) {
        let root = groups.root(operator.outputs[0]);
        if ranges[root].is_none() {
            let of = |&i: &usize| ranges[groups.root(i)].or_else(|| constant(&model.tensors[i]));
            let inputs: Vec<_> = operator.inputs.iter().filter_map(of).collect();
            ranges[root] = between(operator, &inputs);
        }
        if ranges[root].is_none() {
            let value = model.tensors[operator.outputs[0]].name.clone();
            return Err(TfliteError::NoRange { value });
        }
    }
    let mut found: Vec<Option<Scale>> = ranges.into_iter().map(|r| r.map(Scale::of)).collect();
    for operator in &model.operators {
        let Way::Given(given) = way(operator.code) else { continue };
        // What shares the scale of such a result takes it where nothing is cut off by that.
        let root = groups.root(operator.outputs[0]);
        let ([low, high], [least, most]) = (found[root].map_or([0.0; 2], Scale::covers), given.covers());
        if low >= least - given.scale && high <= most + 2.0 * given.scale {
            found[root] = Some(given);
        }
    }
    let activations = model.tensors.iter().enumerate();
    Ok(activations.map(|(i, t)| found[groups.root(i)].filter(|_| is_activation(t))).collect())
}

/// Smallest and largest value of a constant of floats.
fn constant(tensor: &TensorDef) -> Option<[f32; 2]> {
    ends(&floats(tensor)?)
}

/// The range of a sum, difference or product of values in `inputs`.
fn between(operator: &OperatorDef, inputs: &[[f32; 2]]) -> Option<[f32; 2]> {
    let &[[a, b], [c, d]] = inputs else { return None };
    match operator.code {
        Code::Add => Some([a + c, b + d]),
        Code::Sub => Some([a - d, b - c]),
        Code::Mul => {
            let products = [a * c, a * d, b * c, b * d];
            let fold = |f: fn(f32, f32) -> f32| products.iter().copied().reduce(f);
            Some([fold(f32::min)?, fold(f32::max)?])
        }
        _ => None,
    }
}
