//! The operator that changes nothing.

use crate::gate::{Ends, put};
use inn_core::{Backend, LinearOperator, Result, Shape, View, ViewMut, Write};
use std::marker::PhantomData;

/// A x = x. Its own adjoint.
///
/// A shape of batch 1 stands for any batch.
/// ```
/// use inn_core::{Shape, Tensor, Write};
/// use inn_linop::{Identity, LinearOperator};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f32>::new();
/// let shape = Shape::new(2, 3, &[])?;
/// let x = Tensor::full(&cpu, shape, 5.0)?;
/// let mut y = Tensor::zeros(&cpu, shape)?;
/// Identity::new(Shape::per_channel(3)).apply(&cpu, x.view(), &mut y.view_mut(), Write::Set)?;
/// assert_eq!(y.slice(), x.slice());
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Identity<B> {
    shape: Shape,
    backend: PhantomData<fn() -> B>,
}

impl<B: Backend> Identity<B> {
    /// On tensors of `shape`.
    pub fn new(shape: Shape) -> Self {
        Self { shape, backend: PhantomData }
    }
}

impl<B: Backend> LinearOperator<B> for Identity<B> {
    fn domain(&self) -> Shape {
        self.shape
    }
    fn range(&self) -> Shape {
        self.shape
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        Ends::of(self).check("identity", false, x.shape(), y.shape())?;
        put(backend, 1.0, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.apply(backend, y, x, write)
    }
}
