//! What a stack's call is cut into, and the arrays that this takes.
//!
//! Pixels are walked line by line (the last axis) through all samples. A strip is a few lines, or a part of one, or all
//! lines of a few small samples: as many pixels as let the hidden channels of a strip stay in a core's own cache. [`cut`](super::cut) deals
//! them to tasks. All of this depends on shapes alone.

use super::coupling::GROUPS;
use super::cut::Cut;
use super::fold::Folding;
use crate::conv::plan::{SLACK, row_len};
use inn_core::stack::{StackPass, StackShape};

/// Bytes of the hidden channels of a strip.
const STRIP_BYTES: usize = 128 << 10;
/// The same in large samples, for each byte of a vector: machines with wide ones have more cache in the second level.
const LARGE_STRIP_BYTES: usize = 4 << 10;
/// Strips of a large sample at least: a single one is to keep several threads busy.
const LARGE_STRIPS: usize = 8;
/// Rows of neighbourhoods that are gathered at once, a channel's at least, where there are more than [`MANY_ROWS`].
const ROWS: usize = 160;
const MANY_ROWS: usize = 256;
/// Pixels of a strip with as many rows, which then stay in the first-level cache.
const MANY_ROWS_PIXELS: usize = 144;
/// Pixels of a strip at most: longer ones save nothing more.
const STRIP_PIXELS: usize = 144;
/// The same where strips do not reach each other.
const APART_PIXELS: usize = 288;
/// Pixels of a strip of folded kernels at most: the longer, the fewer of its lines are reached by others too.
const FOLDED_PIXELS: usize = 576;
/// The part of a vector that the tiles of a line fill at least.
const LEAST_SHARE: usize = 4;
/// What a pass over hidden arrays takes, in that of tiles that end with their lines, where the last one reaches beyond.
const BEYOND: f64 = 1.125;
/// Pixels of a strip at least, where there are as many.
const LEAST_PIXELS: usize = 48;
/// Groups of small samples that are few, and pixels of each at least where another one is made for two threads to share them evenly.
const FEW_GROUPS: usize = 8;
const SHARED_PIXELS: usize = 32;
/// Pieces of a call, if it is large enough.
const PIECES: usize = 16;
/// Pixels of a piece at least, where strips do not reach each other.
const PIECE_PIXELS: usize = 512;
/// Bytes of what strips set aside, at most.
const ASIDE_BYTES: usize = 4 << 20;
/// Bytes of all partial weight gradients.
const PARTIAL_BYTES: usize = 3 << 20;
/// Partial weight gradients at least, from so many pixels on.
const PARTIAL_AT_LEAST: [(usize, usize); 2] = [(2, 128), (4, 4096)];
/// Pixels that a partial weight gradient has to be worth.
const PARTIAL_PIXELS: usize = 64;

/// Multiply-adds up to which a call stays on its thread.
const SMALL: usize = 3 << 19;

/// Extents and padding of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taps {
    pub(crate) kernel: [usize; 3],
    pub(crate) padding: [usize; 3],
}

impl Taps {
    pub(super) const ONE: Self = Self { kernel: [1; 3], padding: [0; 3] };

    pub(crate) fn count(&self) -> usize {
        self.kernel.iter().product()
    }
}

/// The decomposition of a call.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) batch: usize,
    /// Extents as the strips see them.
    pub(super) extents: [usize; 3],
    /// Whether samples of one pixel take the place of pixels.
    pub(super) samples_are_pixels: bool,
    pub(super) first: Taps,
    pub(super) last: Taps,
    pub(super) inputs: usize,
    pub(super) hidden: usize,
    pub(super) middle: usize,
    pub(super) outputs: usize,
    pub(super) lanes: usize,
    pub(super) bytes: usize,
    /// Distance of the rows of a strip's arrays.
    pub(super) pitch: usize,
    /// How both kernels are folded, if they are, see [`fold`](super::fold), and the distance of rows with a number for each tile.
    pub(super) folding: Option<Folding>,
    pub(super) piece: usize,
    /// Distance of folded rows of neighbourhoods, which hold the lines above and below too.
    pub(super) edge: usize,
    pub(super) cut: Cut,
    /// Units of a sample: strips that may reach each other, but not the next unit but one.
    pub(super) units: usize,
    /// Pieces of a sample in each of two phases, or 0 where pieces are whole samples or groups of them.
    pub(super) parts: usize,
    pub(super) pieces: usize,
    /// Whether all strips are worked off side by side though they meet: what each adds to the pixels around it is set aside, and added in the end.
    pub(super) aside: bool,
    /// Partial weight gradients, each with its pieces in their order.
    pub(super) slots: usize,
    /// Partial gradients that the weights and the pixels allow.
    pub(super) most_slots: usize,
}

