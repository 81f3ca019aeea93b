//! The forward operation and the input gradient.

use super::copy::Source;
use super::geometry::Geometry;
use super::index::{Index, Taps, index_bytes, with_index};
use super::kernels::{Dispatch, Kernels};
use super::micro::Panel;
use super::outer::Turn;
use super::plan::{Piece, Plan, SLACK, parts, split};
use super::scratch::{Scratch, Shared, with_buffer};
use super::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;

/// Bytes that the planes of a box may take: half of a typical second-level
/// cache, which holds weights and results too.
const BUDGET: usize = 1 << 20;
/// Multiply-adds up to which a call stays on its thread: about 20 us.
pub(super) const SMALL: usize = 1 << 21;
/// Positions of a box at least, so that starting it, its halo and the ends of
/// its run cost little.
const LEAST: usize = 384;

/// The decomposition of a call.
struct Apply<'a> {
    g: &'a Geometry,
    adjoint: bool,
    plan: Plan,
    /// Channels of the target and of the source.
    rows: usize,
    channels: usize,
    /// Channels of the source whose planes are held at a time.
    chunk: usize,
    /// Blocks of rows that the kernels process at a time, and the number of
    /// units that share them.
    blocks: usize,
    row_parts: usize,
    /// Phases of the target.
    phases: [usize; 3],
    /// Whether not worth more than one thread.
    small: bool,
}

impl<'a> Apply<'a> {
    fn new(g: &'a Geometry, adjoint: bool, max_rows: usize, bytes: usize, threads: usize) -> Self {
        let (rows, channels) = if adjoint { (g.in_channels, g.out_channels) } else { (g.out_channels, g.in_channels) };
        let work = rows * channels * g.taps();
        let budget = BUDGET / bytes;
        let plan = Plan::new(g, adjoint, budget, LEAST);
        let chunks = channels.div_ceil((budget / plan.channel_len).max(1)).max(1);
        let blocks = rows.div_ceil(max_rows);
        let positions: usize = plan.axes.iter().map(|axis| axis.count).product::<usize>() * g.batch;
        let total = work.saturating_mul(positions);
        let row_parts = parts(plan.boxes(), threads, (total / SMALL).clamp(1, blocks));
        Apply {
            g,
            adjoint,
            plan,
            rows,
            channels,
            chunk: channels.div_ceil(chunks),
            blocks,
            row_parts,
            phases: if adjoint { g.stride } else { [1; 3] },
            small: total <= SMALL && (rows + channels).saturating_mul(positions) <= SMALL / 16,
        }
    }

    fn plane_elements(&self) -> usize {
        self.chunk * self.plan.channel_len + SLACK
    }

