//! Convolutional residual network.

use super::Ports;
use super::convolution::{BiasActivate, Convolution, SumChannels, activated, add_bias, pull_activation};
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Param, Result, Saved, Scope, Shape, Tensor, View, ViewMut, Write,
};
use inn_ops::Activation;

/// The convolutions at the ends of a [`ResNet`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResNetEnds {
    /// One to the hidden channels, one from them.
    #[default]
    Both,
    /// None in front: the blocks act on the input's channels, and the hidden channels are inside of them alone, as in the original with `n_out`.
    Last,
    /// Neither: as many outputs as inputs, as in the original without `n_out`.
    Neither,
}

/// Settings of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels inside a block, and between the first and the last convolution if there are both.
    pub hidden: usize,
    /// Number of residual blocks.
    pub blocks: usize,
    /// Extent of all kernels, odd.
    pub kernel: usize,
    /// ρ.
    pub activation: Activation,
    /// Which convolutions there are outside of the blocks.
    pub ends: ResNetEnds,
    /// Factor on the Glorot bound of the last convolution's starting values. 0 starts a coupling as the identity.
    pub last_gain: f64,
}

impl Default for ResNetConfig {
    /// 32 channels, two blocks, 3x3 kernels, ReLU, a last convolution that starts at zero.
    fn default() -> Self {
        Self { hidden: 32, blocks: 2, kernel: 3, activation: Activation::default(), ends: ResNetEnds::Both, last_gain: 0.0 }
    }
}

/// A residual network without normalization (He et al. 2015, arXiv:1512.03385).
///
/// ```text
/// X_0 = W_in * x + b_in,    Y_i = A_i * X_{i-1} + a_i,    X_i = X_{i-1} + C_i * ρ(Y_i) + c_i,    out = W_out * X_n + b_out
/// ```
/// VJP, from gX_n = W_outᵀ * gout, for i = n .. 1: gC_i = filt(ρ(Y_i), gX_i), gc_i = Σ gX_i, gY_i = ρ'(Y_i) ⊙ (C_iᵀ * gX_i),
/// gA_i = filt(X_{i-1}, gY_i), ga_i = Σ gY_i, gX_{i-1} = gX_i + A_iᵀ * gY_i. A condition joins x at the first convolution. Without a
/// convolution at an end, see [`ResNetEnds`], X_0 = x or out = X_n.
///
/// There is no batch normalization: statistics of the batch would differ between the forward pass and the recomputation, which silently breaks
/// the gradient (SPEC, S12).
#[derive(Clone, Debug)]
pub struct ResNet {
    first: Option<(Convolution, Param)>,
    blocks: Vec<[(Convolution, Param); 2]>,
    last: Option<(Convolution, Param)>,
    activation: Activation,
    /// Channels of X_i and of Y_i.
    widths: [usize; 2],
}

impl ResNet {
    /// Declares `first`, `block{i}.conv1`, `block{i}.conv2` and `last`, each a weight and a bias.
    ///
    /// # Errors
    /// No channels, an even kernel, and ends that do not suit the inputs and outputs.
    pub fn new(scope: &mut Scope<'_>, ports: Ports, config: &ResNetConfig) -> Result<Self> {
        if config.kernel.is_multiple_of(2) {
            return Err(Error::config("kernel", format!("expected an odd extent, so that the skip fits, got {}", config.kernel)));
        }
        if config.ends != ResNetEnds::Both && ports.condition.is_some() {
            return Err(Error::config("ends", "a condition joins at the first convolution; expected both, got none in front"));
        }
        if config.ends == ResNetEnds::Neither && (ports.inputs != ports.outputs || config.blocks == 0) {
            let expected = "as many outputs as inputs, and a block, where there is no convolution but in blocks";
            return Err(Error::config("ends", format!("expected {expected}, got {ports:?}, {} blocks", config.blocks)));
        }
        let unit = |mut scope: Scope<'_>, ports: Ports, gain: f64| -> Result<(Convolution, Param)> {
            let conv = Convolution::new(&mut scope, ports, config.kernel, Conv::same(config.kernel), Init::Glorot { gain })?;
            Ok((conv, scope.vector("bias", ports.outputs, Init::Constant(0.0))?))
        };
        let both = config.ends == ResNetEnds::Both;
        let first = both.then(|| unit(scope.sub("first"), Ports { outputs: config.hidden, ..ports }, 1.0)).transpose()?;
        let widths = [if both { config.hidden } else { ports.inputs }, config.hidden];
        let (into, back) = (Ports::new(widths[0], widths[1], ports.rank), Ports::new(widths[1], widths[0], ports.rank));
        let mut blocks = Vec::with_capacity(config.blocks);
        for i in 0..config.blocks {
            let mut scope = scope.sub(format!("block{i}"));
            blocks.push([unit(scope.sub("conv1"), into, 1.0)?, unit(scope.sub("conv2"), back, 1.0)?]);
        }
        let last = match config.ends {
            ResNetEnds::Neither => None,
            _ => Some(unit(scope.sub("last"), Ports { inputs: widths[0], condition: None, ..ports }, config.last_gain)?),
        };
        Ok(Self { first, blocks, last, activation: config.activation, widths })
    }
}

