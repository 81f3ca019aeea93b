//! Summary networks: observations of any shape become the condition of a network.

use crate::encoder::{ConditionalGlow, ConditionalGlowConfig, Encoded, Encoder, first, same_extents};
use inn_core::conditioner::tiles;
use inn_core::{
    Architecture, Backend, Conditioner, Direction, Error, Facts, Gradients, Inputs, Kernel, Result, Scalar, Scope, Shape, Squeeze, Tensor,
    View, ViewMut, Window, kernel::UNIFORMS, kernel::blas::Axpy,
};
use inn_layers::conditioner::{DenseConfig, Net, NetConfig, Ports};

/// How an observation becomes a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduce {
    /// The network's output as it is: observation and state have the same extents, or the observation coarser ones, see [`SummaryConfig::refine`].
    #[default]
    Keep,
    /// The mean over the pixels of the network's output, one vector a sample: for sets (kernels of 1), series and images of any extents.
    Mean,
    /// The observation becomes one vector before the network, which has to be dense: (B, C, ..) as (B, C · pixels).
    Flatten,
}

/// Settings of a [`Summary`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummaryConfig {
    /// Channels of the observation; for [`Reduce::Flatten`] those times its pixels.
    pub channels: usize,
    /// Spatial axes of the observation, 0 to 3.
    pub rank: usize,
    /// The network on the observation.
    pub net: NetConfig,
    /// Channels of its output.
    pub features: usize,
    /// How its output becomes a condition.
    pub reduce: Reduce,
    /// A dense network on the vector behind [`Reduce::Mean`], as in deep sets (Zaheer et al. 2017, arXiv:1703.06114), with as many outputs.
    pub head: Option<DenseConfig>,
    /// k: the extents of the state are 2^k times those of the observation, for [`Reduce::Keep`].
    pub refine: usize,
    /// Extents of the state, over which a vector is repeated; empty for dense states and for [`Reduce::Keep`].
    pub extents: Vec<usize>,
}

impl Default for SummaryConfig {
    /// A residual block on one channel of images at the resolution of the state, 8 features.
    fn default() -> Self {
        Self { channels: 1, rank: 2, net: NetConfig::default(), features: 8, reduce: Reduce::Keep, head: None, refine: 0, extents: vec![] }
    }
}

/// A summary network S, trained together with the network that reads its output (Radev et al. 2020, arXiv:2003.06281).
///
/// ```text
/// keep: c = Uᵏ S(y)     mean: c = repeat(H(mean over pixels of S(y)))        flatten: c = repeat(S(vec y))
/// ```
/// U is the inverse of the checkerboard squeeze: 2^rank channels become the pixels of one (Shi et al. 2016, arXiv:1609.05158).
///
/// Backward: U is orthogonal, so its adjoint is the squeeze. With g = ∂φ/∂c the cotangent of the vector is the sum of g over the pixels, that of S(y) is H's pullback of it / pixels for all pixels,
/// and S's own pullback takes it to y and the parameters.
#[derive(Clone, Debug)]
pub struct Summary {
    net: Net,
    head: Option<Net>,
    reduce: Reduce,
    refine: usize,
    extents: Vec<usize>,
}

impl Summary {
    /// Declares `net`, and `head` if there is one.
    ///
    /// # Errors
    /// Settings that are out of range or contradict each other.
    pub fn new(scope: &mut Scope<'_>, config: &SummaryConfig) -> Result<Self> {
        let refuse = |expected: &str| Err(Error::config("summary", format!("expected {expected}, got {config:?}")));
        if config.reduce == Reduce::Flatten && (config.rank != 0 || !matches!(config.net, NetConfig::Dense(_))) {
            return refuse("a dense network and rank 0 to flatten");
        }
        if config.reduce == Reduce::Keep && !config.extents.is_empty() {
            return refuse("no extents where the resolution is kept");
        }
        if config.reduce != Reduce::Mean && config.head.is_some() {
            return refuse("a head behind a mean only");
        }
        if config.refine > 0 && (config.reduce != Reduce::Keep || config.rank == 0) {
            return refuse("a field whose resolution is kept, to refine");
        }
        let factor = config.rank.checked_mul(config.refine).and_then(|bits| 1usize.checked_shl(u32::try_from(bits).ok()?));
        let Some(made) = factor.and_then(|factor| config.features.checked_mul(factor)) else {
            return refuse("fewer levels to refine");
        };
        let net = config.net.build(&mut scope.sub("net"), Ports::new(config.channels, made, config.rank))?;
        let ports = Ports::new(config.features, config.features, 0);
        let head = config.head.as_ref().map(|head| NetConfig::Dense(head.clone()).build(&mut scope.sub("head"), ports)).transpose()?;
        Ok(Self { net, head, reduce: config.reduce, refine: config.refine, extents: config.extents.clone() })
    }

