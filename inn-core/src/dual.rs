//! Forward-mode derivatives of whole layers: a backend of (value, tangent) pairs.

use crate::backend::{Backend, Conv, Direction, Squeeze, Write};
use crate::error::Result;
use crate::kernel::{Kernel, MAX_OPERANDS, UNIFORMS};
use crate::operator::LinearOperator;
use crate::params::Params;
use crate::primitive::Primitive;
use crate::scalar::{Pair, Scalar};
use crate::shape::{Shape, Window};
use crate::tensor::Tensor;
use crate::view::{Update, View, ViewMut};

/// A backend whose buffers hold values and tangents, over any other backend.
///
/// Running [`map`](crate::layer::Invertible::map) on it gives y, dy, the log-determinant and its tangent; running
/// [`pull`](crate::layer::Invertible::pull) on it gives exact Hessian-vector products. Layers know nothing of it. It takes up no offers of
/// the inner backend, so that a test of fused primitives against it compares them with the composed form.
#[derive(Clone, Debug)]
pub struct Dual<B> {
    inner: B,
}

/// Values and tangents.
pub struct DualBuffer<T> {
    /// The values.
    pub v: T,
    /// The tangents.
    pub d: T,
}

impl<B: Backend> Dual<B> {
    /// Pairs on `inner`.
    pub fn new(inner: B) -> Self {
        Self { inner }
    }

    /// The backend below.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// A tensor of pairs. Both have the same shape.
    pub(crate) fn tensor(&self, v: Tensor<B>, d: Tensor<B>) -> Tensor<Self> {
        let shape = v.shape();
        Tensor::from_buffer(self, shape, DualBuffer { v: v.into_buffer(), d: d.into_buffer() })
    }

    /// The value and the tangent of a tensor of pairs.
    pub(crate) fn split(&self, x: Tensor<Self>) -> (Tensor<B>, Tensor<B>) {
        let shape = x.shape();
        let DualBuffer { v, d } = x.into_buffer();
        (Tensor::from_buffer(&self.inner, shape, v), Tensor::from_buffer(&self.inner, shape, d))
    }

    /// Parameters with their tangent, copied.
    pub(crate) fn params(&self, theta: &Params<B>, dtheta: Option<&Params<B>>) -> Result<Params<Self>> {
        let mut d = Params::zeros(&self.inner, theta.layout())?;
        if let Some(dtheta) = dtheta {
            d.assign(dtheta)?;
            d.clear_frozen()?;
        }
        let copy = |p: &Params<B>| -> Result<B::Buffer> {
            let len = p.layout().len();
            let mut t = Tensor::scratch(&self.inner, Shape::flat(len.max(1)))?;
            if len > 0 {
                t.view_mut().assign(&self.inner, p.flat()?)?;
            }
            Ok(t.into_buffer())
        };
        Ok(Params::from_buffer(self, theta.layout(), DualBuffer { v: copy(theta)?, d: copy(&d)? }))
    }
}

fn value<'a, B: Backend>(x: &View<'a, Dual<B>>) -> Result<View<'a, B>> {
    View::new(&x.buffer().v, x.window())
}

fn tangent<'a, B: Backend>(x: &View<'a, Dual<B>>) -> Result<View<'a, B>> {
    View::new(&x.buffer().d, x.window())
}

/// Both parts of a view that is written, borrowed apart.
fn parts<'a, B: Backend>(y: &'a mut ViewMut<'_, Dual<B>>) -> Result<(ViewMut<'a, B>, ViewMut<'a, B>)> {
    let window = y.window();
    let buffer = y.buffer_mut();
    Ok((ViewMut::new(&mut buffer.v, window)?, ViewMut::new(&mut buffer.d, window)?))
}

/// A kernel evaluated on pairs: operands are all values, then all tangents.
#[derive(Clone, Copy)]
struct OnPairs<K>(K);

impl<K: Kernel> Kernel for OnPairs<K> {
    const READ: usize = 2 * K::READ;
    const UPDATE: usize = 2 * K::UPDATE;
    const CHANNEL_SUMS: usize = 2 * K::CHANNEL_SUMS;
    const SAMPLE_SUMS: usize = 2 * K::SAMPLE_SUMS;

    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.0.uniforms()
    }

    #[inline(always)]
    fn eval<T: Scalar>(&self, uniforms: &[T; UNIFORMS], read: &[T], update: &mut [T], channel_sums: &mut [T], sample_sums: &mut [T]) {
        let zero = Pair { v: T::zero(), d: T::zero() };
        let uniforms = uniforms.map(|v| Pair { v, d: T::zero() });
        let pairs = |x: &[T], n: usize| {
            let mut out = [zero; 2 * MAX_OPERANDS];
            for i in 0..n {
                out[i] = Pair { v: x[i], d: x[n + i] };
            }
            out
        };
        let read = pairs(read, K::READ);
        let mut updated = pairs(update, K::UPDATE);
        let mut channels = [zero; 2 * MAX_OPERANDS];
        let mut samples = [zero; 2 * MAX_OPERANDS];
        self.0.eval(
            &uniforms,
            &read[..K::READ],
            &mut updated[..K::UPDATE],
            &mut channels[..K::CHANNEL_SUMS],
            &mut samples[..K::SAMPLE_SUMS],
        );
        let unpair = |from: &[Pair<T>], to: &mut [T], n: usize| {
            for i in 0..n {
                to[i] = from[i].v;
                to[n + i] = from[i].d;
            }
        };
        unpair(&updated, update, K::UPDATE);
        unpair(&channels, channel_sums, K::CHANNEL_SUMS);
        unpair(&samples, sample_sums, K::SAMPLE_SUMS);
    }
}

