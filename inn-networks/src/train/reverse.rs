//! Variational inference: the reverse Kullback-Leibler divergence.

use super::Objective;
use inn_core::{Backend, Call, Direction, Invertible, Mapped, Params, Result, Shape, Tensor, View, ViewMut};
use inn_ops::loss::Gaussian;

/// A log-density with its gradient, up to a constant: what is known of a posterior.
pub trait LogDensity<B: Backend>: Send + Sync {
    /// Adds ln p(x | c) of each sample of `x`, `(B, C, ..)`, to `sums`, `(B, 1)`, in nats, and overwrites `g`, of the shape of x, with
    /// `weight` times its gradient in x. `conditions` are those of the call, such as the data.
    ///
    /// # Errors
    /// A shape that does not fit.
    fn add_with_gradient(
        &self,
        backend: &B,
        weight: f64,
        x: View<'_, B>,
        conditions: &[Tensor<B>],
        g: &mut ViewMut<'_, B>,
        sums: &mut ViewMut<'_, B>,
    ) -> Result<()>;
}

/// Independent components, such as a prior.
impl<B: Backend> LogDensity<B> for Gaussian {
    fn add_with_gradient(
        &self,
        backend: &B,
        weight: f64,
        x: View<'_, B>,
        _: &[Tensor<B>],
        g: &mut ViewMut<'_, B>,
        sums: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        Gaussian::add_with_gradient(self, backend, weight, x, g, sums)
    }
}

/// The divergence of the density q of a flow from one that is known up to a constant, KL(q | p) = E_q \[ln q - ln p\] (Rezende & Mohamed 2015,
/// arXiv:1505.05770, section 3).
///
/// A batch holds draws z of the standard normal distribution, which the *inverse* map turns into samples x = f⁻¹(z) of q. With ℓ⁻¹ the
/// log-determinant of f⁻¹ at z, in nats a sample:
/// ```text
/// loss = ln N(z) - ℓ⁻¹ - ln p(x | c),    gx = -∂ ln p/∂x,    gℓ⁻¹ = -1
/// ```
/// The mean over draws is KL(q | p) where p is normalized, and that plus a constant where it is not. A network that should map z to x by its
/// forward map, because that is the cheaper one or because it was built so, is trained as [`Reversed`](inn_core::Reversed).
///
/// ```
/// use inn_networks::GlowConfig;
/// use inn_networks::train::{ArrayDataset, Options, ReverseKl, Trainer};
/// use inn_networks::{distributions::{Normal, Target}, optim::Schedule};
/// use inn_ops::{Cpu, loss::Gaussian};
/// # use inn_core::Architecture;
///
/// let z = Normal::isotropic(&[0.0, 0.0], 1.0)?.sample(256, 0)?.mapv(|v| v as f32);
/// let model = GlowConfig::dense(2, 2).model(&Cpu::<f32>::new(), 0)?;
/// let options = Options { epochs: 4, batch: 64, schedule: Schedule::constant(0.01), ..Options::default() };
/// let mut trainer = Trainer::with_objective(model, ReverseKl(Gaussian::new(1.0, 0.5, true)?), options)?;
/// trainer.fit(&ArrayDataset::new(z)?, None, &mut ())?;
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ReverseKl<P>(
    /// p.
    pub P,
);

impl<P> ReverseKl<P> {
    /// x, its cotangent and the losses.
    fn evaluate<L: Invertible, B: Backend>(
        &self,
        call: &Call<'_, L, B>,
        z: Tensor<B>,
        conditions: &[Tensor<B>],
        weight: f64,
    ) -> Result<(Tensor<B>, Tensor<B>, Tensor<B>)>
    where
        P: LogDensity<B>,
    {
        let backend = z.backend().clone();
        let mut losses = Tensor::zeros(&backend, Shape::per_sample(z.shape().batch()))?;
        Gaussian::STANDARD.add(&backend, z.view(), &mut losses.view_mut())?;
        let Mapped { state: x, mut logdet } = call.inverse(z)?;
        let mut gx = Tensor::scratch(&backend, x.shape())?;
        self.0.add_with_gradient(&backend, -weight, x.view(), conditions, &mut gx.view_mut(), &mut logdet.view_mut())?;
        losses.view_mut().axpy(&backend, -1.0, logdet.view())?;
        Ok((x, gx, losses))
    }
}

impl<L: Invertible, B: Backend, P: LogDensity<B>> Objective<L, B> for ReverseKl<P> {
    fn direction(&self) -> Direction {
        Direction::Inverse
    }

    fn gradient(
        &self,
        call: Call<'_, L, B>,
        z: Tensor<B>,
        conditions: &[Tensor<B>],
        weight: f64,
        grads: &mut Params<B>,
    ) -> Result<Tensor<B>> {
        let (x, gx, losses) = self.evaluate(&call, z, conditions, weight)?;
        let gl = Tensor::full(losses.backend(), losses.shape(), -weight)?;
        call.backward_inverse(x, gx, &gl, grads)?;
        Ok(losses)
    }

    fn losses(&self, call: Call<'_, L, B>, z: Tensor<B>, conditions: &[Tensor<B>]) -> Result<Tensor<B>> {
        Ok(self.evaluate(&call, z, conditions, 0.0)?.2)
    }
}
