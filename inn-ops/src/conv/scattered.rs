//! Few channels of the target: all taps of all of them are rows of one matrix product on the source's pixels as they are, and the rows are then added
//! to the pixels that their taps reach.
//!
//! ```text
//! R[(c, t), p] = sum over k of w[k, c, t] * source[k, p],      target[c, p + t - padding] += R[(c, t), p]
//! ```
//! is the input gradient; forward, kernels are mirrored. So the many channels of the source are read once, where they lie, and products have enough
//! rows to be worth what they read. Strips of lines, or parts of a signal, pass one after the other. Those of a sample add to pixels of their
//! neighbours, so every other one runs at one time; what meets at a pixel is added in that order, however many threads there are.

use super::geometry::Geometry;
use super::kernels::{Dispatch, Kernels};
use super::micro::{Finish, Spread};
use super::plan::{row_len, split, splits};
use super::scratch::{Scratch, Shared, with_buffer};
use super::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::lines::{Image, Lines, Strip, Taps, with_arrays};
use crate::stack::product::{Packed, Start, Tables};
use std::ops::Range;

/// Bytes of the rows of a strip, and those at most, where it has to be longer.
const STRIP_BYTES: usize = 256 << 10;
const MOST_BYTES: usize = 4 << 20;
/// Pixels of a strip at least, where there are as many.
const LEAST: usize = 384;
/// Strips of all samples that keep several threads busy.
const STRIPS: usize = 8;
/// Rows of the product at most.
const MOST_ROWS: usize = 256;
/// Vectors of multiplications that a vector of a row takes as long as, apart from its own.
const ADDED: f64 = 12.0;
/// Those that reading a vector of the source takes as long as, for each block of rows: where channels follow each other at any distance, at one at which
/// they meet in the first-level cache, for vectors shorter than its lines, and at one at which they meet in the second level.
const READ: f64 = 0.5;
const READ_BESIDE: (usize, f64) = (4 << 10, 2.5);
const READ_FAR: (usize, f64) = (64 << 10, 3.0);
const LINE: usize = 64;
/// The same for a vector that is copied to planes instead, and the targets below which its unaligned reads count, for vectors as long as a line.
const COPIED: f64 = 17.0;
const TARGETS: f64 = 2.9;

/// The decomposition of a call.
struct Plan {
    batch: usize,
    sources: usize,
    targets: usize,
    extents: [usize; 3],
    taps: Taps,
    lanes: usize,
    /// Strips of a sample: groups of lines, or parts of the only one; otherwise groups of samples.
    strips: usize,
    groups: usize,
    /// Distance of the rows of a strip.
    pitch: usize,
    /// Whether not worth more than one thread.
    alone: bool,
}

