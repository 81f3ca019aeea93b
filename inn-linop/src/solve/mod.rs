//! Linear systems and least squares with products alone.
//!
//! | function | solves | for |
//! |---|---|---|
//! | [`cg`] | A x = b | A symmetric positive definite, with a preconditioner if there is one |
//! | [`minres`] | min \|A x - b\| | A symmetric, of any sign |
//! | [`lsqr`] | min \|A x - b\|² + δ² \|x\|² | any A |
//! | [`gauss_newton_step`], [`newton_step`] | one damped step of a nonlinear problem | a Jacobian; a symmetric curvature |
//! | [`levenberg_marquardt`] | min ½ \|r(x)\|² | a residual with its Jacobian |
//!
//! Each starts at x = 0 and returns the best x it has found with the history of its residuals; whether that is good enough is in [`Stop`].
//! To start elsewhere, solve for the difference. What cannot be gone on from (a curvature of the wrong sign, numbers that are not finite) is
//! an error.

mod cg;
mod levenberg;
mod lsqr;
mod minres;
mod vector;

pub use cg::cg;
pub use levenberg::{Fit, FitIteration, FitOptions, LeastSquares, gauss_newton_step, levenberg_marquardt, newton_step};
pub use lsqr::{LsqrOptions, lsqr};
pub use minres::minres;

pub(crate) use vector::{axpy, dot, norm, times};

use inn_core::{Backend, Error, LinearOperator, Result, Shape, Tensor};

/// When an iteration ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The relative residual that is good enough.
    pub tolerance: f64,
    /// Iterations at most.
    pub iterations: usize,
}

impl Default for Limits {
    /// 1e-8, or 200 iterations.
    fn default() -> Self {
        Self { tolerance: 1e-8, iterations: 200 }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        if self.tolerance >= 0.0 { Ok(()) } else { Err(Error::config("tolerance", format!("expected 0 or more, got {}", self.tolerance))) }
    }
}

/// Why an iteration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// b = 0 or Aᵀb = 0, and x = 0 is the solution.
    Zero,
    /// |A x - b| is as small as was asked for.
    Residual,
    /// Aᵀ(A x - b) is: a least-squares solution, whose residual stays.
    LeastSquares,
    /// The condition of A exceeds the limit that was set, or what the number type can carry.
    Condition,
    /// As many iterations as were allowed.
    Iterations,
}

impl Stop {
    /// Whether the answer is as good as was asked for.
    pub fn converged(self) -> bool {
        matches!(self, Self::Zero | Self::Residual | Self::LeastSquares)
    }
}

/// What an iteration found.
pub struct Solution<B: Backend> {
    /// The solution.
    pub x: Tensor<B>,
    /// Why it ended.
    pub stop: Stop,
    /// The norm of the residual before the first iteration and after each: of b - A x, with the damping of [`lsqr`] included.
    pub residuals: Vec<f64>,
}

impl<B: Backend> Solution<B> {
    /// Number of iterations.
    pub fn iterations(&self) -> usize {
        self.residuals.len().saturating_sub(1)
    }
}

/// The shape of b for an operator; one that treats each sample alike takes the batch of b.
fn solution_shape<B: Backend>(a: &impl LinearOperator<B>, b: &Tensor<B>) -> Result<Shape> {
    let (domain, range) = (a.domain(), a.range());
    let open = domain.batch() == 1 && range.batch() == 1;
    let batch = b.shape().batch();
    let expected = if open { range.with_batch(batch) } else { range };
    inn_core::error::expect_shape("right-hand side of a linear system", expected, b.shape())?;
    Ok(if open { domain.with_batch(batch) } else { domain })
}

/// The same for a square operator.
fn square<B: Backend>(a: &impl LinearOperator<B>, b: &Tensor<B>) -> Result<Shape> {
    let shape = solution_shape(a, b)?;
    if shape != b.shape() {
        return Err(Error::shape("operator of a symmetric linear system", format!("the domain {}", b.shape()), shape));
    }
    Ok(shape)
}

/// Refuses a number that is not finite.
fn finite(method: &str, what: &str, iteration: usize, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::NonFinite { tensor: format!("{what} of {method} in iteration {iteration}"), index: 0, value })
}
