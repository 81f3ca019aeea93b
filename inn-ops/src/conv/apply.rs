//! The forward operation and the input gradient.

use super::copy::{BESIDE, Source};
use super::geometry::Geometry;
use super::index::{Index, Lists, Sources, Taps, index_bytes, listed, with_index};
use super::kernels::{Dispatch, Kernels};
use super::micro::Panel;
use super::packing::Packed;
use super::plan::{Axis, Piece, Plan, SLACK, Sweep, parts, split};
use super::scratch::{Scratch, Shared, with_buffer, with_two};
use super::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use std::ops::Range;

/// Bytes of all weights beyond which units pack those of a block at a time, for themselves: packing costs little beside the products of a box,
/// and a second copy of so many weights would pass through memory and take as much of it.
const PRIVATE: usize = 1 << 20;
/// Bytes of the packed weights of a block and a part of the channels, which all positions of a box go through.
const BLOCK: usize = 64 << 10;
/// Multiply-adds up to which a call stays on its thread, and of a unit of work: three microseconds or so. Threads that linger start within one.
pub(super) const SMALL: usize = 3 << 17;
/// Positions of a box at least, so that starting it, its halo and the ends of
/// its run cost little.
const LEAST: usize = 384;

/// Boxes from which on it does not matter that one thread has one more than others.
const FEW: usize = 8;
/// Rows of a block at least, where there could be fewer blocks.
const LEAST_ROWS: usize = 4;

/// The decomposition of a call.
pub(super) struct Apply<'a> {
    pub(super) g: &'a Geometry,
    pub(super) adjoint: bool,
    plan: Plan,
    /// Channels of the target and of the source.
    pub(super) rows: usize,
    pub(super) channels: usize,
    /// Channels of the source whose planes are held at a time.
    chunk: usize,
    /// Elements of the packed weights of a unit, or 0 if all units share them.
    private: usize,
    /// Blocks of rows that the kernels process at a time, and the number of
    /// units that share them.
    pub(super) blocks: usize,
    row_parts: usize,
    /// Phases of the target.
    pub(super) phases: [usize; 3],
    /// Whether not worth more than one thread.
    pub(super) small: bool,
}

impl<'a> Apply<'a> {
    fn new<T: Dispatch>(g: &'a Geometry, adjoint: bool, kernels: &Kernels<T>, threads: usize) -> Self {
        let (max_rows, bytes) = (kernels.panel.len(), size_of::<T>());
        let (rows, channels) = if adjoint { (g.in_channels, g.out_channels) } else { (g.out_channels, g.in_channels) };
        let work = rows * channels * g.taps();
        let budget = kernels.planes_bytes / bytes;
        let plan = Plan::new(g, adjoint, budget, LEAST, Sweep { rows: max_rows, end: None });
        let taps = g.most_taps(adjoint);
        let held = (budget / plan.channel_len).min(BLOCK / bytes / max_rows / taps);
        let chunk = channels.div_ceil(channels.div_ceil(held.max(1)).max(1));
        let blocks = rows.div_ceil(max_rows);
        // Two threads share a few boxes evenly, or else the blocks of each.
        let uneven = plan.boxes() < FEW && plan.boxes() % 2 == 1 && blocks % 2 == 1;
        let blocks = if uneven && rows >= (blocks + 1) * LEAST_ROWS { blocks + 1 } else { blocks };
        let positions: usize = plan.axes.iter().map(|axis| axis.count).product::<usize>() * g.batch;
        let total = work.saturating_mul(positions);
        let row_parts = parts(plan.boxes(), threads, (total / SMALL).clamp(1, blocks));
        Apply {
            g,
            adjoint,
            plan,
            rows,
            channels,
            chunk,
            private: if work > PRIVATE / bytes { max_rows * chunk * g.taps() } else { 0 },
            blocks,
            row_parts,
            phases: if adjoint { g.stride } else { [1; 3] },
            small: total <= SMALL && (rows + channels).saturating_mul(positions) <= SMALL / 16,
        }
    }

