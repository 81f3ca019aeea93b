//! The one gate of this crate's operators: domain, range and batch of a product.

use inn_core::{Backend, Error, LinearOperator, Result, Shape, View, ViewMut, Window, Write};

/// Where an operator starts and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub domain: Shape,
    pub range: Shape,
    /// It treats each sample alike: the shapes are those of one sample, and any batch may come.
    pub per_sample: bool,
}

impl Ends {
    pub fn per_sample(domain: Shape, range: Shape) -> Self {
        Self { domain, range, per_sample: domain.batch() == 1 && range.batch() == 1 }
    }

    pub fn of<B: Backend>(a: &impl LinearOperator<B>) -> Self {
        Self::per_sample(a.domain(), a.range())
    }

    /// The same for a fixed batch, where the operator leaves the batch open.
    pub fn lift(self, batch: usize) -> Self {
        if self.per_sample && batch != 1 {
            Self { domain: self.domain.with_batch(batch), range: self.range.with_batch(batch), per_sample: false }
        } else {
            self
        }
    }

    pub fn turned(self, adjoint: bool) -> Self {
        if adjoint { Self { domain: self.range, range: self.domain, ..self } } else { self }
    }

    /// Checks input and output of A x, or of Aᵀ y when `adjoint`.
    pub fn check(self, name: &str, adjoint: bool, input: Shape, output: Shape) -> Result<()> {
        let Self { domain, range, per_sample } = self.turned(adjoint);
        let name = if adjoint { format!("adjoint of {name}") } else { name.to_owned() };
        let batch = if per_sample { input.batch() } else { domain.batch() };
        if input != domain.with_batch(batch) {
            let any = if per_sample { " with any batch" } else { "" };
            return Err(Error::shape(format!("input of the {name}"), format!("{domain}{any}"), input));
        }
        let expected = if per_sample { range.with_batch(batch) } else { range };
        if output != expected {
            return Err(Error::shape(format!("output of the {name}"), expected, output));
        }
        Ok(())
    }
}

/// y (+)= A x, or Aᵀ x when `adjoint`.
pub(crate) fn product<B: Backend>(
    a: &impl LinearOperator<B>,
    adjoint: bool,
    backend: &B,
    x: View<'_, B>,
    y: &mut ViewMut<'_, B>,
    write: Write,
) -> Result<()> {
    if adjoint { a.apply_adjoint(backend, x, y, write) } else { a.apply(backend, x, y, write) }
}

/// y (+)= a x.
pub(crate) fn put<B: Backend>(backend: &B, a: f64, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
    match write {
        Write::Add => y.axpy(backend, a, x),
        Write::Set => {
            y.assign(backend, x)?;
            if a == 1.0 { Ok(()) } else { scale(backend, a, y) }
        }
    }
}

/// y = a y.
pub(crate) fn scale<B: Backend>(backend: &B, a: f64, y: &mut ViewMut<'_, B>) -> Result<()> {
    let shape = y.shape();
    backend.zip(&inn_core::kernel::blas::Scale(a), shape, &[], &mut [y.update()], &mut [], &mut [])
}

fn piece(all: Window, start: usize, shape: Shape) -> Result<Window> {
    if all.pixel_stride != 1 && all.shape.len() > 1 {
        return Err(Error::shape("flat vector", "entries without gaps", format!("{all:?}")));
    }
    Ok(Window::contiguous(shape, all.offset + start))
}

/// A part of a flat vector, seen as a tensor.
pub(crate) fn flat_piece<B: Backend>(x: View<'_, B>, start: usize, shape: Shape) -> Result<View<'_, B>> {
    View::new(x.buffer(), piece(x.window(), start, shape)?)
}

/// The same to write.
pub(crate) fn flat_piece_mut<'b, B: Backend>(x: &'b mut ViewMut<'_, B>, start: usize, shape: Shape) -> Result<ViewMut<'b, B>> {
    let window = piece(x.window(), start, shape)?;
    ViewMut::new(x.buffer_mut(), window)
}
