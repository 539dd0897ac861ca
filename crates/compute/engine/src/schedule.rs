//! Learning-rate policies: the rate of each iteration.

use std::fmt;
use std::str::FromStr;

use crate::error::EngineError;

/// The learning rate as a function of the iteration. Names and formulas are Caffe's (`lr_policy`), with cosine
/// annealing added. In text: the name and its numbers, joined by colons, such as `step:0.1:20000`,
/// `multistep:0.1:800:900`, `cosine:1000`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LearningRate {
    /// base. Text: `fixed`.
    Fixed,
    /// base * gamma ^ floor(iteration / stepsize). Text: `step:GAMMA:STEPSIZE`.
    Step {
        /// Factor at each step.
        gamma: f64,
        /// Iterations between steps.
        stepsize: u64,
    },
    /// base * gamma ^ iteration. Text: `exp:GAMMA`.
    Exp {
        /// Factor at each iteration.
        gamma: f64,
    },
    /// base * (1 + gamma * iteration) ^ -power. Text: `inv:GAMMA:POWER`.
    Inv {
        /// Growth of the divisor.
        gamma: f64,
        /// Its exponent.
        power: f64,
    },
    /// base * gamma ^ (number of `steps` reached). Text: `multistep:GAMMA:STEP:STEP…`.
    MultiStep {
        /// Factor at each step.
        gamma: f64,
        /// Iterations at which the rate falls, ascending.
        steps: Vec<u64>,
    },
    /// base * (1 - iteration / max) ^ power; 0 from `max` on. Text: `poly:POWER:MAX`.
    Poly {
        /// Exponent.
        power: f64,
        /// Iterations until the rate is 0.
        max: u64,
    },
    /// base / (1 + exp(-gamma * (iteration - stepsize))). Text: `sigmoid:GAMMA:STEPSIZE`.
    Sigmoid {
        /// Steepness; negative for a falling rate.
        gamma: f64,
        /// Iteration of the half-way point.
        stepsize: u64,
    },
    /// base * (1 + cos(pi * iteration / max)) / 2; 0 from `max` on. Text: `cosine:MAX`, or `cosine` for a length
    /// that the caller fills in ([`LearningRate::with_length`]).
    Cosine {
        /// Iterations until the rate is 0; 0 leaves it open, and the rate constant.
        max: u64,
    },
}

impl LearningRate {
    /// The rate of `iteration` (counted from 0) under base rate `base`.
    pub fn at(&self, base: f64, iteration: u64) -> f64 {
        let i = iteration as f64;
        match self {
            Self::Fixed => base,
            Self::Step { gamma, stepsize } => base * gamma.powf((iteration / (*stepsize).max(1)) as f64),
            Self::Exp { gamma } => base * gamma.powf(i),
            Self::Inv { gamma, power } => base * (1.0 + gamma * i).powf(-power),
            Self::MultiStep { gamma, steps } => {
                base * gamma.powf(steps.iter().filter(|&&s| iteration >= s).count() as f64)
            }
            Self::Poly { max, .. } | Self::Cosine { max } if *max > 0 && iteration >= *max => 0.0,
            Self::Poly { power, max } => base * (1.0 - i / (*max).max(1) as f64).powf(*power),
            Self::Sigmoid { gamma, stepsize } => base / (1.0 + (-gamma * (i - *stepsize as f64)).exp()),
            Self::Cosine { max: 0 } => base,
            Self::Cosine { max } => base * 0.5 * (1.0 + (std::f64::consts::PI * i / *max as f64).cos()),
        }
    }

    /// The same policy, with the length of `cosine` without a number set to `iterations`.
    pub fn with_length(self, iterations: u64) -> Self {
        match self {
            Self::Cosine { max: 0 } => Self::Cosine { max: iterations },
            other => other,
        }
    }
}

impl fmt::Display for LearningRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => write!(f, "fixed"),
            Self::Step { gamma, stepsize } => write!(f, "step:{gamma}:{stepsize}"),
            Self::Exp { gamma } => write!(f, "exp:{gamma}"),
            Self::Inv { gamma, power } => write!(f, "inv:{gamma}:{power}"),
            Self::MultiStep { gamma, steps } => {
                write!(f, "multistep:{gamma}")?;
                steps.iter().try_for_each(|s| write!(f, ":{s}"))
            }
            Self::Poly { power, max } => write!(f, "poly:{power}:{max}"),
            Self::Sigmoid { gamma, stepsize } => write!(f, "sigmoid:{gamma}:{stepsize}"),
            Self::Cosine { max: 0 } => write!(f, "cosine"),
            Self::Cosine { max } => write!(f, "cosine:{max}"),
        }
    }
}

