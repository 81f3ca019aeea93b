//! Short lines, of which several share a vector of tiles.
//!
//! They go through a stage in the first-level cache, an array in which lines follow each other, each filled up with zeros to whole tiles, so that
//! vectors of tiles run on from line to line.

use super::super::walk::mask as lanes_of;
use super::lines::{mask, parted, store_folded};
use super::planes::{Deal, Fold, Unfold, unfold_vector};
use super::{MOST_PARTS, MOST_TILE, Scheme};
use crate::simd::{Element, Lanes, MAX_LANES};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements of the lines that are on the stage at one time.
const STAGE: usize = 64 * MAX_LANES;

/// The lines, and the vectors that end past them.
type Stage<T> = [MaybeUninit<T>; STAGE + (MOST_TILE + 1) * MAX_LANES];

/// Whether the tiles of a line would leave more than a quarter of their vectors empty.
pub(crate) fn is_short(tiles: usize, lanes: usize) -> bool {
    4 * tiles < 3 * tiles.next_multiple_of(lanes)
}

/// What [`fold`] has to know of lines whose second d starts `first + 1` pixels after a padding does.
///
/// - Masks of the lanes that lie in the `width` pixels of what is folded, of the vectors of a line's own pixels.
/// - Whether the first d of a line's first tile lies there, and the last d of its last tile.
/// - For each vector of tiles until they begin with a line again: the lanes whose tile is not the first of its line, but for the first lane, and that
///   one if so; the lanes whose tile is not the last of its line, but for the last lane, and that one if so.
pub(crate) fn masks(lanes: usize, tile: usize, tiles: usize, width: usize, (padding, first): (usize, usize), to: &mut Vec<u32>) {
    let inside = |shift: usize| padding.saturating_sub(shift)..(width + padding).saturating_sub(shift);
    let own = inside(first + 1);
    to.extend((0..(tile * tiles).div_ceil(lanes)).map(|v| lanes_of(lanes, v, own.start, own.end.min(tile * tiles))));
    to.push(u32::from(inside(first).contains(&0)));
    to.push(u32::from(inside(first + 1).contains(&(tile * tiles))));
    let mut start = 0;
    loop {
        let place = |lane: usize| (start + lane) % tiles;
        let bits = |lanes: Range<usize>, but: usize| lanes.filter(|&lane| place(lane) != but).fold(0, |bits, lane| bits | 1 << lane);
        let last = lanes - 1;
        to.extend([bits(1..lanes, 0), bits(0..1, 0), bits(0..last, tiles - 1), bits(last..lanes, tiles - 1)]);
        start = (start + lanes) % tiles;
        if start == 0 {
            return;
        }
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

/// V_e of a vector of tiles that may be of several lines, of their own pixels and of what its first and its last tile have besides: `before` and `after`.
///
/// # Safety
/// The CPU must support `L`; the rows must be writable.
#[inline(always)]
unsafe fn fold_own<L: Lanes, S: Scheme>(own: &[L; MOST_TILE], [before, after]: [L; 2], bounds: &[u32], to: *mut L::Elem, pitch: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut d = [L::zero(); MOST_PARTS];
        // Register by register, not through memory.
        #[allow(clippy::manual_memcpy)]
        for k in 0..S::TILE {
            d[k + 1] = own[k];
        }
        d[0] = own[S::TILE - 1].up().kept(bounds[0]).add(before);
        d[S::PARTS - 1] = own[0].down().kept(bounds[2]).add(after);
        store_folded::<L, S>(&d, to, pitch);
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
    let line = S::TILE * p.tiles;
    let (own, masks) = masks.split_at(line.div_ceil(L::N));
    let (beyond, bounds) = masks.split_at(2);
    let from = from.wrapping_add(1).wrapping_sub(p.padding);
    // SAFETY: the caller's promise.
    unsafe {
        if line.is_multiple_of(L::N) && L::N.is_multiple_of(p.tiles) && *beyond == [0; 2] {
            whole_vectors::<L, S>(p, from, lines, (own, bounds), to);
        } else {
            staged::<L, S>(p, from, lines, (own, beyond, bounds), to);
        }
    }
}

/// [`fold`] of lines of whole vectors, some of which make a vector of tiles, with zeros on either side.
///
/// # Safety
/// As [`fold`].
#[inline(always)]
unsafe fn whole_vectors<L: Lanes, S: Scheme>(
    p: &Fold<'_, L::Elem>,
    from: *const L::Elem,
    lines: &[Option<usize>],
    (own, bounds): (&[u32], &[u32]),
    to: *mut L::Elem,
) {
    // Powers of two, both: a line's vectors, one place of its tiles each.
    let (shift, last) = (own.len().trailing_zeros(), own.len() - 1);
    let bounds = [bounds[0], bounds[1], bounds[2], bounds[3]];
    for (i, lines) in lines.chunks(L::N / p.tiles).enumerate() {
        // SAFETY: the caller's promise; lanes outside of a line are masked out.
        unsafe {
            let mut v = [L::zero(); MOST_TILE];
            for k in 0..S::TILE {
                if let Some(&Some(line)) = lines.get(k >> shift) {
                    let from = from.wrapping_add(line + (k & last) * L::N);
                    L::prefetch(from.wrapping_add(p.channel));
                    v[k] = L::load_masked(from, own[k & last]);
                }
            }
            fold_own::<L, S>(&parted::<L, S>(v), [L::zero(); 2], &bounds, to.add(i * L::N), p.pitch);
        }
    }
}

/// [`fold`] of any lines.
///
/// # Safety
/// As [`fold`].
#[inline(always)]
unsafe fn staged<L: Lanes, S: Scheme>(
    p: &Fold<'_, L::Elem>,
    from: *const L::Elem,
    lines: &[Option<usize>],
    (own, beyond, bounds): (&[u32], &[u32], &[u32]),
    to: *mut L::Elem,
) {
    let mut stage: Stage<L::Elem> = [MaybeUninit::uninit(); _];
    let stage = stage.as_mut_ptr().cast::<L::Elem>();
    // The first d of each line's first tile, and the last d of its last tile, zeros in the other tiles.
    let mut ends = [[MaybeUninit::<L::Elem>::uninit(); STAGE / 2 + MAX_LANES]; 2];
    let line = S::TILE * p.tiles;
    let count = STAGE / line;
    for end in (0..2).filter(|&end| beyond[end] != 0) {
        ends[end][..count.min(lines.len()) * p.tiles + L::N].fill(MaybeUninit::new(L::Elem::ZERO));
    }
    for (i, lines) in lines.chunks(count).enumerate() {
        // SAFETY: the stage has room for `count` lines and the vectors that are cleared; a vector of tiles ends at most that far past the lines.
        // The elements beside a vector are read where they are of the same line.
        unsafe {
            for (i, place) in lines.iter().enumerate() {
                let from = place.map(|place| from.wrapping_add(place));
                put::<L>(from, own, stage.add(i * line), p.channel);
                let end = |at: isize| from.map_or(L::Elem::ZERO, |from| *from.offset(at));
                if beyond[0] != 0 {
                    ends[0][i * p.tiles].write(end(-1));
                }
                if beyond[1] != 0 {
                    ends[1][(i + 1) * p.tiles - 1].write(end(line as isize));
                }
            }
            clear::<L, S>(stage.add(lines.len() * line));
            let mut next = bounds.chunks_exact(4).cycle();
            for j in (0..lines.len() * p.tiles).step_by(L::N) {
                let (vector, bounds) = (stage.add(S::TILE * j), next.next().unwrap_or(&[0; 4]));
                let mut beside = [
                    L::load_masked(vector.wrapping_sub(1), bounds[1]),
                    L::load_masked(vector.wrapping_add((S::TILE - 1) * L::N + 1), bounds[3]),
                ];
                for end in 0..2 {
                    if beyond[end] != 0 {
                        beside[end] = beside[end].add(L::load(ends[end][j..].as_ptr().cast()));
                    }
                }
                fold_own::<L, S>(&take::<L, S>(vector), beside, bounds, to.add(i * count * p.tiles + j), p.pitch);
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
