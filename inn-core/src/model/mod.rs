//! The public face of a layer or network: every mode, by value.

mod chunks;
mod erased;
mod net;
mod owned;
mod second;

pub(crate) use erased::{Erased, Layer, Maps};
pub use net::{NetCall, NetPulled};
pub use owned::Model;
pub use second::Hessian;
pub(crate) use second::{pull_pairs, push};

use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::layer::{Inputs, Invertible};
use crate::operator::LinearOperator;
use crate::params::Params;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::terms::{self, LogScales};
use crate::trail::Trail;
use crate::visit::Visitor;

/// What a call brings beside the state: nothing by default.
pub struct Given<'a, B: Backend> {
    /// Conditions, addressed by index.
    pub conditions: &'a [Tensor<B>],
    /// A linear operator, such as the physics of an inverse problem.
    pub operator: Option<&'a dyn LinearOperator<B>>,
    /// Watches the states between layers.
    pub trail: Option<&'a Trail<B>>,
}

impl<B: Backend> Clone for Given<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Given<'_, B> {}

impl<B: Backend> Default for Given<'_, B> {
    fn default() -> Self {
        Self { conditions: &[], operator: None, trail: None }
    }
}

impl<'a, B: Backend> Given<'a, B> {
    /// These conditions.
    pub fn conditions(conditions: &'a [Tensor<B>]) -> Self {
        Self { conditions, ..Self::default() }
    }

    /// The same with a trail.
    #[must_use]
    pub fn with_trail(self, trail: &'a Trail<B>) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// The same with a linear operator.
    #[must_use]
    pub fn with_operator(self, operator: &'a dyn LinearOperator<B>) -> Self {
        Self { operator: Some(operator), ..self }
    }
}

/// A mapped state.
pub struct Mapped<B: Backend> {
    /// y of `forward`, x of `inverse`.
    pub state: Tensor<B>,
    /// ln|det| of the map that was taken, for each sample, `(B, 1)`.
    pub logdet: Tensor<B>,
}

/// A state that was recovered together with the gradient there.
pub struct Pulled<B: Backend> {
    /// x of `backward`, y of `backward_inverse`.
    pub state: Tensor<B>,
    /// The cotangent of `state`.
    pub cotangent: Tensor<B>,
    /// The gradient of each condition.
    pub conditions: Vec<Tensor<B>>,
}

/// A mapped state with its tangent.
pub struct Tangent<B: Backend> {
    /// The mapped state.
    pub state: Tensor<B>,
    /// Its tangent, J (dx, dθ, dconditions).
    pub tangent: Tensor<B>,
    /// The log-determinant for each sample, `(B, 1)`.
    pub logdet: Tensor<B>,
    /// Its tangent, `(B, 1)`.
    pub logdet_tangent: Tensor<B>,
}

/// Where a tangent points: parts that are left out are zero.
pub struct Along<'a, B: Backend> {
    /// dθ. Components of frozen parameters count as zero.
    pub theta: Option<&'a Params<B>>,
    /// dconditions, one for each condition, or none.
    pub conditions: &'a [Tensor<B>],
}

impl<B: Backend> Default for Along<'_, B> {
    fn default() -> Self {
        Self { theta: None, conditions: &[] }
    }
}

/// A layer with its parameters and what else it is given: all modes of an invertible map.
///
/// States go in by value, are changed in place and come out by value. Every call first passes the network's gate, so that an error leaves
/// nothing half done; on an error the state that went in is dropped.
pub struct Call<'a, L, B: Backend> {
    layer: &'a L,
    theta: &'a Params<B>,
    given: Given<'a, B>,
}

impl<L, B: Backend> Clone for Call<'_, L, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<L, B: Backend> Copy for Call<'_, L, B> {}

impl<'a, L: Invertible, B: Backend> Call<'a, L, B> {
    /// `layer` at the parameters `theta`.
    pub fn new(layer: &'a L, theta: &'a Params<B>, given: Given<'a, B>) -> Self {
        Self { layer, theta, given }
    }