    /// Visits the phases of the target that the box or any box can have, with
    /// their taps and the place of their weights.
    fn each_phase(&self, mut visit: impl FnMut(Taps<'_>, usize)) {
        let mut base = 0;
        for r0 in 0..self.phases[0] {
            for r1 in 0..self.phases[1] {
                for r2 in 0..self.phases[2] {
                    let taps = Taps { g: self.g, adjoint: self.adjoint, phase: [r0, r1, r2] };
                    visit(taps, base);
                    base += self.rows * self.channels * taps.count();
                }
            }
        }
    }

    /// Arranges the weights as the kernels take them:
    /// `[phase][block of rows][channel][tap][row of the block]`.
    fn pack<T: Dispatch>(&self, kernels: &Kernels<T>, w: Planes<'_, T>, packed: &mut [T]) {
        let (row, channel) = if self.adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
        let (len, all) = (packed.len(), self.g.taps());
        if self.channels == 0 {
            return;
        }
        let target = Shared::new(packed);
        let turn = |from: usize, rows: usize, columns: usize, to: *mut T| {
            assert!(w.data.len() >= from + (rows - 1) * row + columns);
            let from = w.data[from..].as_ptr();
            let turn = Turn { from, from_row: row, rows, columns, to, to_row: rows, pad: false, accumulate: false, slopes: None };
            // SAFETY: `Kernels` of an available level; the weights as asserted, and the callers have room for as many.
            unsafe { (kernels.turn)(&turn) };
        };
        let block = |block: usize| {
            let rows = split(self.rows, self.blocks, block);
            let start = rows.start * self.channels;
            let (rows, from) = (rows.len(), rows.start * row);
            if self.phases == [1; 3] {
                // All taps in their order, which are adjacent, and channels may be too.
                let (calls, columns) = if channel == all { (1, self.channels * all) } else { (self.channels, all) };
                for c in 0..calls {
                    turn(from + c * channel, rows, columns, target.get().wrapping_add((start + c * rows) * all));
                }
                return;
            }
            with_buffer(all * rows, |turned: &mut [T]| {
                with_index(|index| {
                    // Where each tap of channel 0 goes, and its distance to that of channel 1.
                    index.off.resize(all, 0);
                    index.other.resize(all, 0);
                    self.each_phase(|taps, base| {
                        let (count, mut at) = (taps.count(), 0);
                        taps.each(|number, _, _| {
                            index.off[number] = base + start * count + at;
                            index.other[number] = count * rows;
                            at += rows;
                        });
                    });
                    for c in 0..self.channels {
                        turn(from + c * channel, rows, all, turned.as_mut_ptr());
                        for (turned, (off, apart)) in turned.chunks_exact(rows).zip(index.off.iter().zip(&index.other)) {
                            // SAFETY: within `packed`, which has an element for every weight; no two blocks share one.
                            unsafe { std::slice::from_raw_parts_mut(target.get().add(off + c * apart), rows) }.copy_from_slice(turned);
                        }
                    }
                });
            });
        };
        let alone = self.small || len < 1 << 15;
        pool::each(self.blocks, alone, block);
    }

    /// Computes one unit: a box, for some of the blocks of rows.
    fn unit<T: Dispatch>(&self, unit: usize, kernels: &Kernels<T>, io: &Io<'_, T>) {
        let piece = self.plan.piece(unit / self.row_parts);
        let blocks = split(self.blocks, self.row_parts, unit % self.row_parts);
        with_buffer(self.plane_elements(), |planes: &mut [T]| {
            with_index(|index| {
                let mut c0 = 0;
                loop {
                    let channels = c0..(c0 + self.chunk).min(self.channels);
                    fill(&self.plan, &piece, kernels, io.source, channels.clone(), planes, index);
                    self.each_phase(|taps, base| {
                        self.phase(&piece, taps, base, channels.clone(), blocks.clone(), kernels, io, planes, index);
                    });
                    c0 = channels.end;
                    if c0 == self.channels {
                        break;
                    }
                }
            });
        });
    }

    /// Computes one phase of the target, in a box, from some channels.
    fn phase<T: Dispatch>(
        &self,
        piece: &Piece,
        taps: Taps<'_>,
        base: usize,
        channels: std::ops::Range<usize>,
        blocks: std::ops::Range<usize>,
        kernels: &Kernels<T>,
        io: &Io<'_, T>,
        planes: &[T],
        index: &mut Index,
    ) {
        let accumulate = io.accumulate || channels.start > 0;
        let count = taps.count();
        if count == 0 || accumulate && channels.is_empty() {
            return;
        }
        let plan = &self.plan;
        index.targets(&plan.axes, piece, taps.phase, io.target_sample, kernels.lanes);
        if index.ops.is_empty() {
            return;
        }
        let layout = &piece.layout;
        taps.offsets(&plan.axes, layout, channels.len(), 1, &mut index.off);
        for block in blocks {
            let rows = split(self.rows, self.blocks, block);
            let a = base + (rows.start * self.channels + channels.start * rows.len()) * count;
            let panel = Panel {
                a: io.packed[a..].as_ptr(),
                b: planes.as_ptr(),
                off: &index.off,
                vectors: layout.positions.div_ceil(kernels.lanes),
                ops: &index.ops,
                first: &index.first,
                step: plan.axes[2].target_step,
                to: io.target.get().wrapping_add(piece.sample * io.target_sample + rows.start * io.target_channel),
                row: io.target_channel,
                accumulate,
            };
            // SAFETY: `Kernels` of an available level; the planes have room
            // for all taps of all positions and `SLACK`; targets are inside
            // of the target array, which the callers checked, and boxes and
            // blocks are disjoint.
            unsafe { kernels.panel[rows.len() - 1](&panel) };
        }
    }
}

/// The arrays of a call.
struct Io<'a, T> {
    source: Planes<'a, T>,
    packed: &'a [T],
    target: Shared<T>,
    target_sample: usize,
    target_channel: usize,
    accumulate: bool,
}

