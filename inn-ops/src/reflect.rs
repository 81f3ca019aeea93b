//! Householder reflections of the channels of every pixel, in one pass over the image.

use crate::cpu::CpuElement;
use crate::pool;
use crate::simd;
use crate::zip::vector::{Job, MAX_LANES, Vector};
use inn_core::{Direction, Error, Result, Scalar, Window};

/// Values of a task at least, where there are that many.
const TASK: usize = 1 << 15;

/// Applies `H_i = I - 2 v_i v_iᵀ / |v_i|²` to the channels of each pixel of `x`, in place: `Forward` the first row of `v` first, `Inverse`
/// the last. The zero vector reflects nothing.
///
/// `v` lies in `vectors` at the window (m, C), `x` in `values` at a window (B, C, pixels). Each pixel is a sum over channels in their
/// order, so that neither vectors nor threads change a bit.
///
/// # Errors
/// Windows of other channel counts, windows that reach past the ends, pixels with gaps.
pub(crate) fn reflect<T: CpuElement>(dir: Direction, vectors: &[T], v: Window, values: &mut [T], x: Window) -> Result<()> {
    let (count, channels) = (v.shape.batch(), v.shape.channels());
    if x.shape.channels() != channels {
        return Err(Error::shape("state to reflect", format!("{channels} channels"), x.shape));
    }
    if v.end() > vectors.len() || x.end() > values.len() || !x.is_injective() || (x.pixel_stride != 1 && x.shape.pixels() > 1) {
        return Err(Error::shape("state to reflect", "windows within their buffers, pixels without gaps", format!("{v:?}, {x:?}")));
    }
    let order = |i: usize| if dir == Direction::Forward { i } else { count - 1 - i };
    let row = |i: usize, c: usize| vectors[v.offset + order(i) * v.batch_stride + c * v.channel_stride];
    // -2 / |v|² for each row, then its values, in the order of application.
    let mut rows = Vec::with_capacity(count * (channels + 1));
    for i in 0..count {
        let norm = (0..channels).fold(T::default(), |sum, c| sum + row(i, c) * row(i, c));
        let tiny = <T as Scalar>::constant(f64::from(f32::MIN_POSITIVE));
        let two = <T as Scalar>::constant(2.0);
        rows.push(if norm >= tiny { -two / norm } else { T::default() });
        rows.extend((0..channels).map(|c| row(i, c)));
    }
    // Samples of one pixel are reflected as the pixels of one sample, which lie apart.
    if x.shape.pixels() == 1 && x.channel_stride == 1 && channels <= FEW {
        let job = Samples { rows: &rows, channels, data: &mut values[x.offset..x.end()], stride: x.batch_stride };
        T::with(simd::level(), job);
        return Ok(());
    }
    let pixels = x.shape.pixels();
    let span = (TASK / channels).clamp(1, pixels.max(1)).next_multiple_of(64);
    let spans = pixels.div_ceil(span);
    // Whole samples together where images are small.
    let samples = (TASK / (channels * pixels).max(1)).clamp(1, x.shape.batch().max(1));
    let groups = x.shape.batch().div_ceil(samples);
    let base = Shared(values.as_mut_ptr());
    let task = |t: usize| {
        let (group, s) = (t / spans, t % spans);
        for b in group * samples..((group + 1) * samples).min(x.shape.batch()) {
            let start = s * span;
            // SAFETY: the window lies within the buffer and has no place twice, and each task has pixels of its own.
            let first = unsafe { base.at(x.offset + b * x.batch_stride + start) };
            let job = Pixels { rows: &rows, channels, first, channel_stride: x.channel_stride, pixels: span.min(pixels - start) };
            T::with(simd::level(), job);
        }
    };
    let tasks = groups * spans;
    pool::each(tasks, false, task);
    Ok(())
}

/// Channels of dense data up to which samples fill the vectors.
const FEW: usize = 16;

/// Samples of a few adjacent channels, `stride` apart.
struct Samples<'a, T> {
    rows: &'a [T],
    channels: usize,
    data: &'a mut [T],
    stride: usize,
}

impl<T: CpuElement> Job<T> for Samples<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let mut stage = [[T::default(); MAX_LANES]; FEW];
        for group in self.data.chunks_mut(V::N * self.stride) {
            for (lane, sample) in group.chunks(self.stride).enumerate() {
                for c in 0..self.channels {
                    stage[c][lane] = sample[c];
                }
            }
            for row in self.rows.chunks_exact(self.channels + 1) {
                let (factor, vector) = (V::splat(row[0]), &row[1..]);
                let mut dot = V::zero();
                // SAFETY: a stage has room for a vector.
                unsafe {
                    for (stage, &v) in stage.iter().zip(vector) {
                        dot = dot + V::splat(v) * V::load(stage.as_ptr());
                    }
                    let dot = dot * factor;
                    for (stage, &v) in stage.iter_mut().zip(vector) {
                        (V::load(stage.as_ptr()) + V::splat(v) * dot).store(stage.as_mut_ptr());
                    }
                }
            }
            for (lane, sample) in group.chunks_mut(self.stride).enumerate() {
                for c in 0..self.channels {
                    sample[c] = stage[c][lane];
                }
            }
        }
    }
}

/// The start of a buffer that tasks share.
struct Shared<T>(*mut T);

