//! Fully connected conditioner.

use super::convolution::{BiasActivate, Convolution, SumChannels, activated, add_bias, pull_activation};
use super::{Ports, offer};
use inn_core::stack::{Affine, Last, Stack, StackPass};
use inn_core::view::MAX_WINDOWS;
use inn_core::{
    Backend, Conditioner, Conv, Error, Facts, Gradients, Init, Inputs, Kernel, Param, Result, Saved, Scope, Shape, Tensor, Update, View,
    ViewMut, Write,
};
use inn_ops::Activation;

/// Settings of a [`DenseNet`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseConfig {
    /// Width of each hidden layer; none makes the network affine.
    pub hidden: Vec<usize>,
    /// ρ, after each hidden layer.
    pub activation: Activation,
    /// Also after the last layer, as in the dense block of the original.
    pub activated_head: bool,
    /// Factor on the Glorot bound of the last layer's starting values. 0 starts a coupling as the identity.
    pub last_gain: f64,
    /// Pixels of a channel, when all channels and pixels of a sample are to be mixed as one long row. Without it each pixel is treated
    /// alike, which for dense data is the same.
    pub pixels: Option<usize>,
    /// a > 0: the first layer's weights start uniform in (-a, a) and its biases in (-2a, 2a), so that its hidden values bend at many different
    /// places of an input of about unit size (random features). Inputs of one or two channels need it for fine structure, with a near 10: from
    /// Glorot's small weights and biases of 0, which are the start without it, all hidden values are nearly the same line.
    pub spread: Option<f64>,
}

impl Default for DenseConfig {
    /// Two hidden layers of 64, ReLU, a linear head that starts at zero.
    fn default() -> Self {
        Self { hidden: vec![64, 64], activation: Activation::default(), activated_head: false, last_gain: 0.0, pixels: None, spread: None }
    }
}

/// A multilayer perceptron on the channels of every pixel, or on a whole sample as one row.
///
/// ```text
/// X_0 = x,    Y_i = W_i X_{i-1} + b_i,    X_i = ρ(Y_i),    out = Y_n   (or ρ(Y_n))
/// ```
/// VJP, from gY_n = gout (or ρ'(Y_n) ⊙ gout), for i = n .. 1: gW_i = gY_i X_{i-1}ᵀ, gb_i = Σ gY_i, gX_{i-1} = W_iᵀ gY_i,
/// gY_{i-1} = ρ'(Y_{i-1}) ⊙ gX_{i-1}. A condition joins x at the first layer.
#[derive(Clone, Debug)]
pub struct DenseNet {
    layers: Vec<(Convolution, Param)>,
    widths: Vec<usize>,
    activation: Activation,
    activated_head: bool,
    pixels: Option<usize>,
    ports: Ports,
}

impl DenseNet {
    /// Declares `layer0`, `layer1`, ... with a weight and a bias each.
    ///
    /// # Errors
    /// A width of zero, a spread that is not positive.
    pub fn new(scope: &mut Scope<'_>, ports: Ports, config: &DenseConfig) -> Result<Self> {
        if let Some(a) = config.spread
            && !(a > 0.0 && a.is_finite())
        {
            return Err(Error::config("spread", format!("expected a positive number, got {a}")));
        }
        // A flattened sample has as many channels as values, and no spatial axes.
        let (factor, rank) = config.pixels.map_or((1, ports.rank), |pixels| (pixels, 0));
        let mut widths = vec![ports.inputs * factor];
        widths.extend(&config.hidden);
        widths.push(ports.outputs * factor);
        let mut layers = Vec::with_capacity(widths.len() - 1);
        for (i, pair) in widths.windows(2).enumerate() {
            let mut scope = scope.sub(format!("layer{i}"));
            let condition = if i == 0 { ports.condition.map(|(index, channels)| (index, channels * factor)) } else { None };
            let inner = Ports { inputs: pair[0], outputs: pair[1], rank, condition };
            let gain = if i + 2 == widths.len() { config.last_gain } else { 1.0 };
            let (weight, bias) = match config.spread {
                Some(a) if i == 0 => (Init::Uniform(a), Init::Uniform(2.0 * a)),
                _ => (Init::Glorot { gain }, Init::Constant(0.0)),
            };
            let layer = Convolution::new(&mut scope, inner, 1, Conv { stride: 1, padding: 0 }, weight)?;
            layers.push((layer, scope.vector("bias", pair[1], bias)?));
        }
        if config.pixels.is_some() && ports.condition.is_some() {
            return Err(Error::config("pixels", "a flattened dense network reads no condition; expected `pixels` to be absent"));
        }
        let (activation, activated_head, pixels) = (config.activation, config.activated_head, config.pixels);
        Ok(Self { layers, widths, activation, activated_head, pixels, ports })
    }

