//! Between images and folded rows of neighbourhoods, and hidden arrays turned for weight gradients.

use super::super::lines::Lines;
use super::super::walk::Walk;
use super::{MOST_PARTS, MOST_TILE, Scheme};
use crate::simd::{Element, Lanes, MAX_LANES, transpose};

/// `sum + c v`, for a constant that the compiler knows.
///
/// # Safety
/// The CPU must support `L`.
#[inline(always)]
pub(super) unsafe fn add<L: Lanes>(sum: Option<L>, c: f64, v: L) -> Option<L> {
    // SAFETY: the caller's promise.
    unsafe {
        match sum {
            _ if c == 0.0 => sum,
            Some(sum) if c == 1.0 => Some(sum.add(v)),
            None if c == 1.0 => Some(v),
            _ => Some(L::splat(L::Elem::of(c)).mul_add(v, sum.unwrap_or(L::zero()))),
        }
    }
}

/// The bits of the lanes whose elements `first + lane` lie in `low..high`.
pub(super) fn mask<L: Lanes>(first: usize, low: usize, high: usize) -> u32 {
    let bits = |n: usize| if n >= 32 { u32::MAX } else { (1u32 << n) - 1 };
    bits(high.saturating_sub(first).min(L::N)) & !bits(low.saturating_sub(first).min(L::N))
}

/// The pixels of each place in a tile, of the pixels of a vector of tiles.
///
/// # Safety
/// The CPU must support `L`; the lanes of the masks must be readable.
#[inline(always)]
pub(super) unsafe fn deal<L: Lanes, S: Scheme>(from: *const L::Elem, masks: &[u32]) -> [L; MOST_TILE] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = [L::zero(); MOST_TILE];
        for i in 0..S::TILE {
            v[i] = L::load_masked(from.wrapping_add(i * L::N), masks[i]);
        }
        parted::<L, S>(v)
    }
}

/// [`deal`] of pixels that have been read.
///
/// # Safety
/// The CPU must support `L`.
#[inline(always)]
pub(super) unsafe fn parted<L: Lanes, S: Scheme>(v: [L; MOST_TILE]) -> [L; MOST_TILE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = v[0].unzip(v[1]);
        if S::TILE == 2 {
            return [a, b, v[2], v[3]];
        }
        let (c, d) = v[2].unzip(v[3]);
        let ((first, third), (second, fourth)) = (a.unzip(c), b.unzip(d));
        [first, second, third, fourth]
    }
}

/// The inverse of [`deal`].
///
/// # Safety
/// The CPU must support `L`.
#[inline(always)]
pub(super) unsafe fn collect<L: Lanes, S: Scheme>(v: [L; MOST_TILE]) -> [L; MOST_TILE] {
    // SAFETY: the caller's promise.
    unsafe {
        if S::TILE == 2 {
            let (low, high) = v[0].zip(v[1]);
            return [low, high, v[2], v[3]];
        }
        let ((a, c), (b, d)) = (v[0].zip(v[2]), v[1].zip(v[3]));
        let ((first, second), (third, fourth)) = (a.zip(b), c.zip(d));
        [first, second, third, fourth]
    }
}

/// V_e = Σ_j B_ej d_j of a vector of tiles whose second d starts at `from`, into rows `pitch` apart, for [`masks`](super::masks). The first and the last d of a
/// tile are pixels of the tiles beside it.
///
/// # Safety
/// The CPU must support `L`; the lanes of the masks must be readable, and the rows writable.
#[inline(always)]
pub(super) unsafe fn fold_vector<L: Lanes, S: Scheme>(from: *const L::Elem, masks: &[u32], to: *mut L::Elem, pitch: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut d = [L::zero(); MOST_PARTS];
        let own = deal::<L, S>(from, &masks[1..=S::TILE]);
        let (first, last) = (masks[0], masks[S::PARTS - 1]);
        let lane = last.trailing_zeros() as usize % MAX_LANES;
        // Register by register, not through memory.
        #[allow(clippy::manual_memcpy)]
        for k in 0..S::TILE {
            d[k + 1] = own[k];
        }
        d[0] = own[S::TILE - 1].up().add(L::load_masked(from.wrapping_sub(1), first));
        let after = from.wrapping_add(S::TILE * (lane + 1)).wrapping_sub(lane);
        d[S::PARTS - 1] = own[0].down().add(L::load_masked(after, last));
        store_folded::<L, S>(&d, to, pitch);
    }
}

/// V_e = Σ_j B_ej d_j, into rows `pitch` apart.
///
/// # Safety
/// The CPU must support `L`; the rows must be writable.
#[inline(always)]
pub(super) unsafe fn store_folded<L: Lanes, S: Scheme>(d: &[L; MOST_PARTS], to: *mut L::Elem, pitch: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for e in 0..S::PARTS {
            let mut sum = None;
            for k in 0..S::PARTS {
                sum = add::<L>(sum, S::INPUT[e][k], d[k]);
            }
            sum.unwrap_or(L::zero()).store(to.add(e * pitch));
        }
    }
}

