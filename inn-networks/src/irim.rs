//! The unrolled inverse solver of i-RIM.

use inn_core::{
    Architecture, Backend, Chain, Direction, Error, Facts, Gradients, Inputs, Invertible, Kernel, Result, Scalar, Scope, Setup, Shape,
    Tensor, View, ViewMut, Write, kernel::UNIFORMS,
};
use inn_layers::ActNorm;
use inn_layers::hint::{HintConfig, HintCoupling, hint_coupling};
use inn_layers::lanes::{IrimCoupling, LaneConfig, irim_coupling};
use inn_layers::permute::Permute;
use inn_ops::Activation;

/// A pointwise map Ψ between the state of a solver and what its operator acts on, with its derivative. It need not be invertible.
///
/// Every [`Activation`] is one. Another is written with the operations of [`Scalar`], so that it runs in f32, in f64 and over pairs (value, tangent):
/// ```
/// use inn_core::{Chain, Layout, Scalar};
/// use inn_networks::irim::{DataGradient, Link, LoopLayerConfig};
///
/// /// Ψ(x) = x²: an intensity.
/// #[derive(Clone, Copy, Debug)]
/// struct Square;
/// impl Link for Square {
///     fn value<T: Scalar>(&self, x: T) -> T {
///         x * x
///     }
///     fn derivative<T: Scalar>(&self, x: T) -> T {
///         x + x
///     }
/// }
/// let (network, _) = Layout::build(|scope| {
///     Chain::build(scope, "iteration", 2, |scope, _| Ok((DataGradient::new(scope, Square)?, LoopLayerConfig::default().build(scope, 4, 2)?)))
/// })?;
/// assert_eq!(network.len(), 2);
/// # Ok::<(), inn_core::Error>(())
/// ```
pub trait Link: Copy + Send + Sync + 'static {
    /// Ψ(x).
    fn value<T: Scalar>(&self, x: T) -> T;

    /// Ψ'(x).
    fn derivative<T: Scalar>(&self, x: T) -> T;
}

impl Link for Activation {
    #[inline(always)]
    fn value<T: Scalar>(&self, x: T) -> T {
        Activation::value(self, x)
    }
    #[inline(always)]
    fn derivative<T: Scalar>(&self, x: T) -> T {
        Activation::derivative(self, x)
    }
}

/// Shifts the memory of an iteration by the gradient of the data misfit ½ |J Ψ(η) - D|², without Ψ' (Putzky & Welling 2019, arXiv:1911.10914).
///
/// ```text
/// state [η; s], η one channel:    g = Jᵀ(J Ψ(η) - D),    s_1' = s_1 + N(g),    N = ActNorm;    η and the rest of s stay;    ℓ = 0
/// ```
/// J is the external operator, known by its products alone, and D is condition 0, of the range of J. Neither is written to.
///
/// # Gradient
/// η is not changed, so g is computed again from it, and s_1 = s_1' - N(g). With the cotangent c of s_1' the cotangent of N(g) is c, that of s_1 is
/// c, and with gg = (∂N/∂g)ᵀ c from ActNorm's own pullback
/// ```text
/// gη += Ψ'(η) ⊙ JᵀJ gg,    gD -= J gg.
/// ```
/// The inverse map subtracts N(g): the same with -c in the place of the cotangent of N(g).
#[derive(Clone, Debug)]
pub struct DataGradient<K = Activation> {
    norm: ActNorm,
    link: K,
}

impl<K: Link> DataGradient<K> {
    /// Declares `norm`.
    ///
    /// # Errors
    /// None of its own.
    pub fn new(scope: &mut Scope<'_>, link: K) -> Result<Self> {
        Ok(Self { norm: ActNorm::new(&mut scope.sub("norm"), 1)?, link })
    }

