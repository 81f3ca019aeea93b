//! Convolutions with strides of one, with fewer multiplications; see [`fold`](crate::stack::fold) for how. That is for three taps along the last axis;
//! other kernels are filled up with zeros to thirds of three taps each, whose results are added up before they are unfolded.
//!
//! Lines of a plane that follow each other make a strip, or the same part of each of them does. The lines of the input that a strip reaches
//! are folded, some channels at a time, into rows `[channel][plane][third][e][line][tile]`, in which a tap along the other axes is a shift by
//! whole lines or another row. So for each e the convolution is a matrix product on rows as they are, and its results are unfolded into the
//! lines of the output. The input gradient is the same with mirrored weights. The gradient of the folded weights is an outer product of those rows and of the folded output gradients, added up strip by strip.
//!
//! Where planes are small, several of them make a strip, one after the other without a gap, so that vectors are filled; then folded rows are copied, shifted by the
//! lines of each tap, so that a tap is a row of its own.
//!
//! This takes 6 multiplications instead of 12 for four pixels, or 4 instead of 6 for two; folding takes as long as some tens of them. [`Plan::new`]
//! says where it is worth it.

mod apply;
mod plan;
mod weight;

pub(super) use apply::apply;
pub(super) use plan::WEIGHT_BYTES;
pub(super) use weight::weight_gradient;

use super::Planes;
use super::geometry::{Geometry, Op};
use super::kernels::{Dispatch, Kernels};
use super::micro::Spread;
use super::plan::split;
use super::scratch::Scratch;
use crate::stack::fold;
use plan::Plan;
use std::ops::Range;

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

impl Plan {
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
        if self.joined > 0 { self.joined } else { self.batch.saturating_mul(self.to[0]).saturating_mul(self.groups * self.segments) }
    }

    /// The planes of a strip, or the lines of a single one, and what they reach.
    fn reached(&self, index: usize) -> Vec<(Strip, Reach)> {
        let planes = if self.joined > 0 { split(self.batch * self.to[0], self.joined, index) } else { index..index + 1 };
        let reached = |plane: usize| {
            let strip = self.strip(plane);
            let reach = self.reach(&strip);
            (strip, reach)
        };
        planes.map(reached).collect()
    }

    /// Tiles of a strip.
    fn tiles_of(&self, strips: &[(Strip, Reach)]) -> usize {
        strips.iter().map(|(strip, _)| strip.lines.len() * strip.tiles.len()).sum()
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
    fn reach(&self, strip: &Strip) -> Reach {
        let mut to = Reach::default();
        let [depth, height, width] = self.from;
        let ([kz, ky, _], [pz, py, px]) = (self.kernel, self.padding);
        let (start, tile) = (strip.pixels.start, self.folding.tile());
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
        to
    }

    /// Folds the lines of some channels of `x` that a strip reaches.
    ///
    /// # Safety
    /// The kernels are those of an available level; `x` has the lines of the channels, and `to` [`folded_len`](Self::folded_len) elements.
    unsafe fn fold<T: Dispatch>(
        &self,
        kernels: &Kernels<T>,
        x: Planes<'_, T>,
        channels: &Range<usize>,
        strips: &[(Strip, Reach)],
        to: &mut [T],
    ) {
        let (edge, shifted) = to.split_at_mut(self.edge_len());
        let mut tiles = 0;
        for (strip, reach) in strips {
            let fold = fold::FoldPlanes {
                from: x.data[strip.sample * x.batch_stride + channels.start * x.channel_stride..].as_ptr(),
                channels: channels.len(),
                channel: x.channel_stride,
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
            if self.joined == 0 {
                continue;
            }
            let count = strip.lines.len() * strip.tiles.len();
            let shift = fold::Shift {
                from: edge.as_ptr(),
                row: self.edge,
                rows: channels.len() * self.planes() * self.folding.parts(),
                count,
                shifts: self.kernel[1],
                by: strip.tiles.len(),
                to: shifted[tiles..].as_mut_ptr(),
                pitch: self.piece,
            };
            // SAFETY: rows of `edge` have the lines of all shifts and a vector, those of `shifted` all tiles and a vector.
            unsafe { (kernels.shift)(&shift) };
            tiles += count;
        }
    }

    /// The rows of array `e` of what was [folded](Self::fold): where the first starts, and the places of all.
    fn rows_of(&self, e: usize, strips: &[(Strip, Reach)]) -> (usize, Spread) {
        let (group, parts) = (self.kernel[1], self.folding.parts());
        match strips {
            [(strip, _), ..] if self.joined == 0 => (e * self.edge, Spread { row: strip.tiles.len(), group, apart: parts * self.edge }),
            _ => (self.edge_len() + e * group * self.piece, Spread { row: self.piece, group, apart: parts * group * self.piece }),
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

    /// Elements of the folded input of a strip, or of a plane of it.
    fn edge_len(&self) -> usize {
        self.chunk * self.planes() * self.folding.parts() * self.edge
    }

    /// The same with what is shifted.
    fn folded_len(&self) -> usize {
        let shifted = if self.joined > 0 { self.chunk * self.rows() * self.folding.parts() * self.piece } else { 0 };
        self.edge_len() + shifted
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
    let lists =
        plan.together * (size_of::<(Strip, Reach)>() + size_of::<Option<usize>>() * plan.planes() * (plan.lines + plan.kernel[1]) + 64);
    let packing = if op == Op::WeightGradient { 0 } else { apply::lists(&plan, kernels, threads) };
    let bounds = if fold::is_short(plan.longest, plan.lanes) { 4 * plan.longest + 2 } else { 0 };
    let masks = 8 * plan.together * (plan.folding.parts() * plan.longest.div_ceil(plan.lanes) + bounds) * plan.thirds();
    Some(Scratch { shared: shared * size_of::<T>() + packing + 128, each: each * size_of::<T>() + lists + masks + 128, alone: false })
}

#[cfg(test)]
mod tests;
