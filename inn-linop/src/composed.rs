//! One operator after another.

use crate::gate::{Ends, product};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, Tensor, View, ViewMut, Write};

/// (A C) x = A (C x), with adjoint Cᵀ Aᵀ.
///
/// A product takes one scratch tensor, of the shape between the two, from the backend's pool. An operator that treats each sample alike
/// takes over the batch of the other.
#[derive(Clone, Copy, Debug)]
pub struct Composed<A, C> {
    outer: A,
    inner: C,
    middle: Shape,
    ends: Ends,
}

impl<A, C> Composed<A, C> {
    /// `outer` after `inner`: the order of the formula.
    ///
    /// # Errors
    /// The range of `inner` is not the domain of `outer`.
    pub fn new<B: Backend>(outer: A, inner: C) -> Result<Self>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        let (a, c) = (Ends::of(&outer), Ends::of(&inner));
        let (a, c) = (a.lift(c.range.batch()), c.lift(a.domain.batch()));
        if c.range != a.domain {
            return Err(Error::shape("range of the inner operator of a composition", outer.domain(), inner.range()));
        }
        let per_sample = a.per_sample && c.per_sample;
        Ok(Self { outer, inner, middle: c.range, ends: Ends { domain: c.domain, range: a.range, per_sample } })
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
        C: LinearOperator<B>,
    {
        self.ends.check("composition", adjoint, x.shape(), y.shape())?;
        let shape = if self.ends.per_sample { self.middle.with_batch(x.shape().batch()) } else { self.middle };
        let mut middle = Tensor::scratch(backend, shape)?;
        if adjoint {
            product(&self.outer, true, backend, x, &mut middle.view_mut(), Write::Set)?;
            product(&self.inner, true, backend, middle.view(), y, write)
        } else {
            product(&self.inner, false, backend, x, &mut middle.view_mut(), Write::Set)?;
            product(&self.outer, false, backend, middle.view(), y, write)
        }
    }
}

impl<B: Backend, A: LinearOperator<B>, C: LinearOperator<B>> LinearOperator<B> for Composed<A, C> {
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
