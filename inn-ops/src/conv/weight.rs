//! The weight gradient, as sums of outer products over positions.
//!
//! At every output position the weights get the product of two vectors: the
//! output gradients there, and the inputs that the taps see from there. The
//! channels of one of the two are the lanes of the kernels ([`Outer`]), so
//! that no sum over lanes is ever taken; those of the other are broadcast.
//! Whichever fills whole vectors better has the lanes. It is transposed into
//! vectors, `[vector of channels][pixel][lane]`, while it is copied.

mod copies;

use super::apply::SMALL;
use super::geometry::Geometry;
use super::index::{Index, Taps, index_bytes, with_index};
use super::kernels::{Dispatch, Kernels};
use super::outer::{Outer, Turn};
use super::passes::passes;
use super::plan::{Piece, Plan, SLACK, Sweep, parts, split};
use super::scratch::{Scratch, Shared, with_buffer, with_two};
use super::strided::{Frames, framed};
use super::{Planes, PlanesMut};
use crate::pool;
use crate::simd::{Level, MAX_LANES};
use std::ops::Range;

/// Bytes that the inputs, and the output gradients, of a box may take each, at most.
const MOST: usize = 512 << 10;
/// Positions of a box at least.
const LEAST: usize = 512;
/// Positions of a box at most, of frames.
const MOST_POSITIONS: usize = 2048;
/// Positions that the end of a run takes as long as, about: a mispredicted branch.
const END: usize = 2;
/// Units of work of a call, if it has enough of it.
const UNITS: usize = 16;
/// Elements of all partial sums, beyond a single one.
const PARTIALS: usize = 1 << 19;
/// Cycles of [`divided`] for each position: what a tile takes besides its products, and copying a channel, if it is one of a vector or a row.
const TILE: f64 = 4.0;
const TURN: f64 = 4.0;
const ROW: f64 = 0.3;

/// Which channels are the lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    Output,
    Input,
}

/// The decomposition of a call. The boxes are dealt out to `slots`, each of
/// which sums up its boxes in order; the sums are then added in order. The
/// vectors of channels, or the rows, are divided into parts, which share no sums.
struct Weight<'a> {
    g: &'a Geometry,
    frames: Frames,
    wide: Wide,
    lanes: usize,
    /// Channels that are lanes, vectors of them, and vectors held at a time.
    wide_channels: usize,
    vectors: usize,
    vector_chunk: usize,
    /// The other channels, and how many of them are held at a time.
    rows: usize,
    row_chunk: usize,
    /// Taps that a channel has on either side: those of the kernel for inputs.
    vector_taps: usize,
    row_taps: usize,
    slots: usize,
    vector_parts: usize,
    row_parts: usize,
    small: bool,
}

