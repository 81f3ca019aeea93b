//! Projections onto sets, and distances from them, for weakly supervised training.
//!
//! What is known of an unlabelled result (a class covers between 5 % and 20 % of the image, it has few edges, probabilities sum to one) is a set. The
//! point-to-set distance
//! ```text
//! d(x) = ½ |x - P(x)|²,    P(x) = argmin over p in the set of |x - p|²,    ∇d(x) = x - P(x)
//! ```
//! is a loss without labels (Peters 2020, "Point-to-set distance functions for weakly supervised segmentation", arXiv:2007.13251; the sets and their
//! intersections: Peters & Herrmann 2019, arXiv:1902.09699). The gradient needs no derivative of P: for a convex set d is differentiable everywhere
//! (Moreau 1965), since
//! |P(x + h) - P(x)| <= |h|.
//!
//! | set | of x | P(x) costs |
//! |---|---|---|
//! | [`Bounds`] | l <= x <= u, elementwise; [nonnegative](Bounds::nonnegative) | O(n) |
//! | [`Slab`] | l <= \<a, x\> <= u: half-space, hyperplane, bounds on the sum | O(n) |
//! | [`Simplex`] | x >= 0, Σ x = s; of a sample or of each pixel's channels | O(n) expected |
//! | [`L1Ball`] | \|x - c\|₁ <= r | O(n) expected |
//! | [`L2Ball`] | \|x - c\|₂ <= r | O(n) |
//! | [`Annulus`] | r <= \|x - c\|₂ <= R; not convex | O(n) |
//! | [`Cardinality`] | at most M values other than 0, at least m of size τ or more; not convex | O(n) expected |
//! | [`TotalVariation`] | TV(x) <= r, anisotropic or isotropic, in 1 to 3 dimensions | O(n) an iteration |
//! | [`Intersection`] | in several convex sets | a projection onto each, a round |
//!
//! Each sample of a batch is projected on its own, in parallel. The arithmetic is in `f64` whatever the element type, so that P(x) in `f32` is
//! the exact one, rounded.
//!
//! ```
//! use inn_core::{Shape, Tensor};
//! use inn_ops::{Cpu, projection::{self, Slab}};
//!
//! // Masks of 4 x 4 pixels that should cover at least 8 of them.
//! let x = Tensor::full(&Cpu::<f32>::new(), Shape::new(2, 1, &[4, 4])?, 0.25)?;
//! let large = Slab::sum(8.0, f64::INFINITY)?;
//! let d = projection::distance(&large, &x)?;
//! assert_eq!(d.values, [0.5; 2]); // Each of 16 pixels lacks 1/4.
//! # Ok::<(), inn_core::Error>(())
//! ```

mod ball;
mod bounds;
mod cardinality;
mod distance;
mod intersection;
mod simplex;
mod slab;
mod total_variation;

pub use ball::{Annulus, L1Ball, L2Ball};
pub use bounds::Bounds;
pub use cardinality::Cardinality;
pub use distance::{Distances, contains, distance, distance_with_gradient, excess, project};
pub use intersection::Intersection;
pub use simplex::{Over, Simplex};
pub use slab::Slab;
pub use total_variation::{TotalVariation, Variation};

use inn_core::{Error, Result, Shape};

/// A closed set of samples.
///
/// The functions of this module ([`project`], [`distance`], ...) check shapes and values of tensors and call the methods, which see one sample as
/// `f64`, row-major.
pub trait Set: Send + Sync {
    /// Refuses samples that the set is not made for. The batch of `sample` does not matter.
    ///
    /// # Errors
    /// [`Error::Shape`] with what is expected.
    fn check(&self, sample: Shape) -> Result<()>;

    /// Replaces x by P(x), the nearest point of the set; where there are several, one of them. `x` has the length of a checked `sample` and is
    /// finite.
    ///
    /// # Errors
    /// An iteration that does not reach its tolerance; an intersection in which no point is found. `x` is unspecified then.
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved>;

    /// By how much x exceeds the constraint that it exceeds most, in that constraint's own unit; 0 in the set, NaN if x has NaN.
    fn excess(&self, sample: Shape, x: &[f64]) -> f64;

    /// Whether all segments between points of the set lie in it; P is then one point everywhere.
    fn is_convex(&self) -> bool {
        true
    }
}

impl<S: Set + ?Sized> Set for &S {
    fn check(&self, sample: Shape) -> Result<()> {
        (**self).check(sample)
    }
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        (**self).nearest(sample, x)
    }
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        (**self).excess(sample, x)
    }
    fn is_convex(&self) -> bool {
        (**self).is_convex()
    }
}

impl<S: Set + ?Sized> Set for Box<S> {
    fn check(&self, sample: Shape) -> Result<()> {
        (**self).check(sample)
    }
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        (**self).nearest(sample, x)
    }
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        (**self).excess(sample, x)
    }
    fn is_convex(&self) -> bool {
        (**self).is_convex()
    }
}

/// How a projection was found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Solved {
    /// Iterations that it took; 0 for closed forms and finite algorithms.
    pub iterations: usize,
    /// What the set bounds the error by, see there; 0 for closed forms and finite algorithms.
    pub residual: f64,
}

impl Solved {
    /// By a closed form or a finite algorithm.
    pub const EXACT: Self = Self { iterations: 0, residual: 0.0 };

    /// The larger of both figures.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        Self { iterations: self.iterations.max(other.iterations), residual: self.residual.max(other.residual) }
    }
}

/// |x|₂ without overflow or underflow of the squares.
fn norm(x: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = x.clone().fold(0.0f64, |a, v| a.max(v.abs()));
    if largest > 0.0 && largest.is_finite() { largest * x.map(|v| (v / largest).powi(2)).sum::<f64>().sqrt() } else { largest }
}

/// A number that is not negative and not NaN.
fn size(setting: &str, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(Error::config(setting, format!("expected a finite number >= 0, got {value}; with a negative one the set is empty")))
    }
}

/// Bounds between which there is a number.
fn interval(setting: &str, low: f64, high: f64) -> Result<()> {
    if low <= high && low < f64::INFINITY && high > f64::NEG_INFINITY {
        Ok(())
    } else {
        Err(Error::config(setting, format!("expected low <= high, got {low} and {high}; the set is empty")))
    }
}

/// A tensor that belongs to a set has the values of a sample.
fn expect_len(tensor: &str, sample: Shape, len: usize) -> Result<()> {
    if sample.sample_len() == len { Ok(()) } else { Err(Error::shape(tensor, format!("samples of {len} values"), sample)) }
}
