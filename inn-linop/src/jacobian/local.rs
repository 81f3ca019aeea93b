//! The curvature of the log-determinant, layer by layer.

use super::flat;
use super::map::Map;
use crate::gate::{Ends, put};
use inn_core::{
    Along, Backend, Call, Direction, Error, Given, Inputs, Invertible, LinearOperator, Params, Result, Shape, Tensor, View, ViewMut,
    Visitor, Write,
};

/// The block-diagonal Gauss-Newton operator of the log-determinant in the parameters: Σ_j (∂u_j/∂θ_j)ᵀ λ ψ''(u_j) (∂u_j/∂θ_j).
///
/// θ_j are the parameters that layer j itself reads, u_j the coefficients of its log-determinant at the state that reaches it. What
/// earlier layers do to that state is left out, so layers do not mix; this is what the original library computes as H dθ, with the right
/// curvature and scale. [`GaussNewton`](super::GaussNewton) of [`Objective::log_determinant`](super::Objective::log_determinant) has the
/// blocks between layers as well.
///
/// A product walks the network once forward ([`Call::walk`]); a layer is what the walk shows. Parameters that layers share get the sum of
/// their blocks.
pub struct LogdetBlocks<'a, L, B: Backend> {
    map: Map<'a, L, B>,
    x: Tensor<B>,
    weights: Tensor<B>,
}

impl<'a, L: Invertible, B: Backend> LogdetBlocks<'a, L, B> {
    /// At the state x, for Σ_b λ_b ℓ_b with `weights` λ, `(B, 1)`.
    ///
    /// # Errors
    /// A shape that does not fit the layer, or a layer without parameters.
    pub fn new(map: Map<'a, L, B>, x: Tensor<B>, weights: Tensor<B>) -> Result<Self> {
        map.call().check(map.direction, x.shape())?;
        inn_core::error::expect_shape("log-determinant weights", Shape::per_sample(x.shape().batch()), weights.shape())?;
        if map.theta.layout().is_empty() {
            return Err(Error::shape(format!("parameters of {}", map.layer.name()), "at least one", 0));
        }
        Ok(Self { map, x, weights })
    }
}

impl<L: Invertible, B: Backend> LinearOperator<B> for LogdetBlocks<'_, L, B> {
    fn domain(&self) -> Shape {
        Shape::flat(self.map.theta.layout().len())
    }
    fn range(&self) -> Shape {
        self.domain()
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        let shape = self.domain();
        Ends { domain: shape, range: shape, per_sample: false }.check("blocks of the log-determinant", false, x.shape(), y.shape())?;
        let layout = self.map.theta.layout();
        let direction = flat::to_params(backend, layout, x)?;
        let mut local = Local { direction: &direction, weights: &self.weights, sum: Params::zeros(backend, layout)? };
        self.map.call().walk(self.map.direction, self.x.duplicate()?, &mut local)?;
        put(backend, 1.0, local.sum.flat()?, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.apply(backend, y, x, write)
    }
}

struct Local<'a, B: Backend> {
    direction: &'a Params<B>,
    weights: &'a Tensor<B>,
    sum: Params<B>,
}

impl<B: Backend> Visitor<B> for Local<'_, B> {
    fn visit<L: Invertible>(&mut self, _: &str, layer: &L, dir: Direction, at: &Inputs<'_, B>, x: View<'_, B>) -> Result<()> {
        let backend = at.backend();
        let call = Call::new(layer, at.theta, Given { conditions: at.conditions, operator: at.operator, trail: None });
        let along = Along { theta: Some(self.direction), ..Along::default() };
        let out = call.push(dir, flat::copy(backend, x)?, Tensor::zeros(backend, x.shape())?, &along)?;
        let dgy = Tensor::zeros(backend, out.state.shape())?;
        let block = call.gauss_newton(dir, out.state, out.tangent, dgy, self.weights, &along)?;
        self.sum.axpy(1.0, &block.theta_tangent)
    }
}
