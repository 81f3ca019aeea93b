//! Jacobians of layers and networks as linear operators.

mod curvature;
mod flat;
mod local;
mod map;
mod net;
mod objective;
mod variables;

pub use curvature::{Curvature, GaussNewton, Hessian};
pub use local::LogdetBlocks;
pub use map::Map;
pub use net::NetJacobian;
pub use objective::Objective;
pub use variables::By;

use crate::gate::{Ends, put};
use inn_core::{Backend, Invertible, LinearOperator, Mapped, Params, Result, Shape, Tensor, View, ViewMut, Write};
use variables::Variables;

/// The Jacobian J of a [`Map`] at a point, matrix-free.
///
/// With y = f(x; θ) and ℓ the log-determinant of each sample:
///
/// | constructor | domain | J applied to it |
/// |---|---|---|
/// | [`state`](Self::state) | dx, the shape of x | (∂f/∂x) dx |
/// | [`parameters`](Self::parameters) | dθ, [`Shape::flat`] of the layout's length | (∂f/∂θ) dθ |
/// | [`full`](Self::full) | \[dx; dθ\], [`Shape::flat`] | (∂f/∂x) dx + (∂f/∂θ) dθ |
/// | [`condition`](Self::condition) | dc, the shape of a condition | (∂f/∂c) dc |
/// | [`by`](Self::by) | any of these and all together, see [`By`] | the sum |
///
/// The range is the shape of y. [`Map::with_logdet`] adds the log-determinants as rows, one a sample; the range is then \[dy; dℓ\],
/// [`Shape::flat`]. Components of θ that are frozen, and the padding between parameters, act as zero both ways.
///
/// The two products share no derivation: J dx runs the layer's `map` over (value, tangent) pairs ([`Call::push`](inn_core::Call::push)),
/// Jᵀ dy its hand-written `pull` ([`Call::pull`](inn_core::Call::pull)). So [`dot_test`](crate::dot_test) of a Jacobian tests the layer.
///
/// # Memory
/// Held: x and y, where y is computed once, at construction. A product duplicates what it starts from and gives it back: J takes pairs of
/// the state and of the parameters, four of each with the copies; Jᵀ takes a state, its cotangent and one vector of gradients. Neither
/// grows with depth.
///
/// ```
/// use inn_core::{Model, Shape, Tensor};
/// use inn_layers::ActNorm;
/// use inn_linop::{Algebra, Jacobian, LinearOperator, Map, dot_test};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let model = Model::build(&cpu, 0, |scope| ActNorm::new(scope, 3))?;
/// let x = Tensor::full(&cpu, Shape::new(2, 3, &[4, 4])?, 0.5)?;
/// let j = Jacobian::parameters(Map::of(&model).with_logdet(), x)?;
/// assert_eq!(j.domain(), Shape::flat(model.layout().len()));
/// assert_eq!(j.range(), Shape::flat(2 * 3 * 4 * 4 + 2));
/// dot_test(&cpu, &j, 7, 1e-12)?;
///
/// // The Gauss-Newton operator JᵀJ of a least-squares misfit.
/// let gauss_newton = (&j).then((&j).adjoint())?;
/// assert_eq!(gauss_newton.range(), j.domain());
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Jacobian<'a, L, B: Backend> {
    map: Map<'a, L, B>,
    variables: Variables,
    x: Tensor<B>,
    y: Mapped<B>,
    ends: Ends,
}

impl<'a, L: Invertible, B: Backend> Jacobian<'a, L, B> {
    /// In the state, ∂f/∂x.
    ///
    /// # Errors
    /// A shape that does not fit the layer.
    pub fn state(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        Self::by(map, By::State, x)
    }

    /// In the parameters, ∂f/∂θ.
    ///
    /// # Errors
    /// A shape that does not fit the layer, or a layer without parameters.
    pub fn parameters(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        Self::by(map, By::Parameters, x)
    }

    /// In both, \[∂f/∂x, ∂f/∂θ\].
    ///
    /// # Errors
    /// A shape that does not fit the layer.
    pub fn full(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        Self::by(map, By::Both, x)
    }

    /// In the condition of an index, ∂f/∂c.
    ///
    /// # Errors
    /// A shape that does not fit the layer, no such condition, or one that several samples share.
    pub fn condition(map: Map<'a, L, B>, index: usize, x: Tensor<B>) -> Result<Self> {
        Self::by(map, By::Condition(index), x)
    }

    /// In whatever `by` says.
    ///
    /// # Errors
    /// A shape that does not fit the layer; nothing to differentiate by; a condition that several samples share.
    pub fn by(map: Map<'a, L, B>, by: By, x: Tensor<B>) -> Result<Self> {
        let y = map.call().map(map.direction, x.duplicate()?)?;
        let variables = Variables::new(&map.layer.name(), map.theta, map.given, by, x.shape())?;
        let domain = variables.shape(by);
        let output = y.state.shape();
        let range = if map.logdet { Shape::flat(output.len() + output.batch()) } else { output };
        Ok(Self { map, variables, x, y, ends: Ends { domain, range, per_sample: false } })
    }

    /// The point x.
    pub fn point(&self) -> &Tensor<B> {
        &self.x
    }

    /// The value there: y and the log-determinant of each sample.
    pub fn value(&self) -> &Mapped<B> {
        &self.y
    }
}

/// Writes a tensor into a range of a flat vector.
fn put_part<B: Backend>(backend: &B, from: Tensor<B>, start: usize, to: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
    let len = from.shape().len();
    let from = from.reshape(Shape::flat(len))?;
    put(backend, 1.0, from.view(), &mut flat::part_mut(to, start..start + len)?, write)
}

impl<L: Invertible, B: Backend> LinearOperator<B> for Jacobian<'_, L, B> {
    fn domain(&self) -> Shape {
        self.ends.domain
    }

    fn range(&self) -> Shape {
        self.ends.range
    }

    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("Jacobian", false, x.shape(), y.shape())?;
        let along = self.variables.split(backend, x)?;
        let dx = along.state.duplicate()?;
        let out = self.map.call().push(self.map.direction, self.x.duplicate()?, dx, &along.along())?;
        if !self.map.logdet {
            return put(backend, 1.0, out.tangent.view(), y, write);
        }
        let rows = out.tangent.shape().len();
        put_part(backend, out.tangent, 0, y, write)?;
        put_part(backend, out.logdet_tangent, rows, y, write)
    }

    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("Jacobian", true, y.shape(), x.shape())?;
        let output = self.y.state.shape();
        let (gy, gl) = if self.map.logdet {
            let rows = output.len();
            let gl = flat::copy(backend, flat::part(y, rows..y.shape().len())?)?;
            (flat::copy(backend, flat::part(y, 0..rows)?)?.reshape(output)?, gl.reshape(Shape::per_sample(output.batch()))?)
        } else {
            (flat::copy(backend, y)?, Tensor::zeros(backend, Shape::per_sample(output.batch()))?)
        };
        let mut grads = Params::zeros(backend, self.map.theta.layout())?;
        let out = self.map.call().pull(self.map.direction, self.y.state.duplicate()?, gy, &gl, &mut grads)?;
        self.variables.join(backend, &out.cotangent, &grads, &out.conditions, x, write)
    }
}