impl<'a> Weight<'a> {
    fn new<T: Dispatch>(g: &'a Geometry, kernels: &Kernels<T>, threads: usize) -> Self {
        let (lanes, bytes) = (kernels.lanes, size_of::<T>());
        let (i, o, taps) = (g.in_channels, g.out_channels, g.taps());
        let padded = |channels: usize| channels.div_ceil(lanes) * lanes;
        // Inputs have padding and halo to transpose, and strides between what is read of them, hence the odds. A single
        // vector leaves tiles too thin to hide the loads, but taps make more
        // vectors of the inputs.
        let thin = match (g.stride == [1; 3], o <= lanes && taps > 1) {
            (_, true) => 19,
            (true, false) => 15,
            (false, false) => 13,
        };
        let wide = if thin * padded(o) * i <= 16 * padded(i) * o { Wide::Output } else { Wide::Input };
        let budget = kernels.planes_bytes.min(MOST) / bytes;
        let work = i * o * taps;
        let (_, width) = kernels.outer[kernels.outer.len() - 1];
        let frames = if framed(g) {
            let positions = g.batch * g.output_pixels();
            // Few are an even number, so that two threads share them evenly; some larger than others, as lines and samples stay whole.
            let boxes = if positions <= LEAST { 1 } else { positions.div_ceil(LEAST).next_multiple_of(2).min(UNITS) };
            Frames::new(g, (positions * 5 / 4).div_ceil(boxes).min(MOST_POSITIONS), LEAST, |frames| {
                frames.plan.channel_len * i.min(o) <= budget
            })
        } else {
            Frames::phases(g, Plan::new(g, false, budget, LEAST, Sweep { rows: width * lanes, end: Some(END) }))
        };
        let (wide_channels, rows, vector_taps, row_taps) = match wide {
            Wide::Output => (o, i, 1, taps),
            Wide::Input => (i, o, taps, 1),
        };
        let vectors = wide_channels.div_ceil(lanes);
        let (x, gy) = (frames.plan.channel_len, gy_len(frames.cut.pixels));
        let (vector_len, row_len) = if wide == Wide::Output { (gy, x) } else { (x, gy) };
        let even = |count: usize, len: usize| count.div_ceil(count.div_ceil((budget / len).max(1)).max(1));
        let total = work.saturating_mul(g.batch * g.output_pixels());
        let units = (total / SMALL).clamp(1, UNITS);
        let sums = vectors * lanes * vector_taps * rows * row_taps;
        let slots = frames.cut.boxes().min(units).min(PARTIALS / sums.max(1)).max(1);
        let parts = parts(slots, threads, units.div_ceil(2).min(vectors.max(rows)));
        let [vector_parts, row_parts] = divided([vectors, rows], [vector_taps, row_taps], [width, kernels.outer.len()], parts);
        Weight {
            g,
            frames,
            wide,
            lanes,
            wide_channels,
            vectors,
            vector_chunk: even(vectors.div_ceil(vector_parts), vector_len * lanes),
            rows,
            row_chunk: even(rows.div_ceil(row_parts), row_len),
            vector_taps,
            row_taps,
            slots,
            vector_parts,
            row_parts,
            small: total <= SMALL,
        }
    }

    /// Elements of a row of sums, `[vector][tap][lane]`.
    fn row(&self) -> usize {
        self.vectors * self.vector_taps * self.lanes
    }

    /// Units that share a slot.
    fn parts(&self) -> usize {
        self.vector_parts * self.row_parts
    }

    /// Elements of the sums of a slot.
    fn sums(&self) -> usize {
        self.rows * self.row_taps * self.row()
    }

    fn vector_elements(&self) -> usize {
        let len = if self.wide == Wide::Output { gy_len(self.frames.cut.pixels) } else { self.frames.plan.channel_len };
        self.vector_chunk * len * self.lanes
    }

    fn row_elements(&self) -> usize {
        let len = if self.wide == Wide::Output { self.frames.plan.channel_len } else { gy_len(self.frames.cut.pixels) };
        self.row_chunk * len + SLACK
    }

    /// Sums up one slot for some of the vectors.
    fn unit<T: Dispatch>(&self, unit: usize, kernels: &Kernels<T>, x: Planes<'_, T>, gy: Planes<'_, T>, sums: Shared<T>) {
        let (slot, part) = (unit / self.parts(), unit % self.parts());
        let vectors = split(self.vectors, self.vector_parts, part / self.row_parts);
        let rows = split(self.rows, self.row_parts, part % self.row_parts);
        let sums = sums.get().wrapping_add(slot * self.sums());
        with_two(self.vector_elements(), self.row_elements(), |vector_buffer: &mut [T], row_buffer| {
            with_index(|index| {
                // Rows that fit as a whole are the same for all vectors.
                let whole = self.row_chunk >= rows.len();
                let boxes = split(self.frames.cut.boxes(), self.slots, slot);
                for number in boxes.clone() {
                    let pieces = self.frames.piece(number);
                    for v in vectors.clone().step_by(self.vector_chunk) {
                        let chunk = v..(v + self.vector_chunk).min(vectors.end);
                        self.copy_vectors(&pieces, kernels, x, gy, chunk.clone(), vector_buffer, index);
                        for r in rows.clone().step_by(self.row_chunk) {
                            let rows = r..(r + self.row_chunk).min(rows.end);
                            if !whole || v == vectors.start {
                                self.copy_rows(&pieces, kernels, x, gy, rows.clone(), row_buffer, index);
                            }
                            self.multiply(
                                &pieces,
                                kernels,
                                vector_buffer,
                                chunk.clone(),
                                row_buffer,
                                rows,
                                sums,
                                number > boxes.start,
                                index,
                            );
                        }
                    }
                }
            });
        });
    }

