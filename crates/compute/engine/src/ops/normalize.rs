//! Layer, group, instance and root mean square normalisation.

use slq_graph::op::Normalization;
use slq_kernels::normalize::{self, Gradients, Rows};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

struct NormalizeLayer {
    rows: Rows,
    scratch: Vec<f32>,
}

pub(super) fn normalize(
    site: Site<'_>,
    over: Normalization,
    epsilon: f32,
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    let spatial = || shape[2..].iter().product::<usize>();
    let whole = |axis: usize, centred| {
        let len = shape[axis..].iter().product();
        Rows { len, period: 1, inner: 1, centred, epsilon }
    };
    let rows = match over {
        Normalization::Layer { axis } => whole(axis, true),
        Normalization::Rms { axis } => whole(axis, false),
        Normalization::Instance => {
            Rows { len: spatial(), period: shape[1], inner: spatial(), centred: true, epsilon }
        }
        Normalization::Group { groups, by_channel } => {
            let len = shape[1] / groups * spatial();
            let inner = if by_channel { spatial() } else { len };
            Rows { len, period: groups, inner, centred: true, epsilon }
        }
    };
    let trains = site.wants(1) || site.wants(2);
    Ok(Box::new(NormalizeLayer { rows, scratch: vec![0.0; if trains { rows.scratch() } else { 0 }] }))
}

impl Layer for NormalizeLayer {
    fn reads_input(&self, i: usize) -> bool {
        i < 2
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        normalize::forward(&self.rows, pass.input(0), pass.input(1), pass.optional(2), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        let mut gradients = [0, 1, 2].map(|i| pass.take_gradient(i));
        let [x, scale, bias] = &mut gradients;
        let to = Gradients { x: x.as_deref_mut(), scale: scale.as_deref_mut(), bias: bias.as_deref_mut() };
        normalize::backward(&self.rows, pass.input(0), pass.input(1), &dy, to, &mut self.scratch);
        for (i, gradient) in gradients.into_iter().enumerate() {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        4 * self.scratch.len()
    }
}
