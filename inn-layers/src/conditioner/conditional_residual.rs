//! A residual block that reads data of another shape and rank.

use super::convolution::{SumChannels, add_bias};
use super::residual_block::PullHead;
use super::{Ports, ResidualBlock, ResidualConfig};
use inn_core::error::expect_shape;
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Param, Result, Saved, Scope, Shape, Tensor, View, ViewMut, Write,
};
use inn_ops::{Activation, pointwise};

/// A residual block on an image and on what a dense layer makes of a condition, such as the receiver data of an inverse problem (the
/// original's conditional residual block).
///
/// ```text
/// Y0 = W0ᵀ vec(d) + b0,    E = ρ(Y0) as an image,    out = R([x; E])
/// ```
/// with R a [`ResidualBlock`] on twice the channels of x. The condition d may have any shape and rank; the extents of x are fixed by W0.
///
/// # VJP
/// The block's own gives (gx, gE); then gY0 = ρ'(Y0) ⊙ gE, gb0 = Σ gY0, gW0 = Σ vec(d) gY0ᵀ, gd = W0 gY0.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | x, E | image | (B, C, n..) |
/// | d | condition | (B or 1, any) |
/// | W0, b0 | `embed.weight`, `embed.bias` | (values of d, C N), (C N) |
#[derive(Clone, Debug)]
pub struct ConditionalResidualBlock {
    weight: Param,
    bias: Param,
    block: ResidualBlock,
    activation: Activation,
    image: Shape,
    data: Shape,
    index: usize,
}

/// A matrix product.
const PRODUCT: Conv = Conv { stride: 1, padding: 0 };

impl ConditionalResidualBlock {
    /// Declares `embed` and the block's own parameters: from images of the shape `image` and condition `index` of the shape `data` (the batches
    /// do not matter) to `outputs` channels.
    ///
    /// # Errors
    /// Settings that are out of range, see [`ResidualBlock::new`].
    pub fn new(
        scope: &mut Scope<'_>,
        image: Shape,
        (index, data): (usize, Shape),
        outputs: usize,
        config: &ResidualConfig,
    ) -> Result<Self> {
        let mut embed = scope.sub("embed");
        let weight = embed.weight("weight", data.sample_len(), image.sample_len(), &[], Init::Glorot { gain: 1.0 })?;
        let bias = embed.vector("bias", image.sample_len(), Init::Constant(0.0))?;
        let block = ResidualBlock::new(scope, Ports::new(2 * image.channels(), outputs, image.rank()), config)?;
        Ok(Self { weight, bias, block, activation: config.activation, image, data, index })
    }

    /// The condition as rows, for the samples at hand.
    fn data<'a, B: Backend>(&self, at: &Inputs<'a, B>) -> Result<View<'a, B>> {
        let data = at.condition(self.index)?;
        data.reshape(self.rows(data.shape(), self.data))
    }

    fn rows(&self, like: Shape, sample: Shape) -> Shape {
        Shape::rows(like.batch(), sample.sample_len())
    }
}

impl Conditioner for ConditionalResidualBlock {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.weight)?;
        facts.param(self.bias)?;
        expect_shape("input of ConditionalResidualBlock", self.image.with_batch(input.batch()), input)?;
        let data = facts.condition("ConditionalResidualBlock", self.index, input.batch())?;
        expect_shape(&format!("condition {}", self.index), self.data.with_batch(data.batch()), data)?;
        self.block.check(facts, input.with_channels(2 * input.channels()))
    }

    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        // One sample of [x; E] for the block to look at; with Y0 and the cotangent of [x; E] it is held for all of them.
        let (shape, batch) = (x.shape(), x.shape().batch());
        let both = Tensor::scratch(at.backend(), shape.with_batch(1).with_channels(2 * shape.channels()))?;
        let block = self.block.hidden_bytes(&at.tile(0..1), both.view(), save)?;
        let own = if save { 5 } else { 3 } * shape.len() * size_of::<B::Elem>();
        Ok(batch * block + own)
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let (backend, shape) = (at.backend(), x.shape());
        let rows = self.rows(shape, self.image);
        let mut y0 = Tensor::scratch(backend, rows)?;
        backend.conv_input(PRODUCT, self.data(at)?, at.param(self.weight)?, &mut y0.view_mut(), Write::Set)?;
        add_bias(at, self.bias, &mut y0.view_mut())?;
        let y0 = y0.reshape(shape)?;

        let channels = shape.channels();
        let mut both = Tensor::scratch(backend, shape.with_channels(2 * channels))?;
        both.view_mut().channels(0..channels).assign(backend, x)?;
        pointwise::activate(backend, self.activation, y0.view(), &mut both.view_mut().channels(channels..2 * channels))?;
        let mut saved = self.block.forward(at, both.view(), out)?;
        saved.0.extend([both, y0]);
        Ok(saved)
    }

    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        mut saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (backend, shape) = (at.backend(), x.shape());
        let (Some(mut y0), Some(both)) = (saved.0.pop(), saved.0.pop()) else {
            return Err(Error::backend(backend.name(), "expected the values saved by forward"));
        };
        let channels = shape.channels();
        let mut g = Tensor::zeros(backend, both.shape())?;
        self.block.vjp(at, both.view(), saved, gout, &mut g.view_mut(), grads)?;
        drop(both);
        gx.axpy(backend, 1.0, g.view().channels(0..channels))?;

        let read = [g.view().channels(channels..2 * channels)];
        backend.zip(&PullHead(self.activation), shape, &read, &mut [y0.view_mut().update()], &mut [], &mut [])?;
        drop(g);
        let g0 = y0.reshape(self.rows(shape, self.image))?;
        let (data, rows) = (self.data(at)?, g0.shape());
        let sums = grads.theta.update(&[self.bias])?;
        backend.zip(&SumChannels, rows, &[g0.view()], &mut [], &mut [sums], &mut [])?;
        backend.conv_weight(PRODUCT, g0.view(), data, &mut grads.param(self.weight)?, Write::Add)?;
        let mut gd = grads.condition(self.index, at.samples.clone())?;
        gd.reshape(data.shape())?;
        backend.conv(PRODUCT, g0.view(), at.param(self.weight)?, &mut gd, Write::Add)
    }
}