    /// g = Jᵀ(J Ψ(η) - D), of the shape of η.
    fn gradient<B: Backend>(&self, at: &Inputs<'_, B>, eta: View<'_, B>) -> Result<Tensor<B>> {
        let (backend, shape, operator) = (at.backend(), eta.shape(), at.operator()?);
        let mut image = Tensor::scratch(backend, shape)?;
        backend.zip(&Image(self.link), shape, &[eta], &mut [image.view_mut().set()], &mut [], &mut [])?;
        let image = image.reshape(operator.domain().with_batch(shape.batch()))?;
        let mut residual = Tensor::scratch(backend, operator.range().with_batch(shape.batch()))?;
        operator.apply(backend, image.view(), &mut residual.view_mut(), Write::Set)?;
        residual.view_mut().axpy(backend, -1.0, at.condition(0)?)?;
        let mut gradient = image;
        operator.apply_adjoint(backend, residual.view(), &mut gradient.view_mut(), Write::Set)?;
        gradient.reshape(shape)
    }

    /// N(g), of the shape of η.
    fn step<B: Backend>(&self, at: &Inputs<'_, B>, eta: View<'_, B>) -> Result<Tensor<B>> {
        let mut g = self.gradient(at, eta)?;
        let mut unused = Tensor::zeros(at.backend(), Shape::per_sample(g.shape().batch()))?;
        self.norm.map(Direction::Forward, at, &mut g.view_mut(), &mut unused.view_mut())?;
        Ok(g)
    }
}

impl<K: Link> Invertible for DataGradient<K> {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let name = "DataGradient";
        if input.channels() < 2 {
            return Err(Error::shape("input of DataGradient", "at least 2 channels: the image and its memory", input));
        }
        let Some((domain, range)) = facts.operator else {
            return Err(Error::Missing { layer: name.into(), what: "a linear operator".into() });
        };
        let image = input.with_channels(1);
        if domain.sample_len() != image.sample_len() {
            return Err(Error::shape("domain of the operator", format!("{} values a sample, one channel", image.sample_len()), domain));
        }
        let data = facts.condition(name, 0, input.batch())?;
        if data.with_batch(1) != range.with_batch(1) {
            return Err(Error::shape("condition 0, the data", format!("the range {range} of the operator"), data));
        }
        self.norm.check(Direction::Forward, facts, image)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        let eta = x.view().channels(0..1);
        let step = self.step(at, eta)?;
        x.channels(1..2).axpy(at.backend(), dir.sign(), step.view())
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (backend, operator) = (at.backend(), at.operator()?);
        let mut step = self.step(at, y.view().channels(0..1))?;
        y.channels(1..2).axpy(backend, -dir.sign(), step.view())?;
        let shape = step.shape();
        let mut gg = Tensor::zeros(backend, shape)?;
        gg.view_mut().axpy(backend, dir.sign(), gy.view().channels(1..2))?;
        let gl = Tensor::zeros(backend, Shape::per_sample(shape.batch()))?;
        self.norm.pull(Direction::Forward, at, &mut step.view_mut(), &mut gg.view_mut(), gl.view(), grads)?;

        let gg = gg.reshape(operator.domain().with_batch(shape.batch()))?;
        let mut image = Tensor::scratch(backend, operator.range().with_batch(shape.batch()))?;
        operator.apply(backend, gg.view(), &mut image.view_mut(), Write::Set)?;
        grads.condition(0, at.samples.clone())?.axpy(backend, -1.0, image.view())?;
        let mut back = gg;
        operator.apply_adjoint(backend, image.view(), &mut back.view_mut(), Write::Set)?;
        let back = back.reshape(shape)?;
        let read = [y.view().channels(0..1), back.view()];
        backend.zip(&PullImage(self.link), shape, &read, &mut [gy.channels(0..1).update()], &mut [], &mut [])
    }

    /// Sets N so that the shift is standardized.
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.theta.backend().clone();
        let mut g = self.gradient(&at.inputs(x.shape().batch()), x.view().channels(0..1))?;
        self.norm.initialize(Direction::Forward, at, &mut g.view_mut())?;
        x.channels(1..2).axpy(&backend, dir.sign(), g.view())
    }
}

