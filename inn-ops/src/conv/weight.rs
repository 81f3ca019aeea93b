//! The weight gradient.

use super::apply::{SMALL, fill};
use super::geometry::Geometry;
use super::index::{Taps, index_bytes, with_index};
use super::kernels::{Dispatch, Kernels};
use super::micro::Grad;
use super::plan::{Axis, Plan, SLACK, split};
use super::scratch::{Shared, with_buffer};
use super::{Planes, PlanesMut};
use crate::simd::Level;
use rayon::prelude::*;

/// Bytes that the planes of the inputs, and those of the output gradients, of
/// a box may take each.
const BUDGET: usize = 640 << 10;
/// Positions of a box at least, which the sums over all lanes, at the end of
/// every box, cost little compared to.
const LEAST: usize = 1024;
/// Units of work of a call, if it has enough of it.
const UNITS: usize = 16;
/// Elements of all partial sums, beyond a single one.
const PARTIALS: usize = 1 << 19;

/// The decomposition of a call. The boxes are dealt out to `slots`, each of
/// which sums up its boxes in order; the sums are then added in order. The
/// output channels are divided into `row_parts`, which share no work.
struct Weight<'a> {
    g: &'a Geometry,
    plan: Plan,
    /// Plan of the output gradients, which lie on the same positions.
    gy_axes: [Axis; 3],
    /// Input channels whose planes are held at a time.
    chunk: usize,
    blocks: usize,
    row_parts: usize,
    slots: usize,
    small: bool,
}

impl<'a> Weight<'a> {
    fn new(g: &'a Geometry, max_rows: usize, bytes: usize) -> Self {
        let weights = g.in_channels * g.taps();
        let work = weights * g.out_channels;
        let budget = BUDGET / bytes;
        let plan = Plan::new(g, false, g.in_channels, work, budget, LEAST);
        let chunks = g.in_channels.div_ceil((budget / plan.channel_len).max(1)).max(1);
        let blocks = g.out_channels.div_ceil(max_rows);
        let total = work.saturating_mul(g.batch * g.output_pixels());
        let small = total <= SMALL;
        let units = (total / SMALL).clamp(1, UNITS);
        let slots = plan.boxes().min(units).min(PARTIALS / work.max(1)).max(1);
        // A part's output gradients must fit in their share of the memory.
        let fit = (g.out_channels * plan.channel_len / plan.source_phases()).div_ceil(budget);
        let row_parts = units.div_ceil(slots).max(fit).clamp(1, blocks);
        // The output gradients of a box lie where its positions are, without
        // halo: beyond the positions of a line everything is zero.
        let gy_axes = plan.axes.map(|axis| Axis { source: axis.count, source_step: 1, source_shift: 0, source_phases: 1, halo: 0, ..axis });
        let chunk = g.in_channels.div_ceil(chunks);
        Weight { g, plan, gy_axes, chunk, blocks, row_parts, slots, small }
    }

    /// Largest number of output channels of a part.
    fn part_rows(&self) -> usize {
        let most = self.blocks.div_ceil(self.row_parts) * self.g.out_channels.div_ceil(self.blocks);
        most.min(self.g.out_channels)
    }

    fn x_elements(&self) -> usize {
        self.chunk * self.plan.channel_len + SLACK
    }

    fn gy_elements(&self) -> usize {
        self.part_rows() * (self.plan.channel_len / self.plan.source_phases()) + SLACK
    }

