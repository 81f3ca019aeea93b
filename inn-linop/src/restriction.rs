//! Parts of a vector.

use crate::gate::{Ends, put};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, View, ViewMut, Window, Write};
use std::marker::PhantomData;
use std::ops::Range;

/// R x = a range of x: channels of a tensor, or entries of a flat vector. Its adjoint puts the range back among zeros.
///
/// R Rᵀ = I, and Rᵀ R is the projection on the range. Entries that lie scattered are picked by a [`Diagonal`](crate::Diagonal) of zeros and
/// ones.
/// ```
/// use inn_core::{Shape, Tensor, Write};
/// use inn_linop::{LinearOperator, Restriction};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let r = Restriction::entries(5, 1..3)?;
/// let x = Tensor::from_f64(&cpu, r.domain(), &[1.0, 2.0, 3.0, 4.0, 5.0])?;
/// let mut y = Tensor::zeros(&cpu, r.range())?;
/// r.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set)?;
/// assert_eq!(y.slice(), [2.0, 3.0]);
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Restriction<B> {
    domain: Shape,
    range: Shape,
    part: Part,
    backend: PhantomData<fn() -> B>,
}

#[derive(Clone, Debug)]
enum Part {
    Channels(Range<usize>),
    Entries(Range<usize>),
}

impl<B: Backend> Restriction<B> {
    /// Channels of tensors of `shape`.
    ///
    /// # Errors
    /// A range that is empty or reaches past the channels.
    pub fn channels(shape: Shape, channels: Range<usize>) -> Result<Self> {
        inside("channels of a restriction", &channels, shape.channels())?;
        let range = shape.with_channels(channels.len());
        Ok(Self { domain: shape, range, part: Part::Channels(channels), backend: PhantomData })
    }

    /// Entries of a flat vector of `len`.
    ///
    /// # Errors
    /// A range that is empty or reaches past the end.
    pub fn entries(len: usize, entries: Range<usize>) -> Result<Self> {
        inside("entries of a restriction", &entries, len)?;
        let range = Shape::flat(entries.len());
        Ok(Self { domain: Shape::flat(len), range, part: Part::Entries(entries), backend: PhantomData })
    }

    fn window(&self, all: Window) -> Window {
        match &self.part {
            Part::Channels(range) => all.channels(range.clone()),
            Part::Entries(range) => Window { shape: Shape::flat(range.len()), offset: all.offset + range.start * all.pixel_stride, ..all },
        }
    }
}

fn inside(name: &str, range: &Range<usize>, len: usize) -> Result<()> {
    if range.start < range.end && range.end <= len {
        return Ok(());
    }
    Err(Error::shape(name, format!("a range that is not empty, within 0..{len}"), format!("{range:?}")))
}

impl<B: Backend> LinearOperator<B> for Restriction<B> {
    fn domain(&self) -> Shape {
        self.domain
    }
    fn range(&self) -> Shape {
        self.range
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        Ends::of(self).check("restriction", false, x.shape(), y.shape())?;
        put(backend, 1.0, View::new(x.buffer(), self.window(x.window()))?, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        Ends::of(self).check("restriction", true, y.shape(), x.shape())?;
        if write == Write::Set {
            x.fill(backend, 0.0)?;
        }
        let window = self.window(x.window());
        ViewMut::new(x.buffer_mut(), window)?.axpy(backend, 1.0, y)
    }
}
