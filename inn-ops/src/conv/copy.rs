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

/// Fills planes of elements.
///
/// # Safety
///
/// The CPU must support `L`, what [`Source`] names must be readable, and the
/// planes, of whole vectors, writable.
#[inline(always)]
pub(crate) unsafe fn planes<L: Lanes>(p: &Source<'_, L::Elem>) {
    for c in 0..p.channels {
        let from = p.from.wrapping_add(c * p.channel);
        let mut to = p.to.wrapping_add(c * p.to_channel);
        for range in p.first.windows(2) {
            let ops = &p.ops[range[0] as usize..range[1] as usize];
            // SAFETY: as for this function.
            unsafe { vector::<L>(from, ops, p.step, CHANNELS_AHEAD * p.channel).store(to) };
            to = to.wrapping_add(L::N);
        }
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
                        v[c] = vector::<L>(p.from.wrapping_add(c * p.channel), ops, p.step, AHEAD);
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

/// One vector of a plane.
///
/// # Safety
///
/// As [`planes`].
#[inline(always)]
unsafe fn vector<L: Lanes>(from: *const L::Elem, ops: &[SourceOp], step: usize, ahead: usize) -> L {
    // SAFETY: only lanes in a mask are read.
    unsafe {
        let mut sum = L::zero();
        for (i, op) in ops.iter().enumerate() {
            let from = from.wrapping_offset(op.from);
            L::prefetch(from.wrapping_add(ahead));
            let part = if step == 1 { L::load_masked(from, op.mask) } else { L::gather(from, op.mask, step) };
            sum = if i == 0 { part } else { sum.add(part) };
        }
        sum
    }
}
