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

impl GlowConfig {
    /// Level and step, with the name that the step's parts share in the original.
    fn steps_of_original(&self) -> Result<impl Iterator<Item = (String, String)>> {
        if !matches!(self.step.net, NetConfig::Residual(_)) || !matches!(self.step.reflections, None | Some(3)) {
            let got = format!("{:?} and {:?} reflections", self.step.net, self.step.reflections);
            return Err(Error::config("step", format!("expected residual blocks and 3 reflections, which the original has, got {got}")));
        }
        let steps = self.steps;
        Ok((0..self.levels).flat_map(move |l| (0..steps).map(move |k| (format!("[{},{}]", l + 1, k + 1), format!("level{l}.step{k}")))))
    }
}

impl Original for GlowConfig {
    /// `NetworkGlow`: all ActNorms, then all couplings.
    fn correspondence(&self) -> Result<Correspondence> {
        let norms = self
            .steps_of_original()?
            .fold(Correspondence::new(), |c, (theirs, ours)| c.actnorm(&format!("AN{theirs}"), &format!("{ours}.actnorm")));
        Ok(self.steps_of_original()?.fold(norms, |c, (theirs, ours)| c.glow_coupling(&format!("CL{theirs}"), &ours)))
    }
}

impl Original for ConditionalGlowConfig {
    /// `NetworkConditionalGlow`: all ActNorms, that of the condition, then all couplings.
    fn correspondence(&self) -> Result<Correspondence> {
        if self.condition.net.is_some() {
            return Err(Error::config("condition", "expected no network in front of the flow, which the original does not have"));
        }
        let flow = &self.flow;
        let norms = flow
            .steps_of_original()?
            .fold(Correspondence::new(), |c, (theirs, ours)| c.actnorm(&format!("AN{theirs}"), &format!("{ours}.actnorm")));
        let norms = norms.actnorm("AN_C", "condition.normalize");
        Ok(flow.steps_of_original()?.fold(norms, |c, (theirs, ours)| c.glow_coupling(&format!("CL{theirs}"), &ours)))
    }
}

impl Original for HyperbolicConfig {
    /// `NetworkHyperbolic`: W and b of each layer.
    fn correspondence(&self) -> Result<Correspondence> {
        let layers = 0..self.layers.len();
        Ok(layers.fold(Correspondence::new(), |c, i| c.hyperbolic_layer(&format!("HL[{}]", i + 1), &format!("layer{i}"))))
    }
}
