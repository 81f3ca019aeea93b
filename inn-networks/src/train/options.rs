//! Settings of a training.

use crate::optim::{Optimizer, Schedule, not_negative, positive};
use inn_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of a [`Trainer`](super::Trainer). Plain data: written into checkpoints, and compared when one is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Passes over the data, at least 1.
    pub epochs: u64,
    /// Samples of a step, at least 1.
    pub batch: usize,
    /// Samples that are on the device at once; the gradients of a batch are accumulated over pieces of this size. The sum is the same up
    /// to rounding. `None` for the whole batch. Initialization still sees the whole first batch.
    pub micro_batch: Option<usize>,
    /// What happens to the samples that do not fill a batch at the end of an epoch.
    pub last_batch: LastBatch,
    /// Seed of everything random.
    pub seed: u64,
    /// The rule of the update.
    pub optimizer: Optimizer,
    /// The learning rate.
    pub schedule: Schedule,
    /// Upper bound of the norm of the gradient over all parameters (of the mean loss in nats a sample); longer ones are scaled to it.
    /// 5 by default; `None` for no bound.
    pub clip: Option<f64>,
    /// ρ of the exponential moving average of the weights, for example 0.999; evaluation then uses the averaged weights. `None` for none.
    pub ema: Option<f64>,
    /// Epochs between two evaluations on held-out data, at least 1.
    pub evaluate_every: u64,
    /// Training ends after this many evaluations in a row that brought no better loss. `None` to train to the end.
    pub patience: Option<u64>,
    /// Nats a sample by which a loss has to be lower to count as better.
    pub min_improvement: f64,
    /// Whether the network ends with the weights of the best evaluation, where there are held-out data.
    pub restore_best: bool,
    /// Every so many steps the drift of the recomputed states is measured ([`Trail`](inn_core::Trail)); 0 for never.
    pub drift_every: u64,
    /// Observers are warned where a layer's relative drift is above this. 1e-3 by default: gradients in f32 then have about three digits.
    pub drift_limit: f64,
    /// Keeps the state in front of every m-th layer in each step, which bounds the drift by that of m layers for the memory of one state
    /// in m; 0 keeps none.
    pub keep_state_every: usize,
}

/// What happens to the samples that do not fill a batch at the end of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastBatch {
    /// They make a smaller batch.
    #[default]
    Keep,
    /// They wait for another epoch, whose order is another one. A set smaller than one batch is used as it is.
    Drop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 64,
            micro_batch: None,
            last_batch: LastBatch::Keep,
            seed: 0,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            clip: Some(5.0),
            ema: None,
            evaluate_every: 1,
            patience: None,
            min_improvement: 0.0,
            restore_best: true,
            drift_every: 100,
            drift_limit: 1e-3,
            keep_state_every: 0,
        }
    }
}

impl Options {
    /// Steps of an epoch over `samples` samples.
    pub fn steps_per_epoch(&self, samples: usize) -> u64 {
        let batch = self.batch.max(1);
        let steps = match self.last_batch {
            LastBatch::Keep => samples.div_ceil(batch),
            LastBatch::Drop => samples / batch,
        };
        steps.max(1) as u64
    }

    /// Steps of the whole training over `samples` samples.
    pub fn total_steps(&self, samples: usize) -> u64 {
        self.epochs.saturating_mul(self.steps_per_epoch(samples))
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] with the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = |setting: &str, value: u64| {
            if value > 0 { Ok(()) } else { Err(Error::config(setting, "expected at least 1, got 0")) }
        };
        at_least_one("epochs", self.epochs)?;
        at_least_one("batch", self.batch as u64)?;
        at_least_one("micro_batch", self.micro_batch.unwrap_or(1) as u64)?;
        at_least_one("evaluate_every", self.evaluate_every)?;
        at_least_one("patience", self.patience.unwrap_or(1))?;
        self.optimizer.validate()?;
        self.schedule.validate()?;
        if let Some(clip) = self.clip {
            positive("clip", clip)?;
        }
        if let Some(ema) = self.ema
            && !(0.0..1.0).contains(&ema)
        {
            return Err(Error::config("ema", format!("expected 0 <= decay < 1, got {ema}")));
        }
        not_negative("min_improvement", self.min_improvement)?;
        positive("drift_limit", self.drift_limit)
    }

    /// The first setting in which two trainings differ, other than the number of epochs: its name and both values.
    pub(super) fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let fields = |options: &Self| match serde_json::to_value(options) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (a, b) = (fields(self), fields(other));
        a.iter().find_map(|(name, value)| {
            let got = b.get(name)?;
            (name != "epochs" && value != got).then(|| (name.clone(), value.to_string(), got.to_string()))
        })
    }
}
