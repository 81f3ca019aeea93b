//! Conditional HINT: two lanes, the second of which conditions the first.

use crate::hint::{HintStep, MultiscaleHint};
use crate::lane_scales::{LaneScale, LaneScales};
use crate::levels::Levels;
use inn_core::{Architecture, Chain, Error, Multiscale, Odd, On, Result, Scale, Scope, Squeeze};
use inn_layers::ActNorm;
use inn_layers::hint::{ConditionalHint, HintConfig};
use inn_layers::permute::Permute;

/// Activation normalization of both lanes and a conditional HINT layer.
pub type ConditionalHintStep = (On<ActNorm>, On<ActNorm>, ConditionalHint);

/// A flow on pairs (x, y), the lanes of one tensor (B, 2 C, ..) (Kruse et al. 2020, arXiv:1905.10687, section 4).
///
/// ```text
/// [x; y] -> [ActNorm x, ActNorm y -> conditional HINT] x K -> [z_x; z_y]      ℓ = sum over the steps and both lanes
/// ```
/// z_y depends on y alone, see [`lane`]. Samples of p(x | y) are therefore the inverse at \[z_x; z_y\] with z_y from the lane and z_x normal.
pub type ConditionalHintNetwork = Chain<ConditionalHintStep>;

/// [`ConditionalHintNetwork`] on several levels; both lanes are squeezed, and split if the network splits. See [`multiscale_lane`].
pub type MultiscaleConditionalHint = LaneScales<ConditionalHintNetwork>;

/// The map y -> z_y of the second lane alone, on C channels, with the parameters of the network: what forward and inverse of a condition need.
pub fn lane(network: &ConditionalHintNetwork) -> Chain<HintStep> {
    let links = network.links().iter();
    Chain::from_layers(links.map(|(name, (_, norm, layer))| (name.clone(), (norm.layer.clone(), layer.lane().clone()))))
}

/// [`lane`] of a network of several levels.
pub fn multiscale_lane(network: &MultiscaleConditionalHint) -> MultiscaleHint {
    let scales = network.scales.iter();
    let scales = scales.map(|scale| Scale { squeeze: scale.squeeze, layer: lane(&scale.layer), keep: scale.keep }).collect();
    Multiscale { rank: network.rank, odd: Odd::Refuse, scales }
}

/// Declares `x.actnorm`, `y.actnorm` and a [`ConditionalHint`] for lanes of `channels` channels.
fn steps(scope: &mut Scope<'_>, count: usize, channels: usize, rank: usize, config: &HintConfig) -> Result<ConditionalHintNetwork> {
    Chain::build(scope, "step", count, |scope, _| {
        let x = ActNorm::new(&mut scope.sub("x.actnorm"), channels)?;
        let y = ActNorm::new(&mut scope.sub("y.actnorm"), channels)?;
        let layer = ConditionalHint::new(scope, channels, rank, config)?;
        Ok((On { channels: 0..channels, layer: x }, On { channels: channels..2 * channels, layer: y }, layer))
    })
}

/// Settings of [`ConditionalHintNetwork`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionalHintConfig {
    /// C, the channels of one lane.
    pub channels: usize,
    /// Spatial axes, 0 to 3.
    pub rank: usize,
    /// K, the number of steps.
    pub depth: usize,
    /// The couplings and the mixing of the lanes.
    pub hint: HintConfig,
}

impl Default for ConditionalHintConfig {
    /// Eight steps on lanes of two channels of an image, all channels of a lane mixed.
    fn default() -> Self {
        Self { channels: 2, rank: 2, depth: 8, hint: HintConfig { permute: Permute::Full, ..HintConfig::default() } }
    }
}

impl Architecture for ConditionalHintConfig {
    const KIND: &'static str = "conditional_hint";
    type Network = ConditionalHintNetwork;

    fn build(&self, scope: &mut Scope<'_>) -> Result<ConditionalHintNetwork> {
        steps(scope, self.depth, self.channels, self.rank, &self.hint)
    }
}

/// Settings of [`MultiscaleConditionalHint`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiscaleConditionalHintConfig {
    /// Channels of one lane.
    pub channels: usize,
    /// Spatial axes, 0 to 3.
    pub rank: usize,
    /// L, the number of levels.
    pub levels: usize,
    /// K, the number of steps a level.
    pub steps: usize,
    /// How each level trades resolution for channels in both lanes; absent for networks at one resolution.
    pub squeeze: Option<Squeeze>,
    /// Whether half of the channels of each lane become latent after each level but the last.
    pub split: bool,
    /// The couplings and the mixing of the lanes.
    pub hint: HintConfig,
}

impl Default for MultiscaleConditionalHintConfig {
    /// Two levels of four steps on pairs of grey images, checkerboard squeeze, with splitting.
    fn default() -> Self {
        let hint = HintConfig { permute: Permute::Full, ..HintConfig::default() };
        Self { channels: 1, rank: 2, levels: 2, steps: 4, squeeze: Some(Squeeze::Checkerboard), split: true, hint }
    }
}

impl MultiscaleConditionalHintConfig {
    /// Those of one lane.
    pub(crate) fn scales(&self) -> Levels {
        let Self { channels, rank, levels, squeeze, split, .. } = *self;
        Levels { kind: Self::KIND, channels, rank, levels, squeeze, odd: Odd::Refuse, split }
    }
}

impl Architecture for MultiscaleConditionalHintConfig {
    const KIND: &'static str = "multiscale_conditional_hint";
    type Network = MultiscaleConditionalHint;

    fn build(&self, scope: &mut Scope<'_>) -> Result<MultiscaleConditionalHint> {
        let rank = self.rank;
        if self.channels.checked_mul(2).is_none() {
            return Err(Error::config("channels", "too many for two lanes"));
        }
        let one = self.scales().build(scope, |scope, _, channels| steps(scope, self.steps, channels, rank, &self.hint))?;
        let scale = |scale: Scale<_>| LaneScale { squeeze: scale.squeeze, layer: scale.layer, keep: scale.keep };
        Ok(LaneScales { rank, scales: one.scales.into_iter().map(scale).collect() })
    }
}
