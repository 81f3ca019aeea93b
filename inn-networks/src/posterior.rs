//! Conditional HINT as a network on x alone, given y as a condition; and given several observations that are concatenated to y.

use crate::conditional_hint::{MultiscaleConditionalHint, MultiscaleConditionalHintConfig, multiscale_lane};
use crate::encoder::{Concatenate, Encoded};
use crate::hint::MultiscaleHint;
use crate::summary::{Summary, SummaryConfig};
use inn_core::{
    Architecture, Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, Result, Scope, Setup, Shape, Tensor, View, ViewMut,
    error::expect_shape,
};

/// The map x -> z_x at a given y of a network on two lanes \[x; y\], the second of which stands by itself.
///
/// ```text
/// F(x, y) = (T_y(x), h(y)),    z_x = T_y(x),    ℓ = ln|det ∂T_y/∂x| = ℓ_F(x, y) - ℓ_h(y),    x = first lane of F⁻¹(z_x, h(y))
/// ```
/// y is condition 0, of the shape of x. The network of p(x | y) beside the one of p(x, y), with the same parameters: what conditional networks
/// can do, drawing samples and standing behind an [`Encoder`](crate::encoder::Encoder), conditional HINT can do in this form.
///
/// # Gradient
/// For cotangents g of z_x and λ of ℓ: the pullback of F at (g, 0) and λ gives those of x and, by way of the lane, of y; that of h at 0 and -λ
/// takes off what ℓ_h had in it. For the inverse map G with cotangents g of x and λ of its log-determinant -ℓ = -ℓ_F + ℓ_h: the pullback of F⁻¹ at
/// (g, 0) and λ gives those of z_x and of z_y = h(y), and the pullback of h at the latter and λ takes it to y.
#[derive(Clone, Debug)]
pub struct Posterior<N, H> {
    network: N,
    lane: H,
}

impl<N: Invertible, H: Invertible> Posterior<N, H> {
    /// F, and h with the same parameters.
    pub fn new(network: N, lane: H) -> Self {
        Self { network, lane }
    }

    /// F, the network on both lanes.
    pub fn network(&self) -> &N {
        &self.network
    }

    /// h, the network on the lane y.
    pub fn lane(&self) -> &H {
        &self.lane
    }

    /// h(y) and ℓ_h.
    fn latent<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<(Tensor<B>, Tensor<B>)> {
        let mut y = given(at)?;
        let mut logdet = Tensor::zeros(at.backend(), Shape::per_sample(y.shape().batch()))?;
        self.lane.map(Direction::Forward, at, &mut y.view_mut(), &mut logdet.view_mut())?;
        Ok((y, logdet))
    }

    /// Calls `f` with the state \[x; y\] and takes x from it.
    fn beside<B: Backend, T>(
        backend: &B,
        x: &mut ViewMut<'_, B>,
        y: &Tensor<B>,
        f: impl FnOnce(&mut ViewMut<'_, B>) -> Result<T>,
    ) -> Result<T> {
        let (mut state, channels) = (joined(backend, x.view(), Some(y))?, x.shape().channels());
        let result = f(&mut state.view_mut())?;
        x.assign(backend, state.view().channels(0..channels))?;
        Ok(result)
    }
}

/// A copy of y.
fn given<B: Backend>(at: &Inputs<'_, B>) -> Result<Tensor<B>> {
    let given = at.condition(0)?;
    let mut y = Tensor::scratch(at.backend(), given.shape())?;
    y.view_mut().assign(at.backend(), given)?;
    Ok(y)
}

/// \[x; y\], or \[x; 0\].
fn joined<B: Backend>(backend: &B, x: View<'_, B>, y: Option<&Tensor<B>>) -> Result<Tensor<B>> {
    let channels = x.shape().channels();
    let mut state = Tensor::scratch(backend, x.shape().with_channels(2 * channels))?;
    let mut view = state.view_mut();
    view.channels(0..channels).assign(backend, x)?;
    match y {
        Some(y) => view.channels(channels..2 * channels).assign(backend, y.view())?,
        None => view.channels(channels..2 * channels).fill(backend, 0.0)?,
    }
    Ok(state)
}

impl<N: Invertible, H: Invertible> Invertible for Posterior<N, H> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let y = facts.condition("Posterior", 0, input.batch())?;
        expect_shape("condition 0, of the shape of the state", input, y.with_batch(input.batch()))?;
        let whole = input.with_channels(2 * input.channels());
        expect_shape("output of both lanes", whole, self.network.check(dir, facts, whole)?)?;
        expect_shape("output of the lane", input, self.lane.check(Direction::Forward, facts, input)?)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        // ℓ_h is needed in both directions, h(y) in one.
        let (z, of_lane) = self.latent(at)?;
        let y = if dir == Direction::Inverse { z } else { given(at)? };
        Self::beside(at.backend(), x, &y, |state| self.network.map(dir, at, state, logdet))?;
        logdet.axpy(at.backend(), -dir.sign(), of_lane.view())
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let channels = y.shape().channels();
        let (mut z, _) = self.latent(at)?;
        let y_of_inverse = (dir == Direction::Inverse).then(|| given(at)).transpose()?;
        let mut cotangent = joined(backend, gy.view(), None)?;
        Self::beside(backend, y, y_of_inverse.as_ref().unwrap_or(&z), |state| {
            self.network.pull(dir, at, state, &mut cotangent.view_mut(), gl, grads)
        })?;
        gy.assign(backend, cotangent.view().channels(0..channels))?;

