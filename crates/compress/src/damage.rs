//! Damage: how far a network's outputs are from those of another, on inputs without labels.

use serde::{Deserialize, Serialize};
use slq_engine::Isa;
use slq_graph::{Graph, Tensor};
use slq_reduce::{Alone, Reducer};

use crate::error::{CalibrateError, CompressError};
use crate::inputs::{InputError, Inputs, Origin, samples};
use crate::outputs::{Kind, kind};
use crate::processes::{first_reason, gather_any};

/// Above this mean KL divergence (nats) a classifier is said to be damaged: on ImageNet's networks it goes with some three
/// points of top-1.
pub const MOST_KL: f64 = 0.1;
/// Below this ratio of signal to noise (dB), the same for a network whose outputs are no classes.
pub const LEAST_SNR: f64 = 10.0;

/// Differences between the outputs of two networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Damage {
    /// Inputs compared on.
    pub images: usize,
    /// Where they come from.
    pub inputs: Origin,
    /// Whether the network was calibrated on the same inputs.
    #[serde(default)]
    pub seen: bool,
    /// Share of inputs whose largest output is the same; `None` where outputs are no classes.
    pub agreement: Option<f64>,
    /// Mean Kullback-Leibler divergence of the second network's distribution from the first one's, in nats.
    pub kl: Option<f64>,
    /// Largest difference of an output value.
    pub max_abs: f64,
    /// Root of the summed squared differences over that of the summed squares of the first network's outputs.
    pub relative: f64,
    /// The same as a ratio of signal to noise, in dB; `None` where nothing differs.
    pub snr_db: Option<f64>,
    /// Output by output, those of floats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputDamage>,
}

/// Differences at one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputDamage {
    /// Name of the output.
    pub name: String,
    /// Share of rows of class scores whose largest one is the same; `None` where the output is no classes.
    pub agreement: Option<f64>,
    /// Mean Kullback-Leibler divergence of these rows, in nats.
    pub kl: Option<f64>,
    /// Mean over the inputs of the cosine between both networks' values.
    pub cosine: f64,
    /// Largest difference of a value.
    pub max_abs: f64,
    /// Root of the summed squared differences over that of the summed squares of the first network's values.
    pub relative: f64,
}

impl Damage {
    /// A sentence where the damage is above the threshold ([`MOST_KL`]; for outputs that are no classes [`LEAST_SNR`]).
    pub fn warning(&self) -> Option<String> {
        let inputs = match self.inputs {
            Origin::Random => "random inputs (an estimate)",
            _ => "inputs",
        };
        let advice = "give it more bits, or calibrate or re-train it";
        match (self.kl, self.snr_db) {
            (Some(kl), _) if kl > MOST_KL => {
                let classes = match (self.inputs, self.agreement) {
                    (Origin::Given, Some(share)) => format!(", the same class for {:.1} %", 100.0 * share),
                    _ => String::new(),
                };
                Some(format!(
                    "the network is damaged: on {} {inputs} its outputs have a mean KL divergence of {kl:.3} from the \
                     float network's (above {MOST_KL}){classes}; {advice}",
                    self.images
                ))
            }
            (None, Some(snr)) if snr < LEAST_SNR => Some(format!(
                "the network is damaged: on {} {inputs} its outputs have a signal-to-noise ratio of {snr:.1} dB (below \
                 {LEAST_SNR:.0}); {advice}",
                self.images
            )),
            _ => None,
        }
    }
}

/// Tensors by name.
type Named = Vec<(String, Tensor)>;

/// Sums over batches.
#[derive(Default)]
struct Sums {
    images: usize,
    outputs: Vec<(String, OutputSums)>,
}

/// Sums over batches at one output.
#[derive(Default)]
struct OutputSums {
    rows: usize,
    agreed: usize,
    divergence: f64,
    examples: usize,
    cosines: f64,
    largest: f64,
    noise: f64,
    signal: f64,
}