    /// The observation as the network sees it.
    fn seen(&self, raw: Shape) -> Shape {
        if self.reduce == Reduce::Flatten { Shape::rows(raw.batch(), raw.sample_len()) } else { raw }
    }

    /// S(y) and, behind a mean, the vector that the head sees.
    fn features<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Tensor<B>> {
        let raw = first(at.conditions)?;
        let out = evaluate(&self.net, at, raw.view().reshape(self.seen(raw.shape()))?)?;
        if self.reduce != Reduce::Mean {
            return Ok(out);
        }
        let mut vector = Tensor::zeros(at.backend(), Shape::rows(out.shape().batch(), out.shape().channels()))?;
        sum_pixels(at.backend(), 1.0 / out.shape().pixels() as f64, out.view(), &mut vector)?;
        Ok(vector)
    }
}

/// Whose inverse makes channels to pixels.
const FINER: Squeeze = Squeeze::Checkerboard;

fn squeezed<B: Backend>(backend: &B, dir: Direction, mut x: Tensor<B>) -> Result<Tensor<B>> {
    let shape = FINER.output(dir, x.shape())?;
    backend.squeeze(FINER, dir, &mut x.view_mut())?;
    x.reshape(shape)
}

/// N(x) tile by tile.
fn evaluate<B: Backend>(net: &Net, at: &Inputs<'_, B>, x: View<'_, B>) -> Result<Tensor<B>> {
    let shape = net.check(Facts { layout: at.theta.layout(), conditions: &[], operator: None }, x.shape())?;
    let mut out = Tensor::scratch(at.backend(), shape)?;
    for tile in tiles(net, at, x, 0, false)? {
        net.evaluate(&at.tile(tile.clone()), x.samples(tile.clone()), &mut out.view_mut().samples(tile))?;
    }
    Ok(out)
}

/// The cotangent of x from that of N(x), with N(x) computed again tile by tile.
fn pull<B: Backend>(net: &Net, at: &Inputs<'_, B>, x: View<'_, B>, mut g: Tensor<B>, grads: &mut Gradients<'_, B>) -> Result<Tensor<B>> {
    let mut gx = Tensor::zeros(at.backend(), x.shape())?;
    let mut out = Tensor::scratch(at.backend(), g.shape())?;
    for tile in tiles(net, at, x, 0, true)? {
        let (at, x) = (at.tile(tile.clone()), x.samples(tile.clone()));
        let saved = net.forward(&at, x, &mut out.view_mut().samples(tile.clone()))?;
        net.vjp(&at, x, saved, &mut g.view_mut().samples(tile.clone()), &mut gx.view_mut().samples(tile), grads)?;
    }
    Ok(gx)
}

/// A vector of (B, C) seen as one value for each channel and pixel of `shape`.
pub(crate) fn repeated<B: Backend>(vector: &Tensor<B>, shape: Shape) -> Result<View<'_, B>> {
    let channels = vector.shape().channels();
    View::new(vector.buffer(), Window { shape, offset: 0, batch_stride: channels, channel_stride: 1, pixel_stride: 0 })
}

/// vector += a Σ over pixels of x. Each value of the vector is a sample of the sum.
pub(crate) fn sum_pixels<B: Backend>(backend: &B, a: f64, x: View<'_, B>, vector: &mut Tensor<B>) -> Result<()> {
    let shape = x.shape();
    let rows = Shape::rows(shape.batch() * shape.channels(), shape.pixels());
    let x = View::new(x.buffer(), Window::contiguous(rows, x.window().offset))?;
    let mut sums = ViewMut::new(vector.buffer_mut(), Window::contiguous(Shape::per_sample(rows.batch()), 0))?;
    backend.zip(&ScaledSum(a), rows, &[x], &mut [], &mut [], &mut [sums.update()])
}

/// Σ a x, for each sample.
#[derive(Clone, Copy)]
struct ScaledSum(f64);
impl Kernel for ScaledSum {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], x: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = u[0] * x[0];
    }
}

