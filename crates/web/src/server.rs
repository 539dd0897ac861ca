//! The calls of a page.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slq_graph::{DType, Dim, Tensor, ValueInfo};
use slq_runtime::{Expand, Isa, Network, Session};

use crate::compress::{Granularity, compress};
use crate::error::WebError;

/// What a page can ask for; the numbers are those of `www/slq.js`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// Version and instruction set.
    About = 0,
    /// Opens a network; `a` says what becomes floats: 0 small layers, 1 all, 2 none.
    Open = 1,
    /// Runs network `a`.
    Run = 2,
    /// Closes network `a`.
    Close = 3,
    /// Compresses an ONNX file to `a` bits, with a codebook for each output channel where `b` is not 0.
    Compress = 4,
    /// Part `a` of the last compression.
    Part = 5,
}

impl Call {
    const ALL: [Self; 6] = [Self::About, Self::Open, Self::Run, Self::Close, Self::Compress, Self::Part];
}

/// Open networks, and what the last compression made.
#[derive(Default)]
pub struct Server {
    networks: BTreeMap<u32, Session>,
    opened: u32,
    parts: [Vec<u8>; 2],
}

impl Server {
    /// The call with this number.
    ///
    /// # Errors
    /// [`WebError::Call`], and as [`Server::call`].
    pub fn call_number(
        &mut self,
        number: u32,
        numbers: [u32; 2],
        argument: Vec<u8>,
    ) -> Result<Vec<u8>, WebError> {
        let call = Call::ALL.into_iter().find(|&c| c as u32 == number).ok_or(WebError::Call(number))?;
        self.call(call, numbers, argument)
    }

    /// Makes a call.
    ///
    /// # Errors
    /// Every variant of [`WebError`]; the networks that are open stay open.
    pub fn call(&mut self, call: Call, [a, b]: [u32; 2], argument: Vec<u8>) -> Result<Vec<u8>, WebError> {
        match call {
            Call::About => {
                Ok(text(&json!({ "version": env!("CARGO_PKG_VERSION"), "isa": Isa::detect().name() })))
            }
            Call::Open => self.open(&argument, expand(a)?).map(|v| text(&v)),
            Call::Run => self.run(a, &argument),
            Call::Close => {
                self.networks.remove(&a).ok_or(WebError::Network(a))?;
                Ok(Vec::new())
            }
            Call::Compress => {
                let granularity = if b == 0 { Granularity::Tensor } else { Granularity::Channel };
                let made = compress(&argument, a, granularity)?;
                let answer = text(&made.as_json());
                self.parts = [made.onnx, made.slq];
                Ok(answer)
            }
            Call::Part => {
                let part = self.parts.get(a as usize).filter(|p| !p.is_empty());
                part.cloned().ok_or(WebError::Part(a))
            }
        }
    }

    fn open(&mut self, file: &[u8], expand: Expand) -> Result<Value, WebError> {
        let network = match Network::from_bytes(file, expand) {
            Err(slq_runtime::RuntimeError::Slq(slq_pack::SlqError::NotSlq)) => {
                Network::from_graph(slq_onnx::read_bytes(file)?, expand)?
            }
            other => other?,
        };
        let report = network.report();
        let mut answer = json!({
            "name": network.graph().name,
            "file_bytes": file.len(),
            "packed_bytes": report.packed_bytes(),
            "expanded_bytes": report.expanded_bytes(),
            "float_bytes": report.float_bytes,
            "properties": network.graph().metadata.properties,
        });
        let session = network.session(Isa::detect());
        answer["inputs"] = session.inputs().iter().map(described).collect();
        answer["outputs"] = session.outputs().iter().map(described).collect();
        self.opened = self.opened.wrapping_add(1);
        answer["network"] = self.opened.into();
        self.networks.insert(self.opened, session);
        Ok(answer)
    }

    fn run(&mut self, network: u32, argument: &[u8]) -> Result<Vec<u8>, WebError> {
        let session = self.networks.get_mut(&network).ok_or(WebError::Network(network))?;
        let tensor = input(argument)?;
        let [one] = session.inputs() else { return Err(WebError::Inputs(session.inputs().len())) };
        let name = one.name.clone();
        let outputs = session.run(&[(&name, &tensor)])?;
        let values = outputs.iter().find_map(|(_, t)| t.as_f32()).ok_or(WebError::Output)?;
        Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

fn expand(number: u32) -> Result<Expand, WebError> {
    match number {
        0 => Ok(Expand::Auto),
        1 => Ok(Expand::All),
        2 => Ok(Expand::None),
        other => Err(WebError::Expand(other)),
    }
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Name, type and shape, `null` where an extent is free.
fn described(value: &ValueInfo) -> Value {
    let extent = |d: &Dim| if let Dim::Known(n) = d { json!(n) } else { Value::Null };
    let shape = value.shape.as_ref().map(|s| s.iter().map(extent).collect::<Vec<_>>());
    json!({ "name": value.name, "shape": shape, "float": value.dtype == DType::F32 })
}

/// Rank, extents and values to a tensor.
fn input(argument: &[u8]) -> Result<Tensor, WebError> {
    let fail = || WebError::Input { bytes: argument.len() };
    let mut words = argument.chunks_exact(4).map(|w| [w[0], w[1], w[2], w[3]]);
    let rank = words.next().map(u32::from_le_bytes).filter(|&r| r <= 8).ok_or_else(fail)?;
    let shape: Vec<usize> =
        words.by_ref().take(rank as usize).map(|w| u32::from_le_bytes(w) as usize).collect();
    let values: Vec<f32> = words.map(f32::from_le_bytes).collect();
    let whole = argument.len().is_multiple_of(4) && shape.len() == rank as usize;
    if !whole || slq_graph::element_count(&shape) != Some(values.len()) {
        return Err(fail());
    }
    Ok(Tensor::f32(shape, values)?)
}