/// Compares `other` with `float` on `inputs`: all outputs of floats by value, and those of class scores as classes.
/// [`Damage::agreement`] and [`Damage::kl`] are those of the first output.
///
/// # Errors
/// [`CompressError::Inputs`] for inputs that cannot be read, [`CompressError::Engine`] for networks that cannot run,
/// [`CompressError::DataMismatch`] for networks whose outputs have other shapes.
pub fn compare_outputs(
    float: &Graph,
    other: &Graph,
    inputs: &dyn Inputs,
    isa: Isa,
) -> Result<Damage, CompressError> {
    compare_shared((float, other), inputs, isa, Alone::shared())
}

/// The same with the batches shared out over the processes. Sums over them are rounded otherwise than in one process.
///
/// # Errors
/// As [`compare_outputs`]; what one process meets, all report; [`CompressError::Reduce`].
pub(crate) fn compare_shared(
    (float, other): (&Graph, &Graph),
    inputs: &dyn Inputs,
    isa: Isa,
    reducer: &dyn Reducer,
) -> Result<Damage, CompressError> {
    let sums = Sums::own((float, other), inputs, isa, reducer);
    let sums = agreed(sums, reducer)?.joined(reducer)?;
    if sums.images == 0 {
        return Err(InputError { reason: "there are none".into() }.into());
    }
    Ok(sums.damage(float, inputs.origin()))
}

/// The outputs of a network on a few inputs, to compare many others with.
pub(crate) struct Reference<'a> {
    network: &'a Graph,
    origin: Origin,
    runs: Vec<(Named, Named)>,
}

impl<'a> Reference<'a> {
    /// On the first batches of `inputs`, of at least `images` together where there are as many.
    ///
    /// # Errors
    /// As [`compare_outputs`].
    pub(crate) fn new(
        network: &'a Graph,
        inputs: &dyn Inputs,
        images: usize,
        isa: Isa,
    ) -> Result<Self, CompressError> {
        let (mut runs, mut seen) = (Vec::new(), 0);
        for index in 0..inputs.len() {
            let batch = inputs.batch(index)?;
            seen += samples(&batch);
            let outputs = slq_engine::run(network, &named(&batch), isa)?;
            runs.push((batch, outputs));
            if seen >= images {
                break;
            }
        }
        Ok(Self { network, origin: inputs.origin(), runs })
    }

    /// How far the outputs of `other` are: the mean KL divergence or, for outputs that are no classes, the squared relative
    /// difference.
    ///
    /// # Errors
    /// As [`compare_outputs`].
    pub(crate) fn divergence(&self, other: &Graph, isa: Isa) -> Result<f64, CompressError> {
        let mut sums = Sums::default();
        for (batch, outputs) in &self.runs {
            sums.add(self.network, outputs, &slq_engine::run(other, &named(batch), isa)?)?;
            sums.images += samples(batch);
        }
        let damage = sums.damage(self.network, self.origin);
        Ok(damage.kl.unwrap_or(damage.relative * damage.relative))
    }
}

