//! A layer together with its parameters.

use super::{Call, Given, Mapped, Pulled};
use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::layer::{Invertible, Setup};
use crate::params::{Layout, Params, Scope};
use crate::tensor::Tensor;
use std::sync::Arc;

/// A layer or network that owns its parameters.
///
/// ```
/// # use inn_core::{Model, Shape, Tensor};
/// # use inn_layers::ActNorm;
/// # use inn_ops::Cpu;
/// let cpu = Cpu::<f32>::new();
/// let mut model = Model::build(&cpu, 0, |scope| ActNorm::new(scope, 3))?;
/// let x = Tensor::full(&cpu, Shape::new(2, 3, &[4, 4])?, 1.0)?;
/// let y = model.forward(x)?.state;
/// let x = model.inverse(y)?.state;
/// assert!(x.slice().iter().all(|v| (v - 1.0).abs() < 1e-6));
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Model<L, B: Backend> {
    layer: L,
    params: Params<B>,
    initialized: bool,
}

impl<L: Invertible, B: Backend> Model<L, B> {
    /// Declares the parameters and draws their starting values from `seed`.
    ///
    /// # Errors
    /// What `build` returns.
    pub fn build(backend: &B, seed: u64, build: impl FnOnce(&mut Scope<'_>) -> Result<L>) -> Result<Self> {
        let (layer, layout) = Layout::build(build)?;
        Ok(Self { layer, params: Params::init(backend, &layout, seed)?, initialized: false })
    }

    /// From a layer and parameters of its layout.
    pub fn from_parts(layer: L, params: Params<B>, initialized: bool) -> Self {
        Self { layer, params, initialized }
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }

    /// The parameters.
    pub fn params(&self) -> &Params<B> {
        &self.params
    }

    /// The parameters, to change.
    pub fn params_mut(&mut self) -> &mut Params<B> {
        &mut self.params
    }

    /// Layer and parameters.
    pub fn into_parts(self) -> (L, Params<B>) {
        (self.layer, self.params)
    }

    /// The device.
    pub fn backend(&self) -> &B {
        self.params.backend()
    }

    /// Names and shapes of the parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        self.params.layout()
    }

    /// Whether [`initialize`](Self::initialize) has run, here or before the model was saved.
    pub fn is_initialized(&self) -> bool {
        self.initialized
    }

    /// Says that the parameters are where initialization would have put them.
    pub fn set_initialized(&mut self, initialized: bool) {
        self.initialized = initialized;
    }

    /// Keeps training away from the parameters whose names satisfy `predicate`, and lets it at all others.
    ///
    /// # Errors
    /// None in practice: the layout stays compatible.
    pub fn freeze(&mut self, predicate: impl Fn(&str) -> bool) -> Result<()> {
        let layout = self.params.layout().with_frozen(predicate);
        self.params.set_layout(&layout)
    }

    /// Zero gradients (or moments, or a tangent) of the parameters.
    pub fn zeros(&self) -> Result<Params<B>> {
        Params::zeros(self.backend(), self.layout())
    }

    /// All modes, without conditions.
    pub fn call(&self) -> Call<'_, L, B> {
        self.with(Given::default())
    }

    /// All modes, with conditions, an operator or a trail.
    pub fn with<'a>(&'a self, given: Given<'a, B>) -> Call<'a, L, B> {
        Call::new(&self.layer, &self.params, given)
    }

    /// See [`Call::forward`].
    pub fn forward(&self, x: Tensor<B>) -> Result<Mapped<B>> {
        self.call().forward(x)
    }

    /// See [`Call::inverse`].
    pub fn inverse(&self, y: Tensor<B>) -> Result<Mapped<B>> {
        self.call().inverse(y)
    }

    /// See [`Call::backward`].
    pub fn backward(&self, y: Tensor<B>, gy: Tensor<B>, gl: &Tensor<B>, grads: &mut Params<B>) -> Result<Pulled<B>> {
        self.call().backward(y, gy, gl, grads)
    }

    /// Sets the parameters that depend on data (activation normalization) from a first batch. Explicit, never a side effect.
    ///
    /// # Errors
    /// A shape that does not fit, or values that are not finite.
    pub fn initialize(&mut self, x: Tensor<B>, given: Given<'_, B>) -> Result<()> {
        self.initialize_from(Direction::Forward, x, given)
    }

    /// The same for a model that is trained from its other side (a [`Reversed`](crate::compose::Reversed) one for example).
    ///
    /// # Errors
    /// A shape that does not fit, or values that are not finite.
    pub fn initialize_from(&mut self, dir: Direction, mut x: Tensor<B>, given: Given<'_, B>) -> Result<()> {
        self.with(given).check(dir, x.shape())?;
        x.expect_finite("the batch that initializes the network")?;
        let mut setup = Setup { theta: &mut self.params, conditions: given.conditions, operator: given.operator };
        self.layer.initialize(dir, &mut setup, &mut x.view_mut())?;
        self.initialized = true;
        Ok(())
    }
}
