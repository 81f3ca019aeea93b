//! Points, directions and gradients on the host: lists of named blocks of numbers.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// An element of a product of vector spaces: the state, each condition, each parameter; or outputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blocks(pub Vec<Vec<f64>>);

impl Blocks {
    pub fn zeros_like(&self) -> Self {
        Self(self.0.iter().map(|block| vec![0.0; block.len()]).collect())
    }

    /// self + a x.
    pub fn plus(&self, a: f64, x: &Self) -> Self {
        let blocks = self.0.iter().zip(&x.0);
        Self(blocks.map(|(s, x)| s.iter().zip(x).map(|(s, x)| s + a * x).collect()).collect())
    }

    /// a self.
    pub fn times(&self, a: f64) -> Self {
        Self(self.0.iter().map(|block| block.iter().map(|v| a * v).collect()).collect())
    }

    pub fn dot(&self, x: &Self) -> f64 {
        self.0.iter().zip(&x.0).map(|(a, b)| dot(a, b)).sum()
    }

    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    /// All but one block zero.
    pub fn only(&self, block: usize) -> Self {
        let mut out = self.zeros_like();
        if let (Some(to), Some(from)) = (out.0.get_mut(block), self.0.get(block)) {
            to.clone_from(from);
        }
        out
    }

    /// Σ |self_b| |x_b|: the size of an inner product whose terms do not cancel.
    pub fn scale(&self, x: &Self) -> f64 {
        self.0.iter().zip(&x.0).map(|(a, b)| norm(a) * norm(b)).sum()
    }

    pub fn is_finite(&self) -> bool {
        self.0.iter().flatten().all(|v| v.is_finite())
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// max |a - b| / max(|b|_∞, floor); not a number where either is not finite.
pub(super) fn deviation(a: &[f64], b: &[f64], floor: f64) -> f64 {
    if a.len() != b.len() || a.iter().chain(b).any(|v| !v.is_finite()) {
        return f64::NAN;
    }
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / b.iter().fold(floor, |m, v| m.max(v.abs()))
}

/// |a - b| / (|a| + |b|), and 0 where both are 0 up to `tiny`.
pub(super) fn relative(a: &[f64], b: &[f64], tiny: f64) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let (d, size) = (norm(&difference), norm(a) + norm(b));
    if d <= tiny { 0.0 } else { d / size }
}

/// The larger of two values; not a number if either is not.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Random numbers of the harness.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// `len` standard normal numbers.
    pub fn normal(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| StandardNormal.sample(&mut self.0)).collect()
    }

    /// `len` numbers uniform in [low, high); `low` where the interval is empty.
    pub fn uniform(&mut self, low: f64, high: f64, len: usize) -> Vec<f64> {
        match Uniform::new(low, high) {
            Ok(distribution) => (0..len).map(|_| distribution.sample(&mut self.0)).collect(),
            Err(_) => vec![low; len],
        }
    }

    /// `x` with every number times 1 + `by` u, u uniform in ±1.
    pub fn shaken(&mut self, x: &Blocks, by: f64) -> Blocks {
        let moved = |block: &Vec<f64>| block.iter().zip(self.uniform(-by, by, block.len())).map(|(v, u)| v * (1.0 + u)).collect();
        Blocks(x.0.iter().map(moved).collect())
    }

    pub fn like(&mut self, x: &Blocks) -> Blocks {
        Blocks(x.0.iter().map(|block| self.normal(block.len())).collect())
    }
}
