//! Networks of several scales.

use super::carry::{Odd, carry};
use crate::backend::{Backend, Direction, Squeeze};
use crate::error::{Error, Result};
use crate::layer::{Facts, Gradients, Inputs, Invertible, Setup};
use crate::shape::Shape;
use crate::view::{View, ViewMut};
use crate::visit::{Visitor, named};

/// A multiscale network: at each scale squeeze, map, and leave part of the channels alone from there on (Dinh et al. 2017, section 3.6).
///
/// The state keeps its buffer and its shape: the channels that go on are a window, the others simply stay. The latent of a sample is
/// therefore per sample by construction, in the order [X_L; Z_{L-1}; ...; Z_1] where Z_i left after scale i, and the inverse needs
/// to know nothing but the shape. What becomes of odd extents is a setting, [`Odd`].
#[derive(Clone, Debug)]
pub struct Multiscale<L> {
    /// Spatial axes of the data, which the numbers of channels depend on.
    pub rank: usize,
    /// What becomes of odd extents.
    pub odd: Odd,
    /// The scales, finest first.
    pub scales: Vec<Scale<L>>,
}

/// One scale of a [`Multiscale`] network.
#[derive(Clone, Debug)]
pub struct Scale<L> {
    /// Applied first, if any.
    pub squeeze: Option<Squeeze>,
    /// What happens at this scale.
    pub layer: L,
    /// How many channels go on to the next scale; the rest is latent.
    pub keep: usize,
}

impl<L: Invertible> Multiscale<L> {
    fn descend<B: Backend>(
        scales: &[Scale<L>],
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
        let backend = at.backend();
        squeezed(scale.squeeze, backend, [x], |[x]| {
            let deeper = |x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>| {
                if rest.is_empty() { Ok(()) } else { Self::descend(rest, dir, at, &mut x.channels(0..scale.keep), logdet) }
            };
            match dir {
                Direction::Forward => {
                    scale.layer.map(dir, at, x, logdet)?;
                    deeper(x, logdet)
                }
                Direction::Inverse => {
                    deeper(x, logdet)?;
                    scale.layer.map(dir, at, x, logdet)
                }
            }
        })
    }

    fn ascend<B: Backend>(
        scales: &[Scale<L>],
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
        // Reborrowed, so that both views have one lifetime.
        let (mut y, mut gy) = (y.reborrow(), gy.reborrow());
        squeezed(scale.squeeze, at.backend(), [&mut y, &mut gy], |[y, gy]| {
            if dir == Direction::Inverse {
                scale.layer.pull(dir, at, y, gy, gl, grads)?;
            }
            if !rest.is_empty() {
                let keep = 0..scale.keep;
                Self::ascend(rest, dir, at, &mut y.channels(keep.clone()), &mut gy.channels(keep), gl, grads)?;
            }
            if dir == Direction::Forward {
                scale.layer.pull(dir, at, y, gy, gl, grads)?;
            }
            Ok(())
        })
    }
}

