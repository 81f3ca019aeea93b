//! Optimizers, learning-rate schedules, gradient clipping and weight averaging.
//!
//! | item | what it is |
//! |---|---|
//! | [`Optimizer`] | Adam, AdamW, gradient descent with momentum, RMSProp, as plain data |
//! | [`Moments`] | the state of an optimizer for one network; [`step`](Moments::step) updates the weights, in one pass with their average |
//! | [`Kept`] | the state before the last step, to go back to |
//! | [`Schedule`] | the learning rate as a function of the step: warm-up, then constant, cosine, steps or exponential |
//! | [`Average`] | exponential moving average of the weights |
//! | [`add_squared_norm`], [`clip_scale`] | clipping by the global norm of the gradient |
//!
//! ```
//! # use inn_core::{Model, Result};
//! # use inn_layers::ActNorm;
//! # use inn_ops::Cpu;
//! use inn_networks::optim::{Moments, Optimizer};
//!
//! let mut model = Model::build(&Cpu::<f32>::new(), 0, |scope| ActNorm::new(scope, 3))?;
//! let mut moments = Moments::new(Optimizer::adam(), model.params())?;
//! let mut gradient = model.zeros()?;
//! gradient.fill(2.0)?;
//! moments.step(model.params_mut(), &gradient, 1e-3, 1.0)?;
//! # Ok::<(), inn_core::Error>(())
//! ```

mod average;
mod clip;
mod kept;
mod kernels;
mod moments;
mod schedule;

pub use average::Average;
pub use clip::{add_squared_norm, clip_scale};
pub use kept::Kept;
pub use moments::Moments;
pub use schedule::{Decay, Schedule};

use inn_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A rule that turns gradients into steps, as plain data. Its learning rate is a [`Schedule`], given apart.
///
/// In the formulas g is the gradient (clipped), α the learning rate, t the number of the step from 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Kingma & Ba 2015 (arXiv:1412.6980): m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g²,
    /// θ -= α m̂ / (√v̂ + ε) with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ).
    Adam {
        /// β₁, in [0, 1); 0.9 in the paper.
        beta1: f64,
        /// β₂, in [0, 1); 0.999 in the paper.
        beta2: f64,
        /// ε > 0; 1e-8 in the paper.
        epsilon: f64,
    },
    /// Loshchilov & Hutter 2019 (arXiv:1711.05101): Adam, and θ shrinks by α λ θ in each step, apart from the moments.
    AdamW {
        /// β₁, in [0, 1).
        beta1: f64,
        /// β₂, in [0, 1).
        beta2: f64,
        /// ε > 0.
        epsilon: f64,
        /// λ >= 0.
        weight_decay: f64,
        /// Whether vectors (biases, scales of activation normalization) shrink as well.
        decay_vectors: bool,
    },
    /// Gradient descent: g += λ θ, v = μ v + g, θ -= α v; with Nesterov θ -= α (g + μ v).
    Sgd {
        /// μ, in [0, 1); 0 keeps no state.
        momentum: f64,
        /// Sutskever et al. 2013; needs momentum.
        nesterov: bool,
        /// λ >= 0.
        weight_decay: f64,
        /// Whether vectors shrink as well.
        decay_vectors: bool,
    },
    /// Hinton 2012, lecture 6e: v = ρ v + (1 - ρ) g², u = μ u + g / (√v + ε), θ -= α u.
    RmsProp {
        /// ρ, in [0, 1); 0.99 is usual.
        smoothing: f64,
        /// ε > 0.
        epsilon: f64,
        /// μ, in [0, 1); 0 keeps no velocity.
        momentum: f64,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::adam()
    }
}

impl Optimizer {
    /// Adam with the constants of the paper.
    pub fn adam() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// AdamW with the constants of Adam; vectors do not decay.
    pub fn adam_w(weight_decay: f64) -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decay_vectors: false }
    }

    /// Gradient descent with momentum, without decay.
    pub fn sgd(momentum: f64) -> Self {
        Self::Sgd { momentum, nesterov: false, weight_decay: 0.0, decay_vectors: false }
    }

    /// RMSProp with ρ = 0.99, ε = 1e-8, without momentum.
    pub fn rms_prop() -> Self {
        Self::RmsProp { smoothing: 0.99, epsilon: 1e-8, momentum: 0.0 }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::Config`] with the first that is out of its range.
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Adam { beta1, beta2, epsilon } => {
                fraction("optimizer beta1", beta1)?;
                fraction("optimizer beta2", beta2)?;
                positive("optimizer epsilon", epsilon)
            }
            Self::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
                fraction("optimizer beta1", beta1)?;
                fraction("optimizer beta2", beta2)?;
                positive("optimizer epsilon", epsilon)?;
                not_negative("optimizer weight_decay", weight_decay)
            }
            Self::Sgd { momentum, nesterov, weight_decay, .. } => {
                fraction("optimizer momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::config("optimizer nesterov", "expected a momentum above 0, got 0"));
                }
                not_negative("optimizer weight_decay", weight_decay)
            }
            Self::RmsProp { smoothing, epsilon, momentum } => {
                fraction("optimizer smoothing", smoothing)?;
                positive("optimizer epsilon", epsilon)?;
                fraction("optimizer momentum", momentum)
            }
        }
    }

    /// The moment vectors it keeps, by their names in a checkpoint.
    pub(crate) fn moment_names(&self) -> &'static [&'static str] {
        match *self {
            Self::Adam { .. } | Self::AdamW { .. } => &["first_moment", "second_moment"],
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["velocity"],
            Self::RmsProp { momentum: 0.0, .. } => &["second_moment"],
            Self::RmsProp { .. } => &["second_moment", "velocity"],
        }
    }

    /// The weight decay and whether it acts on vectors, where there is any.
    fn decay(&self) -> Option<(f64, bool)> {
        match *self {
            Self::AdamW { weight_decay, decay_vectors, .. } | Self::Sgd { weight_decay, decay_vectors, .. } if weight_decay > 0.0 => {
                Some((weight_decay, decay_vectors))
            }
            _ => None,
        }
    }
}

fn fraction(setting: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(Error::config(setting, format!("expected 0 <= value < 1, got {value}"))) }
}

pub(crate) fn positive(setting: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(setting, format!("expected a finite value above 0, got {value}")))
    }
}

pub(crate) fn not_negative(setting: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(setting, format!("expected a finite value of at least 0, got {value}")))
    }
}
