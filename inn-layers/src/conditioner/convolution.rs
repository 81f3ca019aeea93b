//! A convolution with its parameters, the unit that conditioners are made of.

use super::Ports;
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Conv, Error, Facts, Gradients, Init, Inputs, Kernel, Param, Result, Scalar, Scope, Shape, Tensor, View, ViewMut, Write,
};
use inn_ops::{Activation, pointwise};

/// W * x (+ W_c * condition): a weight whose inputs are the channels of x and, after them, those of a condition.
///
/// Both are read where they lie: the sum over inputs is two accumulations with two windows of one weight, so state and condition are never
/// concatenated. The gradient of the condition comes from the same two calls.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    weight: Param,
    conv: Conv,
    ports: Ports,
}

impl Convolution {
    pub(super) fn new(scope: &mut Scope<'_>, ports: Ports, kernel: usize, conv: Conv, init: Init) -> Result<Self> {
        if ports.rank > 3 {
            return Err(Error::config("rank", format!("expected 0 to 3 spatial axes, got {}", ports.rank)));
        }
        let inputs = ports.inputs + ports.condition.map_or(0, |(_, channels)| channels);
        let weight = scope.weight("weight", ports.outputs, inputs, &[kernel; 3][..ports.rank], init)?;
        Ok(Self { weight, conv, ports })
    }

    /// The weight.
    pub(super) fn weight(&self) -> Param {
        self.weight
    }

    /// Stride and padding.
    pub(super) fn conv(&self) -> Conv {
        self.conv
    }

    /// The gate; answers the output's shape.
    pub(super) fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if input.channels() != self.ports.inputs || input.rank() != self.ports.rank {
            let expected = format!("{} channels and {} spatial axes", self.ports.inputs, self.ports.rank);
            return Err(Error::shape("input of a conditioner", expected, input));
        }
        if let Some((index, channels)) = self.ports.condition {
            let shape = facts.condition("conditioner", index, input.batch())?;
            let expected = input.with_channels(channels).with_batch(shape.batch());
            inn_core::error::expect_shape(&format!("condition {index}"), expected, shape)?;
        }
        let weight = facts.param(self.weight)?;
        self.conv.output(input, weight.with_channels(self.ports.inputs))
    }

    /// The output's shape, once the gate has passed.
    pub(super) fn output(&self, input: Shape, weight: Shape) -> Result<Shape> {
        self.conv.output(input, weight.with_channels(self.ports.inputs))
    }

    fn weights<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<(usize, usize)> {
        let inputs = at.param(self.weight)?.shape().channels();
        Ok((self.ports.inputs, inputs))
    }

    /// y = W * x.
    pub(super) fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, y: &mut ViewMut<'_, B>) -> Result<()> {
        let (own, all) = self.weights(at)?;
        let w = at.param(self.weight)?;
        at.backend().conv(self.conv, x, w.channels(0..own), y, Write::Set)?;
        match self.ports.condition {
            Some((index, _)) => at.backend().conv(self.conv, at.condition(index)?, w.channels(own..all), y, Write::Add),
            None => Ok(()),
        }
    }

    /// A fresh tensor for the output.
    pub(super) fn scratch<B: Backend>(&self, at: &Inputs<'_, B>, input: Shape) -> Result<Tensor<B>> {
        Tensor::scratch(at.backend(), self.output(input, at.param(self.weight)?.shape())?)
    }

    /// gW += the gradient of <gy, W * x>, and the gradients of x (added) and of the condition.
    pub(super) fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        gy: View<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        self.vjp_weight(at, x, gy, grads)?;
        let own = self.ports.inputs;
        at.backend().conv_input(self.conv, gy, at.param(self.weight)?.channels(0..own), gx, Write::Add)
    }

    /// The part of [`vjp`](Self::vjp) that leaves x alone.
    pub(super) fn vjp_weight<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        gy: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (own, all) = self.weights(at)?;
        let backend = at.backend();
        backend.conv_weight(self.conv, x, gy, &mut grads.param(self.weight)?.channels(0..own), Write::Add)?;
        if let Some((index, _)) = self.ports.condition {
            let condition = at.condition(index)?;
            backend.conv_weight(self.conv, condition, gy, &mut grads.param(self.weight)?.channels(own..all), Write::Add)?;
            let mut gc = grads.condition(index, at.samples.clone())?;
            backend.conv_input(self.conv, gy, at.param(self.weight)?.channels(own..all), &mut gc, Write::Add)?;
        }
        Ok(())
    }

    /// x = Wᵀ * y with the extents of `x`: the transposed convolution of the same weight.
    pub(super) fn transposed<B: Backend>(&self, at: &Inputs<'_, B>, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        at.backend().conv_input(self.conv, y, at.param(self.weight)?, x, write)
    }

    /// The vjp of [`transposed`](Self::transposed): gW += , and gy = W * gx, overwritten.
    pub(super) fn transposed_vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        y: View<'_, B>,
        gx: View<'_, B>,
        gy: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        at.backend().conv_weight(self.conv, gx, y, &mut grads.param(self.weight)?, Write::Add)?;
        at.backend().conv(self.conv, gx, at.param(self.weight)?, gy, Write::Set)
    }
}

