//! One level of an orthogonal wavelet transform, rearranged into channels.
//!
//! The transform and its filters are those of [`inn_core::wavelet`]. A plane is transformed along each of its axes in turn, by itself, in
//! place: its 2^d sub-bands follow each other where the plane was, q = b_x + 2 b_y + 4 b_z with b = 1 for the high band of an axis. That is the
//! order of channels `2^d c + q`, so that channels need not move.

use crate::conv::scratch::with_buffer;
use crate::cpu::CpuElement;
use crate::simd;
use crate::zip::vector::{Job, Vector};
use inn_core::wavelet::Filter;
use inn_core::{Direction, Error, Result, Shape, Window};
use rayon::prelude::*;

/// Below this many elements a transform is not worth waking other threads for.
const PARALLEL: usize = 1 << 14;

/// Transforms planes of `extents` (1 to 3 axes, outermost first) that follow each other in `data`, with a filter of the caller's:
/// `Forward` from pixels to sub-bands, `Inverse` by the transpose.
///
/// ```
/// use inn_core::{Direction, wavelet::Filter};
/// let mut x = [1.0, 2.0, 3.0, 5.0];
/// inn_ops::wavelet::transform(&Filter::named("haar", 1e-15)?, Direction::Forward, &[4], &mut x)?;
/// assert!((x[0] - 3.0 / 2f64.sqrt()).abs() < 1e-15 && (x[3] - 2.0 / 2f64.sqrt()).abs() < 1e-15);
/// # Ok::<(), inn_core::Error>(())
/// ```
///
/// # Errors
/// Another number of axes, extents that are odd, data that are no whole number of planes.
pub fn transform<T: CpuElement>(filter: &Filter, dir: Direction, extents: &[usize], data: &mut [T]) -> Result<()> {
    let plane = Shape::new(1, 1, extents)?;
    if plane.rank() == 0 || extents.iter().any(|n| n % 2 == 1) {
        return Err(Error::shape("plane of a wavelet transform", "1 to 3 even extents", plane));
    }
    if !data.len().is_multiple_of(plane.pixels()) {
        return Err(Error::shape("data of a wavelet transform", format!("a multiple of {} values", plane.pixels()), data.len()));
    }
    planes(filter.taps(), dir, plane, data);
    Ok(())
}

/// Squeezes or unsqueezes the samples of a window that has been checked; `output` is the shape that comes out.
pub(crate) fn squeeze<T: CpuElement>(taps: &[f64], dir: Direction, output: Shape, window: Window, data: &mut [T]) {
    let large = if dir == Direction::Forward { window.shape } else { output };
    let (len, whole) = (large.sample_len(), &mut data[window.offset..window.end()]);
    if window.is_contiguous() {
        return planes(taps, dir, large, whole);
    }
    whole.chunks_mut(window.batch_stride).for_each(|chunk| planes(taps, dir, large, &mut chunk[..len]));
}

/// Elements that a thread needs beside a state of shape `x` that it squeezes: a copy of a plane, twice.
pub(crate) fn scratch_len(dir: Direction, x: Shape) -> usize {
    2 * if dir == Direction::Forward { x.pixels() } else { x.pixels() << x.rank() }
}

/// Transforms planes of the extents of `large` that follow each other.
fn planes<T: CpuElement>(taps: &[f64], dir: Direction, large: Shape, data: &mut [T]) {
    let low: Vec<T> = taps.iter().map(|&h| T::from_f64(h)).collect();
    let (taps, plane, parallel) = (&low[..], large.pixels(), data.len() >= PARALLEL);
    let each = |data: &mut [T]| {
        with_buffer(2 * plane, |scratch: &mut [T]| T::with(simd::level(), Plane { taps, dir, large, data, scratch }));
    };
    if parallel && data.len() > plane {
        data.par_chunks_exact_mut(plane).for_each(each);
    } else {
        data.chunks_exact_mut(plane).for_each(each);
    }
}

/// A plane and working memory of twice its size.
struct Plane<'a, T> {
    taps: &'a [T],
    dir: Direction,
    large: Shape,
    data: &'a mut [T],
    scratch: &'a mut [T],
}

