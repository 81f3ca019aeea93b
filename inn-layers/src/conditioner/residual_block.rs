//! The residual block of i-RIM and Glow couplings.

use super::convolution::{BiasActivate, Convolution, activate_into, activated, pull_activation};
use super::{Ports, offer};
use inn_core::kernel::UNIFORMS;
use inn_core::stack::{Affine, Last, Stack, StackPass};
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Kernel, Param, Result, Saved, Scalar, Scope, Shape, Tensor, Update,
    View, ViewMut, Write,
};
use inn_ops::{Activation, pointwise};

/// What the last convolution of a [`ResidualBlock`] feeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Nothing: coefficients of any sign.
    #[default]
    Linear,
    /// The block's activation, as the original's `fan`; with ReLU the coefficients cannot be negative.
    Activated,
    /// A gated linear unit: twice the channels, half of them gates (Dauphin et al. 2017, arXiv:1612.08083).
    Gated,
}

/// Settings of a [`ResidualBlock`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResidualConfig {
    /// Hidden channels.
    pub hidden: usize,
    /// Extent of the first and last kernel on every axis.
    pub outer_kernel: usize,
    /// Padding of the first and last convolution; half the kernel when absent.
    pub outer_padding: Option<usize>,
    /// Stride of the first and last convolution.
    pub outer_stride: usize,
    /// Extent of the middle kernel, odd, on every axis.
    pub inner_kernel: usize,
    /// ρ.
    pub activation: Activation,
    /// What the last convolution feeds.
    pub head: Head,
    /// Factor on the Glorot bound of the last convolution's starting values. 0 starts a coupling as the identity.
    pub last_gain: f64,
}

impl Default for ResidualConfig {
    /// 64 hidden channels, kernels 3, 1, 3, ReLU, a linear head that starts at zero: the conditioner of Glow.
    fn default() -> Self {
        Self {
            hidden: 64,
            outer_kernel: 3,
            outer_padding: None,
            outer_stride: 1,
            inner_kernel: 1,
            activation: Activation::default(),
            head: Head::default(),
            last_gain: 0.0,
        }
    }
}

/// Three convolutions with a skip over the middle one (Putzky & Welling 2019, arXiv:1911.10914).
///
/// ```text
/// Y1 = W1 * x + b1,    X2 = ρ(Y1),    Y2 = X2 + W2 * X2 + b2,    X3 = ρ(Y2),    Y3 = W3ᵀ * X3,    out = head(Y3)
/// ```
/// W1 and W3 may have a stride; the transposed convolution returns to the extents of x. A condition joins x at the first convolution.
///
/// # VJP
/// From gout, with `⊙` pointwise and `filt` the weight gradient of a convolution:
/// ```text
/// gY3 = head'(Y3)ᵀ gout,    gW3 = filt(gY3, X3),    gY2 = ρ'(Y2) ⊙ (W3 * gY3),            gb2 = Σ gY2
/// gW2 = filt(X2, gY2),      gY1 = ρ'(Y1) ⊙ (gY2 + W2ᵀ * gY2),    gb1 = Σ gY1,    gW1 = filt(x, gY1),    gx += W1ᵀ * gY1
/// ```
/// Y1, Y2 (and Y3 under a head) are kept from the forward pass; the activations are evaluated again.
#[derive(Clone, Debug)]
pub struct ResidualBlock {
    first: Convolution,
    middle: Convolution,
    last: Convolution,
    bias1: Param,
    bias2: Param,
    activation: Activation,
    head: Head,
    hidden: usize,
    ports: Ports,
}

