//! Least squares.

use super::vector::{apply, axpy, norm, scaled_into, times};
use super::{Solution, Stop, finite, solution_shape};
use inn_core::{Backend, Error, LinearOperator, Result, Tensor};

/// Damping and stopping rules of [`lsqr`], in the names of Paige & Saunders 1982.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LsqrOptions {
    /// δ, the weight of |x| beside the residual.
    pub damping: f64,
    /// How well A is known: relative.
    pub atol: f64,
    /// How well b is known: relative.
    pub btol: f64,
    /// The condition of \[A; δ I\] at which to stop; 0 for none.
    pub condition_limit: f64,
    /// Iterations at most.
    pub iterations: usize,
}

impl Default for LsqrOptions {
    /// No damping, both tolerances 1e-8, condition up to 1e12, 200 iterations.
    fn default() -> Self {
        Self { damping: 0.0, atol: 1e-8, btol: 1e-8, condition_limit: 1e12, iterations: 200 }
    }
}

/// Minimizes |A x - b|² + δ² |x|² by LSQR (Paige & Saunders 1982, ACM TOMS 8, 43): conjugate gradients on the normal equations, by
/// Golub-Kahan bidiagonalization and therefore with the condition of A, not its square.
///
/// Ends, with r = \[b; 0\] - \[A; δ I\] x, when |r| ≤ btol |b| + atol |A| |x| ([`Stop::Residual`]), when |Aᵀr| ≤ atol |A| |r|
/// ([`Stop::LeastSquares`]), or when the condition reaches its limit. Of an A without full rank it finds the x of least norm. One
/// product with A and one with Aᵀ an iteration; five vectors are held.
///
/// ```
/// use inn_core::Tensor;
/// use inn_linop::{LinearOperator, Matrix, solve::{LsqrOptions, lsqr}};
/// use inn_ops::Cpu;
///
/// // The line through (0, 1), (1, 3), (2, 5).
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 3, 2, &[1.0, 0.0, 1.0, 1.0, 1.0, 2.0])?;
/// let b = Tensor::from_f64(&cpu, a.range(), &[1.0, 3.0, 5.0])?;
/// let x = lsqr(&a, &b, &LsqrOptions::default())?.x;
/// assert!((x.slice()[0] - 1.0).abs() < 1e-10 && (x.slice()[1] - 2.0).abs() < 1e-10);
/// # Ok::<(), inn_core::Error>(())
/// ```
///
/// # Errors
/// Shapes or settings that do not fit; [`Error::NonFinite`].
pub fn lsqr<B: Backend, A: LinearOperator<B>>(a: &A, b: &Tensor<B>, options: &LsqrOptions) -> Result<Solution<B>> {
    let LsqrOptions { damping: damp, atol, btol, condition_limit, iterations } = *options;
    for (name, value) in [("damping", damp), ("atol", atol), ("btol", btol), ("condition_limit", condition_limit)] {
        if value.is_nan() || value < 0.0 || (name == "damping" && value.is_infinite()) {
            return Err(Error::config(name, format!("expected 0 or more, got {value}")));
        }
    }
    let shape = solution_shape(a, b)?;
    let mut x = Tensor::zeros(b.backend(), shape)?;
    let size = finite("lsqr", "right-hand side", 0, norm(b)?)?;
    let mut residuals = vec![size];
    if size == 0.0 {
        return Ok(Solution { x, stop: Stop::Zero, residuals });
    }
    // β u = b, α v = Aᵀ u.
    let mut u = b.duplicate()?;
    times(&mut u, 1.0 / size)?;
    let mut v = apply(a, true, &u, shape)?;
    let mut alpha = finite("lsqr", "adjoint product", 0, norm(&v)?)?;
    if alpha == 0.0 {
        return Ok(Solution { x, stop: Stop::Zero, residuals });
    }
    times(&mut v, 1.0 / alpha)?;
    let mut w = v.duplicate()?;
    let (mut rho_bar, mut phi_bar) = (alpha, size);
    // What the stopping rules need: |A|, |D|, the damped part of |r|², |x|.
    let (mut size_of_a, mut size_of_d, mut damped) = (0.0_f64, 0.0_f64, 0.0_f64);
    let (mut x_below, mut z, mut cos2, mut sin2) = (0.0_f64, 0.0_f64, -1.0_f64, 0.0_f64);
    for iteration in 1..=iterations {
        let au = apply(a, false, &v, b.shape())?;
        scaled_into(&mut u, -alpha, &au)?;
        let beta = finite("lsqr", "product", iteration, norm(&u)?)?;
        size_of_a = (size_of_a.powi(2) + alpha * alpha + beta * beta + damp * damp).sqrt();
        if beta > 0.0 {
            times(&mut u, 1.0 / beta)?;
            let av = apply(a, true, &u, shape)?;
            scaled_into(&mut v, -beta, &av)?;
            alpha = finite("lsqr", "adjoint product", iteration, norm(&v)?)?;
            if alpha > 0.0 {
                times(&mut v, 1.0 / alpha)?;
            }
        } else {
            alpha = 0.0;
        }
        // Rotate the damping away, then the subdiagonal.
        let rho_damped = rho_bar.hypot(damp);
        let psi = damp / rho_damped * phi_bar;
        phi_bar *= rho_bar / rho_damped;
        let rho = rho_damped.hypot(beta);
        let (cos, sin) = (rho_damped / rho, beta / rho);
        let theta = sin * alpha;
        rho_bar = -cos * alpha;
        let phi = cos * phi_bar;
        phi_bar *= sin;
        axpy(&mut x, phi / rho, &w)?;
        size_of_d = size_of_d.hypot(norm(&w)? / rho);
        scaled_into(&mut w, -theta / rho, &v)?;
        // |x| from a rotation from the right.
        let (delta, gamma_bar) = (sin2 * rho, -cos2 * rho);
        let rest = phi - delta * z;
        let size_of_x = x_below.hypot(rest / gamma_bar);
        let gamma = gamma_bar.hypot(theta);
        (cos2, sin2, z) = (gamma_bar / gamma, theta / gamma, rest / gamma);
        x_below = x_below.hypot(z);

        damped = damped.hypot(psi);
        let residual = finite("lsqr", "residual", iteration, phi_bar.hypot(damped))?;
        residuals.push(residual);
        let slope = alpha * (sin * phi).abs();
        let condition = size_of_a * size_of_d;
        let reached = if residual <= btol * size + atol * size_of_a * size_of_x {
            Some(Stop::Residual)
        } else if slope <= atol.max(f64::EPSILON) * size_of_a * residual {
            Some(Stop::LeastSquares)
        } else if (condition_limit > 0.0 && condition >= condition_limit) || condition >= 1.0 / f64::EPSILON {
            Some(Stop::Condition)
        } else {
            None
        };
        if let Some(stop) = reached {
            return Ok(Solution { x, stop, residuals });
        }
    }
    Ok(Solution { x, stop: Stop::Iterations, residuals })
}
