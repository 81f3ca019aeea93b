//! Networks of several scales on two lanes.

use inn_core::{
    Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, Result, Setup, Shape, Squeeze, Tensor, View, ViewMut, Visitor,
};
use inn_layers::hyperbolic::SqueezeLanes;

/// [`Multiscale`](inn_core::Multiscale) for a state of two lanes \[x; y\] of equal shape: each is squeezed for itself, and of each the first
/// channels go on.
///
/// As there, the state keeps its shape, and the latent of each lane is per sample, in the lane's place and the same order, so that a lane whose map
/// does not depend on the other one is a `Multiscale` network by itself. Squeezes and the exchange of channels below are orthogonal: ℓ is the
/// sum over the layers, and the gradient takes the way of the state.
#[derive(Clone, Debug)]
pub struct LaneScales<L> {
    /// Spatial axes of the data.
    pub rank: usize,
    /// The scales, finest first.
    pub scales: Vec<LaneScale<L>>,
}

/// One scale of [`LaneScales`].
#[derive(Clone, Debug)]
pub struct LaneScale<L> {
    /// Applied to each lane first, if any.
    pub squeeze: Option<Squeeze>,
    /// What happens at this scale, to both lanes.
    pub layer: L,
    /// How many channels of each lane go on to the next scale.
    pub keep: usize,
}

impl<L> LaneScale<L> {
    fn squeeze_lanes(&self) -> Option<SqueezeLanes> {
        self.squeeze.map(|squeeze| SqueezeLanes { forward: Direction::Forward, lanes: 2, squeeze })
    }

    /// Squeezes both lanes of each view, calls `f`, and unsqueezes them.
    fn squeezed<B: Backend, const N: usize>(
        &self,
        backend: &B,
        mut views: [&mut ViewMut<'_, B>; N],
        f: impl FnOnce([&mut ViewMut<'_, B>; N]) -> Result<()>,
    ) -> Result<()> {
        let Some(lanes) = self.squeeze_lanes() else { return f(views) };
        views.iter_mut().try_for_each(|view| lanes.apply(backend, Direction::Forward, view))?;
        f(views.each_mut().map(|view| &mut **view))?;
        views.iter_mut().try_for_each(|view| lanes.apply(backend, Direction::Inverse, view))
    }

    /// Calls `f` with what goes on of both lanes: \[x_a; x_b; y_a; y_b\] is exchanged to \[x_a; y_a; x_b; y_b\] meanwhile.
    fn kept<B: Backend, const N: usize>(
        &self,
        backend: &B,
        mut views: [&mut ViewMut<'_, B>; N],
        f: impl FnOnce([&mut ViewMut<'_, B>; N]) -> Result<()>,
    ) -> Result<()> {
        let k = self.keep;
        let exchange = |view: &mut ViewMut<'_, B>, dir: Direction| {
            let n = view.shape().channels() / 2;
            // Of the n channels between x_a and y_b, those behind the first `m` come to the front.
            let m = if dir == Direction::Forward { n - k } else { k };
            let mut middle = view.channels(k..n + k);
            if m == 0 || m == n {
                return Ok(());
            }
            let mut copy = Tensor::scratch(backend, middle.shape())?;
            copy.view_mut().assign(backend, middle.view())?;
            middle.channels(0..n - m).assign(backend, copy.view().channels(m..n))?;
            middle.channels(n - m..n).assign(backend, copy.view().channels(0..m))
        };
        views.iter_mut().try_for_each(|view| exchange(view, Direction::Forward))?;
        let mut parts = views.each_mut().map(|view| view.channels(0..2 * k));
        f(parts.each_mut())?;
        views.iter_mut().try_for_each(|view| exchange(view, Direction::Inverse))
    }
}

/// What is done at a scale: its index, its layer, and the state there.
type Visit<'f, L, B, const N: usize> = dyn FnMut(usize, &L, [&mut ViewMut<'_, B>; N]) -> Result<()> + 'f;

impl<L: Invertible> LaneScales<L> {
    /// Passes the scales in the order of `dir`, each seen squeezed and as wide as it is: `f` is called with the index of the scale.
    fn pass<B: Backend, const N: usize>(
        scales: &[LaneScale<L>],
        index: usize,
        dir: Direction,
        backend: &B,
        views: [&mut ViewMut<'_, B>; N],
        f: &mut Visit<'_, L, B, N>,
    ) -> Result<()> {
        let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
        let mut views = views.map(|view| view.reborrow());
        scale.squeezed(backend, views.each_mut(), |mut views| {
            if dir == Direction::Forward {
                f(index, &scale.layer, views.each_mut().map(|view| &mut **view))?;
            }
            if !rest.is_empty() {
                let views = views.each_mut().map(|view| &mut **view);
                scale.kept(backend, views, |views| Self::pass(rest, index + 1, dir, backend, views, f))?;
            }
            if dir == Direction::Inverse {
                f(index, &scale.layer, views)?;
            }
            Ok(())
        })
    }
}

impl<L: Invertible> Invertible for LaneScales<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if input.rank() != self.rank {
            return Err(Error::shape("input of the network", format!("{} spatial axes", self.rank), input));
        }
        if !input.channels().is_multiple_of(2) {
            return Err(Error::shape("input of the network", "two lanes, an even number of channels", input));
        }
        let mut shape = input;
        for (i, scale) in self.scales.iter().enumerate() {
            if let Some(lanes) = scale.squeeze_lanes() {
                shape = lanes.check(Direction::Forward, facts, shape)?;
            }
            let output = scale.layer.check(dir, facts, shape)?;
            if output != shape {
                return Err(Error::config(format!("scale {i}"), format!("expected a layer that keeps the shape {shape}, got {output}")));
            }
            if i + 1 < self.scales.len() {
                if scale.keep == 0 || 2 * scale.keep > shape.channels() {
                    let expected = format!("1 to {} channels of a lane to keep", shape.channels() / 2);
                    return Err(Error::shape(format!("scale {i}"), expected, scale.keep));
                }
                shape = shape.with_channels(2 * scale.keep);
            }
        }
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        Self::pass(&self.scales, 0, dir, at.backend(), [x], &mut |_, layer, [x]| layer.map(dir, at, x, logdet))
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
        // Reborrowed, so that both views have one lifetime.
        let (mut y, mut gy) = (y.reborrow(), gy.reborrow());
        let views = [&mut y, &mut gy];
        Self::pass(&self.scales, 0, dir.flip(), at.backend(), views, &mut |_, layer, [y, gy]| layer.pull(dir, at, y, gy, gl, grads))
    }

    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.theta.backend().clone();
        Self::pass(&self.scales, 0, dir, &backend, [x], &mut |_, layer, [x]| layer.initialize(dir, at, x))
    }

    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        let dot = if path.is_empty() { "" } else { "." };
        Self::pass(&self.scales, 0, dir, at.backend(), [x], &mut |i, layer, [x]| {
            layer.walk(&format!("{path}{dot}scale{i}"), dir, at, x, visitor)
        })
    }

    fn name(&self) -> String {
        format!("LaneScales of {}", self.scales.len())
    }
}
