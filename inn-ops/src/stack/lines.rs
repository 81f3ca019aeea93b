//! Between images and the arrays of a strip: neighbourhoods of pixels become rows, and rows are added back to neighbourhoods.
//!
//! Row `(c, t)` of a strip's array holds, for each of its pixels `p`, channel `c` of the image at `p + t - padding`, zero outside of the
//! image; that makes a convolution a matrix product. [`scatter`] is the exact adjoint of [`gather`].

pub(crate) use super::common::with_arrays;
pub(crate) use super::cut::Strip;
use super::flat;
pub(crate) use super::plan::Taps;
use super::walk::Walk;
use crate::simd::Lanes;

/// A window of an image (B, C, D, H, W).
#[derive(Clone, Copy)]
pub(crate) struct Image<T> {
    /// Where the first sample lies, or would lie if it were there.
    pub(crate) data: *mut T,
    pub(crate) channels: usize,
    pub(crate) batch_stride: usize,
    pub(crate) channel_stride: usize,
    /// Distance of the pixels of a line.
    pub(crate) step: usize,
}

impl<T> Image<T> {
    /// Some of its channels.
    pub(super) fn part(self, channels: &std::ops::Range<usize>) -> Self {
        Self { data: self.data.wrapping_add(channels.start * self.channel_stride), channels: channels.len(), ..self }
    }
}

// SAFETY: an address only; the plan says which task writes where.
unsafe impl<T: Send> Send for Image<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Image<T> {}

/// A strip of an image and its array, for one kernel.
pub(crate) struct Lines<'a, T> {
    pub(crate) image: Image<T>,
    pub(crate) walk: &'a Walk,
    /// Row 0 of the array.
    pub(crate) rows: *mut T,
    pub(crate) pitch: usize,
}

/// Fills the rows of a strip from the image.
///
/// # Safety
/// The CPU must support `L`, for which the walk was made; the image must be readable wherever the strip's lines and their neighbours within
/// it are, and the array must have `channels * taps` rows of `pitch` elements, `pitch` being at least the strip's pixels and a vector.
#[inline(always)]
pub(crate) unsafe fn gather<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let walk = p.walk;
    if let Some(flat) = walk.flat() {
        // SAFETY: as for this function.
        return unsafe { flat::gather::<L>(p, flat) };
    }
    let whole = walk.pixels() / L::N * L::N;
    let mut row = p.rows;
    for c in 0..p.image.channels {
        for places in walk.places.chunks_exact(walk.lines) {
            for (tx, masks) in walk.masks.chunks_exact(walk.vectors).enumerate() {
                // SAFETY: as for this function.
                unsafe {
                    for end in (whole..p.pitch).step_by(L::N) {
                        L::zero().store(row.add(end));
                    }
                    let from = p
                        .image
                        .data
                        .wrapping_add(walk.sample * p.image.batch_stride + c * p.image.channel_stride)
                        .wrapping_add(tx * p.image.step);
                    if p.image.step == 1 {
                        gather_row::<L>(from, p.image.batch_stride, places, masks, walk.count, row);
                    } else {
                        gather_far::<L>(from, p.image.step, places, masks, walk.count, row);
                    }
                    row = row.add(p.pitch);
                }
            }
        }
    }
}

/// One row. A vector that is stored reaches past its line by less than a vector, into the next line, which follows, or the row's end.
///
/// # Safety
/// As [`gather`]: lanes outside of the image are masked out, and their addresses only computed.
#[inline(always)]
unsafe fn gather_row<L: Lanes>(
    from: *const L::Elem,
    batch: usize,
    places: &[Option<(usize, isize)>],
    masks: &[u32],
    count: usize,
    row: *mut L::Elem,
) {
    let mut to = row;
    for place in places {
        // SAFETY: the caller's promise.
        unsafe {
            match *place {
                Some((sample, offset)) => {
                    let from = from.wrapping_add(sample * batch).wrapping_offset(offset);
                    for (j, &mask) in masks.iter().enumerate() {
                        L::load_masked(from.wrapping_add(j * L::N), mask).store(to.add(j * L::N));
                    }
                }
                None => {
                    for j in 0..masks.len() {
                        L::zero().store(to.add(j * L::N));
                    }
                }
            }
            to = to.add(count);
        }
    }
}

/// [`gather_row`] of pixels that are `step` apart, in one line.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn gather_far<L: Lanes>(
    from: *const L::Elem,
    step: usize,
    places: &[Option<(usize, isize)>],
    masks: &[u32],
    count: usize,
    row: *mut L::Elem,
) {
    for (i, place) in places.iter().enumerate() {
        let offset = place.map_or(0, |(_, offset)| offset);
        let from = from.wrapping_offset(offset.wrapping_mul(step as isize));
        for (j, &mask) in masks.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { L::gather(from.wrapping_add(j * L::N * step), mask, step).store(row.add(i * count + j * L::N)) };
        }
    }
}

/// Adds the rows of a strip to the image.
///
/// # Safety
/// As [`gather`]; in addition nothing else may access the image's pixels in reach of the strip meanwhile.
#[inline(always)]
pub(crate) unsafe fn scatter<L: Lanes>(p: &Lines<'_, L::Elem>) {
    let walk = p.walk;
    if let Some(flat) = walk.flat() {
        // SAFETY: as for this function.
        return unsafe { flat::scatter::<L>(p, flat) };
    }
    let taps = walk.taps.count();
    for target in &walk.targets {
        let sources = &walk.sources[target.sources.clone()];
        for c in 0..p.image.channels {
            // SAFETY: as for this function.
            unsafe {
                let offset =
                    (walk.sample + target.sample) * p.image.batch_stride + c * p.image.channel_stride + target.offset * p.image.step;
                let to = p.image.data.wrapping_add(offset);
                let rows = p.rows.add(c * taps * p.pitch);
                let mut j = 0;
                while j < walk.reached {
                    j += match walk.reached - j {
                        1 => add_up::<L, 1>(p, sources, rows, j, to),
                        2 => add_up::<L, 2>(p, sources, rows, j, to),
                        3 => add_up::<L, 3>(p, sources, rows, j, to),
                        _ => add_up::<L, 4>(p, sources, rows, j, to),
                    };
                }
            }
        }
    }
}

/// Adds all that reaches vectors `j..j + M` of a line: sums side by side, so that no addition waits for the one before. Answers M.
///
/// # Safety
/// As [`scatter`]: lanes outside of a row's part are masked out, and their addresses only computed.
#[inline(always)]
unsafe fn add_up<L: Lanes, const M: usize>(
    p: &Lines<'_, L::Elem>,
    sources: &[(usize, isize, usize)],
    rows: *const L::Elem,
    j: usize,
    to: *mut L::Elem,
) -> usize {
    let masks = &p.walk.reached_masks;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [L::zero(); M];
        for &(row, shift, tx) in sources {
            let at = rows.add(row * p.pitch).wrapping_offset(shift).wrapping_add(j * L::N);
            let masks = &masks[tx * p.walk.reached + j..][..M];
            for m in 0..M {
                sums[m] = sums[m].add(L::load_masked(at.wrapping_add(m * L::N), masks[m]));
            }
        }
        let ends = &p.walk.ends[j..][..M];
        for m in 0..M {
            let to = to.add((j + m) * L::N * p.image.step);
            if p.image.step == 1 {
                sums[m].compress(to, ends[m], true);
            } else {
                sums[m].scatter(to, ends[m], p.image.step, true);
            }
        }
    }
    M
}
