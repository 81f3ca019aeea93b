//! The weight gradient of a kernel of one tap.
//!
//! gW = Σ gy xᵀ over all pixels: strip by strip, one side is turned so that vectors run over its channels, and the other one is read where it lies. Where
//! the last of those vectors would have few channels, these are taken by scalar products instead.

use crate::conv::geometry::Geometry;
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::micro::Spread;
use crate::conv::outer::{Run, Turn};
use crate::conv::plan::{parts, split};
use crate::conv::products::{BESIDE, Products, tile};
use crate::conv::scratch::{Scratch, Shared, with_buffer};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::product::{Tables, outer, turn};

/// Pixels of a strip at most, and of a sample at least.
const STRIP: usize = 512;
const LEAST: usize = 128;
/// Bytes of the turned side of a strip, which stay in the second-level cache.
const STRIP_BYTES: usize = 256 << 10;
/// Bytes of all partial gradients, beyond a single one, and how many there are at most.
const PARTIAL_BYTES: usize = 4 << 20;
const SLOTS: usize = 16;
/// Rows of a part at least.
const LEAST_ROWS: usize = 16;
/// Rows that turning a channel takes as long as.
const TURNED: usize = 8;
/// What a vector of scalar products takes by one of multiplications, and how many rows there have to be: sums over a strip take their time too.
const PRODUCT: f64 = 1.6;
const LEAST_MANY: usize = 128;

/// The decomposition of a call.
struct Plan {
    batch: usize,
    pixels: usize,
    /// Whether vectors run over the outputs, and not the inputs.
    outputs_are_wide: bool,
    /// Channels of the side that is turned, the same filled up to whole vectors, and channels of the other side.
    channels: usize,
    wide: usize,
    rows: usize,
    /// Channels that come after those which are turned.
    rest: usize,
    /// Strips of a sample, and pixels of the longest.
    strips: usize,
    longest: usize,
    /// Partial gradients, each with its strips in their order, and parts of the rows.
    slots: usize,
    parts: usize,
}

/// Multiplications of a pixel, in whole vectors, that the best way takes, with what turning takes as long as.
pub(in crate::conv) fn multiplied(g: &Geometry, lanes: usize) -> f64 {
    sides(g, lanes).map(|(cost, _)| cost).into_iter().fold(f64::INFINITY, f64::min)
}

/// The same where vectors run over the outputs, and where over the inputs, with the channels that are left to scalar products.
fn sides(g: &Geometry, lanes: usize) -> [(f64, usize); 2] {
    let side = |channels: usize, rows: usize| {
        let turned = |channels: usize| (channels.next_multiple_of(lanes) * rows + TURNED * channels) as f64;
        let rest = if channels > lanes && rows >= LEAST_MANY { channels % lanes } else { 0 };
        let products = PRODUCT * (rows * rest.next_multiple_of(BESIDE)) as f64;
        let (all, some) = (turned(channels), turned(channels - rest) + products);
        if some < all { (some, rest) } else { (all, 0) }
    };
    [side(g.out_channels, g.in_channels), side(g.in_channels, g.out_channels)]
}

impl Plan {
    fn new<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>, threads: usize) -> Option<Self> {
        let (batch, pixels, bytes) = (g.batch, g.input_pixels(), size_of::<T>());
        let one = g.kernel == [1; 3] && g.stride == [1; 3] && g.padding == [0; 3];
        let (i, o) = (g.in_channels, g.out_channels);
        if !one || pixels < LEAST || i.saturating_mul(o).saturating_mul(batch.saturating_mul(pixels)) <= crate::conv::apply::SMALL {
            return None;
        }
        let [outputs, inputs] = sides(g, kernels.lanes);
        let outputs_are_wide = outputs.0 <= inputs.0;
        let (all, rest, rows) = if outputs_are_wide { (o, outputs.1, i) } else { (i, inputs.1, o) };
        let channels = all - rest;
        let wide = channels.next_multiple_of(kernels.lanes);
        let strips = pixels.div_ceil((STRIP_BYTES / (wide * bytes)).clamp(LEAST / 2, STRIP));
        let products = Products { many: rows, few: rest };
        let most = (PARTIAL_BYTES / ((rows * wide + products.len(kernels)) * bytes)).clamp(1, SLOTS.min(batch.saturating_mul(strips)));
        // A number that is dealt evenly to threads.
        let slots = 1 << most.ilog2();
        let parts = parts(slots, threads, rows / LEAST_ROWS);
        let longest = pixels.div_ceil(strips);
        Some(Self { batch, pixels, outputs_are_wide, channels, wide, rows, rest, strips, longest, slots, parts })
    }

    fn products(&self) -> Products {
        Products { many: self.rows, few: self.rest }
    }

    /// Elements of a partial gradient: of the channels that are turned, and of all.
    fn partial<T>(&self, kernels: &Kernels<T>) -> (usize, usize) {
        (self.rows * self.wide, self.rows * self.wide + self.products().len(kernels))
    }
}

/// Upper bound on the working memory of [`weight_gradient`], if it takes the convolution.
pub(in crate::conv) fn scratch<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>, threads: usize) -> Option<Scratch> {
    let plan = Plan::new(g, kernels, threads)?;
    let bytes = size_of::<T>();
    Some(Scratch { shared: plan.slots * plan.partial(kernels).1 * bytes + 128, each: plan.longest * plan.wide * bytes + 128, alone: false })
}