    /// The shape that the layers see.
    fn seen(&self, shape: Shape) -> Shape {
        if self.pixels.is_some() { Shape::rows(shape.batch(), shape.sample_len()) } else { shape }
    }
}

/// The operands of the net as one stack.
struct Parts<'a, B: Backend> {
    inputs: Vec<View<'a, B>>,
    layers: Vec<Affine<'a, B>>,
    activation: Activation,
}

impl<B: Backend> Parts<'_, B> {
    fn stack(&self) -> Stack<'_, B, Activation> {
        let inside = self.layers.len() - 1;
        Stack {
            activation: self.activation,
            inputs: &self.inputs,
            padding: 0,
            first: self.layers[0],
            middle: &self.layers[1..inside],
            skip: false,
            last: Last::Affine(self.layers[inside]),
        }
    }
}

impl DenseNet {
    /// The net as an offer, where it has the form of one that the backend takes: hidden layers of one width, a linear head.
    fn parts<'a, B: Backend>(&self, at: &Inputs<'a, B>, x: View<'a, B>, pass: StackPass) -> Result<Option<Parts<'a, B>>> {
        let Some(parts) = self.parts_of(at, vec![x])? else { return Ok(None) };
        let taken = at.backend().takes(&parts.stack().primitive(pass)?);
        Ok(taken.then_some(parts))
    }

    /// The operands, for some of the inputs; the condition is added to them.
    fn parts_of<'a, B: Backend>(&self, at: &Inputs<'a, B>, mut inputs: Vec<View<'a, B>>) -> Result<Option<Parts<'a, B>>> {
        let hidden = &self.widths[1..self.widths.len() - 1];
        let alike = hidden.first().is_some_and(|first| hidden.iter().all(|width| width == first));
        if !alike || self.activated_head || self.pixels.is_some() || 2 * self.layers.len() > MAX_WINDOWS {
            return Ok(None);
        }
        if let Some((index, _)) = self.ports.condition {
            inputs.push(at.condition(index)?);
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer, bias) in &self.layers {
            layers.push(Affine { weight: at.param(layer.weight())?, bias: at.param(*bias)? });
        }
        Ok(Some(Parts { inputs, layers, activation: self.activation }))
    }

    fn weights(&self) -> Vec<Param> {
        self.layers.iter().flat_map(|(layer, bias)| [layer.weight(), *bias]).collect()
    }
}

