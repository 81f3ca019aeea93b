//! Convolutions with three taps along the last axis, with fewer multiplications; see [`fold`](crate::stack::fold) for how.
//!
//! Lines of a plane that follow each other make a strip. The lines of the input that a strip reaches are folded, some channels at a time, into rows
//! `[channel][plane][e][line][tile]`, in which a tap along the other axes is a shift by whole lines or another row. So for each e the convolution is a matrix
//! product on rows as they are, and its results are unfolded into the lines of the output. The input gradient is the same with mirrored
//! weights. The gradient of the folded weights is an outer product of those rows and of the folded output gradients, added up strip by strip.
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
use super::plan::split;
use super::scratch::Scratch;
use crate::stack::fold::{self, Folding};
use std::ops::Range;

/// Rows of the folded input at one time: a few vectors of each stay in the first-level cache.
const ROWS: usize = 160;
/// Rows of a product and taps of the other axes that folding and unfolding are worth.
const WORTH: usize = 48;
/// Multiplications that are saved, as the part that is left, in per cent at most.
const LEFT: usize = 80;
/// Bytes of the arrays of a strip, each, at most.
const STRIP_BYTES: usize = 512 << 10;
/// Strips of a call, if it has lines enough.
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
    /// Pixels along each axis.
    extents: [usize; 3],
    kernel: [usize; 3],
    lanes: usize,
    /// Tiles of a line.
    tiles: usize,
    /// Strips of a plane, and lines of the longest.
    strips: usize,
    lines: usize,
    /// Channels that are folded at one time.
    chunk: usize,
    /// Distance of folded rows of the input, and of the output.
    edge: usize,
    piece: usize,
    /// Where the pixels of a line lie in vectors.
    masks: Vec<u32>,
}

impl Plan {
    /// The plan of an operation, if it is worth it.
    fn new<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>) -> Option<Self> {
        let (lanes, bytes) = (kernels.lanes, size_of::<T>());
        let same = (0..3).all(|axis| g.stride[axis] == 1 && g.kernel[axis] == 2 * g.padding[axis] + 1);
        let (inputs, outputs) = if op == Op::InputGradient { (g.out_channels, g.in_channels) } else { (g.in_channels, g.out_channels) };
        let others = g.kernel[0] * g.kernel[1];
        let work = (inputs * outputs * g.taps()).saturating_mul(g.batch * g.input_pixels());
        if !same || g.kernel[2] != 3 || inputs.min(outputs) * others < WORTH || work <= SMALL {
            return None;
        }
        let [depth, height, width] = g.input;
        let chunk = (ROWS / others).clamp(1, inputs);
        let budget = kernels.planes_bytes.min(STRIP_BYTES) / bytes;
        let of = |folding: Folding| {
            let (tile, parts) = (folding.tile(), folding.parts());
            let tiles = width.div_ceil(tile);
            // Tiles of the arrays that fit.
            let (own, around) = (budget / (parts * outputs) / tiles, budget / (parts * chunk * g.kernel[0]) / tiles);
            let lines = own.min(around.saturating_sub(g.kernel[1] - 1)).min(height);
            let strips = height.div_ceil(lines.max(1)).max(STRIPS.div_ceil(g.batch * depth).min(height / LEAST_LINES));
            let lines = if lines == 0 { 0 } else { height.div_ceil(strips) };
            // An odd number of vectors spreads the rows over the cache; one more than there are tiles for.
            let pitch = |lines: usize| ((lines * tiles).div_ceil(lanes) + 1 | 1) * lanes;
            let (edge, piece) = (pitch(lines + g.kernel[1] - 1), pitch(lines));
            let masks = Vec::new();
            let extents = g.input;
            let (batch, kernel) = (g.batch, g.kernel);
            Self { folding, batch, inputs, outputs, extents, kernel, lanes, tiles, strips, lines, chunk, edge, piece, masks }
        };
        let filled = |channels: usize| if op == Op::WeightGradient { channels.next_multiple_of(lanes) } else { channels };
        let left = |plan: &Self| {
            let vectors: usize = (0..plan.strips).map(|s| plan.own(s).len() * plan.tiles).map(|tiles| tiles.next_multiple_of(lanes)).sum();
            100 * plan.folding.parts() * vectors * filled(outputs) / (3 * height * width * outputs)
        };
        let plans = [Folding::Four, Folding::Two].map(of);
        let best = plans.into_iter().filter(|plan| plan.lines > 0).min_by_key(left)?;
        (left(&best) <= LEFT).then(|| Self { masks: fold::masks(lanes, best.folding.tile(), width), ..best })
    }

    /// Taps of the axes but the last.
    fn others(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Strips of all planes and samples.
    fn all(&self) -> usize {
        self.batch * self.extents[0] * self.strips
    }

    /// The sample, the plane and the lines of a strip.
    fn strip(&self, index: usize) -> (usize, usize, Range<usize>) {
        let plane = index / self.strips;
        (plane / self.extents[0], plane % self.extents[0], self.own(index % self.strips))
    }

    /// The lines of a strip of a plane.
    fn own(&self, strip: usize) -> Range<usize> {
        split(self.extents[1], self.strips, strip)
    }

    /// Where the lines start that a strip reaches, `[plane][line]`.
    fn reached(&self, plane: usize, own: &Range<usize>, to: &mut Vec<Option<usize>>) {
        let [depth, height, width] = self.extents;
        let [pz, py, _] = self.kernel.map(|k| k / 2);
        to.clear();
        for z in plane..plane + self.kernel[0] {
            let z = z.checked_sub(pz).filter(|&z| z < depth);
            to.extend((own.start..own.end + 2 * py).map(|y| {
                let y = y.checked_sub(py).filter(|&y| y < height)?;
                Some((z? * height + y) * width)
            }));
        }
    }

    /// The chunks of channels.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.inputs).step_by(self.chunk).map(|start| start..(start + self.chunk).min(self.inputs))
    }

    /// Elements of the folded input of a strip.
    fn edge_len(&self) -> usize {
        self.chunk * self.kernel[0] * self.folding.parts() * self.edge
    }

    /// Elements of the weights, folded.
    fn weights(&self) -> usize {
        self.inputs * self.outputs * self.others() * self.folding.parts()
    }
}

/// Upper bound on the working memory of an operation, if it is folded.
pub(super) fn scratch<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>, threads: usize) -> Option<Scratch> {
    let plan = Plan::new(g, op, kernels)?;
    let (shared, each) =
        if op == Op::WeightGradient { weight::elements::<T>(&plan) } else { apply::elements(&plan, threads) };
    let lists = size_of::<Option<usize>>() * plan.kernel[0] * (plan.lines + plan.kernel[1]) + 64;
    let masks = 4 * plan.masks.len();
    Some(Scratch { shared: shared * size_of::<T>() + masks + 128, each: each * size_of::<T>() + lists + 128, alone: false })
}
