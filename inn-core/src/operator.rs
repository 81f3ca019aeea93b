//! Linear operators as layers see them: forward and adjoint, matrix-free. Their algebra lives in `inn-linop`.

use crate::backend::{Backend, Write};
use crate::error::Result;
use crate::shape::Shape;
use crate::view::{View, ViewMut};

/// A linear map A between tensors, known by its products `A x` and `A^T y` alone.
///
/// `<A x, y> = <x, A^T y>` has to hold exactly (up to rounding); [`verify`](crate::verify) tests it.
pub trait LinearOperator<B: Backend>: Send + Sync {
    /// Shape of x. An operator that treats each sample alike is called with any batch and states the shape of one sample.
    fn domain(&self) -> Shape;

    /// Shape of A x.
    fn range(&self) -> Shape;

    /// y (+)= A x.
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>;

    /// x (+)= A^T y.
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()>;
}

impl<B: Backend, A: LinearOperator<B> + ?Sized> LinearOperator<B> for &A {
    fn domain(&self) -> Shape {
        (**self).domain()
    }
    fn range(&self) -> Shape {
        (**self).range()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        (**self).apply(backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        (**self).apply_adjoint(backend, y, x, write)
    }
}

impl<B: Backend, A: LinearOperator<B> + ?Sized> LinearOperator<B> for Box<A> {
    fn domain(&self) -> Shape {
        (**self).domain()
    }
    fn range(&self) -> Shape {
        (**self).range()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        (**self).apply(backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        (**self).apply_adjoint(backend, y, x, write)
    }
}
