//! Activations of conditioners.

use inn_core::Scalar;
use inn_core::stack::Slopes;

/// A pointwise function with its derivative and, where there is one, its inverse.
///
/// | | value | inverse | derivative |
/// |---|---|---|---|
/// | identity | x | y | 1 |
/// | ReLU | max(x, 0) | none | 1 where x ≥ 0, else 0 |
/// | leaky ReLU | x, or a x below 0 | y, or y/a below 0 | 1, or a below 0 |
/// | sigmoid | lo + (hi - lo) σ(x) | ln(y - lo) - ln(hi - y) | (hi - lo) σ(x) σ(-x) |
/// | tanh | tanh x | ln((1 + y)/(1 - y))/2 | 1 - tanh² x |
///
/// Derivatives are functions of the input x, in closed forms that stay accurate where the output saturates.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// x.
    Identity,
    /// max(x, 0). x = 0 counts as active.
    Relu,
    /// x where x ≥ 0, `slope` x below.
    LeakyRelu {
        /// The slope below 0; 0.01 by custom. The inverse needs it to be positive.
        slope: f64,
    },
    /// `low + (high - low) σ(x)` with σ(x) = 1/(1 + e^-x).
    Sigmoid {
        /// The limit at -∞.
        low: f64,
        /// The limit at ∞.
        high: f64,
    },
    /// tanh x.
    Tanh,
}

impl Default for Activation {
    /// ReLU.
    fn default() -> Self {
        Self::Relu
    }
}

impl Activation {
    /// ρ(x).
    #[inline(always)]
    pub fn value<T: Scalar>(&self, x: T) -> T {
        match *self {
            Self::Identity => x,
            Self::Relu => x.select_ge(T::zero(), x, T::zero()),
            Self::LeakyRelu { slope } => x.select_ge(T::zero(), x, T::constant(slope) * x),
            Self::Sigmoid { low, high } => T::constant(low) + T::constant(high - low) * x.sigmoid(),
            Self::Tanh => x.tanh(),
        }
    }

    /// ρ'(x), from the input.
    #[inline(always)]
    pub fn derivative<T: Scalar>(&self, x: T) -> T {
        match *self {
            Self::Identity => T::one(),
            Self::Relu => x.select_ge(T::zero(), T::one(), T::zero()),
            Self::LeakyRelu { slope } => x.select_ge(T::zero(), T::one(), T::constant(slope)),
            Self::Sigmoid { low, high } => T::constant(high - low) * logistic_density(x),
            // 1 - tanh² cancels where tanh saturates; with σ at 2x it is 4 σ(2x) σ(-2x).
            Self::Tanh => T::constant(4.0) * logistic_density(x + x),
        }
    }

    /// x from y = ρ(x), for activations that have an inverse.
    #[inline(always)]
    pub fn inverse<T: Scalar>(&self, y: T) -> Option<T> {
        match *self {
            Self::Identity => Some(y),
            Self::LeakyRelu { slope } if slope > 0.0 => Some(y.select_ge(T::zero(), y, y / T::constant(slope))),
            Self::Sigmoid { low, high } if high > low => Some((y - T::constant(low)).ln() - (T::constant(high) - y).ln()),
            Self::Tanh => Some(T::constant(0.5) * (y.ln_1p() - (-y).ln_1p())),
            _ => None,
        }
    }

    /// Whether [`inverse`](Self::inverse) answers.
    pub fn is_invertible(&self) -> bool {
        self.inverse(0.5f64).is_some()
    }
}

impl inn_core::stack::Pointwise for Activation {
    #[inline(always)]
    fn value<T: Scalar>(&self, x: T) -> T {
        Activation::value(self, x)
    }
    #[inline(always)]
    fn derivative<T: Scalar>(&self, x: T) -> T {
        Activation::derivative(self, x)
    }
    fn slopes(&self) -> Option<Slopes> {
        match *self {
            Self::Identity => Some(Slopes { above: 1.0, below: 1.0 }),
            Self::Relu => Some(Slopes { above: 1.0, below: 0.0 }),
            Self::LeakyRelu { slope } => Some(Slopes { above: 1.0, below: slope }),
            _ => None,
        }
    }
}

/// σ(x) σ(-x) = e^-|x| / (1 + e^-|x|)², which underflows to 0 and does not cancel.
#[inline(always)]
fn logistic_density<T: Scalar>(x: T) -> T {
    let e = (-x.abs()).exp();
    e / (T::one() + e).square()
}
