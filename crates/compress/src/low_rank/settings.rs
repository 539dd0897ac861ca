//! Settings of a low-rank decomposition.

use serde::{Deserialize, Serialize};
use slq_lowrank::RankRule;

use super::scheme::Scheme;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// How the ranks of the layers are found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RankChoice {
    /// Ranks shared over the layers so that the network's multiply-accumulates (MACs) fall by this factor.
    #[serde(alias = "flops")]
    Macs(f64),
    /// Ranks shared over the layers so that all parameters, at 4 bytes each, take at most so many bytes.
    TargetSize(u64),
    /// Both at once.
    #[serde(rename_all = "kebab-case")]
    Both {
        /// As [`RankChoice::Macs`].
        #[serde(alias = "flops")]
        macs: f64,
        /// As [`RankChoice::TargetSize`].
        target_size: u64,
    },
    /// The same rule for every layer.
    #[serde(untagged)]
    Rule(RankRule),
}

/// What a rule does with the layers it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankOverride {
    /// Left whole.
    Skip,
    /// Split like the others, even if it is left whole by default (first convolution, 1 x 1).
    Auto,
    /// Split at this rank.
    Rank(usize),
}

/// A rule for the layers whose weight or node name matches a pattern. In text: `GLOB=RANK`, `GLOB=auto` or `GLOB=skip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RankRuleFor {
    /// Shell-style pattern over weight and node names.
    pub pattern: String,
    /// What happens to them.
    pub rank: RankOverride,
}

impl std::str::FromStr for RankRuleFor {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (pattern, value) =
            s.rsplit_once('=').ok_or_else(|| format!("'{s}' is not GLOB=RANK, GLOB=auto or GLOB=skip"))?;
        let rank = match value {
            "skip" => RankOverride::Skip,
            "auto" => RankOverride::Auto,
            _ => match value.parse() {
                Ok(n) if n > 0 => RankOverride::Rank(n),
                _ => {
                    return Err(format!(
                        "'{value}' in '{s}' is neither skip nor auto nor a rank of at least 1"
                    ));
                }
            },
        };
        Ok(Self { pattern: pattern.into(), rank })
    }
}

impl TryFrom<String> for RankRuleFor {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<RankRuleFor> for String {
    fn from(rule: RankRuleFor) -> Self {
        let RankRuleFor { pattern, rank } = rule;
        match rank {
            RankOverride::Skip => format!("{pattern}=skip"),
            RankOverride::Auto => format!("{pattern}=auto"),
            RankOverride::Rank(n) => format!("{pattern}={n}"),
        }
    }
}

/// Trained rank pruning (arXiv 2004.14566): weights are truncated to low rank every few steps while the network trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TrpSettings {
    /// Steps from one truncation to the next.
    pub period: u64,
    /// Share of a weight's energy that a truncation keeps.
    pub energy: f64,
    /// Weight of the nuclear norm in the loss.
    pub nuclear_weight: f64,
    /// Under a budget: the share of the training after which the ranks are those of the budget and stay.
    pub freeze_after: f64,
    /// The training.
    pub training: TrainingSettings,
}

impl Default for TrpSettings {
    /// Truncation at every step to 90 % of the energy, nuclear norm at 3e-4 (all as published), ranks fixed
    /// half-way under a budget.
    fn default() -> Self {
        Self {
            period: 1,
            energy: 0.9,
            nuclear_weight: 3e-4,
            freeze_after: 0.5,
            training: TrainingSettings::default(),
        }
    }
}

/// A stage that splits layers into thin ones of low rank. In a recipe, `ranks` and one of the first two have to be given.
///
/// Defaults: no rules for single layers, no split that costs more than it saves, no training, batches of 64 images in
/// evaluations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Decompose {
    /// How convolutions are split; `None` leaves them whole.
    pub convolutions: Option<Scheme>,
    /// Whether fully connected layers are split.
    #[serde(default)]
    pub fully_connected: bool,
    /// How ranks are found.
    pub ranks: RankChoice,
    /// Rules for single layers; the last one that matches counts.
    #[serde(default)]
    pub layers: Vec<RankRuleFor>,
    /// Also split where that costs more than it saves.
    #[serde(default)]
    pub force: bool,
    /// Training at low rank before the split.
    pub trp: Option<TrpSettings>,
    /// Training of the factors after the split.
    pub fine_tune: Option<TrainingSettings>,
    /// Images in a batch of an evaluation.
    #[serde(default = "default_batch")]
    pub batch: usize,
}

fn default_batch() -> usize {
    64
}

impl Decompose {
    /// Convolutions (or, for [`Scheme::Svd`], fully connected layers) split by `scheme` at ranks found by `ranks`.
    pub fn new(scheme: Scheme, ranks: RankChoice) -> Self {
        Self {
            convolutions: Some(scheme).filter(|s| *s != Scheme::Svd),
            fully_connected: scheme == Scheme::Svd,
            ranks,
            layers: Vec::new(),
            force: false,
            trp: None,
            fine_tune: None,
            batch: default_batch(),
        }
    }

    /// Whether the network is trained, which needs data.
    pub fn trains(&self) -> bool {
        self.trp.is_some() || self.fine_tune.is_some()
    }

