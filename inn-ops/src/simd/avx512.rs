//! 512-bit vectors of x86-64.

use super::{Lanes, MAX_LANES};
use std::arch::x86_64::*;

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

/// Bit `i * step` for each lane i, by the step.
const SPREAD: [u64; 5] = [0, 0, 0x5555_5555_5555_5555, 0x9249_2492_4924_9249, 0x1111_1111_1111_1111];

/// Element `16 j + l` of lanes that are `step` apart is lane `(16 j + l) / step`: that number for each l.
const fn lane_of(step: i32, lanes: i32, j: i32) -> [i32; 16] {
    let mut lane = [0; 16];
    let mut l = 0;
    while l < lanes {
        lane[l as usize] = (lanes * j + l) / step;
        l += 1;
    }
    lane
}

/// The places of lanes that are `step` apart.
const fn places(step: i32) -> [i32; 16] {
    let mut place = [0; 16];
    let mut i = 0;
    while i < 16 {
        place[i as usize] = i * step;
        i += 1;
    }
    place
}

/// Short steps: whole vectors, masked, of which every `S`th element is taken. Several times as fast as a gather.
#[inline(always)]
unsafe fn near_f32<const S: usize>(from: *const f32, mask: u32) -> __m512 {
    // SAFETY: see above; the masks let only the elements of the lanes in `mask` be read.
    unsafe {
        let spread = _pdep_u64(u64::from(mask), SPREAD[S]);
        let mut v = [_mm512_setzero_ps(); 4];
        for j in 0..S {
            v[j] = _mm512_maskz_loadu_ps((spread >> (16 * j)) as __mmask16, from.wrapping_add(16 * j));
        }
        let place = _mm512_loadu_si512(const { places(S as i32) }.as_ptr().cast());
        let low = _mm512_permutex2var_ps(v[0], place, v[1]);
        if S == 2 {
            return low;
        }
        let high = _mm512_permutex2var_ps(v[2], place, v[3]);
        _mm512_mask_blend_ps(_mm512_cmpge_epi32_mask(place, _mm512_set1_epi32(32)), low, high)
    }
}

#[inline(always)]
unsafe fn near_f64<const S: usize>(from: *const f64, mask: u32) -> __m512d {
    // SAFETY: as above.
    unsafe {
        let spread = _pdep_u64(u64::from(mask), SPREAD[S]);
        let mut v = [_mm512_setzero_pd(); 4];
        for j in 0..S {
            v[j] = _mm512_maskz_loadu_pd((spread >> (8 * j)) as __mmask8, from.wrapping_add(8 * j));
        }
        let place = _mm512_cvtepi32_epi64(_mm256_loadu_si256(const { places(S as i32) }.as_ptr().cast()));
        let low = _mm512_permutex2var_pd(v[0], place, v[1]);
        if S == 2 {
            return low;
        }
        let high = _mm512_permutex2var_pd(v[2], place, v[3]);
        _mm512_mask_blend_pd(_mm512_cmpge_epi64_mask(place, _mm512_set1_epi64(16)), low, high)
    }
}

/// All of what short steps leave between each other: `S` whole vectors, masked, each element of which goes to one of the results.
#[inline(always)]
unsafe fn deal_f32<const S: usize>(from: *const f32, masks: &[u16; 4]) -> [F32x16; S] {
    // SAFETY: as [`near_f32`].
    unsafe {
        let mut spread = 0;
        for r in 0..S {
            spread |= _pdep_u64(masks[r].into(), SPREAD[S]) << r;
        }
        let mut v = [_mm512_setzero_ps(); 4];
        for j in 0..S {
            v[j] = _mm512_maskz_loadu_ps((spread >> (16 * j)) as __mmask16, from.wrapping_add(16 * j));
        }
        let mut dealt = [F32x16(v[0]); S];
        for r in 0..S {
            let place = _mm512_add_epi32(_mm512_loadu_si512(const { places(S as i32) }.as_ptr().cast()), _mm512_set1_epi32(r as i32));
            let low = _mm512_permutex2var_ps(v[0], place, v[1]);
            let in_high = _mm512_cmpge_epi32_mask(place, _mm512_set1_epi32(32));
            dealt[r] = F32x16(match S {
                2 => low,
                3 => _mm512_mask_permutexvar_ps(low, in_high, place, v[2]),
                _ => _mm512_mask_blend_ps(in_high, low, _mm512_permutex2var_ps(v[2], place, v[3])),
            });
        }
        dealt
    }
}

#[inline(always)]
unsafe fn deal_f64<const S: usize>(from: *const f64, masks: &[u16; 4]) -> [F64x8; S] {
    // SAFETY: as [`near_f64`].
    unsafe {
        let mut spread = 0;
        for r in 0..S {
            spread |= _pdep_u64(masks[r].into(), SPREAD[S]) << r;
        }
        let mut v = [_mm512_setzero_pd(); 4];
        for j in 0..S {
            v[j] = _mm512_maskz_loadu_pd((spread >> (8 * j)) as __mmask8, from.wrapping_add(8 * j));
        }
        let mut dealt = [F64x8(v[0]); S];
        for r in 0..S {
            let place = _mm512_cvtepi32_epi64(_mm256_loadu_si256(const { places(S as i32) }.as_ptr().cast()));
            let place = _mm512_add_epi64(place, _mm512_set1_epi64(r as i64));
            let low = _mm512_permutex2var_pd(v[0], place, v[1]);
            let in_high = _mm512_cmpge_epi64_mask(place, _mm512_set1_epi64(16));
            dealt[r] = F64x8(match S {
                2 => low,
                3 => _mm512_mask_permutexvar_pd(low, in_high, place, v[2]),
                _ => _mm512_mask_blend_pd(in_high, low, _mm512_permutex2var_pd(v[2], place, v[3])),
            });
        }
        dealt
    }
}

