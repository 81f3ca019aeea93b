//! Hyperbolic networks.

use inn_core::{Architecture, Chain, Direction, Error, Result, Scope, Squeeze};
use inn_layers::conditioner::SymmetricConfig;
use inn_layers::hyperbolic::{HyperbolicLayer, SqueezeLanes, hyperbolic_layer};

/// A leapfrog network on two states (Lensink et al. 2019, arXiv:1905.10484): volume preserving, memory constant in depth.
///
/// ```text
/// [X_0; X_1] -> (resize both) -> X_{n+1} = 2 X_n - X_{n-1} - α Wᵀ * ρ(W * X_n + b) -> ..      ℓ = 0
/// ```
/// The states are lanes of one tensor, (B, 2 C, ..). Layer i overwrites lane i mod 2; after n layers the newest state is lane (n - 1) mod 2, see
/// [`HyperbolicConfig::newest_lane`].
pub type Hyperbolic = Chain<HyperbolicStep>;

/// A layer with the change of resolution before it, if any.
pub type HyperbolicStep = (Vec<SqueezeLanes>, HyperbolicLayer);

/// What happens to the resolution before a layer; Haar lifting both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Nothing.
    #[default]
    Keep,
    /// Half the extents, 2^rank times the channels.
    Coarsen,
    /// Twice the extents, channels / 2^rank.
    Refine,
}

/// One layer of a [`Hyperbolic`] network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperbolicLayerConfig {
    /// Before the layer.
    pub resize: Resize,
    /// Hidden channels; those of the state when absent.
    pub hidden: Option<usize>,
}

/// Settings of a [`Hyperbolic`] network.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperbolicConfig {
    /// Channels of one state.
    pub channels: usize,
    /// Spatial axes, 1 to 3.
    pub rank: usize,
    /// The layers, first to last.
    pub layers: Vec<HyperbolicLayerConfig>,
    /// Kernel, stride, α and activation of all layers; its hidden channels are the default of a layer.
    pub block: SymmetricConfig,
}

impl Default for HyperbolicConfig {
    /// Six layers at one resolution on images of 8 channels, α = 0.2.
    fn default() -> Self {
        Self {
            channels: 8,
            rank: 2,
            layers: vec![HyperbolicLayerConfig::default(); 6],
            block: SymmetricConfig { alpha: 0.2, ..SymmetricConfig::default() },
        }
    }
}

impl HyperbolicConfig {
    /// The lane (0 or 1) that holds the newest state after all layers.
    pub fn newest_lane(&self) -> usize {
        (self.layers.len() + 1) % 2
    }
}

impl Architecture for HyperbolicConfig {
    const KIND: &'static str = "hyperbolic";
    type Network = Hyperbolic;

    fn build(&self, scope: &mut Scope<'_>) -> Result<Hyperbolic> {
        let factor = 1 << self.rank;
        let mut channels = self.channels;
        Chain::build(scope, "layer", self.layers.len(), |scope, i| {
            let layer = self.layers[i];
            let resize = match layer.resize {
                Resize::Keep => None,
                Resize::Coarsen => {
                    channels *= factor;
                    Some(Direction::Forward)
                }
                Resize::Refine => {
                    if !channels.is_multiple_of(factor) {
                        let reason = format!("layer {i} refines {channels} channels; expected a multiple of {factor}");
                        return Err(Error::config("layers", reason));
                    }
                    channels /= factor;
                    Some(Direction::Inverse)
                }
            };
            let squeeze = resize.map(|forward| SqueezeLanes { forward, lanes: 2, squeeze: Squeeze::Haar });
            let block = SymmetricConfig { hidden: layer.hidden.or(self.block.hidden), ..self.block.clone() };
            Ok((squeeze.into_iter().collect(), hyperbolic_layer(scope, i % 2, channels, self.rank, &block)?))
        })
    }
}
