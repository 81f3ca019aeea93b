//! Matrix products, which all operations are if there is a single pixel.

use super::apply::SMALL;
use super::index::{index_bytes, with_index};
use super::kernels::{Dispatch, Kernels};
use super::micro::Panel;
use super::outer::Turn;
use super::plan::{SLACK, split};
use super::scratch::{Scratch, Shared, with_two};
use crate::pool;
use crate::simd::{Level, MAX_LANES};

/// A matrix with arbitrary distances of rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    pub(super) data: &'a [T],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// A matrix to write to.
pub(super) struct MatrixMut<'a, T> {
    pub(super) data: &'a mut [T],
    pub(super) row: usize,
    pub(super) column: usize,
}

/// Largest extents of a block of the sum and the columns.
const INNER: usize = 256;
const COLUMNS: usize = 256;
/// Rows of a unit at least and at most.
const ROWS: (usize, usize) = (64, 512);
/// Units of work of a call, if it has enough of it.
const UNITS: usize = 16;

/// The decomposition of a product of `m x k` by `k x n`.
#[derive(Clone, Copy)]
struct Product {
    m: usize,
    n: usize,
    k: usize,
    row_parts: usize,
    column_parts: usize,
}

impl Product {
    fn new(m: usize, n: usize, k: usize) -> Self {
        let column_parts = n.div_ceil(COLUMNS).max(1);
        let total = m.saturating_mul(n).saturating_mul(k);
        let units = (2 * total / SMALL).clamp(1, UNITS);
        let row_parts = units.div_ceil(column_parts).min(m / ROWS.0).max(m.div_ceil(ROWS.1)).max(1);
        Product { m, n, k, row_parts, column_parts }
    }

    fn small(&self) -> bool {
        self.m.saturating_mul(self.n).saturating_mul(self.k) <= SMALL
    }

    /// Elements for a packed block of the left matrix.
    fn a_elements(&self) -> usize {
        self.m.div_ceil(self.row_parts) * self.k.min(INNER)
    }

    /// Distance of the rows of a packed block of the right matrix.
    fn b_row(&self) -> usize {
        (self.n.div_ceil(self.column_parts).div_ceil(MAX_LANES) | 1) * MAX_LANES
    }

    fn b_elements(&self) -> usize {
        self.k.min(INNER) * self.b_row() + SLACK
    }

    fn unit<T: Dispatch>(
        &self,
        unit: usize,
        kernels: &Kernels<T>,
        a: Matrix<'_, T>,
        b: Matrix<'_, T>,
        c: (Shared<T>, usize, usize),
        accumulate: bool,
    ) {
        let rows = split(self.m, self.row_parts, unit / self.column_parts);
        let columns = split(self.n, self.column_parts, unit % self.column_parts);
        let blocks = rows.len().div_ceil(kernels.panel.len());
        let (to, row, column) = c;
        let to = to.get().wrapping_add(rows.start * row + columns.start * column);
        let b_row = self.b_row();
        with_two(self.a_elements(), self.b_elements(), |a_packed: &mut [T], b_packed| {
            with_index(|index| {
                let lists = index.phase(0);
                lists.clear();
                lists.segment(0, columns.len(), 0, column, kernels.lanes);
                let vectors = columns.len().div_ceil(kernels.lanes);
                lists.finish(vectors);
                lists.off.clear();
                lists.off.extend((0..self.k.min(INNER)).map(|k| k * b_row));
                let mut k0 = 0;
                loop {
                    let inner = k0..(k0 + INNER).min(self.k);
                    pack_b(b, inner.clone(), columns.clone(), b_row, b_packed, kernels);
                    for block in 0..blocks {
                        let block = split(rows.len(), blocks, block);
                        let start = block.start * inner.len();
                        pack_a(
                            a,
                            rows.start + block.start..rows.start + block.end,
                            inner.clone(),
                            &mut a_packed[start..start + block.len() * inner.len()],
                        );
                        let panel = Panel {
                            a: a_packed[start..].as_ptr(),
                            b: b_packed.as_ptr(),
                            off: &lists.off[..inner.len()],
                            vectors,
                            ops: &lists.ops,
                            first: &lists.first,
                            step: column,
                            to: to.wrapping_add(block.start * row),
                            row,
                            accumulate: accumulate || k0 > 0,
                        };
                        // SAFETY: `Kernels` of an available level; the
                        // packed rows have room for whole tiles, and no
                        // other unit has this part of the result.
                        unsafe { kernels.panel[block.len() - 1](&panel) };
                    }
                    k0 = inner.end;
                    if k0 == self.k {
                        break;
                    }
                }
            });
        });
    }
}

