//! `.slq` files that are run as they are stored.

use std::path::Path;

use slq_graph::Graph;
use slq_runtime::{Expand, Network};

use crate::model::{Model, Source};
use crate::{Error, preprocessing};

/// A `.slq` file whose weights stay packed.
pub struct PackedModel {
    /// The network, ready to run.
    pub network: Network,
    /// What its file says beside the weights: nodes, inputs and outputs, metadata, preprocessing. It has no weights.
    pub about: Model,
}

impl PackedModel {
    /// Opens a `.slq` file.
    ///
    /// # Errors
    /// [`Error::File`] for what stands in place of a file, [`Error::Runtime`], naming the file; [`Error::Preprocessing`].
    pub fn open(path: impl AsRef<Path>, expand: Expand) -> Result<Self, Error> {
        let path = path.as_ref();
        if let Some(what) = slq_file::stand_in(path) {
            return Err(Error::File { path: path.into(), reason: what.into() });
        }
        let network = Network::open(path, expand)?;
        let bare = network.graph();
        let graph = Graph {
            name: bare.name.clone(),
            inputs: bare.inputs.clone(),
            outputs: bare.outputs.clone(),
            nodes: bare.nodes.clone(),
            weights: Default::default(),
            metadata: bare.metadata.clone(),
        };
        let about = Model { transform: preprocessing::stored(&graph)?, source: Source::Slq, ..graph.into() };
        Ok(Self { network, about })
    }

    /// Whether a model's name is that of a `.slq` file.
    pub fn names(model: &str) -> bool {
        Path::new(model).extension().is_some_and(|e| e == "slq")
    }
}
