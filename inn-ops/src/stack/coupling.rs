//! A coupling in one pass: a stack, a pointwise kernel that takes its output, and, on the way back, the stack's adjoint.
//!
//! Samples do not meet in a coupling. A task carries one group of them (a sample, or as many small ones as a strip has) through all of it
//! before it takes the next, and nobody waits in between. Within a sample the way back moves like a front, strip by strip: pixels whose
//! output no strip to come will reach are changed, and strips whose pixels and neighbours are changed get their adjoint. So the hidden values
//! of a few strips are all that is kept, in the cache of the core that needs them again. Each task has a partial gradient of its own.

use super::Weights;
use super::adjoint::{self, Desk};
use super::common::{Common, with_arrays};
use super::lines::Image;
use super::map::{self, packed_len};
use super::plan::Plan;
use super::sums::{self, Add};
use crate::conv::plan::split;
use crate::conv::scratch::Shared;
use crate::cpu::CpuElement;
use crate::pool;
use inn_core::stack::Pointwise;
use std::ops::Range;

/// Groups from which each is worth a task of its own: with fewer, the parts of a sample are dealt to threads.
pub(super) const GROUPS: usize = 6;
/// Bytes of the hidden values that are kept at one time, at most: more are out of the cache again before the adjoint needs them.
const KEPT_BYTES: usize = 4 << 20;
/// Bytes of the output of a group at most: each thread has room for one, and a large volume must not be there once more for every thread.
const OUTPUT_BYTES: usize = 16 << 20;
/// Tasks of a pass without a gradient.
const TASKS: usize = 32;

/// Applies the kernel to some pixels of samples, whose output of the stack lies at an address: (samples, outputs, all pixels) without gaps.
pub(super) type Meet<'a, T> = &'a (dyn Fn(Range<usize>, Range<usize>, *mut T) + Sync);

impl Plan {
    /// Strips whose hidden values are kept at one time: the strip that comes next, those that its neighbours' neighbours are in, and the one
    /// whose adjoint is due.
    fn front(&self) -> usize {
        let near = (2 * self.reach()).div_ceil(self.shortest().max(1));
        self.group(0).0.len().min(near + 1)
    }

    /// Elements that are kept at one time.
    fn kept_at_once(&self) -> usize {
        self.front() * self.kept_of_strip()
    }

    /// Elements of the output of a group.
    fn group_output(&self) -> usize {
        // The first of almost equal parts is the longest.
        let most = self.group(0).1.len();
        most * self.outputs * self.sample_pixels()
    }

    fn sample_pixels(&self) -> usize {
        if self.samples_are_pixels { 1 } else { self.extents.iter().product() }
    }

    /// Whether it pays to go group by group.
    pub(super) fn couples(&self, back: bool) -> bool {
        let groups = self.groups();
        (groups >= GROUPS || groups > 0 && self.is_small())
            && self.group_output() * self.bytes <= OUTPUT_BYTES
            && (!back || self.kept_at_once() * self.bytes <= KEPT_BYTES)
    }

    /// Tasks that have a partial gradient each.
    pub(super) fn coupled_slots(&self) -> usize {
        if self.is_small() { 1 } else { self.slots_of(self.groups()) }
    }
}

/// Elements that a call shares: packed weights, and partial gradients on the way `back`.
pub(super) fn shared_len(plan: &Plan, back: bool) -> usize {
    if back { 2 * packed_len(plan) + plan.coupled_slots() * plan.weights() } else { packed_len(plan) }
}

/// Elements of a task's arrays.
pub(super) fn thread_len(plan: &Plan, back: bool) -> usize {
    let arrays = if back { adjoint::thread_len(plan, true) + plan.kept_at_once() } else { map::thread_len(plan, false) };
    arrays + plan.group_output()
}

/// Tasks of a pass.
pub(super) fn tasks(plan: &Plan, back: bool) -> usize {
    if back { plan.coupled_slots() } else { plan.groups().min(TASKS) }
}

/// An image of the output that is nowhere yet.
fn nowhere<T>(plan: &Plan) -> Image<T> {
    at_group(plan, &(0..0), std::ptr::null_mut())
}

/// The image whose part for some samples lies at `out`.
fn at_group<T>(plan: &Plan, samples: &Range<usize>, out: *mut T) -> Image<T> {
    let pixels = plan.sample_pixels();
    let sample = plan.outputs * pixels;
    let (batch_stride, step) = if plan.samples_are_pixels { (0, sample) } else { (sample, 1) };
    Image { data: out.wrapping_sub(samples.start * sample), channels: plan.outputs, batch_stride, channel_stride: pixels, step }
}

impl<T: CpuElement, A: Pointwise> Common<'_, T, A> {
    /// The output of samples at `out`, made anew.
    ///
    /// # Safety
    /// There is room for it.
    unsafe fn cleared(&self, samples: &Range<usize>, out: *mut T) -> Image<T> {
        let len = samples.len() * self.plan.outputs * self.plan.sample_pixels();
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(out, len) }.fill(T::default());
        at_group(self.plan, samples, out)
    }
}

