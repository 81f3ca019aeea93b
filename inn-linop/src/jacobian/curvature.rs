//! Second derivatives of objectives as linear operators.

use super::map::Map;
use super::objective::Objective;
use super::{By, Jacobian};
use inn_core::{Backend, Invertible, LinearOperator, Mapped, Params, Result, Shape, Tensor, View, ViewMut, Write};

/// The exact Hessian of an objective of a layer or network: dual numbers over the hand-written `pull`.
pub type Hessian<'a, L, B, H> = Curvature<'a, L, B, H, false>;

/// The Gauss-Newton approximation Jᵀ (∂²Φ/∂y²) J + Σ_b λ_b GN(ℓ_b), see [`Curvature`].
pub type GaussNewton<'a, L, B, H> = Curvature<'a, L, B, H, true>;

/// Second derivatives of f = Φ(y) + Σ_b λ_b ℓ_b in state, parameters, conditions or several of them, at a point, matrix-free.
///
/// With J the Jacobian of y, u_j the coefficients that the log-determinant's pointwise terms ψ read (those of coupling j, the scales of a
/// normalization) and Du_j their total derivative:
///
/// | | product with v |
/// |---|---|
/// | [`Hessian`] | the derivative of the gradient along v: Jᵀ Φ'' J v + Σ_i (∂Φ/∂y_i) D²y_i v + λ D²ℓ v |
/// | [`GaussNewton`] | Jᵀ Φ'' J v + λ Σ_j Du_jᵀ ψ''(u_j) Du_j v |
///
/// Both are symmetric. Gauss-Newton drops the second derivatives of y and of the u_j. Its first term is positive semidefinite where Φ is
/// convex. Its second, for λ < 0, is where ψ'' ≤ 0, as for a sigmoid scale up to 1 and for a normalization; a bounded symmetric scale
/// has ψ'' of both signs, so damp a step, or take λ = 0 in the curvature.
///
/// A product is one pass forward and one back over pairs. Neither grows in memory with depth.
///
/// ```
/// use inn_core::{Model, Shape, Tensor};
/// use inn_layers::ActNorm;
/// use inn_linop::{By, GaussNewton, LinearOperator, Map, Objective, dot_test, solve::{Limits, newton_step}};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let model = Model::build(&cpu, 0, |scope| ActNorm::new(scope, 2))?;
/// let x = Tensor::from_f64(&cpu, Shape::new(3, 2, &[])?, &[0.1, 2.0, -1.0, 0.5, 1.5, -0.7])?;
/// // The curvature of maximum likelihood in the parameters, and one damped step.
/// let h = GaussNewton::new(Map::of(&model), By::Parameters, x, Objective::likelihood)?;
/// dot_test(&cpu, &h, 7, 1e-12)?;
/// let step = newton_step(&h, &h.gradient()?, 1e-3, None, Limits::default())?;
/// assert_eq!(step.x.shape(), h.domain());
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Curvature<'a, L, B: Backend, H, const GAUSS_NEWTON: bool> {
    point: Jacobian<'a, L, B>,
    objective: Objective<B, H>,
}

impl<'a, L: Invertible, B: Backend, H: LinearOperator<B>, const GAUSS_NEWTON: bool> Curvature<'a, L, B, H, GAUSS_NEWTON> {
    /// Of the objective that `objective` makes of the map's value at x. [`Map::with_logdet`] changes nothing here.
    ///
    /// # Errors
    /// A shape that does not fit the layer; nothing to differentiate by; an objective for another shape.
    pub fn new(map: Map<'a, L, B>, by: By, x: Tensor<B>, objective: impl FnOnce(&Mapped<B>) -> Result<Objective<B, H>>) -> Result<Self> {
        let point = Jacobian::by(Map { logdet: false, ..map }, by, x)?;
        let objective = objective(point.value())?;
        objective.check(point.value().state.shape())?;
        Ok(Self { point, objective })
    }

    /// The gradient of the objective, the shape of the domain: the right-hand side of Newton's step, up to its sign.
    ///
    /// # Errors
    /// The device's.
    pub fn gradient(&self) -> Result<Tensor<B>> {
        let Jacobian { map, variables, y, ends, .. } = &self.point;
        let backend = map.theta.backend();
        let mut grads = Params::zeros(backend, map.theta.layout())?;
        let gy = self.objective.gradient.duplicate()?;
        let out = map.call().pull(map.direction, y.state.duplicate()?, gy, &self.objective.logdet, &mut grads)?;
        let mut gradient = Tensor::scratch(backend, ends.domain)?;
        variables.join(backend, &out.cotangent, &grads, &out.conditions, &mut gradient.view_mut(), Write::Set)?;
        Ok(gradient)
    }

    /// The value of the map at the point.
    pub fn value(&self) -> &Mapped<B> {
        self.point.value()
    }
}

impl<L: Invertible, B: Backend, H: LinearOperator<B>, const GAUSS_NEWTON: bool> LinearOperator<B> for Curvature<'_, L, B, H, GAUSS_NEWTON> {
    fn domain(&self) -> Shape {
        self.point.ends.domain
    }

    fn range(&self) -> Shape {
        self.domain()
    }

    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        let Jacobian { map, variables, x: at, ends, .. } = &self.point;
        crate::gate::Ends { range: ends.domain, ..*ends }.check("curvature", false, x.shape(), y.shape())?;
        let (call, dir) = (map.call(), map.direction);
        let tangents = variables.split(backend, x)?;
        let along = tangents.along();
        let out = call.push(dir, at.duplicate()?, tangents.state.duplicate()?, &along)?;
        let mut dgy = Tensor::scratch(backend, out.tangent.shape())?;
        self.objective.curvature.apply(backend, out.tangent.view(), &mut dgy.view_mut(), Write::Set)?;
        let logdet = &self.objective.logdet;
        let out = if GAUSS_NEWTON {
            call.gauss_newton(dir, out.state, out.tangent, dgy, logdet, &along)?
        } else {
            call.hessian_of(dir, out.state, out.tangent, self.objective.gradient.duplicate()?, dgy, logdet, &along)?
        };
        variables.join(backend, &out.cotangent_tangent, &out.theta_tangent, &out.condition_tangents, y, write)
    }

    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.apply(backend, y, x, write)
    }
}
