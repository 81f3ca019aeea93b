//! The weights, folded and in the order in which products take them.

use super::Plan;
use crate::conv::Planes;
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::Turn;
use crate::conv::plan::{split, splits};
use crate::conv::scratch::{Shared, with_buffer};
use crate::pool;
use crate::stack::fold;
use crate::stack::product::Packed;

/// How many channels ahead weights are fetched into the cache.
const CHANNELS_AHEAD: usize = 2;

/// Bytes of the thirds of channels whose weights are turned at one time, if they follow each other.
const THIRDS_BYTES: usize = 12 << 10;

/// Channels whose weights are turned at one time, where they follow each other.
fn joined<T>(plan: &Plan) -> usize {
    (THIRDS_BYTES / (3 * plan.rows() * plan.lanes * size_of::<T>())).clamp(1, plan.chunk)
}

/// Elements of the thirds of the kernels of a block of rows.
pub(super) fn thirds_len<T>(plan: &Plan) -> usize {
    3 * plan.rows() * plan.lanes * joined::<T>(plan)
}

/// The weights `[output][input]` of a convolution, or those of its adjoint, which are mirrored and have inputs and outputs in each other's place: by parts
/// of the outputs, chunks of inputs, and e.
pub(super) fn pack<'a, T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    adjoint: bool,
    parts: usize,
    w: Planes<'_, T>,
    to: &'a mut [T],
) -> Vec<Packed<'a, T>> {
    let (row, channel) = if adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
    let taps: usize = plan.kernel.iter().product();
    let together = if channel == taps { joined::<T>(plan) } else { 1 };
    let place = |i: usize, tap: usize| (i * 3 * plan.rows() + plan.place(if adjoint { taps - 1 - tap } else { tap })) * plan.lanes;
    let places: Vec<usize> = (0..together).flat_map(|i| (0..taps).map(move |tap| place(i, tap))).collect();
    let (e_parts, height) = (plan.folding.parts(), kernels.product.len());
    // Blocks of rows of the longest part; others may have one less.
    let blocks = plan.outputs.div_ceil(parts).div_ceil(height);
    let shared = Shared::new(&mut *to);
    pool::each(parts * blocks, false, |unit| {
        let part = split(plan.outputs, parts, unit / blocks);
        let Some(rows) = splits(part.len(), part.len().div_ceil(height)).nth(unit % blocks) else { return };
        with_buffer(thirds_len::<T>(plan), |thirds: &mut [T]| {
            // Where a kernel has less than three taps, nothing is written.
            thirds.fill(T::ZERO);
            for chunk in plan.chunks(0..plan.inputs) {
                let columns = chunk.len() * plan.rows();
                let first = (part.start * plan.inputs + part.len() * chunk.start) * plan.rows() * e_parts + rows.start * columns;
                for i in (0..chunk.len()).step_by(together) {
                    let (input, some) = (chunk.start + i, together.min(chunk.len() - i));
                    // A block may have more rows than a vector has lanes.
                    for r in (0..rows.len()).step_by(plan.lanes) {
                        let from = (part.start + rows.start + r) * row + input * channel;
                        let count = plan.lanes.min(rows.len() - r);
                        assert!(w.data.len() >= from + (count - 1) * row + some * taps);
                        let plain = Turn::new((w.data[from..].as_ptr(), row), count, some * taps, (thirds.as_mut_ptr(), plan.lanes));
                        let turn = Turn { pad: true, places: Some(&places), ahead: plain.ahead.max(CHANNELS_AHEAD * channel), ..plain };
                        let fold = fold::Weights {
                            from: thirds.as_ptr(),
                            kernels: some * plan.rows(),
                            rows: count,
                            to: shared.get().wrapping_add(first + i * plan.rows() * rows.len() + r),
                            to_row: rows.len(),
                            part: part.len() * columns,
                        };
                        // SAFETY: `Kernels` of an available level; the weights as asserted; there is room for all places, and, in the packed
                        // weights, for each array of each block.
                        unsafe {
                            (kernels.turn)(&turn);
                            (kernels.folded(plan.folding).weights)(&fold);
                        }
                    }
                }
            }
        });
    });
    let mut rest = &*to;
    let mut packed = Vec::with_capacity(parts * plan.inputs.div_ceil(plan.chunk) * e_parts);
    for part in splits(plan.outputs, parts) {
        for chunk in plan.chunks(0..plan.inputs) {
            let columns = chunk.len() * plan.rows();
            for _ in 0..e_parts {
                let (data, after) = rest.split_at(part.len() * columns);
                rest = after;
                packed.push(Packed::new(data, part.len(), columns));
            }
        }
    }
    packed
}
