//! A backend that watches another: every primitive with its shapes, traffic, arithmetic and time.

use crate::backend::{Backend, Conv, Direction, HostBackend, Squeeze, Write};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::memory::Scratch;
use crate::mix::Mix;
use crate::operations::describe_zip;
use crate::primitive::{ConvKind, Primitive};
use crate::shape::{Shape, Window};
use crate::stack::{Affine, Last, Pointwise, Stack, StackPass, StackShape, in_place};
use crate::view::{Update, View, ViewMut};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One primitive that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What it was.
    pub primitive: Primitive,
    /// How long the call took. On a device that works ahead of the host this is the time to issue it.
    pub time: Duration,
}

/// Wraps a backend and records each of its primitives.
///
/// ```
/// # use inn_core::{Model, Shape, Tensor, Traced};
/// # use inn_layers::ActNorm;
/// # use inn_ops::Cpu;
/// let traced = Traced::new(Cpu::<f32>::new());
/// let model = Model::build(&traced, 0, |scope| ActNorm::new(scope, 3))?;
/// let x = Tensor::zeros(&traced, Shape::new(2, 3, &[4, 4])?)?;
/// traced.clear();
/// model.forward(x)?;
/// println!("{}", traced.profile());
/// assert_eq!(traced.reads(), 0);
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Traced<B> {
    inner: B,
    records: Arc<Mutex<Vec<Record>>>,
}

impl<B: Backend> Traced<B> {
    /// Watches `inner`.
    pub fn new(inner: B) -> Self {
        Self { inner, records: Arc::default() }
    }

    /// The backend below.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn log(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        self.log().clear();
    }

    /// Everything since the last [`clear`](Self::clear), in order.
    pub fn records(&self) -> Vec<Record> {
        self.log().clone()
    }

    /// How often the host waited for the device.
    pub fn reads(&self) -> usize {
        self.log().iter().filter(|r| matches!(r.primitive, Primitive::Read { .. })).count()
    }

    /// How many pieces of work a device would be given.
    pub fn dispatches(&self) -> usize {
        self.log().iter().filter(|r| r.primitive.is_dispatch()).count()
    }

    /// A table by primitive, the most expensive first.
    pub fn profile(&self) -> Profile {
        let mut rows: Vec<ProfileRow> = Vec::new();
        for record in self.log().iter() {
            let name = record.primitive.name();
            let at = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
                rows.push(ProfileRow { name, calls: 0, flops: 0, bytes: 0, time: Duration::ZERO });
                rows.len() - 1
            });
            let row = &mut rows[at];
            row.calls += 1;
            row.flops += record.primitive.flops();
            row.bytes += record.primitive.elements() * size_of::<B::Elem>();
            row.time += record.time;
        }
        rows.sort_by_key(|row| std::cmp::Reverse(row.time));
        Profile { rows }
    }

    /// Records an offer, if it is taken.
    fn offer(&self, primitive: Primitive, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let start = Instant::now();
        let taken = work()?;
        if taken {
            self.log().push(Record { primitive, time: start.elapsed() });
        }
        Ok(taken)
    }

    fn record<R>(&self, primitive: Primitive, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let start = Instant::now();
        let result = work()?;
        self.log().push(Record { primitive, time: start.elapsed() });
        Ok(result)
    }
}

/// Time by primitive.
#[derive(Clone, Debug)]
pub struct Profile {
    /// One row a primitive, the most expensive first.
    pub rows: Vec<ProfileRow>,
}

/// All calls of one primitive.
#[derive(Clone, Debug)]
pub struct ProfileRow {
    /// The primitive, with the kernel's name for a pointwise one.
    pub name: String,
    /// Number of calls.
    pub calls: usize,
    /// Arithmetic operations.
    pub flops: usize,
    /// Bytes that have to move at least.
    pub bytes: usize,
    /// Time in all calls.
    pub time: Duration,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: f64 = self.rows.iter().map(|r| r.time.as_secs_f64()).sum();
        writeln!(f, "{:<28} {:>7} {:>10} {:>7} {:>10} {:>9}", "primitive", "calls", "ms", "share", "GFLOP/s", "GB/s")?;
        for row in &self.rows {
            let s = row.time.as_secs_f64().max(1e-12);
            let share = 100.0 * s / total.max(1e-12);
            let (flops, bytes) = (row.flops as f64 / s / 1e9, row.bytes as f64 / s / 1e9);
            writeln!(f, "{:<28} {:>7} {:>10.3} {share:>6.1}% {flops:>10.1} {bytes:>9.1}", row.name, row.calls, s * 1e3)?;
        }
        write!(f, "{:<28} {:>7} {:>10.3}", "total", self.rows.iter().map(|r| r.calls).sum::<usize>(), total * 1e3)
    }
}

fn inner_view<'a, B: Backend>(x: &View<'a, Traced<B>>) -> Result<View<'a, B>> {
    View::new(x.buffer(), x.window())
}

