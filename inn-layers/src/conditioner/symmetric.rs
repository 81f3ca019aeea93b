//! The conditioner of a leapfrog step.

use super::Ports;
use super::convolution::{Convolution, activated};
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Kernel, Param, Result, Saved, Scalar, Scope, Shape, Tensor, View,
    ViewMut, Write,
};
use inn_ops::Activation;

/// Settings of a [`SymmetricBlock`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SymmetricConfig {
    /// Hidden channels; those of the state when absent.
    pub hidden: Option<usize>,
    /// Extent of the kernel on every axis.
    pub kernel: usize,
    /// Stride of the convolution.
    pub stride: usize,
    /// Padding; half the kernel when absent.
    pub padding: Option<usize>,
    /// α, the square of the time step of the wave equation that the layer discretizes.
    pub alpha: f64,
    /// ρ.
    pub activation: Activation,
}

impl Default for SymmetricConfig {
    /// Kernel 3, α = 1, ReLU, as many hidden channels as the state has.
    fn default() -> Self {
        Self { hidden: None, kernel: 3, stride: 1, padding: None, alpha: 1.0, activation: Activation::default() }
    }
}

/// c(Q) = 2 Q + F(Q), F(Q) = -α Wᵀ * ρ(W * Q + b): minus the gradient of a convex energy for a monotone ρ (Lensink et al. 2019).
///
/// VJP, from g = gc, with r = ρ(Y), Y = W * Q + b and m = -α ρ'(Y) ⊙ (W * g):
/// ```text
/// gQ += 2 g + Wᵀ * m,    gW += filt(Q, m) - α filt(g, r),    gb += Σ m
/// ```
#[derive(Clone, Debug)]
pub struct SymmetricBlock {
    convolution: Convolution,
    bias: Param,
    alpha: f64,
    activation: Activation,
    channels: usize,
    hidden: usize,
}

impl SymmetricBlock {
    /// Declares `weight` and `bias` for a state of `channels` channels with `rank` spatial axes.
    ///
    /// # Errors
    /// No channels, or a stride of 0.
    pub fn new(scope: &mut Scope<'_>, channels: usize, rank: usize, config: &SymmetricConfig) -> Result<Self> {
        if config.stride == 0 {
            return Err(Error::config("stride", "expected at least 1, got 0"));
        }
        let hidden = config.hidden.unwrap_or(channels);
        let conv = Conv { stride: config.stride, padding: config.padding.unwrap_or(config.kernel / 2) };
        let ports = Ports::new(channels, hidden, rank);
        let convolution = Convolution::new(scope, ports, config.kernel, conv, Init::Glorot { gain: 1.0 })?;
        let bias = scope.vector("bias", hidden, Init::Constant(0.0))?;
        Ok(Self { convolution, bias, alpha: config.alpha, activation: config.activation, channels, hidden })
    }
}

impl Conditioner for SymmetricBlock {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.bias)?;
        self.convolution.check(facts, input)?;
        Ok(input.with_channels(self.channels))
    }

    fn hidden_bytes<B: Backend>(&self, _: &Inputs<'_, B>, x: View<'_, B>, _: bool) -> Result<usize> {
        Ok(3 * self.hidden * x.shape().batch() * x.shape().pixels() * size_of::<B::Elem>())
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        let mut y = self.convolution.scratch(at, x.shape())?;
        self.convolution.forward(at, x, &mut y.view_mut())?;
        let shape = y.shape();
        let mut force = Tensor::scratch(backend, shape)?;
        let read = [at.param(self.bias)?.over_pixels(shape)];
        let kernel = Force { alpha: self.alpha, activation: self.activation };
        backend.zip(&kernel, shape, &read, &mut [y.view_mut().update(), force.view_mut().set()], &mut [], &mut [])?;
        let domain = out.shape();
        backend.zip(&Double, domain, &[x], &mut [out.set()], &mut [], &mut [])?;
        self.convolution.transposed(at, force.view(), out, Write::Add)?;
        Ok(Saved(vec![y]))
    }

    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let Some(y) = saved.0.into_iter().next() else {
            return Err(Error::backend(backend.name(), "expected the values saved by forward"));
        };
        let shape = y.shape();
        let mut r = activated(backend, self.activation, &y)?;
        backend.zip(&inn_core::kernel::blas::Scale(-self.alpha), shape, &[], &mut [r.view_mut().update()], &mut [], &mut [])?;
        let mut m = Tensor::scratch(backend, shape)?;
        // -α Wᵀ * r is linear in W through filt(g, -α r), and in r through W * g.
        self.convolution.transposed_vjp(at, r.view(), gout.view(), &mut m.view_mut(), grads)?;
        drop(r);
        let kernel = PullForce { alpha: self.alpha, activation: self.activation };
        let sums = grads.theta.update(&[self.bias])?;
        backend.zip(&kernel, shape, &[y.view()], &mut [m.view_mut().update()], &mut [sums], &mut [])?;
        drop(y);
        self.convolution.vjp(at, x, m.view(), gx, grads)?;
        gx.axpy(backend, 2.0, gout.view())
    }
}

/// y += b, f = -α ρ(y).
#[derive(Clone, Copy)]
struct Force {
    alpha: f64,
    activation: Activation,
}
impl Kernel for Force {
    const READ: usize = 1;
    const UPDATE: usize = 2;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [-self.alpha, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + read[0];
        update[1] = u[0] * self.activation.value(update[0]);
    }
}

/// m = -α ρ'(y) m, and its sum per channel.
#[derive(Clone, Copy)]
struct PullForce {
    alpha: f64,
    activation: Activation,
}
impl Kernel for PullForce {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    const CHANNEL_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [-self.alpha, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], sums: &mut [T], _: &mut [T]) {
        update[0] = u[0] * self.activation.derivative(read[0]) * update[0];
        sums[0] = update[0];
    }
}

/// c = 2 q.
#[derive(Clone, Copy)]
struct Double;
impl Kernel for Double {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = read[0] + read[0];
    }
}
