//! The forward pass over strips.

use super::common::{Common, Walks, with_arrays};
use super::lines::Image;
use super::packing::Way;
use super::plan::Plan;
use super::walk::Walk;
use super::{Ending, Weights};
use crate::conv::plan::SLACK;
use crate::conv::scratch::Shared;
use crate::cpu::CpuElement;
use crate::pool;
use inn_core::stack::Pointwise;

/// Elements of the packed weights of one way.
pub(super) fn packed_len(plan: &Plan) -> usize {
    let (rows_in, rows_out) = plan.outer_rows();
    plan.hidden * (plan.unfolded(rows_in) + plan.middle * plan.hidden + plan.unfolded(rows_out))
}

/// Elements of the memory that a call shares: packed weights, and what strips set aside.
pub(super) fn shared_len(plan: &Plan) -> usize {
    packed_len(plan) + plan.aside_len(1)
}

/// Elements of the arrays that take the place of a hidden one.
pub(super) fn folded_len(plan: &Plan) -> usize {
    if plan.folding.is_some() { plan.arrays() * plan.hidden * plan.piece } else { 0 }
}

/// Whether X_i may all pass through one array where Y_i are kept: a product takes X_i from another array than that where it puts X_{i+1}, but
/// for the last of folded ones, which is activated afterwards.
fn passes_through_one(plan: &Plan) -> bool {
    plan.middle <= usize::from(plan.folding.is_some())
}

/// Elements of a thread's arrays.
pub(super) fn thread_len(plan: &Plan, keep: bool) -> usize {
    let hidden = if keep && passes_through_one(plan) { 1 } else { 2 };
    plan.edge_len() + hidden * plan.hidden * plan.pitch + folded_len(plan) + SLACK
}

/// The arrays of a pass that keeps nothing, in a thread's buffer: what hidden ones are folded into, and two hidden ones.
///
/// # Safety
/// The buffer has [`thread_len`] elements.
pub(super) unsafe fn arrays<T>(plan: &Plan, buffer: *mut T) -> (*mut T, [*mut T; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        let m = buffer.add(plan.edge_len());
        let x = m.add(folded_len(plan));
        (m, [x, x.add(plan.hidden * plan.pitch)])
    }
}

impl<T: CpuElement, A: Pointwise> Common<'_, T, A> {
    /// Y_i into `y(i)`, and X_n into one of the arrays `xs`, which is returned; folded into `m` if kernels are. X_i are there in turns, and may
    /// be Y_i. `edge` has rows for neighbourhoods.
    ///
    /// # Safety
    /// As [`gather`](Self::gather); `xs` and `y(i)` are arrays of hidden rows. The two `xs` may be one as
    /// [`passes_through_one`] says.
    pub(super) unsafe fn hidden(
        &self,
        way: &Way<'_, T>,
        inputs: &[Image<T>],
        walk: &Walk,
        edge: *mut T,
        (xs, m): ([*mut T; 2], *mut T),
        y: impl Fn(usize) -> *mut T,
    ) -> *mut T {
        let at = self.hidden_rows(walk);
        let top = self.plan.middle;
        let weights = self.weights;
        let bias = weights.first.1.as_ptr();
        let mut x = xs[0];
        // SAFETY: the caller's promise.
        unsafe {
            for (i, (part, w)) in self.ins.iter().zip(way.first.chunks(self.plan.arrays())).enumerate() {
                self.gather(inputs[part.image], walk, part, edge);
                self.to_hidden(w, walk, &at, ((i, self.ins.len()), edge), (y(0), m), (Some(bias), self.apply(x)));
            }
            self.unfold_activate(&at, (y(0), m), bias, x);
            for (i, ((_, bias), w)) in weights.middle.iter().zip(&way.middle).enumerate() {
                let next = xs[(i + 1) % 2];
                self.layer(w, &at, x, y(i + 1), bias.as_ptr(), (i + 1 < top || self.plan.folding.is_none()).then_some(next));
                x = next;
            }
            if top == 0 {
                self.clear_hidden(walk, &at, x);
                self.fold(&at, x, m);
            } else {
                self.activate_fold(walk, &at, y(top), (x, m));
            }
        }
        x
    }

    /// Adds the output of a strip to an image or sets it aside, from X_n as [`hidden`](Self::hidden) leaves it.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter); `edge` has rows for the output's neighbourhoods.
    pub(super) unsafe fn output(
        &self,
        way: &Way<'_, T>,
        walk: &Walk,
        edge: *mut T,
        hidden: (*mut T, *mut T),
        to: (Image<T>, Option<*mut T>),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            for (part, w) in self.outs.iter().zip(way.last.chunks(self.plan.arrays() * self.plan.shifts())) {
                let bias = match self.weights.last {
                    Ending::Affine(_, bias) => Some(bias[part.rows.clone()].as_ptr()),
                    Ending::Transposed(_) => None,
                };
                self.give(w, walk, hidden, edge, bias, (1, part), to);
            }
        }
    }
}

/// Adds the stack's output to `out`; see [`inn_core::stack::Stack`]. `buffer` is memory of [`shared_len`] elements.
///
/// # Safety
/// The images must be valid for the plan, `inputs` for reads and `out` for writes; nothing else may access `out` meanwhile.
pub(super) unsafe fn map<T: CpuElement, A: Pointwise>(
    plan: &Plan,
    rho: A,
    weights: &Weights<'_, T>,
    inputs: &[Image<T>],
    out: Image<T>,
    kept: Option<&mut [T]>,
    buffer: &mut [T],
) {
    let common = Common::new(plan, rho, weights, inputs, out);
    let (packed, aside) = buffer.split_at_mut(packed_len(plan));
    let keep = kept.is_some();
    let kept = kept.map(Shared::new);
    let way = common.pack_forward(packed);
    let strip = |s: usize, walks: &Walks, edge: *mut T, aside: Shared<T>| {
        // SAFETY: the buffer has these arrays, the second hidden one where it is needed.
        let (m, mut xs) = unsafe { arrays(plan, edge) };
        if keep && passes_through_one(plan) {
            xs[1] = xs[0];
        }
        // SAFETY: each strip has a place of its own in `kept`.
        let y = |layer: usize| unsafe {
            match kept {
                Some(kept) => kept.get().add(s * plan.kept_of_strip() + layer * plan.hidden * plan.pitch),
                None => xs[layer % 2],
            }
        };
        // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `out`.
        unsafe {
            let x = common.hidden(&way, inputs, &walks.first, edge, (xs, m), y);
            common.output(&way, walks.last(), edge, (x, m), (out, common.aside(1, s, aside)));
        }
    };
    let pass = |aside: Shared<T>| {
        for phase in 0..plan.phases() {
            pool::each(plan.tasks(), common.alone, |t| {
                with_arrays(thread_len(plan, keep), |buffer: &mut [T], walks| {
                    for s in plan.task(phase, t) {
                        walks.set(plan, s);
                        strip(s, walks, buffer.as_mut_ptr(), aside);
                    }
                });
            });
        }
    };
    // SAFETY: the caller's promise.
    unsafe { common.with_aside(1, &[out], &mut aside[..plan.aside_len(1)], pass) };
}
