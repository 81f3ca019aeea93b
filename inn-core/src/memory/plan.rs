//! The backend that a prediction runs on.

use super::Scratch;
use crate::backend::{Backend, Conv, Direction, Squeeze, Write, check_zip};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::mix::Mix;
use crate::operations::describe_zip;
use crate::primitive::{ConvKind, Primitive};
use crate::scalar::Element;
use crate::shape::Shape;
use crate::shelf::Shelf;
use crate::stack::{Pointwise, Stack, StackPass, StackShape, in_place};
use crate::view::{Update, View, ViewMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[derive(Default)]
pub(super) struct Meter {
    pub(super) shelf: Shelf<usize>,
    /// The most that the tensors took at one time.
    pub(super) used: usize,
    /// What each of the backend's threads holds: its larger buffer, and the one that it holds at the same time.
    threads: Vec<[usize; 2]>,
}

impl Meter {
    pub(super) fn threads(&self) -> usize {
        self.threads.as_flattened().iter().sum()
    }
}

/// A backend without storage.
#[derive(Clone)]
pub(super) struct Plan<B> {
    inner: B,
    meter: Arc<Mutex<Meter>>,
}

pub(super) struct PlanBuffer {
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
    pub(super) fn new(inner: &B) -> Self {
        Self { inner: inner.clone(), meter: Arc::default() }
    }

    pub(super) fn meter(&self) -> MutexGuard<'_, Meter> {
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
