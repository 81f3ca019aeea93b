//! The inner loops, generic over the vector type.
//!
//! Everything here is `#[inline(always)]` and gets instantiated by
//! [`kernels`](super::kernels) in functions that enable an instruction set.

use crate::simd::Lanes;

/// Where one vector of results, or a part of it, goes: the lanes in `mask`
/// are written one after the other from element `to` of each output row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreOp {
    pub(crate) to: usize,
    pub(crate) mask: u32,
}

/// A block of output rows: row `m` at position `q` becomes
/// `sum_k a[k][m] * b[off[k] + q]`.
///
/// Positions are consecutive elements, taken in vectors `0..vectors`; what is
/// kept of vector `v` is told by `ops[first[v]..first[v + 1]]`. Reading runs
/// over the last vector by up to [`READ_AHEAD`] elements.
pub(crate) struct Panel<'a, T> {
    /// Factors, packed as `[off.len()][rows]`.
    pub(crate) a: *const T,
    pub(crate) b: *const T,
    pub(crate) off: &'a [usize],
    pub(crate) vectors: usize,
    pub(crate) ops: &'a [StoreOp],
    pub(crate) first: &'a [u32],
    /// Distance of adjacent lanes in the output.
    pub(crate) step: usize,
    /// First element of row 0.
    pub(crate) to: *mut T,
    /// Distance of rows in the output.
    pub(crate) row: usize,
    /// Whether to add to the output rather than to overwrite it.
    pub(crate) accumulate: bool,
}

/// How far a panel may read past its last vector: the widest tile.
pub(crate) const READ_AHEAD: usize = 8 * crate::simd::MAX_LANES;

/// Computes a panel of `MR` rows with tiles of `NV` vectors.
///
/// # Safety
///
/// The CPU must support `L`. All elements that [`Panel`] describes must be
/// readable, those that `ops` name in the output must be valid for reads and
/// writes, and nothing else may access them meanwhile.
#[inline(always)]
pub(crate) unsafe fn panel<L: Lanes, const MR: usize, const NV: usize>(p: &Panel<'_, L::Elem>) {
    let mut v = 0;
    while v < p.vectors {
        // Positions between the samples or rows, from which nothing is kept.
        if p.first[v] == p.first[v + 1] {
            v += 1;
            continue;
        }
        let left = p.vectors - v;
        // SAFETY: as for this function; the tile reads at most `NV` vectors
        // from `v` on, which is at most `READ_AHEAD` past the last.
        unsafe {
            if NV > 1 && left == 1 {
                tile::<L, MR, 1>(p, v);
                v += 1;
            } else if NV > 2 && left == 2 {
                tile::<L, MR, 2>(p, v);
                v += 2;
            } else if NV > 4 && left <= 4 {
                tile::<L, MR, 4>(p, v);
                v += 4;
            } else {
                tile::<L, MR, NV>(p, v);
                v += NV;
            }
        }
    }
}

/// # Safety
///
/// As [`panel`].
#[inline(always)]
unsafe fn tile<L: Lanes, const MR: usize, const NV: usize>(p: &Panel<'_, L::Elem>, v: usize) {
    // SAFETY: the pointers stay within what `Panel` describes.
    unsafe {
        let mut acc = [[L::zero(); NV]; MR];
        let base = p.b.add(v * L::N);
        let mut a = p.a;
        for &off in p.off {
            let from = base.add(off);
            let mut x = [L::zero(); NV];
            for j in 0..NV {
                x[j] = L::load(from.add(j * L::N));
            }
            for m in 0..MR {
                let w = L::splat(*a.add(m));
                for j in 0..NV {
                    acc[m][j] = w.mul_add(x[j], acc[m][j]);
                }
            }
            a = a.add(MR);
        }
        // Indexing `acc` with a variable would keep it out of the registers
        // in the loop above, hence the copy.
        let out = acc;
        for j in 0..NV.min(p.vectors - v) {
            let ops = p.first[v + j] as usize..p.first[v + j + 1] as usize;
            for op in &p.ops[ops] {
                let mut to = p.to.add(op.to);
                for m in 0..MR {
                    if p.step == 1 {
                        out[m][j].compress(to, op.mask, p.accumulate);
                    } else {
                        out[m][j].scatter(to, op.mask, p.step, p.accumulate);
                    }
                    to = to.wrapping_add(p.row);
                }
            }
        }
    }
}

/// A block of rows of a weight gradient: element `(m, k)` of the output gets
/// `sum_q gy[m][q] * x[off[k] + q]` added, `q` over the vectors in `runs`.
pub(crate) struct Grad<'a, T> {
    pub(crate) gy: *const T,
    /// Distance of the rows of `gy`.
    pub(crate) gy_row: usize,
    pub(crate) x: *const T,
    pub(crate) off: &'a [usize],
    /// Ranges of vectors, as start and end.
    pub(crate) runs: &'a [(usize, usize)],
    pub(crate) to: *mut T,
    /// Distance of the rows of the output; columns are adjacent.
    pub(crate) row: usize,
}

/// Computes `MR` rows of a weight gradient with tiles of `NK` columns.
///
/// # Safety
///
/// The CPU must support `L`, all elements that [`Grad`] describes must be
/// valid, and nothing else may access the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn grad<L: Lanes, const MR: usize, const NK: usize>(p: &Grad<'_, L::Elem>) {
    let mut k = 0;
    while k < p.off.len() {
        let left = p.off.len() - k;
        // SAFETY: as for this function, and the tile has at most `left` columns.
        unsafe {
            if left >= NK {
                grad_tile::<L, MR, NK>(p, k);
                k += NK;
            } else if NK > 3 && left == 3 {
                grad_tile::<L, MR, 3>(p, k);
                k += 3;
            } else if NK > 2 && left == 2 {
                grad_tile::<L, MR, 2>(p, k);
                k += 2;
            } else {
                grad_tile::<L, MR, 1>(p, k);
                k += 1;
            }
        }
    }
}

