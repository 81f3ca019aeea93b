//! A number times an operator.

use crate::gate::{Ends, product, scale};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, Tensor, View, ViewMut, Write};

/// (a A) x = a (A x), with adjoint a Aᵀ.
///
/// Adding to the output takes a scratch tensor of its shape; overwriting it takes none.
#[derive(Clone, Copy, Debug)]
pub struct Scaled<A> {
    factor: f64,
    operator: A,
}

impl<A> Scaled<A> {
    /// `factor` times `operator`.
    ///
    /// # Errors
    /// A factor that is not finite.
    pub fn new(factor: f64, operator: A) -> Result<Self> {
        if factor.is_finite() {
            Ok(Self { factor, operator })
        } else {
            Err(Error::config("factor of a scaled operator", format!("expected a finite number, got {factor}")))
        }
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
    {
        Ends::of(&self.operator).check("scaled operator", adjoint, x.shape(), y.shape())?;
        match write {
            Write::Set => {
                product(&self.operator, adjoint, backend, x, y, Write::Set)?;
                scale(backend, self.factor, y)
            }
            Write::Add => {
                let mut term = Tensor::scratch(backend, y.shape())?;
                product(&self.operator, adjoint, backend, x, &mut term.view_mut(), Write::Set)?;
                y.axpy(backend, self.factor, term.view())
            }
        }
    }
}

impl<B: Backend, A: LinearOperator<B>> LinearOperator<B> for Scaled<A> {
    fn domain(&self) -> Shape {
        self.operator.domain()
    }
    fn range(&self) -> Shape {
        self.operator.range()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(false, backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(true, backend, y, x, write)
    }
}
