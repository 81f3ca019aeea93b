//! What the passes over strips share: the plan, the kernels, and the steps that all of them are made of.

use super::Weights;
use super::lines::{Image, Lines};
use super::matrix::Packed;
use super::plan::{Plan, Taps};
use super::pointwise::Rows;
use super::product::Tables;
use super::walk::Walk;
use crate::conv::kernels::Kernels;
use crate::conv::micro::Spread;
use crate::conv::scratch::{Shared, with_buffer};
use crate::cpu::CpuElement;
use crate::pool;
use crate::simd::{self, Element, Level};
use inn_core::stack::Pointwise;
use std::cell::RefCell;
use std::ops::Range;

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

thread_local! {
    /// Places not in use: those of a thread are mostly asked for again, by the next task or the next call.
    static WALKS: RefCell<Vec<Walks>> = const { RefCell::new(Vec::new()) };
}

/// Lends `body` what a task works with: a buffer of `len` elements with arbitrary contents, and places to set. Both stay with the thread.
pub(crate) fn with_arrays<T: Element, R>(len: usize, body: impl FnOnce(&mut [T], &mut Walks) -> R) -> R {
    with_buffer(len, |buffer: &mut [T]| {
        let mut walks = WALKS.with_borrow_mut(Vec::pop).unwrap_or_default();
        let result = body(buffer, &mut walks);
        WALKS.with_borrow_mut(|free| free.push(walks));
        result
    })
}

/// The places of a strip for the first and for the last kernel.
#[derive(Default)]
pub(crate) struct Walks {
    pub(crate) first: Walk,
    other: Walk,
    differ: bool,
}

impl Walks {
    pub(super) fn set(&mut self, plan: &Plan, strip: usize) {
        let strip = plan.strip(strip);
        let tile = plan.tile();
        self.first.set(plan.lanes, plan.extents, plan.first, &strip, tile);
        self.differ = plan.last != plan.first;
        if self.differ {
            self.other.set(plan.lanes, plan.extents, plan.last, &strip, tile);
        }
    }

    pub(super) fn last(&self) -> &Walk {
        if self.differ { &self.other } else { &self.first }
    }
}

/// What all strips share: the plan, the kernels, and the activation.
pub(super) struct Common<'a, T: 'static, A> {
    pub(super) plan: &'a Plan,
    pub(super) level: Level,
    pub(super) kernels: &'static Kernels<T>,
    pub(super) tables: Tables,
    pub(super) rho: A,
    /// Those of the activation if it has no other parts, at 0 and above, and below 0: then it is applied as values pass.
    pub(super) slopes: Option<[T; 2]>,
    pub(super) weights: &'a Weights<'a, T>,
    /// The channels that come in and those that go out.
    pub(super) ins: Vec<Part>,
    pub(super) outs: Vec<Part>,
    /// Whether not worth more than one thread.
    pub(super) alone: bool,
}

impl<'a, T: CpuElement, A: Pointwise> Common<'a, T, A> {
    pub(super) fn new(plan: &'a Plan, rho: A, weights: &'a Weights<'a, T>, inputs: &[Image<T>], out: Image<T>) -> Self {
        let (level, alone) = (simd::level(), plan.is_small());
        let (ins, outs) = (parts(inputs, plan.first), parts(&[out], plan.last));
        let slopes = rho.slopes().map(|s| [T::of(s.above), T::of(s.below)]);
        Self {
            plan,
            level,
            kernels: T::kernels(level),
            tables: Tables::new(plan.lanes, plan.bytes),
            rho,
            slopes,
            weights,
            ins,
            outs,
            alone,
        }
    }

    /// The hidden arrays of a strip.
    pub(super) fn hidden_rows(&self, walk: &Walk) -> Rows {
        let tile = self.plan.tile();
        let vectors = tile * walk.all_tiles().div_ceil(self.plan.lanes);
        Rows { rows: self.plan.hidden, len: vectors * self.plan.lanes, pitch: self.plan.pitch }
    }

    /// Distance of the rows of an array of neighbourhoods.
    pub(super) fn edge_row(&self) -> usize {
        if self.plan.folding.is_some() { self.plan.edge } else { self.plan.pitch }
    }

