//! Convolutional residual network.

use super::Ports;
use super::convolution::{BiasActivate, Convolution, SumChannels, activated, add_bias, pull_activation};
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Param, Result, Saved, Scope, Shape, Tensor, View, ViewMut, Write,
};
use inn_ops::Activation;

/// Settings of a [`ResNet`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels between the first and the last convolution.
    pub hidden: usize,
    /// Number of residual blocks.
    pub blocks: usize,
    /// Extent of all kernels, odd.
    pub kernel: usize,
    /// ρ.
    pub activation: Activation,
    /// Factor on the Glorot bound of the last convolution's starting values. 0 starts a coupling as the identity.
    pub last_gain: f64,
}

impl Default for ResNetConfig {
    /// 32 channels, two blocks, 3x3 kernels, ReLU, a last convolution that starts at zero.
    fn default() -> Self {
        Self { hidden: 32, blocks: 2, kernel: 3, activation: Activation::default(), last_gain: 0.0 }
    }
}

/// A residual network without normalization (He et al. 2015, arXiv:1512.03385).
///
/// ```text
/// X_0 = W_in * x + b_in,    Y_i = A_i * X_{i-1} + a_i,    X_i = X_{i-1} + C_i * ρ(Y_i) + c_i,    out = W_out * X_n + b_out
/// ```
/// VJP, from gX_n = W_outᵀ * gout, for i = n .. 1: gC_i = filt(ρ(Y_i), gX_i), gc_i = Σ gX_i, gY_i = ρ'(Y_i) ⊙ (C_iᵀ * gX_i),
/// gA_i = filt(X_{i-1}, gY_i), ga_i = Σ gY_i, gX_{i-1} = gX_i + A_iᵀ * gY_i. A condition joins x at the first convolution.
///
/// There is no batch normalization: statistics of the batch would differ between the forward pass and the recomputation, which silently breaks
/// the gradient (SPEC, S12).
#[derive(Clone, Debug)]
pub struct ResNet {
    first: (Convolution, Param),
    blocks: Vec<[(Convolution, Param); 2]>,
    last: (Convolution, Param),
    activation: Activation,
    hidden: usize,
}

impl ResNet {
    /// Declares `first`, `block{i}.conv1`, `block{i}.conv2` and `last`, each a weight and a bias.
    ///
    /// # Errors
    /// No channels, or an even kernel.
    pub fn new(scope: &mut Scope<'_>, ports: Ports, config: &ResNetConfig) -> Result<Self> {
        if config.kernel.is_multiple_of(2) {
            return Err(Error::config("kernel", format!("expected an odd extent, so that the skip fits, got {}", config.kernel)));
        }
        let unit = |mut scope: Scope<'_>, ports: Ports, gain: f64| -> Result<(Convolution, Param)> {
            let conv = Convolution::new(&mut scope, ports, config.kernel, Conv::same(config.kernel), Init::Glorot { gain })?;
            Ok((conv, scope.vector("bias", ports.outputs, Init::Constant(0.0))?))
        };
        let inside = Ports::new(config.hidden, config.hidden, ports.rank);
        let first = unit(scope.sub("first"), Ports { outputs: config.hidden, ..ports }, 1.0)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for i in 0..config.blocks {
            let mut scope = scope.sub(format!("block{i}"));
            blocks.push([unit(scope.sub("conv1"), inside, 1.0)?, unit(scope.sub("conv2"), inside, 1.0)?]);
        }
        let last = unit(scope.sub("last"), Ports { inputs: config.hidden, condition: None, ..ports }, config.last_gain)?;
        Ok(Self { first, blocks, last, activation: config.activation, hidden: config.hidden })
    }
}

/// gb += Σ g.
fn pull_bias<B: Backend>(backend: &B, g: View<'_, B>, bias: Param, grads: &mut Gradients<'_, B>) -> Result<()> {
    backend.zip(&SumChannels, g.shape(), &[g], &mut [], &mut [grads.theta.update(&[bias])?], &mut [])
}

impl Conditioner for ResNet {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let shape = self.first.0.check(facts, input)?;
        for (conv, bias) in self.blocks.iter().flatten().chain([&self.first, &self.last]) {
            facts.param(*bias)?;
            if !std::ptr::eq(bias, &self.first.1) {
                conv.check(facts, shape)?;
            }
        }
        self.last.0.check(facts, shape)
    }

    fn hidden_bytes<B: Backend>(&self, _: &Inputs<'_, B>, x: View<'_, B>, _: bool) -> Result<usize> {
        let shape = x.shape();
        Ok((2 * self.blocks.len() + 4) * self.hidden * shape.batch() * shape.pixels() * size_of::<B::Elem>())
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        let mut current = self.first.0.scratch(at, x.shape())?;
        self.first.0.forward(at, x, &mut current.view_mut())?;
        add_bias(at, self.first.1, &mut current.view_mut())?;
        let shape = current.shape();
        let mut saved = Vec::with_capacity(2 * self.blocks.len() + 1);
        for [(conv1, bias1), (conv2, bias2)] in &self.blocks {
            let mut y = Tensor::scratch(backend, shape)?;
            conv1.forward(at, current.view(), &mut y.view_mut())?;
            let mut rho = Tensor::scratch(backend, shape)?;
            let read = [at.param(*bias1)?.over_pixels(shape)];
            let kernel = BiasActivate(self.activation);
            backend.zip(&kernel, shape, &read, &mut [y.view_mut().update(), rho.view_mut().set()], &mut [], &mut [])?;
            let mut next = Tensor::scratch(backend, shape)?;
            conv2.forward(at, rho.view(), &mut next.view_mut())?;
            add_bias(at, *bias2, &mut next.view_mut())?;
            next.view_mut().axpy(backend, 1.0, current.view())?;
            saved.push(current);
            saved.push(y);
            current = next;
        }
        self.last.0.forward(at, current.view(), out)?;
        add_bias(at, self.last.1, out)?;
        saved.push(current);
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
        let current = saved.pop().ok_or_else(missing)?;
        pull_bias(backend, gout.view(), self.last.1, grads)?;
        self.last.0.vjp_weight(at, current.view(), gout.view(), grads)?;
        let mut g = current; // X_n makes way for its cotangent.
        self.last.0.transposed(at, gout.view(), &mut g.view_mut(), Write::Set)?;
        for [(conv1, bias1), (conv2, bias2)] in self.blocks.iter().rev() {
            let (y, before) = (saved.pop().ok_or_else(missing)?, saved.pop().ok_or_else(missing)?);
            let mut rho = activated(backend, self.activation, &y)?;
            pull_bias(backend, g.view(), *bias2, grads)?;
            conv2.vjp_weight(at, rho.view(), g.view(), grads)?;
            conv2.transposed(at, g.view(), &mut rho.view_mut(), Write::Set)?;
            pull_activation(backend, self.activation, &y, &mut rho, *bias1, grads)?;
            conv1.vjp(at, before.view(), rho.view(), &mut g.view_mut(), grads)?;
        }
        pull_bias(backend, g.view(), self.first.1, grads)?;
        self.first.0.vjp(at, x, g.view(), gx, grads)
    }
}
