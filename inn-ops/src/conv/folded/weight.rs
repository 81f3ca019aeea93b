//! The weight gradient.
//!
//! With V_e the folded rows of x, and a_e = Σ_i A_ie gy_i those of the output gradients, gU_e = Σ a_e V_eᵀ over all tiles, and gw_t = Σ_e G_et gU_e.

use super::plan::PARTED;
use super::{Plan, Reach, Strip};
use crate::conv::geometry::{Geometry, Op};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::Turn;
use crate::conv::plan::{parts, split};
use crate::conv::scratch::{Shared, with_buffer, with_two};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::fold::{self, with_scheme};
use crate::stack::product::{Tables, outer};
use crate::zip::Vectors;
use std::ops::Range;

/// Bytes of all partial gradients, beyond a single one.
const PARTIAL_BYTES: usize = 6 << 20;
/// Partial gradients at most.
pub(super) const SLOTS: usize = 16;
/// Inputs of a part at least.
pub(super) const LEAST_INPUTS: usize = 16;

impl Plan {
    /// Output channels, filled up to whole vectors.
    fn wide(&self) -> usize {
        self.outputs.next_multiple_of(self.lanes)
    }

    /// Elements of the gradient of the folded weights.
    fn partial(&self) -> usize {
        self.inputs * self.rows() * self.folding.parts() * self.wide()
    }

    /// Partial gradients, each with its strips in their order.
    pub(super) fn slots(&self, bytes: usize) -> usize {
        let (most, all) = ((PARTIAL_BYTES / (self.partial() * bytes)).clamp(1, SLOTS), self.all());
        // A number that is dealt evenly to threads: all strips if there are few, whose inputs are parted then, or a power of two.
        if all <= most && (all as f64) < PARTED { all } else { 1 << most.min(all).ilog2() }
    }

    /// Distance of the places of pixels in a tile: the tiles of a strip, whole vectors.
    fn columns(&self) -> usize {
        (self.together * self.lines * self.longest).next_multiple_of(self.lanes)
    }

    /// Distance of the channels of the output gradient by places: an odd number of vectors.
    fn row(&self) -> usize {
        let vectors = self.folding.tile() * self.columns() / self.lanes;
        (vectors | 1) * self.lanes
    }

    /// Whether the lines of strips follow each other and fill their tiles, and vectors are whole tiles.
    fn follows(&self) -> bool {
        let tile = self.folding.tile();
        self.segments == 1 && self.to[2].is_multiple_of(tile) && self.lanes.is_multiple_of(tile)
    }

    /// Elements of the output gradient of a strip by places.
    fn places_len(&self) -> usize {
        if self.follows() { 0 } else { self.outputs * self.row() }
    }

    fn turned_len(&self) -> usize {
        self.folding.parts() * self.wide() * self.columns()
    }
}

/// Elements that a call shares, and those of each thread.
pub(super) fn elements<T>(plan: &Plan) -> (usize, usize) {
    let taps = (3 * plan.rows() + plan.kernel.iter().product::<usize>()) * plan.wide() + 64;
    let strip = plan.folded_len() + plan.turned_len() + plan.places_len() + 64;
    (plan.slots(size_of::<T>()) * plan.partial(), strip.max(taps))
}

/// The weight gradient. Answers whether it is worth it; otherwise nothing is done. The arrays have been checked, none is empty, and the level is
/// available.
pub(in crate::conv) fn weight_gradient<T: Dispatch + Vectors>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let plan = Plan::new(g, Op::WeightGradient, T::kernels(level));
    plan.map(|plan| by_plan(level, &plan, x, gy, gw, accumulate)).is_some()
}

/// [`weight_gradient`] by a plan.
pub(super) fn by_plan<T: Dispatch + Vectors>(
    level: Level,
    plan: &Plan,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: &mut PlanesMut<'_, T>,
    accumulate: bool,
) {
    let kernels = T::kernels(level);
    let (slots, size) = (plan.slots(size_of::<T>()), plan.partial());
    let tables = Tables::new(plan.lanes, size_of::<T>());
    let (to_output, to_input) = (gw.batch_stride, gw.channel_stride);
    let to = Shared::new(gw.data);
    with_buffer(slots * size, |partials: &mut [T]| {
        let shared = Shared::new(partials);
        // Parts of the inputs share no sums, but turn the output gradient once each.
        let parts = parts(slots, rayon::current_num_threads(), plan.inputs.div_ceil(LEAST_INPUTS));
        pool::each(slots * parts, false, |unit| {
            let (slot, part) = (unit / parts, unit % parts);
            let inputs = split(plan.inputs, parts, part);
            with_two(plan.folded_len() + plan.turned_len(), plan.places_len(), |both: &mut [T], places| {
                let (folded, turned) = both.split_at_mut(plan.folded_len());
                let strips = split(plan.all(), slots, slot);
                for strip in strips.clone() {
                    let arrays = (&mut *folded, &mut *turned, &mut *places);
                    let to = shared.get().wrapping_add(slot * size);
                    one(plan, kernels, &tables, x, gy, arrays, &plan.reached(strip), (to, inputs.clone()), strip == strips.start);
                }
            });
        });
        pool::each(plan.inputs, false, |input| {
            // SAFETY: the channels share no sums and no weights.
            unsafe {
                finish::<T>(plan, kernels, slots, shared.get(), input, (to.get().wrapping_add(input * to_input), to_output), accumulate)
            };
        });
    });
}

