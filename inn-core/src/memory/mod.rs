//! The memory of a gradient step, predicted from shapes alone.

mod plan;

use crate::backend::{Backend, Direction, Write};
use crate::error::Result;
use crate::layer::Invertible;
use crate::model::{Call, Given};
use crate::operator::LinearOperator;
use crate::params::{Layout, Params};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{View, ViewMut};
use plan::Plan;
use std::fmt;
use std::sync::Arc;

/// What a gradient step holds at its peak, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The parameters.
    pub parameters: usize,
    /// Their gradients.
    pub gradients: usize,
    /// The input and its conditions.
    pub state: usize,
    /// Everything else at the worst moment: the cotangent, log-determinants, one layer's hidden values.
    pub workspace: usize,
    /// Buffers that the backend keeps for reuse or uses within a primitive, at most, beyond the peak of the others.
    pub spare: usize,
    /// Working memory of the backend's threads.
    pub threads: usize,
}

impl Memory {
    /// The sum.
    pub fn total(&self) -> usize {
        self.parameters + self.gradients + self.state + self.workspace + self.spare + self.threads
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        write!(
            f,
            "{:.1} MB = parameters {:.1} + gradients {:.1} + state {:.1} + workspace {:.1} + spare {:.1} + threads {:.1}",
            mb(self.total()),
            mb(self.parameters),
            mb(self.gradients),
            mb(self.state),
            mb(self.workspace),
            mb(self.spare),
            mb(self.threads)
        )
    }
}

/// The bytes of a gradient step (forward, then backward) at its peak. See [`gradient_memory`] for the parts.
///
/// # Errors
/// What the layer's gate refuses.
pub fn peak_bytes<L: Invertible, B: Backend>(
    backend: &B,
    layer: &L,
    layout: &Arc<Layout>,
    input: Shape,
    conditions: &[Shape],
) -> Result<usize> {
    Ok(gradient_memory(backend, layer, layout, input, conditions)?.total())
}

/// Working memory of a primitive, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// A buffer that comes and goes as those of [`Backend::alloc`] do.
    pub buffer: usize,
    /// What stays with the caller's thread, for later calls.
    pub caller: usize,
    /// What stays with each of the backend's threads that takes part, besides.
    pub each: usize,
    /// How many take part, the caller's first.
    pub threads: usize,
}

/// Predicts the memory of a gradient step of `layer` on `backend` by running it on a backend that stores nothing and counts.
///
/// Layers never look at values, so the counted run asks for the same storage in the same order as a real one, and keeps what the backend
/// would keep for reuse ([`Shelf`](crate::shelf::Shelf)).
///
/// # Errors
/// What the layer's gate refuses.
pub fn gradient_memory<L: Invertible, B: Backend>(
    backend: &B,
    layer: &L,
    layout: &Arc<Layout>,
    input: Shape,
    conditions: &[Shape],
) -> Result<Memory> {
    plan_gradient(backend, layer, layout, input, conditions, None)
}

/// The same for a network with an external operator of the given domain and range, without what the operator itself holds while it is applied.
///
/// # Errors
/// As [`gradient_memory`].
pub fn gradient_memory_with_operator<L: Invertible, B: Backend>(
    backend: &B,
    layer: &L,
    layout: &Arc<Layout>,
    input: Shape,
    conditions: &[Shape],
    (domain, range): (Shape, Shape),
) -> Result<Memory> {
    plan_gradient(backend, layer, layout, input, conditions, Some(Ends { domain, range }))
}

fn plan_gradient<L: Invertible, B: Backend>(
    backend: &B,
    layer: &L,
    layout: &Arc<Layout>,
    input: Shape,
    conditions: &[Shape],
    operator: Option<Ends>,
) -> Result<Memory> {
    let plan = Plan::new(backend);
    let theta = Params::zeros(&plan, layout)?;
    let parameters = plan.meter().shelf.used();
    let mut grads = Params::zeros(&plan, layout)?;
    let gradients = plan.meter().shelf.used() - parameters;
    let x = Tensor::scratch(&plan, input)?;
    let conditions = conditions.iter().map(|&shape| Tensor::scratch(&plan, shape)).collect::<Result<Vec<_>>>()?;
    let state = plan.meter().shelf.used() - parameters - gradients;
    let operator = operator.as_ref().map(|ends| ends as &dyn LinearOperator<Plan<B>>);
    let call = Call::new(layer, &theta, Given { operator, ..Given::conditions(&conditions) });
    let mapped = call.forward(x)?;
    let gy = mapped.state.duplicate()?;
    let gl = mapped.logdet.duplicate()?;
    call.backward(mapped.state, gy, &gl, &mut grads)?;
    let meter = plan.meter();
    let (used, most) = (meter.used, meter.shelf.most());
    let workspace = used - parameters - gradients - state;
    Ok(Memory { parameters, gradients, state, workspace, spare: most - used, threads: meter.threads() })
}

/// The bytes of one map (a forward or inverse pass) at its peak, parameters included: what sampling needs.
///
/// # Errors
/// What the layer's gate refuses.
pub fn map_bytes<L: Invertible, B: Backend>(
    backend: &B,
    layer: &L,
    layout: &Arc<Layout>,
    dir: Direction,
    input: Shape,
    conditions: &[Shape],
) -> Result<usize> {
    let plan = Plan::new(backend);
    let theta = Params::zeros(&plan, layout)?;
    let x = Tensor::scratch(&plan, input)?;
    let conditions = conditions.iter().map(|&shape| Tensor::scratch(&plan, shape)).collect::<Result<Vec<_>>>()?;
    Call::new(layer, &theta, Given::conditions(&conditions)).map(dir, x)?;
    let meter = plan.meter();
    Ok(meter.shelf.most() + meter.threads())
}

/// An operator that does nothing, between shapes.
struct Ends {
    domain: Shape,
    range: Shape,
}

impl<B: Backend> LinearOperator<Plan<B>> for Ends {
    fn domain(&self) -> Shape {
        self.domain
    }
    fn range(&self) -> Shape {
        self.range
    }
    fn apply(&self, _: &Plan<B>, _: View<'_, Plan<B>>, _: &mut ViewMut<'_, Plan<B>>, _: Write) -> Result<()> {
        Ok(())
    }
    fn apply_adjoint(&self, _: &Plan<B>, _: View<'_, Plan<B>>, _: &mut ViewMut<'_, Plan<B>>, _: Write) -> Result<()> {
        Ok(())
    }
}
