//! What is known of a step, and who is told.

use inn_core::Drift;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the step, from 1.
    pub step: u64,
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Mean loss of the batch before the step, in nats a sample for [`MaximumLikelihood`](super::MaximumLikelihood).
    pub loss: f64,
    /// Mean loss of the held-out data after the step, where it was evaluated; infinite where it was not finite.
    pub held_out: Option<f64>,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The norm of the gradient over all parameters, before clipping.
    pub gradient_norm: f64,
    /// The largest relative drift of a layer, where it was measured.
    pub drift: Option<f64>,
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole training.
    pub steps: u64,
    /// Number of the current epoch, from 1.
    pub epoch: u64,
    /// Epochs of the whole training.
    pub epochs: u64,
    /// Whether the step was the last of its epoch.
    pub epoch_ends: bool,
}

/// Somebody who watches a training and may stop it.
///
/// `()` watches nothing; a closure `|record: &Record, progress: Progress| -> ControlFlow<()>` is an observer too.
pub trait Observer {
    /// A step is done. `Break` stops training; it can be gone on with, see [`Trainer::fit`](super::Trainer::fit).
    fn step(&mut self, record: &Record, progress: Progress) -> ControlFlow<()>;

    /// The recomputed input of a layer was further off than [`Options::drift_limit`](super::Options::drift_limit).
    fn drift(&mut self, step: u64, drift: &Drift, limit: f64) {
        let _ = (step, drift, limit);
    }
}

impl Observer for () {
    fn step(&mut self, _: &Record, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&Record, Progress) -> ControlFlow<()>> Observer for F {
    fn step(&mut self, record: &Record, progress: Progress) -> ControlFlow<()> {
        self(record, progress)
    }
}

/// One line an epoch, and warnings, on the standard error stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console {
    sum: f64,
    count: u64,
}

impl Observer for Console {
    fn step(&mut self, record: &Record, progress: Progress) -> ControlFlow<()> {
        self.sum += record.loss;
        self.count += 1;
        if progress.epoch_ends {
            let held_out = record.held_out.map(|v| format!(", held out {v:.4}")).unwrap_or_default();
            let mean = self.sum / self.count as f64;
            eprintln!("epoch {}/{}: loss {mean:.4}{held_out}", progress.epoch, progress.epochs);
            *self = Self::default();
        }
        ControlFlow::Continue(())
    }

    fn drift(&mut self, step: u64, drift: &Drift, limit: f64) {
        eprintln!("step {step}: {}", drift_warning(drift, limit));
    }
}

pub(super) fn drift_warning(drift: &Drift, limit: f64) -> String {
    format!(
        "the recomputed input of {} is off by {:.1e} (limit {limit:.0e}); gradients lose digits. A lower learning rate, a tighter bound \
         of the scales, f64 or keep_state_every help",
        drift.layer, drift.relative_error
    )
}
