//! Whether a convolution is folded, and how it is cut.

use super::apply::LEAST_OUTPUTS as LEAST_OUTPUT_PART;
use super::weight::{LEAST_INPUTS, SLOTS};
use crate::conv::apply::SMALL;
use crate::conv::geometry::{Geometry, Op};
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::plan::{row_len, sum_of_parts};
use crate::stack::fold::{self, Folding};

/// Rows of the folded input at one time: a few vectors of each stay in the first-level cache.
const ROWS: usize = 160;
/// Channels on the other side times taps of the other axes that unfolding a channel is worth, and those that folding one is.
const WORTH_UNFOLDING: usize = 24;
const WORTH_FOLDING: usize = 12;
/// Rows of a product at least.
const LEAST_OUTPUTS: usize = 4;
/// The part of the time that is left, in per cent at most, and that of a weight gradient.
const LEFT: usize = 86;
const LEFT_GRADIENT: usize = 92;
/// Vectors of multiplications that unfolding a vector of tiles takes as long as, and folding and turning one of an output gradient.
const UNFOLD: usize = 20;
const TURN: usize = 60;
/// Vectors of multiplications that turning a vector of pixels takes as long as, where nothing is folded.
const TURN_DIRECT: usize = 20;
/// Vectors of multiplications that copying a vector of pixels of a short line takes as long as.
const STAGED: usize = 6;
/// Vectors of multiplications that shifting a vector of folded rows by lines takes as long as.
const SHIFT: usize = 3;
/// Pixels that folding and packing a weight take as long as, for each lane, and those of finishing a gradient, and each of the partial ones.
const PREPARED: f64 = 5.0;
const FINISHED: f64 = 2.0;
const ADDED: f64 = 0.5;
/// Vectors of tiles that adding to a weight's sums takes as long as, strip by strip.
const SUMMED: f64 = 0.5;
/// Bytes of packed weights at most, which all threads share.
pub(in crate::conv) const WEIGHT_BYTES: usize = 8 << 20;
/// Bytes of the arrays of a strip, each, at most.
const STRIP_BYTES: usize = 512 << 10;
/// More strips of a plane than needed, at most.
const STRIPS: usize = 16;
/// As many strips are dealt evenly, whatever their number, and whatever lines more some of them have.
const EVEN: f64 = 24.0;
const EXACT: usize = 4;
/// Strips below which each can be shared by two threads.
pub(super) const PARTED: f64 = 8.0;
/// Vectors of tiles of a strip below which products take longer.
const NARROW: usize = 2;
/// Tiles that a partial gradient takes as long as.
const SLOT: f64 = 12.0;
/// Lines of a strip at least, where there could be more strips.
const LEAST_LINES: usize = 4;

/// The decomposition of a call.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) folding: Folding,
    pub(super) batch: usize,
    /// Channels of the rows that are folded, and of the others.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Pixels along each axis of what is folded, and of the other side.
    pub(super) from: [usize; 3],
    pub(super) to: [usize; 3],
    pub(super) kernel: [usize; 3],
    pub(super) padding: [usize; 3],
    pub(super) lanes: usize,
    /// Tiles of a line, parts of a line, and tiles of the longest: whole vectors, where there are several.
    pub(super) tiles: usize,
    pub(super) segments: usize,
    pub(super) longest: usize,
    /// Groups of lines of a plane, and lines of the longest.
    pub(super) groups: usize,
    pub(super) lines: usize,
    /// Strips of whole planes that follow each other, of one sample or of several, and planes of the longest; none where a strip has lines of one plane.
    pub(super) joined: usize,
    pub(super) together: usize,
    /// Channels that are folded at one time.
    pub(super) chunk: usize,
    /// Distance of folded rows of the input, and of the output.
    pub(super) edge: usize,
    pub(super) piece: usize,
}

