//! Index lists of a box: where taps are read and where results go.

use super::copy::{JOINED, SourceOp};
use super::geometry::Geometry;
use super::interleave::JoinedOp;
use super::micro::StoreOp;
use super::outer::Run;
use super::plan::{Axis, Layout, Piece};
use crate::simd::MAX_LANES;
use std::cell::RefCell;

/// What lists of sources or targets depend on: boxes of whole samples have the same ones, and a list takes longer than copying a channel or two.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    axes: [Axis; 3],
    start: [usize; 3],
    count: [usize; 3],
    layout: Layout,
    phase: [usize; 3],
    joined: usize,
    sample: usize,
    lanes: usize,
}

/// What a [`Panel`](super::micro::Panel) reads and writes.
#[derive(Default)]
pub(crate) struct Lists {
    /// What the targets are those of.
    key: Option<Key>,
    /// See [`Interleave`](super::interleave::Interleave).
    pub(crate) joined: Vec<JoinedOp>,
    pub(crate) joined_first: Vec<u32>,
    pub(crate) off: Vec<usize>,
    pub(crate) ops: Vec<StoreOp>,
    pub(crate) first: Vec<u32>,
}

/// What a [`Source`](super::copy::Source) reads.
#[derive(Default)]
pub(crate) struct Sources {
    key: Option<Key>,
    pub(crate) ops: Vec<SourceOp>,
    pub(crate) first: Vec<u32>,
}

/// Lists that a thread reuses from box to box.
#[derive(Default)]
pub(crate) struct Index {
    /// Those of each phase, for all blocks of rows.
    pub(crate) phases: Vec<Lists>,
    /// See [`Pixels`](super::copy::Pixels).
    pub(crate) places: Vec<usize>,
    pub(crate) place_first: Vec<u32>,
    /// Places of taps.
    pub(crate) off: Vec<usize>,
    /// Those of some phases of the source.
    pub(crate) sources: Vec<Sources>,
    /// Offsets of vectors in a weight gradient.
    pub(crate) other: Vec<usize>,
    /// Positions of a weight gradient, and where stretches of them start and
    /// the last one ends.
    pub(crate) runs: Vec<Run>,
    pub(crate) stretches: Vec<usize>,
}

thread_local! {
    static INDEX: RefCell<Index> = RefCell::default();
}

/// Lends `body` the lists of this thread. `body` must not wait for other
/// tasks, as these might need the lists too.
pub(crate) fn with_index<R>(body: impl FnOnce(&mut Index) -> R) -> R {
    INDEX.with_borrow_mut(body)
}

/// Phases whose lists are kept at most.
const LISTED: usize = 27;

/// How many of so many phases have their lists kept: all, or none if there are too many.
pub(crate) fn listed(phases: usize) -> usize {
    if phases <= LISTED { phases } else { 0 }
}

/// Upper bound on the memory of the lists, in bytes, for boxes of so many
/// lines and elements of a plane, and so many offsets, and lists of so many phases, of sources and targets together.
pub(crate) fn index_bytes(lines: usize, elements: usize, lanes: usize, offsets: usize, phases: usize) -> usize {
    let vectors = elements.div_ceil(lanes) + 1;
    // A line begins and ends within a vector, at worst.
    let ops = (vectors + 2 * lines) * size_of::<StoreOp>() + vectors * size_of::<u32>();
    let pieces = lines + elements / STRETCH + 1;
    let runs = pieces * (size_of::<Run>() + size_of::<usize>());
    // Vectors grow in powers of two. Sources take as much as targets do.
    let lists = phases * (ops + size_of::<Lists>()) + if phases > 0 { offsets * size_of::<usize>() } else { 0 };
    2 * (offsets * size_of::<usize>() + ops.max(runs) + lists + 256)
}

