//! Normal distributions and their mixtures.

use super::{Entropy, Target, choose, log_sum_exp, normalized, quadrature, standard_normal};
use inn_core::tensor::expect_finite;
use inn_core::{Error, Result};
use ndarray::ArrayView2;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{E, PI};
use std::ops::Range;

/// The most dimensions of an isotropic normal, and the most parts of a mixture on a circle.
const MOST: usize = 10_000;

/// Refuses numbers of parts that would fill the memory.
pub(super) fn parts(count: usize) -> Result<()> {
    if (1..=MOST).contains(&count) { Ok(()) } else { Err(Error::config("parts", format!("expected 1 to {MOST}, got {count}"))) }
}

/// The normal distribution with mean μ and covariance Σ = L Lᵀ in n dimensions.
///
/// With z = L⁻¹ (x - μ), ln p(x) = -|z|²/2 - Σ ln L_ii - n/2 ln 2π; the entropy is n/2 ln 2πe + Σ ln L_ii.
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    mean: Vec<f64>,
    /// L, row by row, with zeros above the diagonal.
    root: Vec<f64>,
}

impl Normal {
    /// With mean (n) and covariance (n, n), of which the lower triangle is read.
    ///
    /// # Errors
    /// Sizes that do not fit, values that are not finite, a covariance that is not symmetric and positive definite.
    pub fn new(mean: &[f64], covariance: &ArrayView2<'_, f64>) -> Result<Self> {
        let n = mean.len();
        if n == 0 || covariance.dim() != (n, n) {
            return Err(Error::shape("covariance", format!("({n}, {n}) for {n} > 0 means"), format!("{:?}", covariance.dim())));
        }
        let values: Vec<f64> = covariance.iter().copied().collect();
        expect_finite("mean", mean)?;
        expect_finite("covariance", &values)?;
        let largest = values.iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let asymmetric = covariance.indexed_iter().any(|((i, j), v)| (v - covariance[(j, i)]).abs() > 1e-12 * largest);
        let refuse = || Error::config("covariance", "expected a symmetric positive definite matrix");
        if asymmetric {
            return Err(refuse());
        }
        let mut root = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| root[i * n + k] * root[j * n + k]).sum();
                let rest = values[i * n + j] - dot;
                root[i * n + j] = if i > j {
                    rest / root[j * n + j]
                } else if rest > 0.0 {
                    rest.sqrt()
                } else {
                    return Err(refuse());
                };
            }
        }
        Ok(Self { mean: mean.to_vec(), root })
    }

    /// With independent components of one deviation σ.
    ///
    /// # Errors
    /// No means, a deviation that is not positive, values that are not finite.
    pub fn isotropic(mean: &[f64], deviation: f64) -> Result<Self> {
        super::positive("deviation", deviation)?;
        expect_finite("mean", mean)?;
        let n = mean.len();
        if !(1..=MOST).contains(&n) {
            return Err(Error::shape("mean", format!("1 to {MOST} values"), n));
        }
        let mut root = vec![0.0; n * n];
        root.iter_mut().step_by(n + 1).for_each(|v| *v = deviation);
        Ok(Self { mean: mean.to_vec(), root })
    }

    fn log_determinant(&self) -> f64 {
        self.root.iter().step_by(self.mean.len() + 1).map(|v| v.ln()).sum()
    }

    /// Σ_ii.
    fn variance(&self, i: usize) -> f64 {
        let n = self.mean.len();
        self.root[i * n..(i + 1) * n].iter().map(|v| v * v).sum()
    }

    /// A lower bound of the smallest deviation in any direction, for one and two dimensions: λ_min = det/λ_max >= det/trace.
    fn narrowest(&self) -> f64 {
        let n = self.mean.len();
        let trace: f64 = (0..n).map(|i| self.variance(i)).sum();
        if n == 1 { trace.sqrt() } else { self.log_determinant().exp() / trace.sqrt() }
    }
}

impl Target for Normal {
    fn dimension(&self) -> usize {
        self.mean.len()
    }

