//! The memory of a gradient step, predicted from shapes alone.

use crate::backend::{Backend, Conv, Direction, Squeeze, Write, check_zip};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::layer::Invertible;
use crate::mix::Mix;
use crate::model::{Call, Given};
use crate::operations::describe_zip;
use crate::operator::LinearOperator;
use crate::params::{Layout, Params};
use crate::primitive::{ConvKind, Primitive};
use crate::scalar::Element;
use crate::shape::Shape;
use crate::shelf::Shelf;
use crate::stack::{Pointwise, Stack, StackPass, StackShape, in_place};
use crate::tensor::Tensor;
use crate::view::{Update, View, ViewMut};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
/// would keep for reuse ([`Shelf`]).
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

#[derive(Default)]
struct Meter {
    shelf: Shelf<usize>,
    /// The most that the tensors took at one time.
    used: usize,
    /// What each of the backend's threads holds: its larger buffer, and the one that it holds at the same time.
    threads: Vec<[usize; 2]>,
}

impl Meter {
    fn threads(&self) -> usize {
        self.threads.as_flattened().iter().sum()
    }
}

/// A backend without storage.
#[derive(Clone)]
struct Plan<B> {
    inner: B,
    meter: Arc<Mutex<Meter>>,
}

struct PlanBuffer {
    len: usize,
    bytes: usize,
    reused: bool,
    meter: Arc<Mutex<Meter>>,
}