    /// Adds the products of a box to the sums, or begins the sums with them.
    fn multiply<T: Dispatch>(
        &self,
        (piece, copied): &(Piece, Piece),
        kernels: &Kernels<T>,
        vector_buffer: &[T],
        vectors: Range<usize>,
        row_buffer: &[T],
        rows: Range<usize>,
        sums: *mut T,
        add: bool,
        index: &mut Index,
    ) {
        let frames = &self.frames;
        let taps = Taps { g: &frames.dense, adjoint: false, phase: [0; 3] };
        let (row, lanes) = (self.row(), self.lanes);
        let len = gy_len(piece.pixels());
        index.stretches(piece, &copied.layout, frames.step, self.wide == Wide::Output);
        let step = if self.wide == Wide::Output { [frames.step[2], 1] } else { [1, frames.step[2]] };
        let (off, other) = (&mut index.off, &mut index.other);
        match self.wide {
            Wide::Output => {
                taps.offsets(&frames.plan.axes, &copied.layout, rows.len(), 1, off);
                other.clear();
                other.extend((0..vectors.len()).map(|v| v * len * lanes));
            }
            Wide::Input => {
                off.clear();
                off.extend((0..rows.len()).map(|r| r * len));
                taps.offsets(&frames.plan.axes, &copied.layout, vectors.len(), lanes, other);
            }
        }
        let (height, first_row) = (kernels.outer.len(), rows.start * self.row_taps);
        let blocks = off.len().div_ceil(height);
        let (_, width) = kernels.outer[off.len().div_ceil(blocks) - 1];
        for (number, stretch) in index.stretches.windows(2).enumerate() {
            for v in (0..other.len()).step_by(width) {
                for block in 0..blocks {
                    let block = split(off.len(), blocks, block);
                    let at = (first_row + block.start) * row + (vectors.start * self.vector_taps + v) * lanes;
                    let outer = Outer {
                        a: row_buffer.as_ptr(),
                        a_off: &off[block.clone()],
                        b: vector_buffer.as_ptr(),
                        b_off: &other[v..(v + width).min(other.len())],
                        runs: &index.runs[stretch[0]..stretch[1]],
                        step,
                        to: sums.wrapping_add(at),
                        row,
                        accumulate: add || number > 0,
                    };
                    // SAFETY: `Kernels` of an available level; the buffers
                    // have all taps of all positions; the sums are this
                    // unit's alone.
                    unsafe { kernels.outer[block.len() - 1].0(&outer) };
                }
            }
        }
    }

    /// Adds up all slots, in order, for some of the channels that the rows
    /// belong to, and writes these.
    fn finish<T: Dispatch>(
        &self,
        channels: Range<usize>,
        kernels: &Kernels<T>,
        sums: Shared<T>,
        gw: Shared<T>,
        [output, input]: [usize; 2],
        accumulate: bool,
    ) {
        let (g, row, lanes) = (self.g, self.row(), self.lanes);
        let channel = self.row_taps * row;
        let slot = |slot: usize| sums.get().wrapping_add(slot * self.sums() + channels.start * channel);
        let (from, len) = (slot(0), channels.len() * channel);
        // SAFETY: the rows of the channels are inside of the sums, and the
        // weights inside of `gw`, as the callers checked; this call alone has
        // them.
        unsafe {
            for other in 1..self.slots {
                let others = std::slice::from_raw_parts(slot(other), len);
                for (sum, &other) in std::slice::from_raw_parts_mut(from, len).iter_mut().zip(others) {
                    *sum += other;
                }
            }
            let turn = |from: *const T, from_row: usize, [rows, columns]: [usize; 2], to: usize, to_row: usize| {
                (kernels.turn)(&Turn { accumulate, ..Turn::new((from, from_row), rows, columns, (gw.get().add(to), to_row)) });
            };
            match self.wide {
                // `[input channel][tap][output channel]` to `[output channel][input channel][tap]`.
                Wide::Output if input == self.row_taps => {
                    turn(from, row, [channels.len() * self.row_taps, g.out_channels], channels.start * input, output);
                }
                Wide::Output => {
                    for (i, c) in channels.enumerate() {
                        turn(from.add(i * channel), row, [self.row_taps, g.out_channels], c * input, output);
                    }
                }
                // `[vector][tap][lane]` to `[input channel][tap]`.
                Wide::Input => {
                    for (i, o) in channels.enumerate() {
                        for v in 0..self.vectors {
                            let count = (g.in_channels - v * lanes).min(lanes);
                            let from = from.add(i * row + v * self.vector_taps * lanes);
                            turn(from, lanes, [self.vector_taps, count], o * output + v * lanes * input, input);
                        }
                    }
                }
            }
        }
    }
}

