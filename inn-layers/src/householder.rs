//! Orthogonal mixing of channels.

use inn_core::kernel::{UNIFORMS, blas};
use inn_core::{
    Backend, Conv, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, Mix, Param, Result, Scalar, Scope, Shape, Tensor,
    View, ViewMut, Write,
};

/// A 1x1 convolution whose matrix is a product of Householder reflections (Putzky & Welling 2019, arXiv:1911.10914).
///
/// ```text
/// y = H_m ... H_1 x  for the channels of every pixel,    H_i = I - 2 v_i v_iᵀ / |v_i|²,    x = H_1 ... H_m y,    ℓ = 0
/// ```
/// The matrix is orthogonal for any v; a zero vector counts as no reflection. Three reflections are the choice of the paper; all orthogonal matrices
/// of C channels take m = C.
///
/// # Gradient
/// With a the cotangent of y and G = Σ a xᵀ over samples and pixels (C x C), let u_i = H_{i-1} ... H_1 x be the input of H_i and
/// g_i = H_{i+1} ... H_m a the cotangent of its output. From φ = Σ g_iᵀ (u_i - 2 v (vᵀu_i)/n), n = |v|²:
/// ```text
/// gv_i = -(2/n) [α_i + β_i - 2 (v_iᵀα_i)/n v_i],    α_i = Σ g_i u_iᵀ v_i = H_{i+1} ... H_m G (H_1 ... H_{i-1} v_i),
///                                                   β_i = Σ u_i g_iᵀ v_i = H_{i-1} ... H_1 Gᵀ (H_m ... H_{i+1} v_i).
/// ```
/// So the state is passed once for G and twice to be reflected, and the rest are products with vectors of length C. v_iᵀ gv_i = 0, since the
/// length of v_i does not matter. The inverse map has the opposite gradient at the same (x, a), and ga is reflected as the state is.
///
/// A backend that takes the [`Mix`] up needs no G. With q_i = H_i g_i the cotangent of u_i, the first and the last term of the bracket are H_i α_i =
/// Σ q_i u_iᵀ v_i, and g_iᵀ v_i = -q_iᵀ v_i, so that on either side of the reflection, with y_i = H_i u_i,
/// ```text
/// gv_i = -(2/n) Σ [q_i (u_iᵀ v_i) - u_i (q_iᵀ v_i)] = -(2/n) Σ [y_i (g_iᵀ v_i) - g_i (y_iᵀ v_i)],
/// ```
/// the products being those that reflecting state and cotangent takes anyway.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | v_1 .. v_m | `vectors` | (m, C) |
/// | G | `g` | (C, C) |
/// | α, β | `alpha`, `beta` | (m, C) |
#[derive(Clone, Debug)]
pub struct Householder {
    pub(crate) vectors: Param,
    count: usize,
    channels: usize,
}

impl Householder {
    /// Declares `count` reflection vectors for `channels` channels, drawn as in the original: uniform in ±sqrt(6 / (1 + C)).
    ///
    /// # Errors
    /// No channels or no reflections.
    pub fn new(scope: &mut Scope<'_>, channels: usize, count: usize) -> Result<Self> {
        let bound = (6.0 / (1.0 + channels as f64)).sqrt();
        let vectors = scope.weight("vectors", count, channels, &[], Init::Uniform(bound))?;
        Ok(Self { vectors, count, channels })
    }

    /// The gradient of the vectors from G, added with `sign`.
    fn pull_vectors<B: Backend>(&self, at: &Inputs<'_, B>, g: &Tensor<B>, sign: f64, grads: &mut Gradients<'_, B>) -> Result<()> {
        let backend = at.backend();
        let v = at.param(self.vectors)?;
        let rows = Shape::rows(self.count, self.channels);
        let last = self.count - 1;
        let row = |j: usize| v.samples(j..j + 1);
        let copy = || -> Result<Tensor<B>> {
            let mut t = Tensor::scratch(backend, rows)?;
            t.view_mut().assign(backend, v)?;
            Ok(t)
        };
        // Reflection j acts on the rows after it, or on those before it: every H of the formulas for all i at once.
        let after =
            |t: &mut Tensor<B>, j: usize| reflect(backend, Direction::Forward, row(j), &mut t.view_mut().samples(j + 1..self.count));
        let before = |t: &mut Tensor<B>, j: usize| reflect(backend, Direction::Forward, row(j), &mut t.view_mut().samples(0..j));

        let mut right = copy()?; // H_1 ... H_{i-1} v_i
        (0..last).rev().try_for_each(|j| after(&mut right, j))?;
        let mut left = copy()?; // H_m ... H_{i+1} v_i
        (1..self.count).try_for_each(|j| before(&mut left, j))?;
        let product = Conv { stride: 1, padding: 0 };
        let mut alpha = Tensor::scratch(backend, rows)?;
        backend.conv(product, right.view(), g.view(), &mut alpha.view_mut(), Write::Set)?;
        (1..self.count).rev().try_for_each(|j| before(&mut alpha, j))?;
        let mut beta = Tensor::scratch(backend, rows)?;
        backend.conv_input(product, left.view(), g.view(), &mut beta.view_mut(), Write::Set)?;
        (0..last).try_for_each(|j| after(&mut beta, j))?;

        let n = row_products(backend, v, v)?;
        let va = row_products(backend, v, alpha.view())?;
        let read = [v, alpha.view(), beta.view(), n.view().over_channels(rows), va.view().over_channels(rows)];
        backend.zip(&PullVector(sign), rows, &read, &mut [grads.theta.update(&[self.vectors])?], &mut [], &mut [])
    }
}

