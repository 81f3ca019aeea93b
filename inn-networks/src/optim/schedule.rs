//! Learning rates as functions of the step.

use super::{not_negative, positive};
use inn_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The learning rate as a function of the step: a linear warm-up, then a decay.
///
/// ```
/// use inn_networks::optim::{Decay, Schedule};
/// let schedule = Schedule { learning_rate: 1e-3, warm_up: 10, decay: Decay::Cosine { steps: Some(110), floor: 0.0 } };
/// assert_eq!(schedule.at(0, 0), 1e-4);
/// assert_eq!(schedule.at(10, 0), 1e-3);
/// assert!((schedule.at(60, 0) - 5e-4).abs() < 1e-15);
/// assert!(schedule.at(110, 0) < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate after the warm-up, α > 0.
    pub learning_rate: f64,
    /// Steps of the warm-up: step t of the first `warm_up`, counted from 0, has the rate α (t + 1) / warm_up. 0 for none.
    #[serde(default)]
    pub warm_up: u64,
    /// What follows.
    #[serde(default)]
    pub decay: Decay,
}

/// How the learning rate falls. Steps are counted from the end of the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Decay {
    /// Not at all.
    #[default]
    Constant,
    /// Half a cosine from α to `floor`, Loshchilov & Hutter 2017 (arXiv:1608.03983), which is kept from then on.
    Cosine {
        /// The step at which the floor is reached, counted from the beginning of training; `None` for the end of training.
        steps: Option<u64>,
        /// The last rate, 0 <= floor <= α.
        floor: f64,
    },
    /// By `factor` at every `every`-th step.
    Step {
        /// Steps between two drops, at least 1.
        every: u64,
        /// 0 < factor <= 1.
        factor: f64,
    },
    /// Smoothly, by `factor` over `every` steps: α factor^(t / every).
    Exponential {
        /// Steps over which the rate falls by `factor`, at least 1.
        every: u64,
        /// 0 < factor <= 1.
        factor: f64,
    },
}

impl Default for Schedule {
    /// A constant rate of 1e-3.
    fn default() -> Self {
        Self::constant(1e-3)
    }
}

impl Schedule {
    /// One rate for all steps.
    pub fn constant(learning_rate: f64) -> Self {
        Self { learning_rate, warm_up: 0, decay: Decay::Constant }
    }

    /// A warm-up, then half a cosine down to 0 at the end of training.
    pub fn cosine(learning_rate: f64, warm_up: u64) -> Self {
        Self { learning_rate, warm_up, decay: Decay::Cosine { steps: None, floor: 0.0 } }
    }

    /// The rate of step `step`, counted from 0, in a training of `total` steps.
    pub fn at(&self, step: u64, total: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let t = (step - self.warm_up) as f64;
        match self.decay {
            Decay::Constant => self.learning_rate,
            Decay::Cosine { steps, floor } => {
                let length = steps.unwrap_or(total).saturating_sub(self.warm_up).max(1) as f64;
                let phase = std::f64::consts::PI * (t / length).min(1.0);
                floor + 0.5 * (self.learning_rate - floor) * (1.0 + phase.cos())
            }
            Decay::Step { every, factor } => self.learning_rate * factor.powf((t / every.max(1) as f64).floor()),
            Decay::Exponential { every, factor } => self.learning_rate * factor.powf(t / every.max(1) as f64),
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        positive("schedule learning_rate", self.learning_rate)?;
        match self.decay {
            Decay::Constant => Ok(()),
            Decay::Cosine { floor, .. } => {
                not_negative("schedule floor", floor)?;
                if floor > self.learning_rate {
                    return Err(Error::config("schedule floor", format!("expected at most {}, got {floor}", self.learning_rate)));
                }
                Ok(())
            }
            Decay::Step { every, factor } | Decay::Exponential { every, factor } => {
                if every == 0 {
                    return Err(Error::config("schedule every", "expected at least 1 step, got 0"));
                }
                if !(factor > 0.0 && factor <= 1.0) {
                    return Err(Error::config("schedule factor", format!("expected 0 < factor <= 1, got {factor}")));
                }
                Ok(())
            }
        }
    }
}
