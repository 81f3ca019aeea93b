//! How the work is cut into pieces.
//!
//! All operations run over *positions*: output pixels for the forward
//! operation and the weight gradient, and input pixels divided by the stride
//! for the input gradient (each position stands for `stride` pixels, one of
//! each *phase*). A piece of work is a box of positions of a group of samples.
//! Its source is copied into zero-padded planes, one for each channel and
//! phase, in which the tap of a kernel is a constant offset: position `q` and
//! tap `t` need element `q + offset(t)` of a plane. A box is then processed as
//! one run of consecutive positions across line, slice and sample ends.
//!
//! Zeros between lines serve as the end padding of one line and the start
//! padding of the next; likewise for slices and samples. That keeps the run
//! short: an image of 8 x 8 pixels with a padding of 1 takes 9 x 9 positions.
//!
//! Where that still wastes too much of the run (large kernels on small images),
//! the last axes are *lowered*: they have a plane for each tap instead of each
//! phase, copied once for each, and no halo. Lines then follow each other
//! without a gap. Lowering all axes is the well-known matrix of patches
//! (im2col); lowering the last one, that of Cho and Brand, "MEC:
//! Memory-efficient Convolution for Deep Neural Network", ICML 2017.
//!
//! Everything here depends on shapes only, never on the number of threads.

pub(crate) use super::axis::Axis;
use super::copy::JOINED;
use super::geometry::Geometry;
use super::index::listed;
pub(crate) use super::micro::READ_AHEAD as SLACK;
use crate::simd::MAX_LANES;

/// The decomposition of an operation into boxes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) axes: [Axis; 3],
    /// Parts that each axis is cut into.
    pub(crate) parts: [usize; 3],
    pub(crate) batch: usize,
    /// Groups of samples.
    pub(crate) groups: usize,
    /// Largest length of a plane, and of those of one channel, with padding.
    pub(crate) plane_len: usize,
    pub(crate) channel_len: usize,
    /// Largest number of positions of a box, of those with a target, and of
    /// lines, halo included.
    pub(crate) positions: usize,
    pub(crate) pixels: usize,
    pub(crate) lines: usize,
}

/// Positions of a box at most; longer runs gain nothing.
const MAX_POSITIONS: usize = 2048;
/// Multiply-adds of a box at least, so that scheduling it costs little.
const MIN_WORK: usize = 1 << 20;
/// Boxes of a call, if it has enough work: enough to keep cores evenly busy.
const BOXES: usize = 16;
/// Groups of samples from which on it does not matter that some have one more than others.
const FEW: usize = 4;
/// Products that a result adds up at least between being read and written, where axes are lowered.
const LOWERED: usize = 512;
/// Cycles of [`Plan::cost`].
const COPY: f64 = 3.0;
const COPY_STEP: f64 = 5.0;
const ADD: f64 = 4.0;
const ADD_STEP: f64 = 28.0;
const LOAD: f64 = 1.0;

/// How kernels go over a box.
#[derive(Clone, Copy)]
pub(crate) struct Sweep {
    /// Channels of the other side that they take at a time.
    pub(crate) rows: usize,
    /// As many positions as the end of a run costs, for those that go from position to position and leave out gaps; the others take whole
    /// vectors and most gaps with them.
    pub(crate) end: Option<usize>,
}

impl Plan {
    /// Plans the forward operation or, with `adjoint`, the input gradient, for the least time by [`cost`](Self::cost).
    /// `budget` is the number of elements that the planes of all channels of a box should not exceed if possible.
    /// Boxes have at least `least` positions, where the axes and the budget allow it.
    pub(crate) fn new(g: &Geometry, adjoint: bool, budget: usize, least: usize, sweep: Sweep) -> Self {
        let (rows, channels) = if adjoint { (g.in_channels, g.out_channels) } else { (g.out_channels, g.in_channels) };
        let axis = if adjoint { Axis::input_gradient } else { Axis::forward };
        let mut axes = [axis(g, 0), axis(g, 1), axis(g, 2)];
        let flat = Self::with_axes(g, axes, rows * channels * g.taps(), channels, budget, least);
        let mut best = (flat.cost([rows, channels, g.taps()], budget, &sweep), flat);
        for axis in (0..3).rev().filter(|&axis| g.kernel[axis] > 1) {
            let taps = if adjoint { axes[axis].halo + 1 } else { g.kernel[axis] };
            axes[axis] = axes[axis].lowered(taps);
            // An input gradient adds up the taps of one phase at a time.
            let held = LOWERED.div_ceil(g.most_taps(adjoint)).min(channels);
            let plan = Self::with_axes(g, axes, rows * channels * g.taps(), held, budget, least);
            let cost = plan.cost([rows, channels, g.taps()], budget, &sweep);
            if cost < best.0 {
                best = (cost, plan);
            }
        }
        best.1
    }

