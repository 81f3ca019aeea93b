//! The inner loops, generic over the vector type.
//!
//! Everything here is `#[inline(always)]` and gets instantiated by
//! [`kernels`](super::kernels) in functions that enable an instruction set.

use crate::simd::Lanes;
use std::mem::MaybeUninit;

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
        // in the loop above, hence the copy, one by one: of a copy as a whole, compilers make one array, which they clear in memory.
        let mut out = [[MaybeUninit::<L>::uninit(); NV]; MR];
        for m in 0..MR {
            for j in 0..NV {
                out[m][j].write(acc[m][j]);
            }
        }
        for j in 0..NV.min(p.vectors - v) {
            let ops = p.first[v + j] as usize..p.first[v + j + 1] as usize;
            for op in &p.ops[ops] {
                let mut to = p.to.add(op.to);
                if op.mask == u32::MAX >> (32 - L::N) && p.step == 1 && !p.accumulate {
                    for m in 0..MR {
                        out[m][j].assume_init().store(to);
                        to = to.wrapping_add(p.row);
                    }
                    continue;
                }
                for m in 0..MR {
                    if p.step == 1 {
                        out[m][j].assume_init().compress(to, op.mask, p.accumulate);
                    } else {
                        out[m][j].assume_init().scatter(to, op.mask, p.step, p.accumulate);
                    }
                    to = to.wrapping_add(p.row);
                }
            }
        }
    }
}

/// Where the rows of an array start: groups of rows, `apart` from each other, of rows `row` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) row: usize,
    /// Rows of a group.
    pub(crate) group: usize,
    pub(crate) apart: usize,
}

impl Spread {
    /// Rows at one distance.
    pub(crate) fn even(row: usize) -> Self {
        Self { row, group: usize::MAX, apart: 0 }
    }

    /// Where row `r` starts.
    pub(crate) fn at(&self, r: usize) -> usize {
        r / self.group * self.apart + r % self.group * self.row
    }
}

/// What a product does with its results, besides writing them. A function ρ comes as its slopes at 0 and above, and below 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish<T> {
    /// Nothing.
    Plain,
    /// ρ of the results goes to rows of its own, which may be those of the results.
    Apply { slopes: [T; 2], to: *mut T, row: usize },
    /// The results are multiplied by ρ' of other rows, and added up, row by row and lane by lane, `lanes` sums a row.
    Pull { slopes: [T; 2], y: *const T, row: usize, sums: *mut T, lanes: usize },
}

impl<T> Finish<T> {
    /// The same from another row on.
    ///
    /// # Safety
    /// The arrays must have them.
    pub(crate) unsafe fn from(self, first: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Plain => Self::Plain,
                Self::Apply { slopes, to, row } => Self::Apply { slopes, to: to.add(first * row), row },
                Self::Pull { slopes, y, row, sums, lanes } => {
                    Self::Pull { slopes, y: y.add(first * row), row, sums: sums.add(first * lanes), lanes }
                }
            }
        }
    }
}

/// A block of rows of a matrix product: row `m` at position `q` becomes `initial[m] + sum_k a[k][m] * b[b_rows.at(k) + q]`, or gets that added.
pub(crate) struct Product<T> {
    /// A number for each row; zeros where null.
    pub(crate) initial: *const T,
    /// Factors, packed as `[columns][rows]`.
    pub(crate) a: *const T,
    pub(crate) columns: usize,
    pub(crate) b: *const T,
    pub(crate) b_rows: Spread,
    /// How far ahead in its rows to fetch into the cache, if not 0.
    pub(crate) ahead: usize,
    /// Whole vectors of a row.
    pub(crate) vectors: usize,
    pub(crate) to: *mut T,
    /// Distance of the rows of the output.
    pub(crate) to_row: usize,
    pub(crate) accumulate: bool,
    pub(crate) finish: Finish<T>,
}

/// Computes `MR` rows with tiles of `NV` vectors.
///
/// # Safety
///
/// The CPU must support `L`. All elements that [`Product`] describes must be valid, and nothing else may access the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn product<L: Lanes, const MR: usize, const NV: usize>(p: &Product<L::Elem>) {
    let mut v = 0;
    while v < p.vectors {
        let left = p.vectors - v;
        // SAFETY: as for this function; the tile has at most `left` vectors.
        unsafe {
            if left >= NV {
                product_tile::<L, MR, NV>(p, v);
                v += NV;
            } else if NV > 4 && left >= 4 {
                product_tile::<L, MR, 4>(p, v);
                v += 4;
            } else if NV > 3 && left >= 3 {
                product_tile::<L, MR, 3>(p, v);
                v += 3;
            } else if NV > 2 && left >= 2 {
                product_tile::<L, MR, 2>(p, v);
                v += 2;
            } else {
                product_tile::<L, MR, 1>(p, v);
                v += 1;
            }
        }
    }
}

/// # Safety
///
/// As [`product`].
#[inline(always)]
unsafe fn product_tile<L: Lanes, const MR: usize, const NV: usize>(p: &Product<L::Elem>, v: usize) {
    // SAFETY: the pointers stay within what `Product` describes.
    unsafe {
        let mut acc = [[L::zero(); NV]; MR];
        if !p.initial.is_null() {
            for m in 0..MR {
                acc[m] = [L::splat(*p.initial.add(m)); NV];
            }
        }
        let (mut a, mut group, mut left) = (p.a, p.b.add(v * L::N), p.columns);
        while left > 0 {
            let mut b = group;
            let count = left.min(p.b_rows.group);
            for _ in 0..count {
                let mut x = [L::zero(); NV];
                for j in 0..NV {
                    x[j] = L::load(b.add(j * L::N));
                }
                if p.ahead > 0 {
                    for j in 0..NV {
                        L::prefetch(b.wrapping_add(p.ahead + j * L::N));
                    }
                }
                for m in 0..MR {
                    let w = L::splat(*a.add(m));
                    for j in 0..NV {
                        acc[m][j] = w.mul_add(x[j], acc[m][j]);
                    }
                }
                a = a.add(MR);
                b = b.wrapping_add(p.b_rows.row);
            }
            group = group.wrapping_add(p.b_rows.apart);
            left -= count;
        }
        let to = p.to.add(v * L::N);
        if p.accumulate {
            for m in 0..MR {
                for j in 0..NV {
                    acc[m][j] = acc[m][j].add(L::load(to.add(m * p.to_row + j * L::N)));
                }
            }
        }
        if let Finish::Pull { slopes, y, row, sums, lanes } = p.finish {
            let (above, below) = (L::splat(slopes[0]), L::splat(slopes[1]));
            for m in 0..MR {
                let mut sum = L::zero();
                for j in 0..NV {
                    acc[m][j] = acc[m][j].scaled(L::load(y.add(m * row + (v + j) * L::N)), above, below);
                    sum = sum.add(acc[m][j]);
                }
                let place = sums.add(m * lanes);
                sum.add(L::load(place)).store(place);
            }
        }
        // What goes to the place of the results takes theirs.
        if !matches!(p.finish, Finish::Apply { to, row, .. } if std::ptr::eq(to, p.to) && row == p.to_row) {
            for m in 0..MR {
                for j in 0..NV {
                    acc[m][j].store(to.add(m * p.to_row + j * L::N));
                }
            }
        }
        if let Finish::Apply { slopes, to, row } = p.finish {
            let (above, below) = (L::splat(slopes[0]), L::splat(slopes[1]));
            for m in 0..MR {
                for j in 0..NV {
                    acc[m][j].scaled(acc[m][j], above, below).store(to.add(m * row + (v + j) * L::N));
                }
            }
        }
    }
}
