//! The minimal residual method.

use super::vector::{apply, axpy, dot, norm, times};
use super::{Limits, Solution, Stop, finite, square};
use inn_core::{Backend, LinearOperator, Result, Tensor};

/// Minimizes |A x - b| for a symmetric A of any sign by MINRES (Paige & Saunders 1975): an exact Hessian far from a minimum, for example.
///
/// Ends when |b - A x| ≤ tolerance |b|, or, where b is out of reach, when |A r| ≤ tolerance |A| |r| ([`Stop::LeastSquares`]). One product an
/// iteration; seven vectors are held.
///
/// ```
/// use inn_core::Tensor;
/// use inn_linop::{LinearOperator, Matrix, solve::{Limits, minres}};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 2, 2, &[1.0, 2.0, 2.0, 1.0])?; // eigenvalues 3 and -1
/// let b = Tensor::from_f64(&cpu, a.range(), &[3.0, 0.0])?;
/// let x = minres(&a, &b, Limits::default())?.x;
/// assert!((x.slice()[0] + 1.0).abs() < 1e-10 && (x.slice()[1] - 2.0).abs() < 1e-10);
/// # Ok::<(), inn_core::Error>(())
/// ```
///
/// # Errors
/// Shapes that do not fit; [`Error::NonFinite`](inn_core::Error::NonFinite).
pub fn minres<B: Backend, A: LinearOperator<B>>(a: &A, b: &Tensor<B>, limits: Limits) -> Result<Solution<B>> {
    limits.check()?;
    let shape = square(a, b)?;
    let backend = b.backend().clone();
    let mut x = Tensor::zeros(&backend, shape)?;
    let size = finite("minres", "right-hand side", 0, norm(b)?)?;
    let mut residuals = vec![size];
    if size == 0.0 {
        return Ok(Solution { x, stop: Stop::Zero, residuals });
    }
    // Lanczos: v_k, β_k; the QR factors of the tridiagonal matrix by rotations (c, s); directions w.
    let (mut v_old, mut v) = (Tensor::zeros(&backend, shape)?, b.duplicate()?);
    times(&mut v, 1.0 / size)?;
    let (mut w_old, mut w) = (Tensor::zeros(&backend, shape)?, Tensor::zeros(&backend, shape)?);
    let (mut beta, mut phi) = (0.0, size);
    let (mut c, mut s, mut delta, mut epsilon) = (-1.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
    let mut size_of_a = 0.0_f64;
    for iteration in 1..=limits.iterations {
        let mut next = apply(a, false, &v, shape)?;
        axpy(&mut next, -beta, &v_old)?;
        let alpha = finite("minres", "product", iteration, dot(&v, &next)?)?;
        axpy(&mut next, -alpha, &v)?;
        let beta_next = finite("minres", "product", iteration, norm(&next)?)?;
        size_of_a = (size_of_a.powi(2) + alpha * alpha + beta * beta + beta_next * beta_next).sqrt();
        let (above, corner) = (c * delta + s * alpha, s * delta - c * alpha);
        // |A r| of the residual before this step is |r| times this.
        let slope = corner.hypot(c * beta_next);
        if slope <= limits.tolerance.max(f64::EPSILON) * size_of_a {
            return Ok(Solution { x, stop: Stop::LeastSquares, residuals });
        }
        let gamma = corner.hypot(beta_next).max(f64::MIN_POSITIVE);
        let second = epsilon;
        (epsilon, delta) = (s * beta_next, -c * beta_next);
        (c, s) = (corner / gamma, beta_next / gamma);
        // w_k = (v_k - ε w_{k-2} - δ w_{k-1}) / γ.
        let mut direction = v.duplicate()?;
        axpy(&mut direction, -second, &w_old)?;
        axpy(&mut direction, -above, &w)?;
        times(&mut direction, 1.0 / gamma)?;
        axpy(&mut x, c * phi, &direction)?;
        phi *= s;
        (w_old, w) = (w, direction);
        residuals.push(finite("minres", "residual", iteration, phi.abs())?);
        if phi.abs() <= limits.tolerance * size {
            return Ok(Solution { x, stop: Stop::Residual, residuals });
        }
        if beta_next <= f64::EPSILON * size_of_a {
            // The Krylov space is exhausted: nothing gets better.
            return Ok(Solution { x, stop: Stop::LeastSquares, residuals });
        }
        times(&mut next, 1.0 / beta_next)?;
        (v_old, v, beta) = (v, next, beta_next);
    }
    Ok(Solution { x, stop: Stop::Iterations, residuals })
}