    /// Elements of the packed weights that all units share.
    fn shared(&self) -> usize {
        if self.private == 0 { self.rows * self.channels * self.g.taps() } else { 0 }
    }

    fn plane_elements(&self) -> usize {
        self.chunk * self.plan.channel_len + SLACK
    }

    /// Visits the phases of the target that the box or any box can have, with
    /// their number, their taps and the number of taps of those before.
    pub(super) fn each_phase(&self, mut visit: impl FnMut(usize, Taps<'_>, usize)) {
        let (mut number, mut before) = (0, 0);
        for r0 in 0..self.phases[0] {
            for r1 in 0..self.phases[1] {
                for r2 in 0..self.phases[2] {
                    let taps = Taps { g: self.g, adjoint: self.adjoint, phase: [r0, r1, r2] };
                    let count = taps.count();
                    visit(number, taps, before);
                    (number, before) = (number + 1, before + count);
                }
            }
        }
    }

    /// Computes one unit: a box, for some of the blocks of rows.
    fn unit<T: Dispatch>(&self, unit: usize, kernels: &Kernels<T>, io: &Io<'_, T>) {
        let piece = self.plan.piece(unit / self.row_parts);
        let blocks = split(self.blocks, self.row_parts, unit % self.row_parts);
        with_two(self.plane_elements() + self.joined_elements(kernels), self.private, |planes: &mut [T], own| {
            with_index(|index| {
                let (planes, joined) = planes.split_at_mut(self.plane_elements());
                let own = Shared::new(own);
                let mut c0 = 0;
                loop {
                    let channels = c0..(c0 + self.chunk).min(self.channels);
                    fill(&self.plan, &piece, kernels, io.source, channels.clone(), planes, index);
                    let listed = self.listed();
                    self.each_phase(|number, taps, _| {
                        if number < listed {
                            self.list(&piece, &taps, channels.len(), kernels.lanes, io, index, number);
                        }
                    });
                    let clears = self.clears_boxes() && c0 == 0 && !io.accumulate;
                    // Blocks whose weights are there at the same time, one if what it clears is to stay in the cache.
                    let step = if self.private == 0 && !(clears && self.joined() == 1) { self.blocks } else { 1 };
                    for first in blocks.clone().step_by(step) {
                        let group = first..(first + step).min(blocks.end);
                        let (packed, weights) = if self.private == 0 {
                            (Packed { rows: 0..self.rows, channels: 0..self.channels }, io.packed)
                        } else {
                            let packed = Packed { rows: split(self.rows, self.blocks, first), channels: channels.clone() };
                            self.pack_block(kernels, io.w, &packed, first, own, index);
                            (packed, own)
                        };
                        if clears {
                            self.clear_gaps(&piece, group.clone(), io);
                        }
                        self.each_phase(|number, taps, before| {
                            let place = if listed == 0 { 0 } else { number };
                            if listed == 0 {
                                self.list(&piece, &taps, channels.len(), kernels.lanes, io, index, place);
                            }
                            let lists = &index.phases[place];
                            let (channels, blocks) = (channels.clone(), group.clone());
                            match self.joined() {
                                1 => {
                                    self.phase(&piece, taps.count(), before, channels, blocks, kernels, io, &packed, weights, planes, lists)
                                }
                                count if taps.phase[2] == 0 && self.reached(taps.phase) => {
                                    let phases = &index.phases[number..number + count];
                                    self.together(
                                        &piece, taps, before, channels, blocks, kernels, io, &packed, weights, planes, joined, phases,
                                    );
                                }
                                _ => {}
                            }
                        });
                    }
                    c0 = channels.end;
                    if c0 == self.channels {
                        break;
                    }
                }
            });
        });
    }

    /// The axes of the plan.
    pub(super) fn axes(&self) -> &[Axis; 3] {
        &self.plan.axes
    }

    /// Phases of the target whose lists are kept for all blocks of rows.
    pub(super) fn listed(&self) -> usize {
        listed(self.phases.iter().product())
    }

    /// Lists what a phase of the target reads and writes in a box.
    fn list<T>(&self, piece: &Piece, taps: &Taps<'_>, channels: usize, lanes: usize, io: &Io<'_, T>, index: &mut Index, number: usize) {
        let lists = index.phase(number);
        if self.joined() == 1 {
            lists.targets(&self.plan.axes, piece, taps.phase, io.target_sample, lanes);
        } else if taps.phase[2] == 0 {
            lists.joined(&self.plan.axes, piece, taps.phase, io.target_sample, lanes);
        }
        taps.offsets(&self.plan.axes, &piece.layout, channels, 1, &mut lists.off);
    }

    /// Computes one phase of the target, of `count` taps, in a box, from some channels.
    fn phase<T: Dispatch>(
        &self,
        piece: &Piece,
        count: usize,
        before: usize,
        channels: Range<usize>,
        blocks: Range<usize>,
        kernels: &Kernels<T>,
        io: &Io<'_, T>,
        packed: &Packed,
        weights: Shared<T>,
        planes: &[T],
        lists: &Lists,
    ) {
        let accumulate = io.accumulate || channels.start > 0;
        if lists.ops.is_empty() || count == 0 || accumulate && channels.is_empty() {
            return;
        }
        let (plan, layout) = (&self.plan, &piece.layout);
        for block in blocks {
            let rows = split(self.rows, self.blocks, block);
            let a = packed.at(before, count, rows.start) + (channels.start - packed.channels.start) * rows.len() * count;
            let panel = Panel {
                a: weights.get().wrapping_add(a),
                b: planes.as_ptr(),
                off: &lists.off,
                vectors: layout.positions.div_ceil(kernels.lanes),
                ops: &lists.ops,
                first: &lists.first,
                step: plan.axes[2].target_step,
                to: io.target.get().wrapping_add(piece.sample * io.target_sample + rows.start * io.target_channel),
                row: io.target_channel,
                accumulate,
            };
            // SAFETY: `Kernels` of an available level; the packed weights have
            // those of this block and these channels; the planes have room
            // for all taps of all positions and `SLACK`; targets are inside
            // of the target array, which the callers checked, and boxes and
            // blocks are disjoint.
            unsafe { kernels.panel[rows.len() - 1](&panel) };
        }
    }
}

/// The arrays of a call.
pub(super) struct Io<'a, T> {
    pub(super) source: Planes<'a, T>,
    pub(super) w: Planes<'a, T>,
    /// All weights, unless units pack their own.
    pub(super) packed: Shared<T>,
    pub(super) target: Shared<T>,
    pub(super) target_sample: usize,
    pub(super) target_channel: usize,
    pub(super) accumulate: bool,
}

