//! Forward and input gradient.

use super::{Plan, Reach, Strip};
use crate::conv::geometry::{Geometry, Op};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::micro::Finish;
use crate::conv::plan::{parts, split};
use crate::conv::scratch::{Shared, with_two};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::fold::{self, with_scheme};
use crate::stack::product::{PACK_LISTS, Packed, Source, Start, Tables, pack};
use crate::zip::Vectors;

/// Outputs of a part at least.
const LEAST_OUTPUTS: usize = 32;

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
    parts * plan.inputs.div_ceil(plan.chunk) * plan.folding.parts() * (blocks + 1) * PACK_LISTS
}

/// Elements that a call shares, and those of each thread.
pub(super) fn elements(plan: &Plan, threads: usize) -> (usize, usize) {
    let rows = plan.outputs.div_ceil(output_parts(plan, threads));
    let weights = plan.inputs * plan.outputs * plan.rows();
    (3 * weights + 2 * plan.weights() + 64, plan.edge_len() + plan.folding.parts() * rows * plan.piece + 64)
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
    let weights = plan.inputs * plan.outputs * plan.rows();
    let (y_batch, y_channel) = (y.batch_stride, y.channel_stride);
    let to = Shared::new(y.data);
    with_two(3 * weights, 2 * plan.weights(), |plain: &mut [T], both| {
        let (folded, packed) = both.split_at_mut(plan.weights());
        let taps = 3 * plan.rows();
        let plain = if !adjoint && plan.kernel[2] == 3 && w.channel_stride == taps && w.batch_stride == plan.inputs * taps {
            &w.data[..3 * weights]
        } else {
            arrange(plan, adjoint, w, plain);
            plain
        };
        with_scheme!(plan.folding, S => fold::weights::<T, S>(level, false, [(plain, &mut *folded), (&[], &mut [])]));
        let packed = pack_parts(plan, kernels, parts, folded, packed);
        let tables = Tables::new(plan.lanes, size_of::<T>());
        let chunks = plan.inputs.div_ceil(plan.chunk) * plan.folding.parts();
        pool::each(plan.all() * parts, false, |unit| {
            // All parts of a strip one after the other, since they read the same.
            let (strip, part) = (unit / parts, unit % parts);
            let rows = split(plan.outputs, parts, part);
            let strip = plan.strip(strip);
            let from = &x.data[strip.sample * x.batch_stride..];
            let start = strip.sample * y_batch + rows.start * y_channel + plan.start(&strip);
            let out = Out { to: to.get().wrapping_add(start), channel: y_channel, rows: rows.len(), accumulate };
            one(plan, kernels, &tables, (from, x.channel_stride), &packed[part * chunks..][..chunks], &strip, &out);
        });
    });
}

/// The weights `[output][input]` in thirds as the convolution takes them; mirrored, with inputs and outputs in each other's place, for an input
/// gradient.
fn arrange<T: Dispatch>(plan: &Plan, adjoint: bool, w: Planes<'_, T>, to: &mut [T]) {
    let taps: usize = plan.kernel.iter().product();
    let places: Vec<usize> = (0..taps).map(|tap| plan.place(tap)).collect();
    if !plan.kernel[2].is_multiple_of(3) {
        to.fill(T::ZERO);
    }
    for (at, to) in to.chunks_exact_mut(3 * plan.rows()).enumerate() {
        let (output, input) = (at / plan.inputs, at % plan.inputs);
        if adjoint {
            let from = &w.data[input * w.batch_stride + output * w.channel_stride..][..taps];
            places.iter().zip(from.iter().rev()).for_each(|(&place, &v)| to[place] = v);
        } else {
            let from = &w.data[output * w.batch_stride + input * w.channel_stride..][..taps];
            places.iter().zip(from).for_each(|(&place, &v)| to[place] = v);
        }
    }
}

/// The folded weights as products take them: by parts of outputs, chunks of inputs, and e.
fn pack_parts<'a, T: Dispatch>(plan: &Plan, kernels: &Kernels<T>, parts: usize, folded: &[T], to: &'a mut [T]) -> Vec<Packed<'a, T>> {
    let columns = plan.inputs * plan.rows();
    let mut sources = Vec::new();
    for part in 0..parts {
        for chunk in plan.chunks(0..plan.inputs) {
            let taps = chunk.start * plan.rows()..chunk.end * plan.rows();
            sources.extend(folded.chunks_exact(plan.outputs * columns).map(|w| {
                Source::plain(w, plan.outputs, columns).part_of_rows(split(plan.outputs, parts, part)).part_of_columns(taps.clone())
            }));
        }
    }
    pack(kernels, false, &sources, to)
}

/// Lines of the output, of some of its channels.
struct Out<T> {
    to: *mut T,
    channel: usize,
    rows: usize,
    accumulate: bool,
}

/// A strip.
fn one<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    x: (&[T], usize),
    packed: &[Packed<'_, T>],
    strip: &Strip,
    out: &Out<T>,
) {
    let (e_parts, rows, tiles) = (plan.folding.parts(), out.rows, strip.tiles.len());
    let part = rows * plan.piece;
    let vectors = (strip.lines.len() * tiles).div_ceil(plan.lanes);
    let mut reach = Reach::default();
    plan.reach(strip, &mut reach);
    with_two(plan.edge_len(), e_parts * part, |edge: &mut [T], m| {
        for (i, (chunk, ws)) in plan.chunks(0..plan.inputs).zip(packed.chunks_exact(e_parts)).enumerate() {
            // SAFETY: `Kernels` of an available level; the image has the lines, as the callers checked its shape; the buffers have rows of
            // all tiles and a vector.
            unsafe {
                plan.fold(kernels, x, &chunk, (strip, &reach), edge);
                for (e, w) in ws.iter().enumerate() {
                    let (start, rows) = plan.rows_of(e, strip);
                    let to = (m.as_mut_ptr().add(e * part), plan.piece);
                    let begin = if i == 0 { Start::Zero } else { Start::Output };
                    w.times(kernels, tables, (edge.as_ptr().add(start), rows), vectors, to, begin, Finish::Plain);
                }
            }
        }
        let unfold = fold::Unfold {
            m: m.as_ptr(),
            part,
            pitch: plan.piece,
            rows,
            lines: strip.lines.len(),
            line: plan.to[2],
            tiles,
            width: strip.pixels.len(),
            to: out.to,
            channel: out.channel,
            accumulate: out.accumulate,
        };
        // SAFETY: as above; the lines of these channels are this strip's alone.
        unsafe { (kernels.folded(plan.folding).unfold)(&unfold) };
    });
}
