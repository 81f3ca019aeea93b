//! Balls around a centre, and what lies between two of them.

use super::{Set, Solved, expect_len, norm, simplex, size};
use inn_core::tensor::expect_finite;
use inn_core::{Error, Result, Shape};

/// A centre c: the origin, or a point with the values of a sample.
#[derive(Clone, Debug, Default, PartialEq)]
struct Centre(Option<Vec<f64>>);

impl Centre {
    fn at(point: &[f64]) -> Result<Self> {
        expect_finite("centre", point)?;
        Ok(Self(Some(point.to_vec())))
    }

    fn check(&self, sample: Shape) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |centre| expect_len("tensor with a centre", sample, centre.len()))
    }

    fn get(&self, i: usize) -> f64 {
        self.0.as_ref().and_then(|centre| centre.get(i)).copied().unwrap_or(0.0)
    }

    /// x - c.
    fn from<'a>(&'a self, x: &'a [f64]) -> impl Iterator<Item = f64> + Clone + 'a {
        x.iter().enumerate().map(|(i, x)| x - self.get(i))
    }
}

/// |x - c|₂ <= r. P(x) = c + (x - c) min(1, r/|x - c|), in O(n).
#[derive(Clone, Debug, PartialEq)]
pub struct L2Ball(Annulus);

impl L2Ball {
    /// Around the origin.
    ///
    /// # Errors
    /// [`Error::Config`]: a radius that is negative, where the set is empty, or not finite.
    pub fn new(radius: f64) -> Result<Self> {
        Annulus::new(0.0, radius).map(Self)
    }

    /// Around a point with the values of a sample, row-major.
    ///
    /// # Errors
    /// The same; [`Error::NonFinite`] for the centre.
    pub fn around(centre: &[f64], radius: f64) -> Result<Self> {
        Annulus::around(centre, 0.0, radius).map(Self)
    }
}

impl Set for L2Ball {
    fn check(&self, sample: Shape) -> Result<()> {
        self.0.check(sample)
    }
    fn nearest(&self, sample: Shape, x: &mut [f64]) -> Result<Solved> {
        self.0.nearest(sample, x)
    }
    /// In units of the norm.
    fn excess(&self, sample: Shape, x: &[f64]) -> f64 {
        self.0.excess(sample, x)
    }
}

/// r <= |x - c|₂ <= R: between two spheres, as residuals of a known noise level are. P(x) moves x along its ray from c, in O(n); of the centre
/// itself, which is as near to all points of the inner sphere, it is the one along the first axis. Not convex unless r = 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Annulus {
    centre: Centre,
    inner: f64,
    outer: f64,
}

impl Annulus {
    /// Around the origin.
    ///
    /// # Errors
    /// [`Error::Config`]: radii that are negative or not finite, or the inner above the outer, where the set is empty.
    pub fn new(inner: f64, outer: f64) -> Result<Self> {
        size("inner radius", inner)?;
        size("radius", outer)?;
        super::interval("radii", inner, outer)?;
        Ok(Self { centre: Centre::default(), inner, outer })
    }

    /// Around a point with the values of a sample, row-major.
    ///
    /// # Errors
    /// The same; [`Error::NonFinite`] for the centre.
    pub fn around(centre: &[f64], inner: f64, outer: f64) -> Result<Self> {
        Ok(Self { centre: Centre::at(centre)?, ..Self::new(inner, outer)? })
    }
}

impl Set for Annulus {
    fn check(&self, sample: Shape) -> Result<()> {
        self.centre.check(sample)
    }

    fn nearest(&self, _: Shape, x: &mut [f64]) -> Result<Solved> {
        let length = norm(self.centre.from(x));
        let goal = length.max(self.inner).min(self.outer);
        if length == 0.0 && goal > 0.0 {
            if let Some(first) = x.first_mut() {
                *first += goal;
            }
        } else if goal != length {
            let factor = goal / length;
            for (i, x) in x.iter_mut().enumerate() {
                let c = self.centre.get(i);
                *x = c + factor * (*x - c);
            }
        }
        Ok(Solved::EXACT)
    }

    /// In units of the norm.
    fn excess(&self, _: Shape, x: &[f64]) -> f64 {
        if x.iter().any(|v| v.is_nan()) {
            return f64::NAN;
        }
        let length = norm(self.centre.from(x));
        (self.inner - length).max(length - self.outer).max(0.0)
    }

    fn is_convex(&self) -> bool {
        self.inner == 0.0
    }
}

/// |x - c|₁ <= r. Outside, P(x) = c + sign(x - c) max(|x - c| - τ, 0) with the τ that projects |x - c| onto the simplex of sum r (Duchi et
/// al. 2008), by Condat's algorithm, O(n) expected.
#[derive(Clone, Debug, PartialEq)]
pub struct L1Ball {
    centre: Centre,
    radius: f64,
}

impl L1Ball {
    /// Around the origin.
    ///
    /// # Errors
    /// [`Error::Config`]: a radius that is negative, where the set is empty, or not finite.
    pub fn new(radius: f64) -> Result<Self> {
        size("radius", radius)?;
        Ok(Self { centre: Centre::default(), radius })
    }

    /// Around a point with the values of a sample, row-major.
    ///
    /// # Errors
    /// The same; [`Error::NonFinite`] for the centre.
    pub fn around(centre: &[f64], radius: f64) -> Result<Self> {
        Ok(Self { centre: Centre::at(centre)?, ..Self::new(radius)? })
    }

    fn norm(&self, x: &[f64]) -> f64 {
        self.centre.from(x).map(f64::abs).sum()
    }
}

impl Set for L1Ball {
    fn check(&self, sample: Shape) -> Result<()> {
        self.centre.check(sample)?;
        if sample.is_empty() { Err(Error::shape("tensor in an l1 ball", "at least one value", sample)) } else { Ok(()) }
    }

    fn nearest(&self, _: Shape, x: &mut [f64]) -> Result<Solved> {
        if self.norm(x) > self.radius {
            let tau = simplex::threshold(self.centre.from(x).map(f64::abs), self.radius);
            for (i, x) in x.iter_mut().enumerate() {
                let c = self.centre.get(i);
                let d = *x - c;
                *x = c + (d.abs() - tau).max(0.0).copysign(d);
            }
        }
        Ok(Solved::EXACT)
    }

    /// In units of the norm.
    fn excess(&self, _: Shape, x: &[f64]) -> f64 {
        let length = self.norm(x);
        if length.is_nan() { length } else { (length - self.radius).max(0.0) }
    }
}
