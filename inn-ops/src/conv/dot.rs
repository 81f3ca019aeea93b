//! The inner loop of products whose sums run over adjacent elements on both sides, generic over the vector type.

use super::outer::Run;
use crate::simd::{Lanes, MAX_LANES};
use std::mem::MaybeUninit;

/// Rows of the second side that are taken at one time.
pub(crate) const BESIDE: usize = 3;

/// Vectors that these products with the rows of a function fill at most.
const MOST_GROUPS: usize = 3;

/// Scalar products of rows: element `(m, n)` of a [tile](tile_len) becomes `sum over q of a[m][q] b[n][q]`, or gets that added, for the elements `q` of
/// `runs`, which may lie elsewhere on either side.
pub(crate) struct Dot<'a, T> {
    /// As many rows as the function has, and their distance.
    pub(crate) a: *const T,
    pub(crate) a_row: usize,
    /// Up to [`BESIDE`] rows.
    pub(crate) b: *const T,
    pub(crate) b_row: usize,
    pub(crate) b_rows: usize,
    pub(crate) runs: &'a [Run],
    pub(crate) to: *mut T,
    pub(crate) accumulate: bool,
}

/// Computes the products of `MR` rows.
///
/// # Safety
/// The CPU must support `L`, all elements that [`Dot`] describes must be valid, and nothing else may access the output meanwhile.
#[inline(always)]
pub(crate) unsafe fn dot<L: Lanes, const MR: usize>(p: &Dot<'_, L::Elem>) {
    const { assert!(MR * BESIDE <= MOST_GROUPS * L::N) };
    assert!((1..=BESIDE).contains(&p.b_rows));
    // SAFETY: the pointers stay within what `Dot` describes; lanes beyond a run are masked out.
    unsafe {
        let mut acc = [[L::zero(); BESIDE]; MR];
        for run in p.runs {
            let (mut a, mut b) = ([p.a; MR], [p.b; BESIDE]);
            for m in 0..MR {
                a[m] = p.a.add(m * p.a_row + run.a);
            }
            for n in 0..BESIDE {
                // Rows that are not there are the last one, and their sums are dropped.
                b[n] = p.b.add(n.min(p.b_rows - 1) * p.b_row + run.b);
            }
            let whole = run.len / L::N * L::N;
            for q in (0..whole).step_by(L::N) {
                step(&mut acc, &a, &b, q, |from| L::load(from));
            }
            if whole < run.len {
                let mask = u32::MAX >> (32 - (run.len - whole));
                step(&mut acc, &a, &b, whole, |from| L::load_masked(from, mask));
            }
        }
        // Copied one by one, see `micro::panel`.
        let mut out = [[MaybeUninit::<L>::uninit(); BESIDE]; MR];
        for m in 0..MR {
            for n in 0..BESIDE {
                out[m][n].write(acc[m][n]);
            }
        }
        finish::<L, MR, 0>(p, &out);
        finish::<L, MR, 1>(p, &out);
        finish::<L, MR, 2>(p, &out);
    }
}

/// Adds the products of a vector of each row.
///
/// # Safety
/// As [`dot`]; the rows have what is loaded.
#[inline(always)]
unsafe fn step<L: Lanes, const MR: usize>(
    acc: &mut [[L; BESIDE]; MR],
    a: &[*const L::Elem; MR],
    b: &[*const L::Elem; BESIDE],
    q: usize,
    load: impl Fn(*const L::Elem) -> L,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [L::zero(); BESIDE];
        for n in 0..BESIDE {
            y[n] = load(b[n].add(q));
        }
        for m in 0..MR {
            let x = load(a[m].add(q));
            for n in 0..BESIDE {
                acc[m][n] = x.mul_add(y[n], acc[m][n]);
            }
        }
    }
}

/// Writes the sums over the lanes of a vector of accumulators, if there are as many.
///
/// # Safety
/// As [`dot`]; the accumulators have been written.
#[inline(always)]
unsafe fn finish<L: Lanes, const MR: usize, const GROUP: usize>(p: &Dot<'_, L::Elem>, acc: &[[MaybeUninit<L>; BESIDE]; MR]) {
    let first = GROUP * L::N;
    if first >= MR * BESIDE {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = [L::zero(); MAX_LANES];
        for i in 0..L::N {
            if first + i < MR * BESIDE {
                v[i] = acc[(first + i) / BESIDE][(first + i) % BESIDE].assume_init();
            }
        }
        for half in [8, 4, 2, 1] {
            for i in 0..if half < L::N { half } else { 0 } {
                let (low, high) = v[i].zip(v[i + half]);
                v[i] = low.add(high);
            }
        }
        let to = p.to.add(first);
        if p.accumulate { v[0].add(L::load(to)) } else { v[0] }.store(to);
    }
}

/// Elements that the products of `rows` rows take, with vectors of `lanes` elements: `[row][row of the other side]`, filled up to whole vectors.
pub(crate) fn tile_len(rows: usize, lanes: usize) -> usize {
    (rows * BESIDE).next_multiple_of(lanes)
}
