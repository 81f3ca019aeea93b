//! The inner loops of the weight gradient, generic over the vector type, and
//! the transposition that they need.

use crate::simd::{Lanes, MAX_LANES, transpose};

/// Adjacent positions: the first one in the streams `a` and in the streams
/// `b` of an [`Outer`], and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

/// Sums of outer products: vector `(m, j)` of the output becomes
/// `sum_q a[a_off[m] + q] * b[b_off[j] + q * N ..][..N]`, or gets that added, for the
/// positions `q` of `runs` (which may differ for `a` and `b`, and be any distance apart) and vectors of
/// `N` elements.
pub(crate) struct Outer<'a, T> {
    pub(crate) a: *const T,
    /// As many as the function has rows.
    pub(crate) a_off: &'a [usize],
    pub(crate) b: *const T,
    pub(crate) b_off: &'a [usize],
    pub(crate) runs: &'a [Run],
    /// Distances of the positions of a run in the streams `a` and `b`.
    pub(crate) step: [usize; 2],
    pub(crate) to: *mut T,
    /// Distance of the rows of the output; the vectors of a row are adjacent.
    pub(crate) row: usize,
    /// Whether to add to the output rather than to overwrite it.
    pub(crate) accumulate: bool,
}

/// Computes `MR` rows with tiles of `NV` vectors.
///
/// # Safety
///
/// The CPU must support `L`, all elements that [`Outer`] describes must be
/// valid, and nothing else may access the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn outer<L: Lanes, const MR: usize, const NV: usize>(p: &Outer<'_, L::Elem>) {
    assert!(p.a_off.len() == MR);
    let mut j = 0;
    while j < p.b_off.len() {
        let left = p.b_off.len() - j;
        // SAFETY: as for this function, and the tile has at most `left` vectors.
        unsafe {
            if left >= NV {
                outer_tile::<L, MR, NV>(p, j);
                j += NV;
            } else if NV > 4 && left >= 4 {
                outer_tile::<L, MR, 4>(p, j);
                j += 4;
            } else if NV > 2 && left >= 2 {
                outer_tile::<L, MR, 2>(p, j);
                j += 2;
            } else {
                outer_tile::<L, MR, 1>(p, j);
                j += 1;
            }
        }
    }
}

/// # Safety
///
/// As [`outer`].
#[inline(always)]
unsafe fn outer_tile<L: Lanes, const MR: usize, const NV: usize>(p: &Outer<'_, L::Elem>, j: usize) {
    // SAFETY: the pointers stay within what `Outer` describes.
    unsafe {
        let mut acc = [[L::zero(); NV]; MR];
        let (mut a, mut b) = ([p.a; MR], [p.b; NV]);
        for m in 0..MR {
            a[m] = p.a.add(p.a_off[m]);
        }
        for v in 0..NV {
            b[v] = p.b.add(p.b_off[j + v]);
        }
        let [a_step, b_step] = p.step;
        for run in p.runs {
            let (mut at_a, mut at_b) = (run.a, run.b * L::N);
            for _ in 0..run.len {
                let mut y = [L::zero(); NV];
                for v in 0..NV {
                    y[v] = L::load(b[v].add(at_b));
                }
                for m in 0..MR {
                    let x = L::splat(*a[m].add(at_a));
                    for v in 0..NV {
                        acc[m][v] = x.mul_add(y[v], acc[m][v]);
                    }
                }
                (at_a, at_b) = (at_a + a_step, at_b + b_step * L::N);
            }
        }
        for m in 0..MR {
            for v in 0..NV {
                let to = p.to.add(m * p.row + (j + v) * L::N);
                let sum = if p.accumulate { acc[m][v].add(L::load(to)) } else { acc[m][v] };
                sum.store(to);
            }
        }
    }
}

/// Rows to turn into columns: element `(r, c)` of the source is element
/// `(c, r)` of the target. Elements of a row are adjacent, on both sides.
pub(crate) struct Turn<'a, T> {
    pub(crate) from: *const T,
    /// Distance of the rows of the source.
    pub(crate) from_row: usize,
    /// Rows of the source; at most a vector if `pad`.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) to: *mut T,
    /// Distance of the rows of the target.
    pub(crate) to_row: usize,
    /// Where the rows of the target start instead, if they are nowhere near each other.
    pub(crate) places: Option<&'a [usize]>,
    /// How far ahead of the copied element of a row to fetch into the cache.
    pub(crate) ahead: usize,
    /// Whether to fill up the rows of the target with zeros to a whole vector.
    pub(crate) pad: bool,
    /// Whether to add to the target.
    pub(crate) accumulate: bool,
    /// Slopes at 0 and above, and below 0, of a function to apply first.
    pub(crate) slopes: Option<[T; 2]>,
}

