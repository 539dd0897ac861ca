//! Pooling.

use slq_graph::op::Window;
use slq_kernels::pool::{self, PoolGeometry};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

fn geometry(site: &Site<'_>, window: &Window, ceil: bool) -> Result<PoolGeometry, EngineError> {
    let [n, c, h, w] = site.image_shape()?;
    let geometry = PoolGeometry {
        n,
        c,
        h,
        w,
        kernel: window.kernel,
        stride: window.strides,
        pads: window.resolve_pads([h, w]),
        dilation: window.dilations,
        ceil,
        count_include_pad: false,
    };
    if [geometry.out_h(), geometry.out_w()] != site.step.shape[2..] {
        return Err(
            site.unsupported(format!("windows do not fill the output of shape {:?}", site.step.shape))
        );
    }
    Ok(geometry)
}

/// Maximum; keeps the argmax for the backward pass.
struct MaxLayer {
    geometry: PoolGeometry,
    argmax: Option<Vec<u32>>,
}

impl MaxLayer {
    fn boxed(site: &Site<'_>, geometry: PoolGeometry) -> Result<Box<dyn Layer>, EngineError> {
        if geometry.h.saturating_mul(geometry.w) >= u32::MAX as usize {
            return Err(site.unsupported("its planes are too large to index".into()));
        }
        let argmax = site.differentiates().then(|| vec![0; geometry.out_len()]);
        Ok(Box::new(Self { geometry, argmax }))
    }
}

pub(super) fn max(site: Site<'_>, window: &Window, ceil: bool) -> Result<Box<dyn Layer>, EngineError> {
    let geometry = geometry(&site, window, ceil)?;
    MaxLayer::boxed(&site, geometry)
}

/// Planes and elements of each, for [N, C, ...].
fn planes(site: &Site<'_>) -> Result<(usize, usize), EngineError> {
    let shape = site.shape(0)?;
    if shape.len() < 2 {
        return Err(site.unsupported(format!("data of shape {shape:?} has no planes")));
    }
    Ok((shape[..2].iter().product(), shape[2..].iter().product()))
}

pub(super) fn global_max(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    let (c, w) = planes(&site)?;
    let one = [1, 1];
    let geometry = PoolGeometry {
        n: 1,
        c,
        h: 1,
        w,
        kernel: [1, w],
        stride: one,
        pads: [0; 4],
        dilation: one,
        ceil: false,
        count_include_pad: false,
    };
    MaxLayer::boxed(&site, geometry)
}

impl Layer for MaxLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        pool::max_forward(pass.isa, &self.geometry, pass.input(0), y, self.argmax.as_deref_mut());
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let (Some(mut dx), Some(argmax)) = (pass.take_gradient(0), &self.argmax) {
            let store = dx.store;
            pool::max_backward(pass.isa, &self.geometry, &dy, argmax, &mut dx, store);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        self.argmax.as_ref().map_or(0, |a| 4 * a.len())
    }
}

/// Average.
struct AverageLayer(PoolGeometry);

pub(super) fn average(
    site: Site<'_>,
    window: &Window,
    ceil: bool,
    count_include_pad: bool,
) -> Result<Box<dyn Layer>, EngineError> {
    let geometry = PoolGeometry { count_include_pad, ..geometry(&site, window, ceil)? };
    Ok(Box::new(AverageLayer(geometry)))
}

impl Layer for AverageLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        pool::avg_forward(pass.isa, &self.0, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, store| {
            pool::avg_backward(pass.isa, &self.0, dy, dx, store);
        });
    }
}

/// Average of whole planes; holds the elements of a plane.
struct GlobalAverageLayer(usize);

pub(super) fn global_average(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    let (_, plane) = planes(&site)?;
    Ok(Box::new(GlobalAverageLayer(plane)))
}

impl Layer for GlobalAverageLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        pool::global_avg_forward(pass.isa, self.0, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, store| {
            pool::global_avg_backward(pass.isa, self.0, dy, dx, store);
        });
    }
}
