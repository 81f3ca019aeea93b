//! A squeeze that is learned.

use inn_core::kernel::{UNIFORMS, blas};
use inn_core::{
    Backend, Conv, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, Param, Result, Scalar, Scope, Shape, Tensor, View,
    ViewMut, Window, Write,
};

/// A strided convolution with an orthogonal kernel, the same for every channel (Etmann, Ke & Schönlieb 2020, arXiv:2005.05220, section 3).
///
/// ```text
/// y[σ c + i] = Σ_t E[i, t] x[c, k s + t]   at each pixel s,    E = exp A,    A = -Aᵀ,    ℓ = 0
/// ```
/// k is the stride and the extent of the kernel on each of the d axes, t = t_x + k t_y + k² t_z one of its σ = k^d taps. E is orthogonal with
/// determinant 1, so the inverse is the adjoint. Zero angles give E = I, a plain rearrangement. Any rotation of the σ taps is reached.
///
/// # The exponential
/// exp A = I + M by 14 terms of the series at A/2⁶ and six squarings, M ← 2 M + M². One step of Newton for the orthogonal factor,
/// E ← E (3 I - EᵀE)/2, then takes the rounding errors out of the lengths and angles of the columns; where E is orthogonal it is the identity,
/// and so is its derivative along rotations. To rounding for |A| up to 32; |A| is about √σ times an angle.
///
/// # Gradient
/// With G = ∂f/∂E = Σ g x'ᵀ over samples, channels and pixels, x' the taps, and L the derivative of exp,
/// ```text
/// ⟨G, L(A, dA)⟩ = ⟨L(Aᵀ, G), dA⟩,    so    g_a = D_ij - D_ji  for the angle a = A_ij, i < j,    D = L(-A, G)
/// ```
/// (Al-Mohy & Higham 2009). L is the tangent of the scheme above. The inverse has the opposite gradient at the same (x, g).
///
/// | symbol | variable | shape |
/// |---|---|---|
/// | a, the upper triangle of A row by row | `angles` | (σ(σ-1)/2) |
/// | A, M, G, D | `skew`, `matrix`, `g`, `d` | (σ, σ) |
#[derive(Clone, Debug)]
pub struct LearnableSqueeze {
    angles: Param,
    stride: usize,
    rank: usize,
    taps: usize,
}

/// Terms of the series, and squarings.
const TERMS: usize = 14;
const SQUARINGS: i32 = 6;

impl LearnableSqueeze {
    /// Declares `angles` for `rank` spatial axes (1 to 3) and a stride of at least 2, drawn uniformly from ±√(6/(1 + n)), n their number.
    ///
    /// # Errors
    /// Another rank, a smaller stride, more than 512 taps.
    pub fn new(scope: &mut Scope<'_>, rank: usize, stride: usize) -> Result<Self> {
        let taps = stride.checked_pow(rank as u32).filter(|&taps| (1..=3).contains(&rank) && stride >= 2 && taps <= 512);
        let Some(taps) = taps else {
            let got = format!("stride {stride} on {rank} axes");
            return Err(Error::config(
                "learnable squeeze",
                format!("expected a stride of at least 2 on 1 to 3 axes, up to 512 taps, got {got}"),
            ));
        };
        let count = taps * (taps - 1) / 2;
        let angles = scope.vector("angles", count, Init::Uniform((6.0 / (1.0 + count as f64)).sqrt()))?;
        Ok(Self { angles, stride, rank, taps })
    }

    fn output(&self, dir: Direction, input: Shape) -> Result<Shape> {
        let (k, taps, first) = (self.stride, self.taps, 3 - self.rank);
        let scaled = |f: fn(usize, usize) -> usize| {
            let e = input.extents();
            input.with_extents(std::array::from_fn(|axis| if axis < first { e[axis] } else { f(e[axis], k) }))
        };
        if input.rank() != self.rank {
            return Err(Error::shape("input of LearnableSqueeze", format!("{} spatial axes", self.rank), input));
        }
        match dir {
            Direction::Forward if input.spatial().iter().all(|n| n.is_multiple_of(k)) => {
                Ok(scaled(|n, k| n / k).with_channels(input.channels() * taps))
            }
            Direction::Forward => Err(Error::shape("input of LearnableSqueeze", format!("extents that are multiples of {k}"), input)),
            Direction::Inverse if input.channels().is_multiple_of(taps) => Ok(scaled(|n, k| n * k).with_channels(input.channels() / taps)),
            Direction::Inverse => Err(Error::shape("input of LearnableSqueeze", format!("a multiple of {taps} channels"), input)),
        }
    }

    fn conv(&self) -> Conv {
        Conv { stride: self.stride, padding: 0 }
    }

