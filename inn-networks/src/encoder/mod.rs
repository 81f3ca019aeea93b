//! Conditions that are prepared once, and the network that reads them.

mod concatenate;
mod pyramid;

pub use concatenate::{Concatenate, ConcatenatedGlow, ConcatenatedGlowConfig, Observation, ObservationConfig};
pub use pyramid::{ConditionalGlow, ConditionalGlowConfig, Pyramid, PyramidConfig};

use inn_core::{
    Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, Params, Result, Setup, Shape, Tensor, View, ViewMut, Visitor,
};

/// Prepares the conditions of a network from observations, with parameters that are trained with the network.
///
/// Its observations are the conditions of the call that it is given, from 0 on: one, or as many as it says.
pub trait Encoder: Send + Sync {
    /// How many observations it reads.
    fn observations(&self) -> usize {
        1
    }

    /// The shapes of the conditions made from observations of the shapes `facts.conditions`.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn check(&self, facts: Facts<'_>) -> Result<Vec<Shape>>;

    /// Whether observations of these shapes belong to a state of shape `state`; by default any do.
    ///
    /// # Errors
    /// Extents that do not fit each other.
    fn belongs(&self, observations: &[Shape], state: Shape) -> Result<()> {
        let _ = (observations, state);
        Ok(())
    }

    /// The conditions, for a batch of observations `at.conditions`.
    ///
    /// # Errors
    /// What the backend returns.
    fn encode<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>>;

    /// Takes the cotangents of what [`encode`](Self::encode) made back to the parameters and to the observations, adding to `grads`.
    ///
    /// # Errors
    /// What the backend returns.
    fn pull<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        encoded: &[Tensor<B>],
        cotangents: Vec<Tensor<B>>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()>;

    /// Sets parameters that depend on data from a first batch of observations; by default there are none.
    ///
    /// # Errors
    /// What the backend returns.
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>) -> Result<()> {
        let _ = (dir, at);
        Ok(())
    }
}

/// The first of the observations, by shape or by value.
pub(crate) fn first<T>(observations: &[T]) -> Result<&T> {
    observations.first().ok_or_else(|| missing(0))
}

fn missing(index: usize) -> Error {
    Error::Missing { layer: "Encoded".into(), what: format!("condition {index}") }
}

/// Refuses an observation of other extents than the state.
pub(crate) fn same_extents(observation: Shape, state: Shape) -> Result<()> {
    if observation.spatial() == state.spatial() {
        return Ok(());
    }
    Err(Error::shape("condition 0", format!("the extents {:?} of the data", state.spatial()), observation))
}

/// A network whose conditions are encoded first, with the gradient to the observations as they were given.
///
/// As a layer it takes the observations as conditions, encodes them in every call, and trains the encoder with the rest. To draw many samples for
/// one observation, encode it once: [`draw`](Self::draw) does, or [`encode`](Self::encode) and a call of the [`inner`](Self::inner) network with the result.
#[derive(Clone, Debug)]
pub struct Encoded<L, E = Pyramid> {
    encoder: E,
    inner: L,
}

impl<L: Invertible, E: Encoder> Encoded<L, E> {
    /// A network behind an encoder, both built in one layout.
    pub fn new(encoder: E, inner: L) -> Self {
        Self { encoder, inner }
    }

    /// What prepares the conditions.
    pub fn encoder(&self) -> &E {
        &self.encoder
    }

    /// The network that reads encoded conditions.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// Encodes observations, for calls of the [`inner`](Self::inner) network. A batch of one serves any number of samples.
    ///
    /// # Errors
    /// Shapes that do not fit, or fewer observations than the encoder reads.
    pub fn encode<B: Backend>(&self, theta: &Params<B>, observations: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
        let shapes: Vec<Shape> = observations.iter().map(Tensor::shape).collect();
        let batch = first(&shapes)?.batch();
        let facts = Facts { layout: theta.layout(), conditions: &shapes, operator: None };
        self.observed(facts, batch)?;
        self.encoder.check(facts)?;
        self.encoder.encode(&Inputs { theta, conditions: observations, operator: None, trail: None, samples: 0..batch })
    }

    /// The shapes of the observations of `batch` samples.
    fn observed(&self, facts: Facts<'_>, batch: usize) -> Result<Vec<Shape>> {
        (0..self.encoder.observations()).map(|i| facts.condition("Encoded", i, batch)).collect()
    }

    fn encoded<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Vec<Tensor<B>>> {
        let samples = 0..first(at.conditions)?.shape().batch();
        self.encoder.encode(&Inputs { samples, ..at.clone() })
    }
}

impl<L: Invertible, E: Encoder> Invertible for Encoded<L, E> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let observations = self.observed(facts, input.batch())?;
        self.encoder.belongs(&observations, input)?;
        let conditions = self.encoder.check(facts)?;
        self.inner.check(dir, Facts { conditions: &conditions, ..facts }, input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let conditions = self.encoded(at)?;
        self.inner.map(dir, &at.with_conditions(&conditions), x, logdet)
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
        let conditions = self.encoded(at)?;
        let mut cotangents = conditions.iter().map(|c| Tensor::zeros(at.backend(), c.shape())).collect::<Result<Vec<_>>>()?;
        let mut inner = Gradients { theta: &mut *grads.theta, conditions: &mut cotangents };
        self.inner.pull(dir, &at.with_conditions(&conditions), y, gy, gl, &mut inner)?;
        self.encoder.pull(at, &conditions, cotangents, grads)
    }

    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        self.encoder.initialize(dir, at)?;
        let conditions = self.encoded(&at.inputs(x.shape().batch()))?;
        let mut inner = Setup { theta: &mut *at.theta, conditions: &conditions, operator: at.operator };
        self.inner.initialize(dir, &mut inner, x)
    }

    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        let conditions = self.encoded(at)?;
        self.inner.walk(path, dir, &at.with_conditions(&conditions), x, visitor)
    }
}
