//! Matrices, packed as products take them.

use super::fold::{self, Folding};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::Turn;
use crate::conv::plan::{split, splits};
use crate::conv::scratch::{Shared, with_buffer};
use crate::pool;
use crate::simd::Element;
use std::ops::Range;

/// A matrix (rows, columns), packed in blocks of rows as [`Product`](crate::conv::micro::Product) takes them.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Where the elements of a matrix lie: `(m, k)` at `m * row + k * column`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    from: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
    /// Whether the identity is added.
    identity: bool,
    /// If not elements, but kernels lie there, how they are folded.
    folded: Option<Kernel<'a>>,
}

/// How kernels become matrices, one for each e.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<'a> {
    pub(crate) folding: Folding,
    /// Taps of a kernel, which are adjacent, and the thirds that it consists of, of three taps each.
    pub(crate) taps: usize,
    pub(crate) thirds: usize,
    /// The elements of the thirds, vectors apart, where the taps of [`together`](Self::together) kernels go: in their order if there is no list.
    pub(crate) places: Option<&'a [usize]>,
    /// Whether each third belongs to a matrix of its own, `[e][third]`, and is not a column of a single one.
    pub(crate) apart: bool,
}

impl Kernel<'_> {
    /// Kernels that are turned at one time, if they follow each other.
    pub(crate) fn together(thirds: usize) -> usize {
        (TOGETHER / thirds).max(1)
    }

    /// Columns of a matrix, and matrices, that a kernel makes.
    fn shape(&self) -> (usize, usize) {
        let parts = self.folding.parts();
        if self.apart { (1, parts * self.thirds) } else { (self.thirds, parts) }
    }
}

impl<'a, T> Source<'a, T> {
    /// A matrix as it is stored, row by row.
    pub(crate) fn plain(from: &'a [T], rows: usize, columns: usize) -> Self {
        Self { from, rows, columns, row: columns, column: 1, identity: false, folded: None }
    }

    /// The transpose of a matrix that is stored row by row.
    pub(super) fn turned(from: &'a [T], rows: usize, columns: usize) -> Self {
        Self { from, rows, columns, row: 1, column: rows, identity: false, folded: None }
    }

    /// A matrix with arbitrary distances of rows and columns.
    pub(crate) fn strided(from: &'a [T], rows: usize, columns: usize, (row, column): (usize, usize)) -> Self {
        Self { from, rows, columns, row, column, identity: false, folded: None }
    }

    /// The same, if there are kernels instead of elements.
    pub(crate) fn folded(self, kernel: Kernel<'a>) -> Self {
        Self { folded: Some(kernel), ..self }
    }

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

    /// Columns of the matrices that it makes, and how many it makes, one after the other.
    fn shape(&self) -> (usize, usize) {
        let (columns, matrices) = self.folded.map_or((1, 1), |kernel| kernel.shape());
        (self.columns * columns, matrices)
    }
}

impl<T: Copy> Source<'_, T> {
    /// Parts of its rows, of almost equal size, and chunks of the columns of each.
    pub(crate) fn parted(&self, parts: usize, chunk: usize) -> Vec<Self> {
        let mut sources = Vec::with_capacity(parts * self.columns.div_ceil(chunk));
        for rows in splits(self.rows, parts) {
            let part = self.part_of_rows(rows);
            let chunks = (0..self.columns).step_by(chunk).map(|start| start..(start + chunk).min(self.columns));
            sources.extend(chunks.map(|columns| part.part_of_columns(columns)));
        }
        sources
    }
}

/// Bytes that packing takes for its lists, for each of the blocks of a source and each matrix.
pub(crate) const PACK_LISTS: usize = 128;

