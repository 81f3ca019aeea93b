//! 512-bit vectors of x86-64.

use super::Lanes;
use std::arch::x86_64::*;

// SAFETY (both functions): only called from `Lanes` methods, whose callers
// have checked that the CPU has AVX-512.

// Transposing while adding needs half as many shuffles as four separate sums.
#[inline(always)]
unsafe fn four_f32(a: __m512, b: __m512, c: __m512, d: __m512, to: *mut f32) {
    // SAFETY: see above.
    unsafe {
        let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
        let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
        let high = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
        let sums = _mm512_add_ps(low, high);
        let sums = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
        let sums = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
        _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sums));
    }
}

#[inline(always)]
unsafe fn four_f64(a: __m512d, b: __m512d, c: __m512d, d: __m512d, to: *mut f64) {
    // SAFETY: see above.
    unsafe {
        let ab = _mm512_add_pd(_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        let cd = _mm512_add_pd(_mm512_unpacklo_pd(c, d), _mm512_unpackhi_pd(c, d));
        let ab = _mm256_add_pd(_mm512_castpd512_pd256(ab), _mm512_extractf64x4_pd(ab, 1));
        let cd = _mm256_add_pd(_mm512_castpd512_pd256(cd), _mm512_extractf64x4_pd(cd, 1));
        let low = _mm256_permute2f128_pd(ab, cd, 0x20);
        let high = _mm256_permute2f128_pd(ab, cd, 0x31);
        let sums = _mm256_add_pd(low, high);
        _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), sums));
    }
}

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $reg:ty, $n:literal, $mask:ty,
     $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sum:ident, $four:ident,
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
            unsafe fn reduce_sum(self) -> $elem {
                // SAFETY: see above.
                unsafe { $sum(self.0) }
            }

            #[inline(always)]
            unsafe fn reduce_four(vectors: [Self; 4], to: *mut $elem) {
                let [a, b, c, d] = vectors;
                // SAFETY: see above.
                unsafe { $four(a.0, b.0, c.0, d.0, to) }
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
    _mm512_add_ps, _mm512_reduce_add_ps, four_f32,
    _mm512_maskz_loadu_ps, _mm512_maskz_compress_ps, _mm512_mask_storeu_ps
);

lanes!(
    /// Eight `f64`.
    F64x8, f64, __m512d, 8, __mmask8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd,
    _mm512_add_pd, _mm512_reduce_add_pd, four_f64,
    _mm512_maskz_loadu_pd, _mm512_maskz_compress_pd, _mm512_mask_storeu_pd
);
