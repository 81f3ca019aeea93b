//! What happens to data before a flow sees them, as bijections that carry their own log-determinants.

use inn_core::kernel::UNIFORMS;
use inn_core::{Backend, Direction, Error, Facts, Gradients, Inputs, Invertible, Kernel, Result, Scalar, Shape, View, ViewMut};
use rand::RngExt;

/// y = a x + b with fixed numbers; ℓ = n ln|a| for n values a sample.
///
/// Put before a flow, as in `(Rescale::to_unit(256), flow)`, it makes the flow's density one of the data as they were: nothing has to be added to
/// bits per dimension by hand.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Rescale {
    /// a.
    pub factor: f64,
    /// b.
    pub shift: f64,
}

impl Rescale {
    /// Takes \[0, levels) to \[0, 1).
    pub fn to_unit(levels: u32) -> Self {
        Self { factor: 1.0 / f64::from(levels.max(1)), shift: 0.0 }
    }
}

impl Invertible for Rescale {
    fn check(&self, _: Direction, _: Facts<'_>, input: Shape) -> Result<Shape> {
        if self.factor == 0.0 || !self.factor.is_finite() || !self.shift.is_finite() {
            return Err(Error::config("rescale", format!("expected a finite factor other than 0 and a finite shift, got {self:?}")));
        }
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (shape, per_sample) = (x.shape(), logdet.shape());
        let (factor, shift) = match dir {
            Direction::Forward => (self.factor, self.shift),
            Direction::Inverse => (1.0 / self.factor, -self.shift / self.factor),
        };
        at.backend().zip(&Linear(factor, shift), shape, &[], &mut [x.update()], &mut [], &mut [])?;
        let constant = shape.sample_len() as f64 * factor.abs().ln();
        at.backend().zip(&Linear(1.0, constant), per_sample, &[], &mut [logdet.update()], &mut [], &mut [])
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        _: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let shape = y.shape();
        // The state goes back through the other map; the cotangent through the transpose of this one.
        let (back, slope) = match dir {
            Direction::Forward => (Linear(1.0 / self.factor, -self.shift / self.factor), self.factor),
            Direction::Inverse => (Linear(self.factor, self.shift), 1.0 / self.factor),
        };
        at.backend().zip(&back, shape, &[], &mut [y.update()], &mut [], &mut [])?;
        at.backend().zip(&Linear(slope, 0.0), shape, &[], &mut [gy.update()], &mut [], &mut [])
    }
}

#[derive(Clone, Copy)]
struct Linear(f64, f64);
impl Kernel for Linear {
    const READ: usize = 0;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, self.1, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], _: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = u[0] * update[0] + u[1];
    }
}

/// y = logit(α + (1 - 2 α) x) for x in \[0, 1\] (Dinh et al. 2017, section 4.1).
///
/// With p = α + (1 - 2 α) x: y = ln p - ln(1 - p), dy/dx = (1 - 2 α) / (p (1 - p)), ℓ = Σ ln(dy/dx), dℓ/dx = (1 - 2 α)(2 p - 1) / (p (1 - p)).
/// As a function of y, ln(dy/dx) = ln(1 - 2 α) + softplus(y) + softplus(-y), which is stable at any y.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Logit {
    /// α, how far the ends are kept from 0 and 1: between 0 and 1/2.
    pub alpha: f64,
}

impl Default for Logit {
    /// α = 0.05.
    fn default() -> Self {
        Self { alpha: 0.05 }
    }
}

impl Invertible for Logit {
    fn check(&self, _: Direction, _: Facts<'_>, input: Shape) -> Result<Shape> {
        if (0.0..0.5).contains(&self.alpha) {
            Ok(input)
        } else {
            Err(Error::config("alpha", format!("expected 0 <= alpha < 0.5, got {}", self.alpha)))
        }
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let shape = x.shape();
        let kernel = LogitMap { alpha: self.alpha, dir };
        at.backend().zip(&kernel, shape, &[], &mut [x.update()], &mut [], &mut [logdet.update()])
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        _: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let shape = y.shape();
        let kernel = LogitPull { alpha: self.alpha, dir };
        at.backend().zip(&kernel, shape, &[gl.over_channels(shape)], &mut [y.update(), gy.update()], &mut [], &mut [])
    }
}

#[derive(Clone, Copy)]
struct LogitMap {
    alpha: f64,
    dir: Direction,
}
impl Kernel for LogitMap {
    const READ: usize = 0;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        let width = 1.0 - 2.0 * self.alpha;
        [self.alpha, width, width.ln(), 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], _: &[T], update: &mut [T], _: &mut [T], logdet: &mut [T]) {
        match self.dir {
            Direction::Forward => {
                let p = u[0] + u[1] * update[0];
                let y = p.ln() - (T::one() - p).ln();
                update[0] = y;
                logdet[0] = u[2] + y.softplus() + (-y).softplus();
            }
            Direction::Inverse => {
                let y = update[0];
                update[0] = (y.sigmoid() - u[0]) / u[1];
                logdet[0] = -(u[2] + y.softplus() + (-y).softplus());
            }
        }
    }
}

#[derive(Clone, Copy)]
struct LogitPull {
    alpha: f64,
    dir: Direction,
}
impl Kernel for LogitPull {
    const READ: usize = 1;
    const UPDATE: usize = 2;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.alpha, 1.0 - 2.0 * self.alpha, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        let gl = read[0];
        match self.dir {
            Direction::Forward => {
                let (y, g) = (update[0], update[1]);
                let (p, q) = (y.sigmoid(), (-y).sigmoid());
                // dy/dx = width / (p q); dℓ/dx = width (p - q) / (p q).
                let slope = u[1] / (p * q);
                (update[0], update[1]) = ((p - u[0]) / u[1], slope * (g + gl * (p - q)));
            }
            Direction::Inverse => {
                let (x, g) = (update[0], update[1]);
                let p = u[0] + u[1] * x;
                let q = T::one() - p;
                let y = p.ln() - q.ln();
                // dx/dy = p q / width; d(-ℓ)/dy = -(p - q).
                (update[0], update[1]) = (y, p * q / u[1] * g - gl * (p - q));
            }
        }
    }
}

/// Adds uniform noise in \[0, 1) to whole numbers, so that a density on real numbers bounds the probability of the whole ones from below
/// (Theis et al. 2016, arXiv:1511.01844): E ln p(x + u) <= ln P(x). A random map without a log-determinant of its own.
pub fn dequantize<T: inn_core::Element>(values: &mut [T], rng: &mut rand_chacha::ChaCha8Rng) {
    for value in values {
        *value = T::from_f64(value.to_f64() + rng.random::<f64>());
    }
}