impl Plan {
    /// The plan of a convolution or its adjoint, if it keeps extents, and is worth it.
    fn new<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>) -> Option<Self> {
        let (sources, targets) = if adjoint { (g.out_channels, g.in_channels) } else { (g.in_channels, g.out_channels) };
        let same = g.stride == [1; 3] && (0..3).all(|axis| g.kernel[axis] == 2 * g.padding[axis] + 1);
        let (taps, pixels, lanes) = (g.taps(), g.input_pixels(), kernels.lanes);
        if !same || taps == 1 || pixels < lanes || sources == 0 || targets.saturating_mul(taps) > MOST_ROWS {
            return None;
        }
        let (vector, channel) = (lanes * size_of::<T>(), pixels * size_of::<T>());
        let read = if channel.is_multiple_of(READ_FAR.0) {
            READ_FAR.1
        } else if channel.is_multiple_of(READ_BESIDE.0) && vector < LINE {
            READ_BESIDE.1
        } else {
            READ
        };
        let blocks = (targets * taps).div_ceil(kernels.product.len());
        let here = targets as f64 * (1.0 + ADDED / sources as f64) + read * blocks as f64 / taps as f64;
        let least = TARGETS * vector as f64 / LINE as f64;
        if here >= least.max(targets as f64) + COPIED / taps as f64 {
            return None;
        }
        let (rows, lines, width) = (targets * taps, g.input[0] * g.input[1], g.input[2]);
        let [pz, py, px] = g.padding;
        // Between two strips at one time lies one that both may reach into.
        let (units, each, reach) = if lines == 1 { (width, 1, 2 * px) } else { (lines, width, 2 * (pz * g.input[1] + py + px.min(1))) };
        let bytes = |units: usize| units * each * rows * size_of::<T>();
        let wanted = bytes(units).div_ceil(STRIP_BYTES).max(STRIPS.div_ceil(g.batch).min(pixels / LEAST));
        let strips = wanted.min(units / reach.max(1)).max(1);
        if bytes(units.div_ceil(strips)) > MOST_BYTES {
            return None;
        }
        let groups = if strips > 1 { g.batch } else { g.batch.div_ceil((LEAST / pixels).max(1)) };
        let longest = g.batch.div_ceil(groups) * units.div_ceil(strips) * each;
        Some(Self {
            batch: g.batch,
            sources,
            targets,
            extents: g.input,
            taps: Taps { kernel: g.kernel, padding: g.padding },
            lanes,
            strips,
            groups,
            pitch: row_len(longest, lanes),
            alone: (rows * sources).saturating_mul(pixels).saturating_mul(g.batch) <= super::apply::SMALL,
        })
    }

    fn rows(&self) -> usize {
        self.targets * self.taps.count()
    }

    fn pixels(&self) -> usize {
        self.extents.iter().product()
    }

    /// The strip of a number of the samples of a group, and its pixels in each.
    fn strip(&self, samples: &Range<usize>, index: usize) -> (Strip, Range<usize>) {
        let [depth, height, width] = self.extents;
        let lines = depth * height;
        if lines == 1 {
            let x = split(width, self.strips, index);
            return (Strip { lines: samples.clone(), x: x.clone() }, x);
        }
        let own = split(lines, self.strips, index);
        let all = samples.start * lines + own.start..(samples.end - 1) * lines + own.end;
        (Strip { lines: all, x: 0..width }, own.start * width..own.end * width)
    }
}

/// Upper bound on the working memory of [`apply`], if it takes the convolution.
pub(super) fn scratch<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>) -> Option<Scratch> {
    let plan = Plan::new(g, adjoint, kernels)?;
    let ([kz, ky, kx], rows, taps) = (plan.taps.kernel, plan.rows(), plan.taps.count());
    let lines = plan.pitch.div_ceil(plan.extents[2]);
    // Places, masks, and what is added to each line.
    let places = lines * 24 * (kz * ky + taps) + 40 * (lines + kz * plan.extents[1] + ky);
    let masks = 12 * (kx + 1) * (plan.extents[2].min(plan.pitch) / plan.lanes + 2) + 16 * taps * (plan.pitch / plan.lanes + 2);
    let (arrays, packed) = (rows * plan.pitch + plan.sources * plan.lanes, rows * plan.sources);
    let bytes = size_of::<T>();
    Some(Scratch {
        shared: packed * bytes + rows * size_of::<usize>() + 128,
        each: arrays * bytes + 2 * places + masks + 256,
        alone: plan.alone,
    })
}

