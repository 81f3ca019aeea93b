//! Kernels of one tap: matrix products on images as they are, without a copy of their own.
//!
//! A strip is some vectors of pixels of a sample, and the rows of a product are its channels, wherever they lie in the image. While a tile of them is
//! multiplied, the next one is fetched: images that no cache holds are read at the speed of the memory. What is left of a sample beyond whole vectors
//! is copied.

mod weight;

pub(super) use weight::{multiplied, scratch as weight_scratch, weight_gradient};

use super::folded::WEIGHT_BYTES;
use super::geometry::Geometry;
use super::kernels::{Dispatch, Kernels};
use super::micro::{Finish, Spread};
use super::plan::{parts, split};
use super::scratch::{Scratch, Shared, with_buffer, with_two};
use super::{Planes, PlanesMut};
use crate::pool;
use crate::simd::Level;
use crate::stack::matrix::{PACK_LISTS, Packed, Source, pack};
use crate::stack::product::{Start, Tables};
use std::ops::Range;

/// Channels of a product at one time: a tile of them stays in the first-level cache, or close to it.
const CHUNK: usize = 256;
/// Vectors of a strip at most, and bytes of a chunk of it.
const STRIP: usize = 48;
const STRIP_BYTES: usize = 256 << 10;
/// Vectors of a sample at least, so that what is left of it is a small part.
const LEAST: usize = 12;
/// Outputs of a part at least.
const LEAST_OUTPUTS: usize = 32;
/// Strips that keep any number of threads busy.
const MANY: usize = 1 << 20;

/// The decomposition of a call.
struct Plan {
    batch: usize,
    /// Channels of the source and of the target.
    inputs: usize,
    outputs: usize,
    lanes: usize,
    /// Whole vectors of a sample, and pixels after them.
    vectors: usize,
    left: usize,
    /// Strips of a sample, and parts of the outputs.
    strips: usize,
    parts: usize,
}

impl Plan {
    /// The plan of a convolution or its adjoint, if it has one tap, images of several vectors, and no more weights than there may be a copy of.
    fn new<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>, threads: usize) -> Option<Self> {
        let (inputs, outputs) = if adjoint { (g.out_channels, g.in_channels) } else { (g.in_channels, g.out_channels) };
        let (vectors, left) = (g.input_pixels() / kernels.lanes, g.input_pixels() % kernels.lanes);
        let one = g.kernel == [1; 3] && g.stride == [1; 3] && g.padding == [0; 3];
        let many = inputs.saturating_mul(outputs) > WEIGHT_BYTES / size_of::<T>();
        if !one || many || inputs == 0 || vectors < 2 || (left > 0 && vectors < LEAST) {
            return None;
        }
        let strip = STRIP_BYTES / (kernels.lanes * size_of::<T>() * inputs.min(CHUNK));
        let strips = vectors.div_ceil(strip.clamp(LEAST, STRIP));
        let parts = parts(g.batch.saturating_mul(strips).min(MANY), threads, outputs / LEAST_OUTPUTS);
        Some(Self { batch: g.batch, inputs, outputs, lanes: kernels.lanes, vectors, left, strips, parts })
    }

    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.inputs).step_by(CHUNK).map(|start| start..(start + CHUNK).min(self.inputs))
    }

    /// Elements of what is left of a sample, and of its results.
    fn left_len(&self) -> (usize, usize) {
        if self.left > 0 { (self.inputs * self.lanes, self.outputs * self.lanes) } else { (0, 0) }
    }

    /// Whether a call is not worth more than one thread.
    fn alone(&self) -> bool {
        let pixels = self.batch.saturating_mul(self.vectors * self.lanes);
        self.inputs.saturating_mul(self.outputs).saturating_mul(pixels) <= super::apply::SMALL
    }
}

/// Upper bound on the working memory of [`apply`], if it takes the convolution.
pub(super) fn scratch<T: Dispatch>(g: &Geometry, adjoint: bool, kernels: &Kernels<T>, threads: usize) -> Option<Scratch> {
    let plan = Plan::new(g, adjoint, kernels, threads)?;
    let (from, to) = plan.left_len();
    let blocks = plan.parts * plan.inputs.div_ceil(CHUNK) * (plan.outputs.div_ceil(plan.parts).div_ceil(kernels.product.len()) + 1);
    let shared = plan.inputs * plan.outputs * size_of::<T>() + blocks * PACK_LISTS + 128;
    Some(Scratch { shared, each: (from + to) * size_of::<T>() + 128, alone: plan.alone() })
}

