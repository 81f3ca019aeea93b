//! A block of rows: the loop that evaluates a kernel on vectors.

use super::vector::{Job, MAX_LANES, Vector};
use crate::cpu::CpuElement;
use inn_core::kernel::{MAX_OPERANDS, UNIFORMS};
use inn_core::{Kernel, Scalar, Window};
use std::array::from_fn;
use std::mem::MaybeUninit;
use std::ops::Range;

/// An operand: where its first element lies and how far apart its neighbours are on each axis.
#[derive(Clone, Copy)]
pub(super) struct Operand<T> {
    base: *mut T,
    pub(super) batch: usize,
    pub(super) channel: usize,
    /// Along a row.
    pub(super) element: usize,
    /// Whether the old value is read.
    old: bool,
}

impl<T> Operand<T> {
    pub(super) fn new(base: *mut T, window: Window, old: bool) -> Self {
        // Within the buffer, as `check_zip` has seen; `wrapping` because a window without elements may start anywhere.
        let base = base.wrapping_add(window.offset);
        Self { base, batch: window.batch_stride, channel: window.channel_stride, element: window.pixel_stride, old }
    }
}

// SAFETY: tasks write to elements of their own rows alone, see `Grid::run`.
unsafe impl<T: Send> Send for Operand<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Operand<T> {}

/// Most operands of one kind, tangents included.
const MOST: usize = 2 * MAX_OPERANDS;

/// A vector's worth of memory.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Stage<T: Copy>([MaybeUninit<T>; MAX_LANES]);

impl<T: Copy> Stage<T> {
    fn pointer(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// Sums that have one value an element of a row, because the row runs over channels, or over samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Neither,
    Channels,
    Samples,
}

impl Along {
    /// The number of sums that a row has one value of, and one value an element of.
    pub(super) fn split<K: Kernel>(self) -> (usize, usize) {
        match self {
            Self::Neither => (K::SAMPLE_SUMS + K::CHANNEL_SUMS, 0),
            Self::Channels => (K::SAMPLE_SUMS, K::CHANNEL_SUMS),
            Self::Samples => (K::CHANNEL_SUMS, K::SAMPLE_SUMS),
        }
    }
}

/// The work of a task.
pub(super) struct Block<'a, T, K> {
    pub(super) kernel: &'a K,
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

impl<T: CpuElement, K: Kernel> Job<T> for Block<'_, T, K> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let uniforms: [V; UNIFORMS] = self.kernel.uniforms().map(V::constant);
        let per_row = self.along.split::<K>().0;
        let samples = if self.along == Along::Samples { 0 } else { K::SAMPLE_SUMS };
        for row in self.rows.clone() {
            // SAFETY: `Grid::run` vouches for the pointers.
            unsafe {
                let mut sums = [V::zero(); MOST];
                let mut channel_sums = [V::zero(); MOST];
                self.row(row, &uniforms, &mut sums, &mut channel_sums);
                let out = self.row_sums.add((row - self.rows.start) * per_row);
                for (i, sum) in sums[..samples].iter().enumerate() {
                    *out.add(i) = total(*sum);
                }
                if self.along != Along::Channels {
                    for (i, sum) in channel_sums[..K::CHANNEL_SUMS].iter().enumerate() {
                        *out.add(samples + i) = total(*sum);
                    }
                }
            }
        }
    }
}