impl ResidualBlock {
    /// Declares `conv1`, `conv2`, `conv3` (weights, and biases of the first two).
    ///
    /// # Errors
    /// Zero channels or extents, an even middle kernel, a stride of 0.
    pub fn new(scope: &mut Scope<'_>, ports: Ports, config: &ResidualConfig) -> Result<Self> {
        if config.inner_kernel.is_multiple_of(2) {
            let reason = format!("expected an odd extent, so that the skip fits, got {}", config.inner_kernel);
            return Err(Error::config("inner_kernel", reason));
        }
        if config.outer_stride == 0 {
            return Err(Error::config("outer_stride", "expected at least 1, got 0"));
        }
        let outer = Conv { stride: config.outer_stride, padding: config.outer_padding.unwrap_or(config.outer_kernel / 2) };
        let groups = if config.head == Head::Gated { 2 } else { 1 };
        let inside = Ports::new(config.hidden, config.hidden, ports.rank);
        let outside = Ports::new(groups * ports.outputs, config.hidden, ports.rank);
        let glorot = Init::Glorot { gain: 1.0 };
        let mut conv1 = scope.sub("conv1");
        let first = Convolution::new(&mut conv1, Ports { outputs: config.hidden, ..ports }, config.outer_kernel, outer, glorot)?;
        let bias1 = conv1.vector("bias", config.hidden, Init::Constant(0.0))?;
        let mut conv2 = scope.sub("conv2");
        let middle = Convolution::new(&mut conv2, inside, config.inner_kernel, Conv::same(config.inner_kernel), glorot)?;
        let bias2 = conv2.vector("bias", config.hidden, Init::Constant(0.0))?;
        let gain = Init::Glorot { gain: config.last_gain };
        let last = Convolution::new(&mut scope.sub("conv3"), outside, config.outer_kernel, outer, gain)?;
        Ok(Self { first, middle, last, bias1, bias2, activation: config.activation, head: config.head, hidden: config.hidden, ports })
    }
}

/// The operands of the block as one stack.
struct Parts<'a, B: Backend> {
    inputs: Vec<View<'a, B>>,
    first: Affine<'a, B>,
    middle: [Affine<'a, B>; 1],
    last: View<'a, B>,
    padding: usize,
    activation: Activation,
}

impl<'a, B: Backend> Parts<'a, B> {
    fn stack(&self) -> Stack<'_, B, Activation> {
        let last = Last::Transposed(self.last);
        Stack {
            activation: self.activation,
            inputs: &self.inputs,
            padding: self.padding,
            first: self.first,
            middle: &self.middle,
            skip: true,
            last,
        }
    }
}

fn unsaved<B: Backend>(backend: &B) -> Error {
    Error::backend(backend.name(), "expected the values saved by forward")
}

impl ResidualBlock {
    /// Groups of channels that the last convolution makes.
    fn groups(&self) -> usize {
        if self.head == Head::Gated { 2 } else { 1 }
    }

    /// The block as an offer, where it has the form of one.
    fn parts<'a, B: Backend>(&self, at: &Inputs<'a, B>, x: View<'a, B>) -> Result<Option<Parts<'a, B>>> {
        self.parts_of(at, vec![x])
    }

    /// The same for some of the inputs; the condition is added to them.
    fn parts_of<'a, B: Backend>(&self, at: &Inputs<'a, B>, mut inputs: Vec<View<'a, B>>) -> Result<Option<Parts<'a, B>>> {
        let (conv, middle) = (self.first.conv(), at.param(self.middle.weight())?);
        if conv.stride != 1 || middle.shape().pixels() != 1 {
            return Ok(None);
        }
        let affine = |weight, bias| -> Result<_> { Ok(Affine { weight: at.param(weight)?, bias: at.param(bias)? }) };
        if let Some((index, _)) = self.ports.condition {
            inputs.push(at.condition(index)?);
        }
        Ok(Some(Parts {
            inputs,
            first: affine(self.first.weight(), self.bias1)?,
            middle: [affine(self.middle.weight(), self.bias2)?],
            last: at.param(self.last.weight())?,
            padding: conv.padding,
            activation: self.activation,
        }))
    }

