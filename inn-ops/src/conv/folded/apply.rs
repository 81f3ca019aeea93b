//! Forward and input gradient.

use super::{Plan, Reach, Strip};
use crate::conv::geometry::{Geometry, Op};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::micro::Finish;
use crate::conv::plan::{parts, split};
use crate::conv::scratch::{Shared, with_buffer, with_two};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::fold;
use crate::stack::matrix::{Kernel, PACK_LISTS, Packed, Source, pack};
use crate::stack::product::{Start, Tables};
use crate::zip::Vectors;

/// Outputs of a part at least.
pub(super) const LEAST_OUTPUTS: usize = 32;

/// Strips that keep any number of threads busy.
const MANY: usize = 1 << 20;

/// Parts of the outputs, which fold the input once each.
fn output_parts(plan: &Plan, threads: usize) -> usize {
    parts(plan.all().min(MANY), threads, plan.outputs / LEAST_OUTPUTS)
}

/// Bytes of the lists that packing takes.
pub(super) fn lists<T: Dispatch>(plan: &Plan, kernels: &Kernels<T>, threads: usize) -> usize {
    let parts = output_parts(plan, threads);
    let blocks = plan.outputs.div_ceil(parts).div_ceil(kernels.product.len());
    let lists = parts * plan.inputs.div_ceil(plan.chunk) * (blocks + plan.folding.parts());
    lists * PACK_LISTS + 2 * Kernel::together(plan.rows()) * plan.kernel.iter().product::<usize>() * size_of::<usize>()
}

/// Elements that a call shares, and those of each thread.
pub(super) fn elements(plan: &Plan, threads: usize) -> (usize, usize) {
    let rows = plan.outputs.div_ceil(output_parts(plan, threads));
    let strip = plan.folded_len() + plan.folding.parts() * rows * plan.piece;
    let thirds = 3 * plan.rows() * Kernel::together(plan.rows()) * plan.lanes;
    // The one is taken before the other, but may come from elsewhere.
    (plan.weights() + 64, strip + thirds + 64)
}

/// The convolution of `x` into `y`, or the input gradient of `x`, an output's, into `y`, an input's. Answers whether it is worth it; otherwise
/// nothing is done. The arrays have been checked, none is empty, and the level is available.
pub(in crate::conv) fn apply<T: Dispatch + Vectors>(
    level: Level,
    g: &Geometry,
    adjoint: bool,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let op = if adjoint { Op::InputGradient } else { Op::Forward };
    let plan = Plan::new(g, op, T::kernels(level));
    plan.map(|plan| by_plan(level, &plan, adjoint, x, w, y, accumulate)).is_some()
}

/// [`apply`] by a plan.
pub(super) fn by_plan<T: Dispatch + Vectors>(
    level: Level,
    plan: &Plan,
    adjoint: bool,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: &mut PlanesMut<'_, T>,
    accumulate: bool,
) {
    let kernels = T::kernels(level);
    let parts = output_parts(plan, rayon::current_num_threads());
    let (y_batch, y_channel) = (y.batch_stride, y.channel_stride);
    let to = Shared::new(y.data);
    with_buffer(plan.weights(), |packed: &mut [T]| {
        let (row, channel) = if adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
        // The kernels of an input gradient are mirrored.
        let (taps, thirds): (usize, _) = (plan.kernel.iter().product(), plan.rows());
        let place = |i: usize, tap: usize| (i * 3 * thirds + plan.place(if adjoint { taps - 1 - tap } else { tap })) * plan.lanes;
        let places: Vec<usize> = (0..Kernel::together(thirds)).flat_map(|i| (0..taps).map(move |tap| place(i, tap))).collect();
        let kernel = Kernel { folding: plan.folding, taps, thirds, places: Some(&places), apart: false };
        let all = Source::strided(w.data, plan.outputs, plan.inputs, (row, channel)).folded(kernel);
        let packed = pack(kernels, false, &all.parted(parts, plan.chunk), packed);
        let tables = Tables::new(plan.lanes, size_of::<T>());
        let chunks = plan.inputs.div_ceil(plan.chunk) * plan.folding.parts();
        pool::each(plan.all() * parts, false, |unit| {
            // All parts of a strip one after the other, since they read the same.
            let (strip, part) = (unit / parts, unit % parts);
            let rows = split(plan.outputs, parts, part);
            let first = to.get().wrapping_add(rows.start * y_channel);
            let out = Out { to: first, sample: y_batch, channel: y_channel, rows: rows.len(), accumulate };
            one(plan, kernels, &tables, x, &packed[part * chunks..][..chunks], &plan.reached(strip), &out);
        });
    });
}

/// Some channels of the output.
struct Out<T> {
    to: *mut T,
    sample: usize,
    channel: usize,
    rows: usize,
    accumulate: bool,
}

/// A strip.
fn one<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    x: Planes<'_, T>,
    packed: &[Packed<'_, T>],
    strips: &[(Strip, Reach)],
    out: &Out<T>,
) {
    let (e_parts, rows) = (plan.folding.parts(), out.rows);
    let part = rows * plan.piece;
    let vectors = plan.tiles_of(strips).div_ceil(plan.lanes);
    with_two(plan.folded_len(), e_parts * part, |folded: &mut [T], m| {
        for (i, (chunk, ws)) in plan.chunks(0..plan.inputs).zip(packed.chunks_exact(e_parts)).enumerate() {
            // SAFETY: `Kernels` of an available level; the image has the lines, as the callers checked its shape; the buffers have rows of
            // all tiles and a vector.
            unsafe {
                plan.fold(kernels, x, &chunk, strips, folded);
                for (e, w) in ws.iter().enumerate() {
                    let (start, rows) = plan.rows_of(e, strips);
                    let to = (m.as_mut_ptr().add(e * part), plan.piece);
                    let begin = if i == 0 { Start::Zero } else { Start::Output };
                    w.times(kernels, tables, (folded.as_ptr().add(start), rows), vectors, to, begin, Finish::Plain);
                }
            }
        }
        let mut done = 0;
        for (strip, _) in strips {
            let unfold = fold::UnfoldPlanes {
                m: m[done..].as_ptr(),
                part,
                pitch: plan.piece,
                rows,
                lines: strip.lines.len(),
                line: plan.to[2],
                tiles: strip.tiles.len(),
                width: strip.pixels.len(),
                to: out.to.wrapping_add(strip.sample * out.sample + plan.start(strip)),
                channel: out.channel,
                accumulate: out.accumulate,
            };
            // SAFETY: as above; the lines of these channels are this strip's alone.
            unsafe { (kernels.folded(plan.folding).unfold)(&unfold) };
            done += strip.lines.len() * strip.tiles.len();
        }
    });
}
