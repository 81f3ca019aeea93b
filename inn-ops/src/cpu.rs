//! The CPU backend: which module answers which primitive.

use crate::buffer::{CpuBuffer, Footprint, Pool};
use crate::conv::{self, ConvElement, ConvError, Geometry, Op, Planes, PlanesMut};
use crate::{mix, pool, squeeze, stack, zip};
use inn_core::error::expect_shape;
use inn_core::memory::Scratch;
use inn_core::primitive::{ConvKind, Primitive};
use inn_core::stack::{Pointwise, Stack, StackShape};
use inn_core::view::{Update, View, ViewMut};
use inn_core::{Backend, Conv, Direction, Element, Error, HostBackend, Kernel, Mix, Result, Shape, Squeeze, Window, Write};
use std::sync::Arc;

/// The element types of the CPU backend: `f32` and `f64`.
pub trait CpuElement: Element + ConvElement + num_traits::Float + zip::Vectors {}
impl CpuElement for f32 {}
impl CpuElement for f64 {}

/// The CPU as a device: `Cpu<f32>` or `Cpu<f64>`.
///
/// Kernels run in the widest instruction set that the machine has ([`simd::level`](crate::simd::level)) on the current rayon pool. Sums
/// have a fixed tree that depends on shapes alone, so that any number of threads gives the same bits.
///
/// ```
/// use inn_core::{Shape, Tensor};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::new();
/// let x = Tensor::<Cpu<f32>>::full(&cpu, Shape::new(2, 3, &[4, 4])?, 0.5)?;
/// assert_eq!(x.to_vec()?, [0.5; 96]);
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Cpu<T: CpuElement = f32> {
    pool: Arc<Pool<T>>,
    poisoned: bool,
}

impl<T: CpuElement> Clone for Cpu<T> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), poisoned: self.poisoned }
    }
}

impl<T: CpuElement> Default for Cpu<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: CpuElement> std::fmt::Debug for Cpu<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu").field("name", &self.name()).field("footprint", &self.footprint()).finish()
    }
}

/// Hidden values that [`Backend::tile`] aims at: what stays near a core while it is worked on, and large enough to keep every core busy.
const TILE_BYTES: usize = 6 << 20;

/// Samples of dense data that a part of a batch has at least, its parts at most, and the bytes of their gradients.
const CHUNK_SAMPLES: usize = 256;
const MOST_CHUNKS: usize = 16;
const CHUNK_BYTES: usize = 16 << 20;
/// Numbers of a state from which it pays to move a pass into the pool as a whole.
const ENTER: usize = 1 << 13;

impl<T: CpuElement> Cpu<T> {
    /// A backend with an empty pool. Clones share the pool.
    pub fn new() -> Self {
        Self { pool: Arc::default(), poisoned: false }
    }

    /// A backend that fills new storage with NaN, so that a test sees where unspecified contents are read.
    pub fn poisoned() -> Self {
        Self { pool: Arc::default(), poisoned: true }
    }

    /// Frees the buffers that are kept for reuse.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// What the buffers hold.
    pub fn footprint(&self) -> Footprint {
        self.pool.footprint()
    }

    fn failed(&self, error: ConvError) -> Error {
        Error::backend(self.name(), error)
    }
}

/// The gate of the three convolutions.
fn geometry(conv: Conv, x: Window, w: Window, y: Window) -> Result<Geometry> {
    expect_shape("convolution output", conv.output(x.shape, w.shape)?, y.shape)?;
    for (name, window) in [("convolution input", x), ("convolution weight", w), ("convolution output", y)] {
        if window.pixel_stride != 1 && window.shape.pixels() > 1 {
            return Err(Error::shape(name, "pixels without gaps", format!("{window:?}")));
        }
    }
    let axes = |value: usize, missing: usize| std::array::from_fn(|axis| if axis + x.shape.rank() < 3 { missing } else { value });
    Ok(Geometry {
        batch: x.shape.batch(),
        in_channels: x.shape.channels(),
        out_channels: w.shape.batch(),
        input: x.shape.extents(),
        output: y.shape.extents(),
        kernel: w.shape.extents(),
        stride: axes(conv.stride, 1),
        padding: axes(conv.padding, 0),
    })
}

fn planes<'a, T: CpuElement>(view: &View<'a, Cpu<T>>) -> Planes<'a, T> {
    let w = view.window();
    // Where the window does not fit, no data: the convolution then says what is missing.
    let data = view.buffer().as_slice().get(w.offset..w.end()).unwrap_or_default();
    Planes { data, batch_stride: w.batch_stride, channel_stride: w.channel_stride }
}

fn planes_mut<'a, T: CpuElement>(view: &'a mut ViewMut<'_, Cpu<T>>) -> PlanesMut<'a, T> {
    let w = view.window();
    let data = view.buffer_mut().as_mut_slice().get_mut(w.offset..w.end()).unwrap_or_default();
    PlanesMut { data, batch_stride: w.batch_stride, channel_stride: w.channel_stride }
}

impl<T: CpuElement> Backend for Cpu<T> {
    type Elem = T;
    type Buffer = CpuBuffer<T>;

    fn name(&self) -> String {
        format!("cpu {}", T::NAME)
    }

    fn enter<R: Send>(&self, elements: usize, work: impl FnOnce() -> R + Send) -> R {
        if elements < ENTER { work() } else { pool::enter(work) }
    }

    fn chunks(&self, state: Shape, parameters: usize) -> usize {
        let fit = CHUNK_BYTES / (parameters * size_of::<T>()).max(1);
        if state.pixels() == 1 { (state.batch() / CHUNK_SAMPLES).min(fit).clamp(1, MOST_CHUNKS) } else { 1 }
    }

