//! The adjoint pass over strips.
//!
//! With g the cotangent of the output, `Γ` its rows as [`gather`](super::lines::gather) makes them (row `(c, t)` at pixel p is g at `p + t - padding`)
//! and `Ξ` those of x, the derivation of the residual block (SPEC 5.4) reads, for n hidden layers:
//!
//! ```text
//! gW = X_n Γᵀ,      gX_n = W Γ,      gY_i = ρ'(Y_i) ⊙ gX_i,      gb_i = Σ gY_i
//! gW_i = gY_i X_{i-1}ᵀ,      gX_{i-1} = W_iᵀ gY_i (+ gY_i)
//! gW_1 = gY_1 Ξᵀ,      gx += the rows W_1ᵀ gY_1, scattered
//! ```
//! Each task adds its strips to a partial gradient of the weights; those are added in their order at the end.

use super::common::{Common, with_arrays};
use super::fold::{self, Folding, with_scheme};
use super::lines::Image;
use super::map::{folded_len, packed_len};
use super::plan::Plan;
use super::pointwise::{Rows, SumRows};
use super::product::outer;
use super::walk::Walk;
use super::{Ending, Weights};
use crate::conv::kernels::Kernels;
use crate::conv::micro::Spread;
use crate::conv::outer::Turn;
use crate::conv::plan::{SLACK, split};
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::MAX_LANES;
use inn_core::stack::Pointwise;
use std::sync::Mutex;

/// Elements of a thread's arrays: rows of the output's cotangent or of x, three of hidden channels, those that were not kept, and turned
/// ones.
pub(super) fn thread_len(plan: &Plan, kept: bool) -> usize {
    let turned = plan.wide() * plan.pitch.max(plan.arrays() * plan.piece);
    let own = if kept { 0 } else { plan.kept_of_strip() };
    plan.edge_len() + folded_len(plan) + 3 * plan.hidden * plan.pitch + own + SLACK + turned + SLACK
}

/// Elements of the partial gradients that a task adds up.
const SUM_ELEMENTS: usize = 4096;

/// The gradients of all weights: matrices with rows of `wide` elements, one for each hidden channel, and vectors.
struct Sums<'a, T: 'static> {
    sum: &'a [T],
    wide: usize,
    kernels: &'static Kernels<T>,
    alone: bool,
}

/// Rows of a matrix that are turned at one time: whole vectors of them, and as many of folded ones.
const TURNED_ROWS: usize = 48;
/// Elements up to which the matrix is turned by one thread.
const TURNED_ALONE: usize = 1 << 15;

impl<'a, T: CpuElement> Sums<'a, T> {
    /// Adds partial gradients of `size` elements up, in their order.
    fn new(kernels: &'static Kernels<T>, parts: &'a mut [T], size: usize, wide: usize, alone: bool) -> Self {
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
        Self { sum, wide, kernels, alone }
    }

    /// Adds the matrix at `start` with `rows` rows of `columns` elements to `to`, row by row.
    fn add(&self, start: usize, rows: usize, columns: usize, to: &mut [T]) {
        for (to, row) in to.chunks_exact_mut(columns).zip(self.sum[start..start + rows * self.wide].chunks_exact(self.wide)) {
            to.iter_mut().zip(row).for_each(|(to, &v)| *to += v);
        }
    }

    /// The same for the transposed matrix: `to` has a row for each column. The matrix may be the gradient of a folded weight.
    fn add_turned(&self, start: usize, (rows, columns): (usize, usize), folding: Option<Folding>, to: &mut [T]) {
        let unfolded = |rows: usize| folding.map_or(rows, |folding| rows / 3 * folding.parts());
        let (each, all) = (unfolded(TURNED_ROWS), unfolded(rows));
        let parts: Vec<_> = self.sum[start..start + all * self.wide].chunks(each * self.wide).collect();
        let to = Shared::new(&mut to[..rows * columns]);
        pool::each(parts.len(), self.alone || rows * columns < TURNED_ALONE, |i| {
            let first = i * TURNED_ROWS;
            let add = |from: &[T]| {
                let from_row = self.wide;
                // SAFETY: the columns of `to` from `first` on, as many as there are rows in this part; other parts have others.
                unsafe {
                    let (from, to) = (from.as_ptr(), to.get().add(first));
                    let rows_here = TURNED_ROWS.min(rows - first);
                    (self.kernels.turn)(&Turn {
                        from,
                        from_row,
                        rows: rows_here,
                        columns,
                        to,
                        to_row: rows,
                        pad: false,
                        accumulate: true,
                        slopes: None,
                    });
                }
            };
            if let Some(folding) = folding {
                with_buffer(parts[i].len(), |taps: &mut [T]| {
                    with_scheme!(folding, S => fold::weight_gradients::<T, S>(parts[i], self.wide, taps));
                    add(taps);
                });
            } else {
                add(parts[i]);
            }
        });
    }

