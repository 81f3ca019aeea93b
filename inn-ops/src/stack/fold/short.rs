//! Short lines, of which several share a vector of tiles.
//!
//! They go through a stage in the first-level cache, an array in which lines follow each other, each filled up with zeros to whole tiles, so that
//! vectors of tiles run on from line to line.

use super::super::walk::mask as lanes_of;
use super::lines::{mask, parted, store_folded};
use super::planes::{Deal, Fold, Unfold, unfold_vector};
use super::{MOST_PARTS, MOST_TILE, Scheme};
use crate::simd::{Lanes, MAX_LANES};
use std::mem::MaybeUninit;

/// Elements of the lines that are on the stage at one time.
const STAGE: usize = 64 * MAX_LANES;

/// The lines, and the vectors that end past them.
type Stage<T> = [MaybeUninit<T>; STAGE + (MOST_TILE + 1) * MAX_LANES];

/// Whether the tiles of a line would leave more than a quarter of their vectors empty.
pub(crate) fn is_short(tiles: usize, lanes: usize) -> bool {
    4 * tiles < 3 * tiles.next_multiple_of(lanes)
}

/// As [`masks`](super::masks), for vectors of a line that begin with the first d of the first tile, and for those that begin with the third.
pub(crate) fn masks(lanes: usize, tile: usize, tiles: usize, width: usize, (padding, first): (usize, usize), to: &mut Vec<u32>) {
    for shift in [first, first + 2] {
        let (low, high) = (padding.saturating_sub(shift), (width + padding).saturating_sub(shift).min(tile * tiles));
        to.extend((0..(tile * tiles).div_ceil(lanes)).map(|v| lanes_of(lanes, v, low, high)));
    }
}

/// Puts a line on the stage, or zeros, and fetches that of the next channel into the cache, as many elements `ahead`.
///
/// # Safety
/// The CPU must support `L`; the lanes of the masks must be readable, and all vectors writable.
#[inline(always)]
unsafe fn put<L: Lanes>(from: Option<*const L::Elem>, masks: &[u32], to: *mut L::Elem, ahead: usize) {
    for (v, &mask) in masks.iter().enumerate() {
        // SAFETY: the caller's promise; addresses of lanes that are masked out are only computed.
        unsafe {
            let line = from.map_or(L::zero(), |from| {
                L::prefetch(from.wrapping_add(v * L::N + ahead));
                L::load_masked(from.wrapping_add(v * L::N), mask)
            });
            line.store(to.add(v * L::N));
        }
    }
}

/// The pixels of each place in a tile, of a vector of tiles on the stage.
///
/// # Safety
/// The CPU must support `L`; the tiles must have been put there.
#[inline(always)]
unsafe fn take<L: Lanes, S: Scheme>(from: *const L::Elem) -> [L; MOST_TILE] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = [L::zero(); MOST_TILE];
        for k in 0..S::TILE {
            v[k] = L::load(from.add(k * L::N));
        }
        parted::<L, S>(v)
    }
}

/// Zeros of a vector of tiles.
///
/// # Safety
/// The CPU must support `L`; the vectors must be writable.
#[inline(always)]
unsafe fn clear<L: Lanes, S: Scheme>(to: *mut L::Elem) {
    for k in 0..S::TILE {
        // SAFETY: the caller's promise.
        unsafe { L::zero().store(to.add(k * L::N)) };
    }
}

