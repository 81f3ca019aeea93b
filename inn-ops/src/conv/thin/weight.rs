//! The weight gradient where inputs or outputs have few channels. Each of some slots sums its strips up in their order, and the slots are added in theirs.

use super::{LINE, PERIOD, Plan};
use crate::conv::geometry::Geometry;
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::outer::Run;
use crate::conv::pixelwise::multiplied;
use crate::conv::plan::split;
use crate::conv::products::Products;
use crate::conv::scratch::{Scratch, Shared, with_buffer};
use crate::conv::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::lines::{Image, Lines, with_arrays};

/// Pixels of a strip: rows of a block of many channels stay in the first-level cache.
const PIXELS: usize = 1024;
/// Samples of a strip at most, where they meet in that cache: lines of some pieces of it only, in most of its ways.
const SAMPLES: usize = 8;
/// Pixels of a sample at least: with fewer, samples have to be whole vectors, there have to be so many groups of them, and less of the time may be left.
const LEAST: usize = 128;
const GROUPS: usize = 4;
const SMALL: f64 = 0.7;
/// Partial gradients at most, and bytes of all of them.
const SLOTS: usize = 16;
const PARTIAL_BYTES: usize = 2 << 20;
/// Vectors of multiplications that gathering a vector of a row takes as long as, and the part of its own by which scalar products take longer.
const ROW: f64 = 18.0;
const EACH: f64 = 0.35;
/// What a vector of the many channels takes instead that is turned, so that their lanes are channels: for vectors as long as a line of the cache, and for
/// others.
const TURNED: [f64; 2] = [24.0, 32.0];
/// What scalar products of rows take by others, where kernels have one tap: if samples are whole vectors, and if not.
const ONE_TAP: [f64; 2] = [1.25, 1.55];

impl Plan {
    fn all(&self) -> usize {
        self.groups * self.strips
    }

    /// Elements of the rows of a strip: without neighbours, rows are the few channels as they are.
    pub(super) fn gathered(&self) -> usize {
        if self.taps.count() > 1 { self.rows() * self.pitch } else { 0 }
    }

    fn products(&self) -> Products {
        Products { many: self.many, few: self.rows() }
    }

    /// Elements of a partial gradient.
    fn partial<T>(&self, kernels: &Kernels<T>) -> usize {
        self.products().len(kernels)
    }

    /// Partial gradients: a number that is dealt evenly to threads.
    fn slots<T>(&self, kernels: &Kernels<T>) -> usize {
        1 << (PARTIAL_BYTES / (self.partial(kernels) * size_of::<T>())).clamp(1, SLOTS.min(self.all())).ilog2()
    }
}

/// The plan of a weight gradient, if it is worth it, and whether it is the inputs that are few.
pub(super) fn plan<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>) -> Option<(Plan, bool)> {
    let inputs = g.in_channels <= g.out_channels;
    let channels = if inputs { [g.out_channels, g.in_channels] } else { [g.in_channels, g.out_channels] };
    let (lanes, bytes) = (kernels.lanes, size_of::<T>());
    let channel = g.input_pixels() * bytes;
    let meet = channels[0].saturating_mul(channel).is_multiple_of(PERIOD) && kernels.dot.len() * channel < PERIOD;
    let pixels = if meet { PIXELS.min(SAMPLES * g.input_pixels()) } else { PIXELS };
    let plan = Plan::new(g, channels, lanes, bytes, pixels, g.input_pixels().div_ceil(PIXELS), false)?;
    if g.taps() == 1 {
        let here = (plan.many * plan.few) as f64 * ONE_TAP[usize::from(plan.pixels() % lanes > 0)];
        return (here < multiplied(g, lanes)).then_some((plan, inputs));
    }
    let here = plan.rows() as f64 * ((1.0 + EACH) * plan.filled() - 1.0 + ROW / plan.many as f64);
    let turned = TURNED[usize::from(lanes * bytes < LINE)];
    let worth =
        if plan.pixels() >= LEAST { here < turned } else { here < SMALL * turned && plan.groups >= GROUPS && plan.pixels() % lanes == 0 };
    worth.then_some((plan, inputs))
}

