//! The flag that says how a .slq file runs.

use clap::Args;
use slq::runtime::{Expand, Network, UnknownExpand};
use slq::{Error, PackedModel};

use crate::common::Common;

/// How the weights of a .slq file lie in memory.
#[derive(Args, Clone, Debug)]
pub(crate) struct PackedArgs {
    /// Of a .slq file: which weights become floats in memory [default: auto]
    ///
    /// auto: layers of less than 256 KB as floats, 2 MB in all; all: every layer; none: only those that must be.
    #[arg(long, value_name = "WHAT", value_parser = |text: &str| text.parse::<Expand>().map_err(|e: UnknownExpand| e.to_string()))]
    expand: Option<Expand>,
}

impl PackedArgs {
    fn again(&self, model: &str) -> Result<PackedModel, Error> {
        PackedModel::open(model, self.expand.unwrap_or_default())
    }

    /// The model as a packed network if it is a .slq file; says which weights had to be expanded.
    pub(crate) fn open(&self, model: &str, common: &Common) -> Result<Option<PackedModel>, Error> {
        if PackedModel::names(model) {
            let packed = self.again(model)?;
            note(&packed.network, common);
            return Ok(Some(packed));
        }
        match self.expand {
            Some(_) => Err(Error::Argument(format!("--expand is for .slq files, '{model}' is none"))),
            None => Ok(None),
        }
    }
}

/// A packed network that several tries may use up, each of them one.
pub(crate) struct Tries<'a> {
    args: &'a PackedArgs,
    model: &'a str,
    packed: bool,
    opened: Option<PackedModel>,
}

impl<'a> Tries<'a> {
    /// `opened` from `model`, which is no .slq file where it is `None`.
    pub(crate) fn new(args: &'a PackedArgs, model: &'a str, opened: Option<PackedModel>) -> Self {
        Self { args, model, packed: opened.is_some(), opened }
    }

    /// The network, which is opened again where a try has used it up; `None` where it is none.
    ///
    /// # Errors
    /// Those of [`PackedModel::open`].
    pub(crate) fn take(&mut self) -> Result<Option<PackedModel>, Error> {
        match self.opened.take() {
            None if self.packed => self.args.again(self.model).map(Some),
            opened => Ok(opened),
        }
    }
}

/// Says which weights had to be expanded though nobody asked for it.
fn note(network: &Network, common: &Common) {
    for weight in network.report().expanded.iter().filter(|e| e.reason != slq::runtime::Reason::Chosen) {
        let kilobytes = weight.bytes as f64 / 1e3;
        common.note(format_args!(
            "note: '{}' takes {kilobytes:.1} KB as floats: {}",
            weight.name, weight.reason
        ));
    }
}
