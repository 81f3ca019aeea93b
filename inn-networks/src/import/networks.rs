//! Whole networks of the original.

use super::{Array, Correspondence};
use crate::irim::LoopLayerConfig;
use crate::summary::Reduce;
use crate::{
    ConditionalGlowConfig, ConditionalHintConfig, GlowConfig, HyperbolicConfig, IrimLoopConfig, MultiscaleConditionalHintConfig,
    MultiscaleHintConfig, SummarizedGlowConfig,
};
use inn_core::{Architecture, Backend, Error, Layout, Model, Result};
use inn_layers::conditioner::{DenseConfig, Head, NetConfig, ResNetEnds, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_layers::hint::HintConfig;
use inn_layers::lanes::LaneConfig;
use inn_layers::permute::Permute;
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

/// ReLU inside and behind, kernels 3, 1, 3.
fn block(hidden: usize) -> ResidualConfig {
    ResidualConfig { hidden, activation: Activation::Relu, head: Head::Activated, last_gain: 1.0, ..ResidualConfig::default() }
}

/// S = σ(u).
const SIGMOID: ScaleMap = ScaleMap::Sigmoid { low: 0.0, high: 1.0 };

/// The flow step of the original's default: S = σ(u), kernels 3, 1, 3, ReLU inside and behind the residual block, three reflections.
pub fn step_config(hidden: usize) -> StepConfig {
    StepConfig { net: NetConfig::Residual(block(hidden)), scale: SIGMOID, reflections: Some(3) }
}

/// HINT as the original's networks have it by default: as [`step_config`] with kernels 3, 3, 3, one network for each depth, all channels mixed
/// before. In `NetworkLoop` it has strides and mixes afterwards too, see [`loop_hint_config`].
pub fn hint_config(hidden: usize) -> HintConfig {
    let net = NetConfig::Residual(ResidualConfig { inner_kernel: 3, ..block(hidden) });
    HintConfig { net, scale: SIGMOID, permute: Permute::Full, shared: true, leaf: 4, reflections: 3 }
}

/// Kernels 4, 3, 4 with strides of 4 at both ends.
fn strided(hidden: usize) -> ResidualConfig {
    ResidualConfig { outer_kernel: 4, outer_stride: 4, outer_padding: Some(0), inner_kernel: 3, ..block(hidden) }
}

/// The layer of `NetworkLoop(..; type = "HINT")` by default.
pub fn loop_hint_config(hidden: usize) -> HintConfig {
    HintConfig { net: NetConfig::Residual(strided(hidden)), permute: Permute::Both, ..hint_config(hidden) }
}

/// `CouplingLayerIRIM` by default, also in `NetworkLoop`: kernels 4, 3, 4 with strides of 4 at both ends, a gated head, mixing before and after.
pub fn lane_config(hidden: usize) -> LaneConfig {
    let net = NetConfig::Residual(ResidualConfig { head: Head::Gated, ..strided(hidden) });
    LaneConfig { net, permute: Permute::Both, reflections: 3, ..LaneConfig::default() }
}

/// Refuses HINT that the original does not have; `modes` are the ways of mixing that it has here.
fn expect_hint(config: &HintConfig, modes: &[Permute]) -> Result<()> {
    let same = matches!(config.net, NetConfig::Residual(_)) && config.shared && config.leaf == 4 && config.reflections == 3;
    if same && modes.contains(&config.permute) {
        return Ok(());
    }
    let expected = format!("residual blocks, shared, leaves of 4 channels, 3 reflections and one of {modes:?}, which the original has");
    Err(Error::config("hint", format!("expected {expected}, got {config:?}")))
}

/// The flow step of `NetworkGlow(..; dense = true)` on `channels` channels of `pixels` values: two hidden layers of `channels * hidden` values and
/// a last one, all with a ReLU behind. With `split_scales` those are the channels and values behind the first squeeze; at each further level the
/// channels are as many, and the values half.
pub fn dense_step_config(hidden: usize, channels: usize, pixels: usize) -> StepConfig {
    let net = DenseConfig {
        hidden: vec![channels * hidden; 2],
        activation: Activation::Relu,
        activated_head: true,
        last_gain: 1.0,
        pixels: Some(pixels),
        spread: None,
    };
    StepConfig { net: NetConfig::Dense(net), ..step_config(hidden) }
}

/// All ActNorms of the flow, then what stands `between`, then all couplings.
fn flow(config: &GlowConfig, between: impl FnOnce(Correspondence) -> Correspondence) -> Result<Correspondence> {
    let step = &config.step;
    let dense = match &step.net {
        NetConfig::Residual(_) => None,
        NetConfig::Dense(DenseConfig { hidden, activated_head: true, pixels: Some(_), .. }) => Some(hidden.len() + 1),
        net => {
            let expected = "residual blocks, or flattened dense ones with an activated head, which the original has";
            return Err(Error::config("step", format!("expected {expected}, got {net:?}")));
        }
    };
    if !matches!(step.reflections, None | Some(3)) {
        return Err(Error::config("step", format!("expected 3 reflections, which the original has, got {:?}", step.reflections)));
    }
    let steps = || (0..config.levels).flat_map(|l| (0..config.steps).map(move |k| (l, k)));
    let norms = steps().fold(Correspondence::new(), |order, (l, k)| {
        order.actnorm(&format!("AN[{},{}]", l + 1, k + 1), &format!("level{l}.step{k}.actnorm"))
    });
    Ok(steps().fold(between(norms), |order, (l, k)| {
        let (theirs, ours) = (format!("CL[{},{}]", l + 1, k + 1), format!("level{l}.step{k}"));
        match dense {
            None => order.glow_coupling(&theirs, &ours),
            Some(layers) => {
                let order = order.householder(&format!("{theirs}.C"), &format!("{ours}.mix"));
                order.dense_block(&format!("{theirs}.RB"), &format!("{ours}.coupling"), layers)
            }
        }
    }))
}

impl Original for GlowConfig {
    /// `NetworkGlow`: s and b of all steps, then v1, v2, v3, W1, W2, W3, b1, b2 of all steps (or, dense, v1, v2, v3, W, b, W, b, W, b).
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

impl Original for MultiscaleHintConfig {
    /// `NetworkMultiScaleHINT`, which squeezes by the wavelet `db1`: s and b of all steps, then HINT of all steps.
    fn correspondence(&self) -> Result<Correspondence> {
        expect_hint(&self.hint, &[Permute::Full])?;
        let widths = self.scales().widths()?;
        let steps = || widths.iter().enumerate().flat_map(|(l, &(channels, _))| (0..self.steps).map(move |k| (l, k, channels)));
        let norms = steps().fold(Correspondence::new(), |order, (l, k, _)| {
            order.actnorm(&format!("AN[{},{}]", l + 1, k + 1), &format!("level{l}.step{k}.actnorm"))
        });
        Ok(steps().fold(norms, |order, (l, k, channels)| {
            order.hint_coupling(&format!("CL[{},{}]", l + 1, k + 1), &format!("level{l}.step{k}"), channels, true)
        }))
    }
}

/// ActNorms of lane X of all steps, those of lane Y, then all layers. A step is its place there, its place here, and the channels of a lane.
fn lanes(steps: &[(String, String, usize)], hint: &HintConfig) -> Result<Correspondence> {
    expect_hint(hint, &[Permute::Full, Permute::None])?;
    let norms = [("AN_X", "x"), ("AN_Y", "y")].iter().fold(Correspondence::new(), |order, (theirs, lane)| {
        steps.iter().fold(order, |order, (place, ours, _)| order.actnorm(&format!("{theirs}[{place}]"), &format!("{ours}.{lane}.actnorm")))
    });
    let mixed = hint.permute != Permute::None;
    Ok(steps.iter().fold(norms, |order, (place, ours, channels)| order.conditional_hint(&format!("CL[{place}]"), ours, *channels, mixed)))
}

impl Original for ConditionalHintConfig {
    /// `NetworkConditionalHINT`.
    fn correspondence(&self) -> Result<Correspondence> {
        let steps: Vec<_> = (0..self.depth).map(|k| (format!("{}", k + 1), format!("step{k}"), self.channels)).collect();
        lanes(&steps, &self.hint)
    }
}

impl Original for MultiscaleConditionalHintConfig {
    /// `NetworkMultiScaleConditionalHINT`.
    fn correspondence(&self) -> Result<Correspondence> {
        let widths = self.scales().widths()?;
        let step = |l: usize, k: usize, channels| (format!("{},{}", l + 1, k + 1), format!("level{l}.step{k}"), channels);
        let steps: Vec<_> =
            widths.iter().enumerate().flat_map(|(l, &(channels, _))| (0..self.steps).map(move |k| step(l, k, channels))).collect();
        lanes(&steps, &self.hint)
    }
}

impl Original for IrimLoopConfig {
    /// `NetworkLoop`: all layers, then all ActNorms.
    fn correspondence(&self) -> Result<Correspondence> {
        let layers = (0..self.iterations).try_fold(Correspondence::new(), |order, i| {
            let (theirs, ours) = (format!("L[{}]", i + 1), format!("iteration{i}"));
            match &self.layer {
                LoopLayerConfig::Hint(hint) => {
                    expect_hint(hint, &[Permute::Both])?;
                    Ok(order.hint_coupling(&theirs, &ours, self.channels, true))
                }
                LoopLayerConfig::Additive(LaneConfig { net: NetConfig::Residual(_), permute: Permute::Both, reflections: 3, .. }) => {
                    Ok(order.irim_coupling(&theirs, &ours))
                }
                LoopLayerConfig::Additive(config) => {
                    let expected = "a residual block between two mixings of 3 reflections, which the original has";
                    Err(Error::config("layer", format!("expected {expected}, got {config:?}")))
                }
            }
        })?;
        let norm = |order: Correspondence, i: usize| order.actnorm(&format!("AN[{}]", i + 1), &format!("iteration{i}.norm"));
        Ok((0..self.iterations).fold(layers, norm))
    }
}

impl Original for SummarizedGlowConfig {
    /// `SummarizedNet` of a `NetworkConditionalGlow` and a `ResNet` without normalization: the network, then the summary.
    fn correspondence(&self) -> Result<Correspondence> {
        let network = self.glow.correspondence()?;
        match &self.summary.net {
            NetConfig::ResNet(net) if net.ends != ResNetEnds::Both && self.summary.reduce == Reduce::Keep && self.summary.refine == 0 => {
                Ok(network.resnet("summary_net", "summary.net", net.blocks, net.ends == ResNetEnds::Last))
            }
            net => {
                let expected = "a ResNet without a convolution in front, its output kept as it is, which the original has";
                Err(Error::config("summary", format!("expected {expected}, got {net:?} and {:?}", self.summary.reduce)))
            }
        }
    }
}
