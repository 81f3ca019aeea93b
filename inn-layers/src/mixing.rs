//! Activation normalization and mixing of channels as one affine map.

use crate::{ActNorm, Householder};
use inn_core::{Backend, Direction, Facts, Gradients, Inputs, Invertible, Mix, Result, Scope, Setup, Shape, View, ViewMut, Visitor};

/// [`ActNorm`], then [`Householder`], in one pass over the state where the backend takes it up ([`Backend::mix`]):
///
/// ```text
/// y = H_m ... H_1 (s ⊙ x + b),    ℓ = N Σ_c ln|s_c|
/// ```
/// Values and gradients are those of the two layers one after the other.
#[derive(Clone, Debug)]
pub struct Mixing {
    actnorm: ActNorm,
    reflections: Householder,
}

impl Mixing {
    /// Declares `actnorm` and `mix` with `count` reflections for `channels` channels.
    ///
    /// # Errors
    /// No channels or no reflections.
    pub fn new(scope: &mut Scope<'_>, channels: usize, count: usize) -> Result<Self> {
        let actnorm = ActNorm::new(&mut scope.sub("actnorm"), channels)?;
        Ok(Self { actnorm, reflections: Householder::new(&mut scope.sub("mix"), channels, count)? })
    }

    /// The two layers in their order.
    pub(crate) fn layers(&self) -> (&ActNorm, &Householder) {
        (&self.actnorm, &self.reflections)
    }

    fn offer<'a, B: Backend>(&self, at: &Inputs<'a, B>) -> Result<Mix<'a, B>> {
        let affine = [at.param(self.actnorm.scale)?, at.param(self.actnorm.bias)?];
        Ok(Mix { affine: Some(affine), vectors: at.param(self.reflections.vectors)? })
    }
}

impl Invertible for Mixing {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        self.layers().check(dir, facts, input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        if at.backend().mix(dir, &self.offer(at)?, x, logdet)? { Ok(()) } else { self.layers().map(dir, at, x, logdet) }
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
        let mix = self.offer(at)?;
        let mut gradients = grads.theta.update(&[self.reflections.vectors, self.actnorm.scale, self.actnorm.bias])?;
        if at.backend().mix_pull(dir, &mix, y, gy, gl, &mut gradients)? {
            return Ok(());
        }
        self.layers().pull(dir, at, y, gy, gl, grads)
    }

    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        self.layers().initialize(dir, at, x)
    }

    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        self.layers().walk(path, dir, at, x, visitor)
    }
}
