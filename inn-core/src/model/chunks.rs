//! Passes over parts of a batch side by side, for networks whose layers are too short to be shared between cores one by one.

use super::erased::Erased;
use super::{Mapped, Pulled};
use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::layer::{Gradients, Inputs};
use crate::params::Params;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::ops::Range;

impl<B: Backend> Erased<'_, B> {
    /// The parts of a batch that the backend would rather have side by side; none for a call that brings more than a state.
    pub(super) fn chunks(&self, state: Shape) -> Vec<Range<usize>> {
        let bare = self.given.conditions.is_empty() && self.given.operator.is_none() && self.given.trail.is_none();
        let count = if bare { self.backend().chunks(state, self.theta.layout().len()) } else { 1 };
        let batch = state.batch();
        (0..count).map(|i| i * batch / count..(i + 1) * batch / count).collect()
    }

    fn inputs_of(&self, samples: &Range<usize>) -> Inputs<'_, B> {
        Inputs { theta: self.theta, conditions: &[], operator: None, trail: None, samples: samples.clone() }
    }

    /// [`map`](Erased::map) by parts.
    pub(super) fn map_chunks(&self, dir: Direction, mut x: Tensor<B>, output: Shape, chunks: &[Range<usize>]) -> Result<Mapped<B>> {
        let backend = self.backend();
        let mut logdet = Tensor::zeros(backend, Shape::per_sample(x.shape().batch()))?;
        let parts = backend.side_by_side(chunks.len(), |i| -> Result<_> {
            let mut state = part(backend, &x, &chunks[i])?;
            let mut logdet = Tensor::zeros(backend, Shape::per_sample(chunks[i].len()))?;
            self.layer.map(dir, &self.inputs_of(&chunks[i]), &mut state.view_mut(), &mut logdet.view_mut())?;
            Ok((state, logdet))
        });
        for (part, samples) in parts.into_iter().zip(chunks) {
            let (state, l) = part?;
            put(backend, &mut x, samples, &state)?;
            put(backend, &mut logdet, samples, &l)?;
        }
        Ok(Mapped { state: x.reshape(output)?, logdet })
    }

    /// [`pull`](Erased::pull) by parts. Each has a gradient of its own; they are added in their order.
    pub(super) fn pull_chunks(
        &self,
        dir: Direction,
        (mut y, mut gy, gl): (Tensor<B>, Tensor<B>, &Tensor<B>),
        input: Shape,
        grads: &mut Params<B>,
        chunks: &[Range<usize>],
    ) -> Result<Pulled<B>> {
        let backend = self.backend();
        let parts = backend.side_by_side(chunks.len(), |i| -> Result<_> {
            let (mut y, mut gy) = (part(backend, &y, &chunks[i])?, part(backend, &gy, &chunks[i])?);
            let mut theta = Params::zeros(backend, self.theta.layout())?;
            let mut gradients = Gradients { theta: &mut theta, conditions: &mut [] };
            let gl = gl.view().samples(chunks[i].clone());
            self.layer.pull(dir, &self.inputs_of(&chunks[i]), &mut y.view_mut(), &mut gy.view_mut(), gl, &mut gradients)?;
            Ok((y, gy, theta))
        });
        // All parts have to be there before the caller's gradients change.
        let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
        for ((state, cotangent, theta), samples) in parts.iter().zip(chunks) {
            put(backend, &mut y, samples, state)?;
            put(backend, &mut gy, samples, cotangent)?;
            grads.axpy(1.0, theta)?;
        }
        Ok(Pulled { state: y.reshape(input)?, cotangent: gy.reshape(input)?, conditions: Vec::new() })
    }
}

/// A copy of some samples.
fn part<B: Backend>(backend: &B, x: &Tensor<B>, samples: &Range<usize>) -> Result<Tensor<B>> {
    let mut copy = Tensor::scratch(backend, x.shape().with_batch(samples.len()))?;
    copy.view_mut().assign(backend, x.view().samples(samples.clone()))?;
    Ok(copy)
}

/// The way back. A layer may have changed the shape of a sample, never its length.
fn put<B: Backend>(backend: &B, x: &mut Tensor<B>, samples: &Range<usize>, part: &Tensor<B>) -> Result<()> {
    let shape = x.shape().with_batch(samples.len());
    x.view_mut().samples(samples.clone()).assign(backend, part.view().reshape(shape)?)
}
