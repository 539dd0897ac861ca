//! Five short programs.
//!
//! # Compress a network with labelled images
//!
//! SLQ with its defaults: 16 values a layer, five rounds. The file opens in any ONNX runtime.
//!
//! ```no_run
//! use slq::{Dataset, Job, Model, Quantize};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let (model, data) = (Model::open("net.onnx")?, Dataset::open("images.zip")?);
//! let done = Job::new(Quantize::slq(4)).data(&data).run(&model)?;
//! done.model.save("small.onnx")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Without data
//!
//! Optimal k-means for each output channel, with bias correction from batch-norm parameters.
//!
//! ```
//! use slq::{Granularity, Job, Model, Quantize};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let model = Model::open("zoo:lenet")?; // or "net.onnx"
//! let done = Job::new(Quantize::kmeans(4).granularity(Granularity::Channel)).run(&model)?;
//! assert!(done.report.size.ratio > 6.5);
//! # Ok(())
//! # }
//! ```
//!
//! # Low rank first, then few values
//!
//! Stages run one after another, each on the network that the one before it made. The last one trains the shared values.
//!
//! ```no_run
//! use slq::methods::{RankChoice, Scheme};
//! use slq::{Decompose, FineTune, Job, Quantize, Recipe, Tune};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let (model, data) = slq::sample()?;
//! let split = Decompose::new(Scheme::Spatial, RankChoice::Macs(2.0));
//! let recipe = Recipe::new(split).then(FineTune::default()).then(Quantize::slq(4)).then(Tune::default());
//! let done = Job::new(recipe).data(&data).run(&model)?;
//! done.model.save("thin-and-small.onnx")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Keep a budget
//!
//! The number of bits of each layer is chosen so that the network fits.
//!
//! ```
//! use slq::{Budget, Job, Model, Quantize};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let model = Model::open("zoo:lenet")?;
//! let done = Job::new(Quantize::kmeans(8).within(Budget::Bytes(150_000))).run(&model)?;
//! assert!(done.report.size.stored_bytes <= 150_000);
//! # Ok(())
//! # }
//! ```
//!
//! # Evaluate
//!
//! ```
//! use slq::inference::evaluate_model;
//!
//! # fn main() -> Result<(), slq::Error> {
//! let (model, data) = slq::sample()?;
//! let data = data.for_model(&model)?;
//! let accuracy = evaluate_model(&model.graph, &data.test, &data.transform, 100, Default::default())?;
//! assert!(accuracy.top1 > 0.97);
//! # Ok(())
//! # }
//! ```
