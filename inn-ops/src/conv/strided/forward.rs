//! The forward operation, with a channel of the output in each lane. Whatever the extents, no lane is lost at the end of a line.

use super::{Frames, framed};
use crate::conv::apply::{SMALL, cycles, fill};
use crate::conv::geometry::Geometry;
use crate::conv::index::{Index, index_bytes, with_index};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::{Outer, Run, Turn};
use crate::conv::plan::{Piece, SLACK, parts, split};
use crate::conv::scratch::{Scratch, Shared, with_buffer, with_two};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::{Level, MAX_LANES};
use std::ops::Range;

/// Products that a result adds up between being read and written: their weights, of a tile of vectors, are to stay in the first-level cache.
const DEPTH: usize = 160;
/// Positions of a box.
const MOST: usize = 2048;
const LEAST: usize = 64;
/// Boxes of a call, if it has enough work.
const BOXES: usize = 16;
/// Elements of packed weights that are worth several threads.
const PACKED: usize = 1 << 16;
/// Cycles of [`Strided::cost`].
const RUN: f64 = 2.0;
const LINE: f64 = 3.0;
const TURN: f64 = 4.0;
/// How much more than that it takes, by what the cycles of the other way tell: kernels of strips keep closer to theirs.
const SLOWER: f64 = 1.2;

/// The decomposition of a call: boxes of positions, each of which holds sums of all outputs, `[position][vector][lane]`.
struct Strided<'a> {
    g: &'a Geometry,
    frames: Frames,
    /// Inputs whose frames are held at a time.
    chunk: usize,
    /// Vectors of outputs.
    vectors: usize,
    lanes: usize,
    /// Positions that kernels take at a time, and vectors.
    height: usize,
    width: usize,
    small: bool,
}

impl<'a> Strided<'a> {
    fn new<T: Dispatch>(g: &'a Geometry, kernels: &Kernels<T>) -> Self {
        let (lanes, budget) = (kernels.lanes, kernels.planes_bytes / size_of::<T>());
        let vectors = g.out_channels.div_ceil(lanes);
        let held = DEPTH.div_ceil(g.taps());
        let chunk = g.in_channels.div_ceil(g.in_channels.div_ceil(held).max(1));
        let total = g.batch * g.output_pixels();
        let fits = |frames: &Frames| frames.plan.channel_len * chunk + frames.cut.pixels * vectors * lanes <= budget;
        let frames = Frames::new(g, (total / BOXES).clamp(LEAST, MOST), LEAST, fits);
        let height =
            (1..=kernels.outer.len()).min_by(|&a, &b| tiles(kernels, a, vectors).total_cmp(&tiles(kernels, b, vectors))).unwrap_or(1);
        let (_, width) = kernels.outer[height - 1];
        Strided { g, frames, chunk, vectors, lanes, height, width, small: g.flops() <= 2.0 * SMALL as f64 }
    }

    /// Elements of the sums of a position.
    fn row(&self) -> usize {
        self.vectors * self.lanes
    }

    /// Elements of the packed weights, `[vector][input][tap][lane]`.
    fn packed(&self) -> usize {
        self.row() * self.g.in_channels * self.g.taps()
    }

    fn plane_elements(&self) -> usize {
        self.chunk * self.frames.plan.channel_len + SLACK
    }

    /// Cycles that it takes about.
    fn cost<T: Dispatch>(&self, kernels: &Kernels<T>) -> f64 {
        let (g, plan) = (self.g, &self.frames.plan);
        let (taps, inputs) = (g.taps() as f64, g.in_channels as f64);
        let positions = (g.batch * g.output_pixels()) as f64;
        let groups = self.vectors.div_ceil(self.width) as f64;
        let ends = groups * RUN * taps / g.kernel[2] as f64 / self.height as f64;
        let products = positions * inputs * (taps * tiles(kernels, self.height, self.vectors) + ends);
        let copied = self.frames.cut.boxes() as f64 * inputs * (plan.channel_len as f64 / self.lanes as f64 + plan.lines as f64) * LINE;
        products + copied + positions * self.vectors as f64 * TURN
    }