/// Copies the source of a box into planes, `[channel][phase]`.
pub(super) fn fill<T: Dispatch>(
    plan: &Plan,
    piece: &Piece,
    kernels: &Kernels<T>,
    source: Planes<'_, T>,
    channels: std::ops::Range<usize>,
    planes: &mut [T],
    index: &mut Index,
) {
    if channels.is_empty() {
        return;
    }
    let layout = &piece.layout;
    assert!(planes.len() >= channels.len() * layout.phases * layout.stride + SLACK);
    let from = source.data[piece.sample * source.batch_stride + channels.start * source.channel_stride..].as_ptr();
    plan.each_source_phase(|number, phase| {
        index.sources(&plan.axes, piece, phase, source.batch_stride, kernels.lanes);
        let copy = Source {
            from,
            channels: channels.len(),
            channel: source.channel_stride,
            step: plan.axes[2].source_step,
            ops: &index.sources,
            first: &index.source_first,
            to: planes[number * layout.stride..].as_mut_ptr(),
            to_channel: layout.phases * layout.stride,
        };
        // SAFETY: `Kernels` of an available level; the source has the pixels
        // that `index` lists, as the callers checked its shape; the planes are
        // large enough as asserted above.
        unsafe { (kernels.planes)(&copy) };
    });
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
    let apply = Apply::new(g, adjoint, kernels.panel.len(), size_of::<T>(), rayon::current_num_threads());
    // Pixels between the taps of a stride beyond the kernel get nothing.
    let gaps = adjoint && (0..3).any(|axis| g.stride[axis] > g.kernel[axis]);
    let target = if gaps && !accumulate { target.clear(g.batch, apply.rows, g.input_pixels()) } else { target };
    with_buffer(apply.rows * apply.channels * g.taps(), |packed: &mut [T]| {
        apply.pack(kernels, w, packed);
        let io = Io {
            source,
            packed,
            target: Shared::new(target.data),
            target_sample: target.batch_stride,
            target_channel: target.channel_stride,
            accumulate,
        };
        let units = apply.plan.boxes() * apply.row_parts;
        pool::each(units, apply.small, |unit| apply.unit(unit, kernels, &io));
    });
}

/// Upper bounds on the scratch memory of [`apply`].
pub(super) fn scratch(g: &Geometry, adjoint: bool, (max_rows, lanes): (usize, usize), bytes: usize, threads: usize) -> Scratch {
    let apply = Apply::new(g, adjoint, max_rows, bytes, threads);
    let shared = apply.rows * apply.channels * g.taps() * bytes + 64;
    let planes = apply.plane_elements() * bytes + 64;
    let index = index_bytes(apply.plan.lines, apply.plan.plane_len, lanes, apply.chunk * g.taps());
    let turned = if apply.phases == [1; 3] { 0 } else { g.taps() * (max_rows * bytes + 4 * size_of::<usize>()) + 64 };
    Scratch { shared, each: planes + index + turned, alone: apply.small }
}
