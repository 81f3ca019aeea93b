//! Bounds on a linear function.

use super::{Set, Solved, expect_len, interval, norm};
use inn_core::tensor::expect_finite;
use inn_core::{Error, Result, Shape};

/// l <= \<a, x\> <= u: a half-space, a hyperplane, or bounds on the sum.
///
/// ```text
/// P(x) = x + a (c - <a, x>) / |a|²,    c = min(max(<a, x>, l), u)
/// ```
/// in O(n).
#[derive(Clone, Debug, PartialEq)]
pub struct Slab {
    /// a; ones where there is none.
    normal: Option<Vec<f64>>,
    low: f64,
    high: f64,
}

impl Slab {
    /// With the normal a, of as many values as a sample has, row-major; ±∞ for no bound.
    ///
    /// # Errors
    /// [`Error::Config`]: a normal of zero length, NaN, or `low > high`, where the set is empty. [`Error::NonFinite`]: a normal that is not finite.
    pub fn new(normal: &[f64], low: f64, high: f64) -> Result<Self> {
        expect_finite("normal of a half-space", normal)?;
        let length = norm(normal.iter().copied());
        if !(length > 0.0 && length.is_finite()) {
            return Err(Error::config("normal", format!("expected a vector of positive length, got one of length {length}")));
        }
        interval("bounds", low, high)?;
        // A normal of length 1 keeps squares from overflow.
        let unit = normal.iter().map(|v| v / length).collect();
        Ok(Self { normal: Some(unit), low: low / length, high: high / length })
    }

    /// \<a, x\> <= b.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn half_space(normal: &[f64], bound: f64) -> Result<Self> {
        Self::new(normal, f64::NEG_INFINITY, bound)
    }

    /// \<a, x\> = b.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn hyperplane(normal: &[f64], value: f64) -> Result<Self> {
        Self::new(normal, value, value)
    }

    /// l <= Σ x <= u over all values of a sample.
    ///
    /// # Errors
    /// NaN, or `low > high`, where the set is empty.
    pub fn sum(low: f64, high: f64) -> Result<Self> {
        interval("bounds on the sum", low, high)?;
        Ok(Self { normal: None, low, high })
    }

    fn value(&self, x: &[f64]) -> f64 {
        match &self.normal {
            Some(normal) => normal.iter().zip(x).map(|(a, x)| a * x).sum(),
            None => x.iter().sum(),
        }
    }
}

impl Set for Slab {
    fn check(&self, sample: Shape) -> Result<()> {
        self.normal.as_ref().map_or(Ok(()), |normal| expect_len("tensor in a half-space", sample, normal.len()))
    }

    fn nearest(&self, _: Shape, x: &mut [f64]) -> Result<Solved> {
        // The second pass takes away what the rounding of a large step has left.
        for _ in 0..2 {
            let value = self.value(x);
            let step = value.max(self.low).min(self.high) - value;
            if step == 0.0 {
                break;
            }
            match &self.normal {
                Some(normal) => x.iter_mut().zip(normal).for_each(|(x, a)| *x += step * a),
                None => {
                    let step = step / x.len() as f64;
                    x.iter_mut().for_each(|x| *x += step);
                }
            }
        }
        Ok(Solved::EXACT)
    }

    /// In units of the sum, or of the distance where there is a normal.
    fn excess(&self, _: Shape, x: &[f64]) -> f64 {
        let value = self.value(x);
        if value.is_nan() { value } else { (self.low - value).max(value - self.high).max(0.0) }
    }
}
