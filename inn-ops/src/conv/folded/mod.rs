//! Convolutions with strides of one, with fewer multiplications; see [`fold`](crate::stack::fold) for how. That is for three taps along the last axis;
//! other kernels are filled up with zeros to thirds of three taps each, whose results are added up before they are unfolded.
//!
//! Lines of a plane that follow each other make a strip, or the same part of each of them does. The lines of the input that a strip reaches
//! are folded, some channels at a time, into rows `[channel][plane][third][e][line][tile]`, in which a tap along the other axes is a shift by
//! whole lines or another row. So for each e the convolution is a matrix product on rows as they are, and its results are unfolded into the
//! lines of the output. The input gradient is the same with mirrored weights. The gradient of the folded weights is an outer product of those rows and of the folded output gradients, added up strip by strip.
//!
//! This takes 6 multiplications instead of 12 for four pixels, or 4 instead of 6 for two; folding takes as long as some tens of them. [`Plan::new`]
//! says where it is worth it.

mod apply;
mod weight;

pub(super) use apply::apply;
pub(super) use weight::weight_gradient;

use super::apply::SMALL;
use super::geometry::{Geometry, Op};
use super::kernels::{Dispatch, Kernels};
use super::micro::Spread;
use super::plan::{row_len, split};
use super::scratch::Scratch;
use crate::stack::fold::{self, Folding};
use std::ops::Range;

/// Rows of the folded input at one time: a few vectors of each stay in the first-level cache.
const ROWS: usize = 160;
/// Channels on the other side times taps of the other axes that folding and unfolding a channel are worth, and those that folding one for a weight
/// gradient is.
const WORTH: usize = 24;
const WORTH_GRADIENT: usize = 48;
/// Rows of a product at least.
const LEAST_OUTPUTS: usize = 8;
/// The part of the time that is left, in per cent at most, and that of a weight gradient.
const LEFT: usize = 86;
const LEFT_GRADIENT: usize = 80;
/// Vectors of multiplications that unfolding a vector of tiles takes as long as, and folding and turning one of an output gradient.
const UNFOLD: usize = 20;
const TURN: usize = 200;
/// Vectors of multiplications that copying a vector of pixels of a short line takes as long as.
const STAGED: usize = 6;
/// Pixels that folding and packing a weight take as long as, for each lane.
const PREPARED: usize = 12;
/// Bytes of the folded weights at most, which are shared, and of as much beside them while they are made.
const WEIGHT_BYTES: usize = 8 << 20;
/// Bytes of the arrays of a strip, each, at most.
const STRIP_BYTES: usize = 512 << 10;
/// More strips of a plane than needed, at most.
const STRIPS: usize = 16;
/// Lines of a strip at least, where there could be more strips.
const LEAST_LINES: usize = 4;

/// The decomposition of a call.
#[derive(Clone, Debug)]
struct Plan {
    folding: Folding,
    batch: usize,
    /// Channels of the rows that are folded, and of the others.
    inputs: usize,
    outputs: usize,
    /// Pixels along each axis of what is folded, and of the other side.
    from: [usize; 3],
    to: [usize; 3],
    kernel: [usize; 3],
    padding: [usize; 3],
    lanes: usize,
    /// Tiles of a line, parts of a line, and tiles of the longest: whole vectors, where there are several.
    tiles: usize,
    segments: usize,
    longest: usize,
    /// Groups of lines of a plane, and lines of the longest.
    groups: usize,
    lines: usize,
    /// Channels that are folded at one time.
    chunk: usize,
    /// Distance of folded rows of the input, and of the output.
    edge: usize,
    piece: usize,
}

/// Lines of a plane, or a part of each.
struct Strip {
    sample: usize,
    plane: usize,
    lines: Range<usize>,
    /// Of each line.
    tiles: Range<usize>,
    pixels: Range<usize>,
}

/// The lines that a strip reaches, and where their pixels lie in vectors.
#[derive(Default)]
struct Reach {
    /// Where the parts of lines start, `[plane][third][line]`, but for the padding; none outside of the image.
    lines: Vec<Option<usize>>,
    /// Third by third.
    masks: Vec<u32>,
}