    fn side_by_side<R: Send>(&self, count: usize, task: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
        pool::side_by_side(count, task)
    }

    fn alloc(&self, len: usize) -> Result<CpuBuffer<T>> {
        let buffer = self.pool.alloc(len);
        let mut buffer = buffer.ok_or_else(|| Error::backend(self.name(), format!("no memory left for {len} elements")))?;
        if self.poisoned {
            buffer.as_mut_slice().fill(T::nan());
        }
        Ok(buffer)
    }

    fn upload(&self, host: &[T]) -> Result<CpuBuffer<T>> {
        Ok(self.adopt(host.to_vec()))
    }

    fn read(&self, buffer: &CpuBuffer<T>) -> Result<Vec<T>> {
        Ok(buffer.as_slice().to_vec())
    }

    fn len(buffer: &CpuBuffer<T>) -> usize {
        buffer.as_slice().len()
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
        zip::zip(self, kernel, domain, read, update, channel_sums, sample_sums)
    }

    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let g = geometry(conv, x.window(), w.window(), y.window())?;
        conv::forward(&g, planes(&x), planes(&w), planes_mut(y), write == Write::Add).map_err(|e| self.failed(e))
    }

    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let g = geometry(conv, gx.window(), w.window(), gy.window())?;
        conv::input_gradient(&g, planes(&gy), planes(&w), planes_mut(gx), write == Write::Add).map_err(|e| self.failed(e))
    }

    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let g = geometry(conv, x.window(), gw.window(), gy.window())?;
        conv::weight_gradient(&g, planes(&x), planes(&gy), planes_mut(gw), write == Write::Add).map_err(|e| self.failed(e))
    }

    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()> {
        let window = x.window();
        let shape = squeeze::squeeze(squeeze, dir, window, x.buffer_mut().as_mut_slice())?;
        x.reshape(shape)
    }

    fn tile(&self, bytes: usize, batch: usize) -> usize {
        (TILE_BYTES / bytes.max(1)).clamp(1, batch.max(1))
    }

    fn reuses(&self) -> bool {
        true
    }

    fn takes(&self, primitive: &Primitive) -> bool {
        match primitive {
            Primitive::Mix { .. } => true,
            Primitive::Stack { pass, shape } => stack::takes::<T>(*pass, shape),
            _ => false,
        }
    }

    fn kept(&self, shape: &StackShape) -> usize {
        stack::kept::<T>(shape)
    }

    fn stack<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        out: &mut ViewMut<'_, Self>,
        write: Write,
        kept: Option<&mut CpuBuffer<T>>,
    ) -> Result<()> {
        stack::map(self, stack, out, write, kept.map(CpuBuffer::as_mut_slice))
    }

    fn stack_vjp<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        kept: &CpuBuffer<T>,
        gout: View<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        stack::vjp(self, stack, kept.as_slice(), &gout, gx, weights)
    }

    fn stack_add<A: Pointwise>(&self, stack: &Stack<'_, Self, A>, state: &mut Update<'_, Self>) -> Result<()> {
        stack::add(self, stack, state)
    }

    fn stack_pull<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        state: &mut Update<'_, Self>,
        cotangent: &mut Update<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        stack::pull(self, stack, state, cotangent, gx, weights)
    }

    fn couple<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        kernel: &K,
        state: &mut Update<'_, Self>,
        logdet: &mut ViewMut<'_, Self>,
    ) -> Result<()> {
        stack::couple(self, stack, kernel, state, logdet)
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
        stack::couple_pull(self, stack, kernel, &gl, (state, cotangent), gx, weights)
    }

    fn mix(&self, dir: Direction, mix: &Mix<'_, Self>, x: &mut ViewMut<'_, Self>, logdet: &mut ViewMut<'_, Self>) -> Result<bool> {
        mix::map(dir, mix, x, logdet).map(|()| true)
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
        mix::pull(dir, mix, y, gy, &gl, gradients).map(|()| true)
    }

    fn scratch(&self, primitive: &Primitive) -> Scratch {
        let threads = rayon::current_num_threads();
        match *primitive {
            Primitive::Conv { kind, conv, x, w, y } => {
                let window = |shape| Window::contiguous(shape, 0);
                let op = match kind {
                    ConvKind::Forward => Op::Forward,
                    ConvKind::Input => Op::InputGradient,
                    ConvKind::Weight => Op::WeightGradient,
                };
                let geometry = geometry(conv, window(x), window(w), window(y));
                let conv::scratch::Scratch { shared, each, alone } =
                    geometry.map_or(conv::scratch::Scratch::NONE, |g| conv::scratch_of::<T>(&g, op, threads));
                Scratch { buffer: 0, caller: shared, each, threads: if alone { 1 } else { threads } }
            }
            Primitive::Stack { pass, ref shape } => stack::scratch::<T>(pass, shape, threads),
            Primitive::Mix { pull, affine, count, x } => mix::scratch::<T>(pull, affine, count, x, threads),
            Primitive::Squeeze { squeeze, dir, x } => {
                Scratch { buffer: 0, caller: 0, each: squeeze::scratch_bytes(squeeze, dir, x, size_of::<T>()), threads: 1 }
            }
            _ => Scratch::default(),
        }
    }
}

impl<T: CpuElement> HostBackend for Cpu<T> {
    fn slice(buffer: &CpuBuffer<T>) -> &[T] {
        buffer.as_slice()
    }
    fn slice_mut(buffer: &mut CpuBuffer<T>) -> &mut [T] {
        buffer.as_mut_slice()
    }
    fn adopt(&self, values: Vec<T>) -> CpuBuffer<T> {
        self.pool.adopt(values)
    }
    fn release(buffer: CpuBuffer<T>) -> Vec<T> {
        buffer.into_vec()
    }
}
