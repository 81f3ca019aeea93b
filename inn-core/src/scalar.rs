//! Scalars that a pointwise [`Kernel`](crate::kernel::Kernel) may be evaluated on, and the elements that tensors hold.

use bytemuck::Pod;
use std::fmt::{Debug, Display};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Arithmetic that a pointwise kernel is written in: real numbers, lanes of them, (value, tangent) pairs, counters.
///
/// There is no comparison that branches: [`select_ge`](Self::select_ge) evaluates both arms, so the arm that is not taken has to stay
/// finite, or its infinite derivative poisons a tangent.
pub trait Scalar: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self> {
    /// A constant.
    fn constant(value: f64) -> Self;
    /// `if self >= bound { then } else { otherwise }`, with both arms evaluated.
    fn select_ge(self, bound: Self, then: Self, otherwise: Self) -> Self;
    /// e^x.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x), exact for small x.
    fn ln_1p(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The inverse tangent.
    fn atan(self) -> Self;
    /// The tangent.
    fn tan(self) -> Self;

    /// 0.
    #[inline(always)]
    fn zero() -> Self {
        Self::constant(0.0)
    }
    /// 1.
    #[inline(always)]
    fn one() -> Self {
        Self::constant(1.0)
    }
    /// |x|, with derivative 1 at 0.
    #[inline(always)]
    fn abs(self) -> Self {
        self.select_ge(Self::zero(), self, -self)
    }
    /// The larger of two.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.select_ge(other, self, other)
    }
    /// The smaller of two.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.select_ge(other, other, self)
    }
    /// x^2.
    #[inline(always)]
    fn square(self) -> Self {
        self * self
    }
    /// 1 / (1 + e^-x), without overflow at any x.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        // e^{-|x|} never overflows; the two arms are the same number seen from either side of 0.
        let e = (-self.abs()).exp();
        let d = Self::one() / (Self::one() + e);
        self.select_ge(Self::zero(), d, e * d)
    }
    /// ln(1 + e^x), without overflow at any x.
    #[inline(always)]
    fn softplus(self) -> Self {
        self.max(Self::zero()) + (-self.abs()).exp().ln_1p()
    }
}

/// A number type that tensors are made of: `f32` or `f64`.
pub trait Element: Scalar + Pod + Default + PartialOrd + Debug + Display + Send + Sync + 'static {
    /// `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// The distance from 1 to the next number.
    const EPSILON: f64;
    /// Rounds to this type.
    fn from_f64(value: f64) -> Self;
    /// Widens to `f64`.
    fn to_f64(self) -> f64;
    /// Neither NaN nor infinite.
    fn is_finite(self) -> bool;
}

macro_rules! element {
    ($t:ident) => {
        impl Scalar for $t {
            #[inline(always)]
            fn constant(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn select_ge(self, bound: Self, then: Self, otherwise: Self) -> Self {
                if self >= bound { then } else { otherwise }
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $t::tanh(self)
            }
            #[inline(always)]
            fn atan(self) -> Self {
                $t::atan(self)
            }
            #[inline(always)]
            fn tan(self) -> Self {
                $t::tan(self)
            }
        }

        impl Element for $t {
            const NAME: &'static str = stringify!($t);
            const EPSILON: f64 = $t::EPSILON as f64;
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
        }
    };
}
element!(f32);
element!(f64);

/// A value and its tangent: the number v + d·ε with ε² = 0.
///
/// Evaluating a kernel on pairs differentiates it; [`Dual`](crate::dual::Dual) does so for whole layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<T> {
    /// The value.
    pub v: T,
    /// The tangent.
    pub d: T,
}

impl<T: Scalar> Add for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self { v: self.v + o.v, d: self.d + o.d }
    }
}
impl<T: Scalar> Sub for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self { v: self.v - o.v, d: self.d - o.d }
    }
}
impl<T: Scalar> Mul for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Self { v: self.v * o.v, d: self.d * o.v + self.v * o.d }
    }
}
impl<T: Scalar> Div for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        let v = self.v / o.v;
        Self { v, d: (self.d - v * o.d) / o.v }
    }
}
impl<T: Scalar> Neg for Pair<T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self { v: -self.v, d: -self.d }
    }
}

impl<T: Scalar> Scalar for Pair<T> {
    #[inline(always)]
    fn constant(value: f64) -> Self {
        Self { v: T::constant(value), d: T::zero() }
    }
    #[inline(always)]
    fn select_ge(self, bound: Self, then: Self, otherwise: Self) -> Self {
        Self { v: self.v.select_ge(bound.v, then.v, otherwise.v), d: self.v.select_ge(bound.v, then.d, otherwise.d) }
    }
    #[inline(always)]
    fn exp(self) -> Self {
        let v = self.v.exp();
        Self { v, d: v * self.d }
    }
    #[inline(always)]
    fn ln(self) -> Self {
        Self { v: self.v.ln(), d: self.d / self.v }
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        Self { v: self.v.ln_1p(), d: self.d / (T::one() + self.v) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        let v = self.v.sqrt();
        Self { v, d: self.d / (v + v) }
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        let v = self.v.tanh();
        Self { v, d: (T::one() - v * v) * self.d }
    }
    #[inline(always)]
    fn atan(self) -> Self {
        Self { v: self.v.atan(), d: self.d / (T::one() + self.v * self.v) }
    }
    #[inline(always)]
    fn tan(self) -> Self {
        let v = self.v.tan();
        Self { v, d: (T::one() + v * v) * self.d }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tangents_match_central_differences() {
        type F = fn(Pair<f64>) -> Pair<f64>;
        let functions: [(&str, F); 12] = [
            ("exp", |x| x.exp()),
            ("ln", |x| (x * x + Pair::one()).ln()),
            ("ln_1p", |x| x.square().ln_1p()),
            ("sqrt", |x| (x * x + Pair::one()).sqrt()),
            ("tanh", |x| x.tanh()),
            ("atan", |x| x.atan()),
            ("tan", |x| (x * Pair::constant(0.3)).tan()),
            ("abs", |x| x.abs()),
            ("max", |x| x.max(Pair::constant(0.1))),
            ("sigmoid", |x| x.sigmoid()),
            ("softplus", |x| x.softplus()),
            ("quotient", |x| x / (x * x + Pair::constant(2.0)) - -x),
        ];
        for (name, f) in functions {
            for x in [-2.3, -0.4, 0.7, 1.9] {
                let at = |x: f64| f(Pair { v: x, d: 1.0 });
                let h = 1e-6;
                let slope = (at(x + h).v - at(x - h).v) / (2.0 * h);
                assert!((at(x).d - slope).abs() < 1e-8, "{name} at {x}: {} against {slope}", at(x).d);
            }
        }
    }

    #[test]
    fn stable_at_the_ends() {
        for x in [-1e4f32, -100.0, 100.0, 1e4] {
            assert!(x.sigmoid().is_finite() && Scalar::softplus(x).is_finite());
            let p = Pair { v: x, d: 1.0f32 }.softplus();
            assert!(p.v.is_finite() && p.d.is_finite());
        }
        assert_eq!(Scalar::softplus(-100f64), (-100f64).exp());
    }
}
