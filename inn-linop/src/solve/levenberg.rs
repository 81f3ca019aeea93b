//! Steps of nonlinear problems.

use super::vector::{apply, axpy, dot, norm, times};
use super::{Limits, LsqrOptions, Solution, cg, lsqr};
use crate::{Algebra, Identity};
use inn_core::{Backend, Error, LinearOperator, Result, Tensor};

/// The damped Gauss-Newton step of ½ |r(x)|²: the s that minimizes |J s + r|² + damping |s|², by [`lsqr`]. `options.damping` is replaced.
///
/// Without damping it is the step of Gauss and Newton, with it that of Levenberg (1944) and Marquardt (1963).
///
/// # Errors
/// As [`lsqr`]; a damping below 0.
pub fn gauss_newton_step<B: Backend, A: LinearOperator<B>>(
    jacobian: &A,
    residual: &Tensor<B>,
    damping: f64,
    options: &LsqrOptions,
) -> Result<Solution<B>> {
    if damping.is_nan() || damping < 0.0 {
        return Err(Error::config("damping", format!("expected 0 or more, got {damping}")));
    }
    let mut b = residual.duplicate()?;
    times(&mut b, -1.0)?;
    lsqr(jacobian, &b, &LsqrOptions { damping: damping.sqrt(), ..*options })
}

/// The damped Newton step: (H + damping I) s = -g by [`cg`], for a curvature H that is positive semidefinite such as
/// [`GaussNewton`](crate::GaussNewton).
///
/// # Errors
/// As [`cg`]. Of an indefinite H, [`Error::Breakdown`]: more damping, or [`minres`](super::minres), helps.
pub fn newton_step<B: Backend, A: LinearOperator<B>>(
    curvature: &A,
    gradient: &Tensor<B>,
    damping: f64,
    preconditioner: Option<&dyn LinearOperator<B>>,
    limits: Limits,
) -> Result<Solution<B>> {
    let mut b = gradient.duplicate()?;
    times(&mut b, -1.0)?;
    let damped = curvature.plus(Identity::new(gradient.shape()).scaled(damping)?)?;
    cg(&damped, &b, preconditioner, limits)
}

/// A residual r(x) with its Jacobian, for [`levenberg_marquardt`].
pub trait LeastSquares<B: Backend> {
    /// r(x).
    ///
    /// # Errors
    /// What the map refuses.
    fn residual(&self, x: &Tensor<B>) -> Result<Tensor<B>>;

    /// Calls `then` with the Jacobian ∂r/∂x at x, which may borrow what is made here.
    ///
    /// # Errors
    /// What the map refuses, and what `then` returns.
    fn linearize(&self, x: &Tensor<B>, then: &mut dyn FnMut(&dyn LinearOperator<B>) -> Result<()>) -> Result<()>;
}

/// Settings of [`levenberg_marquardt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// The first damping, relative to |Jᵀr|² / |r|², which is JᵀJ along the gradient; positive.
    pub damping: f64,
    /// Ends when |Jᵀr| has fallen to this part of its first value.
    pub tolerance: f64,
    /// Ends when a step is this part of |x|, or less.
    pub step_tolerance: f64,
    /// Linearizations and trials at most.
    pub iterations: usize,
    /// Of the linear problems; the damping in it is replaced.
    pub inner: LsqrOptions,
}

impl Default for FitOptions {
    /// Damping 1e-3, gradient down to 1e-8 of its start, 50 iterations.
    fn default() -> Self {
        Self { damping: 1e-3, tolerance: 1e-8, step_tolerance: 1e-12, iterations: 50, inner: LsqrOptions::default() }
    }
}

/// One iteration of [`levenberg_marquardt`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitIteration {
    /// ½ |r|² before it.
    pub objective: f64,
    /// |Jᵀr| before it.
    pub gradient: f64,
    /// The damping that was tried.
    pub damping: f64,
    /// |s|, the length of the step that was tried.
    pub step: f64,
    /// Iterations of the linear problem.
    pub inner: usize,
    /// Whether the objective fell, and the step was taken.
    pub taken: bool,
}

/// What [`levenberg_marquardt`] found.
pub struct Fit<B: Backend> {
    /// The best point.
    pub x: Tensor<B>,
    /// ½ |r|² there.
    pub objective: f64,
    /// Whether a tolerance was reached.
    pub converged: bool,
    /// One entry an iteration.
    pub history: Vec<FitIteration>,
}

/// Minimizes ½ |r(x)|² from `x` by damped Gauss-Newton steps; the damping follows the gain of each step (Nielsen 1999, with the rule of Madsen,
/// Nielsen & Tingleff 2004, section 3.2). A step that does not lower the objective, or leads to numbers that are not finite, is not taken.
///
/// # Errors
/// What the problem refuses; a damping that is not positive; [`Error::NonFinite`] where the start is not finite.
pub fn levenberg_marquardt<B: Backend, P: LeastSquares<B>>(problem: &P, x: Tensor<B>, options: &FitOptions) -> Result<Fit<B>> {
    if options.damping.is_nan() || options.damping <= 0.0 || options.damping.is_infinite() {
        return Err(Error::config("damping", format!("expected a positive number, got {}", options.damping)));
    }
    let mut x = x;
    let mut r = problem.residual(&x)?;
    let mut objective = 0.5 * dot(&r, &r)?;
    super::finite("levenberg_marquardt", "objective", 0, objective)?;
    let (mut damping, mut growth) = (0.0, 2.0);
    let (mut first_gradient, mut converged) = (None, false);
    let mut history = Vec::new();
    while history.len() < options.iterations && !converged {
        let mut tried = None;
        problem.linearize(&x, &mut |j| {
            let g = apply(&j, true, &r, x.shape())?;
            let gradient = super::finite("levenberg_marquardt", "gradient", history.len(), norm(&g)?)?;
            let first = *first_gradient.get_or_insert(gradient);
            if gradient <= options.tolerance * first || gradient == 0.0 {
                converged = true;
                return Ok(());
            }
            if damping == 0.0 {
                // JᵀJ is about |Jᵀr|²/|r|² along the gradient.
                damping = options.damping * gradient * gradient / (2.0 * objective);
            }
            let solution = gauss_newton_step(&j, &r, damping, &options.inner)?;
            // ½|r|² - ½|J s + r|² = ½ sᵀ(μ s - g) for the exact step.
            let step = norm(&solution.x)?;
            let promised = 0.5 * (damping * step * step - dot(&solution.x, &g)?);
            tried = Some((solution, gradient, step, promised));
            Ok(())
        })?;
        let Some((solution, gradient, step, promised)) = tried else { break };
        let mut candidate = x.duplicate()?;
        axpy(&mut candidate, 1.0, &solution.x)?;
        let residual = problem.residual(&candidate)?;
        let value = 0.5 * dot(&residual, &residual)?;
        let gain = (objective - value) / promised;
        let taken = value.is_finite() && value < objective && gain > 0.0;
        history.push(FitIteration { objective, gradient, damping, step, inner: solution.iterations(), taken });
        if taken {
            damping *= (1.0 - (2.0 * gain - 1.0).powi(3)).max(1.0 / 3.0);
            growth = 2.0;
            converged = step <= options.step_tolerance * norm(&candidate)?;
            (x, r, objective) = (candidate, residual, value);
        } else {
            converged = step <= options.step_tolerance * norm(&x)?;
            damping *= growth;
            growth *= 2.0;
            if !damping.is_finite() {
                break;
            }
        }
    }
    Ok(Fit { x, objective, converged, history })
}