impl<T: CpuElement> Job<T> for Plane<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let first = 3 - self.large.rank();
        match self.dir {
            Direction::Forward => (first..3).for_each(|axis| axis_pass(self.taps, self.dir, self.large, axis, self.data, self.scratch)),
            Direction::Inverse => {
                (first..3).rev().for_each(|axis| axis_pass(self.taps, self.dir, self.large, axis, self.data, self.scratch))
            }
        }
    }
}

/// Transforms along one axis. Forward, the outer axes are sub-bands already, which are treated one by one: a block of rows along
/// the axis, (outer, n, inner), becomes its low band (outer, n/2, inner) and after it its high band.
#[inline(always)]
fn axis_pass<T: CpuElement>(taps: &[T], dir: Direction, large: Shape, axis: usize, data: &mut [T], scratch: &mut [T]) {
    let (first, extents) = (3 - large.rank(), large.extents());
    let inner: usize = extents[axis + 1..].iter().product();
    let outer: usize = extents[first..axis].iter().map(|n| n / 2).product();
    let (row, half) = (extents[axis] * inner, extents[axis] / 2 * inner);
    let (copy, phases) = scratch.split_at_mut(data.len());
    copy.copy_from_slice(data);
    let (even, odd) = phases[..row].split_at_mut(half);
    for (block, copy) in data.chunks_exact_mut(outer * row).zip(copy.chunks_exact(outer * row)) {
        for o in 0..outer {
            let (low, high) = (o * half..(o + 1) * half, (outer + o) * half..(outer + o + 1) * half);
            match dir {
                Direction::Forward => {
                    for (k, pair) in copy[o * row..(o + 1) * row].chunks_exact(2 * inner).enumerate() {
                        even[k * inner..(k + 1) * inner].copy_from_slice(&pair[..inner]);
                        odd[k * inner..(k + 1) * inner].copy_from_slice(&pair[inner..]);
                    }
                    let (front, back) = block.split_at_mut(outer * half);
                    let (low, high) = (&mut front[low.clone()], &mut back[low]);
                    analyze(taps, inner, [even, odd], low, high);
                }
                Direction::Inverse => {
                    synthesize(taps, inner, &copy[low], &copy[high], [even, odd]);
                    for (k, pair) in block[o * row..(o + 1) * row].chunks_exact_mut(2 * inner).enumerate() {
                        pair[..inner].copy_from_slice(&even[k * inner..(k + 1) * inner]);
                        pair[inner..].copy_from_slice(&odd[k * inner..(k + 1) * inner]);
                    }
                }
            }
        }
    }
}

/// a and e from the even and the odd elements: with m = 2 s + p, x_{2k+m} is element k + s of phase p, and x_{2k+1-m} is element k - s of the
/// other phase.
#[inline(always)]
fn analyze<T: CpuElement>(taps: &[T], inner: usize, phases: [&mut [T]; 2], low: &mut [T], high: &mut [T]) {
    low.fill(T::default());
    high.fill(T::default());
    for (m, &h) in taps.iter().enumerate() {
        let (s, p) = (m / 2, m % 2);
        add_rotated(low, phases[p], s * inner, h);
        add_rotated(high, phases[1 - p], backward(s * inner, high.len()), if p == 0 { h } else { -h });
    }
}

/// The transpose of [`analyze`].
#[inline(always)]
fn synthesize<T: CpuElement>(taps: &[T], inner: usize, low: &[T], high: &[T], phases: [&mut [T]; 2]) {
    let [even, odd] = phases;
    even.fill(T::default());
    odd.fill(T::default());
    for (m, &h) in taps.iter().enumerate() {
        let s = m / 2 * inner;
        let (same, other, sign) = if m % 2 == 0 { (&mut *even, &mut *odd, h) } else { (&mut *odd, &mut *even, -h) };
        add_rotated(same, low, backward(s, low.len()), h);
        add_rotated(other, high, s, sign);
    }
}

/// A rotation by -s of `len` elements.
#[inline(always)]
fn backward(s: usize, len: usize) -> usize {
    len - s % len
}

/// to_k += h from_{(k + s) mod len}.
#[inline(always)]
fn add_rotated<T: CpuElement>(to: &mut [T], from: &[T], s: usize, h: T) {
    let (wrapped, rest) = from.split_at(s % from.len());
    let (front, back) = to.split_at_mut(rest.len());
    front.iter_mut().zip(rest).for_each(|(t, &f)| *t += h * f);
    back.iter_mut().zip(wrapped).for_each(|(t, &f)| *t += h * f);
}
