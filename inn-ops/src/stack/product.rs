//! Matrix products on the arrays of a strip.

use super::matrix::Packed;
use crate::conv::kernels::Kernels;
use crate::conv::micro::{Finish, Product, Spread};
use crate::conv::outer::{Outer, Run, Turn};
use crate::conv::plan::splits;
use crate::simd::{Element, MAX_LANES};

/// Bytes of a row that a tile of an outer product covers: with a typical number of pixels, what a tile reads stays in the first-level cache.
const TILE_BYTES: usize = 192;

/// How products are cut.
pub(crate) struct Tables {
    /// Vectors of a tile of an outer product.
    tile: usize,
    /// Whether to fetch what follows into the cache meanwhile.
    streaming: bool,
}

impl Tables {
    pub(crate) fn new(lanes: usize, bytes: usize) -> Self {
        Self { tile: (TILE_BYTES / (lanes * bytes)).max(1), streaming: false }
    }

    /// For matrices that come from memory.
    pub(crate) fn streaming(lanes: usize, bytes: usize) -> Self {
        Self { streaming: true, ..Self::new(lanes, bytes) }
    }
}

/// What the rows of a product start with.
#[derive(Clone, Copy)]
pub(crate) enum Start<T> {
    Zero,
    /// A number for each row.
    Values(*const T),
    /// What is there.
    Output,
}

impl<T: Element> Packed<'_, T> {
    /// `to = A b`, added to a `start`, for the first `vectors` vectors of the rows of `b`, and what it finishes with. Arrays come with the
    /// places of their rows.
    ///
    /// # Safety
    /// `b` and `to` must have as many rows of as many vectors as A has columns and rows, the arrays of `finish` as many as `to`, and nothing
    /// else may access those that are written meanwhile.
    pub(crate) unsafe fn times(
        &self,
        kernels: &Kernels<T>,
        tables: &Tables,
        (b, b_rows): (*const T, Spread),
        vectors: usize,
        (to, to_row): (*mut T, usize),
        start: Start<T>,
        finish: Finish<T>,
    ) {
        let blocks = self.rows.div_ceil(kernels.product.len());
        // A block of rows stays in the first-level cache while all of `b` passes by, out of the second level if it has to.
        for range in splits(self.rows, blocks) {
            let (kernel, step) = kernels.product[range.len() - 1];
            // SAFETY: the caller's promise; the block lies within A.
            unsafe {
                let initial = if let Start::Values(values) = start { values.add(range.start) } else { std::ptr::null() };
                let product = Product {
                    initial,
                    ahead: if tables.streaming && range.start == 0 { step * kernels.lanes } else { 0 },
                    a: self.data.as_ptr().add(range.start * self.columns),
                    columns: self.columns,
                    b,
                    b_rows,
                    vectors,
                    to: to.add(range.start * to_row),
                    to_row,
                    accumulate: matches!(start, Start::Output),
                    finish: finish.from(range.start),
                };
                kernel(&product);
            }
        }
    }
}

/// Turns an array of `rows` rows so that vectors run over the rows: `[group of rows][pixel][row of the group]`, filled up with zeros. A
/// function of two slopes is applied on the way.
///
/// # Safety
/// `from` must have as many rows of `pixels` elements, and `to` room for as many groups.
pub(crate) unsafe fn turn<T: Element>(
    kernels: &Kernels<T>,
    (from, row): (*const T, usize),
    rows: usize,
    pixels: usize,
    to: *mut T,
    slopes: Option<[T; 2]>,
) {
    let lanes = kernels.lanes;
    for r in (0..rows).step_by(lanes) {
        // SAFETY: the caller's promise.
        unsafe {
            let plain = Turn::new((from.add(r * row), row), lanes.min(rows - r), pixels, (to.add(r * pixels), lanes));
            let turn = Turn { pad: true, slopes, ..plain };
            (kernels.turn)(&turn);
        }
    }
}

/// `to[m][j] += sum over pixels of a[m] b[j]`, or `=` for the `first` time, for the `rows` rows of the array `a` and the turned array `b` of `width` rows (a multiple of
/// the lanes). Arrays come with the distance of their rows.
///
/// # Safety
/// As [`turn`]; nothing else may access `to` meanwhile.
pub(crate) unsafe fn outer<T: Element>(
    kernels: &Kernels<T>,
    tables: &Tables,
    (a, a_rows, rows): (*const T, Spread, usize),
    (b, width): (*const T, usize),
    pixels: usize,
    (to, to_row): (*mut T, usize),
    first: bool,
) {
    let lanes = kernels.lanes;
    let groups = width / lanes;
    let blocks = rows.div_ceil(kernels.outer.len());
    let tile = if rows > kernels.outer.len() { tables.tile } else { groups };
    let mut places = [0; 64];
    places.iter_mut().take(groups).enumerate().for_each(|(g, place)| *place = g * pixels * lanes);
    let mut j = 0;
    while j < groups {
        let count = tile.min(groups - j).min(places.len());
        for range in splits(rows, blocks) {
            let start = a_rows.at(range.start);
            let mut a_off = [0; MAX_LANES];
            a_off.iter_mut().zip(range.clone()).for_each(|(place, m)| *place = a_rows.at(m) - start);
            // SAFETY: the caller's promise.
            unsafe {
                let outer = Outer {
                    a: a.add(start),
                    a_off: &a_off[..range.len()],
                    b: b.add(j * pixels * lanes),
                    b_off: &places[..count],
                    runs: &[Run { a: 0, b: 0, len: pixels }],
                    step: [1, 1],
                    to: to.add(range.start * to_row + j * lanes),
                    row: to_row,
                    accumulate: !first,
                };
                (kernels.outer[range.len() - 1].0)(&outer);
            }
        }
        j += count;
    }
}
