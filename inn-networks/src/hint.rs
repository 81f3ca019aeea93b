//! HINT at several scales.

use crate::levels::Levels;
use inn_core::{Architecture, Chain, Multiscale, Odd, Result, Scope, Squeeze};
use inn_layers::ActNorm;
use inn_layers::hint::{HintConfig, HintCoupling, hint_coupling};
use inn_layers::permute::Permute;

/// Activation normalization and a HINT coupling with its mixing: one flow step.
pub type HintStep = (ActNorm, HintCoupling);

/// Recursive couplings on several levels (Kruse et al. 2020, arXiv:1905.10687).
///
/// ```text
/// x -> squeeze -> [ActNorm -> mix -> HINT] x K -> (split) -> .. next level ..      ℓ = sum over the steps
/// ```
pub type MultiscaleHint = Multiscale<Chain<HintStep>>;

/// Settings of [`MultiscaleHint`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiscaleHintConfig {
    /// Channels of the data.
    pub channels: usize,
    /// Spatial axes, 0 to 3.
    pub rank: usize,
    /// L, the number of levels.
    pub levels: usize,
    /// K, the number of steps a level.
    pub steps: usize,
    /// How each level trades resolution for channels; absent for dense data and for networks at one resolution.
    pub squeeze: Option<Squeeze>,
    /// What a squeeze does with odd extents.
    pub odd: Odd,
    /// Whether half of the channels become latent after each level but the last.
    pub split: bool,
    /// The coupling and its mixing.
    pub hint: HintConfig,
}

impl Default for MultiscaleHintConfig {
    /// Three levels of four steps on colour images, Haar squeeze, with splitting, all channels mixed.
    fn default() -> Self {
        Self {
            channels: 3,
            rank: 2,
            levels: 3,
            steps: 4,
            squeeze: Some(Squeeze::Haar),
            odd: Odd::Refuse,
            split: true,
            hint: HintConfig { permute: Permute::Full, ..HintConfig::default() },
        }
    }
}

/// Declares `actnorm`, and the couplings and `mix` of a HINT coupling, for `channels` channels.
fn hint_step(scope: &mut Scope<'_>, channels: usize, rank: usize, config: &HintConfig) -> Result<HintStep> {
    Ok((ActNorm::new(&mut scope.sub("actnorm"), channels)?, hint_coupling(scope, channels, rank, None, config)?))
}

impl MultiscaleHintConfig {
    pub(crate) fn scales(&self) -> Levels {
        let Self { channels, rank, levels, squeeze, odd, split, .. } = *self;
        Levels { kind: Self::KIND, channels, rank, levels, squeeze, odd, split }
    }
}

impl Architecture for MultiscaleHintConfig {
    const KIND: &'static str = "multiscale_hint";
    type Network = MultiscaleHint;

    fn build(&self, scope: &mut Scope<'_>) -> Result<MultiscaleHint> {
        self.scales().build(scope, |scope, _, channels| {
            Chain::build(scope, "step", self.steps, |scope, _| hint_step(scope, channels, self.rank, &self.hint))
        })
    }
}
