//! Conjugate gradients.

use super::vector::{apply, axpy, dot, norm, scaled_into};
use super::{Limits, Solution, Stop, finite, square};
use inn_core::{Backend, Error, LinearOperator, Result, Tensor};

/// Solves A x = b for a symmetric positive definite A by conjugate gradients (Hestenes & Stiefel 1952), until |b - A x| ≤ tolerance |b|.
///
/// `preconditioner` is an approximation of A⁻¹, symmetric positive definite as well. An iteration takes one product with each, and five
/// vectors are held.
///
/// ```
/// use inn_core::Tensor;
/// use inn_linop::{LinearOperator, Matrix, solve::{Limits, cg}};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 2, 2, &[4.0, 1.0, 1.0, 3.0])?;
/// let b = Tensor::from_f64(&cpu, a.range(), &[1.0, 2.0])?;
/// let solution = cg(&a, &b, None, Limits::default())?;
/// assert!(solution.stop.converged() && solution.iterations() == 2);
/// assert!((solution.x.slice()[0] - 1.0 / 11.0).abs() < 1e-12);
/// # Ok::<(), inn_core::Error>(())
/// ```
///
/// # Errors
/// Shapes that do not fit; [`Error::Breakdown`] where A or the preconditioner shows a direction of curvature 0 or less;
/// [`Error::NonFinite`].
pub fn cg<B: Backend, A: LinearOperator<B>>(
    a: &A,
    b: &Tensor<B>,
    preconditioner: Option<&dyn LinearOperator<B>>,
    limits: Limits,
) -> Result<Solution<B>> {
    limits.check()?;
    let shape = square(a, b)?;
    if let Some(m) = preconditioner {
        square(&m, b)?;
    }
    let precondition = |r: &Tensor<B>| match preconditioner {
        Some(m) => apply(&m, false, r, shape),
        None => r.duplicate(),
    };
    let mut x = Tensor::zeros(b.backend(), shape)?;
    let size = finite("cg", "right-hand side", 0, norm(b)?)?;
    let mut residuals = vec![size];
    if size == 0.0 {
        return Ok(Solution { x, stop: Stop::Zero, residuals });
    }
    let mut r = b.duplicate()?;
    let mut p = precondition(&r)?;
    let mut rho = positive("preconditioner", 0, dot(&r, &p)?)?;
    for iteration in 1..=limits.iterations {
        let ap = apply(a, false, &p, shape)?;
        let step = rho / positive("operator", iteration, dot(&p, &ap)?)?;
        axpy(&mut x, step, &p)?;
        axpy(&mut r, -step, &ap)?;
        let residual = finite("cg", "residual", iteration, norm(&r)?)?;
        residuals.push(residual);
        if residual <= limits.tolerance * size {
            return Ok(Solution { x, stop: Stop::Residual, residuals });
        }
        let z = precondition(&r)?;
        let next = positive("preconditioner", iteration, dot(&r, &z)?)?;
        scaled_into(&mut p, next / rho, &z)?;
        rho = next;
    }
    Ok(Solution { x, stop: Stop::Iterations, residuals })
}

/// Refuses a curvature that is not positive.
fn positive(of: &str, iteration: usize, value: f64) -> Result<f64> {
    let value = finite("cg", "curvature", iteration, value)?;
    if value > 0.0 {
        return Ok(value);
    }
    let reason = format!("expected a positive definite {of}, got a direction of curvature {value:e}");
    Err(Error::Breakdown { method: "cg".into(), iteration, reason })
}
