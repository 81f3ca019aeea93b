//! From lines of images that fill their tiles and follow each other to folded arrays, turned so that vectors run over the channels.

use super::super::walk::mask as lanes_of;
use super::lines::add;
use super::{MOST_TILE, Scheme};
use crate::simd::{Lanes, MAX_LANES, transpose};

/// How many vectors ahead the pixels of a channel are fetched into the cache.
const AHEAD: usize = 4;

/// Pixels of channels, whole tiles that follow each other, to turn into a_e: `[group of channels][column][channel of the group]` each, filled up with zeros.
pub(crate) struct Pixels<T> {
    /// The first pixel of the first channel, and the distance of channels.
    pub(crate) from: *const T,
    pub(crate) channels: usize,
    pub(crate) channel: usize,
    pub(crate) tiles: usize,
    /// The column of the first tile.
    pub(crate) to: *mut T,
    /// Columns of an array, and the distance of arrays.
    pub(crate) columns: usize,
    pub(crate) apart: usize,
}

/// Turns and folds. Vectors have to be whole tiles.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Pixels`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn turn<L: Lanes, S: Scheme>(p: &Pixels<L::Elem>) {
    let pixels = S::TILE * p.tiles;
    for c in (0..p.channels).step_by(L::N) {
        let channels = (p.channels - c).min(L::N);
        for q in (0..pixels).step_by(L::N) {
            let from = p.from.wrapping_add(c * p.channel + q);
            // SAFETY: the caller's promise; pixels past the last one are masked out, and tiles that have none are not written.
            unsafe {
                for i in 0..channels {
                    L::prefetch(from.wrapping_add(i * p.channel + AHEAD * L::N));
                }
                let v = if channels == L::N && pixels - q >= L::N {
                    L::columns(from, p.channel, |v| v)
                } else {
                    let mask = lanes_of(L::N, 0, 0, pixels - q);
                    let mut v = [L::zero(); MAX_LANES];
                    for i in 0..L::N {
                        if i < channels {
                            v[i] = L::load_masked(from.wrapping_add(i * p.channel), mask);
                        }
                    }
                    transpose(&mut v);
                    v
                };
                let to = p.to.add(c * p.columns + q / S::TILE * L::N);
                for t in 0..L::N / S::TILE {
                    if q + S::TILE * t < pixels {
                        fold_tile::<L, S>(&v[S::TILE * t..], to.add(t * L::N), p.apart);
                    }
                }
            }
        }
    }
}

/// a_e = Σ_i A_ie x_i of a tile, into arrays `apart`.
///
/// # Safety
/// The CPU must support `L`; the arrays must be writable.
#[inline(always)]
unsafe fn fold_tile<L: Lanes, S: Scheme>(x: &[L], to: *mut L::Elem, apart: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        // Register by register, not through memory.
        let mut places = [L::zero(); MOST_TILE];
        #[allow(clippy::manual_memcpy)]
        for k in 0..S::TILE {
            places[k] = x[k];
        }
        for e in 0..S::PARTS {
            let mut sum = None;
            for k in 0..S::TILE {
                sum = add::<L>(sum, S::OUTPUT[k][e], places[k]);
            }
            sum.unwrap_or(L::zero()).store(to.add(e * apart));
        }
    }
}