/// Divides vectors, or rows, into parts: what makes the largest part take the least time. Parts copy the other ones once each.
fn divided([vectors, rows]: [usize; 2], [vector_taps, row_taps]: [usize; 2], [width, height]: [usize; 2], parts: usize) -> [usize; 2] {
    let time = |[vector_parts, row_parts]: [usize; 2]| {
        let (v, r) = (vectors.div_ceil(vector_parts), rows.div_ceil(row_parts));
        let tiles = (v * vector_taps).div_ceil(width) * (r * row_taps).div_ceil(height);
        (v * vector_taps * r * row_taps) as f64 + TILE * tiles as f64 + TURN * v as f64 + ROW * r as f64
    };
    let (by_vectors, by_rows) = ([parts.min(vectors), 1], [1, parts.min(rows)]);
    if time(by_rows) < time(by_vectors) { by_rows } else { by_vectors }
}

/// Distance of the channels of output gradients of so many pixels: an odd
/// number of cache lines, as for the planes of inputs.
fn gy_len(pixels: usize) -> usize {
    (pixels.div_ceil(MAX_LANES) | 1) * MAX_LANES
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
    for (start, g) in passes(g, kernels.lanes) {
        let gy = Planes { data: &gy.data[start * gy.channel_stride..], ..gy };
        let data = &mut gw.data[start * gw.batch_stride..];
        let gw = PlanesMut { data, batch_stride: gw.batch_stride, channel_stride: gw.channel_stride };
        pass(&g, kernels, x, gy, gw, accumulate);
    }
}

fn pass<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>, x: Planes<'_, T>, gy: Planes<'_, T>, gw: PlanesMut<'_, T>, accumulate: bool) {
    let weight = Weight::new(g, kernels, rayon::current_num_threads());
    with_buffer(weight.slots * weight.sums(), |sums: &mut [T]| {
        let units = weight.slots * weight.parts();
        let many = weight.slots * weight.sums() > 1 << 16;
        let shared = Shared::new(sums);
        pool::each(units, weight.small, |unit| weight.unit(unit, kernels, x, gy, shared));
        let strides = [gw.batch_stride, gw.channel_stride];
        let gw = Shared::new(gw.data);
        let blocks = weight.rows.div_ceil(MAX_LANES);
        let finish = |block| weight.finish(split(weight.rows, blocks, block), kernels, shared, gw, strides, accumulate);
        pool::each(blocks, weight.small || !many, finish);
    });
}

/// Upper bounds on the scratch memory of [`weight_gradient`].
pub(super) fn scratch<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>, threads: usize) -> Scratch {
    let (lanes, bytes) = (kernels.lanes, size_of::<T>());
    let pass = |g: &Geometry| {
        let weight = Weight::new(g, kernels, threads);
        let planes = (weight.vector_elements() + weight.row_elements()) * bytes + 128;
        let offsets = weight.row_chunk * weight.row_taps + weight.vector_chunk * weight.vector_taps;
        let plan = &weight.frames.plan;
        let index = index_bytes(plan.lines, plan.plane_len.max(plan.pixels), lanes, offsets, plan.listed());
        let line = plan.axes[2].pixels_bytes(plan.parts[2]);
        Scratch { shared: weight.slots * weight.sums() * bytes + 64, each: planes + index + line, alone: weight.small }
    };
    // Buffers grow to what the larger pass needs of each.
    passes(g, lanes).map(|(_, g)| pass(&g)).fold(Scratch::NONE, Scratch::most)
}
