//! The scales of a layer, read off its log-determinant.

use crate::backend::{Backend, Conv, Direction, Squeeze, Write};
use crate::error::Result;
use crate::kernel::{Kernel, UNIFORMS};
use crate::layer::Invertible;
use crate::model::{Call, Given};
use crate::operator::LinearOperator;
use crate::params::Params;
use crate::primitive::Primitive;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::view::{Update, View, ViewMut};
use std::sync::{Arc, Mutex, PoisonError};

/// The smallest and the largest term of a layer's log-determinant.
///
/// A log-determinant is a sum over pointwise terms, ln of the scale at a channel and pixel: ψ(u) of a coupling, ln|s| of a normalization
/// (whose term counts every pixel and is divided by their number here).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogScales {
    /// The smallest ln S.
    pub smallest: f64,
    /// The largest.
    pub largest: f64,
    /// Channel, among those that the layer scales, of the smallest.
    pub smallest_channel: usize,
    /// The same of the largest.
    pub largest_channel: usize,
}

impl LogScales {
    fn join(self, other: Self) -> Self {
        let (low, high) =
            (if other.smallest < self.smallest { other } else { self }, if other.largest > self.largest { other } else { self });
        Self {
            smallest: low.smallest,
            smallest_channel: low.smallest_channel,
            largest: high.largest,
            largest_channel: high.largest_channel,
        }
    }
}

/// Maps `x` by a layer on a backend that watches the log-determinant; `None` where nothing adds to it.
pub(crate) fn log_scales<L: Invertible, B: Backend>(
    layer: &L,
    theta: &Params<B>,
    given: Given<'_, B>,
    dir: Direction,
    x: Tensor<B>,
) -> Result<Option<LogScales>> {
    let backend = Watched { inner: theta.backend().clone(), pixels: x.shape().pixels(), seen: Arc::default() };
    let mut conditions = Vec::with_capacity(given.conditions.len());
    for condition in given.conditions {
        conditions.push(backend.tensor(condition.duplicate()?));
    }
    let layout = theta.layout();
    let mut arena = Tensor::scratch(&backend.inner, Shape::flat(layout.len().max(1)))?;
    if !layout.is_empty() {
        arena.view_mut().assign(&backend.inner, theta.flat()?)?;
    }
    let theta = Params::from_buffer(&backend, layout, Buffer { inner: arena.into_buffer(), logdet: false });
    let operator = given.operator.map(Operator);
    let operator = operator.as_ref().map(|a| a as &dyn LinearOperator<Watched<B>>);
    let call = Call::new(layer, &theta, Given { conditions: &conditions, operator, trail: None });
    let mut x = backend.tensor(x);
    call.check(dir, x.shape())?;
    let mut logdet = Tensor::zeros(&backend, Shape::per_sample(x.shape().batch()))?;
    logdet.buffer_mut().logdet = true;
    layer.map(dir, &call.inputs(x.shape().batch()), &mut x.view_mut(), &mut logdet.view_mut())?;
    let seen = *backend.seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(seen)
}

/// A backend that keeps the extremes of what its kernels add to the log-determinant.
#[derive(Clone)]
struct Watched<B> {
    inner: B,
    pixels: usize,
    seen: Arc<Mutex<Option<LogScales>>>,
}

/// Storage that knows whether it is the log-determinant.
struct Buffer<T> {
    inner: T,
    logdet: bool,
}

impl<B: Backend> Watched<B> {
    fn tensor(&self, x: Tensor<B>) -> Tensor<Self> {
        let shape = x.shape();
        Tensor::from_buffer(self, shape, Buffer { inner: x.into_buffer(), logdet: false })
    }

    /// Keeps the extremes of terms over `domain`.
    fn note(&self, terms: &Tensor<B>, domain: Shape) -> Result<()> {
        // A term of a channel as a whole stands for all its pixels.
        let pixels = self.pixels as f64 / domain.pixels() as f64;
        let mut found: Option<LogScales> = None;
        for (i, term) in terms.to_f64()?.into_iter().enumerate().filter(|(_, t)| !t.is_nan()) {
            let (value, channel) = (term / pixels, i / domain.pixels() % domain.channels());
            let one = LogScales { smallest: value, largest: value, smallest_channel: channel, largest_channel: channel };
            found = Some(found.map_or(one, |f| f.join(one)));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = match (*seen, found) {
            (Some(a), Some(b)) => Some(a.join(b)),
            (a, b) => a.or(b),
        };
        Ok(())
    }
}

/// A kernel that writes its first sum over samples, element by element, to one operand more.
#[derive(Clone, Copy)]
struct WithTerms<K>(K);
impl<K: Kernel> Kernel for WithTerms<K> {
    const READ: usize = K::READ;
    const UPDATE: usize = K::UPDATE + 1;
    const CHANNEL_SUMS: usize = K::CHANNEL_SUMS;
    const SAMPLE_SUMS: usize = K::SAMPLE_SUMS;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.0.uniforms()
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], channels: &mut [T], samples: &mut [T]) {
        self.0.eval(u, read, &mut update[..K::UPDATE], channels, samples);
        if K::SAMPLE_SUMS > 0 {
            update[K::UPDATE] = samples[0];
        }
    }
}

