//! The total-variation ball.

use super::{Set, Solved, norm, simplex, size};
use inn_core::{Error, Result, Shape};

/// How the differences along the axes make up the total variation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variation {
    /// Σ over pixels and axes of |difference|.
    Anisotropic,
    /// Σ over pixels of the length of the vector of differences.
    Isotropic,
}

/// TV(x) <= r, with forward differences D along the 1 to 3 axes of each channel (0 at the far border), summed over the channels of a sample.
///
/// # Algorithm
/// P(y) = argmin ½|x - y|² subject to |D x|_{2,1} <= r has the dual min over p of ½|y - Dᵀp|² + r max_i |p_i|, where i runs over pixels (isotropic)
/// or single differences (anisotropic), and x = y - Dᵀp. It is solved by accelerated proximal gradients (Beck & Teboulle 2009) with step 1/(4 axes),
/// which is below 1/|D|², restarted where momentum and step disagree (O'Donoghue & Candès 2015). The proximal map of r max|p_i| takes away the projection onto an
/// l1 ball of radius r, so that it cuts all |p_i| at the τ of [`Simplex`](super::Simplex): O(n) expected an iteration.
///
/// # Stopping rule
/// x is drawn towards the mean m of its channels to the feasible point x̂ = m + (x - m) min(1, r/TV(x)), which is what is returned: it lies in the
/// ball whatever the tolerance. With w = x̂ - x and u = Dᵀp the duality gap is
/// ```text
/// G = ½|x̂ - y|² - (½|y|² - ½|y - u|² - r max|p_i|) = ½|w|² - <w, u> + r max|p_i| - <D x, p>,
/// ```
/// and by strong convexity |x̂ - P(y)| <= √(2 G). That bound is the residual; the iteration stops where it is below `tolerance` times |y - m|.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TotalVariation {
    radius: f64,
    variation: Variation,
    tolerance: f64,
    max_iterations: usize,
}

/// Iterations between two looks at the gap.
const LOOK: usize = 10;

impl TotalVariation {
    /// With r = `radius`, a tolerance of 1e-6 and at most 50,000 iterations.
    ///
    /// # Errors
    /// [`Error::Config`]: a radius that is negative, where the set is empty, or not finite.
    pub fn new(radius: f64, variation: Variation) -> Result<Self> {
        size("radius", radius)?;
        Ok(Self { radius, variation, tolerance: 1e-6, max_iterations: 50_000 })
    }

    /// The same with another stopping rule.
    ///
    /// # Errors
    /// [`Error::Config`]: a tolerance below 1e-7, which the rounding of G does not let one see, or no iterations.
    pub fn with_stopping(self, tolerance: f64, max_iterations: usize) -> Result<Self> {
        if !(tolerance >= 1e-7 && tolerance.is_finite()) || max_iterations == 0 {
            let got = format!("{tolerance} and {max_iterations}");
            return Err(Error::config("stopping rule", format!("expected a tolerance >= 1e-7 and at least one iteration, got {got}")));
        }
        Ok(Self { tolerance, max_iterations, ..self })
    }

    /// TV of one sample, row-major.
    fn of(&self, grid: &Differences, x: &[f64], d: &mut [f64]) -> f64 {
        grid.forward(x, d);
        self.lengths(grid, d).sum()
    }

    /// |d_i| of each group.
    fn lengths<'a>(&self, grid: &Differences, d: &'a [f64]) -> impl Iterator<Item = f64> + Clone + 'a {
        let (n, axes) = match self.variation {
            Variation::Anisotropic => (d.len(), 1),
            Variation::Isotropic => (grid.len, grid.axes()),
        };
        (0..n).map(move |i| match axes {
            1 => d[i].abs(),
            _ => (0..axes).map(|axis| d[axis * n + i].powi(2)).sum::<f64>().sqrt(),
        })
    }

    /// Cuts all lengths at the τ for which what is cut off sums to `budget`; to zero if they sum to less.
    fn clip(&self, grid: &Differences, d: &mut [f64], budget: f64) {
        let lengths: Vec<f64> = self.lengths(grid, d).collect();
        if lengths.iter().sum::<f64>() <= budget {
            return d.fill(0.0);
        }
        let tau = simplex::threshold(lengths.iter().copied(), budget);
        let factors: Vec<f64> = lengths.iter().map(|g| if *g > tau { tau.max(0.0) / g } else { 1.0 }).collect();
        d.iter_mut().zip(factors.iter().cycle()).for_each(|(d, factor)| *d *= factor);
    }
}

/// D and its adjoint on a sample of channels.
struct Differences {
    len: usize,
    /// Extent and stride of each axis.
    strides: Vec<(usize, usize)>,
}

impl Differences {
    fn new(sample: Shape) -> Self {
        let mut stride = 1;
        let mut strides = Vec::with_capacity(3);
        for &extent in sample.spatial().iter().rev() {
            strides.push((extent, stride));
            stride *= extent;
        }
        Self { len: sample.sample_len(), strides }
    }

    fn axes(&self) -> usize {
        self.strides.len()
    }

