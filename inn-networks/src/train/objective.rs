//! What is minimized.

use inn_core::kernel::blas::Scale;
use inn_core::{Backend, Call, Direction, Invertible, Mapped, Params, Result, Tensor};
use inn_ops::loss::Gaussian;

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
        let Mapped { state: z, logdet: mut losses } = call.forward(x)?;
        let mut gz = Tensor::scratch(&backend, z.shape())?;
        // The log-likelihood of z joins the log-determinant; the loss is minus their sum.
        Gaussian::STANDARD.add_with_gradient(&backend, -weight, z.view(), &mut gz.view_mut(), &mut losses.view_mut())?;
        negate(&backend, &mut losses)?;
        let gl = Tensor::full(&backend, losses.shape(), -weight)?;
        call.backward(z, gz, &gl, grads)?;
        Ok(losses)
    }

    fn losses(&self, call: Call<'_, L, B>, x: Tensor<B>, _: &[Tensor<B>]) -> Result<Tensor<B>> {
        let backend = x.backend().clone();
        let Mapped { state: z, logdet: mut losses } = call.forward(x)?;
        Gaussian::STANDARD.add(&backend, z.view(), &mut losses.view_mut())?;
        negate(&backend, &mut losses)?;
        Ok(losses)
    }
}

fn negate<B: Backend>(backend: &B, x: &mut Tensor<B>) -> Result<()> {
    let shape = x.shape();
    backend.zip(&Scale(-1.0), shape, &[], &mut [x.view_mut().update()], &mut [], &mut [])
}
