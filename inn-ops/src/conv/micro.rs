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
#[derive(Clone, Copy)]
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
    /// Elements to write in total, zeros after `extent`; at least
    /// [`WRITE_AHEAD`] more than `extent`.
    pub(crate) len: usize,
    /// Distance in the source to fetch into the cache beforehand.
    pub(crate) ahead: usize,
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
    let mut done = 0;
    // SAFETY: sources are only read where `valid` says that they exist, lines
    // are written one after the other from the start of the plane, and the
    // last one that `extent` cuts short has nothing but zeros after the cut.
    unsafe {
        for sample in 0..p.samples {
            for i0 in 0..a0.pitch {
                let left = (p.extent - done).div_ceil(a2.pitch);
                let lines = left.min(a1.pitch);
                let (lo, hi) = (a1.valid.0.min(lines), a1.valid.1.min(lines));
                let inside =
                    a0.valid.0 <= i0 && i0 < a0.valid.1 && lo < hi && a2.valid.0 < a2.valid.1;
                if inside {
                    let outer = (a0.start + (a0.step * i0) as isize) * p.slice as isize
                        + (a1.start + (a1.step * lo) as isize) * p.line as isize
                        + a2.start
                        + (a2.step * a2.valid.0) as isize;
                    let from = p
                        .from
                        .wrapping_add(p.sample * sample)
                        .wrapping_offset(outer);
                    let to = p.to.add(done);
                    zeros::<L>(to, lo * a2.pitch);
                    let to = to.add(lo * a2.pitch);
                    let line = a1.step * p.line;
                    if a2.step == 1 {
                        lines_dense::<L>(from, line, hi - lo, a2, to, p.ahead);
                    } else {
                        lines_strided::<L>(from, line, hi - lo, a2, to);
                    }
                    let end = (done + lines * a2.pitch).min(p.extent);
                    let filled = done + hi * a2.pitch;
                    zeros::<L>(p.to.add(filled), end.saturating_sub(filled));
                    done = end;
                } else {
                    let end = (done + lines * a2.pitch).min(p.extent);
                    zeros::<L>(p.to.add(done), end - done);
                    done = end;
                }
            }
        }
        // The rest, but not beyond: the next plane may be there already.
        zeros::<L>(p.to.add(done), p.len - L::N - done);
        L::zero().store(p.to.add(p.len - L::N));
    }
}

/// The lanes `lo..hi`, counted from lane `u`, as a mask.
#[inline(always)]
fn mask<L: Lanes>(lo: usize, hi: usize, u: usize) -> u32 {
    let below = |end: usize| ((1u64 << end.saturating_sub(u).min(L::N)) - 1) as u32;
    below(hi) & !below(lo)
}

/// Writes `count` lines whose valid elements are adjacent in the source, from
/// `from` on.
///
/// # Safety
///
/// As [`fill`].
#[inline(always)]
unsafe fn lines_dense<L: Lanes>(
    from: *const L::Elem,
    line: usize,
    count: usize,
    axis: FillAxis,
    to: *mut L::Elem,
    ahead: usize,
) {
    let (lo, hi) = axis.valid;
    let pitch = axis.pitch;
    let mut from = from.wrapping_sub(lo);
    let mut to = to;
    // SAFETY: only valid elements are read. Vectors that reach past the end
    // of a line are written before the next line is.
    unsafe {
        if pitch <= L::N {
            let mask = mask::<L>(lo, hi, 0);
            for _ in 0..count {
                L::prefetch(from.wrapping_add(ahead));
                L::load_masked(from, mask).store(to);
                from = from.wrapping_add(line);
                to = to.wrapping_add(pitch);
            }
            return;
        }
        // Full vectors from the first that has no zeros before it.
        let head = lo.div_ceil(L::N) * L::N;
        let tail = head.max(hi / L::N * L::N);
        let (head_mask, tail_mask) = (
            mask::<L>(lo, hi, head.wrapping_sub(L::N)),
            mask::<L>(lo, hi, tail),
        );
        for _ in 0..count {
            if head > 0 {
                L::prefetch(from.wrapping_add(head - L::N + ahead));
                zeros::<L>(to, head - L::N);
                L::load_masked(from.wrapping_add(head - L::N), head_mask)
                    .store(to.add(head - L::N));
            }
            let mut u = head;
            while u < tail {
                L::prefetch(from.wrapping_add(u + ahead));
                L::load(from.wrapping_add(u)).store(to.add(u));
                u += L::N;
            }
            if u < pitch {
                L::load_masked(from.wrapping_add(u), tail_mask).store(to.add(u));
                u += L::N;
                if u < pitch {
                    zeros::<L>(to.add(u), pitch - u);
                }
            }
            from = from.wrapping_add(line);
            to = to.wrapping_add(pitch);
        }
    }
}

/// Writes `count` lines whose valid elements are `axis.step` apart in the
/// source, from `from` on.
///
/// # Safety
///
/// As [`fill`].
#[inline(always)]
unsafe fn lines_strided<L: Lanes>(
    from: *const L::Elem,
    line: usize,
    count: usize,
    axis: FillAxis,
    to: *mut L::Elem,
) {
    let (lo, hi) = axis.valid;
    // SAFETY: only valid elements are read.
    unsafe {
        for i in 0..count {
            let to = to.add(i * axis.pitch);
            let from = from.wrapping_add(i * line);
            zeros::<L>(to, axis.pitch);
            for u in lo..hi {
                *to.add(u) = *from.wrapping_add(axis.step * (u - lo));
            }
        }
    }
}

/// # Safety
///
/// As [`fill`]: `len` elements rounded up to whole vectors must be writable.
#[inline(always)]
pub(super) unsafe fn zeros<L: Lanes>(to: *mut L::Elem, len: usize) {
    let mut u = 0;
    while u < len {
        // SAFETY: see above.
        unsafe { L::zero().store(to.add(u)) };
        u += L::N;
    }
}

/// Elements a vector store may write past the end of a line of a plane.
pub(crate) const WRITE_AHEAD: usize = crate::simd::MAX_LANES;
