//! Activation normalization.

use inn_core::kernel::UNIFORMS;
use inn_core::shape::Window;
use inn_core::{
    Access, Backend, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, Param, Result, Scalar, Scope, Setup, Shape,
    Tensor, Update, View, ViewMut,
};

/// Activation normalization: one scale and one bias a channel (Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.1).
///
/// ```text
/// y = s ⊙ x + b          x = (y - b) / s          ℓ = N Σ_c ln|s_c|
/// ```
/// with N the pixels of a channel; ℓ is the same for all samples. For cotangents g of y and λ of ℓ:
/// ```text
/// gx = s ⊙ g,    gs_c = Σ g x + Σ_b λ_b N / s_c,    gb_c = Σ g        (sums over samples and pixels)
/// ```
/// and for the inverse map, with a = gx / s: gy = a, gs = -Σ a x - Σ_b λ_b N / s, gb = -Σ a.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | x, y | `x`, `y` | (B, C, ..) |
/// | s, b | `scale`, `bias` | (C) |
///
/// It starts as the identity. [`initialize`](Invertible::initialize) sets s and b so that its output has mean 0 and variance 1
/// (divisor count - 1) on the batch it is shown; a channel whose standard deviation is below 10⁻⁶ is scaled as if it were 10⁻⁶.
#[derive(Clone, Debug)]
pub struct ActNorm {
    pub(crate) scale: Param,
    pub(crate) bias: Param,
    channels: usize,
}

/// Smallest standard deviation that initialization divides by.
const SMALLEST_DEVIATION: f64 = 1e-6;

impl ActNorm {
    /// Declares `scale` and `bias` for `channels` channels.
    ///
    /// # Errors
    /// No channels.
    pub fn new(scope: &mut Scope<'_>, channels: usize) -> Result<Self> {
        let scale = scope.vector("scale", channels, Init::Constant(1.0))?;
        let bias = scope.vector("bias", channels, Init::Constant(0.0))?;
        Ok(Self { scale, bias, channels })
    }
}

impl Invertible for ActNorm {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.scale)?;
        facts.param(self.bias)?;
        if input.channels() != self.channels {
            return Err(Error::shape("input of ActNorm", format!("{} channels", self.channels), input));
        }
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (shape, backend) = (x.shape(), at.backend());
        let (scale, bias) = (at.param(self.scale)?, at.param(self.bias)?);
        let read = [scale.over_pixels(shape), bias.over_pixels(shape)];
        backend.zip(&Normalize(dir), shape, &read, &mut [x.update()], &mut [], &mut [])?;
        let rows = Shape::rows(shape.batch(), shape.channels());
        let kernel = LogScale(dir.sign() * shape.pixels() as f64);
        backend.zip(&kernel, rows, &[scale.over_pixels(rows)], &mut [], &mut [], &mut [logdet.update()])
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
        let (shape, backend) = (y.shape(), at.backend());
        let (scale, bias) = (at.param(self.scale)?, at.param(self.bias)?);
        let read = [scale.over_pixels(shape), bias.over_pixels(shape)];
        let sums = grads.theta.update(&[self.scale, self.bias])?;
        backend.zip(&PullNormalize(dir), shape, &read, &mut [y.update(), gy.update()], &mut [sums], &mut [])?;
        let rows = Shape::rows(shape.batch(), shape.channels());
        let kernel = PullLogScale(dir.sign() * shape.pixels() as f64);
        let read = [scale.over_pixels(rows), gl.over_channels(rows)];
        backend.zip(&kernel, rows, &read, &mut [], &mut [grads.theta.update(&[self.scale])?], &mut [])
    }

    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let (shape, backend) = (x.shape(), at.theta.backend().clone());
        let count = (shape.batch() * shape.pixels()) as f64;
        // Two passes, since E x² - (E x)² cancels where the mean is large.
        let mut sums = Tensor::zeros(&backend, Shape::rows(2, shape.channels()))?;
        let row = |i| Window::contiguous(Shape::per_channel(shape.channels()), i * shape.channels());
        let mean = Update::new(sums.buffer_mut(), Access::ReadWrite, &[row(0)]);
        backend.zip(&Mean(1.0 / count), shape, &[x.view()], &mut [], &mut [mean], &mut [])?;
        let center = {
            let mut center = Tensor::scratch(&backend, Shape::per_channel(shape.channels()))?;
            center.view_mut().assign(&backend, View::new(sums.buffer(), row(0))?)?;
            center
        };
        let variance = Update::new(sums.buffer_mut(), Access::ReadWrite, &[row(1)]);
        let read = [x.view(), center.view().over_pixels(shape)];
        backend.zip(&Variance(1.0 / (count - 1.0).max(1.0)), shape, &read, &mut [], &mut [variance], &mut [])?;
        let read = [View::new(sums.buffer(), row(0))?, View::new(sums.buffer(), row(1))?];
        let update = at.theta.update(&[self.scale, self.bias])?;
        backend.zip(&Standardize(dir), Shape::per_channel(shape.channels()), &read, &mut [update], &mut [], &mut [])?;
        let mut logdet = Tensor::zeros(&backend, Shape::per_sample(shape.batch()))?;
        self.map(dir, &at.inputs(shape.batch()), x, &mut logdet.view_mut())
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Normalize(pub(crate) Direction);
impl Kernel for Normalize {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (s, b, x) = (read[0], read[1], update[0]);
        update[0] = match self.0 {
            Direction::Forward => s * x + b,
            Direction::Inverse => (x - b) / s,
        };
    }
}

