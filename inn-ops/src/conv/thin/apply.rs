//! Forward and input gradient, onto few channels. Strips of a sample add to pixels of their neighbours, so every other one runs at one time; what meets at
//! a pixel is added in that order, however many threads there are.

use super::{LINE, PERIOD, Plan};
use crate::conv::geometry::Geometry;
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::micro::{Finish, Spread};
use crate::conv::plan::{split, splits};
use crate::conv::scratch::{Scratch, Shared, with_buffer};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::lines::{Image, Lines, with_arrays};
use crate::stack::matrix::Packed;
use crate::stack::product::{Start, Tables};
use std::ops::Range;

/// Pixels of a strip at least, where there are as many.
const LEAST: usize = 384;
/// Strips of all samples that keep several threads busy.
const STRIPS: usize = 8;
/// Vectors of multiplications that a vector of a row takes as long as, apart from its own.
const ADDED: f64 = 12.0;
/// Those that reading a vector of the source takes as long as, for each block of rows: where channels follow each other at any distance, at one at which
/// they meet in the first-level cache, for vectors shorter than its lines, and at one at which they meet in the second level.
const READ: f64 = 0.5;
const READ_BESIDE: f64 = 2.5;
const READ_FAR: (usize, f64) = (64 << 10, 3.0);
/// The same for a vector that is copied to planes instead, and the targets below which its unaligned reads count, for vectors as long as a line.
const COPIED: f64 = 17.0;
const TARGETS: f64 = 2.9;

/// The plan of a convolution or its adjoint, if it is worth it.
pub(super) fn plan<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>) -> Option<Plan> {
    let (sources, targets) = if adjoint { (g.out_channels, g.in_channels) } else { (g.in_channels, g.out_channels) };
    let (bytes, pixels, taps) = (size_of::<T>(), g.input_pixels(), g.taps());
    if taps == 1 {
        return None;
    }
    // Every other strip runs at one time: two threads share an even number of each.
    let even = if g.batch.is_multiple_of(2) { 2 } else { 4 };
    let wanted = match STRIPS.div_ceil(g.batch).min(pixels / LEAST) {
        few @ 2.. if few.next_multiple_of(even) <= 2 * pixels / LEAST => few.next_multiple_of(even),
        few => few,
    };
    let plan = Plan::new(g, [sources, targets], kernels.lanes, bytes, LEAST, wanted, true)?;
    let (vector, channel) = (kernels.lanes * bytes, pixels * bytes);
    let read = if channel.is_multiple_of(READ_FAR.0) {
        READ_FAR.1
    } else if channel.is_multiple_of(PERIOD) && vector < LINE {
        READ_BESIDE
    } else {
        READ
    };
    let blocks = plan.rows().div_ceil(kernels.product.len());
    let here = targets as f64 * (plan.filled() + ADDED / sources as f64) + read * blocks as f64 / taps as f64;
    let least = TARGETS * vector as f64 / LINE as f64;
    (here < least.max(targets as f64) + COPIED / taps as f64).then_some(plan)
}

/// Upper bound on the working memory of [`apply`], if it takes the convolution.
pub(in crate::conv) fn scratch<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>) -> Option<Scratch> {
    let plan = plan(g, adjoint, kernels)?;
    let (rows, bytes) = (plan.rows(), size_of::<T>());
    let (arrays, packed) = (rows * plan.pitch + plan.many * plan.lanes, rows * plan.many);
    Some(Scratch { shared: packed * bytes + rows * size_of::<usize>() + 128, each: arrays * bytes + plan.lists() + 256, alone: plan.alone })
}

/// The convolution of `x` into `y`, or the input gradient of `x`, an output's, into `y`, an input's. Answers whether it is worth it; otherwise nothing is
/// done. The arrays have been checked, none is empty, and the level is available.
pub(in crate::conv) fn apply<T: Dispatch>(
    level: Level,
    g: &Geometry,
    adjoint: bool,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let kernels = T::kernels(level);
    let Some(plan) = plan(g, adjoint, kernels) else { return false };
    let (batch_stride, channel_stride, pixels) = (y.batch_stride, y.channel_stride, plan.pixels());
    if plan.strips > 1 && !accumulate {
        PlanesMut { data: &mut *y.data, batch_stride, channel_stride }.clear(plan.batch, plan.few, pixels);
    }
    let to = Shared::new(y.data);
    let image = Image { data: to.get(), channels: plan.few, batch_stride, channel_stride, step: 1 };
    with_buffer(plan.rows() * plan.many, |packed: &mut [T]| {
        pack(&plan, kernels, adjoint, w, packed);
        let packed = Packed::new(packed, plan.rows(), plan.many);
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
                    for at in samples.flat_map(|b| (0..plan.few).map(move |c| b * batch_stride + c * channel_stride)) {
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
    let inside = from.len() >= (plan.many - 1) * channel + vectors * lanes;
    let whole = if inside { vectors } else { vectors - 1 };
    let times = |(from, row): (*const T, usize), vectors: usize, to: *mut T| {
        // SAFETY: `Kernels` of an available level; both arrays have the vectors, as checked above, here and by the callers.
        unsafe { w.times(kernels, tables, (from, Spread::even(row)), vectors, (to, plan.pitch), Start::Zero, Finish::Plain) };
    };
    times((from.as_ptr(), channel), whole, to.as_mut_ptr());
    if !inside {
        with_buffer(plan.many * lanes, |last: &mut [T]| {
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
        let (block, rest) = packed.split_at_mut(range.len() * plan.many);
        let places: Vec<usize> = range.map(place).collect();
        for (k, to) in block.chunks_exact_mut(places.len()).enumerate() {
            let from = &w.data[k * column..];
            to.iter_mut().zip(&places).for_each(|(to, &place)| *to = from[place]);
        }
        packed = rest;
    }
}
