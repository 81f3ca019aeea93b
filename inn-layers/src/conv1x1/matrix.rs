//! Small matrices on the device: products, inverses and exponentials out of primitives, so that tangents pass through.
//!
//! A matrix (n, m) is a tensor with its rows in the place of the batch. What a function needs to know of the values themselves (a pivot, a
//! number of squarings) it reads on the host; what it computes from them carries the tangent all the same.

use inn_core::kernel::{UNIFORMS, blas};
use inn_core::{Backend, Conv, Kernel, Result, Scalar, Shape, Tensor, View, Window, Write};

const PRODUCT: Conv = Conv { stride: 1, padding: 0 };

fn shape_of(rows: usize, columns: usize) -> Shape {
    Shape::rows(rows, columns)
}

/// A B.
pub(super) fn times<B: Backend>(backend: &B, a: View<'_, B>, b: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = Tensor::scratch(backend, shape_of(a.shape().batch(), b.shape().channels()))?;
    backend.conv_input(PRODUCT, a, b, &mut out.view_mut(), Write::Set)?;
    Ok(out)
}

/// A Bᵀ.
pub(super) fn times_transposed<B: Backend>(backend: &B, a: View<'_, B>, b: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = Tensor::scratch(backend, shape_of(a.shape().batch(), b.shape().batch()))?;
    backend.conv(PRODUCT, a, b, &mut out.view_mut(), Write::Set)?;
    Ok(out)
}

/// Aᵀ B.
pub(super) fn transposed_times<B: Backend>(backend: &B, a: View<'_, B>, b: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = Tensor::scratch(backend, shape_of(a.shape().channels(), b.shape().channels()))?;
    backend.conv_weight(PRODUCT, b, a, &mut out.view_mut(), Write::Set)?;
    Ok(out)
}

/// Aᵀ, seen where A lies.
pub(super) fn transposed<'a, B: Backend>(a: View<'a, B>) -> Result<View<'a, B>> {
    let w = a.window();
    let shape = shape_of(w.shape.channels(), w.shape.batch());
    View::new(a.buffer(), Window { shape, batch_stride: w.channel_stride, channel_stride: w.batch_stride, ..w })
}

/// A copy of its own.
pub(super) fn copy<B: Backend>(backend: &B, a: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = Tensor::scratch(backend, a.shape())?;
    out.view_mut().assign(backend, a)?;
    Ok(out)
}

/// A - Aᵀ.
pub(super) fn skew<B: Backend>(backend: &B, a: View<'_, B>) -> Result<Tensor<B>> {
    let mut out = copy(backend, a)?;
    out.view_mut().axpy(backend, -1.0, transposed(a)?)?;
    Ok(out)
}

/// a A.
pub(super) fn scale<B: Backend>(backend: &B, a: f64, m: &mut Tensor<B>) -> Result<()> {
    let shape = m.shape();
    backend.zip(&blas::Scale(a), shape, &[], &mut [m.view_mut().update()], &mut [], &mut [])
}

/// A constant vector, read along the rows or the columns of a matrix.
pub(super) struct Labels<B: Backend>(Tensor<B>);

impl<B: Backend> Labels<B> {
    pub(super) fn new(backend: &B, values: impl Iterator<Item = usize>) -> Result<Self> {
        let values: Vec<f64> = values.map(|v| v as f64).collect();
        Ok(Self(Tensor::from_f64(backend, Shape::per_channel(values.len()), &values)?))
    }
    /// One label a row.
    pub(super) fn rows(&self, domain: Shape) -> Result<View<'_, B>> {
        let window = Window::contiguous(Shape::per_sample(self.0.shape().channels()), 0);
        Ok(View::new(self.0.buffer(), window)?.over_channels(domain))
    }
    /// One label a column.
    pub(super) fn columns(&self, domain: Shape) -> View<'_, B> {
        self.0.view().over_pixels(domain)
    }
}

/// `then` where two labels are equal, `otherwise` where not. Labels are whole numbers.
#[inline(always)]
pub(super) fn equal<T: Scalar>(a: T, b: T, then: T, otherwise: T) -> T {
    (a - b).abs().select_ge(T::constant(0.5), otherwise, then)
}