    /// Boxes for which `held` channels at a time fit into the budget.
    fn with_axes(g: &Geometry, axes: [Axis; 3], work: usize, held: usize, budget: usize, least: usize) -> Self {
        let total = axes.iter().map(|axis| axis.count).product::<usize>() * g.batch;
        let even = (MIN_WORK / work.max(1)).clamp(least, MAX_POSITIONS);
        let mut wanted = (total / BOXES).clamp(even, MAX_POSITIONS);
        loop {
            let plan = Self::with_positions(axes, g.batch, wanted);
            if wanted <= least / 2 || plan.channel_len * held <= budget {
                return plan;
            }
            wanted = wanted * 3 / 4;
        }
    }

    /// Cycles that the inner loops take about: two multiply-adds of vectors a cycle; copying a vector of a plane, and each line that begins
    /// within one; loading the planes into the first-level cache for each block of rows; reading results and adding to them, lane by lane where they lie
    /// apart, for each part of the channels that fits into the budget.
    pub(super) fn cost(&self, [rows, channels, taps]: [usize; 3], budget: usize, sweep: &Sweep) -> f64 {
        let [p0, p1, p2] = self.parts;
        let [n0, n1, n2] = [0, 1, 2].map(|axis| self.axes[axis].count.div_ceil(self.parts[axis]));
        let samples = self.batch.div_ceil(self.groups.max(1));
        let layout = Layout::new(&self.axes, self.axes.map(|axis| axis.first), [n0, n1, n2], samples);
        let run = |count: usize, len: usize, pitch: usize| match sweep.end {
            // A gap of positions that nobody needs is computed, unless it spans whole vectors.
            None if pitch < len + 2 * MAX_LANES => (count - 1) * pitch + len,
            None => count * (len + MAX_LANES),
            Some(end) => count * (len + if pitch > len { end } else { 0 }),
        };
        let slice = run(n1, n2, layout.dist[1]);
        let sample = run(n0, slice, layout.dist[0]);
        let vectors = (run(samples, sample, layout.sample).div_ceil(MAX_LANES) + 1) as f64;
        let lines = (samples * (n0 + self.axes[0].halo) * (n1 + self.axes[1].halo)) as f64;
        let pieces = layout.stride as f64 / MAX_LANES as f64 + lines;
        let copied = layout.phases as f64 * pieces * if self.axes[2].source_step == 1 { COPY } else { COPY_STEP };
        let loaded = layout.phases as f64 * (layout.stride / MAX_LANES * rows.div_ceil(sweep.rows)) as f64 * LOAD;
        let (rows, channels, taps) = (rows as f64, channels as f64, taps as f64);
        let chunks = (channels * self.channel_len as f64 / budget as f64).ceil();
        let [s0, s1, s2] = self.axes.map(|axis| axis.target_step);
        let added = (s0 * s1 * s2) as f64 * vectors * if s2 == 1 { ADD } else { ADD_STEP };
        let each = channels * (vectors * taps * rows / 2.0 + copied + loaded) + chunks * rows * added;
        each * (self.groups * p0 * p1 * p2) as f64
    }