/// # Safety
///
/// As [`grad`].
#[inline(always)]
unsafe fn grad_tile<L: Lanes, const MR: usize, const NK: usize>(p: &Grad<'_, L::Elem>, k: usize) {
    // SAFETY: the pointers stay within what `Grad` describes.
    unsafe {
        let mut acc = [[L::zero(); NK]; MR];
        let mut from = [p.x; NK];
        for j in 0..NK {
            from[j] = p.x.add(p.off[k + j]);
        }
        for &(start, end) in p.runs {
            for v in start..end {
                let q = v * L::N;
                let mut x = [L::zero(); NK];
                for j in 0..NK {
                    x[j] = L::load(from[j].add(q));
                }
                for m in 0..MR {
                    let gy = L::load(p.gy.add(m * p.gy_row + q));
                    for j in 0..NK {
                        acc[m][j] = gy.mul_add(x[j], acc[m][j]);
                    }
                }
            }
        }
        for m in 0..MR {
            let to = p.to.add(m * p.row + k);
            for j in 0..NK {
                *to.add(j) += acc[m][j].reduce_sum();
            }
        }
    }
}

/// Axis of a [`Fill`]: elements `valid.0..valid.1` of `pitch` come from the
/// source, from index `start + step * element` on, the others are zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FillAxis {
    pub(crate) pitch: usize,
    pub(crate) valid: (usize, usize),
    pub(crate) start: isize,
    pub(crate) step: usize,
}

/// Copies a window of one channel of several samples into a padded plane.
pub(crate) struct Fill<T> {
    /// First pixel of the channel in the first sample.
    pub(crate) from: *const T,
    pub(crate) samples: usize,
    /// Distance of samples in the source.
    pub(crate) sample: usize,
    /// Distances of the two outer axes in the source.
    pub(crate) slice: usize,
    pub(crate) line: usize,
    pub(crate) axes: [FillAxis; 3],
    pub(crate) to: *mut T,
    /// Elements that lines cover; those past the last sample are zero.
    pub(crate) extent: usize,
    /// Elements to write in total, zeros after `extent`. Whole vectors are
    /// written, so that up to [`WRITE_AHEAD`] more may be overwritten.
    pub(crate) len: usize,
}

/// Fills a padded plane.
///
/// # Safety
///
/// The CPU must support `L`, the valid elements of the source must be
/// readable and the plane writable.
#[inline(always)]
pub(crate) unsafe fn fill<L: Lanes>(p: &Fill<L::Elem>) {
    let [a0, a1, a2] = p.axes;
    let (mut sample, mut i0, mut i1) = (0, 0, 0);
    // SAFETY: sources are only read where `valid` says that they exist, lines
    // are written one after the other from the start of the plane.
    unsafe {
        let mut done = 0;
        while done < p.extent {
            let to = p.to.add(done);
            let pitch = a2.pitch.min(p.extent - done);
            let inside = sample < p.samples
                && (a0.valid.0..a0.valid.1).contains(&i0)
                && (a1.valid.0..a1.valid.1).contains(&i1);
            if inside {
                let outer = (a0.start + (a0.step * i0) as isize) * p.slice as isize
                    + (a1.start + (a1.step * i1) as isize) * p.line as isize;
                let from = p.from.wrapping_add(p.sample * sample).wrapping_offset(outer);
                fill_line::<L>(from, FillAxis { pitch, ..a2 }, to);
            } else {
                zeros::<L>(to, pitch);
            }
            done += pitch;
            i1 += 1;
            if i1 == a1.pitch {
                i1 = 0;
                i0 += 1;
                if i0 == a0.pitch {
                    i0 = 0;
                    sample += 1;
                }
            }
        }
        zeros::<L>(p.to.add(done), p.len - done);
    }
}

/// # Safety
///
/// As [`fill`].
#[inline(always)]
unsafe fn fill_line<L: Lanes>(from: *const L::Elem, axis: FillAxis, to: *mut L::Elem) {
    let (lo, hi) = axis.valid;
    // SAFETY: only valid elements are read.
    unsafe {
        if axis.step == 1 {
            let from = from.wrapping_offset(axis.start);
            let mut u = 0;
            while u < axis.pitch {
                let at = from.wrapping_add(u);
                if u >= lo && u + L::N <= hi {
                    L::load(at).store(to.add(u));
                } else {
                    let below = ((1u64 << lo.saturating_sub(u).min(L::N)) - 1) as u32;
                    let upto = ((1u64 << hi.saturating_sub(u).min(L::N)) - 1) as u32;
                    L::load_masked(at, upto & !below).store(to.add(u));
                }
                u += L::N;
            }
        } else {
            zeros::<L>(to, axis.pitch);
            let mut at = from.wrapping_offset(axis.start).wrapping_add(axis.step * lo);
            for u in lo..hi {
                *to.add(u) = *at;
                at = at.wrapping_add(axis.step);
            }
        }
    }
}

/// # Safety
///
/// As [`fill`]: `len` elements rounded up to whole vectors must be writable.
#[inline(always)]
unsafe fn zeros<L: Lanes>(to: *mut L::Elem, len: usize) {
    let mut u = 0;
    while u < len {
        // SAFETY: see above.
        unsafe { L::zero().store(to.add(u)) };
        u += L::N;
    }
}

/// Elements a vector store may write past the end of a line of a plane.
pub(crate) const WRITE_AHEAD: usize = crate::simd::MAX_LANES;