/// The lines that a strip's neighbourhoods reach, of which those of one tap y follow each other: their sample and place, for each tap z.
fn reached(walk: &Walk) -> impl Iterator<Item = (usize, impl Iterator<Item = Option<(usize, isize)>>)> {
    let ([kz, ky, _], lines) = (walk.taps.kernel, walk.lines);
    (0..kz).map(move |tz| {
        let place = move |i: usize| {
            let (ty, line) = if i < lines { (0, i) } else { (i + 1 - lines, lines - 1) };
            // Places are those of tap x = 0, one pixel to the left.
            walk.places[(tz * ky + ty) * lines + line].map(|(sample, offset)| (sample, offset + 1))
        };
        (tz, (0..lines + ky - 1).map(place))
    })
}

/// Fetches the pixels of a vector of tiles into the cache: those of the next channel, which lie too far from the present ones for the hardware to
/// expect them.
///
/// # Safety
/// The CPU must support `L`.
#[inline(always)]
pub(super) unsafe fn ahead<L: Lanes, S: Scheme>(from: *const L::Elem) {
    for k in 0..S::TILE {
        L::prefetch(from.wrapping_add(k * L::N));
    }
}

/// Fills rows `((c, tap z), e)` of V with the lines of a strip and those above and below; a tap y is a shift by whole lines.
///
/// # Safety
/// As [`gather`](super::super::lines::gather), for rows of `p.pitch` elements that hold the tiles of these lines and a vector.
#[inline(always)]
pub(crate) unsafe fn gather<L: Lanes, S: Scheme>(p: &Lines<'_, L::Elem>) {
    let (walk, tiles) = (p.walk, p.walk.tiles);
    let whole = (walk.lines + walk.taps.kernel[1] - 1) * tiles / L::N * L::N;
    let vectors = tiles.div_ceil(L::N);
    let mut row = p.rows;
    for c in 0..p.image.channels {
        for (_, places) in reached(walk) {
            // SAFETY: lanes outside of the line are masked out, and their addresses only computed; a vector that is stored reaches past
            // its line by less than a vector, into the next line, which follows, or the row's end.
            unsafe {
                for end in (whole..p.pitch).step_by(L::N) {
                    for e in 0..S::PARTS {
                        L::zero().store(row.add(e * p.pitch + end));
                    }
                }
                let from = p.image.data.wrapping_add(walk.sample * p.image.batch_stride + c * p.image.channel_stride);
                for (i, place) in places.enumerate() {
                    let to = row.add(i * tiles);
                    let Some((sample, offset)) = place else {
                        for j in 0..vectors {
                            for e in 0..S::PARTS {
                                L::zero().store(to.add(e * p.pitch + j * L::N));
                            }
                        }
                        continue;
                    };
                    let from = from.wrapping_add(sample * p.image.batch_stride).wrapping_offset(offset);
                    for j in 0..vectors {
                        let masks = &walk.masks[S::PARTS * j..][..S::PARTS];
                        let from = from.wrapping_add(S::TILE * j * L::N);
                        ahead::<L, S>(from.wrapping_add(p.image.channel_stride));
                        fold_vector::<L, S>(from, masks, to.add(j * L::N), p.pitch);
                    }
                }
                row = row.add(S::PARTS * p.pitch);
            }
        }
    }
}

