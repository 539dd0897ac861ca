//! Convolution and transposed convolution.

use slq_graph::Graph;
use slq_graph::op::Window;
use slq_kernels::Store;
use slq_kernels::conv::{Conv, ConvGeometry, ConvNeeds, Post};
use slq_kernels::reduce::{self, Kind, Reduction};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::place::weight;
use super::post;
use super::site::Site;
use crate::error::EngineError;
use crate::program::{Source, Step};

/// The input that holds the other branch of a residual block.
pub(super) const RESIDUAL: usize = 3;

/// Convolution, with bias and activation; in evaluation also with the batch-norm behind it.
struct ConvLayer {
    kernel: Conv,
    post: Post,
    /// Sums the output's gradient where the bias alone is trained.
    bias_sum: Reduction,
    folded: Option<Folded>,
    /// Adds input 3, the other branch of a residual block.
    residual: bool,
}

/// Weights and bias that include a batch-norm.
struct Folded {
    weight: usize,
    norm: Norm,
    w: Vec<f32>,
    b: Vec<f32>,
}

/// A batch-norm behind a convolution; parameters by their position among the weights.
pub(super) struct Norm {
    /// Bias of the convolution.
    pub bias: Option<usize>,
    /// Scale, bias, mean, variance.
    parameters: [usize; 4],
    epsilon: f32,
}

impl Norm {
    pub(super) fn of(step: &Step) -> Option<Self> {
        let (parameters, epsilon) = step.fold?;
        Some(Self { bias: position(step, 2), parameters, epsilon })
    }

    /// For each output channel the factor of its weights, and the bias that takes the place of `bias`.
    pub(super) fn channels<'a>(
        &'a self,
        weights: &'a Graph,
        bias: Option<&'a [f32]>,
    ) -> impl Iterator<Item = (f64, f32)> + 'a {
        let [scale, shift, mean, var] = self.parameters.map(|i| weight(weights, i));
        (0..scale.len()).map(move |c| {
            let factor = f64::from(scale[c]) / (f64::from(var[c]) + f64::from(self.epsilon)).sqrt();
            let before = bias.map_or(0.0, |b| f64::from(b[c])) - f64::from(mean[c]);
            (factor, (f64::from(shift[c]) + before * factor) as f32)
        })
    }
}

/// The position of input `i` among the weights, if it is one.
fn position(step: &Step, i: usize) -> Option<usize> {
    match step.operand(i)?.source {
        Source::Weight(index) => Some(index),
        Source::Value(_) | Source::Packed(_) => None,
    }
}

/// The shape of a convolution.
pub(super) fn geometry(site: Site<'_>, window: &Window, groups: usize) -> Result<ConvGeometry, EngineError> {
    let [n, c, h, w] = site.image_shape()?;
    let out_c = site.shape(1)?[0];
    Ok(ConvGeometry {
        n,
        c,
        h,
        w,
        out_c,
        kh: window.kernel[0],
        kw: window.kernel[1],
        stride: window.strides,
        pads: window.resolve_pads([h, w]),
        dilation: window.dilations,
        groups,
    })
}

pub(super) fn conv(site: Site<'_>, window: &Window, groups: usize) -> Result<Box<dyn Layer>, EngineError> {
    let geometry = geometry(site, window, groups)?;
    let needs = ConvNeeds { data_gradient: site.wants(0), weight_gradient: site.wants(1) };
    let weight = position(site.step, 1).unwrap_or_default();
    let folded = Norm::of(site.step).map(|norm| Folded { weight, norm, w: vec![], b: vec![] });
    Ok(Box::new(ConvLayer {
        kernel: Conv::new(geometry, site.isa, needs),
        post: site.step.post,
        bias_sum: Reduction::new(&site.step.shape, &[0, 2, 3]),
        folded,
        residual: site.step.operand(RESIDUAL).is_some(),
    }))
}

impl Layer for ConvLayer {
    fn reads_input(&self, i: usize) -> bool {
        i < 2
    }

    fn reads_output(&self) -> bool {
        post::is_some(self.post)
    }

    fn in_place(&self) -> Option<usize> {
        self.residual.then_some(RESIDUAL)
    }

    fn accumulates(&self, i: usize) -> bool {
        i == 0
    }

