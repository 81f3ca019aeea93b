//! An operator seen from its other side.

use inn_core::{Backend, LinearOperator, Result, Shape, View, ViewMut, Write};

/// Aᵀ, with adjoint A. A view: it computes and copies nothing by itself.
#[derive(Clone, Copy, Debug)]
pub struct Adjoint<A>(pub A);

impl<A> Adjoint<A> {
    /// The adjoint of the adjoint: the operator itself.
    ///
    /// ```
    /// # use inn_linop::{Algebra, Matrix};
    /// # use inn_ops::Cpu;
    /// let m = Matrix::new(&Cpu::<f32>::new(), 1, 2, &[1.0, 2.0])?;
    /// let m: Matrix<_> = m.adjoint().adjoint();
    /// # Ok::<(), inn_core::Error>(())
    /// ```
    pub fn adjoint(self) -> A {
        self.0
    }
}

impl<B: Backend, A: LinearOperator<B>> LinearOperator<B> for Adjoint<A> {
    fn domain(&self) -> Shape {
        self.0.range()
    }
    fn range(&self) -> Shape {
        self.0.domain()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.0.apply_adjoint(backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.0.apply(backend, y, x, write)
    }
}