    /// Adds the vectors at `start`, one a number, the lanes of each by halves.
    fn add_vector(&self, start: usize, to: &mut [T]) {
        let lanes = self.kernels.lanes;
        for (to, vector) in to.iter_mut().zip(self.sum[start..].chunks_exact(lanes)) {
            let mut sums = [T::default(); MAX_LANES];
            sums[..lanes].copy_from_slice(vector);
            let mut half = lanes / 2;
            while half > 0 {
                (0..half).for_each(|i| sums[i] += sums[i + half]);
                half /= 2;
            }
            *to += sums[0];
        }
    }
}

/// Adds a gradient to a slice.
pub(super) type Add<'a, T> = &'a dyn Fn(&mut [T]);

/// Where the hidden values come from.
pub(super) enum Hidden<'a, T> {
    /// The forward pass kept them.
    Kept(&'a [T]),
    /// They are computed again, and the output is added to an image on the way.
    Again(Image<T>),
}

/// How many ways of the stack are packed.
fn ways<T>(hidden: &Hidden<'_, T>) -> usize {
    if matches!(hidden, Hidden::Kept(_)) { 1 } else { 2 }
}

/// Elements of the memory that a call shares: packed weights and partial gradients.
pub(super) fn shared_len<T>(plan: &Plan, hidden: &Hidden<'_, T>) -> usize {
    ways(hidden) * packed_len(plan) + plan.slots * plan.weights()
}