/// The sum of a function of the parts that `len` is [`split`] into.
fn sum_of_parts(len: usize, parts: usize, of: impl Fn(usize) -> usize) -> usize {
    let (size, longer) = (len / parts, len % parts);
    longer * of(size + 1) + (parts - longer) * of(size)
}

impl Plan {
    /// The plan of an operation, if it is worth it.
    fn new<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>) -> Option<Self> {
        let others = g.kernel[0] * g.kernel[1];
        let work = g.in_channels.saturating_mul(g.out_channels).saturating_mul(g.taps()).saturating_mul(g.batch);
        let least = g.in_channels.min(g.out_channels);
        if work.saturating_mul(g.output_pixels()) <= SMALL || least.saturating_mul(others) < WORTH {
            return None;
        }
        let most = if op == Op::WeightGradient { LEFT_GRADIENT } else { LEFT };
        let plans = [Folding::Four, Folding::Two].map(|folding| Self::of(g, op, kernels, folding));
        let left = |plan: &Self| plan.left(op, kernels);
        let best = plans.into_iter().flatten().min_by_key(left)?;
        let wanted = if op == Op::WeightGradient { WORTH_GRADIENT } else { 0 };
        (best.outputs >= LEAST_OUTPUTS && best.outputs * others >= wanted && left(&best) <= most).then_some(best)
    }

    /// The plan of an operation with a scheme, if it can be folded at all, and its weights take no more memory than they may.
    fn of<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>, folding: Folding) -> Option<Self> {
        let (lanes, bytes) = (kernels.lanes, size_of::<T>());
        if g.kernel[2] < 2 || g.stride != [1; 3] || (0..3).any(|axis| g.padding[axis] >= g.kernel[axis]) {
            return None;
        }
        // The adjoint of a convolution is one of mirrored kernels.
        let (inputs, outputs, from, to, padding) = if op == Op::InputGradient {
            (g.out_channels, g.in_channels, g.output, g.input, std::array::from_fn(|axis| g.kernel[axis] - 1 - g.padding[axis]))
        } else {
            (g.in_channels, g.out_channels, g.input, g.output, g.padding)
        };
        let [depth, height, width] = to;
        let [kz, ky, kx] = g.kernel;
        let (rows, thirds, tile, parts) = (kz * ky * kx.div_ceil(3), kx.div_ceil(3), folding.tile(), folding.parts());
        let weights = inputs.saturating_mul(outputs).saturating_mul(rows).saturating_mul(parts * bytes);
        if weights == 0 || weights > WEIGHT_BYTES {
            return None;
        }
        let chunk = (ROWS / rows).clamp(1, inputs);
        let budget = kernels.planes_bytes.min(STRIP_BYTES) / bytes;
        // Tiles of the arrays that fit.
        let (own, reached) = (budget / (parts * outputs), budget / (parts * chunk * kz * thirds));
        let tiles = width.div_ceil(tile);
        // Lines above and below are folded too, in each group.
        let wanted = height.min((3 * (ky - 1)).max(1));
        let fits = (own / wanted).min(reached / (wanted + ky - 1));
        let vectors = tiles.div_ceil(lanes);
        let segments = if tiles <= fits { 1 } else { vectors.div_ceil((fits / lanes).max(1)) };
        let longest = tiles.min(vectors.div_ceil(segments) * lanes);
        let most = (own / longest).min((reached / longest).saturating_sub(ky - 1)).clamp(1, height);
        let least = height.div_ceil(most);
        // What the last vectors of strips have too much is lost, and one strip that all wait for.
        let cost = |groups: &usize| {
            let whole = sum_of_parts(height, *groups, |lines| (lines * longest).next_multiple_of(lanes));
            let strips = g.batch as f64 * depth as f64 * (segments * groups) as f64;
            // Partial gradients cannot be parted further.
            let wait = if op == Op::WeightGradient { 4.0 } else { 1.0 };
            whole as f64 * (strips + wait) / strips
        };
        let groups = least..=least.max((height / LEAST_LINES).min(least + STRIPS));
        let groups = groups.min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(least);
        let lines = height.div_ceil(groups);
        let (edge, piece) = (row_len((lines + ky - 1) * longest, lanes), row_len(lines * longest, lanes));
        let (batch, kernel) = (g.batch, g.kernel);
        Some(Self {
            folding,
            batch,
            inputs,
            outputs,
            from,
            to,
            kernel,
            padding,
            lanes,
            tiles,
            segments,
            longest,
            groups,
            lines,
            chunk,
            edge,
            piece,
        })
    }

    /// The part of the time that is left, in per cent: multiplications, and what takes as long as some, in vectors, for a plane of the output.
    fn left<T: Dispatch>(&self, op: Op, kernels: &Kernels<T>) -> usize {
        let [depth, height, width] = self.to;
        let [kz, ky, kx] = self.kernel;
        let (filled, unfold) = match op {
            Op::WeightGradient => (self.outputs.next_multiple_of(self.lanes), TURN),
            _ => (self.outputs, UNFOLD),
        };
        let line = self.tiles.div_ceil(self.lanes);
        let vectors = |lines: usize| if self.segments == 1 { (lines * self.tiles).div_ceil(self.lanes) } else { lines * line };
        let products =
            (self.folding.parts() * self.rows() * self.inputs * filled) as f64 * sum_of_parts(height, self.groups, vectors) as f64;
        // Vectors of tiles run across short lines, which are copied first.
        let staged = if fold::is_short(self.tiles, self.lanes) { STAGED * (self.folding.tile() * self.tiles).div_ceil(self.lanes) } else { 0 };
        let pass = |cost: usize, stages: usize, lines: usize| {
            lines * staged * stages + cost * if staged > 0 { vectors(lines) } else { lines * line }
        };
        let folds = |lines: usize| pass(kernels.fold_cost, 2, lines + ky - 1);
        let folds = (self.inputs * self.planes()) as f64 * sum_of_parts(height, self.groups, folds) as f64;
        let unfolds = self.outputs as f64 * sum_of_parts(height, self.groups, |lines| pass(unfold, 1, lines)) as f64;
        let direct = match op {
            // Vectors of the one side or the other.
            Op::WeightGradient => (self.inputs * filled).min(self.inputs.next_multiple_of(self.lanes) * self.outputs),
            _ => self.inputs * self.outputs,
        };
        let direct = (direct * kz * ky * kx) as f64 * (height * width).div_ceil(self.lanes) as f64;
        let prepared = (PREPARED * self.lanes) as f64 / (self.batch as f64 * (depth * height * width) as f64);
        (100.0 * ((products + folds + unfolds) / direct + prepared)).round() as usize
    }

    /// Thirds of the lines of a kernel.
    fn thirds(&self) -> usize {
        self.kernel[2].div_ceil(3)
    }

    /// Folded planes of a channel that a strip reaches.
    fn planes(&self) -> usize {
        self.kernel[0] * self.thirds()
    }

    /// Thirds of a kernel, `[plane][third][line]`, each folded to as many numbers as a tile.
    fn rows(&self) -> usize {
        self.planes() * self.kernel[1]
    }

    /// Where a tap of a kernel, `[plane][line][tap]`, lies in its thirds, `[plane][third][line][tap]`.
    fn place(&self, tap: usize) -> usize {
        let [_, ky, kx] = self.kernel;
        let (plane, line, tap) = (tap / (ky * kx), tap / kx % ky, tap % kx);
        3 * ((plane * self.thirds() + tap / 3) * ky + line) + tap % 3
    }

    /// Strips of all planes and samples.
    fn all(&self) -> usize {
        self.batch.saturating_mul(self.to[0]).saturating_mul(self.groups * self.segments)
    }

    fn strip(&self, index: usize) -> Strip {
        let (group, segment) = (index / self.segments, index % self.segments);
        let (plane, group) = (group / self.groups, group % self.groups);
        let vectors = split(self.tiles.div_ceil(self.lanes), self.segments, segment);
        let tiles = vectors.start * self.lanes..self.tiles.min(vectors.end * self.lanes);
        let tile = self.folding.tile();
        Strip {
            sample: plane / self.to[0],
            plane: plane % self.to[0],
            lines: split(self.to[1], self.groups, group),
            pixels: tiles.start * tile..self.to[2].min(tiles.end * tile),
            tiles,
        }
    }

    /// What a strip reaches.
    fn reach(&self, strip: &Strip, to: &mut Reach) {
        let [depth, height, width] = self.from;
        let ([kz, ky, _], [pz, py, px]) = (self.kernel, self.padding);
        let (start, tile) = (strip.pixels.start, self.folding.tile());
        to.lines.clear();
        to.masks.clear();
        for z in strip.plane..strip.plane + kz {
            let z = z.checked_sub(pz).filter(|&z| z < depth);
            for third in 0..self.thirds() {
                to.lines.extend((strip.lines.start..strip.lines.end + ky - 1).map(|y| {
                    let y = y.checked_sub(py).filter(|&y| y < height)?;
                    Some((z? * height + y) * width + start + 3 * third)
                }));
            }
        }
        for third in 0..self.thirds() {
            let (tiles, first) = (strip.tiles.len(), (px, start + 3 * third));
            if fold::is_short(tiles, self.lanes) {
                fold::short_masks(self.lanes, tile, tiles, width, first, &mut to.masks);
            } else {
                fold::masks(self.lanes, tile, tiles, width, first, &mut to.masks);
            }
        }
    }

    /// Folds the lines of some channels of `x`, `channel` elements apart, into `edge`.
    ///
    /// # Safety
    /// The kernels are those of an available level; `x` has the lines of the channels, and `edge` [`edge_len`](Self::edge_len) elements.
    unsafe fn fold<T: Dispatch>(
        &self,
        kernels: &Kernels<T>,
        (x, channel): (&[T], usize),
        channels: &Range<usize>,
        (strip, reach): (&Strip, &Reach),
        edge: &mut [T],
    ) {
        let fold = fold::FoldPlanes {
            from: x[channels.start * channel..].as_ptr(),
            channels: channels.len(),
            channel,
            lines: &reach.lines,
            padding: self.padding[2],
            planes: self.planes(),
            tiles: strip.tiles.len(),
            masks: &reach.masks,
            thirds: self.thirds(),
            to: edge.as_mut_ptr(),
            pitch: self.edge,
        };
        // SAFETY: the caller's promise.
        unsafe { (kernels.folded(self.folding).fold)(&fold) };
    }

    /// The rows of array `e` of those that were folded: where the first starts, and the places of all.
    fn rows_of(&self, e: usize, strip: &Strip) -> (usize, Spread) {
        (e * self.edge, Spread { row: strip.tiles.len(), group: self.kernel[1], apart: self.folding.parts() * self.edge })
    }

    /// Where the first of a strip's own lines starts.
    fn start(&self, strip: &Strip) -> usize {
        (strip.plane * self.to[1] + strip.lines.start) * self.to[2] + strip.pixels.start
    }

    /// The chunks of some channels.
    fn chunks(&self, channels: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
        channels.clone().step_by(self.chunk).map(move |start| start..(start + self.chunk).min(channels.end))
    }

    /// Elements of the folded input of a strip.
    fn edge_len(&self) -> usize {
        self.chunk * self.planes() * self.folding.parts() * self.edge
    }

    /// Elements of the weights, folded.
    fn weights(&self) -> usize {
        self.inputs * self.outputs * self.rows() * self.folding.parts()
    }
}

/// Upper bound on the working memory of an operation, if it is folded.
pub(super) fn scratch<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>, threads: usize) -> Option<Scratch> {
    let plan = Plan::new(g, op, kernels)?;
    let (shared, each) = if op == Op::WeightGradient { weight::elements::<T>(&plan) } else { apply::elements(&plan, threads) };
    let lists = size_of::<Option<usize>>() * plan.planes() * (plan.lines + plan.kernel[1]) + 64;
    let packing = if op == Op::WeightGradient { 0 } else { apply::lists(&plan, kernels, threads) };
    let masks = 12 * plan.folding.tile() * plan.longest.div_ceil(plan.lanes) * plan.thirds();
    Some(Scratch { shared: shared * size_of::<T>() + packing + 128, each: each * size_of::<T>() + lists + masks + 128, alone: false })
}

#[cfg(test)]
mod tests;
