//! The loop that evaluates a kernel on vectors: all that is compiled anew for each kernel.

use super::vector::{Job, MAX_LANES, Vector};
use crate::cpu::CpuElement;
use crate::simd::Level;
use inn_core::Kernel;
use inn_core::kernel::{Arity, MAX_OPERANDS, UNIFORMS};

/// Most operands of one kind, tangents included.
pub(super) const MOST: usize = 2 * MAX_OPERANDS;

/// Consecutive vectors of every operand: where the first lies, and how many elements it is to the next.
pub struct Strip<T> {
    /// The number of vectors.
    pub(super) count: usize,
    pub(super) read: [(*const T, usize); MOST],
    /// The old values of updates; zeros where they are not read.
    pub(super) old: [(*const T, usize); MOST],
    pub(super) new: [(*mut T, usize); MOST],
    pub(super) channel_sums: Totals<T>,
    pub(super) sample_sums: Totals<T>,
}

/// Where sums are added.
#[derive(Clone, Copy)]
pub(super) struct Totals<T> {
    pub(super) first: *mut T,
    /// From sum to sum.
    pub(super) apart: usize,
    /// Whether there is one value an element, and not one vector for all.
    pub(super) dense: bool,
}

impl<T> Totals<T> {
    /// Reads one vector for each sum.
    ///
    /// # Safety
    /// They are valid, as for all methods.
    #[inline(always)]
    unsafe fn load<V: Vector<Elem = T>>(&self, totals: &mut [V]) {
        for (i, total) in totals.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *total = unsafe { V::load(self.first.add(i * self.apart)) };
        }
    }

    /// Adds what vector `v` gave: in memory where there is one value an element, else to `totals`.
    ///
    /// # Safety
    /// See [`load`](Self::load).
    #[inline(always)]
    unsafe fn add<V: Vector<Elem = T>>(&self, v: usize, sums: &[V], totals: &mut [V]) {
        for (i, (sum, total)) in sums.iter().zip(totals).enumerate() {
            if self.dense {
                // SAFETY: the caller's promise.
                unsafe {
                    let place = self.first.add(i * self.apart + v * V::N);
                    (V::load(place) + *sum).store(place);
                }
            } else {
                *total = *total + *sum;
            }
        }
    }

    /// Writes `totals` back, where they were added to.
    ///
    /// # Safety
    /// See [`load`](Self::load).
    #[inline(always)]
    unsafe fn store<V: Vector<Elem = T>>(&self, totals: &[V]) {
        if !self.dense {
            for (i, total) in totals.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { total.store(self.first.add(i * self.apart)) };
            }
        }
    }
}

/// A kernel, its type erased: rows, tasks and threads do not depend on it.
pub trait Evaluate<T>: Sync {
    /// Its operands.
    fn arity(&self) -> Arity;
    /// Evaluates it.
    ///
    /// # Safety
    /// All that the strip says lies in memory that may be read, and written where it is an update or a sum; nobody else accesses it.
    unsafe fn evaluate(&self, level: Level, strip: &Strip<T>);
}

/// A kernel as it is.
pub(super) struct Typed<'a, K>(pub(super) &'a K);

impl<T: CpuElement, K: Kernel> Evaluate<T> for Typed<'_, K> {
    fn arity(&self) -> Arity {
        Arity::of::<K>()
    }
    unsafe fn evaluate(&self, level: Level, strip: &Strip<T>) {
        T::with(level, Vectors { kernel: self.0, strip });
    }
}

struct Vectors<'a, T, K> {
    kernel: &'a K,
    strip: &'a Strip<T>,
}

impl<T: CpuElement, K: Kernel> Job<T> for Vectors<'_, T, K> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        const { assert!(K::READ <= MOST && K::UPDATE <= MOST && K::CHANNEL_SUMS <= MOST && K::SAMPLE_SUMS <= MOST) };
        let Self { kernel, strip } = self;
        let uniforms: [V; UNIFORMS] = kernel.uniforms().map(V::constant);
        let zero = [V::zero(); MOST];
        let (mut channel_totals, mut sample_totals) = (zero, zero);
        let (channel, sample) = (strip.channel_sums, strip.sample_sums);
        // SAFETY: `Evaluate::evaluate` was promised that the addresses are valid. What `const` conditions rule out is not even handed to LLVM.
        unsafe {
            if const { K::CHANNEL_SUMS > 0 } {
                channel.load(&mut channel_totals[..K::CHANNEL_SUMS]);
            }
            if const { K::SAMPLE_SUMS > 0 } {
                sample.load(&mut sample_totals[..K::SAMPLE_SUMS]);
            }
            for v in 0..strip.count {
                let (mut read, mut update, mut channel_sums, mut sample_sums) = (zero, zero, zero, zero);
                for i in 0..K::READ {
                    read[i] = V::load(strip.read[i].0.add(v * strip.read[i].1));
                }
                for i in 0..K::UPDATE {
                    update[i] = V::load(strip.old[i].0.add(v * strip.old[i].1));
                }
                kernel.eval(
                    &uniforms,
                    &read[..K::READ],
                    &mut update[..K::UPDATE],
                    &mut channel_sums[..K::CHANNEL_SUMS],
                    &mut sample_sums[..K::SAMPLE_SUMS],
                );
                for i in 0..K::UPDATE {
                    update[i].store(strip.new[i].0.add(v * strip.new[i].1));
                }
                if const { K::CHANNEL_SUMS > 0 } {
                    channel.add(v, &channel_sums[..K::CHANNEL_SUMS], &mut channel_totals);
                }
                if const { K::SAMPLE_SUMS > 0 } {
                    sample.add(v, &sample_sums[..K::SAMPLE_SUMS], &mut sample_totals);
                }
            }
            if const { K::CHANNEL_SUMS > 0 } {
                channel.store(&channel_totals[..K::CHANNEL_SUMS]);
            }
            if const { K::SAMPLE_SUMS > 0 } {
                sample.store(&sample_totals[..K::SAMPLE_SUMS]);
            }
        }
    }
}

/// Vectors for all sums of one kind, one for each.
#[repr(C, align(64))]
pub(super) struct Accumulators<T>([[T; MAX_LANES]; MOST]);

impl<T: CpuElement> Accumulators<T> {
    pub(super) fn new() -> Self {
        Self([[T::default(); MAX_LANES]; MOST])
    }

    /// Zeros the first `count`.
    pub(super) fn clear(&mut self, count: usize) {
        self.0[..count].fill([T::default(); MAX_LANES]);
    }

    pub(super) fn totals(&mut self) -> Totals<T> {
        Totals { first: self.0.as_mut_ptr().cast(), apart: MAX_LANES, dense: false }
    }

    pub(super) fn lanes(&self, i: usize, count: usize) -> &[T] {
        &self.0[i][..count]
    }

    /// Adds the first `count` lanes of `other`.
    pub(super) fn add(&mut self, other: &Self, sums: usize, count: usize) {
        for (to, from) in self.0[..sums].iter_mut().zip(&other.0) {
            to.iter_mut().zip(&from[..count]).for_each(|(to, from)| *to += *from);
        }
    }

    /// The sum of `lanes` lanes, by halves.
    pub(super) fn total(&self, i: usize, lanes: usize) -> T {
        let mut values = self.0[i];
        let mut half = lanes / 2;
        while half > 0 {
            for lane in 0..half {
                let other = values[lane + half];
                values[lane] += other;
            }
            half /= 2;
        }
        values[0]
    }
}
