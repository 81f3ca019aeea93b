//! Couplings: some channels are moved by an invertible map whose coefficients a network reads from the channels that are kept.

mod transform;
mod volume;

pub use transform::{Additive, Affine, Leapfrog, Transform};
pub use volume::{Centered, VolumePreserving};

use inn_core::kernel::UNIFORMS;
use inn_core::{
    Access, Backend, Conditioner, Direction, Error, Facts, Gradients, Inputs, Invertible, Kernel, Result, Scalar, Shape, Tensor, Update,
    View, ViewMut,
};
use std::ops::Range;

/// A coupling of any conditioner with any transform.
///
/// ```text
/// y_kept = x_kept,    y_moved = T(x_moved; N(x_kept, conditions)),    ℓ = Σ ln|T'|
/// ```
/// The inverse evaluates the same network, never its inverse. Backward, with (gx_moved, gc) from the transform's own derivative at the
/// coefficients c = N(x_kept): gx_kept = gy_kept + (∂N/∂x)ᵀ gc and gθ += (∂N/∂θ)ᵀ gc. Affine, additive, conditional, HINT and leapfrog couplings
/// differ by their conditioner and transform alone.
///
/// The batch is passed in tiles of samples, so that hidden values of the conditioner never exist for the whole batch.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | x_kept, x_moved | windows `kept`, `moved` of `x` | (B, C1, ..), (B, C2, ..) |
/// | c = (u, t, ..) | `out` | (B, outputs C2, ..), one group of C2 channels for each |
#[derive(Clone, Debug)]
pub struct Coupling<N, F> {
    /// The network.
    pub conditioner: N,
    /// What its output does to the moved channels.
    pub transform: F,
    /// Channels that are read.
    pub kept: Range<usize>,
    /// Channels that are changed.
    pub moved: Range<usize>,
}

impl<N: Conditioner, F: Transform> Coupling<N, F> {
    fn tiles<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        save: bool,
    ) -> Result<impl Iterator<Item = Range<usize>> + use<B, N, F>> {
        let out = self.moved.len() * F::OUTPUTS * x.shape().pixels() * size_of::<B::Elem>();
        inn_core::conditioner::tiles(&self.conditioner, at, x.channels(self.kept.clone()), out, save)
    }

    /// (a, s) of a transform that only adds, where the conditioner can add in place.
    fn sum<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: Shape) -> Result<Option<(f64, f64)>> {
        match F::sum(dir) {
            Some(sum) if self.conditioner.adds(at, x.with_channels(self.kept.len()))? => Ok(Some(sum)),
            _ => Ok(None),
        }
    }

    /// x -> a x + s c = s (s a x + c), the conditioner adding c where x lies.
    fn add<B: Backend>(&self, (a, s): (f64, f64), at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.backend();
        scale(backend, s * a, &mut x.channels(self.moved.clone()))?;
        self.conditioner.add_to(at, &mut x.update_channels(&self.lanes()))?;
        scale(backend, s, &mut x.channels(self.moved.clone()))
    }

    /// The way back, y -> a' y + s' c, with the cotangents of the map taken, gx = a gy and gc = s gy.
    fn add_back<B: Backend>(
        &self,
        [(a, s), (a_back, s_back)]: [(f64, f64); 2],
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let (moved, lanes) = (self.moved.clone(), self.lanes());
        scale(backend, s_back * a_back, &mut y.channels(moved.clone()))?;
        scale(backend, s, &mut gy.channels(moved.clone()))?;
        self.conditioner.add_and_vjp(at, &mut y.update_channels(&lanes), &mut gy.update_channels(&lanes), grads)?;
        scale(backend, s_back, &mut y.channels(moved.clone()))?;
        scale(backend, s * a, &mut gy.channels(moved))
    }

    /// The channels that are read and those that change.
    fn lanes(&self) -> [Range<usize>; 2] {
        [self.kept.clone(), self.moved.clone()]
    }

    fn coefficients<B: Backend>(&self, backend: &B, tile: Shape) -> Result<Tensor<B>> {
        Tensor::scratch(backend, tile.with_channels(self.moved.len() * F::OUTPUTS))
    }

    /// The group of channels of coefficient `i`.
    fn group(&self, i: usize) -> Range<usize> {
        i * self.moved.len()..(i + 1) * self.moved.len()
    }
}

