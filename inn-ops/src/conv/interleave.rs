//! Results of a stride's phases, which lie between each other in the target.
//!
//! Each phase is computed into rows of its own, in cache; then all of them go to their lines together, by whole vectors.

use super::apply::{Apply, Io};
use super::axis::Axis;
use super::clear;
use super::copy::JOINED;
use super::index::{Lists, Taps};
use super::kernels::{Dispatch, Kernels};
use super::micro::{Panel, StoreOp};
use super::packing::Packed;
use super::plan::{Piece, split};
use super::scratch::Shared;
use crate::simd::Lanes;
use std::ops::Range;

/// Vectors of positions that are computed before they go to the target: few enough for rows of all phases to stay in the first-level cache.
pub(crate) const RUN: usize = 16;

/// Where the elements of a vector of positions go, phase after phase of each position: element `e` whose bit is set to `to + e`. The bits are adjacent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JoinedOp {
    pub(crate) to: isize,
    pub(crate) bits: u64,
}

/// Rows of phases to put between each other.
pub(crate) struct Interleave<'a, T> {
    pub(crate) from: *const T,
    /// Distances of phases and of rows there.
    pub(crate) phase: usize,
    pub(crate) row: usize,
    /// 2 to 4.
    pub(crate) phases: usize,
    pub(crate) rows: usize,
    /// What becomes of vector `v` is told by `ops[first[v]..first[v + 1]]`.
    pub(crate) ops: &'a [JoinedOp],
    pub(crate) first: &'a [u32],
    pub(crate) to: *mut T,
    pub(crate) to_row: usize,
    /// Whether to fetch what is written of the next row into the cache meanwhile.
    pub(crate) ahead: bool,
    pub(crate) accumulate: bool,
}

/// Writes rows to the target, or adds them to it.
///
/// # Safety
///
/// The CPU must support `L`, all elements that [`Interleave`] describes must be valid, and nothing else may access the target meanwhile.
#[inline(always)]
pub(crate) unsafe fn interleave<L: Lanes>(p: &Interleave<'_, L::Elem>) {
    // SAFETY: as for this function.
    unsafe {
        match (p.phases, p.ahead) {
            (2, false) => lines::<L, 2, false>(p),
            (2, true) => lines::<L, 2, true>(p),
            (3, false) => lines::<L, 3, false>(p),
            (3, true) => lines::<L, 3, true>(p),
            (_, false) => lines::<L, 4, false>(p),
            (_, true) => lines::<L, 4, true>(p),
        }
    }
}

/// # Safety
///
/// As [`interleave`].
#[inline(always)]
unsafe fn lines<L: Lanes, const S: usize, const AHEAD: bool>(p: &Interleave<'_, L::Elem>) {
    let all = u64::from(u32::MAX >> (32 - L::N));
    for m in 0..p.rows {
        let to = p.to.wrapping_add(m * p.to_row);
        for (v, range) in p.first.windows(2).enumerate() {
            for op in &p.ops[range[0] as usize..range[1] as usize] {
                // SAFETY: as for this function; only elements whose bit is set are accessed in the target.
                unsafe {
                    let from = p.from.add(m * p.row + v * L::N);
                    let mut parts = [L::zero(); S];
                    for r in 0..S {
                        parts[r] = L::load(from.add(r * p.phase));
                    }
                    let lines = L::interleave::<S>(parts);
                    for j in 0..S {
                        let bits = op.bits >> (j * L::N) & all;
                        let to = to.wrapping_offset(op.to + (j * L::N) as isize);
                        if AHEAD {
                            L::prefetch(to.wrapping_add(p.to_row));
                        }
                        if bits == all && !p.accumulate {
                            lines[j].store(to);
                        } else if bits != 0 {
                            lines[j].compress(to.wrapping_add(bits.trailing_zeros() as usize), bits as u32, p.accumulate);
                        }
                    }
                }
            }
        }
    }
}

/// Pixels in a row that get nothing, from which on it is faster to clear all of a target first than to write zeros between the others.
const MOST_GAPS: usize = 2;
/// Bytes of a target from which on it is no longer in the second-level cache, so that writing waits for it.
const LARGE: usize = 2 << 20;
/// Bytes after which a second-level cache has the same lines again.
const PERIOD: usize = 64 << 10;
/// The lines of a target with gaps that get something, of so many, from which on boxes clear their own pixels.
const WRITTEN: [usize; 2] = [2, 5];

