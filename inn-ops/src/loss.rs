//! Objectives: a value for each sample, the gradient, products with the Hessian.
//!
//! Values are **added** to one number a sample, `(B, 1)`, on the device, where a log-determinant may already be. The mean over a batch has the
//! gradient `weight = 1/B` times that of the sum; every function takes the weight, so that nothing divides by a batch size that it guesses.
//!
//! | | value of a sample | gradient | Hessian |
//! |---|---|---|---|
//! | [`SquaredError`] | ½ \|x - y\|² | x - y | I |
//! | [`Gaussian`] | -½ \|(x - μ)/σ\|² (- n/2 ln 2π - n ln σ) | -(x - μ)/σ² | -I/σ² |

use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::view::{View, ViewMut};
use inn_core::{Backend, Error, Result, Scalar};
use std::f64::consts::PI;

/// ½ |x - y|² of each sample, y the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquaredError;

impl SquaredError {
    /// Adds the value of each sample of `x` to `sums`, `(B, 1)`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add<B: Backend>(&self, backend: &B, x: View<'_, B>, target: View<'_, B>, sums: &mut ViewMut<'_, B>) -> Result<()> {
        backend.zip(&Squared, x.shape(), &[x, target], &mut [], &mut [], &mut [sums.update()])
    }

    /// The same, and g = weight (x - y), which overwrites `g`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add_with_gradient<B: Backend>(
        &self,
        backend: &B,
        weight: f64,
        x: View<'_, B>,
        target: View<'_, B>,
        g: &mut ViewMut<'_, B>,
        sums: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        backend.zip(&SquaredGradient(weight), x.shape(), &[x, target], &mut [g.set()], &mut [], &mut [sums.update()])
    }

    /// h = weight dx, the product of the weighted Hessian with dx.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn hessian<B: Backend>(&self, backend: &B, weight: f64, dx: View<'_, B>, h: &mut ViewMut<'_, B>) -> Result<()> {
        backend.zip(&Times(weight), dx.shape(), &[dx], &mut [h.set()], &mut [], &mut [])
    }
}

/// The log-likelihood of a Gaussian with independent components.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gaussian {
    mean: f64,
    deviation: f64,
    normalized: bool,
}

impl Gaussian {
    /// The density of the standard normal distribution, with its normalization -n/2 ln 2π.
    pub const STANDARD: Self = Self { mean: 0.0, deviation: 1.0, normalized: true };

    /// With mean μ and standard deviation σ; the terms - n/2 ln 2π - n ln σ of n values are a part of it if `normalized`.
    ///
    /// # Errors
    /// A mean that is not finite, a deviation that is not positive and finite.
    pub fn new(mean: f64, deviation: f64, normalized: bool) -> Result<Self> {
        if !mean.is_finite() {
            return Err(Error::config("mean", format!("expected a finite number, got {mean}")));
        }
        if !(deviation > 0.0 && deviation.is_finite()) {
            return Err(Error::config("deviation", format!("expected a positive finite number, got {deviation}")));
        }
        Ok(Self { mean, deviation, normalized })
    }

    /// μ, 1/σ, and what a value contributes whatever it is.
    fn uniforms(&self) -> [f64; 3] {
        let constant = if self.normalized { -0.5 * (2.0 * PI).ln() - self.deviation.ln() } else { 0.0 };
        [self.mean, 1.0 / self.deviation, constant]
    }

    /// Adds the log-likelihood of each sample of `x` in nats to `sums`, `(B, 1)`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add<B: Backend>(&self, backend: &B, x: View<'_, B>, sums: &mut ViewMut<'_, B>) -> Result<()> {
        backend.zip(&LogLikelihood(*self), x.shape(), &[x], &mut [], &mut [], &mut [sums.update()])
    }

    /// The same, and g = -weight (x - μ)/σ², which overwrites `g`.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn add_with_gradient<B: Backend>(
        &self,
        backend: &B,
        weight: f64,
        x: View<'_, B>,
        g: &mut ViewMut<'_, B>,
        sums: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        backend.zip(&LogLikelihoodGradient(*self, weight), x.shape(), &[x], &mut [g.set()], &mut [], &mut [sums.update()])
    }

    /// h = -weight dx/σ², the product of the weighted Hessian with dx.
    ///
    /// # Errors
    /// Shapes that differ.
    pub fn hessian<B: Backend>(&self, backend: &B, weight: f64, dx: View<'_, B>, h: &mut ViewMut<'_, B>) -> Result<()> {
        let kernel = Times(-weight / (self.deviation * self.deviation));
        backend.zip(&kernel, dx.shape(), &[dx], &mut [h.set()], &mut [], &mut [])
    }
}

#[derive(Clone, Copy)]
struct Squared;
impl Kernel for Squared {
    const READ: usize = 2;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = T::constant(0.5) * (read[0] - read[1]).square();
    }
}

#[derive(Clone, Copy)]
struct SquaredGradient(f64);
impl Kernel for SquaredGradient {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], g: &mut [T], _: &mut [T], sums: &mut [T]) {
        let d = read[0] - read[1];
        g[0] = u[0] * d;
        sums[0] = T::constant(0.5) * d.square();
    }
}

#[derive(Clone, Copy)]
struct Times(f64);
impl Kernel for Times {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], out: &mut [T], _: &mut [T], _: &mut [T]) {
        out[0] = u[0] * read[0];
    }
}

#[derive(Clone, Copy)]
struct LogLikelihood(Gaussian);
impl Kernel for LogLikelihood {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        let [mean, inverse, constant] = self.0.uniforms();
        [mean, inverse, constant, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        let z = (read[0] - u[0]) * u[1];
        sums[0] = u[2] - T::constant(0.5) * z.square();
    }
}

#[derive(Clone, Copy)]
struct LogLikelihoodGradient(Gaussian, f64);
impl Kernel for LogLikelihoodGradient {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        let [mean, inverse, constant] = self.0.uniforms();
        [mean, inverse, constant, self.1]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], g: &mut [T], _: &mut [T], sums: &mut [T]) {
        let z = (read[0] - u[0]) * u[1];
        g[0] = -(u[3] * u[1] * z);
        sums[0] = u[2] - T::constant(0.5) * z.square();
    }
}
