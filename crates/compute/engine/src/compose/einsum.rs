//! Einstein sums of one or two operands as a matrix product between permutations.

use slq_graph::op::{Op, Reduction};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

/// An operand and the labels of its axes.
struct Labelled {
    x: Operand,
    labels: Vec<usize>,
}

impl Labelled {
    /// Sums over the axes whose labels are not in `kept`.
    fn sum(self, emit: &mut Emit, kept: impl Fn(usize) -> bool) -> Self {
        let axes: Vec<usize> = (0..self.labels.len()).filter(|&i| !kept(self.labels[i])).collect();
        if axes.is_empty() {
            return self;
        }
        let left = |list: &[usize]| (0..list.len()).filter(|i| !axes.contains(i)).map(|i| list[i]).collect();
        let (shape, labels): (Vec<usize>, Vec<usize>) = (left(&self.x.shape), left(&self.labels));
        let op = Op::Reduce { reduction: Reduction::Sum, axes, keep_dims: false };
        Labelled { x: emit.one(op, &self.x, &shape), labels }
    }

    /// The operand with its axes in the order of `labels`.
    fn ordered(&self, emit: &mut Emit, labels: &[usize]) -> Operand {
        let perm: Vec<usize> =
            labels.iter().filter_map(|l| self.labels.iter().position(|own| own == l)).collect();
        emit.transpose(&self.x, &perm)
    }

    fn extent(&self, label: usize) -> usize {
        self.labels.iter().position(|&l| l == label).map_or(1, |i| self.x.shape[i])
    }

    fn has(&self, label: usize) -> bool {
        self.labels.contains(&label)
    }
}

pub(super) fn einsum(
    emit: &mut Emit,
    operands: &[Vec<usize>],
    result: &[usize],
    inputs: &[Option<Operand>],
) -> Result<Operand, EngineError> {
    let labelled = |i: usize| {
        let x = inputs.get(i).cloned().flatten()?;
        Some(Labelled { x, labels: operands.get(i)?.clone() })
    };
    let absent = emit.unsupported("an operand is missing");
    let missing = || absent.clone();
    let a = labelled(0).ok_or_else(missing)?;
    if operands.len() == 1 {
        let a = a.sum(emit, |label| result.contains(&label));
        return Ok(a.ordered(emit, result));
    }
    let b = labelled(1).ok_or_else(missing)?;
    let (la, lb) = (a.labels.clone(), b.labels.clone());
    let a = a.sum(emit, |label| result.contains(&label) || lb.contains(&label));
    let b = b.sum(emit, |label| result.contains(&label) || la.contains(&label));
    // Axes in common are batches where the result keeps them, else summed over.
    let pick = |of: &Labelled, f: &dyn Fn(usize) -> bool| -> Vec<usize> {
        of.labels.iter().copied().filter(|&l| f(l)).collect()
    };
    let batch = pick(&a, &|l| b.has(l) && result.contains(&l));
    let summed = pick(&a, &|l| b.has(l) && !result.contains(&l));
    let (rows, columns) = (pick(&a, &|l| !b.has(l)), pick(&b, &|l| !a.has(l)));
    let product = |of: &Labelled, labels: &[usize]| labels.iter().map(|&l| of.extent(l)).product::<usize>();
    let (n, m, k, p) = (product(&a, &batch), product(&a, &rows), product(&a, &summed), product(&b, &columns));
    let left = a.ordered(emit, &[&batch[..], &rows, &summed].concat());
    let right = b.ordered(emit, &[&batch[..], &summed, &columns].concat());
    // One matrix on the right, where nothing is a batch, is one product.
    let y = if batch.is_empty() {
        emit.matmul(&left.seen_as(&[m, k]), &right.seen_as(&[k, p]), &[m, p])
    } else {
        emit.matmul(&left.seen_as(&[n, m, k]), &right.seen_as(&[n, k, p]), &[n, m, p])
    };
    let labels = [&batch[..], &rows, &columns].concat();
    let shape: Vec<usize> =
        labels.iter().map(|&l| if a.has(l) { a.extent(l) } else { b.extent(l) }).collect();
    Ok(Labelled { x: y.seen_as(&shape), labels }.ordered(emit, result))
}
