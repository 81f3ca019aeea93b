//! 512-bit vectors of x86-64.

use super::Lanes;
use std::arch::x86_64::*;

// SAFETY (both functions): only called from `Lanes` methods, whose callers
// have checked that the CPU has AVX-512.

#[inline(always)]
unsafe fn zip_f32(a: __m512, b: __m512) -> (__m512, __m512) {
    // SAFETY: see above.
    unsafe {
        let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        (_mm512_permutex2var_ps(a, low, b), _mm512_permutex2var_ps(a, high, b))
    }
}

#[inline(always)]
unsafe fn zip_f64(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    // SAFETY: see above.
    unsafe {
        let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
        let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
        (_mm512_permutex2var_pd(a, low, b), _mm512_permutex2var_pd(a, high, b))
    }
}

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $reg:ty, $n:literal, $mask:ty,
     $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $zip:ident,
     $maskload:ident, $compress:ident, $maskstore:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($reg);

        // SAFETY (all functions): the trait requires the caller to have
        // checked that the CPU has AVX-512, and pointers to be valid for the
        // lanes accessed; masked-out lanes are not accessed by the hardware.
        impl Lanes for $name {
            type Elem = $elem;
            const N: usize = $n;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: see above.
                Self(unsafe { $zero() })
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
                Self(unsafe { $fma(self.0, factor.0, sum.0) })
            }

            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            unsafe fn zip(self, other: Self) -> (Self, Self) {
                // SAFETY: see above.
                let (low, high) = unsafe { $zip(self.0, other.0) };
                (Self(low), Self(high))
            }

            #[inline(always)]
            fn prefetch(from: *const $elem) {
                // SAFETY: a hint, which never faults; part of every x86-64.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
            }

            #[inline(always)]
            unsafe fn load_masked(from: *const $elem, mask: u32) -> Self {
                // SAFETY: see above.
                Self(unsafe { $maskload(mask as $mask, from) })
            }

            // Compressing in the register and then storing with a mask of the
            // low lanes is much faster than a compressing store on some CPUs.
            #[inline(always)]
            unsafe fn compress(self, to: *mut $elem, mask: u32, accumulate: bool) {
                let low = ((1u32 << mask.count_ones()) - 1) as $mask;
                // SAFETY: see above.
                unsafe {
                    let mut value = $compress(mask as $mask, self.0);
                    if accumulate {
                        value = $add(value, $maskload(low, to));
                    }
                    $maskstore(to, low, value);
                }
            }
        }
    };
}

lanes!(
    /// Sixteen `f32`.
    F32x16, f32, __m512, 16, __mmask16,
    _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps,
    _mm512_add_ps, zip_f32,
    _mm512_maskz_loadu_ps, _mm512_maskz_compress_ps, _mm512_mask_storeu_ps
);

lanes!(
    /// Eight `f64`.
    F64x8, f64, __m512d, 8, __mmask8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd,
    _mm512_add_pd, zip_f64,
    _mm512_maskz_loadu_pd, _mm512_maskz_compress_pd, _mm512_mask_storeu_pd
);