impl Apply<'_> {
    /// Phases along the last axis that go to the target together: those of a short step. Pixels that get nothing are zeros between the others, if
    /// they are not too many.
    pub(super) fn joined(&self) -> usize {
        let (step, taps) = (self.phases[2], self.g.kernel[2]);
        if step <= JOINED && self.listed() > 0 && step.saturating_sub(taps) < MOST_GAPS { step } else { 1 }
    }

    /// Whether lines of the target in a phase get something.
    pub(super) fn reached(&self, phase: [usize; 3]) -> bool {
        phase[0] < self.g.kernel[0] && phase[1] < self.g.kernel[1]
    }

    /// Whether there are pixels between the taps of a stride, which get nothing.
    pub(super) fn gaps(&self) -> bool {
        (0..3).any(|axis| self.phases[axis] > self.g.kernel[axis])
    }

    /// Whether boxes clear their pixels themselves: the lines that get nothing, or all where many lines with gaps get something. If few do, it is faster
    /// to clear all of the target before.
    pub(super) fn clears_boxes(&self) -> bool {
        if self.joined() > 1 {
            return (0..2).any(|axis| self.phases[axis] > self.g.kernel[axis]);
        }
        let all = self.phases[0] * self.phases[1];
        let written = [0, 1].map(|axis| self.g.kernel[axis].min(self.phases[axis])).iter().product::<usize>();
        self.gaps() && WRITTEN[1] * written >= WRITTEN[0] * all
    }

    /// Sets the pixels of a box to zero in some blocks of rows: those of lines that get nothing, where the others are written as a whole; or all of
    /// them, just before those that get something are written: they are in the cache then.
    pub(super) fn clear_gaps<T: Dispatch>(&self, piece: &Piece, blocks: Range<usize>, io: &Io<'_, T>) {
        let axes = self.axes();
        let range = |axis: usize| {
            let (.., first) = axes[axis].targets(piece.start[axis], piece.count[axis], 0);
            let end = first + (axes[axis].target_step * piece.count[axis]) as isize;
            first.max(0) as usize..(end.max(0) as usize).min(axes[axis].target)
        };
        let ([z, y, x], [_, height, width]) = ([range(0), range(1), range(2)], [0, 1, 2].map(|axis| axes[axis].target));
        // Lines that are whole follow each other: long stretches are written without being read.
        let (whole, joined) = (x.len() == width, self.joined() > 1);
        let phase = |axis: usize, at: usize| (at + self.g.padding[axis]) % self.phases[axis];
        let empty = |line: &usize| !joined || !self.reached([phase(0, line / height), phase(1, line % height), 0]);
        let lines = z.flat_map(|plane| y.clone().map(move |line| plane * height + line)).filter(empty);
        let pass_by = joined && clear::passes_by::<T>(self.g.batch * self.rows * self.g.input_pixels());
        let rows = split(self.rows, self.blocks, blocks.start).start..split(self.rows, self.blocks, blocks.end - 1).end;
        for (s, row) in (0..piece.layout.samples).flat_map(|s| rows.clone().map(move |row| (s, row))) {
            let to = (piece.sample + s) * io.target_sample + row * io.target_channel;
            let clear = |pixels: &Range<usize>| {
                // SAFETY: as in `phase`: pixels of this box and these rows.
                clear::zero(unsafe { std::slice::from_raw_parts_mut(io.target.get().add(to + pixels.start), pixels.len()) }, pass_by);
            };
            let mut stretch = 0..0;
            for start in lines.clone().map(|line| line * width + x.start) {
                if whole && stretch.end == start {
                    stretch.end += width;
                } else {
                    clear(&stretch);
                    stretch = start..start + x.len();
                }
            }
            clear(&stretch);
        }
        clear::done(pass_by);
    }

    /// Whether rows of the target are fetched before they are written: not if they would push each other out of the cache.
    fn fetches_ahead<T>(&self, io: &Io<'_, T>) -> bool {
        let (all, row) = (self.g.batch * self.rows * self.g.input_pixels(), io.target_channel);
        all >= LARGE / size_of::<T>() && !row.is_multiple_of(PERIOD / size_of::<T>())
    }

    /// Elements of the rows of phases that go to the target together.
    pub(super) fn joined_elements<T: Dispatch>(&self, kernels: &Kernels<T>) -> usize {
        let phases = self.joined();
        if phases == 1 { 0 } else { phases * kernels.panel.len() * RUN * kernels.lanes }
    }

    /// Computes all phases of the last axis, from `taps` on, in a box, from some channels; `joined` is room for their rows.
    pub(super) fn together<T: Dispatch>(
        &self,
        piece: &Piece,
        taps: Taps<'_>,
        before: usize,
        channels: Range<usize>,
        blocks: Range<usize>,
        kernels: &Kernels<T>,
        io: &Io<'_, T>,
        packed: &Packed,
        weights: Shared<T>,
        planes: &[T],
        joined: &mut [T],
        phases: &[Lists],
    ) {
        let accumulate = io.accumulate || channels.start > 0;
        let lists = &phases[0];
        if accumulate && channels.is_empty() {
            return;
        }
        let counts = |r: usize| Taps { phase: [taps.phase[0], taps.phase[1], r], ..taps }.count();
        let (lanes, row) = (kernels.lanes, RUN * kernels.lanes);
        let joined = Shared::new(joined);
        for block in blocks {
            let rows = split(self.rows, self.blocks, block);
            for (run, first) in lists.first[..lists.first.len() - 1].chunks(RUN).enumerate() {
                let (start, vectors) = (run * RUN, first.len());
                if lists.first[start] == lists.first[start + vectors] {
                    continue;
                }
                let mut before = before;
                for (r, phase) in phases.iter().enumerate() {
                    let count = counts(r);
                    let a = packed.at(before, count, rows.start) + (channels.start - packed.channels.start) * rows.len() * count;
                    before += count;
                    let panel = Panel {
                        a: weights.get().wrapping_add(a),
                        b: planes[start * lanes..].as_ptr(),
                        off: &phase.off,
                        vectors,
                        ops: &lists.ops,
                        first: &lists.first[start..=start + vectors],
                        step: 1,
                        to: joined.get().wrapping_add(r * rows.len() * row),
                        row,
                        accumulate: false,
                    };
                    // SAFETY: as in `phase`; the target is the room for the rows.
                    unsafe { kernels.panel[rows.len() - 1](&panel) };
                }
                let interleave = Interleave {
                    from: joined.get(),
                    phase: rows.len() * row,
                    row,
                    phases: phases.len(),
                    rows: rows.len(),
                    ops: &lists.joined,
                    first: &lists.joined_first[start..=start + vectors],
                    to: io.target.get().wrapping_add(piece.sample * io.target_sample + rows.start * io.target_channel),
                    to_row: io.target_channel,
                    ahead: self.fetches_ahead::<T>(io),
                    accumulate,
                };
                // SAFETY: as in `phase`; the rows have all vectors that the list names.
                unsafe { (kernels.interleave)(&interleave) };
            }
        }
    }
}