fn named(batch: &Named) -> Vec<(&str, &Tensor)> {
    batch.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

fn finite(v: f64) -> f64 {
    if v.is_finite() { v } else { f64::MAX }
}

fn relative(noise: f64, signal: f64) -> f64 {
    finite((noise / signal.max(f64::MIN_POSITIVE)).sqrt())
}

/// `result`, unless another process has an error.
fn agreed(result: Result<Sums, CompressError>, reducer: &dyn Reducer) -> Result<Sums, CompressError> {
    if reducer.size() == 1 {
        return result;
    }
    let own = result.as_ref().err().map(|error| match error {
        CompressError::Engine(error) => format!("E{error}"),
        error => format!(" {error}"),
    });
    let first = first_reason(reducer, own)?;
    let Some(first) = first.filter(|_| result.is_ok()) else { return result };
    Err(match first.split_at_checked(1) {
        Some(("E", reason)) => CalibrateError::Elsewhere { reason: reason.into() }.into(),
        _ => InputError { reason: first.trim_start().into() }.into(),
    })
}

impl Sums {
    /// Those over this process's batches: process r of N takes number r, r + N, ...
    fn own(
        (float, other): (&Graph, &Graph),
        inputs: &dyn Inputs,
        isa: Isa,
        reducer: &dyn Reducer,
    ) -> Result<Self, CompressError> {
        let mut sums = Self::default();
        for index in (reducer.rank()..inputs.len()).step_by(reducer.size()) {
            let batch = inputs.batch(index)?;
            let given = named(&batch);
            let (a, b) = (slq_engine::run(float, &given, isa)?, slq_engine::run(other, &given, isa)?);
            sums.add(float, &a, &b)?;
            sums.images += samples(&batch);
        }
        Ok(sums)
    }

    /// The figures, beside the network `float`.
    fn damage(&self, float: &Graph, inputs: Origin) -> Damage {
        let all = self.outputs.iter().map(|(_, s)| s);
        let [noise, signal] =
            [all.clone().map(|s| s.noise).sum::<f64>(), all.clone().map(|s| s.signal).sum()];
        let outputs: Vec<OutputDamage> = self.outputs.iter().map(|(name, s)| s.figures(name)).collect();
        let name = float.outputs.first().map(|o| o.name.as_str());
        let first = outputs.first().filter(|o| Some(o.name.as_str()) == name);
        Damage {
            images: self.images,
            inputs,
            seen: false,
            agreement: first.and_then(|o| o.agreement),
            kl: first.and_then(|o| o.kl),
            max_abs: finite(all.map(|s| s.largest).fold(0.0, f64::max)),
            relative: relative(noise, signal),
            snr_db: (noise > 0.0).then(|| 10.0 * (finite(signal) / finite(noise)).log10().max(-99.0)),
            outputs,
        }
    }

    /// Those of all processes, added in the order of their ranks.
    fn joined(self, reducer: &dyn Reducer) -> Result<Self, CompressError> {
        if reducer.size() == 1 {
            return Ok(self);
        }
        // The first process has a batch, if any has.
        let names: Vec<&str> = self.outputs.iter().map(|(name, _)| name.as_str()).collect();
        let names = reducer.broadcast(names.join("\0").into_bytes())?;
        let names = String::from_utf8_lossy(&names).into_owned();
        let figures = self.outputs.iter().flat_map(|(_, s)| s.to_array());
        let figures: Vec<u8> =
            [self.images as f64].into_iter().chain(figures).flat_map(f64::to_le_bytes).collect();
        let empty = || names.split('\0').map(|name| (name.to_owned(), OutputSums::default())).collect();
        let mut all = Self { images: 0, outputs: empty() };
        for bytes in gather_any(reducer, figures)? {
            let values: Vec<f64> =
                bytes.chunks_exact(8).map(|b| b.try_into().map_or(f64::NAN, f64::from_le_bytes)).collect();
            let Some((images, values)) = values.split_first() else { continue };
            all.images += *images as usize;
            let (values, _) = values.as_chunks::<8>();
            all.outputs.iter_mut().zip(values).for_each(|((_, sums), values)| sums.join(*values));
        }
        Ok(all)
    }

    fn add(
        &mut self,
        float: &Graph,
        a: &[(String, Tensor)],
        b: &[(String, Tensor)],
    ) -> Result<(), CompressError> {
        let mismatch = |reason: String| Err(CompressError::DataMismatch { reason });
        if a.len() != b.len() {
            return mismatch(format!("the networks have {} and {} outputs", a.len(), b.len()));
        }
        for ((name, x), (_, y)) in a.iter().zip(b) {
            if x.shape() != y.shape() {
                return mismatch(format!("output '{name}' is {:?} and {:?}", x.shape(), y.shape()));
            }
            let (Some(x_values), Some(y_values)) = (x.as_f32(), y.as_f32()) else { continue };
            let at = self.outputs.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                self.outputs.push((name.clone(), OutputSums::default()));
                self.outputs.len() - 1
            });
            let sums = &mut self.outputs[at].1;
            let examples = x.shape().first().copied().unwrap_or(1).max(1);
            let len = (x_values.len() / examples).max(1);
            for (x, y) in x_values.chunks(len).zip(y_values.chunks(len)) {
                sums.compare(x, y);
            }
            if let Kind::Classes(classes) = kind(float, name, x.shape()) {
                let rows = x_values.chunks_exact(classes).zip(y_values.chunks_exact(classes));
                rows.for_each(|(p, q)| sums.classify(p, q));
            }
        }
        Ok(())
    }
}

