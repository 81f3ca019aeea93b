//! Copies of windows into padded planes, generic over the vector type.

use crate::simd::{Lanes, MAX_LANES, transpose};

/// Where a vector of a plane, or a part of it, comes from: lane `i` in `mask`
/// is element `from + i * step` of the source. Other lanes are zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceOp {
    pub(crate) from: isize,
    pub(crate) mask: u32,
}

/// Copies one phase of some channels.
pub(crate) struct Source<'a, T> {
    /// First pixel of the first channel.
    pub(crate) from: *const T,
    pub(crate) channels: usize,
    /// Distance of channels in the source.
    pub(crate) channel: usize,
    /// Distance of adjacent lanes in the source.
    pub(crate) step: usize,
    /// Vector `v` of a plane is the sum of `ops[first[v]..first[v + 1]]`.
    pub(crate) ops: &'a [SourceOp],
    pub(crate) first: &'a [u32],
    pub(crate) to: *mut T,
    /// Distance of planes.
    pub(crate) to_channel: usize,
}

/// How many channels ahead of the copied one to fetch into the cache: images
/// are larger than that, and short pieces of many channels are not recognized
/// as a stream by the hardware.
const CHANNELS_AHEAD: usize = 2;
/// How many elements ahead to fetch, where all channels are read at once.
const AHEAD: usize = 4 * MAX_LANES;

/// Channels whose vectors are copied side by side: what a list says is then read once for all of them, and mispredicted once.
pub(crate) const BESIDE: usize = 4;

/// Calls a function with the step of a copy as a constant where it is a common one.
macro_rules! by_step {
    ($p:expr, $call:ident) => {
        match $p.step {
            1 => $call::<L>($p, 1),
            2 => $call::<L>($p, 2),
            3 => $call::<L>($p, 3),
            step => $call::<L>($p, step),
        }
    };
}

/// Fills planes of elements.
///
/// # Safety
///
/// The CPU must support `L`, what [`Source`] names must be readable, and the
/// planes, of whole vectors, writable.
#[inline(always)]
pub(crate) unsafe fn planes<L: Lanes>(p: &Source<'_, L::Elem>) {
    // SAFETY: as for this function.
    unsafe { by_step!(p, planes_apart) }
}

/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn planes_apart<L: Lanes>(p: &Source<'_, L::Elem>, step: usize) {
    let whole = p.channels - p.channels % BESIDE;
    // SAFETY: as for this function.
    unsafe {
        for c in (0..whole).step_by(BESIDE) {
            planes_beside::<L, BESIDE>(p, c, step);
        }
        for c in whole..p.channels {
            planes_beside::<L, 1>(p, c, step);
        }
    }
}

/// Some planes from channel `c` on.
///
/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn planes_beside<L: Lanes, const C: usize>(p: &Source<'_, L::Elem>, c: usize, step: usize) {
    let from = p.from.wrapping_add(c * p.channel);
    let mut to = p.to.wrapping_add(c * p.to_channel);
    for range in p.first.windows(2) {
        let ops = &p.ops[range[0] as usize..range[1] as usize];
        // SAFETY: as for this function.
        unsafe {
            let v = beside::<L, C>(from, p.channel, ops, step, C.max(CHANNELS_AHEAD) * p.channel);
            for k in 0..C {
                v[k].store(to.wrapping_add(k * p.to_channel));
            }
        }
        to = to.wrapping_add(L::N);
    }
}

/// Fills one plane of vectors, whose lanes are the channels; `N` of them at
/// most.
///
/// # Safety
///
/// As [`planes`], with vectors for elements.
#[inline(always)]
pub(crate) unsafe fn vectors<L: Lanes>(p: &Source<'_, L::Elem>) {
    // SAFETY: as for this function.
    unsafe { by_step!(p, vectors_apart) }
}

/// # Safety
///
/// As [`vectors`].
#[inline(always)]
unsafe fn vectors_apart<L: Lanes>(p: &Source<'_, L::Elem>, step: usize) {
    assert!(p.channels <= L::N);
    let mut to = p.to;
    for range in p.first.windows(2) {
        let ops = &p.ops[range[0] as usize..range[1] as usize];
        // SAFETY: as for this function.
        unsafe {
            let mut v = [L::zero(); MAX_LANES];
            if !ops.is_empty() {
                for c in 0..L::N {
                    if c < p.channels {
                        [v[c]] = beside::<L, 1>(p.from.wrapping_add(c * p.channel), 0, ops, step, AHEAD);
                    }
                }
                transpose(&mut v);
            }
            for i in 0..L::N {
                v[i].store(to.add(i * L::N));
            }
        }
        to = to.wrapping_add(L::N * L::N);
    }
}

/// One vector of a plane, of each of some channels `channel` apart.
///
/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn beside<L: Lanes, const C: usize>(from: *const L::Elem, channel: usize, ops: &[SourceOp], step: usize, ahead: usize) -> [L; C] {
    // SAFETY: only lanes in a mask are read.
    unsafe {
        let mut sum = [L::zero(); C];
        for (i, op) in ops.iter().enumerate() {
            for k in 0..C {
                let from = from.wrapping_add(k * channel).wrapping_offset(op.from);
                L::prefetch(from.wrapping_add(ahead));
                let part = if step == 1 { L::load_masked(from, op.mask) } else { L::gather(from, op.mask, step) };
                sum[k] = if i == 0 { part } else { sum[k].add(part) };
            }
        }
        sum
    }
}
