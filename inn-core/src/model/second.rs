//! Second derivatives, and what first derivatives over pairs own.

use super::erased::{Erased, Maps};
use super::{Along, Call, Given, Tangent};
use crate::backend::{Backend, Direction};
use crate::dual::{Dual, DualOperator};
use crate::error::{Error, Result, expect_shape};
use crate::layer::Invertible;
use crate::operator::LinearOperator;
use crate::params::Params;
use crate::shape::Shape;
use crate::tensor::Tensor;

impl<'a, L: Invertible, B: Backend> Call<'a, L, B> {
    /// The derivative of [`pull`](Self::pull): the Hessian of `<gy, f> + <gl, logdet>` along a direction, exactly.
    ///
    /// Takes the output y with its tangent dy (that of the direction in x and θ, see [`push`](Self::push)); gy and gl are held fixed.
    /// Answers x with its tangent, and the cotangents with theirs.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn hessian(
        &self,
        dir: Direction,
        y: Tensor<B>,
        dy: Tensor<B>,
        gy: Tensor<B>,
        gl: &Tensor<B>,
        along: &Along<'_, B>,
    ) -> Result<Hessian<B>> {
        let dgy = Tensor::zeros(self.backend(), gy.shape())?;
        self.hessian_of(dir, y, dy, gy, dgy, gl, along)
    }

    /// The same for an objective Φ(f) + `<gl, logdet>` whose gradient gy = ∂Φ/∂y changes by dgy = (∂²Φ/∂y²) dy along the direction.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn hessian_of(
        &self,
        dir: Direction,
        y: Tensor<B>,
        dy: Tensor<B>,
        gy: Tensor<B>,
        dgy: Tensor<B>,
        gl: &Tensor<B>,
        along: &Along<'_, B>,
    ) -> Result<Hessian<B>> {
        self.check(dir.flip(), y.shape())?;
        pull_pairs(self.layer, self.theta, self.given, Dual::new(self.backend().clone()), dir, (y, dy), (gy, dgy), gl, along)
    }

    /// The Gauss-Newton product of the same objective: Jᵀ dgy and the curvature of the log-determinant's own terms, without the second
    /// derivatives of what they depend on (see [`Dual`]). In the answer `cotangent` is zero.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn gauss_newton(
        &self,
        dir: Direction,
        y: Tensor<B>,
        dy: Tensor<B>,
        dgy: Tensor<B>,
        gl: &Tensor<B>,
        along: &Along<'_, B>,
    ) -> Result<Hessian<B>> {
        let gy = Tensor::zeros(self.backend(), dgy.shape())?;
        self.check(dir.flip(), y.shape())?;
        pull_pairs(self.layer, self.theta, self.given, Dual::gauss_newton(self.backend().clone()), dir, (y, dy), (gy, dgy), gl, along)
    }
}

/// A map over pairs (value, tangent).
pub(crate) fn push<B: Backend>(
    layer: &dyn Maps<Dual<B>>,
    theta: &Params<B>,
    given: Given<'_, B>,
    dir: Direction,
    x: Tensor<B>,
    dx: Tensor<B>,
    along: &Along<'_, B>,
) -> Result<Tangent<B>> {
    expect_shape("tangent", x.shape(), dx.shape())?;
    let pairs = dual_inputs(Dual::new(theta.backend().clone()), theta, given, along)?;
    let out = pairs.call(layer).map(dir, pairs.dual.tensor(x, dx))?;
    let (state, tangent) = pairs.dual.split(out.state);
    let (logdet, logdet_tangent) = pairs.dual.split(out.logdet);
    Ok(Tangent { state, tangent, logdet, logdet_tangent })
}