    /// Where array `e` of neighbourhoods starts, and the places of its rows.
    pub(super) fn edge(&self, walk: &Walk, e: usize) -> (usize, Spread) {
        let row = self.edge_row();
        let rows = if self.plan.folding.is_some() {
            Spread { row: walk.tiles, group: self.plan.shifts(), apart: self.plan.arrays() * row }
        } else {
            Spread::even(row)
        };
        (e * row, rows)
    }

    /// Vectors of a row of neighbourhoods.
    pub(super) fn edge_vectors(&self, at: &Rows) -> usize {
        at.len / self.plan.lanes / self.plan.tile()
    }

    /// Reads the rows of a part of an image.
    ///
    /// # Safety
    /// As [`gather`](super::lines::gather).
    pub(super) unsafe fn gather(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        let kernel = self.plan.folding.map_or(self.kernels.gather, |folding| self.kernels.folded(folding).gather);
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe { kernel(&Lines { image: image.part(&part.channels), walk, rows, pitch: self.edge_row() }) };
    }

    /// Adds the rows of a part to an image.
    ///
    /// # Safety
    /// As [`scatter`](super::lines::scatter).
    pub(super) unsafe fn scatter(&self, image: Image<T>, walk: &Walk, part: &Part, rows: *mut T) {
        let kernel = self.plan.folding.map_or(self.kernels.scatter, |folding| self.kernels.folded(folding).scatter);
        // SAFETY: the caller's promise; the part lies within the image.
        unsafe { kernel(&Lines { image: image.part(&part.channels), walk, rows, pitch: self.edge_row() }) };
    }

    /// Where strip `s` sets its rows aside, in memory for those of all strips, if it does; see [`with_aside`](Self::with_aside).
    pub(super) fn aside(&self, to: usize, s: usize, rows: Shared<T>) -> Option<*mut T> {
        let strip = self.plan.rows_len(to, [self.plan.inputs, self.plan.outputs][to]);
        self.plan.aside.then(|| rows.get().wrapping_add(s * strip))
    }

    /// Adds rows of neighbourhoods, made from hidden arrays, to an image, or sets them aside with those of the other parts.
    ///
    /// # Safety
    /// As [`to_edge`](Self::to_edge) and [`scatter`](Self::scatter).
    pub(super) unsafe fn give(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        hidden: (*mut T, *mut T),
        edge: *mut T,
        bias: Option<*const T>,
        (to, part): (usize, &Part),
        (image, aside): (Image<T>, Option<*mut T>),
    ) {
        let place = self.place(to, part);
        let rows = aside.map_or(edge, |aside| aside.wrapping_add(place));
        // SAFETY: the caller's promise.
        unsafe {
            self.to_edge(way, walk, &self.hidden_rows(walk), hidden, rows, bias);
            if aside.is_none() {
                self.scatter(image, walk, part, rows);
            }
        }
    }

    /// Where the rows of a part start among those of all.
    fn place(&self, to: usize, part: &Part) -> usize {
        self.plan.rows_len(to, part.rows.start / [self.plan.first, self.plan.last][to].count())
    }

    /// Lends `pass`, over all strips, memory for what they set aside for the images that `to` is (0: the inputs, 1: the output), and then adds it in the
    /// order in which strips meet. `memory` has [`Plan::aside_len`] elements.
    ///
    /// # Safety
    /// As [`scatter`](Self::scatter) for all strips, each of which has put its rows at its [`aside`](Self::aside) in the end.
    pub(super) unsafe fn with_aside(&self, to: usize, images: &[Image<T>], memory: &mut [T], pass: impl FnOnce(Shared<T>)) {
        let groups = if memory.is_empty() { 0 } else { self.plan.groups() };
        let rows = Shared::new(memory);
        pass(rows);
        pool::each(groups, self.alone, |group| {
            with_arrays(0, |_: &mut [T], walks| {
                for s in self.plan.group_strips(group) {
                    walks.set(self.plan, s);
                    let walk = [&walks.first, walks.last()][to];
                    for part in [&self.ins, &self.outs][to] {
                        // SAFETY: the caller's promise; groups share no sample.
                        unsafe {
                            if let Some(rows) = self.aside(to, s, rows) {
                                self.scatter(images[part.image], walk, part, rows.add(self.place(to, part)));
                            }
                        }
                    }
                }
            });
        });
    }
}
