//! From what a conditioner says to the scale of a coupling.

use inn_core::{Error, Result, Scalar};

/// A map from any number u to a positive scale S = exp ψ(u).
///
/// Couplings work with ψ = ln S, evaluated from u, so that a scale near 0 costs no accuracy and the log-determinant is ψ itself.
///
/// | | ψ(u) | ψ'(u) | S |
/// |---|---|---|---|
/// | bounded | a tanh(u/a) | 1 - tanh²(u/a) | in (e^-a, e^a) |
/// | sigmoid | ln(lo + (hi - lo) σ(u)) | (hi - lo) σ(u) σ(-u) / S | in (lo, hi) |
/// | exp-clamp | c κ atan u | c κ / (1 + u²) | in (e^(-c κ π/2), e^(c κ π/2)) |
///
/// The bounded scale is symmetric, so the inverse map is as tame as the forward map; FrEIA clamps its couplings at a = 2 as well. The sigmoid
/// is Glow's (Kingma & Dhariwal 2018), the exp-clamp that of the conditional networks of Ardizzone et al. and of HINT (Kruse et al.
/// 2020), κ = 0.636.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ScaleMap {
    /// S = exp(a tanh(u/a)).
    Bounded {
        /// a, the largest |ln S|.
        limit: f64,
    },
    /// S = low + (high - low) σ(u).
    Sigmoid {
        /// The limit at -∞, at least 0.
        low: f64,
        /// The limit at ∞.
        high: f64,
    },
    /// S = exp(clamp κ atan u).
    ExpClamp {
        /// c.
        clamp: f64,
    },
}

/// κ of the exp-clamp, "0.636" in all its implementations (2/π is 0.6366).
pub const KAPPA: f64 = 0.636;

impl Default for ScaleMap {
    /// Bounded by e^±2.
    fn default() -> Self {
        Self::Bounded { limit: 2.0 }
    }
}

impl ScaleMap {
    /// Refuses settings under which S is not positive or does not depend on u.
    ///
    /// # Errors
    /// A limit or clamp that is not positive and finite; a sigmoid without 0 ≤ low < high.
    pub fn validate(&self) -> Result<()> {
        let positive = |name: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(Error::config(name, format!("expected a positive number, got {value}"))),
        };
        match *self {
            Self::Bounded { limit } => positive("limit of the scale", limit),
            Self::ExpClamp { clamp } => positive("clamp of the scale", clamp),
            Self::Sigmoid { low, high } if low >= 0.0 && low < high && high.is_finite() => Ok(()),
            Self::Sigmoid { low, high } => {
                Err(Error::config("sigmoid scale", format!("expected 0 <= low < high, got low {low} and high {high}")))
            }
        }
    }

    /// S(u).
    #[inline(always)]
    pub fn scale<T: Scalar>(&self, u: T) -> T {
        match *self {
            Self::Sigmoid { low, high } => T::constant(low) + T::constant(high - low) * u.sigmoid(),
            _ => self.log_scale(u).exp(),
        }
    }

    /// ψ(u) = ln S(u).
    #[inline(always)]
    pub fn log_scale<T: Scalar>(&self, u: T) -> T {
        match *self {
            Self::Bounded { limit } => T::constant(limit) * (u * T::constant(1.0 / limit)).tanh(),
            // ln σ(u) = -softplus(-u) keeps its accuracy where σ underflows.
            Self::Sigmoid { low, high } if low <= 0.0 => T::constant(high.ln()) - (-u).softplus(),
            Self::Sigmoid { .. } => self.scale(u).ln(),
            Self::ExpClamp { clamp } => T::constant(clamp * KAPPA) * u.atan(),
        }
    }

    /// ψ'(u).
    #[inline(always)]
    pub fn log_scale_derivative<T: Scalar>(&self, u: T) -> T {
        match *self {
            Self::Bounded { limit } => sech_squared(u * T::constant(1.0 / limit)),
            Self::Sigmoid { low, .. } if low <= 0.0 => (-u).sigmoid(),
            Self::Sigmoid { low, high } => T::constant(high - low) * u.sigmoid() * (-u).sigmoid() / self.scale(u),
            // 1/(1 + u²) without a square that overflows: with r = 1/max(|u|, 1) it is r² / (r² + (r u)²).
            Self::ExpClamp { clamp } => {
                let (r, s) = reduced(u);
                T::constant(clamp * KAPPA) * r.square() / (r.square() + s.square())
            }
        }
    }

    /// ψ''(u).
    #[inline(always)]
    pub fn log_scale_second<T: Scalar>(&self, u: T) -> T {
        match *self {
            Self::Bounded { limit } => {
                let v = u * T::constant(1.0 / limit);
                T::constant(-2.0 / limit) * v.tanh() * sech_squared(v)
            }
            Self::Sigmoid { low, .. } if low <= 0.0 => -(u.sigmoid() * (-u).sigmoid()),
            Self::Sigmoid { low, high } => {
                let (p, q) = (u.sigmoid(), (-u).sigmoid());
                let slope = self.log_scale_derivative(u);
                T::constant(high - low) * p * q * (q - p) / self.scale(u) - slope.square()
            }
            Self::ExpClamp { clamp } => {
                let (r, s) = reduced(u);
                let n = r.square() + s.square();
                T::constant(-2.0 * clamp * KAPPA) * (r.square() / n) * (r * s / n)
            }
        }
    }

    /// u from S.
    #[inline(always)]
    pub fn inverse<T: Scalar>(&self, scale: T) -> T {
        match *self {
            // atanh(v) = (ln(1 + v) - ln(1 - v))/2.
            Self::Bounded { limit } => {
                let v = scale.ln() * T::constant(1.0 / limit);
                T::constant(0.5 * limit) * (v.ln_1p() - (-v).ln_1p())
            }
            Self::Sigmoid { low, high } => (scale - T::constant(low)).ln() - (T::constant(high) - scale).ln(),
            Self::ExpClamp { clamp } => (scale.ln() * T::constant(1.0 / (clamp * KAPPA))).tan(),
        }
    }
}

/// 1 - tanh² v = 4 e / (1 + e)² with e = e^-2|v|, which does not cancel where tanh saturates.
#[inline(always)]
fn sech_squared<T: Scalar>(v: T) -> T {
    let e = (-(v + v).abs()).exp();
    T::constant(4.0) * e / (T::one() + e).square()
}

/// (r, r u) with r = 1/max(|u|, 1).
#[inline(always)]
fn reduced<T: Scalar>(u: T) -> (T, T) {
    let r = T::one() / u.abs().max(T::one());
    (r, r * u)
}
