//! The graph while it is being built: values, names, weights.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use slq_graph::{DType, Dim, Graph, Metadata, Node, Tensor, TrainingRates, ValueInfo, Weight, element_count};

use super::blobs::Blobs;
use crate::error::CaffeError;
use crate::fill::fill;
use crate::info::{Net, NetInfo, ReadOptions};
use crate::names::Names;
use crate::proto::{FillerParameter, LayerParameter, ShareMode};
use crate::wire::LayerBlobs;

/// Most values of all initialised weights together: what a caffemodel of 2 GB can hold.
const MAX_FRESH: usize = 1 << 29;
/// Most elements of one activation, for the declared batch.
const MAX_ELEMENTS: usize = 1 << 40;

/// What a blob of the net is called in the graph, and its shape with the declared batch extent (`None` behind
/// a layer whose output shape is not known).
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub name: String,
    pub shape: Option<Vec<usize>>,
    /// Whether it holds labels or a loss, which are not part of the graph.
    pub label: bool,
}

/// A weight to be added: its index among the layer's blobs, its name, its shape and its filler.
pub(super) struct Param<'a> {
    pub index: usize,
    pub name: String,
    pub shape: Vec<usize>,
    /// The shape it has in the graph, where that differs by axes of extent 1.
    pub stored: Option<Vec<usize>>,
    pub filler: Option<&'a FillerParameter>,
    /// The value of every element where there is no filler.
    pub default: f32,
}

impl<'a> Param<'a> {
    /// The first blob of a layer with weights; zero where the file has neither blob nor filler.
    pub(super) fn weight(
        layer: &LayerParameter,
        shape: Vec<usize>,
        filler: Option<&'a FillerParameter>,
    ) -> Self {
        Self { index: 0, name: format!("{}.weight", layer.name()), shape, stored: None, filler, default: 0.0 }
    }

    /// The second blob: a bias of `outputs` elements.
    pub(super) fn bias(layer: &LayerParameter, outputs: usize, filler: Option<&'a FillerParameter>) -> Self {
        let (name, shape) = (format!("{}.bias", layer.name()), vec![outputs]);
        Self { index: 1, name, shape, stored: None, filler, default: 0.0 }
    }
}

/// Which weight of the graph a blob of a layer is.
#[derive(Debug, Clone)]
pub(crate) struct BlobSource {
    /// Index of the layer among the active ones.
    pub layer: usize,
    /// Name of the weight.
    pub weight: String,
    /// A fixed value instead of a weight.
    pub constant: Option<f32>,
    /// The blob's shape.
    pub shape: Vec<usize>,
}