    /// d = D x, axis after axis.
    fn forward(&self, x: &[f64], d: &mut [f64]) {
        for (&(extent, stride), d) in self.strides.iter().zip(d.chunks_exact_mut(self.len)) {
            let block = extent * stride;
            for (x, d) in x.chunks_exact(block).zip(d.chunks_exact_mut(block)) {
                let (inner, border) = d.split_at_mut(block - stride);
                inner.iter_mut().zip(&x[stride..]).zip(x).for_each(|((d, next), x)| *d = next - x);
                border.fill(0.0);
            }
        }
    }

    /// x = y - Dᵀ p.
    fn residual(&self, y: &[f64], p: &[f64], x: &mut [f64]) {
        x.copy_from_slice(y);
        for (&(extent, stride), p) in self.strides.iter().zip(p.chunks_exact(self.len)) {
            let block = extent * stride;
            for (x, p) in x.chunks_exact_mut(block).zip(p.chunks_exact(block)) {
                let inner = &p[..block - stride];
                x.iter_mut().zip(inner).for_each(|(x, p)| *x += p);
                x[stride..].iter_mut().zip(inner).for_each(|(x, p)| *x -= p);
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Set for TotalVariation {
    fn check(&self, sample: Shape) -> Result<()> {
        if sample.rank() > 0 && !sample.is_empty() {
            Ok(())
        } else {
            Err(Error::shape("tensor of bounded variation", "1 to 3 spatial axes", sample))
        }
    }

    /// # Errors
    /// [`Error::Config`]: the tolerance is not reached within `max_iterations`.
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        self.check(sample)?;
        super::expect_len("tensor of bounded variation", sample, x.len())?;
        let grid = Differences::new(sample);
        let (n, axes, r) = (grid.len, grid.axes(), self.radius);
        let mut d = vec![0.0; axes * n];
        if self.of(&grid, x, &mut d) <= r {
            return Ok(Solved::EXACT);
        }
        // The mean of each channel stays, and without it nothing large cancels.
        let means: Vec<f64> = x.chunks_exact(sample.pixels()).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
        let channels = |x: &mut [f64], sign: f64| {
            x.chunks_exact_mut(sample.pixels()).zip(&means).for_each(|(c, m)| c.iter_mut().for_each(|v| *v += sign * m));
        };
        channels(x, -1.0);
        if r == 0.0 {
            x.fill(0.0);
            channels(x, 1.0);
            return Ok(Solved::EXACT);
        }
        let y = x.to_vec();
        let goal = self.tolerance * norm(y.iter().copied());
        let step = 1.0 / (4 * axes) as f64;
        let (mut p, mut ahead, mut before) = (vec![0.0; axes * n], vec![0.0; axes * n], vec![0.0; axes * n]);
        let (mut momentum, mut residual) = (1.0f64, f64::INFINITY);
        for iteration in 1..=self.max_iterations {
            grid.residual(&y, &ahead, x);
            grid.forward(x, &mut d);
            before.copy_from_slice(&p);
            p.iter_mut().zip(&ahead).zip(&d).for_each(|((p, ahead), d)| *p = ahead + step * d);
            self.clip(&grid, &mut p, step * r);
            let agreement: f64 = ahead.iter().zip(&p).zip(&before).map(|((a, p), b)| (a - p) * (p - b)).sum();
            let next = if agreement > 0.0 { 1.0 } else { 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) };
            let weight = if agreement > 0.0 { 0.0 } else { (momentum - 1.0) / next };
            momentum = next;
            ahead.iter_mut().zip(&p).zip(&before).for_each(|((a, p), b)| *a = p + weight * (p - b));

            if iteration % LOOK == 0 || iteration == self.max_iterations {
                grid.residual(&y, &p, x);
                let variation = self.of(&grid, x, &mut d);
                let largest = self.lengths(&grid, &p).fold(0.0, f64::max);
                // Rounding must not leave x̂ outside.
                let factor = (r / variation).min(1.0);
                let u = || y.iter().zip(x.iter()).map(|(y, x)| y - x);
                let w = || x.iter().map(|x| (factor - 1.0) * x);
                let gap = w().zip(u()).map(|(w, u)| w * (0.5 * w - u)).sum::<f64>() + r * largest - dot(&d, &p);
                // Not below 0 but for rounding; NaN, after an overflow, is no small gap.
                residual = if gap.is_nan() { f64::INFINITY } else { (2.0 * gap.max(0.0)).sqrt() };
                if residual <= goal {
                    x.iter_mut().for_each(|x| *x *= factor);
                    channels(x, 1.0);
                    return Ok(Solved { iterations: iteration, residual });
                }
            }
        }
        Err(Error::config(
            "total variation",
            format!(
                "expected a point within {goal:e} after {} iterations, got one within {residual:e}; allow more, or a larger tolerance",
                self.max_iterations
            ),
        ))
    }

    /// In units of TV.
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        let grid = Differences::new(sample);
        if x.len() != grid.len {
            return f64::NAN;
        }
        let variation = self.of(&grid, x, &mut vec![0.0; grid.axes() * grid.len]);
        if variation.is_nan() { variation } else { (variation - self.radius).max(0.0) }
    }
}
