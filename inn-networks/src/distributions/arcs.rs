//! Curves blurred by a Gaussian: two moons, rings, the swirl.

use super::quadrature::{self, NODES, Rule};
use super::{Entropy, Target, choose, normalized, standard_normal, uniform};
use inn_core::{Error, Result};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::{PI, TAU};
use std::ops::Range;

/// A curve in the plane with a distribution of points along it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arc {
    /// Uniform on the part of a circle between two angles, counted from the x axis towards the y axis.
    Circle {
        /// The middle of the circle.
        centre: [f64; 2],
        /// Its radius.
        radius: f64,
        /// The angles in radians, `from < to`.
        from: f64,
        /// The other end.
        to: f64,
    },
    /// The spiral scale·(-t cos t, t sin t) for t = T √U with U uniform in (0, 1): about evenly spread along it (InvertibleNetworks.jl).
    Spiral {
        /// T in radians.
        angle: f64,
        /// The growth of the radius a radian.
        scale: f64,
    },
}

impl Arc {
    fn validate(&self) -> Result<()> {
        match *self {
            Self::Circle { centre, radius, from, to } => {
                super::positive("radius", radius)?;
                super::positive("angle of an arc", to - from)?;
                inn_core::tensor::expect_finite("centre and angles of an arc", &[centre[0], centre[1], from, to])
            }
            Self::Spiral { angle, scale } => super::positive("angle", angle).and_then(|()| super::positive("scale", scale)),
        }
    }

    /// The interval of the parameter.
    fn interval(&self) -> Range<f64> {
        match *self {
            Self::Circle { from, to, .. } => from..to,
            Self::Spiral { angle, .. } => 0.0..angle,
        }
    }

    fn point(&self, t: f64) -> [f64; 2] {
        let (s, c) = t.sin_cos();
        match *self {
            Self::Circle { centre, radius, .. } => [centre[0] + radius * c, centre[1] + radius * s],
            Self::Spiral { scale, .. } => [-scale * t * c, scale * t * s],
        }
    }

    /// The density of the parameter.
    fn density(&self, t: f64) -> f64 {
        match *self {
            Self::Circle { from, to, .. } => 1.0 / (to - from),
            Self::Spiral { angle, .. } => 2.0 * t / (angle * angle),
        }
    }

    fn parameter(&self, u: f64) -> f64 {
        match *self {
            Self::Circle { from, to, .. } => from + (to - from) * u,
            Self::Spiral { angle, .. } => angle * u.sqrt(),
        }
    }

    /// The length of the curve at most.
    fn length(&self) -> f64 {
        match *self {
            Self::Circle { radius, from, to, .. } => radius * (to - from),
            // The speed is scale √(1 + t²).
            Self::Spiral { angle, scale } => scale * angle * (1.0 + 0.5 * angle),
        }
    }
}

/// The most nodes that a density is summed over.
const MOST_NODES: f64 = 1e6;

/// Points on curves plus a normal displacement of deviation σ in both coordinates.
///
/// With c_k the curves, w_k their weights and ρ_k the density of the parameter t along them,
/// ```text
/// p(y) = Σ w_k ∫ ρ_k(t) N(y; c_k(t), σ² I) dt.
/// ```
/// The integral is a Gauss-Legendre rule of 16 nodes on panels of about 1.5σ, where it converges geometrically: the relative error of p is below 1e-9
/// within the region (a test compares it with the closed form of a full ring, which has a Bessel function, and with finer panels).
#[derive(Clone, Debug)]
pub struct Arcs {
    arcs: Vec<Arc>,
    weights: Vec<f64>,
    deviation: f64,
    /// Place and logarithm of the weight of each node.
    nodes: Vec<([f64; 2], f64)>,
}

impl Arcs {
    /// Curves with weights, which are divided by their sum, and the deviation σ.
    ///
    /// # Errors
    /// No curves, another number of weights, settings that are not positive or finite, curves too long for their σ to be summed over.
    pub fn new(arcs: &[Arc], weights: &[f64], deviation: f64) -> Result<Self> {
        if arcs.is_empty() || arcs.len() != weights.len() {
            return Err(Error::shape("arcs", "a weight for each of one or more", format!("{} and {} weights", arcs.len(), weights.len())));
        }
        super::positive("deviation", deviation)?;
        arcs.iter().try_for_each(Arc::validate)?;
        let weights = normalized(weights)?;
        Self { arcs: arcs.to_vec(), weights, deviation, nodes: Vec::new() }.with_panels(1.5)
    }

    /// The nodes, on panels of at most `width` deviations along the curve.
    fn with_panels(mut self, width: f64) -> Result<Self> {
        let panels = |arc: &Arc| (arc.length() / (width * self.deviation)).ceil().max(1.0);
        let count = self.arcs.iter().map(panels).sum::<f64>() * NODES as f64;
        if count.is_nan() || count > MOST_NODES {
            return Err(Error::config("deviation", format!("{count} nodes for curves this long; expected at most {MOST_NODES}")));
        }
        let rule = Rule::legendre();
        let normal = -TAU.ln() - 2.0 * self.deviation.ln();
        self.nodes.clear();
        for (arc, weight) in self.arcs.iter().zip(&self.weights) {
            for (t, w) in rule.panels(arc.interval(), panels(arc) as usize) {
                self.nodes.push((arc.point(t), (weight * arc.density(t) * w).ln() + normal));
            }
        }
        Ok(self)
    }

