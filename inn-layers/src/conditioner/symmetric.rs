//! The conditioner of a leapfrog step.

use super::Ports;
use super::convolution::{Convolution, activated};
use inn_core::kernel::UNIFORMS;
use inn_core::primitive::Primitive;
use inn_core::stack::{Affine, Last, Pointwise, Slopes, Stack, StackPass};
use inn_core::{
    Access, Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Kernel, Param, Result, Saved, Scalar, Scope, Shape, Tensor,
    Update, View, ViewMut, Write,
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

/// F(Q) as one stack: -α ρ is its activation, and W serves both ways.
struct Parts<'a, B: Backend> {
    first: Affine<'a, B>,
    padding: usize,
    force: Force,
}

impl<B: Backend> Parts<'_, B> {
    fn stack(&self) -> Stack<'_, B, Force> {
        let last = Last::Transposed(self.first.weight);
        Stack { activation: self.force, inputs: &[], padding: self.padding, first: self.first, middle: &[], skip: false, last }
    }
}

impl SymmetricBlock {
    fn parts<'a, B: Backend>(&self, at: &Inputs<'a, B>) -> Result<Parts<'a, B>> {
        let first = Affine { weight: at.param(self.convolution.weight())?, bias: at.param(self.bias)? };
        Ok(Parts { first, padding: self.convolution.conv().padding, force: Force { alpha: self.alpha, activation: self.activation } })
    }
}

/// to += 2 from, two windows of one buffer by their numbers.
fn add_twice<B: Backend>(backend: &B, lanes: &mut Update<'_, B>, [from, to]: [usize; 2]) -> Result<()> {
    let (Some(&from), Some(&to)) = (lanes.windows().get(from), lanes.windows().get(to)) else {
        return Err(Error::backend(backend.name(), format!("expected two windows, got {:?}", lanes.windows())));
    };
    let update = Update::new(lanes.buffer_mut(), Access::ReadWrite, &[from, to]);
    backend.zip(&AddTwice, from.shape, &[], &mut [update], &mut [], &mut [])
}

/// y += 2 x.
#[derive(Clone, Copy)]
struct AddTwice;
impl Kernel for AddTwice {
    const READ: usize = 0;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], _: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[1] = update[1] + (update[0] + update[0]);
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

    fn adds<B: Backend>(&self, at: &Inputs<'_, B>, x: Shape) -> Result<bool> {
        let shape = self.parts(at)?.stack().shape_in_place(x)?;
        Ok(self.convolution.conv().stride == 1 && at.backend().takes(&Primitive::Stack { pass: StackPass::Both, shape }))
    }

    fn add_to<B: Backend>(&self, at: &Inputs<'_, B>, state: &mut Update<'_, B>) -> Result<()> {
        at.backend().stack_add(&self.parts(at)?.stack(), state)?;
        add_twice(at.backend(), state, [0, 1])
    }

    fn add_and_vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let weight = self.convolution.weight();
        let mut weights = grads.theta.update(&[weight, self.bias, weight])?;
        at.backend().stack_pull(&self.parts(at)?.stack(), state, cotangent, &mut [], &mut weights)?;
        add_twice(at.backend(), state, [0, 1])?;
        add_twice(at.backend(), cotangent, [1, 0])
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

impl Pointwise for Force {
    #[inline(always)]
    fn value<T: Scalar>(&self, x: T) -> T {
        T::constant(-self.alpha) * self.activation.value(x)
    }
    #[inline(always)]
    fn derivative<T: Scalar>(&self, x: T) -> T {
        T::constant(-self.alpha) * self.activation.derivative(x)
    }
    fn slopes(&self) -> Option<Slopes> {
        self.activation.slopes().map(|s| Slopes { above: -self.alpha * s.above, below: -self.alpha * s.below })
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
