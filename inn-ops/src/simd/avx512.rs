//! 512-bit vectors of x86-64.

mod strides;

use super::{Lanes, MAX_LANES};
use std::arch::x86_64::*;
use strides::{NEAR, deal_f32, deal_f64, gather_f32, gather_f64, scatter_f32, scatter_f64, threes_f32, threes_f64};

// SAFETY (these functions): only called from `Lanes` methods, whose callers
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

#[inline(always)]
unsafe fn unzip_f32(a: __m512, b: __m512) -> (__m512, __m512) {
    // SAFETY: see above.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
    }
}

#[inline(always)]
unsafe fn unzip_f64(a: __m512d, b: __m512d) -> (__m512d, __m512d) {
    // SAFETY: see above.
    unsafe {
        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
        let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
        (_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b))
    }
}

#[inline(always)]
unsafe fn up_f32(v: __m512) -> __m512 {
    // SAFETY: see above.
    unsafe { _mm512_castsi512_ps(_mm512_alignr_epi32::<15>(_mm512_castps_si512(v), _mm512_setzero_si512())) }
}

#[inline(always)]
unsafe fn down_f32(v: __m512) -> __m512 {
    // SAFETY: see above.
    unsafe { _mm512_castsi512_ps(_mm512_alignr_epi32::<1>(_mm512_setzero_si512(), _mm512_castps_si512(v))) }
}

#[inline(always)]
unsafe fn up_f64(v: __m512d) -> __m512d {
    // SAFETY: see above.
    unsafe { _mm512_castsi512_pd(_mm512_alignr_epi64::<7>(_mm512_castpd_si512(v), _mm512_setzero_si512())) }
}

#[inline(always)]
unsafe fn down_f64(v: __m512d) -> __m512d {
    // SAFETY: see above.
    unsafe { _mm512_castsi512_pd(_mm512_alignr_epi64::<1>(_mm512_setzero_si512(), _mm512_castpd_si512(v))) }
}