/// Adds a strip to the part of a partial gradient that belongs to some inputs, rows `((channel, third), e)` of whole vectors of outputs, or writes the `first`.
fn one<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    (folded, turned, places): (&mut [T], &mut [T], &mut [T]),
    strips: &[(Strip, Reach)],
    (to, inputs): (*mut T, Range<usize>),
    first: bool,
) {
    let (e_parts, wide) = (plan.folding.parts(), plan.wide());
    let columns = plan.tiles_of(strips).next_multiple_of(plan.lanes);
    if plan.follows() {
        turn_pixels(plan, kernels, gy, strips, columns, turned);
    } else {
        turn_dealt(plan, kernels, gy, strips, columns, (places, turned));
    }
    // SAFETY: `Kernels` of an available level; the images have the lines, as the callers checked their shapes; buffers have rows of all tiles and a
    // vector; the partial gradient is this slot's alone.
    unsafe {
        for chunk in plan.chunks(inputs) {
            plan.fold(kernels, x, &chunk, strips, folded);
            for e in 0..e_parts {
                let (start, rows) = plan.rows_of(e, strips);
                let a = (folded.as_ptr().add(start), rows, chunk.len() * plan.rows());
                let b = (turned.as_ptr().add(e * wide * columns), wide);
                let to = to.add((chunk.start * plan.rows() * e_parts + e) * wide);
                outer(kernels, tables, a, b, columns, (to, e_parts * wide), first);
            }
        }
    }
}

/// Turns the output gradient of a strip, whose lines follow each other, so that vectors run over the outputs.
fn turn_pixels<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    gy: Planes<'_, T>,
    strips: &[(Strip, Reach)],
    columns: usize,
    turned: &mut [T],
) {
    let (lanes, apart, mut done) = (plan.lanes, plan.wide() * columns, 0);
    let turned = &mut turned[..plan.folding.parts() * apart];
    for (strip, _) in strips {
        let pixels = fold::Pixels {
            from: gy.data[strip.sample * gy.batch_stride + plan.start(strip)..].as_ptr(),
            channels: plan.outputs,
            channel: gy.channel_stride,
            tiles: strip.lines.len() * strip.tiles.len(),
            to: turned[done * lanes..].as_mut_ptr(),
            columns,
            apart,
        };
        // SAFETY: `Kernels` of an available level; the image has the lines, as the callers checked its shape; the arrays have columns for all tiles.
        unsafe { (kernels.folded(plan.folding).turn_pixels)(&pixels) };
        done += pixels.tiles;
    }
    turned.chunks_exact_mut(columns * lanes).for_each(|group| group[done * lanes..].fill(T::ZERO));
}

/// The same for any lines: their pixels are dealt by their places in tiles first.
fn turn_dealt<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    gy: Planes<'_, T>,
    strips: &[(Strip, Reach)],
    columns: usize,
    (places, turned): (&mut [T], &mut [T]),
) {
    let (wide, kernels_of) = (plan.wide(), kernels.folded(plan.folding));
    let mut done = 0;
    for (strip, _) in strips {
        let deal = fold::Deal {
            from: gy.data[strip.sample * gy.batch_stride + plan.start(strip)..].as_ptr(),
            channels: plan.outputs,
            channel: gy.channel_stride,
            lines: strip.lines.len(),
            line: plan.to[2],
            width: strip.pixels.len(),
            tiles: strip.tiles.len(),
            to: places.as_mut_ptr(),
            columns,
            first: done,
            row: plan.row(),
        };
        // SAFETY: `Kernels` of an available level; the image has the lines, as the callers checked its shape; the buffer has rows of all tiles.
        unsafe { (kernels_of.deal)(&deal) };
        done += strip.lines.len() * strip.tiles.len();
    }
    let turn = fold::Turn {
        from: places.as_ptr(),
        row: plan.row(),
        rows: plan.outputs,
        columns,
        to: turned.as_mut_ptr(),
        apart: wide * columns,
        slopes: None,
    };
    // SAFETY: as above; buffers have rows of all tiles and a vector.
    unsafe { (kernels_of.turn)(&turn) };
}

/// Adds the partial gradients of an input channel up, in their order, and writes the gradient of its weights.
///
/// # Safety
/// There are as many partial gradients, and `to` has the weights of the channel, outputs `to_row` apart; nothing else accesses either.
unsafe fn finish<T: Dispatch + Vectors>(
    plan: &Plan,
    kernels: &Kernels<T>,
    slots: usize,
    partials: *mut T,
    input: usize,
    (to, to_row): (*mut T, usize),
    accumulate: bool,
) {
    let wide = plan.wide();
    let len = plan.rows() * plan.folding.parts() * wide;
    let taps: usize = plan.kernel.iter().product();
    with_two(3 * plan.rows() * wide, taps * wide, |thirds: &mut [T], ordered| {
        // SAFETY: the caller's promise.
        unsafe {
            let of = |slot: usize| partials.add(slot * plan.partial() + input * len);
            let sum = std::slice::from_raw_parts_mut(of(0), len);
            for slot in 1..slots {
                sum.iter_mut().zip(std::slice::from_raw_parts(of(slot), len)).for_each(|(sum, &v)| *sum += v);
            }
            with_scheme!(plan.folding, S => fold::weight_gradients::<T, S>(sum, wide, thirds));
            let from = if plan.kernel[2] == 3 {
                thirds
            } else {
                for (tap, to) in ordered.chunks_exact_mut(wide).enumerate() {
                    to.copy_from_slice(&thirds[plan.place(tap) * wide..][..wide]);
                }
                ordered
            };
            (kernels.turn)(&Turn { accumulate, ..Turn::new((from.as_ptr(), wide), taps, plan.outputs, (to, to_row)) });
        }
    });
}
