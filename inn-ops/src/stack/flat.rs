//! Neighbourhoods where lines are shorter than a vector: whole samples, or groups of their lines, as runs of pixels.
//!
//! Lines of a channel follow each other in memory. So a tap is a shift of the whole run by one number of pixels, with masks for the lanes
//! whose neighbour lies beyond an edge; a vector then holds several lines.

use super::cut::Strip;
use super::lines::Lines;
use super::plan::Taps;
use crate::simd::Lanes;

/// The masks of a strip and its surroundings.
#[derive(Clone, Default)]
pub(super) struct Flat {
    /// What the masks were made for: the run, the taps, the extents, the lanes.
    known: Option<(usize, usize, Taps, [usize; 3], usize)>,
    /// Samples of the strip, and the run of pixels that it covers in each.
    samples: usize,
    first: usize,
    count: usize,
    /// How far each tap looks.
    shifts: Vec<isize>,
    /// For each tap and vector of the run, the lanes whose neighbour lies in the image.
    masks: Vec<u32>,
    /// The first pixel of a sample that the strip adds to.
    low: usize,
    /// For each tap and vector from there on, the lanes that the strip adds to.
    reached: Vec<u32>,
    /// The lanes that exist, of these vectors.
    ends: Vec<u32>,
}

impl Flat {
    /// The most taps for which masks are worth their making.
    pub(super) const MOST_TAPS: usize = 27;

    /// Works out the strip of whole lines, counted from its first sample on, for vectors of `lanes` elements; a line is shorter than that. The
    /// same run of other samples has the same masks.
    pub(super) fn set(&mut self, lanes: usize, extents: [usize; 3], taps: Taps, strip: &Strip) {
        let [depth, height, width] = extents;
        let all = depth * height * width;
        let pixels = strip.lines.len() * width;
        self.samples = pixels.div_ceil(all);
        let (first, count) = (strip.lines.start * width, pixels / self.samples);
        let known = (first, count, taps, extents, lanes);
        if self.known == Some(known) {
            return;
        }
        self.known = Some(known);
        (self.first, self.count) = (first, count);
        let ([kz, ky, kx], [pz, py, px]) = (taps.kernel, taps.padding);
        let reach =
            ((pz * height + py) * width + px).max(((kz - 1).saturating_sub(pz) * height + (ky - 1).saturating_sub(py)) * width + kx);
        self.low = first.saturating_sub(reach);
        let high = (first + count + reach).min(all);
        let (vectors, targets) = (count.div_ceil(lanes), (high - self.low).div_ceil(lanes));
        self.shifts.clear();
        self.masks.clear();
        self.reached.clear();
        for (tz, ty, tx) in (0..kz).flat_map(|z| (0..ky).flat_map(move |y| (0..kx).map(move |x| (z, y, x)))) {
            let shift = ((tz * height + ty) * width + tx) as isize - ((pz * height + py) * width + px) as isize;
            self.shifts.push(shift);
            let (masks, reached) = (self.masks.len(), self.reached.len());
            self.masks.resize(masks + vectors, 0);
            self.reached.resize(reached + targets, 0);
            // The pixels of a line whose neighbour lies in it.
            let line = (0..width).filter(|x| (px..width + px).contains(&(x + tx))).map(|x| 1u64 << x).sum();
            for start in (first..first + count).step_by(width) {
                let (z, y) = (start / (height * width), start / width % height);
                if (pz..depth + pz).contains(&(z + tz)) && (py..height + py).contains(&(y + ty)) {
                    set_bits(&mut self.masks[masks..], lanes, (start - first) as isize, line);
                    set_bits(&mut self.reached[reached..], lanes, (start - self.low) as isize + shift, line);
                }
            }
        }
        self.ends.clear();
        self.ends.resize(targets, 0);
        for start in (self.low..high).step_by(width) {
            set_bits(&mut self.ends, lanes, (start - self.low) as isize, (1 << width.min(high - start)) - 1);
        }
    }
}

