//! Points in several convex sets.

use super::{Set, Solved, norm};
use inn_core::{Error, Result, Shape};

/// The points in several convex sets, by Dykstra's algorithm.
///
/// Boyle & Dykstra 1986: with corrections q_i = 0 at first, each round does for i = 1 .. m
/// ```text
/// x⁺ = P_i(x + q_i),    q_i⁺ = x + q_i - x⁺,
/// ```
/// and x converges to the projection onto the intersection (alternating projections without the corrections only reach some point of it). Each
/// x⁺ lies in its set, so the last one is no farther from set i than from what set i said in this round. The iteration stops where both
/// that distance and the root of Σ |q_i⁺ - q_i|², which Birgin & Raydan 2005 show to be a safe stopping rule (x itself may stand still for many rounds before
/// it goes on), are below `tolerance` times max(1, |x|); the larger of both is the reported residual, in units of |x|.
///
/// Sets without a common point leave the distance above the tolerance for ever: an error after `max_rounds`. Sets that are themselves iterative
/// need a tolerance well below that of the intersection.
pub struct Intersection {
    sets: Vec<Box<dyn Set>>,
    tolerance: f64,
    max_rounds: usize,
}

impl Intersection {
    /// Of one or more sets, with a tolerance of 1e-8 and at most 10,000 rounds.
    ///
    /// # Errors
    /// [`Error::Config`]: no sets, or one that is not convex, for which the algorithm does not find the nearest point.
    pub fn new(sets: Vec<Box<dyn Set>>) -> Result<Self> {
        if sets.is_empty() {
            return Err(Error::config("intersection", "expected at least one set, got none"));
        }
        match sets.iter().position(|set| !set.is_convex()) {
            None => Ok(Self { sets, tolerance: 1e-8, max_rounds: 10_000 }),
            Some(i) => Err(Error::config("intersection", format!("expected convex sets, but set {i} is not convex"))),
        }
    }

    /// The same with another stopping rule.
    ///
    /// # Errors
    /// [`Error::Config`]: a tolerance that is not positive, or no rounds.
    pub fn with_stopping(self, tolerance: f64, max_rounds: usize) -> Result<Self> {
        if !(tolerance > 0.0 && tolerance.is_finite()) || max_rounds == 0 {
            let got = format!("{tolerance} and {max_rounds}");
            return Err(Error::config("stopping rule", format!("expected a positive tolerance and at least one round, got {got}")));
        }
        Ok(Self { tolerance, max_rounds, ..self })
    }
}

impl Set for Intersection {
    fn check(&self, sample: Shape) -> Result<()> {
        self.sets.iter().try_for_each(|set| set.check(sample))
    }

    /// # Errors
    /// [`Error::Config`]: no point is found, or those of a set.
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        if let [set] = &self.sets[..] {
            return set.nearest(sample, x);
        }
        let n = x.len().max(1);
        let tolerance = self.tolerance * norm(x.iter().copied()).max(1.0);
        let mut corrections = vec![0.0; n * self.sets.len()];
        let mut said = corrections.clone();
        let mut residual = f64::INFINITY;
        for round in 1..=self.max_rounds {
            let mut change = 0.0;
            for ((set, q), said) in self.sets.iter().zip(corrections.chunks_exact_mut(n)).zip(said.chunks_exact_mut(n)) {
                x.iter_mut().zip(q.iter()).for_each(|(x, q)| *x += q);
                said.copy_from_slice(x);
                set.nearest(sample, x)?;
                for ((q, x), said) in q.iter_mut().zip(x.iter()).zip(said) {
                    let new = *said - x;
                    change += (new - *q).powi(2);
                    (*q, *said) = (new, *x);
                }
            }
            let apart = said.chunks_exact(n).map(|said| norm(said.iter().zip(x.iter()).map(|(s, x)| s - x))).fold(0.0, f64::max);
            residual = apart.max(change.sqrt());
            if residual <= tolerance {
                return Ok(Solved { iterations: round, residual });
            }
        }
        Err(Error::config(
            "intersection",
            format!(
                "no common point within {tolerance:e} after {} rounds, the residual is {residual:e}: the sets do not meet, or barely; \
                 expected sets with a common point, a larger tolerance or more rounds",
                self.max_rounds
            ),
        ))
    }

    /// The largest of all sets.
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        self.sets.iter().map(|set| set.excess(sample, x)).fold(0.0, |a, v| if v.is_nan() || v > a { v } else { a })
    }
}