impl Encoder for Summary {
    fn belongs(&self, observations: &[Shape], state: Shape) -> Result<()> {
        let observation = *first(observations)?;
        if self.reduce != Reduce::Keep || self.refine == 0 {
            return if self.reduce == Reduce::Keep { same_extents(observation, state) } else { Ok(()) };
        }
        // As many doublings as `new` has counted fit a number.
        let finer: Vec<usize> = observation.spatial().iter().map(|n| n.saturating_mul(1 << self.refine)).collect();
        if finer == state.spatial() {
            return Ok(());
        }
        let expected = format!("extents whose 2^{} multiples are those of the data, {:?}", self.refine, state.spatial());
        Err(Error::shape("condition 0", expected, observation))
    }

    fn check(&self, facts: Facts<'_>) -> Result<Vec<Shape>> {
        let out = self.net.check(Facts { conditions: &[], ..facts }, self.seen(*first(facts.conditions)?))?;
        if self.reduce == Reduce::Keep {
            return (0..self.refine).try_fold(out, |out, _| FINER.output(Direction::Inverse, out)).map(|out| vec![out]);
        }
        let vector = Shape::rows(out.batch(), out.channels());
        if let Some(head) = &self.head {
            head.check(Facts { conditions: &[], ..facts }, vector)?;
        }
        Ok(vec![Shape::new(out.batch(), out.channels(), &self.extents)?])
    }

    fn encode<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>> {
        let mut vector = self.features(at)?;
        if let Some(head) = &self.head {
            vector = evaluate(head, at, vector.view())?;
        }
        if self.reduce == Reduce::Keep || self.extents.is_empty() {
            return (0..self.refine).try_fold(vector, |fine, _| squeezed(at.backend(), Direction::Inverse, fine)).map(|fine| vec![fine]);
        }
        let shape = Shape::new(vector.shape().batch(), vector.shape().channels(), &self.extents)?;
        let mut condition = Tensor::scratch(at.backend(), shape)?;
        condition.view_mut().assign(at.backend(), repeated(&vector, shape)?)?;
        Ok(vec![condition])
    }

    fn pull<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        _: &[Tensor<B>],
        cotangents: Vec<Tensor<B>>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (backend, raw) = (at.backend(), first(at.conditions)?);
        let Some(mut g) = cotangents.into_iter().next() else { return Ok(()) };
        let seen = raw.view().reshape(self.seen(raw.shape()))?;
        for _ in 0..self.refine {
            g = squeezed(backend, Direction::Forward, g)?;
        }
        if self.reduce != Reduce::Keep {
            if !self.extents.is_empty() {
                let mut vector = Tensor::zeros(backend, Shape::rows(g.shape().batch(), g.shape().channels()))?;
                sum_pixels(backend, 1.0, g.view(), &mut vector)?;
                g = vector;
            }
            if let Some(head) = &self.head {
                g = pull(head, at, self.features(at)?.view(), g, grads)?;
            }
            if self.reduce == Reduce::Mean {
                let shape = seen.shape().with_channels(g.shape().channels());
                let mut spread = Tensor::zeros(backend, shape)?;
                let read = [repeated(&g, shape)?];
                backend.zip(&Axpy(1.0 / shape.pixels() as f64), shape, &read, &mut [spread.view_mut().update()], &mut [], &mut [])?;
                g = spread;
            }
        }
        let g = pull(&self.net, at, seen, g, grads)?.reshape(raw.shape())?;
        grads.condition(0, 0..g.shape().batch())?.axpy(backend, 1.0, g.view())
    }
}

/// Conditional Glow behind a summary network.
pub type SummarizedGlow = Encoded<ConditionalGlow, Summary>;

/// Settings of [`SummarizedGlow`]. Its condition 0 is the observation. For another conditional network see [`Encoded::new`].
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SummarizedGlowConfig {
    /// The summary network. Its features are the channels of the condition of `glow`.
    pub summary: SummaryConfig,
    /// The conditional network.
    pub glow: ConditionalGlowConfig,
}

impl Architecture for SummarizedGlowConfig {
    const KIND: &'static str = "summarized_glow";
    type Network = SummarizedGlow;

    fn build(&self, scope: &mut Scope<'_>) -> Result<SummarizedGlow> {
        if self.summary.features != self.glow.condition.channels {
            let expected = format!("{}, the channels of the condition", self.glow.condition.channels);
            return Err(Error::config("features", format!("expected {expected}, got {}", self.summary.features)));
        }
        let encoder = Summary::new(&mut scope.sub("summary"), &self.summary)?;
        Ok(Encoded::new(encoder, self.glow.build(scope)?))
    }
}
