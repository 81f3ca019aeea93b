//! Glow.

use crate::levels::Levels;
use inn_core::{Architecture, Chain, Error, Multiscale, Odd, Result, Scope, Squeeze};
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::{GlowStep, StepConfig, glow_step};

/// The multiscale flow of Kingma & Dhariwal 2018 (arXiv:1807.03039): at each level a squeeze, K flow steps, and a split.
///
/// ```text
/// x -> squeeze -> [ActNorm -> Householder -> affine coupling] x K -> split -> .. next level on the first half ..
///                                                                       \-> second half: latent
/// ```
pub type Glow = Multiscale<Chain<GlowStep>>;

/// Settings of [`Glow`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GlowConfig {
    /// Channels of the data.
    pub channels: usize,
    /// Spatial axes: 2 for images, 3 for volumes, 1 for series, 0 for dense data.
    pub rank: usize,
    /// L, the number of levels.
    pub levels: usize,
    /// K, the number of flow steps a level.
    pub steps: usize,
    /// How each level trades resolution for channels; absent for dense data and for flows at one resolution.
    pub squeeze: Option<Squeeze>,
    /// What a squeeze does with odd extents.
    pub odd: Odd,
    /// Whether half of the channels become latent after each level but the last. Without it every level sees all channels.
    pub split: bool,
    /// The flow step. A dense network that flattens a sample has its [`pixels`](DenseConfig::pixels) at the first level, behind the squeeze there;
    /// each further squeeze leaves the 2^rank-th part of them.
    pub step: StepConfig,
}

impl Default for GlowConfig {
    /// Three levels of eight steps on colour images, checkerboard squeeze, with splitting.
    fn default() -> Self {
        Self {
            channels: 3,
            rank: 2,
            levels: 3,
            steps: 8,
            squeeze: Some(Squeeze::Checkerboard),
            odd: Odd::Refuse,
            split: true,
            step: StepConfig::default(),
        }
    }
}

/// Primitives that a device is given for one flow step with a residual block as its network: forward, inverse, backward. A test pins them on
/// the CPU, which takes up the offers of mixing and of couplings.
pub const DISPATCHES_OF_A_STEP: [usize; 3] = [2, 2, 2];

impl GlowConfig {
    /// A flow on vectors of `channels` values: `steps` flow steps at one level.
    pub fn dense(channels: usize, steps: usize) -> Self {
        Self { channels, rank: 0, levels: 1, steps, squeeze: None, split: false, ..Self::default() }
    }

    /// Builds the network; level l reads the condition of index l, with `conditions[l]` channels, if there are any.
    pub(crate) fn build_conditional(&self, scope: &mut Scope<'_>, conditions: &[usize]) -> Result<Glow> {
        let Self { channels, rank, levels, squeeze, odd, split, .. } = *self;
        Levels { kind: Self::KIND, channels, rank, levels, squeeze, odd, split }.build(scope, |scope, level, channels| {
            let condition = conditions.get(level).map(|&channels| (level, channels));
            let step = self.step_at(level)?;
            Chain::build(scope, "step", self.steps, |scope, _| glow_step(scope, channels, rank, condition, &step))
        })
    }

    /// The step of a level, with the pixels that there are.
    fn step_at(&self, level: usize) -> Result<StepConfig> {
        let mut step = self.step.clone();
        if let (NetConfig::Dense(DenseConfig { pixels: Some(pixels), .. }), Some(_)) = (&mut step.net, self.squeeze) {
            let parts = u32::try_from(level * self.rank).ok().and_then(|bits| 1usize.checked_shl(bits));
            let Some(parts) = parts.filter(|&parts| pixels.is_multiple_of(parts)) else {
                let expected = format!("a multiple of 2^{}, whose parts are the pixels of level {level}", level * self.rank);
                return Err(Error::config("pixels", format!("expected {expected}, got {pixels}")));
            };
            *pixels /= parts;
        }
        Ok(step)
    }
}

impl Architecture for GlowConfig {
    const KIND: &'static str = "glow";
    type Network = Glow;

    fn build(&self, scope: &mut Scope<'_>) -> Result<Glow> {
        self.build_conditional(scope, &[])
    }
}