/// Runs the adjoint and hands the gradients of the weights, one after the other in the order W_1, b_1, W_2, b_2, .., W (, b), to `write` as a
/// function that adds them to a slice. `buffer` is memory of [`shared_len`] elements.
///
/// # Safety
/// As [`map`](super::map::map), for `gx` as outputs; what was kept is what the forward pass of the same plan kept.
pub(super) unsafe fn adjoint<T: CpuElement, A: Pointwise>(
    plan: &Plan,
    rho: A,
    weights: &Weights<'_, T>,
    (inputs, gx): (&[Image<T>], &[Image<T>]),
    gout: Image<T>,
    hidden: Hidden<'_, T>,
    buffer: &mut [T],
    mut write: impl FnMut(usize, Add<'_, T>),
) {
    let common = Common::new(plan, rho, weights, inputs, gout);
    let (level, kernels, tables, alone) = (common.level, common.kernels, &common.tables, common.alone);
    let (rows_in, rows_out) = plan.outer_rows();
    let (n, wide, lanes) = (plan.hidden, plan.wide(), plan.lanes);
    let [size_first, size_middle, size_last, size_bias] = plan.partial_sizes();
    let size = size_first + size_middle + size_last + size_bias;
    let start_last = size_first + size_middle;
    let start_bias = start_last + size_last;
    let ways = ways(&hidden);
    let (packed, partials) = buffer.split_at_mut(ways * packed_len(plan));
    let (back, forth) = packed.split_at_mut(packed_len(plan));
    let way = common.pack_back(back);
    let forward = (ways == 2).then(|| common.pack_forward(forth));
    let shared = Shared::new(partials);
    let arrays = plan.arrays();
    let slot = |phase: usize, slot: usize| {
        with_arrays(thread_len(plan, ways == 1), |buffer: &mut [T], walks| {
            let edge = buffer.as_mut_ptr();
            // SAFETY: the parts of the buffer as `thread_len` counts them; every slot has a partial gradient.
            let (m, x, mut g, mut next, turned, part) = unsafe {
                let m = edge.add(plan.edge_len());
                let x = m.add(folded_len(plan));
                let g = x.add(n * plan.pitch);
                let next = g.add(n * plan.pitch);
                let turned = next.add(n * plan.pitch + SLACK);
                (m, x, g, next, turned, shared.get().add(slot * size))
            };
            // SAFETY: as above; only where nothing was kept.
            let own = unsafe { turned.add(wide * plan.pitch.max(plan.arrays() * plan.piece) + SLACK) };
            // The first strip writes the matrices, and finds zeros for the vectors.
            let mut first = phase == 0;
            if first {
                // SAFETY: the partial gradient of this slot alone.
                unsafe { std::slice::from_raw_parts_mut(part.add(start_bias), size_bias) }.fill(T::default());
            }
            for s in split(plan.tasks(), plan.slots, slot).flat_map(|task| plan.task(phase, task)) {
                walks.set(plan, s);
                let at = common.hidden_rows(&walks.first);
                let edge_vectors = common.edge_vectors(&at);
                let base = match hidden {
                    // SAFETY: the strip's part of what was kept, which is read only.
                    Hidden::Kept(kept) => unsafe { kept.as_ptr().add(s * plan.kept_of_strip()).cast_mut() },
                    Hidden::Again(_) => own,
                };
                // SAFETY: the strip's hidden arrays follow each other.
                let y = |layer: usize| unsafe { base.add(layer * n * plan.pitch) };
                // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `gx`.
                unsafe {
                    let bias = |layer: usize| part.add(start_bias + layer * n * lanes);
                    match (&hidden, &forward) {
                        (Hidden::Again(out), Some(forward)) => {
                            let x = common.hidden(forward, inputs, &walks.first, edge, ([x, next], m), y);
                            common.output(forward, walks.last(), edge, (x, m), *out);
                            common.turn(&at, x, turned, None);
                        }
                        _ => common.turn_activated(&walks.first, &at, y(plan.middle), x, turned),
                    }
                    // The partial gradient of the rows of a part, from neighbourhoods in `edge` and what was turned.
                    let outer_all = |walk: &Walk, rows: usize, place: *mut T| {
                        for e in 0..arrays {
                            let (start, spread) = common.edge(walk, e);
                            let a = (edge.add(start).cast_const(), spread, rows / plan.taps());
                            let b = (turned.add(e * wide * edge_vectors * lanes).cast_const(), wide);
                            outer(kernels, tables, a, b, edge_vectors * lanes, (place.add(e * wide), arrays * wide), first);
                        }
                    };
                    for (i, (rows, w)) in common.outs.iter().zip(way.last.chunks(arrays)).enumerate() {
                        common.gather(gout, walks.last(), rows, edge);
                        if let Ending::Affine(..) = weights.last {
                            let at = Rows { rows: rows.rows.len(), ..at };
                            T::with(level, SumRows { at, g: edge, sums: bias(plan.middle + 1).add(rows.rows.start * lanes), lanes });
                        }
                        outer_all(walks.last(), rows.rows.len(), part.add(start_last + plan.unfolded(rows.rows.start) * wide));
                        let finish = common.pull(y(plan.middle), bias(plan.middle));
                        common.to_hidden(w, walks.last(), &at, ((i, common.outs.len()), edge), (g, m), (None, finish));
                    }
                    common.unfold_pull(&walks.first, &at, y(plan.middle), (g, m), bias(plan.middle));
                    for i in (0..plan.middle).rev() {
                        common.turn_layer(&at, y(i), x, turned);
                        let place = part.add(size_first + i * n * wide);
                        outer(kernels, tables, (g, Spread::even(plan.pitch), n), (turned, wide), at.len, (place, wide), first);
                        common.layer_back(&way.middle[i], &at, g, y(i), next, bias(i));
                        std::mem::swap(&mut g, &mut next);
                    }
                    common.turn(&at, g, turned, None);
                    common.fold(&at, g, m);
                    for (rows, w) in common.ins.iter().zip(way.first.chunks(arrays * plan.shifts())) {
                        common.gather(inputs[rows.image], &walks.first, rows, edge);
                        outer_all(&walks.first, rows.rows.len(), part.add(plan.unfolded(rows.rows.start) * wide));
                        common.to_edge(w, &walks.first, &at, (g, m), edge, None);
                        common.scatter(gx[rows.image], &walks.first, rows, edge);
                    }
                }
                first = false;
            }
            if first {
                // SAFETY: as above; there was no strip.
                unsafe { std::slice::from_raw_parts_mut(part, start_bias) }.fill(T::default());
            }
        });
    };
    for phase in 0..plan.phases() {
        pool::each(plan.slots, alone, |s| slot(phase, s));
    }
    let sums = Sums::new(kernels, partials, size, wide, alone);
    write(0, &|to| sums.add_turned(0, (rows_in, n), plan.folding, to));
    write(1, &|to| sums.add_vector(start_bias, to));
    for i in 0..plan.middle {
        write(2 + 2 * i, &|to| sums.add(size_first + i * n * wide, n, n, to));
        write(3 + 2 * i, &|to| sums.add_vector(start_bias + (i + 1) * n * lanes, to));
    }
    let end = 2 + 2 * plan.middle;
    match weights.last {
        Ending::Transposed(_) => write(end, &|to| sums.add_turned(start_last, (rows_out, n), plan.folding, to)),
        Ending::Affine(..) => {
            write(end, &|to| sums.add(start_last, rows_out, n, to));
            write(end + 1, &|to| sums.add_vector(start_bias + (plan.middle + 1) * n * lanes, to));
        }
    }
}