/// Folds the `lines` of a plane of a channel that starts at `from` into rows from `to` on.
///
/// # Safety
/// As [`fold`](super::fold).
#[inline(always)]
pub(super) unsafe fn fold<L: Lanes, S: Scheme>(
    p: &Fold<'_, L::Elem>,
    from: *const L::Elem,
    lines: &[Option<usize>],
    masks: &[u32],
    to: *mut L::Elem,
) {
    // Two stages, as lines overlap by two elements: the first has the first d of all tiles and those that follow it, the second the last ones.
    let (mut first, mut last): (Stage<L::Elem>, Stage<L::Elem>) = ([MaybeUninit::uninit(); _], [MaybeUninit::uninit(); _]);
    let (first, last) = (first.as_mut_ptr().cast::<L::Elem>(), last.as_mut_ptr().cast::<L::Elem>());
    let line = S::TILE * p.tiles;
    let (first_masks, last_masks) = masks[..2 * line.div_ceil(L::N)].split_at(line.div_ceil(L::N));
    let count = STAGE / line;
    for (i, lines) in lines.chunks(count).enumerate() {
        // SAFETY: the stage has room for `count` lines and the vectors that are cleared; a vector of tiles ends at most that far past the lines.
        unsafe {
            for (i, place) in lines.iter().enumerate() {
                let from = place.map(|place| from.wrapping_add(place).wrapping_sub(p.padding));
                put::<L>(from, first_masks, first.add(i * line), p.channel);
                put::<L>(from.map(|from| from.wrapping_add(2)), last_masks, last.add(i * line), p.channel);
            }
            clear::<L, S>(first.add(lines.len() * line));
            clear::<L, S>(last.add(lines.len() * line));
            for j in (0..lines.len() * p.tiles).step_by(L::N) {
                let (low, high) = (take::<L, S>(first.add(S::TILE * j)), take::<L, S>(last.add(S::TILE * j)));
                let mut d = [L::zero(); MOST_PARTS];
                for k in 0..S::TILE {
                    (d[k], d[k + 2]) = (low[k], high[k]);
                }
                store_folded::<L, S>(&d, to.add(i * count * p.tiles + j), p.pitch);
            }
        }
    }
}

/// # Safety
/// As [`unfold`](super::unfold).
#[inline(always)]
pub(super) unsafe fn unfold<L: Lanes, S: Scheme>(p: &Unfold<L::Elem>) {
    let mut stage: Stage<L::Elem> = [MaybeUninit::uninit(); _];
    let stage = stage.as_mut_ptr().cast::<L::Elem>();
    let line = S::TILE * p.tiles;
    let count = STAGE / line;
    for r in 0..p.rows {
        for first in (0..p.lines).step_by(count) {
            let lines = count.min(p.lines - first);
            // SAFETY: the stage has room for `count` lines and a vector of tiles; what is written lies within the lines.
            unsafe {
                let from = p.m.add(r * p.pitch + first * p.tiles);
                for j in (0..lines * p.tiles).step_by(L::N) {
                    let pixels = unfold_vector::<L, S>(from.add(j), p.part);
                    for k in 0..S::TILE {
                        pixels[k].store(stage.add(S::TILE * j + k * L::N));
                    }
                }
                for i in 0..lines {
                    let to = p.to.add(r * p.channel + (first + i) * p.line);
                    for x in (0..p.width).step_by(L::N) {
                        let (pixels, left) = (L::load(stage.add(i * line + x)), p.width - x);
                        if left >= L::N && !p.accumulate {
                            pixels.store(to.add(x));
                        } else {
                            pixels.compress(to.add(x), mask::<L>(0, 0, left), p.accumulate);
                        }
                    }
                }
            }
        }
    }
}

/// Deals the lines of a channel that starts at `from` to columns from `to` on.
///
/// # Safety
/// As [`deal`](super::deal).
#[inline(always)]
pub(super) unsafe fn deal<L: Lanes, S: Scheme>(p: &Deal<L::Elem>, from: *const L::Elem, to: *mut L::Elem) {
    let mut stage: Stage<L::Elem> = [MaybeUninit::uninit(); _];
    let stage = stage.as_mut_ptr().cast::<L::Elem>();
    let line = S::TILE * p.tiles;
    let count = STAGE / line;
    let mut masks = [0; STAGE / 2];
    let masks = &mut masks[..line.div_ceil(L::N)];
    masks.iter_mut().enumerate().for_each(|(v, mask)| *mask = lanes_of(L::N, v, 0, p.width));
    for first in (0..p.lines).step_by(count) {
        let lines = count.min(p.lines - first);
        // SAFETY: as in `fold`; nothing is written past the last column.
        unsafe {
            for i in 0..lines {
                put::<L>(Some(from.wrapping_add((first + i) * p.line)), masks, stage.add(i * line), p.channel);
            }
            clear::<L, S>(stage.add(lines * line));
            for j in (0..lines * p.tiles).step_by(L::N) {
                let pixels = take::<L, S>(stage.add(S::TILE * j));
                let at = p.first + first * p.tiles + j;
                let room = p.columns - at;
                for k in 0..S::TILE {
                    let to = to.add(k * p.columns + at);
                    if room >= L::N { pixels[k].store(to) } else { pixels[k].store_first(to, room) }
                }
            }
        }
    }
}
