//! The contract of an invertible layer: a shape check, a map and its pullback, each with a direction.

use crate::backend::{Backend, Direction};
use crate::error::{Error, Result};
use crate::operator::LinearOperator;
use crate::params::{Layout, Param, Params};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::trail::Trail;
use crate::view::{View, ViewMut};
use crate::visit::Visitor;
use std::ops::Range;

/// An invertible map f with parameters θ, on windows of one state.
///
/// A layer holds configuration and parameter handles, no tensors, and names no backend: one layer object runs in f32, in f64, on
/// any device, and over pairs (value, tangent). Its author writes [`check`](Self::check), [`map`](Self::map) and [`pull`](Self::pull);
/// [`Call`](crate::model::Call) derives all public modes from them:
///
/// | mode | derived from |
/// |---|---|
/// | `forward`, `inverse`, both with the log-determinant per sample | `map` |
/// | `backward`, `backward_inverse` | `pull` |
/// | `jvp`, `jvp_inverse`, with the tangent of the log-determinant | `map` over [`Dual`](crate::dual::Dual) |
/// | Hessian-vector products | `pull` over `Dual` |
///
/// Everything is in place: `map` turns x into y in the same buffer, `pull` turns (y, gy) into (x, gx). A state of several lanes is one
/// tensor; a lane is a range of its channels. A multiscale latent is the range of channels that later levels leave alone.
///
/// # The mathematics of `pull`
/// For an objective φ with cotangents gy = ∂φ/∂y and λ_b = ∂φ/∂ℓ_b, where ℓ_b = ln|det ∂f/∂x| of sample b, `pull` with `Forward` computes
/// ```text
/// x = f⁻¹(y),    gx = (∂f/∂x)ᵀ gy + Σ_b λ_b ∂ℓ_b/∂x,    gθ += (∂f/∂θ)ᵀ gy + Σ_b λ_b ∂ℓ_b/∂θ.
/// ```
/// With `Inverse` it does the same for the map f⁻¹, whose log-determinant is -ℓ: it gets (x, gx) and turns them into (y, gy).
/// With a = (∂f/∂x)⁻ᵀ gx the cotangent of y, the parameter gradients of f⁻¹ are minus those of f at (x, a), the log-determinant
/// term included.
///
/// # Rules
/// - After [`check`](Self::check) has passed, `map` and `pull` do not fail for reasons of shape.
/// - Gradients are added to, never overwritten: parameters may be shared.
/// - Every value is computed by primitives of the backend. A value that passes through the host loses its tangent.
pub trait Invertible: Send + Sync {
    /// The one gate: whether the layer can take `input` in this direction, and the shape that comes out. Touches no data.
    ///
    /// # Errors
    /// A shape, condition, operator or parameter that does not fit, with what was expected and what came.
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape>;

    /// Maps the state in place and **adds** ln|det| of the map taken to `logdet`, `(B, 1)`.
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()>;

    /// Inverts and differentiates in one pass: (y, gy) become (x, gx) in place, `grads` is added to. `gl` is the cotangent of the
    /// log-determinant, `(B, 1)`.
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()>;

    /// Sets parameters that depend on data from a first batch, and maps the batch on so that later layers see what they will see.
    /// The default has nothing to set.
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let backend = at.theta.backend().clone();
        let mut logdet = Tensor::zeros(&backend, Shape::per_sample(x.shape().batch()))?;
        self.map(dir, &at.inputs(x.shape().batch()), x, &mut logdet.view_mut())
    }

    /// Shows the layers that this one is made of to `visitor` and maps x in place. The default shows itself; layers made of layers
    /// show those instead.
    ///
    /// # Errors
    /// What the visitor or a layer returns.
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()>
    where
        Self: Sized,
    {
        visitor.visit(path, self, dir, at, x.view())?;
        let mut logdet = Tensor::zeros(at.backend(), Shape::per_sample(x.shape().batch()))?;
        self.map(dir, at, x, &mut logdet.view_mut())
    }

    /// A short name for tables and messages.
    fn name(&self) -> String {
        let name = std::any::type_name::<Self>();
        let end = name.find('<').unwrap_or(name.len());
        name[name[..end].rfind("::").map_or(0, |i| i + 2)..end].to_owned()
    }
}

/// What is known about a call before any number is touched.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The parameters' names and shapes.
    pub layout: &'a Layout,
    /// Shapes of the conditions.
    pub conditions: &'a [Shape],
    /// Domain and range of the external operator, if there is one.
    pub operator: Option<(Shape, Shape)>,
}

impl Facts<'_> {
    /// Checks that a parameter handle belongs to the layout and has the shape that the layer expects.
    ///
    /// # Errors
    /// A handle of another network.
    pub fn param(&self, param: Param) -> Result<Shape> {
        Ok(self.layout.entry(param)?.window().shape)
    }

    /// The shape of a condition for a state of `batch` samples; a condition of one sample is shared by all.
    ///
    /// # Errors
    /// The call does not bring it, or it has another batch.
    pub fn condition(&self, layer: &str, index: usize, batch: usize) -> Result<Shape> {
        let Some(&shape) = self.conditions.get(index) else {
            return Err(Error::Missing { layer: layer.into(), what: format!("condition {index}") });
        };
        if shape.batch() != batch && shape.batch() != 1 {
            return Err(Error::shape(format!("condition {index}"), format!("a batch of {batch} or 1"), shape));
        }
        Ok(shape)
    }
}

