//! Names of the architectures, and what is wrong with others.

use slq_graph::GraphError;

/// Why an architecture could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// No architecture of this name.
    #[error("there is no architecture `{name}`; known are {}", names().join(", "))]
    UnknownName {
        /// The name asked for.
        name: String,
    },
    /// A number of classes that no network can have.
    #[error("a network for {classes} classes cannot be built; 1 to {MAX_CLASSES} can")]
    Classes {
        /// The number asked for.
        classes: usize,
    },
    /// A network whose outputs are not classes.
    #[error("`{name}` has {outputs} outputs, as many as inputs; it cannot be built for {classes} classes")]
    NotClasses {
        /// The network.
        name: String,
        /// Its number of outputs.
        outputs: usize,
        /// The number asked for.
        classes: usize,
    },
    /// A weight could not be formed.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Most classes that a network is built for.
pub const MAX_CLASSES: usize = 1 << 20;

/// The architectures that [`build`](crate::build) knows.
pub fn names() -> &'static [&'static str] {
    &[
        "lenet",
        "lenet-300-100",
        "cifar-quick",
        "resnet20",
        "resnet32",
        "resnet56",
        "alexnet",
        "vgg16",
        "googlenet",
        "resnet18",
        "mobilenet-v2",
        "ds-cnn",
        "mobilenet-v1-025",
        "resnet8",
        "autoencoder",
    ]
}
