//! Spectral factorization of the Daubechies polynomial: db and sym filters.

/// A complex number, of which factorization needs four operations.
#[derive(Clone, Copy, Debug)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    const ONE: Self = Self { re: 1.0, im: 0.0 };

    fn add(self, o: Self) -> Self {
        Self { re: self.re + o.re, im: self.im + o.im }
    }
    fn sub(self, o: Self) -> Self {
        Self { re: self.re - o.re, im: self.im - o.im }
    }
    fn mul(self, o: Self) -> Self {
        Self { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }
    fn scale(self, a: f64) -> Self {
        Self { re: a * self.re, im: a * self.im }
    }
    fn reciprocal(self) -> Self {
        let n = self.re * self.re + self.im * self.im;
        Self { re: self.re / n, im: -self.im / n }
    }
    fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }
    /// The root with a real part of at least 0.
    fn sqrt(self) -> Self {
        let re = (0.5 * (self.abs() + self.re)).max(0.0).sqrt();
        let im = (0.5 * (self.abs() - self.re)).max(0.0).sqrt();
        Self { re, im: im.copysign(self.im) }
    }
}

/// The filters with N vanishing moments and 2 N taps are the factors h of
/// ```text
/// |h(z)|² = 2 (1 - y)^N P(y),    P(y) = Σ_{k<N} C(N-1+k, k) y^k,    y = (2 - z - 1/z)/4
/// ```
/// (Daubechies 1992, *Ten Lectures on Wavelets*, section 6.1): N zeros at -1, and of each pair z, 1/z that belongs to a root of P one.
#[derive(Clone, Debug)]
pub(super) struct Factorization {
    moments: usize,
    /// Zeros inside the unit circle that are real, then those of positive imaginary part, which stand for their conjugates as well.
    zeros: Vec<Complex>,
}

impl Factorization {
    /// For `moments` = N ≥ 1.
    pub(super) fn new(moments: usize) -> Self {
        // The zeros with |z| ≤ 1: z = 1 - 2 y ± 2 sqrt(y² - y), whose product is 1.
        let inside = roots(moments).into_iter().map(|y| {
            let root = y.mul(y).sub(y).sqrt().scale(2.0);
            let middle = Complex::ONE.sub(y.scale(2.0));
            let z = middle.add(root);
            if z.abs() <= 1.0 { z } else { middle.sub(root) }
        });
        // Roots come in conjugate pairs; the imaginary part of a real one is nothing but rounding.
        let real = |z: &Complex| z.im.abs() < 1e-8;
        let mut zeros: Vec<Complex> = inside.filter(|z| real(z) || z.im > 0.0).collect();
        zeros.sort_by_key(|z| !real(z));
        for z in zeros.iter_mut().filter(|z| real(z)) {
            z.im = 0.0;
        }
        Self { moments, zeros }
    }

    /// How many factors there are, a factor and its mirror image counted twice.
    pub(super) fn count(&self) -> usize {
        1 << self.zeros.len()
    }

    /// The factor whose zero i is 1/z_i where bit i of `outside` is set: 0 is the minimum-phase filter db. Unit norm, positive sum,
    /// highest power first.
    pub(super) fn filter(&self, outside: usize) -> Vec<f64> {
        let mut h = vec![Complex::ONE];
        let mut multiply = |zero: Complex| {
            h.push(Complex { re: 0.0, im: 0.0 });
            for i in (1..h.len()).rev() {
                h[i] = h[i].sub(zero.mul(h[i - 1]));
            }
        };
        (0..self.moments).for_each(|_| multiply(Complex::ONE.scale(-1.0)));
        for (i, &z) in self.zeros.iter().enumerate() {
            let z = if outside >> i & 1 == 1 { z.reciprocal() } else { z };
            multiply(z);
            if z.im != 0.0 {
                multiply(Complex { re: z.re, im: -z.im });
            }
        }
        let taps: Vec<f64> = h.iter().map(|c| c.re).collect();
        let norm = taps.iter().map(|h| h * h).sum::<f64>().sqrt().copysign(taps.iter().sum());
        taps.iter().map(|h| h / norm).collect()
    }
}

/// The roots of P, all at once by the iteration of Durand and Kerner: y_i -= P(y_i) / (a Π_{j≠i} (y_i - y_j)), a the leading coefficient.
fn roots(moments: usize) -> Vec<Complex> {
    // C(N-1+k, k), lowest power first.
    let coefficients: Vec<f64> = (1..moments)
        .scan(1.0, |c, k| {
            *c *= (moments - 1 + k) as f64 / k as f64;
            Some(*c)
        })
        .collect();
    let Some(&leading) = coefficients.last() else { return Vec::new() };
    let value = |y: Complex| coefficients.iter().rev().fold(Complex { re: 0.0, im: 0.0 }, |p, &c| p.add(Complex { re: c, im: 0.0 }).mul(y));
    let start = Complex { re: 0.4, im: 0.9 };
    let mut y: Vec<Complex> = std::iter::successors(Some(start), |y| Some(y.mul(start))).take(moments - 1).collect();
    for _ in 0..ITERATIONS {
        let mut moved = 0.0f64;
        for i in 0..y.len() {
            let others = (0..y.len()).filter(|&j| j != i).fold(Complex::ONE, |q, j| q.mul(y[i].sub(y[j])));
            let step = value(y[i]).add(Complex::ONE).mul(others.scale(leading).reciprocal());
            y[i] = y[i].sub(step);
            moved = moved.max(step.abs());
        }
        if moved < 1e-16 {
            break;
        }
    }
    y
}

/// Far more than the iteration takes for up to 10 moments, about 30.
const ITERATIONS: usize = 200;