    /// The settings of its trainings.
    pub(crate) fn trainings(&self) -> impl Iterator<Item = &TrainingSettings> {
        self.trp.iter().map(|t| &t.training).chain(&self.fine_tune)
    }

    /// The same, to change.
    pub(crate) fn trainings_mut(&mut self) -> impl Iterator<Item = &mut TrainingSettings> {
        self.trp.iter_mut().map(|t| &mut t.training).chain(&mut self.fine_tune)
    }

    /// The names of the schemes, for messages.
    pub(crate) fn schemes(&self) -> String {
        let svd = self.fully_connected.then_some(Scheme::Svd);
        let names: Vec<_> = self.convolutions.into_iter().chain(svd).map(Scheme::text).collect();
        names.join(", ")
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the setting that is out of range.
    pub fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason: String| Err(CompressError::Setting { name, reason });
        if self.convolutions == Some(Scheme::Svd) || (self.convolutions.is_none() && !self.fully_connected) {
            return bad("scheme", "convolutions are split by channel, spatial or decouple".into());
        }
        match self.ranks {
            RankChoice::Rule(rule) => {
                if let Err(e) = rule.check() {
                    return bad("rank", e.to_string());
                }
            }
            RankChoice::Macs(ratio) | RankChoice::Both { macs: ratio, .. }
                if !(ratio.is_finite() && ratio >= 1.0) =>
            {
                return bad("macs", format!("{ratio} is not a ratio of at least 1 (before to after)"));
            }
            RankChoice::TargetSize(0) | RankChoice::Both { target_size: 0, .. } => {
                return bad("target-size", "give at least 1 byte".into());
            }
            _ => {}
        }
        if let Some(trp) = &self.trp {
            if trp.period == 0 {
                return bad("trp-period", "give at least 1 step".into());
            }
            if !(trp.energy > 0.0 && trp.energy <= 1.0) {
                return bad("train-energy", format!("{} is not a share above 0 and at most 1", trp.energy));
            }
            if !(trp.nuclear_weight.is_finite() && trp.nuclear_weight >= 0.0) {
                return bad(
                    "nuclear-weight",
                    format!("{} is not a finite number of 0 or more", trp.nuclear_weight),
                );
            }
            if !(0.0..=1.0).contains(&trp.freeze_after) {
                return bad("trp-freeze", format!("{} is not a share from 0 to 1", trp.freeze_after));
            }
            trp.training.check()?;
        }
        if let Some(training) = &self.fine_tune {
            training.check()?;
        }
        if self.batch == 0 || self.batch > 1 << 16 {
            return bad("batch", format!("{} is not between 1 and 65536", self.batch));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_named() {
        let base = |ranks| Decompose::new(Scheme::Channel, ranks);
        let energy = || base(RankChoice::Rule(RankRule::Energy(0.9)));
        let negative = TrainingSettings { learning_rate: -1.0, ..TrainingSettings::default() };
        let trp = |t: TrpSettings| Decompose { trp: Some(t), ..energy() };
        let cases = [
            ("rank", base(RankChoice::Rule(RankRule::Energy(1.5)))),
            ("rank", base(RankChoice::Rule(RankRule::Rank(0)))),
            ("macs", base(RankChoice::Macs(0.5))),
            ("macs", base(RankChoice::Macs(f64::NAN))),
            ("target-size", base(RankChoice::TargetSize(0))),
            ("target-size", base(RankChoice::Both { macs: 2.0, target_size: 0 })),
            ("macs", base(RankChoice::Both { macs: 0.5, target_size: 1000 })),
            ("scheme", Decompose { convolutions: Some(Scheme::Svd), ..energy() }),
            ("scheme", Decompose { convolutions: None, ..energy() }),
            ("batch", Decompose { batch: 0, ..energy() }),
            ("trp-period", trp(TrpSettings { period: 0, ..TrpSettings::default() })),
            ("train-energy", trp(TrpSettings { energy: 0.0, ..TrpSettings::default() })),
            ("nuclear-weight", trp(TrpSettings { nuclear_weight: -1.0, ..TrpSettings::default() })),
            ("trp-freeze", trp(TrpSettings { freeze_after: 2.0, ..TrpSettings::default() })),
            ("lr", trp(TrpSettings { training: negative, ..TrpSettings::default() })),
        ];
        for (name, settings) in cases {
            let error = settings.check().unwrap_err();
            assert!(
                matches!(&error, CompressError::Setting { name: n, .. } if *n == name),
                "{name}: {error}"
            );
        }
        assert!(energy().check().is_ok() && trp(TrpSettings::default()).check().is_ok());
        assert!(Decompose::new(Scheme::Svd, RankChoice::Macs(2.0)).check().is_ok());
    }

    #[test]
    fn exceptions_parse() {
        let parse = |s: &str| s.parse::<RankRuleFor>().map(|r| r.rank);
        assert_eq!(parse("conv*=12"), Ok(RankOverride::Rank(12)));
        assert_eq!(parse("a=b=skip"), Ok(RankOverride::Skip));
        assert_eq!(parse("conv1=auto"), Ok(RankOverride::Auto));
        for bad in ["conv1", "conv1=0", "conv1=-3", "conv1=x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for good in ["conv*=12", "a=b=skip", "conv1=auto"] {
            assert_eq!(String::from(good.parse::<RankRuleFor>().unwrap()), good);
        }
    }
}
