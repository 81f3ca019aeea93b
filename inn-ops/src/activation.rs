//! Activations of conditioners.

use crate::scale_map::ScaleMap;
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
/// | exp-clamp | exp(c κ atan x), κ = 0.636 | tan(ln y/(c κ)) | c κ y/(1 + x²) |
/// | softplus | ln(1 + e^x) | y + ln(1 - e^-y) | σ(x) |
/// | ELU | x, or α(e^x - 1) below 0 | y, or ln(1 + y/α) below 0 | 1, or α e^x below 0 |
/// | SiLU | x σ(x) | none | σ(x) + x σ(x) σ(-x) |
/// | GELU | x σ(2 z), z = √(2/π) (x + 0.044715 x³) | none | σ(2 z) + 2 x σ(2 z) σ(-2 z) z' |
///
/// References: ELU, Clevert et al. 2016 (arXiv:1511.07289); SiLU, Elfwing et al. 2018 (arXiv:1702.03118); GELU in the form with tanh, Hendrycks &
/// Gimpel 2016 (arXiv:1606.08415); exp-clamp as in [`ScaleMap`].
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
    /// exp(c κ atan x), bounded and positive.
    ExpClamp {
        /// c; 2 by custom.
        clamp: f64,
    },
    /// ln(1 + e^x), a smooth ReLU.
    Softplus,
    /// x where x ≥ 0, `alpha` (e^x - 1) below.
    Elu {
        /// Minus the limit at -∞; 1 by custom, where it is smooth. The inverse needs it to be positive.
        alpha: f64,
    },
    /// x σ(x), also called swish.
    Silu,
    /// x times the probability of a standard normal number below x, in the usual approximation by tanh.
    Gelu,
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
            Self::ExpClamp { clamp } => ScaleMap::ExpClamp { clamp }.scale(x),
            Self::Softplus => x.softplus(),
            Self::Elu { alpha } => x.select_ge(T::zero(), x, T::constant(alpha) * expm1_below(x)),
            Self::Silu => x * x.sigmoid(),
            Self::Gelu => x * gelu_argument(x).sigmoid(),
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
            Self::ExpClamp { clamp } => {
                let map = ScaleMap::ExpClamp { clamp };
                map.scale(x) * map.log_scale_derivative(x)
            }
            Self::Softplus => x.sigmoid(),
            Self::Elu { alpha } => x.select_ge(T::zero(), T::one(), T::constant(alpha) * x.min(T::zero()).exp()),
            Self::Silu => x.sigmoid() + clamped(x) * logistic_density(x),
            Self::Gelu => {
                let x = clamped(x);
                let slope = T::constant(2.0 * GELU) * (T::one() + T::constant(3.0 * GELU_CUBIC) * x.square());
                gelu_argument(x).sigmoid() + x * logistic_density(gelu_argument(x)) * slope
            }
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
            Self::ExpClamp { clamp } if clamp > 0.0 => Some(ScaleMap::ExpClamp { clamp }.inverse(y)),
            // 1 - e^-y = 2 tanh(y/2)/(1 + tanh(y/2)), which does not cancel for small y.
            Self::Softplus => {
                let t = (y * T::constant(0.5)).tanh();
                Some(y + (t + t).ln() - t.ln_1p())
            }
            Self::Elu { alpha } if alpha > 0.0 => Some(y.select_ge(T::zero(), y, (y.min(T::zero()) / T::constant(alpha)).ln_1p())),
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

/// √(2/π), and the factor of the cube, of GELU.
const GELU: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

/// 2 z of GELU.
#[inline(always)]
fn gelu_argument<T: Scalar>(x: T) -> T {
    let x = clamped(x);
    T::constant(2.0 * GELU) * x * (T::one() + T::constant(GELU_CUBIC) * x.square())
}

/// x between ±10⁴: beyond, σ has saturated in any precision, and powers of x do not overflow.
#[inline(always)]
fn clamped<T: Scalar>(x: T) -> T {
    x.max(T::constant(-1e4)).min(T::constant(1e4))
}

/// e^x - 1 = tanh(x/2) (e^x + 1) for the negative part of x, which does not cancel near 0.
#[inline(always)]
fn expm1_below<T: Scalar>(x: T) -> T {
    let x = x.min(T::zero());
    (x * T::constant(0.5)).tanh() * (x.exp() + T::one())
}

/// σ(x) σ(-x) = e^-|x| / (1 + e^-|x|)², which underflows to 0 and does not cancel.
#[inline(always)]
fn logistic_density<T: Scalar>(x: T) -> T {
    let e = (-x.abs()).exp();
    e / (T::one() + e).square()
}