impl Lists {
    /// Lists the targets of a box for one phase; `sample` is the distance of
    /// samples in the target.
    pub(crate) fn targets(&mut self, axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], sample: usize, lanes: usize) {
        if !self.begin(axes, piece, phase, 1, sample, lanes) {
            return;
        }
        let layout = &piece.layout;
        let range = |axis: usize| axes[axis].targets(piece.start[axis], piece.count[axis], phase[axis]);
        let [(lo0, hi0, base0), (lo1, hi1, base1), (lo2, hi2, base2)] = [range(0), range(1), range(2)];
        if lo2 < hi2 {
            let at = |axis: usize, base: isize, position: usize| (base + (axes[axis].target_step * position) as isize) as usize;
            let step = axes[2].target_step;
            for s in 0..layout.samples {
                for i0 in lo0..hi0 {
                    for i1 in lo1..hi1 {
                        let line = at(0, base0, i0) * axes[1].target + at(1, base1, i1);
                        let to = s * sample + line * axes[2].target + at(2, base2, lo2);
                        let q = s * layout.sample + i0 * layout.dist[0] + i1 * layout.dist[1] + lo2;
                        self.segment(q, hi2 - lo2, to, step, lanes);
                    }
                }
            }
        }
        self.finish(layout.positions.div_ceil(lanes));
    }

    /// Begins a list of targets, unless it is there already.
    pub(super) fn begin(&mut self, axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], joined: usize, sample: usize, lanes: usize) -> bool {
        let &Piece { start, count, layout, .. } = piece;
        let key = Some(Key { axes: *axes, start, count, layout, phase, joined, sample, lanes });
        if self.key == key {
            return false;
        }
        self.clear();
        self.key = key;
        true
    }

    /// Empties the list of targets.
    pub(crate) fn clear(&mut self) {
        self.key = None;
        self.ops.clear();
        self.first.clear();
    }

    /// Sends positions `q..q + len` to the elements from `to` on, `step` apart.
    pub(crate) fn segment(&mut self, mut q: usize, mut len: usize, mut to: usize, step: usize, lanes: usize) {
        while len > 0 {
            let (vector, lane) = (q / lanes, q % lanes);
            let n = (lanes - lane).min(len);
            let mask = (((1u64 << n) - 1) << lane) as u32;
            while self.first.len() <= vector {
                self.first.push(self.ops.len() as u32);
            }
            // Lines of a box of full width are adjacent in the target, so
            // that one operation can serve parts of two of them.
            let open = self.ops.len() > self.first[vector] as usize;
            match self.ops.last_mut() {
                Some(op) if open && op.to + op.mask.count_ones() as usize * step == to => {
                    op.mask |= mask;
                }
                _ => self.ops.push(StoreOp { to, mask }),
            }
            q += n;
            len -= n;
            to += n * step;
        }
    }

    /// Ends the list of targets, of `vectors` vectors.
    pub(crate) fn finish(&mut self, vectors: usize) {
        while self.first.len() <= vectors {
            self.first.push(self.ops.len() as u32);
        }
    }
}

/// Visits the lines of a phase that the source has, with the number of their first position in a plane and the place of its source,
/// of phase 0 of the last axis, which may lie outside; `sample` is the distance of samples in the source.
pub(crate) fn each_line(axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], sample: usize, mut visit: impl FnMut(usize, isize)) {
    let layout = &piece.layout;
    let range = |axis: usize| axes[axis].sources(piece.start[axis], piece.count[axis], phase[axis]);
    let [(lo0, hi0, base0), (lo1, hi1, base1), (.., base2)] = [range(0), range(1), range(2)];
    let at = |axis: usize, base: isize, i: usize| base + (axes[axis].source_step * i) as isize;
    for s in 0..layout.samples {
        for i0 in lo0..hi0 {
            for i1 in lo1..hi1 {
                let line = at(0, base0, i0) * axes[1].source as isize + at(1, base1, i1);
                let from = (s * sample) as isize + line * axes[2].source as isize + base2;
                visit(s * layout.sample + i0 * layout.dist[0] + i1 * layout.dist[1], from);
            }
        }
    }
}