fn lock(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for PlanBuffer {
    fn drop(&mut self) {
        let shelf = &mut lock(&self.meter).shelf;
        if self.reused && self.bytes > 0 {
            shelf.give(self.bytes);
        } else {
            shelf.forget(self.bytes);
        }
    }
}

impl<B: Backend> Plan<B> {
    fn new(inner: &B) -> Self {
        Self { inner: inner.clone(), meter: Arc::default() }
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        lock(&self.meter)
    }

    fn buffer(&self, len: usize, reused: bool) -> PlanBuffer {
        let mut bytes = len * size_of::<B::Elem>();
        let mut meter = self.meter();
        if reused {
            bytes = meter.shelf.take(bytes, drop).unwrap_or(bytes);
        } else {
            meter.shelf.enter(bytes, drop);
        }
        meter.used = meter.used.max(meter.shelf.used());
        PlanBuffer { len, bytes, reused, meter: self.meter.clone() }
    }

    fn note(&self, primitive: Primitive) {
        let Scratch { buffer, caller, each, threads } = self.inner.scratch(&primitive);
        let mut meter = self.meter();
        let known = meter.threads.len().max(threads);
        meter.threads.resize(known, [0; 2]);
        for (i, [large, small]) in meter.threads[..threads].iter_mut().enumerate() {
            let own = if i == 0 { caller } else { 0 };
            (*large, *small) = (each.max(own).max(*large), each.min(own).max(*small));
        }
        let buffer = meter.shelf.take(buffer, drop).unwrap_or(buffer);
        if self.inner.reuses() {
            meter.shelf.give(buffer);
        } else {
            meter.shelf.forget(buffer);
        }
    }

    /// Notes an offer, if it is taken.
    fn offer(&self, primitive: Primitive) -> bool {
        let taken = self.inner.takes(&primitive);
        if taken {
            self.note(primitive);
        }
        taken
    }

    fn note_conv(&self, kind: ConvKind, conv: Conv, x: Shape, w: Shape, y: Shape) -> Result<()> {
        self.note(Primitive::Conv { kind, conv, x, w, y });
        Ok(())
    }
}

impl<B: Backend> Backend for Plan<B> {
    type Elem = B::Elem;
    type Buffer = PlanBuffer;

    fn name(&self) -> String {
        format!("plan of {}", self.inner.name())
    }

    fn alloc(&self, len: usize) -> Result<PlanBuffer> {
        Ok(self.buffer(len, self.inner.reuses()))
    }

    fn chunks(&self, state: Shape, parameters: usize) -> usize {
        self.inner.chunks(state, parameters)
    }

    fn upload(&self, host: &[Self::Elem]) -> Result<PlanBuffer> {
        Ok(self.buffer(host.len(), false))
    }

    fn read(&self, buffer: &PlanBuffer) -> Result<Vec<Self::Elem>> {
        Ok(vec![Self::Elem::from_f64(1.0); buffer.len])
    }

    fn len(buffer: &PlanBuffer) -> usize {
        buffer.len
    }

    fn zip<K: Kernel>(
        &self,
        kernel: &K,
        domain: Shape,
        read: &[View<'_, Self>],
        update: &mut [Update<'_, Self>],
        channel_sums: &mut [Update<'_, Self>],
        sample_sums: &mut [Update<'_, Self>],
    ) -> Result<()> {
        check_zip::<Self, K>(self, domain, read, update, channel_sums, sample_sums)?;
        self.note(describe_zip(kernel, domain, read.len(), update));
        Ok(())
    }

    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, _: Write) -> Result<()> {
        self.note_conv(ConvKind::Forward, conv, x.shape(), w.shape(), y.shape())
    }

    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, _: Write) -> Result<()> {
        self.note_conv(ConvKind::Input, conv, gx.shape(), w.shape(), gy.shape())
    }

    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, _: Write) -> Result<()> {
        self.note_conv(ConvKind::Weight, conv, x.shape(), gw.shape(), gy.shape())
    }

    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()> {
        self.note(Primitive::Squeeze { squeeze, dir, x: x.shape() });
        let shape = squeeze.output(dir, x.shape())?;
        x.reshape(shape)
    }

    fn tile(&self, bytes: usize, batch: usize) -> usize {
        self.inner.tile(bytes, batch)
    }

    fn mix(&self, _: Direction, mix: &Mix<'_, Self>, x: &mut ViewMut<'_, Self>, _: &mut ViewMut<'_, Self>) -> Result<bool> {
        Ok(self.offer(mix.primitive(x.shape(), false)))
    }

    fn mix_pull(
        &self,
        _: Direction,
        mix: &Mix<'_, Self>,
        y: &mut ViewMut<'_, Self>,
        _: &mut ViewMut<'_, Self>,
        _: View<'_, Self>,
        _: &mut Update<'_, Self>,
    ) -> Result<bool> {
        Ok(self.offer(mix.primitive(y.shape(), true)))
    }

    fn takes(&self, primitive: &Primitive) -> bool {
        self.inner.takes(primitive)
    }

    fn kept(&self, stack: &StackShape) -> usize {
        self.inner.kept(stack)
    }

    fn stack<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        _: &mut ViewMut<'_, Self>,
        _: Write,
        kept: Option<&mut PlanBuffer>,
    ) -> Result<()> {
        self.note(stack.primitive(if kept.is_some() { StackPass::Keep } else { StackPass::Map })?);
        Ok(())
    }

    fn stack_vjp<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        _: &PlanBuffer,
        _: View<'_, Self>,
        _: &mut [ViewMut<'_, Self>],
        _: &mut Update<'_, Self>,
    ) -> Result<()> {
        self.note(stack.primitive(StackPass::Adjoint)?);
        Ok(())
    }

    fn stack_add<A: Pointwise>(&self, stack: &Stack<'_, Self, A>, state: &mut Update<'_, Self>) -> Result<()> {
        self.note(in_place(stack, state, StackPass::Map)?);
        Ok(())
    }

    fn stack_pull<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        state: &mut Update<'_, Self>,
        _: &mut Update<'_, Self>,
        _: &mut [ViewMut<'_, Self>],
        _: &mut Update<'_, Self>,
    ) -> Result<()> {
        self.note(in_place(stack, state, StackPass::Both)?);
        Ok(())
    }

    fn couple<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        _: &K,
        state: &mut Update<'_, Self>,
        _: &mut ViewMut<'_, Self>,
    ) -> Result<()> {
        self.note(in_place(stack, state, StackPass::Couple)?);
        Ok(())
    }

    fn couple_pull<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        _: &K,
        _: View<'_, Self>,
        state: &mut Update<'_, Self>,
        _: &mut Update<'_, Self>,
        _: &mut [ViewMut<'_, Self>],
        _: &mut Update<'_, Self>,
    ) -> Result<()> {
        self.note(in_place(stack, state, StackPass::CouplePull)?);
        Ok(())
    }
}
