//! A layer without its type, so that the compiler sees the harness once for a backend instead of once for each layer.

use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::layer::{Facts, Gradients, Inputs, Invertible};
use crate::model::{Along, Call, Given, Hessian, Mapped, Pulled, Tangent};
use crate::params::Params;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

/// What the harness asks of a layer on the backend `B`: the modes of a [`Call`], and the layer's own maps.
pub(super) trait Erased<B: Backend> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape>;
    fn name(&self) -> String;
    fn map_in_place(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()>;
    fn pull_in_place(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()>;
    fn map(&self, dir: Direction, theta: &Params<B>, given: Given<'_, B>, x: Tensor<B>) -> Result<Mapped<B>>;
    fn pull(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        y: (Tensor<B>, Tensor<B>),
        gl: &Tensor<B>,
        grads: &mut Params<B>,
    ) -> Result<Pulled<B>>;
    fn push(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        x: (Tensor<B>, Tensor<B>),
        along: &Along<'_, B>,
    ) -> Result<Tangent<B>>;
    /// Of an output with its tangent, and a cotangent.
    fn hessian(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        y: [Tensor<B>; 3],
        gl: &Tensor<B>,
        along: &Along<'_, B>,
    ) -> Result<Hessian<B>>;
}

impl<L: Invertible, B: Backend> Erased<B> for L {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        Invertible::check(self, dir, facts, input)
    }
    fn name(&self) -> String {
        Invertible::name(self)
    }
    fn map_in_place(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        Invertible::map(self, dir, at, x, logdet)
    }
    fn pull_in_place(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        Invertible::pull(self, dir, at, y, gy, gl, grads)
    }
    fn map(&self, dir: Direction, theta: &Params<B>, given: Given<'_, B>, x: Tensor<B>) -> Result<Mapped<B>> {
        Call::new(self, theta, given).map(dir, x)
    }
    fn pull(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        (y, gy): (Tensor<B>, Tensor<B>),
        gl: &Tensor<B>,
        grads: &mut Params<B>,
    ) -> Result<Pulled<B>> {
        Call::new(self, theta, given).pull(dir, y, gy, gl, grads)
    }
    fn push(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        (x, dx): (Tensor<B>, Tensor<B>),
        along: &Along<'_, B>,
    ) -> Result<Tangent<B>> {
        Call::new(self, theta, given).push(dir, x, dx, along)
    }
    fn hessian(
        &self,
        dir: Direction,
        theta: &Params<B>,
        given: Given<'_, B>,
        [y, dy, gy]: [Tensor<B>; 3],
        gl: &Tensor<B>,
        along: &Along<'_, B>,
    ) -> Result<Hessian<B>> {
        Call::new(self, theta, given).hessian(dir, y, dy, gy, gl, along)
    }
}
