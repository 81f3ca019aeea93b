//! Forward-mode derivatives of whole layers: a backend of (value, tangent) pairs.

use crate::backend::{Backend, Conv, Direction, Squeeze, Write};
use crate::error::Result;
use crate::kernel::{Kernel, MAX_OPERANDS, UNIFORMS};
use crate::memory::Scratch;
use crate::operator::LinearOperator;
use crate::params::Params;
use crate::primitive::Primitive;
use crate::scalar::{Pair, Scalar};
use crate::shape::{Shape, Window};
use crate::tensor::Tensor;
use crate::view::{Access, Update, View, ViewMut};

/// A backend whose buffers hold values and tangents, over any other backend.
///
/// Running [`map`](crate::layer::Invertible::map) on it gives y, dy, the log-determinant and its tangent; running
/// [`pull`](crate::layer::Invertible::pull) on it gives exact Hessian-vector products. Layers know nothing of it. It takes up no offers of
/// the inner backend, so that a test of fused primitives against it compares them with the composed form.
///
/// # Gauss-Newton
/// A log-determinant is a sum of pointwise terms, ℓ = Σ h(r), whose operands r (the coefficients of a coupling, the scales of a
/// normalization) depend on state, conditions and parameters. Its Hessian along a direction is, with Dr the total derivative of r,
/// ```text
/// Drᵀ h''(r) Dr + Σ h'(r) D²r.
/// ```
/// Gauss-Newton keeps the first sum. `Dual<B, true>` computes it with the layers as they are: `pull` runs with cotangents whose values
/// are zero and whose tangents are not, so that every primitive propagates them linearly. Only the cotangent λ of the log-determinant
/// has a value. A kernel that reads it writes the tangents of its result with λ, h''(r) dr λ among them, and the values without: what
/// would go on to D²r is cut off where the kernel ends. A λ that a layer sends through a convolution first is not followed; its curvature
/// counts as zero.
#[derive(Clone, Debug)]
pub struct Dual<B, const GAUSS_NEWTON: bool = false> {
    inner: B,
}

/// Pairs that keep the curvature of the log-determinant's terms and drop that of their operands, see [`Dual`].
pub type GaussNewtonDual<B> = Dual<B, true>;

/// Values and tangents.
pub struct DualBuffer<T> {
    /// The values.
    pub v: T,
    /// The tangents.
    pub d: T,
    /// The cotangent of the log-determinant of a Gauss-Newton product.
    seed: bool,
}

impl<B: Backend> Dual<B> {
    /// Pairs on `inner`.
    pub fn new(inner: B) -> Self {
        Self { inner }
    }
}

impl<B: Backend> Dual<B, true> {
    /// Pairs of a Gauss-Newton product on `inner`.
    pub fn gauss_newton(inner: B) -> Self {
        Self { inner }
    }
}

impl<B: Backend, const GAUSS_NEWTON: bool> Dual<B, GAUSS_NEWTON> {
    /// The backend below.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// A tensor of pairs. Both have the same shape.
    pub(crate) fn tensor(&self, v: Tensor<B>, d: Tensor<B>) -> Tensor<Self> {
        let shape = v.shape();
        Tensor::from_buffer(self, shape, DualBuffer { v: v.into_buffer(), d: d.into_buffer(), seed: false })
    }

    /// The cotangent of the log-determinant, which stays as it is along the direction.
    pub(crate) fn seed(&self, gl: &Tensor<B>) -> Result<Tensor<Self>> {
        let (shape, d) = (gl.shape(), Tensor::zeros(&self.inner, gl.shape())?);
        let buffer = DualBuffer { v: gl.duplicate()?.into_buffer(), d: d.into_buffer(), seed: GAUSS_NEWTON };
        Ok(Tensor::from_buffer(self, shape, buffer))
    }

    /// The value and the tangent of a tensor of pairs.
    pub(crate) fn split(&self, x: Tensor<Self>) -> (Tensor<B>, Tensor<B>) {
        let shape = x.shape();
        let DualBuffer { v, d, .. } = x.into_buffer();
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
        Ok(Params::from_buffer(self, theta.layout(), DualBuffer { v: copy(theta)?, d: copy(&d)?, seed: false }))
    }
}

fn value<'a, B: Backend, const G: bool>(x: &View<'a, Dual<B, G>>) -> Result<View<'a, B>> {
    View::new(&x.buffer().v, x.window())
}

fn tangent<'a, B: Backend, const G: bool>(x: &View<'a, Dual<B, G>>) -> Result<View<'a, B>> {
    View::new(&x.buffer().d, x.window())
}

/// Both parts of a view that is written, borrowed apart.
fn parts<'a, B: Backend, const G: bool>(y: &'a mut ViewMut<'_, Dual<B, G>>) -> Result<(ViewMut<'a, B>, ViewMut<'a, B>)> {
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

/// A kernel on pairs that reads cotangents of the log-determinant, the reads whose bits are set: tangents with them, values without.
#[derive(Clone, Copy)]
struct OnSeeds<K> {
    kernel: OnPairs<K>,
    seeds: u32,
}

impl<K: Kernel> Kernel for OnSeeds<K> {
    const READ: usize = 2 * K::READ;
    const UPDATE: usize = 2 * K::UPDATE;
    const CHANNEL_SUMS: usize = 2 * K::CHANNEL_SUMS;
    const SAMPLE_SUMS: usize = 2 * K::SAMPLE_SUMS;

    fn uniforms(&self) -> [f64; UNIFORMS] {
        self.kernel.uniforms()
    }

