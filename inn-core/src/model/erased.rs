//! Layers without their types: what surrounds a layer in a call, and the harness that verifies it, are compiled once for a backend and not
//! again for every layer on it.

use super::{Given, Mapped, Pulled};
use crate::backend::{Backend, Direction};
use crate::dual::Dual;
use crate::error::{Error, Result, expect_shape};
use crate::layer::{Facts, Gradients, Inputs, Invertible};
use crate::params::Params;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};

/// An [`Invertible`] on one backend.
pub(crate) trait Maps<B: Backend>: Sync {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape>;
    fn map(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()>;
    fn pull(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()>;
}

impl<L: Invertible, B: Backend> Maps<B> for L {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        Invertible::check(self, dir, facts, input)
    }
    fn map(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        Invertible::map(self, dir, at, x, logdet)
    }
    fn pull(
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
}

/// An [`Invertible`] on one backend, and on pairs over it.
pub(crate) trait Layer<B: Backend>: Maps<B> + Maps<Dual<B>> {
    fn name(&self) -> String;
}

impl<L: Invertible, B: Backend> Layer<B> for L {
    fn name(&self) -> String {
        Invertible::name(self)
    }
}

/// A [`Call`](super::Call) that has forgotten the type of its layer.
pub(crate) struct Erased<'a, B: Backend> {
    pub layer: &'a dyn Maps<B>,
    pub theta: &'a Params<B>,
    pub given: Given<'a, B>,
}

impl<'a, B: Backend> Erased<'a, B> {
    pub fn backend(&self) -> &'a B {
        self.theta.backend()
    }

    /// See [`Call::check`](super::Call::check).
    pub fn check(&self, dir: Direction, input: Shape) -> Result<Shape> {
        let conditions: Vec<Shape> = self.given.conditions.iter().map(Tensor::shape).collect();
        let operator = self.given.operator.map(|a| (a.domain(), a.range()));
        self.layer.check(dir, Facts { layout: self.theta.layout(), conditions: &conditions, operator }, input)
    }

    pub fn inputs(&self, batch: usize) -> Inputs<'a, B> {
        Inputs {
            theta: self.theta,
            conditions: self.given.conditions,
            operator: self.given.operator,
            trail: self.given.trail,
            samples: 0..batch,
        }
    }

    /// See [`Call::map`](super::Call::map).
    pub fn map(&self, dir: Direction, mut x: Tensor<B>) -> Result<Mapped<B>> {
        let output = self.check(dir, x.shape())?;
        let chunks = self.chunks(x.shape());
        if chunks.len() > 1 {
            return self.map_chunks(dir, x, output, &chunks);
        }
        let batch = x.shape().batch();
        let mut logdet = Tensor::zeros(self.backend(), Shape::per_sample(batch))?;
        let (backend, elements) = (self.backend(), x.shape().len());
        backend.enter(elements, || self.layer.map(dir, &self.inputs(batch), &mut x.view_mut(), &mut logdet.view_mut()))?;
        Ok(Mapped { state: x.reshape(output)?, logdet })
    }

    /// See [`Call::pull`](super::Call::pull).
    pub fn pull(&self, dir: Direction, mut y: Tensor<B>, mut gy: Tensor<B>, gl: &Tensor<B>, grads: &mut Params<B>) -> Result<Pulled<B>> {
        let input = self.check(dir.flip(), y.shape())?;
        let batch = y.shape().batch();
        expect_shape("cotangent", y.shape(), gy.shape())?;
        expect_shape("cotangent of the log-determinant", Shape::per_sample(batch), gl.shape())?;
        if !grads.layout().is_compatible(self.theta.layout()) {
            return Err(Error::shape("gradients", "the layout of the parameters", "another one"));
        }
        let chunks = self.chunks(y.shape());
        if chunks.len() > 1 {
            let pulled = self.pull_chunks(dir, (y, gy, gl), input, grads, &chunks)?;
            self.clear_frozen(grads)?;
            return Ok(pulled);
        }
        let mut conditions = Vec::with_capacity(self.given.conditions.len());
        for condition in self.given.conditions {
            conditions.push(Tensor::zeros(self.backend(), condition.shape())?);
        }
        let mut gradients = Gradients { theta: grads, conditions: &mut conditions };
        let (backend, elements) = (self.backend(), y.shape().len());
        backend.enter(elements, || {
            self.layer.pull(dir, &self.inputs(batch), &mut y.view_mut(), &mut gy.view_mut(), gl.view(), &mut gradients)
        })?;
        self.clear_frozen(grads)?;
        Ok(Pulled { state: y.reshape(input)?, cotangent: gy.reshape(input)?, conditions })
    }

    /// Frozen parameters have no gradient.
    fn clear_frozen(&self, grads: &mut Params<B>) -> Result<()> {
        if self.theta.layout().entries().iter().any(crate::params::Entry::is_frozen) {
            grads.set_layout(self.theta.layout())?;
            grads.clear_frozen()?;
        }
        Ok(())
    }
}
