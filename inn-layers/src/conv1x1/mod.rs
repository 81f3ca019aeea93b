//! 1x1 convolutions with a square matrix: by LU factors, by orthogonal matrices of skew ones, and free.

mod matrix;

use crate::householder::{as_kernel, gram};
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Conv, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, Param, Result, Scalar, Scope, Shape, Tensor, View,
    ViewMut, Write,
};
use matrix::{AddIdentity, Labels, Sum, equal};

/// How the matrix W of a [`Conv1x1`] depends on its parameter, a matrix M of the same size.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// W = P L U (Kingma & Dhariwal 2018, eq. 10): L unit lower triangular, the strict lower part of M; U upper triangular with the strict upper
    /// part of M and exp(M_ii) on its diagonal; row i of W is row `order[i]` of L U. ln|det W| = Σ M_ii.
    Lu {
        /// P, a permutation of 0..C; the reversal when absent.
        order: Option<Vec<usize>>,
    },
    /// W = (1 - A)(1 + A)⁻¹ with A = M - Mᵀ (Cayley): orthogonal, det 1, without the eigenvalue -1.
    Cayley,
    /// W = e^A with A = M - Mᵀ: every orthogonal matrix of determinant 1.
    Exponential,
    /// W = 1 + M: any matrix; the layer is invertible where W is.
    Free,
}

/// A 1x1 convolution: one matrix on the channels of every pixel (Kingma & Dhariwal 2018, arXiv:1807.03039, section 3.2).
///
/// ```text
/// y = W x,    x = W⁻¹ y,    ℓ = N ln|det W|        N pixels
/// ```
/// # Gradient
/// With a the cotangent of y, λ that of ℓ, and G = Σ a xᵀ over samples and pixels (C x C), Λ = N Σ_b λ_b: gx = Wᵀ a, and the parameters see
/// <G, dW> + Λ d ln|det W|. With tril, triu the strict triangles,
/// ```text
/// LU            gM = tril(Pᵀ G Uᵀ) + triu(V) + diag(V_ii U_ii + Λ),    V = (P L)ᵀ G
/// Cayley        W = 2 B - 1 with B = (1 + A)⁻¹, so dW = -2 B dA B:     gA = -2 Bᵀ G Bᵀ,          gM = gA - gAᵀ
/// exponential   the adjoint of the derivative of exp:                  gA = D exp(Aᵀ)[G],        gM = gA - gAᵀ
/// free          gM = G + Λ W⁻ᵀ
/// ```
/// The inverse map has minus this gradient at (x, a = W⁻ᵀ gx) with the cotangent λ of its own log-determinant.
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | M | `matrix` | (C, C) |
/// | W, W⁻¹ | `forward`, `inverse` | (C, C) |
/// | G | `g` | (C, C) |
///
/// # Cost
/// A call takes one C x C product a pixel and O(C³ log C) for W, W⁻¹ and the gradient. The LU form stays on the device; Cayley and free read C²
/// values on the host to invert them, the exponential to see how far it has to be scaled.
#[derive(Clone, Debug)]
pub struct Conv1x1 {
    matrix: Param,
    form: Form,
    channels: usize,
}

/// W and W⁻¹ with what the gradient needs.
struct Matrices<B: Backend> {
    forward: Tensor<B>,
    inverse: Tensor<B>,
    /// ln|det W| as one number, if it can differ from 0.
    log: Option<Tensor<B>>,
    parts: Parts<B>,
}

enum Parts<B: Backend> {
    /// P, L, U.
    Lu(Tensor<B>, Tensor<B>, Tensor<B>),
    /// B.
    Cayley(Tensor<B>),
    /// A.
    Exponential(Tensor<B>),
    Free,
}