/// Groups of small samples: an even number of a few, for two threads to share them, where they do not become too short.
fn shared(groups: usize, batch: usize, pixels: usize) -> usize {
    let even = groups.next_multiple_of(2);
    if groups < FEW_GROUPS && batch / even * pixels >= SHARED_PIXELS { even } else { groups }
}

impl Plan {
    /// Plans a pass over a stack on vectors of `lanes` elements of `bytes` bytes.
    pub(crate) fn new(shape: &StackShape, pass: StackPass, lanes: usize, bytes: usize) -> Self {
        let (mut batch, mut extents) = (shape.x.batch(), shape.x.extents());
        let kernel = shape.first.extents();
        let missing = 3 - shape.x.rank();
        let padding = std::array::from_fn(|axis| if axis < missing { 0 } else { shape.padding });
        let first = Taps { kernel, padding };
        let last = if shape.transposed { first } else { Taps::ONE };
        let mut samples_are_pixels = false;
        if first.count() == 1 {
            extents = [1, 1, shape.x.pixels()];
            if extents[2] == 1 {
                samples_are_pixels = true;
                extents[2] = batch;
                batch = 1;
            }
        }
        let hidden = shape.hidden();
        let rows = (shape.x.channels() * first.count()).max(shape.outputs * last.count());
        let (lines, width) = (extents[0] * extents[1], extents[2]);
        let large = LARGE_STRIP_BYTES * lanes / hidden;
        let room = (STRIP_BYTES / (bytes * hidden)).max(large.min(lines * width / LARGE_STRIPS));
        let up_to = |pixels| room.clamp(LEAST_PIXELS, if rows > MANY_ROWS { MANY_ROWS_PIXELS } else { pixels });
        let most = up_to(if first.count() == 1 { APART_PIXELS } else { STRIP_PIXELS });
        let three = first.kernel[2] == 3 && first.padding[2] == 1 && last == first;
        // A line's tiles have to fill a part of a vector, or folding costs more than it saves; less where there is much to save.
        let long = room.clamp(LEAST_PIXELS, FOLDED_PIXELS);
        let fits = |folding: &Folding| {
            let share = if *folding == Folding::Four || rows > MANY_ROWS { LEAST_SHARE } else { LEAST_SHARE / 2 };
            three && width.div_ceil(folding.tile()) * share >= lanes
        };
        // The cut of a sample is part of the order of summation, and so does not depend on how many there are, unless what is kept serves gradients,
        // which are summed over all.
        let few = if matches!(pass, StackPass::Keep | StackPass::Adjoint) && batch < GROUPS { batch } else { 0 };
        // Multiply-adds of a row and a pixel, those at the ends of vectors and lines included.
        let (outer, inner) = ((shape.x.channels() + shape.outputs) * first.count(), shape.middle * hidden);
        let folded = [Folding::Four, Folding::Two].into_iter().filter(fits).map(|folding| {
            let (tile, (cut, vectors)) = (folding.tile(), Cut::folded(extents, folding.tile(), long, lanes, few));
            let each = (folding.parts() * outer) as f64 / (3 * tile) as f64 + inner as f64;
            let beyond = if width.is_multiple_of(tile) { 1.0 } else { BEYOND };
            (each * vectors * (lanes * tile) as f64 * beyond, folding, cut)
        });
        let best = folded.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|best| best.0 < (outer + inner) as f64 * (lines * width) as f64);
        let folding = best.map(|best| best.1);
        let tile = folding.map_or(1, Folding::tile);
        let tiled = width.next_multiple_of(tile);
        let cut = if let Some((.., cut)) = best {
            cut
        } else if width > most {
            Cut::Line(width.div_ceil(most), 1)
        } else if lines * width > most {
            Cut::Sample(lines.div_ceil(most / width))
        } else {
            let groups = batch.div_ceil(up_to(APART_PIXELS) / (lines * width));
            let small = hidden.saturating_mul(outer + inner).saturating_mul(batch * lines * width) <= SMALL;
            Cut::Batch(if small { groups } else { shared(groups, batch, lines * width) })
        };
        let longest = cut.longest(batch, [extents[0], extents[1], tiled]);
        let odd = |elements: usize| row_len(elements, lanes);
        // Each pixel of a tile has whole vectors.
        let pitch = odd((longest / tile).next_multiple_of(lanes) * tile);
        let (piece, edge) = (odd(longest / tile), odd((longest + (first.kernel[1] - 1) * tiled.min(longest)) / tile));
        let mut plan = Self {
            batch,
            extents,
            samples_are_pixels,
            first,
            last,
            inputs: shape.x.channels(),
            hidden,
            middle: shape.middle,
            outputs: shape.outputs,
            lanes,
            bytes,
            pitch,
            folding,
            piece,
            edge,
            cut,
            units: 1,
            parts: 0,
            pieces: 0,
            aside: false,
            most_slots: 1,
            slots: 1,
        };
        let strips = plan.strips();
        let reach = plan.reach();
        let least = |pieces: usize| strips.min((batch * lines * width).div_ceil(PIECE_PIXELS)).min(pieces);
        (plan.parts, plan.pieces) = match cut {
            Cut::Batch(_) => (0, strips.min(PIECES)),
            _ if reach == 0 => (0, least(PIECES.max(batch.min(2 * PIECES)))),
            _ => {
                // Between units that run at one time lies one that keeps them apart.
                let per_sample = strips / batch;
                let most = (per_sample / (2 * reach).div_ceil(cut.shortest(extents).max(1))).clamp(1, 2 * PIECES);
                // A number that is dealt evenly to both phases and to their tasks.
                plan.units = 1 << most.ilog2();
                let parts = PIECES.div_ceil(batch).min(plan.units / 2);
                if parts > 1 { (parts, 2 * batch * parts) } else { (0, batch.min(4 * PIECES)) }
            }
        };
        let elements: usize = [plan.aside(0), plan.aside(1)].iter().sum();
        let meet = reach > 0 && !matches!(cut, Cut::Batch(_)) && strips > batch;
        plan.aside = meet && plan.parts <= 1 && batch < GROUPS && !plan.is_small() && elements * bytes <= ASIDE_BYTES;
        let pixels = batch * lines * width;
        let each = plan.weights() * bytes;
        let tasks = plan.tasks();
        // However large the weights are, some threads have a slot each if there is much to do.
        let least = PARTIAL_AT_LEAST.into_iter().filter(|&(_, from)| pixels >= from).map(|(slots, _)| slots).max();
        let slots = (PARTIAL_BYTES / each.max(1)).min(pixels / PARTIAL_PIXELS).max(least.unwrap_or(1));
        plan.most_slots = PIECES.min(slots);
        plan.slots = plan.slots_of(tasks);
        plan
    }

    /// Partial gradients that tasks share: the number with which the busiest of two threads has the fewest tasks, and then that of four.
    pub(super) fn slots_of(&self, tasks: usize) -> usize {
        let busiest = |slots: usize, threads: usize| slots.div_ceil(threads) * tasks.div_ceil(slots);
        (1..=self.most_slots.min(tasks)).rev().min_by_key(|&slots| (busiest(slots, 2), busiest(slots, 4))).unwrap_or(1)
    }

    /// Elements of a strip's rows for the neighbourhoods of some channels of the image that `to` is: 0 for the input, 1 for the output.
    pub(super) fn rows_len(&self, to: usize, channels: usize) -> usize {
        let taps = [self.first, self.last][to];
        channels * if self.folding.is_some() { taps.kernel[0] * self.arrays() * self.edge } else { taps.count() * self.pitch }
    }

    /// Elements of what all strips set aside for the input or for the output.
    fn aside(&self, to: usize) -> usize {
        self.strips() * self.rows_len(to, [self.inputs, self.outputs][to]) + SLACK
    }

    /// The same, if they do.
    pub(super) fn aside_len(&self, to: usize) -> usize {
        if self.aside { self.aside(to) } else { 0 }
    }

    /// Multiplications by weights at a pixel, with the hidden channels filled up to whole vectors.
    pub(super) fn weights(&self) -> usize {
        self.partial_sizes().iter().sum()
    }

    /// Hidden channels, filled up to whole vectors.
    pub(super) fn wide(&self) -> usize {
        self.hidden.next_multiple_of(self.lanes)
    }

    /// Rows of the arrays that the first and the last product make or take.
    pub(super) fn outer_rows(&self) -> (usize, usize) {
        (self.inputs * self.first.count(), self.outputs * self.last.count())
    }

    /// Channels whose neighbourhoods are gathered or scattered at once, of an image with `channels` channels.
    pub(super) fn chunk(channels: usize, taps: Taps) -> usize {
        if channels * taps.count() <= MANY_ROWS { channels } else { (ROWS / taps.count()).max(1) }
    }

    /// Arrays that take the place of a hidden one at a folded kernel, or just that one.
    pub(super) fn arrays(&self) -> usize {
        self.folding.map_or(1, Folding::parts)
    }

    /// Pixels of which a row of such an array has one number.
    pub(super) fn tile(&self) -> usize {
        self.folding.map_or(1, Folding::tile)
    }

    /// Rows of the arrays for as many rows of a weight: four or six instead of three taps where kernels are folded.
    pub(super) fn unfolded(&self, rows: usize) -> usize {
        rows / self.taps() * self.arrays()
    }

    /// Taps that are folded to as many rows as there are arrays.
    pub(super) fn taps(&self) -> usize {
        if self.folding.is_some() { 3 } else { 1 }
    }

    /// Rows of an array of neighbourhoods that are one, shifted by lines.
    pub(super) fn shifts(&self) -> usize {
        if self.folding.is_some() { self.first.kernel[1] } else { 1 }
    }

    /// Elements of the array for neighbourhoods.
    pub(super) fn edge_len(&self) -> usize {
        let rows = self.edge_rows();
        if self.folding.is_some() {
            rows.div_ceil(self.first.count()) * self.first.kernel[0] * self.arrays() * self.edge
        } else {
            rows * self.pitch
        }
    }

    /// Rows of the array for neighbourhoods.
    fn edge_rows(&self) -> usize {
        let rows = |channels, taps: Taps| Self::chunk(channels, taps).min(channels) * taps.count();
        rows(self.inputs, self.first).max(rows(self.outputs, self.last)).max(MANY_ROWS.min(self.inputs * self.first.count()))
    }

    /// Elements of the partial gradients of W_1, the middle weights together, W, and all biases, which have a vector each.
    pub(super) fn partial_sizes(&self) -> [usize; 4] {
        let (rows_in, rows_out) = self.outer_rows();
        let (rows_in, rows_out) = (self.unfolded(rows_in), self.unfolded(rows_out));
        let wide = self.wide();
        [rows_in * wide, self.middle * self.hidden * wide, rows_out * wide, ((self.middle + 1) * self.hidden + self.outputs) * self.lanes]
    }

    /// Elements that a strip keeps for the adjoint.
    pub(super) fn kept_of_strip(&self) -> usize {
        (self.middle + 1) * self.hidden * self.pitch
    }

    /// Elements that all strips keep.
    pub(crate) fn kept(&self) -> usize {
        self.strips() * self.kept_of_strip()
    }

    /// Whether a call is not worth more than one thread.
    pub(super) fn is_small(&self) -> bool {
        self.work() <= SMALL
    }

    /// Multiply-adds of one way.
    fn work(&self) -> usize {
        let (rows_in, rows_out) = self.outer_rows();
        let pixels = self.batch * self.extents.iter().product::<usize>();
        self.hidden.saturating_mul(rows_in + rows_out + self.middle * self.hidden).saturating_mul(pixels)
    }
}
