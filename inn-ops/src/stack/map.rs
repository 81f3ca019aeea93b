//! The forward pass over strips.

use super::lines::{Image, Lines};
use super::plan::{Plan, Taps};
use super::pointwise::{Activate, AddBias, Rows};
use super::product::{Packed, Source, Tables, pack};
use super::walk::Walk;
use super::{Ending, Weights};
use crate::conv::kernels::Kernels;
use crate::conv::plan::SLACK;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::{self, Level};
use inn_core::stack::Pointwise;
use std::ops::Range;

/// Multiply-adds up to which a call stays on its thread.
pub(super) const SMALL: usize = 3 << 19;

/// Elements of the packed weights of one way.
pub(super) fn packed_len(plan: &Plan) -> usize {
    let (rows_in, rows_out) = plan.outer_rows();
    plan.hidden * (rows_in + plan.middle * plan.hidden + rows_out)
}

/// Elements of a thread's arrays.
pub(super) fn thread_len(plan: &Plan, keep: bool) -> usize {
    let hidden = if keep { 1 } else { 2 };
    (plan.edge_rows() + hidden * plan.hidden) * plan.pitch + SLACK
}

/// Channels of an image whose neighbourhoods are rows of the array at one time.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) image: usize,
    pub(super) channels: Range<usize>,
    /// The rows, of all that the stack's weight has.
    pub(super) rows: Range<usize>,
}

/// The channels of images, part by part.
fn parts<T>(images: &[Image<T>], taps: Taps) -> Vec<Part> {
    let (mut parts, mut row) = (Vec::new(), 0);
    let all: usize = images.iter().map(|image| image.channels).sum();
    let chunk = Plan::chunk(all, taps);
    for (index, image) in images.iter().enumerate() {
        for start in (0..image.channels).step_by(chunk.max(1)) {
            let channels = start..(start + chunk).min(image.channels);
            let rows = row..row + channels.len() * taps.count();
            row = rows.end;
            parts.push(Part { image: index, channels, rows });
        }
    }
    parts
}

/// The places of a strip for the first and for the last kernel.
#[derive(Default)]
pub(super) struct Walks {
    pub(super) first: Walk,
    other: Option<Walk>,
}

impl Walks {
    pub(super) fn set(&mut self, plan: &Plan, strip: usize) {
        let strip = plan.strip(strip);
        self.first.set(plan.lanes, plan.extents, plan.first, &strip);
        if plan.last != plan.first {
            self.other.get_or_insert_default().set(plan.lanes, plan.extents, plan.last, &strip);
        }
    }

    pub(super) fn last(&self) -> &Walk {
        self.other.as_ref().unwrap_or(&self.first)
    }
}

/// What all strips share: the plan, the kernels, and the activation.
pub(super) struct Common<'a, T: 'static, A> {
    pub(super) plan: &'a Plan,
    pub(super) level: Level,
    pub(super) kernels: &'static Kernels<T>,
    pub(super) tables: Tables,
    pub(super) rho: A,
    pub(super) weights: &'a Weights<'a, T>,
    /// The channels that come in and those that go out.
    pub(super) ins: Vec<Part>,
    pub(super) outs: Vec<Part>,
    /// Whether not worth more than one thread.
    pub(super) alone: bool,
}

/// The matrices of one way, in parts.
pub(super) struct Way<'a, T> {
    pub(super) first: Vec<Packed<'a, T>>,
    pub(super) middle: Vec<Packed<'a, T>>,
    pub(super) last: Vec<Packed<'a, T>>,
}

impl<'a, T: CpuElement, A: Pointwise> Common<'a, T, A> {
    pub(super) fn new(plan: &'a Plan, rho: A, weights: &'a Weights<'a, T>, inputs: &[Image<T>], out: Image<T>) -> Self {
        let (level, alone) = (simd::level(), plan.work() <= SMALL);
        let (ins, outs) = (parts(inputs, plan.first), parts(&[out], plan.last));
        Self { plan, level, kernels: T::kernels(level), tables: Tables::new(plan), rho, weights, ins, outs, alone }
    }

