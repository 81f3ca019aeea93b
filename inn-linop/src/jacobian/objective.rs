//! What second derivatives need to know of an objective.

use crate::{Identity, Scaled};
use inn_core::{Backend, LinearOperator, Mapped, Result, Shape, Tensor, error::expect_shape};

/// The second-order model of an objective f = Φ(y) + Σ_b λ_b ℓ_b of a map's value, at one point.
pub struct Objective<B: Backend, H> {
    /// ∂Φ/∂y, the shape of y.
    pub gradient: Tensor<B>,
    /// ∂²Φ/∂y², or a positive semidefinite approximation of it; from and to the shape of y.
    pub curvature: H,
    /// λ, one value a sample, `(B, 1)`.
    pub logdet: Tensor<B>,
}

impl<B: Backend> Objective<B, Scaled<Identity<B>>> {
    /// Maximum likelihood, f = (1/B) Σ_b (½ |y_b|² - ℓ_b).
    ///
    /// # Errors
    /// The device's.
    pub fn likelihood(value: &Mapped<B>) -> Result<Self> {
        let batch = value.state.shape().batch() as f64;
        Self::quadratic(value, None, 1.0 / batch, -1.0 / batch)
    }

    /// Least squares, f = (1/2B) |y - d|².
    ///
    /// # Errors
    /// Data of another shape than y.
    pub fn least_squares(value: &Mapped<B>, data: &Tensor<B>) -> Result<Self> {
        expect_shape("data of a least-squares objective", value.state.shape(), data.shape())?;
        Self::quadratic(value, Some(data), 1.0 / value.state.shape().batch() as f64, 0.0)
    }

    /// The log-determinant alone, f = `weight` Σ_b ℓ_b.
    ///
    /// # Errors
    /// The device's, and a weight that is not finite.
    pub fn log_determinant(value: &Mapped<B>, weight: f64) -> Result<Self> {
        Self::quadratic(value, None, 0.0, weight)
    }

    fn quadratic(value: &Mapped<B>, data: Option<&Tensor<B>>, factor: f64, logdet: f64) -> Result<Self> {
        let (y, backend) = (&value.state, value.state.backend());
        let mut gradient = Tensor::zeros(backend, y.shape())?;
        if factor != 0.0 {
            gradient.view_mut().axpy(backend, factor, y.view())?;
            if let Some(data) = data {
                gradient.view_mut().axpy(backend, -factor, data.view())?;
            }
        }
        let curvature = Scaled::new(factor, Identity::new(y.shape()))?;
        Ok(Self { gradient, curvature, logdet: Tensor::full(backend, Shape::per_sample(y.shape().batch()), logdet)? })
    }
}

impl<B: Backend, H: LinearOperator<B>> Objective<B, H> {
    /// Checks that the parts belong to a value of shape `y`.
    pub(super) fn check(&self, y: Shape) -> Result<()> {
        expect_shape("gradient of an objective", y, self.gradient.shape())?;
        expect_shape("log-determinant weights of an objective", Shape::per_sample(y.batch()), self.logdet.shape())?;
        for (name, shape) in [("domain", self.curvature.domain()), ("range", self.curvature.range())] {
            let lifted = if shape.batch() == 1 { shape.with_batch(y.batch()) } else { shape };
            expect_shape(&format!("{name} of an objective's curvature"), y, lifted)?;
        }
        Ok(())
    }
}