/// Sets the bits of a line from place `start` on, in words of `lanes` bits. Bits before the first word are none of a neighbour's.
fn set_bits(words: &mut [u32], lanes: usize, start: isize, line: u64) {
    let line = if start < 0 { line >> -start } else { line };
    let start = start.max(0) as usize;
    let line = line << (start % lanes);
    let low = (1u64 << lanes) - 1;
    for (word, bits) in words.iter_mut().skip(start / lanes).zip([line & low, line >> lanes]) {
        *word |= bits as u32;
    }
}

/// Fills the rows of a strip, see [`lines::gather`](super::lines::gather).
///
/// # Safety
/// As there: lanes outside of the image are masked out, and their addresses only computed.
#[inline(always)]
pub(super) unsafe fn gather<L: Lanes>(p: &Lines<'_, L::Elem>, flat: &Flat) {
    let whole = flat.samples * flat.count / L::N * L::N;
    let vectors = flat.count.div_ceil(L::N);
    let mut row = p.rows;
    for c in 0..p.image.channels {
        for (shift, masks) in flat.shifts.iter().zip(flat.masks.chunks_exact(vectors)) {
            // SAFETY: the caller's promise; a vector that is stored reaches past its run by less than a vector, into the next sample's, which
            // follows, or the row's end.
            unsafe {
                for end in (whole..p.pitch).step_by(L::N) {
                    L::zero().store(row.add(end));
                }
                for s in 0..flat.samples {
                    let sample = (p.walk.sample + s) * p.image.batch_stride + c * p.image.channel_stride + flat.first;
                    let from = p.image.data.wrapping_add(sample).wrapping_offset(*shift);
                    let to = row.add(s * flat.count);
                    for (j, &mask) in masks.iter().enumerate() {
                        L::load_masked(from.wrapping_add(j * L::N), mask).store(to.add(j * L::N));
                    }
                }
                row = row.add(p.pitch);
            }
        }
    }
}

/// Adds the rows of a strip to the image, see [`lines::scatter`](super::lines::scatter).
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn scatter<L: Lanes>(p: &Lines<'_, L::Elem>, flat: &Flat) {
    for s in 0..flat.samples {
        for c in 0..p.image.channels {
            // SAFETY: as for this function.
            unsafe {
                let sample = (p.walk.sample + s) * p.image.batch_stride + c * p.image.channel_stride;
                let to = p.image.data.wrapping_add(sample + flat.low);
                let rows = p.rows.add(c * flat.shifts.len() * p.pitch + s * flat.count);
                let mut j = 0;
                while j < flat.ends.len() {
                    j += match flat.ends.len() - j {
                        1 => add_up::<L, 1>(p, flat, rows, j, to),
                        2 => add_up::<L, 2>(p, flat, rows, j, to),
                        3 => add_up::<L, 3>(p, flat, rows, j, to),
                        _ => add_up::<L, 4>(p, flat, rows, j, to),
                    };
                }
            }
        }
    }
}

/// Adds all that reaches vectors `j..j + M`: sums side by side, so that no addition waits for the one before. Answers M.
///
/// # Safety
/// As [`scatter`]: lanes outside of a row's run are masked out, and their addresses only computed.
#[inline(always)]
unsafe fn add_up<L: Lanes, const M: usize>(p: &Lines<'_, L::Elem>, flat: &Flat, rows: *const L::Elem, j: usize, to: *mut L::Elem) -> usize {
    let distance = flat.low as isize - flat.first as isize + (j * L::N) as isize;
    let mut row = rows;
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [L::zero(); M];
        for (shift, masks) in flat.shifts.iter().zip(flat.reached.chunks_exact(flat.ends.len())) {
            let at = row.wrapping_offset(distance - shift);
            let masks = &masks[j..][..M];
            for m in 0..M {
                sums[m] = sums[m].add(L::load_masked(at.wrapping_add(m * L::N), masks[m]));
            }
            row = row.wrapping_add(p.pitch);
        }
        let ends = &flat.ends[j..][..M];
        for m in 0..M {
            sums[m].compress(to.add((j + m) * L::N), ends[m], true);
        }
    }
    M
}
