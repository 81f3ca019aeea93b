//! 256-bit vectors of x86-64.

use super::Lanes;
use std::arch::x86_64::*;

// SAFETY (these functions): only called from `Lanes` methods, whose callers
// have checked that the CPU has AVX2.
#[inline(always)]
unsafe fn mask_f32(mask: u32) -> __m256i {
    // SAFETY: see above.
    unsafe {
        let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask as i32), bits), bits)
    }
}

#[inline(always)]
unsafe fn mask_f64(mask: u32) -> __m256i {
    // SAFETY: see above.
    unsafe {
        let bits = _mm256_setr_epi64x(1, 2, 4, 8);
        _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(mask as i64), bits), bits)
    }
}

#[inline(always)]
unsafe fn zip_f32(a: __m256, b: __m256) -> (__m256, __m256) {
    // SAFETY: see above.
    unsafe {
        let (even, odd) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        (_mm256_permute2f128_ps(even, odd, 0x20), _mm256_permute2f128_ps(even, odd, 0x31))
    }
}

#[inline(always)]
unsafe fn zip_f64(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    // SAFETY: see above.
    unsafe {
        let (even, odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
        (_mm256_permute2f128_pd(even, odd, 0x20), _mm256_permute2f128_pd(even, odd, 0x31))
    }
}

/// A half of zeros beside one of `v`, to shift a lane in from: before the low half, and after the high one.
#[inline(always)]
unsafe fn beside(v: __m256i) -> (__m256i, __m256i) {
    // SAFETY: see above.
    unsafe { (_mm256_permute2x128_si256::<0x08>(v, v), _mm256_permute2x128_si256::<0x81>(v, v)) }
}

#[inline(always)]
unsafe fn up_f32(v: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe {
        let v = _mm256_castps_si256(v);
        _mm256_castsi256_ps(_mm256_alignr_epi8::<12>(v, beside(v).0))
    }
}

#[inline(always)]
unsafe fn down_f32(v: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe {
        let v = _mm256_castps_si256(v);
        _mm256_castsi256_ps(_mm256_alignr_epi8::<4>(beside(v).1, v))
    }
}

#[inline(always)]
unsafe fn up_f64(v: __m256d) -> __m256d {
    // SAFETY: see above.
    unsafe {
        let v = _mm256_castpd_si256(v);
        _mm256_castsi256_pd(_mm256_alignr_epi8::<8>(v, beside(v).0))
    }
}

#[inline(always)]
unsafe fn down_f64(v: __m256d) -> __m256d {
    // SAFETY: see above.
    unsafe {
        let v = _mm256_castpd_si256(v);
        _mm256_castsi256_pd(_mm256_alignr_epi8::<8>(beside(v).1, v))
    }
}

#[inline(always)]
unsafe fn kept_f32(v: __m256, mask: u32) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_and_ps(v, _mm256_castsi256_ps(mask_f32(mask))) }
}

#[inline(always)]
unsafe fn kept_f64(v: __m256d, mask: u32) -> __m256d {
    // SAFETY: see above.
    unsafe { _mm256_and_pd(v, _mm256_castsi256_pd(mask_f64(mask))) }
}

/// For each mask of eight lanes, the numbers of those that are set, from the lowest byte on.
static PACKED: [u64; 256] = {
    let mut table = [0; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask] |= lane << (8 * count);
                count += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
};

/// Moves the lanes that are set in a mask to the front.
#[inline(always)]
unsafe fn pack_f32(v: __m256, mask: u32) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_permutevar8x32_ps(v, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(PACKED[mask as usize % 256] as i64))) }
}

#[inline(always)]
unsafe fn pack_f64(v: __m256d, mask: u32) -> __m256d {
    let bits = (mask & 1) | (mask & 2) << 1 | (mask & 4) << 2 | (mask & 8) << 3;
    // SAFETY: see above.
    unsafe { _mm256_castps_pd(pack_f32(_mm256_castpd_ps(v), bits * 3)) }
}

/// Stores the first lanes, fewer than all: in halves, as some processors take tens of cycles for a masked store.
///
/// # Safety
///
/// As many places must be valid.
#[inline(always)]
unsafe fn store_f32(v: __m256, to: *mut f32, count: usize) {
    // SAFETY: each part is of places that are counted.
    unsafe {
        let (mut low, mut at) = (_mm256_castps256_ps128(v), to);
        if count & 4 != 0 {
            _mm_storeu_ps(at, low);
            low = _mm256_extractf128_ps::<1>(v);
            at = at.add(4);
        }
        if count & 2 != 0 {
            _mm_storel_epi64(at.cast(), _mm_castps_si128(low));
            low = _mm_movehl_ps(low, low);
            at = at.add(2);
        }
        if count & 1 != 0 {
            _mm_store_ss(at, low);
        }
    }
}

/// # Safety
///
/// As [`store_f32`].
#[inline(always)]
unsafe fn store_f64(v: __m256d, to: *mut f64, count: usize) {
    // SAFETY: as above, of twice as many halves.
    unsafe { store_f32(_mm256_castpd_ps(v), to.cast(), 2 * count) }
}