pub(super) struct Builder<'a> {
    /// Index of the layer that is being added.
    pub current: usize,
    /// The weight that each blob became, layer by layer in order.
    pub sources: Vec<BlobSource>,
    pub path: &'a Path,
    pub options: &'a ReadOptions,
    pub graph: Graph,
    pub info: NetInfo,
    /// The caffemodel.
    pub blobs: Blobs<'a>,
    values: HashMap<String, Value>,
    /// Versions of a blob still to be written; the last one keeps the blob's name.
    writes_left: HashMap<String, usize>,
    names: Names,
    node_names: Names,
    /// Values that a `Silence` layer keeps from being outputs.
    pub silenced: HashSet<String>,
    /// Weights by the name that layers share them under.
    shared: HashMap<String, String>,
    fresh_values: usize,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        path: &'a Path,
        model: Option<(&'a Path, Vec<LayerBlobs>)>,
        options: &'a ReadOptions,
        layers: &[LayerParameter],
    ) -> Result<Self, CaffeError> {
        let mut writes_left: HashMap<String, usize> = HashMap::new();
        for top in layers.iter().flat_map(|l| &l.top) {
            *writes_left.entry(top.clone()).or_default() += 1;
        }
        let blobs = Blobs::new(model, layers, path)?;
        Ok(Self {
            current: 0,
            sources: Vec::new(),
            path,
            options,
            graph: Graph::default(),
            info: NetInfo::default(),
            blobs,
            values: HashMap::new(),
            names: writes_left.keys().cloned().collect(),
            writes_left,
            node_names: Names::default(),
            silenced: HashSet::new(),
            shared: HashMap::new(),
            fresh_values: 0,
        })
    }

    /// An error about `field` of `layer`.
    pub(super) fn bad(&self, layer: &LayerParameter, field: &str, reason: impl Into<String>) -> CaffeError {
        CaffeError::Layer {
            path: self.path.into(),
            layer: layer.name().into(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The activation that bottom `i` of `layer` stands for now.
    pub(super) fn bottom(&self, layer: &LayerParameter, i: usize) -> Result<Value, CaffeError> {
        let value = self.any_bottom(layer, i)?;
        if value.label {
            let reason = format!("`{}` holds labels or a loss, which the graph leaves out", value.name);
            return Err(self.bad(layer, "bottom", reason));
        }
        Ok(value)
    }

    /// What bottom `i` of `layer` stands for now: an activation, or labels.
    pub(super) fn any_bottom(&self, layer: &LayerParameter, i: usize) -> Result<Value, CaffeError> {
        let blob = layer.bottom.get(i).ok_or_else(|| {
            self.bad(layer, "bottom", format!("a {} layer needs bottom {i}", layer.r#type()))
        })?;
        self.values
            .get(blob)
            .cloned()
            .ok_or_else(|| self.bad(layer, "bottom", format!("no earlier layer has the top `{blob}`")))
    }

    /// Declares a graph input for a top.
    pub(super) fn input(&mut self, top: &str, shape: Vec<usize>) {
        if let Some(left) = self.writes_left.get_mut(top) {
            *left = left.saturating_sub(1);
        }
        let mut dims: Vec<Dim> = shape.iter().map(|&d| Dim::Known(d)).collect();
        if let Some(batch) = dims.first_mut() {
            *batch = Dim::Symbol("N".into());
        }
        self.graph.inputs.push(ValueInfo { name: top.into(), dtype: DType::F32, shape: Some(dims) });
        let value = Value { name: top.into(), shape: Some(shape), label: false };
        self.values.insert(top.into(), value);
    }

    /// Declares a top that the graph does not compute: labels.
    pub(super) fn label(&mut self, top: &str) {
        if let Some(left) = self.writes_left.get_mut(top) {
            *left = left.saturating_sub(1);
        }
        self.values.insert(top.into(), Value { name: top.into(), shape: None, label: true });
    }

    /// The value name for top `i` of `layer`: the blob's own name for its last version, a numbered one for a
    /// version that a later in-place layer overwrites.
    pub(super) fn top(
        &mut self,
        layer: &LayerParameter,
        i: usize,
        shape: Option<Vec<usize>>,
    ) -> Result<String, CaffeError> {
        let blob = layer
            .top
            .get(i)
            .ok_or_else(|| self.bad(layer, "top", format!("a {} layer needs top {i}", layer.r#type())))?
            .clone();
        if let Some(shape) = &shape
            && element_count(shape).is_none_or(|n| n > MAX_ELEMENTS || n == 0)
        {
            return Err(self.bad(layer, "top", format!("its shape would be {shape:?}")));
        }
        let left = self.writes_left.entry(blob.clone()).or_insert(1);
        *left = left.saturating_sub(1);
        let is_input = self.graph.inputs.iter().any(|v| v.name == blob);
        let name = if *left == 0 && !is_input { blob.clone() } else { self.unique(&blob) };
        self.values.insert(blob, Value { name: name.clone(), shape, label: false });
        Ok(name)
    }

    /// Passes over the output of a layer that is fused with a later one.
    pub(super) fn skip_write(&mut self, layer: &LayerParameter) {
        if let Some(left) = layer.top.first().and_then(|top| self.writes_left.get_mut(top)) {
            *left = left.saturating_sub(1);
        }
    }

    /// A value or weight name that nothing else has, made from `base`.
    pub(super) fn unique(&mut self, base: &str) -> String {
        self.names.unique(base)
    }

    /// Adds a node; its name is made unique.
    pub(super) fn push(&mut self, mut node: Node) {
        node.name = self.node_names.unique(&node.name);
        self.graph.nodes.push(node);
    }

    /// Adds a helper node `LAYER.SUFFIX` and returns its output's name.
    pub(super) fn helper(
        &mut self,
        layer: &LayerParameter,
        suffix: &str,
        op: &str,
        inputs: &[&str],
    ) -> String {
        let name = format!("{}.{suffix}", layer.name());
        let output = self.unique(&name);
        self.push(Node::new(&name, op, inputs, &[&output]));
        output
    }

    /// Adds a constant that training leaves alone.
    pub(super) fn constant(&mut self, layer: &LayerParameter, suffix: &str, tensor: Tensor) -> String {
        let name = self.unique(&format!("{}.{suffix}", layer.name()));
        let weight = Weight { rates: TrainingRates::FROZEN, ..tensor.into() };
        self.graph.weights.insert(name.clone(), weight);
        name
    }

    /// Adds a scalar constant.
    pub(super) fn scalar(
        &mut self,
        layer: &LayerParameter,
        suffix: &str,
        value: f32,
    ) -> Result<String, CaffeError> {
        let tensor = Tensor::f32(vec![], vec![value])?;
        Ok(self.constant(layer, suffix, tensor))
    }

    /// Remembers that the next blob of the current layer is `weight`.
    pub(super) fn source(&mut self, weight: &str, shape: Vec<usize>) {
        let (layer, weight) = (self.current, weight.to_owned());
        self.sources.push(BlobSource { layer, weight, constant: None, shape });
    }

    /// Adds a weight from the caffemodel or by its filler and returns its name; layers that share it by name
    /// get the first one's.
    pub(super) fn param(&mut self, layer: &LayerParameter, param: Param) -> Result<String, CaffeError> {
        let shape = param.shape.clone();
        let name = self.shared_or_new(layer, param)?;
        self.source(&name, shape);
        Ok(name)
    }

    fn shared_or_new(&mut self, layer: &LayerParameter, param: Param) -> Result<String, CaffeError> {
        let spec = layer.param.get(param.index);
        let share = spec.map(|s| s.name()).filter(|n| !n.is_empty());
        if let Some(owner) = share.and_then(|s| self.shared.get(s)) {
            let owner = owner.clone();
            self.blobs.mark_used(layer);
            let shape = self.graph.weights[&owner].tensor.shape();
            if shape == param.stored.as_ref().unwrap_or(&param.shape) {
                return Ok(owner);
            }
            let mode = spec.map(|s| s.share_mode()).unwrap_or(ShareMode::Strict);
            let hint =
                if mode == ShareMode::Permissive { " (permissive sharing is not supported)" } else { "" };
            let reason = format!("shares `{owner}` of shape {shape:?} but needs {:?}{hint}", param.shape);
            return Err(self.bad(layer, "param.name", reason));
        }
        let rates = TrainingRates {
            lr_mult: spec.map_or(1.0, |s| s.lr_mult()),
            decay_mult: spec.map_or(1.0, |s| s.decay_mult()),
        };
        if !rates.lr_mult.is_finite() || !rates.decay_mult.is_finite() {
            return Err(self.bad(layer, "param", "a multiplier is not finite"));
        }
        let values = match self.blobs.take(layer, param.index, &param.shape)? {
            Some(values) => values,
            None => self.fresh(layer, &param)?,
        };
        let tensor = Tensor::f32(param.stored.unwrap_or(param.shape), values)?;
        let name = self.unique(&param.name);
        self.graph.weights.insert(name.clone(), Weight { rates, ..tensor.into() });
        if let Some(share) = share {
            self.shared.insert(share.to_owned(), name.clone());
        }
        Ok(name)
    }

    /// Notes a layer whose weights are initialised although there is a caffemodel.
    pub(super) fn note_fresh(&mut self, layer: &LayerParameter) {
        if self.blobs.path().is_some() && self.info.fresh.last().map(String::as_str) != Some(layer.name()) {
            self.info.fresh.push(layer.name().into());
        }
    }

    /// Adds blob `index` of a layer as it stands in the caffemodel.
    pub(super) fn raw_blob(&mut self, layer: &LayerParameter, index: usize) -> Result<String, CaffeError> {
        let shape = self.blobs.shape(layer, index).unwrap_or_default().to_vec();
        let values = self.blobs.take(layer, index, &shape)?.unwrap_or_default();
        let name = self.unique(&format!("{}.blob{index}", layer.name()));
        self.source(&name, shape.clone());
        let tensor = Tensor::f32(shape, values)?;
        self.graph.weights.insert(name.clone(), Weight::from(tensor));
        Ok(name)
    }

    fn fresh(&mut self, layer: &LayerParameter, param: &Param) -> Result<Vec<f32>, CaffeError> {
        // A deploy net has no fillers: a layer that the caffemodel lacks is a mix-up, not a fresh start.
        if param.index == 0 && param.filler.is_none() {
            self.blobs.require(layer)?;
        }
        self.note_fresh(layer);
        let count = element_count(&param.shape).filter(|&n| n <= MAX_FRESH - self.fresh_values);
        let Some(count) = count else {
            return Err(CaffeError::TooManyWeights {
                path: self.path.into(),
                layer: layer.name().into(),
                limit: MAX_FRESH,
            });
        };
        self.fresh_values += count;
        let Some(filler) = param.filler else { return Ok(vec![param.default; count]) };
        fill(filler, &param.shape, self.options.seed, &param.name)
            .map_err(|reason| self.bad(layer, "filler", reason))
    }

    /// The finished net. Its outputs are the inputs of losses and accuracies, then every other value that no node reads.
    pub(super) fn finish(mut self, name: String) -> Result<Net, CaffeError> {
        let mut outputs: Vec<String> = Vec::new();
        // The loss of the largest weight comes first: it belongs to the main head.
        let mut losses: Vec<_> = self.info.losses.iter().collect();
        losses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let heads = losses.iter().map(|l| &l.predictions);
        for name in heads.chain(self.info.accuracies.iter().map(|a| &a.predictions)) {
            if !outputs.contains(name) {
                outputs.push(name.clone());
            }
        }
        let read: HashSet<&String> = self.graph.nodes.iter().flat_map(|n| &n.inputs).collect();
        for output in self.graph.nodes.iter().flat_map(|n| &n.outputs) {
            let idle = output.is_empty() || read.contains(output) || self.silenced.contains(output);
            if !idle && !outputs.contains(output) {
                outputs.push(output.clone());
            }
        }
        let shapes: HashMap<&String, &Option<Vec<usize>>> =
            self.values.values().map(|v| (&v.name, &v.shape)).collect();
        let value = |name: &String| {
            let shape = shapes.get(name).and_then(|s| s.as_ref()).map(|s| {
                let batch = std::iter::once(Dim::Symbol("N".into()));
                batch.chain(s.iter().skip(1).map(|&d| Dim::Known(d))).collect()
            });
            ValueInfo { name: name.clone(), dtype: DType::F32, shape }
        };
        self.graph.outputs = outputs.iter().map(value).collect();
        self.graph.inputs.retain(|i| read.contains(&i.name));
        if self.graph.outputs.is_empty() {
            return Err(CaffeError::Net {
                path: self.path.into(),
                field: "layer".into(),
                reason: "no layer computes anything".into(),
            });
        }
        self.info.unused = self.blobs.unused();
        self.graph.name = name;
        self.graph.metadata = Metadata { opset: 13, producer: "Caffe".into(), ..Metadata::default() };
        if self.graph.nodes.iter().any(|n| n.domain == "caffe") {
            self.graph.metadata.domains.push(("caffe".into(), 1));
        }
        Ok(Net { graph: self.graph, info: self.info })
    }
}
