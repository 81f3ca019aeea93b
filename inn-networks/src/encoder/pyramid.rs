//! Pyramids: one condition for each level of a multiscale network.

use super::{Encoded, Encoder, first, same_extents};
use crate::glow::{Glow, GlowConfig};
use inn_core::compose::carry;
use inn_core::conditioner::tiles;
use inn_core::{
    Architecture, Backend, Conditioner, Direction, Facts, Gradients, Inputs, Invertible, Odd, Result, Scope, Setup, Shape, Squeeze, Tensor,
};
use inn_layers::ActNorm;
use inn_layers::conditioner::{Net, NetConfig, Ports};

/// Settings of a [`Pyramid`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PyramidConfig {
    /// Channels of the condition as it is given.
    pub channels: usize,
    /// A network at each level, trained with the flow; without one the condition is only normalized and squeezed, as in the original.
    pub net: Option<NetConfig>,
    /// Channels that each of these networks hands to the flow and to the next level.
    pub features: usize,
}

impl Default for PyramidConfig {
    /// One channel, no networks.
    fn default() -> Self {
        Self { channels: 1, net: None, features: 16 }
    }
}

/// One condition for each level of a multiscale network, from a condition with the extents of the data.
///
/// ```text
/// c_0 = squeeze(ActNorm(condition)),    d_l = N_l(c_l)  (or c_l),    c_{l+1} = squeeze(d_l);    level l reads d_l
/// ```
/// Backward, from the cotangents g_l of d_l, for l = L-1 .. 0: g = g_l + unsqueeze of what came from level l + 1, then through N_l; at the end
/// through ActNorm. Where the network carries odd extents ([`Odd::Carry`]), a squeeze drops the last slice of the condition. Nothing is kept from the forward pass but the d_l: hidden values are recomputed tile by tile.
#[derive(Clone, Debug)]
pub struct Pyramid {
    normalize: ActNorm,
    nets: Vec<Option<Net>>,
    widths: Vec<usize>,
    squeeze: Option<Squeeze>,
    odd: Odd,
}

impl Pyramid {
    /// Declares `normalize` and `level{l}`, for the levels of `flow`.
    ///
    /// # Errors
    /// Settings that are out of range.
    pub fn new(scope: &mut Scope<'_>, config: &PyramidConfig, flow: &GlowConfig) -> Result<Self> {
        let GlowConfig { levels, rank, squeeze, odd, .. } = *flow;
        let normalize = ActNorm::new(&mut scope.sub("normalize"), config.channels)?;
        let (mut channels, mut nets, mut widths) = (config.channels, Vec::new(), Vec::new());
        for level in 0..levels {
            if squeeze.is_some() {
                channels <<= rank;
            }
            let net = match &config.net {
                Some(net) => {
                    let ports = Ports::new(channels, config.features, rank);
                    channels = config.features;
                    Some(net.build(&mut scope.sub(format!("level{level}")), ports)?)
                }
                None => None,
            };
            nets.push(net);
            widths.push(channels);
        }
        Ok(Self { normalize, nets, widths, squeeze, odd })
    }

    /// The channels of each d_l.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    fn squeezed<B: Backend>(&self, backend: &B, c: Tensor<B>) -> Result<Tensor<B>> {
        let Some(squeeze) = self.squeeze else { return Ok(c) };
        let (full, mut c) = (c.shape(), c);
        let even = self.odd.even(full)?;
        if even != full {
            let mut part = Tensor::scratch(backend, even)?;
            let mut whole = c.view_mut();
            carry(backend, Direction::Forward, full, &mut whole)?;
            part.view_mut().assign(backend, whole.view())?;
            c = part;
        }
        backend.squeeze(squeeze, Direction::Forward, &mut c.view_mut())?;
        c.reshape(squeeze.output(Direction::Forward, even)?)
    }

    /// The adjoint of [`squeezed`](Self::squeezed), to a condition of shape `full`.
    fn unsqueezed<B: Backend>(&self, backend: &B, g: Tensor<B>, full: Shape) -> Result<Tensor<B>> {
        let Some(squeeze) = self.squeeze else { return Ok(g) };
        let mut g = g;
        let even = squeeze.output(Direction::Inverse, g.shape())?;
        backend.squeeze(squeeze, Direction::Inverse, &mut g.view_mut())?;
        let g = g.reshape(even)?;
        if even == full {
            return Ok(g);
        }
        let mut whole = Tensor::zeros(backend, full)?;
        let mut view = whole.view_mut();
        carry(backend, Direction::Forward, full, &mut view)?;
        view.assign(backend, g.view())?;
        carry(backend, Direction::Inverse, full, &mut view)?;
        Ok(whole)
    }

    fn normalized<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Tensor<B>> {
        let mut c = first(at.conditions)?.duplicate()?;
        let mut logdet = Tensor::zeros(at.backend(), Shape::per_sample(c.shape().batch()))?;
        self.normalize.map(Direction::Forward, at, &mut c.view_mut(), &mut logdet.view_mut())?;
        Ok(c)
    }
}