    pub(super) fn with_positions(axes: [Axis; 3], batch: usize, wanted: usize) -> Self {
        let [e0, e1, e2] = axes.map(|axis| axis.count);
        let mut plan = Plan { axes, parts: [1; 3], batch, groups: 1, plane_len: 0, channel_len: 0, positions: 0, pixels: 0, lines: 0 };
        if e0 * e1 * e2 <= wanted {
            // Whole samples, several at a time if they are small.
            let one = Layout::new(&axes, axes.map(|axis| axis.first), [e0, e1, e2], 1);
            let size = (wanted / one.positions.max(1)).clamp(1, batch.max(1));
            plan.groups = batch.div_ceil(size);
            // Few groups that are as large as each other, or more of them.
            while (2..FEW).contains(&plan.groups) && !batch.is_multiple_of(plan.groups) {
                plan.groups += 1;
            }
        } else {
            let c2 = e2.div_ceil(wanted);
            let n2 = e2.div_ceil(c2);
            // Boxes of lines or of slices, whichever have the smallest halo.
            let mut best = usize::MAX;
            let mut n1 = e1;
            loop {
                let c1 = e1.div_ceil(n1);
                if n1 == 1 || n1 * n2 <= wanted {
                    let c0 = e0.div_ceil((wanted / (n1 * n2)).clamp(1, e0));
                    let n0 = e0.div_ceil(c0);
                    let copied = c0 * c1 * (n0 + axes[0].halo) * (n1 + axes[1].halo);
                    if copied < best {
                        best = copied;
                        plan.parts = [c0, c1, c2];
                    }
                }
                if n1 == 1 {
                    break;
                }
                // The next larger number of parts, in steps of about an eighth.
                n1 = e1.div_ceil(c1 + c1.div_ceil(8)).min(n1 - 1);
            }
            plan.groups = batch;
        }
        // The longest planes are those without shared zeros.
        let [p0, p1, p2] = plan.parts;
        let counts = [e0.div_ceil(p0), e1.div_ceil(p1), e2.div_ceil(p2)];
        let bound = Layout::apart(&axes, counts, batch.div_ceil(plan.groups.max(1)));
        plan.plane_len = bound.stride;
        plan.channel_len = bound.stride * bound.phases;
        plan.positions = bound.positions;
        plan.lines = bound.samples * (counts[0] + axes[0].halo) * (counts[1] + axes[1].halo);
        plan.pixels = bound.samples * counts.iter().product::<usize>();
        plan
    }

    /// Visits the phases of the source, with the number of their planes.
    pub(crate) fn each_source_phase(&self, mut visit: impl FnMut(usize, [usize; 3])) {
        let [n0, n1, n2] = self.axes.map(|axis| axis.source_phases);
        for number in 0..n0 * n1 * n2 {
            visit(number, [number / (n1 * n2), number / n2 % n1, number % n2]);
        }
    }

    /// Phases of the source whose lists are kept.
    pub(crate) fn listed(&self) -> usize {
        listed(self.axes.iter().map(|axis| axis.source_phases).product())
    }

    /// Phases of the source along the last axis that are copied together: those that lie between each other, if the step is short.
    pub(crate) fn joined(&self) -> usize {
        let Axis { source_step, source_phases, .. } = self.axes[2];
        if source_step <= source_phases.min(JOINED) { source_step } else { 1 }
    }

    /// Number of boxes, over all groups of samples.
    pub(crate) fn boxes(&self) -> usize {
        self.groups * self.parts.iter().product::<usize>()
    }

    /// Box number `index`.
    pub(crate) fn piece(&self, index: usize) -> Piece {
        let [p0, p1, p2] = self.parts;
        let (i2, rest) = (index % p2, index / p2);
        let (i1, rest) = (rest % p1, rest / p1);
        let (i0, group) = (rest % p0, rest / p0);
        let (mut start, mut count) = ([0; 3], [0; 3]);
        for (axis, part) in [i0, i1, i2].into_iter().enumerate() {
            let range = split(self.axes[axis].count, self.parts[axis], part);
            start[axis] = self.axes[axis].first + range.start;
            count[axis] = range.len();
        }
        let samples = split(self.batch, self.groups, group);
        Piece { sample: samples.start, start, count, layout: Layout::new(&self.axes, start, count, samples.len()) }
    }
}

/// Parts of each of some units of work that as many threads are busy with, at most `most`: no more than that takes, since each part does some
/// of the work again.
pub(super) fn parts(units: usize, threads: usize, most: usize) -> usize {
    let busy = |parts: &usize| (units * parts).is_multiple_of(threads.max(1)) || units * parts >= 4 * threads;
    (1..most.max(1)).find(busy).unwrap_or(most.max(1))
}

/// Distance of rows of so many elements whose last vectors may reach past them by one. An odd number of vectors spreads the rows over the cache.
pub(crate) fn row_len(elements: usize, lanes: usize) -> usize {
    ((elements.div_ceil(lanes) + 1) | 1) * lanes
}

/// Part `index` of `0..len` cut into `parts` nearly equal parts.
pub(crate) fn split(len: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    let (size, longer) = (len / parts, len % parts);
    let start = index * size + index.min(longer);
    start..start + size + usize::from(index < longer)
}

/// All parts of [`split`] in their order, with one division for all.
pub(crate) fn splits(len: usize, parts: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (size, longer) = (len / parts.max(1), len % parts.max(1));
    let mut start = 0;
    (0..parts).map(move |index| {
        let part = start..start + size + usize::from(index < longer);
        start = part.end;
        part
    })
}

