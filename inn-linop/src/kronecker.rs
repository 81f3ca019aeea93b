//! A product of two operators on two axes.

use crate::gate::{Ends, product, put};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, Tensor, View, ViewMut, Window, Write};

/// (A ⊗ C) x: A along the channels and C along the pixels of every sample, `Y = A X Cᵀ` with X the (channels, pixels) matrix of a sample.
///
/// Adjoint Aᵀ ⊗ Cᵀ. A product takes scratch of twice the sizes in between: channels are copied behind each other, and back.
/// ```
/// use inn_core::{Shape, Tensor, Write};
/// use inn_linop::{Kronecker, LinearOperator, Matrix};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// // The sum of two channels, and the difference of neighbours along three pixels.
/// let sum = Matrix::new(&cpu, 1, 2, &[1.0, 1.0])?;
/// let difference = Matrix::new(&cpu, 2, 3, &[-1.0, 1.0, 0.0, 0.0, -1.0, 1.0])?.between(Shape::new(1, 1, &[3])?, Shape::new(1, 1, &[2])?)?;
/// let both = Kronecker::new::<Cpu<f64>>(sum, difference)?;
/// let x = Tensor::from_f64(&cpu, both.domain(), &[1.0, 2.0, 4.0, 10.0, 20.0, 40.0])?;
/// let mut y = Tensor::zeros(&cpu, both.range())?;
/// both.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set)?;
/// assert_eq!(y.slice(), [11.0, 22.0]);
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kronecker<A, C> {
    channels: A,
    pixels: C,
    ends: Ends,
}

impl<A, C> Kronecker<A, C> {
    /// `channels` between dense samples, `(1, m)`; `pixels` between single channels, `(1, 1, ..)`.
    ///
    /// # Errors
    /// Operators of another batch than 1 (each sample alike), of spatial axes in `channels`, or of several channels in `pixels`.
    pub fn new<B: Backend>(channels: A, pixels: C) -> Result<Self>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        for (name, shape) in [("domain", channels.domain()), ("range", channels.range())] {
            if shape.batch() != 1 || shape.rank() != 0 {
                return Err(Error::shape(format!("{name} of the operator along channels"), "one dense sample, (1, m)", shape));
            }
        }
        for (name, shape) in [("domain", pixels.domain()), ("range", pixels.range())] {
            if shape.batch() != 1 || shape.channels() != 1 {
                return Err(Error::shape(format!("{name} of the operator along pixels"), "one sample of one channel", shape));
            }
        }
        let domain = pixels.domain().with_channels(channels.domain().channels());
        let range = pixels.range().with_channels(channels.range().channels());
        Ok(Self { channels, pixels, ends: Ends::per_sample(domain, range) })
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        self.ends.check("Kronecker product", adjoint, x.shape(), y.shape())?;
        let (batch, from, to) = (x.shape().batch(), x.shape(), y.shape());
        let (line, out) = if adjoint { (self.pixels.range(), self.pixels.domain()) } else { (self.pixels.domain(), self.pixels.range()) };
        // X Cᵀ, each channel a sample of C.
        let mut lines = Tensor::scratch(backend, line.with_batch(batch * from.channels()))?;
        rows(&mut lines, from)?.assign(backend, x)?;
        let mut images = Tensor::scratch(backend, out.with_batch(batch * from.channels()))?;
        product(&self.pixels, adjoint, backend, lines.view(), &mut images.view_mut(), Write::Set)?;
        // A (..), each pixel a sample of A.
        let (pixels, middle) = (out.pixels(), to.with_channels(from.channels()));
        let mut columns = Tensor::scratch(backend, Shape::rows(batch * pixels, from.channels()))?;
        for b in 0..batch {
            // Read with the axes turned; written in order.
            let window = Window {
                shape: Shape::rows(pixels, from.channels()),
                offset: b * middle.sample_len(),
                batch_stride: 1,
                channel_stride: pixels,
                pixel_stride: 1,
            };
            columns.view_mut().samples(b * pixels..(b + 1) * pixels).assign(backend, View::new(images.buffer(), window)?)?;
        }
        let mut mixed = Tensor::scratch(backend, Shape::rows(batch * pixels, to.channels()))?;
        product(&self.channels, adjoint, backend, columns.view(), &mut mixed.view_mut(), Write::Set)?;
        put(backend, 1.0, View::new(mixed.buffer(), turned(to))?, y, write)
    }
}

/// The lines of a tensor, seen as the samples of `shape` that they are channels of.
fn rows<B: Backend>(lines: &mut Tensor<B>, shape: Shape) -> Result<ViewMut<'_, B>> {
    ViewMut::new(lines.buffer_mut(), Window::contiguous(shape, 0))
}

/// A tensor (batch pixels, channels), seen as (batch, channels, pixels).
fn turned(shape: Shape) -> Window {
    Window { shape, offset: 0, batch_stride: shape.sample_len(), channel_stride: 1, pixel_stride: shape.channels() }
}

impl<B: Backend, A: LinearOperator<B>, C: LinearOperator<B>> LinearOperator<B> for Kronecker<A, C> {
    fn domain(&self) -> Shape {
        self.ends.domain
    }
    fn range(&self) -> Shape {
        self.ends.range
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(false, backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(true, backend, y, x, write)
    }
}
