//! What is quantized, how finely, and by which method.

use serde::{Deserialize, Serialize};
use slq_engine::{BatchNormMode, UpdateRule};

use super::calibrate::CalibrateSettings;
use super::choices::{Granularity, LayerRule, Weighting};
use super::deep_compression::DeepCompressionSettings;
use super::inq::InqSettings;
use super::kmeans::KmeansSettings;
use super::method::{Method, MethodName};
use super::mlq::{LayerOrder, MlqSettings};
use super::slq::SlqSettings;
use crate::budget::Budget;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// A stage that moves weights onto codebooks.
///
/// Defaults: SLQ, 4 bits, one codebook for a tensor, no layer rules, unweighted clustering, bias correction on, 1000
/// training images held out where something is measured, no budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Quantize {
    /// Bits b of a code: K = 2^b values in a codebook; 2^b - 1 where the codebook is symmetric about zero (`pow2`,
    /// `uniform`), 2^(b-1) + 1 for INQ (one bit marks zero).
    pub bits: u8,
    /// K itself, where it does not follow from the bits.
    pub codebook_size: Option<usize>,
    /// How many weights share a codebook.
    pub granularity: Granularity,
    /// Rules for single layers; the last one that matches counts. With a codebook size they can only skip layers.
    pub layers: Vec<LayerRule>,
    /// Weights of the values in clustering.
    pub cluster_weights: Weighting,
    /// Whether batch-norm statistics and biases are corrected for what quantization is expected to shift (Nagel et al.,
    /// ICCV 2019): for k-means, and where batch-norm is frozen.
    pub correction: bool,
    /// Training images held out to measure partitions, ranks of layers and Fisher information on.
    pub partition_images: usize,
    /// A size or an accuracy to keep, by widths chosen for each layer; the bits are then not read.
    pub budget: Option<Budget>,
    /// The method.
    pub method: Method,
}

impl Default for Quantize {
    fn default() -> Self {
        Self::new(MethodName::default().with_defaults(), 4)
    }
}

impl Quantize {
    /// A method with codes of `bits` bits.
    pub fn new(method: Method, bits: u8) -> Self {
        Self {
            bits,
            codebook_size: None,
            granularity: Granularity::Tensor,
            layers: Vec::new(),
            cluster_weights: Weighting::None,
            correction: true,
            partition_images: 1000,
            budget: None,
            method,
        }
    }

    /// SLQ with codes of `bits` bits.
    pub fn slq(bits: u8) -> Self {
        Self::new(MethodName::Slq.with_defaults(), bits)
    }

    /// MLQ with codes of `bits` bits.
    pub fn mlq(bits: u8) -> Self {
        Self::new(MethodName::Mlq.with_defaults(), bits)
    }

    /// MLQ with three values, one negative, zero and one positive, in the settings that measure best: the smallest layers
    /// first, distillation at temperature 4, rate 0.01.
    pub fn ternary() -> Self {
        let method = Method::Mlq(MlqSettings { rank_by: LayerOrder::Size, ..MlqSettings::default() });
        let ternary = Self { codebook_size: Some(3), ..Self::new(method, 2) };
        ternary.training(|t| (t.distill, t.learning_rate) = (Some(4.0), 0.01))
    }

    /// A method as published: K = 2^(bits-1) + 1 values for SLQ and MLQ, with the start, order and schedule of the authors'
    /// program, labels as targets and Caffe's update rule.
    pub fn published(method: MethodName, bits: u8) -> Self {
        let mut settings = Self::new(method.with_defaults(), bits);
        let published = matches!(method, MethodName::Slq | MethodName::Mlq);
        settings.codebook_size = (published && bits >= 2).then(|| (1 << (bits.min(8) - 1)) + 1);
        match &mut settings.method {
            Method::Slq(s) => *s = SlqSettings::published(),
            Method::Mlq(s) => *s = MlqSettings::published(),
            _ => {}
        }
        settings.training(|t| (t.distill, t.rule) = (None, UpdateRule::Caffe))
    }

