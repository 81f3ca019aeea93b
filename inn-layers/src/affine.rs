//! A scale and a shift for every value of a sample.

use crate::actnorm::{LogScale, Normalize, PullLogScale, PullNormalize};
use inn_core::error::expect_shape;
use inn_core::{
    Access, Backend, Direction, Facts, Gradients, Init, Inputs, Invertible, Param, Result, Scope, Shape, Tensor, Update, View, ViewMut,
    Window,
};

/// An affine map of every pixel of every channel, with parameters of its own for each.
///
/// ```text
/// y = s ⊙ x + b          x = (y - b) / s          ℓ = Σ_{c,p} ln|s_cp|
/// ```
/// ℓ is the same for all samples. For cotangents g of y and λ of ℓ:
/// ```text
/// gx = s ⊙ g,    gs = Σ_b g x + Σ_b λ_b / s,    gb = Σ_b g
/// ```
/// and for the inverse map, with a = gx / s: gy = a, gs = -Σ_b a x - Σ_b λ_b / s, gb = -Σ_b a. A sample is one row of C N values to it, so these
/// are the formulas of [`ActNorm`](crate::ActNorm) on rows.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | x, y | `x`, `y` | (B, C, n..) |
/// | s, b | `scale`, `bias` | (C, n..) |
///
/// It starts as the identity. The original starts s at random numbers around 0, so that its inverse is ill-conditioned from the beginning.
#[derive(Clone, Debug)]
pub struct AffineLayer {
    scale: Param,
    bias: Param,
    sample: Shape,
}

impl AffineLayer {
    /// Declares `scale` and `bias` for samples of `channels` channels with the extents `spatial`, 0 to 3 of them.
    ///
    /// # Errors
    /// A zero, or more than three extents.
    pub fn new(scope: &mut Scope<'_>, channels: usize, spatial: &[usize]) -> Result<Self> {
        let sample = Shape::new(1, channels, spatial)?;
        let mut declare = |name: &str, value: f64| match spatial {
            [] => scope.vector(name, channels, Init::Constant(value)),
            [first, rest @ ..] => scope.weight(name, channels, *first, rest, Init::Constant(value)),
        };
        Ok(Self { scale: declare("scale", 1.0)?, bias: declare("bias", 0.0)?, sample })
    }

    /// The values of a parameter as one row; they lie without gaps.
    fn row(&self, offset: usize) -> Window {
        Window::contiguous(Shape::per_channel(self.sample.sample_len()), offset)
    }

    fn read<'a, B: Backend>(&self, at: &Inputs<'a, B>, param: Param) -> Result<View<'a, B>> {
        let view = at.param(param)?;
        View::new(view.buffer(), self.row(view.window().offset))
    }

    fn update<'a, B: Backend>(&self, grads: &'a mut Gradients<'_, B>, params: &[Param]) -> Result<Update<'a, B>> {
        let mut windows = Vec::with_capacity(params.len());
        for &param in params {
            windows.push(self.row(grads.theta.layout().entry(param)?.window().offset));
        }
        Ok(Update::new(grads.theta.buffer_mut(), Access::ReadWrite, &windows))
    }

    fn rows(&self, shape: Shape) -> Shape {
        Shape::rows(shape.batch(), shape.sample_len())
    }
}

impl Invertible for AffineLayer {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.scale)?;
        facts.param(self.bias)?;
        expect_shape("input of AffineLayer", self.sample.with_batch(input.batch()), input)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (rows, batch, backend) = (self.rows(x.shape()), x.shape().batch(), at.backend());
        let (scale, bias) = (self.read(at, self.scale)?, self.read(at, self.bias)?);
        let mut x = x.reborrow();
        x.reshape(rows)?;
        let read = [scale.over_pixels(rows), bias.over_pixels(rows)];
        backend.zip(&Normalize(dir), rows, &read, &mut [x.update()], &mut [], &mut [])?;
        let mut sum = Tensor::zeros(backend, Shape::per_sample(1))?;
        let kernel = LogScale(dir.sign());
        backend.zip(&kernel, scale.shape(), &[scale], &mut [], &mut [], &mut [sum.view_mut().update()])?;
        logdet.axpy(backend, 1.0, sum.view().repeat(batch))
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (rows, backend) = (self.rows(y.shape()), at.backend());
        let (scale, bias) = (self.read(at, self.scale)?, self.read(at, self.bias)?);
        let (mut y, mut gy) = (y.reborrow(), gy.reborrow());
        y.reshape(rows)?;
        gy.reshape(rows)?;
        let read = [scale.over_pixels(rows), bias.over_pixels(rows)];
        let sums = self.update(grads, &[self.scale, self.bias])?;
        backend.zip(&PullNormalize(dir), rows, &read, &mut [y.update(), gy.update()], &mut [sums], &mut [])?;
        let read = [scale.over_pixels(rows), gl.over_channels(rows)];
        let sums = self.update(grads, &[self.scale])?;
        backend.zip(&PullLogScale(dir.sign()), rows, &read, &mut [], &mut [sums], &mut [])
    }
}
