//! What a coupling does to the channels that it moves, given what its conditioner says of the channels that it keeps.

use inn_core::{Direction, Scalar};
use inn_ops::ScaleMap;

/// An invertible map of one number x with coefficients from a conditioner, pointwise.
pub trait Transform: Copy + Send + Sync + 'static {
    /// Coefficients a moved value needs; the conditioner has as many groups of channels.
    const OUTPUTS: usize;
    /// Whether the log-determinant can differ from 0.
    const HAS_LOGDET: bool;

    /// (a, s) where the map is x -> a x + s c with s = ±1: a conditioner may then add its output to the state without storing it.
    fn sum(dir: Direction) -> Option<(f64, f64)> {
        let _ = dir;
        None
    }

    /// Maps `moved` and returns its log-derivative, in the direction taken.
    fn map<T: Scalar>(&self, dir: Direction, out: &[T], moved: &mut T) -> T;

    /// Takes `moved` back to the input of the map taken, `g` to its cotangent, and turns `out` into the cotangent of the coefficients. `gl`
    /// is the cotangent of the log-derivative.
    fn pull<T: Scalar>(&self, dir: Direction, gl: T, moved: &mut T, g: &mut T, out: &mut [T]);
}

/// y = S x + t with S = exp ψ(u), from coefficients (u, t); log-derivative ψ(u) (Dinh et al. 2017, arXiv:1605.08803, eq. 7).
///
/// The scale is kept as ψ = ln S and inverted by exp(-ψ): no division and no ε. With g the cotangent of y and λ of ψ,
/// ```text
/// gx = S g,    gt = g,    gu = ψ'(u) (S x g + λ)
/// ```
/// and for the inverse map, with a = gx / S: gy = a, gt = -a, gu = -ψ'(u) (a S x + λ) = -ψ'(u) (gx x + λ).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// The map from u to ψ; bounded and symmetric by default.
    pub scale: ScaleMap,
}

impl Transform for Affine {
    const OUTPUTS: usize = 2;
    const HAS_LOGDET: bool = true;

    #[inline(always)]
    fn map<T: Scalar>(&self, dir: Direction, out: &[T], moved: &mut T) -> T {
        let (psi, t) = (self.scale.log_scale(out[0]), out[1]);
        match dir {
            Direction::Forward => {
                *moved = psi.exp() * *moved + t;
                psi
            }
            Direction::Inverse => {
                *moved = (*moved - t) * (-psi).exp();
                -psi
            }
        }
    }

    #[inline(always)]
    fn pull<T: Scalar>(&self, dir: Direction, gl: T, moved: &mut T, g: &mut T, out: &mut [T]) {
        let (u, t) = (out[0], out[1]);
        let psi = self.scale.log_scale(u);
        let slope = self.scale.log_scale_derivative(u);
        match dir {
            Direction::Forward => {
                let (x, gx) = ((*moved - t) * (-psi).exp(), psi.exp() * *g);
                (out[0], out[1]) = (slope * (gx * x + gl), *g);
                (*moved, *g) = (x, gx);
            }
            Direction::Inverse => {
                let (x, a) = (*moved, (-psi).exp() * *g);
                (out[0], out[1]) = (-(slope * (*g * x + gl)), -a);
                (*moved, *g) = (psi.exp() * x + t, a);
            }
        }
    }
}

/// y = x + t; log-derivative 0 (Dinh et al. 2015, arXiv:1410.8516).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Additive;

impl Transform for Additive {
    const OUTPUTS: usize = 1;
    const HAS_LOGDET: bool = false;

    fn sum(dir: Direction) -> Option<(f64, f64)> {
        Some((1.0, dir.sign()))
    }

    #[inline(always)]
    fn map<T: Scalar>(&self, dir: Direction, out: &[T], moved: &mut T) -> T {
        *moved = match dir {
            Direction::Forward => *moved + out[0],
            Direction::Inverse => *moved - out[0],
        };
        T::zero()
    }

    #[inline(always)]
    fn pull<T: Scalar>(&self, dir: Direction, _: T, moved: &mut T, g: &mut T, out: &mut [T]) {
        match dir {
            Direction::Forward => (*moved, out[0]) = (*moved - out[0], *g),
            Direction::Inverse => (*moved, out[0]) = (*moved + out[0], -*g),
        }
    }
}

/// y = c - x, its own inverse; |derivative| 1. A leapfrog step N = c(Q) - P with c(Q) = 2Q + F(Q) (Lensink et al. 2019, arXiv:1905.10484).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leapfrog;

impl Transform for Leapfrog {
    const OUTPUTS: usize = 1;
    const HAS_LOGDET: bool = false;

    fn sum(_: Direction) -> Option<(f64, f64)> {
        Some((-1.0, 1.0))
    }

    #[inline(always)]
    fn map<T: Scalar>(&self, _: Direction, out: &[T], moved: &mut T) -> T {
        *moved = out[0] - *moved;
        T::zero()
    }

    #[inline(always)]
    fn pull<T: Scalar>(&self, _: Direction, _: T, moved: &mut T, g: &mut T, out: &mut [T]) {
        (*moved, out[0]) = (out[0] - *moved, *g);
        *g = -*g;
    }
}
