//! What noise in each layer does to the outputs of the network: by that, bits are priced.

use std::sync::OnceLock;

use slq_graph::{Graph, Tensor};

use super::network::{LayerSpec, jitter};
use crate::context::{Context, Rises};
use crate::damage::Reference;
use crate::error::CompressError;
use crate::inputs::Inputs;
use crate::progress::{Event, Observer};
use crate::train::share_out;

/// Inputs that layers' noise is measured on, about.
const PROBED: usize = 32;
/// A divergence that is rounding.
const NOTHING: f64 = 1e-12;
/// The least divergence that a layer's noise counts for, beside the geometric mean over the layers.
const LEAST_RISE: f64 = 0.01;

/// [`rises`], or those that an earlier calibration of the same layers in the same search has found.
pub(super) fn rises_once(
    float: &Graph,
    layers: &[LayerSpec],
    inputs: &dyn Inputs,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Rises, CompressError> {
    let same = |found: &&Rises| found.weights.iter().eq(layers.iter().map(|l| &l.weight));
    if let Some(found) = context.rises.and_then(OnceLock::get).filter(same) {
        return Ok(found.clone());
    }
    let (rises, unmeasured) = rises(float, layers, inputs, context, observer)?;
    let found = Rises { weights: layers.iter().map(|l| l.weight.clone()).collect(), rises, unmeasured };
    if let Some(shared) = context.rises {
        // Those of the first layers stay; a width that leaves some out measures its own.
        let _ = shared.set(found.clone());
    }
    Ok(found)
}

/// How far the outputs move with noise in each layer ([`jitter`]); nothing, and why, where the engine cannot run the network.
/// The layers are shared out over the processes.
fn rises(
    float: &Graph,
    layers: &[LayerSpec],
    inputs: &dyn Inputs,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Vec<f64>, Option<String>), CompressError> {
    let reference = match Reference::new(float, inputs, PROBED, context.isa) {
        Err(CompressError::Engine(error)) => return Ok((Vec::new(), Some(error.to_string()))),
        reference => reference?,
    };
    let (of, size, mut done) = (layers.len(), context.reducer.size(), 0);
    let rises = share_out(context.reducer, of, |layer| {
        let mut moved = float.clone();
        if let Some(weight) = moved.weights.get_mut(&layers[layer].weight) {
            let noisy = jitter(weight.tensor.as_f32().unwrap_or_default(), layer);
            *weight = Tensor::f32(weight.tensor.shape().to_vec(), noisy)?.into();
        }
        done = (done + size).min(of);
        observer.on(&Event::Measuring { done, of });
        Ok([reference.divergence(&moved, context.isa)?])
    })?;
    let rises = rises.into_iter().map(|[rise]| rise).collect();
    Ok(match floored(rises) {
        Some(rises) => (rises, None),
        None => (Vec::new(), Some("noise in the weights moves no output".into())),
    })
}

/// What a few inputs do not show may show on others: no layer counts less than a share of the mean. `None` where no layer counts.
fn floored(mut rises: Vec<f64>) -> Option<Vec<f64>> {
    let logs: Vec<f64> = rises.iter().filter(|&&r| r > NOTHING).map(|r| r.ln()).collect();
    if logs.is_empty() {
        return None;
    }
    let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    rises.iter_mut().for_each(|r| *r = r.max(LEAST_RISE * mean));
    Some(rises)
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Books;
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn every_layer_counts_where_the_network_runs_and_its_outputs_move() {
        let mut graph = slq_zoo::build("lenet", 0).unwrap();
        let name = graph.inputs[0].name.clone();
        let pixels = (0..8 * 784).map(|i| ((i * 31) % 97) as f32 / 97.0).collect();
        let inputs = vec![vec![(name, Tensor::f32(vec![8, 1, 28, 28], pixels).unwrap())]];
        let weights: Vec<String> = graph
            .weights
            .iter()
            .filter(|(_, w)| w.tensor.shape().len() > 1)
            .map(|(n, _)| n.clone())
            .collect();
        let specs: Vec<LayerSpec> = weights
            .iter()
            .map(|w| LayerSpec {
                weight: w.clone(),
                node: String::new(),
                size: 4,
                books: Books::Tensor,
                half: false,
            })
            .collect();
        let measure = |graph: &Graph| rises(graph, &specs, &inputs, Context::bare(), &mut Silent).unwrap();
        let (found, why) = measure(&graph);
        assert!(why.is_none() && found.len() == 4 && found.iter().all(|&r| r > 1e-9), "{found:?}");
        assert_eq!(measure(&graph).0, found, "the same noise every time");
        // Behind a layer whose weights are 0 nothing moves, whatever comes before it.
        let zeros = graph.weights[&weights[0]].tensor.shape().to_vec();
        let count = zeros.iter().product();
        graph.weights.insert(weights[0].clone(), Tensor::f32(zeros, vec![0.0; count]).unwrap().into());
        let (found, why) = measure(&graph);
        assert!(found.is_empty() && why.unwrap().contains("no output"));
        graph.nodes[0].op = "Unheard".into();
        let (found, why) = measure(&graph);
        assert!(found.is_empty() && why.unwrap().contains("Unheard"));
    }

    #[test]
    fn what_shows_nothing_counts_a_hundredth() {
        assert_eq!(floored(vec![0.0, 1.0, 4.0, -1e-9]), Some(vec![0.02, 1.0, 4.0, 0.02]));
        assert_eq!(floored(vec![0.0, 1e-15]), None);
    }
}
