//! A block of rows, as strips of vectors. Operands along which a vector cannot be loaded at once (one value for the whole row, or a stride),
//! and the rest of a row that fills no vector, go through a stage.

use super::strip::{Accumulators, Evaluate, MOST, Strip, Totals};
use super::vector::MAX_LANES;
use crate::cpu::CpuElement;
use crate::simd::Level;
use inn_core::Window;
use inn_core::kernel::Arity;
use std::mem::MaybeUninit;
use std::ops::Range;

/// An operand: where its first element lies and how far apart its neighbours are on each axis.
#[derive(Clone, Copy)]
pub struct Operand<T> {
    base: *mut T,
    pub(super) batch: usize,
    pub(super) channel: usize,
    /// Along a row.
    pub(super) element: usize,
    /// Whether the old value is read.
    old: bool,
}

impl<T> Operand<T> {
    pub(crate) fn new(base: *mut T, window: Window, old: bool) -> Self {
        // Within the buffer, as `check_zip` has seen; `wrapping` because a window without elements may start anywhere.
        let base = base.wrapping_add(window.offset);
        Self { base, batch: window.batch_stride, channel: window.channel_stride, element: window.pixel_stride, old }
    }
}

// SAFETY: tasks write to elements of their own rows alone, see `Grid::run`.
unsafe impl<T: Send> Send for Operand<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Operand<T> {}

/// Sums that have one value an element of a row, because the row runs over channels, or over samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Neither,
    Channels,
    Samples,
}

impl Along {
    /// The number of sums that a row has one value of, and one value an element of.
    pub(super) fn split(self, arity: Arity) -> (usize, usize) {
        match self {
            Self::Neither => (arity.sample_sums + arity.channel_sums, 0),
            Self::Channels => (arity.sample_sums, arity.channel_sums),
            Self::Samples => (arity.channel_sums, arity.sample_sums),
        }
    }
}

/// Vectors that are staged at a time.
const STAGED: usize = 4;

/// Memory for a few vectors of one operand.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Stage<T: Copy>([MaybeUninit<T>; STAGED * MAX_LANES]);

impl<T: Copy> Stage<T> {
    fn pointer(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// What a task works with.
struct Desk<T: CpuElement> {
    strip: Strip<T>,
    read: [Stage<T>; MOST],
    update: [Stage<T>; MOST],
    zeros: [T; MAX_LANES],
    channel: Accumulators<T>,
    sample: Accumulators<T>,
    /// For the rest of a row.
    rest_channel: Accumulators<T>,
    rest_sample: Accumulators<T>,
}

impl<T: CpuElement> Desk<T> {
    fn new() -> Self {
        let nowhere = Totals { first: std::ptr::null_mut(), apart: 0, dense: false };
        let read = [(std::ptr::null(), 0); MOST];
        let new = [(std::ptr::null_mut(), 0); MOST];
        let stage = Stage([MaybeUninit::uninit(); STAGED * MAX_LANES]);
        Self {
            strip: Strip { count: 0, read, old: read, new, channel_sums: nowhere, sample_sums: nowhere },
            read: [stage; MOST],
            update: [stage; MOST],
            zeros: [T::default(); MAX_LANES],
            channel: Accumulators::new(),
            sample: Accumulators::new(),
            rest_channel: Accumulators::new(),
            rest_sample: Accumulators::new(),
        }
    }
}

/// The work of a task.
pub(super) struct Block<'a, T> {
    pub(super) kernel: &'a dyn Evaluate<T>,
    pub(super) level: Level,
    pub(super) operands: &'a [Operand<T>],
    pub(super) channels: usize,
    /// Rows (sample, channel), the channel fastest.
    pub(super) rows: Range<usize>,
    /// Which elements of each row.
    pub(super) elements: Range<usize>,
    /// For each row the sums over its elements: sample sums, then channel sums, except those along the row.
    pub(super) row_sums: *mut T,
    /// For each sum along the row one value an element, `stride` apart.
    pub(super) dense_sums: *mut T,
    pub(super) along: Along,
    pub(super) stride: usize,
}

impl<T: CpuElement> Block<'_, T> {
    /// Does the work.
    ///
    /// # Safety
    /// The operands lie in memory that nobody else accesses, but to read what is read only; there is room for the sums.
    pub(super) unsafe fn run(self) {
        let arity = self.kernel.arity();
        let per_row = self.along.split(arity).0;
        let samples = if self.along == Along::Samples { 0 } else { arity.sample_sums };
        let lanes = T::lanes(self.level);
        let mut desk = Desk::new();
        for row in self.rows.clone() {
            // SAFETY: the caller's promise.
            unsafe {
                self.row(row, arity, lanes, &mut desk);
                let out = self.row_sums.add((row - self.rows.start) * per_row);
                for i in 0..samples {
                    *out.add(i) = desk.sample.total(i, lanes);
                }
                if self.along != Along::Channels {
                    for i in 0..arity.channel_sums {
                        *out.add(samples + i) = desk.channel.total(i, lanes);
                    }
                }
            }
        }
    }