/// The way back of [`near_f32`]: the first `count` lanes.
#[inline(always)]
unsafe fn apart_f32<const S: usize>(value: __m512, to: *mut f32, count: u32, accumulate: bool) {
    // SAFETY: as above, for writing.
    unsafe {
        let spread = _pdep_u64((1u64 << count) - 1, SPREAD[S]);
        for j in 0..S {
            let (mask, to) = ((spread >> (16 * j)) as __mmask16, to.wrapping_add(16 * j));
            let lane = [
                const { lane_of(S as i32, 16, 0) },
                const { lane_of(S as i32, 16, 1) },
                const { lane_of(S as i32, 16, 2) },
                const { lane_of(S as i32, 16, 3) },
            ];
            let mut part = _mm512_permutexvar_ps(_mm512_loadu_si512(lane[j].as_ptr().cast()), value);
            if accumulate {
                part = _mm512_add_ps(part, _mm512_maskz_loadu_ps(mask, to));
            }
            _mm512_mask_storeu_ps(to, mask, part);
        }
    }
}

#[inline(always)]
unsafe fn apart_f64<const S: usize>(value: __m512d, to: *mut f64, count: u32, accumulate: bool) {
    // SAFETY: as above.
    unsafe {
        let spread = _pdep_u64((1u64 << count) - 1, SPREAD[S]);
        for j in 0..S {
            let (mask, to) = ((spread >> (8 * j)) as __mmask8, to.wrapping_add(8 * j));
            let lane = [
                const { lane_of(S as i32, 8, 0) },
                const { lane_of(S as i32, 8, 1) },
                const { lane_of(S as i32, 8, 2) },
                const { lane_of(S as i32, 8, 3) },
            ];
            let lane = _mm512_cvtepi32_epi64(_mm256_loadu_si256(lane[j].as_ptr().cast()));
            let mut part = _mm512_permutexvar_pd(lane, value);
            if accumulate {
                part = _mm512_add_pd(part, _mm512_maskz_loadu_pd(mask, to));
            }
            _mm512_mask_storeu_pd(to, mask, part);
        }
    }
}

/// Scatters, compiled apart: within a kernel they would take its registers.
macro_rules! scatter {
    ($name:ident, $vector:ident, $elem:ty, $mask:ty, $compress:ident, $apart:ident) => {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,bmi2")]
        unsafe fn $name(value: $vector, to: *mut $elem, mask: u32, step: usize, accumulate: bool) {
            let count = mask.count_ones();
            // SAFETY: see above.
            unsafe {
                match step {
                    2 => $apart::<2>($compress(mask as $mask, value.0), to, count, accumulate),
                    3 => $apart::<3>($compress(mask as $mask, value.0), to, count, accumulate),
                    4 => $apart::<4>($compress(mask as $mask, value.0), to, count, accumulate),
                    _ => super::scatter(value, to, mask, step, accumulate),
                }
            }
        }
    };
}
scatter!(scatter_f32, F32x16, f32, __mmask16, _mm512_maskz_compress_ps, apart_f32);
scatter!(scatter_f64, F64x8, f64, __mmask8, _mm512_maskz_compress_pd, apart_f64);

/// Steps that the 32-bit offsets of gathers have room for.
const NEAR: usize = 1 << 24;

#[inline(always)]
unsafe fn gather_f32(from: *const f32, mask: u32, step: usize) -> __m512 {
    // SAFETY: see above; offsets of lanes do not overflow as `step < NEAR`.
    unsafe {
        let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let offset = _mm512_mullo_epi32(lane, _mm512_set1_epi32(step as i32));
        _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask as __mmask16, offset, from)
    }
}

#[inline(always)]
unsafe fn gather_f64(from: *const f64, mask: u32, step: usize) -> __m512d {
    // SAFETY: as above.
    unsafe {
        let offset = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(step as i32));
        _mm512_mask_i32gather_pd::<8>(_mm512_setzero_pd(), mask as __mmask8, offset, from)
    }
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
     $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $mul:ident, $zip:ident, $unzip:ident, $gather:ident,
     $maskload:ident, $compress:ident, $maskstore:ident, $compare:ident, $blend:ident, $columns:ident, $near:ident, $deal:ident, $scatter:ident) => {
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
                        2 => Self($near::<2>(from, mask)),
                        3 => Self($near::<3>(from, mask)),
                        4 => Self($near::<4>(from, mask)),
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
    _mm512_add_ps, _mm512_mul_ps, zip_f32, unzip_f32, gather_f32,
    _mm512_maskz_loadu_ps, _mm512_maskz_compress_ps, _mm512_mask_storeu_ps,
    _mm512_cmp_ps_mask, _mm512_mask_blend_ps, columns_f32, near_f32, deal_f32, scatter_f32
);

lanes!(
    /// Eight `f64`.
    F64x8, f64, __m512d, 8, __mmask8,
    _mm512_setzero_pd, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd,
    _mm512_add_pd, _mm512_mul_pd, zip_f64, unzip_f64, gather_f64,
    _mm512_maskz_loadu_pd, _mm512_maskz_compress_pd, _mm512_mask_storeu_pd,
    _mm512_cmp_pd_mask, _mm512_mask_blend_pd, columns_f64, near_f64, deal_f64, scatter_f64
);