/// The inverse of a triangular matrix, lower or upper, by doubling of its diagonal blocks.
///
/// With X the inverse of the diagonal blocks of s columns and N the rest of T within the blocks of 2 s, [[A, 0], [B, D]]⁻¹ =
/// [[A⁻¹, 0], [-D⁻¹ B A⁻¹, D⁻¹]] says that X - X N X is the inverse of the larger blocks: ⌈log₂ n⌉ steps of two products.
pub(super) fn inverse_triangular<B: Backend>(backend: &B, t: View<'_, B>) -> Result<Tensor<B>> {
    let (shape, n) = (t.shape(), t.shape().channels());
    let mut fine = Labels::new(backend, 0..n)?;
    let mut x = Tensor::scratch(backend, shape)?;
    let read = [t, fine.rows(shape)?, fine.columns(shape)];
    backend.zip(&InvertDiagonal, shape, &read, &mut [x.view_mut().set()], &mut [], &mut [])?;
    let mut block = 1;
    while block < n {
        let coarse = Labels::new(backend, (0..n).map(|i| i / (2 * block)))?;
        let mut off = Tensor::scratch(backend, shape)?;
        let read = [t, fine.rows(shape)?, fine.columns(shape), coarse.rows(shape)?, coarse.columns(shape)];
        backend.zip(&OffDiagonal, shape, &read, &mut [off.view_mut().set()], &mut [], &mut [])?;
        let left = times(backend, x.view(), off.view())?;
        let change = times(backend, left.view(), x.view())?;
        x.view_mut().axpy(backend, -1.0, change.view())?;
        (fine, block) = (coarse, 2 * block);
    }
    Ok(x)
}

/// The inverse of a matrix, and ln|det| as one number.
///
/// The host factorizes the values; one step of Newton's iteration, X (2 - A X) from X = A⁻¹, then brings the tangent along: its value is A⁻¹
/// again and its derivative -A⁻¹ dA A⁻¹. Likewise ln|det A| + tr(X A) - tr(X A) as a number has the derivative tr(A⁻¹ dA). A singular matrix gives
/// values that are not finite.
pub(super) fn inverse<B: Backend>(backend: &B, a: View<'_, B>) -> Result<(Tensor<B>, Tensor<B>)> {
    let (shape, n) = (a.shape(), a.shape().channels());
    let (values, log) = invert_on_host(copy(backend, a)?.to_f64()?, n);
    let start = Tensor::from_f64(backend, shape, &values)?;
    let product = times(backend, a, start.view())?;
    let correction = times(backend, start.view(), product.view())?;
    let mut x = copy(backend, start.view())?;
    scale(backend, 2.0, &mut x)?;
    x.view_mut().axpy(backend, -1.0, correction.view())?;

    let mut trace = Tensor::zeros(backend, Shape::per_sample(n))?;
    backend.zip(&blas::Dot, shape, &[transposed(start.view())?, a], &mut [], &mut [], &mut [trace.view_mut().update()])?;
    let mut sum = Tensor::zeros(backend, Shape::per_sample(1))?;
    let rows = trace.shape();
    backend.zip(&Sum, rows, &[trace.view()], &mut [], &mut [sum.view_mut().update()], &mut [])?;
    let value: f64 = sum.to_f64()?.iter().sum();
    let constant = Tensor::from_f64(backend, Shape::per_sample(1), &[log - value])?;
    sum.view_mut().axpy(backend, 1.0, constant.view())?;
    Ok((x, sum))
}

/// e^A by scaling and squaring of a Taylor polynomial, for the values of A and whatever tangent; `norm` is at least its largest column sum.
///
/// With |A| / 2^s ≤ 1/2 the remainder of degree 14 is below 2⁻¹⁵/15! = 2.4e-17.
pub(super) fn exponential<B: Backend>(backend: &B, a: View<'_, B>, norm: f64) -> Result<Tensor<B>> {
    let squarings = if norm.is_finite() { (norm.max(0.5) / 0.5).log2().ceil().min(60.0) as i32 } else { 0 };
    let n = a.shape().channels();
    let labels = Labels::new(backend, 0..n)?;
    let mut x = copy(backend, a)?;
    scale(backend, 0.5f64.powi(squarings), &mut x)?;
    let add_one = |m: &mut Tensor<B>| -> Result<()> {
        let shape = m.shape();
        let read = [labels.rows(shape)?, labels.columns(shape)];
        backend.zip(&AddIdentity, shape, &read, &mut [m.view_mut().update()], &mut [], &mut [])
    };
    // Horner: 1 + A (1 + A/2 (1 + A/3 (...))).
    let mut p = copy(backend, x.view())?;
    scale(backend, 1.0 / 14.0, &mut p)?;
    add_one(&mut p)?;
    for k in (1..14).rev() {
        p = times(backend, x.view(), p.view())?;
        scale(backend, 1.0 / f64::from(k), &mut p)?;
        add_one(&mut p)?;
    }
    for _ in 0..squarings {
        p = times(backend, p.view(), p.view())?;
    }
    Ok(p)
}

