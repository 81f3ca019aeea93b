//! Hyperbolic networks.

use inn_core::{Architecture, Chain, Result, Scope};
use inn_layers::conditioner::SymmetricConfig;
use inn_layers::hyperbolic::hyperbolic_step;

pub use inn_layers::hyperbolic::{HyperbolicStep, Resize};

/// A leapfrog network on two states (Lensink et al. 2019, arXiv:1905.10484): volume preserving, memory constant in depth.
///
/// ```text
/// [X_0; X_1] -> (resize both) -> X_{n+1} = 2 X_n - X_{n-1} - α Wᵀ * ρ(W * X_n + b) -> ..      ℓ = 0
/// ```
/// The states are lanes of one tensor, (B, 2 C, ..). Layer i overwrites lane i mod 2; after n layers the newest state is lane (n - 1) mod 2, see
/// [`HyperbolicConfig::newest_lane`].
pub type Hyperbolic = Chain<HyperbolicStep>;

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
        let mut channels = self.channels;
        Chain::build(scope, "layer", self.layers.len(), |scope, i| {
            let layer = self.layers[i];
            let block = SymmetricConfig { hidden: layer.hidden.or(self.block.hidden), ..self.block.clone() };
            let step = hyperbolic_step(scope, layer.resize, i % 2, channels, self.rank, &block)?;
            channels = layer.resize.channels(channels, self.rank)?;
            Ok(step)
        })
    }
}