impl Conv1x1 {
    /// Declares `matrix` for `channels` channels. It starts with normal values of standard deviation `spread / √C`: near the permutation for LU, near
    /// the identity for the others; an orthogonal form mixes well from about 1.
    ///
    /// # Errors
    /// No channels, or an order that is no permutation of them.
    pub fn new(scope: &mut Scope<'_>, channels: usize, form: Form, spread: f64) -> Result<Self> {
        if let Form::Lu { order: Some(order) } = &form {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..channels) {
                return Err(Error::config("order", format!("expected a permutation of 0..{channels}, got {order:?}")));
            }
        }
        let init = Init::Normal(spread / (channels.max(1) as f64).sqrt());
        Ok(Self { matrix: scope.weight("matrix", channels, channels, &[], init)?, form, channels })
    }

    fn matrices<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Matrices<B>> {
        let (backend, m) = (at.backend(), at.param(self.matrix)?);
        let (shape, n) = (m.shape(), self.channels);
        let labels = Labels::new(backend, 0..n)?;
        let rows_columns = [labels.rows(shape)?, labels.columns(shape)];
        let plus_one = |x: &mut Tensor<B>| backend.zip(&AddIdentity, shape, &rows_columns, &mut [x.view_mut().update()], &mut [], &mut []);
        match &self.form {
            Form::Lu { order } => {
                let [mut l, mut u, mut p] =
                    [Tensor::scratch(backend, shape)?, Tensor::scratch(backend, shape)?, Tensor::zeros(backend, shape)?];
                let read = [m, rows_columns[0], rows_columns[1]];
                backend.zip(&Factors, shape, &read, &mut [l.view_mut().set(), u.view_mut().set()], &mut [], &mut [])?;
                let order = Labels::new(backend, (0..n).map(|i| order.as_ref().and_then(|o| o.get(i).copied()).unwrap_or(n - 1 - i)))?;
                let read = [order.rows(shape)?, labels.columns(shape)];
                backend.zip(&AddIdentity, shape, &read, &mut [p.view_mut().update()], &mut [], &mut [])?;
                let product = matrix::times(backend, l.view(), u.view())?;
                let forward = matrix::times(backend, p.view(), product.view())?;
                let (inverse_l, inverse_u) =
                    (matrix::inverse_triangular(backend, l.view())?, matrix::inverse_triangular(backend, u.view())?);
                let product = matrix::times(backend, inverse_u.view(), inverse_l.view())?;
                let inverse = matrix::times_transposed(backend, product.view(), p.view())?;
                let mut log = Tensor::zeros(backend, Shape::per_sample(1))?;
                // The diagonal of M as a vector, by its stride.
                let window = inn_core::Window { channel_stride: n + 1, batch_stride: n * n, shape: Shape::per_channel(n), ..m.window() };
                let diagonal = View::new(m.buffer(), window)?;
                backend.zip(&SumChannels, diagonal.shape(), &[diagonal], &mut [], &mut [], &mut [log.view_mut().update()])?;
                Ok(Matrices { forward, inverse, log: Some(log), parts: Parts::Lu(p, l, u) })
            }
            Form::Cayley => {
                let mut a = matrix::skew(backend, m)?;
                plus_one(&mut a)?;
                let (b, _) = matrix::inverse(backend, a.view())?;
                let mut forward = matrix::copy(backend, b.view())?;
                matrix::scale(backend, -2.0, &mut forward)?;
                plus_one(&mut forward)?;
                matrix::scale(backend, -1.0, &mut forward)?;
                let inverse = matrix::copy(backend, matrix::transposed(forward.view())?)?;
                Ok(Matrices { forward, inverse, log: None, parts: Parts::Cayley(b) })
            }
            Form::Exponential => {
                let a = matrix::skew(backend, m)?;
                let forward = matrix::exponential(backend, a.view(), matrix::norm(&a)?)?;
                let inverse = matrix::copy(backend, matrix::transposed(forward.view())?)?;
                Ok(Matrices { forward, inverse, log: None, parts: Parts::Exponential(a) })
            }
            Form::Free => {
                let mut forward = matrix::copy(backend, m)?;
                plus_one(&mut forward)?;
                let (inverse, log) = matrix::inverse(backend, forward.view())?;
                Ok(Matrices { forward, inverse, log: Some(log), parts: Parts::Free })
            }
        }
    }

    /// gM += ± (the gradient of <G, W> + Λ ln|det W|).
    fn pull_matrix<B: Backend>(
        &self,
        backend: &B,
        w: &Matrices<B>,
        g: &Tensor<B>,
        weight: &Tensor<B>,
        sign: f64,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let shape = g.shape();
        let mut gm = grads.param(self.matrix)?;
        match &w.parts {
            Parts::Lu(p, l, u) => {
                let pg = matrix::transposed_times(backend, p.view(), g.view())?;
                let lower = matrix::times_transposed(backend, pg.view(), u.view())?;
                let upper = matrix::transposed_times(backend, l.view(), pg.view())?;
                let labels = Labels::new(backend, 0..self.channels)?;
                let weight = weight.view().repeat(shape.batch()).over_channels(shape);
                let read = [lower.view(), upper.view(), u.view(), weight, labels.rows(shape)?, labels.columns(shape)];
                backend.zip(&PullFactors(sign), shape, &read, &mut [gm.update()], &mut [], &mut [])
            }
            Parts::Cayley(b) => {
                let left = matrix::transposed_times(backend, b.view(), g.view())?;
                let ga = matrix::times_transposed(backend, left.view(), b.view())?;
                gm.axpy(backend, -2.0 * sign, matrix::skew(backend, ga.view())?.view())
            }
            Parts::Exponential(a) => {
                let ga = matrix::exponential_derivative(backend, matrix::transposed(a.view())?, g.view(), matrix::norm(a)?)?;
                gm.axpy(backend, sign, matrix::skew(backend, ga.view())?.view())
            }
            Parts::Free => {
                gm.axpy(backend, sign, g.view())?;
                let read = [matrix::transposed(w.inverse.view())?, weight.view().repeat(shape.batch()).over_channels(shape)];
                backend.zip(&AddWeighted(sign), shape, &read, &mut [gm.update()], &mut [], &mut [])
            }
        }
    }
}