/// The convolution of `x` into `y`, or the input gradient of `x`, an output's, into `y`, an input's. Answers whether it is worth it; otherwise nothing is
/// done. The arrays have been checked, none is empty, and the level is available.
pub(super) fn apply<T: Dispatch>(
    level: Level,
    g: &Geometry,
    adjoint: bool,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let kernels = T::kernels(level);
    let Some(plan) = Plan::new(g, adjoint, kernels) else { return false };
    let (batch_stride, channel_stride, pixels) = (y.batch_stride, y.channel_stride, plan.pixels());
    if plan.strips > 1 && !accumulate {
        PlanesMut { data: &mut *y.data, batch_stride, channel_stride }.clear(plan.batch, plan.targets, pixels);
    }
    let to = Shared::new(y.data);
    let image = Image { data: to.get(), channels: plan.targets, batch_stride, channel_stride, step: 1 };
    with_buffer(plan.rows() * plan.sources, |packed: &mut [T]| {
        pack(&plan, kernels, adjoint, w, packed);
        let packed = Packed::new(packed, plan.rows(), plan.sources);
        let tables = Tables::streaming(plan.lanes, size_of::<T>());
        let unit = |samples: Range<usize>, index: usize| {
            let (strip, own) = plan.strip(&samples, index);
            with_arrays(plan.rows() * plan.pitch, |rows: &mut [T], walks| {
                for (i, sample) in samples.clone().enumerate() {
                    let from = &x.data[sample * x.batch_stride + own.start..];
                    // A row's last vector may reach past its pixels, into those of the next sample, which follows, or the row's end.
                    product(&plan, kernels, &tables, &packed, (from, x.channel_stride), own.len(), &mut rows[i * own.len()..]);
                }
                if plan.strips == 1 && !accumulate {
                    for at in samples.flat_map(|b| (0..plan.targets).map(move |c| b * batch_stride + c * channel_stride)) {
                        // SAFETY: within the target, as the callers checked its shape; nobody else has these samples.
                        unsafe { std::slice::from_raw_parts_mut(to.get().add(at), pixels) }.fill(T::ZERO);
                    }
                }
                walks.first.set(plan.lanes, plan.extents, plan.taps, &strip, 1);
                let lines = Lines { image, walk: &walks.first, rows: rows.as_mut_ptr(), pitch: plan.pitch };
                // SAFETY: `Kernels` of an available level; the rows are there, and the target has the lines that the strip reaches, which no other
                // strip of its parity does.
                unsafe { (kernels.scatter)(&lines) };
            });
        };
        for parity in 0..plan.strips.min(2) {
            let strips = (plan.strips + 1 - parity) / 2;
            pool::each(plan.groups * strips, plan.alone, |i| unit(split(plan.batch, plan.groups, i / strips), 2 * (i % strips) + parity));
        }
    });
    true
}

/// Rows of some pixels of a sample, whose channels are a distance apart.
fn product<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    w: &Packed<'_, T>,
    (from, channel): (&[T], usize),
    count: usize,
    to: &mut [T],
) {
    let (lanes, vectors) = (plan.lanes, count.div_ceil(plan.lanes));
    assert!(to.len() >= (plan.rows() - 1) * plan.pitch + vectors * lanes);
    // The last vector of the last sample may end after the array does.
    let inside = from.len() >= (plan.sources - 1) * channel + vectors * lanes;
    let whole = if inside { vectors } else { vectors - 1 };
    let times = |(from, row): (*const T, usize), vectors: usize, to: *mut T| {
        // SAFETY: `Kernels` of an available level; both arrays have the vectors, as checked above, here and by the callers.
        unsafe { w.times(kernels, tables, (from, Spread::even(row)), vectors, (to, plan.pitch), Start::Zero, Finish::Plain) };
    };
    times((from.as_ptr(), channel), whole, to.as_mut_ptr());
    if !inside {
        with_buffer(plan.sources * lanes, |last: &mut [T]| {
            for (k, last) in last.chunks_exact_mut(lanes).enumerate() {
                let (pixels, beyond) = last.split_at_mut(count - whole * lanes);
                pixels.copy_from_slice(&from[k * channel + whole * lanes..][..pixels.len()]);
                beyond.fill(T::ZERO);
            }
            times((last.as_ptr(), lanes), 1, to[whole * lanes..].as_mut_ptr());
        });
    }
}

/// Packs the weights as a matrix with a row for each tap of each target.
fn pack<T: Dispatch>(plan: &Plan, kernels: &Kernels<T>, adjoint: bool, w: Planes<'_, T>, mut packed: &mut [T]) {
    let (row, column) = if adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
    let taps = plan.taps.count();
    let place = |r: usize| r / taps * row + if adjoint { r % taps } else { taps - 1 - r % taps };
    for range in splits(plan.rows(), plan.rows().div_ceil(kernels.product.len())) {
        let (block, rest) = packed.split_at_mut(range.len() * plan.sources);
        let places: Vec<usize> = range.map(place).collect();
        for (k, to) in block.chunks_exact_mut(places.len()).enumerate() {
            let from = &w.data[k * column..];
            to.iter_mut().zip(&places).for_each(|(to, &place)| *to = from[place]);
        }
        packed = rest;
    }
}
