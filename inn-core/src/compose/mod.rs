//! Layers made of layers: tuples, lists, named chains, one of several ([`one_of`](crate::one_of)), parts of the channels, reversal, scales.

mod carry;
mod multiscale;
#[macro_use]
mod one_of;
mod sequence;

pub use carry::{Odd, carry};
pub use multiscale::{Multiscale, Scale};
pub use sequence::Chain;

use crate::backend::{Backend, Direction, Squeeze};
use crate::error::{Error, Result};
use crate::layer::{Facts, Gradients, Inputs, Invertible, Setup};
use crate::shape::Shape;
use crate::view::{View, ViewMut};
use crate::visit::Visitor;
use std::ops::Range;

impl<L: Invertible> Invertible for &L {
    delegate!(self, dir => dir; layer => (**layer));
    fn name(&self) -> String {
        (**self).name()
    }
}

impl<L: Invertible> Invertible for Box<L> {
    delegate!(self, dir => dir; layer => (**layer));
    fn name(&self) -> String {
        (**self).name()
    }
}

/// A layer seen from its other side: forward is the inverse, and the log-determinant changes its sign.
///
/// Complete in every mode, since every mode has a direction. Reversing twice is the layer itself. It is a view:
/// `Reversed(&layer)` copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reversed<L>(pub L);

impl<L: Invertible> Invertible for Reversed<L> {
    delegate!(self, dir => dir.flip(); Self(layer) => layer);
    fn name(&self) -> String {
        format!("Reversed {}", self.0.name())
    }
}

/// A layer on a range of the channels; the others stay as they are. Lanes are such ranges.
#[derive(Clone, Debug)]
pub struct On<L> {
    /// Which channels.
    pub channels: Range<usize>,
    /// The layer that acts on them.
    pub layer: L,
}

impl<L: Invertible> Invertible for On<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if self.channels.end > input.channels() || self.channels.is_empty() {
            return Err(Error::shape(self.name(), format!("more than {} channels", self.channels.end.max(1) - 1), input));
        }
        let part = input.with_channels(self.channels.len());
        let output = self.layer.check(dir, facts, part)?;
        if output != part {
            return Err(Error::config(self.name(), format!("expected a layer that keeps the shape {part}, got {output}")));
        }
        Ok(input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        self.layer.map(dir, at, &mut x.channels(self.channels.clone()), logdet)
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let range = self.channels.clone();
        self.layer.pull(dir, at, &mut y.channels(range.clone()), &mut gy.channels(range), gl, grads)
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        self.layer.initialize(dir, at, &mut x.channels(self.channels.clone()))
    }
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        self.layer.walk(path, dir, at, &mut x.channels(self.channels.clone()), visitor)
    }
    fn name(&self) -> String {
        format!("{} on channels {:?}", self.layer.name(), self.channels)
    }
}

/// Squeezes and unsqueezes: halves the extents, multiplies the channels. Log-determinant 0, adjoint = inverse.
impl Invertible for Squeeze {
    fn check(&self, dir: Direction, _: Facts<'_>, input: Shape) -> Result<Shape> {
        self.output(dir, input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        at.backend().squeeze(*self, dir, x)
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        _: &mut Gradients<'_, B>,
    ) -> Result<()> {
        at.backend().squeeze(*self, dir.flip(), y)?;
        at.backend().squeeze(*self, dir.flip(), gy)
    }
    fn name(&self) -> String {
        format!("{self:?} squeeze")
    }
}
