//! Quadrature: the Gauss-Legendre rule on panels, and entropies.

use super::{Entropy, Target};
use inn_core::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Nodes of a panel.
pub(super) const NODES: usize = 16;

/// The Gauss-Legendre rule of [`NODES`] nodes on [-1, 1].
pub(super) struct Rule([(f64, f64); NODES]);

impl Rule {
    /// Nodes by Newton's method from Chebyshev's (Press et al., Numerical Recipes, 4.6.1); weights 2/((1 - x²) P'(x)²).
    pub(super) fn legendre() -> Self {
        Self(std::array::from_fn(|i| {
            let n = NODES as f64;
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..8 {
                let (mut before, mut p) = (1.0, x);
                for k in 2..=NODES {
                    let k = k as f64;
                    (before, p) = (p, ((2.0 * k - 1.0) * x * p - (k - 1.0) * before) / k);
                }
                slope = n * (before - x * p) / (1.0 - x * x);
                x -= p / slope;
            }
            (x, 2.0 / ((1.0 - x * x) * slope * slope))
        }))
    }

    /// Nodes and weights on an interval cut into equal panels.
    pub(super) fn panels(&self, interval: Range<f64>, count: usize) -> impl Iterator<Item = (f64, f64)> {
        let half = 0.5 * (interval.end - interval.start) / count as f64;
        (0..count).flat_map(move |panel| {
            let middle = interval.start + half * (2 * panel + 1) as f64;
            self.0.iter().map(move |&(x, w)| (middle + half * x, half * w))
        })
    }
}

/// The most points of a grid; above it a mean over samples takes its place.
const MOST_POINTS: f64 = 4e6;

/// Samples of a mean.
const SAMPLES: usize = 200_000;

/// The entropy of a density that is a Gaussian of deviation `width` convolved with something.
///
/// In one and two dimensions it is the trapezoidal rule over the region, which for such densities converges faster than any power of the
/// spacing h (the first term that it neglects falls as exp(-2 π² width²/h²)), with h = width/3; the error is the change from h = width/2, plus what
/// lies outside. Elsewhere it is a mean over samples.
pub(super) fn entropy<D: Target>(target: &D, width: f64) -> Result<Entropy> {
    let region = target.region();
    let points: f64 = region.iter().map(|r| (r.end - r.start) * 3.0 / width).product();
    if region.len() > 2 || points.is_nan() || points > MOST_POINTS {
        let log_prob = target.log_prob(&target.sample(SAMPLES, 0)?.view())?;
        let n = log_prob.len() as f64;
        let nats = -log_prob.iter().sum::<f64>() / n;
        let variance = log_prob.iter().map(|l| (l + nats).powi(2)).sum::<f64>() / (n - 1.0);
        return Ok(Entropy { nats, error: 4.0 * (variance / n).sqrt() });
    }
    let (fine, coarse) = (on_grid(target, &region, width / 3.0), on_grid(target, &region, width / 2.0));
    // Outside is less than 1e-8 of the mass of each axis' normal (six deviations), with -ln p of about 20.
    Ok(Entropy { nats: fine, error: (fine - coarse).abs() + 1e-6 })
}

/// -Σ p ln p h^n over a grid of one or two axes with spacings of at most `spacing`.
fn on_grid<D: Target>(target: &D, region: &[Range<f64>], spacing: f64) -> f64 {
    let axes: Vec<(f64, f64, usize)> = region
        .iter()
        .map(|r| {
            let count = ((r.end - r.start) / spacing).ceil().max(1.0);
            (r.start, (r.end - r.start) / count, count as usize)
        })
        .collect();
    let cell: f64 = axes.iter().map(|a| a.1).product();
    let Some((&(start, step, count), rest)) = axes.split_last() else { return 0.0 };
    let &(start0, step0, rows) = rest.first().unwrap_or(&(0.0, 0.0, 0));
    let sums: Vec<f64> = (0..=rows)
        .into_par_iter()
        .map(|row| {
            let mut x = [start0 + step0 * row as f64, 0.0];
            let mut sum = 0.0;
            for column in 0..=count {
                x[1] = start + step * column as f64;
                let log = target.log_density(&x[2 - axes.len()..]);
                if log > f64::NEG_INFINITY {
                    sum -= log.exp() * log;
                }
            }
            sum
        })
        .collect();
    cell * sums.iter().sum::<f64>()
}