    fn refresh(&mut self, weights: &Graph) {
        let Some(f) = &mut self.folded else { return };
        let (w, bias) = (weight(weights, f.weight), f.norm.bias.map(|i| weight(weights, i)));
        let channels: Vec<(f64, f32)> = f.norm.channels(weights, bias).collect();
        let fan_in = w.len() / channels.len().max(1);
        f.w.resize(w.len(), 0.0);
        f.b.clear();
        for (c, (factor, shift)) in channels.into_iter().enumerate() {
            let (from, to) = (&w[c * fan_in..][..fan_in], &mut f.w[c * fan_in..][..fan_in]);
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = (f64::from(from) * factor) as f32);
            f.b.push(shift);
        }
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (w, b) = match &self.folded {
            Some(f) => (f.w.as_slice(), Some(f.b.as_slice())),
            None => (pass.input(1), pass.optional(2)),
        };
        if !self.residual {
            return self.kernel.forward(pass.input(0), w, b, self.post, y);
        }
        if !pass.in_place {
            y.copy_from_slice(pass.input(RESIDUAL));
        }
        self.kernel.forward_onto(pass.input(0), w, b, self.post, y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let mut dy = pass.take_output_gradient();
        if post::is_some(self.post) {
            post::backward(pass.isa, self.post, pass.output(), &mut dy);
        }
        let mut db = pass.take_gradient(2);
        if let Some(mut dw) = pass.take_gradient(1) {
            self.kernel.backward_weights(pass.input(0), &dy, &mut dw, db.as_deref_mut(), Store::Overwrite);
            pass.put_gradient(1, dw);
        } else if let Some(db) = &mut db {
            reduce::forward(pass.isa, &self.bias_sum, Kind::Sum, &dy, db);
        }
        if let Some(db) = db {
            pass.put_gradient(2, db);
        }
        if let Some(mut dx) = pass.take_gradient(0) {
            let store = dx.store;
            self.kernel.backward_data(pass.input(1), &dy, &mut dx, store);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        let folded = self.folded.as_ref().map_or(0, |f| 4 * (f.w.len() + f.b.len()));
        self.kernel.scratch_bytes() + folded
    }
}

/// Transposed convolution: the data gradient of a convolution as a forward pass, with x and y exchanged.
struct TransposedLayer {
    kernel: Conv,
    /// Elements of one output plane.
    plane: usize,
    bias_sum: Reduction,
}

pub(super) fn transposed(
    site: Site<'_>,
    window: &Window,
    groups: usize,
) -> Result<Box<dyn Layer>, EngineError> {
    let [n, c, h, w] = site.image_shape()?;
    let shape = site.step.shape.as_slice();
    let &[_, out_c, out_h, out_w] = shape else {
        return Err(site.unsupported(format!("an output of shape {shape:?} is not N x C x H x W")));
    };
    // Explicit padding is taken as it is; SAME follows from the output, which the convolution here reads.
    let pads = window.resolve_pads([out_h, out_w]);
    let geometry = ConvGeometry {
        n,
        c: out_c,
        h: out_h,
        w: out_w,
        out_c: c,
        kh: window.kernel[0],
        kw: window.kernel[1],
        stride: window.strides,
        pads,
        dilation: window.dilations,
        groups,
    };
    if (geometry.out_h(), geometry.out_w()) != (h, w) {
        return Err(site.unsupported("this output padding is larger than the kernel reaches".into()));
    }
    let needs = ConvNeeds { data_gradient: true, weight_gradient: site.wants(1) };
    Ok(Box::new(TransposedLayer {
        kernel: Conv::new(geometry, site.isa, needs),
        plane: out_h * out_w,
        bias_sum: Reduction::new(shape, &[0, 2, 3]),
    }))
}

impl Layer for TransposedLayer {
    fn reads_input(&self, i: usize) -> bool {
        i < 2
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.kernel.backward_data(pass.input(1), pass.input(0), y, Store::Overwrite);
        if let Some(bias) = pass.optional(2) {
            for (plane, &b) in y.chunks_exact_mut(self.plane).zip(bias.iter().cycle()) {
                plane.iter_mut().for_each(|y| *y += b);
            }
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let Some(mut db) = pass.take_gradient(2) {
            reduce::forward(pass.isa, &self.bias_sum, Kind::Sum, &dy, &mut db);
            pass.put_gradient(2, db);
        }
        if let Some(mut dw) = pass.take_gradient(1) {
            self.kernel.backward_weights(&dy, pass.input(0), &mut dw, None, Store::Overwrite);
            pass.put_gradient(1, dw);
        }
        if let Some(mut dx) = pass.take_gradient(0) {
            self.kernel.forward(&dy, pass.input(1), None, Post::None, &mut dx);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        self.kernel.scratch_bytes()
    }
}
