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