impl<T> Shared<T> {
    /// # Safety
    /// The buffer has a place `i`.
    unsafe fn at(&self, i: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(i) }
    }
}

// SAFETY: tasks write to pixels of their own.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

/// Adjacent pixels of one sample.
struct Pixels<'a, T> {
    /// For each reflection its factor -2/|v|² and the vector.
    rows: &'a [T],
    channels: usize,
    first: *mut T,
    channel_stride: usize,
    pixels: usize,
}

impl<T: CpuElement> Job<T> for Pixels<'_, T> {
    #[inline(always)]
    fn run<V: Vector<Elem = T>>(self) {
        let mut done = 0;
        // SAFETY: `reflect` vouches for `pixels` values at each of the channels.
        unsafe {
            while done + 4 * V::N <= self.pixels {
                self.tile::<V, 4>(done);
                done += 4 * V::N;
            }
            while done + V::N <= self.pixels {
                self.tile::<V, 1>(done);
                done += V::N;
            }
            while done < self.pixels {
                self.tile::<T, 1>(done);
                done += 1;
            }
        }
    }
}

impl<T: CpuElement> Pixels<'_, T> {
    /// All reflections of `W` vectors of pixels, which stay in the first-level cache meanwhile.
    ///
    /// # Safety
    /// There are as many pixels from `start` on.
    #[inline(always)]
    unsafe fn tile<V: Vector<Elem = T>, const W: usize>(&self, start: usize) {
        for row in self.rows.chunks_exact(self.channels + 1) {
            let (factor, vector) = (row[0], &row[1..]);
            // SAFETY: the caller's promise.
            unsafe {
                let at = |c: usize, w: usize| self.first.add(c * self.channel_stride + start + w * V::N);
                let mut dot = [V::zero(); W];
                for (c, &v) in vector.iter().enumerate() {
                    let v = V::splat(v);
                    for w in 0..W {
                        dot[w] = dot[w] + v * V::load(at(c, w));
                    }
                }
                let dot = dot.map(|d| d * V::splat(factor));
                for (c, &v) in vector.iter().enumerate() {
                    let v = V::splat(v);
                    for w in 0..W {
                        (V::load(at(c, w)) + v * dot[w]).store(at(c, w));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inn_core::Shape;

    /// The definition, pixel by pixel.
    fn twin(dir: Direction, v: &[f64], count: usize, channels: usize, x: &mut [f64], w: Window) {
        for b in 0..w.shape.batch() {
            for p in 0..w.shape.pixels() {
                for i in 0..count {
                    let i = if dir == Direction::Forward { i } else { count - 1 - i };
                    let v = &v[i * channels..(i + 1) * channels];
                    let at = |c: usize| w.offset + b * w.batch_stride + c * w.channel_stride + p * w.pixel_stride;
                    let norm: f64 = v.iter().map(|v| v * v).sum();
                    let dot: f64 = (0..channels).map(|c| v[c] * x[at(c)]).sum();
                    (0..channels).for_each(|c| x[at(c)] -= 2.0 * dot / norm.max(1e-300) * v[c]);
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_definition_at_any_shape() {
        let number = |i: usize| ((i * 7919 % 1009) as f64) / 504.0 - 1.0;
        for (batch, channels, spatial) in
            [(1, 2, &[][..]), (70, 5, &[]), (3, 4, &[7]), (2, 3, &[9, 13]), (1, 48, &[64, 65]), (40, 12, &[3, 3]), (2, 6, &[3, 4, 5])]
        {
            let inner = Shape::new(batch, channels, spatial).unwrap();
            let outer = Window::contiguous(inner.with_channels(channels + 3), 0);
            let window = outer.channels(2..2 + channels);
            for count in [1, 2, 3] {
                for dir in [Direction::Forward, Direction::Inverse] {
                    let mut v: Vec<f64> = (0..count * channels).map(|i| number(i + 3)).collect();
                    if count == 3 {
                        v[..channels].fill(0.0);
                    }
                    let rows = Window::contiguous(Shape::rows(count, channels), 0);
                    let x: Vec<f64> = (0..outer.end()).map(number).collect();
                    let (mut expected, mut got) = (x.clone(), x.clone());
                    twin(dir, &v, count, channels, &mut expected, window);
                    reflect(dir, &v, rows, &mut got, window).unwrap();
                    for (g, e) in got.iter().zip(&expected) {
                        assert!((g - e).abs() < 1e-13 * (1.0 + e.abs()), "{inner} {count} {dir:?}: {g} against {e}");
                    }
                    let single = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<_>>();
                    let mut low = single(&x);
                    reflect(dir, &single(&v), rows, &mut low, window).unwrap();
                    for (g, e) in low.iter().zip(&expected) {
                        assert!((f64::from(*g) - e).abs() < 2e-5, "{inner} {count} {dir:?}: {g} against {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        let window = |channels| Window::contiguous(Shape::rows(2, channels), 0);
        assert!(reflect(Direction::Forward, &[1.0f32; 6], window(3), &mut [0.0; 8], window(4)).is_err());
        assert!(reflect(Direction::Forward, &[1.0f32; 5], window(3), &mut [0.0; 6], window(3)).is_err());
        assert!(reflect(Direction::Forward, &[1.0f32; 6], window(3), &mut [0.0; 5], window(3)).is_err());
    }
}