impl<T: CpuElement, K: Kernel> Block<'_, T, K> {
    /// One row. Operands along which a vector cannot be loaded at once (one value for the whole row, or a stride) go through a stage.
    #[inline(always)]
    unsafe fn row<V: Vector<Elem = T>>(&self, row: usize, uniforms: &[V; UNIFORMS], sums: &mut [V; MOST], channel_sums: &mut [V; MOST]) {
        let (b, c) = (row / self.channels, row % self.channels);
        let (reads, updates) = self.operands.split_at(K::READ);
        let n = self.elements.len();
        // SAFETY: every access is to the elements of a window, or to a stage.
        unsafe {
            let first = |o: &Operand<T>| o.base.wrapping_add(b * o.batch + c * o.channel + self.elements.start * o.element);
            let mut read_stage: [Stage<T>; MOST] = [const { Stage([MaybeUninit::uninit(); MAX_LANES]) }; MOST];
            let mut update_stage = read_stage;
            // The place that a vector is loaded from, and how far it moves from vector to vector.
            let mut from = [(std::ptr::null_mut::<T>(), 0usize); MOST];
            let mut to = [(std::ptr::null_mut::<T>(), 0usize); MOST];
            let mut gather = false;
            if n >= V::N {
                for (i, o) in reads.iter().enumerate() {
                    from[i] = match o.element {
                        1 => (first(o), V::N),
                        stride => {
                            gather |= stride != 0;
                            let stage = read_stage[i].pointer();
                            (0..V::N).for_each(|lane| *stage.add(lane) = *first(o));
                            (stage, 0)
                        }
                    };
                }
                for (i, o) in updates.iter().enumerate() {
                    to[i] = match o.element {
                        1 => (first(o), V::N),
                        _ => {
                            gather = true;
                            (update_stage[i].pointer(), 0)
                        }
                    };
                }
            }
            let whole = n / V::N;
            for v in 0..whole {
                if gather {
                    let start = v * V::N;
                    for (i, o) in reads.iter().enumerate().filter(|(_, o)| o.element > 1) {
                        take(o, first(o), start, V::N, read_stage[i].pointer());
                    }
                    for (i, o) in updates.iter().enumerate().filter(|(_, o)| o.element != 1 && o.old) {
                        take(o, first(o), start, V::N, update_stage[i].pointer());
                    }
                }
                let at = |p: (*mut T, usize)| p.0.add(v * p.1);
                let read: [V; MOST] = from_fn(|i| if i < K::READ { V::load(at(from[i])) } else { V::zero() });
                let old = |i: usize| i < K::UPDATE && updates[i].old;
                let mut update: [V; MOST] = from_fn(|i| if old(i) { V::load(at(to[i])) } else { V::zero() });
                let (mut cs, mut ss) = ([V::zero(); MOST], [V::zero(); MOST]);
                self.eval(uniforms, &read, &mut update, &mut cs, &mut ss);
                for i in 0..K::UPDATE {
                    update[i].store(at(to[i]));
                }
                if gather {
                    for (i, o) in updates.iter().enumerate().filter(|(_, o)| o.element != 1) {
                        give(o, first(o), v * V::N, V::N, update_stage[i].pointer());
                    }
                }
                if self.along == Along::Samples {
                    for i in 0..K::SAMPLE_SUMS {
                        let place = self.dense_sums.add(i * self.stride + v * V::N);
                        (V::load(place) + ss[i]).store(place);
                    }
                } else {
                    for i in 0..K::SAMPLE_SUMS {
                        sums[i] = sums[i] + ss[i];
                    }
                }
                if self.along == Along::Channels {
                    for i in 0..K::CHANNEL_SUMS {
                        let place = self.dense_sums.add(i * self.stride + v * V::N);
                        (V::load(place) + cs[i]).store(place);
                    }
                } else {
                    for i in 0..K::CHANNEL_SUMS {
                        channel_sums[i] = channel_sums[i] + cs[i];
                    }
                }
            }
            // The rest of the row: the last element fills the vector up, and only the lanes that exist are kept.
            let (start, rest) = (whole * V::N, n % V::N);
            if rest == 0 {
                return;
            }
            for (i, o) in reads.iter().enumerate() {
                take(o, first(o), start, rest, read_stage[i].pointer());
                fill::<V>(read_stage[i].pointer(), rest);
            }
            for (i, o) in updates.iter().enumerate().filter(|(_, o)| o.old) {
                take(o, first(o), start, rest, update_stage[i].pointer());
                fill::<V>(update_stage[i].pointer(), rest);
            }
            let read: [V; MOST] = from_fn(|i| if i < K::READ { V::load(read_stage[i].pointer()) } else { V::zero() });
            let old = |i: usize| i < K::UPDATE && updates[i].old;
            let mut update: [V; MOST] = from_fn(|i| if old(i) { V::load(update_stage[i].pointer()) } else { V::zero() });
            let (mut cs, mut ss) = ([V::zero(); MOST], [V::zero(); MOST]);
            self.eval(uniforms, &read, &mut update, &mut cs, &mut ss);
            for (i, o) in updates.iter().enumerate() {
                update[i].store(update_stage[i].pointer());
                give(o, first(o), start, rest, update_stage[i].pointer());
            }
            if self.along == Along::Samples {
                self.dense_rest(&ss[..K::SAMPLE_SUMS], start, rest);
            } else {
                for i in 0..K::SAMPLE_SUMS {
                    sums[i] = sums[i] + head(ss[i], rest);
                }
            }
            if self.along == Along::Channels {
                self.dense_rest(&cs[..K::CHANNEL_SUMS], start, rest);
            } else {
                for i in 0..K::CHANNEL_SUMS {
                    channel_sums[i] = channel_sums[i] + head(cs[i], rest);
                }
            }
        }
    }

    /// Adds the first `rest` lanes to the sums along the row.
    ///
    /// # Safety
    /// As [`row`](Self::row).
    #[inline(always)]
    unsafe fn dense_rest<V: Vector<Elem = T>>(&self, values: &[V], start: usize, rest: usize) {
        for (i, value) in values.iter().enumerate() {
            let mut stage = Stage([MaybeUninit::uninit(); MAX_LANES]);
            // SAFETY: the caller's promise; the stage has room for a vector.
            unsafe {
                value.store(stage.pointer());
                for lane in 0..rest {
                    let place = self.dense_sums.add(i * self.stride + start + lane);
                    *place += *stage.pointer().add(lane);
                }
            }
        }
    }

    #[inline(always)]
    fn eval<V: Scalar>(&self, uniforms: &[V; UNIFORMS], read: &[V; MOST], update: &mut [V; MOST], cs: &mut [V; MOST], ss: &mut [V; MOST]) {
        let (update, cs, ss) = (&mut update[..K::UPDATE], &mut cs[..K::CHANNEL_SUMS], &mut ss[..K::SAMPLE_SUMS]);
        self.kernel.eval(uniforms, &read[..K::READ], update, cs, ss);
    }
}

