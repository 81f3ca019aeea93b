//! Matrix products on the arrays of a strip.

use crate::conv::kernels::Kernels;
use crate::conv::micro::{Finish, Product, Spread};
use crate::conv::outer::{Outer, Run, Turn};
use crate::conv::plan::{split, splits};
use crate::pool;
use crate::simd::{Element, MAX_LANES};
use std::ops::Range;
use std::sync::Mutex;

/// Bytes of a row that a tile of the product covers: with a typical number of rows, what a tile reads stays in the first-level cache.
const TILE_BYTES: usize = 192;

/// Bytes of an array that stays in the first-level cache beside what is made of it.
const FEW_BYTES: usize = 4 << 10;

/// How products are cut.
pub(crate) struct Tables {
    /// Vectors of a tile.
    tile: usize,
}

impl Tables {
    pub(crate) fn new(lanes: usize, bytes: usize) -> Self {
        Self { tile: (TILE_BYTES / (lanes * bytes)).max(1) }
    }
}

/// A matrix (rows, columns), packed in blocks of rows as [`Product`] takes them.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
}

/// Where the elements of a matrix lie: `(m, k)` at `m * row + k * column`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    pub(super) from: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row: usize,
    pub(super) column: usize,
    /// Whether the identity is added.
    pub(super) identity: bool,
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

impl<'a, T> Source<'a, T> {
    /// A matrix as it is stored, row by row.
    pub(crate) fn plain(from: &'a [T], rows: usize, columns: usize) -> Self {
        Self { from, rows, columns, row: columns, column: 1, identity: false }
    }

    /// The transpose of a matrix that is stored row by row.
    pub(super) fn turned(from: &'a [T], rows: usize, columns: usize) -> Self {
        Self { from, rows, columns, row: 1, column: rows, identity: false }
    }
}

impl<'a, T> Source<'a, T> {
    /// The matrix and the identity, if it is `wanted`.
    pub(super) fn plus_identity(self, wanted: bool) -> Self {
        Self { identity: wanted, ..self }
    }

    /// Some of its rows.
    pub(crate) fn part_of_rows(self, rows: Range<usize>) -> Self {
        Self { from: &self.from[rows.start * self.row..], rows: rows.len(), ..self }
    }

    /// Some of its columns.
    pub(crate) fn part_of_columns(self, columns: Range<usize>) -> Self {
        Self { from: &self.from[columns.start * self.column..], columns: columns.len(), ..self }
    }
}

impl<'a, T> Source<'a, T> {
    /// Every `step`th of its rows, from `first` on.
    pub(super) fn every(self, first: usize, step: usize) -> Self {
        Self { from: &self.from[first * self.row..], rows: (self.rows - first).div_ceil(step), row: self.row * step, ..self }
    }
}

/// Packs matrices one after the other; `to` has an element for each of theirs.
pub(crate) fn pack<'a, T: Element>(kernels: &Kernels<T>, alone: bool, sources: &[Source<'_, T>], to: &'a mut [T]) -> Vec<Packed<'a, T>> {
    let mut rest = &mut *to;
    let blocks_of = |rows: usize| rows.div_ceil(kernels.product.len());
    let mut blocks = Vec::with_capacity(sources.iter().map(|source| blocks_of(source.rows)).sum());
    for source in sources {
        let count = blocks_of(source.rows);
        for block in 0..count {
            let range = split(source.rows, count, block);
            let (part, after) = std::mem::take(&mut rest).split_at_mut(range.len() * source.columns);
            rest = after;
            blocks.push(Mutex::new((part, range, source)));
        }
    }
    pool::each(blocks.len(), alone, |i| {
        if let Ok(mut block) = blocks[i].lock() {
            let (to, range, source) = &mut *block;
            fill(kernels, to, range.clone(), source);
            if source.identity {
                let height = range.len();
                range.clone().enumerate().for_each(|(i, m)| to[m * height + i] += T::ONE);
            }
        }
    });
    drop(blocks);
    let mut rest = &*to;
    let mut packed = Vec::with_capacity(sources.len());
    for source in sources {
        let (data, after) = rest.split_at(source.rows * source.columns);
        rest = after;
        packed.push(Packed { data, rows: source.rows, columns: source.columns });
    }
    packed
}