fn inner_mut<'a, B: Backend>(y: &'a mut ViewMut<'_, Traced<B>>) -> Result<ViewMut<'a, B>> {
    let window = y.window();
    ViewMut::new(y.buffer_mut(), window)
}

fn inner_update<'a, B: Backend>(u: &'a mut Update<'_, Traced<B>>) -> Update<'a, B> {
    let (access, windows): (_, Vec<Window>) = (u.access(), u.windows().to_vec());
    Update::new(u.buffer_mut(), access, &windows)
}

fn inner_updates<'a, B: Backend>(updates: &'a mut [Update<'_, Traced<B>>]) -> Vec<Update<'a, B>> {
    updates.iter_mut().map(inner_update).collect()
}

/// The same mix on the inner backend.
fn inner_mix<'a, B: Backend>(mix: &Mix<'a, Traced<B>>) -> Result<Mix<'a, B>> {
    let affine = match &mix.affine {
        Some([scale, bias]) => Some([inner_view(scale)?, inner_view(bias)?]),
        None => None,
    };
    Ok(Mix { affine, vectors: inner_view(&mix.vectors)? })
}

/// The same stack on the inner backend.
fn with_inner<B: Backend, A: Pointwise, R>(stack: &Stack<'_, Traced<B>, A>, work: impl FnOnce(&Stack<'_, B, A>) -> Result<R>) -> Result<R> {
    fn affine<'a, B: Backend>(a: &Affine<'a, Traced<B>>) -> Result<Affine<'a, B>> {
        Ok(Affine { weight: inner_view(&a.weight)?, bias: inner_view(&a.bias)? })
    }
    let inputs = stack.inputs.iter().map(inner_view).collect::<Result<Vec<_>>>()?;
    let middle = stack.middle.iter().map(affine).collect::<Result<Vec<_>>>()?;
    let last = match &stack.last {
        Last::Transposed(w) => Last::Transposed(inner_view(w)?),
        Last::Affine(a) => Last::Affine(affine(a)?),
    };
    let Stack { activation, padding, skip, .. } = *stack;
    work(&Stack { activation, inputs: &inputs, padding, first: affine(&stack.first)?, middle: &middle, skip, last })
}

impl<B: Backend> Backend for Traced<B> {
    type Elem = B::Elem;
    type Buffer = B::Buffer;

    fn name(&self) -> String {
        format!("traced {}", self.inner.name())
    }

    fn enter<R: Send>(&self, elements: usize, work: impl FnOnce() -> R + Send) -> R {
        self.inner.enter(elements, work)
    }

    fn alloc(&self, len: usize) -> Result<Self::Buffer> {
        self.record(Primitive::Alloc { len }, || self.inner.alloc(len))
    }

    fn upload(&self, host: &[Self::Elem]) -> Result<Self::Buffer> {
        self.record(Primitive::Upload { len: host.len() }, || self.inner.upload(host))
    }