/// The largest absolute column sum; waits for the device.
pub(super) fn norm<B: Backend>(a: &Tensor<B>) -> Result<f64> {
    let (n, values) = (a.shape().channels(), a.to_f64()?);
    Ok((0..n).map(|j| values.iter().skip(j).step_by(n).map(|v| v.abs()).sum()).fold(0.0, f64::max))
}

/// The derivative of e^A along E: the upper right block of exp [[A, E], [0, A]] (Al-Mohy & Higham 2009, eq. 1.3).
pub(super) fn exponential_derivative<B: Backend>(backend: &B, a: View<'_, B>, e: View<'_, B>, norm: f64) -> Result<Tensor<B>> {
    let n = a.shape().channels();
    let mut block = Tensor::zeros(backend, shape_of(2 * n, 2 * n))?;
    for (rows, columns, part) in [(0..n, 0..n, a), (0..n, n..2 * n, e), (n..2 * n, n..2 * n, a)] {
        block.view_mut().samples(rows).channels(columns).assign(backend, part)?;
    }
    let whole = exponential(backend, block.view(), norm)?;
    copy(backend, whole.view().samples(0..n).channels(n..2 * n))
}

/// Gauss-Jordan elimination with partial pivoting.
fn invert_on_host(mut a: Vec<f64>, n: usize) -> (Vec<f64>, f64) {
    let mut inverse: Vec<f64> = (0..n * n).map(|k| f64::from(u8::from(k / n == k % n))).collect();
    let mut log = 0.0;
    for j in 0..n {
        let pivot = (j..n).fold(j, |best, i| if a[i * n + j].abs() > a[best * n + j].abs() { i } else { best });
        for k in 0..n {
            a.swap(j * n + k, pivot * n + k);
            inverse.swap(j * n + k, pivot * n + k);
        }
        let d = a[j * n + j];
        log += d.abs().ln();
        for k in 0..n {
            a[j * n + k] /= d;
            inverse[j * n + k] /= d;
        }
        for i in (0..n).filter(|&i| i != j) {
            let factor = a[i * n + j];
            for k in 0..n {
                a[i * n + k] -= factor * a[j * n + k];
                inverse[i * n + k] -= factor * inverse[j * n + k];
            }
        }
    }
    (inverse, log)
}

/// 1/t on the diagonal, 0 elsewhere.
#[derive(Clone, Copy)]
struct InvertDiagonal;
impl Kernel for InvertDiagonal {
    const READ: usize = 3;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (t, row, column) = (read[0], read[1], read[2]);
        let safe = equal(row, column, t, T::one());
        update[0] = equal(row, column, T::one() / safe, T::zero());
    }
}

/// t where the coarse labels of row and column agree and the fine ones do not, 0 elsewhere.
#[derive(Clone, Copy)]
struct OffDiagonal;
impl Kernel for OffDiagonal {
    const READ: usize = 5;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let outside = equal(read[1], read[2], T::zero(), read[0]);
        update[0] = equal(read[3], read[4], outside, T::zero());
    }
}

/// m += 1 on the diagonal.
#[derive(Clone, Copy)]
pub(super) struct AddIdentity;
impl Kernel for AddIdentity {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + equal(read[0], read[1], T::one(), T::zero());
    }
}

/// The sum over the rows.
#[derive(Clone, Copy)]
pub(super) struct Sum;
impl Kernel for Sum {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const CHANNEL_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], _: &mut [T], sums: &mut [T], _: &mut [T]) {
        sums[0] = read[0];
    }
}