impl OutputSums {
    fn to_array(&self) -> [f64; 8] {
        let [rows, agreed, examples] = [self.rows, self.agreed, self.examples].map(|n| n as f64);
        [rows, agreed, examples, self.divergence, self.cosines, self.largest, self.noise, self.signal]
    }

    /// Adds the sums of other examples.
    fn join(&mut self, [rows, agreed, examples, divergence, cosines, largest, noise, signal]: [f64; 8]) {
        self.rows += rows as usize;
        self.agreed += agreed as usize;
        self.examples += examples as usize;
        self.divergence += divergence;
        self.cosines += cosines;
        self.largest = self.largest.max(largest);
        self.noise += noise;
        self.signal += signal;
    }

    /// Adds the values of one example.
    fn compare(&mut self, x: &[f32], y: &[f32]) {
        let (mut product, mut lengths) = (0.0, [0.0f64; 2]);
        for (&p, &q) in x.iter().zip(y) {
            let (p, q) = (f64::from(p), f64::from(q));
            let difference = p - q;
            self.largest = if difference.is_nan() { f64::MAX } else { self.largest.max(difference.abs()) };
            self.noise += difference * difference;
            self.signal += p * p;
            product += p * q;
            lengths = [lengths[0] + p * p, lengths[1] + q * q];
        }
        let cosine = if lengths == [0.0; 2] { 1.0 } else { product / (lengths[0] * lengths[1]).sqrt() };
        self.cosines += if cosine.is_finite() { cosine.clamp(-1.0, 1.0) } else { 0.0 };
        self.examples += 1;
    }

    fn figures(&self, name: &str) -> OutputDamage {
        let of = |v: f64| v / self.rows as f64;
        OutputDamage {
            name: name.into(),
            agreement: (self.rows > 0).then(|| of(self.agreed as f64)),
            kl: (self.rows > 0).then(|| finite(of(self.divergence))),
            cosine: self.cosines / self.examples.max(1) as f64,
            max_abs: finite(self.largest),
            relative: relative(self.noise, self.signal),
        }
    }

    fn classify(&mut self, p: &[f32], q: &[f32]) {
        self.rows += 1;
        self.agreed += usize::from(first_maximum(p) == first_maximum(q) && q.iter().all(|v| v.is_finite()));
        let (log_p, log_q) = (log_probabilities(p), log_probabilities(q));
        let terms =
            log_p.iter().zip(&log_q).map(|(p, q)| if p.exp() > 0.0 { p.exp() * (p - q) } else { 0.0 });
        self.divergence += terms.sum::<f64>();
    }
}

fn first_maximum(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best })
}

