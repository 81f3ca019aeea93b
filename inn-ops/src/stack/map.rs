//! The forward pass over strips.

use super::lines::{Image, Lines};
use super::plan::{Plan, Strip};
use super::pointwise::{Activate, AddBias, Rows};
use super::product::{Source, Tables, pack};
use super::{Ending, Weights};
use crate::conv::kernels::Kernels;
use crate::conv::plan::SLACK;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd;
use inn_core::stack::Pointwise;

/// Multiply-adds up to which a call stays on its thread.
pub(super) const SMALL: usize = 1 << 20;

/// Elements of the packed weights.
pub(super) fn packed_len(plan: &Plan) -> usize {
    let (rows_in, rows_out) = plan.outer_rows();
    plan.hidden * (rows_in + plan.middle * plan.hidden + rows_out)
}

/// Elements of a thread's arrays.
pub(super) fn thread_len(plan: &Plan, keep: bool) -> usize {
    let (rows_in, rows_out) = plan.outer_rows();
    let hidden = if keep { 1 } else { 2 };
    (rows_in.max(rows_out) + hidden * plan.hidden) * plan.pitch + SLACK
}

/// Reads the rows of a strip from all inputs, one after the other.
///
/// # Safety
/// As [`gather`](super::lines::gather), with rows for all inputs.
pub(super) unsafe fn gather_all<T: CpuElement>(kernels: &Kernels<T>, plan: &Plan, inputs: &[Image<T>], strip: &Strip, rows: *mut T) {
    let mut row = 0;
    for &image in inputs {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = rows.add(row * plan.pitch);
            (kernels.gather)(&Lines { image, taps: plan.first, strip, rows, pitch: plan.pitch });
        }
        row += image.channels * plan.first.count();
    }
}

/// Adds the stack's output to `out`; see [`inn_core::stack::Stack`].
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
) {
    let level = simd::level();
    let kernels = T::kernels(level);
    let tables = Tables::new(plan);
    let (rows_in, rows_out) = plan.outer_rows();
    let hidden = plan.hidden;
    let keep = kept.is_some();
    let alone = plan.work() <= SMALL;
    let kept = kept.map(Shared::new);
    with_buffer(packed_len(plan), |packed: &mut [T]| {
        let mut sources = vec![Source::plain(weights.first.0, hidden, rows_in)];
        sources.extend(weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden)));
        sources.push(match weights.last {
            Ending::Transposed(w) => Source::turned(w, rows_out, hidden),
            Ending::Affine(w, _) => Source::plain(w, rows_out, hidden),
        });
        let packed = pack(kernels, alone, &sources, packed);
        let (first, middle, last) = (&packed[0], &packed[1..=plan.middle], &packed[plan.middle + 1]);
        let task = |phase: usize, task: usize| {
            with_buffer(thread_len(plan, keep), |buffer: &mut [T]| {
                let base = buffer.as_mut_ptr();
                // SAFETY: the buffer has rows for the outer arrays, x and, unless it is kept, y, and slack at its end.
                let (outer, x) = unsafe { (base, base.add(rows_in.max(rows_out) * plan.pitch)) };
                for s in plan.task(phase, task) {
                    let strip = plan.strip(s);
                    let vectors = strip.pixels().div_ceil(plan.lanes);
                    let at = Rows { rows: hidden, len: vectors * plan.lanes, pitch: plan.pitch };
                    // SAFETY: each strip has a place of its own in `kept`.
                    let y = |layer: usize| unsafe {
                        match kept {
                            Some(kept) => kept.get().add(s * plan.kept_of_strip() + layer * hidden * plan.pitch),
                            None => x.add(hidden * plan.pitch),
                        }
                    };
                    // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `out`.
                    unsafe {
                        gather_all(kernels, plan, inputs, &strip, outer);
                        first.times(kernels, &tables, outer, vectors, y(0));
                        let bias = Some(weights.first.1.as_ptr());
                        T::with(level, Activate { at, y: y(0), x, bias, skip: false, rho });
                        for (i, (w, (_, bias))) in middle.iter().zip(&weights.middle).enumerate() {
                            w.times(kernels, &tables, x, vectors, y(i + 1));
                            T::with(level, Activate { at, y: y(i + 1), x, bias: Some(bias.as_ptr()), skip: weights.skip, rho });
                        }
                        last.times(kernels, &tables, x, vectors, outer);
                        if let Ending::Affine(_, bias) = weights.last {
                            T::with(level, AddBias { at: Rows { rows: rows_out, ..at }, y: outer, bias: bias.as_ptr() });
                        }
                        (kernels.scatter)(&Lines { image: out, taps: plan.last, strip: &strip, rows: outer, pitch: plan.pitch });
                    }
                }
            });
        };
        for phase in 0..plan.phases() {
            pool::each(plan.tasks(phase), alone, |t| task(phase, t));
        }
    });
}
