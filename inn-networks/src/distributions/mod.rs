//! Distributions with known densities to test flows on.
//!
//! | distribution | dimension | density | entropy |
//! |---|---|---|---|
//! | [`Normal`] | any | closed form | closed form |
//! | [`Mixture`] of normals | any | closed form | quadrature in 1 and 2 dimensions, otherwise a mean over samples |
//! | [`Banana`] | 2 | closed form | closed form |
//! | [`Pinwheel`] | 2 | closed form | quadrature |
//! | [`Checkerboard`] | 2 | closed form | closed form |
//! | [`Arcs`]: [two moons](Arcs::two_moons), [rings](Arcs::rings), [swirl](Arcs::swirl) | 2 | Gauss-Legendre quadrature, relative error below 1e-9 | quadrature |
//!
//! Each says its [entropy](Target::entropy) with a bound of the error, so that the gap of a trained flow, KL(p | q) = E_p \[ln p - ln q\], is known in
//! nats: the loss of a perfect flow is the entropy.
//!
//! ```
//! use inn_networks::distributions::{Arcs, Target};
//!
//! let moons = Arcs::two_moons(0.1)?;
//! let x = moons.sample(1000, 0)?;
//! let mean = moons.log_prob(&x.view())?.iter().sum::<f64>() / 1000.0;
//! let entropy = moons.entropy()?;
//! assert!((mean + entropy.nats).abs() < 0.1 && entropy.error < 1e-5);
//! # Ok::<(), inn_core::Error>(())
//! ```

mod arcs;
mod banana;
mod checkerboard;
mod normal;
mod pinwheel;
mod quadrature;

pub use arcs::{Arc, Arcs};
pub use banana::Banana;
pub use checkerboard::Checkerboard;
pub use normal::{Mixture, Normal};
pub use pinwheel::Pinwheel;

use inn_core::{Error, Result};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::ops::Range;

/// A distribution of points in n dimensions whose density is known.
pub trait Target: Send + Sync {
    /// n.
    fn dimension(&self) -> usize;

    /// ln p(x) of one point in nats: -∞ where there is no mass, NaN if `x` does not have n finite values.
    fn log_density(&self, x: &[f64]) -> f64;

    /// Draws a point. `x` has n values; otherwise it is left as it is.
    fn draw(&self, rng: &mut ChaCha8Rng, x: &mut [f64]);

    /// The differential entropy -E \[ln p\].
    ///
    /// # Errors
    /// Memory that cannot be had.
    fn entropy(&self) -> Result<Entropy>;

    /// A box, one interval an axis, outside of which there is less than 1e-6 of the mass.
    fn region(&self) -> Vec<Range<f64>>;

    /// `count` points, (count, n). Point i depends on the seed and on i alone.
    ///
    /// # Errors
    /// More values than can be addressed.
    fn sample(&self, count: usize, seed: u64) -> Result<Array2<f64>> {
        let n = self.dimension();
        let len = count.checked_mul(n).filter(|&len| len <= isize::MAX as usize / 8);
        let len = len.ok_or_else(|| Error::config("count", format!("{count} points of {n} values cannot be addressed")))?;
        let mut values = vec![0.0; len];
        values.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, x)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            self.draw(&mut rng, x);
        });
        Array2::from_shape_vec((count, n), values).map_err(|e| Error::shape("samples", format!("({count}, {n})"), e))
    }

    /// ln p of each row of `x`, (count, n), in nats.
    ///
    /// # Errors
    /// Another number of columns than n, or values that are not finite.
    fn log_prob(&self, x: &ArrayView2<'_, f64>) -> Result<Vec<f64>> {
        let n = self.dimension();
        if x.ncols() != n {
            return Err(Error::shape("points", format!("(count, {n})"), format!("({}, {})", x.nrows(), x.ncols())));
        }
        let x = x.as_standard_layout();
        let values = x.as_slice().unwrap_or_default();
        inn_core::tensor::expect_finite("points", values)?;
        Ok(values.par_chunks(n.max(1)).map(|x| self.log_density(x)).collect())
    }
}

/// A differential entropy.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Entropy {
    /// Its value in nats.
    pub nats: f64,
    /// A bound of its error: 0 for a closed form; for a quadrature the change when the grid is half as fine again; for a mean over samples
    /// four standard errors.
    pub error: f64,
}

impl Entropy {
    /// A closed form.
    const fn exact(nats: f64) -> Self {
        Self { nats, error: 0.0 }
    }
}

/// Uniform in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn standard_normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn all_finite(x: &[f64]) -> bool {
    x.iter().all(|v| v.is_finite())
}

/// The index of a class drawn with these probabilities.
fn choose(rng: &mut ChaCha8Rng, probabilities: impl Iterator<Item = f64>) -> usize {
    let u = uniform(rng);
    let mut last = 0;
    let mut below = 0.0;
    for (i, p) in probabilities.enumerate() {
        below += p;
        if p > 0.0 {
            last = i;
        }
        if u < below {
            break;
        }
    }
    last
}

/// ln Σ exp of terms that are finite or -∞.
fn log_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let highest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if highest.is_finite() { highest + terms.map(|t| (t - highest).exp()).sum::<f64>().ln() } else { highest }
}

fn positive(setting: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(Error::config(setting, format!("expected a positive number, got {value}"))) }
}

/// Weights that are not negative, some positive, divided by their sum.
fn normalized(weights: &[f64]) -> Result<Vec<f64>> {
    let sum: f64 = weights.iter().sum();
    if weights.iter().all(|w| *w >= 0.0) && sum > 0.0 && sum.is_finite() {
        Ok(weights.iter().map(|w| w / sum).collect())
    } else {
        Err(Error::config("weights", format!("expected numbers >= 0 with a positive sum, got {weights:?}")))
    }
}