impl<N: Conditioner, F: Transform> Invertible for Coupling<N, F> {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let (kept, moved) = (&self.kept, &self.moved);
        if kept.is_empty() || moved.is_empty() || (kept.start < moved.end && moved.start < kept.end) {
            return Err(Error::config("coupling", format!("expected two disjoint ranges of channels, got {kept:?} and {moved:?}")));
        }
        if input.channels() < kept.end.max(moved.end) {
            return Err(Error::shape("input of a coupling", format!("at least {} channels", kept.end.max(moved.end)), input));
        }
        let expected = input.with_channels(moved.len() * F::OUTPUTS);
        let got = self.conditioner.check(facts, input.with_channels(kept.len()))?;
        inn_core::error::expect_shape("output of a coupling's conditioner", expected, got)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.backend();
        if let Some(sum) = self.sum(dir, at, x.shape())? {
            return self.add(sum, at, x);
        }
        let kernel = Map { dir, transform: self.transform };
        if self.conditioner.couple(at, &kernel, &mut x.update_channels(&self.lanes()), logdet)? {
            return Ok(());
        }
        for tile in self.tiles(at, x.view(), false)? {
            let mut x = x.samples(tile.clone());
            let mut out = self.coefficients(backend, x.shape())?;
            self.conditioner.evaluate(&at.tile(tile.clone()), x.view().channels(self.kept.clone()), &mut out.view_mut())?;
            let coefficients: Vec<_> = (0..F::OUTPUTS).map(|i| out.view().channels(self.group(i))).collect();
            let mut moved = x.channels(self.moved.clone());
            let domain = moved.shape();
            let mut logdet = logdet.samples(tile);
            let mut sums = [logdet.update()];
            let sums = if F::HAS_LOGDET { &mut sums[..] } else { &mut [] };
            backend.zip(&kernel, domain, &coefficients, &mut [moved.update()], &mut [], sums)?;
        }
        Ok(())
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
        let backend = at.backend();
        if let (Some(sum), Some(back)) = (self.sum(dir, at, y.shape())?, F::sum(dir.flip())) {
            return self.add_back([sum, back], at, y, gy, grads);
        }
        let (kernel, lanes) = (Pull { dir, transform: self.transform }, self.lanes());
        if self.conditioner.couple_pull(at, &kernel, gl, &mut y.update_channels(&lanes), &mut gy.update_channels(&lanes), grads)? {
            return Ok(());
        }
        for tile in self.tiles(at, y.view(), true)? {
            let at = at.tile(tile.clone());
            let (mut y, mut gy) = (y.samples(tile.clone()), gy.samples(tile.clone()));
            let mut out = self.coefficients(backend, y.shape())?;
            let saved = self.conditioner.forward(&at, y.view().channels(self.kept.clone()), &mut out.view_mut())?;
            {
                let (mut moved, mut cotangent) = (y.channels(self.moved.clone()), gy.channels(self.moved.clone()));
                let domain = moved.shape();
                let window = out.view().window();
                let groups: Vec<_> = (0..F::OUTPUTS).map(|i| window.channels(self.group(i))).collect();
                let out = Update::new(out.buffer_mut(), Access::ReadWrite, &groups);
                let read = [gl.samples(tile).over_channels(domain)];
                backend.zip(&kernel, domain, &read, &mut [moved.update(), cotangent.update(), out], &mut [], &mut [])?;
            }
            let kept = self.kept.clone();
            self.conditioner.vjp(&at, y.view().channels(kept.clone()), saved, &mut out.view_mut(), &mut gy.channels(kept), grads)?;
        }
        Ok(())
    }
}

/// x = a x for a = ±1.
fn scale<B: Backend>(backend: &B, a: f64, x: &mut ViewMut<'_, B>) -> Result<()> {
    if a == 1.0 {
        return Ok(());
    }
    let domain = x.shape();
    backend.zip(&inn_core::kernel::blas::Scale(a), domain, &[], &mut [x.update()], &mut [], &mut [])
}

#[derive(Clone, Copy)]
struct Map<F> {
    dir: Direction,
    transform: F,
}
impl<F: Transform> Kernel for Map<F> {
    const READ: usize = F::OUTPUTS;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = F::HAS_LOGDET as usize;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], out: &[T], update: &mut [T], _: &mut [T], logdet: &mut [T]) {
        let log = self.transform.map(self.dir, out, &mut update[0]);
        if F::HAS_LOGDET {
            logdet[0] = log;
        }
    }
}

#[derive(Clone, Copy)]
struct Pull<F> {
    dir: Direction,
    transform: F,
}
impl<F: Transform> Kernel for Pull<F> {
    const READ: usize = 1;
    const UPDATE: usize = 2 + F::OUTPUTS;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], gl: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (state, out) = update.split_at_mut(2);
        let (moved, g) = state.split_at_mut(1);
        self.transform.pull(self.dir, gl[0], &mut moved[0], &mut g[0], out);
    }
}