    fn read(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>> {
        self.record(Primitive::Read { len: B::len(buffer) }, || self.inner.read(buffer))
    }

    fn len(buffer: &Self::Buffer) -> usize {
        B::len(buffer)
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
        let reads = read.iter().map(inner_view).collect::<Result<Vec<_>>>()?;
        let primitive = describe_zip(kernel, domain, read.len(), update);
        let (mut update, mut channels, mut samples) = (inner_updates(update), inner_updates(channel_sums), inner_updates(sample_sums));
        self.record(primitive, || self.inner.zip(kernel, domain, &reads, &mut update, &mut channels, &mut samples))
    }

    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let primitive = Primitive::Conv { kind: ConvKind::Forward, conv, x: x.shape(), w: w.shape(), y: y.shape() };
        self.record(primitive, || self.inner.conv(conv, inner_view(&x)?, inner_view(&w)?, &mut inner_mut(y)?, write))
    }

    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let primitive = Primitive::Conv { kind: ConvKind::Input, conv, x: gx.shape(), w: w.shape(), y: gy.shape() };
        self.record(primitive, || self.inner.conv_input(conv, inner_view(&gy)?, inner_view(&w)?, &mut inner_mut(gx)?, write))
    }

    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let primitive = Primitive::Conv { kind: ConvKind::Weight, conv, x: x.shape(), w: gw.shape(), y: gy.shape() };
        self.record(primitive, || self.inner.conv_weight(conv, inner_view(&x)?, inner_view(&gy)?, &mut inner_mut(gw)?, write))
    }

    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()> {
        let shape = squeeze.output(dir, x.shape())?;
        self.record(Primitive::Squeeze { squeeze, dir, x: x.shape() }, || self.inner.squeeze(squeeze, dir, &mut inner_mut(x)?))?;
        x.reshape(shape)
    }

    fn tile(&self, bytes: usize, batch: usize) -> usize {
        self.inner.tile(bytes, batch)
    }

    fn scratch(&self, primitive: &Primitive) -> Scratch {
        self.inner.scratch(primitive)
    }

    fn reuses(&self) -> bool {
        self.inner.reuses()
    }

    fn takes(&self, primitive: &Primitive) -> bool {
        self.inner.takes(primitive)
    }

    fn mix(&self, dir: Direction, mix: &Mix<'_, Self>, x: &mut ViewMut<'_, Self>, logdet: &mut ViewMut<'_, Self>) -> Result<bool> {
        let primitive = mix.primitive(x.shape(), false);
        let mix = inner_mix(mix)?;
        self.offer(primitive, || self.inner.mix(dir, &mix, &mut inner_mut(x)?, &mut inner_mut(logdet)?))
    }

    fn mix_pull(
        &self,
        dir: Direction,
        mix: &Mix<'_, Self>,
        y: &mut ViewMut<'_, Self>,
        gy: &mut ViewMut<'_, Self>,
        gl: View<'_, Self>,
        gradients: &mut Update<'_, Self>,
    ) -> Result<bool> {
        let primitive = mix.primitive(y.shape(), true);
        let (mix, gl) = (inner_mix(mix)?, inner_view(&gl)?);
        self.offer(primitive, || self.inner.mix_pull(dir, &mix, &mut inner_mut(y)?, &mut inner_mut(gy)?, gl, &mut inner_update(gradients)))
    }

    fn kept(&self, stack: &StackShape) -> usize {
        self.inner.kept(stack)
    }

    fn stack<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        out: &mut ViewMut<'_, Self>,
        write: Write,
        kept: Option<&mut Self::Buffer>,
    ) -> Result<()> {
        let primitive = stack.primitive(if kept.is_some() { StackPass::Keep } else { StackPass::Map })?;
        with_inner(stack, |stack| self.record(primitive, || self.inner.stack(stack, &mut inner_mut(out)?, write, kept)))
    }

    fn stack_vjp<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        kept: &Self::Buffer,
        gout: View<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let primitive = stack.primitive(StackPass::Adjoint)?;
        let mut gx = gx.iter_mut().map(inner_mut).collect::<Result<Vec<_>>>()?;
        let mut weights = inner_update(weights);
        with_inner(stack, |stack| self.record(primitive, || self.inner.stack_vjp(stack, kept, inner_view(&gout)?, &mut gx, &mut weights)))
    }

    fn stack_add<A: Pointwise>(&self, stack: &Stack<'_, Self, A>, state: &mut Update<'_, Self>) -> Result<()> {
        let primitive = in_place(stack, state, StackPass::Map)?;
        with_inner(stack, |stack| self.record(primitive, || self.inner.stack_add(stack, &mut inner_update(state))))
    }

    fn stack_pull<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        state: &mut Update<'_, Self>,
        cotangent: &mut Update<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let primitive = in_place(stack, state, StackPass::Both)?;
        let mut gx = gx.iter_mut().map(inner_mut).collect::<Result<Vec<_>>>()?;
        let (mut state, mut cotangent, mut weights) = (inner_update(state), inner_update(cotangent), inner_update(weights));
        with_inner(stack, |stack| {
            self.record(primitive, || self.inner.stack_pull(stack, &mut state, &mut cotangent, &mut gx, &mut weights))
        })
    }

    fn couple<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        kernel: &K,
        state: &mut Update<'_, Self>,
        logdet: &mut ViewMut<'_, Self>,
    ) -> Result<()> {
        let primitive = in_place(stack, state, StackPass::Couple)?;
        with_inner(stack, |stack| {
            self.record(primitive, || self.inner.couple(stack, kernel, &mut inner_update(state), &mut inner_mut(logdet)?))
        })
    }

    fn couple_pull<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        kernel: &K,
        gl: View<'_, Self>,
        state: &mut Update<'_, Self>,
        cotangent: &mut Update<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let primitive = in_place(stack, state, StackPass::CouplePull)?;
        let mut gx = gx.iter_mut().map(inner_mut).collect::<Result<Vec<_>>>()?;
        let (mut state, mut cotangent, mut weights) = (inner_update(state), inner_update(cotangent), inner_update(weights));
        with_inner(stack, |stack| {
            let gl = inner_view(&gl)?;
            self.record(primitive, || self.inner.couple_pull(stack, kernel, gl, &mut state, &mut cotangent, &mut gx, &mut weights))
        })
    }
}

impl<B: HostBackend> HostBackend for Traced<B> {
    fn slice(buffer: &Self::Buffer) -> &[Self::Elem] {
        B::slice(buffer)
    }
    fn slice_mut(buffer: &mut Self::Buffer) -> &mut [Self::Elem] {
        B::slice_mut(buffer)
    }
    fn adopt(&self, values: Vec<Self::Elem>) -> Self::Buffer {
        self.inner.adopt(values)
    }
    fn release(buffer: Self::Buffer) -> Vec<Self::Elem> {
        B::release(buffer)
    }
}