impl FromStr for LearningRate {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        let fail = |reason: String| EngineError::Schedule { text: text.into(), reason };
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Vec<&str> = parts.collect();
        let float = |i: usize, what: &str| -> Result<f64, EngineError> {
            let part = numbers.get(i).ok_or_else(|| fail(format!("{what} is missing")))?;
            let value: f64 = part.parse().map_err(|_| fail(format!("{what} \"{part}\" is not a number")))?;
            if value.is_finite() { Ok(value) } else { Err(fail(format!("{what} {value} is not finite"))) }
        };
        let count = |i: usize, what: &str| -> Result<u64, EngineError> {
            let part = numbers.get(i).ok_or_else(|| fail(format!("{what} is missing")))?;
            match part.parse::<u64>() {
                Ok(0) => Err(fail(format!("{what} must be at least 1"))),
                Ok(value) => Ok(value),
                Err(_) => Err(fail(format!("{what} \"{part}\" is not a whole number of iterations"))),
            }
        };
        let exactly = |n: usize| {
            let extra = numbers.get(n);
            extra.map_or(Ok(()), |e| Err(fail(format!("\"{e}\" is one number too many for {name}"))))
        };
        let policy = match name.to_ascii_lowercase().as_str() {
            "fixed" => (Self::Fixed, 0),
            "step" => (Self::Step { gamma: float(0, "gamma")?, stepsize: count(1, "stepsize")? }, 2),
            "exp" => (Self::Exp { gamma: float(0, "gamma")? }, 1),
            "inv" => (Self::Inv { gamma: float(0, "gamma")?, power: float(1, "power")? }, 2),
            "multistep" => {
                let steps = (1..numbers.len()).map(|i| count(i, "step")).collect::<Result<Vec<_>, _>>()?;
                if steps.is_empty() || !steps.is_sorted() {
                    return Err(fail("it needs at least one step, in ascending order".into()));
                }
                (Self::MultiStep { gamma: float(0, "gamma")?, steps }, numbers.len())
            }
            "poly" => (Self::Poly { power: float(0, "power")?, max: count(1, "max")? }, 2),
            "sigmoid" => (Self::Sigmoid { gamma: float(0, "gamma")?, stepsize: count(1, "stepsize")? }, 2),
            "cosine" if numbers.is_empty() => (Self::Cosine { max: 0 }, 0),
            "cosine" => (Self::Cosine { max: count(0, "max")? }, 1),
            _ => {
                let known = "fixed, step, exp, inv, multistep, poly, sigmoid and cosine are known";
                return Err(fail(known.into()));
            }
        };
        exactly(policy.1)?;
        Ok(policy.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_formulas() {
        // (policy, iteration, expected factor on the base rate), by hand from the definitions
        let table: &[(&str, u64, f64)] = &[
            ("fixed", 12345, 1.0),
            ("step:0.1:20000", 19_999, 1.0),
            ("step:0.1:20000", 40_000, 0.01),
            ("exp:0.5", 3, 0.125),
            ("inv:0.0001:0.75", 10_000, 0.594_603_557_501_360_5),
            ("multistep:0.1:800:900", 799, 1.0),
            ("multistep:0.1:800:900", 800, 0.1),
            ("multistep:0.1:800:900", 5000, 0.01),
            ("poly:2:100", 50, 0.25),
            ("poly:0.5:100", 100, 0.0),
            ("poly:0.5:100", 1000, 0.0),
            ("sigmoid:-0.01:500", 500, 0.5),
            ("cosine:1000", 0, 1.0),
            ("cosine:1000", 500, 0.5),
            ("cosine:1000", 1001, 0.0),
            ("cosine", 77, 1.0),
        ];
        for &(text, iteration, factor) in table {
            let rate = text.parse::<LearningRate>().unwrap().at(2.0, iteration);
            assert!((rate - 2.0 * factor).abs() < 1e-12, "{text} at {iteration}: {rate}");
        }
    }

    #[test]
    fn text_and_json_survive_a_round_trip() {
        let texts = ["fixed", "step:0.1:20000", "exp:0.999", "inv:0.0001:0.75", "multistep:0.5:10:20:30"];
        for text in texts.iter().chain(&["poly:0.5:45000", "sigmoid:-0.01:500", "cosine:1000", "cosine"]) {
            let policy: LearningRate = text.parse().unwrap();
            assert_eq!(policy.to_string(), *text);
            let json = serde_json::to_string(&policy).unwrap();
            assert_eq!(serde_json::from_str::<LearningRate>(&json).unwrap(), policy, "{json}");
        }
    }

    #[test]
    fn an_open_cosine_takes_the_callers_length() {
        let open: LearningRate = "cosine".parse().unwrap();
        assert_eq!(open.with_length(10), LearningRate::Cosine { max: 10 });
        let closed: LearningRate = "cosine:5".parse().unwrap();
        assert_eq!(closed.clone().with_length(10), closed);
    }

    #[test]
    fn bad_text_is_refused_with_its_reason() {
        let table = [
            ("", "are known"),
            ("linear", "are known"),
            ("step", "gamma is missing"),
            ("step:0.1", "stepsize is missing"),
            ("step:x:5", "not a number"),
            ("step:0.1:0", "at least 1"),
            ("step:0.1:-5", "whole number"),
            ("exp:inf", "not finite"),
            ("fixed:1", "too many"),
            ("multistep:0.1", "at least one step"),
            ("multistep:0.1:20:10", "ascending"),
        ];
        for (text, reason) in table {
            let message = text.parse::<LearningRate>().unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
