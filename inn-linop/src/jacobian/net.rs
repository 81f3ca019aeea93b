//! Jacobians of the networks inside couplings.

use super::By;
use super::flat;
use super::variables::Variables;
use crate::gate::{Ends, put};
use inn_core::{Backend, Conditioner, LinearOperator, NetCall, Params, Result, Shape, Tensor, View, ViewMut, Write};

/// The Jacobian of a [`Conditioner`] at an input, in its input, parameters, conditions or several of them.
///
/// As [`Jacobian`](super::Jacobian), but of a map that need not be invertible: the adjoint is taken at the input, not at an output that an
/// input is recomputed from.
/// ```
/// use inn_core::{Given, Layout, NetCall, Params, Shape, Tensor};
/// use inn_layers::conditioner::{NetConfig, Ports};
/// use inn_linop::{By, LinearOperator, NetJacobian, dot_test};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let (net, layout) = Layout::build(|scope| NetConfig::default().build(scope, Ports::new(2, 3, 1)))?;
/// let theta = Params::init(&cpu, &layout, 0)?;
/// let x = Tensor::full(&cpu, Shape::new(2, 2, &[5])?, 0.5)?;
/// let j = NetJacobian::new(NetCall::new(&net, &theta, Given::default()), By::Both, x)?;
/// assert_eq!(j.range(), Shape::new(2, 3, &[5])?);
/// dot_test(&cpu, &j, 7, 1e-12)?;
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct NetJacobian<'a, N, B: Backend> {
    call: NetCall<'a, N, B>,
    variables: Variables,
    x: Tensor<B>,
    ends: Ends,
}

impl<'a, N: Conditioner, B: Backend> NetJacobian<'a, N, B> {
    /// At the input x.
    ///
    /// # Errors
    /// A shape that does not fit the network; nothing to differentiate by; a condition that several samples share.
    pub fn new(call: NetCall<'a, N, B>, by: By, x: Tensor<B>) -> Result<Self> {
        let range = call.check(x.shape())?;
        let variables = Variables::new("the conditioner", call.params(), call.given(), by, x.shape())?;
        let ends = Ends { domain: variables.shape(by), range, per_sample: false };
        Ok(Self { call, variables, x, ends })
    }
}

impl<N: Conditioner, B: Backend> LinearOperator<B> for NetJacobian<'_, N, B> {
    fn domain(&self) -> Shape {
        self.ends.domain
    }

    fn range(&self) -> Shape {
        self.ends.range
    }

    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("Jacobian", false, x.shape(), y.shape())?;
        let along = self.variables.split(backend, x)?;
        let (_, tangent) = self.call.push(self.x.duplicate()?, along.state.duplicate()?, &along.along())?;
        put(backend, 1.0, tangent.view(), y, write)
    }

    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("Jacobian", true, y.shape(), x.shape())?;
        let mut grads = Params::zeros(backend, self.call.params().layout())?;
        let out = self.call.pull(&self.x, flat::copy(backend, y)?, &mut grads)?;
        self.variables.join(backend, &out.cotangent, &grads, &out.conditions, x, write)
    }
}
