//! What is minimized.

use inn_core::kernel::{Kernel, UNIFORMS};
use inn_core::scalar::Scalar;
use inn_core::{Backend, Call, Direction, Invertible, Mapped, Params, Result, Shape, Tensor};
use std::f64::consts::PI;

/// A loss that is a sum over samples, with its gradient in the parameters.
///
/// Everything stays on the device. `call` brings the network, its parameters, the conditions and, where states are watched, a trail: pass
/// the state through it once forward and once backward. A target that the network does not read is a further condition.
pub trait Objective<L: Invertible, B: Backend>: Send + Sync {
    /// Which way the network is taken first; data-dependent initialization goes that way.
    fn direction(&self) -> Direction {
        Direction::Forward
    }

    /// Adds `weight` times the gradient of the sum of the losses to `grads`, and answers the loss of each sample, `(B, 1)`, without the
    /// weight.
    ///
    /// # Errors
    /// A shape that does not fit.
    fn gradient(
        &self,
        call: Call<'_, L, B>,
        x: Tensor<B>,
        conditions: &[Tensor<B>],
        weight: f64,
        grads: &mut Params<B>,
    ) -> Result<Tensor<B>>;

    /// The loss of each sample, `(B, 1)`.
    ///
    /// # Errors
    /// A shape that does not fit.
    fn losses(&self, call: Call<'_, L, B>, x: Tensor<B>, conditions: &[Tensor<B>]) -> Result<Tensor<B>>;
}

/// The negative log-likelihood of a normalizing flow z = f(x) with a standard normal latent, in nats a sample:
///
/// ```text
/// -ln p(x) = |z|²/2 + (n/2) ln 2π - ln|det ∂z/∂x|,    gz = z,    gℓ = -1
/// ```
/// with n the values of a sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaximumLikelihood;

impl<L: Invertible, B: Backend> Objective<L, B> for MaximumLikelihood {
    fn gradient(&self, call: Call<'_, L, B>, x: Tensor<B>, _: &[Tensor<B>], weight: f64, grads: &mut Params<B>) -> Result<Tensor<B>> {
        let backend = x.backend().clone();
        let Mapped { state: z, logdet } = call.forward(x)?;
        let shape = z.shape();
        let per_sample = Shape::per_sample(shape.batch());
        let mut losses = Tensor::zeros(&backend, per_sample)?;
        let mut gz = Tensor::scratch(&backend, shape)?;
        let kernel = LatentGradient(weight);
        backend.zip(&kernel, shape, &[z.view()], &mut [gz.view_mut().set()], &mut [], &mut [losses.view_mut().update()])?;
        losses.view_mut().axpy(&backend, -1.0, logdet.view())?;
        let gl = Tensor::full(&backend, per_sample, -weight)?;
        call.backward(z, gz, &gl, grads)?;
        Ok(losses)
    }

    fn losses(&self, call: Call<'_, L, B>, x: Tensor<B>, _: &[Tensor<B>]) -> Result<Tensor<B>> {
        let backend = x.backend().clone();
        let Mapped { state: z, logdet } = call.forward(x)?;
        let mut losses = Tensor::zeros(&backend, Shape::per_sample(z.shape().batch()))?;
        backend.zip(&LatentLoss, z.shape(), &[z.view()], &mut [], &mut [], &mut [losses.view_mut().update()])?;
        losses.view_mut().axpy(&backend, -1.0, logdet.view())?;
        Ok(losses)
    }
}

/// z²/2 + ln(2π)/2, summed over a sample.
fn negative_log_density<T: Scalar>(z: T) -> T {
    T::constant(0.5) * z.square() + T::constant(0.5 * (2.0 * PI).ln())
}

#[derive(Clone, Copy)]
struct LatentLoss;
impl Kernel for LatentLoss {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], z: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = negative_log_density(z[0]);
    }
}

/// The same, and gz = weight z.
#[derive(Clone, Copy)]
struct LatentGradient(f64);
impl Kernel for LatentGradient {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], z: &[T], gz: &mut [T], _: &mut [T], sums: &mut [T]) {
        gz[0] = u[0] * z[0];
        sums[0] = negative_log_density(z[0]);
    }
}