    /// E as the weight of a convolution.
    fn kernel<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Tensor<B>> {
        let backend = at.backend();
        let skew = self.skew(at)?;
        let (mut matrix, _) = exponential(backend, &skew, 1.0, None)?;
        orthogonalize(backend, &mut matrix)?;
        let diagonal = Window { batch_stride: self.taps + 1, ..Window::contiguous(Shape::rows(self.taps, 1), 0) };
        let mut diagonal = ViewMut::new(matrix.buffer_mut(), diagonal)?;
        let shape = diagonal.shape();
        backend.zip(&AddOne, shape, &[], &mut [diagonal.update()], &mut [], &mut [])?;
        matrix.reshape(self.kernel_shape()?)
    }

    fn kernel_shape(&self) -> Result<Shape> {
        Shape::new(self.taps, 1, &[self.stride; 3][..self.rank])
    }

    /// Row i of the upper triangle, column i of the lower one, and their place among the angles, for each i.
    fn triangle(&self) -> impl Iterator<Item = (Window, Window, std::ops::Range<usize>)> {
        let taps = self.taps;
        (0..taps - 1).scan(0, move |start, i| {
            let run = taps - 1 - i;
            let row = Window::contiguous(Shape::rows(1, run), i * taps + i + 1);
            let column = Window { channel_stride: taps, ..Window::contiguous(Shape::rows(1, run), (i + 1) * taps + i) };
            *start += run;
            Some((row, column, *start - run..*start))
        })
    }

    /// A from the angles.
    fn skew<B: Backend>(&self, at: &Inputs<'_, B>) -> Result<Tensor<B>> {
        let (backend, angles) = (at.backend(), at.param(self.angles)?);
        let mut skew = Tensor::zeros(backend, Shape::rows(self.taps, self.taps))?;
        for (row, column, range) in self.triangle() {
            ViewMut::new(skew.buffer_mut(), row)?.assign(backend, angles.channels(range.clone()))?;
            ViewMut::new(skew.buffer_mut(), column)?.axpy(backend, -1.0, angles.channels(range))?;
        }
        Ok(skew)
    }

    /// g_a += sign (D_ij - D_ji).
    fn pull_angles<B: Backend>(&self, at: &Inputs<'_, B>, g: Tensor<B>, sign: f64, grads: &mut Gradients<'_, B>) -> Result<()> {
        let backend = at.backend();
        let g = g.reshape(Shape::rows(self.taps, self.taps))?;
        let (_, d) = exponential(backend, &self.skew(at)?, -1.0, Some(&g))?;
        let mut angles = grads.param(self.angles)?;
        for (row, column, range) in self.triangle() {
            angles.channels(range.clone()).axpy(backend, sign, View::new(d.buffer(), row)?)?;
            angles.channels(range).axpy(backend, -sign, View::new(d.buffer(), column)?)?;
        }
        Ok(())
    }

    /// Applies E (`Forward`) or Eᵀ to some samples, in place.
    fn apply<B: Backend>(&self, backend: &B, dir: Direction, kernel: &Tensor<B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let output = self.output(dir, x.shape())?;
        let mut y = Tensor::scratch(backend, output)?;
        let channels = x.shape().channels().min(output.channels());
        for c in 0..channels {
            let (one, block) = (c..c + 1, c * self.taps..(c + 1) * self.taps);
            let mut y = y.view_mut();
            match dir {
                Direction::Forward => {
                    backend.conv(self.conv(), x.view().channels(one), kernel.view(), &mut y.channels(block), Write::Set)?;
                }
                Direction::Inverse => {
                    backend.conv_input(self.conv(), x.view().channels(block), kernel.view(), &mut y.channels(one), Write::Set)?;
                }
            }
        }
        x.reshape(output)?;
        x.assign(backend, y.view())
    }

    /// Samples that are treated at once.
    fn tile<B: Backend>(backend: &B, shape: Shape) -> usize {
        backend.tile(shape.sample_len() * size_of::<B::Elem>(), shape.batch()).max(1)
    }
}