/// The forward pass. `packed` is memory of [`shared_len`] elements.
///
/// # Safety
/// As [`map`](super::map::map), for `inputs`.
pub(super) unsafe fn map<T: CpuElement, A: Pointwise>(
    plan: &Plan,
    rho: A,
    weights: &Weights<'_, T>,
    inputs: &[Image<T>],
    meet: Meet<'_, T>,
    packed: &mut [T],
) {
    let common = Common::new(plan, rho, weights, inputs, nowhere(plan));
    let way = common.pack_forward(packed);
    let (tasks, len) = (tasks(plan, false), thread_len(plan, false));
    pool::each(tasks, common.alone, |t| {
        with_arrays(len, |buffer: &mut [T], walks| {
            let edge = buffer.as_mut_ptr();
            // SAFETY: the buffer has the arrays of a pass that keeps nothing, and the output of a group.
            let (m, xs, out) = unsafe {
                let (m, xs) = map::arrays(plan, edge);
                (m, xs, edge.add(map::thread_len(plan, false)))
            };
            for g in split(plan.groups(), tasks, t) {
                let (_, samples) = plan.group(g);
                // SAFETY: as above; nobody else has the samples of this group.
                unsafe {
                    let image = common.cleared(&samples, out);
                    for s in plan.group_strips(g) {
                        walks.set(plan, s);
                        let x = common.hidden(&way, inputs, &walks.first, edge, (xs, m), |layer| xs[layer % 2]);
                        common.output(&way, walks.last(), edge, (x, m), (image, None));
                    }
                }
                meet(samples, 0..plan.sample_pixels(), out);
            }
        });
    });
}

/// The way back: for each group the output, the kernel, which turns it into its cotangent, and the adjoint. The gradients of the weights go to
/// `write` as those of [`adjoint`](adjoint::adjoint) do. `buffer` is memory of [`shared_len`] elements.
///
/// # Safety
/// As [`adjoint`](adjoint::adjoint).
pub(super) unsafe fn pull<T: CpuElement, A: Pointwise>(
    plan: &Plan,
    rho: A,
    weights: &Weights<'_, T>,
    (inputs, gx): (&[Image<T>], &[Image<T>]),
    meet: Meet<'_, T>,
    buffer: &mut [T],
    write: impl FnMut(usize, Add<'_, T>),
) {
    let common = Common::new(plan, rho, weights, inputs, nowhere(plan));
    let (packed, partials) = buffer.split_at_mut(2 * packed_len(plan));
    let (forth, back) = packed.split_at_mut(packed_len(plan));
    let (forward, backward) = (common.pack_forward(forth), common.pack_back(back));
    let shared = Shared::new(partials);
    let (tasks, len) = (tasks(plan, true), thread_len(plan, true));
    let (front, pixels, reach) = (plan.front(), plan.sample_pixels(), plan.reach());
    pool::each(tasks, common.alone, |t| {
        with_arrays(len, |buffer: &mut [T], walks| {
            // SAFETY: the buffer has the arrays of an adjoint, what a group keeps, and its output; each task has a partial gradient.
            let (mut desk, kept, out) = unsafe {
                let desk = Desk::new(plan, buffer.as_mut_ptr(), shared.get().add(t * plan.weights()), true);
                let kept = desk.rest;
                (desk, kept, kept.add(plan.kept_at_once()))
            };
            for g in split(plan.groups(), tasks, t) {
                let (strips, samples) = plan.group(g);
                // SAFETY: the hidden arrays of a strip follow each other, and there are as many strips.
                let y = |s: usize, layer: usize| unsafe {
                    kept.add((s - strips.start) % front * plan.kept_of_strip() + layer * plan.hidden * plan.pitch)
                };
                // SAFETY: as above; nobody else has the samples of this group.
                let image = unsafe { common.cleared(&samples, out) };
                let (mut changed, mut due) = (0, strips.start);
                for s in strips.clone() {
                    walks.set(plan, s);
                    // SAFETY: as above; the strip whose place this one takes is done.
                    unsafe {
                        let arrays = ([desk.x, desk.next], desk.m);
                        let x = common.hidden(&forward, inputs, &walks.first, desk.edge, arrays, |layer| y(s, layer));
                        common.output(&forward, walks.last(), desk.edge, (x, desk.m), (image, None));
                    }
                    let last = s + 1 == strips.end;
                    let known = if last { pixels } else { plan.end(s).saturating_sub(reach) };
                    if known > changed {
                        meet(samples.clone(), changed..known, out);
                        changed = known;
                    }
                    while due < strips.end && (last || plan.end(due) + reach <= changed) {
                        walks.set(plan, due);
                        // SAFETY: as above; the strip's neighbours are in place.
                        unsafe { common.strip_back(&backward, (inputs, gx), image, walks, &mut desk, |layer| y(due, layer), (None, None)) };
                        due += 1;
                    }
                }
            }
            // SAFETY: as above.
            unsafe { desk.finish(plan) };
        });
    });
    sums::write(&common, partials, write);
}