/// Copies the source of a box into planes, `[channel][phase]`.
pub(super) fn fill<T: Dispatch>(
    plan: &Plan,
    piece: &Piece,
    kernels: &Kernels<T>,
    source: Planes<'_, T>,
    channels: Range<usize>,
    planes: &mut [T],
    index: &mut Index,
) {
    if channels.is_empty() {
        return;
    }
    let layout = &piece.layout;
    assert!(planes.len() >= channels.len() * layout.phases * layout.stride + SLACK);
    let planes = Shared::new(planes);
    let (joined, along) = (plan.joined(), plan.axes[2].source_phases);
    // Phases that are copied with a phase of the last axis, if it is the first of them.
    let together = |phase: usize| if phase.is_multiple_of(joined) { joined.min(along - phase) } else { 0 };
    let copy = |number: usize, list: &Sources, some: Range<usize>| {
        let at = piece.sample * source.batch_stride + (channels.start + some.start) * source.channel_stride;
        let copy = Source {
            from: source.data[at..].as_ptr(),
            channels: some.len(),
            channel: source.channel_stride,
            step: plan.axes[2].source_step,
            phases: together(number % along),
            ops: &list.ops,
            first: &list.first,
            to: planes.get().wrapping_add((some.start * layout.phases + number) * layout.stride),
            to_phase: layout.stride,
            to_channel: layout.phases * layout.stride,
        };
        // SAFETY: `Kernels` of an available level; the source has the pixels
        // that `index` lists, as the callers checked its shape; the planes are
        // large enough as asserted above.
        unsafe { (kernels.planes)(&copy) };
    };
    let kept = plan.listed();
    plan.each_source_phase(|number, phase| {
        let (place, together) = (if kept == 0 { 0 } else { number }, together(phase[2]));
        if together > 0 {
            index.sources(place, &plan.axes, piece, (phase, together), source.batch_stride, kernels.lanes);
            if kept == 0 {
                copy(number, &index.sources[place], 0..channels.len());
            }
        }
    });
    // The phases of a channel lie in the same cache lines, so they are copied one after the other.
    let beside = if kept > joined { BESIDE } else { channels.len() };
    for c in (0..channels.len()).step_by(beside) {
        for number in (0..kept).filter(|number| together(number % along) > 0) {
            copy(number, &index.sources[number], c..(c + beside).min(channels.len()));
        }
    }
}

