//! Vectors of x86-64: sixteen or eight `f32`, eight or four `f64`.
//!
//! SAFETY of every block here: the types are made only where [`Vectors::with`](super::vector::Vectors::with) has seen that the CPU has
//! their instructions.

use super::elementary;
use super::vector::{Bits, Vector};
use inn_core::Scalar;
use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Arithmetic of a register: each operator is one instruction.
macro_rules! arithmetic {
    ($name:ident, $reg:ty, $elem:ty, $n:literal, $load:ident, $store:ident, $splat:ident, $fma:ident, $xor:expr, $($op:ident $method:ident $ins:ident),+) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name($reg);

        impl Vector for $name {
            type Elem = $elem;
            const N: usize = $n;
            #[inline(always)]
            unsafe fn load(from: *const $elem) -> Self {
                // SAFETY: see the module; the caller vouches for the elements.
                Self(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $elem) {
                // SAFETY: see the module; the caller vouches for the elements.
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            fn splat(value: $elem) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $splat(value) })
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $fma(self.0, a.0, b.0) })
            }
        }

        $(impl $op for $name {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $ins(self.0, other.0) })
            }
        })+

        impl Neg for $name {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                // Flips the sign bit, as `-x` does, 0 and NaN included.
                // SAFETY: see the module.
                Self(unsafe { $xor(self.0, $splat(-0.0)) })
            }
        }
    };
}

arithmetic!(F32x16, __m512, f32, 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_xor_ps,
    Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
arithmetic!(F32x8, __m256, f32, 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_xor_ps,
    Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
arithmetic!(F64x8, __m512d, f64, 8, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_xor_pd,
    Add add _mm512_add_pd, Sub sub _mm512_sub_pd, Mul mul _mm512_mul_pd, Div div _mm512_div_pd);
arithmetic!(F64x4, __m256d, f64, 4, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_xor_pd,
    Add add _mm256_add_pd, Sub sub _mm256_sub_pd, Mul mul _mm256_mul_pd, Div div _mm256_div_pd);

/// What is not an operator: constants, selection, root, and for `f32` the functions of [`elementary`].
macro_rules! f32_scalar {
    ($name:ident, $splat:ident, $select:expr) => {
        impl Scalar for $name {
            #[inline(always)]
            fn constant(value: f64) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $splat(value as f32) })
            }
            #[inline(always)]
            fn select_ge(self, bound: Self, then: Self, otherwise: Self) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $select(self.0, bound.0, then.0, otherwise.0) })
            }
            #[inline(always)]
            fn exp(self) -> Self {
                elementary::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                elementary::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                elementary::ln_1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.root()
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                elementary::tanh(self)
            }
            #[inline(always)]
            fn atan(self) -> Self {
                elementary::atan(self)
            }
            #[inline(always)]
            fn tan(self) -> Self {
                each(self, f32::tan)
            }
        }
    };
}

#[inline(always)]
unsafe fn select_512(x: __m512, bound: __m512, then: __m512, otherwise: __m512) -> __m512 {
    // SAFETY: see the module.
    unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, bound), otherwise, then) }
}
#[inline(always)]
unsafe fn select_256(x: __m256, bound: __m256, then: __m256, otherwise: __m256) -> __m256 {
    // SAFETY: see the module.
    unsafe { _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps::<_CMP_GE_OQ>(x, bound)) }
}
#[inline(always)]
unsafe fn select_512d(x: __m512d, bound: __m512d, then: __m512d, otherwise: __m512d) -> __m512d {
    // SAFETY: see the module.
    unsafe { _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_GE_OQ>(x, bound), otherwise, then) }
}
#[inline(always)]
unsafe fn select_256d(x: __m256d, bound: __m256d, then: __m256d, otherwise: __m256d) -> __m256d {
    // SAFETY: see the module.
    unsafe { _mm256_blendv_pd(otherwise, then, _mm256_cmp_pd::<_CMP_GE_OQ>(x, bound)) }
}

f32_scalar!(F32x16, _mm512_set1_ps, select_512);
f32_scalar!(F32x8, _mm256_set1_ps, select_256);

impl Bits for F32x16 {
    #[inline(always)]
    fn exp2(n: Self) -> Self {
        let n = n + Self::constant(elementary::EXPONENT);
        // SAFETY: see the module.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(n.0))) })
    }
    #[inline(always)]
    fn frexp(self) -> (Self, Self) {
        // SAFETY: see the module.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let e = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srli_epi32::<23>(bits), _mm512_set1_epi32(126)));
            let m = _mm512_or_si512(_mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff)), _mm512_set1_epi32(0x3f00_0000));
            (Self(_mm512_castsi512_ps(m)), Self(e))
        }
    }
    #[inline(always)]
    fn root(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
}

impl Bits for F32x8 {
    #[inline(always)]
    fn exp2(n: Self) -> Self {
        let n = n + Self::constant(elementary::EXPONENT);
        // SAFETY: see the module.
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(n.0))) })
    }
    #[inline(always)]
    fn frexp(self) -> (Self, Self) {
        // SAFETY: see the module.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let e = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(126)));
            let m = _mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)), _mm256_set1_epi32(0x3f00_0000));
            (Self(_mm256_castsi256_ps(m)), Self(e))
        }
    }
    #[inline(always)]
    fn root(self) -> Self {
        // SAFETY: see the module.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
}

/// A function that has no vector form, lane by lane.
#[inline(always)]
fn each<V: Vector>(x: V, f: impl Fn(V::Elem) -> V::Elem) -> V {
    // SAFETY: the array is as long as the vector, which exists, so its instructions do.
    unsafe {
        let mut lanes = std::mem::MaybeUninit::<[V::Elem; super::vector::MAX_LANES]>::uninit();
        let first = lanes.as_mut_ptr().cast::<V::Elem>();
        x.store(first);
        for i in 0..V::N {
            *first.add(i) = f(*first.add(i));
        }
        V::load(first)
    }
}

/// `f64` is there to check with: its functions are those of the standard library.
macro_rules! f64_scalar {
    ($name:ident, $splat:ident, $sqrt:ident, $select:expr) => {
        impl Scalar for $name {
            #[inline(always)]
            fn constant(value: f64) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $splat(value) })
            }
            #[inline(always)]
            fn select_ge(self, bound: Self, then: Self, otherwise: Self) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $select(self.0, bound.0, then.0, otherwise.0) })
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                // SAFETY: see the module.
                Self(unsafe { $sqrt(self.0) })
            }
            #[inline(always)]
            fn exp(self) -> Self {
                each(self, f64::exp)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                each(self, f64::ln)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                each(self, f64::ln_1p)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                each(self, f64::tanh)
            }
            #[inline(always)]
            fn atan(self) -> Self {
                each(self, f64::atan)
            }
            #[inline(always)]
            fn tan(self) -> Self {
                each(self, f64::tan)
            }
        }
    };
}
f64_scalar!(F64x8, _mm512_set1_pd, _mm512_sqrt_pd, select_512d);
f64_scalar!(F64x4, _mm256_set1_pd, _mm256_sqrt_pd, select_256d);