/// By which factor the end of a call, which all wait for, prolongs so many strips; they are `exact` if they are equally large, and `parted` if each can be
/// shared by two threads. Partial gradients cannot be parted further.
fn waited(op: Op, strips: f64, exact: bool, parted: bool) -> f64 {
    let few = strips < EVEN && exact;
    // A few are dealt evenly if they are a power of two, unless it is a single one that has no parts; parts prepare the same once each.
    let even = (strips as usize).is_power_of_two() && (strips > 1.0 || parted);
    let wait = match (few && even, few && parted && strips < PARTED, op) {
        (true, ..) => 0.5,
        (_, true, Op::WeightGradient) => 1.0,
        (_, true, _) => 0.5,
        (.., Op::WeightGradient) => 4.0,
        _ => 1.0,
    };
    (strips + wait) / strips
}

/// Whether two threads can share a strip: parts of the outputs, or of the inputs of a gradient.
fn parted(op: Op, inputs: usize, outputs: usize) -> bool {
    if op == Op::WeightGradient { inputs >= 2 * LEAST_INPUTS } else { outputs >= 2 * LEAST_OUTPUT_PART }
}

/// Tiles that the sums of a gradient take as long as to be begun and added up, for each partial gradient.
fn summed(op: Op, strips: f64) -> f64 {
    if op == Op::WeightGradient { SLOT * strips.min(SLOTS as f64) } else { 0.0 }
}