impl Invertible for LearnableSqueeze {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.angles)?;
        self.output(dir, input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        let (backend, shape) = (at.backend(), x.shape());
        let kernel = self.kernel(at)?;
        let step = Self::tile(backend, shape);
        for start in (0..shape.batch()).step_by(step) {
            self.apply(backend, dir, &kernel, &mut x.samples(start..start + step))?;
        }
        x.reshape(self.output(dir, shape)?)
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let (backend, shape, back) = (at.backend(), y.shape(), dir.flip());
        let kernel = self.kernel(at)?;
        let mut g = Tensor::zeros(backend, self.kernel_shape()?)?;
        let step = Self::tile(backend, shape);
        for start in (0..shape.batch()).step_by(step) {
            let (mut y, mut gy) = (y.samples(start..start + step), gy.samples(start..start + step));
            // G belongs to x and to the cotangent of y, whichever of them is there first.
            let first = if dir == Direction::Forward { &mut y } else { &mut gy };
            self.apply(backend, back, &kernel, first)?;
            let (x, a) = (y.view(), gy.view());
            for c in 0..x.shape().channels().min(a.shape().channels()) {
                let block = c * self.taps..(c + 1) * self.taps;
                backend.conv_weight(self.conv(), x.channels(c..c + 1), a.channels(block), &mut g.view_mut(), Write::Add)?;
            }
            let last = if dir == Direction::Forward { &mut gy } else { &mut y };
            self.apply(backend, back, &kernel, last)?;
        }
        let output = self.output(back, shape)?;
        y.reshape(output)?;
        gy.reshape(output)?;
        self.pull_angles(at, g, dir.sign(), grads)
    }
}

/// X Y.
fn product<B: Backend>(backend: &B, x: &Tensor<B>, y: &Tensor<B>, out: &mut Tensor<B>, write: Write) -> Result<()> {
    backend.conv_input(Conv { stride: 1, padding: 0 }, x.view(), y.view(), &mut out.view_mut(), write)
}

fn scale<B: Backend>(backend: &B, a: f64, x: &mut Tensor<B>) -> Result<()> {
    let shape = x.shape();
    backend.zip(&blas::Scale(a), shape, &[], &mut [x.view_mut().update()], &mut [], &mut [])
}

/// M = exp(sign A) - I, and its derivative along `direction` (zero where there is none).
///
/// The series in Horner's form is M ← (X + X M)/k for k from [`TERMS`] down to 1.
fn exponential<B: Backend>(backend: &B, skew: &Tensor<B>, sign: f64, direction: Option<&Tensor<B>>) -> Result<(Tensor<B>, Tensor<B>)> {
    let small = 0.5f64.powi(SQUARINGS);
    let mut x = skew.duplicate()?;
    scale(backend, sign * small, &mut x)?;
    let zeros = || Tensor::zeros(backend, skew.shape());
    let (mut m, mut d) = (zeros()?, zeros()?);
    let dx = match direction {
        Some(direction) => {
            let mut dx = direction.duplicate()?;
            scale(backend, small, &mut dx)?;
            Some(dx)
        }
        None => None,
    };
    for k in (1..=TERMS).rev() {
        if let Some(dx) = &dx {
            let mut next = dx.duplicate()?;
            product(backend, dx, &m, &mut next, Write::Add)?;
            product(backend, &x, &d, &mut next, Write::Add)?;
            scale(backend, 1.0 / k as f64, &mut next)?;
            d = next;
        }
        let mut next = x.duplicate()?;
        product(backend, &x, &m, &mut next, Write::Add)?;
        scale(backend, 1.0 / k as f64, &mut next)?;
        m = next;
    }
    for _ in 0..SQUARINGS {
        if dx.is_some() {
            let mut next = d.duplicate()?;
            scale(backend, 2.0, &mut next)?;
            product(backend, &m, &d, &mut next, Write::Add)?;
            product(backend, &d, &m, &mut next, Write::Add)?;
            d = next;
        }
        let mut next = m.duplicate()?;
        scale(backend, 2.0, &mut next)?;
        product(backend, &m, &m, &mut next, Write::Add)?;
        m = next;
    }
    Ok((m, d))
}

/// E ← E (3 I - EᵀE)/2 for E = I + M: with R = EᵀE - I = M + Mᵀ + MᵀM it is M ← M - (R + M R)/2.
fn orthogonalize<B: Backend>(backend: &B, m: &mut Tensor<B>) -> Result<()> {
    let shape = m.shape();
    let mut rest = m.duplicate()?;
    let transposed = Window { batch_stride: 1, channel_stride: shape.channels(), ..Window::contiguous(shape, 0) };
    rest.view_mut().axpy(backend, 1.0, View::new(m.buffer(), transposed)?)?;
    backend.conv_weight(Conv { stride: 1, padding: 0 }, m.view(), m.view(), &mut rest.view_mut(), Write::Add)?;
    let mut change = rest.duplicate()?;
    product(backend, m, &rest, &mut change, Write::Add)?;
    m.view_mut().axpy(backend, -0.5, change.view())
}

/// x += 1.
#[derive(Clone, Copy)]
struct AddOne;
impl Kernel for AddOne {
    const READ: usize = 0;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], _: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x[0] = x[0] + T::one();
    }
}