/// Squeezes views, calls `f`, and unsqueezes them. Both directions of a multiscale network see each scale squeezed. Odd extents get here only
/// where they are carried.
fn squeezed<B: Backend, const N: usize>(
    squeeze: Option<Squeeze>,
    backend: &B,
    mut views: [&mut ViewMut<'_, B>; N],
    f: impl FnOnce([&mut ViewMut<'_, B>; N]) -> Result<()>,
) -> Result<()> {
    let Some(squeeze) = squeeze else { return f(views) };
    let full = views.each_ref().map(|view| view.shape());
    for (view, full) in views.iter_mut().zip(full) {
        carry(backend, Direction::Forward, full, view)?;
        backend.squeeze(squeeze, Direction::Forward, view)?;
    }
    f(views.each_mut().map(|view| &mut **view))?;
    for (view, full) in views.iter_mut().zip(full) {
        backend.squeeze(squeeze, Direction::Inverse, view)?;
        carry(backend, Direction::Inverse, full, view)?;
    }
    Ok(())
}

impl<L: Invertible> Invertible for Multiscale<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if input.rank() != self.rank {
            return Err(Error::shape("input of the network", format!("{} spatial axes", self.rank), input));
        }
        let mut shape = input;
        for (i, scale) in self.scales.iter().enumerate() {
            if let Some(squeeze) = scale.squeeze {
                shape = self
                    .odd
                    .even(shape)
                    .and_then(|even| squeeze.output(Direction::Forward, even))
                    .map_err(|e| too_deep(e, i, self, input))?;
            }
            let output = scale.layer.check(dir, facts, shape)?;
            if output != shape {
                return Err(Error::config(format!("scale {i}"), format!("expected a layer that keeps the shape {shape}, got {output}")));
            }
            if i + 1 < self.scales.len() {
                if scale.keep == 0 || scale.keep > shape.channels() {
                    let expected = format!("1 to {} channels to keep", shape.channels());
                    return Err(Error::shape(format!("scale {i}"), expected, scale.keep));
                }
                shape = shape.with_channels(scale.keep);
            }
        }
        Ok(input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        Self::descend(&self.scales, dir, at, x, logdet)
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
        Self::ascend(&self.scales, dir, at, y, gy, gl, grads)
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        initialize_scales(&self.scales, dir, at, x)
    }
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        walk_scales(&self.scales, path, 0, dir, at, x, visitor)
    }
    fn name(&self) -> String {
        format!("Multiscale of {}", self.scales.len())
    }
}

fn walk_scales<L: Invertible, B: Backend, V: Visitor<B>>(
    scales: &[Scale<L>],
    path: &str,
    index: usize,
    dir: Direction,
    at: &Inputs<'_, B>,
    x: &mut ViewMut<'_, B>,
    visitor: &mut V,
) -> Result<()> {
    let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
    let own = named(path, &format!("scale{index}"));
    squeezed(scale.squeeze, at.backend(), [x], |[x]| {
        if dir == Direction::Forward {
            scale.layer.walk(&own, dir, at, x, visitor)?;
        }
        if !rest.is_empty() {
            walk_scales(rest, path, index + 1, dir, at, &mut x.channels(0..scale.keep), visitor)?;
        }
        if dir == Direction::Inverse {
            scale.layer.walk(&own, dir, at, x, visitor)?;
        }
        Ok(())
    })
}

fn initialize_scales<L: Invertible, B: Backend>(
    scales: &[Scale<L>],
    dir: Direction,
    at: &mut Setup<'_, B>,
    x: &mut ViewMut<'_, B>,
) -> Result<()> {
    let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
    let backend = at.theta.backend().clone();
    squeezed(scale.squeeze, &backend, [x], |[x]| {
        if dir == Direction::Forward {
            scale.layer.initialize(dir, at, x)?;
        }
        if !rest.is_empty() {
            initialize_scales(rest, dir, at, &mut x.channels(0..scale.keep))?;
        }
        if dir == Direction::Inverse {
            scale.layer.initialize(dir, at, x)?;
        }
        Ok(())
    })
}

/// Says how large an image has to be, where a squeeze said only that its own input was odd or too small.
fn too_deep<L>(e: Error, scale: usize, network: &Multiscale<L>, input: Shape) -> Error {
    match e {
        Error::Shape { .. } if input.rank() > 0 => {
            let squeezes = network.scales.iter().filter(|scale| scale.squeeze.is_some()).count();
            let factor = 1usize.checked_shl(squeezes as u32).unwrap_or(usize::MAX);
            let expected = match network.odd {
                Odd::Refuse => format!("spatial extents that are multiples of {factor} (or odd extents carried)"),
                Odd::Carry => format!("spatial extents of at least {factor}"),
            };
            Error::shape(format!("scale {scale} of {}", network.scales.len()), expected, input)
        }
        other => other,
    }
}