/// x = W x, or Wᵀ x, in place; a tile of samples at a time.
fn apply<B: Backend>(backend: &B, w: &Tensor<B>, transposed: bool, x: &mut ViewMut<'_, B>) -> Result<()> {
    let shape = x.shape();
    let step = backend.tile(shape.sample_len() * size_of::<B::Elem>(), shape.batch()).max(1);
    let product = Conv { stride: 1, padding: 0 };
    for start in (0..shape.batch()).step_by(step) {
        let mut x = x.samples(start..(start + step).min(shape.batch()));
        let mut source = Tensor::scratch(backend, x.shape())?;
        source.view_mut().assign(backend, x.view())?;
        let kernel = as_kernel(w.view(), shape)?;
        if transposed {
            backend.conv_input(product, source.view(), kernel, &mut x, Write::Set)?;
        } else {
            backend.conv(product, source.view(), kernel, &mut x, Write::Set)?;
        }
    }
    Ok(())
}

impl Invertible for Conv1x1 {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.matrix)?;
        if input.channels() != self.channels {
            return Err(Error::shape("input of Conv1x1", format!("{} channels", self.channels), input));
        }
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (backend, w) = (at.backend(), self.matrices(at)?);
        apply(backend, if dir == Direction::Forward { &w.forward } else { &w.inverse }, false, x)?;
        match &w.log {
            Some(log) => logdet.axpy(backend, dir.sign() * x.shape().pixels() as f64, log.view().repeat(x.shape().batch())),
            None => Ok(()),
        }
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
        let (backend, w) = (at.backend(), self.matrices(at)?);
        let mut g = Tensor::scratch(backend, Shape::rows(self.channels, self.channels))?;
        // G belongs to x and to the cotangent of y, whichever of them is there first.
        match dir {
            Direction::Forward => {
                apply(backend, &w.inverse, false, y)?;
                gram(backend, y.view(), gy.view(), &mut g)?;
                apply(backend, &w.forward, true, gy)?;
            }
            Direction::Inverse => {
                apply(backend, &w.inverse, true, gy)?;
                gram(backend, y.view(), gy.view(), &mut g)?;
                apply(backend, &w.forward, false, y)?;
            }
        }
        let mut sum = Tensor::zeros(backend, Shape::per_sample(1))?;
        backend.zip(&Sum, gl.shape(), &[gl], &mut [], &mut [sum.view_mut().update()], &mut [])?;
        matrix::scale(backend, y.shape().pixels() as f64, &mut sum)?;
        self.pull_matrix(backend, &w, &g, &sum, dir.sign(), grads)
    }
}

/// L and U from M.
#[derive(Clone, Copy)]
struct Factors;
impl Kernel for Factors {
    const READ: usize = 3;
    const UPDATE: usize = 2;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (m, row, column) = (read[0], read[1], read[2]);
        let (below, above) = (m_below(m, row, column), m_below(m, column, row));
        update[0] = below + equal(row, column, T::one(), T::zero());
        update[1] = above + equal(row, column, equal(row, column, m, T::zero()).exp(), T::zero());
    }
}

/// m where the first label is larger, 0 elsewhere.
#[inline(always)]
fn m_below<T: Scalar>(m: T, row: T, column: T) -> T {
    (row - column).select_ge(T::constant(0.5), m, T::zero())
}

/// gM += ± (tril(lower) + triu(upper) + diag(upper u + weight)).
#[derive(Clone, Copy)]
struct PullFactors(f64);
impl Kernel for PullFactors {
    const READ: usize = 6;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let (lower, upper, factor, weight, row, column) = (read[0], read[1], read[2], read[3], read[4], read[5]);
        let diagonal = equal(row, column, upper * factor + weight, T::zero());
        update[0] = update[0] + u[0] * (m_below(lower, row, column) + m_below(upper, column, row) + diagonal);
    }
}

/// m += ± w x.
#[derive(Clone, Copy)]
struct AddWeighted(f64);
impl Kernel for AddWeighted {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = update[0] + u[0] * read[1] * read[0];
    }
}

/// The sum over the channels of a sample.
#[derive(Clone, Copy)]
struct SumChannels;
impl Kernel for SumChannels {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = read[0];
    }
}