impl Plan {
    /// The plan of an operation, if it is worth it.
    pub(super) fn new<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>) -> Option<Self> {
        let others = g.kernel[0] * g.kernel[1];
        let work = g.in_channels.saturating_mul(g.out_channels).saturating_mul(g.taps()).saturating_mul(g.batch);
        let least = g.in_channels.min(g.out_channels);
        if work.saturating_mul(g.output_pixels()) <= SMALL || least.saturating_mul(others) < WORTH_FOLDING {
            return None;
        }
        let most = if op == Op::WeightGradient { LEFT_GRADIENT } else { LEFT };
        let plans = [Folding::Four, Folding::Two].into_iter().filter_map(|folding| Self::of(g, op, kernels, folding));
        let plans = plans.flat_map(|plan| [plan.joined(op, kernels), Some(plan)]);
        let left = |plan: &Self| plan.left(op, kernels);
        // Partial gradients count by themselves.
        let time = |plan: &Self| left(plan) as f64 * if op == Op::WeightGradient { 1.0 } else { plan.waited(op) * plan.narrow() };
        let best = plans.flatten().min_by(|a, b| time(a).total_cmp(&time(b)))?;
        let worth = op == Op::WeightGradient || best.inputs * others >= WORTH_UNFOLDING;
        (best.outputs >= LEAST_OUTPUTS && worth && left(&best) <= most).then_some(best)
    }

    /// The plan of an operation with a scheme, if it can be folded at all, and its weights take no more memory than they may.
    pub(super) fn of<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>, folding: Folding) -> Option<Self> {
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
            let (planes, cut) = (g.batch as f64 * depth as f64, (segments * groups) as f64);
            let exact = height.is_multiple_of(*groups) || *groups > EXACT;
            (whole * planes * segments as f64 + summed(op, planes * cut)) * waited(op, planes * cut, exact, parted(op, inputs, outputs))
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
            joined: 0,
            together: 1,
            chunk,
            edge,
            piece,
        })
    }

    /// The same with several whole planes in each strip, if they are small.
    pub(super) fn joined<T: Dispatch>(&self, op: Op, kernels: &Kernels<T>) -> Option<Self> {
        let (lanes, rows, own, parts) = (self.lanes, self.rows(), self.to[1] * self.tiles, self.folding.parts());
        let all = self.batch.saturating_mul(self.to[0]);
        let budget = kernels.planes_bytes.min(STRIP_BYTES) / size_of::<T>();
        let most = (budget / (parts * self.outputs * own)).min(all);
        if most < 2 {
            return None;
        }
        let cost = |strips: &usize| {
            let whole = sum_of_parts(all, *strips, |planes| (planes * own).next_multiple_of(lanes));
            let exact = all.is_multiple_of(*strips) || *strips > EXACT;
            (whole + summed(op, *strips as f64)) * waited(op, *strips as f64, exact, parted(op, self.inputs, self.outputs))
        };
        let least = all.div_ceil(most);
        let joined = (least..=all.min(least.saturating_add(STRIPS))).min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(least);
        let together = all.div_ceil(joined);
        // One plane each needs no copies for its shifts, which short lines of products are worth.
        if together == 1 && op == Op::WeightGradient {
            return None;
        }
        let piece = row_len(together * own, lanes);
        let chunk = (budget / (parts * rows * piece)).min(ROWS / rows).clamp(1, self.inputs);
        let edge = row_len((self.to[1] + self.kernel[1] - 1) * self.tiles, lanes);
        Some(Self { segments: 1, longest: self.tiles, groups: 1, lines: self.to[1], joined, together, chunk, edge, piece, ..*self })
    }

    /// By which factor products of few vectors of tiles take longer, as they load for each more often.
    fn narrow(&self) -> f64 {
        if self.together * self.lines * self.longest < NARROW * self.lanes { 1.2 } else { 1.0 }
    }

    /// By which factor the end of a call prolongs it.
    fn waited(&self, op: Op) -> f64 {
        let (all, cut) = if self.joined > 0 { (self.batch * self.to[0], self.joined) } else { (self.to[1], self.groups) };
        waited(op, self.all() as f64, all.is_multiple_of(cut) || cut > EXACT, parted(op, self.inputs, self.outputs))
    }

    /// The part of the time that is left, in per cent: multiplications, and what takes as long as some, in vectors, for a plane of the output.
    fn left<T: Dispatch>(&self, op: Op, kernels: &Kernels<T>) -> usize {
        let [depth, height, width] = self.to;
        let (taps, ky) = (self.kernel.iter().product::<usize>(), self.kernel[1]);
        let (filled, unfold) = match op {
            Op::WeightGradient => (self.outputs.next_multiple_of(self.lanes), TURN),
            _ => (self.outputs, UNFOLD),
        };
        let line = self.tiles.div_ceil(self.lanes);
        let vectors = |lines: usize| if self.segments == 1 { (lines * self.tiles).div_ceil(self.lanes) } else { lines * line };
        // Strips for each plane.
        let (multiplied, strips) = if self.joined > 0 {
            let all = self.batch as f64 * depth as f64;
            let whole = sum_of_parts(self.batch.saturating_mul(depth), self.joined, |planes| vectors(planes * height));
            (whole / all, self.joined as f64 / all)
        } else {
            (sum_of_parts(height, self.groups, vectors), (self.groups * self.segments) as f64)
        };
        let (prepared, summed) = match op {
            Op::WeightGradient => (FINISHED + ADDED * self.slots(size_of::<T>()) as f64, SUMMED * strips),
            _ => (PREPARED, 0.0),
        };
        let products = (self.folding.parts() * self.rows() * self.inputs * filled) as f64 * (multiplied + summed);
        // Vectors of tiles run across short lines, which are copied first.
        let staged =
            if fold::is_short(self.tiles, self.lanes) { STAGED * (self.folding.tile() * self.tiles).div_ceil(self.lanes) } else { 0 };
        let pass = |cost: usize, lines: usize| lines * staged + cost * if staged > 0 { vectors(lines) } else { lines * line };
        let shifted = if self.joined > 0 { SHIFT * self.folding.parts() * ky * vectors(height) } else { 0 };
        let folds = |lines: usize| pass(kernels.fold_cost, lines + ky - 1) + shifted;
        let folds = (self.inputs * self.planes()) as f64 * sum_of_parts(height, self.groups, folds);
        let unfolds = self.outputs as f64 * sum_of_parts(height, self.groups, |lines| pass(unfold, lines));
        let direct = match op {
            // Vectors of the one side or the other, which are turned.
            Op::WeightGradient => {
                let inputs = self.inputs.next_multiple_of(self.lanes);
                (filled * (self.inputs * taps + TURN_DIRECT)).min(inputs * (self.outputs * taps + TURN_DIRECT))
            }
            _ => self.inputs * self.outputs * taps,
        };
        let direct = direct as f64 * (height * width).div_ceil(self.lanes) as f64;
        let prepared = prepared * self.lanes as f64 / (self.batch as f64 * (depth * height * width) as f64);
        (100.0 * ((products + folds + unfolds) / direct + prepared)).round() as usize
    }
}