    /// Computes all outputs.
    fn run<T: Dispatch>(&self, kernels: &Kernels<T>, x: Planes<'_, T>, w: Planes<'_, T>, y: PlanesMut<'_, T>, accumulate: bool) {
        with_buffer(self.packed(), |packed: &mut [T]| {
            let each = packed.len() / self.vectors;
            let shared = Shared::new(&mut *packed);
            pool::each(self.vectors, self.small || packed.len() <= PACKED, |vector| {
                // SAFETY: each vector has a part of its own.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.get().add(vector * each), each) };
                self.pack(kernels, w, vector, to);
            });
            let target = Target { data: Shared::new(y.data), sample: y.batch_stride, channel: y.channel_stride, accumulate };
            let (packed, boxes, groups) = (&*packed, self.frames.cut.boxes(), self.vectors.div_ceil(self.width));
            let most = (self.g.flops() / 2.0) as usize / SMALL;
            let parts = parts(boxes, rayon::current_num_threads(), most.clamp(1, groups));
            pool::each(boxes * parts, self.small, |unit| {
                let groups = split(groups, parts, unit % parts);
                let vectors = groups.start * self.width..(groups.end * self.width).min(self.vectors);
                self.unit(unit / parts, vectors, kernels, x, packed, &target);
            });
        });
    }

    /// Computes some vectors of a box.
    fn unit<T: Dispatch>(&self, number: usize, vectors: Range<usize>, kernels: &Kernels<T>, x: Planes<'_, T>, w: &[T], y: &Target<T>) {
        let (g, row) = (self.g, self.row());
        let (piece, copied) = self.frames.piece(number);
        with_two(self.plane_elements(), self.frames.cut.pixels * row, |planes: &mut [T], sums| {
            with_index(|index| {
                self.positions(&piece, &copied, &mut index.off);
                for first in (0..g.in_channels).step_by(self.chunk) {
                    let channels = first..(first + self.chunk).min(g.in_channels);
                    fill(&self.frames.plan, &copied, kernels, x, channels.clone(), planes, index);
                    self.runs(&copied, channels, index);
                    for v in vectors.clone().step_by(self.width) {
                        let group = v..(v + self.width).min(vectors.end);
                        self.products(group, kernels, planes, w, sums, first > 0, index);
                    }
                }
                let (from, end) = (vectors.start * self.lanes, (vectors.end * self.lanes).min(g.out_channels));
                piece.segments(g.output, y.sample, |pixel, to, len| {
                    let to = y.data.get().wrapping_add(to + from * y.channel);
                    let turn = Turn::new((sums[pixel * row + from..].as_ptr(), row), len, end - from, (to, y.channel));
                    // SAFETY: `Kernels` of an available level; the sums have the rows of these positions, and the output, whose shape the callers
                    // checked, their place in each channel, which no other unit has.
                    unsafe { (kernels.turn)(&Turn { accumulate: y.accumulate, ..turn }) };
                });
            });
        });
    }

    /// Lists where the frames have the positions of a box.
    fn positions(&self, piece: &Piece, copied: &Piece, off: &mut Vec<usize>) {
        let (layout, [s0, s1, s2], [n0, n1, n2]) = (&copied.layout, self.g.stride, piece.count);
        off.clear();
        for sample in 0..layout.samples {
            for i0 in 0..n0 {
                let slice = sample * layout.sample + i0 * s0 * layout.dist[0];
                for line in (0..n1).map(|i1| slice + i1 * s1 * layout.dist[1]) {
                    off.extend((0..n2).map(|i2| line + i2 * s2));
                }
            }
        }
    }

    /// Lists where the frames, and the packed weights, have the taps of some inputs.
    fn runs(&self, copied: &Piece, channels: Range<usize>, index: &mut Index) {
        let (layout, [k0, k1, len]) = (&copied.layout, self.g.kernel);
        index.runs.clear();
        let mut b = channels.start * self.g.taps();
        for i in 0..channels.len() {
            for t0 in 0..k0 {
                let slice = i * layout.stride + t0 * layout.dist[0];
                for t1 in 0..k1 {
                    index.runs.push(Run { a: slice + t1 * layout.dist[1], b, len });
                    b += len;
                }
            }
        }
    }

