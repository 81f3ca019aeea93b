//! The banana.

use super::{Entropy, Target, standard_normal};
use inn_core::{Error, Result};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{E, PI};
use std::ops::Range;

/// A standard normal bent along a parabola, the banana of InvertibleNetworks.jl with its constants (c₁, c₂):
/// ```text
/// y₁ = x₁/c₁,    y₂ = c₁ x₂ + c₁ c₂ (x₁² + c₁²),    x ~ N(0, I)
/// ```
/// The map has the inverse x₁ = c₁ y₁, x₂ = y₂/c₁ - c₂ (x₁² + c₁²) and the determinant 1, so that ln p(y) = -(x₁² + x₂²)/2 - ln 2π and the
/// entropy is ln 2πe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Banana {
    width: f64,
    bend: f64,
}

impl Default for Banana {
    /// c = (1, 4), as in the original.
    fn default() -> Self {
        Self { width: 1.0, bend: 4.0 }
    }
}

impl Banana {
    /// With c₁ = `width` and c₂ = `bend`.
    ///
    /// # Errors
    /// A width that is not positive, or values that are not finite.
    pub fn new(width: f64, bend: f64) -> Result<Self> {
        super::positive("width", width)?;
        if !bend.is_finite() {
            return Err(Error::config("bend", format!("expected a finite number, got {bend}")));
        }
        Ok(Self { width, bend })
    }
}

impl Target for Banana {
    fn dimension(&self) -> usize {
        2
    }

    fn log_density(&self, y: &[f64]) -> f64 {
        let [y1, y2] = *y else { return f64::NAN };
        if !super::all_finite(y) {
            return f64::NAN;
        }
        let x1 = self.width * y1;
        let x2 = y2 / self.width - self.bend * (x1 * x1 + self.width * self.width);
        -0.5 * (x1 * x1 + x2 * x2) - (2.0 * PI).ln()
    }

    fn draw(&self, rng: &mut ChaCha8Rng, y: &mut [f64]) {
        let [y1, y2] = y else { return };
        let (x1, x2) = (standard_normal(rng), standard_normal(rng));
        *y1 = x1 / self.width;
        *y2 = self.width * x2 + self.width * self.bend * (x1 * x1 + self.width * self.width);
    }

    fn entropy(&self) -> Result<Entropy> {
        Ok(Entropy::exact((2.0 * PI * E).ln()))
    }

    fn region(&self) -> Vec<Range<f64>> {
        // Five deviations hold all but 6e-7 of a normal.
        let (c, r) = (self.width, 5.2);
        let (near, far) = (c * self.bend * c * c, c * self.bend * (r * r + c * c));
        vec![-r / c..r / c, near.min(far) - r * c..near.max(far) + r * c]
    }
}