impl Lists {
    /// Lists the targets of a box for all phases of the last axis, beginning with `phase`; `sample` is the distance of samples in the target.
    pub(crate) fn joined(&mut self, axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], sample: usize, lanes: usize) {
        let step = axes[2].target_step;
        if !self.begin(axes, piece, phase, step, sample, lanes) {
            return;
        }
        self.joined.clear();
        self.joined_first.clear();
        let layout = &piece.layout;
        let range = |axis: usize| axes[axis].targets(piece.start[axis], piece.count[axis], phase[axis]);
        let [(lo0, hi0, base0), (lo1, hi1, base1), (.., base2)] = [range(0), range(1), range(2)];
        let at = |axis: usize, base: isize, position: usize| (base + (axes[axis].target_step * position) as isize) as usize;
        // The elements of a line of the box that the target has.
        let lo = (-base2).max(0) as usize;
        let hi = (axes[2].target as isize - base2).clamp(0, (step * piece.count[2]) as isize) as usize;
        for s in 0..layout.samples {
            for i0 in lo0..hi0 {
                for i1 in lo1..hi1 {
                    let line = at(0, base0, i0) * axes[1].target + at(1, base1, i1);
                    let to = (s * sample + line * axes[2].target) as isize + base2;
                    let start = s * layout.sample + i0 * layout.dist[0] + i1 * layout.dist[1];
                    let (mut i, end) = (lo / step, hi.div_ceil(step));
                    while i < end {
                        let (vector, lane) = ((start + i) / lanes, (start + i) % lanes);
                        let n = (lanes - lane).min(end - i);
                        // Element `e` of the line has bit `e - from`.
                        let from = step as isize * (i as isize - lane as isize);
                        let bit = |e: usize| (e as isize - from) as u32;
                        let (first, last) = (bit(lo.max(step * i)), bit(hi.min(step * (i + n))));
                        if first < last {
                            self.keep(vector, lanes);
                            self.joined.push(JoinedOp { to: to + from, bits: u64::MAX >> (64 - (last - first)) << first });
                        }
                        i += n;
                    }
                }
            }
        }
        self.finish(layout.positions.div_ceil(lanes));
        self.joined_first.resize(self.first.len(), self.joined.len() as u32);
    }

    /// Begins a vector, which goes to its place in a run as a whole.
    fn keep(&mut self, vector: usize, lanes: usize) {
        self.joined_first.resize(self.joined_first.len().max(vector + 1), self.joined.len() as u32);
        if self.first.len() <= vector {
            self.first.resize(vector + 1, self.ops.len() as u32);
            self.ops.push(StoreOp { to: vector % RUN * lanes, mask: u32::MAX >> (32 - lanes) });
        }
    }
}