    fn log_density(&self, x: &[f64]) -> f64 {
        let n = self.mean.len();
        if x.len() != n || !super::all_finite(x) {
            return f64::NAN;
        }
        let mut z = vec![0.0; n];
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| self.root[i * n + k] * z[k]).sum();
            z[i] = (x[i] - self.mean[i] - dot) / self.root[i * n + i];
        }
        -0.5 * z.iter().map(|z| z * z).sum::<f64>() - self.log_determinant() - 0.5 * n as f64 * (2.0 * PI).ln()
    }

    fn draw(&self, rng: &mut ChaCha8Rng, x: &mut [f64]) {
        let n = self.mean.len();
        if x.len() != n {
            return;
        }
        x.copy_from_slice(&self.mean);
        for k in 0..n {
            let z = standard_normal(rng);
            for (i, x) in x.iter_mut().enumerate().skip(k) {
                *x += self.root[i * n + k] * z;
            }
        }
    }

    fn entropy(&self) -> Result<Entropy> {
        Ok(Entropy::exact(0.5 * self.mean.len() as f64 * (2.0 * PI * E).ln() + self.log_determinant()))
    }

    fn region(&self) -> Vec<Range<f64>> {
        let sides = self.mean.iter().enumerate();
        sides.map(|(i, m)| (m, 6.0 * self.variance(i).sqrt())).map(|(m, r)| m - r..m + r).collect()
    }
}

/// A mixture of normal distributions: p = Σ w_k N(μ_k, Σ_k).
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    weights: Vec<f64>,
    parts: Vec<Normal>,
}

impl Mixture {
    /// Parts with weights, which are divided by their sum.
    ///
    /// # Errors
    /// No parts, parts of different dimensions, another number of weights, weights that are negative or sum to zero.
    pub fn new(weights: &[f64], parts: Vec<Normal>) -> Result<Self> {
        let n = parts.first().map_or(0, Normal::dimension);
        if n == 0 || parts.len() != weights.len() || parts.iter().any(|p| p.dimension() != n) {
            let dimensions: Vec<usize> = parts.iter().map(Normal::dimension).collect();
            let got = format!("{} weights and parts of dimensions {dimensions:?}", weights.len());
            return Err(Error::shape("mixture", "a weight for each of one or more parts of one dimension", got));
        }
        Ok(Self { weights: normalized(weights)?, parts })
    }

    /// `count` equal normals of deviation σ, evenly on a circle around the origin.
    ///
    /// # Errors
    /// No parts or too many, a radius or deviation that is not positive.
    pub fn on_circle(count: usize, radius: f64, deviation: f64) -> Result<Self> {
        parts(count)?;
        super::positive("radius", radius)?;
        let angle = |k: usize| 2.0 * PI * k as f64 / count as f64;
        let part = |k| Normal::isotropic(&[radius * f64::cos(angle(k)), radius * f64::sin(angle(k))], deviation);
        Self::new(&vec![1.0; count], (0..count).map(part).collect::<Result<_>>()?)
    }
}

impl Target for Mixture {
    fn dimension(&self) -> usize {
        self.parts.first().map_or(0, Normal::dimension)
    }

    fn log_density(&self, x: &[f64]) -> f64 {
        if x.len() != self.dimension() || !super::all_finite(x) {
            return f64::NAN;
        }
        let terms: Vec<f64> = self.weights.iter().zip(&self.parts).map(|(w, p)| w.ln() + p.log_density(x)).collect();
        log_sum_exp(terms.iter().copied())
    }

    fn draw(&self, rng: &mut ChaCha8Rng, x: &mut [f64]) {
        if let Some(part) = self.parts.get(choose(rng, self.weights.iter().copied())) {
            part.draw(rng, x);
        }
    }

    fn entropy(&self) -> Result<Entropy> {
        let narrowest = self.parts.iter().map(Normal::narrowest).fold(f64::INFINITY, f64::min);
        quadrature::entropy(self, narrowest)
    }

    fn region(&self) -> Vec<Range<f64>> {
        let regions: Vec<_> = self.parts.iter().map(Normal::region).collect();
        let ends = |i: usize| regions.iter().filter_map(move |r| r.get(i));
        (0..self.dimension())
            .map(|i| ends(i).fold(f64::INFINITY, |a, r| a.min(r.start))..ends(i).fold(f64::NEG_INFINITY, |a, r| a.max(r.end)))
            .collect()
    }
}