fn view<'a, B: Backend>(x: &View<'a, Watched<B>>) -> Result<View<'a, B>> {
    View::new(&x.buffer().inner, x.window())
}

fn view_mut<'a, B: Backend>(y: &'a mut ViewMut<'_, Watched<B>>) -> Result<ViewMut<'a, B>> {
    let window = y.window();
    ViewMut::new(&mut y.buffer_mut().inner, window)
}

fn updates<'a, B: Backend>(updates: &'a mut [Update<'_, Watched<B>>]) -> Vec<Update<'a, B>> {
    let one = |u: &'a mut Update<'_, Watched<B>>| {
        let (access, windows) = (u.access(), u.windows().to_vec());
        Update::new(&mut u.buffer_mut().inner, access, &windows)
    };
    updates.iter_mut().map(one).collect()
}

impl<B: Backend> Backend for Watched<B> {
    type Elem = B::Elem;
    type Buffer = Buffer<B::Buffer>;

    fn name(&self) -> String {
        format!("watched {}", self.inner.name())
    }
    fn alloc(&self, len: usize) -> Result<Self::Buffer> {
        Ok(Buffer { inner: self.inner.alloc(len)?, logdet: false })
    }
    fn upload(&self, host: &[Self::Elem]) -> Result<Self::Buffer> {
        Ok(Buffer { inner: self.inner.upload(host)?, logdet: false })
    }
    fn read(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>> {
        self.inner.read(&buffer.inner)
    }
    fn len(buffer: &Self::Buffer) -> usize {
        B::len(&buffer.inner)
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
        let adds = K::SAMPLE_SUMS > 0 && sample_sums.first().is_some_and(|u| u.buffer().logdet);
        let reads = read.iter().map(view).collect::<Result<Vec<_>>>()?;
        let (mut update, mut channels, mut samples) = (updates(update), updates(channel_sums), updates(sample_sums));
        if !adds {
            return self.inner.zip(kernel, domain, &reads, &mut update, &mut channels, &mut samples);
        }
        let mut terms = Tensor::scratch(&self.inner, domain)?;
        let mut out = terms.view_mut();
        update.push(out.set());
        self.inner.zip(&WithTerms(*kernel), domain, &reads, &mut update, &mut channels, &mut samples)?;
        drop(update);
        self.note(&terms, domain)
    }
    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        self.inner.conv(conv, view(&x)?, view(&w)?, &mut view_mut(y)?, write)
    }
    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        self.inner.conv_input(conv, view(&gy)?, view(&w)?, &mut view_mut(gx)?, write)
    }
    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        self.inner.conv_weight(conv, view(&x)?, view(&gy)?, &mut view_mut(gw)?, write)
    }
    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()> {
        let shape = squeeze.output(dir, x.shape())?;
        self.inner.squeeze(squeeze, dir, &mut view_mut(x)?)?;
        x.reshape(shape)
    }
    fn tile(&self, bytes: usize, batch: usize) -> usize {
        self.inner.tile(bytes, batch)
    }
    fn scratch(&self, primitive: &Primitive) -> crate::memory::Scratch {
        self.inner.scratch(primitive)
    }
}

struct Operator<'a, B: Backend>(&'a dyn LinearOperator<B>);

impl<B: Backend> LinearOperator<Watched<B>> for Operator<'_, B> {
    fn domain(&self) -> Shape {
        self.0.domain()
    }
    fn range(&self) -> Shape {
        self.0.range()
    }
    fn apply(&self, backend: &Watched<B>, x: View<'_, Watched<B>>, y: &mut ViewMut<'_, Watched<B>>, write: Write) -> Result<()> {
        self.0.apply(&backend.inner, view(&x)?, &mut view_mut(y)?, write)
    }
    fn apply_adjoint(&self, backend: &Watched<B>, y: View<'_, Watched<B>>, x: &mut ViewMut<'_, Watched<B>>, write: Write) -> Result<()> {
        self.0.apply_adjoint(&backend.inner, view(&y)?, &mut view_mut(x)?, write)
    }
}