    /// INQ with codes of `bits` bits.
    pub fn inq(bits: u8) -> Self {
        Self::new(MethodName::Inq.with_defaults(), bits)
    }

    /// Deep Compression with codes of `bits` bits.
    pub fn deep_compression(bits: u8) -> Self {
        Self::new(MethodName::DeepCompression.with_defaults(), bits)
    }

    /// k-means with codes of `bits` bits: no data, no re-training.
    pub fn kmeans(bits: u8) -> Self {
        Self::new(MethodName::Kmeans.with_defaults(), bits)
    }

    /// Calibration with codes of `bits` bits: inputs without labels, no re-training.
    pub fn calibrate(bits: u8) -> Self {
        Self::new(MethodName::Calibrate.with_defaults(), bits)
    }

    /// Adds a rule: layers whose weight or node name matches `pattern` get `bits` bits.
    #[must_use]
    pub fn layer(mut self, pattern: &str, bits: u8) -> Self {
        self.layers.push(LayerRule { pattern: pattern.into(), bits: Some(bits) });
        self
    }

    /// Adds a rule: layers whose weight or node name matches `pattern` stay at full precision.
    #[must_use]
    pub fn skip(mut self, pattern: &str) -> Self {
        self.layers.push(LayerRule { pattern: pattern.into(), bits: None });
        self
    }

    /// Sets how many weights share a codebook.
    #[must_use]
    pub fn granularity(mut self, granularity: Granularity) -> Self {
        self.granularity = granularity;
        self
    }

    /// Sets a budget that chooses the width of each layer.
    #[must_use]
    pub fn within(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Changes the settings of the re-training; nothing for a method that has none.
    #[must_use]
    pub fn training(mut self, change: impl FnOnce(&mut TrainingSettings)) -> Self {
        self.method.training_mut().map(change);
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the setting that is out of range or contradicts another.
    pub fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason: String| Err(CompressError::Setting { name, reason });
        let lowest = self.lowest_bits();
        if !(lowest..=8).contains(&self.bits) {
            return bad("bits", format!("{} is not between {lowest} and 8", self.bits));
        }
        if let Some(Budget::Drop(points)) = self.budget.filter(|b| !b.is_possible()) {
            return bad("max-drop", format!("{points} is not between 0 and 100 points"));
        }
        if let Some(k) = self.codebook_size.filter(|k| !(2..=256).contains(k)) {
            return bad("codebook-size", format!("{k} is not between 2 and 256"));
        }
        if self.measures() && self.partition_images == 0 {
            let reason = "measured partitions, ranks and Fisher weights need held-out images".into();
            return bad("partition-images", reason);
        }
        if self.cluster_weights != Weighting::None {
            match self.method.name() {
                MethodName::Inq => return bad("cluster-weights", "inq does not cluster".into()),
                MethodName::Calibrate => {
                    return bad("cluster-weights", "calibrate weighs its values by what it measures".into());
                }
                _ => {}
            }
            if self.method.has_shaped_codebook() {
                return bad("cluster-weights", "a codebook of given shape is not weighted".into());
            }
        }
        let even = self.codebook_size.filter(|k| k.is_multiple_of(2));
        if let (Some(k), true) = (even, self.method.has_shaped_codebook()) {
            return bad("codebook-size", format!("{k} is even: a codebook symmetric about zero is odd"));
        }
        self.method.check()
    }

    /// K of a layer without a rule of its own.
    pub fn size(&self) -> usize {
        self.codebook_size.unwrap_or_else(|| self.size_for(self.bits))
    }

    /// K for a layer whose width is given as `bits`.
    pub fn size_for(&self, bits: u8) -> usize {
        match self.method.name() {
            MethodName::Inq => (1 << (bits - 1)) + 1,
            _ if self.method.has_shaped_codebook() => (1 << bits) - 1,
            _ => 1 << bits,
        }
    }

    /// The fewest bits that the method supports.
    pub fn lowest_bits(&self) -> u8 {
        if self.method.has_shaped_codebook() { 2 } else { 1 }
    }

    /// Whether the stage needs data.
    pub fn needs_data(&self) -> bool {
        self.retrains() || self.cluster_weights == Weighting::Fisher
    }

    /// Whether values are weighted by inputs, which must then be real ones.
    pub fn weighs_by_inputs(&self) -> bool {
        self.cluster_weights == Weighting::Inputs
    }

    /// Whether the stage runs on inputs without labels.
    pub fn calibrates(&self) -> bool {
        self.method.name() == MethodName::Calibrate
    }

    /// Whether the method re-trains, in rounds.
    pub fn retrains(&self) -> bool {
        self.method.training().is_some()
    }

    /// Whether bias correction applies: where batch-norm is not frozen, re-training updates its statistics itself.
    pub fn corrects(&self) -> bool {
        let frozen = self.method.training().is_none_or(|t| t.batch_norm == BatchNormMode::Frozen);
        self.correction && frozen
    }

    /// Whether anything is measured on held-out images.
    pub(crate) fn measures(&self) -> bool {
        self.cluster_weights == Weighting::Fisher || self.method.measures()
    }
}

/// A [`Quantize`] as a table of a recipe: the method's settings stand in a table of the method's name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Table {
    method: Option<MethodName>,
    bits: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    codebook_size: Option<usize>,
    granularity: Granularity,
    layers: Vec<LayerRule>,
    cluster_weights: Weighting,
    correction: bool,
    partition_images: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slq: Option<SlqSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mlq: Option<MlqSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inq: Option<InqSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_compression: Option<DeepCompressionSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kmeans: Option<KmeansSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibrate: Option<CalibrateSettings>,
}

