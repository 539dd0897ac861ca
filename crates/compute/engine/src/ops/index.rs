//! Elements chosen by indices along an axis (`GatherElements`) or by tuples of them (`GatherND`).

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// How indices become positions of the data.
enum Rule {
    /// Along one axis: its extent and distance, and for each axis of the indices its extent and its distance in the data
    /// (0 for the axis itself), the last first.
    Elements { extent: usize, step: usize, axes: Vec<(usize, usize)> },
    /// Tuples: extent and distance of each axis that they point along, and how many tuples and elements each batch has.
    Tuples { axes: Vec<(usize, usize)>, per_batch: usize, batch: usize },
}

struct IndexLayer {
    node: String,
    rule: Rule,
    /// Elements that follow each position.
    run: usize,
    /// Where each run of the output lies in the data; `None` where an index does not exist.
    places: Vec<Option<usize>>,
    bad: Option<(f32, usize)>,
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut steps = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        steps[axis - 1] = steps[axis] * shape[axis];
    }
    steps
}

pub(super) fn elements(site: Site<'_>, axis: usize) -> Result<Box<dyn Layer>, EngineError> {
    let (data, indices) = (site.shape(0)?, site.shape(1)?);
    let steps = strides(data);
    let axes = (0..indices.len()).rev().map(|i| (indices[i], if i == axis { 0 } else { steps[i] })).collect();
    let rule = Rule::Elements { extent: data[axis], step: steps[axis], axes };
    let places = vec![None; indices.iter().product()];
    Ok(Box::new(IndexLayer { node: site.node.name.clone(), rule, run: 1, places, bad: None }))
}

pub(super) fn tuples(site: Site<'_>, batch_dims: usize) -> Result<Box<dyn Layer>, EngineError> {
    let (data, indices) = (site.shape(0)?, site.shape(1)?);
    let (depth, lead) = match indices.split_last() {
        Some((&depth, lead)) if batch_dims + depth <= data.len() && batch_dims <= lead.len() => (depth, lead),
        _ => return Err(site.unsupported("its indices do not fit its data".into())),
    };
    let steps = strides(data);
    let axes = (batch_dims..batch_dims + depth).map(|i| (data[i], steps[i])).collect();
    let rule = Rule::Tuples {
        axes,
        per_batch: lead[batch_dims..].iter().product(),
        batch: data[batch_dims..].iter().product(),
    };
    let (run, places) = (data[batch_dims + depth..].iter().product(), vec![None; lead.iter().product()]);
    Ok(Box::new(IndexLayer { node: site.node.name.clone(), rule, run, places, bad: None }))
}

/// The position of `index` among `extent`; negative ones count from the end.
fn position(index: f32, extent: usize) -> Option<usize> {
    let from_front = if index < 0.0 { index + extent as f32 } else { index };
    (from_front.fract() == 0.0 && from_front >= 0.0 && (from_front as usize) < extent)
        .then_some(from_front as usize)
}

impl IndexLayer {
    fn look_up(&mut self, indices: &[f32]) {
        self.bad = None;
        let mut missed = |index: f32, extent: usize| {
            let found = position(index, extent);
            if found.is_none() {
                self.bad.get_or_insert((index, extent));
            }
            found
        };
        match &self.rule {
            Rule::Elements { extent, step, axes } => {
                for (i, place) in self.places.iter_mut().enumerate() {
                    let (mut rest, mut at) = (i, 0);
                    for &(count, step) in axes {
                        at += rest % count * step;
                        rest /= count;
                    }
                    *place = missed(indices[i], *extent).map(|k| at + k * step);
                }
            }
            Rule::Tuples { axes, per_batch, batch } => {
                for (i, place) in self.places.iter_mut().enumerate() {
                    let mut at = Some(i / per_batch * batch);
                    for (&(extent, step), &index) in axes.iter().zip(&indices[i * axes.len()..]) {
                        at = missed(index, extent).zip(at).map(|(k, at)| at + k * step);
                    }
                    *place = at;
                }
            }
        }
    }
}

impl Layer for IndexLayer {
    fn reads_input(&self, i: usize) -> bool {
        i == 1
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.look_up(pass.input(1));
        let x = pass.input(0);
        for (y, place) in y.chunks_mut(self.run).zip(&self.places) {
            match place {
                Some(at) => y.copy_from_slice(&x[*at..][..self.run]),
                None => y.fill(f32::NAN),
            }
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        if let Some(mut numbers) = pass.take_gradient(1) {
            numbers.fill(0.0);
            pass.put_gradient(1, numbers);
        }
        pass.input_gradient(|_, dy, dx, _| {
            dx.fill(0.0);
            for (dy, place) in dy.chunks(self.run).zip(&self.places) {
                let Some(at) = place else { continue };
                dx[*at..][..self.run].iter_mut().zip(dy).for_each(|(x, y)| *x += y);
            }
        });
    }

    fn fault(&self) -> Option<EngineError> {
        let (index, extent) = self.bad?;
        let reason = format!("is given the index {index}, which is not among {extent}");
        Some(EngineError::Data { node: self.node.clone(), reason })
    }

    fn scratch_bytes(&self) -> usize {
        size_of_val(&self.places[..])
    }
}
