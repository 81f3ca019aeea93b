//! Lanes that are some elements apart in memory.

use super::{F32x16, F64x8};
use std::arch::x86_64::*;

// SAFETY (these functions): only called from `Lanes` methods, whose callers
// have checked that the CPU has AVX-512.

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

/// Which of three vectors element `lanes * j + l` of all three, put between each other, is from.
const fn phase_of(lanes: i32, j: i32) -> [i32; 16] {
    let mut phase = [0; 16];
    let mut l = 0;
    while l < lanes {
        phase[l as usize] = (lanes * j + l) % 3;
        l += 1;
    }
    phase
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

/// Short steps: `S` whole vectors, masked, each element of which goes to one of the results. Several times as fast as gathers, for a single one too.
#[inline(always)]
pub(super) unsafe fn deal_f32<const S: usize>(from: *const f32, masks: &[u16; 4]) -> [F32x16; S] {
    // SAFETY: see above; the masks let only the elements of the lanes in them be read.
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
pub(super) unsafe fn deal_f64<const S: usize>(from: *const f64, masks: &[u16; 4]) -> [F64x8; S] {
    // SAFETY: as above.
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

/// Three vectors put between each other; see `Lanes::threes`.
#[inline(always)]
pub(super) unsafe fn threes_f32(v: [__m512; 3]) -> [F32x16; 3] {
    // SAFETY: see above.
    unsafe {
        let mut lines = [F32x16(v[0]); 3];
        for j in 0..3 {
            let lane = [const { lane_of(3, 16, 0) }, const { lane_of(3, 16, 1) }, const { lane_of(3, 16, 2) }][j];
            let phase = [const { phase_of(16, 0) }, const { phase_of(16, 1) }, const { phase_of(16, 2) }][j];
            let (lane, phase) = (_mm512_loadu_si512(lane.as_ptr().cast()), _mm512_loadu_si512(phase.as_ptr().cast()));
            let either = _mm512_permutex2var_ps(v[0], _mm512_add_epi32(lane, _mm512_slli_epi32::<4>(phase)), v[1]);
            let last = _mm512_cmpeq_epi32_mask(phase, _mm512_set1_epi32(2));
            lines[j] = F32x16(_mm512_mask_permutexvar_ps(either, last, lane, v[2]));
        }
        lines
    }
}

#[inline(always)]
pub(super) unsafe fn threes_f64(v: [__m512d; 3]) -> [F64x8; 3] {
    // SAFETY: see above.
    unsafe {
        let mut lines = [F64x8(v[0]); 3];
        for j in 0..3 {
            let lane = [const { lane_of(3, 8, 0) }, const { lane_of(3, 8, 1) }, const { lane_of(3, 8, 2) }][j];
            let phase = [const { phase_of(8, 0) }, const { phase_of(8, 1) }, const { phase_of(8, 2) }][j];
            let lane = _mm512_cvtepi32_epi64(_mm256_loadu_si256(lane.as_ptr().cast()));
            let phase = _mm512_cvtepi32_epi64(_mm256_loadu_si256(phase.as_ptr().cast()));
            let either = _mm512_permutex2var_pd(v[0], _mm512_add_epi64(lane, _mm512_slli_epi64::<3>(phase)), v[1]);
            let last = _mm512_cmpeq_epi64_mask(phase, _mm512_set1_epi64(2));
            lines[j] = F64x8(_mm512_mask_permutexvar_pd(either, last, lane, v[2]));
        }
        lines
    }
}

/// The way back of [`deal_f32`] for one vector: its first `count` lanes.
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
        pub(super) unsafe fn $name(value: $vector, to: *mut $elem, mask: u32, step: usize, accumulate: bool) {
            let count = mask.count_ones();
            // SAFETY: see above.
            unsafe {
                match step {
                    2 => $apart::<2>($compress(mask as $mask, value.0), to, count, accumulate),
                    3 => $apart::<3>($compress(mask as $mask, value.0), to, count, accumulate),
                    4 => $apart::<4>($compress(mask as $mask, value.0), to, count, accumulate),
                    _ => crate::simd::scatter(value, to, mask, step, accumulate),
                }
            }
        }
    };
}
scatter!(scatter_f32, F32x16, f32, __mmask16, _mm512_maskz_compress_ps, apart_f32);
scatter!(scatter_f64, F64x8, f64, __mmask8, _mm512_maskz_compress_pd, apart_f64);

/// Steps that the 32-bit offsets of gathers have room for.
pub(super) const NEAR: usize = 1 << 24;

#[inline(always)]
pub(super) unsafe fn gather_f32(from: *const f32, mask: u32, step: usize) -> __m512 {
    // SAFETY: see above; offsets of lanes do not overflow as `step < NEAR`.
    unsafe {
        let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let offset = _mm512_mullo_epi32(lane, _mm512_set1_epi32(step as i32));
        _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask as __mmask16, offset, from)
    }
}

#[inline(always)]
pub(super) unsafe fn gather_f64(from: *const f64, mask: u32, step: usize) -> __m512d {
    // SAFETY: as above.
    unsafe {
        let offset = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(step as i32));
        _mm512_mask_i32gather_pd::<8>(_mm512_setzero_pd(), mask as __mmask8, offset, from)
    }
}