/// Logarithms of a row's probabilities: those it holds, or those of its softmax.
fn log_probabilities(row: &[f32]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
    if row.iter().all(|&v| v >= 0.0) && (sum - 1.0).abs() < 1e-3 {
        return row.iter().map(|&v| f64::from(v).max(1e-12).ln()).collect();
    }
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = row.iter().map(|&v| f64::from(v - most).exp()).sum();
    row.iter().map(|&v| f64::from(v - most) - total.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Vec<Vec<(String, Tensor)>> {
        let values = |seed: usize| (0..4 * 784).map(|i| ((i * 31 + seed) % 97) as f32 / 97.0).collect();
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let name = graph.inputs[0].name.clone();
        let batch = |seed| vec![(name.clone(), Tensor::f32(vec![4, 1, 28, 28], values(seed)).unwrap())];
        vec![batch(1), batch(2)]
    }

    #[test]
    fn a_network_agrees_with_itself_and_not_with_another() {
        let (a, b) = (slq_zoo::build("lenet", 0).unwrap(), slq_zoo::build("lenet", 1).unwrap());
        let same = compare_outputs(&a, &a, &inputs(), Isa::detect()).unwrap();
        assert_eq!((same.images, same.agreement, same.snr_db), (8, Some(1.0), None));
        assert!(same.kl.unwrap().abs() < 1e-12 && same.warning().is_none());
        let other = compare_outputs(&a, &b, &inputs(), Isa::detect()).unwrap();
        assert!(other.kl.unwrap() > 0.0 && other.relative > 0.1 && other.max_abs > 0.0);
        let few = |images| Reference::new(&a, &inputs(), images, Isa::detect()).unwrap();
        assert_eq!([few(4).runs.len(), few(5).runs.len(), few(99).runs.len()], [1, 2, 2]);
        assert_eq!(few(99).divergence(&b, Isa::detect()).unwrap(), other.kl.unwrap());
        let wrong = Damage { agreement: Some(0.5), kl: Some(1.0), ..other };
        assert!(wrong.warning().unwrap().contains("50.0 %"));
    }

    #[test]
    fn several_processes_find_the_figures_of_one() {
        let (a, b) = (slq_zoo::build("lenet", 0).unwrap(), slq_zoo::build("lenet", 1).unwrap());
        let wanted = compare_outputs(&a, &b, &inputs(), Isa::detect()).unwrap();
        for size in [2, 3] {
            std::thread::scope(|scope| {
                for rank in slq_reduce::threads(size) {
                    let (a, b, wanted) = (&a, &b, &wanted);
                    scope.spawn(move || {
                        let found = compare_shared((a, b), &inputs(), Isa::detect(), &rank).unwrap();
                        assert_eq!((found.images, found.agreement), (wanted.images, wanted.agreement));
                        let near = |x: f64, y: f64| (x - y).abs() <= 1e-12 * y.abs();
                        assert!(near(found.kl.unwrap(), wanted.kl.unwrap()), "{found:?} {wanted:?}");
                        assert!(near(found.relative, wanted.relative) && found.max_abs == wanted.max_abs);
                        // What one process cannot compute, none can.
                        let failing = match rank.rank() {
                            0 => slq_zoo::build("lenet", 0).unwrap(),
                            _ => slq_zoo::build("resnet20", 0).unwrap(),
                        };
                        assert!(compare_shared((a, &failing), &inputs(), Isa::detect(), &rank).is_err());
                    });
                }
            });
        }
    }

    #[test]
    fn probabilities_and_logits_give_the_same_divergence() {
        let (logits, other) = ([1.0f32, 2.0, -1.0], [0.5f32, 2.5, 0.0]);
        let softmax = |row: &[f32]| -> Vec<f32> {
            let total: f32 = row.iter().map(|v| v.exp()).sum();
            row.iter().map(|v| v.exp() / total).collect()
        };
        let (mut a, mut b) = (OutputSums::default(), OutputSums::default());
        a.classify(&logits, &other);
        b.classify(&softmax(&logits), &softmax(&other));
        assert!((a.divergence - b.divergence).abs() < 1e-6 && a.divergence > 0.0);
        assert_eq!((a.rows, a.agreed, b.agreed), (1, 1, 1));
    }
}
