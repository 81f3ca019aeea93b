//! Copies of windows into padded planes, generic over the vector type.

use super::outer::{AHEAD, square};
use crate::simd::Lanes;

/// Phases that are copied at a time, at most.
pub(crate) const JOINED: usize = 4;

/// Where a vector of a plane, or a part of it, comes from: lane `i` in the mask
/// is element `from + i * step` of the source. Other lanes are zero. Where phases are copied together, those after
/// the first come from one element on each, with masks of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceOp {
    pub(crate) from: isize,
    pub(crate) masks: [u16; JOINED],
}

/// Copies one phase of some channels, or some phases that lie between each other.
pub(crate) struct Source<'a, T> {
    /// First pixel of the first channel.
    pub(crate) from: *const T,
    pub(crate) channels: usize,
    /// Distance of channels in the source.
    pub(crate) channel: usize,
    /// Distance of adjacent lanes in the source.
    pub(crate) step: usize,
    /// Phases: as many as the step, and [`JOINED`], at most.
    pub(crate) phases: usize,
    /// Vector `v` of a plane is the sum of `ops[first[v]..first[v + 1]]`.
    pub(crate) ops: &'a [SourceOp],
    pub(crate) first: &'a [u32],
    pub(crate) to: *mut T,
    /// Distances of the planes of phases and of channels.
    pub(crate) to_phase: usize,
    pub(crate) to_channel: usize,
}

/// How many channels ahead of the copied one to fetch into the cache: images
/// are larger than that, and short pieces of many channels are not recognized
/// as a stream by the hardware.
const CHANNELS_AHEAD: usize = 2;

/// Channels whose vectors are copied side by side: what a list says is then read once for all of them, and mispredicted once.
pub(crate) const BESIDE: usize = 4;

/// Fills planes of elements.
///
/// # Safety
///
/// The CPU must support `L`, what [`Source`] names must be readable, and the
/// planes, of whole vectors, writable.
#[inline(always)]
pub(crate) unsafe fn planes<L: Lanes>(p: &Source<'_, L::Elem>) {
    // SAFETY: as for this function.
    unsafe {
        match (p.phases, p.step) {
            (2.., 2) => planes_apart::<L, 2>(p, 2),
            (2.., 3) => planes_apart::<L, 3>(p, 3),
            (2.., 4) => planes_apart::<L, 4>(p, 4),
            (_, 1) => planes_apart::<L, 1>(p, 1),
            (_, 2) => planes_apart::<L, 1>(p, 2),
            (_, 3) => planes_apart::<L, 1>(p, 3),
            (_, step) => planes_apart::<L, 1>(p, step),
        }
    }
}

/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn planes_apart<L: Lanes, const S: usize>(p: &Source<'_, L::Elem>, step: usize) {
    let whole = p.channels - p.channels % BESIDE;
    // SAFETY: as for this function.
    unsafe {
        for c in (0..whole).step_by(BESIDE) {
            planes_beside::<L, BESIDE, S>(p, c, step);
        }
        for c in whole..p.channels {
            planes_beside::<L, 1, S>(p, c, step);
        }
    }
}

/// Some planes from channel `c` on.
///
/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn planes_beside<L: Lanes, const C: usize, const S: usize>(p: &Source<'_, L::Elem>, c: usize, step: usize) {
    let from = p.from.wrapping_add(c * p.channel);
    let mut to = p.to.wrapping_add(c * p.to_channel);
    for range in p.first.windows(2) {
        let ops = &p.ops[range[0] as usize..range[1] as usize];
        // SAFETY: as for this function.
        unsafe {
            let v = beside::<L, C, S>(from, p.channel, ops, step, C.max(CHANNELS_AHEAD) * p.channel);
            for k in 0..C {
                for r in 0..S.min(p.phases) {
                    v[k][r].store(to.wrapping_add(k * p.to_channel + r * p.to_phase));
                }
            }
        }
        to = to.wrapping_add(L::N);
    }
}

/// A line of an image whose pixels become vectors, with a channel in each lane, that go to places of their own.
pub(crate) struct Pixels<'a, T> {
    /// First pixel of the first channel.
    pub(crate) from: *const T,
    /// `N` at most; zeros fill the other lanes.
    pub(crate) channels: usize,
    /// Distance of channels in the source.
    pub(crate) channel: usize,
    /// Pixel `x` goes to vectors `places[first[x]..first[x + 1]]`.
    pub(crate) places: &'a [usize],
    pub(crate) first: &'a [u32],
    pub(crate) to: *mut T,
}

/// Turns the pixels of a line into vectors.
///
/// # Safety
///
/// The CPU must support `L`, what [`Pixels`] names must be readable, and the vectors writable.
#[inline(always)]
pub(crate) unsafe fn vectors<L: Lanes>(p: &Pixels<'_, L::Elem>) {
    let count = p.first.len().saturating_sub(1);
    for x in (0..count).step_by(L::N) {
        let n = (count - x).min(L::N);
        let first = &p.first[x..=x + n];
        // SAFETY: as for this function.
        unsafe {
            let v = square::<L>((p.from.wrapping_add(x), p.channel, AHEAD), p.channels, n, |v| v);
            for (v, range) in v.iter().zip(first.windows(2)) {
                for place in &p.places[range[0] as usize..range[1] as usize] {
                    v.store(p.to.add(place * L::N));
                }
            }
        }
    }
}

/// One vector of a plane, of each of some channels `channel` apart and of each of some phases.
///
/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn beside<L: Lanes, const C: usize, const S: usize>(
    from: *const L::Elem,
    channel: usize,
    ops: &[SourceOp],
    step: usize,
    ahead: usize,
) -> [[L; S]; C] {
    // SAFETY: only lanes in a mask are read.
    unsafe {
        let mut sum = [[L::zero(); S]; C];
        for (i, op) in ops.iter().enumerate() {
            for k in 0..C {
                let from = from.wrapping_add(k * channel).wrapping_offset(op.from);
                for line in 0..step.min(JOINED) {
                    L::prefetch(from.wrapping_add(ahead + line * L::N));
                }
                let mut part = [L::zero(); S];
                if S > 1 {
                    part = L::deal(from, &op.masks);
                } else if step == 1 {
                    part[0] = L::load_masked(from, op.masks[0].into());
                } else {
                    part[0] = L::gather(from, op.masks[0].into(), step);
                }
                for r in 0..S {
                    sum[k][r] = if i == 0 { part[r] } else { sum[k][r].add(part[r]) };
                }
            }
        }
        sum
    }
}