    /// Begins the sums of all positions and of some vectors, or adds to them.
    fn products<T: Dispatch>(
        &self,
        vectors: Range<usize>,
        kernels: &Kernels<T>,
        planes: &[T],
        w: &[T],
        sums: &mut [T],
        accumulate: bool,
        index: &mut Index,
    ) {
        let (positions, row) = (index.off.len(), self.row());
        index.other.clear();
        index.other.extend(vectors.clone().map(|v| v * self.g.in_channels * self.g.taps() * self.lanes));
        let blocks = positions.div_ceil(self.height);
        for block in (0..blocks).map(|block| split(positions, blocks, block)) {
            let sums = &mut sums[block.start * row..block.end * row];
            let outer = Outer {
                a: planes.as_ptr(),
                a_off: &index.off[block.clone()],
                b: w.as_ptr(),
                b_off: &index.other,
                runs: &index.runs,
                step: [1, 1],
                to: sums[vectors.start * self.lanes..].as_mut_ptr(),
                row,
                accumulate,
            };
            // SAFETY: `Kernels` of an available level; the frames have all taps of all positions, and the packed weights those of all inputs; the
            // sums are this unit's alone.
            unsafe { kernels.outer[block.len() - 1].0(&outer) };
        }
    }

    /// Packs a vector of outputs.
    fn pack<T: Dispatch>(&self, kernels: &Kernels<T>, w: Planes<'_, T>, vector: usize, to: &mut [T]) {
        let (taps, inputs) = (self.g.taps(), self.g.in_channels);
        let outputs = vector * self.lanes..((vector + 1) * self.lanes).min(self.g.out_channels);
        // Weights of all inputs are adjacent, or else those of each.
        let (calls, columns) = if w.channel_stride == taps { (1, inputs * taps) } else { (inputs, taps) };
        for i in 0..calls {
            let from = &w.data[outputs.start * w.batch_stride + i * w.channel_stride..];
            assert!(from.len() >= (outputs.len() - 1) * w.batch_stride + columns);
            let to = to[i * columns * self.lanes..(i + 1) * columns * self.lanes].as_mut_ptr();
            let turn = Turn::new((from.as_ptr(), w.batch_stride), outputs.len(), columns, (to, self.lanes));
            // SAFETY: `Kernels` of an available level; ranges as asserted.
            unsafe { (kernels.turn)(&Turn { pad: true, ..turn }) };
        }
    }
}

/// Where the results go.
struct Target<T> {
    data: Shared<T>,
    sample: usize,
    channel: usize,
    accumulate: bool,
}

/// Cycles of a product for each position, if kernels take so many of them: two multiply-adds of vectors a cycle, two loads, and no tile is faster than
/// a multiply-add takes.
fn tiles<T>(kernels: &Kernels<T>, height: usize, vectors: usize) -> f64 {
    let (_, width) = kernels.outer[height - 1];
    let cycles = |n: usize| ((height * n) as f64 / 2.0).max(height as f64 / 2.0 + n as f64).max(4.0) + 1.0;
    let (whole, left) = (vectors / width, vectors % width);
    // The kernels take what is left by fours, twos and ones.
    let mut rest = (left, 0.0);
    for n in [4, 2, 1].into_iter().filter(|&n| n < width) {
        rest = (rest.0 % n, rest.1 + (rest.0 / n) as f64 * cycles(n));
    }
    (whole as f64 * cycles(width) + rest.1) / height as f64
}

/// The plan, if it is worth it.
fn plan<'a, T: Dispatch>(g: &'a Geometry, kernels: &Kernels<T>) -> Option<Strided<'a>> {
    if !framed(g) || g.in_channels == 0 {
        return None;
    }
    let strided = Strided::new(g, kernels);
    // The other way counts vectors of the widest machines, whatever those of this one are.
    let here = SLOWER * strided.cost(kernels) * strided.lanes as f64 / MAX_LANES as f64;
    (here < cycles(g, false, kernels)).then_some(strided)
}

/// Upper bound on the working memory of [`apply`], if it takes the convolution.
pub(in crate::conv) fn scratch<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>) -> Option<Scratch> {
    let strided = plan(g, kernels)?;
    let (bytes, plan) = (size_of::<T>(), &strided.frames.plan);
    let arrays = strided.plane_elements() + strided.frames.cut.pixels * strided.row();
    let lists = index_bytes(plan.lines, plan.plane_len.max(strided.chunk * g.taps()), strided.lanes, plan.pixels.max(strided.vectors), 1);
    // Vectors grow in powers of two.
    let runs = 2 * strided.chunk * g.taps() / g.kernel[2] * size_of::<Run>();
    Some(Scratch { shared: strided.packed() * bytes + 64, each: arrays * bytes + lists + runs + 128, alone: strided.small })
}