/// How far apart the windows are that [`near_f32`] loads, so that what it takes from each comes to lanes of its own.
const fn apart(step: usize) -> usize {
    if step == 3 { 8 } else { 7 }
}

/// The window of element `i * step` of the source, and its lane there.
const fn window(step: usize, i: usize) -> (usize, usize) {
    let window = i * step / 8;
    (window, i * step - window * apart(step))
}

/// Elements `STEP` apart, 2 to 4: whole windows, dealt out.
#[inline(always)]
unsafe fn near_f32<const STEP: usize>(from: *const f32, mask: u32) -> __m256 {
    // The lanes of a window by the bit of the mask that they answer to, and where each lane of the result then is.
    const { assert!(2 <= STEP && STEP <= 4) };
    let bits: [[i32; 8]; 4] = const {
        let (mut bits, mut i) = ([[0; 8]; 4], 0);
        while i < 8 {
            let (window, lane) = window(STEP, i);
            bits[window][lane] = 1 << i;
            i += 1;
        }
        bits
    };
    let order: [i32; 8] = const {
        let (mut order, mut i) = ([0; 8], 0);
        while i < 8 {
            order[i] = window(STEP, i).1 as i32;
            i += 1;
        }
        order
    };
    // SAFETY: see above; arrays of as many elements as vectors have.
    unsafe {
        let mask = _mm256_set1_epi32(mask as i32);
        let mut all = _mm256_setzero_ps();
        for j in 0..STEP {
            let bits = _mm256_loadu_si256(bits[j].as_ptr().cast());
            let wanted = _mm256_cmpgt_epi32(_mm256_and_si256(mask, bits), _mm256_setzero_si256());
            all = _mm256_or_ps(all, _mm256_maskload_ps(from.wrapping_add(j * apart(STEP)), wanted));
        }
        _mm256_permutevar8x32_ps(all, _mm256_loadu_si256(order.as_ptr().cast()))
    }
}

#[inline(always)]
unsafe fn gather_f32(from: *const f32, mask: u32, step: usize) -> F32x8 {
    // SAFETY: see above.
    unsafe {
        match step {
            2 => F32x8(near_f32::<2>(from, mask)),
            3 => F32x8(near_f32::<3>(from, mask)),
            4 => F32x8(near_f32::<4>(from, mask)),
            _ => super::gather(from, mask, step),
        }
    }
}

macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $elem:ty, $reg:ty, $n:literal,
     $zero:ident, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $mul:ident, $compare:ident, $blend:ident, $zip:ident, $up:ident, $down:ident, $kept:ident,
     $mask:ident, $maskload:ident, $pack:ident, $store_first:ident, $gather:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($reg);

        // SAFETY (all functions): the trait requires the caller to have
        // checked that the CPU has AVX2 and FMA, and pointers to be valid for
        // the lanes accessed; masked-out lanes are not accessed.
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
                Self(unsafe { $mul($blend(below.0, above.0, $compare::<_CMP_GE_OQ>(gate.0, $zero())), self.0) })
            }

            #[inline(always)]
            unsafe fn store_first(self, to: *mut $elem, count: usize) {
                // SAFETY: see above.
                unsafe {
                    if count == $n {
                        $store(to, self.0);
                    } else {
                        $store_first(self.0, to, count);
                    }
                }
            }

            #[inline(always)]
            unsafe fn gather(from: *const $elem, mask: u32, step: usize) -> Self {
                // SAFETY: see above.
                unsafe { $gather(from, mask, step) }
            }

            #[inline(always)]
            unsafe fn compress(self, to: *mut $elem, mask: u32, accumulate: bool) {
                let count = mask.count_ones() as usize;
                // SAFETY: see above; as many places are valid as the mask counts.
                unsafe {
                    if count == $n {
                        let value = if accumulate { self.add(Self::load(to)) } else { self };
                        value.store(to);
                    } else if count > 0 {
                        let packed = Self($pack(self.0, mask));
                        let value = if accumulate { packed.add(Self::load_masked(to, (1 << count) - 1)) } else { packed };
                        value.store_first(to, count);
                    }
                }
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
                Self(unsafe { $kept(self.0, mask) })
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
                Self(unsafe { $maskload(from, $mask(mask)) })
            }
        }
    };
}

lanes!(
    /// Eight `f32`.
    F32x8, f32, __m256, 8,
    _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps,
    _mm256_add_ps, _mm256_mul_ps, _mm256_cmp_ps, _mm256_blendv_ps, zip_f32, up_f32, down_f32, kept_f32, mask_f32, _mm256_maskload_ps, pack_f32, store_f32, gather_f32
);

lanes!(
    /// Four `f64`.
    F64x4, f64, __m256d, 4,
    _mm256_setzero_pd, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd,
    _mm256_add_pd, _mm256_mul_pd, _mm256_cmp_pd, _mm256_blendv_pd, zip_f64, up_f64, down_f64, kept_f64, mask_f64, _mm256_maskload_pd, pack_f64, store_f64, super::gather
);