    fn backend(&self) -> &'a B {
        self.theta.backend()
    }

    /// The shape that comes out for `input`.
    ///
    /// # Errors
    /// What the layer's gate refuses.
    pub fn check(&self, dir: Direction, input: Shape) -> Result<Shape> {
        self.erased().check(dir, input)
    }

    /// The layer.
    pub fn layer(&self) -> &'a L {
        self.layer
    }

    /// What it is given.
    pub fn given(&self) -> Given<'a, B> {
        self.given
    }

    /// The parameters.
    pub fn params(&self) -> &'a Params<B> {
        self.theta
    }

    fn erased(&self) -> Erased<'a, B> {
        Erased { layer: self.layer, theta: self.theta, given: self.given }
    }

    pub(crate) fn inputs(&self, batch: usize) -> Inputs<'a, B> {
        self.erased().inputs(batch)
    }

    /// y = f(x) and ln|det ∂y/∂x| for each sample.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn forward(&self, x: Tensor<B>) -> Result<Mapped<B>> {
        self.map(Direction::Forward, x)
    }

    /// x = f⁻¹(y) and ln|det ∂x/∂y| for each sample.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn inverse(&self, y: Tensor<B>) -> Result<Mapped<B>> {
        self.map(Direction::Inverse, y)
    }

    /// [`forward`](Self::forward) or [`inverse`](Self::inverse).
    pub fn map(&self, dir: Direction, x: Tensor<B>) -> Result<Mapped<B>> {
        self.erased().map(dir, x)
    }

    /// From y and the cotangents of y and of the log-determinant: x, the cotangent of x, those of the conditions, and the gradient of the
    /// parameters **added** to `grads`. One pass; the input is recomputed from the output.
    ///
    /// For the loss of maximum likelihood, mean over the batch of |y|²/2 - logdet, pass gy = y/B and gl = -1/B.
    ///
    /// # Errors
    /// A shape that does not fit. `grads` is unchanged then.
    pub fn backward(&self, y: Tensor<B>, gy: Tensor<B>, gl: &Tensor<B>, grads: &mut Params<B>) -> Result<Pulled<B>> {
        self.pull(Direction::Forward, y, gy, gl, grads)
    }

    /// The same for the inverse map: from x, the cotangents of x and of the inverse's log-determinant, to y and its cotangent.
    ///
    /// # Errors
    /// A shape that does not fit. `grads` is unchanged then.
    pub fn backward_inverse(&self, x: Tensor<B>, gx: Tensor<B>, gl: &Tensor<B>, grads: &mut Params<B>) -> Result<Pulled<B>> {
        self.pull(Direction::Inverse, x, gx, gl, grads)
    }

    /// [`backward`](Self::backward) or [`backward_inverse`](Self::backward_inverse).
    pub fn pull(&self, dir: Direction, y: Tensor<B>, gy: Tensor<B>, gl: &Tensor<B>, grads: &mut Params<B>) -> Result<Pulled<B>> {
        self.erased().pull(dir, y, gy, gl, grads)
    }

    /// The derivative of `forward` along (dx, dθ, dconditions).
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn jvp(&self, x: Tensor<B>, dx: Tensor<B>, along: &Along<'_, B>) -> Result<Tangent<B>> {
        self.push(Direction::Forward, x, dx, along)
    }

    /// The derivative of `inverse` along (dy, dθ, dconditions).
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn jvp_inverse(&self, y: Tensor<B>, dy: Tensor<B>, along: &Along<'_, B>) -> Result<Tangent<B>> {
        self.push(Direction::Inverse, y, dy, along)
    }

    /// [`jvp`](Self::jvp) or [`jvp_inverse`](Self::jvp_inverse).
    pub fn push(&self, dir: Direction, x: Tensor<B>, dx: Tensor<B>, along: &Along<'_, B>) -> Result<Tangent<B>> {
        self.check(dir, x.shape())?;
        push(self.layer, self.theta, self.given, dir, x, dx, along)
    }

    /// Shows the layers of a network to `visitor`, each at its input, in the order of this direction, and returns the mapped state.
    ///
    /// # Errors
    /// A shape that does not fit, and what the visitor returns.
    pub fn walk<V: Visitor<B>>(&self, dir: Direction, mut x: Tensor<B>, visitor: &mut V) -> Result<Tensor<B>> {
        let output = self.check(dir, x.shape())?;
        let batch = x.shape().batch();
        self.layer.walk("", dir, &self.inputs(batch), &mut x.view_mut(), visitor)?;
        x.reshape(output)
    }

    /// The smallest and largest pointwise term of the log-determinant at `x`; `None` for a map that preserves volume by its construction.
    /// Waits for the device.
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn log_scales(&self, dir: Direction, x: Tensor<B>) -> Result<Option<LogScales>> {
        terms::log_scales(self.layer, self.theta, self.given, dir, x)
    }
}
