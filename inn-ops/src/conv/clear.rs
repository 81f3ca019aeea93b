//! Zeros in large arrays.

use crate::simd::Element;

/// Bytes of an array from which its zeros go past the caches: it would not stay there, and writing to a line of a cache first reads what is overwritten.
const LARGE: usize = 64 << 20;

/// Whether the zeros of an array of so many elements go past the caches.
pub(super) fn passes_by<T>(elements: usize) -> bool {
    elements.saturating_mul(size_of::<T>()) >= LARGE
}

/// Sets elements to zero; past the caches if `pass_by`, and then [`done`] has to follow.
pub(super) fn zero<T: Element>(to: &mut [T], pass_by: bool) {
    if pass_by { past_caches(to) } else { to.fill(T::ZERO) }
}

/// Waits until what passed by the caches is in its place for other threads too.
pub(super) fn done(pass_by: bool) {
    if pass_by {
        fence();
    }
}

#[cfg(target_arch = "x86_64")]
fn past_caches<T: Element>(to: &mut [T]) {
    use std::arch::x86_64::{__m128i, _mm_setzero_si128, _mm_stream_si32, _mm_stream_si128};
    const { assert!(size_of::<T>().is_multiple_of(size_of::<i32>()) && align_of::<T>() >= align_of::<i32>()) };
    // SAFETY: numbers are as good as vectors of bits, and aligned ones may be written to. These instructions are part of every x86-64.
    unsafe {
        let words = to.align_to_mut::<i32>().1;
        let (head, whole, tail) = words.align_to_mut::<__m128i>();
        head.iter_mut().for_each(|word| _mm_stream_si32(word, 0));
        whole.iter_mut().for_each(|vector| _mm_stream_si128(vector, _mm_setzero_si128()));
        tail.iter_mut().for_each(|word| _mm_stream_si32(word, 0));
    }
}

#[cfg(target_arch = "x86_64")]
fn fence() {
    // SAFETY: part of every x86-64.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

#[cfg(not(target_arch = "x86_64"))]
fn past_caches<T: Element>(to: &mut [T]) {
    to.fill(T::ZERO);
}

#[cfg(not(target_arch = "x86_64"))]
fn fence() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_just_what_it_is_given() {
        for (start, len) in [(0, 64), (1, 62), (3, 1), (5, 0), (7, 23), (16, 48)] {
            for pass_by in [false, true] {
                let mut array = [1.0f32; 64];
                zero(&mut array[start..start + len], pass_by);
                done(pass_by);
                let zeros: Vec<usize> = (0..64).filter(|&i| array[i] == 0.0).collect();
                assert_eq!(zeros, (start..start + len).collect::<Vec<_>>());
            }
        }
    }
}
