//! The public face of a conditioner: value, tangent, cotangent, by value.

use super::second::dual_inputs;
use super::{Along, Given};
use crate::backend::Backend;
use crate::conditioner::Conditioner;
use crate::dual::Dual;
use crate::error::{Error, Result, expect_shape};
use crate::layer::{Facts, Gradients, Inputs};
use crate::operator::LinearOperator;
use crate::params::{Entry, Params};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A conditioner network with its parameters and what else it is given, as [`Call`](super::Call) is for a layer.
///
/// It need not be invertible, so its derivatives are taken at the input, which stays.
pub struct NetCall<'a, N, B: Backend> {
    net: &'a N,
    theta: &'a Params<B>,
    given: Given<'a, B>,
}

impl<N, B: Backend> Clone for NetCall<'_, N, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N, B: Backend> Copy for NetCall<'_, N, B> {}

/// The gradient at the input of a conditioner.
pub struct NetPulled<B: Backend> {
    /// Of the input.
    pub cotangent: Tensor<B>,
    /// Of each condition.
    pub conditions: Vec<Tensor<B>>,
}

impl<'a, N: Conditioner, B: Backend> NetCall<'a, N, B> {
    /// `net` at the parameters `theta`.
    pub fn new(net: &'a N, theta: &'a Params<B>, given: Given<'a, B>) -> Self {
        Self { net, theta, given }
    }

    /// The parameters.
    pub fn params(&self) -> &'a Params<B> {
        self.theta
    }

    /// What it is given.
    pub fn given(&self) -> Given<'a, B> {
        self.given
    }

    fn inputs(&self, batch: usize) -> Inputs<'a, B> {
        let Given { conditions, operator, .. } = self.given;
        Inputs { theta: self.theta, conditions, operator, trail: None, samples: 0..batch }
    }

    /// The shape that comes out for `input`.
    ///
    /// # Errors
    /// What the network's gate refuses.
    pub fn check(&self, input: Shape) -> Result<Shape> {
        let conditions: Vec<Shape> = self.given.conditions.iter().map(Tensor::shape).collect();
        let operator = self.given.operator.map(|a| (a.domain(), a.range()));
        self.net.check(Facts { layout: self.theta.layout(), conditions: &conditions, operator }, input)
    }

    /// N(x).
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn value(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let mut out = Tensor::scratch(self.theta.backend(), self.check(x.shape())?)?;
        self.net.forward(&self.inputs(x.shape().batch()), x.view(), &mut out.view_mut())?;
        Ok(out)
    }

    /// N(x) and its derivative along (dx, dθ, dconditions).
    ///
    /// # Errors
    /// A shape that does not fit.
    pub fn push(&self, x: Tensor<B>, dx: Tensor<B>, along: &Along<'_, B>) -> Result<(Tensor<B>, Tensor<B>)> {
        let output = self.check(x.shape())?;
        expect_shape("tangent", x.shape(), dx.shape())?;
        let samples = 0..x.shape().batch();
        let pairs = dual_inputs(Dual::new(self.theta.backend().clone()), self.theta, self.given, along)?;
        let operator = pairs.operator.as_ref().map(|a| a as &dyn LinearOperator<Dual<B>>);
        let at = Inputs { theta: &pairs.theta, conditions: &pairs.conditions, operator, trail: None, samples };
        let x = pairs.dual.tensor(x, dx);
        let mut out = Tensor::scratch(&pairs.dual, output)?;
        self.net.forward(&at, x.view(), &mut out.view_mut())?;
        Ok(pairs.dual.split(out))
    }

    /// The adjoint of the Jacobian at x, applied to `gout`; the gradient of the parameters is **added** to `grads`.
    ///
    /// # Errors
    /// A shape that does not fit. `grads` is unchanged then.
    pub fn pull(&self, x: &Tensor<B>, mut gout: Tensor<B>, grads: &mut Params<B>) -> Result<NetPulled<B>> {
        let backend = self.theta.backend();
        let output = self.check(x.shape())?;
        expect_shape("cotangent", output, gout.shape())?;
        if !grads.layout().is_compatible(self.theta.layout()) {
            return Err(Error::shape("gradients", "the layout of the parameters", "another one"));
        }
        let at = self.inputs(x.shape().batch());
        let mut out = Tensor::scratch(backend, output)?;
        let saved = self.net.forward(&at, x.view(), &mut out.view_mut())?;
        let mut cotangent = Tensor::zeros(backend, x.shape())?;
        let mut conditions = self.given.conditions.iter().map(|c| Tensor::zeros(backend, c.shape())).collect::<Result<Vec<_>>>()?;
        let mut gradients = Gradients { theta: &mut *grads, conditions: &mut conditions };
        self.net.vjp(&at, x.view(), saved, &mut gout.view_mut(), &mut cotangent.view_mut(), &mut gradients)?;
        if self.theta.layout().entries().iter().any(Entry::is_frozen) {
            grads.set_layout(self.theta.layout())?;
            grads.clear_frozen()?;
        }
        Ok(NetPulled { cotangent, conditions })
    }
}
