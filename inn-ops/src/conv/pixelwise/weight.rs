//! The weight gradient of a kernel of one tap.
//!
//! gW = Σ gy xᵀ over all pixels: strip by strip, one side is turned so that vectors run over its channels, and the other one is read where it lies.

use crate::conv::geometry::Geometry;
use crate::conv::kernels::{Dispatch, Kernels};
use crate::conv::micro::Spread;
use crate::conv::outer::Turn;
use crate::conv::plan::{parts, split};
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
    /// Strips of a sample, and pixels of the longest.
    strips: usize,
    longest: usize,
    /// Partial gradients, each with its strips in their order, and parts of the rows.
    slots: usize,
    parts: usize,
}

/// Multiplications of a pixel where vectors run over the outputs, and where over the inputs, with what turning those takes as long as.
pub(in crate::conv) fn multiplied(g: &Geometry, lanes: usize) -> [usize; 2] {
    let side = |wide: usize, rows: usize| wide.next_multiple_of(lanes) * rows + TURNED * wide;
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
        let [outputs, inputs] = multiplied(g, kernels.lanes);
        let outputs_are_wide = outputs <= inputs;
        let (channels, rows) = if outputs_are_wide { (o, i) } else { (i, o) };
        let wide = channels.next_multiple_of(kernels.lanes);
        let strips = pixels.div_ceil((STRIP_BYTES / (wide * bytes)).clamp(LEAST / 2, STRIP));
        let most = (PARTIAL_BYTES / (rows * wide * bytes)).clamp(1, SLOTS.min(batch.saturating_mul(strips)));
        // A number that is dealt evenly to threads.
        let slots = 1 << most.ilog2();
        let parts = parts(slots, threads, rows / LEAST_ROWS);
        let longest = pixels.div_ceil(strips);
        Some(Self { batch, pixels, outputs_are_wide, channels, wide, rows, strips, longest, slots, parts })
    }

    /// Elements of a partial gradient.
    fn partial(&self) -> usize {
        self.rows * self.wide
    }
}

/// Upper bound on the working memory of [`weight_gradient`], if it takes the convolution.
pub(in crate::conv) fn scratch<T: Dispatch>(g: &Geometry, kernels: &Kernels<T>, threads: usize) -> Option<Scratch> {
    let plan = Plan::new(g, kernels, threads)?;
    let bytes = size_of::<T>();
    Some(Scratch { shared: plan.slots * plan.partial() * bytes + 128, each: plan.longest * plan.wide * bytes + 128, alone: false })
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
    with_buffer(plan.slots * plan.partial(), |partials: &mut [T]| {
        let shared = Shared::new(partials);
        pool::each(plan.slots * plan.parts, false, |unit| {
            let (slot, rows) = (unit / plan.parts, split(plan.rows, plan.parts, unit % plan.parts));
            let strips = split(plan.batch * plan.strips, plan.slots, slot);
            let to = shared.get().wrapping_add(slot * plan.partial() + rows.start * plan.wide);
            with_buffer(plan.longest * plan.wide, |turned: &mut [T]| {
                for strip in strips.clone() {
                    let (sample, pixels) = (strip / plan.strips, split(plan.pixels, plan.strips, strip % plan.strips));
                    let from = turned_side.data[sample * turned_side.batch_stride + pixels.start..].as_ptr();
                    let first = sample * other.batch_stride + rows.start * other.channel_stride + pixels.start;
                    let a = (other.data[first..].as_ptr(), Spread::even(other.channel_stride), rows.len());
                    let count = pixels.len();
                    // SAFETY: `Kernels` of an available level; the images have the channels and pixels, as the callers checked their shapes; the
                    // buffer holds a strip; units share no rows of a partial gradient.
                    unsafe {
                        turn(kernels, (from, turned_side.channel_stride), plan.channels, count, turned.as_mut_ptr(), None);
                        let (b, to) = ((turned.as_ptr(), plan.wide), (to, plan.wide));
                        outer(kernels, &tables, a, b, count, to, strip == strips.start);
                    }
                }
            });
        });
        let (sum, others) = partials.split_at_mut(plan.partial());
        for other in others.chunks_exact(plan.partial()) {
            sum.iter_mut().zip(other).for_each(|(sum, &value)| *sum += value);
        }
        finish(&plan, kernels, sum, gw, accumulate);
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