impl Sources {
    /// As [`Index::sources`].
    fn list(&mut self, axes: &[Axis; 3], piece: &Piece, phase: [usize; 3], joined: usize, sample: usize, lanes: usize) {
        let &Piece { start, count, layout, .. } = piece;
        let key = Some(Key { axes: *axes, start, count, layout, phase, joined, sample, lanes });
        if self.key == key {
            return;
        }
        self.key = key;
        self.ops.clear();
        self.first.clear();
        let mut last = [(0, 0); JOINED];
        for (r, last) in last[..joined].iter_mut().enumerate() {
            let (lo, hi, _) = axes[2].sources(piece.start[2], piece.count[2], phase[2] + r);
            *last = (lo, hi);
        }
        let filled = last[..joined].iter().filter(|(lo, hi)| lo < hi);
        let (lo2, hi2) = filled.fold((usize::MAX, 0), |(from, to), &(lo, hi)| (from.min(lo), to.max(hi)));
        let step = axes[2].source_step;
        each_line(axes, piece, phase, sample, |start, from| {
            let mut i2 = lo2;
            while i2 < hi2 {
                let (vector, lane) = ((start + i2) / lanes, (start + i2) % lanes);
                let n = (lanes - lane).min(hi2 - i2);
                let all = ((1u32 << n) - 1) << lane;
                let mut masks = [0; JOINED];
                for (mask, &(lo, hi)) in masks.iter_mut().zip(&last[..joined]) {
                    let whole = lo <= i2 && i2 + n <= hi;
                    *mask = if whole { all } else { all & lanes_within(lo, hi, i2, lane) } as u16;
                }
                let op = SourceOp { from: from + step as isize * (i2 as isize - lane as isize), masks };
                while self.first.len() <= vector {
                    self.first.push(self.ops.len() as u32);
                }
                let open = self.ops.len() > self.first[vector] as usize;
                match self.ops.last_mut() {
                    // Lines without a gap between them, on both sides.
                    Some(last) if open && last.from == op.from => {
                        last.masks.iter_mut().zip(op.masks).for_each(|(mask, more)| *mask |= more);
                    }
                    _ => self.ops.push(op),
                }
                i2 += n;
            }
        });
        while self.first.len() <= piece.layout.stride / lanes {
            self.first.push(self.ops.len() as u32);
        }
    }
}

/// Bits of the positions `lo..hi`, where `lane` is that of position `from`.
fn lanes_within(lo: usize, hi: usize, from: usize, lane: usize) -> u32 {
    let bits = |position: usize| (1u32 << (position.max(from) - from + lane).min(MAX_LANES)) - 1;
    bits(hi) & !bits(lo)
}

impl Index {
    /// The lists of a phase, to make.
    pub(crate) fn phase(&mut self, number: usize) -> &mut Lists {
        if self.phases.len() <= number {
            self.phases.resize_with(number + 1, Lists::default);
        }
        &mut self.phases[number]
    }

    /// Lists the sources of a phase of a plane, or of so many phases joined along the last axis, as one of the lists that are kept;
    /// `sample` is the distance of samples in the source.
    pub(crate) fn sources(
        &mut self,
        number: usize,
        axes: &[Axis; 3],
        piece: &Piece,
        (phase, joined): ([usize; 3], usize),
        sample: usize,
        lanes: usize,
    ) {
        if self.sources.len() <= number {
            self.sources.resize_with(number + 1, Sources::default);
        }
        self.sources[number].list(axes, piece, phase, joined, sample, lanes);
    }

    /// Lists where the pixels of a line of the source go, in the planes of all phases of the last axis, which are `plane` apart. Returns the
    /// distance of the first of them from where a line without padding would begin.
    pub(crate) fn pixels(&mut self, axis: &Axis, start: usize, count: usize, plane: usize) -> usize {
        self.places.clear();
        self.place_first.clear();
        let (step, phases, reach) = (axis.source_step, axis.source_phases, count + axis.halo);
        let (.., base) = axis.sources(start, count, 0);
        let (lo, hi) = ((-base).max(0), (axis.source as isize - base).min((step * (reach - 1) + phases.max(step)) as isize));
        let (mut phase, mut i) = (lo as usize % step, lo as usize / step);
        for _ in lo..hi {
            self.place_first.push(self.places.len() as u32);
            // Phases beyond the step belong to lowered axes; they have the same pixel one element earlier.
            for (back, phase) in (phase..phases).step_by(step).enumerate().take(i + 1) {
                if i - back < reach {
                    self.places.push(phase * plane + i - back);
                }
            }
            (phase, i) = if phase + 1 == step { (0, i + 1) } else { (phase + 1, i) };
        }
        self.place_first.push(self.places.len() as u32);
        lo as usize
    }

