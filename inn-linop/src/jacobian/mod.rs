//! Jacobians of layers and networks as linear operators.

mod flat;
mod map;

pub use map::Map;

use crate::gate::{Ends, put};
use inn_core::{Along, Backend, Error, Invertible, LinearOperator, Mapped, Params, Result, Shape, Tensor, View, ViewMut, Write};

/// The Jacobian J of a [`Map`] at a point, matrix-free.
///
/// With y = f(x; θ) and ℓ the log-determinant of each sample:
///
/// | constructor | domain | J applied to it |
/// |---|---|---|
/// | [`state`](Self::state) | dx, the shape of x | (∂f/∂x) dx |
/// | [`parameters`](Self::parameters) | dθ, [`Shape::flat`] of the layout's length | (∂f/∂θ) dθ |
/// | [`full`](Self::full) | \[dx; dθ\], [`Shape::flat`] | (∂f/∂x) dx + (∂f/∂θ) dθ |
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
    by: By,
    x: Tensor<B>,
    y: Mapped<B>,
    ends: Ends,
}

/// What is differentiated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    State,
    Parameters,
    Both,
}

impl<'a, L: Invertible, B: Backend> Jacobian<'a, L, B> {
    /// In the state, ∂f/∂x.
    ///
    /// # Errors
    /// A shape that does not fit the layer.
    pub fn state(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        Self::at(map, By::State, x)
    }

    /// In the parameters, ∂f/∂θ.
    ///
    /// # Errors
    /// A shape that does not fit the layer, or a layer without parameters.
    pub fn parameters(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        if map.theta.layout().is_empty() {
            return Err(Error::shape(format!("parameters of {}", map.layer.name()), "at least one", 0));
        }
        Self::at(map, By::Parameters, x)
    }

    /// In both, \[∂f/∂x, ∂f/∂θ\].
    ///
    /// # Errors
    /// A shape that does not fit the layer.
    pub fn full(map: Map<'a, L, B>, x: Tensor<B>) -> Result<Self> {
        Self::at(map, By::Both, x)
    }

    fn at(map: Map<'a, L, B>, by: By, x: Tensor<B>) -> Result<Self> {
        let y = map.call().map(map.direction, x.duplicate()?)?;
        let domain = match by {
            By::State => x.shape(),
            By::Parameters => Shape::flat(map.theta.layout().len()),
            By::Both => Shape::flat(x.shape().len() + map.theta.layout().len()),
        };
        let output = y.state.shape();
        let range = if map.logdet { Shape::flat(output.len() + output.batch()) } else { output };
        Ok(Self { map, by, x, y, ends: Ends { domain, range, per_sample: false } })
    }

    /// The point x.
    pub fn point(&self) -> &Tensor<B> {
        &self.x
    }

    /// The value there: y and the log-determinant of each sample.
    pub fn value(&self) -> &Mapped<B> {
        &self.y
    }

    /// Copies the part of the domain's vector that belongs to the state.
    fn state_part(&self, backend: &B, v: View<'_, B>) -> Result<Tensor<B>> {
        match self.by {
            By::State => copy(backend, v),
            By::Parameters => Tensor::zeros(backend, self.x.shape()),
            By::Both => copy(backend, flat::part(v, 0..self.x.shape().len())?)?.reshape(self.x.shape()),
        }
    }

    /// Copies the part that belongs to the parameters, without padding.
    fn parameter_part(&self, backend: &B, v: View<'_, B>) -> Result<Option<Params<B>>> {
        let start = match self.by {
            By::State => return Ok(None),
            By::Parameters => 0,
            By::Both => self.x.shape().len(),
        };
        flat::to_params(backend, self.map.theta.layout(), flat::part(v, start..v.shape().len())?).map(Some)
    }
}

fn copy<B: Backend>(backend: &B, v: View<'_, B>) -> Result<Tensor<B>> {
    let mut tensor = Tensor::scratch(backend, v.shape())?;
    tensor.view_mut().assign(backend, v)?;
    Ok(tensor)
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
        let dx = self.state_part(backend, x)?;
        let theta = self.parameter_part(backend, x)?;
        let along = Along { theta: theta.as_ref(), ..Along::default() };
        let out = self.map.call().push(self.map.direction, self.x.duplicate()?, dx, &along)?;
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
            let gl = copy(backend, flat::part(y, rows..y.shape().len())?)?;
            (copy(backend, flat::part(y, 0..rows)?)?.reshape(output)?, gl.reshape(Shape::per_sample(output.batch()))?)
        } else {
            (copy(backend, y)?, Tensor::zeros(backend, Shape::per_sample(output.batch()))?)
        };
        let mut grads = Params::zeros(backend, self.map.theta.layout())?;
        let out = self.map.call().pull(self.map.direction, self.y.state.duplicate()?, gy, &gl, &mut grads)?;
        match self.by {
            By::State => put(backend, 1.0, out.cotangent.view(), x, write),
            By::Parameters => put(backend, 1.0, grads.flat()?, x, write),
            By::Both => {
                let (split, len) = (out.cotangent.shape().len(), x.shape().len());
                put_part(backend, out.cotangent, 0, x, write)?;
                if split == len {
                    return Ok(());
                }
                put(backend, 1.0, grads.flat()?, &mut flat::part_mut(x, split..len)?, write)
            }
        }
    }
}
