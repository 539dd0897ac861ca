//! A network that is ready to run.

use slq_engine::{CpuExecutor, EngineOptions, Isa, Session};
use slq_graph::Graph;
use slq_pack::{Reader, Source};

use crate::error::RuntimeError;
use crate::expand::Expand;
use crate::load::{self, Parts};
use crate::report::Report;

/// A network whose palettized weights are packed.
pub struct Network {
    parts: Parts,
}

impl Network {
    /// Opens a `.slq` container or a palettized ONNX file; the file's first bytes tell which it is. Of a container only one
    /// weight is in memory as it is stored; an ONNX file is read as a whole first.
    ///
    /// # Errors
    /// Those of the format's reader, with the path; [`RuntimeError::File`], [`RuntimeError::Codes`].
    #[cfg(feature = "file")]
    pub fn open(path: impl AsRef<std::path::Path>, expand: Expand) -> Result<Self, RuntimeError> {
        let path = path.as_ref();
        match slq_pack::open(path) {
            Ok(reader) => {
                let in_file = |error| match error {
                    RuntimeError::Slq(source) => {
                        slq_pack::SlqError::File { path: path.into(), source: Box::new(source) }.into()
                    }
                    other => other,
                };
                Self::from_slq(&reader, expand).map_err(in_file)
            }
            Err(slq_pack::SlqError::File { source, .. }) if matches!(*source, slq_pack::SlqError::NotSlq) => {
                #[cfg(feature = "onnx")]
                return Self::from_graph(slq_onnx::read(path)?, expand);
                #[cfg(not(feature = "onnx"))]
                return Err(RuntimeError::Format { path: path.into() });
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads an open container.
    ///
    /// # Errors
    /// [`RuntimeError::Slq`], [`RuntimeError::Codes`], and [`RuntimeError::Graph`] for weights that are not finite.
    pub fn from_slq<S: Source>(reader: &Reader<S>, expand: Expand) -> Result<Self, RuntimeError> {
        Self::checked(load::slq(reader, expand)?)
    }

    /// Reads a container that is in memory.
    ///
    /// # Errors
    /// As [`Network::from_slq`].
    pub fn from_bytes(bytes: &[u8], expand: Expand) -> Result<Self, RuntimeError> {
        Self::from_slq(&Reader::from_bytes(bytes)?, expand)
    }

    /// Packs the weights of a graph whose palettes are fully fixed; others are floats.
    ///
    /// # Errors
    /// As [`Network::from_slq`].
    pub fn from_graph(graph: Graph, expand: Expand) -> Result<Self, RuntimeError> {
        Self::checked(load::graph(graph, expand)?)
    }

    fn checked(parts: Parts) -> Result<Self, RuntimeError> {
        load::check(&parts)?;
        Ok(Self { parts })
    }

    /// Nodes, inputs, outputs, metadata, and the weights that are floats.
    pub fn graph(&self) -> &Graph {
        &self.parts.graph
    }

    /// What is packed, what was expanded and why.
    pub fn report(&self) -> &Report {
        &self.parts.report
    }

    /// The network on named inputs.
    pub fn session(self, isa: Isa) -> Session {
        Session::new(self.parts.graph, self.parts.packed, isa)
    }

    /// The network on batches of up to `batch` images.
    ///
    /// # Errors
    /// [`RuntimeError::Engine`] as [`CpuExecutor::new`].
    pub fn executor(self, batch: usize, isa: Isa) -> Result<CpuExecutor, RuntimeError> {
        let options = EngineOptions { isa, ..EngineOptions::default() };
        Ok(CpuExecutor::with_packed(self.parts.graph, self.parts.packed, batch, &options)?)
    }
}
