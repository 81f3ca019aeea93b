//! Multiplication by a tensor: masks, weights, gains.

use crate::gate::Ends;
use inn_core::kernel::UNIFORMS;
use inn_core::{Backend, Kernel, LinearOperator, Result, Scalar, Shape, Tensor, View, ViewMut, Write};

/// (A x)_i = d_i x_i. Its own adjoint.
///
/// Values of batch 1, such as a mask, act on each sample of any batch alike.
/// ```
/// use inn_core::{Shape, Tensor, Write};
/// use inn_linop::{Diagonal, LinearOperator};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let mask = Diagonal::new(Tensor::from_f64(&cpu, Shape::new(1, 1, &[4])?, &[1.0, 0.0, 0.0, 1.0])?);
/// let x = Tensor::full(&cpu, Shape::new(2, 1, &[4])?, 3.0)?;
/// let mut y = Tensor::zeros(&cpu, x.shape())?;
/// mask.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set)?;
/// assert_eq!(y.slice(), [3.0, 0.0, 0.0, 3.0, 3.0, 0.0, 0.0, 3.0]);
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Diagonal<B: Backend> {
    values: Tensor<B>,
}

impl<B: Backend> Diagonal<B> {
    /// With these values d.
    pub fn new(values: Tensor<B>) -> Self {
        Self { values }
    }

    /// The values d.
    pub fn values(&self) -> &Tensor<B> {
        &self.values
    }
}

/// y = d x, or y += d x.
#[derive(Clone, Copy)]
struct Multiply<const ADD: bool>;

impl<const ADD: bool> Kernel for Multiply<ADD> {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], r: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
        y[0] = if ADD { y[0] + r[0] * r[1] } else { r[0] * r[1] };
    }
}

impl<B: Backend> LinearOperator<B> for Diagonal<B> {
    fn domain(&self) -> Shape {
        self.values.shape()
    }
    fn range(&self) -> Shape {
        self.values.shape()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        let shape = x.shape();
        Ends::of(self).check("diagonal", false, shape, y.shape())?;
        let read = [self.values.view().repeat(shape.batch()), x];
        match write {
            Write::Set => backend.zip(&Multiply::<false>, shape, &read, &mut [y.set()], &mut [], &mut []),
            Write::Add => backend.zip(&Multiply::<true>, shape, &read, &mut [y.update()], &mut [], &mut []),
        }
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.apply(backend, y, x, write)
    }
}