    /// The block within a state, where it has the form of an offer.
    fn parts_within<'a, B: Backend>(&self, at: &Inputs<'a, B>) -> Result<Option<Parts<'a, B>>> {
        if self.head == Head::Linear { self.parts_of(at, Vec::new()) } else { Ok(None) }
    }

    fn weights(&self) -> [Param; 5] {
        [self.first.weight(), self.bias1, self.middle.weight(), self.bias2, self.last.weight()]
    }

    /// out = head(Y3).
    fn apply_head<B: Backend>(&self, backend: &B, y3: &Tensor<B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        match self.head {
            Head::Gated => pointwise::galu(backend, y3.view(), out),
            _ => pointwise::activate(backend, self.activation, y3.view(), out),
        }
    }

    /// Y3 makes way for its cotangent, if there is a head.
    fn pull_head<B: Backend>(&self, backend: &B, gout: &ViewMut<'_, B>, y3: Option<&mut Tensor<B>>) -> Result<()> {
        match y3 {
            None => Ok(()),
            Some(y3) if self.head == Head::Gated => pointwise::galu_adjoint(backend, gout.view(), &mut y3.view_mut()),
            Some(y3) => {
                let kernel = PullHead(self.activation);
                backend.zip(&kernel, gout.shape(), &[gout.view()], &mut [y3.view_mut().update()], &mut [], &mut [])
            }
        }
    }
}

