//! The forward pass over strips.

use super::fold::{self, Fold, PARTS, Unfold};
use super::lines::{Image, Lines};
use super::plan::{Plan, Taps};
use super::pointwise::{Activate, AddBias, Rows};
use super::product::{Packed, Source, Tables, pack};
use super::walk::Walk;
use super::{Ending, Weights};
use crate::conv::kernels::Kernels;
use crate::conv::micro::Spread;
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
    plan.hidden * (plan.unfolded(rows_in) + plan.middle * plan.hidden + plan.unfolded(rows_out))
}

/// Elements of the four arrays that take the place of a hidden one.
pub(super) fn folded_len(plan: &Plan) -> usize {
    if plan.folded { PARTS * plan.hidden * plan.half } else { 0 }
}

/// Elements of a thread's arrays.
pub(super) fn thread_len(plan: &Plan, keep: bool) -> usize {
    let hidden = if keep { 1 } else { 2 };
    plan.edge_len() + hidden * plan.hidden * plan.pitch + folded_len(plan) + SLACK
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

    /// The first and the last weight as products take them: themselves, or the four that they are folded to.
    fn with_weights<R>(&self, body: impl FnOnce(&[&[T]], &[&[T]]) -> R) -> R {
        let (Ending::Transposed(last) | Ending::Affine(last, _)) = self.weights.last;
        let first = self.weights.first.0;
        if !self.plan.folded {
            return body(&[first], &[last]);
        }
        let lengths = [first.len() / 3, last.len() / 3];
        with_buffer(PARTS * (lengths[0] + lengths[1]), |folded: &mut [T]| {
            let (to_first, to_last) = folded.split_at_mut(PARTS * lengths[0]);
            fold::weights(first, self.plan.hidden, to_first);
            fold::weights(last, self.plan.hidden, to_last);
            let (first, last): (Vec<_>, Vec<_>) = (to_first.chunks(lengths[0]).collect(), to_last.chunks(lengths[1]).collect());
            body(&first, &last)
        })
    }

    /// The rows of a part in a folded weight, or in the weight itself.
    fn rows(&self, part: &Part) -> Range<usize> {
        let taps = if self.plan.folded { 3 } else { 1 };
        part.rows.start / taps..part.rows.end / taps
    }

    /// W_1, W_i and Wᵀ (or an affine W), packed into `to`.
    pub(super) fn pack_forward<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let hidden = self.plan.hidden;
        self.with_weights(|first, last| {
            let mut sources = Vec::new();
            for part in &self.ins {
                sources.extend(first.iter().map(|w| Source::plain(w, hidden, w.len() / hidden).part_of_columns(self.rows(part))));
            }
            sources.extend(self.weights.middle.iter().map(|(w, _)| Source::plain(w, hidden, hidden)));
            for part in &self.outs {
                for w in last {
                    let rows = w.len() / hidden;
                    let source = match self.weights.last {
                        Ending::Transposed(_) => Source::turned(w, rows, hidden),
                        Ending::Affine(..) => Source::plain(w, rows, hidden),
                    };
                    sources.extend(self.shifts(source.part_of_rows(self.rows(part))));
                }
            }
            self.pack(&sources, self.plan.arrays(), to)
        })
    }

    /// W_1ᵀ, W_iᵀ and W (or the transpose of an affine one), packed into `to`.
    pub(super) fn pack_back<'b>(&self, to: &'b mut [T]) -> Way<'b, T> {
        let hidden = self.plan.hidden;
        self.with_weights(|first, last| {
            let mut sources = Vec::new();
            for part in &self.ins {
                for w in first {
                    sources.extend(self.shifts(Source::turned(w, w.len() / hidden, hidden).part_of_rows(self.rows(part))));
                }
            }
            sources.extend(self.weights.middle.iter().map(|(w, _)| Source::turned(w, hidden, hidden)));
            for part in &self.outs {
                sources.extend(last.iter().map(|w| {
                    let rows = w.len() / hidden;
                    match self.weights.last {
                        Ending::Transposed(_) => Source::plain(w, hidden, rows).part_of_columns(self.rows(part)),
                        Ending::Affine(..) => Source::turned(w, hidden, rows).part_of_columns(self.rows(part)),
                    }
                }));
            }
            self.pack(&sources, self.plan.arrays() * self.plan.shifts(), to)
        })
    }

    /// The rows of a matrix whose product is a neighbourhood, by their shifts.
    fn shifts<'b>(&self, source: Source<'b, T>) -> impl Iterator<Item = Source<'b, T>> + use<'b, T, A> {
        let count = self.plan.shifts();
        (0..count).map(move |shift| source.every(shift, count))
    }

    /// Packs sources, of which each part has `firsts` first ones.
    fn pack<'b>(&self, sources: &[Source<'_, T>], firsts: usize, to: &'b mut [T]) -> Way<'b, T> {
        let mut first = pack(self.kernels, self.alone, sources, to);
        let mut middle = first.split_off(self.ins.len() * firsts);
        let last = middle.split_off(self.plan.middle);
        Way { first, middle, last }
    }

    /// The hidden arrays of a strip.
    pub(super) fn hidden_rows(&self, walk: &Walk) -> Rows {
        let halves = if self.plan.folded { 2 } else { 1 };
        let vectors = halves * (walk.pixels() / halves).div_ceil(self.plan.lanes);
        Rows { rows: self.plan.hidden, len: vectors * self.plan.lanes, pitch: self.plan.pitch }
    }

    /// Distance of the rows of an array of neighbourhoods.
    fn edge_row(&self) -> usize {
        if self.plan.folded { self.plan.edge } else { self.plan.pitch }
    }

    /// Where array `e` of neighbourhoods starts, and the places of its rows.
    pub(super) fn edge(&self, walk: &Walk, e: usize) -> (usize, Spread) {
        let row = self.edge_row();
        let rows = if self.plan.folded {
            Spread { row: walk.count / 2, group: self.plan.shifts(), apart: PARTS * row }
        } else {
            Spread::even(row)
        };
        (e * row, rows)
    }

    /// Vectors of a row of neighbourhoods.
    pub(super) fn edge_vectors(&self, at: &Rows) -> usize {
        at.len / self.plan.lanes / if self.plan.folded { 2 } else { 1 }
    }

    /// Reads the rows of a part of an image.
    ///
    /// # Safety
    /// As [`gather`](super::lines::gather).
    pub(super) unsafe fn gather(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        let kernel = if self.plan.folded { self.kernels.gather_folded } else { self.kernels.gather };
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe { kernel(&Lines { image: image.part(&part.channels), walk, rows, pitch: self.edge_row() }) };
    }

    /// Adds the rows of a part to an image.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter).
    pub(super) unsafe fn scatter(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        let kernel = if self.plan.folded { self.kernels.scatter_folded } else { self.kernels.scatter };
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe { kernel(&Lines { image: image.part(&part.channels), walk, rows, pitch: self.edge_row() }) };
    }

    /// The hidden arrays of a strip, and where products find or leave them: as they are, or folded into `m`.
    pub(super) fn arrays(&self, at: &Rows, x: *mut T, m: *mut T) -> Vec<(*mut T, usize)> {
        if self.plan.folded { fold::halves(self.plan, at.len / 2, x, m).folded().to_vec() } else { vec![(x, self.plan.pitch)] }
    }

    /// Zeros what the last vectors of folded hidden arrays hold beyond the strip's pixels: it meets the line after them in neighbourhoods.
    ///
    /// # Safety
    /// `x` is an array of hidden rows.
    unsafe fn clear(&self, walk: &Walk, at: &Rows, x: *mut T) {
        let (pixels, len) = (walk.pixels() / 2, at.len / 2);
        for r in 0..at.rows {
            for half in [0, len] {
                // SAFETY: the caller's promise; the halves of a row are `len` elements long.
                unsafe { std::slice::from_raw_parts_mut(x.add(r * at.pitch + half + pixels), len - pixels) }.fill(T::default());
            }
        }
    }

    /// Folds hidden arrays, if kernels are folded.
    ///
    /// # Safety
    /// `x` and `m` are arrays of hidden rows, `m` four of them.
    pub(super) unsafe fn fold(&self, walk: &Walk, at: &Rows, x: *mut T, m: *mut T) {
        if self.plan.folded {
            // SAFETY: the caller's promise.
            unsafe { self.clear(walk, at, x) };
            T::with(self.level, Fold(fold::halves(self.plan, at.len / 2, x, m)));
        }
    }

    /// x = W of the rows of one part after the other, for the `way` to a hidden array from neighbourhoods in `edge`.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_hidden(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        at: &Rows,
        edge: *const T,
        (x, m): (*mut T, *mut T),
        add: bool,
    ) {
        let vectors = self.edge_vectors(at);
        for (e, w) in way.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = if self.plan.folded { (fold::halves(self.plan, 0, x, m).part(e), self.plan.half) } else { (x, self.plan.pitch) };
                let (start, rows) = self.edge(walk, e);
                w.times(self.kernels, &self.tables, (edge.add(start), rows), vectors, to, add);
            }
        }
    }

    /// Rows of neighbourhoods from hidden arrays that [`fold`](Self::fold) has folded. Rows that are one another, shifted by lines, are added
    /// up.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_edge(&self, way: &[Packed<'_, T>], walk: &Walk, at: &Rows, (x, m): (*mut T, *mut T), edge: *mut T) {
        let (vectors, row, known) = (self.edge_vectors(at), self.edge_row(), walk.pixels() / 2);
        for (e, (w, (from, from_row))) in way.chunks(self.plan.shifts()).zip(self.arrays(at, x, m)).enumerate() {
            let (start, rows) = self.edge(walk, e);
            let (shift, apart) = if self.plan.folded { (rows.row, rows.apart) } else { (0, row) };
            // SAFETY: the caller's promise.
            unsafe {
                if self.plan.folded {
                    for r in 0..w[0].rows() {
                        std::slice::from_raw_parts_mut(edge.add(start + r * apart + known), row - known).fill(T::default());
                    }
                }
                for (i, w) in w.iter().enumerate() {
                    let to = (edge.add(start + i * shift), apart);
                    w.times(self.kernels, &self.tables, (from, Spread::even(from_row)), vectors, to, i > 0);
                }
            }
        }
    }

    /// What [`to_hidden`](Self::to_hidden) has left in `m` becomes `x`.
    ///
    /// # Safety
    /// As [`fold`](Self::fold).
    pub(super) unsafe fn unfold(&self, walk: &Walk, at: &Rows, x: *mut T, m: *mut T) {
        if self.plan.folded {
            T::with(self.level, Unfold(fold::halves(self.plan, at.len / 2, x, m)));
            // SAFETY: the caller's promise.
            unsafe { self.clear(walk, at, x) };
        }
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
        (x, m): (*mut T, *mut T),
        y: impl Fn(usize) -> *mut T,
    ) {
        let at = self.hidden_rows(walk);
        let vectors = at.len / self.plan.lanes;
        let (level, rho, weights) = (self.level, self.rho, self.weights);
        // SAFETY: the caller's promise.
        unsafe {
            for (i, (part, w)) in self.ins.iter().zip(way.first.chunks(self.plan.arrays())).enumerate() {
                self.gather(inputs[part.image], walk, part, edge);
                self.to_hidden(w, walk, &at, edge, (y(0), m), i > 0);
            }
            self.unfold(walk, &at, y(0), m);
            T::with(level, Activate { at, y: y(0), x, bias: Some(weights.first.1.as_ptr()), skip: false, rho });
            for (i, ((_, bias), w)) in weights.middle.iter().zip(&way.middle).enumerate() {
                w.times(self.kernels, &self.tables, (x, Spread::even(self.plan.pitch)), vectors, (y(i + 1), self.plan.pitch), false);
                T::with(level, Activate { at, y: y(i + 1), x, bias: Some(bias.as_ptr()), skip: weights.skip, rho });
            }
        }
    }

    /// Adds the output of a strip to `out`, from X_n in `x`.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter); `edge` has rows for the output's neighbourhoods.
    pub(super) unsafe fn output(&self, way: &Way<'_, T>, walk: &Walk, edge: *mut T, (x, m): (*mut T, *mut T), image: Image<T>) {
        let at = self.hidden_rows(walk);
        // SAFETY: the caller's promise.
        unsafe {
            self.fold(walk, &at, x, m);
            for (part, w) in self.outs.iter().zip(way.last.chunks(self.plan.arrays() * self.plan.shifts())) {
                self.to_edge(w, walk, &at, (x, m), edge);
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
            let m = unsafe { edge.add(plan.edge_len()) };
            // SAFETY: as above.
            let x = unsafe { m.add(folded_len(plan)) };
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
                    common.hidden(&way, inputs, &walks.first, edge, (x, m), y);
                    common.output(&way, walks.last(), edge, (x, m), out);
                }
            }
        });
    };
    for phase in 0..plan.phases() {
        pool::each(plan.tasks(phase), common.alone, |t| task(phase, t));
    }
}
