//! Partial gradients of the weights, added up.

use super::Ending;
use super::common::Common;
use super::fold::{self, with_scheme};
use super::plan::Plan;
use crate::conv::kernels::Kernels;
use crate::conv::outer::Turn;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::MAX_LANES;
use inn_core::stack::Pointwise;
use std::sync::Mutex;

/// Adds a gradient to a slice.
pub(super) type Add<'a, T> = &'a dyn Fn(&mut [T]);

/// Elements of the partial gradients that a task adds up.
const SUM_ELEMENTS: usize = 4096;

/// The gradients of all weights: matrices with rows of `wide` elements, one for each hidden channel, and vectors.
struct Sums<'a, T: 'static> {
    plan: &'a Plan,
    sum: &'a [T],
    kernels: &'static Kernels<T>,
    alone: bool,
}

/// Rows of a matrix that are turned at one time: whole vectors of them, and as many of folded ones.
const TURNED_ROWS: usize = 48;
/// Elements up to which the matrix is turned by one thread.
const TURNED_ALONE: usize = 1 << 15;

impl<'a, T: CpuElement> Sums<'a, T> {
    /// Adds partial gradients up, in their order.
    fn new(plan: &'a Plan, kernels: &'static Kernels<T>, parts: &'a mut [T], alone: bool) -> Self {
        let size = plan.weights();
        let (sum, others) = parts.split_at_mut(size);
        let chunks: Vec<_> = sum.chunks_mut(SUM_ELEMENTS).map(Mutex::new).collect();
        pool::each(chunks.len(), alone, |i| {
            if let Ok(mut chunk) = chunks[i].lock() {
                for part in others.chunks_exact(size) {
                    chunk.iter_mut().zip(&part[i * SUM_ELEMENTS..]).for_each(|(sum, &v)| *sum += v);
                }
            }
        });
        drop(chunks);
        Self { plan, sum, kernels, alone }
    }

    /// Adds the matrix at `start` with `rows` rows of `columns` elements to `to`, row by row.
    fn add(&self, start: usize, rows: usize, columns: usize, to: &mut [T]) {
        let wide = self.plan.wide();
        for (to, row) in to.chunks_exact_mut(columns).zip(self.sum[start..start + rows * wide].chunks_exact(wide)) {
            to.iter_mut().zip(row).for_each(|(to, &v)| *to += v);
        }
    }

    /// The same for the transposed matrix: `to` has a row for each column. The matrix may be the gradient of a folded weight.
    fn add_turned(&self, start: usize, (rows, columns): (usize, usize), to: &mut [T]) {
        let (wide, folding) = (self.plan.wide(), self.plan.folding);
        let unfolded = |rows: usize| folding.map_or(rows, |folding| rows / 3 * folding.parts());
        let (each, all) = (unfolded(TURNED_ROWS), unfolded(rows));
        let parts: Vec<_> = self.sum[start..start + all * wide].chunks(each * wide).collect();
        let to = Shared::new(&mut to[..rows * columns]);
        pool::each(parts.len(), self.alone || rows * columns < TURNED_ALONE, |i| {
            let first = i * TURNED_ROWS;
            let add = |from: &[T]| {
                // SAFETY: the columns of `to` from `first` on, as many as there are rows in this part; other parts have others.
                unsafe {
                    let (from, to) = (from.as_ptr(), to.get().add(first));
                    let rows_here = TURNED_ROWS.min(rows - first);
                    (self.kernels.turn)(&Turn { accumulate: true, ..Turn::new((from, wide), rows_here, columns, (to, rows)) });
                }
            };
            if let Some(folding) = folding {
                with_buffer(parts[i].len(), |taps: &mut [T]| {
                    with_scheme!(folding, S => fold::weight_gradients::<T, S>(parts[i], wide, taps));
                    add(taps);
                });
            } else {
                add(parts[i]);
            }
        });
    }

    /// Adds the vectors at `start`, one a number, the lanes of each by halves: lane by lane, for as many numbers as there are lanes at once.
    fn add_vector(&self, start: usize, to: &mut [T]) {
        let lanes = self.kernels.lanes;
        let all = &self.sum[start..start + to.len() * lanes];
        let mut turned = [T::default(); MAX_LANES * MAX_LANES];
        for (to, vectors) in to.chunks_mut(lanes).zip(all.chunks(lanes * lanes)) {
            let turn = Turn::new((vectors.as_ptr(), lanes), to.len(), lanes, (turned.as_mut_ptr(), lanes));
            // SAFETY: as many vectors as there are numbers, and room for `lanes` rows of as many.
            unsafe { (self.kernels.turn)(&Turn { pad: true, ..turn }) };
            let mut half = lanes / 2 * lanes;
            while half >= lanes {
                let (sums, others) = turned.split_at_mut(half);
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += *other);
                half = half / lanes / 2 * lanes;
            }
            to.iter_mut().zip(turned).for_each(|(to, sum)| *to += sum);
        }
    }

    /// Hands the gradients of the weights to `write`, in the order W_1, b_1, W_2, b_2, .., W (, b).
    fn write(&self, affine: bool, mut write: impl FnMut(usize, Add<'_, T>)) {
        let plan = self.plan;
        let (n, wide, lanes, (rows_in, rows_out)) = (plan.hidden, plan.wide(), plan.lanes, plan.outer_rows());
        let starts = Starts::of(plan);
        write(0, &|to| self.add_turned(0, (rows_in, n), to));
        write(1, &|to| self.add_vector(starts.bias, to));
        for i in 0..plan.middle {
            write(2 + 2 * i, &|to| self.add(starts.middle + i * n * wide, n, n, to));
            write(3 + 2 * i, &|to| self.add_vector(starts.bias + (i + 1) * n * lanes, to));
        }
        let end = 2 + 2 * plan.middle;
        if affine {
            write(end, &|to| self.add(starts.last, rows_out, n, to));
            write(end + 1, &|to| self.add_vector(starts.bias + (plan.middle + 1) * n * lanes, to));
        } else {
            write(end, &|to| self.add_turned(starts.last, (rows_out, n), to));
        }
    }
}

/// Where the parts of a partial gradient start: W_1 at 0, the middle weights, W, and the biases.
pub(super) struct Starts {
    pub(super) middle: usize,
    pub(super) last: usize,
    pub(super) bias: usize,
}

impl Starts {
    pub(super) fn of(plan: &Plan) -> Self {
        let [first, middle, last, _] = plan.partial_sizes();
        Self { middle: first, last: first + middle, bias: first + middle + last }
    }
}

/// Adds the partial gradients of `common` up and hands those of the weights, one after the other in the order W_1, b_1, W_2, b_2, .., W (, b),
/// to `write` as a function that adds them to a slice.
pub(super) fn write<T: CpuElement, A: Pointwise>(common: &Common<'_, T, A>, partials: &mut [T], write: impl FnMut(usize, Add<'_, T>)) {
    let affine = matches!(common.weights.last, Ending::Affine(..));
    Sums::new(common.plan, common.kernels, partials, common.alone).write(affine, write);
}
