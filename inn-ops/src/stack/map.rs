//! The forward pass over strips.

use super::lines::{Image, Lines};
use super::plan::{Plan, Strip};
use super::pointwise::{Activate, AddBias, Rows};
use super::product::{Packed, Source, Tables, pack};
use super::{Ending, Weights};
use crate::conv::kernels::Kernels;
use crate::conv::plan::SLACK;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::{self, Level};
use inn_core::stack::Pointwise;

/// Multiply-adds up to which a call stays on its thread.
pub(super) const SMALL: usize = 1 << 20;

/// Elements of the packed weights of one way.
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

/// What all strips share: the plan, the kernels, and the activation.
pub(super) struct Common<'a, T: 'static, A> {
    pub(super) plan: &'a Plan,
    pub(super) level: Level,
    pub(super) kernels: &'static Kernels<T>,
    pub(super) tables: Tables,
    pub(super) rho: A,
    pub(super) weights: &'a Weights<'a, T>,
    /// Whether not worth more than one thread.
    pub(super) alone: bool,
}

impl<'a, T: CpuElement, A: Pointwise> Common<'a, T, A> {
    pub(super) fn new(plan: &'a Plan, rho: A, weights: &'a Weights<'a, T>) -> Self {
        let level = simd::level();
        let alone = plan.work() <= SMALL;
        Self { plan, level, kernels: T::kernels(level), tables: Tables::new(plan), rho, weights, alone }
    }

    /// W_1, W_i and Wᵀ (or an affine W), packed into `to`.
    pub(super) fn pack_forward<'b>(&self, to: &'b mut [T]) -> Vec<Packed<'b, T>> {
        let (rows_in, rows_out) = self.plan.outer_rows();
        let hidden = self.plan.hidden;
        let mut sources = vec![Source::plain(self.weights.first.0, hidden, rows_in)];
        sources.extend(self.weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden)));
        sources.push(match self.weights.last {
            Ending::Transposed(w) => Source::turned(w, rows_out, hidden),
            Ending::Affine(w, _) => Source::plain(w, rows_out, hidden),
        });
        pack(self.kernels, self.alone, &sources, to)
    }

    /// The hidden arrays of a strip.
    pub(super) fn hidden_rows(&self, strip: &Strip) -> Rows {
        let vectors = strip.pixels().div_ceil(self.plan.lanes);
        Rows { rows: self.plan.hidden, len: vectors * self.plan.lanes, pitch: self.plan.pitch }
    }

    /// Reads the rows of a strip from all inputs, one after the other.
    ///
    /// # Safety
    /// As [`gather`](super::lines::gather), with rows for all inputs.
    pub(super) unsafe fn gather(&self, inputs: &[Image<T>], strip: &Strip, rows: *mut T) {
        let mut row = 0;
        for &image in inputs {
            // SAFETY: the caller's promise.
            unsafe {
                let rows = rows.add(row * self.plan.pitch);
                (self.kernels.gather)(&Lines { image, taps: self.plan.first, strip, rows, pitch: self.plan.pitch });
            }
            row += image.channels * self.plan.first.count();
        }
    }

    /// Y_i into `y(i)`, and X_n into `x`, of a strip; `edge` has rows for its neighbourhoods.
    ///
    /// # Safety
    /// As [`gather`](Self::gather); `x` and `y(i)` are arrays of hidden rows.
    pub(super) unsafe fn hidden(
        &self,
        packed: &[Packed<'_, T>],
        inputs: &[Image<T>],
        strip: &Strip,
        edge: *mut T,
        x: *mut T,
        y: impl Fn(usize) -> *mut T,
    ) {
        let at = self.hidden_rows(strip);
        let vectors = at.len / self.plan.lanes;
        let (level, rho, weights) = (self.level, self.rho, self.weights);
        // SAFETY: the caller's promise.
        unsafe {
            self.gather(inputs, strip, edge);
            packed[0].times(self.kernels, &self.tables, edge, vectors, y(0));
            T::with(level, Activate { at, y: y(0), x, bias: Some(weights.first.1.as_ptr()), skip: false, rho });
            for (i, (_, bias)) in weights.middle.iter().enumerate() {
                packed[i + 1].times(self.kernels, &self.tables, x, vectors, y(i + 1));
                T::with(level, Activate { at, y: y(i + 1), x, bias: Some(bias.as_ptr()), skip: weights.skip, rho });
            }
        }
    }

    /// Adds the output of a strip to `out`, from X_n in `x`.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter); `edge` has rows for the output's neighbourhoods.
    pub(super) unsafe fn output(&self, packed: &[Packed<'_, T>], strip: &Strip, edge: *mut T, x: *const T, image: Image<T>) {
        let at = self.hidden_rows(strip);
        // SAFETY: the caller's promise.
        unsafe {
            packed[self.plan.middle + 1].times(self.kernels, &self.tables, x, at.len / self.plan.lanes, edge);
            if let Ending::Affine(_, bias) = self.weights.last {
                let at = Rows { rows: self.plan.outer_rows().1, ..at };
                T::with(self.level, AddBias { at, y: edge, bias: bias.as_ptr() });
            }
            (self.kernels.scatter)(&Lines { image, taps: self.plan.last, strip, rows: edge, pitch: self.plan.pitch });
        }
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
    let common = Common::new(plan, rho, weights);
    let (rows_in, rows_out) = plan.outer_rows();
    let keep = kept.is_some();
    let kept = kept.map(Shared::new);
    with_buffer(packed_len(plan), |packed: &mut [T]| {
        let packed = common.pack_forward(packed);
        let task = |phase: usize, task: usize| {
            with_buffer(thread_len(plan, keep), |buffer: &mut [T]| {
                let edge = buffer.as_mut_ptr();
                // SAFETY: the buffer has rows for the outer arrays, x and, unless it is kept, y, and slack at its end.
                let x = unsafe { edge.add(rows_in.max(rows_out) * plan.pitch) };
                for s in plan.task(phase, task) {
                    let strip = plan.strip(s);
                    // SAFETY: each strip has a place of its own in `kept`.
                    let y = |layer: usize| unsafe {
                        match kept {
                            Some(kept) => kept.get().add(s * plan.kept_of_strip() + layer * plan.hidden * plan.pitch),
                            None => x.add(plan.hidden * plan.pitch),
                        }
                    };
                    // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `out`.
                    unsafe {
                        common.hidden(&packed, inputs, &strip, edge, x, y);
                        common.output(&packed, &strip, edge, x, out);
                    }
                }
            });
        };
        for phase in 0..plan.phases() {
            pool::each(plan.tasks(phase), common.alone, |t| task(phase, t));
        }
    });
}
