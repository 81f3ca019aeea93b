//! Convolutions with strides of one, with fewer multiplications; see [`fold`](crate::stack::fold) for how. That is for three taps along the last axis;
//! other kernels are filled up with zeros to thirds of three taps each, whose results are added up before they are unfolded.
//!
//! Lines of a plane that follow each other make a strip, or the same part of each of them does. The lines of the input that a strip reaches are folded, some channels at a time, into rows
//! `[channel][plane][third][e][line][tile]`, in which a tap along the other axes is a shift by whole lines or another row. So for each e the convolution is a matrix
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
use super::plan::{split, splits};
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
const LEFT: usize = 80;
const LEFT_GRADIENT: usize = 70;
/// Vectors of multiplications that unfolding a vector of tiles takes as long as, and folding and turning one of an output gradient.
const UNFOLD: usize = 20;
const TURN: usize = 200;
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
    /// Where the pixels of a line lie in vectors, third by third.
    masks: Vec<u32>,
}

/// Lines of a plane, or a part of each.
struct Strip {
    sample: usize,
    plane: usize,
    lines: Range<usize>,
    /// Of each line.
    tiles: Range<usize>,
    pixels: Range<usize>,
    /// Where their masks start, of each third.
    masks: usize,
}

impl Plan {
    /// The plan of an operation, if it is worth it.
    fn new<T: Dispatch>(g: &Geometry, op: Op, kernels: &Kernels<T>) -> Option<Self> {
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
        let (others, thirds) = (g.kernel[0] * g.kernel[1], g.kernel[2].div_ceil(3));
        let pixels = g.batch * to.iter().product::<usize>();
        let work = inputs.saturating_mul(outputs).saturating_mul(g.taps()).saturating_mul(pixels);
        if outputs < LEAST_OUTPUTS || inputs.min(outputs).saturating_mul(others) < WORTH || work <= SMALL {
            return None;
        }
        let weights = inputs.saturating_mul(outputs).saturating_mul(others * thirds * fold::MOST_PARTS * bytes);
        if weights > WEIGHT_BYTES || op == Op::WeightGradient && outputs * others < WORTH_GRADIENT {
            return None;
        }
        let [depth, height, width] = to;
        let [kz, ky, kx] = g.kernel;
        let chunk = (ROWS / (others * thirds)).clamp(1, inputs);
        let budget = kernels.planes_bytes.min(STRIP_BYTES) / bytes;
        let of = |folding: Folding| {
            let (tile, parts) = (folding.tile(), folding.parts());
            let tiles = width.div_ceil(tile);
            let vectors = tiles.div_ceil(lanes);
            // Lines whose arrays fit, if they are as long as that.
            let fit = |longest: usize| {
                let (own, reached) = (budget / (parts * outputs * longest), budget / (parts * chunk * kz * thirds * longest));
                own.min(reached.saturating_sub(ky - 1)).min(height)
            };
            let longest = |segments: usize| tiles.min(vectors.div_ceil(segments) * lanes);
            // Lines above and below are folded too, in each group.
            let wanted = height.min((3 * (ky - 1)).max(1));
            let segments = (1..vectors).find(|&segments| fit(longest(segments)) >= wanted).unwrap_or(vectors);
            let longest = longest(segments);
            let least = height.div_ceil(fit(longest).max(1));
            // What the last vectors of strips have too much is lost, and one strip that all wait for.
            let cost = |groups: &usize| {
                let whole: usize = splits(height, *groups).map(|lines| (lines.len() * longest).next_multiple_of(lanes)).sum();
                let strips = g.batch * depth * segments * groups;
                // Partial gradients cannot be parted further.
                let wait = if op == Op::WeightGradient { 4 } else { 1 };
                (whole * (strips + wait)).div_ceil(strips)
            };
            let groups = (least..=least.max(height / LEAST_LINES).min(least + STRIPS)).min_by_key(cost).unwrap_or(least);
            let lines = height.div_ceil(groups);
            // An odd number of vectors spreads the rows over the cache; one more than there are tiles for.
            let pitch = |lines: usize| (((lines * longest).div_ceil(lanes) + 1) | 1) * lanes;
            let (edge, piece) = (pitch(lines + ky - 1), pitch(lines));
            let (batch, kernel, masks) = (g.batch, g.kernel, Vec::new());
            Self {
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
                masks,
            }
        };
        let filled = |channels: usize| if op == Op::WeightGradient { channels.next_multiple_of(lanes) } else { channels };
        let (unfold, most) = if op == Op::WeightGradient { (TURN, LEFT_GRADIENT) } else { (UNFOLD, LEFT) };
        // All in vectors of multiplications, for a plane of the output.
        let left = |plan: &Self| {
            let (mut products, mut folds, mut unfolds) = (0, 0, 0);
            for strip in (0..plan.groups * plan.segments).map(|strip| plan.strip(strip)) {
                let (lines, tiles) = (strip.lines.len(), strip.tiles.len());
                products += plan.folding.parts() * plan.rows() * inputs * filled(outputs) * (lines * tiles).div_ceil(lanes);
                folds += kernels.fold_cost * inputs * plan.planes() * (lines + ky - 1) * tiles.div_ceil(lanes);
                unfolds += unfold * outputs * lines * tiles.div_ceil(lanes);
            }
            let direct = inputs * outputs * others * kx * (height * width).div_ceil(lanes);
            100 * (products + folds + unfolds) / direct + 100 * PREPARED * lanes / pixels
        };
        let best = [Folding::Four, Folding::Two].map(of).into_iter().min_by_key(left)?;
        let tile = best.folding.tile();
        let masks = |third: usize| fold::masks(lanes, tile, best.tiles, from[2], (padding[2], 3 * third));
        (left(&best) <= most).then(|| Self { masks: (0..thirds).flat_map(masks).collect(), ..best })
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
        self.batch * self.to[0] * self.groups * self.segments
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
            masks: 3 * tile * vectors.start,
            tiles,
        }
    }

    /// Where the parts of lines start that a strip reaches, `[plane][third][line]`, but for the padding.
    fn reached(&self, strip: &Strip, to: &mut Vec<Option<usize>>) {
        let [depth, height, width] = self.from;
        let ([kz, ky, _], [pz, py, _]) = (self.kernel, self.padding);
        to.clear();
        for z in strip.plane..strip.plane + kz {
            let z = z.checked_sub(pz).filter(|&z| z < depth);
            for third in 0..self.thirds() {
                to.extend((strip.lines.start..strip.lines.end + ky - 1).map(|y| {
                    let y = y.checked_sub(py).filter(|&y| y < height)?;
                    Some((z? * height + y) * width + strip.pixels.start + 3 * third)
                }));
            }
        }
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
    let masks = 4 * plan.masks.len();
    Some(Scratch { shared: shared * size_of::<T>() + packing + masks + 128, each: each * size_of::<T>() + lists + 128, alone: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Level;

    fn plan(batch: usize, channels: [usize; 2], input: [usize; 3], kernel: [usize; 3], op: Op, level: Level) -> Option<Plan> {
        let g = Geometry::new(batch, channels[0], channels[1], input, kernel, [1; 3], kernel.map(|k| k / 2)).unwrap();
        Plan::new(&g, op, f32::kernels(level))
    }

    /// Every pixel is in one strip, and the arrays of a strip have room for it.
    #[test]
    fn strips_cover_the_batch() {
        let shapes = [
            (8, [128, 128], [1, 32, 32], [1, 3, 3]),
            (1, [64, 64], [1, 256, 256], [1, 3, 3]),
            (2, [200, 190], [1, 37, 1025], [1, 3, 3]),
            (1, [33, 32], [48, 47, 46], [3, 3, 3]),
            (3, [50, 90], [1, 1, 5000], [1, 1, 3]),
            (1, [400, 150], [1, 19, 260], [1, 5, 3]),
        ];
        for level in Level::available() {
            for (batch, channels, input, kernel) in shapes {
                for op in [Op::Forward, Op::InputGradient, Op::WeightGradient] {
                    let Some(p) = plan(batch, channels, input, kernel, op, level) else {
                        // Turning output gradients, or lanes that they do not fill.
                        assert!(op == Op::WeightGradient, "{op:?} of {channels:?} {input:?} at {level:?}");
                        continue;
                    };
                    let mut seen = vec![0; batch * input.iter().product::<usize>()];
                    for strip in (0..p.all()).map(|strip| p.strip(strip)) {
                        assert!(strip.lines.len() <= p.lines && strip.tiles.len() <= p.longest);
                        assert!((strip.lines.len() + kernel[1] - 1) * strip.tiles.len() + p.lanes <= p.edge);
                        assert!(strip.lines.len() * strip.tiles.len() + p.lanes <= p.piece);
                        let start = strip.sample * input.iter().product::<usize>() + p.start(&strip);
                        for line in 0..strip.lines.len() {
                            let start = start + line * input[2];
                            seen[start..start + strip.pixels.len()].iter_mut().for_each(|seen| *seen += 1);
                        }
                    }
                    assert!(seen.iter().all(|&seen| seen == 1), "{op:?} of {channels:?} {input:?} at {level:?}");
                }
            }
        }
    }

    #[test]
    fn what_saves_too_little_is_not_folded() {
        let level = crate::simd::level();
        let folded = |channels, input, kernel| plan(4, channels, input, kernel, Op::Forward, level).is_some();
        assert!(folded([64, 64], [1, 64, 64], [1, 3, 3]));
        assert!(!folded([6, 128], [1, 64, 64], [1, 3, 3]) && !folded([128, 6], [1, 64, 64], [1, 3, 3]));
        assert!(!folded([64, 64], [1, 64, 64], [3, 3, 1]) && !folded([64, 64], [1, 4, 2], [1, 3, 3]));
        // Weights that take much more memory than their own.
        assert!(!folded([137, 190], [17, 18, 19], [7, 7, 7]));
        // A weight gradient fills whole vectors.
        assert!(plan(1, [64, 8], [1, 64, 64], [1, 3, 3], Op::WeightGradient, level).is_none());
    }
}