    /// One row.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn row(&self, row: usize, arity: Arity, lanes: usize, desk: &mut Desk<T>) {
        let (b, c) = (row / self.channels, row % self.channels);
        let (reads, updates) = self.operands.split_at(arity.read);
        let first = |o: &Operand<T>| o.base.wrapping_add(b * o.batch + c * o.channel + self.elements.start * o.element);
        let (whole, rest) = (self.elements.len() / lanes, self.elements.len() % lanes);
        desk.channel.clear(arity.channel_sums);
        desk.sample.clear(arity.sample_sums);
        let dense = |kind: Along, at: usize, own: &mut Accumulators<T>| match self.along == kind {
            true => Totals { first: self.dense_sums.wrapping_add(at), apart: self.stride, dense: true },
            false => own.totals(),
        };
        // SAFETY: every access is to the elements of a window, or to a stage.
        unsafe {
            let staged = reads.iter().any(|o| o.element > 1) || updates.iter().any(|o| o.element != 1);
            let most = if staged { STAGED } else { whole };
            for (i, o) in reads.iter().enumerate().filter(|(_, o)| o.element == 0 && whole > 0) {
                let stage = desk.read[i].pointer();
                (0..lanes).for_each(|lane| *stage.add(lane) = *first(o));
                desk.strip.read[i] = (stage, 0);
            }
            let mut done = 0;
            while done < whole {
                let count = most.min(whole - done);
                let start = done * lanes;
                for (i, o) in reads.iter().enumerate().filter(|(_, o)| o.element != 0) {
                    desk.strip.read[i] = match o.element {
                        1 => (first(o).add(start), lanes),
                        _ => (take(o, first(o), start, count * lanes, desk.read[i].pointer()), lanes),
                    };
                }
                for (i, o) in updates.iter().enumerate() {
                    let place = match o.element {
                        1 => first(o).add(start),
                        _ if o.old => take(o, first(o), start, count * lanes, desk.update[i].pointer()),
                        _ => desk.update[i].pointer(),
                    };
                    desk.strip.new[i] = (place, lanes);
                    desk.strip.old[i] = if o.old { (place, lanes) } else { (desk.zeros.as_ptr(), 0) };
                }
                desk.strip.channel_sums = dense(Along::Channels, start, &mut desk.channel);
                desk.strip.sample_sums = dense(Along::Samples, start, &mut desk.sample);
                desk.strip.count = count;
                self.kernel.evaluate(self.level, &desk.strip);
                for (i, o) in updates.iter().enumerate().filter(|(_, o)| o.element != 1) {
                    give(o, first(o), start, count * lanes, desk.update[i].pointer());
                }
                done += count;
            }
            if rest == 0 {
                return;
            }
            // The last element fills the vector up, and only the lanes that exist are kept.
            let start = whole * lanes;
            for (i, o) in reads.iter().enumerate() {
                let stage = take(o, first(o), start, rest, desk.read[i].pointer());
                fill(stage, rest, lanes);
                desk.strip.read[i] = (stage, 0);
            }
            for (i, o) in updates.iter().enumerate() {
                let stage = desk.update[i].pointer();
                desk.strip.old[i] = (desk.zeros.as_ptr(), 0);
                if o.old {
                    take(o, first(o), start, rest, stage);
                    fill(stage, rest, lanes);
                    desk.strip.old[i] = (stage, 0);
                }
                desk.strip.new[i] = (stage, 0);
            }
            desk.rest_channel.clear(arity.channel_sums);
            desk.rest_sample.clear(arity.sample_sums);
            desk.strip.channel_sums = desk.rest_channel.totals();
            desk.strip.sample_sums = desk.rest_sample.totals();
            desk.strip.count = 1;
            self.kernel.evaluate(self.level, &desk.strip);
            for (i, o) in updates.iter().enumerate() {
                give(o, first(o), start, rest, desk.update[i].pointer());
            }
            if self.along == Along::Channels {
                self.dense_rest(&desk.rest_channel, arity.channel_sums, start, rest);
            } else {
                desk.channel.add(&desk.rest_channel, arity.channel_sums, rest);
            }
            if self.along == Along::Samples {
                self.dense_rest(&desk.rest_sample, arity.sample_sums, start, rest);
            } else {
                desk.sample.add(&desk.rest_sample, arity.sample_sums, rest);
            }
        }
    }

    /// Adds the first `rest` lanes to the sums along the row.
    ///
    /// # Safety
    /// As [`row`](Self::row).
    unsafe fn dense_rest(&self, values: &Accumulators<T>, sums: usize, start: usize, rest: usize) {
        for i in 0..sums {
            for (lane, value) in values.lanes(i, rest).iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { *self.dense_sums.add(i * self.stride + start + lane) += *value };
            }
        }
    }
}

/// Copies `count` elements of an operand to a stage, from element `start` after `first` on.
///
/// # Safety
/// The operand has these elements, and the stage room for them.
unsafe fn take<T: Copy>(o: &Operand<T>, first: *mut T, start: usize, count: usize, stage: *mut T) -> *mut T {
    for lane in 0..count {
        // SAFETY: the caller vouches for it.
        unsafe { *stage.add(lane) = *first.add((start + lane) * o.element) };
    }
    stage
}

/// The way back.
///
/// # Safety
/// As [`take`].
unsafe fn give<T: Copy>(o: &Operand<T>, first: *mut T, start: usize, count: usize, stage: *mut T) {
    for lane in 0..count {
        // SAFETY: the caller vouches for it.
        unsafe { *first.add((start + lane) * o.element) = *stage.add(lane) };
    }
}

/// Repeats the last of `count` elements to the end of a vector.
///
/// # Safety
/// The stage holds `count` elements, at least one, and has room for a vector.
unsafe fn fill<T: Copy>(stage: *mut T, count: usize, lanes: usize) {
    for lane in count..lanes {
        // SAFETY: the caller vouches for it.
        unsafe { *stage.add(lane) = *stage.add(count - 1) };
    }
}