/// The forward operation. Answers whether it is worth it; otherwise nothing is done. The arrays have been checked, the batch and the outputs are not
/// empty, and the level is available.
pub(in crate::conv) fn apply<T: Dispatch>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let kernels = T::kernels(level);
    let Some(strided) = plan(g, kernels) else { return false };
    strided.run(kernels, x, w, PlanesMut { data: &mut *y.data, ..*y }, accumulate);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Volumes whose copies for each phase cost much take this way, at every level; kernels with gaps, and without strides, do not.
    #[test]
    fn which_shapes_it_takes() {
        for level in Level::available() {
            let taken = |channels: [usize; 2], extent: usize, kernel: usize, stride: usize| {
                let padding = [kernel / 2; 3];
                let g = Geometry::new(1, channels[0], channels[1], [extent; 3], [kernel; 3], [stride; 3], padding).unwrap();
                plan(&g, f32::kernels(level)).is_some()
            };
            assert!(taken([32, 32], 24, 3, 2) && taken([59, 32], 15, 5, 3), "{level:?}");
            assert!(!taken([32, 32], 24, 3, 1) && !taken([32, 32], 24, 1, 2) && !taken([32, 32], 24, 2, 3), "{level:?}");
        }
    }

    /// Outputs at all positions, whatever they cost, beside sums taken one by one.
    #[test]
    fn outputs_by_definition() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let shapes = [
            ([2, 3, 5], [4, 5, 6], [3, 3, 3], [2, 1, 2], [1, 1, 1]),
            ([1, 20, 33], [1, 9, 11], [1, 4, 4], [1, 4, 4], [0, 0, 0]),
            ([3, 200, 4], [1, 1, 90], [1, 1, 7], [1, 1, 3], [0, 0, 9]),
        ];
        for level in Level::available() {
            for ([batch, inputs, outputs], input, kernel, stride, padding) in shapes {
                let g = Geometry::new(batch, inputs, outputs, input, kernel, stride, padding).unwrap();
                let mut draw = |len: usize| (0..len).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f64>>();
                let (x, w) = (draw(batch * inputs * g.input_pixels()), draw(outputs * inputs * g.taps()));
                let before = draw(batch * outputs * g.output_pixels());
                let mut y = before.clone();
                let (kernels, pixels) = (f64::kernels(level), g.output_pixels());
                let planes = |data, channels: usize, plane: usize| Planes { data, batch_stride: channels * plane, channel_stride: plane };
                let to = PlanesMut { data: &mut y[..], batch_stride: outputs * pixels, channel_stride: pixels };
                let strided = Strided::new(&g, kernels);
                strided.run(kernels, planes(&x, inputs, g.input_pixels()), planes(&w, inputs, g.taps()), to, true);
                for (at, (&y, before)) in y.iter().zip(before).enumerate() {
                    let (sample, o, q) = (at / pixels / outputs, at / pixels % outputs, at % pixels);
                    let q = [q / g.output[2] / g.output[1], q / g.output[2] % g.output[1], q % g.output[2]];
                    let mut sum = before;
                    for (i, t) in (0..inputs).flat_map(|i| (0..g.taps()).map(move |t| (i, t))) {
                        let tap = [t / kernel[2] / kernel[1], t / kernel[2] % kernel[1], t % kernel[2]];
                        let at = [0, 1, 2].map(|axis| (q[axis] * stride[axis] + tap[axis]).wrapping_sub(padding[axis]));
                        if (0..3).all(|axis| at[axis] < input[axis]) {
                            let pixel = (at[0] * input[1] + at[1]) * input[2] + at[2];
                            sum += w[(o * inputs + i) * g.taps() + t] * x[(sample * inputs + i) * g.input_pixels() + pixel];
                        }
                    }
                    assert!((y - sum).abs() < 1e-11, "{y} instead of {sum} at {at} of {g:?}, {level:?}");
                }
            }
        }
    }
}