#[derive(Clone, Copy)]
pub(crate) struct PullNormalize(pub(crate) Direction);
impl Kernel for PullNormalize {
    const READ: usize = 2;
    const UPDATE: usize = 2;
    const CHANNEL_SUMS: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], sums: &mut [T], _: &mut [T]) {
        let (s, b) = (read[0], read[1]);
        match self.0 {
            Direction::Forward => {
                let (y, g) = (update[0], update[1]);
                let x = (y - b) / s;
                (update[0], update[1]) = (x, s * g);
                (sums[0], sums[1]) = (g * x, g);
            }
            Direction::Inverse => {
                let (x, a) = (update[0], update[1] / s);
                (update[0], update[1]) = (s * x + b, a);
                (sums[0], sums[1]) = (-(a * x), -a);
            }
        }
    }
}

/// ± N ln|s|, summed over the channels of every sample.
#[derive(Clone, Copy)]
pub(crate) struct LogScale(pub(crate) f64);
impl Kernel for LogScale {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = u[0] * read[0].abs().ln();
    }
}

/// ± N λ / s, summed over the samples.
#[derive(Clone, Copy)]
pub(crate) struct PullLogScale(pub(crate) f64);
impl Kernel for PullLogScale {
    const READ: usize = 2;
    const UPDATE: usize = 0;
    const CHANNEL_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], sums: &mut [T], _: &mut [T]) {
        sums[0] = u[0] * read[1] / read[0];
    }
}

#[derive(Clone, Copy)]
struct Mean(f64);
impl Kernel for Mean {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const CHANNEL_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], sums: &mut [T], _: &mut [T]) {
        sums[0] = u[0] * read[0];
    }
}

#[derive(Clone, Copy)]
struct Variance(f64);
impl Kernel for Variance {
    const READ: usize = 2;
    const UPDATE: usize = 0;
    const CHANNEL_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], sums: &mut [T], _: &mut [T]) {
        sums[0] = u[0] * (read[0] - read[1]).square();
    }
}

/// Scale and bias from mean and variance, so that the map taken standardizes.
#[derive(Clone, Copy)]
struct Standardize(Direction);
impl Kernel for Standardize {
    const READ: usize = 2;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let mean = read[0];
        let deviation = read[1].sqrt().max(T::constant(SMALLEST_DEVIATION));
        (update[0], update[1]) = match self.0 {
            Direction::Forward => (T::one() / deviation, -mean / deviation),
            Direction::Inverse => (deviation, mean),
        };
    }
}