    #[inline(always)]
    fn eval<T: Scalar>(&self, uniforms: &[T; UNIFORMS], read: &[T], update: &mut [T], channel_sums: &mut [T], sample_sums: &mut [T]) {
        const N: usize = 2 * MAX_OPERANDS;
        let fill = |from: &[T]| {
            let mut all = [T::zero(); N];
            all[..from.len()].copy_from_slice(from);
            all
        };
        let (mut without, mut values) = (fill(read), fill(update));
        for i in 0..K::READ {
            if self.seeds & (1 << i) != 0 {
                without[i] = T::zero();
            }
        }
        let (mut channels, mut samples) = ([T::zero(); N], [T::zero(); N]);
        self.kernel.eval(
            uniforms,
            &without[..Self::READ],
            &mut values[..Self::UPDATE],
            &mut channels[..Self::CHANNEL_SUMS],
            &mut samples[..Self::SAMPLE_SUMS],
        );
        self.kernel.eval(uniforms, read, update, channel_sums, sample_sums);
        update[..K::UPDATE].copy_from_slice(&values[..K::UPDATE]);
        channel_sums[..K::CHANNEL_SUMS].copy_from_slice(&channels[..K::CHANNEL_SUMS]);
        sample_sums[..K::SAMPLE_SUMS].copy_from_slice(&samples[..K::SAMPLE_SUMS]);
    }
}

fn mark_seeds<B: Backend, const G: bool>(updates: &mut [Update<'_, Dual<B, G>>]) {
    updates.iter_mut().for_each(|u| u.buffer_mut().seed = true);
}

fn split_updates<'a, B: Backend, const G: bool>(updates: &'a mut [Update<'_, Dual<B, G>>]) -> Vec<Update<'a, B>> {
    let mut values = Vec::with_capacity(2 * updates.len());
    let mut tangents = Vec::with_capacity(updates.len());
    for update in updates {
        let access = update.access();
        let windows: Vec<Window> = update.windows().to_vec();
        let DualBuffer { v, d, .. } = update.buffer_mut();
        values.push(Update::new(v, access, &windows));
        tangents.push(Update::new(d, access, &windows));
    }
    values.extend(tangents);
    values
}

impl<B: Backend, const GAUSS_NEWTON: bool> Backend for Dual<B, GAUSS_NEWTON> {
    type Elem = B::Elem;
    type Buffer = DualBuffer<B::Buffer>;

    fn name(&self) -> String {
        format!("dual {}", self.inner.name())
    }

    fn enter<R: Send>(&self, elements: usize, work: impl FnOnce() -> R + Send) -> R {
        self.inner.enter(elements, work)
    }

    fn alloc(&self, len: usize) -> Result<Self::Buffer> {
        Ok(DualBuffer { v: self.inner.alloc(len)?, d: self.inner.alloc(len)?, seed: false })
    }

    fn upload(&self, host: &[Self::Elem]) -> Result<Self::Buffer> {
        let zero = vec![Self::Elem::default(); host.len()];
        Ok(DualBuffer { v: self.inner.upload(host)?, d: self.inner.upload(&zero)?, seed: false })
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
        let mut seeds = 0u32;
        if GAUSS_NEWTON {
            seeds = read.iter().enumerate().filter(|(_, x)| x.buffer().seed).fold(0, |seeds, (i, _)| seeds | 1 << i);
            let all = !read.is_empty() && seeds.count_ones() as usize == read.len();
            if all && update.iter().all(|u| u.access() == Access::Write) {
                // What is made of λ alone, its sum for example, is such a cotangent itself.
                mark_seeds(update);
                mark_seeds(channel_sums);
                mark_seeds(sample_sums);
                seeds = 0;
            }
        }
        let (mut update, mut channels, mut samples) = (split_updates(update), split_updates(channel_sums), split_updates(sample_sums));
        if GAUSS_NEWTON && seeds != 0 {
            let kernel = OnSeeds { kernel: OnPairs(*kernel), seeds };
            return self.inner.zip(&kernel, domain, &reads, &mut update, &mut channels, &mut samples);
        }
        self.inner.zip(&OnPairs(*kernel), domain, &reads, &mut update, &mut channels, &mut samples)
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

    fn scratch(&self, primitive: &Primitive) -> Scratch {
        self.inner.scratch(primitive)
    }
}

/// A linear operator on pairs: linear maps are their own tangents.
pub(crate) struct DualOperator<'a, B: Backend>(pub &'a dyn LinearOperator<B>);

impl<B: Backend, const G: bool> LinearOperator<Dual<B, G>> for DualOperator<'_, B> {
    fn domain(&self) -> Shape {
        self.0.domain()
    }
    fn range(&self) -> Shape {
        self.0.range()
    }
    fn apply(&self, backend: &Dual<B, G>, x: View<'_, Dual<B, G>>, y: &mut ViewMut<'_, Dual<B, G>>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(y)?;
        self.0.apply(&backend.inner, value(&x)?, &mut v, write)?;
        self.0.apply(&backend.inner, tangent(&x)?, &mut d, write)
    }
    fn apply_adjoint(&self, backend: &Dual<B, G>, y: View<'_, Dual<B, G>>, x: &mut ViewMut<'_, Dual<B, G>>, write: Write) -> Result<()> {
        let (mut v, mut d) = parts(x)?;
        self.0.apply_adjoint(&backend.inner, value(&y)?, &mut v, write)?;
        self.0.apply_adjoint(&backend.inner, tangent(&y)?, &mut d, write)
    }
}
