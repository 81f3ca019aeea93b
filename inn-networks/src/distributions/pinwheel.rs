//! The pinwheel.

use super::{Entropy, Mixture, Normal, Target};
use inn_core::{Error, Result};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::PI;
use std::ops::Range;

/// Arms of a wheel that are twisted: y = R(a |x|) x, where x follows a mixture of k normals, long along the radius, and R(φ) turns by φ.
///
/// A twist keeps |x|, so that its inverse is x = R(-a |y|) y, and its determinant is 1: p(y) is the mixture's density at R(-a |y|) y, and the
/// entropy is the mixture's. It is the picture of the pinwheel of Johnson et al. 2016 (arXiv:1603.06277), whose own map (an angle that depends on
/// one coordinate) is not one to one and has no density in closed form.
#[derive(Clone, Debug, PartialEq)]
pub struct Pinwheel {
    arms: Mixture,
    twist: f64,
}

impl Pinwheel {
    /// With `arms` arms at the distance `radius`, of deviations `along` and `across`, and the twist a in radians a unit of length.
    ///
    /// # Errors
    /// No arms or too many, lengths that are not positive, a twist that is not finite.
    pub fn new(arms: usize, radius: f64, along: f64, across: f64, twist: f64) -> Result<Self> {
        super::normal::parts(arms)?;
        for (name, value) in [("radius", radius), ("along", along), ("across", across)] {
            super::positive(name, value)?;
        }
        if !twist.is_finite() {
            return Err(Error::config("twist", format!("expected a finite number, got {twist}")));
        }
        let arm = |k: usize| {
            let (s, c) = (2.0 * PI * k as f64 / arms as f64).sin_cos();
            let (u, v) = (along * along, across * across);
            let covariance = ndarray::array![[c * c * u + s * s * v, c * s * (u - v)], [c * s * (u - v), s * s * u + c * c * v]];
            Normal::new(&[radius * c, radius * s], &covariance.view())
        };
        Ok(Self { arms: Mixture::new(&vec![1.0; arms], (0..arms).map(arm).collect::<Result<_>>()?)?, twist })
    }

    /// Five arms at 2, long 0.6 and wide 0.15, twisted by 0.6 radians a unit of length.
    ///
    /// # Errors
    /// None in practice: the settings are legal.
    pub fn usual() -> Result<Self> {
        Self::new(5, 2.0, 0.6, 0.15, 0.6)
    }
}

/// Turns (x, y) by `twist` times its length.
fn turn(x: f64, y: f64, twist: f64) -> [f64; 2] {
    let (s, c) = (twist * x.hypot(y)).sin_cos();
    [c * x - s * y, s * x + c * y]
}

impl Target for Pinwheel {
    fn dimension(&self) -> usize {
        2
    }

    fn log_density(&self, y: &[f64]) -> f64 {
        let [a, b] = *y else { return f64::NAN };
        self.arms.log_density(&turn(a, b, -self.twist))
    }

    fn draw(&self, rng: &mut ChaCha8Rng, y: &mut [f64]) {
        self.arms.draw(rng, y);
        if let [a, b] = y {
            [*a, *b] = turn(*a, *b, self.twist);
        }
    }

    fn entropy(&self) -> Result<Entropy> {
        self.arms.entropy()
    }

    fn region(&self) -> Vec<Range<f64>> {
        // A twist keeps lengths: the disk around the arms' box.
        let corner = self.arms.region().iter().map(|r| r.start.abs().max(r.end.abs()).powi(2)).sum::<f64>().sqrt();
        vec![-corner..corner; 2]
    }
}