/// Copies `count` elements of an operand to a stage, from element `start` after `first` on.
///
/// # Safety
/// The operand has these elements, and the stage room for them.
#[inline(always)]
unsafe fn take<T: Copy>(o: &Operand<T>, first: *mut T, start: usize, count: usize, stage: *mut T) {
    for lane in 0..count {
        // SAFETY: the caller vouches for it.
        unsafe { *stage.add(lane) = *first.add((start + lane) * o.element) };
    }
}

/// The way back.
///
/// # Safety
/// As [`take`].
#[inline(always)]
unsafe fn give<T: Copy>(o: &Operand<T>, first: *mut T, start: usize, count: usize, stage: *mut T) {
    for lane in 0..count {
        // SAFETY: the caller vouches for it.
        unsafe { *first.add((start + lane) * o.element) = *stage.add(lane) };
    }
}

/// Repeats the last of `count` elements to the end of a stage.
///
/// # Safety
/// The stage holds `count` elements, at least one, and has room for a vector.
#[inline(always)]
unsafe fn fill<V: Vector>(stage: *mut V::Elem, count: usize) {
    for lane in count..V::N {
        // SAFETY: the caller vouches for it.
        unsafe { *stage.add(lane) = *stage.add(count - 1) };
    }
}

/// The first `count` lanes, the others zero.
#[inline(always)]
fn head<T: CpuElement, V: Vector<Elem = T>>(x: V, count: usize) -> V {
    let mut stage = Stage([MaybeUninit::uninit(); MAX_LANES]);
    // SAFETY: the stage has room for a vector, whose instructions exist since `x` does.
    unsafe {
        x.store(stage.pointer());
        for lane in count..V::N {
            *stage.pointer().add(lane) = T::default();
        }
        V::load(stage.pointer())
    }
}

/// The sum of all lanes, by halves.
#[inline(always)]
fn total<T: CpuElement, V: Vector<Elem = T>>(x: V) -> T {
    let mut stage = Stage([MaybeUninit::uninit(); MAX_LANES]);
    // SAFETY: as in `head`.
    unsafe {
        let lanes = stage.pointer();
        x.store(lanes);
        let mut half = V::N / 2;
        while half > 0 {
            for lane in 0..half {
                *lanes.add(lane) = *lanes.add(lane) + *lanes.add(lane + half);
            }
            half /= 2;
        }
        *lanes
    }
}