/// Packs a block of rows: column after column.
fn fill<T: Element>(kernels: &Kernels<T>, to: &mut [T], range: Range<usize>, s: &Source<'_, T>) {
    let height = range.len();
    if s.column == 1 && height > 0 {
        let from = &s.from[range.start * s.row..][..(height - 1) * s.row + s.columns];
        let turn = Turn::new((from.as_ptr(), s.row), height, s.columns, (to[..height * s.columns].as_mut_ptr(), height));
        // SAFETY: the slices are as long as the rows and columns reach.
        return unsafe { (kernels.turn)(&turn) };
    }
    let Some(from) = s.from.get(range.start * s.row..).filter(|_| height > 0) else { return };
    match height {
        1 => columns::<T, 1>(to, from, s),
        2 => columns::<T, 2>(to, from, s),
        3 => columns::<T, 3>(to, from, s),
        4 => columns::<T, 4>(to, from, s),
        5 => columns::<T, 5>(to, from, s),
        6 => columns::<T, 6>(to, from, s),
        7 => columns::<T, 7>(to, from, s),
        8 => columns::<T, 8>(to, from, s),
        9 => columns::<T, 9>(to, from, s),
        _ => to.chunks_exact_mut(height).enumerate().for_each(|(k, to)| strided(to, &from[k * s.column..], s.row)),
    }
}

/// Copies columns of a block of `H` rows, whose elements are one or three apart, or any number.
fn columns<T: Element, const H: usize>(to: &mut [T], from: &[T], s: &Source<'_, T>) {
    let (columns, _) = to.as_chunks_mut::<H>();
    for (k, to) in columns.iter_mut().enumerate() {
        let from = &from[k * s.column..];
        match s.row {
            1 => to.copy_from_slice(&from[..H]),
            3 => {
                let from = &from[..3 * H - 2];
                (0..H).for_each(|i| to[i] = from[3 * i]);
            }
            row => strided(to, from, row),
        }
    }
}

fn strided<T: Element>(to: &mut [T], from: &[T], step: usize) {
    to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, value)| *to = *value);
}

impl<'a, T> Packed<'a, T> {
    /// A matrix that is packed already, in as many blocks of rows as it takes, of almost equal size.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns }
    }
}

impl<T: Element> Packed<'_, T> {
    /// Rows of the matrix.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

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
        let lanes = kernels.lanes;
        // A tile of `b` stays in the cache while all of A passes; few rows, and few columns, are better served by long tiles.
        let few = self.rows <= kernels.product.len() || self.columns * vectors * lanes * size_of::<T>() <= FEW_BYTES;
        let tile = if few { vectors } else { tables.tile };
        let tiles = vectors.div_ceil(tile.max(1));
        // Of almost equal size, in whole steps of the kernel if a tile has several: a single vector would wait for its own sums.
        let best = kernels.product[self.rows.div_ceil(blocks.max(1)).max(1) - 1].1;
        let step = if best < tile { best } else { 1 };
        for columns in splits(vectors.div_ceil(step), tiles) {
            let v = columns.start * step;
            let columns = v..(columns.end * step).min(vectors);
            for range in splits(self.rows, blocks) {
                // SAFETY: the caller's promise; the block lies within A.
                unsafe {
                    let initial = if let Start::Values(values) = start { values.add(range.start) } else { std::ptr::null() };
                    let product = Product {
                        initial,
                        a: self.data.as_ptr().add(range.start * self.columns),
                        columns: self.columns,
                        b: b.add(v * lanes),
                        b_rows,
                        vectors: columns.len(),
                        to: to.add(range.start * to_row + v * lanes),
                        to_row,
                        accumulate: matches!(start, Start::Output),
                        finish: finish.from(range.start, v * lanes),
                    };
                    (kernels.product[range.len() - 1].0)(&product);
                }
            }
        }
    }
}

/// Turns an array of `rows` rows so that vectors run over the rows: `[group of rows][pixel][row of the group]`, filled up with zeros. A
/// function of two slopes is applied on the way.
///
/// # Safety
/// `from` must have as many rows of `pixels` elements, and `to` room for as many groups.
pub(super) unsafe fn turn<T: Element>(
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
