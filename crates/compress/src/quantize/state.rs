//! State of one layer between rounds: its clusters, and which of them are fixed.

use slq_graph::{DType, Graph, Palette, Tensor};

use super::layer::Layer;
use crate::error::CompressError;

/// The clusters of one layer while a round works on it.
///
/// Cluster `i` is the i-th centroid of every codebook of the layer; a layer with several codebooks fixes its
/// i-th clusters together. Centroids keep their place in the codebook from the first round to the last: the
/// place is the order of the ladder.
#[derive(Debug, Clone)]
pub(crate) struct LayerState {
    pub(crate) layer: Layer,
    /// The weights as re-training left them.
    pub(crate) values: Vec<f32>,
    /// `groups * size` centroids.
    pub(crate) centroids: Vec<f32>,
    /// Cluster of every weight.
    pub(crate) codes: Vec<u8>,
    /// Which weights are fixed.
    pub(crate) fixed: Vec<bool>,
    /// Which clusters are fixed.
    pub(crate) cluster_fixed: Vec<bool>,
}

impl LayerState {
    /// The state that the graph's palette holds; an empty one before the first round.
    pub(crate) fn from_graph(graph: &Graph, layer: &Layer, round: usize) -> Result<Self, CompressError> {
        let weight = &graph.weights[&layer.weight];
        let values = weight.tensor.as_f32().unwrap_or_default().to_vec();
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Err(CompressError::NonFinite {
                weight: layer.weight.clone(),
                position,
                value: values[position],
            });
        }
        let mut state = Self {
            layer: layer.clone(),
            centroids: vec![0.0; layer.groups * layer.size],
            codes: vec![0; values.len()],
            fixed: vec![false; values.len()],
            cluster_fixed: vec![false; layer.size],
            values,
        };
        // A palette that came with the network is from an earlier job: round one starts afresh.
        if let Some(palette) = weight.palette.as_ref().filter(|_| round > 0) {
            state.centroids = palette.codebook().to_vec();
            state.codes = palette.codes().to_vec();
            state.fixed = palette.fixed().to_vec();
            // A cluster with fixed members is fixed; one without members counts as free.
            for (&code, &fixed) in state.codes.iter().zip(&state.fixed) {
                if fixed {
                    state.cluster_fixed[usize::from(code)] = true;
                }
            }
        }
        Ok(state)
    }

    /// Weights in one group.
    pub(crate) fn group_len(&self) -> usize {
        self.values.len() / self.layer.groups
    }

    /// Fixes clusters: their weights take the centroid's value from now on.
    pub(crate) fn fix_clusters(&mut self, clusters: &[usize]) {
        for &c in clusters {
            self.cluster_fixed[c] = true;
        }
        for (fixed, &code) in self.fixed.iter_mut().zip(&self.codes) {
            *fixed |= self.cluster_fixed[usize::from(code)];
        }
    }

    /// The weights with one cluster quantized and everything else as it is.
    pub(crate) fn with_cluster_shared(&self, cluster: usize) -> Vec<f32> {
        let run = self.group_len();
        let mut values = self.values.clone();
        for (i, (value, &code)) in values.iter_mut().zip(&self.codes).enumerate() {
            if usize::from(code) == cluster {
                *value = self.centroids[i / run * self.layer.size + cluster];
            }
        }
        values
    }

    /// The weights with every cluster quantized.
    pub(crate) fn all_shared(&self) -> Vec<f32> {
        let (run, size) = (self.group_len().max(1), self.layer.size);
        let centroid = |(i, &code): (usize, &u8)| self.centroids[i / run * size + usize::from(code)];
        self.codes.iter().enumerate().map(centroid).collect()
    }

    /// What the graph keeps of the state.
    pub(crate) fn to_palette(&self) -> Result<Palette, CompressError> {
        let (book, groups) = (self.centroids.clone(), self.layer.groups);
        Ok(Palette::new(book, groups, self.codes.clone(), self.fixed.clone())?)
    }
}

/// Writes a palette into the graph: fixed weights take their centroid's value, bit for bit.
pub(crate) fn store_palette(graph: &mut Graph, weight: &str, palette: Palette) {
    let entry = &mut graph.weights[weight];
    let decoded = palette.decode();
    let dtype = entry.tensor.dtype();
    if dtype != DType::F32 && palette.is_fully_fixed() {
        // The codebook holds values of the weight's own type.
        let shape = entry.tensor.shape().to_vec();
        if let Ok(tensor) = Tensor::floats(shape, dtype, decoded) {
            entry.tensor = tensor;
        }
    } else if let Some(values) = entry.tensor.as_f32_mut() {
        for ((value, &centroid), &fixed) in values.iter_mut().zip(&decoded).zip(palette.fixed()) {
            if fixed {
                *value = centroid;
            }
        }
    }
    entry.palette = Some(palette);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One group of six weights in three clusters at 0, 1 and -1.
    pub(crate) fn small() -> LayerState {
        LayerState {
            layer: Layer {
                weight: "w".into(),
                node: "n".into(),
                count: 6,
                groups: 1,
                asked: 1,
                size: 3,
                half: false,
            },
            values: vec![0.1, 0.9, -1.1, 0.0, 1.2, -0.8],
            centroids: vec![0.0, 1.0, -1.0],
            codes: vec![0, 1, 2, 0, 1, 2],
            fixed: vec![false; 6],
            cluster_fixed: vec![false; 3],
        }
    }

    #[test]
    fn sharing_one_cluster_leaves_the_rest_alone() {
        assert_eq!(small().with_cluster_shared(2), [0.1, 0.9, -1.0, 0.0, 1.2, -1.0]);
        assert_eq!(small().all_shared(), [0.0, 1.0, -1.0, 0.0, 1.0, -1.0]);
    }

    #[test]
    fn fixed_clusters_fix_their_weights() {
        let mut state = small();
        state.fix_clusters(&[0, 2]);
        assert_eq!(state.fixed, [true, false, true, true, false, true]);
        assert_eq!(state.to_palette().unwrap().fixed_count(), 4);
    }
}