/// The forward operation (`target[b, o] = sum w[o, i] * source[b, i]`) or, if
/// `adjoint`, the input gradient (`target[b, i] = sum w[o, i] * source[b, o]`).
/// The arrays have been checked, the batch and the target channels are not
/// empty, and the level is available.
pub(super) fn apply<T: Dispatch>(
    level: Level,
    g: &Geometry,
    adjoint: bool,
    source: Planes<'_, T>,
    w: Planes<'_, T>,
    target: PlanesMut<'_, T>,
    accumulate: bool,
) {
    let kernels = T::kernels(level);
    let apply = Apply::new(g, adjoint, kernels, rayon::current_num_threads());
    let clear = apply.gaps() && apply.joined() == 1 && !apply.clears_boxes() && !accumulate;
    let target = if clear { target.clear(g.batch, apply.rows, g.input_pixels()) } else { target };
    with_buffer(apply.shared(), |packed: &mut [T]| {
        if apply.private == 0 {
            apply.pack(kernels, w, packed);
        }
        let io = Io {
            source,
            w,
            packed: Shared::new(packed),
            target: Shared::new(target.data),
            target_sample: target.batch_stride,
            target_channel: target.channel_stride,
            accumulate,
        };
        let units = apply.plan.boxes() * apply.row_parts;
        pool::each(units, apply.small, |unit| apply.unit(unit, kernels, &io));
    });
}

/// Cycles that [`apply`] takes about.
pub(super) fn cycles<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>) -> f64 {
    let (rows, channels) = if adjoint { (g.in_channels, g.out_channels) } else { (g.out_channels, g.in_channels) };
    let (budget, sweep) = (kernels.planes_bytes / size_of::<T>(), Sweep { rows: kernels.panel.len(), end: None });
    Plan::new(g, adjoint, budget, LEAST, sweep).cost([rows, channels, g.taps()], budget, &sweep)
}

/// Upper bounds on the scratch memory of [`apply`].
pub(super) fn scratch<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>, threads: usize) -> Scratch {
    let apply = Apply::new(g, adjoint, kernels, threads);
    let bytes = size_of::<T>();
    let shared = apply.shared() * bytes + 64;
    let planes = (apply.plane_elements() + apply.joined_elements(kernels) + apply.private) * bytes + 128;
    let index = index_bytes(
        apply.plan.lines,
        apply.plan.plane_len,
        kernels.lanes,
        apply.chunk * g.taps(),
        apply.listed().max(1) + apply.plan.listed(),
    );
    let turned = if apply.phases == [1; 3] { 0 } else { 4 * g.taps() * size_of::<usize>() };
    Scratch { shared, each: planes + index + turned, alone: apply.small }
}
