//! Elementwise bounds.

use super::{Set, Solved, expect_len, interval};
use inn_core::{Error, Result, Shape};

/// l <= x <= u, elementwise. P(x) = min(max(x, l), u), in O(n).
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds(Limits);

#[derive(Clone, Debug, PartialEq)]
enum Limits {
    All(f64, f64),
    Each(Vec<(f64, f64)>),
}

impl Bounds {
    /// The same bounds for all values; ±∞ for none.
    ///
    /// # Errors
    /// [`Error::Config`]: NaN, or `low > high`, where the set is empty.
    pub fn new(low: f64, high: f64) -> Result<Self> {
        interval("bounds", low, high)?;
        Ok(Self(Limits::All(low, high)))
    }

    /// x >= 0.
    pub const fn nonnegative() -> Self {
        Self(Limits::All(0.0, f64::INFINITY))
    }

    /// Bounds for each value of a sample, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`]: lists of different lengths. [`Error::Config`]: NaN, or a lower bound above its upper one.
    pub fn each(low: &[f64], high: &[f64]) -> Result<Self> {
        if low.len() != high.len() {
            return Err(Error::shape("upper bounds", format!("{} values, as there are lower bounds", low.len()), high.len()));
        }
        let pairs: Vec<(f64, f64)> = low.iter().copied().zip(high.iter().copied()).collect();
        pairs.iter().try_for_each(|&(low, high)| interval("bounds", low, high))?;
        Ok(Self(Limits::Each(pairs)))
    }

    fn pairs(&self, n: usize) -> impl Iterator<Item = (f64, f64)> {
        let (all, each) = match &self.0 {
            Limits::All(low, high) => (Some((*low, *high)), &[][..]),
            Limits::Each(pairs) => (None, &pairs[..]),
        };
        all.into_iter().cycle().take(n).chain(each.iter().copied())
    }
}

impl Set for Bounds {
    fn check(&self, sample: Shape) -> Result<()> {
        match &self.0 {
            Limits::All(..) => Ok(()),
            Limits::Each(pairs) => expect_len("tensor with bounds", sample, pairs.len()),
        }
    }

    fn nearest(&self, _: Shape, x: &mut [f64]) -> Result<Solved> {
        let n = x.len();
        x.iter_mut().zip(self.pairs(n)).for_each(|(x, (low, high))| *x = x.max(low).min(high));
        Ok(Solved::EXACT)
    }

    fn excess(&self, _: Shape, x: &[f64]) -> f64 {
        let beyond = |(x, (low, high)): (&f64, (f64, f64))| if x.is_nan() { f64::NAN } else { (low - x).max(x - high).max(0.0) };
        x.iter().zip(self.pairs(x.len())).map(beyond).fold(0.0, |a, v| if v.is_nan() || v > a { v } else { a })
    }
}