/// Ψ(x).
#[derive(Clone, Copy)]
struct Image<K>(K);
impl<K: Link> Kernel for Image<K> {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], x: &[T], y: &mut [T], _: &mut [T], _: &mut [T]) {
        y[0] = self.0.value(x[0]);
    }
}

/// g += Ψ'(x) h.
#[derive(Clone, Copy)]
struct PullImage<K>(K);
impl<K: Link> Kernel for PullImage<K> {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], x: &[T], g: &mut [T], _: &mut [T], _: &mut [T]) {
        g[0] = g[0] + self.0.derivative(x[0]) * x[1];
    }
}

/// The layer that follows the gradient in each iteration.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LoopLayerConfig {
    /// An additive coupling: ℓ = 0.
    Additive(LaneConfig),
    /// HINT, with its log-determinant.
    Hint(HintConfig),
}

impl Default for LoopLayerConfig {
    fn default() -> Self {
        Self::Additive(LaneConfig::default())
    }
}

impl LoopLayerConfig {
    /// HINT, mixed before and after as in the original.
    pub fn hint() -> Self {
        Self::Hint(HintConfig { permute: Permute::Both, ..HintConfig::default() })
    }

    /// The layer for states of `channels` channels and `rank` spatial axes, declared as [`irim_coupling`] or [`hint_coupling`] does.
    ///
    /// # Errors
    /// As those.
    pub fn build(&self, scope: &mut Scope<'_>, channels: usize, rank: usize) -> Result<LoopLayer> {
        Ok(match self {
            Self::Additive(config) => LoopLayer::Additive(Box::new(irim_coupling(scope, channels, rank, None, config)?)),
            Self::Hint(config) => LoopLayer::Hint(hint_coupling(scope, channels, rank, None, config)?),
        })
    }
}

inn_core::one_of! {
    /// Either layer of [`LoopLayerConfig`].
    #[derive(Clone, Debug)]
    pub enum LoopLayer {
        /// See [`IrimCoupling`].
        Additive(Box<IrimCoupling>),
        /// See [`HintCoupling`].
        Hint(HintCoupling),
    }
}

/// Invertible recurrent inference (Putzky & Welling 2019, arXiv:1911.10914): an unrolled solver for D ≈ J Ψ(η), of constant memory in its depth.
///
/// ```text
/// [η_0; s_0] -> [s_1 += N_j(Jᵀ(J Ψ(η) - D)) -> L_j] x iterations -> [η; s]      ℓ = Σ_j ℓ(L_j)
/// ```
/// The state is (B, C, ..): η its first channel, s the others. Condition 0 is D, and the call brings J
/// ([`Given::with_operator`](inn_core::Given::with_operator)).
pub type IrimLoop<K = Activation> = Chain<(DataGradient<K>, LoopLayer)>;

/// Settings of an [`IrimLoop`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IrimLoopConfig {
    /// Channels of the state, at least 2: the image and its memory.
    pub channels: usize,
    /// Spatial axes, 0 to 3.
    pub rank: usize,
    /// Number of iterations.
    pub iterations: usize,
    /// Ψ, from the state to what the operator acts on. For one that is no activation see [`Link`].
    pub link: Activation,
    /// What follows the gradient.
    pub layer: LoopLayerConfig,
}

impl Default for IrimLoopConfig {
    /// Eight iterations with additive couplings on images with three channels of memory, Ψ the identity.
    fn default() -> Self {
        Self { channels: 4, rank: 2, iterations: 8, link: Activation::Identity, layer: LoopLayerConfig::default() }
    }
}

impl Architecture for IrimLoopConfig {
    const KIND: &'static str = "irim_loop";
    type Network = IrimLoop;

    fn build(&self, scope: &mut Scope<'_>) -> Result<IrimLoop> {
        Chain::build(scope, "iteration", self.iterations, |scope, _| {
            Ok((DataGradient::new(scope, self.link)?, self.layer.build(scope, self.channels, self.rank)?))
        })
    }
}