impl Encoder for Pyramid {
    fn belongs(&self, observations: &[Shape], state: Shape) -> Result<()> {
        same_extents(*first(observations)?, state)
    }

    /// The shapes of d_0 .. d_{L-1}.
    fn check(&self, facts: Facts<'_>) -> Result<Vec<Shape>> {
        let mut shape = self.normalize.check(Direction::Forward, facts, *first(facts.conditions)?)?;
        let mut shapes = Vec::with_capacity(self.nets.len());
        for net in &self.nets {
            if let Some(squeeze) = self.squeeze {
                shape = squeeze.output(Direction::Forward, self.odd.even(shape)?)?;
            }
            if let Some(net) = net {
                shape = net.check(facts, shape)?;
            }
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// d_0 .. d_{L-1} for a batch of conditions.
    fn encode<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>> {
        let backend = at.backend();
        let mut current = self.normalized(at)?;
        let mut levels: Vec<Tensor<B>> = Vec::with_capacity(self.nets.len());
        for net in &self.nets {
            current = self.squeezed(backend, current)?;
            if let Some(net) = net {
                let mut out = Tensor::scratch(backend, net_output(net, at, current.shape())?)?;
                for tile in tiles(net, at, current.view(), 0, false)? {
                    net.evaluate(&at.tile(tile.clone()), current.view().samples(tile.clone()), &mut out.view_mut().samples(tile))?;
                }
                current = out;
            }
            levels.push(current);
            // The next level squeezes in place what this one hands out.
            current = match levels.last() {
                Some(last) if levels.len() < self.nets.len() => last.duplicate()?,
                _ => break,
            };
        }
        Ok(levels)
    }

    /// Takes the cotangents of d_l back to the condition, into `grads`.
    fn pull<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        levels: &[Tensor<B>],
        cotangents: Vec<Tensor<B>>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let mut deeper: Option<Tensor<B>> = None;
        for (level, mut g) in cotangents.into_iter().enumerate().rev() {
            if let Some(deeper) = deeper {
                g.view_mut().axpy(backend, 1.0, deeper.view())?;
            }
            if let Some(net) = &self.nets[level] {
                let source = if level == 0 { self.normalized(at)? } else { levels[level - 1].duplicate()? };
                let source = self.squeezed(backend, source)?;
                let mut gsource = Tensor::zeros(backend, source.shape())?;
                let mut out = Tensor::scratch(backend, g.shape())?;
                for tile in tiles(net, at, source.view(), 0, true)? {
                    let at = at.tile(tile.clone());
                    let x = source.view().samples(tile.clone());
                    let saved = net.forward(&at, x, &mut out.view_mut().samples(tile.clone()))?;
                    let (mut g, mut gsource) = (g.view_mut(), gsource.view_mut());
                    net.vjp(&at, x, saved, &mut g.samples(tile.clone()), &mut gsource.samples(tile), grads)?;
                }
                g = gsource;
            }
            let full = if level == 0 { first(at.conditions)?.shape() } else { levels[level - 1].shape() };
            deeper = Some(self.unsqueezed(backend, g, full)?);
        }
        let Some(mut g) = deeper else { return Ok(()) };
        let mut c = self.normalized(at)?;
        let gl = Tensor::zeros(backend, Shape::per_sample(c.shape().batch()))?;
        self.normalize.pull(Direction::Forward, at, &mut c.view_mut(), &mut g.view_mut(), gl.view(), grads)?;
        grads.condition(0, 0..g.shape().batch())?.axpy(backend, 1.0, g.view())
    }

    fn initialize<B: Backend>(&self, _: Direction, at: &mut Setup<'_, B>) -> Result<()> {
        let mut normalized = first(at.conditions)?.duplicate()?;
        self.normalize.initialize(Direction::Forward, at, &mut normalized.view_mut())
    }
}

fn net_output<B: Backend>(net: &Net, at: &Inputs<'_, B>, input: Shape) -> Result<Shape> {
    net.check(Facts { layout: at.theta.layout(), conditions: &[], operator: None }, input)
}

/// Glow with a condition at every level (the conditional flow of Ardizzone et al. 2019, arXiv:1907.02392, on the layers of Glow).
///
/// ```text
/// condition -> ActNorm -> squeeze -> (N_0) -> d_0 -> squeeze -> (N_1) -> d_1 ..
///                                             |                           |
/// x ------------------> squeeze -> K steps(.; d_0) -> split -> K steps(.; d_1) ..
/// ```
pub type ConditionalGlow = Encoded<Glow>;

/// Settings of [`ConditionalGlow`].
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConditionalGlowConfig {
    /// The flow.
    pub flow: GlowConfig,
    /// The condition and how it is encoded.
    pub condition: PyramidConfig,
}

impl Architecture for ConditionalGlowConfig {
    const KIND: &'static str = "conditional_glow";
    type Network = ConditionalGlow;

    fn build(&self, scope: &mut Scope<'_>) -> Result<ConditionalGlow> {
        let encoder = Pyramid::new(&mut scope.sub("condition"), &self.condition, &self.flow)?;
        let inner = self.flow.build_conditional(scope, encoder.widths())?;
        Ok(Encoded::new(encoder, inner))
    }
}
