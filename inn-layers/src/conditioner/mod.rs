//! Conditioner networks: what couplings read their coefficients from.

mod conditional_residual;
mod convolution;
mod dense;
mod offer;
mod residual_block;
mod resnet;
mod symmetric;

pub use conditional_residual::ConditionalResidualBlock;
pub use dense::{DenseConfig, DenseNet};
pub use residual_block::{Head, ResidualBlock, ResidualConfig};
pub use resnet::{ResNet, ResNetConfig, ResNetEnds};
pub use symmetric::{SymmetricBlock, SymmetricConfig};

use inn_core::{Backend, Conditioner, Facts, Gradients, Inputs, Kernel, Result, Saved, Scope, Shape, Update, View, ViewMut};

/// What a conditioner is built for: the channels on both of its sides, and what else it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ports {
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Spatial axes, 0 to 3.
    pub rank: usize,
    /// Index and channels of a condition that is read beside the input, if there is one.
    pub condition: Option<(usize, usize)>,
}

impl Ports {
    /// A conditioner of the input alone.
    pub fn new(inputs: usize, outputs: usize, rank: usize) -> Self {
        Self { inputs, outputs, rank, condition: None }
    }

    /// The same that also reads condition `index` of `channels` channels.
    #[must_use]
    pub fn with_condition(self, index: usize, channels: usize) -> Self {
        Self { condition: Some((index, channels)), ..self }
    }
}

/// The configuration of any conditioner of this crate.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NetConfig {
    /// Three convolutions with an inner skip.
    Residual(ResidualConfig),
    /// Fully connected layers.
    Dense(DenseConfig),
    /// Convolutional residual network.
    ResNet(ResNetConfig),
}

impl Default for NetConfig {
    fn default() -> Self {
        Self::Residual(ResidualConfig::default())
    }
}

impl NetConfig {
    /// Builds the network between `ports`.
    ///
    /// # Errors
    /// Settings that are out of range.
    pub fn build(&self, scope: &mut Scope<'_>, ports: Ports) -> Result<Net> {
        Ok(match self {
            Self::Residual(config) => Net::Residual(ResidualBlock::new(scope, ports, config)?),
            Self::Dense(config) => Net::Dense(DenseNet::new(scope, ports, config)?),
            Self::ResNet(config) => Net::ResNet(ResNet::new(scope, ports, config)?),
        })
    }
}

/// Any conditioner of this crate, so that a configuration can choose one.
#[derive(Clone, Debug)]
pub enum Net {
    /// See [`ResidualBlock`].
    Residual(ResidualBlock),
    /// See [`DenseNet`].
    Dense(DenseNet),
    /// See [`ResNet`].
    ResNet(ResNet),
}

macro_rules! each {
    ($self:expr, $net:ident => $body:expr) => {
        match $self {
            Net::Residual($net) => $body,
            Net::Dense($net) => $body,
            Net::ResNet($net) => $body,
        }
    };
}

impl Conditioner for Net {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        each!(self, net => net.check(facts, input))
    }
    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        each!(self, net => net.hidden_bytes(at, x, save))
    }
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        each!(self, net => net.forward(at, x, out))
    }
    fn evaluate<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        each!(self, net => net.evaluate(at, x, out))
    }
    fn adds<B: Backend>(&self, at: &Inputs<'_, B>, x: Shape) -> Result<bool> {
        each!(self, net => net.adds(at, x))
    }
    fn add_to<B: Backend>(&self, at: &Inputs<'_, B>, state: &mut Update<'_, B>) -> Result<()> {
        each!(self, net => net.add_to(at, state))
    }
    fn add_and_vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        each!(self, net => net.add_and_vjp(at, state, cotangent, grads))
    }
    fn couple<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        state: &mut Update<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<bool> {
        each!(self, net => net.couple(at, kernel, state, logdet))
    }
    fn couple_pull<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        gl: View<'_, B>,
        state: &mut Update<'_, B>,
        cotangent: &mut Update<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<bool> {
        each!(self, net => net.couple_pull(at, kernel, gl, state, cotangent, grads))
    }
    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        each!(self, net => net.vjp(at, x, saved, gout, gx, grads))
    }
}