/// How far ahead of the copied element of a row to fetch into the cache, where rows are long.
pub(super) const AHEAD: usize = 4 * MAX_LANES;

impl<T> Turn<'_, T> {
    /// Turns `rows` rows of `columns` elements, and no more.
    pub(crate) fn new((from, from_row): (*const T, usize), rows: usize, columns: usize, (to, to_row): (*mut T, usize)) -> Self {
        Turn { from, from_row, rows, columns, to, to_row, places: None, ahead: AHEAD, pad: false, accumulate: false, slopes: None }
    }
}

/// Turns rows into columns.
///
/// # Safety
///
/// The CPU must support `L`, and all elements that [`Turn`] describes must be
/// valid.
#[inline(always)]
pub(crate) unsafe fn turn<L: Lanes>(p: &Turn<'_, L::Elem>) {
    // SAFETY: as for this function.
    unsafe {
        if let Some([above, below]) = p.slopes {
            let (above, below) = (L::splat(above), L::splat(below));
            turn_applied(p, |v: L| v.scaled(v, above, below));
        } else {
            turn_applied(p, |v: L| v);
        }
    }
}

/// # Safety
///
/// As [`turn`].
#[inline(always)]
unsafe fn turn_applied<L: Lanes>(p: &Turn<'_, L::Elem>, apply: impl Fn(L) -> L + Copy) {
    for r in (0..p.rows).step_by(L::N) {
        let rows = (p.rows - r).min(L::N);
        // What a whole vector has too much, the columns after it then overwrite.
        let over =
            if p.to_row == p.rows && p.rows < L::N && p.places.is_none() { p.columns.saturating_sub(L::N.div_ceil(p.rows) - 1) } else { 0 };
        for c in (0..p.columns).step_by(L::N) {
            let columns = (p.columns - c).min(L::N);
            // SAFETY: `rows` and `columns` are those that are left.
            unsafe {
                let v = square((p.from.add(r * p.from_row + c), p.from_row, p.ahead), rows, columns, apply);
                if let Some(places) = p.places {
                    let places = &places[c..c + columns];
                    for j in 0..L::N {
                        if j < columns {
                            let to = p.to.add(places[j] + r);
                            if p.pad { v[j].store(to) } else { v[j].store_first(to, rows) }
                        }
                    }
                    continue;
                }
                let to = p.to.add(c * p.to_row + r);
                if columns == L::N && !p.accumulate && (rows == L::N || p.pad || c + L::N <= over) {
                    for j in 0..L::N {
                        v[j].store(to.add(j * p.to_row));
                    }
                    continue;
                }
                for j in 0..L::N {
                    if j < columns {
                        let to = to.add(j * p.to_row);
                        if p.accumulate {
                            v[j].compress(to, u32::MAX >> (32 - rows), true);
                        } else if rows == L::N || p.pad || c + j < over {
                            v[j].store(to);
                        } else {
                            v[j].store_first(to, rows);
                        }
                    }
                }
            }
        }
    }
}

/// The columns of up to `N` rows of up to `N` elements, as vectors; zeros fill them up. The rows come with their distance, and how far ahead to fetch.
///
/// # Safety
///
/// The CPU must support `L`, and the rows must have the elements.
#[inline(always)]
pub(super) unsafe fn square<L: Lanes>(
    (from, row, ahead): (*const L::Elem, usize, usize),
    rows: usize,
    columns: usize,
    apply: impl Fn(L) -> L + Copy,
) -> [L; MAX_LANES] {
    // SAFETY: as for this function; prefetching reaches further, and never faults.
    unsafe {
        if columns == L::N && rows == L::N || ahead > AHEAD {
            for i in 0..rows {
                L::prefetch(from.wrapping_add(i * row + ahead));
            }
        }
        if columns == L::N && rows == L::N {
            return L::columns(from, row, apply);
        }
        let mut v = [L::zero(); MAX_LANES];
        for i in 0..L::N {
            if i < rows && columns == L::N {
                v[i] = apply(L::load(from.add(i * row)));
            } else if i < rows {
                v[i] = apply(L::load_masked(from.add(i * row), u32::MAX >> (32 - columns)));
            }
        }
        transpose(&mut v);
        v
    }
}
