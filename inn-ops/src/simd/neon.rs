//! 128-bit vectors of 64-bit ARM.

use super::Lanes;
use std::arch::aarch64::*;

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $reg:ty, $n:literal,
     $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $mul:ident, $compare:ident, $select:ident, $low:ident, $high:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($reg);

        // SAFETY (all functions): the trait requires the caller to have
        // checked that the CPU has NEON, and pointers to be valid for the
        // lanes accessed.
        impl Lanes for $name {
            type Elem = $elem;
            const N: usize = $n;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: see above.
                Self(unsafe { $splat(0.0) })
            }

            #[inline(always)]
            unsafe fn splat(value: $elem) -> Self {
                // SAFETY: see above.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            unsafe fn load(from: *const $elem) -> Self {
                // SAFETY: see above.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                // SAFETY: see above.
                unsafe { $store(to, self.0) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $fma(sum.0, self.0, factor.0) })
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn scaled(self, gate: Self, above: Self, below: Self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $mul($select($compare(gate.0), above.0, below.0), self.0) })
            }

            #[inline(always)]
            unsafe fn zip(self, other: Self) -> (Self, Self) {
                // SAFETY: see above.
                unsafe { (Self($low(self.0, other.0)), Self($high(self.0, other.0))) }
            }
        }
    };
}

lanes!(
    /// Four `f32`.
    F32x4, f32, float32x4_t, 4,
    vdupq_n_f32, vld1q_f32, vst1q_f32, vfmaq_f32, vaddq_f32, vmulq_f32, vcgezq_f32, vbslq_f32, vzip1q_f32, vzip2q_f32
);

lanes!(
    /// Two `f64`.
    F64x2, f64, float64x2_t, 2,
    vdupq_n_f64, vld1q_f64, vst1q_f64, vfmaq_f64, vaddq_f64, vmulq_f64, vcgezq_f64, vbslq_f64, vzip1q_f64, vzip2q_f64
);