        // What the second lane got: of y for the map, of h(y) for its inverse.
        let mut g = Tensor::zeros(backend, y.shape())?;
        let of_second = cotangent.view().channels(channels..2 * channels);
        let mut of_lane = Tensor::zeros(backend, gl.shape())?;
        of_lane.view_mut().axpy(backend, -dir.sign(), gl)?;
        match dir {
            Direction::Forward => grads.condition(0, at.samples.clone())?.axpy(backend, 1.0, of_second)?,
            Direction::Inverse => g.view_mut().assign(backend, of_second)?,
        }
        self.lane.pull(Direction::Forward, at, &mut z.view_mut(), &mut g.view_mut(), of_lane.view(), grads)?;
        grads.condition(0, at.samples.clone())?.axpy(backend, 1.0, g.view())
    }

    /// Sets F at \[x; y\], and with it h; in the other direction at \[z_x; h(y)\] with h as it was.
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.theta.backend().clone();
        let inputs = at.inputs(x.shape().batch());
        let y = if dir == Direction::Inverse { self.latent(&inputs)?.0 } else { given(&inputs)? };
        Self::beside(&backend, x, &y, |state| self.network.initialize(dir, at, state))
    }
}

/// [`Posterior`] of conditional HINT at one or several scales.
pub type HintPosterior = Posterior<MultiscaleConditionalHint, MultiscaleHint>;

/// Conditional HINT on x, given y = \[S_1(y_1); S_2(y_2); ..\].
pub type SummarizedHint = Encoded<HintPosterior, Concatenate<Summary>>;

/// Settings of [`SummarizedHint`]. Condition i is the observation i.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummarizedHintConfig {
    /// The summary networks, one for each observation. Together they have as many features as `hint` has channels in a lane.
    pub observations: Vec<SummaryConfig>,
    /// The network on both lanes.
    pub hint: MultiscaleConditionalHintConfig,
}

impl Default for SummarizedHintConfig {
    /// One observation of the extents of a grey image, with one feature.
    fn default() -> Self {
        let summary = SummaryConfig { features: 1, ..SummaryConfig::default() };
        Self { observations: vec![summary], hint: MultiscaleConditionalHintConfig::default() }
    }
}

impl Architecture for SummarizedHintConfig {
    const KIND: &'static str = "summarized_hint";
    type Network = SummarizedHint;

    fn build(&self, scope: &mut Scope<'_>) -> Result<SummarizedHint> {
        let features = self.observations.iter().fold(0usize, |sum, one| sum.saturating_add(one.features));
        if features != self.hint.channels {
            let expected = format!("{} in all, the channels of a lane", self.hint.channels);
            return Err(Error::config("features", format!("expected {expected}, got {features}")));
        }
        let build = |(i, config): (usize, &SummaryConfig)| Summary::new(&mut scope.sub(format!("observation{i}")), config);
        let parts = self.observations.iter().enumerate().map(build).collect::<Result<_>>()?;
        let network = self.hint.build(scope)?;
        let lane = multiscale_lane(&network);
        Ok(Encoded::new(Concatenate::new(parts, 1)?, Posterior::new(network, lane)))
    }
}