/// Packs rows of the left matrix as `[inner][row]`.
fn pack_a<T: Dispatch>(a: Matrix<'_, T>, rows: std::ops::Range<usize>, inner: std::ops::Range<usize>, packed: &mut [T]) {
    if inner.is_empty() {
        return;
    }
    // A known number of rows lets the compiler unroll the copy of a column.
    match rows.len() {
        4 => pack_rows::<T, 4>(a, rows.start, inner, packed),
        5 => pack_rows::<T, 5>(a, rows.start, inner, packed),
        6 => pack_rows::<T, 6>(a, rows.start, inner, packed),
        7 => pack_rows::<T, 7>(a, rows.start, inner, packed),
        8 => pack_rows::<T, 8>(a, rows.start, inner, packed),
        9 => pack_rows::<T, 9>(a, rows.start, inner, packed),
        count => {
            for (m, r) in rows.enumerate() {
                let from = r * a.row;
                for (to, k) in packed[m..].iter_mut().step_by(count).zip(inner.clone()) {
                    *to = a.data[from + k * a.column];
                }
            }
        }
    }
}

fn pack_rows<T: Dispatch, const MR: usize>(a: Matrix<'_, T>, row: usize, inner: std::ops::Range<usize>, packed: &mut [T]) {
    let span = (inner.len() - 1) * a.column + 1;
    let mut rows = [&a.data[..0]; MR];
    for (m, from) in rows.iter_mut().enumerate() {
        let start = (row + m) * a.row + inner.start * a.column;
        *from = &a.data[start..start + span];
    }
    for (k, to) in packed.as_chunks_mut::<MR>().0.iter_mut().enumerate() {
        for m in 0..MR {
            to[m] = rows[m][k * a.column];
        }
    }
}

/// Packs columns of the right matrix as `[inner][column]`.
fn pack_b<T: Dispatch>(
    b: Matrix<'_, T>,
    inner: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    b_row: usize,
    packed: &mut [T],
    kernels: &Kernels<T>,
) {
    if inner.is_empty() || columns.is_empty() {
        return;
    }
    let start = inner.start * b.row + columns.start * b.column;
    if b.column == 1 {
        for (k, line) in packed.chunks_exact_mut(b_row).take(inner.len()).enumerate() {
            let from = start + k * b.row;
            line[..columns.len()].copy_from_slice(&b.data[from..from + columns.len()]);
        }
    } else if b.row == 1 {
        let from = &b.data[start..start + (columns.len() - 1) * b.column + inner.len()];
        assert!(packed.len() >= (inner.len() - 1) * b_row + columns.len());
        let turn = Turn::new((from.as_ptr(), b.column), columns.len(), inner.len(), (packed.as_mut_ptr(), b_row));
        // SAFETY: `Kernels` of an available level; ranges as asserted.
        unsafe { (kernels.turn)(&turn) };
    } else {
        for (j, n) in columns.enumerate() {
            let from = n * b.column;
            for (to, k) in packed[j..].iter_mut().step_by(b_row).zip(inner.clone()) {
                *to = b.data[from + k * b.row];
            }
        }
    }
}

/// Whether the product of these extents should be computed as its transpose:
/// if it has fewer columns than half a vector, but enough rows for one.
fn turned((m, n, _): (usize, usize, usize), lanes: usize) -> bool {
    2 * n <= lanes && m >= lanes
}

/// `c = a * b`, or `c += a * b` if `accumulate`, for `a` of `m x k` and `b` of
/// `k x n`. The matrices have been checked, `c` is not empty, and the level is
/// available.
pub(super) fn product<'a, T: Dispatch>(
    level: Level,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    c: MatrixMut<'_, T>,
    accumulate: bool,
) {
    let kernels = T::kernels(level);
    let turn = |matrix: Matrix<'a, T>| Matrix { data: matrix.data, row: matrix.column, column: matrix.row };
    let c = (Shared::new(c.data), c.row, c.column);
    let (product, a, b, c) = if turned((m, n, k), kernels.lanes) {
        (Product::new(n, m, k), turn(b), turn(a), (c.0, c.2, c.1))
    } else {
        (Product::new(m, n, k), a, b, c)
    };
    let units = product.row_parts * product.column_parts;
    pool::each(units, product.small(), |unit| product.unit(unit, kernels, a, b, c, accumulate));
}

/// Upper bounds on the scratch memory of [`product`].
pub(super) fn scratch((m, n, k): (usize, usize, usize), lanes: usize, bytes: usize) -> Scratch {
    let product = if turned((m, n, k), lanes) { Product::new(n, m, k) } else { Product::new(m, n, k) };
    let packed = (product.a_elements() + product.b_elements()) * bytes + 128;
    Scratch { shared: 0, each: packed + index_bytes(1, COLUMNS, lanes, INNER, 1), alone: product.small() }
}