/// A square of 16 by 16, turned: quarters of rows come together as they are read, so that half of the shuffles are left.
#[inline(always)]
unsafe fn columns_f32(from: *const f32, row: usize, apply: impl Fn(F32x16) -> F32x16) -> [F32x16; MAX_LANES] {
    // SAFETY: see above; the caller vouches for the rows.
    unsafe {
        let mut columns = [F32x16(_mm512_setzero_ps()); MAX_LANES];
        for g in 0..4 {
            // Lane by lane of 128 bits, elements 4 g .. 4 g + 4 of the rows r, 4 + r, 8 + r, 12 + r.
            let mut v = [_mm512_setzero_ps(); 4];
            for r in 0..4 {
                let quarter = from.add(r * row + 4 * g);
                let low = _mm512_castps128_ps512(_mm_loadu_ps(quarter));
                let low = _mm512_insertf32x4::<1>(low, _mm_loadu_ps(quarter.add(4 * row)));
                let high = _mm512_insertf32x4::<2>(low, _mm_loadu_ps(quarter.add(8 * row)));
                v[r] = apply(F32x16(_mm512_insertf32x4::<3>(high, _mm_loadu_ps(quarter.add(12 * row))))).0;
            }
            let (a, b) = (_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
            let (c, d) = (_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
            let (a, b, c, d) = (_mm512_castps_pd(a), _mm512_castps_pd(b), _mm512_castps_pd(c), _mm512_castps_pd(d));
            columns[4 * g] = F32x16(_mm512_castpd_ps(_mm512_unpacklo_pd(a, c)));
            columns[4 * g + 1] = F32x16(_mm512_castpd_ps(_mm512_unpackhi_pd(a, c)));
            columns[4 * g + 2] = F32x16(_mm512_castpd_ps(_mm512_unpacklo_pd(b, d)));
            columns[4 * g + 3] = F32x16(_mm512_castpd_ps(_mm512_unpackhi_pd(b, d)));
        }
        columns
    }
}

/// A square of 8 by 8, turned likewise.
#[inline(always)]
unsafe fn columns_f64(from: *const f64, row: usize, apply: impl Fn(F64x8) -> F64x8) -> [F64x8; MAX_LANES] {
    // SAFETY: see above; the caller vouches for the rows.
    unsafe {
        let mut columns = [F64x8(_mm512_setzero_pd()); MAX_LANES];
        for g in 0..4 {
            let mut v = [_mm512_setzero_pd(); 2];
            for r in 0..2 {
                let quarter = from.add(r * row + 2 * g);
                let low = _mm512_castpd128_pd512(_mm_loadu_pd(quarter));
                let low = _mm512_insertf64x2::<1>(low, _mm_loadu_pd(quarter.add(2 * row)));
                let high = _mm512_insertf64x2::<2>(low, _mm_loadu_pd(quarter.add(4 * row)));
                v[r] = apply(F64x8(_mm512_insertf64x2::<3>(high, _mm_loadu_pd(quarter.add(6 * row))))).0;
            }
            columns[2 * g] = F64x8(_mm512_unpacklo_pd(v[0], v[1]));
            columns[2 * g + 1] = F64x8(_mm512_unpackhi_pd(v[0], v[1]));
        }
        columns
    }
}

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $reg:ty, $n:literal, $mask:ty,
     $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $mul:ident, $zip:ident, $unzip:ident, $up:ident, $down:ident, $gather:ident,
     $maskload:ident, $compress:ident, $maskstore:ident, $compare:ident, $blend:ident, $columns:ident, $deal:ident, $threes:ident, $scatter:ident) => {
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
            unsafe fn scaled(self, gate: Self, above: Self, below: Self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $mul($blend($compare::<_CMP_GE_OQ>(gate.0, $zero()), below.0, above.0), self.0) })
            }

            #[inline(always)]
            unsafe fn store_first(self, to: *mut $elem, count: usize) {
                // SAFETY: see above.
                unsafe { $maskstore(to, (u32::MAX >> (32 - count)) as $mask, self.0) }
            }

            #[inline(always)]
            unsafe fn columns(from: *const $elem, row: usize, apply: impl Fn(Self) -> Self) -> [Self; MAX_LANES] {
                // SAFETY: see above.
                unsafe { $columns(from, row, apply) }
            }

            #[inline(always)]
            unsafe fn zip(self, other: Self) -> (Self, Self) {
                // SAFETY: see above.
                let (low, high) = unsafe { $zip(self.0, other.0) };
                (Self(low), Self(high))
            }

            #[inline(always)]
            unsafe fn up(self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $up(self.0) })
            }

            #[inline(always)]
            unsafe fn down(self) -> Self {
                // SAFETY: see above.
                Self(unsafe { $down(self.0) })
            }

            #[inline(always)]
            unsafe fn kept(self, mask: u32) -> Self {
                // SAFETY: see above.
                Self(unsafe { $blend(mask as $mask, $zero(), self.0) })
            }

            #[inline(always)]
            unsafe fn unzip(self, other: Self) -> (Self, Self) {
                // SAFETY: see above.
                let (even, odd) = unsafe { $unzip(self.0, other.0) };
                (Self(even), Self(odd))
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

            #[inline(always)]
            unsafe fn gather(from: *const $elem, mask: u32, step: usize) -> Self {
                // SAFETY: see above.
                unsafe {
                    match step {
                        2 => $deal::<2>(from, &[mask as u16, 0, 0, 0])[0],
                        3 => $deal::<3>(from, &[mask as u16, 0, 0, 0])[0],
                        4 => $deal::<4>(from, &[mask as u16, 0, 0, 0])[0],
                        _ if step < NEAR => Self($gather(from, mask, step)),
                        _ => super::gather(from, mask, step),
                    }
                }
            }

            #[inline(always)]
            unsafe fn deal<const S: usize>(from: *const $elem, masks: &[u16; 4]) -> [Self; S] {
                // SAFETY: see above.
                unsafe { $deal::<S>(from, masks) }
            }

            #[inline(always)]
            unsafe fn threes(v: [Self; 3]) -> [Self; 3] {
                // SAFETY: see above.
                unsafe { $threes([v[0].0, v[1].0, v[2].0]) }
            }

            #[inline(always)]
            unsafe fn scatter(self, to: *mut $elem, mask: u32, step: usize, accumulate: bool) {
                // SAFETY: see above.
                unsafe { $scatter(self, to, mask, step, accumulate) }
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
    _mm512_add_ps, _mm512_mul_ps, zip_f32, unzip_f32, up_f32, down_f32, gather_f32,
    _mm512_maskz_loadu_ps, _mm512_maskz_compress_ps, _mm512_mask_storeu_ps,
    _mm512_cmp_ps_mask, _mm512_mask_blend_ps, columns_f32, deal_f32, threes_f32, scatter_f32
);

lanes!(
    /// Eight `f64`.
    F64x8, f64, __m512d, 8, __mmask8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd,
    _mm512_add_pd, _mm512_mul_pd, zip_f64, unzip_f64, up_f64, down_f64, gather_f64,
    _mm512_maskz_loadu_pd, _mm512_maskz_compress_pd, _mm512_mask_storeu_pd,
    _mm512_cmp_pd_mask, _mm512_mask_blend_pd, columns_f64, deal_f64, threes_f64, scatter_f64
);
