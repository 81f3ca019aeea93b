//! What is differentiated.

use inn_core::{Backend, Call, Direction, Given, Invertible, Model, Params};

/// A layer or network as a map of its state and parameters: y = f(x; θ), or its inverse.
///
/// ```
/// # use inn_core::Model;
/// # use inn_layers::ActNorm;
/// # use inn_linop::Map;
/// # use inn_ops::Cpu;
/// # let model = Model::build(&Cpu::<f64>::new(), 0, |scope| ActNorm::new(scope, 3))?;
/// let generator = Map::of(&model).inverse();
/// let density = Map::of(&model).with_logdet();
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Map<'a, L, B: Backend> {
    pub(super) layer: &'a L,
    pub(super) theta: &'a Params<B>,
    pub(super) given: Given<'a, B>,
    pub(super) direction: Direction,
    pub(super) logdet: bool,
}

impl<L, B: Backend> Clone for Map<'_, L, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L, B: Backend> Copy for Map<'_, L, B> {}

impl<'a, L: Invertible, B: Backend> Map<'a, L, B> {
    /// `layer` at the parameters `theta`, forward.
    pub fn new(layer: &'a L, theta: &'a Params<B>) -> Self {
        Self { layer, theta, given: Given::default(), direction: Direction::Forward, logdet: false }
    }

    /// A model at its parameters, forward.
    pub fn of(model: &'a Model<L, B>) -> Self {
        Self::new(model.layer(), model.params())
    }

    /// With conditions or an operator, which stay fixed. A trail is not told of what the Jacobian computes.
    #[must_use]
    pub fn given(self, given: Given<'a, B>) -> Self {
        Self { given: Given { trail: None, ..given }, ..self }
    }

    /// In this direction.
    #[must_use]
    pub fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// The inverse map f⁻¹, with its own log-determinant.
    #[must_use]
    pub fn inverse(self) -> Self {
        self.direction(Direction::Inverse)
    }

    /// With the log-determinant of each sample as further outputs.
    #[must_use]
    pub fn with_logdet(self) -> Self {
        Self { logdet: true, ..self }
    }

    pub(super) fn call(&self) -> Call<'a, L, B> {
        Call::new(self.layer, self.theta, self.given)
    }
}
