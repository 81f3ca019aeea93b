//! What the passes over strips share: the plan, the kernels, and the steps that all of them are made of.

use super::Weights;
use super::fold::{self, ActivateFold, Fold, Tiles, UnfoldActivate, UnfoldPull, with_scheme};
use super::lines::{Image, Lines};
use super::plan::{Plan, Taps};
use super::pointwise::{Activate, Pull, Rows};
use super::product::{self, Packed, Start, Tables};
use super::walk::Walk;
use crate::conv::kernels::Kernels;
use crate::conv::micro::Spread;
use crate::conv::scratch::with_buffer;
use crate::cpu::CpuElement;
use crate::simd::{self, Element, Level};
use inn_core::stack::Pointwise;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Multiply-adds up to which a call stays on its thread.
const SMALL: usize = 3 << 19;

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
pub(super) fn with_arrays<T: Element, R>(len: usize, body: impl FnOnce(&mut [T], &mut Walks) -> R) -> R {
    with_buffer(len, |buffer: &mut [T]| {
        let mut walks = WALKS.with_borrow_mut(Vec::pop).unwrap_or_default();
        let result = body(buffer, &mut walks);
        WALKS.with_borrow_mut(|free| free.push(walks));
        result
    })
}

/// The places of a strip for the first and for the last kernel.
#[derive(Default)]
pub(super) struct Walks {
    pub(super) first: Walk,
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
    pub(super) weights: &'a Weights<'a, T>,
    /// The channels that come in and those that go out.
    pub(super) ins: Vec<Part>,
    pub(super) outs: Vec<Part>,
    /// Whether not worth more than one thread.
    pub(super) alone: bool,
}

impl<'a, T: CpuElement, A: Pointwise> Common<'a, T, A> {
    pub(super) fn new(plan: &'a Plan, rho: A, weights: &'a Weights<'a, T>, inputs: &[Image<T>], out: Image<T>) -> Self {
        let (level, alone) = (simd::level(), plan.work() <= SMALL);
        let (ins, outs) = (parts(inputs, plan.first), parts(&[out], plan.last));
        Self { plan, level, kernels: T::kernels(level), tables: Tables::new(plan), rho, weights, ins, outs, alone }
    }

    /// The hidden arrays of a strip.
    pub(super) fn hidden_rows(&self, walk: &Walk) -> Rows {
        let tile = self.plan.tile();
        let vectors = tile * (walk.pixels() / tile).div_ceil(self.plan.lanes);
        Rows { rows: self.plan.hidden, len: vectors * self.plan.lanes, pitch: self.plan.pitch }
    }

    /// Distance of the rows of an array of neighbourhoods.
    fn edge_row(&self) -> usize {
        if self.plan.folding.is_some() { self.plan.edge } else { self.plan.pitch }
    }

    /// Where array `e` of neighbourhoods starts, and the places of its rows.
    pub(super) fn edge(&self, walk: &Walk, e: usize) -> (usize, Spread) {
        let row = self.edge_row();
        let rows = if self.plan.folding.is_some() {
            Spread { row: walk.count / self.plan.tile(), group: self.plan.shifts(), apart: self.plan.arrays() * row }
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

    /// Where products find array `e` that takes the place of a hidden one: that one itself, or what it was folded into.
    fn array(&self, at: &Rows, e: usize, x: *mut T, m: *mut T) -> (*mut T, usize) {
        self.plan.folding.map_or((x, self.plan.pitch), |folding| self.tiles(at, x, m).folded(folding, e))
    }

    /// Zeros what the last vectors of parts of hidden arrays hold beyond the strip's pixels: it meets the line after them in neighbourhoods, and
    /// sums over rows.
    ///
    /// # Safety
    /// The array has a row of whole vectors of tiles for each hidden channel; `row` is their distance.
    unsafe fn clear(&self, walk: &Walk, at: &Rows, (array, row): (*mut T, usize)) {
        let (tiles, len) = (walk.pixels() / self.plan.tile(), at.len / self.plan.tile());
        for r in 0..if tiles < len { at.rows } else { 0 } {
            // SAFETY: the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(array.add(r * row + tiles), len - tiles) }.fill(T::default());
        }
    }

    /// The same for x, in all its parts, if kernels are folded.
    ///
    /// # Safety
    /// As [`fold`](Self::fold).
    pub(super) unsafe fn clear_hidden(&self, walk: &Walk, at: &Rows, x: *mut T) {
        if self.plan.folding.is_some() {
            for k in 0..self.plan.tile() {
                // SAFETY: the caller's promise.
                unsafe { self.clear(walk, at, (x.add(k * at.len / self.plan.tile()), self.plan.pitch)) };
            }
        }
    }

    /// The parts of hidden arrays, and what they are folded into or come from in `m`.
    fn tiles(&self, at: &Rows, x: *mut T, m: *mut T) -> Tiles<T> {
        Tiles { rows: self.plan.hidden, len: at.len / self.plan.tile(), x, pitch: self.plan.pitch, m, piece: self.plan.piece }
    }

    /// Folds hidden arrays that are clear, if kernels are folded.
    ///
    /// # Safety
    /// `x` and `m` are arrays of hidden rows, `m` as many as the plan has.
    pub(super) unsafe fn fold(&self, at: &Rows, x: *mut T, m: *mut T) {
        if let Some(folding) = self.plan.folding {
            with_scheme!(folding, S => T::with(self.level, Fold(self.tiles(at, x, m), PhantomData::<S>)));
        }
    }

    /// y, and x = ρ(y), from what [`to_hidden`](Self::to_hidden) has left in `m`, which lacks the bias, or in y.
    ///
    /// # Safety
    /// As [`fold`](Self::fold), for y too; there is a bias for each row.
    pub(super) unsafe fn unfold_activate(&self, at: &Rows, (y, m): (*mut T, *mut T), bias: *const T, x: *mut T) {
        let rho = self.rho;
        if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, y, m);
            with_scheme!(folding, S => T::with(self.level, UnfoldActivate { tiles, bias, to: x, rho, scheme: PhantomData::<S> }));
        } else {
            T::with(self.level, Activate { at: *at, y, x, rho });
        }
    }