/// y += b, x = ρ(y).
#[derive(Clone, Copy)]
pub(super) struct BiasActivate(pub(super) Activation);
impl Kernel for BiasActivate {
    const READ: usize = 1;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + read[0];
        update[1] = self.0.value(update[0]);
    }
}

/// y += b.
#[derive(Clone, Copy)]
pub(super) struct AddBias;
impl Kernel for AddBias {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + read[0];
    }
}

/// g = ρ'(y) g, and its sum per channel: the gradient of the bias.
#[derive(Clone, Copy)]
pub(super) struct PullActivation(pub(super) Activation);
impl Kernel for PullActivation {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    const CHANNEL_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], sums: &mut [T], _: &mut [T]) {
        update[0] = self.0.derivative(read[0]) * update[0];
        sums[0] = update[0];
    }
}

/// The sum of g per channel: the gradient of a bias without an activation.
#[derive(Clone, Copy)]
pub(super) struct SumChannels;
impl Kernel for SumChannels {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const CHANNEL_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], _: &mut [T], sums: &mut [T], _: &mut [T]) {
        sums[0] = read[0];
    }
}

/// x = ρ(y) as a fresh tensor.
pub(super) fn activated<B: Backend>(backend: &B, activation: Activation, y: &Tensor<B>) -> Result<Tensor<B>> {
    let mut x = Tensor::scratch(backend, y.shape())?;
    activate_into(backend, activation, y, &mut x)?;
    Ok(x)
}

/// x = ρ(y) in place of what x held.
pub(super) fn activate_into<B: Backend>(backend: &B, activation: Activation, y: &Tensor<B>, x: &mut Tensor<B>) -> Result<()> {
    pointwise::activate(backend, activation, y.view(), &mut x.view_mut())
}

/// g = ρ'(y) g; the bias takes the sums.
pub(super) fn pull_activation<B: Backend>(
    backend: &B,
    activation: Activation,
    y: &Tensor<B>,
    g: &mut Tensor<B>,
    bias: Param,
    grads: &mut Gradients<'_, B>,
) -> Result<()> {
    let shape = y.shape();
    let sums = grads.theta.update(&[bias])?;
    backend.zip(&PullActivation(activation), shape, &[y.view()], &mut [g.view_mut().update()], &mut [sums], &mut [])
}

/// y += b in place.
pub(super) fn add_bias<B: Backend>(at: &Inputs<'_, B>, bias: Param, y: &mut ViewMut<'_, B>) -> Result<()> {
    let shape = y.shape();
    at.backend().zip(&AddBias, shape, &[at.param(bias)?.over_pixels(shape)], &mut [y.update()], &mut [], &mut [])
}