impl Conditioner for ResidualBlock {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let hidden = self.first.check(facts, input)?;
        self.middle.check(facts, hidden)?;
        facts.param(self.bias1)?;
        facts.param(self.bias2)?;
        let back = self.last.check(facts, input.with_channels(self.groups() * self.ports.outputs))?;
        inn_core::error::expect_shape("input of the transposed convolution", hidden, back)?;
        Ok(input.with_channels(self.ports.outputs))
    }

    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        let (element, shape) = (size_of::<B::Elem>(), x.shape());
        let edge = if self.head == Head::Linear { 0 } else { self.groups() * self.ports.outputs };
        let hidden = match self.parts(at, x)? {
            Some(parts) if at.backend().takes(&parts.stack().primitive(StackPass::Keep)?) => {
                if save {
                    at.backend().kept(&parts.stack().shape()?)
                } else {
                    0
                }
            }
            // Y1, Y2, one activation and one gradient at a time.
            _ => 4 * self.hidden * shape.batch() * shape.pixels(),
        };
        Ok((hidden + edge * shape.batch() * shape.pixels()) * element)
    }

    fn evaluate<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        if self.head == Head::Linear
            && let Some(parts) = self.parts(at, x)?
            && at.backend().takes(&parts.stack().primitive(StackPass::Map)?)
        {
            return at.backend().stack(&parts.stack(), out, Write::Set, None);
        }
        self.forward(at, x, out).map(drop)
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        if let Some(parts) = self.parts(at, x)?
            && backend.takes(&parts.stack().primitive(StackPass::Keep)?)
        {
            let stack = parts.stack();
            let mut kept = Tensor::scratch(backend, Shape::flat(backend.kept(&stack.shape()?)))?;
            if self.head == Head::Linear {
                backend.stack(&stack, out, Write::Set, Some(kept.buffer_mut()))?;
                return Ok(Saved(vec![kept]));
            }
            let mut y3 = Tensor::scratch(backend, x.shape().with_channels(self.groups() * self.ports.outputs))?;
            backend.stack(&stack, &mut y3.view_mut(), Write::Set, Some(kept.buffer_mut()))?;
            self.apply_head(backend, &y3, out)?;
            return Ok(Saved(vec![kept, y3]));
        }
        let mut y1 = self.first.scratch(at, x.shape())?;
        self.first.forward(at, x, &mut y1.view_mut())?;
        let shape = y1.shape();
        let mut hidden = Tensor::scratch(backend, shape)?;
        let read = [at.param(self.bias1)?.over_pixels(shape)];
        let kernel = BiasActivate(self.activation);
        backend.zip(&kernel, shape, &read, &mut [y1.view_mut().update(), hidden.view_mut().set()], &mut [], &mut [])?;

        let mut y2 = Tensor::scratch(backend, shape)?;
        self.middle.forward(at, hidden.view(), &mut y2.view_mut())?;
        let read = [at.param(self.bias2)?.over_pixels(shape)];
        let kernel = SkipActivate(self.activation);
        backend.zip(&kernel, shape, &read, &mut [y2.view_mut().update(), hidden.view_mut().update()], &mut [], &mut [])?;

        let mut saved = vec![y1, y2];
        match self.head {
            Head::Linear => self.last.transposed(at, hidden.view(), out, Write::Set)?,
            Head::Activated | Head::Gated => {
                let mut y3 = Tensor::scratch(backend, x.shape().with_channels(self.groups() * self.ports.outputs))?;
                self.last.transposed(at, hidden.view(), &mut y3.view_mut(), Write::Set)?;
                self.apply_head(backend, &y3, out)?;
                saved.push(y3);
            }
        }
        Ok(Saved(saved))
    }

    fn couple<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        state: &mut Update<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<bool> {
        match self.parts_within(at)? {
            Some(parts) => offer::couple(&parts.stack(), at, kernel, state, logdet),
            None => Ok(false),
        }
    }

    fn couple_pull<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        gl: View<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<bool> {
        match self.parts_within(at)? {
            Some(parts) => {
                let offered = (&parts.stack(), self.ports, &self.weights()[..]);
                offer::couple_pull(offered, at, kernel, gl, (state, cotangent), grads)
            }
            None => Ok(false),
        }
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
        let mut saved = saved.0.into_iter();
        if let Some(parts) = self.parts(at, x)?
            && backend.takes(&parts.stack().primitive(StackPass::Adjoint)?)
        {
            let Some(kept) = saved.next() else { return Err(unsaved(backend)) };
            let mut y3 = saved.next();
            self.pull_head(backend, gout, y3.as_mut())?;
            let gy3 = y3.as_ref().map_or_else(|| gout.view(), Tensor::view);
            let Gradients { theta, conditions } = grads;
            let mut gx = vec![gx.reborrow()];
            if let Some((index, _)) = self.ports.condition {
                gx.push(Gradients::<B>::of_condition(conditions, index, at.samples.clone())?);
            }
            let mut weights = theta.update(&self.weights())?;
            return backend.stack_vjp(&parts.stack(), kept.buffer(), gy3, &mut gx, &mut weights);
        }
        let (Some(y1), Some(y2)) = (saved.next(), saved.next()) else { return Err(unsaved(backend)) };
        let mut y3 = saved.next();
        self.pull_head(backend, gout, y3.as_mut())?;
        let gy3 = y3.as_ref().map_or_else(|| gout.view(), Tensor::view);

        let mut hidden = activated(backend, self.activation, &y2)?; // X3
        let mut g = Tensor::scratch(backend, y2.shape())?;
        self.last.transposed_vjp(at, hidden.view(), gy3, &mut g.view_mut(), grads)?;
        drop(y3);
        pull_activation(backend, self.activation, &y2, &mut g, self.bias2, grads)?; // gY2
        drop(y2);

        activate_into(backend, self.activation, &y1, &mut hidden)?; // X2
        self.middle.vjp_weight(at, hidden.view(), g.view(), grads)?;
        self.middle.transposed(at, g.view(), &mut hidden.view_mut(), Write::Set)?;
        let shape = y1.shape();
        let sums = grads.theta.update(&[self.bias1])?;
        let kernel = PullSkip(self.activation);
        backend.zip(&kernel, shape, &[y1.view(), hidden.view()], &mut [g.view_mut().update()], &mut [sums], &mut [])?; // gY1
        drop(y1);
        self.first.vjp(at, x, g.view(), gx, grads)
    }
}

/// y += x + b, x = ρ(y).
#[derive(Clone, Copy)]
struct SkipActivate(Activation);
impl Kernel for SkipActivate {
    const READ: usize = 1;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + update[1] + read[0];
        update[1] = self.0.value(update[0]);
    }
}

/// g = ρ'(y) (g + h), and its sum per channel.
#[derive(Clone, Copy)]
struct PullSkip(Activation);
impl Kernel for PullSkip {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    const CHANNEL_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], sums: &mut [T], _: &mut [T]) {
        update[0] = self.0.derivative(read[0]) * (update[0] + read[1]);
        sums[0] = update[0];
    }
}

/// y becomes its cotangent ρ'(y) g.
#[derive(Clone, Copy)]
pub(super) struct PullHead(pub(super) Activation);
impl Kernel for PullHead {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = self.0.derivative(update[0]) * read[0];
    }
}