impl Invertible for Householder {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.vectors)?;
        if input.channels() != self.channels {
            return Err(Error::shape("input of Householder", format!("{} channels", self.channels), input));
        }
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (backend, vectors) = (at.backend(), at.param(self.vectors)?);
        if backend.mix(dir, &Mix { affine: None, vectors }, x, logdet)? {
            return Ok(());
        }
        reflect(backend, dir, vectors, x)
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let v = at.param(self.vectors)?;
        let mix = Mix { affine: None, vectors: v };
        if backend.mix_pull(dir, &mix, y, gy, gl, &mut grads.theta.update(&[self.vectors])?)? {
            return Ok(());
        }
        let mut g = Tensor::scratch(backend, Shape::rows(self.channels, self.channels))?;
        // G belongs to x and to the cotangent of y, whichever of them is there first.
        match dir {
            Direction::Forward => {
                reflect(backend, Direction::Inverse, v, y)?;
                gram(backend, y.view(), gy.view(), &mut g)?;
                reflect(backend, Direction::Inverse, v, gy)?;
            }
            Direction::Inverse => {
                reflect(backend, Direction::Forward, v, gy)?;
                gram(backend, y.view(), gy.view(), &mut g)?;
                reflect(backend, Direction::Forward, v, y)?;
            }
        }
        self.pull_vectors(at, &g, dir.sign(), grads)
    }
}

/// A vector seen as the weight of a 1x1 convolution in as many dimensions as `like` has.
pub(crate) fn as_kernel<'a, B: Backend>(v: View<'a, B>, like: Shape) -> Result<View<'a, B>> {
    v.reshape(Shape::new(v.shape().batch(), v.shape().channels(), &[1, 1, 1][..like.rank()])?)
}

/// G = Σ a xᵀ.
pub(crate) fn gram<B: Backend>(backend: &B, x: View<'_, B>, a: View<'_, B>, g: &mut Tensor<B>) -> Result<()> {
    let shape = g.shape();
    let kernel = Shape::new(shape.batch(), shape.channels(), &[1, 1, 1][..x.shape().rank()])?;
    let mut g = g.view_mut();
    g.reshape(kernel)?;
    backend.conv_weight(Conv { stride: 1, padding: 0 }, x, a, &mut g, Write::Set)
}

/// Inner products of the rows of two (m, C) matrices.
fn row_products<B: Backend>(backend: &B, a: View<'_, B>, b: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = Tensor::zeros(backend, Shape::per_sample(a.shape().batch()))?;
    backend.zip(&blas::Dot, a.shape(), &[a, b], &mut [], &mut [], &mut [out.view_mut().update()])?;
    Ok(out)
}

/// Applies the reflections of the rows of `v` to the channels of `x`: `Forward` the first row first, `Inverse` the last.
fn reflect<B: Backend>(backend: &B, dir: Direction, v: View<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
    if x.shape().is_empty() {
        return Ok(());
    }
    let norms = row_products(backend, v, v)?;
    let count = v.shape().batch();
    let product = Conv { stride: 1, padding: 0 };
    let mut t = Tensor::scratch(backend, x.shape().with_channels(1))?;
    for i in 0..count {
        let i = if dir == Direction::Forward { i } else { count - 1 - i };
        let kernel = as_kernel(v.samples(i..i + 1), x.shape())?;
        backend.conv(product, x.view(), kernel, &mut t.view_mut(), Write::Set)?;
        let norm = norms.view().samples(i..i + 1).repeat(t.shape().batch()).over_channels(t.shape());
        let shape = t.shape();
        backend.zip(&Coefficient, shape, &[norm], &mut [t.view_mut().update()], &mut [], &mut [])?;
        backend.conv_input(product, t.view(), kernel, x, Write::Add)?;
    }
    Ok(())
}

/// 1 / n, and 0 for the zero vector.
#[inline(always)]
fn reciprocal<T: Scalar>(n: T) -> T {
    let tiny = T::constant(f64::from(f32::MIN_POSITIVE));
    n.select_ge(tiny, T::one() / n.max(tiny), T::zero())
}

/// t = -2 t / n.
#[derive(Clone, Copy)]
struct Coefficient;
impl Kernel for Coefficient {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = T::constant(-2.0) * update[0] * reciprocal(read[0]);
    }
}

/// gv += ± -(2/n) [α + β - 2 (vᵀα)/n v].
#[derive(Clone, Copy)]
struct PullVector(f64);
impl Kernel for PullVector {
    const READ: usize = 5;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (v, alpha, beta, inverse, va) = (read[0], read[1], read[2], reciprocal(read[3]), read[4]);
        let two = T::constant(2.0);
        update[0] = update[0] - u[0] * two * inverse * (alpha + beta - two * va * inverse * v);
    }
}