    /// Lists the positions of a box, `step` apart along each axis in planes with `layout`, against their number. Stretches have [`STRETCH`] at most.
    /// Those in planes are stream `a` of the runs, or else `b`.
    pub(crate) fn stretches(&mut self, piece: &Piece, layout: &Layout, step: [usize; 3], planes_are_a: bool) {
        let [n0, n1, n2] = piece.count;
        self.runs.clear();
        self.stretches.clear();
        self.stretches.push(0);
        let (mut pixel, mut used) = (0, 0);
        for line in 0..layout.samples * n0 * n1 {
            let (s, i0, i1) = (line / (n0 * n1), line / n1 % n0, line % n1);
            let mut position = s * layout.sample + i0 * step[0] * layout.dist[0] + i1 * step[1] * layout.dist[1];
            let mut left = n2;
            while left > 0 {
                let len = left.min(STRETCH);
                let ends = |run: &Run| {
                    let (planes, other) = if planes_are_a { (run.a, run.b) } else { (run.b, run.a) };
                    (planes + run.len * step[2], other + run.len)
                };
                if used + len > STRETCH {
                    self.stretches.push(self.runs.len());
                    used = 0;
                }
                match self.runs.last_mut() {
                    Some(run) if used > 0 && ends(run) == (position, pixel) => run.len += len,
                    _ => {
                        let (a, b) = if planes_are_a { (position, pixel) } else { (pixel, position) };
                        self.runs.push(Run { a, b, len });
                    }
                }
                (position, pixel, left, used) = (position + len * step[2], pixel + len, left - len, used + len);
            }
        }
        self.stretches.push(self.runs.len());
    }
}

/// Positions that a weight gradient sums over at a time: a tile of vectors of
/// that many stays in the first-level cache for all rows.
const STRETCH: usize = 128;

/// The taps that contribute to a phase of the target.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a> {
    pub(crate) g: &'a Geometry,
    pub(crate) adjoint: bool,
    /// Phase of the target; zero for the forward operation.
    pub(crate) phase: [usize; 3],
}

impl Taps<'_> {
    /// The number of taps along an axis.
    fn along(&self, axis: usize) -> usize {
        let (k, s) = (self.g.kernel[axis], self.g.stride[axis]);
        if self.adjoint { k.saturating_sub(self.phase[axis]).div_ceil(s) } else { k }
    }

    /// The number of taps.
    pub(crate) fn count(&self) -> usize {
        (0..3).map(|axis| self.along(axis)).product()
    }

    /// Visits the taps: number of the tap in the kernel, phase of the source
    /// and shift.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize, [usize; 3], [usize; 3])) {
        let g = self.g;
        let tap = |axis: usize, a: usize| {
            let s = g.stride[axis];
            if self.adjoint { (a * s + self.phase[axis], 0, (g.kernel[axis] - 1) / s - a) } else { (a, a % s, a / s) }
        };
        for a0 in 0..self.along(0) {
            let (t0, r0, d0) = tap(0, a0);
            for a1 in 0..self.along(1) {
                let (t1, r1, d1) = tap(1, a1);
                for a2 in 0..self.along(2) {
                    let (t2, r2, d2) = tap(2, a2);
                    let number = (t0 * g.kernel[1] + t1) * g.kernel[2] + t2;
                    visit(number, [r0, r1, r2], [d0, d1, d2]);
                }
            }
        }
    }

    /// Lists the offsets of the taps, `[channel][tap]`, in planes of vectors
    /// of `scale` elements.
    pub(crate) fn offsets(&self, axes: &[Axis; 3], layout: &Layout, channels: usize, scale: usize, off: &mut Vec<usize>) {
        off.clear();
        if channels == 0 {
            return;
        }
        self.each(|_, phase, shift| off.push(layout.offset(axes, phase, shift) * scale));
        let count = off.len();
        let plane = layout.phases * layout.stride * scale;
        for c in 1..channels {
            for tap in 0..count {
                off.push(off[tap] + c * plane);
            }
        }
    }
}
