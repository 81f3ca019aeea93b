//! Whole networks of the original.

use super::{Array, Correspondence};
use crate::{ConditionalGlowConfig, GlowConfig, HyperbolicConfig};
use inn_core::{Architecture, Backend, Error, Layout, Model, Result};
use inn_layers::conditioner::{Head, NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_ops::{Activation, ScaleMap};

/// An architecture that the original has too.
pub trait Original: Architecture {
    /// The order of the original's parameters.
    ///
    /// # Errors
    /// Settings that the original does not have.
    fn correspondence(&self) -> Result<Correspondence>;
}

/// A model with the original's parameters, `arrays` in the order of its `get_params`.
///
/// # Errors
/// Settings that the original does not have, and arrays that do not fit them; see [`Correspondence::load`].
pub fn model<A: Original, B: Backend>(backend: &B, config: &A, arrays: &[&Array]) -> Result<Model<A::Network, B>> {
    let (network, layout) = Layout::build(|scope| config.build(scope))?;
    let params = config.correspondence()?.load(backend, &layout, arrays)?;
    Ok(Model::from_parts(network, params, true))
}

/// The flow step of the original's default: S = σ(u), kernels 3, 1, 3, ReLU inside and behind the residual block, three reflections.
pub fn step_config(hidden: usize) -> StepConfig {
    let net = ResidualConfig { hidden, activation: Activation::Relu, head: Head::Activated, last_gain: 1.0, ..ResidualConfig::default() };
    StepConfig { net: NetConfig::Residual(net), scale: ScaleMap::Sigmoid { low: 0.0, high: 1.0 }, reflections: Some(3) }
}

/// All ActNorms of the flow, then what stands `between`, then all couplings.
fn flow(config: &GlowConfig, between: impl FnOnce(Correspondence) -> Correspondence) -> Result<Correspondence> {
    let step = &config.step;
    if !matches!(step.net, NetConfig::Residual(_)) || !matches!(step.reflections, None | Some(3)) {
        let got = format!("{:?} and {:?} reflections", step.net, step.reflections);
        return Err(Error::config("step", format!("expected residual blocks and 3 reflections, which the original has, got {got}")));
    }
    let steps = || (0..config.levels).flat_map(|l| (0..config.steps).map(move |k| (l, k)));
    let norms = steps().fold(Correspondence::new(), |order, (l, k)| {
        order.actnorm(&format!("AN[{},{}]", l + 1, k + 1), &format!("level{l}.step{k}.actnorm"))
    });
    Ok(steps().fold(between(norms), |order, (l, k)| order.glow_coupling(&format!("CL[{},{}]", l + 1, k + 1), &format!("level{l}.step{k}"))))
}

impl Original for GlowConfig {
    /// `NetworkGlow`: s and b of all steps, then v1, v2, v3, W1, W2, W3, b1, b2 of all steps.
    fn correspondence(&self) -> Result<Correspondence> {
        flow(self, |norms| norms)
    }
}

impl Original for ConditionalGlowConfig {
    /// `NetworkConditionalGlow`: as `NetworkGlow`, with the ActNorm of the condition in between.
    fn correspondence(&self) -> Result<Correspondence> {
        if self.condition.net.is_some() {
            return Err(Error::config("condition", "expected no network in front of the flow, which the original does not have"));
        }
        flow(&self.flow, |norms| norms.actnorm("AN_C", "condition.normalize"))
    }
}

impl Original for HyperbolicConfig {
    /// `NetworkHyperbolic`: W and b of each layer.
    fn correspondence(&self) -> Result<Correspondence> {
        let layers = 0..self.layers.len();
        Ok(layers.fold(Correspondence::new(), |c, i| c.hyperbolic_layer(&format!("HL[{}]", i + 1), &format!("layer{i}"))))
    }
}
