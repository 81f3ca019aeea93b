//! The sum of two operators.

use crate::gate::{Ends, product};
use inn_core::{Backend, LinearOperator, Result, Shape, View, ViewMut, Write, error::expect_shape};

/// (A + C) x = A x + C x, with adjoint Aᵀ + Cᵀ. Takes no scratch.
///
/// Both operators have the same domain and range; one that treats each sample alike takes over the batch of the other.
#[derive(Clone, Copy, Debug)]
pub struct Sum<A, C> {
    first: A,
    second: C,
    ends: Ends,
}

impl<A, C> Sum<A, C> {
    /// `first` plus `second`.
    ///
    /// # Errors
    /// Another domain or range.
    pub fn new<B: Backend>(first: A, second: C) -> Result<Self>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        let (a, c) = (Ends::of(&first), Ends::of(&second));
        let batch = |e: Ends| if e.per_sample { 1 } else { e.domain.batch() };
        let (a, c) = (a.lift(batch(c)), c.lift(batch(a)));
        expect_shape("domain of the second operator of a sum", a.domain, c.domain)?;
        expect_shape("range of the second operator of a sum", a.range, c.range)?;
        Ok(Self { first, second, ends: a })
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        self.ends.check("sum", adjoint, x.shape(), y.shape())?;
        product(&self.first, adjoint, backend, x, y, write)?;
        product(&self.second, adjoint, backend, x, y, Write::Add)
    }
}

impl<B: Backend, A: LinearOperator<B>, C: LinearOperator<B>> LinearOperator<B> for Sum<A, C> {
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
