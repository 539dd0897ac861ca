//! Layers whose weights stay packed; they have no backward pass.

use std::sync::Arc;

use slq_graph::Graph;
use slq_graph::op::Window;
use slq_kernels::conv::{PackedConv, Post};
use slq_kernels::packed::PackedMatrix;

use super::conv::{Norm, RESIDUAL, geometry};
use super::layer::Layer;
use super::linear::{Addend, addend};
use super::pass::{Backward, Forward};
use super::place::weight;
use super::post;
use super::site::Site;
use crate::error::EngineError;
use crate::program::Source;

/// The matrix of input 1, if it stays packed.
pub(super) fn matrix(site: Site<'_>) -> Option<Arc<PackedMatrix>> {
    match site.step.operand(1)?.source {
        Source::Packed(at) => site.packed.get(at).map(|w| Arc::clone(&w.matrix)),
        _ => None,
    }
}

/// Convolution with bias, batch-norm, residual and activation.
struct PackedConvLayer {
    kernel: PackedConv,
    matrix: Arc<PackedMatrix>,
    post: Post,
    norm: Option<Norm>,
    /// Factor and bias of each output channel, with the batch-norm.
    factors: Vec<f32>,
    shifts: Vec<f32>,
    residual: bool,
}

pub(super) fn conv(
    site: Site<'_>,
    window: &Window,
    groups: usize,
    matrix: Arc<PackedMatrix>,
) -> Result<Box<dyn Layer>, EngineError> {
    let geometry = geometry(site, window, groups)?;
    if [matrix.rows(), matrix.rows() * matrix.depth()] != [geometry.out_c, geometry.weight_len()] {
        return Err(site.unsupported(format!("the packed weight {matrix:?} has another shape")));
    }
    Ok(Box::new(PackedConvLayer {
        kernel: PackedConv::new(geometry, site.isa),
        matrix,
        post: site.step.post,
        norm: Norm::of(site.step),
        factors: Vec::new(),
        shifts: Vec::new(),
        residual: site.step.operand(RESIDUAL).is_some(),
    }))
}

impl Layer for PackedConvLayer {
    fn in_place(&self) -> Option<usize> {
        self.residual.then_some(RESIDUAL)
    }

    fn refresh(&mut self, weights: &Graph) {
        let Some(norm) = &self.norm else { return };
        let bias = norm.bias.map(|i| weight(weights, i));
        let channels = norm.channels(weights, bias);
        (self.factors, self.shifts) = channels.map(|(factor, shift)| (factor as f32, shift)).unzip();
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let folded = self.norm.is_some();
        let w = (&*self.matrix, folded.then_some(self.factors.as_slice()));
        let b = if folded { Some(self.shifts.as_slice()) } else { pass.optional(2) };
        if !self.residual {
            return self.kernel.forward(pass.input(0), w, b, self.post, y);
        }
        if !pass.in_place {
            y.copy_from_slice(pass.input(RESIDUAL));
        }
        self.kernel.forward_onto(pass.input(0), w, b, self.post, y);
    }

    fn backward(&mut self, _pass: &mut Backward<'_>) {}

    fn scratch_bytes(&self) -> usize {
        self.kernel.scratch_bytes() + 4 * (self.factors.len() + self.shifts.len())
    }
}

/// alpha A B' + beta C, with an activation: Gemm, and MatMul with one matrix on the right.
struct PackedProduct {
    matrix: Arc<PackedMatrix>,
    alpha: f32,
    addend: Addend,
    post: Post,
}

pub(super) fn gemm(
    site: Site<'_>,
    [alpha, beta]: [f32; 2],
    matrix: Arc<PackedMatrix>,
) -> Result<Box<dyn Layer>, EngineError> {
    let addend = addend(site, beta);
    product(site, alpha, addend, matrix)
}

pub(super) fn matmul(site: Site<'_>, matrix: Arc<PackedMatrix>) -> Result<Box<dyn Layer>, EngineError> {
    product(site, 1.0, Addend::default(), matrix)
}

fn product(
    site: Site<'_>,
    alpha: f32,
    addend: Addend,
    matrix: Arc<PackedMatrix>,
) -> Result<Box<dyn Layer>, EngineError> {
    let (x, y) = (site.shape(0)?, site.step.shape.as_slice());
    let [rows, columns] = [x.len().saturating_sub(1), y.len().saturating_sub(1)];
    let fits =
        x.last() == Some(&matrix.depth()) && (y.last() == Some(&matrix.rows()) && x[..rows] == y[..columns]);
    if !fits {
        return Err(site.unsupported(format!("{x:?} times the packed weight {matrix:?} is not {y:?}")));
    }
    Ok(Box::new(PackedProduct { matrix, alpha, addend, post: site.step.post }))
}

impl Layer for PackedProduct {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let keep = self.addend.fill(pass.optional(2), self.matrix.rows(), y);
        self.matrix.multiply(pass.isa, pass.input(0), [self.alpha, keep], y);
        post::forward(pass.isa, self.post, y);
    }

    fn backward(&mut self, _pass: &mut Backward<'_>) {}
}