/// Adds rows of Z to the image, lines or parts of them: d_j gets Σ_e B_ej Z_e. The first and the last d of a tile are pixels of its neighbours.
///
/// # Safety
/// As [`scatter`](super::super::lines::scatter), for rows as in [`gather`].
#[inline(always)]
pub(crate) unsafe fn scatter<L: Lanes, S: Scheme>(p: &Lines<'_, L::Elem>) {
    let (walk, width, tiles) = (p.walk, p.walk.count, p.walk.tiles);
    let planes = walk.taps.kernel[0];
    for c in 0..p.image.channels {
        for (tz, places) in reached(walk) {
            for (i, (sample, offset)) in places.enumerate().filter_map(|(i, place)| Some((i, place?))) {
                // SAFETY: lanes outside of a line are masked out, and their addresses only computed.
                unsafe {
                    let first = (walk.sample + sample) * p.image.batch_stride + c * p.image.channel_stride;
                    let to = p.image.data.wrapping_add(first).wrapping_offset(offset);
                    let rows = p.rows.add((c * planes + tz) * S::PARTS * p.pitch + i * tiles);
                    let beyond = |k: usize, tile: usize, pixel: *mut L::Elem| {
                        for e in 0..S::PARTS {
                            *pixel += L::Elem::of(S::INPUT[e][k]) * *rows.add(e * p.pitch + tile);
                        }
                    };
                    if walk.before {
                        beyond(0, 0, to.wrapping_sub(1));
                    }
                    if walk.after {
                        beyond(S::PARTS - 1, tiles - 1, to.wrapping_add(width));
                    }
                    for j in (0..tiles).step_by(L::N) {
                        ahead::<L, S>(to.wrapping_add(S::TILE * j + p.image.channel_stride));
                        let (here, after, before) = (mask::<L>(j, 0, tiles), mask::<L>(j, 0, tiles - 1), mask::<L>(j, 1, tiles));
                        let from = rows.add(j);
                        let mut sums = [None; MOST_TILE];
                        for e in 0..S::PARTS {
                            let from = from.add(e * p.pitch);
                            let z = L::load_masked(from, here);
                            for k in 0..S::TILE {
                                sums[k] = add::<L>(sums[k], S::INPUT[e][k + 1], z);
                            }
                            if S::INPUT[e][0] != 0.0 {
                                let z = L::load_masked(from.wrapping_add(1), after);
                                sums[S::TILE - 1] = add::<L>(sums[S::TILE - 1], S::INPUT[e][0], z);
                            }
                            if S::INPUT[e][S::PARTS - 1] != 0.0 {
                                let z = L::load_masked(from.wrapping_sub(1), before);
                                sums[0] = add::<L>(sums[0], S::INPUT[e][S::PARTS - 1], z);
                            }
                        }
                        let mut pixels = [L::zero(); MOST_TILE];
                        for k in 0..S::TILE {
                            pixels[k] = sums[k].unwrap_or(L::zero());
                        }
                        let pixels = collect::<L, S>(pixels);
                        let left = width - S::TILE * j;
                        for k in 0..S::TILE {
                            if left > k * L::N {
                                pixels[k].compress(to.add(S::TILE * j + k * L::N), mask::<L>(k * L::N, 0, left), true);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Hidden rows, the pixels of each place in a tile `columns` elements after those of the one before, to turn into a_e, so that vectors run over
/// the rows: `[group of rows][column][row of the group]` each, filled up with zeros.
pub(crate) struct Turn<T> {
    pub(crate) from: *const T,
    /// Distance of the rows.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Tiles, whole vectors.
    pub(crate) columns: usize,
    pub(crate) to: *mut T,
    /// Distance of the arrays.
    pub(crate) apart: usize,
    /// Slopes at 0 and above, and below 0, of a function to apply first.
    pub(crate) slopes: Option<[T; 2]>,
}

/// Turns and folds.
///
/// # Safety
/// The CPU must support `L`, and all elements that [`Turn`] describes must be valid.
#[inline(always)]
pub(crate) unsafe fn turn<L: Lanes, S: Scheme>(p: &Turn<L::Elem>) {
    // SAFETY: as for this function.
    unsafe {
        if let Some([above, below]) = p.slopes {
            let (above, below) = (L::splat(above), L::splat(below));
            turn_applied::<L, S>(p, |v: L| v.scaled(v, above, below));
        } else {
            turn_applied::<L, S>(p, |v: L| v);
        }
    }
}

/// # Safety
/// As [`turn`].
#[inline(always)]
unsafe fn turn_applied<L: Lanes, S: Scheme>(p: &Turn<L::Elem>, apply: impl Fn(L) -> L + Copy) {
    for r in (0..p.rows).step_by(L::N) {
        let rows = (p.rows - r).min(L::N);
        for c in (0..p.columns).step_by(L::N) {
            // SAFETY: the caller's promise; `rows` are those that are left.
            unsafe {
                let from = p.from.add(r * p.row + c);
                let to = p.to.add(r * p.columns + c * L::N);
                // Where the pixels of a place are kept until all are there, for want of registers: the first and the last array are theirs.
                let mut places = [0; MOST_TILE];
                for k in 0..S::TILE {
                    places[k] = p.apart * if k == S::TILE - 1 { S::PARTS - 1 } else { k };
                    let from = from.add(k * p.columns);
                    let v = if rows == L::N {
                        L::columns(from, p.row, apply)
                    } else {
                        let mut v = [L::zero(); MAX_LANES];
                        for i in 0..L::N {
                            if i < rows {
                                v[i] = apply(L::load(from.add(i * p.row)));
                            }
                        }
                        transpose(&mut v);
                        v
                    };
                    for j in 0..L::N {
                        v[j].store(to.add(places[k] + j * L::N));
                    }
                }
                for j in 0..L::N {
                    let to = to.add(j * L::N);
                    let mut x = [L::zero(); MOST_TILE];
                    for k in 0..S::TILE {
                        x[k] = L::load(to.add(places[k]));
                    }
                    for e in 1..S::PARTS - 1 {
                        let mut sum = None;
                        for k in 0..S::TILE {
                            sum = add::<L>(sum, S::OUTPUT[k][e], x[k]);
                        }
                        sum.unwrap_or(L::zero()).store(to.add(e * p.apart));
                    }
                }
            }
        }
    }
}
