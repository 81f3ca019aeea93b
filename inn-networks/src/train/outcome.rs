//! How a training ends, and when it is written down.

use std::fmt;

/// When a checkpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After every so many steps.
    Steps(u64),
    /// After every so many epochs.
    Epochs(u64),
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps done in all, those before a [`resume`](super::Trainer::resume) included.
    pub steps: u64,
    /// Why it ended.
    pub stopped: Stopped,
    /// The best loss on held-out data and the step after which it was measured.
    pub best: Option<(f64, u64)>,
}

/// Why a training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// All epochs are done.
    Finished,
    /// No better loss on held-out data for [`Options::patience`](super::Options::patience) evaluations.
    Patience,
    /// An [`Observer`](super::Observer) said so. [`Trainer::fit`](super::Trainer::fit) goes on from there.
    Observer,
    /// A loss or gradient was not finite. The weights are the last at which both were.
    NonFinite {
        /// The step, from 1, that could not be taken.
        step: u64,
        /// `"loss"` or `"gradient"`.
        what: &'static str,
        /// The layer whose output, or else the parameter whose gradient, was the first that was not finite.
        layer: String,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("all epochs are done"),
            Self::Patience => f.write_str("the loss on held-out data no longer falls"),
            Self::Observer => f.write_str("interrupted"),
            Self::NonFinite { step, what, layer } => {
                write!(f, "the {what} of step {step} is not finite, first at {layer}; a lower learning rate may help")
            }
        }
    }
}
