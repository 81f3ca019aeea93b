//! Glow.

use inn_core::{Architecture, Chain, Error, Multiscale, Odd, Result, Scale, Scope, Squeeze};
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
    /// The flow step.
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
/// the CPU, which takes up the offer of reflections.
pub const DISPATCHES_OF_A_STEP: [usize; 3] = [5, 5, 25];

impl GlowConfig {
    /// A flow on vectors of `channels` values: `steps` flow steps at one level.
    pub fn dense(channels: usize, steps: usize) -> Self {
        Self { channels, rank: 0, levels: 1, steps, squeeze: None, split: false, ..Self::default() }
    }

    /// Builds the network; level l reads the condition of index l, with `conditions[l]` channels, if there are any.
    pub(crate) fn build_conditional(&self, scope: &mut Scope<'_>, conditions: &[usize]) -> Result<Glow> {
        if self.levels == 0 || self.rank > 3 {
            let got = format!("{} levels in {} dimensions", self.levels, self.rank);
            return Err(Error::config("glow", format!("expected at least one level and 0 to 3 dimensions, got {got}")));
        }
        if self.rank == 0 && self.squeeze.is_some() {
            return Err(Error::config("squeeze", "dense data have no extents to squeeze; expected none"));
        }
        let mut channels = self.channels;
        let mut scales = Vec::with_capacity(self.levels);
        for level in 0..self.levels {
            if self.squeeze.is_some() {
                let factor = 1 << self.rank;
                channels = channels.checked_mul(factor).ok_or_else(|| Error::config("levels", "too many: the channels overflow"))?;
            }
            let condition = conditions.get(level).map(|&channels| (level, channels));
            let mut scope = scope.sub(format!("level{level}"));
            let layer =
                Chain::build(&mut scope, "step", self.steps, |scope, _| glow_step(scope, channels, self.rank, condition, &self.step))?;
            let keep = if self.split { inn_ops::split::half(channels).max(1) } else { channels };
            scales.push(Scale { squeeze: self.squeeze, layer, keep });
            channels = keep;
        }
        Ok(Multiscale { rank: self.rank, odd: self.odd, scales })
    }
}

impl Architecture for GlowConfig {
    const KIND: &'static str = "glow";
    type Network = Glow;

    fn build(&self, scope: &mut Scope<'_>) -> Result<Glow> {
        self.build_conditional(scope, &[])
    }
}
