//! The Caffe files that a model came from.

use std::borrow::Cow;
use std::path::PathBuf;

use slq_caffe::{DataSource, Source};
use slq_data::{Split, Transform};
use slq_graph::Graph;

use super::sources::{images_of, transform};
use crate::Error;

/// The Caffe files that a model was read from; a caffemodel written from it keeps their layers.
#[derive(Debug, Clone)]
pub struct CaffeFiles {
    /// Prototxt, caffemodel and phase of the network.
    pub source: Source,
    /// The data layers of the TEST phase, for a prototxt that has some.
    pub data_layers: Vec<DataSource>,
    /// The TEST phase of a net that is trained in its TRAIN phase.
    pub(crate) test: Option<TestNet>,
}

/// The TEST phase. Weights that the TRAIN phase has too are left out, so that large nets are not held twice.
#[derive(Debug, Clone)]
pub(crate) struct TestNet {
    pub(crate) graph: Graph,
    /// Names of all weights, in their order.
    pub(crate) weights: Vec<String>,
    pub(crate) source: Source,
}

impl CaffeFiles {
    /// The prototxts and the caffemodels.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let sources = std::iter::once(&self.source).chain(self.test.as_ref().map(|t| &t.source));
        sources.flat_map(|s| std::iter::once(s.prototxt.clone()).chain(s.caffemodel.clone())).collect()
    }

    /// `transform_param` of the first data layer; its mean image is read now.
    pub(crate) fn preprocessing(&self) -> Result<Option<Transform>, Error> {
        self.data_layers.first().map(|layer| transform(&self.source.prototxt, layer)).transpose()
    }

    /// The images of the first data layer.
    pub(crate) fn test_images(&self) -> Result<Option<Split>, Error> {
        let images = self.data_layers.first().map(|layer| images_of(&self.source.prototxt, layer));
        Ok(images.transpose()?.map(|i| i.split))
    }

    /// The network as it is used, in its TEST phase, with the weights (and palettes) of the trained `graph`; and the files
    /// that a caffemodel of it takes its layers from.
    pub fn finished<'a>(&self, graph: &'a Graph) -> (Cow<'a, Graph>, Source) {
        let Some(TestNet { graph: test, weights, source }) = &self.test else {
            return (Cow::Borrowed(graph), self.source.clone());
        };
        let mut test = test.clone();
        let mut own = std::mem::take(&mut test.weights);
        for name in weights {
            if let Some(weight) = graph.weights.get(name).cloned().or_else(|| own.swap_remove(name)) {
                test.weights.insert(name.clone(), weight);
            }
        }
        test.metadata.properties = graph.metadata.properties.clone();
        (Cow::Owned(test), source.clone())
    }
}
