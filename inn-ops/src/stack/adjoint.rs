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

use super::common::{Common, Walks, with_arrays};
use super::lines::Image;
use super::map::{folded_len, packed_len};
use super::packing::Way;
use super::plan::Plan;
use super::pointwise::{Rows, SumRows};
use super::product::outer;
use super::sums::{self, Add, Starts};
use super::walk::Walk;
use super::{Ending, Weights};
use crate::conv::micro::Spread;
use crate::conv::plan::{SLACK, split};
use crate::conv::scratch::Shared;
use crate::cpu::CpuElement;
use crate::pool;
use inn_core::stack::Pointwise;

/// Elements of a thread's arrays: rows of the output's cotangent or of x, three of hidden channels, those that were not kept, and turned
/// ones.
pub(super) fn thread_len(plan: &Plan, kept: bool) -> usize {
    let own = if kept { 0 } else { plan.kept_of_strip() };
    plan.edge_len() + folded_len(plan) + 3 * plan.hidden * plan.pitch + SLACK + turned_len(plan) + SLACK + own
}

/// Elements of the turned arrays.
fn turned_len(plan: &Plan) -> usize {
    plan.wide() * plan.pitch.max(plan.arrays() * plan.piece)
}

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

/// Elements of the memory that a call shares: packed weights, partial gradients, and what strips set aside.
pub(super) fn shared_len<T>(plan: &Plan, hidden: &Hidden<'_, T>) -> usize {
    let output = if ways(hidden) == 2 { plan.aside_len(1) } else { 0 };
    ways(hidden) * packed_len(plan) + plan.slots * plan.weights() + plan.aside_len(0) + output
}

/// The arrays that a task works on.
pub(super) struct Desk<T> {
    /// Rows of neighbourhoods.
    pub(super) edge: *mut T,
    /// What takes the place of hidden arrays, folded.
    pub(super) m: *mut T,
    /// Hidden arrays.
    pub(super) x: *mut T,
    g: *mut T,
    pub(super) next: *mut T,
    turned: *mut T,
    /// The partial gradient.
    part: *mut T,
    /// Whether it is yet to be written.
    first: bool,
    /// What comes after all of them.
    pub(super) rest: *mut T,
}

impl<T: CpuElement> Desk<T> {
    /// The arrays in a buffer of [`thread_len`] elements, and the partial gradient at `part`, to write or to add to.
    ///
    /// # Safety
    /// There is as much room.
    pub(super) unsafe fn new(plan: &Plan, buffer: *mut T, part: *mut T, first: bool) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            if first {
                // The first strip writes the matrices, and finds zeros for the vectors.
                std::slice::from_raw_parts_mut(part.add(Starts::of(plan).bias), plan.partial_sizes()[3]).fill(T::default());
            }
            let (edge, hidden) = (buffer, plan.hidden * plan.pitch);
            let m = edge.add(plan.edge_len());
            let x = m.add(folded_len(plan));
            let g = x.add(hidden);
            let next = g.add(hidden);
            let turned = next.add(hidden + SLACK);
            Self { edge, m, x, g, next, turned, part, first, rest: turned.add(turned_len(plan) + SLACK) }
        }
    }

    /// A partial gradient that no strip has written is zero.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn finish(self, plan: &Plan) {
        if self.first {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(self.part, Starts::of(plan).bias) }.fill(T::default());
        }
    }
}