/// The sum of a function of the parts that `len` is [`split`] into.
pub(crate) fn sum_of_parts(len: usize, parts: usize, of: impl Fn(usize) -> usize) -> f64 {
    let (size, longer) = (len / parts.max(1), len % parts.max(1));
    longer as f64 * of(size + 1) as f64 + (parts - longer) as f64 * of(size) as f64
}

/// A box of positions of a group of samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// The first sample.
    pub(crate) sample: usize,
    /// The first position.
    pub(crate) start: [usize; 3],
    /// Positions along each axis.
    pub(crate) count: [usize; 3],
    pub(crate) layout: Layout,
}

impl Piece {
    /// Positions of all samples.
    pub(crate) fn pixels(&self) -> usize {
        self.layout.samples * self.count.iter().product::<usize>()
    }

    /// Visits the longest ranges of positions that are adjacent in an array of
    /// these extents and distance of samples: number of the first position,
    /// its place in the array, and length.
    pub(crate) fn segments(&self, extents: [usize; 3], sample: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let ([_, e1, e2], [n0, n1, n2]) = (extents, self.count);
        let whole = n2 == e2;
        // Segments of a slice, and slices of a sample, that are separate.
        let (lines, slices) = match (whole, n1 == e1) {
            (true, true) => (1, 1),
            (true, false) => (1, n0),
            _ => (n1, n0),
        };
        let len = n0 * n1 * n2 / (lines * slices);
        let mut pixel = 0;
        for s in 0..self.layout.samples {
            for i0 in 0..slices {
                for i1 in 0..lines {
                    let line = (self.start[0] + i0) * e1 + self.start[1] + i1;
                    visit(pixel, (self.sample + s) * sample + line * e2 + self.start[2], len);
                    pixel += len;
                }
            }
        }
    }
}

/// The arrangement of a padded plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) samples: usize,
    /// Distances of positions along the axes.
    pub(crate) dist: [usize; 3],
    /// Distance of samples.
    pub(crate) sample: usize,
    /// Distance of planes (phases of a channel, then channels).
    pub(crate) stride: usize,
    /// Planes of a channel.
    pub(crate) phases: usize,
    /// Positions of the run, from the first to the last of the box.
    pub(crate) positions: usize,
}

impl Layout {
    pub(super) fn new(axes: &[Axis; 3], start: [usize; 3], count: [usize; 3], samples: usize) -> Self {
        let overlap = |axis: usize| axes[axis].overlap(start[axis], count[axis]);
        Self::shared(axes, count, samples, [overlap(0), overlap(1), overlap(2)])
    }

    pub(super) fn apart(axes: &[Axis; 3], count: [usize; 3], samples: usize) -> Self {
        Self::shared(axes, count, samples, [0; 3])
    }

    fn shared(axes: &[Axis; 3], count: [usize; 3], samples: usize, overlap: [usize; 3]) -> Self {
        let mut reach = [0; 3];
        let mut pitch = [0; 3];
        for axis in 0..3 {
            reach[axis] = count[axis] + axes[axis].halo;
            pitch[axis] = reach[axis] - overlap[axis];
        }
        let dist = [pitch[1] * pitch[2], pitch[2], 1];
        let sample = pitch[0] * dist[0];
        let extent = |n: [usize; 3]| samples.saturating_sub(1) * sample + (n[0] - 1) * dist[0] + (n[1] - 1) * dist[1] + n[2];
        let extent_all = extent(reach);
        // Whole cache lines, and an odd number of them: planes a power of two
        // apart would compete for the same few sets of the cache.
        let stride = (extent_all.div_ceil(MAX_LANES) | 1) * MAX_LANES;
        Layout { samples, dist, sample, stride, phases: axes.iter().map(|axis| axis.source_phases).product(), positions: extent(count) }
    }

    /// The offset of a phase of an axis and a shift along each axis.
    pub(crate) fn offset(&self, axes: &[Axis; 3], phase: [usize; 3], shift: [usize; 3]) -> usize {
        let mut at = [0, 0];
        for axis in 0..3 {
            let (plane, shift) = axes[axis].plane(phase[axis], shift[axis]);
            at = [at[0] * axes[axis].source_phases + plane, at[1] + shift * self.dist[axis]];
        }
        at[0] * self.stride + at[1]
    }
}