impl Conditioner for DenseNet {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if let Some(pixels) = self.pixels
            && (input.pixels() != pixels || input.channels() != self.ports.inputs)
        {
            let expected = format!("{} channels of {pixels} pixels", self.ports.inputs);
            return Err(Error::shape("input of a dense network", expected, input));
        }
        let mut shape = self.seen(input);
        for (layer, bias) in &self.layers {
            shape = layer.check(facts, shape)?;
            facts.param(*bias)?;
        }
        Ok(input.with_channels(self.ports.outputs))
    }

    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        if let Some(parts) = self.parts(at, x, StackPass::Keep)? {
            return Ok(if save { at.backend().kept(&parts.stack().shape()?) * size_of::<B::Elem>() } else { 0 });
        }
        let hidden: usize = self.widths[1..self.widths.len() - 1].iter().sum();
        let widest = self.widths.iter().max().copied().unwrap_or(0);
        let seen = self.seen(x.shape());
        Ok((hidden + 2 * widest) * seen.batch() * seen.pixels() * size_of::<B::Elem>())
    }

    fn evaluate<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<()> {
        match self.parts(at, x, StackPass::Map)? {
            Some(parts) => at.backend().stack(&parts.stack(), out, Write::Set, None),
            None => self.forward(at, x, out).map(drop),
        }
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        if let Some(parts) = self.parts(at, x, StackPass::Keep)? {
            let stack = parts.stack();
            let mut kept = Tensor::scratch(backend, Shape::flat(backend.kept(&stack.shape()?)))?;
            backend.stack(&stack, out, Write::Set, Some(kept.buffer_mut()))?;
            return Ok(Saved(vec![kept]));
        }
        let x = x.reshape(self.seen(x.shape()))?;
        let mut out = out.reborrow();
        out.reshape(self.seen(out.shape()))?;
        let mut saved = Vec::with_capacity(self.layers.len());
        let mut input: Option<Tensor<B>> = None;
        for (i, (layer, bias)) in self.layers.iter().enumerate() {
            let source = input.as_ref().map_or(x, Tensor::view);
            let last = i + 1 == self.layers.len();
            if last && !self.activated_head {
                layer.forward(at, source, &mut out)?;
                add_bias(at, *bias, &mut out)?;
                break;
            }
            let mut y = layer.scratch(at, source.shape())?;
            layer.forward(at, source, &mut y.view_mut())?;
            let shape = y.shape();
            let read = [at.param(*bias)?.over_pixels(shape)];
            let kernel = BiasActivate(self.activation);
            if last {
                backend.zip(&kernel, shape, &read, &mut [y.view_mut().update(), out.set()], &mut [], &mut [])?;
            } else {
                let mut activated = Tensor::scratch(backend, shape)?;
                backend.zip(&kernel, shape, &read, &mut [y.view_mut().update(), activated.view_mut().set()], &mut [], &mut [])?;
                input = Some(activated);
            }
            saved.push(y);
        }
        Ok(Saved(saved))
    }

    fn couple<B: Backend, K: Kernel>(
        &self,
        at: &Inputs<'_, B>,
        kernel: &K,
        state: &mut Update<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<bool> {
        match self.parts_of(at, Vec::new())? {
            Some(parts) => offer::couple(&parts.stack(), at, kernel, state, logdet),
            None => Ok(false),
        }
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
        match self.parts_of(at, Vec::new())? {
            Some(parts) => {
                let offered = (&parts.stack(), self.ports, &self.weights()[..]);
                offer::couple_pull(offered, at, kernel, gl, (state, cotangent), grads)
            }
            None => Ok(false),
        }
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
        if let Some(parts) = self.parts(at, x, StackPass::Adjoint)? {
            let kept = saved.0.into_iter().next();
            let kept = kept.ok_or_else(|| Error::backend(backend.name(), "expected the values saved by forward"))?;
            let Gradients { theta, conditions } = grads;
            let mut gx = vec![gx.reborrow()];
            if let Some((index, _)) = self.ports.condition {
                gx.push(Gradients::<B>::of_condition(conditions, index, at.samples.clone())?);
            }
            return backend.stack_vjp(&parts.stack(), kept.buffer(), gout.view(), &mut gx, &mut theta.update(&self.weights())?);
        }
        let x = x.reshape(self.seen(x.shape()))?;
        let mut gx = gx.reborrow();
        gx.reshape(self.seen(gx.shape()))?;
        let mut gout = gout.reborrow();
        gout.reshape(self.seen(gout.shape()))?;
        let mut saved = saved.0;

        // The cotangent of Y_i, first that of the output.
        let mut g = Tensor::scratch(backend, gout.shape())?;
        g.view_mut().assign(backend, gout.view())?;
        for (i, (layer, bias)) in self.layers.iter().enumerate().rev() {
            let last = i + 1 == self.layers.len();
            if last && !self.activated_head {
                let shape = g.shape();
                let sums = grads.theta.update(&[*bias])?;
                backend.zip(&SumChannels, shape, &[g.view()], &mut [], &mut [sums], &mut [])?;
            } else if let Some(y) = saved.pop() {
                pull_activation(backend, self.activation, &y, &mut g, *bias, grads)?;
            }
            match saved.last() {
                // X_{i-1} = ρ(Y_{i-1}) makes way for its own cotangent.
                Some(y) => {
                    let mut input = activated(backend, self.activation, y)?;
                    layer.vjp_weight(at, input.view(), g.view(), grads)?;
                    layer.transposed(at, g.view(), &mut input.view_mut(), Write::Set)?;
                    g = input;
                }
                None => layer.vjp(at, x, g.view(), &mut gx, grads)?,
            }
        }
        Ok(())
    }
}