    /// W_1, W_i and Wᵀ (or an affine W), packed into `to`.
    pub(super) fn pack_forward<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let (rows_in, rows_out) = self.plan.outer_rows();
        let hidden = self.plan.hidden;
        let first = Source::plain(self.weights.first.0, hidden, rows_in);
        let last = match self.weights.last {
            Ending::Transposed(w) => Source::turned(w, rows_out, hidden),
            Ending::Affine(w, _) => Source::plain(w, rows_out, hidden),
        };
        let first = self.ins.iter().map(|part| first.part_of_columns(part.rows.clone()));
        let middle = self.weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden));
        let last = self.outs.iter().map(|part| last.part_of_rows(part.rows.clone()));
        self.pack(first, middle, last, to)
    }

    /// W_1ᵀ, W_iᵀ and W (or the transpose of an affine one), packed into `to`.
    pub(super) fn pack_back<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let (rows_in, rows_out) = self.plan.outer_rows();
        let hidden = self.plan.hidden;
        let first = Source::turned(self.weights.first.0, rows_in, hidden);
        let last = match self.weights.last {
            Ending::Transposed(w) => Source::plain(w, hidden, rows_out),
            Ending::Affine(w, _) => Source::turned(w, hidden, rows_out),
        };
        let first = self.ins.iter().map(|part| first.part_of_rows(part.rows.clone()));
        let middle = self.weights.middle.iter().map(|(w, _)| Source::turned(w, hidden, hidden));
        let last = self.outs.iter().map(|part| last.part_of_columns(part.rows.clone()));
        self.pack(first, middle, last, to)
    }

    fn pack<'b, 'c>(
        &self,
        first: impl Iterator<Item = Source<'c, T>>,
        middle: impl Iterator<Item = Source<'c, T>>,
        last: impl Iterator<Item = Source<'c, T>>,
        to: &'b mut [T],
    ) -> Way<'b, T> {
        let sources: Vec<_> = first.chain(middle).chain(last).collect();
        let mut first = pack(self.kernels, self.alone, &sources, to);
        let mut middle = first.split_off(self.ins.len());
        let last = middle.split_off(self.plan.middle);
        Way { first, middle, last }
    }

    /// Reads the rows of a part of an image.
    ///
    /// # Safety
    /// As [`gather`](super::lines::gather).
    pub(super) unsafe fn gather(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe {
            let image = image.part(&part.channels);
            (self.kernels.gather)(&Lines { image, walk, rows, pitch: self.plan.pitch });
        }
    }

    /// Adds the rows of a part to an image.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter).
    pub(super) unsafe fn scatter(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe {
            let image = image.part(&part.channels);
            (self.kernels.scatter)(&Lines { image, walk, rows, pitch: self.plan.pitch });
        }
    }

    /// The hidden arrays of a strip.
    pub(super) fn hidden_rows(&self, walk: &Walk) -> Rows {
        let vectors = walk.pixels().div_ceil(self.plan.lanes);
        Rows { rows: self.plan.hidden, len: vectors * self.plan.lanes, pitch: self.plan.pitch }
    }

    /// Y_i into `y(i)`, and X_n into `x`, of a strip; `edge` has rows for its neighbourhoods.
    ///
    /// # Safety
    /// As [`gather`](Self::gather); `x` and `y(i)` are arrays of hidden rows.
    pub(super) unsafe fn hidden(
        &self,
        way: &Way<'_, T>,
        inputs: &[Image<T>],
        walk: &Walk,
        edge: *mut T,
        x: *mut T,
        y: impl Fn(usize) -> *mut T,
    ) {
        let at = self.hidden_rows(walk);
        let vectors = at.len / self.plan.lanes;
        let (level, rho, weights) = (self.level, self.rho, self.weights);
        // SAFETY: the caller's promise.
        unsafe {
            for (i, (part, w)) in self.ins.iter().zip(&way.first).enumerate() {
                self.gather(inputs[part.image], walk, part, edge);
                w.times(self.kernels, &self.tables, edge, vectors, y(0), i > 0);
            }
            T::with(level, Activate { at, y: y(0), x, bias: Some(weights.first.1.as_ptr()), skip: false, rho });
            for (i, ((_, bias), w)) in weights.middle.iter().zip(&way.middle).enumerate() {
                w.times(self.kernels, &self.tables, x, vectors, y(i + 1), false);
                T::with(level, Activate { at, y: y(i + 1), x, bias: Some(bias.as_ptr()), skip: weights.skip, rho });
            }
        }
    }

    /// Adds the output of a strip to `out`, from X_n in `x`.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter); `edge` has rows for the output's neighbourhoods.
    pub(super) unsafe fn output(&self, way: &Way<'_, T>, walk: &Walk, edge: *mut T, x: *const T, image: Image<T>) {
        let at = self.hidden_rows(walk);
        // SAFETY: the caller's promise.
        unsafe {
            for (part, w) in self.outs.iter().zip(&way.last) {
                w.times(self.kernels, &self.tables, x, at.len / self.plan.lanes, edge, false);
                if let Ending::Affine(_, bias) = self.weights.last {
                    let at = Rows { rows: part.rows.len(), ..at };
                    T::with(self.level, AddBias { at, y: edge, bias: bias[part.rows.clone()].as_ptr() });
                }
                self.scatter(image, walk, part, edge);
            }
        }
    }
}

/// Adds the stack's output to `out`; see [`inn_core::stack::Stack`]. `packed` is memory of [`packed_len`] elements.
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
    packed: &mut [T],
) {
    let common = Common::new(plan, rho, weights, inputs, out);
    let keep = kept.is_some();
    let kept = kept.map(Shared::new);
    let way = common.pack_forward(packed);
    let task = |phase: usize, task: usize| {
        with_buffer(thread_len(plan, keep), |buffer: &mut [T]| {
            let edge = buffer.as_mut_ptr();
            // SAFETY: the buffer has rows for the outer arrays, x and, unless it is kept, y, and slack at its end.
            let x = unsafe { edge.add(plan.edge_rows() * plan.pitch) };
            let mut walks = Walks::default();
            for s in plan.task(phase, task) {
                walks.set(plan, s);
                // SAFETY: each strip has a place of its own in `kept`.
                let y = |layer: usize| unsafe {
                    match kept {
                        Some(kept) => kept.get().add(s * plan.kept_of_strip() + layer * plan.hidden * plan.pitch),
                        None => x.add(plan.hidden * plan.pitch),
                    }
                };
                // SAFETY: the arrays have the rows that each step takes; the plan keeps tasks of a phase apart in `out`.
                unsafe {
                    common.hidden(&way, inputs, &walks.first, edge, x, y);
                    common.output(&way, walks.last(), edge, x, out);
                }
            }
        });
    };
    for phase in 0..plan.phases() {
        pool::each(plan.tasks(phase), common.alone, |t| task(phase, t));
    }
}