    /// x = ρ(y), clear and folded into `m`, if kernels are folded.
    ///
    /// # Safety
    /// As above.
    pub(super) unsafe fn activate_fold(&self, walk: &Walk, at: &Rows, y: *const T, (x, m): (*mut T, *mut T)) {
        if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, x, m);
            with_scheme!(folding, S => T::with(self.level, ActivateFold(tiles, y, self.rho, PhantomData::<S>)));
            // SAFETY: the caller's promise.
            unsafe {
                self.clear_hidden(walk, at, x);
                for e in 1..folding.parts() - 1 {
                    self.clear(walk, at, tiles.part(e));
                }
            }
        } else {
            T::with(self.level, Activate { at: *at, y, x, rho: self.rho });
        }
    }

    /// g = ρ'(y) g, and the sums of its rows, for what [`to_hidden`](Self::to_hidden) has left in `m`, or in g.
    ///
    /// # Safety
    /// As above; there is a vector for each of the sums.
    pub(super) unsafe fn unfold_pull(&self, walk: &Walk, at: &Rows, y: *const T, (g, m): (*mut T, *mut T), sums: *mut T) {
        let (lanes, rho) = (self.plan.lanes, self.rho);
        if let Some(folding) = self.plan.folding {
            let tiles = self.tiles(at, g, m);
            for e in 0..folding.parts() {
                // SAFETY: the caller's promise.
                unsafe { self.clear(walk, at, tiles.part(e)) };
            }
            with_scheme!(folding, S => T::with(self.level, UnfoldPull { tiles, y, sums, lanes, rho, scheme: PhantomData::<S> }));
        } else {
            T::with(self.level, Pull { at: *at, y, g, sums, lanes, rho });
        }
    }

    /// Turns hidden arrays that are clear, or those that they are folded to, so that vectors run over the channels; see
    /// [`turn`](product::turn).
    ///
    /// # Safety
    /// As above; `to` has room for as many arrays of whole vectors of channels.
    pub(super) unsafe fn turn(&self, at: &Rows, x: *const T, to: *mut T) {
        let (rows, row) = (self.plan.hidden, self.plan.pitch);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(folding) = self.plan.folding {
                let columns = at.len / folding.tile();
                let apart = self.plan.wide() * columns;
                (self.kernels.folded(folding).turn)(&fold::Turn { from: x, row, rows, columns, to, apart });
            } else {
                product::turn(self.kernels, (x, row), rows, at.len, to);
            }
        }
    }

    /// x = W of the rows of one part after the other, for the `way` to a hidden array from neighbourhoods of part `i` in `edge`, and a bias
    /// where x is not folded.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_hidden(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        at: &Rows,
        (i, edge): (usize, *const T),
        (x, m): (*mut T, *mut T),
        bias: Option<*const T>,
    ) {
        let vectors = self.edge_vectors(at);
        for (e, w) in way.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let to = if self.plan.folding.is_some() { self.tiles(at, x, m).part(e) } else { (x, self.plan.pitch) };
                let (from, rows) = self.edge(walk, e);
                let start = match bias {
                    _ if i > 0 => Start::Output,
                    Some(bias) if self.plan.folding.is_none() => Start::Values(bias),
                    _ => Start::Zero,
                };
                w.times(self.kernels, &self.tables, (edge.add(from), rows), vectors, to, start);
            }
        }
    }

    /// Rows of neighbourhoods from hidden arrays that are folded already, and a bias. Rows that are one another, shifted by lines, are added
    /// up.
    ///
    /// # Safety
    /// As [`times`](Packed::times).
    pub(super) unsafe fn to_edge(
        &self,
        way: &[Packed<'_, T>],
        walk: &Walk,
        at: &Rows,
        (x, m): (*mut T, *mut T),
        edge: *mut T,
        bias: Option<*const T>,
    ) {
        let (vectors, row, known) = (self.edge_vectors(at), self.edge_row(), walk.pixels() / self.plan.tile());
        for (e, w) in way.chunks(self.plan.shifts()).enumerate() {
            let (from, from_row) = self.array(at, e, x, m);
            let (start, rows) = self.edge(walk, e);
            let folded = self.plan.folding.is_some();
            let (shift, apart) = if folded { (rows.row, rows.apart) } else { (0, row) };
            // SAFETY: the caller's promise.
            unsafe {
                if folded {
                    for r in 0..w[0].rows() {
                        std::slice::from_raw_parts_mut(edge.add(start + r * apart + known), row - known).fill(T::default());
                    }
                }
                for (i, w) in w.iter().enumerate() {
                    let to = (edge.add(start + i * shift), apart);
                    let start = if i > 0 { Start::Output } else { bias.map_or(Start::Zero, Start::Values) };
                    w.times(self.kernels, &self.tables, (from, Spread::even(from_row)), vectors, to, start);
                }
            }
        }
    }
}
