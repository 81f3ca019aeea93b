//! Convolutions of one to three spatial axes and their gradients.
//!
//! The three operations work on slices: [`forward`], [`input_gradient`] and
//! [`weight_gradient`]. What is called a convolution is, as usual in this
//! field, a cross-correlation with zero padding,
//!
//! ```text
//! y[b, o, q] = sum over i, t of w[o, i, t] * x[b, i, q * stride + t - padding]
//! ```
//!
//! for samples `b`, output channels `o`, input channels `i`, output pixels `q`
//! and kernel taps `t`; see [`Geometry`]. Arrays are windows ([`Planes`]) into
//! possibly larger ones: the pixels of a channel are contiguous, channels and
//! samples are some distance apart.
//!
//! Results are bit-identical for any number of threads: how the work is cut
//! into pieces and in which order sums are taken depends on shapes alone. (It
//! also depends on the [`Level`] of the instruction set.) Work runs on the
//! current rayon pool, or just on the calling thread if there is little of it.
//! Kernels with strides of one run with fewer multiplications where that saves
//! time (Winograd's F(4, 3) or F(2, 3) along the last axis): four or two
//! neighbouring outputs share them, at about 1.4 times the rounding. A NaN or an
//! infinity then reaches the outputs of its tile and of those beside it. Kernels
//! of one tap are matrix products on images as they are. With few channels on one
//! side, their taps become rows, and the other side is read as it is: products whose
//! rows are added to the pixels around them, or scalar products with neighbourhoods.
//! For all others, boxes of the input are copied to padded planes, in which a tap is
//! a shift: a plane for each phase of a stride, or, where channels of the output, or of
//! either side of a weight gradient, are lanes, one that has all phases. Which way
//! is taken follows from shapes, by counting what each one costs.
//! The working memory does not grow with the batch or the image; it belongs to
//! the threads and is kept for later calls. See [`scratch_bytes`].
//!
//! ```
//! use inn_ops::conv::{Geometry, Planes, PlanesMut, forward};
//!
//! // Differences of neighbours in one signal of five samples.
//! let g = Geometry::new(1, 1, 1, [1, 1, 5], [1, 1, 2], [1; 3], [0; 3])?;
//! let x = [1.0f32, 2.0, 4.0, 7.0, 11.0];
//! let w = [-1.0f32, 1.0];
//! let mut y = [0.0f32; 4];
//! forward(
//!     &g,
//!     Planes { data: &x, batch_stride: 5, channel_stride: 5 },
//!     Planes { data: &w, batch_stride: 2, channel_stride: 2 },
//!     PlanesMut { data: &mut y, batch_stride: 4, channel_stride: 4 },
//!     false,
//! )?;
//! assert_eq!(y, [1.0, 2.0, 3.0, 4.0]);
//! # Ok::<(), inn_ops::conv::ConvError>(())
//! ```

mod apply;
mod axis;
mod clear;
mod copy;
mod dense;
pub(crate) mod dot;
mod folded;
mod geometry;
mod index;
mod interleave;
pub(crate) mod kernels;
pub(crate) mod micro;
pub(crate) mod outer;
mod packing;
mod passes;
mod pixelwise;
pub(crate) mod plan;
mod planes;
mod products;
pub(crate) mod scratch;
mod strided;
mod thin;
mod weight;

pub use geometry::{Geometry, Op};
pub use planes::{ConvError, Planes, PlanesMut};

use crate::simd::{Level, level};
use dense::{Matrix, MatrixMut};
use scratch::Scratch;

/// The element types of convolutions: `f32` and `f64`. Sealed.
pub trait ConvElement: kernels::Dispatch + crate::zip::Vectors {}

impl ConvElement for f32 {}
impl ConvElement for f64 {}

/// Computes the output `y` of a convolution from the input `x` and the weights
/// `w`; adds it to `y` if `accumulate`, and overwrites `y` otherwise.
///
/// `x` is `[batch][in_channels][input pixels]`, `y` is
/// `[batch][out_channels][output pixels]`; `w` is
/// `[out_channels][in_channels][taps]`, its "batch" being the output channels.
///
/// # Errors
///
/// If the fields of the geometry do not fit together, or an array does not
/// have the elements that it requires.
pub fn forward<T: ConvElement>(
    g: &Geometry,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    y: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    forward_at(level(), g, x, w, y, accumulate)
}