/// A pullback over pairs of y and of its cotangent.
pub(crate) fn pull_pairs<B: Backend, const G: bool>(
    layer: &dyn Maps<Dual<B, G>>,
    theta: &Params<B>,
    given: Given<'_, B>,
    dual: Dual<B, G>,
    dir: Direction,
    y: (Tensor<B>, Tensor<B>),
    gy: (Tensor<B>, Tensor<B>),
    gl: &Tensor<B>,
    along: &Along<'_, B>,
) -> Result<Hessian<B>> {
    let shape = y.0.shape();
    expect_shape("tangent", shape, y.1.shape())?;
    expect_shape("cotangent", shape, gy.0.shape())?;
    expect_shape("tangent of the cotangent", shape, gy.1.shape())?;
    expect_shape("cotangent of the log-determinant", Shape::per_sample(shape.batch()), gl.shape())?;
    let pairs = dual_inputs(dual, theta, given, along)?;
    let dual = &pairs.dual;
    let mut grads = Params::zeros(dual, theta.layout())?;
    let (y, gy, gl) = (dual.tensor(y.0, y.1), dual.tensor(gy.0, gy.1), dual.seed(gl)?);
    let pulled = pairs.call(layer).pull(dir, y, gy, &gl, &mut grads)?;
    let (state, tangent) = dual.split(pulled.state);
    let (cotangent, cotangent_tangent) = dual.split(pulled.cotangent);
    let condition_tangents = pulled.conditions.into_iter().map(|c| dual.split(c).1).collect();
    let theta_tangent = grads.into_tangent(Params::zeros(theta.backend(), theta.layout())?)?;
    Ok(Hessian { state, tangent, cotangent, cotangent_tangent, condition_tangents, theta_tangent })
}

/// A second derivative, see [`Call::hessian`].
pub struct Hessian<B: Backend> {
    /// The recovered state.
    pub state: Tensor<B>,
    /// Its tangent.
    pub tangent: Tensor<B>,
    /// The gradient in the state.
    pub cotangent: Tensor<B>,
    /// Its derivative along the direction.
    pub cotangent_tangent: Tensor<B>,
    /// The derivative of each condition's gradient along the direction.
    pub condition_tangents: Vec<Tensor<B>>,
    /// The derivative of the parameters' gradient along the direction.
    pub theta_tangent: Params<B>,
}

/// What a call over pairs owns.
pub(super) struct Pairs<'a, B: Backend, const G: bool> {
    pub dual: Dual<B, G>,
    pub theta: Params<Dual<B, G>>,
    pub conditions: Vec<Tensor<Dual<B, G>>>,
    pub operator: Option<DualOperator<'a, B>>,
}

impl<B: Backend, const G: bool> Pairs<'_, B, G> {
    fn call<'b>(&'b self, layer: &'b dyn Maps<Dual<B, G>>) -> Erased<'b, Dual<B, G>> {
        let operator = self.operator.as_ref().map(|a| a as &dyn LinearOperator<Dual<B, G>>);
        Erased { layer, theta: &self.theta, given: Given { conditions: &self.conditions, operator, trail: None } }
    }
}

/// What is given, with its tangents along a direction.
pub(super) fn dual_inputs<'a, B: Backend, const G: bool>(
    dual: Dual<B, G>,
    theta: &Params<B>,
    given: Given<'a, B>,
    along: &Along<'_, B>,
) -> Result<Pairs<'a, B, G>> {
    let backend = theta.backend();
    if !along.conditions.is_empty() && along.conditions.len() != given.conditions.len() {
        let expected = format!("{} tensors or none", given.conditions.len());
        return Err(Error::shape("tangents of the conditions", expected, along.conditions.len()));
    }
    let mut conditions = Vec::with_capacity(given.conditions.len());
    for (i, condition) in given.conditions.iter().enumerate() {
        let d = match along.conditions.get(i) {
            Some(d) => {
                expect_shape("tangent of a condition", condition.shape(), d.shape())?;
                d.duplicate()?
            }
            None => Tensor::zeros(backend, condition.shape())?,
        };
        conditions.push(dual.tensor(condition.duplicate()?, d));
    }
    let theta = dual.params(theta, along.theta)?;
    Ok(Pairs { dual, theta, conditions, operator: given.operator.map(DualOperator) })
}