fn split_updates<'a, B: Backend>(updates: &'a mut [Update<'_, Dual<B>>]) -> Vec<Update<'a, B>> {
    let mut values = Vec::with_capacity(2 * updates.len());
    let mut tangents = Vec::with_capacity(updates.len());
    for update in updates {
        let access = update.access();
        let windows: Vec<Window> = update.windows().to_vec();
        let DualBuffer { v, d } = update.buffer_mut();
        values.push(Update::new(v, access, &windows));
        tangents.push(Update::new(d, access, &windows));
    }
    values.extend(tangents);
    values
}

impl<B: Backend> Backend for Dual<B> {
    type Elem = B::Elem;
    type Buffer = DualBuffer<B::Buffer>;

    fn name(&self) -> String {
        format!("dual {}", self.inner.name())
    }

    fn enter<R: Send>(&self, elements: usize, work: impl FnOnce() -> R + Send) -> R {
        self.inner.enter(elements, work)
    }

    fn alloc(&self, len: usize) -> Result<Self::Buffer> {
        Ok(DualBuffer { v: self.inner.alloc(len)?, d: self.inner.alloc(len)? })
    }

    fn upload(&self, host: &[Self::Elem]) -> Result<Self::Buffer> {
        let zero = vec![Self::Elem::default(); host.len()];
        Ok(DualBuffer { v: self.inner.upload(host)?, d: self.inner.upload(&zero)? })
    }

    fn read(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>> {
        self.inner.read(&buffer.v)
    }

    fn len(buffer: &Self::Buffer) -> usize {
        B::len(&buffer.v)
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
        let reads = read.iter().map(value).chain(read.iter().map(tangent)).collect::<Result<Vec<_>>>()?;
        self.inner.zip(
            &OnPairs(*kernel),
            domain,
            &reads,
            &mut split_updates(update),
            &mut split_updates(channel_sums),
            &mut split_updates(sample_sums),
        )
    }

    // The product rule: d(x * w) = dx * w + x * dw, for each of the three bilinear maps.

    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(y)?;
        self.inner.conv(conv, value(&x)?, value(&w)?, &mut v, write)?;
        self.inner.conv(conv, tangent(&x)?, value(&w)?, &mut d, write)?;
        self.inner.conv(conv, value(&x)?, tangent(&w)?, &mut d, Write::Add)
    }

    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(gx)?;
        self.inner.conv_input(conv, value(&gy)?, value(&w)?, &mut v, write)?;
        self.inner.conv_input(conv, tangent(&gy)?, value(&w)?, &mut d, write)?;
        self.inner.conv_input(conv, value(&gy)?, tangent(&w)?, &mut d, Write::Add)
    }

    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(gw)?;
        self.inner.conv_weight(conv, value(&x)?, value(&gy)?, &mut v, write)?;
        self.inner.conv_weight(conv, tangent(&x)?, value(&gy)?, &mut d, write)?;
        self.inner.conv_weight(conv, value(&x)?, tangent(&gy)?, &mut d, Write::Add)
    }

    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()> {
        let shape = squeeze.output(dir, x.shape())?;
        {
            let (mut v, mut d) = parts(x)?;
            self.inner.squeeze(squeeze, dir, &mut v)?;
            self.inner.squeeze(squeeze, dir, &mut d)?;
        }
        x.reshape(shape)
    }

    fn tile(&self, bytes: usize, batch: usize) -> usize {
        self.inner.tile(bytes, batch)
    }

    fn scratch(&self, primitive: &Primitive) -> usize {
        self.inner.scratch(primitive)
    }
}

/// A linear operator on pairs: linear maps are their own tangents.
pub(crate) struct DualOperator<'a, B: Backend>(pub &'a dyn LinearOperator<B>);

impl<B: Backend> LinearOperator<Dual<B>> for DualOperator<'_, B> {
    fn domain(&self) -> Shape {
        self.0.domain()
    }
    fn range(&self) -> Shape {
        self.0.range()
    }
    fn apply(&self, backend: &Dual<B>, x: View<'_, Dual<B>>, y: &mut ViewMut<'_, Dual<B>>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(y)?;
        self.0.apply(&backend.inner, value(&x)?, &mut v, write)?;
        self.0.apply(&backend.inner, tangent(&x)?, &mut d, write)
    }
    fn apply_adjoint(&self, backend: &Dual<B>, y: View<'_, Dual<B>>, x: &mut ViewMut<'_, Dual<B>>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(x)?;
        self.0.apply_adjoint(&backend.inner, value(&y)?, &mut v, write)?;
        self.0.apply_adjoint(&backend.inner, tangent(&y)?, &mut d, write)
    }
}