/// [`forward`] with the kernels of a given level.
///
/// # Errors
///
/// As [`forward`], and if the level is not available.
pub fn forward_at<T: ConvElement>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    w: Planes<'_, T>,
    mut y: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    check(level, g)?;
    x.check("x", g.batch, g.in_channels, g.input_pixels())?;
    w.check("w", g.out_channels, g.in_channels, g.taps())?;
    y.check("y", g.batch, g.out_channels, g.output_pixels())?;
    if g.batch == 0 || g.out_channels == 0 {
        return Ok(());
    }
    match single_tap(g) {
        Some(tap) => {
            let a = Matrix { data: x.data, row: x.batch_stride, column: x.channel_stride };
            let b = w.tap(tap, w.channel_stride, w.batch_stride);
            let c = MatrixMut { data: y.data, row: y.batch_stride, column: y.channel_stride };
            dense::product(level, (g.batch, g.out_channels, g.in_channels), a, b, c, accumulate);
        }
        None if pixelwise::apply(level, g, false, x, w, &mut y, accumulate) => {}
        None if folded::apply(level, g, false, x, w, &mut y, accumulate) => {}
        None if thin::apply(level, g, false, x, w, &mut y, accumulate) => {}
        None if strided::apply(level, g, x, w, &mut y, accumulate) => {}
        None => apply::apply(level, &flat(g), false, x, w, y, accumulate),
    }
    Ok(())
}

/// Computes the gradient `gx` of a convolution with respect to its input from
/// the gradient `gy` with respect to its output and the weights `w`; adds it
/// to `gx` if `accumulate`, and overwrites `gx` otherwise.
///
/// This is the adjoint of [`forward`] for fixed weights. Pixels of the input
/// that no output depends on have a gradient of zero. Shapes are as for
/// [`forward`], `gx` as `x` and `gy` as `y`.
///
/// # Errors
///
/// As [`forward`].
pub fn input_gradient<T: ConvElement>(
    g: &Geometry,
    gy: Planes<'_, T>,
    w: Planes<'_, T>,
    gx: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    input_gradient_at(level(), g, gy, w, gx, accumulate)
}

/// [`input_gradient`] with the kernels of a given level.
///
/// # Errors
///
/// As [`input_gradient`], and if the level is not available.
pub fn input_gradient_at<T: ConvElement>(
    level: Level,
    g: &Geometry,
    gy: Planes<'_, T>,
    w: Planes<'_, T>,
    mut gx: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    check(level, g)?;
    gy.check("gy", g.batch, g.out_channels, g.output_pixels())?;
    w.check("w", g.out_channels, g.in_channels, g.taps())?;
    gx.check("gx", g.batch, g.in_channels, g.input_pixels())?;
    if g.batch == 0 || g.in_channels == 0 {
        return Ok(());
    }
    match single_tap(g) {
        Some(tap) => {
            let a = Matrix { data: gy.data, row: gy.batch_stride, column: gy.channel_stride };
            let b = w.tap(tap, w.batch_stride, w.channel_stride);
            let c = MatrixMut { data: gx.data, row: gx.batch_stride, column: gx.channel_stride };
            dense::product(level, (g.batch, g.in_channels, g.out_channels), a, b, c, accumulate);
        }
        None if pixelwise::apply(level, g, true, gy, w, &mut gx, accumulate) => {}
        None if folded::apply(level, g, true, gy, w, &mut gx, accumulate) => {}
        None if thin::apply(level, g, true, gy, w, &mut gx, accumulate) => {}
        None => apply::apply(level, &flat(g), true, gy, w, gx, accumulate),
    }
    Ok(())
}

/// Computes the gradient `gw` of a convolution with respect to its weights
/// from the input `x` and the gradient `gy` with respect to its output; adds
/// it to `gw` if `accumulate`, and overwrites `gw` otherwise.
///
/// This is the gradient of the inner product of `gy` with
/// [`forward`]`(x, w)`. Shapes are as for [`forward`], `gw` as `w`.
///
/// # Errors
///
/// As [`forward`].
pub fn weight_gradient<T: ConvElement>(
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    gw: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    weight_gradient_at(level(), g, x, gy, gw, accumulate)
}

