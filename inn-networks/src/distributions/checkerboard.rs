//! The checkerboard.

use super::{Entropy, Target, uniform};
use inn_core::{Error, Result};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Uniform on the dark fields of a board of 2k x 2k fields with sides of 1, centred at the origin: p = 1/(2k²) there, and 0 on the other fields.
///
/// The field in the lower left corner is dark. The entropy is ln 2k². A flow, whose density is positive everywhere and smooth, comes near it
/// slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkerboard {
    half: u32,
}

impl Default for Checkerboard {
    /// 4 x 4 fields.
    fn default() -> Self {
        Self { half: 2 }
    }
}

impl Checkerboard {
    /// With 2 `half` fields a side.
    ///
    /// # Errors
    /// No fields, or more than 2000 a side.
    pub fn new(half: u32) -> Result<Self> {
        if (1..=1000).contains(&half) {
            Ok(Self { half })
        } else {
            Err(Error::config("half", format!("expected 1 to 1000 fields in half a side, got {half}")))
        }
    }

    /// Number of dark fields, which is their area.
    fn fields(self) -> f64 {
        2.0 * f64::from(self.half) * f64::from(self.half)
    }
}

impl Target for Checkerboard {
    fn dimension(&self) -> usize {
        2
    }

    fn log_density(&self, x: &[f64]) -> f64 {
        let [a, b] = *x else { return f64::NAN };
        if !super::all_finite(x) {
            return f64::NAN;
        }
        let k = f64::from(self.half);
        let inside = (-k..k).contains(&a) && (-k..k).contains(&b);
        let dark = ((a + k).floor() + (b + k).floor()) % 2.0 == 0.0;
        if inside && dark { -self.fields().ln() } else { f64::NEG_INFINITY }
    }

    fn draw(&self, rng: &mut ChaCha8Rng, x: &mut [f64]) {
        let [a, b] = x else { return };
        let k = f64::from(self.half);
        let row = (2.0 * k * uniform(rng)).floor();
        let column = 2.0 * (k * uniform(rng)).floor() + row % 2.0;
        *a = column - k + uniform(rng);
        *b = row - k + uniform(rng);
    }

    fn entropy(&self) -> Result<Entropy> {
        Ok(Entropy::exact(self.fields().ln()))
    }

    fn region(&self) -> Vec<Range<f64>> {
        let k = f64::from(self.half);
        vec![-k..k, -k..k]
    }
}