/// The convolution of `x` into `y`, or the input gradient of `x`, an output's, into `y`, an input's. Answers whether the kernel has one tap; otherwise
/// nothing is done. The arrays have been checked, none but the channels of `x` is empty, and the level is available.
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
    let Some(plan) = Plan::new(g, adjoint, kernels, rayon::current_num_threads()) else { return false };
    let (y_batch, y_channel) = (y.batch_stride, y.channel_stride);
    let to = Shared::new(y.data);
    let (row, column) = if adjoint { (w.channel_stride, w.batch_stride) } else { (w.batch_stride, w.channel_stride) };
    let sources = Source::strided(w.data, plan.outputs, plan.inputs, (row, column)).parted(plan.parts, CHUNK);
    with_buffer(plan.inputs * plan.outputs, |packed: &mut [T]| {
        let packed = pack(kernels, plan.alone(), &sources, packed);
        let tables = Tables::streaming(plan.lanes, size_of::<T>());
        let chunks = sources.len() / plan.parts;
        pool::each(plan.batch * plan.strips * plan.parts, plan.alone(), |unit| {
            let (strip, part) = (unit / plan.parts, unit % plan.parts);
            let (sample, strip) = (strip / plan.strips, strip % plan.strips);
            let rows = split(plan.outputs, plan.parts, part);
            let (ws, vectors) = (&packed[part * chunks..][..chunks], split(plan.vectors, plan.strips, strip));
            let from = &x.data[sample * x.batch_stride..];
            let target = to.get().wrapping_add(sample * y_batch + rows.start * y_channel);
            let start = vectors.start * plan.lanes;
            // SAFETY: `Kernels` of an available level; the images have the channels and pixels, as the callers checked their shapes; strips and
            // parts share no pixels of the target.
            unsafe {
                let to = (target.add(start), y_channel);
                product(&plan, kernels, &tables, ws, (from[start..].as_ptr(), x.channel_stride), vectors.len(), to, accumulate);
                if strip + 1 == plan.strips && plan.left > 0 {
                    let start = plan.vectors * plan.lanes;
                    left(
                        &plan,
                        kernels,
                        &tables,
                        ws,
                        (&from[start..], x.channel_stride),
                        (target.add(start), y_channel),
                        rows.len(),
                        accumulate,
                    );
                }
            }
        });
    });
    true
}

/// Some vectors of all channels.
///
/// # Safety
/// As [`Packed::times`].
unsafe fn product<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    ws: &[Packed<'_, T>],
    (from, channel): (*const T, usize),
    vectors: usize,
    to: (*mut T, usize),
    accumulate: bool,
) {
    for (i, (chunk, w)) in plan.chunks().zip(ws).enumerate() {
        let start = if i > 0 || accumulate { Start::Output } else { Start::Zero };
        // SAFETY: the caller's promise.
        unsafe {
            w.times(kernels, tables, (from.add(chunk.start * channel), Spread::even(channel)), vectors, to, start, Finish::Plain);
        }
    }
}

/// The pixels of a sample that fill no vector.
///
/// # Safety
/// `to` has as many pixels of as many channels, which nothing else accesses meanwhile.
unsafe fn left<T: Dispatch>(
    plan: &Plan,
    kernels: &Kernels<T>,
    tables: &Tables,
    ws: &[Packed<'_, T>],
    (from, channel): (&[T], usize),
    (to, to_channel): (*mut T, usize),
    rows: usize,
    accumulate: bool,
) {
    let (lanes, (inputs, outputs)) = (plan.lanes, plan.left_len());
    with_two(inputs, outputs, |x: &mut [T], y| {
        for (x, from) in x.chunks_exact_mut(lanes).zip(from.chunks(channel)) {
            let (pixels, rest) = x.split_at_mut(plan.left);
            pixels.copy_from_slice(&from[..plan.left]);
            rest.fill(T::ZERO);
        }
        // SAFETY: arrays of whole vectors.
        unsafe { product(plan, kernels, tables, ws, (x.as_ptr(), lanes), 1, (y.as_mut_ptr(), lanes), false) };
        for (r, y) in y.chunks_exact(lanes).take(rows).enumerate() {
            // SAFETY: the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(r * to_channel), plan.left) };
            to.iter_mut().zip(y).for_each(|(to, &y)| *to = if accumulate { *to + y } else { y });
        }
    });
}