/// Packs matrices one after the other; `to` has an element for each of theirs.
pub(crate) fn pack<'a, T: Dispatch>(kernels: &Kernels<T>, alone: bool, sources: &[Source<'_, T>], to: &'a mut [T]) -> Vec<Packed<'a, T>> {
    let blocks_of = |source: &Source<'_, T>| source.rows.div_ceil(kernels.product.len());
    let mut blocks = Vec::with_capacity(sources.iter().map(blocks_of).sum());
    let mut at = 0;
    for source in sources {
        blocks.extend((0..blocks_of(source)).map(|block| (source, at, split(source.rows, blocks_of(source), block))));
        let (columns, matrices) = source.shape();
        at += matrices * source.rows * columns;
    }
    assert!(to.len() >= at);
    let shared = Shared::new(&mut *to);
    pool::each(blocks.len(), alone, |i| {
        let (source, at, range) = &blocks[i];
        let height = range.len();
        let to = shared.get().wrapping_add(at + range.start * source.shape().0);
        if let Some(kernel) = &source.folded {
            return fold_block(kernels, to, range.clone(), source, kernel);
        }
        // SAFETY: within `to`, as asserted; blocks share no elements.
        let to = unsafe { std::slice::from_raw_parts_mut(to, height * source.columns) };
        fill(kernels, to, range.clone(), source);
        if source.identity {
            range.clone().enumerate().for_each(|(i, m)| to[m * height + i] += T::ONE);
        }
    });
    let mut rest = &*to;
    let mut packed = Vec::with_capacity(sources.iter().map(|source| source.shape().1).sum());
    for source in sources {
        let (columns, matrices) = source.shape();
        for _ in 0..matrices {
            let (data, after) = rest.split_at(source.rows * columns);
            rest = after;
            packed.push(Packed { data, rows: source.rows, columns });
        }
    }
    packed
}

/// Thirds of kernels that are turned at one time.
const TOGETHER: usize = 64;
/// Columns of kernels, each third of which belongs to a matrix of its own, that are turned at one time.
const APART_TOGETHER: usize = 16;
/// How many kernels ahead to fetch into the cache, where they do not follow each other.
const KERNELS_AHEAD: usize = 6;

/// Packs a block of rows of all matrices that a source of kernels makes; `to` is where the block of the first one goes.
fn fold_block<T: Dispatch>(kernels: &Kernels<T>, to: *mut T, range: Range<usize>, s: &Source<'_, T>, kernel: &Kernel<'_>) {
    let &Kernel { folding, taps, thirds, places, apart } = kernel;
    let (lanes, height, each) = (kernels.lanes, range.len(), kernel.shape().0);
    let matrix = s.rows * s.columns * each;
    let adjacent = s.column == taps && !apart;
    let step = if apart {
        APART_TOGETHER
    } else if adjacent {
        Kernel::together(thirds)
    } else {
        1
    };
    let far = if adjacent { 0 } else { KERNELS_AHEAD * s.column };
    // Matrices of thirds are filled one after the other: their places lie powers of two apart, and would not all stay in the first-level cache.
    let (passes, part, third) = if apart { (thirds, thirds * matrix, 3 * step * lanes) } else { (1, matrix, 0) };
    let of_third: Vec<usize> = (0..taps * usize::from(apart)).map(|tap| tap / 3 * third + tap % 3 * lanes).collect();
    let places = if apart { Some(&of_third[..]) } else { places };
    with_buffer(3 * thirds * step * lanes, |turned: &mut [T]| {
        if 3 * thirds > taps {
            // Where a kernel has less than three taps, nothing is written.
            turned.fill(T::ZERO);
        }
        for r in (0..height).step_by(lanes) {
            let rows = lanes.min(height - r);
            for k in (0..s.columns).step_by(step) {
                let count = step.min(s.columns - k);
                let (turns, columns) = if adjacent { (1, count * taps) } else { (count, taps) };
                for i in 0..turns {
                    let from = (range.start + r) * s.row + (k + i) * s.column;
                    assert!(s.from.len() >= from + (rows - 1) * s.row + columns);
                    let to = turned.as_mut_ptr().wrapping_add(3 * i * lanes);
                    let plain = Turn::new((s.from[from..].as_ptr(), s.row), rows, columns, (to, lanes));
                    // SAFETY: `Kernels` of an available level; the weights as asserted, and there is room for all places.
                    unsafe { (kernels.turn)(&Turn { pad: true, places, ahead: plain.ahead.max(far), ..plain }) };
                }
                for pass in 0..passes {
                    let fold = fold::Weights {
                        from: turned[pass * third..].as_ptr(),
                        kernels: if apart { count } else { count * thirds },
                        rows,
                        to: to.wrapping_add(pass * matrix + k * each * height + r),
                        to_row: height,
                        part,
                    };
                    // SAFETY: as above; `pack` has seen that there is room for the matrices, and no two blocks share an element.
                    unsafe { (kernels.folded(folding).weights)(&fold) };
                }
            }
        }
    });
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

impl<'a, T: Element> Packed<'a, T> {
    /// A matrix that is packed already, `[block of rows][column][row of the block]`.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns }
    }

    /// Rows of the matrix.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}