/// What a layer computes with beside its state.
pub struct Inputs<'a, B: Backend> {
    /// The parameters.
    pub theta: &'a Params<B>,
    /// The conditions, addressed by index.
    pub conditions: &'a [Tensor<B>],
    /// A linear operator from outside, such as the physics of an inverse problem.
    pub operator: Option<&'a dyn LinearOperator<B>>,
    /// Who watches the states between layers, if anybody does.
    pub trail: Option<&'a Trail<B>>,
    /// Which samples of the batch the state at hand covers.
    pub samples: Range<usize>,
}

impl<B: Backend> Clone for Inputs<'_, B> {
    fn clone(&self) -> Self {
        Self { samples: self.samples.clone(), ..*self }
    }
}

impl<'a, B: Backend> Inputs<'a, B> {
    /// The device.
    pub fn backend(&self) -> &'a B {
        self.theta.backend()
    }

    /// A parameter.
    pub fn param(&self, param: Param) -> Result<View<'a, B>> {
        self.theta.get(param)
    }

    /// A condition for the samples at hand; one of a single sample is repeated.
    ///
    /// # Errors
    /// The call does not bring it.
    pub fn condition(&self, index: usize) -> Result<View<'a, B>> {
        let missing = || Error::Missing { layer: "layer".into(), what: format!("condition {index}") };
        let view = self.conditions.get(index).ok_or_else(missing)?.view();
        Ok(if view.shape().batch() == 1 { view.repeat(self.samples.len()) } else { view.samples(self.samples.clone()) })
    }

    /// The external operator.
    ///
    /// # Errors
    /// The call does not bring one.
    pub fn operator(&self) -> Result<&'a dyn LinearOperator<B>> {
        self.operator.ok_or_else(|| Error::Missing { layer: "layer".into(), what: "a linear operator".into() })
    }

    /// The same for a range of the samples at hand.
    #[must_use]
    pub fn tile(&self, range: Range<usize>) -> Self {
        let start = self.samples.start;
        Self { samples: start + range.start..start + range.end, ..*self }
    }

    /// The same with other conditions, which cover the same samples.
    #[must_use]
    pub fn with_conditions<'b>(&self, conditions: &'b [Tensor<B>]) -> Inputs<'b, B>
    where
        'a: 'b,
    {
        Inputs { theta: self.theta, conditions, operator: self.operator, trail: self.trail, samples: self.samples.clone() }
    }
}

/// Where gradients are added.
pub struct Gradients<'a, B: Backend> {
    /// Of the parameters.
    pub theta: &'a mut Params<B>,
    /// Of the conditions, each of the shape of its condition.
    pub conditions: &'a mut [Tensor<B>],
}

impl<B: Backend> Gradients<'_, B> {
    /// The gradient of a parameter.
    pub fn param(&mut self, param: Param) -> Result<ViewMut<'_, B>> {
        self.theta.get_mut(param)
    }

    /// The gradient of a condition, for a range of samples.
    ///
    /// # Errors
    /// There is no such condition, or it is shared by several samples while `samples` are not all of it.
    pub fn condition(&mut self, index: usize, samples: Range<usize>) -> Result<ViewMut<'_, B>> {
        Self::of_condition(self.conditions, index, samples)
    }

    /// [`condition`](Self::condition) of conditions that are borrowed apart from the parameters.
    ///
    /// # Errors
    /// As there.
    pub fn of_condition(conditions: &mut [Tensor<B>], index: usize, samples: Range<usize>) -> Result<ViewMut<'_, B>> {
        let missing = || Error::Missing { layer: "layer".into(), what: format!("the gradient of condition {index}") };
        let tensor = conditions.get_mut(index).ok_or_else(missing)?;
        if samples.end > tensor.shape().batch() {
            let expected = format!("a batch of at least {}; a condition shared by all samples has no gradient", samples.end);
            return Err(Error::shape(format!("condition {index}"), expected, tensor.shape()));
        }
        let window = tensor.view().window().samples(samples);
        ViewMut::new(tensor.buffer_mut(), window)
    }
}

/// What initialization works with: as [`Inputs`], with parameters to set.
pub struct Setup<'a, B: Backend> {
    /// The parameters.
    pub theta: &'a mut Params<B>,
    /// The conditions.
    pub conditions: &'a [Tensor<B>],
    /// The external operator.
    pub operator: Option<&'a dyn LinearOperator<B>>,
}

impl<B: Backend> Setup<'_, B> {
    /// To map with, for a state of `batch` samples.
    pub fn inputs(&self, batch: usize) -> Inputs<'_, B> {
        Inputs { theta: self.theta, conditions: self.conditions, operator: self.operator, trail: None, samples: 0..batch }
    }
}