/// [`weight_gradient`] with the kernels of a given level.
///
/// # Errors
///
/// As [`weight_gradient`], and if the level is not available.
pub fn weight_gradient_at<T: ConvElement>(
    level: Level,
    g: &Geometry,
    x: Planes<'_, T>,
    gy: Planes<'_, T>,
    mut gw: PlanesMut<'_, T>,
    accumulate: bool,
) -> Result<(), ConvError> {
    check(level, g)?;
    x.check("x", g.batch, g.in_channels, g.input_pixels())?;
    gy.check("gy", g.batch, g.out_channels, g.output_pixels())?;
    gw.check("gw", g.out_channels, g.in_channels, g.taps())?;
    if g.out_channels == 0 || g.in_channels == 0 {
        return Ok(());
    }
    if g.batch == 0 {
        if !accumulate {
            gw.clear(g.out_channels, g.in_channels, g.taps());
        }
        return Ok(());
    }
    match single_tap(g) {
        Some(_) if g.taps() == 1 => {
            let a = Matrix { data: gy.data, row: gy.channel_stride, column: gy.batch_stride };
            let b = Matrix { data: x.data, row: x.batch_stride, column: x.channel_stride };
            let c = MatrixMut { data: gw.data, row: gw.batch_stride, column: gw.channel_stride };
            dense::product(level, (g.out_channels, g.in_channels, g.batch), a, b, c, accumulate);
        }
        _ if g.taps() == 1 && thin::weight_gradient(level, g, x, gy, &mut gw, accumulate) => {}
        _ if pixelwise::weight_gradient(level, g, x, gy, &mut gw, accumulate) => {}
        _ if folded::weight_gradient(level, g, x, gy, &mut gw, accumulate) => {}
        _ if thin::weight_gradient(level, g, x, gy, &mut gw, accumulate) => {}
        _ => weight::weight_gradient(level, &flat(g), x, gy, gw, accumulate),
    }
    Ok(())
}

/// Upper bound on the working memory in bytes that an operation holds, all
/// threads together, on a pool of `threads` threads.
///
/// Threads keep their part for later calls. What the call shares (rearranged
/// weights, or sums of weight gradients) belongs to the calling thread.
pub fn scratch_bytes<T: ConvElement>(g: &Geometry, op: Op, threads: usize) -> usize {
    let scratch = scratch_of::<T>(g, op, threads);
    scratch.shared + if scratch.alone { 1 } else { threads } * scratch.each
}

/// The parts of [`scratch_bytes`].
pub(crate) fn scratch_of<T: ConvElement>(g: &Geometry, op: Op, threads: usize) -> Scratch {
    if g.check().is_err() || g.batch == 0 || g.in_channels == 0 || g.out_channels == 0 {
        return Scratch::NONE;
    }
    let bytes = size_of::<T>();
    let kernels = T::kernels(level());
    let (batch, i, o) = (g.batch, g.in_channels, g.out_channels);
    let single = single_tap(g).is_some();
    if !single && let Some(scratch) = folded::scratch(g, op, kernels, threads) {
        return scratch;
    }
    let known = match op {
        Op::WeightGradient if g.taps() == 1 => thin::weight_scratch(g, kernels).or_else(|| pixelwise::weight_scratch(g, kernels, threads)),
        Op::WeightGradient => thin::weight_scratch(g, kernels),
        _ => pixelwise::scratch(g, op == Op::InputGradient, kernels, threads)
            .or_else(|| thin::apply_scratch(g, op == Op::InputGradient, kernels)),
    };
    if !single && let Some(scratch) = known {
        return scratch;
    }
    match op {
        Op::Forward if single => dense::scratch((batch, o, i), kernels.lanes, bytes),
        Op::InputGradient if single => dense::scratch((batch, i, o), kernels.lanes, bytes),
        Op::WeightGradient if single && g.taps() == 1 => dense::scratch((o, i, batch), kernels.lanes, bytes),
        Op::Forward => strided::scratch(g, kernels).unwrap_or_else(|| apply::scratch(&flat(g), false, kernels, threads)),
        Op::InputGradient => apply::scratch(&flat(g), true, kernels, threads),
        Op::WeightGradient => weight::scratch(&flat(g), kernels, threads),
    }
}

fn check(level: Level, g: &Geometry) -> Result<(), ConvError> {
    if !level.is_available() {
        return Err(ConvError::Level(level));
    }
    g.check()
}

/// The only tap that connects input and output, if both have a single pixel.
fn single_tap(g: &Geometry) -> Option<usize> {
    let single = g.input_pixels() == 1 && g.output_pixels() == 1;
    let inside = (0..3).all(|axis| g.padding[axis] < g.kernel[axis]);
    let [t0, t1, t2] = g.padding;
    (single && inside).then(|| (t0 * g.kernel[1] + t1) * g.kernel[2] + t2)
}

/// The same convolution as a signal, if pixels do not mix at all.
fn flat(g: &Geometry) -> Geometry {
    let mut flat = *g;
    if g.kernel == [1; 3] && g.stride == [1; 3] && g.padding == [0; 3] {
        flat.input = [1, 1, g.input_pixels()];
        flat.output = flat.input;
    }
    flat
}
