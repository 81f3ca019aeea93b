//! Portable vectors: small arrays, which the compiler maps to whatever
//! registers the baseline of the target has.

use super::{Element, Lanes};

/// Four elements in an array.
#[derive(Clone, Copy)]
pub(crate) struct Quad<T>([T; 4]);

impl<T: Element> Lanes for Quad<T> {
    type Elem = T;
    const N: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Quad([T::ZERO; 4])
    }

    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Quad([value; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller vouches for four elements.
        Quad(unsafe { from.cast::<[T; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller vouches for four elements.
        unsafe { to.cast::<[T; 4]>().write_unaligned(self.0) }
    }

    // No fused multiply-add: without hardware support that is a library call.
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
        let (a, b, c) = (self.0, factor.0, sum.0);
        Quad([a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Quad([a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]])
    }

    #[inline(always)]
    unsafe fn scaled(self, gate: Self, above: Self, below: Self) -> Self {
        let one = |i: usize| self.0[i] * if gate.0[i] >= T::ZERO { above.0[i] } else { below.0[i] };
        Quad([one(0), one(1), one(2), one(3)])
    }

    #[inline(always)]
    unsafe fn zip(self, other: Self) -> (Self, Self) {
        let (a, b) = (self.0, other.0);
        (Quad([a[0], b[0], a[1], b[1]]), Quad([a[2], b[2], a[3], b[3]]))
    }
}
