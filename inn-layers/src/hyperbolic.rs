//! Leapfrog layers on two states.

use crate::conditioner::{SymmetricBlock, SymmetricConfig};
use crate::coupling::{Coupling, Leapfrog};
use inn_core::{Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, Result, Scope, Shape, Squeeze, View, ViewMut};

/// One leapfrog step of a nonlinear wave equation (Lensink et al. 2019, arXiv:1905.10484): the older state P makes way for the newest.
///
/// ```text
/// N = 2 Q - P + F(Q),    F(Q) = -α Wᵀ * ρ(W * Q + b),    inverse P = 2 Q - N + F(Q),    |det| = 1, ℓ = 0
/// ```
/// The two states are lanes of one tensor, its lower and its upper half of channels. A step overwrites P by N and leaves Q, so that steps take turns:
/// step i of a network moves lane i mod 2, and after n steps lane (n - 1) mod 2 holds the newest state. Nothing is swapped by copying.
pub type HyperbolicLayer = Coupling<SymmetricBlock, Leapfrog>;

/// Builds the step that moves `lane` (0 or 1) of a state of two lanes with `channels` channels each.
///
/// # Errors
/// Settings that are out of range.
pub fn hyperbolic_layer(
    scope: &mut Scope<'_>,
    lane: usize,
    channels: usize,
    rank: usize,
    config: &SymmetricConfig,
) -> Result<HyperbolicLayer> {
    let (lower, upper) = (0..channels, channels..2 * channels);
    let (moved, kept) = match lane {
        0 => (lower, upper),
        1 => (upper, lower),
        _ => return Err(Error::config("lane", format!("expected 0 or 1, got {lane}"))),
    };
    Ok(Coupling { conditioner: SymmetricBlock::new(scope, channels, rank, config)?, transform: Leapfrog, kept, moved })
}

/// What happens to the resolution of both states before a step; Haar lifting both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Nothing.
    #[default]
    Keep,
    /// Half the extents, 2^rank times the channels (the original's action -1).
    Coarsen,
    /// Twice the extents, channels / 2^rank (the original's action 1).
    Refine,
}

impl Resize {
    /// Channels of a state after it, of `channels` before it.
    ///
    /// # Errors
    /// Refining channels that are no multiple of 2^rank, or data without spatial axes.
    pub fn channels(self, channels: usize, rank: usize) -> Result<usize> {
        let factor = 1 << rank;
        match self {
            Self::Keep => Ok(channels),
            _ if rank == 0 => Err(Error::config("resize", "expected keep for data without spatial axes")),
            Self::Coarsen => Ok(channels * factor),
            Self::Refine if channels.is_multiple_of(factor) => Ok(channels / factor),
            Self::Refine => Err(Error::config("resize", format!("refining {channels} channels; expected a multiple of {factor}"))),
        }
    }
}

/// A leapfrog step with the change of resolution before it, if any: the layer of the original. Both are orthogonal in the pair (P, Q) or a shear of
/// it, so ℓ = 0.
pub type HyperbolicStep = (Vec<SqueezeLanes>, HyperbolicLayer);

/// Builds the step that resizes both states and then moves `lane`. `channels` are those of one state before it.
///
/// # Errors
/// As [`Resize::channels`] and [`hyperbolic_layer`].
pub fn hyperbolic_step(
    scope: &mut Scope<'_>,
    resize: Resize,
    lane: usize,
    channels: usize,
    rank: usize,
    config: &SymmetricConfig,
) -> Result<HyperbolicStep> {
    let forward = match resize {
        Resize::Keep => None,
        Resize::Coarsen => Some(Direction::Forward),
        Resize::Refine => Some(Direction::Inverse),
    };
    let squeeze = forward.map(|forward| SqueezeLanes { forward, lanes: 2, squeeze: Squeeze::Haar });
    Ok((squeeze.into_iter().collect(), hyperbolic_layer(scope, lane, resize.channels(channels, rank)?, rank, config)?))
}

/// A squeeze or unsqueeze of each lane for itself: both states change their resolution. Orthogonal, ℓ = 0.
#[derive(Clone, Copy, Debug)]
pub struct SqueezeLanes {
    /// What the forward map does: `Forward` squeezes (coarsens), `Inverse` unsqueezes.
    pub forward: Direction,
    /// Number of lanes, equal ranges of the channels.
    pub lanes: usize,
    /// How each of them is squeezed.
    pub squeeze: Squeeze,
}

impl SqueezeLanes {
    fn turn(&self, dir: Direction) -> Direction {
        if self.forward == Direction::Forward { dir } else { dir.flip() }
    }

    /// Squeezes or unsqueezes the lanes in place.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn apply<B: Backend>(&self, backend: &B, dir: Direction, x: &mut ViewMut<'_, B>) -> Result<()> {
        let shape = x.shape();
        let output = self.output(dir, shape)?;
        let each = shape.channels() / self.lanes;
        for lane in 0..self.lanes {
            backend.squeeze(self.squeeze, self.turn(dir), &mut x.channels(lane * each..(lane + 1) * each))?;
        }
        x.reshape(output)
    }

    fn output(&self, dir: Direction, input: Shape) -> Result<Shape> {
        if self.lanes == 0 || !input.channels().is_multiple_of(self.lanes) {
            return Err(Error::shape("input of SqueezeLanes", format!("a multiple of {} channels", self.lanes), input));
        }
        let lane = self.squeeze.output(self.turn(dir), input.with_channels(input.channels() / self.lanes))?;
        Ok(lane.with_channels(lane.channels() * self.lanes))
    }
}

impl Invertible for SqueezeLanes {
    fn check(&self, dir: Direction, _: Facts<'_>, input: Shape) -> Result<Shape> {
        self.output(dir, input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        self.apply(at.backend(), dir, x)
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
        self.apply(at.backend(), dir.flip(), y)?;
        self.apply(at.backend(), dir.flip(), gy)
    }
}
