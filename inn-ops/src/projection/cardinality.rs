//! Numbers of values that are not zero.

use super::{Set, Solved};
use inn_core::{Error, Result, Shape};

/// At most M values other than 0, and at least m with |x| >= τ. Not convex.
///
/// The lower bound counts values of a size τ > 0, since "at least m values other than 0" is not closed: there would be no nearest point. With the
/// values ordered by |x|, P(x) raises the m largest to a size of τ where they are below, keeps the next M - m, and sets the others to 0. Other choices
/// are no nearer: the cost max(τ - |x|, 0)² of raising a value, less the cost x² of dropping it, falls with |x|. Ties go to the value that comes first,
/// and 0 is raised to +τ. O(n) expected, by selection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cardinality {
    at_least: usize,
    at_most: usize,
    size: f64,
}

impl Cardinality {
    /// At most M values other than 0.
    pub const fn at_most(most: usize) -> Self {
        Self { at_least: 0, at_most: most, size: 0.0 }
    }

    /// From m = `least` values of a size of at least τ = `size` to M = `most` values other than 0.
    ///
    /// # Errors
    /// [`Error::Config`]: `least > most`, where the set is empty; a size that is not positive.
    pub fn range(least: usize, most: usize, size: f64) -> Result<Self> {
        super::size("size", size)?;
        if size == 0.0 {
            return Err(Error::config("size", "expected a positive number, got 0: the set would not be closed"));
        }
        if least > most {
            return Err(Error::config("cardinality", format!("expected least <= most, got {least} and {most}; the set is empty")));
        }
        Ok(Self { at_least: least, at_most: most, size })
    }
}

impl Set for Cardinality {
    fn check(&self, sample: Shape) -> Result<()> {
        if self.at_least <= sample.sample_len() {
            Ok(())
        } else {
            Err(Error::shape("tensor of bounded cardinality", format!("samples of at least {} values", self.at_least), sample))
        }
    }

    fn nearest(&self, _: Shape, x: &mut [f64]) -> Result<Solved> {
        let mut order: Vec<usize> = (0..x.len()).collect();
        let larger = |&a: &usize, &b: &usize| x[b].abs().total_cmp(&x[a].abs()).then(a.cmp(&b));
        if self.at_most < order.len() {
            order.select_nth_unstable_by(self.at_most, larger);
        }
        let (kept, dropped) = order.split_at_mut(self.at_most.min(x.len()));
        if self.at_least < kept.len() {
            kept.select_nth_unstable_by(self.at_least, larger);
        }
        for &i in kept.iter().take(self.at_least) {
            if x[i].abs() < self.size {
                x[i] = if x[i] < 0.0 { -self.size } else { self.size };
            }
        }
        dropped.iter().for_each(|&i| x[i] = 0.0);
        Ok(Solved::EXACT)
    }

    /// The number of values too many or too few.
    fn excess(&self, _: Shape, x: &[f64]) -> f64 {
        if x.iter().any(|v| v.is_nan()) {
            return f64::NAN;
        }
        let nonzero = x.iter().filter(|v| **v != 0.0).count();
        // Rounded to f32, what was raised to τ may lie below it by a rounding.
        let large = x.iter().filter(|v| v.abs() >= self.size * (1.0 - f64::from(f32::EPSILON))).count();
        let large = if self.at_least == 0 { 0 } else { large };
        nonzero.saturating_sub(self.at_most).max(self.at_least.saturating_sub(large)) as f64
    }

    fn is_convex(&self) -> bool {
        false
    }
}