    /// Two half circles of radius 1 that reach into each other: one around (0, 0) above, one around (1, ½) below.
    ///
    /// # Errors
    /// A deviation that is not positive, or too small to be summed over.
    pub fn two_moons(deviation: f64) -> Result<Self> {
        let upper = Arc::Circle { centre: [0.0, 0.0], radius: 1.0, from: 0.0, to: PI };
        let lower = Arc::Circle { centre: [1.0, 0.5], radius: 1.0, from: PI, to: TAU };
        Self::new(&[upper, lower], &[1.0, 1.0], deviation)
    }

    /// Rings around the origin with equal mass in each.
    ///
    /// # Errors
    /// No rings, radii or a deviation that are not positive, a deviation too small to be summed over.
    pub fn rings(radii: &[f64], deviation: f64) -> Result<Self> {
        let ring = |&radius: &f64| Arc::Circle { centre: [0.0, 0.0], radius, from: 0.0, to: TAU };
        Self::new(&radii.iter().map(ring).collect::<Vec<_>>(), &vec![1.0; radii.len()], deviation)
    }

    /// The spiral of InvertibleNetworks.jl, with T = 800° and its size divided by 4, blurred by a normal instead of a uniform displacement.
    ///
    /// # Errors
    /// A deviation that is not positive, or too small to be summed over.
    pub fn swirl(deviation: f64) -> Result<Self> {
        Self::new(&[Arc::Spiral { angle: 800.0f64.to_radians(), scale: 0.25 }], &[1.0], deviation)
    }
}

impl Target for Arcs {
    fn dimension(&self) -> usize {
        2
    }

    fn log_density(&self, x: &[f64]) -> f64 {
        let [a, b] = *x else { return f64::NAN };
        if !super::all_finite(x) {
            return f64::NAN;
        }
        let half = 0.5 / (self.deviation * self.deviation);
        let term = |&([p, q], weight): &([f64; 2], f64)| weight - half * ((a - p).powi(2) + (b - q).powi(2));
        let highest = self.nodes.iter().map(term).fold(f64::NEG_INFINITY, f64::max);
        if highest == f64::NEG_INFINITY {
            return highest;
        }
        // What is e^-45 of the largest term does not change the sum.
        let sum: f64 = self.nodes.iter().map(|node| term(node) - highest).filter(|d| *d > -45.0).map(f64::exp).sum();
        highest + sum.ln()
    }

    fn draw(&self, rng: &mut ChaCha8Rng, x: &mut [f64]) {
        let [a, b] = x else { return };
        let Some(arc) = self.arcs.get(choose(rng, self.weights.iter().copied())) else { return };
        let [p, q] = arc.point(arc.parameter(uniform(rng)));
        *a = p + self.deviation * standard_normal(rng);
        *b = q + self.deviation * standard_normal(rng);
    }

    fn entropy(&self) -> Result<Entropy> {
        quadrature::entropy(self, self.deviation)
    }

    fn region(&self) -> Vec<Range<f64>> {
        let margin = 6.0 * self.deviation;
        let side = |i: usize| {
            let ends = self.nodes.iter().map(|node| node.0[i]).fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], v| [l.min(v), h.max(v)]);
            ends[0] - margin..ends[1] + margin
        };
        vec![side(0), side(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// e^-x I₀(x) by its series, or for large x by its asymptotic expansion (DLMF 10.25.2, 10.40.1).
    fn scaled_bessel(x: f64) -> f64 {
        let (mut term, mut sum) = (1.0, 1.0);
        if x < 30.0 {
            for k in 1..200 {
                term *= (0.5 * x / k as f64).powi(2);
                sum += term;
            }
            return sum * (-x).exp();
        }
        for k in 1..20 {
            term *= (2.0 * k as f64 - 1.0).powi(2) / (8.0 * k as f64 * x);
            sum += term;
        }
        sum / (TAU * x).sqrt()
    }

    #[test]
    fn a_ring_has_its_closed_form() {
        let (radius, deviation) = (1.5, 0.2);
        let ring = Arcs::rings(&[radius], deviation).unwrap();
        let variance = deviation * deviation;
        for r in [0.0f64, 0.3, 1.0, 1.5, 1.9, 2.7] {
            let x = r * radius / variance;
            let exact = -0.5 * (r - radius).powi(2) / variance + scaled_bessel(x).ln() - (TAU * variance).ln();
            let got = ring.log_density(&[r * 0.6, -r * 0.8]);
            assert!((got - exact).abs() < 1e-9, "{r}: {got} against {exact}");
        }
    }

    #[test]
    fn finer_panels_change_nothing() {
        for arcs in [Arcs::two_moons(0.1).unwrap(), Arcs::swirl(0.1).unwrap()] {
            let fine = arcs.clone().with_panels(0.5).unwrap();
            let region = arcs.region();
            for i in 0..400 {
                let at = |axis: usize, u: f64| region[axis].start + (region[axis].end - region[axis].start) * u.fract();
                let x = [at(0, i as f64 * 0.618_034), at(1, i as f64 * 0.754_878)];
                let (a, b) = (arcs.log_density(&x), fine.log_density(&x));
                assert!((a - b).abs() < 1e-9, "{x:?}: {a} against {b}");
            }
        }
    }
}