    /// Sums up one slot for some of the rows, into `sums[row][channel][tap]`.
    fn unit<T: Dispatch>(&self, unit: usize, kernels: &Kernels<T>, x: Planes<'_, T>, gy: Planes<'_, T>, partials: Shared<T>) {
        let g = self.g;
        let (slot, part) = (unit / self.row_parts, unit % self.row_parts);
        let blocks = split(self.blocks, self.row_parts, part);
        let rows = split(g.out_channels, self.blocks, blocks.start).start..split(g.out_channels, self.blocks, blocks.end - 1).end;
        let taps = Taps { g, adjoint: false, phase: [0; 3] };
        let columns = g.in_channels * g.taps();
        let sums = partials.get().wrapping_add(slot * g.out_channels * columns);
        // SAFETY: `partials` has room for all rows of all slots, and this unit
        // alone has these rows of this slot.
        unsafe {
            std::slice::from_raw_parts_mut(sums.add(rows.start * columns), rows.len() * columns).fill(T::ZERO);
        }
        with_buffer(self.x_elements(), |x_planes: &mut [T]| {
            with_buffer(self.gy_elements(), |gy_planes: &mut [T]| {
                with_index(|index| {
                    for number in split(self.plan.boxes(), self.slots, slot) {
                        let piece = self.plan.piece(number);
                        let layout = &piece.layout;
                        index.targets(&self.plan.axes, &piece, [0; 3], 0, kernels.lanes);
                        index.runs();
                        let mut gy_piece = piece;
                        gy_piece.layout.phases = 1;
                        let gy_plan = Plan { axes: self.gy_axes, ..self.plan };
                        fill(&gy_plan, &gy_piece, kernels, gy, rows.clone(), gy_planes);
                        for c0 in (0..g.in_channels).step_by(self.chunk) {
                            let channels = c0..(c0 + self.chunk).min(g.in_channels);
                            fill(&self.plan, &piece, kernels, x, channels.clone(), x_planes);
                            index.offsets(taps, &self.plan.axes, layout, channels.len());
                            for block in blocks.clone() {
                                let block = split(g.out_channels, self.blocks, block);
                                let grad = Grad {
                                    gy: gy_planes[(block.start - rows.start) * layout.stride..].as_ptr(),
                                    gy_row: layout.stride,
                                    x: x_planes.as_ptr(),
                                    off: &index.off,
                                    runs: &index.runs,
                                    to: sums.wrapping_add(block.start * columns + c0 * g.taps()),
                                    row: columns,
                                };
                                // SAFETY: `Kernels` of an available level; the
                                // planes have room for all taps of all
                                // positions and `SLACK`; the sums are this
                                // unit's alone, as above.
                                unsafe { kernels.grad[block.len() - 1](&grad) };
                            }
                        }
                    }
                });
            });
        });
    }

    /// Adds up the slots of one row, in order, and writes it.
    fn finish<T: Dispatch>(&self, o: usize, partials: Shared<T>, gw: Shared<T>, strides: [usize; 2], accumulate: bool) {
        let columns = self.g.in_channels * self.g.taps();
        let row = |slot: usize| partials.get().wrapping_add((slot * self.g.out_channels + o) * columns);
        // SAFETY: the rows of output channel `o` are inside of `partials`,
        // and of `gw`, as the callers checked, and this call alone has them.
        unsafe {
            let sums = std::slice::from_raw_parts_mut(row(0), columns);
            for slot in 1..self.slots {
                let others = std::slice::from_raw_parts(row(slot), columns);
                for (sum, &other) in sums.iter_mut().zip(others) {
                    *sum += other;
                }
            }
            for (i, taps) in sums.chunks_exact(self.g.taps()).enumerate() {
                let to = gw.get().add(o * strides[0] + i * strides[1]);
                let to = std::slice::from_raw_parts_mut(to, taps.len());
                if accumulate {
                    for (to, &tap) in to.iter_mut().zip(taps) {
                        *to += tap;
                    }
                } else {
                    to.copy_from_slice(taps);
                }
            }
        }
    }
}

/// The weight gradient. The arrays have been checked, neither the batch nor
/// the weights are empty, and the level is available.
pub(super) fn weight_gradient<T: Dispatch>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: PlanesMut<'_, T>,
    accumulate: bool,
) {
    let kernels = T::kernels(level);
    let weight = Weight::new(g, kernels.grad.len(), size_of::<T>());
    let weights = g.out_channels * g.in_channels * g.taps();
    with_buffer(weight.slots * weights, |partials: &mut [T]| {
        let units = weight.slots * weight.row_parts;
        let shared = Shared::new(partials);
        if weight.small || units == 1 {
            (0..units).for_each(|unit| weight.unit(unit, kernels, x, gy, shared));
        } else {
            (0..units).into_par_iter().for_each(|unit| weight.unit(unit, kernels, x, gy, shared));
        }
        let strides = [gw.batch_stride, gw.channel_stride];
        let gw = Shared::new(gw.data);
        if weight.slots * weights > 1 << 16 {
            (0..g.out_channels).into_par_iter().for_each(|o| weight.finish(o, shared, gw, strides, accumulate));
        } else {
            (0..g.out_channels).for_each(|o| weight.finish(o, shared, gw, strides, accumulate));
        }
    });
}

/// Upper bound on the scratch memory of [`weight_gradient`].
pub(super) fn scratch_bytes(g: &Geometry, max_rows: usize, bytes: usize, threads: usize) -> usize {
    let weight = Weight::new(g, max_rows, bytes);
    let shared = weight.slots * g.out_channels * g.in_channels * g.taps() * bytes + 64;
    let planes = (weight.x_elements() + weight.gy_elements()) * bytes + 128;
    shared + threads * (planes + index_bytes(weight.plan.positions, weight.chunk * g.taps()))
}
