//! Vectors of a Krylov method.

use inn_core::kernel::blas;
use inn_core::{Backend, LinearOperator, Result, Shape, Tensor, Write};

/// <a, b>; waits for the device.
pub(crate) fn dot<B: Backend>(a: &Tensor<B>, b: &Tensor<B>) -> Result<f64> {
    let backend = a.backend();
    let mut sums = Tensor::zeros(backend, Shape::per_sample(a.shape().batch()))?;
    backend.zip(&blas::Dot, a.shape(), &[a.view(), b.view()], &mut [], &mut [], &mut [sums.view_mut().update()])?;
    Ok(sums.to_f64()?.iter().sum())
}

/// |a|; waits for the device.
pub(crate) fn norm<B: Backend>(a: &Tensor<B>) -> Result<f64> {
    Ok(dot(a, a)?.sqrt())
}

/// y += a x.
pub(crate) fn axpy<B: Backend>(y: &mut Tensor<B>, a: f64, x: &Tensor<B>) -> Result<()> {
    let backend = x.backend().clone();
    y.view_mut().axpy(&backend, a, x.view())
}

/// y = a y + x.
pub(crate) fn scaled_into<B: Backend>(y: &mut Tensor<B>, a: f64, x: &Tensor<B>) -> Result<()> {
    times(y, a)?;
    axpy(y, 1.0, x)
}

/// y = a y.
pub(crate) fn times<B: Backend>(y: &mut Tensor<B>, a: f64) -> Result<()> {
    let backend = y.backend().clone();
    crate::gate::scale(&backend, a, &mut y.view_mut())
}

/// A x, or Aᵀ x when `adjoint`.
pub(super) fn apply<B: Backend>(a: &impl LinearOperator<B>, adjoint: bool, x: &Tensor<B>, out: Shape) -> Result<Tensor<B>> {
    let backend = x.backend();
    let mut y = Tensor::scratch(backend, out)?;
    crate::gate::product(a, adjoint, backend, x.view(), &mut y.view_mut(), Write::Set)?;
    Ok(y)
}