/// The weight gradient. Answers whether the kernel has one tap; otherwise nothing is done. The arrays have been checked, none is empty, and the level
/// is available.
pub(in crate::conv) fn weight_gradient<T: Dispatch>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let kernels = T::kernels(level);
    let Some(plan) = Plan::new(g, kernels, rayon::current_num_threads()) else { return false };
    let tables = Tables::new(kernels.lanes, size_of::<T>());
    let (turned_side, other) = if plan.outputs_are_wide { (gy, x) } else { (x, gy) };
    let (turned_len, partial) = plan.partial(kernels);
    with_buffer(plan.slots * partial, |partials: &mut [T]| {
        let shared = Shared::new(partials);
        pool::each(plan.slots * plan.parts, false, |unit| {
            let (slot, part) = (unit / plan.parts, unit % plan.parts);
            let (rows, tiles) = (split(plan.rows, plan.parts, part), split(plan.products().count(kernels), plan.parts, part));
            let strips = split(plan.batch * plan.strips, plan.slots, slot);
            let own = shared.get().wrapping_add(slot * partial);
            with_buffer(plan.longest * plan.wide, |turned: &mut [T]| {
                for strip in strips.clone() {
                    let (sample, pixels) = (strip / plan.strips, split(plan.pixels, plan.strips, strip % plan.strips));
                    let from = turned_side.data[sample * turned_side.batch_stride + pixels.start..].as_ptr();
                    let first = sample * other.batch_stride + rows.start * other.channel_stride + pixels.start;
                    let a = (other.data[first..].as_ptr(), Spread::even(other.channel_stride), rows.len());
                    let (count, begins) = (pixels.len(), strip == strips.start);
                    let rest = sample * turned_side.batch_stride + plan.channels * turned_side.channel_stride + pixels.start;
                    // SAFETY: `Kernels` of an available level; the images have the channels and pixels, as the callers checked their shapes; the
                    // buffer holds a strip; units share no rows of a partial gradient, and no tiles of products.
                    unsafe {
                        turn(kernels, (from, turned_side.channel_stride), plan.channels, count, turned.as_mut_ptr(), None);
                        let (b, to) = ((turned.as_ptr(), plan.wide), (own.add(rows.start * plan.wide), plan.wide));
                        outer(kernels, &tables, a, b, count, to, begins);
                        if plan.rest > 0 {
                            let sums = own.add(turned_len + tiles.start * tile(kernels));
                            let sums = std::slice::from_raw_parts_mut(sums, tiles.len() * tile(kernels));
                            let many = (&other.data[sample * other.batch_stride + pixels.start..], other.channel_stride);
                            let few = (&turned_side.data[rest..], turned_side.channel_stride);
                            plan.products().add(kernels, many, few, &[Run { a: 0, b: 0, len: count }], (tiles.clone(), sums), !begins);
                        }
                    }
                }
            });
        });
        let (sum, others) = partials.split_at_mut(partial);
        for other in others.chunks_exact(partial) {
            sum.iter_mut().zip(other).for_each(|(sum, &value)| *sum += value);
        }
        let (turned, products) = sum.split_at(turned_len);
        plan.products().each(kernels, products, |row, rest, sum| {
            let channel = plan.channels + rest;
            let (output, input) = if plan.outputs_are_wide { (channel, row) } else { (row, channel) };
            let to = &mut gw.data[output * gw.batch_stride + input * gw.channel_stride];
            *to = if accumulate { *to + sum } else { sum };
        });
        finish(&plan, kernels, turned, gw, accumulate);
    });
    true
}

/// Writes the sums `[row][channel]` to the gradient.
fn finish<T: Dispatch>(plan: &Plan, kernels: &Kernels<T>, sum: &[T], gw: &mut PlanesMut<'_, T>, accumulate: bool) {
    let (output, input) = (gw.batch_stride, gw.channel_stride);
    if plan.outputs_are_wide && input == 1 {
        assert!(gw.data.len() >= (plan.channels - 1) * output + plan.rows);
        let (from, to) = ((sum.as_ptr(), plan.wide), (gw.data.as_mut_ptr(), output));
        // SAFETY: `Kernels` of an available level; the weights as asserted, and as many sums.
        return unsafe { (kernels.turn)(&Turn { accumulate, ..Turn::new(from, plan.rows, plan.channels, to) }) };
    }
    let (row, channel) = if plan.outputs_are_wide { (input, output) } else { (output, input) };
    for (r, sums) in sum.chunks_exact(plan.wide).enumerate() {
        for (c, &value) in sums[..plan.channels].iter().enumerate() {
            let to = &mut gw.data[r * row + c * channel];
            *to = if accumulate { *to + value } else { value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `few_channels_are_left` in the tests against nested loops has.
    #[test]
    fn few_channels_are_left_to_scalar_products() {
        let Some(kernels) = Level::Avx512.is_available().then(|| f32::kernels(Level::Avx512)) else { return };
        let left = |batch: usize, i: usize, o: usize, pixels: usize| {
            let g = Geometry::new(batch, i, o, [1, 1, pixels], [1; 3], [1; 3], [0; 3]).unwrap();
            Plan::new(&g, kernels, 2).map(|plan| (plan.outputs_are_wide, plan.channels, plan.rest))
        };
        assert_eq!(left(2, 130, 19, 221), Some((true, 16, 3)));
        assert_eq!(left(1, 19, 133, 180), Some((false, 16, 3)));
        assert_eq!(left(3, 128, 38, 1040), Some((true, 32, 6)));
        assert_eq!(left(2, 129, 129, 144), Some((true, 128, 1)));
        assert_eq!(left(1, 17, 200, 189), Some((false, 16, 1)));
        // Too many of them, or too few rows on the other side, or none at all.
        assert_eq!(left(2, 130, 30, 221), Some((true, 30, 0)));
        assert_eq!(left(2, 40, 24, 1024), Some((true, 24, 0)));
        assert_eq!(left(2, 130, 32, 221), Some((true, 32, 0)));
    }
}