impl Default for Table {
    fn default() -> Self {
        let mut table = Self::from(Quantize::default());
        (table.method, table.slq) = (None, None);
        table
    }
}

impl From<Quantize> for Table {
    fn from(from: Quantize) -> Self {
        let method = Some(from.method.name());
        let (mut slq, mut mlq, mut inq) = (None, None, None);
        let (mut deep_compression, mut kmeans, mut calibrate) = (None, None, None);
        match from.method {
            Method::Slq(s) => slq = Some(s),
            Method::Mlq(s) => mlq = Some(s),
            Method::Inq(s) => inq = Some(s),
            Method::DeepCompression(s) => deep_compression = Some(s),
            Method::Kmeans(s) => kmeans = Some(s),
            Method::Calibrate(s) => calibrate = Some(s),
        }
        Self {
            method,
            bits: from.bits,
            codebook_size: from.codebook_size,
            granularity: from.granularity,
            layers: from.layers,
            cluster_weights: from.cluster_weights,
            correction: from.correction,
            partition_images: from.partition_images,
            budget: from.budget,
            slq,
            mlq,
            inq,
            deep_compression,
            kmeans,
            calibrate,
        }
    }
}

impl TryFrom<Table> for Quantize {
    type Error = String;

    fn try_from(from: Table) -> Result<Self, String> {
        let given = [
            from.slq.map(Method::Slq),
            from.mlq.map(Method::Mlq),
            from.inq.map(Method::Inq),
            from.deep_compression.map(Method::DeepCompression),
            from.kmeans.map(Method::Kmeans),
            from.calibrate.map(Method::Calibrate),
        ];
        let mut given = given.into_iter().flatten();
        let (first, second) = (given.next(), given.next());
        if let (Some(a), Some(b)) = (&first, &second) {
            let (a, b) = (a.name().text(), b.name().text());
            return Err(format!("a stage has one method: give one of the tables '{a}' and '{b}'"));
        }
        let method = match (from.method, first) {
            (Some(name), Some(table)) if name != table.name() => {
                let (name, table) = (name.text(), table.name().text());
                return Err(format!("the method is '{name}', but the table is that of '{table}'"));
            }
            (_, Some(table)) => table,
            (name, None) => name.unwrap_or_default().with_defaults(),
        };
        Ok(Self {
            bits: from.bits,
            codebook_size: from.codebook_size,
            granularity: from.granularity,
            layers: from.layers,
            cluster_weights: from.cluster_weights,
            correction: from.correction,
            partition_images: from.partition_images,
            budget: from.budget,
            method,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::choices::CodebookKind;

    #[test]
    fn codes_of_b_bits_are_used_in_full() {
        let sizes = |q: Quantize| (2..=8).map(|b| q.size_for(b)).collect::<Vec<_>>();
        assert_eq!(sizes(Quantize::slq(4)), [4, 8, 16, 32, 64, 128, 256]);
        assert_eq!(sizes(Quantize::inq(4)), [3, 5, 9, 17, 33, 65, 129]);
        let uniform = Method::Mlq(MlqSettings { codebook: CodebookKind::Uniform, ..MlqSettings::default() });
        assert_eq!(sizes(Quantize::new(uniform, 4)), [3, 7, 15, 31, 63, 127, 255]);
        assert_eq!(Quantize::ternary().size(), 3);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let deep = |d: DeepCompressionSettings| Quantize::new(Method::DeepCompression(d), 4);
        let shaped = Method::Slq(SlqSettings { codebook: CodebookKind::Uniform, ..SlqSettings::default() });
        let moved =
            SlqSettings { codebook: CodebookKind::Uniform, train_centroids: true, ..SlqSettings::default() };
        let mlq = MlqSettings { layers_per_step: 0, ..MlqSettings::default() };
        let trained = MlqSettings { train_centroids: true, ..MlqSettings::default() };
        let inq = InqSettings { portions: Some(vec![0.5]), ..InqSettings::default() };
        let measured = Method::Slq(SlqSettings {
            partition: crate::quantize::slq::PartitionRule::Loss,
            ..SlqSettings::default()
        });
        let cases = [
            ("bits", Quantize::slq(9)),
            ("bits", Quantize::slq(0)),
            ("bits", Quantize::inq(1)),
            ("codebook-size", Quantize { codebook_size: Some(1), ..Quantize::slq(4) }),
            ("codebook-size", Quantize { codebook_size: Some(4), ..Quantize::new(shaped, 4) }),
            ("partition-images", Quantize { partition_images: 0, ..Quantize::new(measured, 4) }),
            ("layers-per-step", Quantize::new(Method::Mlq(mlq), 2)),
            ("train-centroids", Quantize::new(Method::Slq(moved), 4)),
            (
                "train-centroids",
                Quantize::new(Method::Mlq(trained), 2)
                    .training(|t| t.rule = UpdateRule::AdaGrad { delta: 1e-8 }),
            ),
            ("sparsity", deep(DeepCompressionSettings { sparsity: 1.0, ..Default::default() })),
            ("prune-steps", deep(DeepCompressionSettings { prune_steps: 0, ..Default::default() })),
            ("portions", Quantize::new(Method::Inq(inq), 4)),
            ("cluster-weights", Quantize { cluster_weights: Weighting::Fisher, ..Quantize::inq(4) }),
            ("batch", Quantize::slq(4).training(|t| t.batch = 0)),
        ];
        for (name, settings) in cases {
            let error = settings.check().unwrap_err();
            assert!(
                matches!(&error, CompressError::Setting { name: n, .. } if *n == name),
                "{name}: {error}"
            );
        }
        assert!(Quantize::default().check().is_ok());
    }

    #[test]
    fn a_table_names_one_method_and_only_its_settings() {
        let read = |text: &str| serde_json::from_str::<Quantize>(text);
        assert_eq!(read("{}").unwrap(), Quantize::default());
        assert_eq!(
            read(r#"{"mlq": {"rank-by": "size"}, "bits": 2}"#).unwrap().method.name(),
            MethodName::Mlq
        );
        assert_eq!(read(r#"{"method": "inq", "bits": 5}"#).unwrap(), Quantize::inq(5));
        for (text, word) in [
            (r#"{"slq": {}, "mlq": {}}"#, "one method"),
            (r#"{"method": "slq", "mlq": {}}"#, "mlq"),
            (r#"{"mlq": {"partition": "loss"}}"#, "partition"),
            (r#"{"bitss": 4}"#, "bitss"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        for settings in [Quantize::ternary(), Quantize::kmeans(8).skip("conv1*")] {
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(read(&text).unwrap(), settings);
        }
    }
}