/// Upper bound on the working memory of [`weight_gradient`], if it takes the convolution.
pub(in crate::conv) fn scratch<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>) -> Option<Scratch> {
    let (plan, _) = plan(g, kernels)?;
    let bytes = size_of::<T>();
    let runs = plan.batch.div_ceil(plan.groups) * size_of::<Run>();
    Some(Scratch {
        shared: plan.slots(kernels) * plan.partial(kernels) * bytes + 64,
        each: plan.gathered() * bytes + if g.taps() > 1 { plan.lists() } else { 0 } + runs + 256,
        alone: plan.alone,
    })
}

/// The weight gradient. Answers whether it is worth it; otherwise nothing is done. The arrays have been checked, none is empty, and the level is
/// available.
pub(in crate::conv) fn weight_gradient<T: Dispatch>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: &mut PlanesMut<'_, T>,
    accumulate: bool,
) -> bool {
    let kernels = T::kernels(level);
    let Some((plan, inputs)) = plan(g, kernels) else { return false };
    let (many, few) = if inputs { (gy, x) } else { (x, gy) };
    let (slots, size) = (plan.slots(kernels), plan.partial(kernels));
    with_buffer(slots * size, |partials: &mut [T]| {
        let shared = Shared::new(&mut *partials);
        pool::each(slots, plan.alone, |slot| {
            // SAFETY: each slot has its own part.
            let sums = unsafe { std::slice::from_raw_parts_mut(shared.get().add(slot * size), size) };
            with_arrays(plan.gathered(), |rows: &mut [T], walks| {
                let units = split(plan.all(), slots, slot);
                for unit in units.clone() {
                    let samples = split(plan.batch, plan.groups, unit / plan.strips);
                    let (strip, own) = plan.strip(&samples, unit % plan.strips);
                    let gathered = plan.gathered() > 0;
                    if gathered {
                        walks.first.set(plan.lanes, plan.extents, plan.taps, &strip, 1);
                        let image = Image {
                            data: few.data.as_ptr().cast_mut(),
                            channels: plan.few,
                            batch_stride: few.batch_stride,
                            channel_stride: few.channel_stride,
                            step: 1,
                        };
                        let lines = Lines { image, walk: &walks.first, rows: rows.as_mut_ptr(), pitch: plan.pitch };
                        // SAFETY: `Kernels` of an available level; the image, which is only read, has the lines, as the callers checked its shape.
                        unsafe { (kernels.gather)(&lines) };
                    }
                    let (b, row) = if gathered { (&*rows, plan.pitch) } else { (few.data, few.channel_stride) };
                    let run = |(i, sample): (usize, usize)| Run {
                        a: sample * many.batch_stride + own.start,
                        b: if gathered { i * own.len() } else { sample * few.batch_stride + own.start },
                        len: own.len(),
                    };
                    let runs: Vec<_> = samples.enumerate().map(run).collect();
                    let many = (many.data, many.channel_stride);
                    // SAFETY: `Kernels` of an available level; both sides have the pixels of the runs, as the callers checked their shapes.
                    unsafe {
                        plan.products().add(
                            kernels,
                            many,
                            (b, row),
                            &runs,
                            (0..plan.products().count(kernels), &mut *sums),
                            unit > units.start,
                        )
                    };
                }
            });
        });
        finish(&plan, kernels, inputs, partials, gw, accumulate);
    });
    true
}

/// Adds the partial gradients up and writes them.
fn finish<T: Dispatch>(plan: &Plan, kernels: &Kernels<T>, inputs: bool, partials: &mut [T], gw: &mut PlanesMut<'_, T>, accumulate: bool) {
    let (taps, size) = (plan.taps.count(), plan.partial(kernels));
    let (sums, others) = partials.split_at_mut(size);
    for other in others.chunks_exact(size) {
        sums.iter_mut().zip(other).for_each(|(sum, &other)| *sum += other);
    }
    plan.products().each(kernels, sums, |k, row, sum| {
        let (c, tap) = (row / taps, row % taps);
        let (output, input, tap) = if inputs { (k, c, tap) } else { (c, k, taps - 1 - tap) };
        let to = &mut gw.data[output * gw.batch_stride + input * gw.channel_stride + tap];
        *to = if accumulate { *to + sum } else { sum };
    });
}