/// gb += Σ g.
fn pull_bias<B: Backend>(backend: &B, g: View<'_, B>, bias: Param, grads: &mut Gradients<'_, B>) -> Result<()> {
    backend.zip(&SumChannels, g.shape(), &[g], &mut [], &mut [grads.theta.update(&[bias])?], &mut [])
}

impl Conditioner for ResNet {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let unit = |(conv, bias): &(Convolution, Param), shape| {
            facts.param(*bias)?;
            conv.check(facts, shape)
        };
        let mut shape = self.first.as_ref().map_or(Ok(input), |first| unit(first, input))?;
        for [conv1, conv2] in &self.blocks {
            shape = unit(conv2, unit(conv1, shape)?)?;
        }
        self.last.as_ref().map_or(Ok(shape), |last| unit(last, shape))
    }

    fn hidden_bytes<B: Backend>(&self, _: &Inputs<'_, B>, x: View<'_, B>, _: bool) -> Result<usize> {
        let (shape, channels) = (x.shape(), self.widths[0] + self.widths[1]);
        Ok((self.blocks.len() + 2) * channels * shape.batch() * shape.pixels() * size_of::<B::Elem>())
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        let shape = x.shape().with_channels(self.widths[0]);
        let inside = shape.with_channels(self.widths[1]);
        let mut current = Tensor::scratch(backend, shape)?;
        match &self.first {
            Some((conv, bias)) => {
                conv.forward(at, x, &mut current.view_mut())?;
                add_bias(at, *bias, &mut current.view_mut())?;
            }
            None => current.view_mut().assign(backend, x)?,
        }
        let mut saved = Vec::with_capacity(2 * self.blocks.len() + 1);
        for [(conv1, bias1), (conv2, bias2)] in &self.blocks {
            let mut y = Tensor::scratch(backend, inside)?;
            conv1.forward(at, current.view(), &mut y.view_mut())?;
            let mut rho = Tensor::scratch(backend, inside)?;
            let read = [at.param(*bias1)?.over_pixels(inside)];
            let kernel = BiasActivate(self.activation);
            backend.zip(&kernel, inside, &read, &mut [y.view_mut().update(), rho.view_mut().set()], &mut [], &mut [])?;
            let mut next = Tensor::scratch(backend, shape)?;
            conv2.forward(at, rho.view(), &mut next.view_mut())?;
            add_bias(at, *bias2, &mut next.view_mut())?;
            next.view_mut().axpy(backend, 1.0, current.view())?;
            saved.push(current);
            saved.push(y);
            current = next;
        }
        match &self.last {
            Some((conv, bias)) => {
                conv.forward(at, current.view(), out)?;
                add_bias(at, *bias, out)?;
                saved.push(current);
            }
            None => out.assign(backend, current.view())?,
        }
        Ok(Saved(saved))
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
        let backend = at.backend();
        let missing = || Error::backend(backend.name(), "expected the values saved by forward");
        let mut saved = saved.0;
        let mut g = match &self.last {
            Some((conv, bias)) => {
                let mut current = saved.pop().ok_or_else(missing)?;
                pull_bias(backend, gout.view(), *bias, grads)?;
                conv.vjp_weight(at, current.view(), gout.view(), grads)?;
                // X_n makes way for its cotangent.
                conv.transposed(at, gout.view(), &mut current.view_mut(), Write::Set)?;
                current
            }
            None => {
                let mut g = Tensor::scratch(backend, gout.shape())?;
                g.view_mut().assign(backend, gout.view())?;
                g
            }
        };
        for [(conv1, bias1), (conv2, bias2)] in self.blocks.iter().rev() {
            let (y, before) = (saved.pop().ok_or_else(missing)?, saved.pop().ok_or_else(missing)?);
            let mut rho = activated(backend, self.activation, &y)?;
            pull_bias(backend, g.view(), *bias2, grads)?;
            conv2.vjp_weight(at, rho.view(), g.view(), grads)?;
            conv2.transposed(at, g.view(), &mut rho.view_mut(), Write::Set)?;
            pull_activation(backend, self.activation, &y, &mut rho, *bias1, grads)?;
            conv1.vjp(at, before.view(), rho.view(), &mut g.view_mut(), grads)?;
        }
        let Some((conv, bias)) = &self.first else { return gx.axpy(backend, 1.0, g.view()) };
        pull_bias(backend, g.view(), *bias, grads)?;
        conv.vjp(at, x, g.view(), gx, grads)
    }
}