impl<T: CpuElement, A: Pointwise> Common<'_, T, A> {
    /// The adjoint of a strip, for Y_i in `y(i)`, from the cotangent `gout` of its output: adds to `gx`, or sets that aside, and to the partial
    /// gradient. X_n lies in `x_top` if it is there already.
    ///
    /// # Safety
    /// The images as [`adjoint`] says, the arrays as [`Desk::new`] made them; nobody else adds to pixels of `gx` that the strip reaches.
    pub(super) unsafe fn strip_back(
        &self,
        way: &Way<'_, T>,
        (inputs, gx): (&[Image<T>], &[Image<T>]),
        gout: Image<T>,
        walks: &Walks,
        desk: &mut Desk<T>,
        y: impl Fn(usize) -> *mut T,
        (x_top, aside): (Option<*mut T>, Option<*mut T>),
    ) {
        let plan = self.plan;
        let (n, wide, lanes, arrays, top) = (plan.hidden, plan.wide(), plan.lanes, plan.arrays(), plan.middle);
        let (kernels, tables) = (self.kernels, &self.tables);
        let starts = Starts::of(plan);
        let &mut Desk { edge, m, x, mut g, mut next, turned, part, first, .. } = desk;
        let at = self.hidden_rows(&walks.first);
        let edge_vectors = self.edge_vectors(&at);
        // SAFETY: the caller's promise; the arrays have the rows that each step takes.
        unsafe {
            let bias = |layer: usize| part.add(starts.bias + layer * n * lanes);
            match x_top {
                Some(x) => self.turn(&at, x, turned, None),
                None => self.turn_activated(&walks.first, &at, y(top), x, turned),
            }
            // The partial gradient of the rows of a part, from neighbourhoods in `edge` and what was turned.
            let outer_all = |walk: &Walk, rows: usize, place: *mut T| {
                for e in 0..arrays {
                    let (start, spread) = self.edge(walk, e);
                    let a = (edge.add(start).cast_const(), spread, rows / plan.taps());
                    let b = (turned.add(e * wide * edge_vectors * lanes).cast_const(), wide);
                    outer(kernels, tables, a, b, edge_vectors * lanes, (place.add(e * wide), arrays * wide), first);
                }
            };
            for (i, (rows, w)) in self.outs.iter().zip(way.last.chunks(arrays)).enumerate() {
                self.gather(gout, walks.last(), rows, edge);
                if let Ending::Affine(..) = self.weights.last {
                    let at = Rows { rows: rows.rows.len(), ..at };
                    T::with(self.level, SumRows { at, g: edge, sums: bias(top + 1).add(rows.rows.start * lanes), lanes });
                }
                outer_all(walks.last(), rows.rows.len(), part.add(starts.last + plan.unfolded(rows.rows.start) * wide));
                let finish = self.pull(y(top), bias(top));
                self.to_hidden(w, walks.last(), &at, ((i, self.outs.len()), edge), (g, m), (None, finish));
            }
            self.unfold_pull(&walks.first, &at, y(top), (g, m), bias(top));
            for i in (0..top).rev() {
                self.turn_layer(&at, y(i), x, turned);
                let place = part.add(starts.middle + i * n * wide);
                outer(kernels, tables, (g, Spread::even(plan.pitch), n), (turned, wide), at.len, (place, wide), first);
                self.layer_back(&way.middle[i], &at, g, y(i), next, bias(i));
                std::mem::swap(&mut g, &mut next);
            }
            self.turn(&at, g, turned, None);
            self.fold(&at, g, m);
            for (rows, w) in self.ins.iter().zip(way.first.chunks(arrays * plan.shifts())) {
                self.gather(inputs[rows.image], &walks.first, rows, edge);
                outer_all(&walks.first, rows.rows.len(), part.add(plan.unfolded(rows.rows.start) * wide));
                self.give(w, &walks.first, (g, m), edge, None, (0, rows), (gx[rows.image], aside));
            }
        }
        desk.first = false;
    }
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
    write: impl FnMut(usize, Add<'_, T>),
) {
    let common = Common::new(plan, rho, weights, inputs, gout);
    let ways = ways(&hidden);
    let (packed, rest) = buffer.split_at_mut(ways * packed_len(plan));
    let (partials, rest) = rest.split_at_mut(plan.slots * plan.weights());
    let (of_inputs, of_output) = rest.split_at_mut(plan.aside_len(0));
    let (back, forth) = packed.split_at_mut(packed_len(plan));
    let (forward, way) = if ways == 2 {
        let (forward, way) = (common.pack_forward(forth), common.pack_back(back));
        (Some(forward), way)
    } else {
        (None, common.pack_back(back))
    };
    let shared = Shared::new(partials);
    let slot = |phase: usize, slot: usize, aside: [Shared<T>; 2]| {
        with_arrays(thread_len(plan, ways == 1), |buffer: &mut [T], walks| {
            // SAFETY: every slot has a partial gradient.
            let mut desk = unsafe { Desk::new(plan, buffer.as_mut_ptr(), shared.get().add(slot * plan.weights()), phase == 0) };
            for s in split(plan.tasks(), plan.slots, slot).flat_map(|task| plan.task(phase, task)) {
                walks.set(plan, s);
                let base = match hidden {
                    // SAFETY: the strip's part of what was kept, which is read only.
                    Hidden::Kept(kept) => unsafe { kept.as_ptr().add(s * plan.kept_of_strip()).cast_mut() },
                    Hidden::Again(_) => desk.rest,
                };
                // SAFETY: the strip's hidden arrays follow each other.
                let y = |layer: usize| unsafe { base.add(layer * plan.hidden * plan.pitch) };
                // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `gx`.
                unsafe {
                    let mut x_top = None;
                    if let (Hidden::Again(out), Some(forward)) = (&hidden, &forward) {
                        let x = common.hidden(forward, inputs, &walks.first, desk.edge, ([desk.x, desk.next], desk.m), y);
                        common.output(forward, walks.last(), desk.edge, (x, desk.m), (*out, common.aside(1, s, aside[1])));
                        x_top = Some(x);
                    }
                    common.strip_back(&way, (inputs, gx), gout, walks, &mut desk, y, (x_top, common.aside(0, s, aside[0])));
                }
            }
            // SAFETY: as above.
            unsafe { desk.finish(plan) };
        });
    };
    let pass = |aside: [Shared<T>; 2]| {
        for phase in 0..plan.phases() {
            pool::each(plan.slots, common.alone, |s| slot(phase, s, aside));
        }
    };
    let again = if let Hidden::Again(out) = &hidden { &[*out][..] } else { &[] };
    // SAFETY: the caller's promise.
    unsafe {
        common.with_aside(0, gx, of_inputs, |of_inputs| common.with_aside(1, again, of_output, |of_output| pass([of_inputs, of_output])));
    }
    sums::write(&common, partials, write);
}
